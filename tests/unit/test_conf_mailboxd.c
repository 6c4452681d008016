/* The mailbox service's configuration, and what does not fit together in it. */
#include "engine/conf/conf.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char file_name[] = "/tmp/tubepost-conf-mailboxd-XXXXXX";

static void write_file(const char *text, size_t size)
{
    FILE *file = fopen(file_name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void join_report(const struct conf_report *report, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < report->count; i++) {
        const char *line = report->problems[i];
        size_t prefix = strlen(file_name);
        assert_memory_equal(line, file_name, prefix);
        line += prefix + 1;
        line += *line == ' '; /* "FILE: " or "FILE:LINE:COLUMN: " */
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? "\n" : "", line);
        assert_true(used < size);
    }
}

static void the_mailbox_service_has_a_configuration_of_its_own(void **state)
{
    (void)state;
    struct mailboxd_conf *conf = NULL;
    struct conf_report report;
    assert_int_equal(mailboxd_conf_load(&conf, NULL, "mail.test", &report), 0);
    assert_string_equal(conf->hostname, "mail.test");
    assert_string_equal(conf->listen[0].addresses[0].path, "/run/tubepost/lmtp");
    assert_int_equal(conf->listen[0].protocol, CONF_PROTOCOL_LMTP);
    assert_true(conf->users.any);
    mailboxd_conf_free(conf);

    const char text[] =
        "users: {any: false, known: [alice, bob], quota_bytes: 1G}\nstore: {path: /m}";
    write_file(text, sizeof text - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    assert_false(conf->users.any);
    assert_int_equal(conf->users.known_count, 2);
    assert_string_equal(conf->users.known[1], "bob");
    assert_int_equal(conf->users.quota_bytes, 1 << 30);
    assert_string_equal(conf->imap.shared_namespace, "shared");
    assert_true(conf->imap.acl_anyone);
    assert_null(conf->imap.server_admin);
    mailboxd_conf_free(conf);
    const char imap[] = "imap: {shared_namespace: off, acl_anyone: false, server_comment: x y}";
    write_file(imap, sizeof imap - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    assert_string_equal(conf->imap.shared_namespace, "off");
    assert_false(conf->imap.acl_anyone);
    assert_string_equal(conf->imap.server_comment, "x y");
    mailboxd_conf_free(conf);

    const char bad[] = "listen:\n  - {name: x, address: [\"127.0.0.1:24\"], protocol: smtp}";
    write_file(bad, sizeof bad - 1);
    char problems[1024];
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), -EINVAL);
    join_report(&report, problems, sizeof problems);
    assert_string_equal(
        problems,
        "2:42: listen[0].protocol: 'smtp' will not do, expected lmtp, imap, pop3, sieve or auth");
}

