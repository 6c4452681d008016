/* The load generator against its own sink over a unix socket, both in this thread. */
#include "bench/network_epoll.h"
#include "bench/sink.h"
#include "bench/source.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

struct room {
    uint64_t now_ns;
    struct world world;
    struct network *network;
    struct sink *sink;
    struct source *source;
    char path[64];
};

static uint64_t room_now_ns(void *self)
{
    return ((struct room *)self)->now_ns;
}

static int64_t room_wall_s(void *self)
{
    (void)self;
    return 1700000000;
}

static void room_random(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 0x5a, count);
}

static void room_open(struct room *room, const struct source_settings *wanted)
{
    static unsigned count;
    struct source_settings source = *wanted;
    struct sink_settings sink = {.lmtp = source.lmtp, .listen_count = 1, .received_fd = -1};
    room->now_ns = 1;
    room->world = (struct world){room_now_ns, room_wall_s, room_random, room};
    snprintf(room->path, sizeof(room->path), "/tmp/test_bench_loop.%d.%u", (int)getpid(), count++);
    sink.listen[0].family = ENDPOINT_UNIX;
    strcpy(sink.listen[0].path, room->path);
    source.to[0] = sink.listen[0];
    source.to_count = 1;
    source.domain = "bench.example";
    source.sender = "source@bench.example";
    source.stall_s = 10;
    source.memory = (struct letter_memory){malloc, free};
    assert_int_equal(network_epoll_open(&room->network), 0);
    assert_int_equal(sink_open(&room->sink, room->network, &room->world, &sink), 0);
    assert_int_equal(source_open(&room->source, room->network, &room->world, &source), 0);
}

static bool room_round(struct room *room)
{
    bool more = source_round(room->source, room->now_ns);
    room->network->ops->flush(room->network, room->now_ns);
    room->network->ops->poll(room->network, room->now_ns);
    sink_round(room->sink);
    room->now_ns += 1000000;
    return more;
}

static void room_close(struct room *room)
{
    source_close(room->source);
    sink_close(room->sink);
    room->network->ops->close(room->network);
    unlink(room->path);
}

static void everything_arrives_once_at_every_pace(void **state)
{
    (void)state;
    for (unsigned pace = SOURCE_PACE_COMMAND; pace <= SOURCE_PACE_BDAT; pace++) {
        for (unsigned lmtp = 0; lmtp < 2; lmtp++) {
            struct source_settings settings = {.pace = (enum source_pace)pace,
                                               .lmtp = lmtp,
                                               .connections = 3,
                                               .count = 40,
                                               .message_bytes = 3000,
                                               .recipients = 4,
                                               .acked_fd = -1};
            struct room room;
            uint64_t different, repeated, missing;
            room_open(&room, &settings);
            while (room_round(&room)) {
            }
            const struct source_counters *sent = source_counters(room.source);
            sink_deliveries(room.sink, &different, &repeated, &missing);
            assert_int_equal(sent->issued, 40);
            assert_int_equal(sent->acknowledged, 40);
            assert_int_equal(sent->deliveries, 160);
            assert_int_equal(sent->connections_lost, 0);
            assert_string_equal(source_trouble(room.source), "");
            assert_int_equal(sink_counters(room.sink)->proven, 40);
            assert_int_equal(sink_counters(room.sink)->wrong, 0);
            assert_int_equal(different, 160);
            assert_int_equal(repeated + missing, 0);
            room_close(&room);
        }
    }
}

static void messages_larger_than_every_buffer_pass(void **state)
{
    (void)state;
    for (unsigned pace = SOURCE_PACE_COMMAND; pace <= SOURCE_PACE_BDAT; pace++) {
        struct source_settings settings = {.pace = (enum source_pace)pace,
                                           .connections = 2,
                                           .count = 6,
                                           .message_bytes = 1500000,
                                           .recipients = 1,
                                           .acked_fd = -1};
        struct room room;
        room_open(&room, &settings);
        while (room_round(&room)) {
        }
        assert_int_equal(sink_counters(room.sink)->proven, 6);
        assert_int_equal(sink_counters(room.sink)->bytes, 9000000);
        room_close(&room);
    }
}

