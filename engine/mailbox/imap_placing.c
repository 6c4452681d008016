#include "engine/mailbox/imap_placing.h"
#include "engine/core/check.h"
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/quota.h"
#include <stdlib.h>

/* Ranges of uids that ascend. */
struct ranges {
    struct mailstore_uids *all; /* of the heap */
    uint32_t count, room;
    bool failed;
};

/* On its way. Of the shard on which it is. */
struct errand {
    struct crossing_note note; /* first */
    struct mailbox_group *group;
    struct imap_placing *placing; /* one of its two holds */
    struct mailbox *mailbox;      /* where it waits */
    unsigned home, target, source;
    bool move;
    uint64_t source_user, source_box;
    struct ranges carried; /* in the source */
    uint32_t messages;
    struct ranges moved, placed, back; /* in the source; in the target; of it those that go again */
    uint32_t moved_messages;
    uint32_t first; /* uid in the target */
    struct imap_placed result;
    struct mailstore_waiter waiter;
    struct mailstore_user *user; /* of the source */
    struct mailstore_user *owner;
    struct carriage *carriage;
    struct mailstore_box *box; /* of it, open */
    struct mailstore_copy copy;
    struct mailstore_expunge expunge;
    char who[USER_NAME_BYTES], owner_name[USER_NAME_BYTES];
    char mailbox_name[MAILSTORE_NAME_BYTES_MAX + 1], carriage_name[CARRIAGE_NAME_BYTES];
};

/* What the session has of it; of its shard, but for the count. */
struct imap_placing {
    atomic_uint holds;            /* the session's, the errand's */
    struct imap_session *session; /* NULL: it has left */
    struct errand *errand;        /* when it is over */
};

static void target_arrives(struct shard_message *message, struct shard *shard);
static void source_arrives(struct shard_message *message, struct shard *shard);
static void back_arrives(struct shard_message *message, struct shard *shard);
static void home_arrives(struct shard_message *message, struct shard *shard);

/* ---- Its life ---- */

static void placing_drop(struct imap_placing *placing)
{
    if (atomic_fetch_sub(&placing->holds, 1) == 1) {
        free(placing);
    }
}

static void errand_free(struct errand *errand)
{
    atomic_fetch_sub(&errand->group->placings, 1);
    placing_drop(errand->placing);
    free(errand->carried.all);
    free(errand->moved.all);
    free(errand->placed.all);
    free(errand->back.all);
    free(errand);
}

/* The shard has ended: what is not done stays so. */
static void errand_dropped(struct shard_message *message)
{
    errand_free(list_entry(message, struct errand, note.message));
}

static void errand_go(struct errand *errand, struct mailbox *from, unsigned to,
                      void (*arrives)(struct shard_message *, struct shard *))
{
    if (from->left) { /* nothing crosses any more */
        errand_free(errand);
        return;
    }
    errand->note.message.run = arrives;
    crossing_send(from->crossing, errand->group->members[to]->shard, &errand->note);
}

static void errand_home(struct errand *errand, struct mailbox *from, int status)
{
    errand->result.status = status;
    errand_go(errand, from, errand->home, home_arrives);
}

static struct errand *errand_of(struct shard_message *message, const struct shard *shard)
{
    struct errand *errand = list_entry(message, struct errand, note.message);
    errand->mailbox = errand->group->members[shard->settings.index];
    return errand;
}

/* ---- Ranges ---- */

static void range_add(struct ranges *ranges, struct mailstore_uids range)
{
    struct mailstore_uids *last = ranges->count > 0 ? &ranges->all[ranges->count - 1] : NULL;
    if (last != NULL && last->last + 1 == range.first) {
        last->last = range.last;
        return;
    }
    if (ranges->count == ranges->room) {
        uint32_t room = ranges->room * 2 + 8;
        struct mailstore_uids *grown =
            (struct mailstore_uids *)realloc(ranges->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            ranges->failed = true;
            return;
        }
        ranges->all = grown;
        ranges->room = room;
    }
    check(ranges->all != NULL);
    ranges->all[ranges->count++] = range;
}

