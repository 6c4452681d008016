#include "engine/conf/auth_conf.h"
#include "engine/conf/conf.h"
#include "engine/conf/names.h"
#include "engine/conf/reader.h"
#include "engine/conf/tls_conf.h"
#include "engine/conf/words.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull
#define DAY (86400 * SECOND)
#define KB 1024ull
#define MB (1024 * KB)
#define GB (1024 * MB)
#define TB (1024 * GB)
#define SEGMENTS_MIN 5               /* LOG_SEGMENTS_MIN */
#define FRAME_BYTES (256 * KB)       /* LOG_FRAME_BYTES */
#define PLACES_MAX 1000u             /* MAILSTORE_PLACES_MAX: recipients of one delivery */
#define TEXT_BYTES_MAX (4 * GB - MB) /* of a text in the log, without what is put in front */

typedef struct mailboxd_conf M; /* in the tables only */

static const struct reader_word protocols[] = {
    {"lmtp", CONF_PROTOCOL_LMTP},   {"imap", CONF_PROTOCOL_IMAP}, {"pop3", CONF_PROTOCOL_POP3},
    {"sieve", CONF_PROTOCOL_SIEVE}, {"auth", CONF_PROTOCOL_AUTH}, {NULL, 0}};
static const struct reader_word formats[] = {
    {"maildir", CONF_STORE_MAILDIR}, {"log", CONF_STORE_LOG}, {NULL, 0}};

static const struct reader_key listener_keys[] = {
    KEY_TEXT("name", struct conf_listener, name, name_is_printable, "a name, for the log",
             .required = true),
    KEY_LIST("address", struct conf_listener, addresses, READER_ENDPOINT, .required = true,
             .min = 1, .max = 64),
    KEY_WORD("protocol", struct conf_listener, protocol, "lmtp", protocols),
    KEY_WORD("tls", struct conf_listener, tls, "auto", tls_conf_listeners),
    KEY_PERMISSIONS("unix_mode", struct conf_listener, unix_mode, "660"),
    KEY_END,
};
static const struct reader_key store_keys[] = {
    KEY_TEXT("path", M, store.path, name_is_absolute_path,
             "an absolute path such as /var/mail/tubepost", .standard = "/var/mail/tubepost"),
    KEY_WORD("format", M, store.format, "maildir", formats),
    KEY_WORD("durability", M, store.durability, "commit", word_durabilities),
    KEY_SIZE("segment_bytes", M, store.segment_bytes, "64M", 8 * FRAME_BYTES, 256 * MB),
    KEY_SIZE("memory_bytes", M, store.memory_bytes, "64M", 8 * MB, 256 * GB),
    KEY_SIZE("max_bytes", M, store.max_bytes, "0", 0, 1024 * TB),
    KEY_DURATION("keep_expunged", M, store.keep_expunged, "0", 0, 3650 * DAY),
    KEY_SIZE("free_min", M, store.free_min_bytes, "256M", 0, 1024 * TB),
    KEY_END,
};

static const struct reader_key auth_keys[] = {
    AUTH_CONF_KEYS(M),
    KEY_END,
};
static const struct reader_key pop3_keys[] = {
    KEY_WORD("shared", M, pop3.shared, "false", word_switches),
    KEY_END,
};
/* One level of a mailbox's name, which no client has to write in another way. */
static bool is_level(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at <= ' ' || *at >= 0x7f || strchr("/*%\"\\&", *at) != NULL) {
            return false;
        }
    }
    return text[0] != '\0' && strlen(text) <= 64 && strcmp(text, ".") != 0 &&
           strcmp(text, "..") != 0 && strcasecmp(text, "INBOX") != 0;
}

