/* Names in filters and distinguished names: what comes from outside is data and nothing else. */
#include "engine/lookup/ldap_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void what_would_be_syntax_is_written_in_hexadecimal(void **state)
{
    static const struct {
        const char *text, *filter, *name;
    } rows[] = {
        {"tim@home.test", "tim@home.test", "tim@home.test"},
        {"", "", ""},
        {"*", "\\2a", "\\2a"},
        {"a)(uid=*", "a\\29\\28uid=\\2a", "a\\29\\28uid\\3d\\2a"},
        {"a,dc=test", "a,dc=test", "a\\2cdc\\3dtest"},
        {" #\"+;<>\\", " #\"+;<>\\5c", "\\20\\23\\22\\2b\\3b\\3c\\3e\\5c"},
        {"\x01\n", "\\01\\0a", "\\01\\0a"},
        {"t\xc3\xafm_x-Y9", "t\xc3\xafm_x-Y9", "t\xc3\xafm_x-Y9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char to[64];
        size_t size = ldap_escape_filter(NULL, to, sizeof(to), slice_text(rows[i].text));
        assert_true(slice_equal(slice_of(to, size), slice_text(rows[i].filter)));
        size = ldap_escape_name(NULL, to, sizeof(to), slice_text(rows[i].text));
        assert_true(slice_equal(slice_of(to, size), slice_text(rows[i].name)));
    }
}

static void what_does_not_fit_is_said_so(void **state)
{
    char to[6];
    (void)state;
    assert_int_equal(ldap_escape_filter(NULL, to, 6, slice_text("**")), 6);
    assert_int_equal(ldap_escape_filter(NULL, to, 5, slice_text("**")), SIZE_MAX);
    assert_int_equal(ldap_escape_name(NULL, to, 2, slice_text("=")), SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_be_syntax_is_written_in_hexadecimal),
        cmocka_unit_test(what_does_not_fit_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