static struct ranges ranges_given(struct mailstore_uids *all, uint32_t count)
{
    return (struct ranges){.all = all, .count = count, .room = count};
}

/* Of those in the target: which came from `moved`, and which did not. What is carried ascends, and so does what came of it. */
static void divide(struct errand *errand)
{
    uint32_t target = errand->first, at = 0;
    const struct ranges *moved = &errand->moved;
    check(errand->carried.all != NULL && (moved->all != NULL || moved->count == 0));
    for (uint32_t i = 0; i < errand->carried.count; i++) {
        struct mailstore_uids range = errand->carried.all[i];
        for (uint64_t uid = range.first; uid <= range.last; uid++, target++) {
            const struct mailstore_uids one = {target, target};
            while (at < moved->count && moved->all[at].last < uid) {
                at++;
            }
            bool is = at < moved->count && moved->all[at].first <= uid;
            range_add(is ? &errand->placed : &errand->back, one);
            errand->moved_messages += is;
        }
    }
}

/* ---- The session ---- */

static bool errand_fill(struct errand *errand, const struct imap_session *session,
                        const struct imap_placing_order *order)
{
    if (order->owner.size >= sizeof(errand->owner_name) ||
        order->mailbox.size >= sizeof(errand->mailbox_name)) {
        return false;
    }
    errand->group = session->session.mailbox->group;
    errand->home = mailbox_index(session->session.mailbox);
    errand->target = order->target;
    errand->source = order->source;
    errand->move = order->move;
    errand->source_user = order->source_user;
    errand->source_box = order->source_box;
    errand->messages = order->messages;
    memcpy(errand->owner_name, order->owner.bytes, order->owner.size);
    memcpy(errand->mailbox_name, order->mailbox.bytes, order->mailbox.size);
    snprintf(errand->carriage_name, sizeof(errand->carriage_name), "%s", order->carriage);
    strcpy(errand->who, session->user->name);
    errand->note.message.dropped = errand_dropped;
    return true;
}

struct imap_placing *imap_placing_begin(struct imap_session *session,
                                        const struct imap_placing_order *order)
{
    struct imap_placing *placing = (struct imap_placing *)calloc(1, sizeof(*placing));
    struct errand *errand = (struct errand *)calloc(1, sizeof(*errand));
    if (placing == NULL || errand == NULL || !errand_fill(errand, session, order)) {
        free(placing);
        free(errand);
        free(order->uids);
        return NULL;
    }
    errand->carried = ranges_given(order->uids, order->uid_count);
    errand->placing = placing;
    placing->holds = 2;
    placing->session = session;
    atomic_fetch_add(&errand->group->placings, 1);
    errand_go(errand, session->session.mailbox, errand->target, target_arrives);
    return placing;
}

const struct imap_placed *imap_placing_result(const struct imap_placing *placing)
{
    return placing->errand != NULL ? &placing->errand->result : NULL;
}

void imap_placing_leave(struct imap_placing *placing)
{
    placing->session = NULL;
    if (placing->errand != NULL) {
        errand_free(placing->errand);
    }
    placing_drop(placing);
}

static void home_arrives(struct shard_message *message, struct shard *shard)
{
    struct errand *errand = errand_of(message, shard);
    struct imap_placing *placing = errand->placing;
    const struct ranges *sources = errand->move ? &errand->moved : &errand->carried;
    if (placing->session == NULL) {
        errand_free(errand);
        return;
    }
    bool known = !errand->moved.failed && !errand->placed.failed;
    errand->result.message_count = errand->move ? errand->moved_messages : errand->messages;
    errand->result.sources = sources->all;
    errand->result.source_count = known ? sources->count : 0;
    errand->result.targets = errand->placed.all;
    errand->result.target_count = known ? errand->placed.count : 0;
    placing->errand = errand;
    imap_session_later(placing->session);
}

/* ---- The target ---- */

