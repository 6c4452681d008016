#include "tests/unit/delivery_rig.h"
#include "engine/core/check.h"
#include "queue/mailbox/maildir.h"
#include "queue/mailbox/maildir_lock.h"
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define ROOM (4u << 20)

struct pop3_rig lmtp_rig;
struct relay_fake lmtp_relay;
static int log_pipe[2];
static struct { /* of Maildirs */
    char path[64], state[80], staging[96];
    struct maildir_files files;
    struct maildir_owner owner;
    struct mailstore_maildirs settings;
    struct maildir *store; /* NULL: mail lies in the log */
} maildirs;

int lmtp_outgoing_open(void)
{
    const struct outgoing_settings settings = {
        .shard = &lmtp_rig.shard, .network = lmtp_rig.network, .store = lmtp_rig.store.store};
    const struct outgoing_conf conf = {.hostname = slice_text("mail.test"),
                                       .relay = relay_fake_address,
                                       .keep_trying_ns = 86400ull * 1000000000ull};
    return outgoing_open(&lmtp_rig.mailbox.outgoing, &settings, &conf);
}

void lmtp_outgoing_close(void)
{
    outgoing_abort(lmtp_rig.mailbox.outgoing);
    outgoing_close(lmtp_rig.mailbox.outgoing);
    lmtp_rig.mailbox.outgoing = NULL;
}

static void outgoing_begin(void)
{
    check(lmtp_outgoing_open() == 0);
    check(remembered_open(&lmtp_rig.mailbox.remembered, lmtp_rig.store.store) == 0);
}

static void outgoing_end(void)
{
    lmtp_outgoing_close();
    remembered_close(lmtp_rig.mailbox.remembered);
}

/* ---- Maildirs ---- */

static void nobody_wakes(void *owner)
{
    (void)owner;
}

static unsigned maildirs_poll(void *self, uint64_t now_ns)
{
    struct maildir *store = (struct maildir *)self;
    (void)now_ns;
    maildir_flush(store);
    maildir_write(store);
    return maildir_reap(store);
}

static void maildirs_begin(void)
{
    const struct maildir_settings settings = {.path = maildirs.path,
                                              .hostname = "mail.test",
                                              .world = &lmtp_rig.world,
                                              .files = &maildirs.files,
                                              .driven = true,
                                              .process_id = 77,
                                              .durable = true,
                                              .pending_bytes_max = 1u << 20,
                                              .wake = nobody_wakes};
    check(maildir_open(&maildirs.store, &settings) == 0);
    shard_add(
        &lmtp_rig.shard,
        &(struct shard_part){.name = "maildirs", .self = maildirs.store, .poll = maildirs_poll});
    lmtp_rig.mailbox.store = maildirs.store;
    lmtp_rig.store.settings.maildirs = &maildirs.settings;
    pop3_rig_restart(&lmtp_rig);
}

static void maildirs_make(void)
{
    snprintf(maildirs.path, sizeof maildirs.path, "/tmp/tubepost-delivery-XXXXXX");
    check(mkdtemp(maildirs.path) != NULL);
    snprintf(maildirs.state, sizeof maildirs.state, "%s/.tubepost", maildirs.path);
    snprintf(maildirs.staging, sizeof maildirs.staging, "%s/tmp", maildirs.state);
    check(mkdir(maildirs.state, 0700) == 0);
    maildir_system_files(&maildirs.files);
    maildirs.owner =
        (struct maildir_owner){&maildirs.files, &lmtp_rig.world, "host.test", 77, 1, NULL};
    maildirs.settings = (struct mailstore_maildirs){.path = maildirs.path,
                                                    .staging = maildirs.staging,
                                                    .own_user = OUTGOING_USER,
                                                    .own_path = maildirs.state,
                                                    .owner = &maildirs.owner,
                                                    .wake = nobody_wakes};
    maildirs_begin();
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status, (void)type, (void)at;
    return remove(path);
}

