#include "engine/net/stack_private.h"

enum tcp_option {
    OPTION_END = 0,
    OPTION_NOTHING = 1,
    OPTION_MSS = 2,
    OPTION_WINDOW_SCALE = 3,
    OPTION_SACK_PERMITTED = 4,
    OPTION_SACK = 5,
    OPTION_TIMESTAMP = 8,
};

#define SCALE_MAX 14 /* RFC 7323 §2.3 */

static uint32_t word_at(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof(word));
    return ntohl(word);
}

static void word_put(uint8_t *bytes, uint32_t word)
{
    word = htonl(word);
    memcpy(bytes, &word, sizeof(word));
}

static void sack_read(struct tcp_segment *segment, const uint8_t *option, size_t size)
{
    segment->sack_count = 0;
    for (size_t at = 2; at + 8 <= size && segment->sack_count < TCP_SACKS_MAX; at += 8) {
        segment->sacks[segment->sack_count++] =
            (struct tcp_range){word_at(option + at), word_at(option + at + 4)};
    }
}

/* An option of a length that is not its own is passed over, as if it were unknown. */
static void option_read(struct tcp_segment *segment, const uint8_t *option, size_t size)
{
    bool syn = (segment->flags & TCP_SYN) != 0;
    switch (option[0]) {
    case OPTION_MSS:
        if (size == 4 && syn) {
            segment->mss = (uint16_t)(option[2] << 8 | option[3]);
        }
        break;
    case OPTION_WINDOW_SCALE:
        if (size == 3 && syn) {
            segment->window_scale = option[2] < SCALE_MAX ? option[2] : SCALE_MAX;
        }
        break;
    case OPTION_SACK_PERMITTED:
        segment->sack_permitted |= size == 2 && syn;
        break;
    case OPTION_SACK:
        if (!syn) {
            sack_read(segment, option, size);
        }
        break;
    case OPTION_TIMESTAMP:
        if (size == 10) {
            segment->has_timestamp = true;
            segment->ts_value = word_at(option + 2);
            segment->ts_echo = word_at(option + 6);
        }
        break;
    default:
        break;
    }
}

bool tcp_options_read(struct tcp_segment *segment, const uint8_t *options, size_t size)
{
    static const uint8_t usual[4] = {OPTION_NOTHING, OPTION_NOTHING, OPTION_TIMESTAMP, 10};
    if (size == TCP_TIMESTAMP_BYTES && memcmp(options, usual, sizeof(usual)) == 0) {
        segment->has_timestamp = true;
        segment->ts_value = word_at(options + 4);
        segment->ts_echo = word_at(options + 8);
        return true;
    }
    while (size > 0 && options[0] != OPTION_END) {
        size_t step = 1;
        if (options[0] != OPTION_NOTHING) {
            if (size < 2 || options[1] < 2 || options[1] > size) {
                return false;
            }
            step = options[1];
            option_read(segment, options, step);
        }
        options += step;
        size -= step;
    }
    return true;
}

/* No padding but what keeps the words of four bytes: MSS, then SACK-permitted and the timestamp in
 * one run of 12, or either alone behind two that say nothing, then the scale. */
size_t tcp_options_write_syn(uint8_t *options, uint16_t mss, uint8_t scale, bool sack,
                             const uint32_t *ts_value_and_echo)
{
    uint8_t *at = options;
    *at++ = OPTION_MSS;
    *at++ = 4;
    *at++ = (uint8_t)(mss >> 8);
    *at++ = (uint8_t)mss;
    if (sack != (ts_value_and_echo != NULL)) {
        *at++ = OPTION_NOTHING;
        *at++ = OPTION_NOTHING;
    }
    if (sack) {
        *at++ = OPTION_SACK_PERMITTED;
        *at++ = 2;
    }
    if (ts_value_and_echo != NULL) {
        *at++ = OPTION_TIMESTAMP;
        *at++ = 10;
        word_put(at, ts_value_and_echo[0]);
        word_put(at + 4, ts_value_and_echo[1]);
        at += 8;
    }
    if (scale != TCP_SCALE_NONE) {
        *at++ = OPTION_NOTHING;
        *at++ = OPTION_WINDOW_SCALE;
        *at++ = 3;
        *at++ = scale;
    }
    return (size_t)(at - options);
}

size_t tcp_options_write_timestamp(uint8_t *options, uint32_t value, uint32_t echo)
{
    static const uint8_t begin[4] = {OPTION_NOTHING, OPTION_NOTHING, OPTION_TIMESTAMP, 10};
    memcpy(options, begin, sizeof(begin));
    word_put(options + 4, value);
    word_put(options + 8, echo);
    return TCP_TIMESTAMP_BYTES;
}

size_t tcp_options_write_sack(uint8_t *options, const struct tcp_range *ranges, size_t count)
{
    if (count == 0) {
        return 0;
    }
    options[0] = OPTION_NOTHING;
    options[1] = OPTION_NOTHING;
    options[2] = OPTION_SACK;
    options[3] = (uint8_t)(2 + 8 * count);
    for (size_t i = 0; i < count; i++) {
        word_put(options + 4 + 8 * i, ranges[i].begin);
        word_put(options + 8 + 8 * i, ranges[i].end);
    }
    return 4 + 8 * count;
}
