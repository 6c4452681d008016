#include "bench/source_private.h"
#include <stdlib.h>

static void session_connect(struct source_session *session)
{
    struct source *source = session->source;
    struct connect_request request = {
        .to = source->settings.to[session->index % source->settings.to_count],
        .from = source->settings.from,
        .timeout_ns = CONNECT_TIMEOUT_NS,
    };
    int rc = source->network->ops->connect(source->network, &request, &session->stream);
    if (rc < 0) {
        source_say_trouble(source, "connect", slice_text(strerror(-rc)));
        source->counters.connections_failed++;
        session->stream = NULL;
        source_session_again(session, CONNECT_AGAIN_NS);
        return;
    }
    session->stream->notify = source_notify;
    session->stream->session = session;
    session->expected_at = 0;
    source_expect(session, REPLY_BANNER);
}

static void sessions_abort(struct source *source)
{
    for (uint32_t i = 0; i < source->settings.connections; i++) {
        struct source_session *session = &source->sessions[i];
        if (session->stream != NULL) {
            stream_abort(session->stream);
        }
        if (session->stream != NULL) { /* not every network says so before the next round */
            source_session_lost(session, 0);
        }
    }
}

static void bounds_watch(struct source *source, uint64_t now_ns)
{
    const struct source_settings *settings = &source->settings;
    bool by_count = settings->count > 0 && source->counters.issued >= settings->count;
    if (!source->stopping && !by_count && now_ns >= source->end_ns) {
        source_stop(source);
    }
    if ((double)(now_ns - source->progress_ns) > settings->stall_s * 1e9) {
        source->stalled = true;
        source_stop(source);
        sessions_abort(source);
    } else if (source->stopping && now_ns - source->ended_ns > SOURCE_DRAIN_S * SECOND_NS) {
        sessions_abort(source);
    }
}

/* Those whose turn has come; when nothing more is to be sent they are over instead. */
static void sessions_connect(struct source *source)
{
    struct list_node due;
    list_init(&due);
    while (!list_empty(&source->waiting)) {
        struct source_session *first =
            list_entry(source->waiting.next, struct source_session, waiting);
        if (source_may_issue(first) && first->due_ns > source->now_ns) {
            break;
        }
        list_remove(&first->waiting);
        list_append(&due, &first->waiting);
    }
    for (struct list_node *node; (node = list_pop(&due)) != NULL;) {
        struct source_session *session = list_entry(node, struct source_session, waiting);
        if (source_may_issue(session)) {
            session_connect(session);
        } else {
            session->over = true;
            source->open_count--;
        }
    }
}

static void clock_start(struct source *source, uint64_t now_ns)
{
    const struct source_settings *settings = &source->settings;
    source->begun = true;
    source->begun_ns = now_ns;
    source->progress_ns = now_ns;
    source->measure_ns = now_ns + (uint64_t)(settings->warmup_s * 1e9);
    source->end_ns =
        settings->seconds > 0 ? now_ns + (uint64_t)(settings->seconds * 1e9) : UINT64_MAX;
}

bool source_round(struct source *source, uint64_t now_ns)
{
    source->now_ns = now_ns;
    if (!source->begun) {
        clock_start(source, now_ns);
    }
    bounds_watch(source, now_ns); /* before events, which are later than the round began */
    if (source->secure != NULL) {
        secure_round(source->secure, now_ns);
    }
    if (!list_empty(&source->waiting)) {
        sessions_connect(source);
    }
    if (source->acked.used > 0) {
        journal_flush(&source->acked);
    }
    if (source->open_count == 0 && source->ended_ns == 0) {
        source->ended_ns = source->progress_ns; /* by count: the last answer */
    }
    return source->open_count > 0;
}

void source_stop(struct source *source)
{
    if (!source->stopping) {
        source->stopping = true;
        source->ended_ns = source->now_ns;
    }
}