static const struct reader_key imap_keys[] = {
    KEY_TEXT("shared_namespace", M, imap.shared_namespace, is_level,
             "one level of a mailbox name, of printable ASCII, or off", .standard = "shared"),
    KEY_WORD("acl_anyone", M, imap.acl_anyone, "true", word_switches),
    KEY_TEXT("server_comment", M, imap.server_comment, name_is_printable, "printable text"),
    KEY_TEXT("server_admin", M, imap.server_admin, name_is_printable,
             "a URI such as mailto:postmaster@example.org"),
    KEY_END,
};
static const struct reader_key search_keys[] = {
    KEY_WORD("index", M, search.index, "true", word_switches),
    KEY_END,
};
static const struct reader_key tls_keys[] = {
    TLS_CONF_SERVER_KEYS(M),
    KEY_END,
};
static const struct reader_key lmtp_keys[] = {
    KEY_DURATION("drop_duplicates", M, lmtp.drop_duplicates, "0", 0, 365 * DAY),
    KEY_END,
};
static const struct reader_key sieve_keys[] = {
    {.name = "relay", .kind = READER_ENDPOINT, READER_AT(M, sieve.relay)},
    KEY_NUMBER("max_redirects", M, sieve.max_redirects, "4", 0, 32),
    KEY_DURATION("keep_trying", M, sieve.keep_trying, "5d", SECOND, 30 * DAY),
    KEY_DURATION("vacation_default", M, sieve.vacation_default, "7d", SECOND, 365 * DAY),
    KEY_DURATION("vacation_min", M, sieve.vacation_min, "1d", 0, 365 * DAY),
    KEY_DURATION("duplicate_default", M, sieve.duplicate_default, "12h", SECOND, 365 * DAY),
    KEY_DURATION("duplicate_max", M, sieve.duplicate_max, "2d", SECOND, 365 * DAY),
    KEY_DURATION("vacation_max", M, sieve.vacation_max, "60d", SECOND, 365 * DAY),
    KEY_END,
};
static const struct reader_key placing_keys[] = {
    KEY_TEXT("users", struct conf_placing, users, name_is_printable,
             "a user's name, * and ? are wild", .required = true),
    KEY_NUMBER("shard", struct conf_placing, shard, "0", 0, CONF_SHARDS_MAX - 1),
    KEY_END,
};
static const struct reader_key quota_rule_keys[] = {
    KEY_TEXT("mailbox", struct conf_quota_rule, mailbox, name_is_printable,
             "the name of a mailbox, * and ? are wild", .required = true),
    KEY_SIZE("more_bytes", struct conf_quota_rule, more_bytes, "0", 0, 1024 * TB),
    KEY_NUMBER("more_messages", struct conf_quota_rule, more_messages, "0", 0, UINT32_MAX),
    KEY_WORD("counted", struct conf_quota_rule, counted, "true", word_switches),
    KEY_END,
};
static const struct reader_key users_keys[] = {
    KEY_WORD("any", M, users.any, "true", word_switches),
    KEY_LIST("known", M, users.known, READER_TEXT, .max = 10000, .good = name_is_printable,
             .expected = "the name of a user"),
    KEY_SIZE("quota_bytes", M, users.quota_bytes, "0", 0, 1024 * TB),
    KEY_NUMBER("quota_messages", M, users.quota_messages, "0", 0, UINT32_MAX),
    KEY_ROWS("quota_rules", M, users.quota_rules, quota_rule_keys, NULL),
    KEY_ROWS("placed", M, users.placed, placing_keys, NULL),
    KEY_END,
};
static const struct reader_key limits_keys[] = {
    KEY_SIZE("message_bytes", M, limits.message_bytes, "128M", KB, TB),
    KEY_NUMBER("recipients", M, limits.recipients, "1000", 1, 100000),
    KEY_NUMBER("errors", M, limits.errors, "20", 1, UINT32_MAX),
    KEY_NUMBER("connections", M, limits.connections, "1000", 1, 1000000),
    KEY_NUMBER("user_address_connections", M, limits.user_address_connections, "10", 0, 1000000),
    KEY_NUMBER("user_connections", M, limits.user_connections, "0", 0, 1000000),
    KEY_NUMBER("address_connections", M, limits.address_connections, "0", 0, 1000000),
    KEY_SIZE("data_rate_min", M, limits.data_rate_min, "500", 0, GB),
    KEY_SIZE("pending_bytes", M, limits.pending_bytes, "32M", MB, 64 * GB),
    KEY_END,
};
static const struct reader_key timeouts_keys[] = {
    KEY_DURATION("command", M, timeouts.command, "5m", SECOND / 100, DAY),
    KEY_DURATION("data", M, timeouts.data, "5m", SECOND / 100, DAY),
    KEY_END,
};
static const struct reader_key io_keys[] = {
    KEY_WORD("uring", M, io.uring, "auto", word_urings),
    KEY_END,
};
static const struct reader_key shutdown_keys[] = {
    KEY_DURATION("grace", M, shutdown.grace, "10s", 0, DAY),
    KEY_END,
};
static const struct reader_key control_keys[] = {
    KEY_TEXT("path", M, control.path, name_is_absolute_path,
             "an absolute path such as /run/tubepost/mailbox-control",
             .standard = "/run/tubepost/mailbox-control"),
    KEY_PERMISSIONS("unix_mode", M, control.unix_mode, "660"),
    KEY_END,
};
static const struct reader_key log_keys[] = {
    KEY_WORD("level", M, log.level, "info", word_levels),
    KEY_END,
};
static const struct reader_key mailboxd_keys[] = {
    KEY_TEXT("hostname", M, hostname, name_is_domain, NAME_DOMAIN_EXPECTED),
    KEY_ROWS("listen", M, listen, listener_keys,
             "[{name: local, address: [\"unix:/run/tubepost/lmtp\"]}]"),
    KEY_NUMBER("shards", M, shards, "1", 1, CONF_SHARDS_MAX),
    KEY_SECTION("store", store_keys),
    KEY_SECTION("auth", auth_keys),
    KEY_SECTION("tls", tls_keys),
    KEY_SECTION("imap", imap_keys),
    KEY_SECTION("pop3", pop3_keys),
    KEY_SECTION("lmtp", lmtp_keys),
    KEY_SECTION("sieve", sieve_keys),
    KEY_SECTION("search", search_keys),
    KEY_SECTION("users", users_keys),
    KEY_SECTION("limits", limits_keys),
    KEY_SECTION("timeouts", timeouts_keys),
    KEY_SECTION("io", io_keys),
    KEY_SECTION("shutdown", shutdown_keys),
    KEY_SECTION("control", control_keys),
    KEY_SECTION("log", log_keys),
    KEY_END,
};

