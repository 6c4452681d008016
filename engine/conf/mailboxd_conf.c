#include "engine/conf/conf.h"
#include "engine/conf/names.h"
#include "engine/conf/reader.h"
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

typedef struct mailboxd_conf M; /* in the tables only */

static const struct reader_key listener_keys[] = {
    KEY_TEXT("name", struct conf_listener, name, name_is_printable, "a name, for the log",
             .required = true),
    KEY_LIST("address", struct conf_listener, addresses, READER_ENDPOINT, .required = true,
             .min = 1, .max = 64),
    KEY_WORD("protocol", struct conf_listener, protocol, "lmtp", word_protocols),
    KEY_PERMISSIONS("unix_mode", struct conf_listener, unix_mode, "660"),
    KEY_END,
};
static const struct reader_key store_keys[] = {
    KEY_TEXT("path", M, store.path, name_is_absolute_path,
             "an absolute path such as /var/mail/tubepost", .standard = "/var/mail/tubepost"),
    KEY_WORD("durability", M, store.durability, "commit", word_durabilities),
    KEY_END,
};
static const struct reader_key users_keys[] = {
    KEY_WORD("any", M, users.any, "true", word_switches),
    KEY_LIST("known", M, users.known, READER_TEXT, .max = 10000, .good = name_is_printable,
             .expected = "the name of a user"),
    KEY_SIZE("quota_bytes", M, users.quota_bytes, "0", 0, 1024 * TB),
    KEY_END,
};
static const struct reader_key limits_keys[] = {
    KEY_SIZE("message_bytes", M, limits.message_bytes, "128M", KB, TB),
    KEY_NUMBER("recipients", M, limits.recipients, "1000", 1, 100000),
    KEY_NUMBER("errors", M, limits.errors, "20", 1, UINT32_MAX),
    KEY_NUMBER("connections", M, limits.connections, "1000", 1, 1000000),
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
static const struct reader_key log_keys[] = {
    KEY_WORD("level", M, log.level, "info", word_levels),
    KEY_END,
};
static const struct reader_key mailboxd_keys[] = {
    KEY_TEXT("hostname", M, hostname, name_is_domain, NAME_DOMAIN_EXPECTED),
    KEY_ROWS("listen", M, listen, listener_keys,
             "[{name: local, address: [\"unix:/run/tubepost/lmtp\"]}]"),
    KEY_SECTION("store", store_keys),
    KEY_SECTION("users", users_keys),
    KEY_SECTION("limits", limits_keys),
    KEY_SECTION("timeouts", timeouts_keys),
    KEY_SECTION("io", io_keys),
    KEY_SECTION("shutdown", shutdown_keys),
    KEY_SECTION("log", log_keys),
    KEY_END,
};

/* What callers see, and the memory behind it. */
struct owned_conf {
    struct mailboxd_conf conf; /* first: the pointer that callers hold */
    struct reader_memory memory;
};

static void check_listeners(struct reader *reader, const struct mailboxd_conf *conf)
{
    char key[64];
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        if (conf->listen[i].protocol != CONF_PROTOCOL_LMTP) {
            snprintf(key, sizeof key, "listen[%u].protocol", i);
            reader_problem(reader, key, "not spoken by the mailbox service, expected lmtp");
        }
    }
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
        for (uint32_t i = 0; i < made->listen_count; i++) {
            made->listen[i].by_default = !reader_given(&reader, "listen");
        }
        check_listeners(&reader, made);
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

void mailboxd_conf_each_key(void (*visit)(void *owner, const char *key, const char *value),
                            void *owner)
{
    reader_each_key(mailboxd_keys, visit, owner);
}
