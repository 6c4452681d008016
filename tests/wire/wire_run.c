#include "tests/wire/wire_run.h"
#include <stdarg.h>

#define FLAG_SYN 0x02u
#define FLAG_ACK 0x10u
#define FLAGS_OF_PARTS 0x89u /* FIN, PSH and CWR may stand on one of the segments of a burst */
#define PATIENCE_US 2000000  /* after the time at which a packet is expected */
#define EVER_US 3600000000   /* for one that may come at any time */

bool wire_run_fail(struct wire_run *run, unsigned line, const char *format, ...)
{
    va_list list;
    if (!run->failed) {
        run->failed = true;
        fprintf(stderr, "%s:%u: ", run->name, line);
        va_start(list, format);
        vfprintf(stderr, format, list);
        va_end(list);
        fputc('\n', stderr);
    }
    return false;
}

int64_t wire_run_now_us(const struct wire_run *run)
{
    return (int64_t)((run->host.now_ns - run->start_ns) / 1000);
}

bool wire_run_time_right(struct wire_run *run, const struct wire_event *event, int64_t at_us,
                         int64_t from_us, int64_t until_us, const char *what)
{
    int64_t slack_us = run->script->tolerance_us;
    if (at_us >= from_us - slack_us && at_us <= until_us + slack_us) {
        return true;
    }
    return wire_run_fail(run, event->line, "%s expected at %.6f~%.6f s, but it was at %.6f s", what,
                         (double)from_us / 1e6, (double)until_us / 1e6, (double)at_us / 1e6);
}

static bool settled(void *owner)
{
    struct wire_run *run = owner;
    size_t done = run->pending.done;
    if (run->pending_event == NULL || run->pending.finished) {
        return false;
    }
    return wire_call_try(&run->sockets, &run->pending) || run->pending.done != done;
}

static uint32_t word_of(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof(word));
    return ntohl(word);
}

static void word_to(uint8_t *at, uint32_t word)
{
    word = htonl(word);
    memcpy(at, &word, sizeof(word));
}

/* The place of an option's content, or NULL; *size: of the content. */
static uint8_t *option_of(struct wire_segment *segment, uint8_t kind, uint32_t *size)
{
    uint32_t at = 0;
    while (at + 1 < segment->option_bytes && segment->options[at] != 0) {
        uint8_t bytes = segment->options[at] == 1 ? 1 : segment->options[at + 1];
        if (segment->options[at] == kind && bytes >= 2) {
            *size = bytes - 2u;
            return segment->options + at + 2;
        }
        at += bytes > 0 ? bytes : 1;
    }
    return NULL;
}

static void sacks_move(struct wire_segment *segment, uint32_t by)
{
    uint32_t size = 0;
    uint8_t *words = option_of(segment, 5, &size);
    for (uint32_t i = 0; words != NULL && i + 4 <= size; i += 4) {
        word_to(words + i, word_of(words + i) + by);
    }
}

/* What the stack's timestamp was that the script calls `script`. */
static bool stamp_find(const struct wire_run *run, uint32_t script, uint32_t *live)
{
    for (unsigned i = run->stamp_count; i > 0; i--) {
        if (run->stamps[i - 1].script == script) {
            *live = run->stamps[i - 1].live;
            return true;
        }
    }
    return false;
}

static uint32_t local_offset(const struct wire_run *run, bool syn)
{
    return syn ? run->local_isn - run->script_isn : run->local_isn;
}

static bool echo_map(struct wire_run *run, const struct wire_event *event,
                     struct wire_segment *segment)
{
    uint32_t size = 0, live = 0;
    uint8_t *stamps = option_of(segment, 8, &size);
    if (stamps == NULL || (segment->flags & FLAG_ACK) == 0) {
        return true;
    }
    if (!stamp_find(run, word_of(stamps + 4), &live)) {
        return wire_run_fail(run, event->line, "no segment of the stack has had TS val %u",
                             word_of(stamps + 4));
    }
    word_to(stamps + 4, live);
    return true;
}