/* What callers see, and the memory behind it. */
struct owned_conf {
    struct mailboxd_conf conf; /* first: the pointer that callers hold */
    struct reader_memory memory;
};

/* Passwords come in the clear, from whoever can connect. */
static void check_auth_socket(struct reader *reader, const struct conf_listener *one,
                              uint32_t index)
{
    char key[64];
    for (uint32_t a = 0; a < one->addresses_count; a++) {
        if (!endpoint_is_loopback(&one->addresses[a])) {
            snprintf(key, sizeof key, "listen[%u].address[%u]", index, a);
            reader_problem(reader, key,
                           "not with auth, expected a unix socket or an address of this machine");
        }
    }
}

/* A listener that nothing could be done at is a mistake, not a surprise to its first client. */
static void settle_listener(struct reader *reader, const struct mailboxd_conf *conf, uint32_t index)
{
    struct conf_listener *one = &conf->listen[index];
    bool logs_in = one->protocol != CONF_PROTOCOL_LMTP;
    bool reads_mail = logs_in && one->protocol != CONF_PROTOCOL_AUTH;
    char key[64];
    if (one->tls == CONF_TLS_AUTO) {
        bool offered = reads_mail && conf->tls.certificates_count > 0;
        one->tls = offered ? CONF_TLS_STARTTLS : CONF_TLS_OFF;
    }
    snprintf(key, sizeof key, "listen[%u].tls", index);
    if (one->tls != CONF_TLS_OFF && !reads_mail) {
        reader_problem(reader, key, "not with %s, expected off", logs_in ? "auth" : "lmtp");
    } else if (one->tls != CONF_TLS_OFF && conf->tls.certificates_count == 0) {
        reader_problem(reader, key, "without a certificate, expected one in tls.certificates");
    }
    snprintf(key, sizeof key, "listen[%u].protocol", index);
    if (logs_in && !auth_conf_has_users(&conf->auth)) {
        reader_problem(reader, key, "nobody could log in, expected auth.backends to name users");
    }
    if (one->protocol == CONF_PROTOCOL_AUTH) {
        check_auth_socket(reader, one, index);
    }
}

