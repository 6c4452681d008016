/* mailbox quota, kept, undelete: what a user has, and what of it was expunged and can be had back. */
#include "engine/mailbox/mailbox_control_private.h"
#include "engine/mailbox/quota.h"
#include <stdlib.h>

#define PAGE 500u

static void quota_tell(struct mailbox_job *job, const struct mailbox *mailbox,
                       struct mailstore_user *user)
{
    const struct quota used = quota_used(mailbox->conf, user);
    job_line(job,
             json_pack("{s:o,s:I,s:I,s:I,s:I,s:I}", "user", control_text(slice_text(user->name)),
                       "bytes", (json_int_t)used.bytes, "messages", (json_int_t)used.messages,
                       "mailboxes", (json_int_t)user->totals.boxes, "bytes_max",
                       (json_int_t)mailbox->conf->users.quota_bytes, "messages_max",
                       (json_int_t)mailbox->conf->users.quota_messages));
}

/* What others have put into his Maildir counts, too. */
struct quota_look {
    struct list_node node; /* in the looks of this shard's control */
    struct mailbox *mailbox;
    struct mailbox_job *job;
    struct mailstore_user *user;
    struct mailstore_waiter waiter;
};

static void quota_look_end(struct quota_look *look)
{
    struct mailbox_job *job = look->job;
    list_remove(&look->node);
    mailstore_user_close(look->mailbox->texts, look->user);
    free(look);
    job_go_on(job);
}

static void quota_looked(struct mailstore_waiter *waiter, int status)
{
    struct quota_look *look = list_entry(waiter, struct quota_look, waiter);
    (void)status; /* what was known is told in any case */
    quota_tell(look->job, look->mailbox, look->user);
    quota_look_end(look);
}

/* False: there is nothing to look at. */
static bool quota_look_begin(struct mailbox_job *job, struct mailbox *mailbox,
                             struct mailstore_user *user)
{
    struct quota_look *look = mailstore_has_maildirs(mailbox->texts)
                                  ? (struct quota_look *)calloc(1, sizeof *look)
                                  : NULL;
    if (look == NULL) {
        return false;
    }
    *look = (struct quota_look){
        .mailbox = mailbox, .job = job, .user = user, .waiter = {.done = quota_looked}};
    if (mailstore_peek(mailbox->texts, user, &look->waiter) != 0) {
        free(look);
        return false;
    }
    list_init(&look->node);
    list_append(&mailbox->control->looks, &look->node);
    return true;
}

static void quota_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct mailstore_user *user;
    if (!job_user(job, mailbox, &user)) {
        job_go_on(job);
    } else if (!quota_look_begin(job, mailbox, user)) {
        quota_tell(job, mailbox, user);
        mailstore_user_close(mailbox->texts, user);
        job_go_on(job);
    }
}

static void quota_looks_end(struct mailbox_control *control)
{
    while (!list_empty(&control->looks)) {
        struct quota_look *look = list_entry(control->looks.next, struct quota_look, node);
        mailstore_waiter_cancel(control->mailbox->texts, &look->waiter);
        job_refuse(look->job, "failed", "the service has ended");
        quota_look_end(look);
    }
}

static void job_ask(struct mailbox_control *control, struct control_request *request,
                    const struct mailbox_order *order, size_t size,
                    void (*there)(struct mailbox_job *job, struct mailbox *mailbox))
{
    struct mailbox_job *job = job_new(control, request, order, size);
    if (job != NULL) {
        job->there = there;
        job_visit(job);
    }
}

void quota_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order)
{
    job_ask(control, request, order, sizeof(struct mailbox_job), quota_there);
}

/* The user and his mailbox; false: it was refused. */
static bool box_find(struct mailbox_job *job, struct mailbox *mailbox, struct mailstore_user **user,
                     struct mailstore_box **box)
{
    const char *name = job->order.mailbox;
    if (!job_user(job, mailbox, user)) {
        return false;
    }
    *box = mailstore_box_find(*user, slice_text(name[0] != '\0' ? name : "INBOX"));
    if (*box == NULL) {
        mailstore_user_close(mailbox->texts, *user);
        job_refuse(job, "not-found", "there is no such mailbox");
        return false;
    }
    return true;
}

/* ---- What is kept ---- */

struct listing {
    struct mailbox_job job; /* first */
    uint64_t count;         /* those visited, the ones in front of the cursor too */
};

static json_t *flags_json(const struct mailstore_entry *entry)
{
    static const char *const names[] = {"\\Seen", "\\Answered", "\\Flagged", "\\Deleted",
                                        "\\Draft"};
    json_t *json = json_array();
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((entry->flags & 1u << i) != 0) {
            json_array_append_new(json, json_string(names[i]));
        }
    }
    return json;
}