static int script_make(struct source *source)
{
    const struct source_settings *settings = &source->settings;
    size_t line_bytes = strlen(settings->domain) + strlen(settings->sender) + 80;
    size_t bytes = line_bytes * (settings->recipients + 2);
    source->script = malloc(bytes);
    source->rcpt = calloc(settings->recipients, sizeof(*source->rcpt));
    bool spread = settings->domains > 0 || settings->users > 0;
    source->digits = spread ? calloc(settings->recipients, sizeof(*source->digits)) : NULL;
    if (source->script == NULL || source->rcpt == NULL || (spread && source->digits == NULL)) {
        return -ENOMEM;
    }
    char *at = source->script, *end = source->script + bytes;
    int size = snprintf(at, (size_t)(end - at), "MAIL FROM:<%s>\r\n", settings->sender);
    source->mail = slice_of(at, (size_t)size);
    at += size;
    for (uint32_t i = 0; i < settings->recipients; i++) {
        if (settings->users > 0) {
            size = snprintf(at, (size_t)(end - at), "RCPT TO:<u0000000@%s>\r\n", settings->domain);
            source->digits[i] = strchr(at, '<') + 2;
        } else {
            size = snprintf(at, (size_t)(end - at), "RCPT TO:<r%u@%s%s>\r\n", i,
                            settings->domains > 0 ? "d0000000." : "", settings->domain);
        }
        if (settings->domains > 0) {
            source->digits[i] = strchr(at, '@') + 2;
        }
        source->rcpt[i] = slice_of(at, (size_t)size);
        at += size;
    }
    source->group_bdat = slice_of(source->script, (size_t)(at - source->script));
    size = snprintf(at, (size_t)(end - at), "DATA\r\n");
    source->data = slice_of(at, (size_t)size);
    source->group = slice_of(source->script, (size_t)(at - source->script) + (size_t)size);
    return 0;
}

static int sessions_make(struct source *source)
{
    uint32_t count = source->settings.connections, recipients = source->settings.recipients;
    source->ring_size = 2 * recipients + 8;
    source->sessions = calloc(count, sizeof(*source->sessions));
    if (source->sessions == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct source_session *session = &source->sessions[i];
        session->source = source;
        session->index = i;
        session->expected = malloc(source->ring_size);
        session->ahead.accepted = calloc(recipients, sizeof(uint32_t));
        session->sent.accepted = calloc(recipients, sizeof(uint32_t));
        if (session->expected == NULL || session->ahead.accepted == NULL ||
            session->sent.accepted == NULL) {
            return -ENOMEM;
        }
        list_init(&session->waiting);
        list_append(&source->waiting, &session->waiting);
    }
    source->open_count = count;
    return 0;
}

int source_open(struct source **source, struct network *network, const struct world *world,
                const struct source_settings *settings)
{
    check(settings->to_count > 0 && settings->connections > 0 && settings->recipients > 0);
    struct source *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->network = network;
    made->world = world;
    made->settings = *settings;
    list_init(&made->waiting);
    journal_open(&made->acked, settings->acked_fd);
    struct letter_plan plan = {.recipient_count = settings->recipients,
                               .wall_s = world_wall_s(world),
                               .message_bytes = settings->message_bytes,
                               .memory = settings->memory};
    world_random(world, &plan.run, sizeof(plan.run));
    int rc = letter_book_open(&made->book, &plan);
    if (rc == 0) {
        rc = script_make(made);
    }
    if (rc == 0) {
        rc = sessions_make(made);
    }
    if (rc == 0 && settings->secure != SECURE_NOT) {
        const struct tls_rules rules = {.suites = settings->suites};
        rc = secure_open(&made->secure, world, settings->secure, &rules);
    }
    if (rc < 0) {
        source_close(made);
        return rc;
    }
    *source = made;
    return 0;
}

void source_close(struct source *source)
{
    if (source->acked.used > 0) {
        journal_flush(&source->acked);
    }
    source->stopping = true;
    for (uint32_t i = 0; source->sessions != NULL && i < source->settings.connections; i++) {
        struct source_session *session = &source->sessions[i];
        if (session->stream != NULL) {
            source_session_lost(session, 0);
        }
        free(session->expected);
        free(session->ahead.accepted);
        free(session->sent.accepted);
    }
    free(source->sessions);
    secure_close(source->secure);
    free(source->rcpt);
    free(source->digits);
    free(source->script);
    letter_book_close(&source->book);
    free(source);
}

const struct source_counters *source_counters(const struct source *source)
{
    return &source->counters;
}

bool source_has_work(const struct source *source)
{
    return source->secure != NULL && secure_has_work(source->secure);
}

const struct secure *source_secure(const struct source *source)
{
    return source->secure;
}

const struct histogram *source_latency(const struct source *source)
{
    return &source->latency;
}

double source_measured_s(const struct source *source)
{
    return source->ended_ns > source->measure_ns
               ? (double)(source->ended_ns - source->measure_ns) / 1e9
               : 0;
}

uint64_t source_first_ns(const struct source *source)
{
    return source->first_ns;
}

uint64_t source_run(const struct source *source)
{
    return source->book.run;
}

bool source_stalled(const struct source *source)
{
    return source->stalled;
}

const char *source_trouble(const struct source *source)
{
    return source->trouble;
}