static void check_placing(struct reader *reader, const struct mailboxd_conf *conf)
{
    for (uint32_t i = 0; i < conf->users.placed_count; i++) {
        if (strchr(conf->users.placed[i].users, '@') != NULL) {
            char key[64];
            snprintf(key, sizeof key, "users.placed[%u].users", i);
            reader_problem(reader, key, "nobody is called so, expected a name without its domain");
        }
        if (conf->users.placed[i].shard >= conf->shards) {
            char key[64];
            snprintf(key, sizeof key, "users.placed[%u].shard", i);
            reader_problem(reader, key, "there is none, expected at most %u: see shards",
                           conf->shards - 1);
        }
    }
}

static void check_store(struct reader *reader, const struct mailboxd_conf *conf)
{
    if (conf->store.segment_bytes % FRAME_BYTES != 0) {
        reader_problem(reader, "store.segment_bytes",
                       "not a whole number of frames, expected a multiple of 256K");
    }
    if (conf->store.max_bytes != 0 &&
        conf->store.max_bytes < SEGMENTS_MIN * conf->store.segment_bytes * conf->shards) {
        reader_problem(reader, "store.max_bytes",
                       "too little, expected 0 or room for %d segments of each shard",
                       SEGMENTS_MIN);
    }
    if (conf->limits.recipients > PLACES_MAX) {
        reader_problem(reader, "limits.recipients",
                       "more than one delivery can name, expected at most %u", PLACES_MAX);
    }
    if (conf->limits.message_bytes > TEXT_BYTES_MAX) {
        reader_problem(reader, "limits.message_bytes",
                       "larger than a text can be, expected at most 4095M");
    }
}

static void check_delivery(struct reader *reader, const struct mailboxd_conf *conf)
{
    if (conf->sieve.vacation_min > conf->sieve.vacation_max) {
        reader_problem(reader, "sieve.vacation_min",
                       "more than sieve.vacation_max, expected at most that");
    }
}

static void settle(struct reader *reader, struct mailboxd_conf *conf)
{
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        conf->listen[i].by_default = !reader_given(reader, "listen");
        settle_listener(reader, conf, i);
    }
    check_store(reader, conf);
    check_placing(reader, conf);
    auth_conf_check(reader, &conf->auth);
    check_delivery(reader, conf);
}

int mailboxd_conf_load(struct mailboxd_conf **conf, const char *path, const char *hostname,
                       struct conf_report *report)
{
    struct owned_conf *owned = calloc(1, sizeof *owned);
    memset(report, 0, sizeof *report);
    if (owned == NULL) {
        return -ENOMEM;
    }
    struct reader reader = {.file = path, .memory = &owned->memory, .report = report};
    int status = reader_load(&reader, mailboxd_keys, path, &owned->conf);
    if (status == 0) {
        struct mailboxd_conf *made = &owned->conf;
        if (made->hostname == NULL) {
            const char *own = hostname != NULL && name_is_domain(hostname) ? hostname : "localhost";
            made->hostname = reader_copy(&owned->memory, own);
        }
        settle(&reader, made);
        status = made->hostname == NULL ? -ENOMEM : report->count > 0 ? -EINVAL : 0;
    }
    reader_close(&reader);
    if (status < 0) {
        mailboxd_conf_free(&owned->conf);
        return status;
    }
    *conf = &owned->conf;
    return 0;
}

void mailboxd_conf_free(struct mailboxd_conf *conf)
{
    if (conf != NULL) {
        struct owned_conf *owned = (struct owned_conf *)(void *)conf;
        reader_memory_free(&owned->memory);
        free(owned);
    }
}

bool mailboxd_conf_has_logins(const struct mailboxd_conf *conf)
{
    bool any = false;
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        any = any || conf->listen[i].protocol != CONF_PROTOCOL_LMTP;
    }
    return any;
}

bool mailboxd_conf_has_quota(const struct mailboxd_conf *conf)
{
    return conf->users.quota_bytes > 0 || conf->users.quota_messages > 0 ||
           conf->users.quota_rules_count > 0;
}

bool mailboxd_conf_asks_backends(const struct mailboxd_conf *conf)
{
    return mailboxd_conf_has_logins(conf) || (!conf->users.any && conf->auth.backends_count > 0);
}

void mailboxd_conf_each_key(void (*visit)(void *owner, const char *key, const char *value),
                            void *owner)
{
    reader_each_key(mailboxd_keys, visit, owner);
}
