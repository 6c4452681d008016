/*
 * A folder of a Maildir has letters for 26 keywords. Of messages that were put or copied into one, or came back, the store alone
 * has the others, as it has what STORE adds: by changes of its own, for a keyword each, before the op ends.
 */
#include "queue/mailbox/mailstore_files.h"
#include <stdlib.h>

struct unlettered {
    const char *mailbox;
    char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1];
    uint64_t left_off; /* bits of the names */
};

static struct unlettered unlettered_of(const struct op *op)
{
    switch (op->kind) {
    case OP_PUT:
        return (struct unlettered){op->mailbox, op->keywords, op->message.left_off};
    case OP_COPY:
    case OP_INBOX:
        return (struct unlettered){op->to, op->copy.names, op->copy.left_off};
    case OP_RESTORE:
        return (struct unlettered){op->mailbox, op->restore.names, op->restore.left_off};
    case OP_LOOK:
    case OP_CREATE:
    case OP_DELETE:
    case OP_RENAME:
    case OP_SUBSCRIBE:
        break;
    }
    return (struct unlettered){.left_off = 0};
}

/* Of the source that has become the message `index` of those that came. */
static uint64_t keywords_of(const struct op *op, size_t index, size_t *at)
{
    if (op->kind == OP_PUT) {
        return UINT64_MAX;
    }
    if (op->kind == OP_RESTORE) {
        const struct home_restore *restore = &op->restore;
        while (restore->entries[*at].uid != restore->restored[index]) {
            ++*at;
        }
        return restore->entries[*at].keywords;
    }
    const struct home_copy *copy = &op->copy;
    while (copy->entries[*at].uid != copy->copied[index]) {
        ++*at;
    }
    return copy->entries[*at].keywords;
}

/* Those that are to have the keyword; NULL: memory is short. */
static struct mailstore_uids *uids_of(const struct op *op, unsigned keyword, uint32_t *count)
{
    bool put = op->kind == OP_PUT, restored = op->kind == OP_RESTORE;
    size_t came = put ? 1 : restored ? op->restore.restored_count : op->copy.copied_count;
    uint32_t first = put ? op->uid : restored ? op->restore.first : op->copy.first;
    struct mailstore_uids *uids = malloc((came + 1) * sizeof uids[0]);
    size_t at = 0;
    *count = 0;
    for (size_t i = 0; uids != NULL && i < came; i++) {
        uint32_t uid = first + (uint32_t)i;
        if ((keywords_of(op, i, &at) & 1ull << keyword) == 0) {
            continue;
        }
        if (*count > 0 && uids[*count - 1].last + 1 == uid) {
            uids[*count - 1].last = uid;
        } else {
            uids[(*count)++] = (struct mailstore_uids){uid, uid};
        }
    }
    return uids;
}

static int keyword_say(struct op *op, struct box *box, struct slice name)
{
    op->naming = (struct mailstore_flags){.op = MAILSTORE_ADD,
                                          .keywords = &name,
                                          .keyword_count = 1,
                                          .unchanged_since = MAILSTORE_ALWAYS};
    struct mailstore_uids *uids = uids_of(op, op->named, &op->naming.uid_count);
    op->naming.uids = uids;
    int status = uids == NULL ? -ENOMEM
                 : op->naming.uid_count == 0
                     ? -EALREADY
                     : mailstore_flags(box->user->store, &box->pub, &op->naming, &op->durable);
    free(uids);
    return status;
}

int op_keywords_say(struct op *op)
{
    const struct unlettered unlettered = unlettered_of(op);
    struct box *box = unlettered.left_off != 0
                          ? user_box(op->mirror->user, slice_text(unlettered.mailbox))
                          : NULL;
    int status = -EALREADY;
    while (box != NULL && op->named < 64 && status == -EALREADY) {
        if ((unlettered.left_off >> op->named & 1) != 0) {
            status = keyword_say(op, box, slice_text(unlettered.names[op->named]));
        }
        op->named += status == 0 || status == -EALREADY;
    }
    return status;
}