static void maildirs_end(void)
{
    if (maildirs.store != NULL) {
        maildir_close(maildirs.store);
        maildirs.store = NULL;
        nftw(maildirs.path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
}

const char *lmtp_maildirs(void)
{
    return maildirs.path;
}

struct maildir_files *lmtp_files(void)
{
    return &maildirs.files;
}

/* ---- Life ---- */

static int set_up(bool on_maildirs)
{
    pop3_rig_open(&lmtp_rig, ROOM, NULL);
    if (on_maildirs) {
        maildirs_make();
    }
    check(pipe2(log_pipe, O_NONBLOCK) == 0);
    logger_open(&lmtp_rig.logger, log_pipe[1], LOGGER_WARNING);
    lmtp_rig.mailbox.lmtp_settings =
        (struct smtp_server_settings){.hostname = slice_text("mail.test"),
                                      .lmtp = true,
                                      .recipients_max = 1000,
                                      .command_ns = 3600000000000ull,
                                      .data_ns = 3600000000000ull,
                                      .pipelining = true,
                                      .smtputf8 = true};
    check(sieve_scripts_open(&lmtp_rig.mailbox.scripts, lmtp_rig.store.store, 2) == 0);
    relay_fake_open(&lmtp_relay, lmtp_rig.network);
    outgoing_begin();
    pop3_rig_listen(&lmtp_rig, delivery_accepted);
    return 0;
}

int delivery_set_up(void **state)
{
    (void)state;
    return set_up(false);
}

int delivery_set_up_maildirs(void **state)
{
    (void)state;
    return set_up(true);
}

int delivery_tear_down(void **state)
{
    (void)state;
    sieve_scripts_close(lmtp_rig.mailbox.scripts);
    if (lmtp_rig.mailbox.outgoing != NULL) {
        outgoing_end();
    }
    relay_fake_close(&lmtp_relay);
    pop3_rig_close(&lmtp_rig);
    maildirs_end();
    close(log_pipe[0]);
    close(log_pipe[1]);
    return 0;
}

const char *lmtp_logged(void)
{
    static char text[65536];
    ssize_t size = read(log_pipe[0], text, sizeof text - 1);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

/* ---- The store's side ---- */

void lmtp_property_set(const char *name, const char *key, const char *value)
{
    struct mailstore_user *user;
    struct told told;
    const struct mailstore_property property = {.key = slice_text(key), .value = slice_text(value)};
    check(mailstore_user_open(lmtp_rig.store.store, slice_text(name), &user) == 0);
    check(mailstore_property_set(lmtp_rig.store.store, user, &property, told_init(&told)) == 0);
    check(told_wait(&lmtp_rig.store, &told) == 0);
    mailstore_user_close(lmtp_rig.store.store, user);
}

void lmtp_script_set(const char *user, const char *text)
{
    lmtp_property_set(user, SIEVE_SCRIPT_KEY "main", text);
    lmtp_property_set(user, SIEVE_ACTIVE_KEY, "main");
}

/* What has been delivered into a Maildir is seen. */
static void user_look(struct mailstore_user *user)
{
    struct told told;
    int status = mailstore_refresh(lmtp_rig.store.store, user, told_init(&told));
    check(status == -EALREADY || (status == 0 && told_wait(&lmtp_rig.store, &told) == 0));
}

void lmtp_mailbox_make(const char *name, const char *mailbox)
{
    struct mailstore_user *user;
    struct told told;
    struct mailstore_create create = {.mailbox = slice_text(mailbox)};
    check(mailstore_user_open(lmtp_rig.store.store, slice_text(name), &user) == 0);
    check(mailstore_box_create(lmtp_rig.store.store, user, &create, told_init(&told)) == 0);
    check(told_wait(&lmtp_rig.store, &told) == 0);
    mailstore_user_close(lmtp_rig.store.store, user);
}

static void entry_say(char **at, const struct mailstore_box *box,
                      const struct mailstore_entry *entry)
{
    *at += sprintf(*at, "(%s%s", (entry->flags & MAILSTORE_SEEN) != 0 ? "S" : "",
                   (entry->flags & MAILSTORE_FLAGGED) != 0 ? "F" : "");
    for (uint32_t i = 0; i < box->keyword_count; i++) {
        if ((entry->keywords & (1ull << i)) != 0) {
            struct slice name = mailstore_keyword(box, i);
            *at += sprintf(*at, " %.*s", (int)name.size, (const char *)name.bytes);
        }
    }
    *at += sprintf(*at, ")");
}

const char *lmtp_held(const char *name)
{
    static char text[65536];
    char *at = text;
    struct mailstore_user *user;
    *at = '\0';
    check(mailstore_user_open(lmtp_rig.store.store, slice_text(name), &user) == 0);
    user_look(user);
    struct mailstore_box *box = mailstore_box_next(user, NULL);
    for (; box != NULL; box = mailstore_box_next(user, box)) {
        check(mailstore_box_open(lmtp_rig.store.store, box) == 0);
        if (box->count > 0) {
            at += sprintf(at, "%s%.*s", at > text ? " " : "", (int)box->name.size,
                          (const char *)box->name.bytes);
        }
        for (uint32_t i = 0; i < box->count; i++) {
            *at++ = ' ';
            entry_say(&at, box, &box->entries[i]);
        }
        mailstore_box_close(lmtp_rig.store.store, box);
    }
    mailstore_user_close(lmtp_rig.store.store, user);
    return text;
}

static void fetched(struct mailstore_waiter *waiter, int status)
{
    (void)waiter, (void)status; /* it is asked again */
}

static size_t text_read(uint64_t id, char *to)
{
    struct mailstore_text text = {0};
    struct mailstore_fetch fetch = {.waiter.done = fetched};
    uint32_t at = 0;
    check(mailstore_text_open(lmtp_rig.store.store, id, &text) == 0);
    while (at < text.bytes) {
        struct slice bytes;
        struct ref *owner;
        int status = mailstore_read(lmtp_rig.store.store, &text, at, &bytes, &owner, &fetch);
        if (status == -EINPROGRESS) {
            check(maildirs.store != NULL); /* else it has just come, and is in memory */
            mailstore_rig_round(&lmtp_rig.store);
            continue;
        }
        check(status == 0);
        memcpy(to + at, bytes.bytes, bytes.size);
        at += (uint32_t)bytes.size;
        ref_drop(owner);
    }
    mailstore_text_close(lmtp_rig.store.store, &text);
    return at;
}

const char *lmtp_read(const char *name, const char *mailbox)
{
    static char text[ROOM];
    struct mailstore_user *user;
    check(mailstore_user_open(lmtp_rig.store.store, slice_text(name), &user) == 0);
    user_look(user);
    struct mailstore_box *box = mailstore_box_find(user, slice_text(mailbox));
    check(box != NULL && mailstore_box_open(lmtp_rig.store.store, box) == 0 && box->count > 0);
    text[text_read(box->entries[0].text, text)] = '\0';
    mailstore_box_close(lmtp_rig.store.store, box);
    mailstore_user_close(lmtp_rig.store.store, user);
    return text;
}

/* ---- The client's side ---- */

struct pop3_client *lmtp_client;

void lmtp_greet(void)
{
    lmtp_client = pop3_client_connect(&lmtp_rig);
    pop3_client_talk(&lmtp_rig, lmtp_client, "");
    pop3_client_talk(&lmtp_rig, lmtp_client, "LHLO client.test\r\n");
}

const char *lmtp_deliver_to(const char *recipients, const char *message)
{
    char text[4096];
    lmtp_greet();
    snprintf(text, sizeof text, "MAIL FROM:<boss@x.test>\r\n%sDATA\r\n", recipients);
    const char *heard = pop3_client_talk(&lmtp_rig, lmtp_client, text);
    assert_non_null(strstr(heard, "354 "));
    pop3_client_say(lmtp_client, message);
    return pop3_client_talk(&lmtp_rig, lmtp_client, ".\r\n");
}

const char *lmtp_deliver(const char *message)
{
    return lmtp_deliver_to("RCPT TO:<ann@y>\r\n", message);
}

uint32_t lmtp_outgoing_left(void)
{
    struct mailstore_user *user;
    check(mailstore_user_open(lmtp_rig.store.store, slice_text(OUTGOING_USER), &user) == 0);
    const struct mailstore_box *box = mailstore_box_find(user, slice_text("INBOX"));
    uint32_t texts = box != NULL ? box->count : 0;
    mailstore_user_close(lmtp_rig.store.store, user);
    return outgoing_counters(lmtp_rig.mailbox.outgoing)->waiting + texts;
}

void lmtp_service_crashes(void)
{
    outgoing_end();
    sieve_scripts_close(lmtp_rig.mailbox.scripts);
    pop3_rig_crash(&lmtp_rig);
    check(sieve_scripts_open(&lmtp_rig.mailbox.scripts, lmtp_rig.store.store, 2) == 0);
    outgoing_begin();
}

const char *lmtp_taken(void)
{
    lmtp_relay.taken[lmtp_relay.taken_bytes] = '\0';
    return lmtp_relay.taken;
}
