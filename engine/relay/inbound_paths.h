/*
 * inbound_paths: the paths of a transaction and what came with them for its reports (RFC 3461), gathered one after the other in one piece of memory.
 *
 * The memory is kept for the session's next transaction.
 */
#pragma once
#include "engine/relay/address_set.h"
#include "queue/spool/spool.h"

struct inbound_paths {
    uint8_t *text; /* reverse-path, ENVID, then each forward-path and its ORCPT */
    size_t text_bytes, text_size;
    size_t reverse_bytes, envid_bytes;
    struct envelope_recipient
        *forward;     /* without their place, until inbound_paths_settle: the text may move */
    uint32_t *begins; /* where each forward-path begins in the text */
    uint32_t count, size;
    struct address_set seen; /* by the index in `forward` */
    uint32_t seen_count;     /* the first that `seen` does not know yet */
};

void inbound_paths_reset(struct inbound_paths *paths);
void inbound_paths_free(struct inbound_paths *paths);
/* Copied; the null path is empty. 0 or -ENOMEM, which changes nothing. */
int inbound_paths_reverse(struct inbound_paths *paths, struct slice path,
                          struct slice envid); /* first */
struct slice inbound_paths_sender(const struct inbound_paths *paths);
int inbound_paths_forward(struct inbound_paths *paths, const struct envelope_recipient *recipient);
/* Is it there already, to be delivered to, whatever the case of its letters? 1, 0 or -ENOMEM. The secret is always the
 * same; who never asks does not pay for it. */
int inbound_paths_hold(struct inbound_paths *paths, const struct siphash_key *secret,
                       struct slice path);
/* Only the first `count` forward-paths are left. */
void inbound_paths_cut(struct inbound_paths *paths, uint32_t count);
/* From here on `forward` can be read, and reverse_path and envid of the envelope. */
void inbound_paths_settle(struct inbound_paths *paths, struct envelope *envelope);
/* The forward-path when there is one only; else empty. */
struct slice inbound_paths_lone(const struct inbound_paths *paths);
