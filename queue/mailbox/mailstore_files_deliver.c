/*
 * One text into the Maildirs of several users: a file for each place, by one job of a helper, which comes behind the text's own
 * pieces. Nobody is told of uids; who follows one of the Maildirs looks there afterwards.
 *
 *   pieces ──► deliver_work: sync, then one place after the other, ──► deliver_done ──┬──► told
 *              and the folders of many places by one sync                             └──► OP_PUT ──► told
 *
 * A place whose uid is wanted (outgoing.h's) is put behind the others as APPEND would.
 */
#include "queue/mailbox/mailstore_files.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define US 1000000
#define UNSYNCED_MAX 32u /* folders that one job keeps open */

struct deliver_place {
    char user[USER_NAME_BYTES];
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1];
    uint32_t options;
    uint32_t uidvalidity; /* the lowest that a new mailbox may have */
    uint8_t flags;
    char (*keywords)[MAILDIR_KEYWORD_BYTES_MAX + 1];
    unsigned keyword_count;
    bool comes; /* it is among what comes to the user (mailstore_comes) */
    int status;
};

/* What lies there, and is not on the disk yet. */
struct deliver_unsynced {
    struct deliver_place *place;
    struct home_unsynced there;
};

struct deliver {
    struct mailstore_asked asked; /* first */
    struct list_node node;        /* of files->delivers */
    struct files *files;
    struct staged *staged; /* NULL: the op has it */
    struct crew_job job;
    const struct deliver_place *put; /* the place whose uid is wanted; NULL: there is none */
    struct mailstore_place put_place;
    struct mailstore_waiter put_done;
    uint64_t id, bytes;
    int64_t at_us; /* when it was committed: who comes first has the lower name */
    /* The thread's. */
    bool hurries;                      /* a lock was waited for in vain, and no other is */
    struct deliver_unsynced *unsynced; /* UNSYNCED_MAX; NULL: each folder is synced at once */
    uint32_t unsynced_count;
    uint32_t count;
    struct deliver_place places[];
};

static bool wants_uid(uint32_t options)
{
    return (options & MAILSTORE_NO_UID) == 0;
}

/* ── The thread's ────────────────────────────────────────────────────────────────────────────── */

static void base_format(const struct deliver *deliver, uint32_t index,
                        char base[MAILDIR_FILE_NAME_MAX + 1])
{
    const struct staged *staged = deliver->staged;
    const struct maildir_owner *owner = deliver->files->settings.owner;
    char host[128];
    snprintf(host, sizeof host, "%s", owner->hostname);
    for (char *at = host; (at = strpbrk(at, "/:,")) != NULL;) {
        *at = '_';
    }
    snprintf(base, MAILDIR_FILE_NAME_MAX + 1,
             "%" PRId64 ".M%06" PRId64 "P%" PRIu32 "T%016" PRIx64 "N%" PRIu32 ".%s,S=%" PRIu64
             ",W=%" PRIu64,
             deliver->at_us / US, deliver->at_us % US, owner->process_id, deliver->id, index, host,
             staged->bytes, staged->virtual_bytes);
}

/* Of what cannot be synced nothing is left, as far as it can be removed. The folder that syncs all was open before any of
 * their names came to be: so it is told of each failure since. */
static void unsynced_settle(struct deliver *deliver)
{
    const struct maildir_files *files = deliver->files->settings.owner->files;
    bool all = files->sync_all_tells && deliver->unsynced_count >= MAILDIR_SYNC_ALL_AT_LEAST;
    int synced = all ? files->sync_all(files->self, deliver->unsynced[0].there.folder) : 0;
    for (uint32_t i = 0; i < deliver->unsynced_count; i++) {
        const struct deliver_unsynced *unsynced = &deliver->unsynced[i];
        const struct home_unsynced *there = &unsynced->there;
        int status = all ? synced : files->sync(files->self, there->folder);
        if (status < 0) {
            unsynced->place->status = status;
            files->remove(files->self, there->folder, there->name);
        }
        files->close(files->self, there->folder);
    }
    deliver->unsynced_count = 0;
}

