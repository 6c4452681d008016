#include "bench/source_private.h"
#include <inttypes.h>
#include <stdlib.h>

#define SLICES_MAX 8u
#define SOURCE_DIGITS 7u

void source_expect(struct source_session *session, enum reply_kind kind)
{
    check(session->expected_count < session->source->ring_size);
    uint32_t at = (session->expected_at + session->expected_count++) % session->source->ring_size;
    session->expected[at] = (uint8_t)kind;
}

static void hold(struct source_session *session, struct slice bytes, bool copied)
{
    check(session->held_count < HELD_MAX);
    if (copied) {
        uint8_t *copy = malloc(bytes.size);
        check(copy != NULL);
        memcpy(copy, bytes.bytes, bytes.size);
        bytes.bytes = copy;
    }
    session->held[session->held_count++] = (struct held){bytes, copied};
}

static bool is_blocked(int rc)
{
    return rc == -EAGAIN || rc == -ENOMEM;
}

/* A text of any length. What has no room waits for STREAM_WRITABLE; a closed stream says so by
 * itself. */
static void send_text(struct source_session *session, struct slice text)
{
    while (text.size > 0 && session->held_count == 0) {
        struct slice part = slice_first(text, STREAM_WRITE_MAX);
        if (is_blocked(stream_write(session->stream, part))) {
            break;
        }
        text = slice_from(text, part.size);
    }
    if (text.size > 0) {
        hold(session, text, true);
    }
}

static void send_body(struct source_session *session, struct slice body)
{
    struct ref *book = &session->source->book.ref;
    if (session->held_count > 0 || is_blocked(stream_write_ref(session->stream, body, book))) {
        hold(session, body, false);
    }
}

static void held_send(struct source_session *session)
{
    struct held held[HELD_MAX];
    uint32_t count = session->held_count;
    memcpy(held, session->held, sizeof(held));
    session->held_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (held[i].copied) {
            send_text(session, held[i].bytes);
            free((void *)(uintptr_t)held[i].bytes.bytes);
        } else {
            send_body(session, held[i].bytes);
        }
    }
}

void source_say_trouble(struct source *source, const char *where, struct slice text)
{
    if (source->trouble[0] == '\0') {
        snprintf(source->trouble, sizeof(source->trouble), "%s: %.*s", where, (int)text.size,
                 (const char *)text.bytes);
        source->trouble[strcspn(source->trouble, "\r\n")] = '\0';
    }
}

bool source_may_issue(const struct source_session *session)
{
    const struct source *source = session->source;
    uint64_t bound = source->settings.letters_per_connection;
    return !source->stopping && !session->quitting && (bound == 0 || session->letters < bound) &&
           (source->settings.count == 0 || source->counters.issued < source->settings.count);
}

static void quit(struct source_session *session)
{
    if (!session->quitting && !session->ahead.under_way && !session->sent.under_way) {
        session->quitting = true;
        source_expect(session, REPLY_QUIT);
        send_text(session, slice_text("QUIT\r\n"));
    }
}

static void content_send(struct source_session *session)
{
    struct source *source = session->source;
    const struct letter_body *body = letter_body_of(&source->book, session->ahead.sequence);
    char text[LETTER_HEADER_BYTES_MAX + 64];
    size_t at = 0;
    uint64_t now_ns = world_now_ns(source->world);
    if (source->settings.pace == SOURCE_PACE_BDAT) {
        char header[LETTER_HEADER_BYTES_MAX];
        size_t header_bytes = letter_header(&source->book, session->ahead.sequence, now_ns, header);
        at = (size_t)snprintf(text, 64, "BDAT %zu LAST\r\n", header_bytes + body->content.size);
        memcpy(text + at, header, header_bytes);
        send_text(session, slice_of(text, at + header_bytes));
        send_body(session, body->content);
    } else {
        at = letter_header(&source->book, session->ahead.sequence, now_ns, text);
        send_text(session, slice_of(text, at));
        send_body(session, body->wire);
    }
    if (source->settings.pace == SOURCE_PACE_DEEP) {
        session->ahead.begun_ns = now_ns;
    }
    struct transit done = session->sent; /* its array is used again */
    session->sent = session->ahead;
    session->ahead = done;
    session->ahead.under_way = false;
}

/* Writes which domain, or which user, into the script: right before it is sent, as all sessions share it. */
static void digits_choose(struct source *source, uint64_t sequence, uint32_t recipient)
{
    const struct source_settings *settings = &source->settings;
    uint32_t count = settings->domains > 0 ? settings->domains : settings->users;
    uint64_t chosen = (sequence * settings->recipients + recipient) % count;
    for (char *digit = source->digits[recipient] + SOURCE_DIGITS; digit > source->digits[recipient];
         chosen /= 10) {
        *--digit = (char)('0' + chosen % 10);
    }
}

