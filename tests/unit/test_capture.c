/* Captures of a stack's frames, read back from the file. */
#include "engine/net/capture.h"
#include "tests/unit/net_peer.h"
#include <fcntl.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#define FRAMES_MAX 2048u
#define BLOCK_SECTION 0x0a0d0d0au
#define BLOCK_INTERFACE 1u
#define BLOCK_STATISTICS 5u
#define BLOCK_PACKET 6u

static struct net_peer peer;
static struct capture *capture;
static FILE *file;

struct packet {
    uint32_t captured, original;
    uint64_t ns;
    uint8_t bytes[128];
};

static struct {
    unsigned sections, interfaces, statistics, packet_count;
    struct packet packets[FRAMES_MAX];
} found;

static int set_up(void **state)
{
    if (net_peer_set_up(state) < 0) {
        return -1;
    }
    return rte_dev_probe("net_null0"); /* for the name of an interface */
}

static uint32_t word(const uint8_t *bytes)
{
    uint32_t value;
    memcpy(&value, bytes, sizeof(value));
    return value;
}

/* draft-ietf-opsawg-pcapng §4: blocks of type, length, body, length. */
static void read_file(void)
{
    static uint8_t bytes[4 << 20];
    rewind(file);
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    memset(&found, 0, sizeof(found));
    for (size_t at = 0; at < size;) {
        assert_true(at + 12 <= size);
        uint32_t type = word(bytes + at), length = word(bytes + at + 4);
        assert_true(length >= 12 && length % 4 == 0 && at + length <= size);
        assert_int_equal(word(bytes + at + length - 4), length);
        found.sections += type == BLOCK_SECTION;
        found.interfaces += type == BLOCK_INTERFACE;
        found.statistics += type == BLOCK_STATISTICS;
        if (type == BLOCK_PACKET) {
            assert_true(found.packet_count < FRAMES_MAX);
            struct packet *packet = &found.packets[found.packet_count++];
            packet->ns = (uint64_t)word(bytes + at + 12) << 32 | word(bytes + at + 16);
            packet->captured = word(bytes + at + 20);
            packet->original = word(bytes + at + 24);
            memcpy(packet->bytes, bytes + at + 28, packet->captured < 128 ? packet->captured : 128);
        }
        at += length;
    }
}

static void begin(const struct capture_settings *wanted)
{
    struct capture_settings settings = *wanted;
    settings.shard_count = 1;
    settings.snap_bytes = settings.snap_bytes == 0 ? 1522 : settings.snap_bytes;
    settings.cycles = rte_get_tsc_cycles;
    file = tmpfile();
    assert_non_null(file);
    assert_int_equal(rte_eth_dev_get_port_by_name("net_null0", &settings.devices[0]), 0);
    assert_int_equal(capture_open(&capture, &settings), 0);
    assert_int_equal(capture_file_open(capture, dup(fileno(file))), 0);
    capture_begin(capture, peer.network, 0);
}

static struct capture_counters end(void)
{
    struct capture_counters counters;
    capture_end(peer.network);
    assert_false(capture_is_on(peer.network));
    assert_true(capture_file_write(capture) >= 0);
    capture_counters(capture, &counters);
    capture_file_close(capture);
    read_file();
    capture_close(capture);
    fclose(file);
    return counters;
}

static void frames_of_both_directions_are_in_the_file_in_order(void **state)
{
    (void)state;
    const struct capture_settings settings = {0};
    net_peer_open_plain(&peer);
    begin(&settings);
    assert_true(capture_is_on(peer.network));
    net_peer_write(&peer, "hello");
    struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    data.size = 10;
    net_peer_send(&peer, &data);
    struct capture_counters counters = end();
    net_peer_write(&peer, "not this");
    assert_int_equal(counters.frames, 2);
    assert_int_equal(counters.lost, 0);
    assert_int_equal(found.sections, 1);
    assert_true(found.interfaces >= 1);
    assert_int_equal(found.statistics, 1);
    assert_int_equal(found.packet_count, 2);
    assert_int_equal(found.packets[0].captured, 14 + 20 + 20 + 5);
    assert_memory_equal(found.packets[0].bytes + 54, "hello", 5);
    assert_int_equal(found.packets[1].captured, 14 + 20 + 20 + 10);
    assert_int_equal(found.packets[1].bytes[5], 1); /* to the stack */
    assert_true(found.packets[0].ns <= found.packets[1].ns);
    assert_true(found.packets[0].ns / SECOND_NS > 1600000000); /* the time of day */
    net_peer_close(&peer);
}

