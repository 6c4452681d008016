/* The directory of users: every backend that needs no server, masters, what is remembered, and who fails. */
#include "engine/auth/directory.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND_NS 1000000000ull

static char folder[64];
static struct directory *directory;
static struct logger logger;
static int log_pipe[2];
static uint64_t now_ns;

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const struct world world = {.random = random_fill};

static const char *path_of(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void file_write(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/test_directory.XXXXXX");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(pipe(log_pipe), 0);
    logger_open(&logger, log_pipe[1], LOGGER_INFO);
    directory = NULL;
    now_ns = 1000 * SECOND_NS;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"users", "new", "users.db", "users.cf", "service", "check"};
    (void)state;
    if (directory != NULL) {
        directory_close(directory);
    }
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        unlink(path_of(names[i]));
    }
    close(log_pipe[0]);
    close(log_pipe[1]);
    return rmdir(folder);
}

static const char *logged(void)
{
    static char text[4096];
    ssize_t size = read(log_pipe[0], text, sizeof(text) - 1);
    text[size < 0 ? 0 : size] = '\0';
    return text;
}

static void open_with(const char *backend, const struct directory_settings *more)
{
    char problem[BACKEND_PROBLEM_MAX];
    const char *const backends[] = {backend, NULL};
    struct directory_settings settings = *more;
    settings.backends = backends;
    settings.world = &world;
    settings.logger = &logger;
    settings.scheme = "PLAIN";
    if (directory_open(&directory, &settings, problem) != 0) {
        fail_msg("%s: %s", backend, problem);
    }
}

static struct auth_answer ask_as(enum auth_ask_kind kind, const char *authid, const char *authzid,
                                 const char *password)
{
    static uint8_t host;
    struct auth_answer answer;
    const struct auth_ask ask = {
        .kind = kind,
        .credential = AUTH_SCRAM_SHA_256,
        .method = "PLAIN",
        .authid = slice_text(authid),
        .authzid = slice_text(authzid),
        .password = slice_text(password),
        .address = {.octets = {192, 0, 2, host}},
    };
    directory_answer(directory, &ask, now_ns, &answer);
    return answer;
}

static enum auth_outcome verify(const char *user, const char *password)
{
    return ask_as(AUTH_VERIFY, user, "", password).outcome;
}

/* What every backend must do that has tim with "secret" in it. */
static void tim_is_known(void)
{
    assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
    assert_int_equal(verify("TIM", "secret"), AUTH_RIGHT);
    assert_int_equal(verify("tim", "Secret"), AUTH_WRONG);
    assert_int_equal(verify("tim", ""), AUTH_WRONG);
    assert_int_equal(verify("tom", "secret"), AUTH_WRONG);
    assert_int_equal(verify("", "secret"), AUTH_WRONG);
    assert_int_equal(verify("../tim", "secret"), AUTH_WRONG);
    assert_int_equal(verify("tim'--", "secret"), AUTH_WRONG);
    assert_int_equal(verify("tim:{PLAIN}secret", "secret"), AUTH_WRONG);
}

static const struct directory_settings plain_settings = {.penalty = {.block_after = UINT32_MAX}};

#define SHA256_SECRET "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols="

static void users_in_the_configuration_come_in(void **state)
{
    (void)state;
    open_with("static:tim:{PLAIN}secret\nann:" SHA256_SECRET "\n", &plain_settings);
    tim_is_known();
    assert_int_equal(verify("ann", "secret"), AUTH_RIGHT);
}

static void users_in_a_file_come_in_with_their_fields_and_again_when_it_has_changed(void **state)
{
    char name[128];
    struct auth_answer answer;
    (void)state;
    file_write("users", "# who\n\ntim:" SHA256_SECRET ":500:501::/home/tim::quota=1G space=a b\r\n"
                        "none:\nodd:{NEW}x\n");
    snprintf(name, sizeof(name), "passwd-file:%s", path_of("users"));
    const struct directory_settings remembering = {.penalty = {.block_after = UINT32_MAX},
                                                   .right_ns = 3600 * SECOND_NS,
                                                   .wrong_ns = 3600 * SECOND_NS};
    open_with(name, &remembering);
    tim_is_known();
    answer = ask_as(AUTH_VERIFY, "Tim", "", "secret");
    assert_string_equal(answer.user, "tim");
    assert_string_equal(answer.fields.uid, "500");
    assert_string_equal(answer.fields.gid, "501");
    assert_string_equal(answer.fields.home, "/home/tim");
    assert_string_equal(answer.fields.extra, "quota=1G space=a b");
    assert_string_equal(answer.fields.stored, "");
    assert_int_equal(verify("none", "x"), AUTH_WRONG);
    assert_int_equal(verify("odd", "x"), AUTH_WRONG);
    file_write("new", "tim:{PLAIN}other\n");
    assert_int_equal(rename(path_of("new"), path_of("users")), 0);
    now_ns += 2 * SECOND_NS;
    assert_int_equal(verify("tim", "secret"), AUTH_WRONG); /* though it was remembered */
    assert_int_equal(verify("tim", "other"), AUTH_RIGHT);
    file_write("users", "this is no file of users\n");
    now_ns += 2 * SECOND_NS;
    assert_int_equal(verify("tim", "other"), AUTH_RIGHT);
}

