/* The mailboxes of a To: field. */
#include "proto/message/address_list.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* "a@b|c@d", and "!" for one that cannot be read. */
static void names(const char *text, char found[512])
{
    struct slice list = slice_text(text);
    char mailbox[40];
    size_t size, used = 0;
    found[0] = '\0';
    for (int status; (status = address_list_next(&list, mailbox, sizeof(mailbox), &size)) != 0;) {
        used += (size_t)snprintf(found + used, 512 - used, "%s%.*s", used > 0 ? "|" : "",
                                 status == 1 ? (int)size : 1, status == 1 ? mailbox : "!");
        if (status == -EINVAL) {
            assert_int_equal(list.size, 0);
            break;
        }
    }
}

static void mailboxes_are_found_in_all_that_stands_around_them(void **state)
{
    static const struct {
        const char *text, *found;
    } lists[] = {
        {"a@b.test", "a@b.test"},
        {" a@b.test ,c@d.test\r\n\te@f.test", "a@b.test|c@d.teste@f.test"},
        {"a@b.test,\r\n c@d.test", "a@b.test|c@d.test"},
        {"Ann <a@b.test>, \"Doe, John\" <j@d.test> (work)", "a@b.test|j@d.test"},
        {"friends: a@b.test, B <b@c.test>;, d@e.test", "a@b.test|b@c.test|d@e.test"},
        {"undisclosed-recipients:;", ""},
        {"<@relay.test,@other.test:a@b.test>", "a@b.test"},
        {"\"a b\"@c.test, <\"x,y\"@d.test>", "\"a b\"@c.test|\"x,y\"@d.test"},
        {"a(comment (in it) \\) )@b.test", "a@b.test"},
        {"root", "root"},
        {"", ""},
        {" , ,, ", ""},
        {"<>", ""},
        {"a@b.test, (no end", "a@b.test|!"},
        {"a@b.test, \"no end", "a@b.test|!"},
        {"<a@b.test", "!"},
        {"<a@b.test; c@d.test", "!"},
        {"0123456789012345678901234567890123456789@too.long, a@b.test", "!|a@b.test"},
        {"j\303\266rg@b.test", "j\303\266rg@b.test"},
        {"a@[192.0.2.1], <b@[IPv6:2001:db8::1]>", "a@[192.0.2.1]|b@[IPv6:2001:db8::1]"},
        {"a@[192.0.2.1", "!"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char found[512];
        names(lists[i].text, found);
        assert_string_equal(found, lists[i].found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mailboxes_are_found_in_all_that_stands_around_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
