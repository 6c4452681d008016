#include "proto/message/thread.h"
#include "engine/core/check.h"
#include "proto/message/thread_nodes.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/*
 *            by references                                            by subject
 *  PREPARE ─┬─► IDS ─► MISSING ─► PARENTS ─► CHAINS ─┐
 *           └─► FIRSTS ─► SUBJECTS ──────────────────┴─► GATHER ─┬─► PRUNE ─► SORT ─► TOPS ─► ENTER ─► JOIN ─► LAST ─► done
 *                                                                └────────────────────────────────────────────►┘
 */
enum thread_phase {
    THREAD_PREPARE,  /* memory is written for the first time */
    THREAD_IDS,      /* message-ids get the nodes of their messages */
    THREAD_MISSING,  /* others nodes of their own */
    THREAD_PARENTS,  /* step 1.B */
    THREAD_CHAINS,   /* step 1.A */
    THREAD_FIRSTS,   /* the first of each subject, by date */
    THREAD_SUBJECTS, /* is the parent of the others */
    THREAD_GATHER,
    THREAD_PRUNE, /* step 3 */
    THREAD_SORT,  /* step 4 */
    THREAD_TOPS,  /* step 5 */
    THREAD_ENTER,
    THREAD_JOIN,
    THREAD_LAST, /* step 6 */
};

/* Finds out which node stands for a message-id, or for a subject. Names are random already: they are their own hash. */
struct id_table {
    uint64_t *ids;
    uint32_t *nodes;
    size_t mask;
};

/* What is there until the threads are made. */
struct thread_work {
    enum thread_kind kind;
    enum thread_phase phase;
    const struct thread_message *messages;
    uint32_t count;
    size_t at; /* of the phase: what is next */
    struct id_table table;
    uint32_t *tops; /* by node: a way to the top of its thread; later those that are at the top */
    uint32_t top_count, top;
    uint32_t without; /* subject, the first of them */
    struct thread_walk walk;
};

/* ---- Begin ---- */

static const uint64_t *references_of(const struct thread_message *message, uint32_t *count)
{
    uint32_t all = message->reference_count;
    *count = all < THREAD_REFERENCES_MAX ? all : THREAD_REFERENCES_MAX;
    return message->references + (all - *count);
}

static int work_open(struct thread_forest *forest, size_t reference_count)
{
    struct thread_work *work = forest->work;
    size_t size = 64;
    while (size < (work->count + reference_count) * 2) {
        size *= 2;
    }
    work->table.mask = size - 1;
    work->table.ids = malloc(size * sizeof(*work->table.ids));
    work->table.nodes = malloc(size * sizeof(*work->table.nodes));
    work->tops = malloc(forest->node_room * sizeof(*work->tops));
    forest->nodes = malloc(forest->node_room * sizeof(*forest->nodes));
    return work->table.ids != NULL && work->table.nodes != NULL && work->tops != NULL &&
                   forest->nodes != NULL
               ? 0
               : -ENOMEM;
}

static void work_close(struct thread_work *work)
{
    if (work != NULL) {
        thread_walk_end(&work->walk);
        free(work->table.ids);
        free(work->table.nodes);
        free(work->tops);
        free(work);
    }
}

int thread_begin(struct thread_forest **made, enum thread_kind kind,
                 const struct thread_message *messages, uint32_t count, size_t reference_count)
{
    /* By references: one for each id at most, and one for two that have a subject together. */
    size_t room = (size_t)count + 1;
    room += kind == THREAD_BY_REFERENCES ? count + reference_count : 0;
    check(count <= THREAD_MESSAGES_MAX);
    struct thread_forest *forest = calloc(1, sizeof(*forest));
    if (forest != NULL && room <= UINT32_MAX) {
        forest->work = calloc(1, sizeof(*forest->work));
    }
    int status = -ENOMEM;
    if (forest != NULL && forest->work != NULL) {
        forest->node_room = (uint32_t)room;
        forest->node_count = count + 1;
        forest->work->kind = kind;
        forest->work->messages = messages;
        forest->work->count = count;
        status = work_open(forest, kind == THREAD_BY_REFERENCES ? reference_count : 0);
    }
    if (status != 0) {
        thread_free(forest);
        return status;
    }
    *made = forest;
    return 0;
}

void thread_free(struct thread_forest *forest)
{
    if (forest != NULL) {
        work_close(forest->work);
        free(forest->nodes);
        free(forest);
    }
}

static struct thread_node node_of(const struct thread_message *message)
{
    check(message->number != 0);
    return (struct thread_node){.number = message->number,
                                .order = message->number,
                                .sent_s = message->sent_s,
                                .subject = message->subject,
                                .is_reply = message->is_reply};
}

