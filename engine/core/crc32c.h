/*
 * crc32c: the checksum of log records (Castagnoli, reflected, as iSCSI, ext4 and SCTP have it).
 *
 * Initial and final inversion are inside, so sums chain: crc32c(crc32c(0, a, n), b, m) is the sum
 * of a followed by b. Start with 0. Uses the processor's instruction where there is one.
 * Source: RFC 3720 appendix B.4 (vectors).
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *bytes, size_t count);

/* The same by table; for machines without the instruction, and to test the other against. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t count);