static void all_digits_choose(struct source *source, uint64_t sequence)
{
    for (uint32_t i = 0; source->digits != NULL && i < source->settings.recipients; i++) {
        digits_choose(source, sequence, i);
    }
}

static void send_rcpt(struct source_session *session, uint32_t recipient)
{
    struct source *source = session->source;
    if (source->digits != NULL) {
        digits_choose(source, session->ahead.sequence, recipient);
    }
    source_expect(session, REPLY_RCPT);
    send_text(session, source->rcpt[recipient]);
}

/* Sends the commands of the next letter, or QUIT when there is none. */
static void letter_begin(struct source_session *session)
{
    struct source *source = session->source;
    struct transit *letter = &session->ahead;
    if (!source_may_issue(session)) {
        quit(session);
        return;
    }
    uint32_t *accepted = letter->accepted;
    *letter = (struct transit){.under_way = true,
                               .sequence = source->counters.issued++,
                               .begun_ns = world_now_ns(source->world),
                               .accepted = accepted};
    session->letters++;
    source_expect(session, REPLY_MAIL);
    if (source->settings.pace == SOURCE_PACE_COMMAND) {
        send_text(session, source->mail);
        return;
    }
    for (uint32_t i = 0; i < source->settings.recipients; i++) {
        source_expect(session, REPLY_RCPT);
    }
    all_digits_choose(source, letter->sequence);
    if (source->settings.pace == SOURCE_PACE_BDAT) {
        send_text(session, source->group_bdat);
        source_expect(session, REPLY_END);
        content_send(session);
    } else {
        send_text(session, source->group);
        source_expect(session, REPLY_DATA);
    }
}

static void letter_failed(struct source *source, struct transit *letter, char class)
{
    letter->under_way = false;
    if (class == '4') {
        source->counters.deferred++;
    } else {
        source->counters.refused++;
    }
    source->progress_ns = source->now_ns;
}

static void acked_record(struct source *source, const struct transit *letter, uint32_t taken_count)
{
    const struct letter_body *body = letter_body_of(&source->book, letter->sequence);
    if (source->acked.fd < 0) {
        return;
    }
    journal_line(&source->acked, "%016" PRIx64 " %" PRIu64 " %08x %zu", source->book.run,
                 letter->sequence, body->crc32c, body->content.size);
    for (uint32_t i = 0; i < taken_count; i++) {
        journal_line(&source->acked, " %u", letter->accepted[i]);
    }
    journal_line(&source->acked, "\n");
}

static void letter_taken(struct source *source, struct transit *letter, uint32_t taken_count)
{
    struct source_counters *counters = &source->counters;
    uint64_t now_ns = world_now_ns(source->world);
    counters->acknowledged++;
    source->first_ns = source->first_ns == 0 ? now_ns : source->first_ns;
    counters->deliveries += taken_count;
    counters->bytes += source->settings.message_bytes;
    if (now_ns >= source->measure_ns && !source->stopping) {
        counters->measured++;
        counters->measured_bytes += source->settings.message_bytes;
        histogram_record(&source->latency, now_ns - letter->begun_ns);
    }
    acked_record(source, letter, taken_count);
    letter->under_way = false;
    source->progress_ns = now_ns;
}

static void rset(struct source_session *session)
{
    source_expect(session, REPLY_RSET);
    send_text(session, slice_text("RSET\r\n"));
}

/* LMTP answers the end for each accepted recipient in turn (RFC 2033 §4.2). */
static uint32_t answers_owed(const struct source_session *session)
{
    uint32_t accepted = session->sent.accepted_count;
    return session->source->settings.lmtp && accepted > 0 ? accepted : 1;
}

static void letter_answered(struct source_session *session)
{
    struct source *source = session->source;
    struct transit *letter = &session->sent;
    if (letter->taken_count > 0 && letter->accepted_count > 0) {
        letter_taken(source, letter,
                     source->settings.lmtp ? letter->taken_count : letter->accepted_count);
    } else {
        letter_failed(source, letter, letter->failed_class != 0 ? letter->failed_class : '5');
        if (source->settings.pace == SOURCE_PACE_BDAT) {
            rset(session); /* the refused chunk may have left MAIL standing */
            return;
        }
    }
    if (!session->ahead.under_way) {
        letter_begin(session);
    }
}