/* Most of those that there could be never come to be: their memory is not written before. */
static uint32_t node_make(struct thread_forest *forest)
{
    uint32_t node = forest->node_count++;
    check(node < forest->node_room);
    forest->nodes[node] = (struct thread_node){.number = 0};
    forest->work->tops[node] = node;
    return node;
}

/* A million of anything is not zeroed at once either. */
static bool prepare(struct thread_forest *forest, size_t *steps)
{
    struct thread_work *work = forest->work;
    check(forest->node_count <= work->table.mask);
    for (; work->at <= work->table.mask && thread_spend(steps); work->at++) {
        size_t at = work->at;
        work->table.ids[at] = 0;
        work->table.nodes[at] = THREAD_NONE;
        if (at <= work->count) {
            work->tops[at] = (uint32_t)at;
            forest->nodes[at] =
                at > 0 ? node_of(&work->messages[at - 1]) : (struct thread_node){.number = 0};
        }
    }
    return work->at > work->table.mask;
}

/* Where the node of this name is kept: THREAD_NONE as long as nobody has put one there. */
static uint32_t *table_place(struct id_table *table, uint64_t id)
{
    size_t at = (size_t)(id ^ id >> 32) & table->mask;
    while (table->ids[at] != id && table->ids[at] != 0) {
        at = (at + 1) & table->mask;
    }
    table->ids[at] = id;
    return &table->nodes[at];
}

/* ---- By references (§3, REFERENCES) ---- */

/* Who is above whom is found in almost constant time: no link is ever undone. */
static uint32_t top_of(struct thread_work *work, uint32_t node)
{
    uint32_t *tops = work->tops;
    while (tops[node] != node) {
        tops[node] = tops[tops[node]];
        node = tops[node];
    }
    return node;
}

/* Nothing, when it would lead in a circle. The child has no parent. */
static void link_make(struct thread_forest *forest, uint32_t parent, uint32_t child)
{
    if (top_of(forest->work, parent) != child) {
        forest->nodes[child].parent = parent;
        forest->work->tops[child] = parent;
    }
}

/* Node i + 1 is message i; those of ids that no message has come behind. A second message with the same id has none. */
static void id_enter(struct thread_forest *forest, uint32_t i)
{
    struct thread_work *work = forest->work;
    uint64_t id = work->messages[i].id;
    uint32_t *place = id == 0 ? NULL : table_place(&work->table, id);
    if (place != NULL && *place == THREAD_NONE) {
        *place = i + 1;
    }
}

static void missing_enter(struct thread_forest *forest, uint32_t i)
{
    struct thread_work *work = forest->work;
    uint32_t count;
    const uint64_t *references = references_of(&work->messages[i], &count);
    for (uint32_t r = 0; r < count; r++) {
        uint32_t *place = references[r] == 0 ? NULL : table_place(&work->table, references[r]);
        if (place != NULL && *place == THREAD_NONE) {
            *place = node_make(forest);
        }
    }
}

static uint32_t last_reference(struct thread_work *work, uint32_t index)
{
    uint32_t count;
    const uint64_t *references = references_of(&work->messages[index], &count);
    while (count > 0 && references[count - 1] == 0) {
        count--;
    }
    return count == 0 ? THREAD_NONE : *table_place(&work->table, references[count - 1]);
}

/* What a message says of itself holds. */
static void parent_link(struct thread_forest *forest, uint32_t i)
{
    uint32_t parent = last_reference(forest->work, i);
    if (parent != THREAD_NONE && parent != i + 1) {
        link_make(forest, parent, i + 1);
    }
}

/* What others say of it holds for who is not there, or was there before and knows no parent. */
static void chain_link(struct thread_forest *forest, uint32_t i)
{
    struct thread_work *work = forest->work;
    uint32_t count, above = THREAD_NONE;
    const uint64_t *references = references_of(&work->messages[i], &count);
    for (uint32_t r = 0; r < count; r++) {
        uint32_t node =
            references[r] == 0 ? THREAD_NONE : *table_place(&work->table, references[r]);
        if (node == THREAD_NONE) {
            continue;
        }
        bool is_free =
            forest->nodes[node].parent == THREAD_NONE && (node > work->count || node - 1 < i);
        if (above != THREAD_NONE && above != node && is_free) {
            link_make(forest, above, node);
        }
        above = node;
    }
}

/* ---- Same subjects (step 5) ---- */