/* last: nobody needs the file behind this place. */
static int place_put(struct deliver *deliver, uint32_t index, struct home *home, bool last)
{
    struct staged *staged = deliver->staged;
    struct deliver_place *place = &deliver->places[index];
    const struct maildir_files *files = staged->files->settings.owner->files;
    struct deliver_unsynced *unsynced =
        deliver->unsynced != NULL ? &deliver->unsynced[deliver->unsynced_count] : NULL;
    char base[MAILDIR_FILE_NAME_MAX + 1];
    base_format(deliver, index, base);
    struct home_letter letter = {
        .at = deliver->files->staging,
        .name = staged->name,
        .base = base,
        .mailbox = place->mailbox,
        .create = (place->options & MAILSTORE_AUTOCREATE) != 0,
        .subscribe = (place->options & MAILSTORE_SUBSCRIBE) != 0,
        .or_inbox = (place->options & MAILSTORE_OR_INBOX) != 0,
        .gives = last,
        .hurries = deliver->hurries,
        .unsynced = unsynced != NULL ? &unsynced->there : NULL,
        .flags = place->flags,
        .keywords = (const char(*)[MAILDIR_KEYWORD_BYTES_MAX + 1]) place->keywords,
        .keyword_count = place->keyword_count,
    };
    home_uidvalidity(home, place->uidvalidity);
    int status = home_deliver(home, &letter);
    deliver->hurries = deliver->hurries || status == -ETIMEDOUT;
    if (letter.given) {
        files->close(files->self, staged->file);
        staged->file = -1;
    }
    if (status == 0 && unsynced != NULL && unsynced->there.folder >= 0) {
        unsynced->place = place;
        deliver->unsynced_count++;
    }
    return status;
}

static void places_put(struct deliver *deliver)
{
    const struct mailstore_maildirs *settings = &deliver->files->settings;
    struct home *home = NULL;
    const char *whose = "";
    if (deliver->count >= MAILDIR_SYNC_ALL_AT_LEAST) { /* of fewer no sync is saved */
        deliver->unsynced = calloc(UNSYNCED_MAX, sizeof deliver->unsynced[0]);
    }
    for (uint32_t i = 0; i < deliver->count; i++) {
        struct deliver_place *place = &deliver->places[i];
        if (place->status != 0 || wants_uid(place->options)) {
            continue;
        }
        if (strcmp(place->user, whose) != 0) {
            home_close(home);
            home = NULL;
            whose = "";
            place->status = home_open(&home, settings->owner, settings->path, place->user);
        }
        if (place->status == 0) {
            whose = place->user;
            place->status =
                place_put(deliver, i, home, i + 1 == deliver->count && deliver->put == NULL);
        }
        if (deliver->unsynced_count == UNSYNCED_MAX) {
            unsynced_settle(deliver);
        }
    }
    home_close(home);
    unsynced_settle(deliver);
}

static void file_drop(struct staged *staged)
{
    const struct maildir_files *files = staged->files->settings.owner->files;
    if (staged->file >= 0) {
        files->close(files->self, staged->file);
        files->remove(files->self, staged->files->staging, staged->name);
        staged->file = -1;
    }
}

static void deliver_work(struct crew_job *job)
{
    struct deliver *deliver = list_entry(job, struct deliver, job);
    struct staged *staged = deliver->staged;
    const struct maildir_files *files = staged->files->settings.owner->files;
    int status = staged->short_of_memory ? -ENOMEM : staged->error;
    status = status == 0 ? files->sync(files->self, staged->file) : status;
    staged->error = status;
    if (status == 0) {
        places_put(deliver);
    }
    for (uint32_t i = 0; i < deliver->count && status != 0; i++) {
        deliver->places[i].status = status;
    }
    if (deliver->put == NULL) {
        file_drop(staged);
    }
}

/* ── The shard's ─────────────────────────────────────────────────────────────────────────────── */

static void place_came(const struct deliver *deliver, struct deliver_place *place, bool stored)
{
    if (place->comes) {
        place->comes = false;
        mailstore_came(deliver->files->store, slice_text(place->user), deliver->bytes, stored);
    }
}