/* The first segment for a listener is a new connection's. */
static void path_new(struct wire_run *run, const struct wire_segment *segment)
{
    run->under_test = WIRE_TEST_OPEN;
    run->passive = true;
    run->local_isn_known = false;
    run->local_isn = 0;
    run->script_isn = 0;
    run->stamp_count = 0;
    run->remote_isn = segment->seq;
    run->path.local_port = 8080;
    run->path.remote_port++;
}

static bool segment_in(struct wire_run *run, const struct wire_event *event)
{
    static uint8_t packet[WIRE_PACKET_ROOM];
    struct wire_segment segment = event->segment;
    bool syn = (segment.flags & FLAG_SYN) != 0, ack = (segment.flags & FLAG_ACK) != 0;
    if (run->under_test == WIRE_TEST_LISTENS) {
        path_new(run, &segment);
    } else if (run->under_test == WIRE_TEST_CONNECTS && syn && ack) {
        run->under_test = WIRE_TEST_OPEN;
        run->remote_isn = segment.seq;
    }
    segment.seq += syn ? 0 : run->remote_isn;
    segment.ack += ack ? local_offset(run, syn) : 0;
    sacks_move(&segment, local_offset(run, syn));
    if (!echo_map(run, event, &segment)) {
        return false;
    }
    wire_host_send(&run->host, packet, wire_packet_segment(&run->path, &segment, packet));
    return true;
}

static bool message_in(struct wire_run *run, const struct wire_event *event)
{
    uint8_t packet[256];
    struct wire_message message = event->message;
    message.seq += run->local_isn;
    wire_host_send(&run->host, packet, wire_packet_message(&run->path, &message, packet));
    return true;
}

/* The next segment of the connection. False: none until then, or it is broken, which is told. */
static bool segment_next(struct wire_run *run, const struct wire_event *event, int64_t until_us,
                         struct wire_segment *segment, int64_t *sent_us)
{
    uint64_t until_ns = run->start_ns + (uint64_t)until_us * 1000;
    struct wire_departure departure;
    const char *why = NULL;
    for (;;) {
        while (!wire_host_take(&run->host, &departure)) {
            if (run->host.now_ns >= until_ns) {
                return false;
            }
            wire_host_step(&run->host, until_ns);
        }
        enum wire_packet_kind kind =
            wire_packet_read(&run->path, departure.packet, departure.bytes, segment, &why);
        *sent_us = (int64_t)((departure.sent_ns - run->start_ns) / 1000);
        free(departure.packet);
        if (kind == WIRE_PACKET_BROKEN) {
            return wire_run_fail(run, event->line, "the stack has sent a broken packet: %s", why);
        }
        if (kind == WIRE_PACKET_OURS) {
            return true;
        }
    }
}

/* The stack's numbers become the script's. */
static void segment_map(struct wire_run *run, const struct wire_segment *expected,
                        struct wire_segment *seen)
{
    bool syn = (seen->flags & FLAG_SYN) != 0, ack = (seen->flags & FLAG_ACK) != 0;
    if (!run->local_isn_known && syn && (expected->flags & FLAG_SYN) != 0) {
        run->local_isn_known = true;
        run->local_isn = seen->seq;
        run->script_isn = expected->seq;
    }
    seen->seq -= local_offset(run, syn);
    seen->ack -= ack && !syn ? run->remote_isn : 0;
    sacks_move(seen, ack && !syn ? 0 - run->remote_isn : 0);
}

/* Timestamps are learned; with a tick they must run as the script says. */
static bool stamps_map(struct wire_run *run, const struct wire_segment *expected,
                       struct wire_segment *seen)
{
    struct wire_segment copy = *expected;
    uint32_t size = 0;
    const uint8_t *told = option_of(&copy, 8, &size);
    uint8_t *stamps = option_of(seen, 8, &size);
    if (told == NULL || stamps == NULL) {
        return true;
    }
    uint32_t script = word_of(told), live = word_of(stamps);
    check(run->stamp_count < WIRE_STAMPS_MAX);
    run->stamps[run->stamp_count].script = script;
    run->stamps[run->stamp_count++].live = live;
    int32_t off = (int32_t)(live - run->stamps[0].live - (script - run->stamps[0].script));
    word_to(stamps, script);
    return (off < 0 ? -off : off) * run->script->timestamp_tick_us <= run->script->tolerance_us;
}

