/* Which texts an index is to have, and their bytes: what the shard does for the thread, a little each millisecond. */
#include "engine/core/check.h"
#include "engine/mailbox/search_private.h"
#include <stdlib.h>

#define STEP_NS 1000000ull
#define ENTRIES_A_STEP 4096u
#define BOX_COST 64u /* of entries: a mailbox is loaded */
#define READ_BYTES_A_STEP (256u * 1024)
#define CHANGE_NS (1000ull * 1000000ull)   /* from a change to the pass for it: others follow */
#define REST_FACTOR 10u                    /* so many times as long as a pass took there is none */
#define TROUBLE_NS (60ull * 1000000000ull) /* after a failure */

static void pass_run(struct search_desk *desk);

/* ---- When ---- */

static void desk_arm(struct search_desk *desk, uint64_t due_ns)
{
    if (!timer_armed(&desk->timer) || desk->timer.due_ns > due_ns) {
        wheel_arm(desk->shard->wheel, &desk->timer, due_ns);
    }
}

static void desk_step(struct search_desk *desk)
{
    desk_arm(desk, desk->shard->now_ns + STEP_NS);
}

static void keeper_changed(struct mailstore_watch *watch)
{
    struct search_keeper *keeper = list_entry(watch, struct search_keeper, watch);
    struct search_desk *desk = keeper->desk;
    if (!keeper->dirty) {
        uint64_t due_ns = desk->shard->now_ns + CHANGE_NS;
        keeper->dirty = true;
        keeper->due_ns = keeper->due_ns > due_ns ? keeper->due_ns : due_ns;
        desk_arm(desk, keeper->due_ns);
    }
}

/* ---- Keepers ---- */

static struct search_keeper *keeper_of(struct list_node *node)
{
    return list_entry(node, struct search_keeper, node);
}

static struct search_keeper *keeper_find(struct search_desk *desk,
                                         const struct mailstore_user *user)
{
    for (struct list_node *node = desk->keepers.next; node != &desk->keepers; node = node->next) {
        if (keeper_of(node)->user == user) {
            return keeper_of(node);
        }
    }
    return NULL;
}

static void keeper_free(struct search_desk *desk, struct search_keeper *keeper)
{
    list_remove(&keeper->node);
    desk->keeper_count--;
    mailstore_watch_end(&keeper->watch);
    mailstore_user_close(desk->texts, keeper->user);
    free(keeper);
}

static void keepers_trim(struct search_desk *desk)
{
    struct list_node *next;
    for (struct list_node *node = desk->keepers.next;
         node != &desk->keepers && desk->keeper_count > SEARCH_KEEPERS_MAX; node = next) {
        next = node->next;
        if (desk->pass.keeper != keeper_of(node)) {
            keeper_free(desk, keeper_of(node));
        }
    }
}

/* The user is given. */
static void keeper_add(struct search_desk *desk, struct mailstore_user *user)
{
    struct search_keeper *keeper = (struct search_keeper *)calloc(1, sizeof(*keeper));
    if (keeper == NULL) {
        mailstore_user_close(desk->texts, user);
        return;
    }
    keeper->desk = desk;
    keeper->user = user;
    keeper->dirty = true;
    keeper->due_ns = desk->shard->now_ns;
    keeper->watch.changed = keeper_changed;
    list_init(&keeper->watch.node);
    mailstore_user_watch_begin(user, &keeper->watch);
    list_append(&desk->keepers, &keeper->node);
    desk->keeper_count++;
    keepers_trim(desk);
    desk_step(desk);
}

void search_keep(struct search_desk *desk, struct mailstore_user *user)
{
    struct search_keeper *keeper = keeper_find(desk, user);
    struct mailstore_user *opened;
    if (keeper != NULL) {
        list_remove(&keeper->node);
        list_append(&desk->keepers, &keeper->node);
    } else if (!desk->rests &&
               mailstore_user_open(desk->texts, slice_text(user->name), &opened) == 0) {
        keeper_add(desk, opened);
    }
}

