/* What comes of an op: its news are changes, one after the other, then those for keywords, and then what it was for. */
#include "queue/mailbox/mailstore_files.h"
#include <stdlib.h>

static void op_durable(struct mailstore_waiter *waiter, int status)
{
    struct op *op = list_entry(waiter, struct op, durable);
    if (op->ending) {
        op_end(op, status);
        return;
    }
    if (status != 0 &&
        status != -ENOENT) { /* what the Maildir has told is lost: it is asked anew */
        op->mirror->told = op->mirror->rests = false;
        op->status = op->status != 0 ? op->status : status;
        home_news_free(op->news);
        op->news = NULL;
    }
    op_go_on(op);
}

static void ranges_of(const struct home_copy *copy, struct mailstore_copy *result)
{
    struct mailstore_uids *ranges = malloc((copy->copied_count + 1) * sizeof ranges[0]);
    uint32_t count = 0;
    for (size_t i = 0; ranges != NULL && i < copy->copied_count; i++) {
        if (count > 0 && ranges[count - 1].last + 1 == copy->copied[i]) {
            ranges[count - 1].last++;
        } else {
            ranges[count++] = (struct mailstore_uids){copy->copied[i], copy->copied[i]};
        }
    }
    result->sources = ranges;
    result->source_count = count;
}

/* -EINPROGRESS: a change is on its way, and is the last. */
static int copy_end(struct op *op)
{
    struct mailstore_copy *result = op->asked.result, untold = {0};
    struct mailstore *store = op->mirror->files->store;
    const struct home_copy *copy = &op->copy;
    const struct box *target = user_box(op->mirror->user, slice_text(op->to));
    if (op->status != 0 || copy->copied_count == 0) {
        return op->status;
    }
    result = result != NULL ? result : &untold;
    ranges_of(copy, result);
    if (target != NULL) {
        result->target_box = target->pub.id;
        result->target_uidvalidity = target->pub.uidvalidity;
    }
    result->target_first = copy->first;
    result->target_last = copy->first + (uint32_t)copy->copied_count - 1;
    int status = result->sources == NULL ? -ENOMEM : 0;
    if (status == 0 && op->flag) {
        struct user *owner = op->mirror->user, *other = NULL;
        status = op->copy_user != NULL ? user_get(store, slice_text(op->copy_user), &other) : 0;
        owner = other != NULL ? other : owner;
        struct box *source = status == 0 ? user_box_by_id(owner, op->box) : NULL;
        op->expunge = (struct mailstore_expunge){
            .uids = result->sources, .uid_count = result->source_count, .at_once = true};
        op->ending = true;
        status = source == NULL
                     ? status
                     : mailstore_expunge(store, &source->pub, &op->expunge, &op->durable);
        status = source != NULL && status == 0 ? -EINPROGRESS : status;
        if (other != NULL) {
            user_drop(other);
        }
    }
    if (result == &untold) {
        free(untold.sources);
    }
    return status;
}

static int put_end(struct op *op)
{
    struct mailstore_place *place = op->asked.result;
    struct mailstore *store = op->mirror->files->store;
    const struct box *box = user_box(op->mirror->user, slice_text(op->mailbox));
    if (place != NULL) {
        place->status = op->status;
        place->uid = op->uid;
        place->box = box != NULL ? box->pub.id : 0;
        place->uidvalidity = box != NULL ? box->pub.uidvalidity : 0;
    }
    struct box *replaced =
        op->status == 0 && op->box != 0 ? user_box_by_id(op->mirror->user, op->box) : NULL;
    if (replaced == NULL) {
        return 0;
    }
    struct mailstore_uids uid = {op->expunge.expunged_count, op->expunge.expunged_count};
    op->expunge = (struct mailstore_expunge){.uids = &uid, .uid_count = 1};
    op->ending = true;
    return mailstore_expunge(store, &replaced->pub, &op->expunge, &op->durable) == 0 ? -EINPROGRESS
                                                                                     : 0;
}

static int create_end(struct op *op)
{
    struct mailstore_create *result = op->asked.result;
    struct user *user = op->mirror->user;
    struct box *box = user_box(user, slice_text(op->mailbox));
    if (op->status != 0 || box == NULL) {
        return op->status != 0 ? op->status : -EIO;
    }
    if (result != NULL) {
        result->box = box->pub.id;
        result->uidvalidity = box->pub.uidvalidity;
    }
    if (op->flag) {
        struct change *change = user_change(user->store, &user->pub, CHANGE_SUBSCRIBE, NULL, NULL);
        if (change != NULL) { /* else the next look finds it */
            write_u8(&change->content, true);
            write_text(&change->content, slice_text(op->mailbox));
            change_submit(change);
        }
    }
    if (op->special_use == 0) {
        return 0;
    }
    op->ending = true;
    int status = mailstore_box_special_use(user->store, &box->pub, op->special_use, &op->durable);
    return status == 0 ? -EINPROGRESS : status;
}

