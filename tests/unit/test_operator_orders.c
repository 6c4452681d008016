/* What the operator has said, as it is written down and read again. */
#include "engine/core/logger.h"
#include "engine/relay/operator_file.h"
#include "engine/relay/operator_orders.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static struct operator_suspension suspension(uint8_t of, const char *name, int64_t until_wall_s)
{
    struct operator_suspension said = {
        .of = of, .since_wall_s = 1000, .until_wall_s = until_wall_s, .user = 7};
    snprintf(said.name, sizeof(said.name), "%s", name);
    return said;
}

static struct operator_reroute reroute(const char *words, const char *to, int64_t since_wall_s)
{
    struct operator_reroute said = {.since_wall_s = since_wall_s, .user = -1};
    snprintf(said.words, sizeof(said.words), "%s", words);
    snprintf(said.to, sizeof(said.to), "%s", to);
    return said;
}

static void suspend(struct operator_orders *orders, uint8_t of, const char *name, int64_t until)
{
    const struct operator_suspension said = suspension(of, name, until);
    assert_int_equal(operator_orders_suspend(orders, &said), 0);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    struct operator_orders orders = {0}, read;
    unsigned line;
    char problem[OPERATOR_PROBLEM_MAX];
    struct operator_suspension said = suspension(OPERATOR_OF_PATTERN, "^a\"\\d+\xc3\xa9@", 2000);
    strcpy(said.reason, "ticket \"7\"");
    assert_int_equal(operator_orders_suspend(&orders, &said), 0);
    suspend(&orders, OPERATOR_OF_SITE, "[2001:db8::1]:25", INT64_MAX);
    const struct operator_reroute moved = reroute("domain=example.net older=2h", "192.0.2.9:25", 5);
    assert_int_equal(operator_orders_reroute(&orders, &moved), 0);
    char *text = operator_orders_write(&orders);
    assert_non_null(text);
    assert_int_equal(operator_orders_read(&read, slice_text(text), &line, problem), 0);
    assert_int_equal(read.suspension_count, 2);
    assert_memory_equal(&read.suspensions[0], &said, sizeof(said));
    assert_int_equal(read.suspensions[1].until_wall_s, INT64_MAX);
    assert_int_equal(read.reroute_count, 1);
    assert_memory_equal(&read.reroutes[0], &moved, sizeof(moved));
    free(text);
    operator_orders_free(&orders);
    text = operator_orders_write(&orders); /* nothing is a file too */
    operator_orders_free(&read);
    assert_int_equal(operator_orders_read(&read, slice_text(text), &line, problem), 0);
    assert_int_equal(read.suspension_count + read.reroute_count, 0);
    free(text);
    operator_orders_free(&read);
}

