#include "queue/sched/sched_private.h"

/* ---- Connections ---- */

void sched_gate_init(struct sched_gate *gate, uint32_t count_max)
{
    *gate = (struct sched_gate){.count_max = count_max};
    list_init(&gate->waiting);
    list_init(&gate->idle);
}

static uint32_t connection_count(const struct sched_site *site)
{
    return site->connecting_count + site->open_count;
}

uint32_t sched_gate_free_count(const struct sched_gate *gate)
{
    uint32_t most = gate->lease != NULL ? gate->lease->have : gate->count_max;
    if (gate->lease == NULL && most == 0) {
        return UINT32_MAX;
    }
    uint64_t taken = (uint64_t)gate->used_count + gate->reserved_count;
    return taken < most ? (uint32_t)(most - taken) : 0;
}

void sched_site_look_at(struct sched_site *site)
{
    if (list_empty(&site->look)) {
        list_append(&site->sched->look, &site->look);
    }
}

static struct sched_site *site_of_place(struct sched_place *place)
{
    return list_entry(place - place->index, struct sched_site, places);
}

static void wait_begin(struct sched_place *place)
{
    struct sched_gate *gate = place->gate;
    list_append(&gate->waiting, &place->waiting);
    gate->waiting_count++;
    /* A site that has a connection for nothing is asked whether it is a surplus, each time another. */
    struct list_node *node = list_pop(&gate->idle);
    if (node != NULL) {
        list_append(&gate->idle, node);
        sched_site_look_at(site_of_place(list_entry(node, struct sched_place, idle)));
    }
}

static void wait_end(struct sched_place *place)
{
    if (!list_empty(&place->waiting)) {
        list_remove(&place->waiting);
        place->gate->waiting_count--;
    }
}

/* So many more it wants, of a leased gate. */
static void lack(struct sched_place *place, uint32_t count)
{
    struct sched_slots *slots = place->gate->lease;
    if (slots != NULL) {
        slots->lacking += count - place->lacking_count;
        place->lacking_count = count;
        sched_lease_note(list_entry(slots, struct sched_lease, slots));
    }
}

/* What is free is promised to those who wait, the first first. */
void sched_gate_hand_out(struct sched_gate *gate)
{
    sched_slots_give_hard(gate);
    while (!list_empty(&gate->waiting) && sched_gate_free_count(gate) > 0) {
        struct sched_place *place = list_entry(gate->waiting.next, struct sched_place, waiting);
        wait_end(place);
        lack(place, place->lacking_count - (place->lacking_count > 0));
        place->turn = true;
        place->reserved_count++;
        gate->reserved_count++;
        sched_site_look_at(site_of_place(place));
    }
    sched_slots_give_soft(gate);
}

static void reserve(struct sched_place *place, uint32_t count)
{
    place->gate->reserved_count += count - place->reserved_count;
    place->reserved_count = count;
}

/* How many of `wanted` this gate lets through. */
static uint32_t gate_admits(struct sched_place *place, uint32_t wanted)
{
    const struct sched_gate *gate = place->gate;
    uint32_t most = sched_gate_free_count(gate);
    uint32_t others = gate->waiting_count - !list_empty(&place->waiting);
    if (others > 0) { /* one when it is its turn, or was, then the next site */
        most = (place->turn || place->keeps) && most > 0 ? 1 : 0;
    }
    return wanted < most ? wanted : most;
}

/*
 * Where the shard's slots are leased, a site that waits for one keeps one of its group's: two shards that lack each
 * what the other has would give it to each other, and again, for ever. A slot of the shard's is kept for nobody, so
 * nobody waits for one who waits.
 */
static bool keeps(const struct sched_place *place, uint32_t admitted, uint32_t passed)
{
    const struct sched_place *next = place + 1;
    return place->index == SCHED_GATE_GROUP && next->gate->lease != NULL && admitted > 0 &&
           passed == 0;
}

