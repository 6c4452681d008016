/*
 * What has changed in a Maildir, as a change: others' flags are merged with ours, what they have added and removed comes
 * and goes with the UIDs of dovecot-uidlist.
 *
 * A message that we have changed, or expunged, has a row until the Maildir has it so: it says what the Maildir has. What
 * differs between the row and the entry is ours; from both it can be written at any later time, and what others make of
 * the file meanwhile is kept besides.
 */
#include "queue/mailbox/mailstore_private.h"
#include <stdlib.h>

#define MODSEQ_EACH_SECOND 1024u /* a mailbox whose state was lost goes on above all that it had */

/* ── Rows of what is to be written ───────────────────────────────────────────────────────────── */

void write_key(struct key *key, const struct box *box)
{
    key_begin(key, ROW_WRITE);
    key_u64(key, box->user->pub.id);
    key_u64(key, box->pub.id);
}

static int write_get(const struct box *box, struct key *key, uint32_t uid, struct write_row *row)
{
    struct slice value;
    write_key(key, box);
    key_u32(key, uid);
    int status = index_get(box->user->store->index, key_slice(key), &value);
    if (status == 0 && value.size != sizeof(*row)) {
        return -EIO;
    }
    if (status == 0) {
        memcpy(row, value.bytes, sizeof(*row));
    }
    return status;
}

static int write_put(const struct box *box, const struct key *key, const struct write_row *row)
{
    return index_put(box->user->store->index, key_slice(key), slice_of(row, sizeof(*row)));
}

int write_note(struct box *box, const struct mailstore_entry *entry, bool expunged)
{
    struct write_row row;
    struct key key;
    if (!store_is_of_maildirs(box->user->store)) {
        return 0;
    }
    int status = write_get(box, &key, entry->uid, &row);
    files_wanted(box);
    if (status == -ENOENT) {
        row = (struct write_row){.keywords = entry->keywords, .flags = entry->flags};
    } else if (status != 0 || !expunged) {
        return status; /* what the Maildir has is known */
    }
    row.expunged = expunged;
    row.text = entry->text;
    return write_put(box, &key, &row);
}

static int write_forget(const struct box *box, uint32_t uid)
{
    struct write_row row;
    struct key key;
    int status = write_get(box, &key, uid, &row);
    return status == 0         ? index_remove(box->user->store->index, key_slice(&key))
           : status == -ENOENT ? 0
                               : status;
}

/* The Maildir has this now, which need not be what we have. */
static int write_settle(const struct box *box, const struct mailstore_entry *entry, uint8_t flags,
                        uint64_t keywords)
{
    struct write_row row = {.keywords = keywords, .text = entry->text, .flags = flags};
    struct key key;
    if (entry->flags == flags && entry->keywords == keywords) {
        return write_forget(box, entry->uid);
    }
    write_key(&key, box);
    key_u32(&key, entry->uid);
    return write_put(box, &key, &row);
}

/* ── The change ──────────────────────────────────────────────────────────────────────────────── */

struct item_said {
    uint8_t kind; /* enum home_kind */
    uint32_t uid;
    uint8_t flags_before, flags;
    uint64_t keywords_before, keywords; /* bits of the box */
    uint32_t bytes, internal_s, saved_s;
    uint64_t text;
};
struct taking {
    struct box *box;
    const struct change_said *said;
    struct patch patch;
    uint32_t keyword_count;
    int bits[MAILSTORE_KEYWORDS_MAX]; /* of the box; < 0: none */
    struct mailstore_uids *gone;
    uint32_t gone_count, changed_count;
    uint64_t modseq; /* of what is changed and added */
};

static uint64_t bits_map(const struct taking *taking, uint64_t letters)
{
    uint64_t mapped = 0;
    for (uint32_t i = 0; i < taking->keyword_count; i++) {
        mapped |= letters & 1ull << i && taking->bits[i] >= 0 ? 1ull << taking->bits[i] : 0;
    }
    return mapped;
}

static struct item_said item_read(const struct taking *taking, struct reader *body)
{
    struct item_said item = {.kind = read_u8(body), .uid = read_u32(body)};
    if (item.kind == TAKE_GONE) {
        return item;
    }
    item.flags_before = read_u8(body) & MAILSTORE_FLAGS_ALL;
    item.flags = read_u8(body) & MAILSTORE_FLAGS_ALL;
    item.keywords_before = bits_map(taking, read_u32(body));
    item.keywords = bits_map(taking, read_u32(body));
    if (item.kind == TAKE_ADDED) {
        item.bytes = read_u32(body);
        item.internal_s = read_u32(body);
        item.saved_s = read_u32(body);
        item.text = read_u64(body);
    }
    return item;
}

/* Ours where we have changed it since both were the same, else what the file has. */
static int item_change(struct taking *taking, const struct item_said *item)
{
    struct box *box = taking->box;
    uint32_t at = mailstore_entry_index(&box->pub, item->uid);
    struct stored_entry *stored;
    if (at == box->pub.count || box->entries[at].uid != item->uid) {
        return 0; /* we have expunged it */
    }
    struct mailstore_entry *entry = &box->entries[at];
    uint8_t own = (uint8_t)(entry->flags ^ item->flags_before);
    uint64_t own_keywords = entry->keywords ^ item->keywords_before;
    uint8_t flags = (uint8_t)((item->flags & ~own) | (entry->flags & own));
    uint64_t keywords = (item->keywords & ~own_keywords) | (entry->keywords & own_keywords);
    if (flags == entry->flags && keywords == entry->keywords) {
        return write_settle(box, entry, item->flags, item->keywords);
    }
    int status = patch_find(&taking->patch, item->uid, &stored);
    if (status != 0) {
        return -EIO;
    }
    box_count_add(box, entry, -1);
    entry->flags = flags;
    entry->keywords = keywords;
    entry->modseq = taking->modseq & ((1ull << 44) - 1);
    box_count_add(box, entry, 1);
    stored->entry = *entry;
    taking->patch.changed = true;
    taking->changed_count++;
    box->pub.modseq_flags = taking->modseq;
    return write_settle(box, entry, item->flags, item->keywords);
}

