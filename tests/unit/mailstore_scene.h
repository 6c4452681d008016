/* mailstore_scene: a store with a few users, and what tests do with it; all of these wait until it is done. */
#pragma once
#include "tests/unit/mailstore_rig.h"

int mailstore_scene_open(void **state);
int mailstore_scene_close(void **state);
struct mailstore_user *user_of(struct mailstore_rig *rig, const char *name);
struct mailstore_box *box_of(struct mailstore_rig *rig, struct mailstore_user *user,
                             const char *name);
void leave(struct mailstore_rig *rig, struct mailstore_box *box);
void restart(struct mailstore_rig *rig, bool keeps_index);
void deliver(struct mailstore_rig *rig, const char *user, uint32_t count);
int create(struct mailstore_rig *rig, struct mailstore_user *user, const char *name);
int flag(struct mailstore_rig *rig, struct mailstore_box *box, uint32_t first, uint32_t last,
         struct mailstore_flags *flags);
int expunge(struct mailstore_rig *rig, struct mailstore_box *box, uint32_t first, uint32_t last);