/* One burst may be written as one segment: of full segments, and a last one that may be smaller. */
static bool burst_join(struct wire_run *run, const struct wire_event *event, int64_t until_us,
                       struct wire_segment *seen, int64_t *sent_us)
{
    struct wire_segment more;
    uint32_t part = seen->bytes;
    while (seen->bytes < event->segment.bytes && !run->script->strict_segments) {
        int64_t more_us;
        if (!segment_next(run, event, until_us, &more, &more_us)) {
            return false;
        }
        segment_map(run, &event->segment, &more);
        bool last = seen->bytes + more.bytes >= event->segment.bytes;
        if (more.seq != seen->seq + seen->bytes || more.ack != seen->ack || more.bytes == 0 ||
            more.bytes > part || (more.bytes != part && !last) ||
            ((more.flags ^ seen->flags) & ~FLAGS_OF_PARTS & 0xffu) != 0) {
            return false;
        }
        *sent_us = more_us;
        seen->bytes += more.bytes;
        seen->flags |= more.flags;
        seen->window = more.window;
    }
    return true;
}

static bool segment_equal(const struct wire_segment *expected, const struct wire_segment *seen)
{
    return expected->flags == seen->flags && expected->seq == seen->seq &&
           expected->bytes == seen->bytes && expected->ack == seen->ack &&
           expected->urgent == seen->urgent &&
           (expected->window < 0 || expected->window == seen->window) &&
           (expected->ecn < 0 || expected->ecn == seen->ecn) &&
           (expected->any_options ||
            (expected->option_bytes == seen->option_bytes &&
             memcmp(expected->options, seen->options, seen->option_bytes) == 0));
}

static bool segment_out(struct wire_run *run, const struct wire_event *event, int64_t from_us,
                        int64_t until_us)
{
    struct wire_segment seen;
    char expected_text[WIRE_SEGMENT_TEXT], seen_text[WIRE_SEGMENT_TEXT];
    int64_t sent_us = 0, wait_us = until_us + PATIENCE_US;
    bool any_time = event->when == WIRE_ANY_TIME;
    wait_us = any_time ? wire_run_now_us(run) + EVER_US : wait_us;
    wire_segment_print(&event->segment, expected_text);
    if (!segment_next(run, event, wait_us, &seen, &sent_us)) {
        return wire_run_fail(run, event->line, "expected at %.6f s: %s\n  seen: nothing",
                             (double)from_us / 1e6, expected_text);
    }
    segment_map(run, &event->segment, &seen);
    bool whole = burst_join(run, event, wait_us, &seen, &sent_us);
    bool stamps_right = stamps_map(run, &event->segment, &seen);
    if (!whole || !stamps_right || !segment_equal(&event->segment, &seen)) {
        wire_segment_print(&seen, seen_text);
        return wire_run_fail(run, event->line, "expected at %.6f s: %s\n  seen at %.6f s: %s%s",
                             (double)from_us / 1e6, expected_text, (double)sent_us / 1e6, seen_text,
                             stamps_right ? "" : ", with a timestamp that runs otherwise");
    }
    return any_time || wire_run_time_right(run, event, sent_us, from_us, until_us, expected_text);
}

/* Inbound packets and calls happen when they are told to. */
static bool wait_until(struct wire_run *run, const struct wire_event *event, int64_t at_us)
{
    uint64_t at_ns = run->start_ns + (uint64_t)at_us * 1000;
    while (run->host.now_ns < at_ns) {
        const struct wire_call *pending = &run->pending;
        bool polls = run->pending_event != NULL && !pending->finished &&
                     pending->operation == WIRE_POLL && pending->until_ns < at_ns;
        wire_host_step(&run->host,
                       polls && pending->until_ns > run->host.now_ns ? pending->until_ns : at_ns);
    }
    return wire_run_time_right(run, event, wire_run_now_us(run), at_us, at_us, "what comes here");
}

