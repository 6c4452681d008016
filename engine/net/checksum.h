/*
 * checksum: the Internet checksum, in software, for ports that do not reckon it.
 *
 * Sums are kept unfolded in host byte order of 16-bit words, so that they can be added to; only
 * checksum_finish makes what stands in a header.
 * Source: RFC 1071.
 */
#pragma once
#include <rte_mbuf.h>
#include <stddef.h>
#include <stdint.h>

/* The sum of `size` bytes, added to `sum`. */
uint64_t checksum_add(uint64_t sum, const void *bytes, size_t size);

/* The same, where `offset` bytes of the checked text came before: an odd offset exchanges the
 * bytes of each word. */
uint64_t checksum_add_at(uint64_t sum, const void *bytes, size_t size, size_t offset);

/* The sum of `size` bytes of a chain of mbufs from `offset` on; the chain must hold them. */
uint64_t checksum_add_frame(uint64_t sum, const struct rte_mbuf *frame, uint32_t offset,
                            uint32_t size);

static inline uint16_t checksum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

/* As it stands in a header, to be stored as a word. Over bytes that include a right checksum: 0. */
static inline uint16_t checksum_finish(uint64_t sum)
{
    return (uint16_t)~checksum_fold(sum);
}
