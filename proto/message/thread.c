#include "proto/message/thread.h"
#include "engine/core/check.h"
#include "proto/message/thread_nodes.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- By references (§3, REFERENCES) ---- */

/* Finds out which node stands for a message-id. Names are random already: they are their own hash. */
struct id_table {
    uint64_t *ids;
    uint32_t *nodes;
    size_t mask;
};

static int table_open(struct id_table *table, size_t count)
{
    size_t size = 64;
    while (size < count * 2) {
        size *= 2;
    }
    table->mask = size - 1;
    table->ids = calloc(size, sizeof(*table->ids));
    table->nodes = calloc(size, sizeof(*table->nodes));
    return table->ids != NULL && table->nodes != NULL ? 0 : -ENOMEM;
}

static void table_close(struct id_table *table)
{
    free(table->ids);
    free(table->nodes);
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

/* While links are made: who is above whom, found in almost constant time. No link is ever undone. */
struct linking {
    struct thread_forest *forest;
    const struct thread_message *messages;
    uint32_t count;
    struct id_table table;
    uint32_t *tops; /* by node: a way to the top of its thread */
};

static uint32_t top_of(struct linking *linking, uint32_t node)
{
    uint32_t *tops = linking->tops;
    while (tops[node] != node) {
        tops[node] = tops[tops[node]];
        node = tops[node];
    }
    return node;
}

/* False: it would lead in a circle. The child has no parent. */
static bool link_make(struct linking *linking, uint32_t parent, uint32_t child)
{
    if (top_of(linking, parent) == child) {
        return false;
    }
    linking->forest->nodes[child].parent = parent;
    linking->tops[child] = parent;
    return true;
}

static const uint64_t *references_of(const struct thread_message *message, uint32_t *count)
{
    uint32_t all = message->reference_count;
    *count = all < THREAD_REFERENCES_MAX ? all : THREAD_REFERENCES_MAX;
    return message->references + (all - *count);
}

/* Node i + 1 is message i; those of ids that no message has come behind. A second message with the same id has none. */
static void ids_enter(struct linking *linking)
{
    struct thread_forest *forest = linking->forest;
    for (uint32_t i = 0; i < linking->count; i++) {
        uint32_t *place = linking->messages[i].id == 0
                              ? NULL
                              : table_place(&linking->table, linking->messages[i].id);
        if (place != NULL && *place == THREAD_NONE) {
            *place = i + 1;
        }
    }
    for (uint32_t i = 0; i < linking->count; i++) {
        uint32_t count;
        const uint64_t *references = references_of(&linking->messages[i], &count);
        for (uint32_t r = 0; r < count; r++) {
            uint32_t *place =
                references[r] == 0 ? NULL : table_place(&linking->table, references[r]);
            if (place != NULL && *place == THREAD_NONE) {
                *place = forest->node_count++;
            }
        }
    }
}

static uint32_t last_reference(struct linking *linking, uint32_t index)
{
    uint32_t count;
    const uint64_t *references = references_of(&linking->messages[index], &count);
    while (count > 0 && references[count - 1] == 0) {
        count--;
    }
    return count == 0 ? THREAD_NONE : *table_place(&linking->table, references[count - 1]);
}

/* What a message says of itself holds (step 1.B). */
static void parents_link(struct linking *linking)
{
    for (uint32_t i = 0; i < linking->count; i++) {
        uint32_t parent = last_reference(linking, i);
        if (parent != THREAD_NONE && parent != i + 1) {
            link_make(linking, parent, i + 1);
        }
    }
}

/* What others say of it (step 1.A): holds for who is not there, or was there before and knows no parent. */
static void chains_link(struct linking *linking)
{
    for (uint32_t i = 0; i < linking->count; i++) {
        uint32_t count, above = THREAD_NONE;
        const uint64_t *references = references_of(&linking->messages[i], &count);
        for (uint32_t r = 0; r < count; r++) {
            uint32_t node =
                references[r] == 0 ? THREAD_NONE : *table_place(&linking->table, references[r]);
            if (node == THREAD_NONE) {
                continue;
            }
            bool is_free = linking->forest->nodes[node].parent == THREAD_NONE &&
                           (node > linking->count || node - 1 < i);
            if (above != THREAD_NONE && above != node && is_free) {
                link_make(linking, above, node);
            }
            above = node;
        }
    }
}

static int references_link(struct thread_forest *forest, const struct thread_message *messages,
                           uint32_t count, size_t reference_count)
{
    struct linking linking = {.forest = forest, .messages = messages, .count = count};
    int status = table_open(&linking.table, count + reference_count);
    linking.tops = calloc((size_t)forest->node_room, sizeof(*linking.tops));
    status = linking.tops == NULL ? -ENOMEM : status;
    if (status == 0) {
        for (uint32_t i = 0; i < forest->node_room; i++) {
            linking.tops[i] = i;
        }
        ids_enter(&linking);
        parents_link(&linking);
        chains_link(&linking);
    }
    free(linking.tops);
    table_close(&linking.table);
    return status;
}

/* ---- Same subjects (step 5) ---- */

static uint32_t spoken_of(const struct thread_forest *forest, uint32_t top)
{
    const struct thread_node *node = &forest->nodes[top];
    return node->number != 0 ? top : node->first;
}

static void subject_enter(struct thread_forest *forest, struct id_table *table, uint32_t top)
{
    const struct thread_node *nodes = forest->nodes;
    uint64_t subject = nodes[spoken_of(forest, top)].subject;
    if (subject == 0) {
        return;
    }
    uint32_t *place = table_place(table, subject);
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
        uint32_t dummy = forest->node_count++;
        check(dummy < forest->node_room);
        thread_child_replace(forest, other, dummy);
        thread_child_add(forest, dummy, other);
        thread_child_add(forest, dummy, top);
        *place = dummy;
    }
}

