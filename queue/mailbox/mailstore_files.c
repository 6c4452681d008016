/* The Maildirs of users who are there: what is to be done in them, one after the other. */
#include "queue/mailbox/mailstore_files.h"
#include <stdio.h>
#include <stdlib.h>

#define POLL_OPEN_S 2u /* of a user who has a mailbox open */
#define POLL_S 10u     /* of others who are there */
#define LEAVES_S 60u   /* of one who is not any more */
#define LANDED_S                                                                                   \
    2u /* longer: until who is judged by what has landed (delivery_quota.h) looks again */
#define OPEN_USERS 64u
#define ASKS_MAX 4u
#define LOOKS_MAX 4u /* while messages come past the store */

/* ── Mirrors ─────────────────────────────────────────────────────────────────────────────────── */

const char *files_path(const struct files *files, const char *user)
{
    const struct mailstore_maildirs *settings = &files->settings;
    bool own = settings->own_user != NULL && strcmp(user, settings->own_user) == 0;
    return own ? settings->own_path : settings->path;
}

struct mirror *mirror_get(struct user *user)
{
    struct mailstore *store = user->store;
    struct files *files = store->files;
    char name[USER_NAME_BYTES];
    struct user *held;
    if (user->mirror != NULL) {
        return user->mirror;
    }
    const char *path = files_path(files, user->name);
    /* What could be no folder's name is no Maildir. */
    if (path == files->settings.path && (user_name_of_mailbox(slice_text(user->name), name) != 0 ||
                                         strcmp(name, user->name) != 0)) {
        return NULL;
    }
    struct mirror *mirror = calloc(1, sizeof *mirror);
    if (mirror == NULL || home_open(&mirror->home, files->settings.owner, path, user->name) != 0) {
        free(mirror);
        return NULL;
    }
    check(user_get(store, slice_text(user->name), &held) == 0 && held == user);
    home_state(mirror->home, log_id(store->log));
    mirror->files = files;
    mirror->user = user;
    mirror->tidies = true; /* what a crash has left */
    mirror->used_s = store->wall_s;
    crew_line_open(&mirror->line);
    list_init(&mirror->ops);
    list_init(&mirror->node);
    list_init(&mirror->poked_node);
    list_append(&files->mirrors, &mirror->node);
    files->mirror_count++;
    user->mirror = mirror;
    return mirror;
}

void mirror_free_again(struct mirror *mirror)
{
    if (mirror->poked && list_empty(&mirror->poked_node)) {
        list_append(&mirror->files->poked, &mirror->poked_node);
    }
}

void mirror_poke(struct mirror *mirror)
{
    mirror->poked = true;
    mirror_free_again(mirror);
}

static void totals_take(struct mailstore_totals *totals, struct mailstore_totals less)
{
    totals->bytes -= less.bytes;
    totals->messages -= less.messages;
}

/* A look has found what had landed when it began, or nobody counts it any more. */
static void landed_forget(struct mirror *mirror, struct mailstore_totals found)
{
    totals_take(&mirror->landed, found);
    totals_take(&mirror->user->pub.coming, found);
}

static void mirror_free(struct mirror *mirror)
{
    struct user *user = mirror->user;
    for (struct list_node *node; (node = list_pop(&mirror->ops)) != NULL;) {
        op_free(list_entry(node, struct op, node));
    }
    if (mirror->active != NULL) {
        op_free(mirror->active);
    }
    landed_forget(mirror, mirror->landed);
    home_close(mirror->home);
    list_remove(&mirror->node);
    list_remove(&mirror->poked_node);
    mirror->files->mirror_count--;
    user->mirror = NULL;
    user_drop(user);
    free(mirror);
}

/* ── What comes past the store ───────────────────────────────────────────────────────────────── */

int mailstore_comes(struct mailstore *store, struct mailstore_user *pub, uint64_t bytes)
{
    struct mirror *mirror = mirror_get(user_private(pub));
    if (mirror == NULL) {
        return -ENOMEM;
    }
    mirror->comers.bytes += bytes;
    mirror->comers.messages++;
    mirror->used_s = store->wall_s;
    pub->coming.bytes += bytes;
    pub->coming.messages++;
    return 0;
}

void mailstore_came(struct mailstore *store, struct slice name, uint64_t bytes, bool stored)
{
    struct user *user = user_known(store, name);
    check(user != NULL && user->mirror != NULL && user->mirror->comers.messages > 0);
    const struct mailstore_totals one = {.bytes = bytes, .messages = 1};
    struct mirror *mirror = user->mirror;
    totals_take(&mirror->comers, one);
    mirror->used_s = store->wall_s;
    if (stored) {
        mirror->landed.bytes += bytes;
        mirror->landed.messages++;
    } else {
        totals_take(&user->pub.coming, one);
    }
}