static void deliver_free(struct deliver *deliver)
{
    list_remove(&deliver->node);
    for (uint32_t i = 0; i < deliver->count; i++) {
        place_came(deliver, &deliver->places[i], false);
        free(deliver->places[i].keywords);
    }
    if (deliver->staged != NULL) {
        staged_free(deliver->staged);
    }
    free(deliver->unsynced);
    free(deliver);
}

static void deliver_end(struct deliver *deliver)
{
    struct mailstore_waiter *told = deliver->asked.told;
    deliver_free(deliver);
    if (told != NULL) {
        told->private = NULL;
        told->done(told, 0);
    }
}

static void put_ended(struct mailstore_waiter *waiter, int status)
{
    struct deliver *deliver = list_entry(waiter, struct deliver, put_done);
    const struct mailstore_place *put = &deliver->put_place;
    struct mailstore_place *results = deliver->asked.result;
    for (uint32_t i = 0; results != NULL && i < deliver->count; i++) {
        if (wants_uid(deliver->places[i].options)) {
            results[i].status = status != 0 ? status : put->status;
            results[i].box = put->box;
            results[i].uid = put->uid;
            results[i].uidvalidity = put->uidvalidity;
        }
    }
    deliver_end(deliver);
}

/* The text goes on to it, and has the draft's id there. */
static int put_begin(struct deliver *deliver)
{
    const struct deliver_place *place = deliver->put;
    struct user *user;
    int status = user_get(deliver->files->store, slice_text(place->user), &user);
    if (status != 0) {
        return status;
    }
    deliver->put_done.done = put_ended;
    struct op *op = op_new(user, OP_PUT, &deliver->put_done, &deliver->put_place);
    user_drop(user);
    if (op == NULL) {
        return -ENOMEM;
    }
    memcpy(op->mailbox, place->mailbox, sizeof op->mailbox);
    op->message = (struct home_message){.flags = place->flags};
    op->text = deliver->id;
    op->staged = deliver->staged;
    deliver->staged = NULL;
    op_queue(op);
    return 0;
}

static void file_dropped(struct crew_job *job)
{
    put_ended(&list_entry(job, struct deliver, job)->put_done, -ENOMEM);
}

static void file_drop_work(struct crew_job *job)
{
    file_drop(list_entry(job, struct deliver, job)->staged);
}

static void deliver_done(struct crew_job *job)
{
    struct deliver *deliver = list_entry(job, struct deliver, job);
    struct mailstore *store = deliver->files->store;
    struct mailstore_place *results = deliver->asked.result;
    for (uint32_t i = 0; i < deliver->count; i++) {
        struct deliver_place *place = &deliver->places[i];
        if (wants_uid(place->options)) {
            continue;
        }
        place_came(deliver, place, place->status == 0);
        if (results != NULL) {
            results[i].status = place->status;
        }
        if (place->status == 0) {
            mailstore_poke(store, slice_text(place->user));
        }
    }
    if (deliver->put == NULL) {
        deliver_end(deliver);
    } else if (put_begin(deliver) != 0) {
        deliver->job = (struct crew_job){.work = file_drop_work, .done = file_dropped};
        crew_give(deliver->files->crew, &deliver->staged->line, &deliver->job);
    }
}

/* ── Asking ──────────────────────────────────────────────────────────────────────────────────── */

/* What comes to him counts, of this text too: at places before this one. */
static bool is_over_quota(const struct user *user, const struct mailstore_place *place,
                          uint64_t bytes)
{
    const struct mailstore_totals *totals = &user->pub.totals, *coming = &user->pub.coming;
    return (place->quota_bytes != 0 &&
            totals->bytes + coming->bytes + bytes > place->quota_bytes) ||
           (place->quota_messages != 0 &&
            totals->messages + coming->messages + 1 > place->quota_messages);
}

/* What the store knows of the user: only who asks for it pays for that. */
static int user_ask(struct mailstore *store, const struct mailstore_place *place, uint64_t bytes,
                    struct deliver_place *to)
{
    struct user *user;
    bool limited = place->quota_bytes != 0 || place->quota_messages != 0;
    bool asks = limited || (place->options & MAILSTORE_AUTOCREATE) != 0;
    int status = asks ? user_get(store, place->user, &user) : 0;
    if (!asks || status != 0) {
        return status;
    }
    bool over = is_over_quota(user, place, bytes);
    store->counters.refused_quota += over;
    to->uidvalidity = user->uidvalidity_next;
    status = over ? -EDQUOT : limited ? mailstore_comes(store, &user->pub, bytes) : 0;
    to->comes = limited && status == 0;
    user_drop(user);
    return status;
}