static void a_file_that_is_wrong_is_not_opened(void **state)
{
    static const char *const texts[] = {"tim\n", ":{PLAIN}x\n", "tim:a\nann:b\nTIM:c\n"};
    char name[128], problem[BACKEND_PROBLEM_MAX];
    const char *backends[] = {name, NULL};
    (void)state;
    const struct directory_settings settings = {
        .backends = backends, .world = &world, .logger = &logger};
    snprintf(name, sizeof(name), "passwd-file:%s", path_of("users"));
    assert_int_equal(directory_open(&directory, &settings, problem), -ENOENT);
    assert_memory_equal(problem, name, strlen(name)); /* which of them it is */
    for (unsigned i = 0; i < 3; i++) {
        file_write("users", texts[i]);
        assert_int_equal(directory_open(&directory, &settings, problem), -EINVAL);
        assert_string_not_equal(problem, "");
    }
    snprintf(name, sizeof(name), "ldapx:what");
    assert_int_equal(directory_open(&directory, &settings, problem), -EINVAL);
    directory = NULL;
}

static void users_in_sqlite_come_in(void **state)
{
    char name[128], text[512];
    sqlite3 *database;
    (void)state;
    assert_int_equal(sqlite3_open(path_of("users.db"), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database,
                                  "CREATE TABLE users(name, password, home);"
                                  "INSERT INTO users VALUES('tim', '{PLAIN}secret', '/home/tim');"
                                  "INSERT INTO users VALUES('o''neil', 'secret', '/');",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(database);
    snprintf(
        text, sizeof(text),
        "dbpath = %s\nquery = SELECT password || ':5:6::' || home FROM users WHERE name='%%s'\n",
        path_of("users.db"));
    file_write("users.cf", text);
    snprintf(name, sizeof(name), "sqlite:%s", path_of("users.cf"));
    open_with(name, &plain_settings);
    tim_is_known();
    assert_int_equal(verify("o'neil", "secret"), AUTH_RIGHT);
    assert_string_equal(ask_as(AUTH_VERIFY, "tim", "", "secret").fields.home, "/home/tim");
    assert_int_equal(unlink(path_of("users.db")), 0);
}

static void a_database_out_of_reach_is_no_wrong_password(void **state)
{
    char name[128];
    struct auth_answer answer;
    (void)state;
    file_write("users.cf", "dbpath = /nonexistent/users.db\nquery = SELECT '%s'\n");
    snprintf(name, sizeof(name), "sqlite:%s", path_of("users.cf"));
    open_with(name, &plain_settings);
    answer = ask_as(AUTH_VERIFY, "tim", "", "secret");
    assert_int_equal(answer.outcome, AUTH_UNKNOWN);
    assert_int_equal(answer.delay_ns, 0);
    assert_int_equal(ask_as(AUTH_CREDENTIAL, "tim", "", "").outcome, AUTH_UNKNOWN);
    assert_non_null(strstr(logged(), "cannot be opened"));
}

/* The system's own question, by a program that looks at the name and what it was given. */
static void users_of_pam_come_in(void **state)
{
    char name[128], text[512];
    (void)state;
    file_write("check",
               "#!/bin/sh\n[ \"$PAM_USER\" = tim ] && [ \"$(tr -d '\\000')\" = secret ]\n");
    assert_int_equal(chmod(path_of("check"), 0755), 0);
    snprintf(text, sizeof(text),
             "auth sufficient pam_exec.so expose_authtok quiet %s\nauth required pam_deny.so\n"
             "account required pam_permit.so\n",
             path_of("check"));
    file_write("service", text);
    snprintf(name, sizeof(name), "pam:%s", path_of("service"));
    open_with(name, &plain_settings);
    tim_is_known();
    assert_int_equal(ask_as(AUTH_CREDENTIAL, "tim", "", "").outcome, AUTH_WRONG);
}

static void a_failure_is_told_later_each_time_and_one_line_of_the_log_says_it(void **state)
{
    static const uint64_t delays_s[] = {2, 4, 8, 15, 15};
    char password[2] = "a";
    (void)state;
    open_with("static:tim:{PLAIN}secret", &plain_settings);
    for (unsigned i = 0; i < 5; i++, password[0]++) {
        struct auth_answer answer = ask_as(AUTH_VERIFY, "tim", "", password);
        assert_int_equal(answer.outcome, AUTH_WRONG);
        assert_int_equal(answer.delay_ns, delays_s[i] * SECOND_NS);
    }
    assert_int_equal(ask_as(AUTH_VERIFY, "tim", "", "secret").delay_ns, 0);
    const char *text = logged();
    const char *line = "auth: failed: user=<tim>, method=PLAIN, rip=192.0.2.0, wrong password\n";
    assert_non_null(strstr(text, line));
    const struct auth_ask imap = {.kind = AUTH_FAILED,
                                  .method = "SCRAM-SHA-1",
                                  .service = "imap",
                                  .authid = slice_text("tim")};
    struct auth_answer answer;
    directory_answer(directory, &imap, now_ns, &answer);
    assert_non_null(strstr(logged(), "user=<tim>, method=SCRAM-SHA-1, rip=0.0.0.0, service=imap, "
                                     "wrong password or no such user\n"));
    ask_as(AUTH_VERIFY, "x\n\x1b[1mtom", "", "secret");
    text = logged();
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* nobody forges a line */
    now_ns += 3601 * SECOND_NS;
    assert_int_equal(ask_as(AUTH_VERIFY, "tim", "", "b").delay_ns, 2 * SECOND_NS);
}

/* With "uid=%u" they are one account: each name has had tries of its own. */
static void a_domain_behind_the_name_makes_no_other_user_of_him(void **state)
{
    static const uint64_t delays_s[] = {2, 4, 8, 15, 15};
    static struct penalty penalty;
    static const uint8_t secret[32] = {1};
    char name[] = "alice@1";
    struct penalty_address from = {.octets = {192, 0, 2, 1}};
    (void)state;
    assert_int_equal(penalty_open(&penalty, &(struct penalty_settings){0}, secret), 0);
    for (unsigned i = 0; i < 5; i++, name[6]++, from.octets[3]++) {
        assert_int_equal(penalty_failed(&penalty, &from, slice_text(name), slice_text("guess"), 1),
                         delays_s[i] * SECOND_NS);
    }
    penalty_succeeded(&penalty, slice_text("alice@home.test"));
    assert_int_equal(penalty_failed(&penalty, &from, slice_text("alice"), slice_text("x"), 1),
                     2 * SECOND_NS);
    penalty_close(&penalty);
}

static void the_same_wrong_password_again_counts_once(void **state)
{
    (void)state;
    open_with("static:tim:{PLAIN}secret", &plain_settings);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(ask_as(AUTH_VERIFY, "tim", "", "old").delay_ns, 2 * SECOND_NS);
    }
    assert_int_equal(ask_as(AUTH_VERIFY, "tim", "", "older").delay_ns, 4 * SECOND_NS);
}

static void an_address_that_fails_too_often_is_not_heard_for_a_while(void **state)
{
    char password[4];
    const struct directory_settings settings = {.penalty = {.block_after = 3}};
    (void)state;
    open_with("static:tim:{PLAIN}secret", &settings);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
        snprintf(password, sizeof(password), "%u", i);
        assert_int_equal(verify("tim", password), AUTH_WRONG);
    }
    struct auth_answer answer = ask_as(AUTH_VERIFY, "tim", "", "secret");
    assert_int_equal(answer.outcome, AUTH_WRONG);
    assert_int_equal(answer.delay_ns, 15 * SECOND_NS);
    assert_int_equal(ask_as(AUTH_CREDENTIAL, "tim", "", "").outcome, AUTH_WRONG);
    assert_non_null(strstr(logged(), "the address is blocked"));
    now_ns += 601 * SECOND_NS;
    assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
}