/* ── Ops ─────────────────────────────────────────────────────────────────────────────────────── */

struct op *op_new(struct user *user, enum op_kind kind, struct mailstore_waiter *waiter,
                  void *result)
{
    struct mirror *mirror = mirror_get(user);
    struct op *op = mirror != NULL ? calloc(1, sizeof *op) : NULL;
    if (op != NULL) {
        op->asked = (struct mailstore_asked){.told = waiter, .result = result};
        op->mirror = mirror;
        op->kind = kind;
        list_init(&op->node);
    }
    return op;
}

/* Of what is asked for and not done yet. */
static void coming_count(struct op *op, bool comes)
{
    struct mailstore_totals *coming = &op->mirror->user->pub.coming;
    if (op->counted != comes) {
        op->counted = comes;
        coming->bytes += comes ? op->adds.bytes : -op->adds.bytes;
        coming->messages += comes ? op->adds.messages : -op->adds.messages;
    }
}

void op_free(struct op *op)
{
    list_remove(&op->node);
    coming_count(op, false);
    if (op->staged != NULL) {
        staged_free(op->staged);
    }
    while (op->told != NULL) {
        struct home_told *told = op->told;
        op->told = told->next;
        home_told_free(told);
    }
    op_writes_free(op->writes);
    op_kept_free(op);
    home_news_free(op->news);
    free(op->keywords);
    free(op->copy_user);
    free((void *)(uintptr_t)op->copy.entries);
    free(op->copy.copied);
    free(op->copy.names);
    free(op->subscribed);
    free(op->stale.names);
    free(op->listed);
    free(op);
}

void op_queue(struct op *op)
{
    struct mirror *mirror = op->mirror;
    if (op->asked.told != NULL) {
        op->asked.told->private = &op->asked;
    }
    mirror->used_s = mirror->files->store->wall_s;
    coming_count(op, true);
    list_append(&mirror->ops, &op->node);
    mirror_next(mirror);
}

/* The last that is known of it. */
static void op_tell(struct op *op, int status)
{
    struct mailstore_waiter *told = op->asked.told;
    op_free(op);
    if (told != NULL) {
        told->private = NULL;
        told->done(told, status);
    }
}

/* Those that came before this look began have had theirs too. */
static void riders_end(struct mirror *mirror, const struct op *op, int status)
{
    struct list_node *next, told;
    list_init(&told);
    for (struct list_node *node = mirror->ops.next; node != &mirror->ops; node = next) {
        struct op *rider = list_entry(node, struct op, node);
        next = node->next;
        if (rider->rides == op) {
            list_remove(node);
            list_append(&told, node);
        }
    }
    for (struct list_node *node; (node = list_pop(&told)) != NULL;) {
        op_tell(list_entry(node, struct op, node), status);
    }
}

void op_end(struct op *op, int status)
{
    struct mirror *mirror = op->mirror;
    check(mirror->active == op);
    mirror->active = NULL;
    mirror->used_s = mirror->files->store->wall_s;
    if (status == 0 && op->status == 0) {
        landed_forget(mirror, op->covers);
    } else if (op->judges != NULL) { /* what cannot be looked at is judged by what is known */
        op->judges->looks = LOOKS_MAX;
    }
    riders_end(mirror, op, status);
    op_tell(op, status);
    mirror_next(mirror);
    mirror_free_again(mirror);
}

bool op_is_over(const struct op *op, struct mailstore_totals past)
{
    const struct mailstore_totals *totals = &op->mirror->user->pub.totals, *adds = &op->adds;
    return (adds->bytes != 0 && op->quota_bytes != 0 &&
            totals->bytes + past.bytes + adds->bytes > op->quota_bytes) ||
           (adds->messages != 0 && op->quota_messages != 0 &&
            totals->messages + past.messages + adds->messages > op->quota_messages);
}

/* What comes past the store, of which a look may have found some. */
static struct mailstore_totals past_of(const struct mirror *mirror)
{
    const struct mailstore_totals *comers = &mirror->comers, *landed = &mirror->landed;
    return (struct mailstore_totals){.bytes = comers->bytes + landed->bytes,
                                     .messages = comers->messages + landed->messages};
}

static bool has_open_box(const struct user *user)
{
    for (uint32_t i = 0; i < user->box_count; i++) {
        if (user->boxes[i]->pub.open_count > 0) {
            return true;
        }
    }
    return false;
}

