#include "tests/unit/crossing_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define ROUNDS_MAX 100000

static const unsigned own[] = {0}, other[] = {1}, twice[] = {1, 2}, back[] = {1, 0};
const struct crossing_way crossing_ways[CROSSING_WAYS] = {
    {own, 1}, {other, 1}, {twice, 2}, {back, 2}};
const struct crossing_way *const crossing_to_other = &crossing_ways[1];

uint32_t cross_dice(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33);
}

static uint64_t rig_now_ns(void *self)
{
    return ((struct crossing_rig *)self)->now_ns;
}

static uint8_t pattern(uint8_t which, uint64_t at)
{
    uint64_t mixed = (at + 1) * 0x9E3779B97F4A7C15ull ^ (uint64_t)which << 56;
    return (uint8_t)(mixed >> 41 ^ mixed >> 57);
}

static void pattern_fill(uint8_t *bytes, size_t size, uint8_t which, uint64_t at)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = pattern(which, at + i);
    }
}

/* ---- The ends ---- */

static void end_notify(struct stream *stream, uint32_t events, void *session)
{
    struct crossing_end *end = session;
    assert_ptr_equal(stream, end->stream);
    assert_int_not_equal(events, 0);
    assert_false(end->closed);
    end->events |= events;
    end->told++;
    end->finished = end->finished || (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_CLOSED) != 0) {
        end->closed = true;
        end->error = stream->error;
    }
}

static void end_take(struct crossing_end *end, struct stream *stream)
{
    end->stream = stream;
    stream->notify = end_notify;
    stream->session = end;
}

int cross_write(struct crossing_end *end, size_t bytes)
{
    uint8_t *copy = calloc(1, bytes + 1);
    assert_non_null(copy);
    pattern_fill(copy, bytes, end->out, end->written_bytes);
    int status = stream_write(end->stream, slice_of(copy, bytes));
    memset(copy, 0xDD, bytes);
    free(copy);
    end->written_bytes += status == 0 ? bytes : 0;
    return status;
}

static void ref_released(struct ref *ref)
{
    struct crossing_ref *of = list_entry(ref, struct crossing_ref, ref);
    of->rig->refs--;
    free(of);
}

int cross_write_ref(struct crossing_end *end, size_t bytes)
{
    struct crossing_ref *of = calloc(1, sizeof(*of) + bytes);
    assert_non_null(of);
    ref_init(&of->ref, ref_released);
    of->rig = end->rig;
    end->rig->refs++;
    pattern_fill(of->bytes, bytes, end->out, end->written_bytes);
    int status = stream_write_ref(end->stream, slice_of(of->bytes, bytes), &of->ref);
    ref_drop(&of->ref);
    end->written_bytes += status == 0 ? bytes : 0;
    return status;
}

size_t cross_read(struct crossing_end *end, size_t bytes_max)
{
    size_t done = 0;
    struct slice slice;
    while (done < bytes_max && stream_peek(end->stream, &slice, 1) > 0) {
        slice = slice_first(slice, bytes_max - done);
        for (size_t i = 0; i < slice.size; i++) {
            assert_int_equal(slice.bytes[i], pattern(end->in, end->read_bytes + i));
        }
        stream_consume(end->stream, slice.size);
        end->read_bytes += slice.size;
        done += slice.size;
    }
    return done;
}

void cross_release(struct crossing_end *end)
{
    struct stream *stream = end->stream;
    end->stream = NULL;
    stream_release(stream);
}

/* ---- Passing ---- */

struct hop {
    struct crossing_note note;
    struct crossing_rig *rig;
    struct stream *stream;
    unsigned at; /* of the way */
};

static void pass_on(struct crossing_rig *rig, struct stream *stream, unsigned from, unsigned at);

static void hop_run(struct shard_message *message, struct shard *receiver)
{
    struct hop hop = *(struct hop *)(void *)message;
    free(message);
    assert_int_equal(receiver->settings.index, hop.rig->way->shards[hop.at]);
    pass_on(hop.rig, hop.stream, receiver->settings.index, hop.at + 1);
}

static void hop_dropped(struct shard_message *message)
{
    free(message);
}

static void pass_on(struct crossing_rig *rig, struct stream *stream, unsigned from, unsigned at)
{
    if (at == rig->way->count) {
        end_take(&rig->session, stream);
        return;
    }
    unsigned to = rig->way->shards[at];
    struct stream *far =
        crossing_pass(rig->crossings[from], rig->crossings[to], stream, rig->finished);
    if (far == NULL) {
        rig->fails = true;
        stream_abort(stream);
        stream_release(stream);
        return;
    }
    struct hop *hop = calloc(1, sizeof(*hop));
    assert_non_null(hop);
    *hop = (struct hop){.note.message = {.run = hop_run, .dropped = hop_dropped},
                        .rig = rig,
                        .stream = far,
                        .at = at};
    crossing_send(rig->crossings[from], &rig->shards[to], &hop->note);
}

