/*
 * disk_tear: what a write leaves behind that the power, or an error, has cut short.
 *
 * The lying disk of the tests (disk_fault.c) calls this, nobody else. Devices promise nothing of a write
 * that they have not confirmed, so one of three pictures is drawn from the caller's random numbers:
 *
 *   sectors   each lands or does not, by itself: a device that writes in any order
 *   end cut   what is before some sector lands, nothing behind it: one that writes in order
 *   one page  all lands but for some sectors of one page of 4 KiB: one that writes pages side by side
 *
 * A sector that does not land is stale: it holds what was there before, zeros or records of another life.
 * Or it is spoiled: the power went while it was being written, and bits of what was to be there are wrong.
 *
 * Pure: no allocation, no state but the random numbers.
 */
#pragma once
#include <stdint.h>

#define DISK_TEAR_SECTOR_BYTES 512u

/* Draws 64 random bits from *state, which is not 0; the caller's, and the same as the disk's own. */
uint64_t disk_tear_random(uint64_t *state);

/* Puts of the `bytes` at `from`, whole blocks of DISK_BLOCK_BYTES, what lands, over what is at `to`; both
 * borrowed. At least one sector does not land. */
void disk_tear(uint64_t *state, uint8_t *to, const uint8_t *from, uint64_t bytes);