/* That an op waits for which would be refused for what may be counted twice. NULL: it is judged by what is known. */
static struct op *look_before(struct op *op)
{
    struct mirror *mirror = op->mirror;
    bool doubtful = op->refused == 0 && !op_is_over(op, (struct mailstore_totals){0}) &&
                    op_is_over(op, past_of(mirror));
    if (!doubtful || op->looks++ >= LOOKS_MAX) {
        return NULL;
    }
    struct op *look = op_new(mirror->user, OP_LOOK, NULL, NULL);
    if (look != NULL) {
        look->judges = op;
        look->leaves_new = !has_open_box(mirror->user);
        list_prepend(&mirror->ops, &look->node);
    }
    return look;
}

static void op_begin(struct op *op)
{
    struct mirror *mirror = op->mirror;
    struct files *files = mirror->files;
    if (op->refused == 0 && op_is_over(op, past_of(mirror))) { /* those before it have been done */
        op->refused = -EDQUOT;
        files->store->counters.refused_quota++;
    }
    op->rests = files->mirror_count > files->settings.open_users_max;
    op->status = op_prepare(op);
    if (op->status != 0) {
        mirror->told = mirror->rests = false;
        op_writes_free(op->writes);
        op->writes = NULL;
        op->forgets = true;
    }
    crew_give(files->crew, &mirror->line, &op->job);
}

static void op_worked(struct crew_job *job)
{
    struct op *op = list_entry(job, struct op, job);
    struct mirror *mirror = op->mirror;
    if (op->kind == OP_LOOK && op->status == -ESTALE && op->asks++ < ASKS_MAX) {
        op_writes_free(op->writes); /* what comes of them is among the news */
        op->writes = NULL;
        op_begin(op); /* what has changed is seen when it is told */
        return;
    }
    if (op->kind == OP_LOOK && op->status == -ESTALE) { /* others change it all the time */
        op->status = 0;
        op->covers = (struct mailstore_totals){0};
        mirror_poke(mirror);
    }
    if (op->rests && mirror->told) {
        mirror->told = false;
        mirror->rests = true;
    }
    op_go_on(op);
}

void mirror_next(struct mirror *mirror)
{
    struct files *files = mirror->files;
    if (mirror->active != NULL || list_empty(&mirror->ops)) {
        return;
    }
    struct op *op = list_entry(mirror->ops.next, struct op, node);
    if (op->staged != NULL && op->staged->pieces > 0) {
        return; /* messages come in the order in which they were committed */
    }
    struct op *look = look_before(op);
    op = look != NULL ? look : op;
    list_remove(&op->node);
    mirror->active = op;
    if (op->kind == OP_LOOK) {
        mirror->looked_s = files->store->wall_s;
        mirror->poked = false;
        op->covers = mirror->landed;
        for (struct list_node *node = mirror->ops.next; node != &mirror->ops; node = node->next) {
            struct op *other = list_entry(node, struct op, node);
            other->rides = other->kind == OP_LOOK ? op : NULL;
        }
    }
    op->job.work = op_work;
    op->job.done = op_worked;
    op_begin(op);
}

/* ── In a round ──────────────────────────────────────────────────────────────────────────────── */

void files_wanted(struct box *box)
{
    struct user *user = box->user;
    if (user->store->files == NULL) {
        return; /* while the log is read again: files_open finds the rows */
    }
    struct mirror *mirror = mirror_get(user);
    if (mirror != NULL) {
        mirror->writes = true;
        mirror_poke(mirror);
    }
}

void files_box_opened(struct box *box)
{
    if (box->user->store->files != NULL && box->user->mirror == NULL) {
        mirror_get(box->user);
    }
}

static void mirror_poll(struct mirror *mirror)
{
    const struct mailstore *store = mirror->files->store;
    uint64_t since_s = store->wall_s - mirror->looked_s;
    bool alone = mirror->user->refs == 1;
    if (mirror->active != NULL || !list_empty(&mirror->ops) || mirror->readers > 0) {
        return;
    }
    bool due = mirror->poked || (mirror->writes && since_s >= POLL_OPEN_S);
    if (!store->rests && !alone) {
        due = due || since_s >= POLL_S || (since_s >= POLL_OPEN_S && has_open_box(mirror->user));
    }
    if (due && store->sick == 0) {
        struct op *op = op_new(mirror->user, OP_LOOK, NULL, NULL);
        if (op != NULL) {
            op->leaves_new = !has_open_box(mirror->user);
            op_queue(op);
        }
    } else if (alone && mirror->comers.messages == 0 &&
               store->wall_s - mirror->used_s >=
                   LEAVES_S + (mirror->landed.messages > 0 ? LANDED_S : 0)) {
        mirror_free(mirror);
    }
}

