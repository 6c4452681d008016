/* The two forms of an internationalised domain name. */
#include "engine/conf/idna.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static void each_form_leads_to_the_other(void **state)
{
    static const struct {
        const char *domain, *other, *why;
    } rows[] = {
        {"bücher.example", "xn--bcher-kva.example", "U-labels have A-labels"},
        {"xn--bcher-kva.example", "bücher.example", "and the reverse"},
        {"XN--BCHER-KVA.Example", "bücher.example", "whatever the case"},
        {"BÜCHER.Example", "xn--bcher-kva.example", "also of UTF-8"},
        {"bu\xcc\x88"
         "cher.example",
         "xn--bcher-kva.example", "decomposed: the same name (NFC)"},
        {"straße.example", "xn--strae-oqa.example", "not strasse: IDNA2008"},
        {"mail.bücher.example", "mail.xn--bcher-kva.example", "some labels only"},
        {"example.org", NULL, "ASCII has one form"},
        {"axn--b.example", NULL, "the prefix begins a label"},
        {"xn--.example", NULL, "no A-label"},
        {"xn--\x80.example", NULL, "neither form"},
        {"", NULL, "nothing"},
        {"\xff\xfe.example", NULL, "not UTF-8"},
        {"[192.0.2.1]", NULL, "no domain"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[IDNA_TEXT_MAX + 1];
        struct slice made;
        bool has = idna_other_form(slice_text(rows[i].domain), text, &made);
        if (has != (rows[i].other != NULL) ||
            (has && !slice_equal(made, slice_text(rows[i].other)))) {
            fail_msg("%s: %s: %s", rows[i].domain, has ? text : "none", rows[i].why);
        }
    }
}

static void a_domain_with_a_nul_or_too_long_has_no_other_form(void **state)
{
    char text[IDNA_TEXT_MAX + 1], name[3000];
    struct slice made;
    (void)state;
    assert_false(idna_other_form(slice_of("b\xc3\xbc\0x", 5), text, &made));
    for (size_t i = 0; i + 2 < sizeof(name); i += 2) {
        memcpy(name + i, i % 60 == 58 ? "a." : "\xc3\xbc", 2);
    }
    assert_false(idna_other_form(slice_of(name, 2900), text, &made));
    assert_false(idna_other_form(slice_of(name, 900), text, &made)); /* too long in A-labels */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_leads_to_the_other),
        cmocka_unit_test(a_domain_with_a_nul_or_too_long_has_no_other_form),
    };
    return cmocka_run_group_tests_name("idna", tests, NULL, NULL);
}
