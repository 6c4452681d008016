/* mailstore_rig: a mailbox store on a log on a disk that lies, run round by round; its index in a folder of its own. */
#pragma once
#include "queue/mailbox/mailstore.h"
#include "queue/mailbox/mailstore_private.h"
#include "queue/mailbox/view.h"
#include "tests/unit/log_rig.h"

struct mailstore_rig {
    struct log_rig rig;
    struct mailstore *store;
    struct mailstore_settings settings;
    char folder[64], index[96];
    uint64_t wall_s;
    uint64_t random;
    struct disk
        *real; /* a folder's, instead of the one that lies; its rounds take time. NULL: none */
};

void mailstore_rig_open(struct mailstore_rig *rig, uint64_t seed);
void mailstore_rig_close(struct mailstore_rig *rig);
/* Its folder goes, whatever state it is in: for a signal handler. */
void mailstore_rig_remove(const struct mailstore_rig *rig);
int mailstore_rig_start(struct mailstore_rig *rig);
void mailstore_rig_round(struct mailstore_rig *rig);
void mailstore_rig_settle(struct mailstore_rig *rig);
void mailstore_rig_stop(struct mailstore_rig *rig); /* in order */
void mailstore_rig_crash(struct mailstore_rig *rig);
void mailstore_rig_forget_index(struct mailstore_rig *rig);
uint32_t mailstore_rig_below(struct mailstore_rig *rig, uint32_t limit);

/* A waiter that remembers. */
struct told {
    struct mailstore_waiter waiter;
    bool done;
    int status;
};
struct mailstore_waiter *told_init(struct told *told);
/* Rounds until it was told; its status. */
int told_wait(struct mailstore_rig *rig, struct told *told);

/* Delivers text of `bytes` bytes, which follow from `seed`, and waits. */
int rig_deliver(struct mailstore_rig *rig, const char *user, const char *mailbox, uint64_t seed,
                uint32_t bytes, struct mailstore_place *place);
void text_fill(uint64_t seed, uint32_t offset, uint8_t *to, uint32_t bytes);
/* Reads all of the text; true: as text_fill makes it. */
bool rig_text_is(struct mailstore_rig *rig, uint64_t text, uint64_t seed, uint32_t bytes);

/* All rows that say what the state is, as text: equal dumps, equal states. Of the heap. */
char *rig_dump(struct mailstore_rig *rig);
