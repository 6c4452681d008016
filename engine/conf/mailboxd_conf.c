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

/* clang-format off: the tables read better wide. */
static const struct reader_key listener_keys[] = {{.name = "name",
                                                   .kind = READER_TEXT,
                                                   READER_AT(struct conf_listener, name),
                                                   .required = true,
                                                   .good = name_is_printable,
                                                   .expected = "a name, for the log"},
                                                  {.name = "address",
                                                   .kind = READER_LIST,
                                                   .item_kind = READER_ENDPOINT,
                                                   READER_MANY(struct conf_listener, addresses),
                                                   .required = true,
                                                   .min = 1,
                                                   .max = 64},
                                                  {.name = "protocol",
                                                   .kind = READER_WORD,
                                                   READER_AT(struct conf_listener, protocol),
                                                   .standard = "lmtp",
                                                   .words = word_protocols},
                                                  {.name = "unix_mode",
                                                   .kind = READER_PERMISSIONS,
                                                   READER_AT(struct conf_listener, unix_mode),
                                                   .standard = "660"},
                                                  {.name = NULL}};
static const struct reader_key store_keys[] = {
    {.name = "path",
     .kind = READER_TEXT,
     READER_AT(M, store.path),
     .standard = "/var/mail/tubepost",
     .good = name_is_absolute_path,
     .expected = "an absolute path such as /var/mail/tubepost"},
    {.name = "durability",
     .kind = READER_WORD,
     READER_AT(M, store.durability),
     .standard = "commit",
     .words = word_durabilities},
    {.name = NULL}};
static const struct reader_key users_keys[] = {{.name = "any",
                                                .kind = READER_WORD,
                                                READER_AT(M, users.any),
                                                .standard = "true",
                                                .words = word_switches},
                                               {.name = "known",
                                                .kind = READER_LIST,
                                                .item_kind = READER_TEXT,
                                                READER_MANY(M, users.known),
                                                .max = 10000,
                                                .good = name_is_printable,
                                                .expected = "the name of a user"},
                                               {.name = "quota_bytes",
                                                .kind = READER_SIZE,
                                                READER_AT(M, users.quota_bytes),
                                                .standard = "0",
                                                .max = 1024 * TB},
                                               {.name = NULL}};
static const struct reader_key limits_keys[] = {{.name = "message_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(M, limits.message_bytes),
                                                 .standard = "128M",
                                                 .min = KB,
                                                 .max = TB},
                                                {.name = "recipients",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(M, limits.recipients),
                                                 .standard = "1000",
                                                 .min = 1,
                                                 .max = 100000},
                                                {.name = "errors",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(M, limits.errors),
                                                 .standard = "20",
                                                 .min = 1,
                                                 .max = UINT32_MAX},
                                                {.name = "connections",
                                                 .kind = READER_NUMBER,
                                                 READER_AT(M, limits.connections),
                                                 .standard = "1000",
                                                 .min = 1,
                                                 .max = 1000000},
                                                {.name = "pending_bytes",
                                                 .kind = READER_SIZE,
                                                 READER_AT(M, limits.pending_bytes),
                                                 .standard = "32M",
                                                 .min = MB,
                                                 .max = 64 * GB},
                                                {.name = NULL}};
static const struct reader_key timeouts_keys[] = {{.name = "command",
                                                   .kind = READER_DURATION,
                                                   READER_AT(M, timeouts.command),
                                                   .standard = "5m",
                                                   .min = SECOND / 100,
                                                   .max = DAY},
                                                  {.name = "data",
                                                   .kind = READER_DURATION,
                                                   READER_AT(M, timeouts.data),
                                                   .standard = "5m",
                                                   .min = SECOND / 100,
                                                   .max = DAY},
                                                  {.name = NULL}};
static const struct reader_key io_keys[] = {{.name = "uring",
                                             .kind = READER_WORD,
                                             READER_AT(M, io.uring),
                                             .standard = "auto",
                                             .words = word_urings},
                                            {.name = NULL}};
static const struct reader_key shutdown_keys[] = {{.name = "grace",
                                                   .kind = READER_DURATION,
                                                   READER_AT(M, shutdown.grace),
                                                   .standard = "10s",
                                                   .max = DAY},
                                                  {.name = NULL}};
static const struct reader_key log_keys[] = {{.name = "level",
                                              .kind = READER_WORD,
                                              READER_AT(M, log.level),
                                              .standard = "info",
                                              .words = word_levels},
                                             {.name = NULL}};
static const struct reader_key mailboxd_keys[] = {
    {.name = "hostname",
     .kind = READER_TEXT,
     READER_AT(M, hostname),
     .good = name_is_domain,
     .expected = NAME_DOMAIN_EXPECTED},
    {.name = "listen",
     .kind = READER_ROWS,
     READER_MANY(M, listen),
     .keys = listener_keys,
     .standard = "[{name: local, address: [\"unix:/run/tubepost/lmtp\"]}]"},
    {.name = "store", .kind = READER_SECTION, .keys = store_keys},
    {.name = "users", .kind = READER_SECTION, .keys = users_keys},
    {.name = "limits", .kind = READER_SECTION, .keys = limits_keys},
    {.name = "timeouts", .kind = READER_SECTION, .keys = timeouts_keys},
    {.name = "io", .kind = READER_SECTION, .keys = io_keys},
    {.name = "shutdown", .kind = READER_SECTION, .keys = shutdown_keys},
    {.name = "log", .kind = READER_SECTION, .keys = log_keys},
    {.name = NULL}};
/* clang-format on */

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