static int item_gone(struct taking *taking, const struct item_said *item)
{
    if (mailstore_entry_find(&taking->box->pub, item->uid) != NULL) {
        taking->gone[taking->gone_count++] = (struct mailstore_uids){item->uid, item->uid};
    }
    return write_forget(taking->box, item->uid);
}

static int item_add(struct taking *taking, const struct item_said *item)
{
    struct box *box = taking->box;
    struct mailstore *store = box->user->store;
    if (item->uid < box->pub.uidnext || item->uid == UINT32_MAX) {
        return 0; /* it was taken in before */
    }
    const struct text_file file = {.user = box->user->pub.id, .box = box->pub.id, .uid = item->uid};
    struct stored_entry stored = {.thread = item->text,
                                  .entry = {.text = item->text,
                                            .keywords = item->keywords,
                                            .modseq = taking->modseq & ((1ull << 44) - 1),
                                            .flags = item->flags,
                                            .uid = item->uid,
                                            .bytes = item->bytes,
                                            .internal_s = item->internal_s,
                                            .saved_s = item->saved_s}};
    int status = text_file_make(store, item->text, item->bytes, &file);
    status = status == 0 ? text_refer(store, item->text, item->bytes, 1) : status;
    status = status == 0 ? entry_add(store, box, &stored) : status;
    box->pub.uidnext = item->uid + 1;
    taking->changed_count++;
    store->counters.delivered++;
    return status;
}

static int items_take(struct taking *taking, struct reader *body)
{
    uint32_t count = read_u32(body);
    int status = 0;
    if (count > (size_t)(body->end - body->at)) {
        return EINVAL;
    }
    taking->gone = (struct mailstore_uids *)malloc((count + 1) * sizeof(taking->gone[0]));
    if (taking->gone == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct item_said item = item_read(taking, body);
        if (body->bad) {
            return EINVAL;
        }
        if (item.kind == TAKE_ADDED && taking->patch.number != 0) {
            status = patch_end(&taking->patch); /* entry_add has one of its own */
        }
        status = status != 0               ? status
                 : item.kind == TAKE_GONE  ? item_gone(taking, &item)
                 : item.kind == TAKE_ADDED ? item_add(taking, &item)
                                           : item_change(taking, &item);
    }
    return status == 0 ? patch_end(&taking->patch) : status;
}

static int gone_remove(const struct taking *taking)
{
    struct box *box = taking->box;
    struct removal removal = {.uids = taking->gone,
                              .uid_count = taking->gone_count,
                              .taken = true,
                              .wall_s = taking->said->wall_s};
    if (taking->gone_count == 0) {
        return 0;
    }
    removal.first = mailstore_entry_index(&box->pub, taking->gone[0].first);
    removal.last = mailstore_entry_index(&box->pub, taking->gone[taking->gone_count - 1].last + 1);
    return entries_remove(box, &removal);
}

/* The mailbox of a folder. What others have given it is kept; who has a mod-sequence of it from before the state was
 * lost has a lower one. */
static int folder_box(struct user *user, const struct change_said *said, struct slice name,
                      uint32_t uidvalidity, struct box **box)
{
    *box = user_box(user, name);
    if (*box != NULL) {
        return (*box)->pub.uidvalidity == uidvalidity ? 0 : ESTALE;
    }
    int status = box_make(user, said, name, box);
    if (status == 0) {
        (*box)->pub.uidvalidity = uidvalidity;
        (*box)->pub.modseq = (uint64_t)said->wall_s * MODSEQ_EACH_SECOND;
        (*box)->pub.modseq_floor = (*box)->pub.modseq_flags = (*box)->pub.modseq;
        user->uidvalidity_next = user->uidvalidity_next > uidvalidity || uidvalidity == UINT32_MAX
                                     ? user->uidvalidity_next
                                     : uidvalidity + 1;
    }
    return status;
}

int apply_take(struct user *user, const struct change_said *said, struct reader *body)
{
    struct taking taking = {.said = said};
    struct slice name = read_text(body);
    uint32_t uidvalidity = read_u32(body), uid_next = read_u32(body);
    uint32_t count = read_u16(body);
    if (body->bad || !name_is_good(name) || uidvalidity == 0 || count > MAILSTORE_KEYWORDS_MAX) {
        return EINVAL;
    }
    int status = folder_box(user, said, name, uidvalidity, &taking.box);
    status = status == 0 ? box_need(taking.box) : status;
    if (status != 0) {
        return status;
    }
    taking.keyword_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct slice keyword = read_text(body);
        taking.bits[i] = keyword.size > 0 ? box_keyword_bit(taking.box, keyword, true) : -1;
    }
    taking.patch.store = user->store;
    taking.patch.box = taking.box;
    taking.modseq = taking.box->pub.modseq + 1;
    status = items_take(&taking, body);
    if (taking.changed_count > 0) {
        taking.box->pub.modseq = taking.modseq;
    }
    status = status == 0 ? gone_remove(&taking) : status;
    free(taking.gone);
    if (uid_next > taking.box->pub.uidnext) {
        taking.box->pub.uidnext = uid_next;
    }
    box_changed(taking.box);
    return status;
}