/* The table is used again: there are fewer subjects than there were ids. */
static bool tops_list(struct thread_forest *forest, size_t *steps)
{
    struct thread_work *work = forest->work;
    const struct thread_node *nodes = forest->nodes;
    if (work->at == 0) {
        work->top = nodes[THREAD_ROOT].first;
    }
    for (; work->at <= work->table.mask && thread_spend(steps); work->at++) {
        work->table.ids[work->at] = 0;
        work->table.nodes[work->at] = THREAD_NONE;
        if (work->top != THREAD_NONE) {
            work->tops[work->top_count++] = work->top;
            work->top = nodes[work->top].next;
        }
    }
    return work->at > work->table.mask;
}

static uint32_t spoken_of(const struct thread_forest *forest, uint32_t top)
{
    const struct thread_node *node = &forest->nodes[top];
    return node->number != 0 ? top : node->first;
}

static void subject_enter(struct thread_forest *forest, uint32_t i)
{
    const struct thread_node *nodes = forest->nodes;
    uint32_t top = forest->work->tops[i];
    uint64_t subject = nodes[spoken_of(forest, top)].subject;
    if (subject == 0) {
        return;
    }
    uint32_t *place = table_place(&forest->work->table, subject);
    bool better = *place != THREAD_NONE && nodes[*place].number != 0 &&
                  (nodes[top].number == 0 || (nodes[*place].is_reply && !nodes[top].is_reply));
    if (*place == THREAD_NONE || better) {
        *place = top;
    }
}

/* The top is taken out of the roots, and goes to another one of its subject. */
static void subject_join(struct thread_forest *forest, uint32_t *place, uint32_t top)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t other = *place;
    if (nodes[other].number == 0 && nodes[top].number == 0) {
        thread_children_move(forest, top, other);
    } else if (nodes[other].number == 0 || (nodes[top].is_reply && !nodes[other].is_reply)) {
        thread_child_add(forest, other, top);
    } else {
        uint32_t dummy = node_make(forest);
        thread_child_replace(forest, other, dummy);
        thread_child_add(forest, dummy, other);
        thread_child_add(forest, dummy, top);
        *place = dummy;
    }
}

static void top_join(struct thread_forest *forest, uint32_t i)
{
    struct thread_node *nodes = forest->nodes;
    uint32_t top = forest->work->tops[i];
    uint64_t subject = nodes[spoken_of(forest, top)].subject;
    uint32_t *place = subject == 0 ? NULL : table_place(&forest->work->table, subject);
    /* One that another has met is a dummy's child by now. */
    if (place != NULL && *place != top && nodes[top].parent == THREAD_ROOT) {
        thread_child_remove(forest, top);
        subject_join(forest, place, top);
    }
}

/* ---- By subject (§3, ORDEREDSUBJECT) ---- */

static bool is_before(const struct thread_node *a, const struct thread_node *b)
{
    return a->sent_s != b->sent_s ? a->sent_s < b->sent_s : a->number < b->number;
}

/* Those without a subject are one thread too (§2.1, an empty base subject). */
static uint32_t *first_place(struct thread_forest *forest, uint32_t node)
{
    uint64_t subject = forest->nodes[node].subject;
    return subject == 0 ? &forest->work->without : table_place(&forest->work->table, subject);
}

static void first_find(struct thread_forest *forest, uint32_t i)
{
    const struct thread_node *nodes = forest->nodes;
    uint32_t *place = first_place(forest, i + 1);
    if (*place == THREAD_NONE || is_before(&nodes[i + 1], &nodes[*place])) {
        *place = i + 1;
    }
}

static void subject_link(struct thread_forest *forest, uint32_t i)
{
    uint32_t first = *first_place(forest, i + 1);
    forest->nodes[i + 1].parent = first == i + 1 ? THREAD_NONE : first;
}

/* ---- A piece of it ---- */

/* Of each message, whose references are things too: they lie far apart in the table. True: of all. */
static bool each_with_references(struct thread_forest *forest, size_t *steps,
                                 void (*deed)(struct thread_forest *, uint32_t))
{
    struct thread_work *work = forest->work;
    for (; work->at < work->count && thread_spend(steps); work->at++) {
        uint32_t references;
        deed(forest, (uint32_t)work->at);
        references_of(&work->messages[work->at], &references);
        *steps -= references < *steps ? references : *steps;
    }
    return work->at >= work->count;
}

/* Of `count` things each. True: of all. */
static bool each(struct thread_forest *forest, uint32_t count, size_t *steps,
                 void (*deed)(struct thread_forest *, uint32_t))
{
    struct thread_work *work = forest->work;
    for (; work->at < count && thread_spend(steps); work->at++) {
        deed(forest, (uint32_t)work->at);
    }
    return work->at >= count;
}

static int as_status(bool done)
{
    return done ? 0 : -EAGAIN;
}

