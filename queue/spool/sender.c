/*
 * Reverse-paths that many messages have: each is kept once.
 *
 * A small table knows those that came last. One is shared from its second time on, so that reverse-paths
 * which are made for one message each (VERP) lie in their messages and take nothing here.
 */
#include "engine/core/crc32c.h"
#include "queue/spool/spool_private.h"

#define SHARED_BYTES_MIN (2 * sizeof(void *)) /* below, the pointer is no gain */

static size_t sender_bytes(const struct spool_sender *sender)
{
    return sizeof(*sender) + sender->size;
}

void sender_drop(struct spool_sender *sender)
{
    if (sender == NULL || --sender->count > 0) {
        return;
    }
    struct sender_slot *slot = &sender->home->slots[sender->slot];
    slot->sender = slot->sender == sender ? NULL : slot->sender;
    sender->home->memory_bytes -= sender_bytes(sender);
    free(sender);
}

static struct spool_sender *sender_make(struct spool_senders *senders, uint32_t slot,
                                        struct slice text)
{
    struct spool_sender *sender = (struct spool_sender *)malloc(sizeof(*sender) + text.size);
    if (sender != NULL) {
        *sender = (struct spool_sender){
            .home = senders, .slot = (uint16_t)slot, .size = (uint16_t)text.size};
        memcpy(sender->text, text.bytes, text.size);
        senders->memory_bytes += sender_bytes(sender);
    }
    return sender;
}

struct spool_sender *sender_share(struct spool_senders *senders, struct slice text)
{
    if (senders == NULL || text.size < SHARED_BYTES_MIN) {
        return NULL;
    }
    uint32_t hash = crc32c(0, text.bytes, text.size);
    uint32_t index = hash % SENDER_SLOTS;
    struct sender_slot *slot = &senders->slots[index];
    if (slot->sender == NULL ||
        !slice_equal(slice_of(slot->sender->text, slot->sender->size), text)) {
        struct spool_sender *made = slot->missed == hash ? sender_make(senders, index, text) : NULL;
        slot->missed = hash;
        if (made == NULL) {
            return NULL;
        }
        slot->sender = made;
    }
    slot->sender->count++;
    return slot->sender;
}