static void entry_list(void *owner, const struct mailstore_entry *entry)
{
    struct listing *listing = (struct listing *)owner;
    uint64_t number = listing->count++;
    const uint64_t cursor = listing->job.order.cursor;
    if (number >= cursor && number - cursor < PAGE) {
        job_line(&listing->job,
                 json_pack("{s:I,s:I,s:o,s:I,s:I}", "uid", (json_int_t)entry->uid, "bytes",
                           (json_int_t)entry->bytes, "flags", flags_json(entry), "date",
                           (json_int_t)entry->internal_s, "expunged", (json_int_t)entry->saved_s));
    }
}

static void kept_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct listing *listing = (struct listing *)job;
    struct mailstore_user *user;
    struct mailstore_box *box;
    if (box_find(job, mailbox, &user, &box)) {
        const uint64_t cursor = job->order.cursor;
        int status = mailstore_expunged(mailbox->texts, box, entry_list, listing);
        mailstore_user_close(mailbox->texts, user);
        if (status < 0) {
            job_refuse(job, "failed", strerror(-status));
        } else if (listing->count > cursor && listing->count - cursor > PAGE) {
            uint64_t next = cursor + PAGE;
            job->next = json_integer((json_int_t)next);
        }
    }
    job_go_on(job);
}

void kept_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order)
{
    job_ask(control, request, order, sizeof(struct listing), kept_there);
}

/* ---- Undelete ---- */

struct undelete {
    struct list_node node; /* in the undeletes of this shard's control */
    struct mailbox *mailbox;
    struct mailbox_job *job;
    struct mailstore_user *user;
    struct mailstore_waiter waiter;
    struct mailstore_restore restore;
    /* Which are meant. */
    struct mailstore_uids *asked; /* owned; NULL: all */
    uint32_t asked_count;
    uint64_t since_s; /* of the epoch */
    struct mailstore_uids
        *uids; /* owned: those that are kept, each a range of its own, until it is sorted */
    uint32_t uid_count, uid_room;
    bool failed; /* memory was short */
};

static void undelete_free(struct undelete *undelete)
{
    list_remove(&undelete->node);
    mailstore_user_close(undelete->mailbox->texts, undelete->user);
    free(undelete->asked);
    free(undelete->uids);
    free(undelete);
}

/* What was told goes home. */
static void undelete_end(struct undelete *undelete)
{
    struct mailbox_job *job = undelete->job;
    undelete_free(undelete);
    job_go_on(job);
}

/* "1:3,7". 0, -EINVAL, -ENOMEM. */
static int uids_read(struct undelete *undelete, const char *text)
{
    undelete->asked =
        (struct mailstore_uids *)calloc(ORDER_UIDS_BYTES / 2, sizeof undelete->asked[0]);
    if (undelete->asked == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        char *end = NULL;
        unsigned long first = strtoul(text, &end, 10), last = first;
        bool good = text[0] >= '0' && text[0] <= '9';
        if (good && *end == ':') {
            text = end + 1;
            last = strtoul(text, &end, 10);
            good = text[0] >= '0' && text[0] <= '9';
        }
        if (!good || first == 0 || first > UINT32_MAX || last < first || last > UINT32_MAX ||
            (*end != ',' && *end != '\0')) {
            return -EINVAL;
        }
        undelete->asked[undelete->asked_count++] =
            (struct mailstore_uids){(uint32_t)first, (uint32_t)last};
        if (*end == '\0') {
            return 0;
        }
        text = end + 1;
    }
}

static bool is_asked(const struct undelete *undelete, uint32_t uid)
{
    bool found = undelete->asked == NULL;
    for (uint32_t i = 0; i < undelete->asked_count && !found; i++) {
        found = uid >= undelete->asked[i].first && uid <= undelete->asked[i].last;
    }
    return found;
}

static void entry_gather(void *owner, const struct mailstore_entry *entry)
{
    struct undelete *undelete = (struct undelete *)owner;
    if (entry->saved_s < undelete->since_s || !is_asked(undelete, entry->uid)) {
        return;
    }
    if (undelete->uid_count == undelete->uid_room) {
        uint32_t room = undelete->uid_room * 2 + 256;
        struct mailstore_uids *larger =
            (struct mailstore_uids *)realloc(undelete->uids, room * sizeof larger[0]);
        if (larger == NULL) {
            undelete->failed = true;
            return;
        }
        undelete->uids = larger;
        undelete->uid_room = room;
    }
    undelete->uids[undelete->uid_count++] = (struct mailstore_uids){entry->uid, entry->uid};
}

