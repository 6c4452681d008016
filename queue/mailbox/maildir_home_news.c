/* What has changed in a folder since the store was told. */
#include "queue/mailbox/maildir_home_private.h"
#include "queue/mailbox/mailstore.h"
#include <stdio.h>
#include <stdlib.h>

#define LOOKS_MAX 5 /* somebody may rename while we look */

static const struct {
    uint8_t flag;
    unsigned letter;
} flags_known[] = {{MAILSTORE_SEEN, MAILDIR_SEEN},
                   {MAILSTORE_ANSWERED, MAILDIR_REPLIED},
                   {MAILSTORE_FLAGGED, MAILDIR_FLAGGED},
                   {MAILSTORE_DELETED, MAILDIR_TRASHED},
                   {MAILSTORE_DRAFT, MAILDIR_DRAFT}};
#define FLAGS_KNOWN (sizeof flags_known / sizeof flags_known[0])

unsigned home_flags_to_maildir(uint8_t flags)
{
    unsigned letters = 0;
    for (unsigned i = 0; i < FLAGS_KNOWN; i++) {
        letters |= flags & flags_known[i].flag ? flags_known[i].letter : 0;
    }
    return letters;
}

uint8_t home_flags_of_maildir(unsigned letters)
{
    unsigned flags = 0;
    for (unsigned i = 0; i < FLAGS_KNOWN; i++) {
        flags |= letters & flags_known[i].letter ? flags_known[i].flag : 0;
    }
    return (uint8_t)flags;
}

/* ---- lists of news ---- */

void home_news_free(struct home_news *news)
{
    while (news != NULL) {
        struct home_news *next = news->next;
        free(news->keywords);
        free(news->items);
        free(news);
        news = next;
    }
}

/* At the end: they are taken in in their order. */
struct home_news *home_news_add(struct home_news **list, const char *mailbox)
{
    struct home_news *news = calloc(1, sizeof *news);
    if (news == NULL) {
        return NULL;
    }
    snprintf(news->mailbox, sizeof news->mailbox, "%s", mailbox);
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = news;
    return news;
}

int home_item_add(struct home_news *news, struct home_item item)
{
    if (news->count == news->room) {
        size_t room = news->room * 2 + 16;
        struct home_item *grown = realloc(news->items, room * sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        news->items = grown;
        news->room = room;
    }
    news->items[news->count++] = item;
    return 0;
}

/* ---- keywords ---- */

int home_letters_of(struct home_folder *folder, char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1],
                    unsigned count, uint64_t bits, uint32_t *letters)
{
    *letters = 0;
    for (unsigned i = 0; i < count && i < 64; i++) {
        if (bits & 1ull << i) {
            int letter = maildir_box_keyword(&folder->box, slice_text(names[i]));
            if (letter < 0 && letter != -ENOSPC && letter != -EINVAL) {
                return letter;
            }
            *letters |= letter >= 0 ? 1u << letter : 0;
        }
    }
    return 0;
}

uint64_t home_left_off(const struct home_folder *folder,
                       char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1], unsigned count, uint64_t bits)
{
    uint64_t left_off = 0;
    for (unsigned i = 0; i < count && i < 64; i++) {
        bool asked = bits & 1ull << i;
        left_off |= asked && maildir_keywords_find(&folder->box.keywords, slice_text(names[i])) < 0
                        ? 1ull << i
                        : 0;
    }
    return left_off;
}

/* The store's bits become the folder's letters. What has none any more is found to have gone. */
void home_folder_letters(struct home_folder *folder)
{
    struct home_told *told = folder->told;
    int letters[64];
    if (told == NULL || folder->letters) {
        return;
    }
    for (unsigned k = 0; k < told->name_count && k < 64; k++) {
        letters[k] = maildir_keywords_find(&folder->box.keywords, slice_text(told->names[k]));
    }
    for (size_t i = 0; i < told->count; i++) {
        uint64_t mapped = 0;
        for (unsigned k = 0; k < told->name_count && k < 64; k++) {
            bool has = told->seen[i].keywords & 1ull << k;
            mapped |= has && letters[k] >= 0 ? 1ull << letters[k] : 0;
        }
        told->seen[i].keywords = mapped;
    }
    folder->letters = true;
}

/* ---- comparing ---- */

