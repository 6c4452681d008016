#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/shard/memory.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct memory_settings plain = {.program = "test_memory", .megabytes = 128};

static void a_pool_gives_what_it_has_and_no_more(void **state)
{
    (void)state;
    enum { COUNT = 1023 };
    static struct rte_mbuf *mbufs[COUNT];
    struct rte_mempool *pool = memory_pool_open("small", COUNT, MEMORY_MBUF_BYTES);
    assert_non_null(pool);
    for (unsigned i = 0; i < COUNT; i++) {
        mbufs[i] = rte_pktmbuf_alloc(pool);
        assert_non_null(mbufs[i]);
        assert_true(rte_pktmbuf_tailroom(mbufs[i]) >= MEMORY_MBUF_BYTES);
        memset(rte_pktmbuf_append(mbufs[i], MEMORY_MBUF_BYTES), 0xee, MEMORY_MBUF_BYTES);
    }
    assert_null(rte_pktmbuf_alloc(pool));
    rte_pktmbuf_free_bulk(mbufs, COUNT);
    assert_int_equal(rte_mempool_avail_count(pool), COUNT);
    memory_pool_close(pool);
}

struct extent {
    uintptr_t first, last;
};

static void extent_note(struct rte_mempool *pool, void *owner, void *object, unsigned index)
{
    struct extent *extent = owner;
    uintptr_t at = (uintptr_t)object;
    (void)pool;
    extent->first = index == 0 || at < extent->first ? at : extent->first;
    extent->last = at > extent->last ? at : extent->last;
}

/* net_af_xdp takes a pool for so many objects one behind the other: what lies further is lost for
 * ever when its turn comes, and the port falls silent. */
static void without_huge_pages_nothing_lies_between_the_objects_of_a_pool(void **state)
{
    (void)state;
    enum { COUNT = 4096 };
    struct extent extent = {0};
    struct rte_mempool *pool = memory_pool_open("dense", COUNT, MEMORY_MBUF_BYTES);
    assert_non_null(pool);
    assert_int_equal(rte_eal_has_hugepages(), 0);
    assert_int_equal(pool->nb_mem_chunks, 1);
    rte_mempool_obj_iter(pool, extent_note, &extent);
    assert_int_equal(extent.last - extent.first,
                     (COUNT - 1) * rte_mempool_calc_obj_size(pool->elt_size, pool->flags, NULL));
    memory_pool_close(pool);
}

static void a_pool_larger_than_memory_is_refused(void **state)
{
    (void)state;
    assert_null(memory_pool_open("huge", 1 << 20, MEMORY_MBUF_BYTES));
    assert_int_equal(rte_errno, ENOMEM);
    assert_null(memory_pool_open("wide", 16, UINT16_MAX));
    assert_int_equal(rte_errno, EINVAL);
}

static void memory_is_aligned_and_a_port_may_read_it(void **state)
{
    (void)state;
    uint8_t *memory = memory_take("log", 8 << 20, 4096);
    assert_non_null(memory);
    assert_int_equal((uintptr_t)memory % 4096, 0);
    memset(memory, 1, 8 << 20);
    assert_true(rte_malloc_virt2iova(memory) != RTE_BAD_IOVA);
    memory_give(memory);
    assert_null(memory_take("log", (size_t)1 << 30, 4096));
    memory_give(NULL);
}

static void *thread_takes_a_mbuf(void *pool)
{
    static const char failed[] = "failed";
    if (rte_lcore_id() != LCORE_ID_ANY || memory_thread_enter() < 0 ||
        rte_lcore_id() == LCORE_ID_ANY || memory_thread_enter() < 0) {
        return (void *)(uintptr_t)failed;
    }
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);
    rte_pktmbuf_free(mbuf);
    memory_thread_leave();
    return mbuf == NULL || rte_lcore_id() != LCORE_ID_ANY ? (void *)(uintptr_t)failed : NULL;
}