static int keywords_take(const struct mailstore_place *place, struct deliver_place *to)
{
    if (place->keyword_count == 0) {
        return 0;
    }
    to->keywords = calloc(place->keyword_count, sizeof to->keywords[0]);
    if (to->keywords == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < place->keyword_count; i++) {
        struct slice keyword = place->keywords[i];
        if (keyword.size > 0 && keyword.size <= MAILDIR_KEYWORD_BYTES_MAX) {
            memcpy(to->keywords[to->keyword_count++], keyword.bytes, keyword.size);
        }
    }
    return 0;
}

/* 0, or why nothing comes there. */
static int place_take(struct mailstore *store, const struct mailstore_place *place, uint64_t bytes,
                      struct deliver_place *to)
{
    char text[MAILSTORE_NAME_BYTES_MAX], name[USER_NAME_BYTES];
    struct slice mailbox = name_canonical(place->mailbox, text);
    if (place->user.size >= sizeof to->user) {
        return -EINVAL;
    }
    memcpy(to->user, place->user.bytes, place->user.size);
    memcpy(to->mailbox, mailbox.bytes, mailbox.size);
    to->options = place->options;
    to->flags = place->flags & MAILSTORE_FLAGS_ALL;
    if (wants_uid(place->options)) {
        return 0;
    }
    if (user_name_of_mailbox(place->user, name) != 0 || strcmp(name, to->user) != 0) {
        return -EINVAL;
    }
    int status = user_ask(store, place, bytes, to);
    return status == 0 ? keywords_take(place, to) : status;
}

static struct deliver *deliver_new(struct mailstore_draft *draft, struct mailstore_place *places,
                                   uint32_t count)
{
    struct mailstore *store = draft->store;
    const struct deliver_place *put = NULL;
    struct deliver *deliver = calloc(1, sizeof *deliver + count * sizeof(struct deliver_place));
    if (deliver == NULL) {
        return NULL;
    }
    list_init(&deliver->node);
    deliver->files = store->files;
    deliver->count = count;
    deliver->id = draft->id;
    deliver->bytes = draft->bytes;
    deliver->at_us = maildir_owner_now_us(store->files->settings.owner);
    for (uint32_t i = 0; i < count; i++) {
        struct deliver_place *place = &deliver->places[i];
        place->status = place_take(store, &places[i], draft->bytes, place);
        if (place->status != 0) {
            place_came(deliver, place, false);
        }
        put = put == NULL && wants_uid(place->options) ? place : put;
    }
    deliver->put = put;
    return deliver;
}

int files_deliver(struct mailstore_draft *draft, struct mailstore_place *places, uint32_t count,
                  struct mailstore_waiter *waiter)
{
    struct mailstore *store = draft->store;
    struct deliver *deliver = store->sick == 0 ? deliver_new(draft, places, count) : NULL;
    if (deliver == NULL) {
        int status = store->sick != 0 ? store->sick : -ENOMEM;
        draft_free(draft, false);
        return status;
    }
    deliver->asked = (struct mailstore_asked){.told = waiter, .result = places};
    if (waiter != NULL) {
        waiter->private = &deliver->asked;
    }
    list_append(&store->files->delivers, &deliver->node);
    deliver->staged = draft->file;
    draft->file = NULL;
    store->counters.texts_committed++;
    staged_finish(deliver->staged, NULL);
    deliver->job = (struct crew_job){.work = deliver_work, .done = deliver_done};
    crew_give(store->files->crew, &deliver->staged->line, &deliver->job);
    draft_free(draft, false);
    return 0;
}

void delivers_close(struct files *files)
{
    while (!list_empty(&files->delivers)) {
        deliver_free(list_entry(files->delivers.next, struct deliver, node));
    }
}
