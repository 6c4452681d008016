/* Addresses with their names, groups and routes. */
#include "proto/message/address_reader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static size_t put(char *out, size_t used, const char *before, struct slice text)
{
    return used + (size_t)snprintf(out + used, 512 - used, "%s%.*s",
                                   text.bytes != NULL ? before : "", (int)text.size,
                                   (const char *)text.bytes);
}

/* "name<route:local@domain>|..."; "{name" and "}": a group; "!": broken; "?": an address of nothing. */
static void read_all(const char *text, char out[512])
{
    struct arena arena;
    struct address *list = NULL;
    size_t used = 0;
    arena_open(&arena, 1 << 20);
    address_read(&arena, slice_text(text), &list);
    out[0] = '\0';
    for (const struct address *address = list; address != NULL; address = address->next) {
        used = put(out, used, "", slice_text(used > 0 ? "|" : ""));
        used = put(out, used, "",
                   slice_text(address->kind == ADDRESS_GROUP       ? "{"
                              : address->kind == ADDRESS_GROUP_END ? "}"
                                                                   : ""));
        used = put(out, used, "", address->name);
        if (address->kind == ADDRESS_MAILBOX) {
            used = put(out, used, "<", slice_text(""));
            used = put(out, used, "", address->route);
            used = put(out, used, "", slice_text(address->route.bytes != NULL ? ":" : ""));
            used = put(out, used, "", address->local);
            used = put(out, used, "@", address->domain);
            used = put(out, used, address->broken || address->route_broken ? "!>" : ">",
                       slice_text(""));
        }
    }
    arena_close(&arena);
}