/* Users whose index was found at the start: what was expunged since it was kept up last has to leave it. */
static void found_take(struct search_desk *desk)
{
    while (desk->found.count > 0) {
        struct mailstore_user *user;
        uint64_t id = desk->found.ids[--desk->found.count];
        int status = mailstore_user_open_by_id(desk->texts, id, &user);
        if (status == -ENOENT) {
            continue; /* SEARCH never asks for it, and the next start finds it again */
        }
        if (status == 0 && keeper_find(desk, user) == NULL) {
            keeper_add(desk, user);
            return;
        }
        if (status == 0) {
            mailstore_user_close(desk->texts, user);
        }
    }
}

/* ---- A pass: its end ---- */

static void box_leave(struct search_desk *desk)
{
    if (desk->pass.box != NULL) {
        mailstore_box_close(desk->texts, desk->pass.box);
        desk->pass.box = NULL;
    }
}

static void text_leave(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    if (pass->waits) {
        mailstore_fetch_cancel(desk->texts, &pass->fetch);
        pass->waits = false;
    }
    if (pass->reads) {
        mailstore_text_close(desk->texts, &pass->text);
        pass->reads = false;
    }
}

static void batch_free(struct search_work *work)
{
    struct search_batch *batch = (struct search_batch *)work;
    for (uint32_t i = 0; i < batch->count; i++) {
        free(batch->texts[i].bytes);
    }
    free(batch);
}

static void pass_clear(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    box_leave(desk);
    text_leave(desk);
    if (pass->batch != NULL) {
        batch_free(&pass->batch->work);
    }
    if (pass->work != NULL) {
        pass->work->orphan = true; /* it may be under way: it frees itself */
    }
    free(pass->ids.ids);
    *pass = (struct search_pass){.state = SEARCH_PASS_NONE};
}

/* The mailboxes have become others under it. */
static void pass_abandon(struct search_desk *desk)
{
    struct search_keeper *keeper = desk->pass.keeper;
    keeper->dirty = true;
    keeper->due_ns = desk->shard->now_ns + CHANGE_NS;
    pass_clear(desk);
    keepers_trim(desk);
    desk_step(desk);
}

/* 0: the index is as the mailboxes were when it began; else what has failed: another try, some time later. */
static void pass_end(struct search_desk *desk, int status)
{
    struct search_pass *pass = &desk->pass;
    struct search_keeper *keeper = pass->keeper;
    uint64_t now_ns = desk->shard->now_ns, took_ns = now_ns - pass->began_ns;
    desk->counters.passes++;
    keeper->due_ns = now_ns + took_ns * REST_FACTOR;
    if (status != 0) {
        desk->counters.failures++;
        keeper->dirty = true;
        keeper->due_ns = now_ns + TROUBLE_NS;
        logger_line(desk->shard->logger, LOGGER_WARNING,
                    "search: the index of %s cannot be kept up: %s: messages are read instead",
                    keeper->user->name, strerror(-status));
    } else {
        logger_line(desk->shard->logger, LOGGER_DEBUG,
                    "search: the index of %s has %llu texts, %llu added, %llu dropped",
                    keeper->user->name,
                    (unsigned long long)pass->indexed + (unsigned long long)pass->added,
                    (unsigned long long)pass->added, (unsigned long long)pass->dropped);
    }
    pass_clear(desk);
    keepers_trim(desk);
    desk_step(desk);
}

/* ---- Gathering ids ---- */

/* -EINPROGRESS: it is being loaded. */
static int box_enter(struct search_desk *desk, struct mailstore_box *box)
{
    desk->pass.entering = box->id;
    int status = mailstore_box_load(desk->texts, box);
    status = status == 0 ? mailstore_box_open(desk->texts, box) : status;
    if (status == 0) {
        desk->pass.box = box;
        desk->pass.uid = 0;
    }
    return status;
}

