/*
 * relay_capture: `net capture`: frames of every shard and port into a file, written by a thread of its own.
 *
 * Lives on shard 0, one at a time. The thread opens the file (which must not be there yet: the path
 * comes from an operator, and nothing is ever overwritten), has every shard put a tap before its port,
 * writes until the capture is over, has the taps taken away, and then the request is answered on shard 0.
 * It is over after so many frames or seconds, when the operator goes, and when the relay ends.
 */
#pragma once
#include "engine/control/control.h"
#include "engine/relay/worker.h"

#define CAPTURE_SECONDS_MAX 3600u
#define CAPTURE_SECONDS_DEFAULT 60u

struct relay_capture;

struct relay_capture_settings {
    struct worker **workers; /* borrowed */
    unsigned worker_count;
    struct control_request *request; /* finished when it is over */
    void (*over)(void *owner);       /* on shard 0; the capture is gone afterwards */
    void *owner;
};

/* 0: the request is answered later; -EINVAL: its words make no sense; or another -errno. */
int relay_capture_start(struct relay_capture **capture,
                        const struct relay_capture_settings *settings);