uint32_t sched_gates_pass(struct sched_site *site, uint32_t wanted)
{
    uint32_t passed = wanted, admitted[SCHED_GATES] = {0};
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate == NULL) {
            continue;
        }
        reserve(place, 0);
        admitted[i] = gate_admits(place, passed);
        place->turn = place->keeps = false;
        lack(place, passed - admitted[i]);
        if (admitted[i] == passed) {
            wait_end(place);
        } else if (list_empty(&place->waiting)) { /* else it keeps its turn */
            wait_begin(place);
        }
        passed = admitted[i];
    }
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate != NULL) {
            place->keeps = keeps(place, admitted[i], passed);
            reserve(place, passed + place->keeps);
            sched_gate_hand_out(place->gate);
        }
    }
    return passed;
}

void sched_gates_take(struct sched_site *site)
{
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate != NULL) {
            place->gate->used_count++;
            sched_slots_use(place->gate);
            reserve(place, place->reserved_count > 0 ? place->reserved_count - 1 : 0);
        }
    }
}

void sched_gates_give(struct sched_site *site)
{
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate != NULL) {
            place->gate->used_count--;
            if (place->yielding_count > 0) {
                place->yielding_count--;
                place->gate->yielding_count--;
            }
            sched_gate_hand_out(place->gate);
        }
    }
}

bool sched_gates_open(const struct sched_site *site)
{
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        const struct sched_place *place = &site->places[i];
        if (place->gate != NULL && !list_empty(&place->waiting)) {
            return false; /* sched_look brings it when there is room */
        }
    }
    return true;
}

void sched_gates_idle(struct sched_site *site)
{
    bool idle = site->open_count > site->active_count;
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate == NULL || idle == !list_empty(&place->idle)) {
            continue;
        }
        if (idle) {
            list_append(&place->gate->idle, &place->idle);
        } else {
            list_remove(&place->idle);
        }
    }
}

/* The first of those who wait but the site itself; NULL: none. */
static struct sched_site *waiter_of(struct sched_place *place)
{
    struct list_node *head = &place->gate->waiting, *node = head->next;
    if (node == &place->waiting) {
        node = node->next;
    }
    return node == head ? NULL : site_of_place(list_entry(node, struct sched_place, waiting));
}

static bool place_surplus(struct sched_place *place, uint32_t message_count)
{
    const struct sched_gate *gate = place->gate;
    if (gate == NULL || gate->waiting_count <= gate->yielding_count) {
        return false; /* nobody waits, or he will soon have what is given up already */
    }
    const struct sched_site *waiter = waiter_of(place);
    if (waiter == NULL) {
        return false;
    }
    uint32_t ours = connection_count(site_of_place(place)) - place->yielding_count;
    uint32_t theirs = connection_count(waiter);
    return message_count == SCHED_CONNECTION_IDLE || ours > theirs + 1 ||
           (theirs == 0 && message_count >= SCHED_SLICE_MESSAGES);
}

bool sched_connection_surplus(struct sched_site *site, uint32_t message_count)
{
    bool surplus = false;
    for (unsigned i = 0; i < SCHED_GATES; i++) {
        const struct sched_gate *gate = site->places[i].gate;
        surplus = surplus || place_surplus(&site->places[i], message_count) ||
                  (gate != NULL && sched_slots_surplus(gate, message_count));
    }
    for (unsigned i = 0; surplus && i < SCHED_GATES; i++) {
        struct sched_place *place = &site->places[i];
        if (place->gate != NULL) {
            place->yielding_count++;
            place->gate->yielding_count++;
        }
    }
    return surplus;
}

void sched_place_join(struct sched_site *site, struct sched_place *place, struct sched_gate *gate)
{
    *place = (struct sched_place){.gate = gate, .index = (uint8_t)(place - site->places)};
    list_init(&place->waiting);
    list_init(&place->idle);
    if (gate != NULL) {
        gate->used_count += connection_count(site);
        sched_gates_idle(site);
    }
}

void sched_place_leave(struct sched_site *site, struct sched_place *place)
{
    struct sched_gate *gate = place->gate;
    if (gate != NULL) {
        wait_end(place);
        lack(place, 0);
        reserve(place, 0);
        list_remove(&place->idle);
        gate->yielding_count -= place->yielding_count;
        gate->used_count -= connection_count(site);
        place->gate = NULL;
        sched_gate_hand_out(gate);
    }
}