static int last_change(struct op *op, enum change_kind kind)
{
    struct user *user = op->mirror->user;
    struct change *change = user_change(user->store, &user->pub, kind, NULL, &op->durable);
    if (change == NULL) {
        return -ENOMEM;
    }
    op->ending = true;
    struct writer *writer = &change->content;
    if (kind == CHANGE_SUBSCRIBE) {
        write_u8(writer, op->flag);
        write_text(writer, slice_text(op->mailbox));
    } else if (kind == CHANGE_DELETE) {
        write_u64(writer, op->box);
    } else {
        write_u64(writer, op->box);
        write_text(writer, slice_text(op->to));
        if (op->box == 0) {
            write_text(writer, slice_text(op->mailbox));
        }
    }
    int status = change_submit(change);
    if (status != 0) { /* the Maildir has it, and the next look finds it */
        op->mirror->told = op->mirror->rests = false;
    }
    return status == 0 ? -EINPROGRESS : status;
}

static bool is_listed(const struct op *op, const char *name)
{
    size_t low = 0, high = op->listed_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(op->listed[middle], name);
        if (order == 0) {
            return true;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return false;
}

/* told: waits for it; else NULL. */
static int subscribed_say(const struct op *op, const char *name, bool subscribed,
                          struct mailstore_waiter *told)
{
    struct user *user = op->mirror->user;
    struct change *change = user_change(user->store, &user->pub, CHANGE_SUBSCRIBE, NULL, told);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u8(&change->content, subscribed);
    write_text(&change->content, slice_text(name));
    return change_submit(change);
}

/* The next name, from *at on, that the store has and the file has not, or the other way round. NULL: there is none. */
static const char *subscribed_next(const struct op *op, size_t *at, bool *subscribed)
{
    const struct user *user = op->mirror->user;
    for (; *at < user->subscribed_count; (*at)++) {
        if (!is_listed(op, user->subscribed[*at])) {
            *subscribed = false;
            return user->subscribed[(*at)++];
        }
    }
    *subscribed = true;
    while (*at - user->subscribed_count < op->subscribed_size) {
        const char *name = op->subscribed + (*at - user->subscribed_count);
        *at += strlen(name) + 1;
        if (name_is_good(slice_text(name)) &&
            !mailstore_is_subscribed(&user->pub, slice_text(name))) {
            return name;
        }
    }
    return NULL;
}

static void trouble_tell(const struct op *op)
{
    struct mirror *mirror = op->mirror;
    const struct mailstore_maildirs *settings = &mirror->files->settings;
    if (op->status != mirror->trouble && settings->trouble != NULL) {
        settings->trouble(settings->wake_owner, mirror->user->name, op->status);
    }
    mirror->trouble = op->status;
}

/* All that differs is said; who looks waits for the last. */
static int look_end(struct op *op)
{
    size_t at = 0;
    trouble_tell(op);
    bool subscribed, following;
    const char *name = op->listed != NULL ? subscribed_next(op, &at, &subscribed) : NULL;
    op->mirror->writes |= op->status != 0 && op->writes != NULL;
    op->mirror->tidies |= op->status != 0 && op->tidies;
    while (name != NULL) {
        const char *next = subscribed_next(op, &at, &following);
        op->ending = next == NULL;
        int status = subscribed_say(op, name, subscribed, next == NULL ? &op->durable : NULL);
        if (status != 0 || next == NULL) {
            return op->status != 0 && status != 0 ? op->status
                   : status == 0                  ? -EINPROGRESS
                                                  : status;
        }
        name = next;
        subscribed = following;
    }
    return op->status;
}

static int op_finish(struct op *op)
{
    switch (op->kind) {
    case OP_LOOK:
        return look_end(op);
    case OP_PUT:
        return put_end(op);
    case OP_COPY:
        return copy_end(op);
    case OP_CREATE:
        return create_end(op);
    case OP_DELETE:
        return op->status == 0 ? last_change(op, CHANGE_DELETE) : op->status;
    case OP_RENAME:
        return op->status == 0 ? last_change(op, CHANGE_RENAME) : op->status;
    case OP_SUBSCRIBE:
        return op->status == 0 ? last_change(op, CHANGE_SUBSCRIBE) : op->status;
    case OP_RESTORE:
        return restore_end(op);
    case OP_INBOX:
        return inbox_end(op);
    }
    return -EIO;
}

void op_go_on(struct op *op)
{
    op->durable = (struct mailstore_waiter){.done = op_durable};
    int status = op_say(op);
    status = status == -EALREADY && op->status == 0 ? op_keywords_say(op) : status;
    if (status == -EAGAIN) {
        list_append(&op->mirror->files->stalled, &op->node);
        return;
    }
    if (status == 0) {
        return;
    }
    if (status != -EALREADY) {
        op->mirror->told = op->mirror->rests = false;
        op->status = op->status != 0 ? op->status : status;
    }
    status = op_finish(op);
    if (status != -EINPROGRESS) {
        op_end(op, status);
    }
}
