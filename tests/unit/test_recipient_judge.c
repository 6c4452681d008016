#include "engine/relay/recipient_judge.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static struct relay_conf *load(const char *text)
{
    static struct conf_report report;
    struct relay_conf *conf = NULL;
    char name[] = "/tmp/judge-test-XXXXXX";
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_int_equal(relay_conf_load(&conf, name, "relay.test", &report), 0);
    unlink(name);
    return conf;
}

struct judged {
    const char *path;
    bool trusted;
    unsigned code; /* 0: accepted */
    const char *status, *text;
};

static void judge_all(const struct relay_conf *conf, const struct judged *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct smtp_path path;
        struct smtp_verdict verdict = {0};
        size_t used;
        assert_int_equal(smtp_path_parse(&path, slice_text(cases[i].path), &used), SMTP_PATH_GOOD);
        bool good = recipient_judge(conf, cases[i].trusted, &path, &verdict);
        if (good != (cases[i].code == 0) || verdict.code != cases[i].code) {
            fail_msg("%s: %u, expected %u", cases[i].path, verdict.code, cases[i].code);
        }
        if (cases[i].text != NULL) {
            assert_string_equal(verdict.status, cases[i].status);
            assert_true(slice_equal(verdict.text, slice_text(cases[i].text)));
        }
    }
}

static void a_stranger_may_send_where_a_route_allows_it_and_a_client_anywhere(void **state)
{
    (void)state;
    static const char denied[] = "Relay access denied";
    static const char routing[] = "Routing inside the local part is not for strangers";
    static const struct judged cases[] = {
        {"<u@ours.test>", false, 0, NULL, NULL},
        {"<u@away.test>", false, 554, "5.7.1", denied},
        {"<u@away.test>", true, 0, NULL, NULL},
        {"<u@backup.test>", false, 554, "5.7.1",
         denied}, /* by MX: for clients, unless it says so */
        {"<u@second.test>", false, 0, NULL, NULL},
        {"<u@void.test>", false, 0, NULL, NULL},
        {"<u%victim.test@ours.test>", false, 554, "5.7.1", routing},
        {"<u%victim.test@ours.test>", true, 0, NULL, NULL},
        {"<u@[192.0.2.1]>", false, 554, "5.7.1", denied},
        {"<u@[192.0.2.1]>", true, 0, NULL, NULL},
    };
    struct relay_conf *conf = load("routes:\n"
                                   "  - {match: ours.test, via: lmtp, to: [\"unix:/x\"]}\n"
                                   "  - {match: backup.test, via: mx}\n"
                                   "  - {match: second.test, via: mx, accept_from: anyone}\n"
                                   "  - {match: void.test, via: discard}\n"
                                   "  - {match: \"*\", via: mx}\n");
    judge_all(conf, cases, sizeof(cases) / sizeof(cases[0]));
    relay_conf_free(conf);
}

static void whom_a_route_refuses_is_told_so_in_the_session(void **state)
{
    (void)state;
    static const struct judged cases[] = {
        {"<gone@ours.test>", false, 551, "5.1.6", "They have moved"},
        {"<GONE@ours.test>", true, 551, "5.1.6", "They have moved"},
        {"<spam-7@ours.test>", false, 450, "4.7.1", "Not now"},
        {"<u@ours.test>", false, 0, NULL, NULL},
        {"<u@away.test>", false, 550, "5.7.1", "We do not relay"},
    };
    struct relay_conf *conf =
        load("routes:\n"
             "  - {match: ours.test, via: lmtp, to: [\"unix:/x\"]}\n"
             "  - {match: gone@ours.test, via: error, reply: \"551 5.1.6 They have moved\"}\n"
             "  - {match: spam-7@ours.test, via: error, reply: \"450 4.7.1 Not now\"}\n"
             "  - {match: \"*\", via: error, reply: \"550 5.7.1 We do not relay\"}\n");
    judge_all(conf, cases, sizeof(cases) / sizeof(cases[0]));
    relay_conf_free(conf);
}

static void a_domain_without_a_route_is_refused_in_the_session_to_everybody(void **state)
{
    (void)state;
    static const char denied[] = "Relay access denied";
    static const struct judged cases[] = {
        {"<u@ours.test>", false, 0, NULL, NULL},
        {"<u@away.test>", false, 554, "5.7.1", denied},
        {"<u@away.test>", true, 554, "5.7.1", denied},
        {"<u@sub.ours.test>", true, 554, "5.7.1", denied},
    };
    struct relay_conf *conf =
        load("routes:\n  - {match: ours.test, via: lmtp, to: [\"unix:/x\"]}\n");
    judge_all(conf, cases, sizeof(cases) / sizeof(cases[0]));
    relay_conf_free(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stranger_may_send_where_a_route_allows_it_and_a_client_anywhere),
        cmocka_unit_test(a_domain_without_a_route_is_refused_in_the_session_to_everybody),
        cmocka_unit_test(whom_a_route_refuses_is_told_so_in_the_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