static void a_damaged_file_is_told_by_its_line(void **state)
{
    static const char head[] = "{\"tubepost\":\"operator\",\"version\":1,\"entries\":1}\n";
    static const char good[] =
        "{\"suspend\":\"domain\",\"name\":\"a.test\",\"since\":1,\"until\":2,"
        "\"uid\":0,\"text\":\"\"}\n";
    static const struct {
        const char *first, *second;
        unsigned line;
        const char *says;
    } table[] = {
        {"", "", 1, "entries"},
        {"garbage\n", "", 1, "column"},
        {"{\"tubepost\":\"spool\"}\n", "", 1, "tubepost"},
        {"{\"tubepost\":\"operator\",\"version\":2,\"entries\":0}\n", "", 1, "version"},
        {"{\"tubepost\":\"operator\",\"version\":1}\n", "", 1, "entries"},
        {"{\"tubepost\":\"operator\",\"version\":1,\"entries\":-1}\n", "", 1, "entries"},
        {"{\"tubepost\":\"operator\",\"version\":1,\"entries\":2}\n", good, 3, "entries"},
        {"{\"tubepost\":\"operator\",\"version\":1,\"entries\":0}\n", good, 3, "entries"},
        {head, "", 2, "entries"},
        {head, "{\"suspend\":\"domain\",\"name\":\"a.test\",\"since\":1,", 2, "cut off"},
        {head, "{\"suspend\":\"domain\",\"na\n", 2, "column"},
        {head, "\n", 2, "column"},
        {head, "{}\n", 2, "reroute"},
        {head, "[]\n", 2, "reroute"},
        {head,
         "{\"suspend\":\"day\",\"name\":\"a\",\"since\":1,\"until\":2,\"uid\":0,\"text\":\"\"}\n",
         2, "suspend"},
        {head, "{\"suspend\":1}\n", 2, "suspend"},
        {head,
         "{\"suspend\":\"site\",\"name\":\"\",\"since\":1,\"until\":2,\"uid\":0,\"text\":\"\"}\n",
         2, "name"},
        {head, "{\"suspend\":\"site\",\"name\":\"a\",\"since\":1,\"uid\":0,\"text\":\"\"}\n", 2,
         "until"},
        {head,
         "{\"suspend\":\"site\",\"name\":\"a\",\"since\":1,\"until\":\"2\",\"uid\":0,\"text\":\"\"}"
         "\n",
         2, "until"},
        {head, "{\"reroute\":\"x\",\"of\":7,\"since\":1,\"uid\":0}\n", 2, "of"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct operator_orders orders;
        char text[1000], problem[OPERATOR_PROBLEM_MAX];
        unsigned line = 0;
        snprintf(text, sizeof(text), "%s%s", table[i].first, table[i].second);
        assert_int_equal(operator_orders_read(&orders, slice_text(text), &line, problem), -EINVAL);
        if (line != table[i].line || strstr(problem, table[i].says) == NULL) {
            fail_msg("row %zu: line %u: %s", i, line, problem);
        }
        assert_null(orders.suspensions);
    }
}

static void a_suspension_of_the_same_mail_takes_the_place_of_the_other(void **state)
{
    (void)state;
    struct operator_orders orders = {0};
    suspend(&orders, OPERATOR_OF_DOMAIN, "example.org", 2000);
    suspend(&orders, OPERATOR_OF_SITE, "example.org", 2000);
    suspend(&orders, OPERATOR_OF_PATTERN, "\\d", 2000);
    suspend(&orders, OPERATOR_OF_PATTERN, "\\D", 2000);
    suspend(&orders, OPERATOR_OF_DOMAIN, "Example.ORG", 3000);
    assert_int_equal(orders.suspension_count, 4);
    assert_int_equal(orders.suspensions[0].until_wall_s, 3000);
    const struct operator_suspension like = suspension(OPERATOR_OF_DOMAIN, "EXAMPLE.org", 0);
    assert_int_equal(operator_orders_resume(&orders, &like), 1);
    assert_int_equal(operator_orders_resume(&orders, &like), 0);
    assert_int_equal(operator_orders_resume(&orders, NULL), 3);
    operator_orders_free(&orders);
}

static void there_are_no_more_than_their_limit_and_what_is_no_text_is_refused(void **state)
{
    (void)state;
    struct operator_orders orders = {0};
    for (unsigned i = 0; i < OPERATOR_SUSPENSIONS_MAX; i++) {
        char name[32];
        snprintf(name, sizeof(name), "d%u.test", i);
        suspend(&orders, OPERATOR_OF_DOMAIN, name, 2000);
    }
    const struct operator_reroute moved = reroute("site=a", "192.0.2.9:25", 5);
    for (unsigned i = 0; i < OPERATOR_REROUTES_MAX; i++) {
        assert_int_equal(operator_orders_reroute(&orders, &moved), 0);
    }
    const struct operator_suspension one_more = suspension(OPERATOR_OF_DOMAIN, "e.test", 2000);
    const struct operator_suspension latin1 = suspension(OPERATOR_OF_DOMAIN, "\xe9.test", 2000);
    assert_int_equal(operator_orders_suspend(&orders, &one_more), -ENOSPC);
    assert_int_equal(operator_orders_suspend(&orders, &latin1), -EILSEQ);
    assert_int_equal(operator_orders_reroute(&orders, &moved), -ENOSPC);
    suspend(&orders, OPERATOR_OF_DOMAIN, "d7.test", 3000);
    char *text = operator_orders_write(&orders), problem[OPERATOR_PROBLEM_MAX];
    struct operator_orders read;
    unsigned line;
    assert_int_equal(operator_orders_read(&read, slice_text(text), &line, problem), 0);
    assert_int_equal(read.suspension_count, OPERATOR_SUSPENSIONS_MAX);
    free(text);
    operator_orders_free(&read);
    operator_orders_free(&orders);
}

static void
a_reroute_of_the_same_mail_takes_the_place_of_the_other_unless_it_asks_for_a_site(void **state)
{
    (void)state;
    struct operator_orders orders = {0};
    static const char *const words[] = {"domain=a older=1h", "older=1h site=b", "domain=a older=1h",
                                        "older=1h site=b", "domain=a"};
    for (unsigned i = 0; i < 5; i++) {
        const struct operator_reroute said = reroute(words[i], i < 2 ? "x" : "y", i);
        assert_int_equal(operator_orders_reroute(&orders, &said), 0);
    }
    assert_int_equal(orders.reroute_count, 4);
    assert_int_equal(orders.reroutes[0].since_wall_s, 1);
    assert_int_equal(orders.reroutes[1].since_wall_s, 2);
    operator_orders_free(&orders);
}

static void a_reroute_of_what_was_young_then_is_kept_beside_the_same_words_later(void **state)
{
    (void)state;
    struct operator_orders orders = {0};
    for (unsigned i = 0; i < 2; i++) {
        const struct operator_reroute said = reroute("domain=a younger=1h", "x", 1000 + i);
        assert_int_equal(operator_orders_reroute(&orders, &said), 0);
    }
    assert_int_equal(orders.reroute_count, 2);
    operator_orders_free(&orders);
}

static void
a_reroute_of_all_mail_takes_the_place_of_every_other_and_to_the_routes_it_leaves_none(void **state)
{
    static const char *const all[] = {"all", "all="};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct operator_orders orders = {0};
        const struct operator_reroute said[] = {reroute("site=a", "x", 1000),
                                                reroute("domain=b", "y", 1000),
                                                reroute(all[i], "z", 1001),
                                                reroute("domain=c", "w", 1002),
                                                reroute(all[i], OPERATOR_TO_ROUTES, 1001),
                                                reroute(all[i], OPERATOR_TO_ROUTES, 1003)};
        static const unsigned counts[] = {1, 2, 1, 2, 2, 0};
        for (unsigned j = 0; j < 6; j++) {
            assert_int_equal(operator_orders_reroute(&orders, &said[j]), 0);
            assert_int_equal(orders.reroute_count, counts[j]);
        }
        operator_orders_free(&orders);
    }
}

