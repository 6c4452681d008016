/*
 * memory: the EAL, mbuf pools and memory that a port may read by DMA.
 *
 * The EAL is started in every program, on the kernel transport too (no huge pages, no devices), so
 * that there is one buffer type, mbufs, everywhere. Needs no root there.
 */
#pragma once
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <stddef.h>

#define MEMORY_MBUF_BYTES 2048 /* data room of a mbuf less headroom, at least */

struct memory_settings {
    const char *program;     /* argv[0] for the EAL */
    const char *file_prefix; /* unique per process; NULL: made from the pid */
    unsigned megabytes;      /* without huge pages: how much to map */
    const char *const
        *eal; /* further EAL arguments (dpdk transport), NULL-terminated; NULL: kernel transport.
                                      When given and they say nothing of huge pages, huge pages are used if the machine
                                      has enough free ones, else --no-huge */
};

/* Once a process. 0 or -errno. EAL log lines below warnings are kept quiet. */
int memory_start(const struct memory_settings *settings);
void memory_stop(void);

/* A thread that will use pools; gives it an lcore id so that pool caches work. 0 or -errno. */
int memory_thread_enter(void);
void memory_thread_leave(void);

/* A pool of mbufs for one shard. NULL with rte_errno when memory is short. */
struct rte_mempool *memory_pool_open(const char *name, unsigned mbuf_count, unsigned data_bytes);
void memory_pool_close(struct rte_mempool *pool);

/* Zeroed memory that ports may transmit from (iova known), aligned to `align`; owned by the caller. NULL: none left. */
void *memory_take(const char *name, size_t bytes, size_t align);
void memory_give(void *memory);
