#include "engine/net/checksum.h"
#include "engine/shard/memory.h"
#include "tests/unit/net_link.h"
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct rte_mempool *pool;

/* RFC 1071 §4.1, byte by byte: what must stand in a header, in host order. */
static uint16_t plain(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void fill(uint64_t *random, uint8_t *bytes, size_t size)
{
    unsigned kind = net_random_below(random, 8); /* all ones are where carries are lost */
    for (size_t i = 0; i < size; i++) {
        bytes[i] = kind == 0 ? 0xff : kind == 1 ? 0 : (uint8_t)net_random(random);
    }
}

static void the_example_of_rfc_1071_comes_out(void **state)
{
    (void)state;
    const uint8_t bytes[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    assert_int_equal(ntohs(checksum_fold(checksum_add(0, bytes, 8))), 0xddf2);
    assert_int_equal(ntohs(checksum_finish(checksum_add(0, bytes, 8))), 0x220d);
}

static void any_size_at_any_alignment_is_as_the_plain_sum(void **state)
{
    (void)state;
    static uint8_t bytes[70000];
    uint64_t random = 1;
    for (unsigned i = 0; i < 20000; i++) {
        size_t offset = net_random_below(&random, 64);
        size_t size = net_random_below(&random, i % 100 == 0 ? 65536 : 200);
        fill(&random, bytes + offset, size);
        assert_int_equal(ntohs(checksum_finish(checksum_add(0, bytes + offset, size))),
                         plain(bytes + offset, size));
    }
}

static void parts_add_up_to_the_whole_wherever_it_is_cut(void **state)
{
    (void)state;
    static uint8_t bytes[2000];
    uint64_t random = 2;
    for (unsigned i = 0; i < 10000; i++) {
        size_t size = net_random_below(&random, sizeof(bytes)), at = 0;
        uint64_t sum = 0;
        fill(&random, bytes, size);
        while (at < size) {
            size_t here = 1 + net_random_below(&random, 300);
            here = here < size - at ? here : size - at;
            sum = checksum_add_at(sum, bytes + at, here, at);
            at += here;
        }
        assert_int_equal(ntohs(checksum_finish(sum)), plain(bytes, size));
    }
}

static void a_chain_of_buffers_is_summed_as_if_it_were_one(void **state)
{
    (void)state;
    static uint8_t bytes[4000];
    uint64_t random = 3;
    for (unsigned i = 0; i < 3000; i++) {
        struct rte_mbuf *head = NULL;
        uint32_t size = 0;
        for (unsigned j = net_random_below(&random, 6); j < 7; j++) {
            uint16_t here = (uint16_t)net_random_below(&random, 500);
            struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
            assert_non_null(mbuf);
            uint8_t *at = (uint8_t *)rte_pktmbuf_append(mbuf, here);
            fill(&random, at, here);
            memcpy(bytes + size, at, here);
            size += here;
            if (head == NULL) {
                head = mbuf;
            } else {
                assert_int_equal(rte_pktmbuf_chain(head, mbuf), 0);
            }
        }
        uint32_t offset = net_random_below(&random, size + 1);
        uint32_t count = net_random_below(&random, size - offset + 1);
        assert_int_equal(ntohs(checksum_finish(checksum_add_frame(0, head, offset, count))),
                         plain(bytes + offset, count));
        rte_pktmbuf_free(head);
    }
}

static void a_text_with_its_checksum_in_it_comes_to_nothing(void **state)
{
    (void)state;
    uint8_t bytes[100];
    uint64_t random = 4;
    for (unsigned i = 0; i < 1000; i++) {
        fill(&random, bytes, sizeof(bytes));
        memset(bytes + 10, 0, 2);
        uint16_t word = checksum_finish(checksum_add(0, bytes, sizeof(bytes)));
        memcpy(bytes + 10, &word, 2);
        assert_int_equal(checksum_finish(checksum_add(0, bytes, sizeof(bytes))), 0);
        bytes[net_random_below(&random, 10)] ^= 1; /* and one wrong bit shows */
        assert_int_not_equal(checksum_finish(checksum_add(0, bytes, sizeof(bytes))), 0);
    }
}

static void a_sum_may_be_as_large_as_it_can(void **state)
{
    (void)state;
    assert_int_equal(checksum_fold(UINT64_MAX), 0xffff);
    assert_int_equal(checksum_fold(0x00010000ffff0001ull), 2);
    assert_int_equal(checksum_fold(0), 0);
}

static int set_up(void **state)
{
    const struct memory_settings settings = {.program = "test_checksum", .megabytes = 64};
    (void)state;
    if (memory_start(&settings) < 0) {
        return -1;
    }
    pool = memory_pool_open("checksum", 255, MEMORY_MBUF_BYTES);
    return pool == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    memory_pool_close(pool);
    memory_stop();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_rfc_1071_comes_out),
        cmocka_unit_test(any_size_at_any_alignment_is_as_the_plain_sum),
        cmocka_unit_test(parts_add_up_to_the_whole_wherever_it_is_cut),
        cmocka_unit_test(a_chain_of_buffers_is_summed_as_if_it_were_one),
        cmocka_unit_test(a_text_with_its_checksum_in_it_comes_to_nothing),
        cmocka_unit_test(a_sum_may_be_as_large_as_it_can),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
