/* imap_shards: two shards on this thread. Clients come to shard 0; alice is of it, and bob of the other. */
#pragma once
#include "tests/unit/imap_rig.h"

#define IMAP_SHARDS 2u

struct imap_shards {
    struct mailbox_group group;
    struct imap_rig *rigs[IMAP_SHARDS];
    struct crossing *crossings[IMAP_SHARDS];
};

static inline void imap_shards_open(struct imap_shards *shards)
{
    struct shard *all[IMAP_SHARDS];
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        shards->rigs[i] = imap_rig_open_shard(i, IMAP_SHARDS);
        all[i] = &shards->rigs[i]->shard;
    }
    mailbox_group_open(&shards->group, IMAP_SHARDS, &shards->rigs[0]->world);
    mailbox_group_settle(&shards->group);
    check(shard_connect_all(all, IMAP_SHARDS) == 0);
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        struct imap_rig *rig = shards->rigs[i];
        check(crossing_open(&shards->crossings[i], all[i]) == 0);
        crossing_add_part(shards->crossings[i]);
        rig->mailbox.crossing = shards->crossings[i];
        rig->mailbox.group = &shards->group;
        rig->mailbox.doors = &rig->door;
        rig->door.protocol = CONF_PROTOCOL_IMAP;
        shards->group.members[i] = &rig->mailbox;
    }
    check(mailbox_group_shard(&shards->group, "alice") == 0);
    check(mailbox_group_shard(&shards->group, "bob") == 1);
}

static inline void imap_shards_rounds(struct imap_shards *shards, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        for (unsigned shard = 0; shard < IMAP_SHARDS; shard++) {
            rig_round_alone(shards->rigs[shard]);
        }
    }
}

static inline void imap_shards_close(struct imap_shards *shards)
{
    rig_rounds(shards->rigs[0], 3);
    for (unsigned i = 0; i < 1000 && atomic_load(&shards->group.placings) > 0; i++) {
        rig_round(shards->rigs[0]);
    }
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        shards->rigs[i]->beside = NULL;
        imap_rig_leave(shards->rigs[i]);
    }
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        crossing_close(shards->crossings[i]);
    }
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        imap_rig_free(shards->rigs[i]);
    }
    mailbox_group_close(&shards->group);
}

/* Of whoever includes it: one at a time, whose rounds come together. */
static struct imap_shards imap_shards;

/* *state: the rig of shard 0. */
static inline int imap_shards_set_up(void **state)
{
    memset(&imap_shards, 0, sizeof(imap_shards));
    imap_shards_open(&imap_shards);
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        struct imap_rig *rig = imap_shards.rigs[i];
        rig->mailbox.conf = imap_shards.rigs[0]->conf;
        rig->beside = imap_shards.rigs[(i + 1) % IMAP_SHARDS];
    }
    *state = imap_shards.rigs[0];
    return 0;
}

static inline int imap_shards_tear_down(void **state)
{
    (void)state;
    imap_shards_rounds(&imap_shards, 3);
    for (unsigned i = 0; i < IMAP_SHARDS; i++) {
        crossing_abort(imap_shards.crossings[i]);
    }
    imap_shards_close(&imap_shards);
    return 0;
}
