#include "tests/unit/mailstore_scene.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

int mailstore_scene_open(void **state)
{
    struct mailstore_rig *rig = (struct mailstore_rig *)calloc(1, sizeof(*rig));
    mailstore_rig_open(rig, 7);
    assert_int_equal(mailstore_rig_start(rig), 0);
    *state = rig;
    return 0;
}

int mailstore_scene_close(void **state)
{
    mailstore_rig_close((struct mailstore_rig *)*state);
    free(*state);
    return 0;
}

struct mailstore_user *user_of(struct mailstore_rig *rig, const char *name)
{
    struct mailstore_user *user;
    assert_int_equal(mailstore_user_open(rig->store, slice_text(name), &user), 0);
    return user;
}

struct mailstore_box *box_of(struct mailstore_rig *rig, struct mailstore_user *user,
                             const char *name)
{
    struct mailstore_box *box = mailstore_box_find(user, slice_text(name));
    assert_non_null(box);
    assert_int_equal(mailstore_box_open(rig->store, box), 0);
    return box;
}

void leave(struct mailstore_rig *rig, struct mailstore_box *box)
{
    struct mailstore_user *user = box->user;
    mailstore_box_close(rig->store, box);
    mailstore_user_close(rig->store, user);
}

void restart(struct mailstore_rig *rig, bool keeps_index)
{
    mailstore_rig_stop(rig);
    if (!keeps_index) {
        mailstore_rig_forget_index(rig);
    }
    assert_int_equal(mailstore_rig_start(rig), 0);
}

void deliver(struct mailstore_rig *rig, const char *user, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mailstore_place place = {0};
        assert_int_equal(rig_deliver(rig, user, "", i + 1, 100 + i, &place), 0);
    }
}

int create(struct mailstore_rig *rig, struct mailstore_user *user, const char *name)
{
    struct told told;
    struct mailstore_create wanted = {.mailbox = slice_text(name)};
    int status = mailstore_box_create(rig->store, user, &wanted, told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}

int flag(struct mailstore_rig *rig, struct mailstore_box *box, uint32_t first, uint32_t last,
         struct mailstore_flags *flags)
{
    struct told told;
    struct mailstore_uids uids = {first, last};
    flags->uids = &uids;
    flags->uid_count = 1;
    int status = mailstore_flags(rig->store, box, flags, told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}

int expunge(struct mailstore_rig *rig, struct mailstore_box *box, uint32_t first, uint32_t last)
{
    struct told told;
    struct mailstore_uids uids = {first, last};
    struct mailstore_expunge wanted = {.uids = &uids, .uid_count = 1};
    int status = mailstore_expunge(rig->store, box, &wanted, told_init(&told));
    return status == 0 ? told_wait(rig, &told) : status;
}
