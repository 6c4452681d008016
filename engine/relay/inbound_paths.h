/*
 * inbound_paths: the paths of a transaction and what came with them for its reports (RFC 3461), gathered one after the other in one piece of memory.
 *
 * The memory is kept for the session's next transaction.
 */
#pragma once
#include "queue/spool/spool.h"

struct inbound_paths {
    uint8_t *text; /* reverse-path, ENVID, then each forward-path and its ORCPT */
    size_t text_bytes, text_size;
    size_t reverse_bytes, envid_bytes;
    struct envelope_recipient
        *forward; /* without their place, until inbound_paths_settle: the text may move */
    uint32_t count, size;
};

void inbound_paths_reset(struct inbound_paths *paths);
void inbound_paths_free(struct inbound_paths *paths);
/* Copied; the null path is empty. 0 or -ENOMEM, which changes nothing. */
int inbound_paths_reverse(struct inbound_paths *paths, struct slice path,
                          struct slice envid); /* first */
int inbound_paths_forward(struct inbound_paths *paths, const struct envelope_recipient *recipient);
/* Is it there already, to be delivered to, whatever the case of its letters? */
bool inbound_paths_hold(const struct inbound_paths *paths, struct slice path);
/* From here on `forward` can be read, and reverse_path and envid of the envelope. */
void inbound_paths_settle(struct inbound_paths *paths, struct envelope *envelope);
/* The forward-path when there is one only; else empty. */
struct slice inbound_paths_lone(const struct inbound_paths *paths);