/* Entries of the box behind the last that was seen. True: that was all of it. */
static bool box_gather(struct search_desk *desk, unsigned *budget, bool *failed)
{
    struct search_pass *pass = &desk->pass;
    const struct mailstore_box *box = pass->box;
    if (pass->uid == UINT32_MAX) {
        return true;
    }
    uint32_t i = mailstore_entry_index(box, pass->uid + 1);
    for (; i<box->count && * budget> 0 && !*failed; i++, --*budget) {
        *failed =
            pass->ids.count >= SEARCH_IDS_MAX || !search_ids_add(&pass->ids, box->entries[i].text);
        pass->uid = box->entries[i].uid;
    }
    return i >= box->count;
}

/* 0: these are all; -EINPROGRESS: more in the next step. */
static int gather(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    struct mailstore_user *user = pass->keeper->user;
    unsigned budget = ENTRIES_A_STEP;
    bool failed = false;
    if (pass->box == NULL) {
        struct mailstore_box *box = pass->entering != 0 ? mailstore_box_by_id(user, pass->entering)
                                                        : mailstore_box_next(user, NULL);
        int status = box != NULL ? box_enter(desk, box) : pass->entering != 0 ? -ECANCELED : 0;
        if (status != 0 || box == NULL) {
            return status;
        }
    }
    while (budget > 0) {
        if (pass->box->state == MAILSTORE_BOX_DELETED) {
            return -ECANCELED; /* it has no place among the others any more */
        }
        if (!box_gather(desk, &budget, &failed)) {
            break;
        }
        struct mailstore_box *next = mailstore_box_next(user, pass->box);
        box_leave(desk);
        int status = next != NULL ? box_enter(desk, next) : 0;
        if (status != 0 || next == NULL) {
            return failed ? -E2BIG : status;
        }
        budget -= budget < BOX_COST ? budget : BOX_COST;
    }
    return failed ? -E2BIG : -EINPROGRESS;
}

/* ---- Comparing ---- */

static void compare_free(struct search_work *work)
{
    free(((struct search_compare *)work)->ids.ids);
    free(work);
}

static void compare_told(struct search_desk *desk, struct search_work *work)
{
    struct search_compare *compare = (struct search_compare *)work;
    struct search_pass *pass = &desk->pass;
    int status = compare->status;
    pass->work = NULL;
    pass->ids = compare->ids;
    pass->next = 0;
    pass->indexed = compare->indexed;
    pass->dropped = compare->dropped;
    desk->counters.texts_dropped += compare->dropped;
    pass->keeper->dirty = pass->keeper->dirty || compare->again;
    free(compare);
    if (status != 0) {
        pass_end(desk, status);
        return;
    }
    pass->state = SEARCH_PASS_READ;
    pass_run(desk);
}

static void compare_begin(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    struct search_compare *compare = (struct search_compare *)calloc(1, sizeof(*compare));
    if (compare == NULL) {
        pass_end(desk, -ENOMEM);
        return;
    }
    compare->work.run = search_compare_run;
    compare->work.told = compare_told;
    compare->work.free = compare_free;
    compare->user = pass->keeper->user->id;
    compare->ids = pass->ids;
    pass->ids = (struct search_ids){.ids = NULL};
    pass->state = SEARCH_PASS_COMPARE;
    pass->work = &compare->work;
    if (search_give(desk, &compare->work) != 0) {
        pass->work = NULL;
        compare_free(&compare->work);
        pass_end(desk, -EAGAIN);
    }
}

/* ---- Reading texts ---- */

static void text_came(struct mailstore_waiter *waiter, int status)
{
    struct mailstore_fetch *fetch = list_entry(waiter, struct mailstore_fetch, waiter);
    struct search_pass *pass = list_entry(fetch, struct search_pass, fetch);
    struct search_desk *desk = list_entry(pass, struct search_desk, pass);
    (void)status; /* mailstore_read says it, and reads what was read with others by itself */
    pass->waits = false;
    desk_step(desk);
}