/* 0: the phase is over; -EAGAIN, -ENOMEM. */
static int phase_run(struct thread_forest *forest, size_t *steps)
{
    struct thread_work *work = forest->work;
    switch (work->phase) {
    case THREAD_PREPARE:
        return as_status(prepare(forest, steps));
    case THREAD_IDS:
        return as_status(each(forest, work->count, steps, id_enter));
    case THREAD_MISSING:
        return as_status(each_with_references(forest, steps, missing_enter));
    case THREAD_PARENTS:
        return as_status(each(forest, work->count, steps, parent_link));
    case THREAD_CHAINS:
        return as_status(each_with_references(forest, steps, chain_link));
    case THREAD_FIRSTS:
        return as_status(each(forest, work->count, steps, first_find));
    case THREAD_SUBJECTS:
        return as_status(each(forest, work->count, steps, subject_link));
    case THREAD_GATHER:
        return as_status(thread_children_gather(forest, &work->walk, steps));
    case THREAD_PRUNE:
        return as_status(thread_dummies_prune(forest, &work->walk, steps));
    case THREAD_TOPS:
        return as_status(tops_list(forest, steps));
    case THREAD_ENTER:
        return as_status(each(forest, work->top_count, steps, subject_enter));
    case THREAD_JOIN:
        return as_status(each(forest, work->top_count, steps, top_join));
    case THREAD_SORT:
    case THREAD_LAST:
        break;
    }
    return thread_sort(forest, &work->walk, steps);
}

static enum thread_phase phase_after(const struct thread_work *work)
{
    bool by_subject = work->kind == THREAD_BY_SUBJECT;
    switch (work->phase) {
    case THREAD_PREPARE:
        return by_subject ? THREAD_FIRSTS : THREAD_IDS;
    case THREAD_CHAINS:
        return THREAD_GATHER;
    case THREAD_GATHER:
        return by_subject ? THREAD_LAST : THREAD_PRUNE;
    case THREAD_IDS:
    case THREAD_MISSING:
    case THREAD_PARENTS:
    case THREAD_FIRSTS:
    case THREAD_SUBJECTS:
    case THREAD_PRUNE:
    case THREAD_SORT:
    case THREAD_TOPS:
    case THREAD_ENTER:
    case THREAD_JOIN:
    case THREAD_LAST:
        break;
    }
    return work->phase + 1;
}

int thread_step(struct thread_forest *forest, size_t steps)
{
    while (forest->work != NULL) {
        struct thread_work *work = forest->work;
        int status = phase_run(forest, &steps);
        if (status != 0) {
            return status;
        }
        if (work->phase == THREAD_LAST) {
            work_close(work);
            forest->work = NULL;
            forest->text_at = forest->nodes[THREAD_ROOT].first;
            return 0;
        }
        work->phase = phase_after(work);
        work->at = 0;
        thread_walk_end(&work->walk);
    }
    return 0;
}

/* ---- As text (§4) ---- */

/* Of a message that has answers the first one follows behind a blank. */
static bool is_first_answer(const struct thread_node *nodes, uint32_t at)
{
    uint32_t parent = nodes[at].parent;
    return parent != THREAD_ROOT && nodes[parent].number != 0 && nodes[parent].first == at;
}

/* The only answer stands in the same parentheses as what it answers; several have each their own. */
static bool shares_parentheses(const struct thread_node *nodes, uint32_t at)
{
    return is_first_answer(nodes, at) && nodes[at].next == THREAD_NONE;
}

static size_t node_write(const struct thread_node *nodes, uint32_t at, char *text, size_t room)
{
    int used = snprintf(text, room, "%s%s", is_first_answer(nodes, at) ? " " : "",
                        shares_parentheses(nodes, at) ? "" : "(");
    if (nodes[at].number != 0) {
        used += snprintf(text + used, room - (size_t)used, "%u", nodes[at].number);
    }
    check(used > 0 && (size_t)used < room);
    return (size_t)used;
}

size_t thread_text(struct thread_forest *forest, char *text, size_t room)
{
    const struct thread_node *nodes = forest->nodes;
    size_t used = 0;
    check(room >= THREAD_TEXT_MIN && forest->work == NULL);
    while (forest->text_at != THREAD_ROOT && room - used >= THREAD_TEXT_MIN) {
        uint32_t at = forest->text_at;
        if (!forest->text_upwards) {
            used += node_write(nodes, at, text + used, room - used);
            forest->text_upwards = nodes[at].first == THREAD_NONE;
            forest->text_at = forest->text_upwards ? at : nodes[at].first;
            continue;
        }
        if (!shares_parentheses(nodes, at)) {
            text[used++] = ')';
        }
        forest->text_upwards = nodes[at].next == THREAD_NONE;
        forest->text_at = forest->text_upwards ? nodes[at].parent : nodes[at].next;
    }
    return used;
}