static void what_is_over_is_left_out(void **state)
{
    (void)state;
    struct operator_orders orders = {0};
    suspend(&orders, OPERATOR_OF_DOMAIN, "over.test", 2000);
    suspend(&orders, OPERATOR_OF_DOMAIN, "on.test", 2001);
    const struct operator_reroute old = reroute("domain=a", "a", 1000),
                                  young = reroute("domain=b", "b", 1001);
    assert_int_equal(operator_orders_reroute(&orders, &old), 0);
    assert_int_equal(operator_orders_reroute(&orders, &young), 0);
    operator_orders_tidy(&orders, 2000, 999);
    assert_int_equal(orders.suspension_count, 1);
    assert_string_equal(orders.suspensions[0].name, "on.test");
    assert_int_equal(orders.reroute_count, 1);
    assert_string_equal(orders.reroutes[0].to, "b");
    operator_orders_free(&orders);
}

/* ---- The file ---- */

struct place {
    char path[64];
    int folder;
    struct operator_file file;
    struct logger logger;
};

static void place_open(struct place *place)
{
    strcpy(place->path, "/tmp/operator.XXXXXX");
    assert_non_null(mkdtemp(place->path));
    place->folder = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place->folder >= 0);
    operator_file_system(&place->file, &place->folder);
    logger_open(&place->logger, -1, LOGGER_ERROR);
}

