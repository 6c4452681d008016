/*
 * net_offload: what a device does with a frame that it is asked to finish: cuts it into segments
 * (TSO) and fills in checksums. By the book, a segment at a time.
 */
#pragma once
#include <rte_mbuf.h>

/* Calls `out` for each frame that results; its bytes may be changed. The mbuf stays the caller's. */
void net_offload(const struct rte_mbuf *frame,
                 void (*out)(void *owner, uint8_t *bytes, uint32_t size), void *owner);