static uint64_t fail_from(struct penalty *penalty, const uint8_t address[16], const char *password)
{
    struct penalty_address from = {.ipv6 = true};
    memcpy(from.octets, address, 16);
    return penalty_failed(penalty, &from, slice_text(password), slice_text(password), 1);
}

static void addresses_of_ipv6_are_counted_by_their_64_bits(void **state)
{
    static struct penalty penalty;
    static const uint8_t secret[32] = {1};
    uint8_t address[16] = {0x20, 1, 0x0d, 0xb8};
    (void)state;
    assert_int_equal(penalty_open(&penalty, &(struct penalty_settings){0}, secret), 0);
    assert_int_equal(fail_from(&penalty, address, "a"), 2 * SECOND_NS);
    address[15] = 9;
    assert_int_equal(fail_from(&penalty, address, "b"), 4 * SECOND_NS);
    address[7] = 9;
    assert_int_equal(fail_from(&penalty, address, "c"), 2 * SECOND_NS);
    penalty_close(&penalty);
}

static void what_was_right_is_right_for_a_while_without_asking(void **state)
{
    char name[128];
    (void)state;
    const struct directory_settings settings = {.penalty = {.block_after = UINT32_MAX},
                                                .right_ns = 10 * SECOND_NS,
                                                .wrong_ns = 5 * SECOND_NS};
    users_in_sqlite_come_in(state); /* and its database is gone now */
    directory_close(directory);
    sqlite3 *database;
    assert_int_equal(sqlite3_open(path_of("users.db"), &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database,
                                  "CREATE TABLE users(name, password, home);"
                                  "INSERT INTO users VALUES('tim', 'secret', '/home/tim');",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    snprintf(name, sizeof(name), "sqlite:%s", path_of("users.cf"));
    open_with(name, &settings);
    assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
    assert_int_equal(verify("tim", "other"), AUTH_WRONG);
    assert_int_equal(sqlite3_exec(database, "UPDATE users SET password='other'", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(database);
    struct auth_answer answer = ask_as(AUTH_VERIFY, "tim", "", "secret");
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_string_equal(answer.fields.home, "/home/tim");
    assert_int_equal(verify("tim", "other"), AUTH_WRONG);
    now_ns += 6 * SECOND_NS;
    assert_int_equal(verify("tim", "other"), AUTH_RIGHT);
    assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
    now_ns += 5 * SECOND_NS;
    assert_int_equal(verify("tim", "secret"), AUTH_WRONG);
}

static void a_master_comes_in_as_anybody_who_exists(void **state)
{
    static const char *const masters[] = {"static:root:{PLAIN}key", NULL};
    const struct directory_settings settings = {
        .masters = masters, .master_separator = '*', .penalty = {.block_after = UINT32_MAX}};
    (void)state;
    open_with("static:tim:{PLAIN}secret:5:6::/home/tim", &settings);
    struct auth_answer answer = ask_as(AUTH_VERIFY, "tim*root", "", "key");
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_string_equal(answer.user, "tim");
    assert_string_equal(answer.fields.home, "/home/tim");
    assert_int_equal(ask_as(AUTH_VERIFY, "root", "tim", "key").outcome, AUTH_RIGHT);
    assert_string_equal(ask_as(AUTH_VERIFY, "root", "tim", "key").user, "tim");
    assert_int_equal(ask_as(AUTH_EXISTS, "root", "tim", "").outcome, AUTH_RIGHT);
    assert_int_equal(verify("tim*root", "secret"), AUTH_WRONG);
    assert_int_equal(verify("tom*root", "key"), AUTH_WRONG);   /* nobody */
    assert_int_equal(verify("tim*tim", "secret"), AUTH_WRONG); /* no master */
    assert_int_equal(verify("root", "key"), AUTH_WRONG);       /* no user */
    assert_int_equal(verify("*root", "key"), AUTH_WRONG);
    assert_int_equal(ask_as(AUTH_VERIFY, "tim", "ann", "secret").outcome, AUTH_WRONG);
    assert_int_equal(ask_as(AUTH_VERIFY, "tim*root", "ann", "key").outcome, AUTH_WRONG);
    assert_int_equal(ask_as(AUTH_EXISTS, "tim", "root", "").outcome, AUTH_WRONG);
    assert_int_equal(ask_as(AUTH_CREDENTIAL, "tim*root", "", "").outcome, AUTH_RIGHT);
}

/* Who is master and user has two passwords, and each is for its own. */
static void what_is_remembered_of_a_user_is_not_that_of_a_master_of_his_name(void **state)
{
    static const char *const masters[] = {"static:tim:{PLAIN}key", NULL};
    const struct directory_settings settings = {.masters = masters,
                                                .master_separator = '*',
                                                .right_ns = 10 * SECOND_NS,
                                                .wrong_ns = 10 * SECOND_NS,
                                                .penalty = {.block_after = UINT32_MAX}};
    (void)state;
    open_with("static:tim:{PLAIN}secret", &settings);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(verify("tim", "secret"), AUTH_RIGHT);
        assert_int_equal(verify("tim*tim", "secret"), AUTH_WRONG);
        assert_int_equal(verify("tim*tim", "key"), AUTH_RIGHT);
        assert_int_equal(verify("tim", "key"), AUTH_WRONG);
    }
}

static struct auth_answer credential_of(const char *user, enum auth_credential credential)
{
    struct auth_answer answer;
    const struct auth_ask ask = {.kind = AUTH_CREDENTIAL,
                                 .credential = credential,
                                 .method = "SCRAM",
                                 .authid = slice_text(user)};
    directory_answer(directory, &ask, now_ns, &answer);
    return answer;
}

/* RFC 7677 §3. */
#define SCRAM_STORED                                                                               \
    "{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"   \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

/* The failures of "a*root", "b*root" were those of as many users. */
static void a_master_fails_as_himself_whoever_he_would_be(void **state)
{
    static const char *const masters[] = {"static:root:{PLAIN}key", NULL};
    static const uint64_t delays_s[] = {2, 4, 8, 15};
    const struct directory_settings settings = {.masters = masters, .master_separator = '*'};
    char name[] = "a*root";
    (void)state;
    open_with("static:tim:{PLAIN}secret", &settings);
    for (unsigned i = 0; i < 4; i++, name[0]++) {
        const struct auth_ask ask = {.kind = AUTH_VERIFY,
                                     .method = "PLAIN",
                                     .authid = slice_text(name),
                                     .password = slice_text("guess"),
                                     .address = {.octets = {192, 0, 2, (uint8_t)(i + 1)}}};
        struct auth_answer answer;
        directory_answer(directory, &ask, now_ns, &answer);
        assert_int_equal(answer.outcome, AUTH_WRONG);
        assert_int_equal(answer.delay_ns, delays_s[i] * SECOND_NS);
    }
}

static void what_is_stored_serves_the_mechanisms_that_it_can(void **state)
{
    struct auth_answer answer, again;
    struct password_scram made;
    (void)state;
    open_with("static:plain:{PLAIN}pencil\nscram:" SCRAM_STORED "\nhash:" SHA256_SECRET
              "\ndigest:{DIGEST-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69",
              &plain_settings);
    answer = credential_of("scram", AUTH_SCRAM_SHA_256);
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_int_equal(answer.scram.iterations, 4096);
    assert_int_equal(credential_of("scram", AUTH_SCRAM_SHA_1).outcome, AUTH_WRONG);
    assert_int_equal(credential_of("scram", AUTH_PASSWORD).outcome, AUTH_WRONG);
    answer = credential_of("plain", AUTH_SCRAM_SHA_256);
    again = credential_of("plain", AUTH_SCRAM_SHA_256);
    assert_int_equal(answer.outcome, AUTH_RIGHT);
    assert_int_equal(answer.password_bytes, 0);
    assert_memory_equal(&answer.scram, &again.scram, sizeof(answer.scram));
    made = answer.scram;
    memset(made.stored_key, 0, sizeof(made.stored_key));
    assert_int_equal(password_scram_make(PASSWORD_SHA_256, slice_text("pencil"), &made), 0);
    assert_memory_equal(made.stored_key, answer.scram.stored_key, 32);
    answer = credential_of("plain", AUTH_PASSWORD);
    assert_true(
        slice_equal(slice_of(answer.password, answer.password_bytes), slice_text("pencil")));
    assert_int_equal(credential_of("digest", AUTH_DIGEST_MD5).outcome, AUTH_RIGHT);
    assert_string_equal(credential_of("digest", AUTH_DIGEST_MD5).digest_ha1,
                        "5ebe2294ecd0e0f08eab7690d2a6ee69");
    assert_int_equal(credential_of("hash", AUTH_PASSWORD).outcome, AUTH_WRONG);
    assert_int_equal(credential_of("hash", AUTH_SCRAM_SHA_256).outcome, AUTH_WRONG);
    answer = credential_of("nobody", AUTH_SCRAM_SHA_256);
    assert_int_equal(answer.outcome, AUTH_WRONG);
    assert_int_equal(answer.scram.iterations, 0);
    assert_int_equal(answer.password_bytes, 0);
    answer = credential_of("nobody", AUTH_PASSWORD); /* nothing of anybody else's is told */
    assert_int_equal(answer.password_bytes, 0);
    assert_int_equal(answer.password[0], 0);
    assert_int_equal(ask_as(AUTH_FAILED, "plain", "", "").delay_ns, 2 * SECOND_NS);
    assert_int_equal(ask_as(AUTH_FAILED, "plain", "", "").delay_ns, 4 * SECOND_NS);
}

static void backends_are_asked_one_after_the_other(void **state)
{
    static const char *const backends[] = {"static:tim:{PLAIN}first", "static:tim:{PLAIN}x\nann:y",
                                           NULL};
    char problem[BACKEND_PROBLEM_MAX];
    const struct directory_settings settings = {.backends = backends,
                                                .world = &world,
                                                .logger = &logger,
                                                .scheme = "PLAIN",
                                                .penalty = {.block_after = UINT32_MAX}};
    (void)state;
    assert_int_equal(directory_open(&directory, &settings, problem), 0);
    assert_int_equal(verify("tim", "first"), AUTH_RIGHT);
    assert_int_equal(verify("tim", "x"), AUTH_WRONG); /* he is the first one's */
    assert_int_equal(verify("ann", "y"), AUTH_RIGHT);
}

static enum auth_outcome knows(const char *name)
{
    return directory_knows(directory, slice_text(name), 1);
}

static void
whether_somebody_is_there_is_told_without_a_password_and_counted_for_nobody(void **state)
{
    (void)state;
    open_with("static:tim:{PLAIN}secret\nann@example.org:{PLAIN}secret", &plain_settings);
    assert_int_equal(knows("Tim"), AUTH_RIGHT);
    assert_int_equal(knows("ann@Example.org"), AUTH_RIGHT);
    assert_int_equal(knows("ann"), AUTH_WRONG);
    assert_int_equal(knows("../tim"), AUTH_WRONG);
    assert_int_equal(knows(""), AUTH_WRONG);
    assert_int_equal(ask_as(AUTH_VERIFY, "tim", "", "wrong").outcome, AUTH_WRONG);
    const char *first = "WARNING auth: failed: user=<tim>";
    assert_memory_equal(logged(), first, strlen(first));
}

static void whether_somebody_is_there_cannot_be_said_while_a_database_is_out_of_reach(void **state)
{
    (void)state;
    char name[128];
    file_write("users.cf", "dbpath = /nonexistent/users.db\nquery = SELECT '%s'\n");
    snprintf(name, sizeof(name), "sqlite:%s", path_of("users.cf"));
    open_with(name, &plain_settings);
    assert_int_equal(knows("tim"), AUTH_UNKNOWN);
    assert_non_null(strstr(logged(), "cannot be opened"));
}

static void pam_knows_the_users_of_the_system(void **state)
{
    (void)state;
    open_with("pam:tubepost-test", &plain_settings);
    assert_int_equal(knows("root"), AUTH_RIGHT);
    assert_int_equal(knows("nobody-of-this-name"), AUTH_WRONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(users_in_the_configuration_come_in),
        TEST(users_in_a_file_come_in_with_their_fields_and_again_when_it_has_changed),
        TEST(a_file_that_is_wrong_is_not_opened),
        TEST(users_in_sqlite_come_in),
        TEST(a_database_out_of_reach_is_no_wrong_password),
        TEST(users_of_pam_come_in),
        TEST(a_failure_is_told_later_each_time_and_one_line_of_the_log_says_it),
        TEST(a_domain_behind_the_name_makes_no_other_user_of_him),
        TEST(the_same_wrong_password_again_counts_once),
        TEST(an_address_that_fails_too_often_is_not_heard_for_a_while),
        TEST(addresses_of_ipv6_are_counted_by_their_64_bits),
        TEST(what_was_right_is_right_for_a_while_without_asking),
        TEST(a_master_comes_in_as_anybody_who_exists),
        TEST(a_master_fails_as_himself_whoever_he_would_be),
        TEST(what_is_remembered_of_a_user_is_not_that_of_a_master_of_his_name),
        TEST(what_is_stored_serves_the_mechanisms_that_it_can),
        TEST(backends_are_asked_one_after_the_other),
        TEST(whether_somebody_is_there_is_told_without_a_password_and_counted_for_nobody),
        TEST(whether_somebody_is_there_cannot_be_said_while_a_database_is_out_of_reach),
        TEST(pam_knows_the_users_of_the_system),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