unsigned files_round(struct mailstore *store)
{
    struct files *files = store->files;
    struct list_node *next, stalled, poked;
    if (files == NULL) {
        return 0;
    }
    unsigned done = crew_reap(files->crew);
    list_init(&stalled);
    list_splice(&stalled, &files->stalled);
    for (struct list_node *node; (node = list_pop(&stalled)) != NULL;) {
        op_go_on(list_entry(node, struct op, node));
    }
    bool polls = store->wall_s != files->polled_s;
    files->polled_s = store->wall_s;
    for (struct list_node *node = files->mirrors.next; polls && node != &files->mirrors;
         node = next) {
        next = node->next;
        mirror_poll(list_entry(node, struct mirror, node));
    }
    list_init(&poked);
    list_splice(&poked, &files->poked);
    for (struct list_node *node; (node = list_pop(&poked)) != NULL;) {
        mirror_poll(list_entry(node, struct mirror, poked_node));
    }
    return done;
}

bool files_have_room(const struct mailstore *store)
{
    return store->files == NULL || store->files->staged_bytes < FILES_STAGED_BYTES_MAX / 2;
}

bool files_are_quiet(const struct mailstore *store)
{
    const struct files *files = store->files;
    if (files == NULL) {
        return true;
    }
    bool quiet = crew_is_idle(files->crew) && list_empty(&files->stalled);
    for (struct list_node *node = files->mirrors.next; node != &files->mirrors && quiet;
         node = node->next) {
        const struct mirror *mirror = list_entry(node, struct mirror, node);
        quiet = mirror->active == NULL && list_empty(&mirror->ops) &&
                (!mirror->poked || store->sick != 0);
    }
    return quiet;
}

void mailstore_poke(struct mailstore *store, struct slice name)
{
    const struct user *user = store->files != NULL ? user_known(store, name) : NULL;
    /* When the mirror alone holds him nobody wants to know. */
    if (user != NULL && user->mirror != NULL && user->refs > 1) {
        mirror_poke(user->mirror);
    }
}

/* ── Opening, closing ────────────────────────────────────────────────────────────────────────── */

static void staged_remove(void *owner, const char *name)
{
    const struct files *files = owner;
    const struct maildir_files *system = files->settings.owner->files;
    system->remove(system->self, files->staging, name);
}

static int staging_open(struct files *files)
{
    const struct maildir_files *system = files->settings.owner->files;
    files->staging = system->open_root(system->self, files->settings.staging);
    return files->staging < 0 ? files->staging
                              : system->list(system->self, files->staging, staged_remove, files);
}

/* Users of whom something is to be written, which was not before the last end. */
static int written_resume(struct mailstore *store)
{
    struct key prefix, from;
    struct index_walk walk;
    struct user *user;
    key_begin(&prefix, ROW_WRITE);
    from = prefix;
    for (;;) {
        bool is = index_walk_begin(store->index, &walk, key_slice(&prefix), key_slice(&from));
        uint64_t id = is ? key_read_u64(walk.key, 1) : 0;
        int status = walk.status;
        index_walk_end(&walk);
        if (!is || status != 0) {
            return status;
        }
        if (user_get_by_id(store, id, &user) == 0) {
            struct mirror *mirror = mirror_get(user);
            if (mirror != NULL) {
                mirror->writes = true;
                mirror_poke(mirror);
            }
            user_drop(user);
        }
        key_begin(&from, ROW_WRITE);
        key_u64(&from, id + 1);
    }
}

int files_open(struct mailstore *store)
{
    struct files *files = calloc(1, sizeof *files);
    if (files == NULL) {
        return -ENOMEM;
    }
    files->store = store;
    files->settings = *store->settings.maildirs;
    files->settings.open_users_max =
        files->settings.open_users_max != 0 ? files->settings.open_users_max : OPEN_USERS;
    files->staging = -1;
    list_init(&files->mirrors);
    list_init(&files->poked);
    list_init(&files->texts);
    list_init(&files->stalled);
    list_init(&files->delivers);
    store->files = files;
    int status = staging_open(files);
    status = status < 0 ? status
                        : crew_open(&files->crew, files->settings.thread_count,
                                    files->settings.wake, files->settings.wake_owner);
    return status < 0 ? status : written_resume(store);
}

void files_close(struct mailstore *store)
{
    struct files *files = store->files;
    if (files == NULL) {
        return;
    }
    crew_close(files->crew);
    delivers_close(files);
    while (!list_empty(&files->mirrors)) {
        mirror_free(list_entry(files->mirrors.next, struct mirror, node));
    }
    file_texts_close(store);
    if (files->staging >= 0) {
        files->settings.owner->files->close(files->settings.owner->files->self, files->staging);
    }
    free(files);
    store->files = NULL;
}
