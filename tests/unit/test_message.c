/* A message in memory, and what it shares with others. */
#include "queue/spool/spool_private.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct spool_message *message_from(struct spool_store *store, const char *reverse_path)
{
    const struct envelope envelope = {.reverse_path = slice_text(reverse_path),
                                      .flags = SPOOL_8BITMIME | SPOOL_MARKS,
                                      .ret = SPOOL_RET_HDRS,
                                      .envid = slice_text("QQ314159")};
    struct envelope_recipient recipients[9];
    char paths[9][32], orcpts[9][32];
    for (uint32_t i = 0; i < 9; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%.*s@example.net", (int)i + 1, "recipient");
        snprintf(orcpts[i], sizeof(orcpts[i]), "rfc822;%u", i);
        recipients[i] = (struct envelope_recipient){
            .forward_path = slice_text(paths[i]),
            .orcpt = slice_text(i % 2 == 0 ? orcpts[i] : ""),
            .notify = SPOOL_NOTIFY_FAILURE,
        };
    }
    struct spool_message *made = message_new(&envelope, recipients, 9, store);
    assert_non_null(made);
    const struct message *message = &made->message;
    assert_true(slice_equal(message_reverse_path(message), slice_text(reverse_path)));
    assert_true(slice_equal(message_envid(message), slice_text("QQ314159")));
    assert_int_equal(message_flags(message), SPOOL_8BITMIME | SPOOL_MARKS);
    assert_int_equal(message_ret(message), SPOOL_RET_HDRS);
    for (uint32_t i = 0; i < 9; i++) {
        assert_true(slice_equal(message_forward_path(message, i), slice_text(paths[i])));
        assert_true(
            slice_equal(message_orcpt(message, i), slice_text(i % 2 == 0 ? orcpts[i] : "")));
        assert_int_equal(message_notify(message, i), SPOOL_NOTIFY_FAILURE);
    }
    return made;
}

static void a_reverse_path_that_comes_again_is_kept_once(void **state)
{
    (void)state;
    struct spool_store store;
    assert_int_equal(store_open(&store), 0);
    struct spool_message *messages[10];
    for (uint32_t i = 0; i < 10; i++) {
        messages[i] = message_from(&store, "newsletter@lists.example.org");
        assert_int_equal(messages[i]->body.shares_sender, i > 0);
    }
    uint64_t once = store.sender_bytes;
    assert_true(once > 28 && once < 100);
    for (uint32_t i = 0; i < 10; i++) {
        message_free(messages[i]);
    }
    assert_int_equal(store.sender_bytes, 0);
    assert_int_equal(store.heap.memory_bytes, 0);
    store_close(&store);
}

static void reverse_paths_that_come_but_once_take_nothing_besides(void **state)
{
    (void)state;
    struct spool_store store;
    assert_int_equal(store_open(&store), 0);
    for (uint32_t i = 0; i < 5000; i++) {
        char path[64];
        snprintf(path, sizeof(path), "bounce-%u@mail.example.org", i);
        struct spool_message *message = message_from(&store, path);
        assert_false(message->body.shares_sender);
        message_free(message);
    }
    assert_int_equal(store.sender_bytes, 0);
    assert_int_equal(store.heap.memory_bytes, 0);
    store_close(&store);
}

/* Two that fall on one place of the table take turns there. */
static void senders_in_turn_are_told_apart(void **state)
{
    (void)state;
    struct spool_store store;
    assert_int_equal(store_open(&store), 0);
    struct spool_message *messages[4096];
    for (uint32_t i = 0; i < 4096; i++) {
        char path[64];
        snprintf(path, sizeof(path), "list-%u@lists.example.org", i / 2 % 1500);
        messages[i] = message_from(&store, path);
    }
    for (uint32_t i = 0; i < 4096; i++) {
        char path[64];
        snprintf(path, sizeof(path), "list-%u@lists.example.org", i / 2 % 1500);
        assert_true(slice_equal(message_reverse_path(&messages[i]->message), slice_text(path)));
        message_free(messages[i]);
    }
    assert_int_equal(store.sender_bytes, 0);
    assert_int_equal(store.heap.memory_bytes, 0);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reverse_path_that_comes_again_is_kept_once),
        cmocka_unit_test(reverse_paths_that_come_but_once_take_nothing_besides),
        cmocka_unit_test(senders_in_turn_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