/* The next that is missing. False: it has gone meanwhile, or there is no memory for it. */
static bool text_enter(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    struct search_raw *raw = &pass->batch->texts[pass->batch->count];
    uint64_t id = pass->ids.ids[pass->next++];
    *raw = (struct search_raw){.id = id};
    pass->text = (struct mailstore_text){0};
    if (mailstore_text_open(desk->texts, id, &pass->text) != 0) {
        return false;
    }
    raw->size = pass->text.bytes;
    if (raw->size <= SEARCH_READ_BYTES_MAX) {
        raw->bytes = (uint8_t *)malloc(raw->size + 1u);
        if (raw->bytes == NULL) {
            mailstore_text_close(desk->texts, &pass->text);
            pass->keeper->dirty = true;
            return false;
        }
    }
    pass->batch->count++;
    pass->reads = true;
    pass->at = raw->bytes != NULL ? 0 : raw->size; /* nothing is read of one that is too long */
    pass->fetch = (struct mailstore_fetch){.waiter.done = text_came};
    return true;
}

/* It cannot be read: whoever looks for something in it learns so by reading it. */
static void text_give_up(struct search_desk *desk)
{
    struct search_batch *batch = desk->pass.batch;
    text_leave(desk);
    free(batch->texts[--batch->count].bytes);
}

/* 0: it is there, or is given up; -EINPROGRESS; -EAGAIN. */
static int text_read(struct search_desk *desk, uint32_t *budget)
{
    struct search_pass *pass = &desk->pass;
    struct search_raw *raw = &pass->batch->texts[pass->batch->count - 1];
    while (pass->at < raw->size) {
        struct slice bytes;
        struct ref *owner;
        if (*budget == 0) {
            return -EAGAIN;
        }
        int status =
            mailstore_read(desk->texts, &pass->text, pass->at, &bytes, &owner, &pass->fetch);
        pass->waits = status == -EINPROGRESS;
        if (status == -EINPROGRESS || status == -EAGAIN) {
            return status;
        }
        if (status != 0) {
            text_give_up(desk);
            return 0;
        }
        bytes = slice_first(slice_first(bytes, raw->size - pass->at), *budget);
        memcpy(raw->bytes + pass->at, bytes.bytes, bytes.size);
        pass->at += (uint32_t)bytes.size;
        *budget -= (uint32_t)bytes.size;
        ref_drop(owner);
    }
    pass->batch->bytes += raw->bytes != NULL ? raw->size : 0;
    text_leave(desk);
    return 0;
}

static bool batch_is_full(const struct search_pass *pass)
{
    return pass->batch->count == SEARCH_BATCH_TEXTS || pass->batch->bytes >= SEARCH_BATCH_BYTES;
}

/* 0: the batch is full, or there are no more; -EINPROGRESS: a waiter goes on; -EAGAIN: in the next step. */
static int texts_read(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    uint32_t budget = READ_BYTES_A_STEP;
    unsigned texts = 0;
    while (pass->reads || (!batch_is_full(pass) && pass->next < pass->ids.count)) {
        if (texts++ > SEARCH_BATCH_TEXTS) {
            return -EAGAIN;
        }
        if (pass->reads || text_enter(desk)) {
            int status = text_read(desk, &budget);
            if (status != 0) {
                return status;
            }
        }
    }
    return 0;
}

/* ---- Adding them ---- */

static void batch_told(struct search_desk *desk, struct search_work *work)
{
    struct search_batch *batch = (struct search_batch *)work;
    struct search_pass *pass = &desk->pass;
    int status = batch->status;
    pass->work = NULL;
    pass->added += status == 0 ? batch->count : 0;
    desk->counters.texts_added += status == 0 ? batch->count : 0;
    batch_free(work);
    if (status != 0) {
        pass_end(desk, status);
        return;
    }
    pass->state = SEARCH_PASS_READ;
    pass_run(desk);
}