static void long_frames_are_cut_and_their_length_is_told(void **state)
{
    (void)state;
    const struct capture_settings settings = {.snap_bytes = 64};
    net_peer_open_plain(&peer);
    begin(&settings);
    struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
    data.size = 1000;
    net_peer_send(&peer, &data);
    end();
    assert_int_equal(found.packets[0].captured, 64);
    assert_int_equal(found.packets[0].original, 1054);
    net_peer_close(&peer);
}

static void one_connection_is_told_from_others_either_way_round(void **state)
{
    (void)state;
    struct capture_settings settings = {0};
    net_peer_open(&peer, NULL);
    struct net_segment one = {.port = 5001}, two = {.port = 5002};
    assert_int_equal(endpoint_parse(&settings.ends[0], slice_text("10.0.0.2:5002")), 0);
    assert_int_equal(endpoint_parse(&settings.ends[1], slice_text("10.0.0.1:25")), 0);
    begin(&settings);
    net_peer_shake_hands(&peer, &one);
    net_peer_shake_hands(&peer, &two);
    end();
    assert_int_equal(found.packet_count, 3);
    assert_int_equal(found.packets[0].bytes[34] << 8 | found.packets[0].bytes[35], 5002);
    assert_int_equal(found.packets[1].bytes[36] << 8 | found.packets[1].bytes[37], 5002);
    net_peer_close(&peer);
}

static void it_is_over_after_so_many_frames(void **state)
{
    (void)state;
    const struct capture_settings settings = {.count_max = 4};
    net_peer_open_plain(&peer); /* so that no ARP is needed */
    begin(&settings);
    struct net_segment one = {.port = 5001}, two = {.port = 5002};
    net_peer_shake_hands(&peer, &one);
    assert_false(capture_is_over(capture));
    net_peer_shake_hands(&peer, &two);
    assert_true(capture_is_over(capture));
    struct capture_counters counters = end();
    assert_int_equal(counters.written, 4);
    assert_int_equal(found.packet_count, 4);
    net_peer_close(&peer);
}

static void what_the_writer_is_too_slow_for_is_counted_and_traffic_goes_on(void **state)
{
    (void)state;
    const struct capture_settings settings = {0};
    net_peer_open_plain(&peer);
    begin(&settings);
    for (unsigned i = 0; i < 1200; i++) {
        struct net_segment data = net_peer_next(&peer, TCP_ACK | TCP_PSH);
        data.size = 1;
        net_peer_send(&peer, &data);
        net_peer_forget(&peer);
    }
    assert_int_equal(net_peer_conn(&peer)->bytes_received, 1200);
    struct capture_counters counters = end();
    assert_true(counters.lost > 0);
    assert_int_equal(counters.frames, found.packet_count);
    assert_true(counters.frames + counters.lost >= 1200);
    net_peer_close(&peer);
}

static void what_comes_after_its_stop_is_not_captured(void **state)
{
    (void)state;
    const struct capture_settings settings = {0};
    net_peer_open_plain(&peer);
    begin(&settings);
    assert_false(capture_is_over(capture));
    capture_stop(capture);
    assert_true(capture_is_over(capture));
    net_peer_write(&peer, "goes on");
    net_peer_expect(&peer, TCP_ACK | TCP_PSH);
    end();
    assert_int_equal(found.packet_count, 0);
    net_peer_close(&peer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_both_directions_are_in_the_file_in_order),
        cmocka_unit_test(long_frames_are_cut_and_their_length_is_told),
        cmocka_unit_test(one_connection_is_told_from_others_either_way_round),
        cmocka_unit_test(it_is_over_after_so_many_frames),
        cmocka_unit_test(what_the_writer_is_too_slow_for_is_counted_and_traffic_goes_on),
        cmocka_unit_test(what_comes_after_its_stop_is_not_captured),
    };
    return cmocka_run_group_tests(tests, set_up, net_peer_tear_down);
}