static void more_recipients_than_one_write_holds_are_sent(void **state)
{
    (void)state;
    struct source_settings settings = {.pace = SOURCE_PACE_DEEP,
                                       .connections = 1,
                                       .count = 3,
                                       .message_bytes = 1000,
                                       .recipients = 900,
                                       .acked_fd = -1};
    struct room room;
    room_open(&room, &settings);
    while (room_round(&room)) {
    }
    assert_int_equal(source_counters(room.source)->deliveries, 2700);
    assert_int_equal(sink_counters(room.sink)->recipients, 2700);
    room_close(&room);
}

static void recipients_beyond_the_sinks_bound_are_deferred_and_the_rest_taken(void **state)
{
    (void)state;
    struct source_settings settings = {.pace = SOURCE_PACE_GROUP,
                                       .connections = 1,
                                       .count = 2,
                                       .message_bytes = 1000,
                                       .recipients = 1100,
                                       .acked_fd = -1};
    struct room room;
    room_open(&room, &settings);
    while (room_round(&room)) {
    }
    assert_int_equal(source_counters(room.source)->deliveries, 2000);
    assert_string_equal(source_trouble(room.source), "answered: 452 4.5.3 too many recipients");
    room_close(&room);
}

static void sessions_come_back_after_as_many_letters_as_asked(void **state)
{
    (void)state;
    struct source_settings settings = {.connections = 2,
                                       .letters_per_connection = 5,
                                       .count = 50,
                                       .message_bytes = 1000,
                                       .recipients = 1,
                                       .acked_fd = -1};
    struct room room;
    room_open(&room, &settings);
    while (room_round(&room)) {
    }
    assert_int_equal(sink_counters(room.sink)->proven, 50);
    assert_in_range(source_counters(room.source)->connections, 10, 11);
    assert_int_equal(source_counters(room.source)->connections_lost, 0);
    room_close(&room);
}

static void it_gives_up_when_nobody_is_there(void **state)
{
    (void)state;
    struct source_settings settings = {
        .connections = 2, .count = 50, .message_bytes = 1000, .recipients = 1, .acked_fd = -1};
    struct room room;
    room_open(&room, &settings);
    sink_close(room.sink); /* the socket file stays, nobody listens */
    unsigned rounds = 0;
    while (source_round(room.source, room.now_ns)) {
        room.network->ops->flush(room.network, room.now_ns);
        room.network->ops->poll(room.network, room.now_ns);
        room.now_ns += 1000000;
        assert_true(++rounds < 20000);
    }
    assert_true(source_stalled(room.source));
    assert_int_equal(source_counters(room.source)->acknowledged, 0);
    assert_string_equal(source_trouble(room.source), "connect: Connection refused");
    source_close(room.source);
    room.network->ops->close(room.network);
    unlink(room.path);
}

static void what_was_acknowledged_is_in_the_file_and_nothing_else(void **state)
{
    (void)state;
    char name[] = "/tmp/test_bench_acked.XXXXXX", line[200];
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    struct source_settings settings = {
        .connections = 2, .count = 7, .message_bytes = 1000, .recipients = 2, .acked_fd = fd};
    struct room room;
    room_open(&room, &settings);
    while (room_round(&room)) {
    }
    room_close(&room);
    FILE *file = fdopen(fd, "r");
    rewind(file);
    unsigned lines = 0, seen = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned sequence, crc, bytes, first, second;
        assert_int_equal(sscanf(line, "5a5a5a5a5a5a5a5a %u %x %u %u %u\n", &sequence, &crc, &bytes,
                                &first, &second),
                         5);
        assert_true(sequence < 7 && first == 0 && second == 1);
        seen |= 1u << sequence;
        lines++;
    }
    assert_int_equal(lines, 7);
    assert_int_equal(seen, 0x7f);
    fclose(file);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_once_at_every_pace),
        cmocka_unit_test(messages_larger_than_every_buffer_pass),
        cmocka_unit_test(more_recipients_than_one_write_holds_are_sent),
        cmocka_unit_test(recipients_beyond_the_sinks_bound_are_deferred_and_the_rest_taken),
        cmocka_unit_test(sessions_come_back_after_as_many_letters_as_asked),
        cmocka_unit_test(it_gives_up_when_nobody_is_there),
        cmocka_unit_test(what_was_acknowledged_is_in_the_file_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