static void end_replied(struct source_session *session, char class)
{
    struct transit *letter = &session->sent;
    uint32_t index = letter->answer_count++;
    if (class == '2') {
        letter->accepted[letter->taken_count++] = letter->accepted[index];
    } else if (letter->failed_class == 0) {
        letter->failed_class = class;
    }
    if (letter->answer_count == answers_owed(session)) {
        letter_answered(session);
    }
}

static void mail_replied(struct source_session *session, struct transit *letter, char class)
{
    bool by_command = session->source->settings.pace == SOURCE_PACE_COMMAND;
    if (class != '2' && letter->failed_class == 0) {
        letter->failed_class = class;
    }
    if (by_command && class == '2') {
        send_rcpt(session, 0);
    } else if (by_command) {
        letter_failed(session->source, letter, class);
        rset(session);
    }
}

static void rcpt_replied(struct source_session *session, struct transit *letter, char class)
{
    struct source *source = session->source;
    if (class == '2') {
        letter->accepted[letter->accepted_count++] = letter->rcpt_count;
    } else if (letter->failed_class == 0) {
        letter->failed_class = class;
    }
    letter->rcpt_count++;
    if (source->settings.pace != SOURCE_PACE_COMMAND) {
        return;
    }
    if (letter->rcpt_count < source->settings.recipients) {
        send_rcpt(session, letter->rcpt_count);
    } else if (letter->accepted_count > 0) {
        source_expect(session, REPLY_DATA);
        send_text(session, source->data);
    } else {
        letter_failed(source, letter, letter->failed_class);
        rset(session);
    }
}

static void data_replied(struct source_session *session, char class)
{
    struct source *source = session->source;
    struct transit *letter = &session->ahead;
    if (class != '3') {
        letter_failed(source, letter, letter->failed_class != 0 ? letter->failed_class : class);
        rset(session);
        return;
    }
    source_expect(session, REPLY_END);
    content_send(session);
    if (source->settings.pace == SOURCE_PACE_DEEP && source_may_issue(session)) {
        letter_begin(session);
    }
}

void source_session_again(struct source_session *session, uint64_t delay_ns)
{
    struct source *source = session->source;
    session->due_ns = source->now_ns + delay_ns;
    list_append(&source->waiting, &session->waiting);
}

static void transit_lost(struct source *source, struct transit *letter)
{
    source->counters.unanswered += letter->under_way;
    letter->under_way = false;
}

void source_session_lost(struct source_session *session, uint64_t delay_ns)
{
    struct source *source = session->source;
    stream_release(session->stream);
    session->stream = NULL;
    transit_lost(source, &session->sent);
    transit_lost(source, &session->ahead);
    for (uint32_t i = 0; i < session->held_count; i++) {
        if (session->held[i].copied) {
            free((void *)(uintptr_t)session->held[i].bytes.bytes);
        }
    }
    session->held_count = 0;
    session->expected_count = 0;
    session->line_bytes = 0;
    session->quitting = false;
    session->securing = session->secured = false;
    session->letters = 0;
    if (source_may_issue(session)) {
        source_session_again(session, delay_ns);
    } else {
        session->over = true;
        source->open_count--;
    }
}

/* Takes what the reply was expected to answer off the ring; an LMTP end stays until its last
 * answer. */
static enum reply_kind expected_next(struct source_session *session)
{
    enum reply_kind kind = session->expected[session->expected_at];
    if (kind != REPLY_END || session->sent.answer_count + 1 == answers_owed(session)) {
        session->expected_at = (session->expected_at + 1) % session->source->ring_size;
        session->expected_count--;
    }
    return kind;
}

static void hello(struct source_session *session)
{
    source_expect(session, REPLY_HELLO);
    send_text(session,
              slice_text(session->source->settings.lmtp ? "LHLO source.bench.example\r\n"
                                                        : "EHLO source.bench.example\r\n"));
}

/* False: this ends the session. */
static bool reply_judge(struct source_session *session, enum reply_kind kind, char class)
{
    struct source *source = session->source;
    struct transit *letter =
        source->settings.pace == SOURCE_PACE_BDAT ? &session->sent : &session->ahead;
    switch (kind) {
    case REPLY_BANNER:
        hello(session);
        return class == '2';
    case REPLY_STARTTLS:
        session->securing = true; /* when what has come is read */
        return class == '2';
    case REPLY_HELLO:
        if (source->secure != NULL && !session->secured) {
            source_expect(session, REPLY_STARTTLS);
            send_text(session, slice_text("STARTTLS\r\n"));
            return class == '2';
        }
        letter_begin(session);
        return class == '2';
    case REPLY_RSET:
        letter_begin(session);
        return class == '2';
    case REPLY_MAIL:
        mail_replied(session, letter, class);
        return true;
    case REPLY_RCPT:
        rcpt_replied(session, letter, class);
        return true;
    case REPLY_DATA:
        data_replied(session, class);
        return true;
    case REPLY_END:
        end_replied(session, class);
        return true;
    case REPLY_QUIT:
        return false;
    }
    return false;
}