static const struct {
    const char *text, *found;
} fields[] = {
    {"a@b.test", "<a@b.test>"},
    {" a@b.test ,c@d.test\r\n\te@f.test", "<a@b.test>|<c@d.test>"},
    {"Ann <a@b.test>, \"Doe, John\" <j@d.test> (work)", "Ann<a@b.test>|Doe, John<j@d.test>"},
    {"friends: a@b.test, B <b@c.test>;, d@e.test", "{friends|<a@b.test>|B<b@c.test>|}|<d@e.test>"},
    {"undisclosed-recipients:;", "{undisclosed-recipients|}"},
    {"undisclosed recipients: ;", "{undisclosed recipients|}"},
    {"group: a@b", "{group|<a@b>|}"},
    {":;", "{|}"},
    {"<@relay.test,@other.test:a@b.test>", "<@relay.test,@other.test:a@b.test>"},
    {"Name <@a:c@d>", "Name<@a:c@d>"},
    {"<@a (x) , (y) , @b . c (z): (w) c@d>", "<@a,@b.c:c@d>"},
    {"<@a:c>", "<@a:c>"},
    {"\"a b\"@c.test, <\"x,y\"@d.test>", "<a b@c.test>|<x,y@d.test>"},
    {"a(comment (in it) \\) )@b.test", "comment (in it) ) <a@b.test>"},
    {"a@b.test (Real Name)", "Real Name<a@b.test>"},
    {"a@b (c1) (c2)", "c2<a@b>"},
    {"\"quoted\" (cmt) <a@b>", "quoted<a@b>"},
    {"root", "<root>"},
    {"foo (bar)", "bar<foo>"},
    {"Name <foo>", "Name<foo>"},
    {"", ""},
    {"(only comment)", ""},
    {" , ,, ", "<>|<>|<>"},
    {"<>", "<>"},
    {"Name <>", "Name<>"},
    {"<", "<!>"},
    {"Name <", "Name<!>"},
    {"a@b.test, (no end", "<a@b.test>"},
    {"a@b.test, \"no end", "<a@b.test>|<>"},
    {"<a@b.test", "<a@b.test!>"},
    {"<a@b.test; c@d.test", "<a@b.test!>"},
    {"Name <a@b>,Name2 <c@d", "Name<a@b>|Name2<c@d!>"},
    {"<foo@baz, bar@x>", "<foo@baz!>|<bar@x>"},
    {"<@b>", "<!>"},
    {"<a@>", "<a!>"},
    {"<<a@b>>", "<!>"},
    {"<mailto:a@b>", "<mailto!>"},
    {"j\303\266rg@b.test", "<j\303\266rg@b.test>"},
    {"J\303\266rg \303\226 <j@b.test>", "J\303\266rg \303\226<j@b.test>"},
    {"=?utf-8?q?J=C3=B6rg?= <j@b.test>", "=?utf-8?q?J=C3=B6rg?=<j@b.test>"},
    {"\"=?utf-8?q?J=C3=B6rg?=\" <j@b.test>", "=?utf-8?q?J=C3=B6rg?=<j@b.test>"},
    {"a@[192.0.2.1], <b@[IPv6:2001:db8::1]>", "<a@[192.0.2.1]>|<b@[IPv6:2001:db8::1]>"},
    {"a@[192.0.2.1", "<a>"},
    {"a . b@c . d", "<a.b@c.d>"},
    {"a.b.@c.d, .x@y, x..z@y", "<a.b.@c.d>|<.x@y>|<x..z@y>"},
    {"x@y., x@.y, x@a..b", "<x>|<x>|<x>"},
    {"A. B. Smith <a@b>", "A. B. Smith<a@b>"},
    {"\"A \\\"q\\\" B\" <a@b>", "A \"q\" B<a@b>"},
    {"A \"b\" c <a@b>", "A b c<a@b>"},
    {"Foo\tBar   Baz <a@b>", "Foo Bar Baz<a@b>"},
    {"Foo\r\n Bar <a@b>", "Foo Bar<a@b>"},
    {"\"Foo\r\n Bar\" <a@b>", "Foo Bar<a@b>"},
    {"<a@b> <c@d>", "<a@b>"},
    {"a@b c@d", "<a@b>"},
    {"a b c", "a b c<>"},
    {"a b@c", "a<b@c>"},
    {"a@", "<a>"},
    {"@b", "<@b>"},
    {"a@b@c", "<a@b>"},
    {"g:;h:;", "{g|}"},
    {"g: a@b, h: c@d;;", "{g|<a@b>|<h>|}"},
    {";", "<>"},
    {"a@b;c@d", "<a@b>"},
    {"\"\" <a@b>", "<a@b>"},
    {"\"\"@b", "<@b>"},
    {"Foo, Bar <a@b>", "<Foo>|Bar<a@b>"},
    {"foo/bar@baz", "<foo/bar@baz>"},
    /* RFC 5322 appendix A.1.3, A.5, A.6.1 */
    {"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
     "{A Group|Ed Jones<c@a.test>|<joe@where.test>|John<jdoe@one.test>|}"},
    {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete<pete@silly.test>"},
    {"A Group(Some people)\r\n :Chris Jones <c@(Chris's host.)public.example>,\r\n "
     "joe@example.org,\r\n"
     " John <jdoe@one.test> (my dear friend); (the end of the group)",
     "{A Group|Chris Jones<c@public.example>|<joe@example.org>|John<jdoe@one.test>|}"},
    {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;", "{Hidden recipients|}"},
    {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
     "Mary Smith<@node.test:mary@example.net>|<>|<jdoe@test.example>"},
};

static void addresses_are_read_with_all_that_stands_beside_them(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char found[512];
        read_all(fields[i].text, found);
        assert_string_equal(found, fields[i].found);
    }
}

static void any_beginning_of_a_field_can_be_read(void **state)
{
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        for (size_t size = 0; size < strlen(fields[i].text); size++) {
            char found[512];
            snprintf(text, size + 1, "%s", fields[i].text);
            read_all(text, found);
            assert_true(strlen(found) <= 8 * size + 8);
        }
    }
}

static void many_routes_take_no_more_than_their_text(void **state)
{
    static char text[60000];
    struct arena arena;
    struct address *list = NULL;
    size_t count = 0;
    (void)state;
    for (size_t i = 0; i + 6 < sizeof(text); i += 6) {
        memcpy(text + i, "<@a:b,", 6);
    }
    arena_open(&arena, 4u << 20);
    address_read(&arena, slice_text(text), &list);
    for (const struct address *address = list; address != NULL; address = address->next) {
        count++;
    }
    assert_int_equal(count, 9999);
    arena_close(&arena);
}

static void lists_are_joined_and_end_where_the_arena_does(void **state)
{
    struct arena arena;
    struct address *list = NULL, **end = &list;
    size_t count = 0;
    (void)state;
    arena_open(&arena, 4096);
    end = address_read(&arena, slice_text("a@b"), end);
    end = address_read(&arena, slice_text("c@d"), end);
    assert_true(slice_equal(list->next->local, slice_text("c")));
    for (size_t i = 0; i < 100; i++) {
        end = address_read(&arena, slice_text("e@f, g@h"), end);
    }
    for (const struct address *address = list; address != NULL; address = address->next) {
        count++;
    }
    assert_true(count > 4 && count < 60);
    arena_close(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_with_all_that_stands_beside_them),
        cmocka_unit_test(any_beginning_of_a_field_can_be_read),
        cmocka_unit_test(many_routes_take_no_more_than_their_text),
        cmocka_unit_test(lists_are_joined_and_end_where_the_arena_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
