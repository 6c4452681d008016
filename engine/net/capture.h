/*
 * capture: copies of the frames that stacks receive and send, for a file in the pcapng format.
 *
 * One thread, no shard, opens a capture, has each shard begin and end it (on the shard: by a message),
 * and writes what they copied. While it runs a tap stands between a stack and its port; without one
 * it costs nothing. Copies lie in a pool of the capture's own and go through a ring from each shard to the
 * writer; what finds either full is counted and not captured. Traffic never waits.
 */
#pragma once
#include "engine/core/endpoint.h"
#include "engine/stream.h"
#include <stdatomic.h>

#define CAPTURE_SHARDS_MAX 64u
#define CAPTURE_PORTS_MAX 8u
#define CAPTURE_SNAP_MIN 64u
#define CAPTURE_SNAP_MAX 16384u

struct capture;

struct capture_settings {
    /* The ethdev of each port, that interface names and statistics are taken of. */
    uint16_t devices[CAPTURE_PORTS_MAX];
    uint16_t port_count; /* 0 counts as 1 */
    uint16_t shard_count;
    uint32_t snap_bytes;      /* of each frame; CAPTURE_SNAP_MIN..MAX */
    uint64_t count_max;       /* frames; 0: no bound */
    struct endpoint ends[2];  /* a connection's, either way round; ENDPOINT_NONE: everything */
    uint64_t (*cycles)(void); /* the TSC, which the format's times are made of */
};

/* 0, -ENOMEM or -EINVAL. */
int capture_open(struct capture **capture, const struct capture_settings *settings);
void capture_close(struct capture *capture); /* when no shard has a tap of it any more */

/* On the shard of the network, a stack; `port` is one of devices. */
void capture_begin(struct capture *capture, struct network *network, uint16_t port);
void capture_end(struct network *network);         /* when it has a tap */
bool capture_is_on(const struct network *network); /* has it? */

/* From anywhere. */
void capture_stop(struct capture *capture);
bool capture_is_over(const struct capture *capture); /* stopped, or count_max is reached */

struct capture_counters {
    uint64_t frames;  /* copied */
    uint64_t lost;    /* not copied: the pool or a ring was full */
    uint64_t written; /* to the file */
};
/* On the writer's thread, or when it has ended. */
void capture_counters(const struct capture *capture, struct capture_counters *counters);

/* ---- on the writer's thread ---- */

/* Begins the file; the descriptor is given. 0 or -errno. */
int capture_file_open(struct capture *capture, int fd);
/* Writes what has been copied. Returns how many frames, or -errno. */
int capture_file_write(struct capture *capture);
void capture_file_close(struct capture *capture); /* with what was lost */
