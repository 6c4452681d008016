/*
 * The mailboxes of others that a user may look up, for LIST.
 *
 * The store finds them by his name and by "anyone", so what it costs is their number and not that of all users. Their
 * owners are open until the list is written.
 */
#include "engine/mailbox/imap_session.h"
#include <stdlib.h>

#define FOUND_MAX 20000u /* mailboxes; further ones are not listed, and can be used all the same */

struct found {
    uint64_t user, box;
};

struct shared_box {
    struct mailstore_box *box;
    struct slice name;
};

struct imap_shared {
    struct arena names;
    struct found *found; /* of the heap */
    size_t found_count, found_room;
    struct shared_box *boxes; /* of the heap, as the two others */
    size_t box_count;
    struct mailstore_user **owners;
    size_t owner_count;
    bool failed;
};

static void found_add(void *owner, uint64_t user, uint64_t box)
{
    struct imap_shared *shared = (struct imap_shared *)owner;
    if (shared->found_count == FOUND_MAX) {
        return;
    }
    if (shared->found_count == shared->found_room) {
        size_t room = shared->found_room * 2 + 16;
        struct found *grown = (struct found *)realloc(shared->found, room * sizeof(grown[0]));
        if (grown == NULL) {
            shared->failed = true;
            return;
        }
        shared->found = grown;
        shared->found_room = room;
    }
    shared->found[shared->found_count++] = (struct found){user, box};
}

/* By user, then by mailbox: each user is opened once. */
static int found_order(const void *left, const void *right)
{
    const struct found *a = (const struct found *)left;
    const struct found *b = (const struct found *)right;
    if (a->user != b->user) {
        return a->user < b->user ? -1 : 1;
    }
    return a->box < b->box ? -1 : a->box > b->box;
}

static int box_add(struct imap_session *session, struct imap_shared *shared,
                   struct mailstore_box *box)
{
    char text[IMAP_SHARED_NAME_BYTES];
    struct slice name = slice_of(text, imap_box_name(session, box, text));
    struct shared_box *added = &shared->boxes[shared->box_count];
    bool hidden =
        !session->guest && mailstore_box_find(session->user, name) != NULL; /* one of his own */
    if (hidden || (imap_rights_of(session, box) & IMAP_RIGHT_LOOKUP) == 0) {
        return 0;
    }
    if (!arena_copy(&shared->names, name, &added->name)) {
        return -ENOMEM;
    }
    added->box = box;
    shared->box_count++;
    return 0;
}

/* 0 also when the user is gone, or it is himself. */
static int owner_add(struct imap_session *session, struct imap_shared *shared, uint64_t id,
                     struct mailstore_user **owner)
{
    *owner = NULL;
    int status = id != session->user->id
                     ? mailstore_user_open_by_id(imap_session_store(session), id, owner)
                     : 0;
    if (status == 0 && *owner != NULL) {
        shared->owners[shared->owner_count++] = *owner;
    }
    return status == -ENOENT ? 0 : status;
}

/* Those of one owner. His mailboxes are gone through once, and not for each that was found. */
static int owner_gather(struct imap_session *session, struct imap_shared *shared,
                        struct mailstore_user *owner, const struct found *found, size_t count)
{
    struct mailstore_box *box = NULL;
    int status = 0;
    while (status == 0 && (box = mailstore_box_next(owner, box)) != NULL) {
        const struct found wanted = {found->user, box->id};
        if (bsearch(&wanted, found, count, sizeof(found[0]), found_order) != NULL) {
            status = box_add(session, shared, box);
        }
    }
    return status;
}

static int boxes_gather(struct imap_session *session, struct imap_shared *shared)
{
    const struct found *found = shared->found;
    size_t count = shared->found_count, next;
    int status = 0;
    shared->boxes = (struct shared_box *)calloc(count + 1, sizeof(shared->boxes[0]));
    shared->owners = (struct mailstore_user **)calloc(count + 1, sizeof(struct mailstore_user *));
    if (shared->failed || shared->boxes == NULL || shared->owners == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        qsort(shared->found, count, sizeof(shared->found[0]), found_order);
    }
    for (size_t i = 0; i < count && status == 0; i = next) {
        struct mailstore_user *owner;
        for (next = i + 1; next < count && found[next].user == found[i].user; next++) {
        }
        status = owner_add(session, shared, found[i].user, &owner);
        if (status == 0 && owner != NULL) {
            status = owner_gather(session, shared, owner, &found[i], next - i);
        }
    }
    return status;
}

/* Can a name that begins so match? */
static bool may_match(struct slice pattern, struct slice root)
{
    for (size_t i = 0; i < pattern.size && i < root.size; i++) {
        if (pattern.bytes[i] == '*' || pattern.bytes[i] == '%') {
            return true;
        }
        if (pattern.bytes[i] != root.bytes[i]) {
            return false;
        }
    }
    return true;
}

bool imap_shared_may_match(const struct imap_session *session,
                           const struct imap_text_list *patterns)
{
    struct slice root = imap_shared_root(session);
    bool may = false;
    for (uint32_t i = 0; i < patterns->count && root.size > 0; i++) {
        may = may || may_match(patterns->items[i], root);
    }
    return may;
}

int imap_shared_open(struct imap_session *session, const struct imap_text_list *patterns,
                     struct imap_shared **result)
{
    struct mailstore *store = imap_session_store(session);
    *result = NULL;
    if (!imap_shared_may_match(session, patterns)) {
        return 0;
    }
    struct imap_shared *shared = (struct imap_shared *)calloc(1, sizeof(*shared));
    if (shared == NULL) {
        return -ENOMEM;
    }
    arena_open(&shared->names, (size_t)FOUND_MAX * IMAP_SHARED_NAME_BYTES);
    int status = mailstore_each_shared(store, slice_text(session->user->name), found_add, shared);
    status = status == 0 ? mailstore_each_shared(store, slice_text(IMAP_ANYONE), found_add, shared)
                         : status;
    status = status == 0 ? boxes_gather(session, shared) : status;
    if (status != 0) {
        imap_shared_close(session, shared);
        return status;
    }
    *result = shared;
    return 0;
}

void imap_shared_each(const struct imap_shared *shared,
                      void (*visit)(void *owner, struct slice name, struct mailstore_box *box),
                      void *owner)
{
    for (size_t i = 0; shared != NULL && i < shared->box_count; i++) {
        visit(owner, shared->boxes[i].name, shared->boxes[i].box);
    }
}

void imap_shared_close(struct imap_session *session, struct imap_shared *shared)
{
    if (shared == NULL) {
        return;
    }
    for (size_t i = 0; i < shared->owner_count; i++) {
        mailstore_user_close(imap_session_store(session), shared->owners[i]);
    }
    arena_close(&shared->names);
    free(shared->found);
    free(shared->boxes);
    free(shared->owners);
    free(shared);
}
