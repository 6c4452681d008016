#include "engine/net/checksum.h"
#include <string.h>

/* Four 64-bit lanes of 32-bit words; no lane overflows before 2^32 additions. Twice as fast as
 * adding with carry, and no intrinsics. */
typedef uint64_t lanes __attribute__((vector_size(32)));

static uint64_t add_lanes(uint64_t sum, const uint8_t *bytes, size_t size)
{
    const lanes low = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
    lanes even = {0, 0, 0, 0}, odd = {0, 0, 0, 0};
    for (; size >= sizeof(lanes); size -= sizeof(lanes), bytes += sizeof(lanes)) {
        lanes words;
        memcpy(&words, bytes, sizeof(words));
        even += words & low;
        odd += words >> 32;
    }
    even += odd;
    for (unsigned i = 0; i < 4; i++) {
        uint64_t lane = even[i];
        sum += (lane & 0xffffffff) + (lane >> 32);
    }
    return sum;
}

uint64_t checksum_add(uint64_t sum, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    if (size >= sizeof(lanes)) {
        sum = add_lanes(sum, at, size);
        at += size / sizeof(lanes) * sizeof(lanes);
        size %= sizeof(lanes);
    }
    for (; size >= 4; size -= 4, at += 4) {
        uint32_t word;
        memcpy(&word, at, sizeof(word));
        sum += word;
    }
    if (size >= 2) {
        uint16_t word;
        memcpy(&word, at, sizeof(word));
        sum += word;
        size -= 2;
        at += 2;
    }
    if (size > 0) {
        uint8_t last[2] = {*at, 0};
        uint16_t word;
        memcpy(&word, last, sizeof(word));
        sum += word;
    }
    return sum;
}

uint64_t checksum_add_at(uint64_t sum, const void *bytes, size_t size, size_t offset)
{
    if (offset % 2 == 0) {
        return checksum_add(sum, bytes, size);
    }
    uint16_t part = checksum_fold(checksum_add(0, bytes, size));
    return sum + (uint16_t)(part << 8 | part >> 8);
}

uint64_t checksum_add_frame(uint64_t sum, const struct rte_mbuf *frame, uint32_t offset,
                            uint32_t size)
{
    uint32_t done = 0;
    while (frame != NULL && offset >= frame->data_len) {
        offset -= frame->data_len;
        frame = frame->next;
    }
    for (; frame != NULL && done < size; frame = frame->next, offset = 0) {
        uint32_t here = frame->data_len - offset;
        here = here < size - done ? here : size - done;
        sum = checksum_add_at(sum, rte_pktmbuf_mtod_offset(frame, const uint8_t *, offset), here,
                              done);
        done += here;
    }
    return sum;
}