static void a_thread_gets_a_number_and_gives_it_back(void **state)
{
    (void)state;
    struct rte_mempool *pool = memory_pool_open("threads", 1023, MEMORY_MBUF_BYTES);
    for (unsigned i = 0; i < 2 * RTE_MAX_LCORE; i++) {
        pthread_t thread;
        void *failed;
        assert_int_equal(pthread_create(&thread, NULL, thread_takes_a_mbuf, pool), 0);
        pthread_join(thread, &failed);
        assert_null(failed);
    }
    memory_pool_close(pool);
}

static void the_starting_thread_is_left_unpinned_and_registered(void **state)
{
    cpu_set_t now;
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&now, (cpu_set_t *)*state));
    assert_int_equal(memory_thread_enter(), 0);
    memory_thread_leave();
    assert_true(rte_lcore_id() != LCORE_ID_ANY);
}

static void a_second_start_is_refused(void **state)
{
    (void)state;
    assert_int_equal(memory_start(&plain), -EALREADY);
}

/* Runs in a child, since the EAL starts once a process. 0 when a pool could be made. */
static int start_in_child(uid_t uid, const struct memory_settings *settings)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (uid != 0 && (setgid(uid) < 0 || setuid(uid) < 0)) {
            _exit(2);
        }
        /* Refusing an argument, the EAL prints its usage. */
        if (freopen("/dev/null", "w", stdout) == NULL || memory_start(settings) < 0) {
            _exit(3);
        }
        struct rte_mempool *pool = memory_pool_open("child", 1023, MEMORY_MBUF_BYTES);
        memory_pool_close(pool);
        memory_stop();
        _exit(pool != NULL ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void it_starts_for_any_user(void **state)
{
    (void)state;
    if (getuid() != 0) {
        skip();
    }
    assert_int_equal(start_in_child(65534, &plain), 0);
    assert_int_equal(start_in_child(12345, &plain), 0);
}

static void it_starts_with_the_operators_arguments(void **state)
{
    (void)state;
    static const char *const eal[] = {"--no-pci", "--no-telemetry", "--vdev=net_null0", NULL};
    static const char *const wrong[] = {"--no-pci", "--no-such-argument", NULL};
    struct memory_settings settings = {.program = "test_memory", .megabytes = 64, .eal = eal};
    assert_int_equal(start_in_child(0, &settings), 0);
    settings.eal = wrong;
    assert_true(start_in_child(0, &settings) != 0);
}

static void arguments_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const char *eal[200];
    for (unsigned i = 0; i < 199; i++) {
        eal[i] = "--no-pci";
    }
    struct memory_settings settings = {.program = "test_memory", .eal = eal};
    assert_int_equal(memory_start(&settings), -E2BIG);
}

static int start(void **state)
{
    static cpu_set_t allowed;
    *state = &allowed;
    return sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || memory_start(&plain) < 0;
}

static int stop(void **state)
{
    (void)state;
    memory_stop();
    return 0;
}

int main(void)
{
    /* Before the EAL of this process is there. */
    const struct CMUnitTest before[] = {
        cmocka_unit_test(arguments_that_do_not_fit_are_refused),
        cmocka_unit_test(it_starts_for_any_user),
        cmocka_unit_test(it_starts_with_the_operators_arguments),
    };
    const struct CMUnitTest after[] = {
        cmocka_unit_test(a_pool_gives_what_it_has_and_no_more),
        cmocka_unit_test(without_huge_pages_nothing_lies_between_the_objects_of_a_pool),
        cmocka_unit_test(a_pool_larger_than_memory_is_refused),
        cmocka_unit_test(memory_is_aligned_and_a_port_may_read_it),
        cmocka_unit_test(a_thread_gets_a_number_and_gives_it_back),
        cmocka_unit_test(the_starting_thread_is_left_unpinned_and_registered),
        cmocka_unit_test(a_second_start_is_refused),
    };
    int failed = cmocka_run_group_tests(before, NULL, NULL);
    return failed + cmocka_run_group_tests(after, start, stop);
}
