#include "engine/tls/tls_private.h"
#include <stdlib.h>

#define HANDSHAKES_A_ROUND 4u
#define RECORDS_A_TURN 8u
#define SESSIONS 1024u
#define LINGER_NS 30000000000ull

int tls_open(struct tls **opened, const struct tls_settings *settings)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL) {
        return -ENOMEM;
    }
    tls->bio = tls_bio_method();
    if (tls->bio == NULL) {
        free(tls);
        return -ENOMEM;
    }
    struct tls_settings *filled = &tls->settings;
    *filled = *settings;
    filled->handshakes_a_round =
        filled->handshakes_a_round == 0 ? HANDSHAKES_A_ROUND : filled->handshakes_a_round;
    filled->records_a_turn = filled->records_a_turn == 0 ? RECORDS_A_TURN : filled->records_a_turn;
    filled->session_max = filled->session_max == 0 ? SESSIONS : filled->session_max;
    filled->linger_ns = filled->linger_ns == 0 ? LINGER_NS : filled->linger_ns;
    list_init(&tls->streams);
    list_init(&tls->ready);
    list_init(&tls->turns);
    list_init(&tls->sessions);
    *opened = tls;
    return 0;
}

void tls_close(struct tls *tls)
{
    while (!list_empty(&tls->streams)) {
        struct tls_stream *stream = list_entry(tls->streams.next, struct tls_stream, node);
        stream_abort(stream->below);
        tls_stream_free(stream);
    }
    tls_sessions_close(tls);
    BIO_meth_free(tls->bio);
    free(tls->spare);
    free(tls);
}

/* Each stream that wants a turn has one, handshakes as many as a round may have. */
static unsigned turns_run(struct tls *tls)
{
    struct list_node round, *node;
    uint32_t handshakes = 0;
    unsigned count = 0;
    list_init(&round);
    list_splice(&round, &tls->turns);
    while ((node = list_pop(&round)) != NULL) {
        struct tls_stream *stream = list_entry(node, struct tls_stream, turn);
        if (stream->state == TLS_HANDSHAKE && handshakes == tls->settings.handshakes_a_round) {
            tls->counters.turns_put_off++;
            list_append(&tls->turns, node);
            continue;
        }
        handshakes += stream->state == TLS_HANDSHAKE;
        count++;
        tls_stream_turn(stream);
    }
    return count;
}

unsigned tls_poll(struct tls *tls, uint64_t now_ns)
{
    struct list_node round, *node;
    tls->now_ns = now_ns;
    unsigned count = turns_run(tls);
    list_init(&round);
    list_splice(&round, &tls->ready);
    while ((node = list_pop(&round)) != NULL) {
        struct stream *stream = list_entry(node, struct stream, ready);
        uint32_t events = stream->pending;
        stream->pending = 0;
        count++;
        if (stream->notify != NULL && events != 0) {
            stream->notify(stream, events, stream->session);
        }
    }
    return count;
}

bool tls_has_work(const struct tls *tls)
{
    return !list_empty(&tls->turns) || !list_empty(&tls->ready);
}

const struct tls_counters *tls_counters(const struct tls *tls)
{
    return &tls->counters;
}
