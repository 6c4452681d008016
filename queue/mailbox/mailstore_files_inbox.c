/*
 * INBOX of a Maildir is renamed: a mailbox of the new name comes to be, with its messages and annotations, and INBOX stays,
 * empty (RFC 9051 §6.3.6). The messages get links there before they are expunged here: after a crash between they are in
 * both.
 */
#include "queue/mailbox/mailstore_files.h"
#include <stdlib.h>

int files_inbox_rename(struct user *user, struct slice name, struct mailstore_waiter *waiter)
{
    const struct mailstore_uids all = {1, UINT32_MAX};
    const struct mailstore_copy copy = {.uids = &all, .uid_count = 1};
    struct box *inbox = user_box(user, slice_text("INBOX"));
    uint64_t bytes = 0;
    int status = inbox != NULL ? box_need(inbox) : 0;
    struct op *op = status == 0 ? op_new(user, OP_INBOX, waiter, NULL) : NULL;
    if (op == NULL) {
        return status != 0 ? status : -ENOMEM;
    }
    op_name_keep(op->to, name);
    strcpy(op->mailbox, "INBOX");
    if (inbox != NULL) {
        op->box = inbox->pub.id;
        status = op_copy_fill(op, inbox, &copy, &bytes);
        op->copy.uidvalidity = inbox->pub.uidvalidity;
        op->copy.from = op->mailbox;
        op->copy.to = op->to;
    }
    if (status != 0) {
        op_free(op);
        return status;
    }
    op_queue(op);
    return 0;
}

int inbox_work(struct op *op)
{
    struct home *home = op->mirror->home;
    int status = home_create(home, op->to, &op->news);
    if (status != 0 || op->copy.count == 0) {
        return status;
    }
    status = home_copy(home, &op->copy, &op->news);
    if (status != 0) { /* it has never been there */
        home_withdraw(home, op->to);
        home_news_free(op->news);
        op->news = NULL;
    }
    return status;
}

/* Those that were there; others have come since, and stay. */
static int inbox_empty(struct op *op, struct box *inbox)
{
    const struct home_copy *copy = &op->copy;
    struct mailstore_uids *uids = malloc((copy->copied_count + 1) * sizeof uids[0]);
    if (uids == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < copy->copied_count; i++) {
        uids[i] = (struct mailstore_uids){copy->copied[i], copy->copied[i]};
    }
    op->expunge = (struct mailstore_expunge){
        .uids = uids, .uid_count = (uint32_t)copy->copied_count, .at_once = true};
    int status = mailstore_expunge(inbox->user->store, &inbox->pub, &op->expunge, &op->durable);
    free(uids);
    return status;
}

int inbox_end(struct op *op)
{
    struct user *user = op->mirror->user;
    struct box *inbox = op->status == 0 ? user_box_by_id(user, op->box) : NULL;
    if (inbox == NULL) {
        return op->status;
    }
    bool last = op->copy.copied_count == 0;
    struct change *change =
        user_change(user->store, &user->pub, CHANGE_RENAME, NULL, last ? &op->durable : NULL);
    if (change == NULL) {
        return -ENOMEM;
    }
    write_u64(&change->content, op->box);
    write_text(&change->content, slice_text(op->to));
    op->ending = true;
    int status = change_submit(change);
    status = status == 0 && !last ? inbox_empty(op, inbox) : status;
    return status == 0 ? -EINPROGRESS : status;
}