static void place_close(struct place *place)
{
    unlinkat(place->folder, OPERATOR_FILE_NAME, 0);
    unlinkat(place->folder, OPERATOR_FILE_NAME ".next", 0);
    close(place->folder);
    assert_int_equal(rmdir(place->path), 0); /* nothing else is left */
}

static void replace(const struct place *place, const char *text, int status)
{
    assert_int_equal(place->file.replace(place->file.self, text, strlen(text)), status);
}

static void the_file_is_replaced_as_a_whole_whatever_a_crash_has_left_beside_it(void **state)
{
    (void)state;
    struct place place;
    char *text;
    size_t size;
    place_open(&place);
    assert_int_equal(place.file.read(place.file.self, &text, &size), -ENOENT);
    int rest = openat(place.folder, OPERATOR_FILE_NAME ".next", O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(rest, "a torn write, longer", 20), 20);
    close(rest);
    replace(&place, "first\n", 0);
    replace(&place, "second\n", 0);
    assert_int_equal(place.file.read(place.file.self, &text, &size), 0);
    assert_string_equal(text, "second\n");
    assert_int_equal(size, 7);
    free(text);
    assert_int_equal(faccessat(place.folder, OPERATOR_FILE_NAME ".next", F_OK, 0), -1);
    place_close(&place);
}

static void what_cannot_be_written_leaves_what_was_there(void **state)
{
    (void)state;
    struct place place;
    char *text;
    size_t size;
    place_open(&place);
    replace(&place, "first\n", 0);
    assert_int_equal(mkdirat(place.folder, OPERATOR_FILE_NAME ".next", 0700), 0); /* in the way */
    replace(&place, "second\n", -EISDIR);
    assert_int_equal(place.file.read(place.file.self, &text, &size), 0);
    assert_string_equal(text, "first\n");
    free(text);
    unlinkat(place.folder, OPERATOR_FILE_NAME ".next", AT_REMOVEDIR);
    place_close(&place);
}

static void a_start_has_what_the_file_says_or_fails(void **state)
{
    (void)state;
    struct place place;
    struct operator_orders orders = {0}, loaded;
    place_open(&place);
    assert_int_equal(operator_file_load(&loaded, &place.file, place.path, &place.logger), 0);
    assert_int_equal(loaded.suspension_count, 0);
    suspend(&orders, OPERATOR_OF_DOMAIN, "a.test", 2000);
    char *text = operator_orders_write(&orders);
    replace(&place, text, 0);
    assert_int_equal(operator_file_load(&loaded, &place.file, place.path, &place.logger), 0);
    assert_string_equal(loaded.suspensions[0].name, "a.test");
    operator_orders_free(&loaded);
    text[strlen(text) - 2] = '\0';
    replace(&place, text, 0);
    assert_int_equal(operator_file_load(&loaded, &place.file, place.path, &place.logger), -EINVAL);
    free(text);
    operator_orders_free(&orders);
    place_close(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_damaged_file_is_told_by_its_line),
        cmocka_unit_test(a_suspension_of_the_same_mail_takes_the_place_of_the_other),
        cmocka_unit_test(there_are_no_more_than_their_limit_and_what_is_no_text_is_refused),
        cmocka_unit_test(
            a_reroute_of_the_same_mail_takes_the_place_of_the_other_unless_it_asks_for_a_site),
        cmocka_unit_test(a_reroute_of_what_was_young_then_is_kept_beside_the_same_words_later),
        cmocka_unit_test(
            a_reroute_of_all_mail_takes_the_place_of_every_other_and_to_the_routes_it_leaves_none),
        cmocka_unit_test(what_is_over_is_left_out),
        cmocka_unit_test(the_file_is_replaced_as_a_whole_whatever_a_crash_has_left_beside_it),
        cmocka_unit_test(what_cannot_be_written_leaves_what_was_there),
        cmocka_unit_test(a_start_has_what_the_file_says_or_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