static void tops_join(struct thread_forest *forest, struct id_table *table, const uint32_t *tops,
                      uint32_t count)
{
    struct thread_node *nodes = forest->nodes;
    for (uint32_t i = 0; i < count; i++) {
        subject_enter(forest, table, tops[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t subject = nodes[spoken_of(forest, tops[i])].subject;
        uint32_t *place = subject == 0 ? NULL : table_place(table, subject);
        /* One that another has met is a dummy's child by now. */
        if (place != NULL && *place != tops[i] && nodes[tops[i]].parent == THREAD_ROOT) {
            thread_child_remove(forest, tops[i]);
            subject_join(forest, place, tops[i]);
        }
    }
}

static int subjects_join(struct thread_forest *forest)
{
    struct id_table table = {0};
    struct thread_node *nodes = forest->nodes;
    uint32_t *tops = calloc(forest->node_count, sizeof(*tops)), count = 0;
    int status = tops == NULL ? -ENOMEM : table_open(&table, forest->node_count);
    if (status == 0) {
        for (uint32_t at = nodes[THREAD_ROOT].first; at != THREAD_NONE; at = nodes[at].next) {
            tops[count++] = at;
        }
        tops_join(forest, &table, tops, count);
    }
    free(tops);
    table_close(&table);
    return status;
}

int thread_by_references(struct thread_forest **made, const struct thread_message *messages,
                         uint32_t count)
{
    struct thread_forest *forest;
    size_t reference_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t counted;
        references_of(&messages[i], &counted);
        reference_count += counted;
    }
    /* One for each id at most, and one for two that have a subject together. */
    int status = thread_forest_open(&forest, messages, count, reference_count + count);
    if (status < 0) {
        return status;
    }
    status = references_link(forest, messages, count, reference_count);
    if (status == 0) {
        thread_children_gather(forest);
        thread_dummies_prune(forest);
        status = thread_sort(forest);
    }
    status = status == 0 ? subjects_join(forest) : status;
    status = status == 0 ? thread_sort(forest) : status;
    if (status < 0) {
        thread_free(forest);
        return status;
    }
    *made = forest;
    return 0;
}

/* ---- By subject (§3, ORDEREDSUBJECT) ---- */

static int before(const struct thread_node *a, const struct thread_node *b)
{
    return a->sent_s != b->sent_s ? (a->sent_s < b->sent_s) : a->number < b->number;
}

/* The first of each subject, by date. */
static void firsts_find(struct thread_forest *forest, struct id_table *table, uint32_t count)
{
    for (uint32_t node = 1; node <= count; node++) {
        uint64_t subject = forest->nodes[node].subject;
        uint32_t *place = subject == 0 ? NULL : table_place(table, subject);
        if (place != NULL &&
            (*place == THREAD_NONE || before(&forest->nodes[node], &forest->nodes[*place]))) {
            *place = node;
        }
    }
}

int thread_by_subject(struct thread_forest **made, const struct thread_message *messages,
                      uint32_t count)
{
    struct thread_forest *forest;
    struct id_table table = {0};
    uint32_t without =
        THREAD_NONE; /* subject: they are one thread too (§2.1, an empty base subject) */
    int status = thread_forest_open(&forest, messages, count, 0);
    if (status < 0) {
        return status;
    }
    status = table_open(&table, count);
    if (status == 0) {
        firsts_find(forest, &table, count);
        for (uint32_t node = 1; node <= count; node++) {
            const struct thread_node *nodes = forest->nodes;
            if (nodes[node].subject == 0 &&
                (without == THREAD_NONE || before(&nodes[node], &nodes[without]))) {
                without = node;
            }
        }
        for (uint32_t node = 1; node <= count; node++) {
            uint64_t subject = forest->nodes[node].subject;
            uint32_t first = subject == 0 ? without : *table_place(&table, subject);
            forest->nodes[node].parent = first == node ? THREAD_NONE : first;
        }
        thread_children_gather(forest);
        status = thread_sort(forest);
    }
    table_close(&table);
    if (status < 0) {
        thread_free(forest);
        return status;
    }
    *made = forest;
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
    check(room >= THREAD_TEXT_MIN);
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
