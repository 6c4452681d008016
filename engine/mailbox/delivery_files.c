/*
 * Deliveries where mail lies in Maildirs. A message goes straight into them (delivery_maildir), or, where a script, a detail or
 * its Message-ID says what becomes of it, through the store on them (delivery_log), all recipients the same way.
 *
 * Where a script asks which mailboxes there are, or there are quotas, the store looks into the recipients' Maildirs first, but
 * for those who were looked at within a minute and have room for many such messages; once more into that of who would be
 * refused for what has come meanwhile and may be counted twice (delivery_quota.h).
 */
#include "engine/mailbox/delivery_quota.h"
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/quota.h"
#include <stdlib.h>

#define ROOM_FOR_MANY 32u /* a script can file a message into many mailboxes */
#define LOOKS_MAX 4u      /* while others of the user's messages are under way */

struct delivery_look {
    struct delivery_text *text;
    struct mailstore_user *user; /* NULL: it has ended, or was not wanted */
    struct mailstore_waiter looked;
    unsigned looks;
};

static const struct delivery_store *way(const struct delivery_text *text)
{
    return text->by_store ? &delivery_log : &delivery_maildir;
}

static bool has_detail(const struct delivery_text *text)
{
    bool any = false;
    for (uint32_t i = 0; i < text->recipient_count; i++) {
        any = any || text->recipients[i].detail[0] != '\0';
    }
    return any;
}

/* ---- Receiving ---- */

static int reserve(struct delivery_text *text, uint32_t count)
{
    int status = delivery_maildir.reserve(text, count);
    return status == 0 && text->mailbox->texts != NULL ? delivery_log.reserve(text, count) : status;
}

static int begin(struct delivery_text *text)
{
    const struct mailbox *mailbox = text->mailbox;
    text->wants = delivery_sieve_wants(text);
    text->by_store = mailbox->texts != NULL && (text->wants != 0 || has_detail(text) ||
                                                mailbox->conf->lmtp.drop_duplicates > 0);
    return way(text)->begin(text);
}

static void id(const struct delivery_text *text, char id[DELIVERY_ID_BYTES])
{
    way(text)->id(text, id);
}

static ssize_t append(struct delivery_text *text, struct slice wire)
{
    return way(text)->append(text, wire);
}

static void when_room(struct delivery_text *text)
{
    way(text)->when_room(text);
}

static void forget_room(struct delivery_text *text)
{
    delivery_maildir.forget_room(text);
    delivery_log.forget_room(text);
}

/* ---- Looking ---- */

static void looks_end(struct delivery_text *text)
{
    free(text->looks);
    text->looks = NULL;
}

static void look_end(struct delivery_look *look)
{
    mailstore_user_close(look->text->mailbox->texts, look->user);
    look->user = NULL;
    look->text->looking--;
}

/* Has he no room but for what is on its way, and perhaps found already? A look tells. */
static bool is_doubtful(const struct delivery_look *look)
{
    const struct delivery_text *text = look->text;
    const struct mailstore_user *user = look->user;
    const struct quota limit = quota_limit(text->mailbox->conf, look->user, slice_text("INBOX"));
    uint64_t bytes = user->totals.bytes + mailstore_draft_bytes(text->message);
    uint64_t messages = user->totals.messages + 1;
    bool fits = (limit.bytes == 0 || bytes <= limit.bytes) &&
                (limit.messages == 0 || messages <= limit.messages);
    return fits && ((limit.bytes != 0 && bytes + user->coming.bytes > limit.bytes) ||
                    (limit.messages != 0 && messages + user->coming.messages > limit.messages));
}

/* Whatever came of it: what is known has to do. */
static void looked(struct mailstore_waiter *waiter, int status)
{
    struct delivery_look *look = list_entry(waiter, struct delivery_look, looked);
    struct delivery_text *text = look->text;
    if (status == 0 && text->mailbox->quotas != NULL) {
        quota_looked(text->mailbox->quotas, look->user->name);
    }
    if (status == 0 && ++look->looks < LOOKS_MAX && is_doubtful(look) &&
        mailstore_peek(text->mailbox->texts, look->user, &look->looked) == 0) {
        return;
    }
    look_end(look);
    if (text->looking > 0) {
        return;
    }
    looks_end(text);
    if (delivery_log.commit(text) != 0) {
        text->committed(text);
    }
}

/* Rules for mailboxes may let him have less than this one. */
static bool is_known(const struct delivery_text *text, const struct mailstore_user *user)
{
    const struct mailbox *mailbox = text->mailbox;
    const struct mailboxd_conf *conf = mailbox->conf;
    uint64_t bytes = user->totals.bytes + user->coming.bytes +
                     mailstore_draft_bytes(text->message) * ROOM_FOR_MANY;
    uint64_t messages = user->totals.messages + user->coming.messages + ROOM_FOR_MANY;
    return (text->wants & SIEVE_SCRIPTS_MAILBOXES) == 0 && mailbox->quotas != NULL &&
           conf->users.quota_rules_count == 0 && quota_is_fresh(mailbox->quotas, user->name) &&
           (conf->users.quota_bytes == 0 || bytes <= conf->users.quota_bytes) &&
           (conf->users.quota_messages == 0 || messages <= conf->users.quota_messages);
}

static void look_begin(struct delivery_text *text, uint32_t index)
{
    struct mailstore *store = text->mailbox->texts;
    struct delivery_look *look = &text->looks[index];
    struct mailstore_user *user;
    if (mailstore_user_open(store, slice_text(text->recipients[index].user), &user) != 0) {
        return;
    }
    look->text = text;
    look->looked.done = looked;
    if (!is_known(text, user) && mailstore_peek(store, user, &look->looked) == 0) {
        look->user = user;
        text->looking++;
    } else {
        mailstore_user_close(store, user);
    }
}

static int commit(struct delivery_text *text)
{
    if (!text->by_store) {
        return delivery_maildir.commit(text);
    }
    bool looks = (text->wants & SIEVE_SCRIPTS_MAILBOXES) != 0 ||
                 mailboxd_conf_has_quota(text->mailbox->conf);
    text->looking = 0;
    text->looks = looks ? calloc(text->recipient_count, sizeof text->looks[0]) : NULL;
    for (uint32_t i = 0; text->looks != NULL && i < text->recipient_count; i++) {
        look_begin(text, i);
    }
    if (text->looking > 0) {
        return 0;
    }
    looks_end(text);
    return delivery_log.commit(text);
}

/* ---- Its end ---- */

static void abort_text(struct delivery_text *text)
{
    way(text)->abort(text);
}

static void close_text(struct delivery_text *text)
{
    bool looks = text->looks != NULL;
    for (uint32_t i = 0; looks && i < text->recipient_count; i++) {
        if (text->looks[i].user != NULL) {
            mailstore_waiter_cancel(text->mailbox->texts, &text->looks[i].looked);
            look_end(&text->looks[i]);
        }
    }
    looks_end(text);
    if (looks) {
        delivery_log.abort(text);
    }
    delivery_log.close(text);
    delivery_maildir.close(text);
}

const struct delivery_store delivery_files = {.reserve = reserve,
                                              .begin = begin,
                                              .id = id,
                                              .append = append,
                                              .when_room = when_room,
                                              .forget_room = forget_room,
                                              .commit = commit,
                                              .abort = abort_text,
                                              .close = close_text};