static bool event_play(struct wire_run *run, const struct wire_event *event)
{
    bool relative = event->when == WIRE_AFTER || event->when == WIRE_AFTER_BETWEEN;
    int64_t now_us = wire_run_now_us(run), base_us = relative ? now_us : 0;
    int64_t at_us = event->when == WIRE_ANY_TIME ? now_us : event->at_us + base_us;
    bool range = event->when == WIRE_BETWEEN || event->when == WIRE_AFTER_BETWEEN;
    int64_t until_us = range ? event->until_us + base_us : at_us;
    bool outbound = event->kind == WIRE_SEGMENT && !event->segment.inbound;
    if (!outbound && (range || event->when == WIRE_ANY_TIME)) {
        return wire_run_fail(run, event->line, "only what the stack sends can have such a time");
    }
    if (outbound) {
        return segment_out(run, event, at_us, until_us);
    }
    if (!wait_until(run, event, at_us)) {
        return false;
    }
    switch (event->kind) {
    case WIRE_SEGMENT:
        return segment_in(run, event);
    case WIRE_MESSAGE:
        return message_in(run, event);
    case WIRE_INVOCATION:
        return wire_run_call(run, event, event->invocation.end_us + base_us);
    }
    return false;
}

/* What nobody has asked for must not have been sent. */
static void nothing_left(struct wire_run *run, unsigned line)
{
    const struct wire_event last = {.line = line};
    char text[WIRE_SEGMENT_TEXT];
    struct wire_segment seen;
    int64_t sent_us;
    if (segment_next(run, &last, wire_run_now_us(run), &seen, &sent_us)) {
        segment_map(run, &seen, &seen);
        wire_segment_print(&seen, text);
        wire_run_fail(run, line, "after the last line the stack has sent at %.6f s: %s",
                      (double)sent_us / 1e6, text);
    }
}

static int path_open(struct wire_run *run)
{
    struct network_prefix local, remote;
    bool ipv6 = run->script->ipv6;
    if (network_prefix_parse(&local, slice_text(ipv6 ? "fd3d:fa7b:d17d::2" : "192.168.0.2")) < 0 ||
        network_prefix_parse(&remote, slice_text(ipv6 ? "2001:db8::1" : "192.0.2.1")) < 0) {
        return -EINVAL;
    }
    run->path = (struct wire_path){.ipv6 = ipv6, .remote_port = 40000};
    memcpy(run->path.local, local.address.address, 16);
    memcpy(run->path.remote, remote.address.address, 16);
    return 0;
}

int wire_run_script(struct wire_run *run, const struct wire_script *script, const char *name)
{
    struct wire_settings settings;
    const char *culprit = "";
    memset(run, 0, sizeof(*run));
    run->name = name;
    run->script = script;
    memset(run->fds, 0xff, sizeof(run->fds));
    wire_settings_default(&settings);
    if (wire_settings_parse(&settings, script->so_flags, &culprit) < 0) {
        fprintf(stderr, "%s: --so_flags: not understood: %s\n", name, culprit);
        return -1;
    }
    if (path_open(run) < 0 || wire_host_open(&run->host, &settings) < 0) {
        fprintf(stderr, "%s: cannot start\n", name);
        return -1;
    }
    wire_sockets_open(&run->sockets, &run->host);
    run->host.settled = settled;
    run->host.owner = run;
    run->start_ns = run->host.now_ns;
    for (unsigned i = 0; i < script->event_count && !run->failed; i++) {
        if (event_play(run, &script->events[i])) {
            wire_run_pending_ended(run);
        }
    }
    unsigned line = script->events[script->event_count - 1].line;
    if (!run->failed && run->pending_event != NULL) {
        wire_run_fail(run, run->pending_event->line, "%s has not returned when the script ends",
                      run->pending_event->invocation.name);
    }
    if (!run->failed) {
        nothing_left(run, line);
    }
    run->pending_event = NULL;
    wire_sockets_close(&run->sockets);
    wire_host_close(&run->host);
    return run->failed ? -1 : 0;
}