static void who_may_ask_for_passwords_is_on_this_machine(void **state)
{
#define AUTH_AT "listen: [{name: a, address: [\"%s\"], protocol: auth%s}]\n"
    static const struct {
        const char *at, *more, *rest, *told;
    } rows[] = {
        {"unix:/run/a", "", "auth: {backends: [\"pam:x\"]}", ""},
        {"127.0.0.1:12345", "", "auth: {backends: [\"pam:x\"]}", ""},
        {"192.0.2.1:12345", "", "auth: {backends: [\"pam:x\"]}",
         "1:30: listen[0].address[0]: not with auth, expected a unix socket or an address of this "
         "machine"},
        {"unix:/run/a", "", "",
         "1:46: listen[0].protocol: nobody could log in, expected auth.backends to name users"},
        {"unix:/run/a", ", tls: required",
         "auth: {backends: [\"pam:x\"]}\ntls: {certificates: [{certificate: /c.pem, key: /c.key}]}",
         "1:62: listen[0].tls: not with auth, expected off"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mailboxd_conf *conf = NULL;
        struct conf_report report;
        char text[1024], problems[1024];
        int size =
            snprintf(text, sizeof text, AUTH_AT "%s", rows[i].at, rows[i].more, rows[i].rest);
        write_file(text, (size_t)size);
        mailboxd_conf_load(&conf, file_name, "mail.test", &report);
        join_report(&report, problems, sizeof problems);
        assert_string_equal(problems, rows[i].told);
        mailboxd_conf_free(conf);
    }
}

static void maildirs_are_read_and_delivered_into_and_scripts_are_run_there(void **state)
{
    const char readers[] = "listen: [{name: i, address: [\"127.0.0.1:143\"], protocol: imap}, "
                           "{name: p, address: [\"127.0.0.1:110\"], protocol: pop3}]\n"
                           "auth: {backends: [\"passwd-file:/u\"]}\n";
    const char scripts[] = "listen: [{name: s, address: [\"127.0.0.1:4190\"], protocol: sieve}]\n"
                           "auth: {backends: [\"passwd-file:/u\"]}\n"
                           "lmtp: {drop_duplicates: 1h}\nshards: 2\n";
    struct mailboxd_conf *conf = NULL;
    struct conf_report report;
    (void)state;
    write_file(readers, sizeof readers - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    assert_int_equal(conf->store.format, CONF_STORE_MAILDIR);
    assert_int_equal(conf->listen[1].protocol, CONF_PROTOCOL_POP3);
    mailboxd_conf_free(conf);
    write_file(scripts, sizeof scripts - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    assert_int_equal(conf->store.format, CONF_STORE_MAILDIR);
    assert_int_equal(conf->listen[0].protocol, CONF_PROTOCOL_SIEVE);
    assert_int_equal(conf->lmtp.drop_duplicates / 1000000000ull, 3600);
    assert_int_equal(conf->shards, 2);
    mailboxd_conf_free(conf);
}

static void the_mailbox_service_reads_mail_for_known_users(void **state)
{
#define IMAP_AT "listen: [{name: i, address: [\"127.0.0.1:143\"], protocol: imap%s}]\n"
#define LOG_STORE "store: {format: log}\n"
#define USERS "auth: {backends: [\"passwd-file:/u\"]}\n"
#define CERTIFICATE "tls: {certificates: [{certificate: /c.pem, key: /c.key}]}\n"
    static const struct {
        const char *more, *rest, *told;
    } rows[] = {
        {"", LOG_STORE,
         "1:48: listen[0].protocol: nobody could log in, expected auth.backends to name users"},
        {", tls: implicit", LOG_STORE USERS,
         "1:64: listen[0].tls: without a certificate, expected one in tls.certificates"},
        {", tls: required", LOG_STORE USERS,
         "1:64: listen[0].tls: without a certificate, expected one in tls.certificates"},
        {"", LOG_STORE "auth: {backends: [\"passwd:/u\"]}",
         "3:19: auth.backends[0]: 'passwd:/u' will not do, expected KIND:WHERE of a kind among "
         "passwd-file, static, pam, sqlite, pgsql, ldap, ldap-bind, lmdb and texthash"},
        {"", LOG_STORE "auth: {backends: [\"pam:\"]}",
         "3:19: auth.backends[0]: 'pam:' will not do, expected KIND:WHERE of a kind among "
         "passwd-file, static, pam, sqlite, pgsql, ldap, ldap-bind, lmdb and texthash"},
        {"", LOG_STORE "auth: {backends: [\"pam:x\"], master_separator: \"+\"}",
         "3:29: auth.master_separator: '+' will not do, expected one of * % ! |"},
        {"", LOG_STORE "auth: {backends: [\"pam:x\"], master_separator: \"*\"}",
         "3:29: auth.master_separator: alone, expected auth.masters with it"},
        {"", "store: {format: log, segment_bytes: 3000K}\n" USERS,
         "2:22: store.segment_bytes: not a whole number of frames, expected a multiple of 256K"},
        {"", "store: {format: log, max_bytes: 100M}\n" USERS,
         "2:22: store.max_bytes: too little, expected 0 or room for 5 segments of each shard"},
        {"", LOG_STORE USERS "limits: {recipients: 1001}",
         "4:10: limits.recipients: more than one delivery can name, expected at most 1000"},
        {"", USERS "limits: {recipients: 1001}",
         "3:10: limits.recipients: more than one delivery can name, expected at most 1000"},
        {"",
         LOG_STORE USERS "shards: 2\nusers: {placed: [{users: a, shard: 1}, {users: b, shard: 2}]}",
         "5:51: users.placed[1].shard: there is none, expected at most 1: see shards"},
        {"", LOG_STORE USERS "shards: 2\nusers: {placed: [{users: \"*@sales.test\", shard: 1}]}",
         "5:19: users.placed[0].users: nobody is called so, expected a name without its domain"},
        {"", LOG_STORE USERS "users: {placed: [{shard: 0}]}",
         "4:18: users.placed[0].users: missing, expected a user's name, * and ? are wild"},
        {"", "shards: 3\nstore: {format: log, max_bytes: 300M}\n" USERS,
         "3:22: store.max_bytes: too little, expected 0 or room for 5 segments of each shard"},
        {"", LOG_STORE USERS "imap: {shared_namespace: a/b}",
         "4:8: imap.shared_namespace: 'a/b' will not do, expected one level of a mailbox name, of "
         "printable ASCII, or off"},
        {"", LOG_STORE USERS "imap: {shared_namespace: inbox}",
         "4:8: imap.shared_namespace: 'inbox' will not do, expected one level of a mailbox name, "
         "of printable ASCII, or off"},
        {"", LOG_STORE USERS "limits: {message_bytes: 4G}",
         "4:10: limits.message_bytes: larger than a text can be, expected at most 4095M"},
    };
    (void)state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mailboxd_conf *conf = NULL;
        struct conf_report report;
        char text[1024], problems[1024];
        int size = snprintf(text, sizeof text, IMAP_AT "%s", rows[i].more, rows[i].rest);
        write_file(text, (size_t)size);
        int status = mailboxd_conf_load(&conf, file_name, "mail.test", &report);
        join_report(&report, problems, sizeof problems);
        if (status != -EINVAL || strcmp(problems, rows[i].told) != 0) {
            print_error("%s\n  said:     %s\n  expected: %s\n", text, problems, rows[i].told);
            wrong++;
        }
        mailboxd_conf_free(conf);
    }
    assert_int_equal(wrong, 0);
}

static void lmtp_of_the_mailbox_service_is_never_encrypted(void **state)
{
    (void)state;
    struct mailboxd_conf *conf = NULL;
    struct conf_report report;
    char problems[1024];
    const char bad[] =
        CERTIFICATE "listen: [{name: l, address: [\"127.0.0.1:24\"], tls: starttls}]\n";
    write_file(bad, sizeof bad - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), -EINVAL);
    join_report(&report, problems, sizeof problems);
    assert_string_equal(problems, "2:47: listen[0].tls: not with lmtp, expected off");
}

static void the_mailbox_service_encrypts_where_it_has_certificates(void **state)
{
    (void)state;
    struct mailboxd_conf *conf = NULL;
    struct conf_report report;
    const char text[] = LOG_STORE USERS CERTIFICATE
        "listen:\n"
        "  - {name: l, address: [\"127.0.0.1:24\"]}\n"
        "  - {name: i, address: [\"127.0.0.1:143\"], protocol: imap}\n"
        "  - {name: s, address: [\"127.0.0.1:993\"], protocol: imap, tls: implicit}\n"
        "  - {name: p, address: [\"127.0.0.1:110\"], protocol: pop3, tls: off}\n";
    write_file(text, sizeof text - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    static const uint8_t protocols[] = {CONF_PROTOCOL_LMTP, CONF_PROTOCOL_IMAP, CONF_PROTOCOL_IMAP,
                                        CONF_PROTOCOL_POP3};
    static const uint8_t tls[] = {CONF_TLS_OFF, CONF_TLS_STARTTLS, CONF_TLS_IMPLICIT, CONF_TLS_OFF};
    assert_int_equal(conf->listen_count, 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(conf->listen[i].protocol, protocols[i]);
        assert_int_equal(conf->listen[i].tls, tls[i]);
    }
    assert_int_equal(conf->store.format, CONF_STORE_LOG);
    assert_int_equal(conf->store.max_bytes, 0);
    assert_string_equal(conf->auth.backends[0], "passwd-file:/u");
    assert_null(conf->auth.backends[1]);
    assert_int_equal(conf->auth.masters_count, 0);
    assert_string_equal(conf->auth.scheme, "CRYPT");
    assert_false(conf->auth.clear_on_loopback);
    assert_string_equal(conf->tls.certificates[0].key, "/c.key");
    mailboxd_conf_free(conf);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(file_name);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(file_name);
}

static void what_scripts_may_do_and_quota_rules_are_read(void **state)
{
    (void)state;
    struct mailboxd_conf *conf = NULL;
    struct conf_report report;
    char problems[1024];
    const char good[] = "store: {format: log}\n"
                        "sieve: {relay: \"127.0.0.1:25\", max_redirects: 2, vacation_min: 0}\n"
                        "lmtp: {drop_duplicates: 1h}\n"
                        "users: {quota_rules: [{mailbox: Trash, more_bytes: 100M},"
                        " {mailbox: Spam, counted: false}]}\n";
    write_file(good, sizeof good - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), 0);
    assert_int_equal(conf->sieve.relay.port, 25);
    assert_int_equal(conf->sieve.max_redirects, 2);
    assert_int_equal(conf->sieve.keep_trying / 1000000000ull, 5 * 86400);
    assert_int_equal(conf->lmtp.drop_duplicates / 1000000000ull, 3600);
    assert_int_equal(conf->users.quota_rules_count, 2);
    assert_int_equal(conf->users.quota_rules[0].more_bytes, 100 << 20);
    assert_true(conf->users.quota_rules[0].counted);
    assert_false(conf->users.quota_rules[1].counted);
    mailboxd_conf_free(conf);

    const char bad[] =
        "sieve: {vacation_min: 90d}\nlmtp: {drop_duplicates: 1h}\n"
        "users: {quota_messages: 5, quota_rules: [{mailbox: Trash, more_messages: 1}]}\n";
    write_file(bad, sizeof bad - 1);
    assert_int_equal(mailboxd_conf_load(&conf, file_name, "mail.test", &report), -EINVAL);
    join_report(&report, problems, sizeof problems);
    assert_int_equal(report.count, 1); /* the others are of Maildirs, too */
    assert_non_null(strstr(problems, "sieve.vacation_min: more than sieve.vacation_max"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_may_ask_for_passwords_is_on_this_machine),
        cmocka_unit_test(the_mailbox_service_has_a_configuration_of_its_own),
        cmocka_unit_test(maildirs_are_read_and_delivered_into_and_scripts_are_run_there),
        cmocka_unit_test(the_mailbox_service_reads_mail_for_known_users),
        cmocka_unit_test(lmtp_of_the_mailbox_service_is_never_encrypted),
        cmocka_unit_test(the_mailbox_service_encrypts_where_it_has_certificates),
        cmocka_unit_test(what_scripts_may_do_and_quota_rules_are_read),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
