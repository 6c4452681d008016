/* imap_abroad_scene: alice and bob on two shards; he may do something with her "work". */
#pragma once
#include "tests/unit/imap_shards.h"
#include "tests/unit/imap_two.h"

static inline unsigned sessions_on(unsigned shard)
{
    const struct list_node *sessions = &imap_shards.rigs[shard]->mailbox.sessions;
    unsigned count = 0;
    for (const struct list_node *node = sessions->next; node != sessions; node = node->next) {
        count++;
    }
    return count;
}

static inline struct imap_rig *bob_may_all(void **state, const char *rights)
{
    struct imap_rig *rig = alice_and_bob(state);
    bob_may(rig, rights);
    append(rig, 1, "INBOX", "Subject: his\r\n\r\nbob's\r\n");
    return rig;
}

static inline void agents_abort(unsigned shard)
{
    struct list_node *sessions = &imap_shards.rigs[shard]->mailbox.sessions, *next;
    for (struct list_node *node = sessions->next; node != sessions; node = next) {
        struct session *session = list_entry(node, struct session, node);
        next = node->next;
        if (session->of_service) {
            session->ops->abort(session);
        }
    }
}