static int by_uid(const void *left, const void *right)
{
    const struct mailstore_uids *a = (const struct mailstore_uids *)left;
    const struct mailstore_uids *b = (const struct mailstore_uids *)right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Ascending, and neighbours together. */
static void uids_join(struct undelete *undelete)
{
    uint32_t count = 0;
    qsort(undelete->uids, undelete->uid_count, sizeof undelete->uids[0], by_uid);
    for (uint32_t i = 0; i < undelete->uid_count; i++) {
        uint32_t uid = undelete->uids[i].first;
        if (count > 0 && undelete->uids[count - 1].last + 1 >= uid) {
            undelete->uids[count - 1].last = uid;
        } else {
            undelete->uids[count++] = (struct mailstore_uids){uid, uid};
        }
    }
    undelete->uid_count = count;
}

static void undelete_done(struct mailstore_waiter *waiter, int status)
{
    struct undelete *undelete = list_entry(waiter, struct undelete, waiter);
    const struct mailstore_restore *restore = &undelete->restore;
    if (status < 0) {
        job_refuse(undelete->job, "failed", strerror(-status));
    } else {
        job_line(undelete->job,
                 json_pack("{s:I,s:I,s:I}", "restored", (json_int_t)restore->restored_count,
                           "first", (json_int_t)restore->first, "last", (json_int_t)restore->last));
    }
    undelete_end(undelete);
}

/* 0: it is under way; 1: nothing is meant; -errno. */
static int undelete_begin(struct undelete *undelete, struct mailstore_box *box)
{
    struct mailstore *texts = undelete->mailbox->texts;
    int status = mailstore_expunged(texts, box, entry_gather, undelete);
    if (status < 0 || undelete->failed) {
        return status < 0 ? status : -ENOMEM;
    }
    if (undelete->uid_count == 0) {
        return 1;
    }
    uids_join(undelete);
    undelete->restore.uids = undelete->uids;
    undelete->restore.uid_count = undelete->uid_count;
    undelete->waiter.done = undelete_done;
    return mailstore_restore(texts, box, &undelete->restore, &undelete->waiter);
}

static void undelete_refuse(struct undelete *undelete, int status)
{
    if (status == 1) {
        job_refuse(undelete->job, "not-found", "nothing of it is kept");
    } else if (status == -EINVAL) {
        job_refuse(undelete->job, "bad-request", "expected uids such as 1:3,7");
    } else {
        job_refuse(undelete->job, "failed", strerror(-status));
    }
    undelete_end(undelete);
}

static struct undelete *undelete_new(struct mailbox_job *job, struct mailbox *mailbox,
                                     struct mailstore_user *user)
{
    struct undelete *undelete = (struct undelete *)calloc(1, sizeof *undelete);
    if (undelete == NULL) {
        return NULL;
    }
    undelete->mailbox = mailbox;
    undelete->job = job;
    undelete->user = user;
    list_init(&undelete->node);
    list_append(&mailbox->control->undeletes, &undelete->node);
    if (job->order.has_since) {
        uint64_t now_s = (uint64_t)world_wall_s(mailbox->shard->world);
        undelete->since_s = now_s > job->order.since_s ? now_s - job->order.since_s : 0;
    }
    return undelete;
}

static void undelete_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct mailstore_user *user;
    struct mailstore_box *box;
    if (!box_find(job, mailbox, &user, &box)) {
        job_go_on(job);
        return;
    }
    struct undelete *undelete = undelete_new(job, mailbox, user);
    if (undelete == NULL) {
        mailstore_user_close(mailbox->texts, user);
        job_refuse(job, "failed", "out of memory");
        job_go_on(job);
        return;
    }
    int status = job->order.uids[0] != '\0' ? uids_read(undelete, job->order.uids) : 0;
    status = status == 0 ? undelete_begin(undelete, box) : status;
    if (status != 0) {
        undelete_refuse(undelete, status);
    }
}

void undelete_ask(struct mailbox_control *control, struct control_request *request,
                  const struct mailbox_order *order)
{
    job_ask(control, request, order, sizeof(struct mailbox_job), undelete_there);
}

void kept_end(struct mailbox_control *control)
{
    quota_looks_end(control);
    while (!list_empty(&control->undeletes)) {
        struct undelete *undelete = list_entry(control->undeletes.next, struct undelete, node);
        mailstore_waiter_cancel(control->mailbox->texts, &undelete->waiter);
        job_refuse(undelete->job, "failed", "the service has ended");
        undelete_end(undelete);
    }
}