static void keep_notify(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    (void)events;
    (void)session;
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct crossing_rig *rig = owner;
    (void)listener;
    if (rig->keep) {
        rig->kept = stream;
        stream->notify = keep_notify;
        return;
    }
    cross_pass(rig, stream);
}

void cross_pass(struct crossing_rig *rig, struct stream *carrier)
{
    pass_on(rig, carrier, 0, 0);
}

void cross_connect(struct crossing_rig *rig, const struct crossing_way *way)
{
    const struct connect_request request = {.to = {.family = ENDPOINT_UNIX, .path = "door"}};
    struct stream *stream;
    rig->way = way;
    rig->session = (struct crossing_end){.rig = rig, .in = 1, .out = 2};
    rig->client = (struct crossing_end){.rig = rig, .in = 2, .out = 1};
    assert_int_equal(rig->network->ops->connect(rig->network, &request, &stream), 0);
    end_take(&rig->client, stream);
    cross_run(rig);
    rig->client.events = rig->session.events = 0;
}

/* ---- Rounds ---- */

static unsigned network_poll(void *self, uint64_t now_ns)
{
    struct crossing_rig *rig = self;
    return rig->network != NULL ? rig->network->ops->poll(rig->network, now_ns) : 0;
}

static unsigned round_of_all(struct crossing_rig *rig)
{
    unsigned work = 0;
    for (unsigned i = 0; i < rig->count; i++) {
        work += rig->crossings[i] != NULL ? shard_round(&rig->shards[i]) : 0;
    }
    return work;
}

void cross_round(struct crossing_rig *rig)
{
    round_of_all(rig);
}

/* What a flush has sent is work of the next round. */
void cross_run(struct crossing_rig *rig)
{
    unsigned rounds = 0;
    for (unsigned idle = 0; idle < 2;) {
        idle = round_of_all(rig) > 0 ? 0 : idle + 1;
        assert_true(++rounds < ROUNDS_MAX);
    }
}

void cross_wait(struct crossing_rig *rig, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i += 50) {
        rig->now_ns += 50 * CROSSING_RIG_MS;
        cross_run(rig);
    }
}

/* ---- Life ---- */

struct crossing_rig *cross_open(unsigned count, size_t room)
{
    struct crossing_rig *rig = calloc(1, sizeof(*rig));
    struct shard *shards[CROSSING_RIG_SHARDS_MAX];
    assert_non_null(rig);
    rig->world = (struct world){.self = rig, .now_ns = rig_now_ns};
    rig->now_ns = 1000 * CROSSING_RIG_MS;
    rig->count = count;
    logger_open(&rig->logger, STDERR_FILENO, LOGGER_WARNING);
    rig->network = fake_network_open(room);
    for (unsigned i = 0; i < count; i++) {
        const struct shard_settings settings = {
            .index = i, .count = count, .cpu = -1, .world = &rig->world, .logger = &rig->logger};
        shards[i] = &rig->shards[i];
        assert_int_equal(shard_open(shards[i], &settings), 0);
        if (i == 0) {
            shard_add(shards[0],
                      &(struct shard_part){.name = "network", .self = rig, .poll = network_poll});
        }
        assert_int_equal(crossing_open(&rig->crossings[i], shards[i]), 0);
        crossing_add_part(rig->crossings[i]);
    }
    assert_int_equal(shard_connect_all(shards, count), 0);
    const struct listen_request request = {
        .at = {.family = ENDPOINT_UNIX, .path = "door"}, .accepted = accepted, .owner = rig};
    assert_int_equal(rig->network->ops->listen(rig->network, &request, &rig->listener), 0);
    return rig;
}

void cross_close_network(struct crossing_rig *rig)
{
    if (rig->network != NULL) {
        rig->network->ops->close(rig->network);
        rig->network = NULL;
    }
}

void cross_close_shard(struct crossing_rig *rig, unsigned index)
{
    if (rig->crossings[index] != NULL) {
        crossing_close(rig->crossings[index]);
        shard_close(&rig->shards[index]);
        rig->crossings[index] = NULL;
    }
}

void cross_close(struct crossing_rig *rig)
{
    cross_close_network(rig);
    for (unsigned i = 0; i < rig->count; i++) {
        cross_close_shard(rig, i);
    }
    assert_int_equal(rig->refs, 0);
    free(rig);
}
