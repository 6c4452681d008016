/*
 * uring: the io_uring of one shard, shared by its sockets and its disk.
 *
 * Every submission carries a uring_op inside the object that waits; uring_reap calls its `done`
 * for every completion (multishot ones several times: look at IORING_CQE_F_MORE in cqe_flags).
 * Set-up follows the transport: URING_SLEEPS (kernel transport: SINGLE_ISSUER | DEFER_TASKRUN where
 * the kernel has them, made by the thread that will use it) or URING_POLLS (dpdk: completions appear
 * without entering the kernel).
 */
#pragma once
#include <liburing.h>
#include <stdint.h>

enum uring_mode { URING_SLEEPS, URING_POLLS };

struct uring_op {
    void (*done)(struct uring_op *op, int32_t result, uint32_t cqe_flags);
};

struct uring {
    struct io_uring ring;
    enum uring_mode mode;
    unsigned unsubmitted_count;
    uint64_t enter_count; /* system calls made, for the counters */
};

/* 0, or a negative errno: -ENOSYS, -EPERM where io_uring is not permitted (the caller falls back). */
int uring_open(struct uring *uring, unsigned entries, enum uring_mode mode);
/* Nothing may be under way whose memory is about to be freed. */
void uring_close(struct uring *uring);

/* Is io_uring usable here, with the operations we need? 0 or a negative errno. Opens and closes one. */
int uring_probe(void);

/* A submission entry bound to op; submits by itself when the queue is full. op NULL: nobody is told. */
struct io_uring_sqe *uring_entry(struct uring *uring, struct uring_op *op);

/* Submits what is there; in URING_SLEEPS also lets completions run. One system call, none when there is nothing to do. */
int uring_submit(struct uring *uring);
/* Runs `done` for what has completed; returns how many. */
unsigned uring_reap(struct uring *uring);
/* Submits, then waits until a completion is there or the time is over. 0, -ETIME, or another errno. */
int uring_wait(struct uring *uring, uint64_t timeout_ns);