/* What it was found by, on this shard. */
static void target_leave(struct errand *errand)
{
    struct mailstore *store = errand->mailbox->texts;
    if (errand->box != NULL) {
        mailstore_box_close(store, errand->box);
        errand->box = NULL;
    }
    if (errand->carriage != NULL) {
        carriage_end(errand->carriage);
        errand->carriage = NULL;
    }
    if (errand->owner != NULL) {
        mailstore_user_close(store, errand->owner);
        errand->owner = NULL;
    }
}

/* All of them, or its agent has ended and it is not to be any more. */
static int carriage_find(struct errand *errand)
{
    struct mailstore *store = errand->mailbox->texts;
    struct carriage *carriage = carriage_take(errand->mailbox, errand->carriage_name);
    if (carriage == NULL) {
        return -EAGAIN;
    }
    errand->carriage = carriage;
    struct mailstore_box *box = mailstore_box_by_id(carriage->user, carriage->create.box);
    int status = box != NULL ? mailstore_box_open(store, box) : -EIO;
    errand->box = status == 0 ? box : NULL;
    return status == 0 && box->count != errand->messages ? -EIO : status;
}

/* 0; -ENOENT; -EACCES. */
static int place_find(struct errand *errand, uint32_t *rights)
{
    struct mailstore *store = errand->mailbox->texts;
    struct slice name = slice_text(errand->mailbox_name), who = slice_text(errand->who);
    bool own = slice_equal(slice_text(errand->owner_name), who);
    int status = mailstore_user_open(store, slice_text(errand->owner_name), &errand->owner);
    struct mailstore_box *box = status == 0 ? mailstore_box_find(errand->owner, name) : NULL;
    if (status != 0) {
        return status;
    }
    if (box == NULL) { /* INBOX comes to be */
        *rights = IMAP_RIGHTS_ALL;
        return own && slice_equal_nocase(name, slice_text("INBOX")) ? 0 : -ENOENT;
    }
    *rights = imap_rights_of_user(store, who, box);
    if (*rights & IMAP_RIGHT_INSERT) {
        return 0;
    }
    return *rights & IMAP_RIGHT_LOOKUP ? -EACCES : -ENOENT;
}

/* ---- Back ---- */

static void taken_back(struct mailstore_waiter *waiter, int status)
{
    struct errand *errand = list_entry(waiter, struct errand, waiter);
    (void)status; /* then they are in both */
    target_leave(errand);
    errand_home(errand, errand->mailbox, errand->result.status);
}

/* Of the target, on its shard. */
static void take_back(struct errand *errand)
{
    struct mailstore *store = errand->mailbox->texts;
    struct mailstore_box *box = NULL;
    if (!errand->mailbox->left &&
        mailstore_user_open(store, slice_text(errand->owner_name), &errand->owner) == 0) {
        box = mailstore_box_by_id(errand->owner, errand->result.box);
    }
    errand->expunge = (struct mailstore_expunge){
        .uids = errand->back.all, .uid_count = errand->back.count, .at_once = true};
    errand->waiter.done = taken_back;
    if (box == NULL || mailstore_expunge(store, box, &errand->expunge, &errand->waiter) != 0) {
        taken_back(&errand->waiter, 0);
    }
}

static void back_arrives(struct shard_message *message, struct shard *shard)
{
    take_back(errand_of(message, shard));
}

/* ---- Into their place ---- */

static void placed(struct mailstore_waiter *waiter, int status)
{
    struct errand *errand = list_entry(waiter, struct errand, waiter);
    const struct mailstore_copy *copy = &errand->copy;
    uint32_t count = copy->target_last > 0 ? copy->target_last - copy->target_first + 1 : 0;
    free(copy->sources);
    target_leave(errand);
    if (status != 0) {
        errand_home(errand, errand->mailbox, status);
        return;
    }
    errand->result.box = copy->target_box;
    if (count != errand->messages) { /* another program has removed files of the carriage */
        errand->result.status = -EIO;
        range_add(&errand->back, (struct mailstore_uids){copy->target_first, copy->target_last});
        take_back(errand);
        return;
    }
    errand->result.uidvalidity = copy->target_uidvalidity;
    errand->first = copy->target_first;
    if (errand->move) {
        errand_go(errand, errand->mailbox, errand->source, source_arrives);
        return;
    }
    range_add(&errand->placed, (struct mailstore_uids){copy->target_first, copy->target_last});
    errand_home(errand, errand->mailbox, 0);
}

