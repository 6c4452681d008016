/* The operator's maps: what each kind reads, what it refuses, what it answers. */
#include "engine/lookup/map.h"
#include <lmdb.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND_NS 1000000000ull

static char folder[] = "/tmp/map-XXXXXX";
static struct map_result result;

static const char *in_folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

/* A file of the folder with this text; "KIND:PATH" of it. */
static const char *written(const char *kind, const char *name, const char *text)
{
    static char map[160];
    FILE *file = fopen(in_folder(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    snprintf(map, sizeof(map), "%s:%s", kind, in_folder(name));
    return map;
}

static struct map *opened(const char *name)
{
    char problem[MAP_PROBLEM_MAX];
    struct map *map;
    int status = map_open(&map, name, problem);
    if (status < 0) {
        fail_msg("%s: %s", name, problem);
    }
    return map;
}

static void assert_refused(const char *name, const char *said)
{
    char problem[MAP_PROBLEM_MAX];
    struct map *map;
    assert_true(map_open(&map, name, problem) < 0);
    if (strstr(problem, said) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", problem, said);
    }
}

/* The value; "-": absent; "!": failed. */
static const char *found(struct map *map, const char *key)
{
    static char text[MAP_VALUE_MAX + 1];
    map_find(map, slice_text(key), 0, &result);
    if (result.answer != MAP_FOUND) {
        return result.answer == MAP_ABSENT ? "-" : "!";
    }
    memcpy(text, result.value, result.bytes);
    text[result.bytes] = '\0';
    return text;
}

static void a_text_file_is_read_as_postfix_reads_it(void **state)
{
    (void)state;
    struct map *map = opened(written("texthash", "virtual",
                                     "# a comment\n\n"
                                     "Info@Example.ORG  one@x.test,\n"
                                     "   # in between\n"
                                     "\ttwo@x.test\r\n"
                                     "\"a b\"@example.org\tquoted@x.test\n"
                                     "info@example.org second@x.test\n"
                                     "@example.org rest@x.test"));
    assert_string_equal(found(map, "info@example.org"), "one@x.test, \ttwo@x.test");
    assert_string_equal(found(map, "INFO@EXAMPLE.org"), "one@x.test, \ttwo@x.test");
    assert_string_equal(found(map, "\"a b\"@example.org"), "quoted@x.test");
    assert_string_equal(found(map, "@example.org"), "rest@x.test");
    assert_string_equal(found(map, "info"), "-");
    assert_string_equal(found(map, ""), "-");
    map_find(map, slice_of("info@example.org\0x", 18), 0, &result);
    assert_int_equal(result.answer, MAP_ABSENT);
    map_close(map);
    assert_refused(written("texthash", "virtual", "a b\n\nlonely\n"), "virtual:3:");
    assert_refused("texthash:/nowhere/at/all", "No such file");
    assert_refused("hash:/etc/x", "no such kind");
}

static void aliases_are_read_as_sendmail_wrote_them(void **state)
{
    (void)state;
    struct map *map = opened(written("aliases", "aliases",
                                     "postmaster: root\nRoot:\tadmin@x.test,\n  \"|/bin/true\"\n"
                                     "\"with: colon\": there\n"));
    assert_string_equal(found(map, "postmaster"), "root");
    assert_string_equal(found(map, "root"), "admin@x.test,   \"|/bin/true\"");
    assert_string_equal(found(map, "with: colon"), "there");
    map_close(map);
    assert_refused(written("aliases", "aliases", "root admin\n"), "aliases:1:");
}

static void what_is_written_inline_is_a_map(void **state)
{
    (void)state;
    struct map *map = opened("inline:{a=1, B = two words, {c=x, y}}");
    assert_string_equal(found(map, "a"), "1");
    assert_string_equal(found(map, "b"), "two words");
    assert_string_equal(found(map, "C"), "x, y");
    map_close(map);
    map_close(opened("inline:{}"));
    assert_refused("inline:a=1", "{key=value");
    assert_refused("inline:{a}", "{key=value");
}

static void patterns_are_tried_in_order_and_give_their_groups(void **state)
{
    (void)state;
    struct map *map = opened(written("pcre", "patterns",
                                     "/^(.*)\\+(.+)@(example\\.org)$/  $1@${3} tag=$(2) $$\n"
                                     "if /@inner\\.test$/\n"
                                     "!/^ok/ refused\n"
                                     "/./i kept\n"
                                     "endif\n"
                                     "/^CASE$/i sensitive\n"
                                     "|^bar/|  other delimiter\n"));
    assert_string_equal(found(map, "Jo+news@example.org"), "Jo@example.org tag=news $");
    assert_string_equal(found(map, "x@inner.test"), "refused");
    assert_string_equal(found(map, "ok@inner.test"), "kept");
    assert_string_equal(found(map, "case"), "-");
    assert_string_equal(found(map, "CASE"), "sensitive");
    assert_string_equal(found(map, "bar/x"), "other delimiter");
    map_close(map);
    static const char *const wrong[][2] = {
        {"/(/ x\n", "patterns:1:"},   {"/a/ $1\n", "group"},      {"!/(a)/ $1\n", "group"},
        {"/a/q x\n", "flag"},         {"/a/\n", "value"},         {"/a x\n", "no end"},
        {"if /a/\n/b/ c\n", "endif"}, {"endif\n", "without its"}, {"/a/ ${1 x\n", "expected"},
        {"\n# x\nplain x\n", ":3:"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_refused(written("pcre", "patterns", wrong[i][0]), wrong[i][1]);
    }
}

static void a_pattern_that_explodes_fails_and_does_not_hang(void **state)
{
    (void)state;
    char key[201];
    memset(key, 'a', 200);
    key[200] = '\0';
    struct map *map = opened(written("pcre", "patterns", "/^(([a-z])+.)+[A-Z]([a-z])+$/i x\n"));
    assert_string_equal(found(map, key), "!");
    assert_non_null(strstr(result.problem, "too long"));
    map_close(map);
}

static void networks_are_found_by_the_addresses_in_them(void **state)
{
    (void)state;
    struct map *map = opened(written("cidr", "networks",
                                     "192.0.2.7 one\n192.0.2.0/24 net\n2001:db8::/32 six\n"
                                     "!10.0.0.0/8 outside\n"));
    assert_string_equal(found(map, "192.0.2.7"), "one");
    assert_string_equal(found(map, "192.0.2.8"), "net");
    assert_string_equal(found(map, "::ffff:192.0.2.8"), "net");
    assert_string_equal(found(map, "[2001:DB8::1]"), "six");
    assert_string_equal(found(map, "10.1.2.3"), "-");
    assert_string_equal(found(map, "11.1.2.3"), "outside");
    assert_string_equal(found(map, "example.org"), "-");
    map_close(map);
    assert_refused(written("cidr", "networks", "300.0.0.0/8 x\n"), "networks:1:");
    assert_refused(written("cidr", "networks", "10.0.0.0/8\n"), "networks:1:");
}

static void a_changed_file_is_read_again_and_a_broken_one_is_not_believed(void **state)
{
    char problem[MAP_PROBLEM_MAX];
    (void)state;
    struct map *map = opened(written("texthash", "changing", "a 1\n"));
    map_find(map, slice_text("a"), SECOND_NS, &result);
    written("texthash", "changing", "a 22\n");
    map_find(map, slice_text("a"), SECOND_NS + 1, &result); /* it was looked at just now */
    assert_memory_equal(result.value, "1", 1);
    assert_int_equal(map_generation(map), 0);
    map_find(map, slice_text("a"), 3 * SECOND_NS, &result);
    assert_memory_equal(result.value, "22", 2);
    assert_int_equal(map_generation(map), 1);
    written("texthash", "changing", "broken\n");
    map_find(map, slice_text("a"), 5 * SECOND_NS, &result);
    assert_memory_equal(result.value, "22", 2);
    map_problem(map, problem);
    assert_non_null(strstr(problem, "changing:1:"));
    unlink(in_folder("changing"));
    map_find(map, slice_text("a"), 7 * SECOND_NS, &result);
    assert_int_equal(result.answer, MAP_FOUND);
    map_problem(map, problem);
    assert_non_null(strstr(problem, "No such file"));
    written("texthash", "changing", "a 333\n");
    map_find(map, slice_text("a"), 9 * SECOND_NS, &result);
    assert_memory_equal(result.value, "333", 3);
    map_problem(map, problem);
    assert_string_equal(problem, "");
    map_close(map);
}

static void sqlite_do(const char *sql)
{
    sqlite3 *database;
    assert_int_equal(sqlite3_open(in_folder("users.db"), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

static const char *sqlite_file(const char *more)
{
    char text[512], path[128];
    snprintf(path, sizeof(path), "%s", in_folder("users.db"));
    snprintf(text, sizeof(text), "dbpath = %s\n%s", path, more);
    return written("sqlite", "users.cf", text);
}

static void sqlite_answers_and_no_key_is_more_than_data(void **state)
{
    (void)state;
    sqlite_do("create table u (name, goto); insert into u values ('jo@x.test','a@y.test'),"
              "('jo@x.test','b@y.test'), ('o''neill@x.test','c@y.test'), ('empty@x.test','');");
    struct map *map =
        opened(sqlite_file("query = select goto from u where name = '%s' order by 1\n"));
    assert_string_equal(found(map, "JO@x.test"), "a@y.test,b@y.test");
    assert_string_equal(found(map, "o'neill@x.test"), "c@y.test");
    assert_string_equal(found(map, "empty@x.test"), "-");
    assert_string_equal(found(map, "' or 1=1--"), "-");
    assert_string_equal(found(map, "'; drop table u;--"), "-");
    assert_string_equal(found(map, "jo@x.test"), "a@y.test,b@y.test");
    map_close(map);
    map = opened(sqlite_file(
        "query = select goto from u where name = '%u@%d' and '%1' = 'test' and 1 like '%%'\n"
        "result_format = smtp:[%d] for %U\ndomain = other.test, X.test\n"
        "expansion_limit = 1\n"));
    assert_string_equal(found(map, "o'neill@x.test"), "smtp:[y.test] for o'neill");
    assert_string_equal(found(map, "jo@x.test"), "!");
    assert_string_equal(found(map, "jo@y.test"), "-");
    assert_string_equal(found(map, "jo"), "-");
    map_close(map);
    assert_refused(sqlite_file("query = select 1\nquery = select 2\n"), "users.cf:3:");
    assert_refused(sqlite_file("querry = select 1\n"), "\"query\" is missing");
    assert_refused(sqlite_file("nonsense\n"), "users.cf:2:");
    map = opened(sqlite_file("query = select nothing from nowhere\n"));
    assert_string_equal(found(map, "jo@x.test"), "!");
    map_close(map);
}

static void lmdb_put(const char *name, const char *key, size_t key_bytes, const char *value,
                     size_t value_bytes)
{
    MDB_env *environment;
    MDB_txn *transaction;
    MDB_dbi database;
    MDB_val k = {key_bytes, (void *)(uintptr_t)key}, v = {value_bytes, (void *)(uintptr_t)value};
    assert_int_equal(mdb_env_create(&environment), 0);
    assert_int_equal(mdb_env_open(environment, in_folder(name), MDB_NOSUBDIR | MDB_NOLOCK, 0600),
                     0);
    assert_int_equal(mdb_txn_begin(environment, NULL, 0, &transaction), 0);
    assert_int_equal(mdb_dbi_open(transaction, NULL, MDB_CREATE, &database), 0);
    assert_int_equal(mdb_put(transaction, database, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(transaction), 0);
    mdb_env_close(environment);
}

static void lmdb_is_read_with_and_without_a_nul_and_when_it_is_replaced(void **state)
{
    char name[160], longest[MAP_KEY_MAX + 2];
    (void)state;
    lmdb_put("v.lmdb", "jo@x.test", 10, "a@y.test", 9); /* as postmap does */
    lmdb_put("v.lmdb", "al@x.test", 9, "b@y.test", 8);
    snprintf(name, sizeof(name), "lmdb:%s", in_folder("v"));
    struct map *map = opened(name);
    assert_string_equal(found(map, "Jo@x.test"), "a@y.test");
    assert_string_equal(found(map, "al@x.test"), "b@y.test");
    assert_string_equal(found(map, "no@x.test"), "-");
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_string_equal(found(map, longest), "-");
    longest[MAP_KEY_MAX] = '\0';
    assert_string_equal(found(map, longest), "-");
    lmdb_put("v.lmdb", "no@x.test", 9, "c@y.test", 8); /* in place */
    assert_string_equal(found(map, "no@x.test"), "c@y.test");
    lmdb_put("w.lmdb", "no@x.test", 9, "d@y.test", 8);
    char from[128];
    snprintf(from, sizeof(from), "%s", in_folder("w.lmdb"));
    assert_int_equal(rename(from, in_folder("v.lmdb")), 0);
    assert_string_equal(found(map, "no@x.test"), "d@y.test");
    assert_string_equal(found(map, "jo@x.test"), "-");
    unlink(in_folder("v.lmdb"));
    assert_string_equal(found(map, "no@x.test"), "!"); /* not known is not absent */
    map_close(map);
    snprintf(name, sizeof(name), "lmdb:%s", in_folder("none.lmdb"));
    assert_refused(name, "none.lmdb");
}

static void a_database_that_does_not_answer_is_a_failure(void **state)
{
    (void)state;
    struct map *map = opened(written("pgsql", "pg.cf",
                                     "hosts = unix:/nowhere, 127.0.0.1:1\nuser = u\npassword = p\n"
                                     "dbname = d\nquery = select '%s'\n"));
    assert_string_equal(found(map, "a@b.test"), "!");
    assert_string_not_equal(result.problem, "");
    map_close(map);
    map = opened(written("ldap", "ldap.cf",
                         "server_host = ldap://127.0.0.1:1\nsearch_base = dc=x\n"
                         "tls_ca_cert_file = /etc/ssl/certs/ca-certificates.crt\n"
                         "query_filter = (mail=%s)\ntimeout = 2\n"));
    assert_string_equal(found(map, "a@b.test"), "!");
    assert_string_not_equal(result.problem, "");
    map_close(map);
    assert_refused(written("pgsql", "pg.cf", "query = select 1\n"), "\"dbname\" is missing");
    assert_refused(written("ldap", "ldap.cf", "query_filter = (a=%s)\n"),
                   "\"search_base\" is missing");
    assert_refused(written("ldap", "ldap.cf", "query_filter = x\nsearch_base = y\nscope = all\n"),
                   "scope");
    assert_refused(
        written("ldap", "ldap.cf", "query_filter = x\nsearch_base = y\nstart_tls = true\n"),
        "start_tls: yes or no is expected"); /* has meant: in the clear */
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[160];
    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_file_is_read_as_postfix_reads_it),
        cmocka_unit_test(aliases_are_read_as_sendmail_wrote_them),
        cmocka_unit_test(what_is_written_inline_is_a_map),
        cmocka_unit_test(patterns_are_tried_in_order_and_give_their_groups),
        cmocka_unit_test(a_pattern_that_explodes_fails_and_does_not_hang),
        cmocka_unit_test(networks_are_found_by_the_addresses_in_them),
        cmocka_unit_test(a_changed_file_is_read_again_and_a_broken_one_is_not_believed),
        cmocka_unit_test(sqlite_answers_and_no_key_is_more_than_data),
        cmocka_unit_test(lmdb_is_read_with_and_without_a_nul_and_when_it_is_replaced),
        cmocka_unit_test(a_database_that_does_not_answer_is_a_failure),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
