/* trace: its records as text. */
#include "engine/net/tcp.h"
#include "engine/net/trace.h"
#include <inttypes.h>
#include <stdio.h>

#define TICK_NS 1024u

struct record {
    enum trace_kind kind;
    uint32_t middle, value;
};

static struct record record_at(const struct trace_kept *copy, uint32_t number)
{
    const struct trace_record *record = &copy->records[(copy->next + number) % TRACE_RECORDS];
    return (struct record){.kind = (enum trace_kind)(record->head & 0xff),
                           .middle = record->head >> 8,
                           .value = record->value};
}

static uint64_t ticks_of(const struct record *record)
{
    switch (record->kind) {
    case TRACE_NONE:
    case TRACE_MORE:
        return 0;
    case TRACE_GAP:
        return (uint64_t)record->value << 10;
    default:
        return record->middle;
    }
}

static const char *word_of(const char *const *words, uint32_t count, uint32_t value)
{
    return value < count ? words[value] : "?";
}

const char *trace_reason_name(enum trace_reason reason)
{
    static const char *const names[] = {"recovery", "failure", "asked"};
    return word_of(names, 3, reason);
}

static void flags_text(uint8_t flags, char text[8])
{
    static const char letters[] = "FSRP.";
    size_t used = 0;
    for (unsigned i = 0; i < 5; i++) {
        if ((flags >> i & 1) != 0) {
            text[used++] = letters[i];
        }
    }
    text[used] = '\0';
}

/* As tcpdump writes it: flags, sequence, length, acknowledgement. */
static void segment_text(const struct record *first, const struct record *more, char *text,
                         size_t room)
{
    static const char *const names[] = {
        [TRACE_IN] = "in", [TRACE_OUT] = "out", [TRACE_AGAIN] = "again"};
    uint32_t length = more->middle & 0xffff;
    uint8_t flags = (uint8_t)(more->middle >> 16);
    uint32_t seq = (flags & TCP_SYN) != 0 ? 0 : first->value;
    char letters[8];
    flags_text(flags, letters);
    int used = snprintf(text, room, "%-5s [%s] seq %" PRIu32, names[first->kind], letters, seq);
    if (length > 0) {
        used += snprintf(text + used, room - (size_t)used, ":%" PRIu32, seq + length);
    }
    if ((flags & TCP_ACK) != 0) {
        used += snprintf(text + used, room - (size_t)used, " ack %" PRIu32, more->value);
    }
    snprintf(text + used, room - (size_t)used, " length %" PRIu32, length);
}

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {"CLOSED",      "SYN-SENT",   "SYN-RECEIVED",
                                        "ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2",
                                        "CLOSE-WAIT",  "CLOSING",    "LAST-ACK"};
    return word_of(names, 9, state);
}

static const char *drop_name(uint32_t drop)
{
    static const char *const names[] = {"outside the window",
                                        "an old or missing timestamp",
                                        "acknowledges what was not sent",
                                        "a reset without the exact number",
                                        "a SYN into the connection",
                                        "no buffers",
                                        "out of order, no buffers"};
    return word_of(names, 7, drop);
}

static void event_text(const struct record *record, char *text, size_t room)
{
    static const char *const recoveries[] = {"ended", "fast", "after a timeout"};
    uint32_t value = record->value;
    switch (record->kind) {
    case TRACE_CWND:
        snprintf(text, room, "cwnd %" PRIu32, value);
        break;
    case TRACE_SSTHRESH:
        if (value == UINT32_MAX) {
            snprintf(text, room, "ssthresh none");
        } else {
            snprintf(text, room, "ssthresh %" PRIu32, value);
        }
        break;
    case TRACE_STATE:
        snprintf(text, room, "state %s", state_name(value));
        break;
    case TRACE_RECOVERY:
        snprintf(text, room, "recovery %s", word_of(recoveries, 3, value));
        break;
    case TRACE_BACKOFF:
        snprintf(text, room, "timeout, %" PRIu32 " in a row", value);
        break;
    case TRACE_PEER_WINDOW:
        snprintf(text, room, "peer's window %s %" PRIu32, value == 0 ? "closed" : "open", value);
        break;
    case TRACE_OWN_WINDOW:
        snprintf(text, room, "our window %s %" PRIu32, value == 0 ? "closed" : "open", value);
        break;
    case TRACE_DROP:
        snprintf(text, room, "dropped: %s", drop_name(value));
        break;
    case TRACE_RESET_OUT:
        snprintf(text, room, "out   [R] seq %" PRIu32, value);
        break;
    case TRACE_END:
        snprintf(text, room, value == 0 ? "ended" : "ended: %s", strerror((int)value));
        break;
    case TRACE_NONE:
    case TRACE_GAP:
    case TRACE_IN:
    case TRACE_OUT:
    case TRACE_AGAIN:
    case TRACE_MORE:
        snprintf(text, room, "?");
        break;
    }
}

void trace_decode(const struct trace_kept *copy, void (*line)(void *owner, const char *text),
                  void *owner)
{
    uint64_t left = 0; /* ticks until the last record */
    for (uint32_t i = 0; i < TRACE_RECORDS; i++) {
        struct record record = record_at(copy, i);
        left += ticks_of(&record);
    }
    for (uint32_t i = 0; i < TRACE_RECORDS; i++) {
        struct record record = record_at(copy, i);
        char text[TRACE_LINE_MAX];
        left -= ticks_of(&record);
        /* A second half whose first was overwritten tells nothing any more. */
        if (record.kind == TRACE_NONE || record.kind == TRACE_GAP || record.kind == TRACE_MORE) {
            continue;
        }
        uint64_t before_us = left * TICK_NS / 1000;
        int used = snprintf(text, sizeof(text), "-%" PRIu64 ".%06" PRIu64 " ", before_us / 1000000,
                            before_us % 1000000);
        struct record more = record_at(copy, i + 1);
        bool segment =
            record.kind == TRACE_IN || record.kind == TRACE_OUT || record.kind == TRACE_AGAIN;
        if (segment && i + 1 < TRACE_RECORDS && more.kind == TRACE_MORE) {
            segment_text(&record, &more, text + used, sizeof(text) - (size_t)used);
        } else {
            event_text(&record, text + used, sizeof(text) - (size_t)used);
        }
        line(owner, text);
    }
}