/* A whole reply; `text` is its last line or what of it was at hand. False: the session is gone. */
static bool replied(struct source_session *session, struct slice text)
{
    struct source *source = session->source;
    char class = session->code[0];
    bool leaving = memcmp(session->code, "421", 3) == 0;
    if (class != '2' && class != '3') {
        source_say_trouble(source, "answered", text);
    }
    if (session->expected_count > 0 && !leaving && class >= '2' && class <= '5') {
        enum reply_kind kind = expected_next(session);
        if (reply_judge(session, kind, class)) {
            return true;
        }
        if (kind == REPLY_QUIT) {
            source_session_lost(session, 0);
            return false;
        }
    }
    source->counters.connections_lost++;
    source_session_lost(session, CONNECT_AGAIN_NS);
    return false;
}

/* False: the session is gone. */
static bool take(struct source_session *session, struct slice input)
{
    while (input.size > 0) {
        const uint8_t *feed = memchr(input.bytes, '\n', input.size);
        size_t size = feed != NULL ? (size_t)(feed - input.bytes) + 1 : input.size;
        for (size_t i = 0; i < size && session->line_bytes + i < sizeof(session->code); i++) {
            session->code[session->line_bytes + i] = (char)input.bytes[i];
        }
        session->line_bytes += (uint32_t)size;
        struct slice line = slice_first(input, size);
        input = slice_from(input, size);
        if (feed != NULL) {
            bool more = session->line_bytes > 4 && session->code[3] == '-';
            session->line_bytes = 0;
            if (!more && !replied(session, line)) {
                return false;
            }
        }
    }
    return true;
}

static void session_read(struct source_session *session)
{
    struct slice slices[SLICES_MAX];
    size_t count;
    while ((count = stream_peek(session->stream, slices, SLICES_MAX)) > 0) {
        size_t used = 0;
        for (size_t i = 0; i < count; i++) {
            if (!take(session, slices[i])) {
                return;
            }
            used += slices[i].size;
        }
        stream_consume(session->stream, used);
    }
}

/* RFC 3207: the server has said 220. */
static void session_secure(struct source_session *session)
{
    struct source *source = session->source;
    unsigned target = session->index % source->settings.to_count;
    session->securing = false;
    session->secured = true;
    int rc = secure_connect(source->secure, session->stream, target, &session->stream);
    if (rc < 0) {
        source_say_trouble(source, "tls", slice_text(strerror(-rc)));
        session->stream = NULL;
        source->counters.connections_failed++;
        source_session_again(session, CONNECT_AGAIN_NS);
        return;
    }
    session->stream->notify = source_notify;
    session->stream->session = session;
}

static void trouble_tell(struct source *source, const struct stream *stream)
{
    struct stream_facts facts;
    stream_facts(stream, &facts);
    bool by_tls = facts.tls != NULL && facts.tls->problem[0] != '\0';
    if (stream->error != 0) {
        source_say_trouble(source, by_tls ? "tls" : "connection",
                           slice_text(by_tls ? facts.tls->problem : strerror(-stream->error)));
    }
}

void source_notify(struct stream *stream, uint32_t events, void *owner)
{
    struct source_session *session = owner;
    struct source *source = session->source;
    if (session->stream != stream) {
        return; /* already let go */
    }
    if ((events & STREAM_CONNECTED) && session->secured) {
        hello(session);
    } else if (events & STREAM_CONNECTED) {
        source->counters.connections++;
    }
    if (events & STREAM_READABLE) {
        session_read(session);
    }
    if (session->stream == stream && session->securing &&
        !(events & (STREAM_CLOSED | STREAM_HALF_CLOSED))) {
        session_secure(session);
        return;
    }
    if (session->stream == stream && (events & STREAM_WRITABLE)) {
        held_send(session);
    }
    if (session->stream == stream && (events & (STREAM_CLOSED | STREAM_HALF_CLOSED))) {
        bool banner_owed =
            session->expected_count == 1 && session->expected[session->expected_at] == REPLY_BANNER;
        trouble_tell(source, stream);
        if (!session->quitting && banner_owed) {
            source->counters.connections_failed++;
        } else if (!session->quitting) {
            source->counters.connections_lost++;
        }
        source_session_lost(session, session->quitting ? 0 : CONNECT_AGAIN_NS);
    }
}
