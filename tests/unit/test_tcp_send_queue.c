#include "engine/net/tcp_send_queue.h"
#include "tests/unit/net_link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct rte_mempool *pools[2];

static int setup(void **state)
{
    (void)state;
    return net_memory_open(pools);
}

static int teardown(void **state)
{
    (void)state;
    net_memory_close(pools);
    return 0;
}

static unsigned dropped;

static void reference_end(struct ref *ref)
{
    (void)ref;
    dropped++;
}

static struct rte_mbuf *frame_of(struct tcp_piece *piece)
{
    struct rte_mbuf *frame = rte_pktmbuf_alloc(pools[0]);
    assert_non_null(frame);
    rte_mbuf_ext_refcnt_update(&piece->shared, 1);
    rte_pktmbuf_attach_extbuf(frame, (void *)(uintptr_t)piece->bytes, 0, (uint16_t)piece->size,
                              &piece->shared);
    return frame;
}

/* Whose memory it was is gone by the time that the port gives its frames back. */
static void owners_are_let_go_at_the_close_though_a_port_holds_frames(void **state)
{
    (void)state;
    static const uint8_t bytes[3][100];
    struct tcp_pieces *pieces = tcp_pieces_open(pools[0], 8, 8);
    struct tcp_send_queue queue = {0};
    struct rte_mbuf *frames[3];
    struct ref refs[3];
    uint32_t skip;
    dropped = 0;
    for (unsigned i = 0; i < 3; i++) {
        ref_init(&refs[i], reference_end);
        assert_int_equal(
            tcp_send_queue_refer(pieces, &queue, slice_of(bytes[i], sizeof bytes[i]), &refs[i]), 0);
        ref_drop(&refs[i]);
        frames[i] = frame_of(tcp_send_queue_at(&queue, i * 100, &skip));
    }
    tcp_send_queue_acked(&queue, 100);
    rte_pktmbuf_free(frames[0]);
    assert_int_equal(dropped, 1);
    tcp_send_queue_clear(&queue);
    assert_int_equal(dropped, 1);
    tcp_pieces_close(pieces);
    assert_int_equal(dropped, 3);
    rte_pktmbuf_free(frames[2]);
    rte_pktmbuf_free(frames[1]);
    assert_int_equal(dropped, 3);
    assert_int_equal(rte_mempool_in_use_count(pools[0]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owners_are_let_go_at_the_close_though_a_port_holds_frames),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