static void batch_give(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    struct search_batch *batch = pass->batch;
    batch->work.run = search_batch_run;
    batch->work.told = batch_told;
    batch->work.free = batch_free;
    batch->user = pass->keeper->user->id;
    batch->applied = mailstore_applied(desk->texts);
    if (search_give(desk, &batch->work) != 0) {
        desk_step(desk); /* questions come first */
        return;
    }
    pass->batch = NULL;
    pass->work = &batch->work;
    pass->state = SEARCH_PASS_ADD;
}

static void texts_take(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    if (pass->batch == NULL) {
        pass->batch = (struct search_batch *)calloc(1, sizeof(*pass->batch));
    }
    if (pass->batch == NULL) {
        pass_end(desk, -ENOMEM);
        return;
    }
    int status = texts_read(desk);
    if (status == -EAGAIN) {
        desk_step(desk);
    } else if (status == 0 && pass->batch->count > 0) {
        batch_give(desk);
    } else if (status == 0) {
        pass_end(desk, 0);
    }
}

/* ---- The machine ---- */

static void pass_run(struct search_desk *desk)
{
    struct search_pass *pass = &desk->pass;
    int status;
    if (desk->rests && pass->state != SEARCH_PASS_NONE) {
        pass_clear(desk);
        return;
    }
    switch ((enum search_pass_state)pass->state) {
    case SEARCH_PASS_GATHER:
        status = gather(desk);
        if (status == -EINPROGRESS) {
            desk_step(desk);
        } else if (status == 0) {
            compare_begin(desk);
        } else if (status == -ECANCELED) {
            pass_abandon(desk);
        } else {
            pass_end(desk, status);
        }
        return;
    case SEARCH_PASS_READ:
        if (!pass->waits) {
            texts_take(desk);
        }
        return;
    case SEARCH_PASS_NONE:
    case SEARCH_PASS_COMPARE:
    case SEARCH_PASS_ADD:
        return;
    }
}

/* Whose turn it is; else when. */
static void pass_begin(struct search_desk *desk)
{
    uint64_t now_ns = desk->shard->now_ns, next_ns = WHEEL_NEVER;
    found_take(desk);
    for (struct list_node *node = desk->keepers.next; node != &desk->keepers; node = node->next) {
        struct search_keeper *keeper = keeper_of(node);
        if (keeper->dirty && keeper->due_ns <= now_ns) {
            keeper->dirty = false;
            desk->pass.state = SEARCH_PASS_GATHER;
            desk->pass.keeper = keeper;
            desk->pass.began_ns = now_ns;
            pass_run(desk);
            return;
        }
        if (keeper->dirty && keeper->due_ns < next_ns) {
            next_ns = keeper->due_ns;
        }
    }
    if (next_ns != WHEEL_NEVER) {
        desk_arm(desk, next_ns);
    }
}

static void desk_fired(struct timer *timer, uint64_t now_ns)
{
    struct search_desk *desk = list_entry(timer, struct search_desk, timer);
    (void)now_ns;
    if (desk->pass.state != SEARCH_PASS_NONE) {
        pass_run(desk);
    } else if (!desk->rests) {
        pass_begin(desk);
    }
}

void search_keep_open(struct search_desk *desk)
{
    timer_init(&desk->timer, desk_fired);
    if (desk->found.count > 0) {
        desk_step(desk);
    }
}

void search_keep_close(struct search_desk *desk)
{
    desk->rests = true;
    wheel_disarm(desk->shard->wheel, &desk->timer);
    pass_clear(desk);
    while (!list_empty(&desk->keepers)) {
        keeper_free(desk, keeper_of(desk->keepers.next));
    }
}