struct home_seen *home_seen_find(const struct home_told *told, uint32_t uid)
{
    size_t low = 0, high = told->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (told->seen[middle].uid < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < told->count && told->seen[low].uid == uid ? &told->seen[low] : NULL;
}

struct comparison {
    struct home_folder *folder;
    struct home_news *news;
    struct home_seen *seen; /* what is told from now on */
    size_t seen_count;
    bool again;    /* something came back, or was renamed meanwhile: scan once more */
    uint32_t from; /* UIDs from here on are new */
    bool cut;      /* one could not be read: those behind it wait for the next look */
    uint32_t cut_at;
};

static int known_compare(struct comparison *comparison, const struct maildir_uid *uid,
                         struct home_seen seen)
{
    struct maildir_name name;
    maildir_name_read(slice_text(uid->file), &name);
    uint8_t flags = home_flags_of_maildir(name.flags);
    int status = 0;
    if (flags != seen.flags || name.keywords != seen.keywords) {
        status = home_item_add(comparison->news,
                               (struct home_item){.kind = HOME_CHANGED,
                                                  .uid = uid->uid,
                                                  .flags_before = seen.flags,
                                                  .flags = flags,
                                                  .keywords_before = (uint32_t)seen.keywords,
                                                  .keywords = name.keywords});
    }
    comparison->seen[comparison->seen_count++] =
        (struct home_seen){.uid = uid->uid, .flags = flags, .keywords = name.keywords};
    return status;
}

/* Not for want of memory or of descriptors, and it is there: no later look will find it otherwise. */
static bool cannot_be_read(int status)
{
    switch (status) {
    case -EACCES:
    case -EPERM:
    case -ELOOP:
    case -EISDIR:
    case -ESPIPE:
    case -ENXIO:
    case -EINVAL:
    case -EIO:
        return true;
    default:
        return false;
    }
}

static int fresh_take(struct comparison *comparison, const struct maildir_uid *uid)
{
    struct maildir_message message = {.file = NULL};
    int status =
        comparison->cut ? -ENOENT : maildir_box_message(&comparison->folder->box, uid, &message);
    if (cannot_be_read(status) && message.file != NULL) { /* it holds back no other */
        message.virtual_bytes = message.bytes;
        status = 0;
    }
    if (status == -ENOENT || status == -EIO) {
        comparison->cut_at = comparison->cut ? comparison->cut_at : uid->uid;
        comparison->again = comparison->cut = true;
        return 0;
    }
    if (status < 0) {
        return status;
    }
    if (message.virtual_bytes > UINT32_MAX) {
        message.virtual_bytes = UINT32_MAX;
    }
    struct home_item item = {.kind = HOME_ADDED,
                             .uid = uid->uid,
                             .flags = home_flags_of_maildir(message.flags),
                             .keywords = message.keywords,
                             .bytes = (uint32_t)message.virtual_bytes,
                             .internal_s = (uint32_t)message.internal_date_s,
                             .saved_s = (uint32_t)message.saved_s};
    comparison->seen[comparison->seen_count++] =
        (struct home_seen){.uid = uid->uid, .flags = item.flags, .keywords = item.keywords};
    return home_item_add(comparison->news, item);
}

static int seen_gone(struct comparison *comparison, uint32_t uid)
{
    return home_item_add(comparison->news, (struct home_item){.kind = HOME_GONE, .uid = uid});
}

/* Both ascend. Those that are known come first, for their uids are lower. */
static int lists_compare(struct comparison *comparison, const struct home_told *told)
{
    struct maildir_uidlist *list = &comparison->folder->box.list;
    size_t at = 0, count = told != NULL ? told->count : 0;
    int status = 0;
    for (size_t i = 0; i < list->count && status == 0; i++) {
        struct maildir_uid *uid = &list->uids[i];
        if (uid->presence != MAILDIR_PRESENT) {
            continue;
        }
        while (at < count && told->seen[at].uid < uid->uid && status == 0) {
            status = seen_gone(comparison, told->seen[at++].uid);
        }
        if (status != 0) {
            break;
        }
        if (at < count && told->seen[at].uid == uid->uid) {
            status = known_compare(comparison, uid, told->seen[at++]);
        } else if (uid->uid >= comparison->from) {
            status = fresh_take(comparison, uid);
        } else {
            uid->presence = MAILDIR_GONE; /* it was seen to go: what is there gets another UID */
            comparison->again = true;
        }
    }
    while (at < count && status == 0) {
        status = seen_gone(comparison, told->seen[at++].uid);
    }
    return status;
}

static int by_kind(const void *left, const void *right)
{
    const struct home_item *a = left, *b = right;
    int order = (a->kind == HOME_ADDED) - (b->kind == HOME_ADDED);
    return order != 0 ? order : a->uid < b->uid ? -1 : a->uid > b->uid;
}

static struct home_told *told_make(const struct home_folder *folder)
{
    struct home_told *told = calloc(1, sizeof *told);
    if (told != NULL) {
        memcpy(told->mailbox, folder->mailbox, sizeof told->mailbox);
        told->uidvalidity = folder->box.list.uidvalidity;
        told->uid_next = 1;
    }
    return told;
}

static int news_begin(struct comparison *comparison, struct home_news **news)
{
    const struct home_folder *folder = comparison->folder;
    struct home_news *made = home_news_add(news, folder->mailbox);
    comparison->news = made;
    if (made == NULL) {
        return -ENOMEM;
    }
    made->uidvalidity = folder->box.list.uidvalidity;
    made->uid_next = folder->box.list.uid_next;
    made->keywords = malloc(sizeof folder->box.keywords.names);
    comparison->seen = malloc((folder->box.list.count + 1) * sizeof comparison->seen[0]);
    if (made->keywords == NULL || comparison->seen == NULL) {
        return -ENOMEM;
    }
    memcpy(made->keywords, folder->box.keywords.names, sizeof folder->box.keywords.names);
    return 0;
}

static void keywords_complete(struct home_folder *folder)
{
    uint32_t used = 0;
    const struct maildir_uidlist *list = &folder->box.list;
    for (size_t i = 0; i < list->count; i++) {
        struct maildir_name name;
        if (list->uids[i].presence == MAILDIR_PRESENT &&
            maildir_name_read(slice_text(list->uids[i].file), &name) == 0) {
            used |= name.keywords;
        }
    }
    maildir_keywords_complete(&folder->box.keywords, used);
}

/* > 0: once more, after a scan. */
static int compare_once(struct home_folder *folder, struct home_news **news)
{
    struct home_told *told = folder->told;
    struct maildir_uidlist *list = &folder->box.list;
    bool anew = told == NULL || told->uidvalidity != list->uidvalidity;
    keywords_complete(folder);
    home_folder_letters(folder);
    struct comparison comparison = {.folder = folder, .from = anew ? 1 : told->uid_next};
    if (!anew && list->uid_next < told->uid_next) { /* a list from before; those were given */
        list->uid_next = told->uid_next;
        list->must_rewrite = true;
    }
    struct home_told *made = anew ? told_make(folder) : NULL;
    int status = anew && made == NULL ? -ENOMEM : news_begin(&comparison, news);
    status = status == 0 ? lists_compare(&comparison, anew ? NULL : told) : status;
    if (status < 0) {
        if (comparison.news != NULL) {
            comparison.news->count = 0; /* it is not told */
        }
        free(comparison.seen);
        home_told_free(made);
        return status;
    }
    if (comparison.news->count > 1) {
        qsort(comparison.news->items, comparison.news->count, sizeof(struct home_item), by_kind);
    }
    if (anew) {
        home_told_free(told);
        folder->told = told = made;
        folder->letters = true;
    }
    free(told->seen);
    told->seen = comparison.seen;
    told->count = comparison.seen_count;
    told->uid_next = comparison.cut ? comparison.cut_at : list->uid_next;
    comparison.news->uid_next = told->uid_next;
    return comparison.again;
}

int home_folder_compare(struct home *home, struct home_folder *folder, struct home_news **news)
{
    int status = folder->rests ? -ESTALE : compare_once(folder, news);
    if (folder->box.list.uidvalidity < UINT32_MAX) {
        home_uidvalidity(home, folder->box.list.uidvalidity + 1);
    }
    for (unsigned looks = 1; status > 0 && looks < LOOKS_MAX; looks++) {
        status = maildir_box_scan(&folder->box);
        status = status == 0 ? compare_once(folder, news) : status;
    }
    return status > 0 ? -EAGAIN : status;
}

int home_folder_look(struct home *home, struct home_folder *folder, struct home_news **news)
{
    int status = home_folder_open(home, folder);
    folder->box.uidvalidity_least = home->uidvalidity_least;
    status = status == 0 ? maildir_box_scan(&folder->box) : status;
    return status == 0 ? home_folder_compare(home, folder, news) : status;
}

/* ---- what the store has changed ---- */

static int write_prepare(struct home_folder *folder, const struct home_writes *writes,
                         const struct home_write *from, struct maildir_write *to)
{
    *to = (struct maildir_write){.uid = from->uid, .expunge = from->expunge};
    to->before.flags = home_flags_to_maildir(from->flags_before);
    to->after.flags = home_flags_to_maildir(from->flags);
    int status = home_letters_of(folder, writes->names, writes->name_count, from->keywords_before,
                                 &to->before.keywords);
    return status == 0 ? home_letters_of(folder, writes->names, writes->name_count, from->keywords,
                                         &to->after.keywords)
                       : status;
}

/* Tried again it would not become so either: it is kept in the store alone. */
static bool cannot_be_written(const struct maildir_write *write)
{
    return write->status == -ENAMETOOLONG || (write->expunge && write->status == -EISDIR);
}

/* As news: it has become what it was to be, and what others have made of it besides. */
static int written_tell(struct home_folder *folder, const struct maildir_write *write,
                        struct home_news *news)
{
    struct home_seen *seen = folder->told != NULL ? home_seen_find(folder->told, write->uid) : NULL;
    bool gone = write->status == -ENOENT || (write->expunge && write->status == 0);
    if (write->status < 0 && !gone && !cannot_be_written(write)) {
        return write->status;
    }
    if (write->expunge && !gone) {
        return 0;
    }
    if (gone && seen != NULL) {
        size_t behind = (size_t)(folder->told->seen + folder->told->count - seen) - 1;
        memmove(seen, seen + 1, behind * sizeof *seen);
        folder->told->count--;
    }
    struct home_item item = {.uid = write->uid, .kind = gone ? HOME_GONE : HOME_CHANGED};
    if (!gone) {
        const struct maildir_state *before = write->status == 0 ? &write->after : &write->left;
        item.flags_before = home_flags_of_maildir(before->flags);
        item.keywords_before = before->keywords;
        item.flags = home_flags_of_maildir(write->left.flags);
        item.keywords = write->left.keywords;
        if (seen != NULL) {
            seen->flags = item.flags;
            seen->keywords = item.keywords;
        }
    }
    return home_item_add(news, item);
}

int home_write(struct home *home, const struct home_writes *writes, struct home_news **news)
{
    struct home_folder *folder;
    size_t count = 0;
    int held = 0; /* why some of them wait */
    struct maildir_write *prepared = calloc(writes->count + 1, sizeof *prepared);
    int *statuses = calloc(writes->count + 1, sizeof *statuses);
    int status = prepared == NULL || statuses == NULL
                     ? -ENOMEM
                     : home_folder_need(home, writes->mailbox, &folder);
    status = status == 0 ? maildir_box_scan(&folder->box) : status;
    if (status == 0) {
        home_folder_letters(folder);
    }
    bool same = status == 0 && folder->told != NULL &&
                folder->told->uidvalidity == folder->box.list.uidvalidity;
    status = same ? home_keep(home, folder, writes, statuses) : status;
    for (size_t i = 0; i < writes->count && status == 0 && same; i++) {
        held = statuses[i] < 0 ? statuses[i] : held;
        status = statuses[i] < 0
                     ? 0
                     : write_prepare(folder, writes, &writes->writes[i], &prepared[count++]);
    }
    status = status == 0 && same ? maildir_box_write(&folder->box, prepared, count) : status;
    struct home_news *told = status == 0 && same ? home_news_add(news, folder->mailbox) : NULL;
    if (told != NULL) {
        told->uidvalidity = folder->box.list.uidvalidity;
        told->uid_next = folder->told->uid_next;
        told->keywords = malloc(sizeof folder->box.keywords.names);
        status = told->keywords == NULL ? -ENOMEM : 0;
        if (status == 0) {
            memcpy(told->keywords, folder->box.keywords.names, sizeof folder->box.keywords.names);
        }
        for (size_t i = 0; i < count && status != -ENOMEM; i++) { /* each by itself */
            int one = written_tell(folder, &prepared[i], told);
            status = one < 0 ? one : status;
        }
        folder->looked_s = 0;
    }
    free(prepared);
    free(statuses);
    status = status == 0 && same && told == NULL ? -ENOMEM : status;
    return status == 0 ? held : status;
}