static void target_arrives(struct shard_message *message, struct shard *shard)
{
    static const struct mailstore_uids all = {1, UINT32_MAX};
    struct errand *errand = errand_of(message, shard);
    struct mailbox *mailbox = errand->mailbox;
    uint32_t rights = 0;
    int status = mailbox->left ? -EAGAIN : carriage_find(errand);
    status = status == 0 ? place_find(errand, &rights) : status;
    if (status == 0) {
        uint8_t allowed = imap_flags_allowed(rights);
        struct slice name = slice_text(errand->mailbox_name);
        struct quota quota = quota_limit(mailbox->conf, errand->owner, name);
        errand->copy = (struct mailstore_copy){.uids = &all,
                                               .uid_count = 1,
                                               .user = slice_text(errand->owner_name),
                                               .mailbox = name,
                                               .flags_lost = MAILSTORE_FLAGS_ALL & ~allowed,
                                               .keywords_lost = !(allowed & MAILSTORE_FLAGGED),
                                               .quota_bytes = quota.bytes,
                                               .quota_messages = quota.messages};
        errand->waiter.done = placed;
        status = mailstore_copy(mailbox->texts, errand->box, &errand->copy, &errand->waiter);
    }
    if (status != 0) {
        target_leave(errand);
        errand_home(errand, mailbox, status);
    }
}

/* ---- The source ---- */

/* Whatever is in `moved` is only in the target now. */
static void taken(struct errand *errand, int status)
{
    errand->result.status = status;
    if (!errand->moved.failed) { /* else: better twice than never */
        divide(errand);
    }
    if (errand->back.count > 0 && !errand->back.failed) {
        errand_go(errand, errand->mailbox, errand->target, back_arrives);
    } else {
        errand_home(errand, errand->mailbox, status);
    }
}

static void all_moved(struct errand *errand)
{
    for (uint32_t i = 0; i < errand->carried.count; i++) {
        range_add(&errand->moved, errand->carried.all[i]);
    }
}

static void expunged(struct mailstore_waiter *waiter, int status)
{
    struct errand *errand = list_entry(waiter, struct errand, waiter);
    const struct mailstore_expunge *expunge = &errand->expunge;
    mailstore_user_close(errand->mailbox->texts, errand->user);
    errand->user = NULL;
    if (status == 0 && expunge->gone == NULL && expunge->expunged_count > 0) {
        all_moved(errand); /* not known which: better twice than never */
    } else if (status == 0) {
        errand->moved = ranges_given(expunge->gone, expunge->gone_count);
    }
    taken(errand, status);
}

static void source_arrives(struct shard_message *message, struct shard *shard)
{
    struct errand *errand = errand_of(message, shard);
    struct mailstore *store = errand->mailbox->texts;
    int status = errand->mailbox->left ? -EAGAIN : 0;
    status =
        status == 0 ? mailstore_user_open_by_id(store, errand->source_user, &errand->user) : status;
    struct mailstore_box *box =
        status == 0 ? mailstore_box_by_id(errand->user, errand->source_box) : NULL;
    bool gone = status == -ENOENT || (status == 0 && box == NULL);
    if (box != NULL) {
        errand->expunge = (struct mailstore_expunge){.uids = errand->carried.all,
                                                     .uid_count = errand->carried.count,
                                                     .at_once = true, /* as those of a MOVE */
                                                     .carried = true};
        errand->waiter.done = expunged;
        status = mailstore_expunge(store, box, &errand->expunge, &errand->waiter);
        gone = status == -ENOENT;
    }
    if (box != NULL && status == 0) {
        return;
    }
    if (errand->user != NULL) {
        mailstore_user_close(store, errand->user);
        errand->user = NULL;
    }
    if (gone) { /* all of the mailbox, while they were under way: what is left of them are ours */
        all_moved(errand);
    }
    taken(errand, gone ? 0 : status);
}
