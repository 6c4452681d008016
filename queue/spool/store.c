/*
 * Where messages lie, and the reverse-paths that many of them have: each of those is kept once.
 *
 * A small table knows the reverse-paths that came last. One is shared from its second time on, so that those
 * which are made for one message each (VERP) lie in their messages and take nothing here.
 */
#include "engine/core/crc32c.h"
#include "queue/spool/spool_private.h"

#define SHARED_BYTES_MIN 16u   /* below, the link is no gain */
#define SHARED_BYTES_MAX 1024u /* a mailbox has 320 at most */

int store_open(struct spool_store *store)
{
    *store = (struct spool_store){0};
    return near_open(&store->heap);
}

void store_close(struct spool_store *store)
{
    near_close(&store->heap);
}

static struct spool_store *store_of(const struct spool_sender *sender)
{
    return list_entry(near_heap_of(sender), struct spool_store, heap);
}

void sender_drop(struct spool_sender *sender)
{
    if (sender == NULL || --sender->count > 0) {
        return;
    }
    struct spool_store *store = store_of(sender);
    struct sender_slot *slot = &store->slots[sender->slot];
    slot->sender = slot->sender == sender ? NULL : slot->sender;
    store->sender_bytes -= near_size(sender);
    near_give(&store->heap, sender);
}

static struct spool_sender *sender_make(struct spool_store *store, uint32_t slot, struct slice text)
{
    struct spool_sender *sender =
        (struct spool_sender *)near_take(&store->heap, sizeof(*sender) + text.size);
    if (sender != NULL) {
        *sender = (struct spool_sender){.slot = (uint16_t)slot, .size = (uint16_t)text.size};
        memcpy(sender->text, text.bytes, text.size);
        store->sender_bytes += near_size(sender);
    }
    return sender;
}

struct spool_sender *sender_share(struct spool_store *store, struct slice text)
{
    if (text.size < SHARED_BYTES_MIN || text.size > SHARED_BYTES_MAX) {
        return NULL;
    }
    uint32_t hash = crc32c(0, text.bytes, text.size);
    uint32_t index = hash % SENDER_SLOTS;
    struct sender_slot *slot = &store->slots[index];
    if (slot->sender == NULL ||
        !slice_equal(slice_of(slot->sender->text, slot->sender->size), text)) {
        struct spool_sender *made = slot->missed == hash ? sender_make(store, index, text) : NULL;
        slot->missed = hash;
        if (made == NULL) {
            return NULL;
        }
        slot->sender = made;
    }
    slot->sender->count++;
    return slot->sender;
}
