#include "bench/exchange.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <stdlib.h>

#define BULK_BYTES (1u << 20)        /* that all bulk connections send from, again and again */
#define BULK_PIECE_BYTES (64u << 10) /* one write_ref */
#define OPENING_MAX 64u              /* handshakes under way at once */

struct asking {
    struct asker *asker;
    struct stream *stream; /* NULL: not connected */
    uint64_t begun_ns;     /* of the exchange under way */
    uint32_t received_bytes;
    bool up;
};

struct asker {
    struct exchange_settings settings;
    struct network *network;
    const struct world *world;
    struct exchange_counters counters;
    struct histogram latency;
    uint64_t begun_ns, now_ns;
    uint32_t opening_count;
    uint32_t next; /* to be looked at for a new connection */
    uint8_t *bulk;
    struct ref bulk_ref;
    uint8_t request[EXCHANGE_BYTES_MAX];
    struct asking askings[];
};

static bool measured(const struct asker *asker)
{
    double passed_s = (double)(asker->now_ns - asker->begun_ns) / 1e9;
    return passed_s >= asker->settings.warmup_s && passed_s < asker->settings.seconds;
}

static void request_send(struct asking *asking)
{
    struct asker *asker = asking->asker;
    asking->begun_ns = asker->now_ns;
    asking->received_bytes = 0;
    int rc = stream_write(asking->stream, slice_of(asker->request, asker->settings.request_bytes));
    check(rc == 0 || rc == -EPIPE || rc == -EAGAIN || rc == -ENOMEM);
    asker->counters.failed += rc < 0;
}

static void bulk_send(struct asking *asking)
{
    struct asker *asker = asking->asker;
    const struct slice piece = slice_of(
        asker->bulk + asker->counters.bytes % (BULK_BYTES - BULK_PIECE_BYTES), BULK_PIECE_BYTES);
    while (stream_write_ref(asking->stream, piece, &asker->bulk_ref) == 0) {
        asker->counters.bytes += piece.size;
        asker->counters.measured_bytes += measured(asker) ? piece.size : 0;
    }
}

static void let_go(struct asking *asking)
{
    asking->asker->opening_count -= !asking->up;
    asking->up = false;
    stream_release(asking->stream);
    asking->stream = NULL;
}

static void replied(struct asking *asking)
{
    struct asker *asker = asking->asker;
    asker->counters.exchanges++;
    if (measured(asker)) {
        asker->counters.measured++;
        histogram_record(&asker->latency, asker->now_ns - asking->begun_ns);
    }
    if (asker->settings.kind == EXCHANGE_CHAT) {
        request_send(asking);
    }
}

static void reply_read(struct asking *asking)
{
    struct slice slices[16];
    size_t count;
    while ((count = stream_peek(asking->stream, slices, 16)) > 0) {
        size_t bytes = 0;
        for (size_t i = 0; i < count; i++) {
            bytes += slices[i].size;
        }
        stream_consume(asking->stream, bytes);
        asking->received_bytes += (uint32_t)bytes;
    }
    if (asking->received_bytes >= asking->asker->settings.reply_bytes) {
        replied(asking);
    }
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct asking *asking = session;
    struct asker *asker = asking->asker;
    (void)stream;
    if (events & STREAM_CONNECTED) {
        asking->up = true;
        asker->opening_count--;
        asker->counters.connections++;
        if (asker->settings.kind != EXCHANGE_BULK) {
            request_send(asking);
        }
    }
    if (asking->up && asker->settings.kind == EXCHANGE_BULK && !(events & STREAM_CLOSED)) {
        bulk_send(asking);
    }
    if (events & STREAM_READABLE) {
        reply_read(asking);
    }
    if (events & (STREAM_HALF_CLOSED | STREAM_CLOSED)) {
        bool whole = asker->settings.kind == EXCHANGE_BRIEF &&
                     asking->received_bytes >= asker->settings.reply_bytes;
        asker->counters.failed += !whole;
        let_go(asking);
    }
}

static void connect_next(struct asker *asker, struct asking *asking)
{
    const struct connect_request request = {.to = asker->settings.at, .timeout_ns = 10000000000ull};
    if (asker->network->ops->connect(asker->network, &request, &asking->stream) < 0) {
        asking->stream = NULL;
        asker->counters.failed++;
        return;
    }
    asking->received_bytes = 0;
    asking->up = false;
    asking->stream->notify = notified;
    asking->stream->session = asking;
    asker->opening_count++;
}

bool asker_round(struct asker *asker, uint64_t now_ns)
{
    asker->now_ns = now_ns;
    if ((double)(now_ns - asker->begun_ns) / 1e9 >= asker->settings.seconds) {
        return false;
    }
    for (uint32_t i = 0; i < asker->settings.connections && asker->opening_count < OPENING_MAX;
         i++) {
        struct asking *asking = &asker->askings[asker->next];
        asker->next = (asker->next + 1) % asker->settings.connections;
        if (asking->stream == NULL) {
            connect_next(asker, asking);
        }
    }
    return true;
}

static void bulk_idle(struct ref *ref)
{
    (void)ref; /* the asker's own memory: freed when it is closed */
}

int asker_open(struct asker **opened, struct network *network, const struct world *world,
               const struct exchange_settings *settings)
{
    struct asker *asker =
        calloc(1, sizeof(*asker) + settings->connections * sizeof(asker->askings[0]));
    if (asker == NULL) {
        return -ENOMEM;
    }
    check(settings->request_bytes <= EXCHANGE_BYTES_MAX);
    asker->settings = *settings;
    asker->network = network;
    asker->world = world;
    asker->begun_ns = asker->now_ns = world_now_ns(world);
    ref_init(&asker->bulk_ref, bulk_idle);
    memset(asker->request, 'q', sizeof(asker->request));
    for (uint32_t i = 0; i < settings->connections; i++) {
        asker->askings[i].asker = asker;
    }
    if (settings->kind == EXCHANGE_BULK) {
        asker->bulk = settings->memory.take(BULK_BYTES);
        if (asker->bulk == NULL) {
            free(asker);
            return -ENOMEM;
        }
        memset(asker->bulk, 'b', BULK_BYTES);
    }
    *opened = asker;
    return 0;
}

void asker_close(struct asker *asker)
{
    for (uint32_t i = 0; i < asker->settings.connections; i++) {
        if (asker->askings[i].stream != NULL) {
            stream_abort(asker->askings[i].stream);
            stream_release(asker->askings[i].stream);
        }
    }
    if (asker->bulk != NULL) {
        asker->settings.memory.give(asker->bulk);
    }
    free(asker);
}

const struct exchange_counters *asker_counters(const struct asker *asker)
{
    return &asker->counters;
}

const struct histogram *asker_latency(const struct asker *asker)
{
    return &asker->latency;
}

double asker_measured_s(const struct asker *asker)
{
    return asker->settings.seconds - asker->settings.warmup_s;
}
