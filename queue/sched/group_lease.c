/* The part of a group in limits that another shard owns: what it has of them, lacks, and gives back. See lease.h. */
#include "queue/sched/lease.h"
#include "queue/sched/sched_private.h"

#include <errno.h>
#include <stdlib.h>

#define SLICE_NS 100000000ull /* of a rate, of all shards together */
#define SLICE_MAX 1000u

static struct sched_meter *meter_of(struct sched_group *group, enum lease_rate which)
{
    return which == LEASE_CONNECTIONS ? &group->connections : &group->messages;
}

int sched_group_lease(struct sched_group *group, unsigned shard_count, void *owner)
{
    struct sched_lease *lease = calloc(1, sizeof(*lease));
    if (lease == NULL) {
        return -ENOMEM;
    }
    check(group->site_count == 0 && group->lease == NULL && shard_count > 0);
    *lease = (struct sched_lease){.group = group, .owner = owner, .shard_count = shard_count};
    lease->slots.hard = lease->slots.soft = LEASE_KEEP_ALL;
    list_init(&lease->speaks);
    list_init(&lease->holds);
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        lease->tokens[i].group = group;
        meter_of(group, i)->lease = &lease->tokens[i];
    }
    group->gate.lease = &lease->slots;
    group->lease = lease;
    sched_lease_slice(lease);
    return 0;
}

void sched_lease_close(struct sched_lease *lease)
{
    if (lease != NULL) {
        list_remove(&lease->speaks);
        list_remove(&lease->holds);
        free(lease);
    }
}

void sched_lease_slice(struct sched_lease *lease)
{
    for (unsigned i = 0; lease != NULL && i < LEASE_RATES; i++) {
        const struct rate *rate = &meter_of(lease->group, i)->rate;
        uint64_t interval_ns = rate_interval(rate);
        uint64_t slice = interval_ns == 0 ? SLICE_MAX : SLICE_NS / lease->shard_count / interval_ns;
        slice = slice < SLICE_MAX ? slice : SLICE_MAX;
        lease->tokens[i].slice = slice > 0 ? (uint32_t)slice : 1;
    }
}

void *sched_group_lease_owner(const struct sched_group *group)
{
    return group->lease->owner;
}

/* ---- Words ---- */

/* What is free will be taken by those who lack it. */
static uint32_t slots_lacking(const struct sched_lease *lease)
{
    uint32_t unused = sched_gate_free_count(&lease->group->gate), lacking = lease->slots.lacking;
    return lacking > unused ? lacking - unused : 0;
}

void sched_group_wish(struct sched_group *group, uint32_t count)
{
    struct sched_slots *slots = &group->lease->slots;
    slots->wished = count > slots->have ? count - slots->have : 0;
    sched_lease_note(group->lease);
}

/* That less is lacking the owner need not know, but that nothing is. */
static bool has_word(const struct sched_lease *lease)
{
    const struct sched_slots *slots = &lease->slots;
    uint32_t lacking = slots_lacking(lease);
    bool any = slots->given > 0 || slots->wished > 0 || lacking > slots->told ||
               (lacking == 0 && slots->told > 0);
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        any = any || lease->tokens[i].given > 0 || lease->tokens[i].lacking > lease->tokens[i].told;
    }
    return any;
}

void sched_lease_note(struct sched_lease *lease)
{
    struct sched *sched = lease->group->sched;
    if (list_empty(&lease->speaks) && has_word(lease)) {
        list_append(&sched->lease_speaks, &lease->speaks);
    }
    bool holds = lease->tokens[LEASE_CONNECTIONS].have + lease->tokens[LEASE_MESSAGES].have > 0;
    if (!holds) {
        list_remove(&lease->holds);
    } else if (list_empty(&lease->holds)) {
        list_append(&sched->lease_holds, &lease->holds);
    }
}

struct sched_group *sched_lease_speaker(struct sched *sched)
{
    return list_empty(&sched->lease_speaks)
               ? NULL
               : list_entry(sched->lease_speaks.next, struct sched_lease, speaks)->group;
}

void sched_group_word(struct sched_group *group, struct lease_word *word)
{
    struct sched_lease *lease = group->lease;
    struct sched_slots *slots = &lease->slots;
    *word = (struct lease_word){.slots_given = slots->given,
                                .slots_lacking = slots_lacking(lease),
                                .slots_wished = slots->wished,
                                .slots_seen = slots->seen};
    slots->given = slots->wished = 0;
    slots->told = word->slots_lacking;
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        struct sched_tokens *tokens = &lease->tokens[i];
        word->tokens[i].given = tokens->given;
        word->tokens[i].lacking = tokens->lacking;
        word->tokens[i].seen = tokens->seen;
        tokens->given = 0;
        tokens->told = tokens->lacking;
    }
    list_remove(&lease->speaks);
}

/* ---- Slots ---- */

/* Of `spare` what it may not keep. */
static void slots_give(struct sched_slots *slots, uint32_t keep, uint32_t spare)
{
    uint32_t over = slots->have > keep ? slots->have - keep : 0;
    uint32_t count = over < spare ? over : spare;
    if (count > 0) {
        slots->have -= count;
        slots->given += count;
        sched_lease_note(list_entry(slots, struct sched_lease, slots));
    }
}

/* One that goes round is used for a slice before it goes on. */
void sched_slots_give_hard(struct sched_gate *gate)
{
    struct sched_slots *slots = gate->lease;
    if (slots != NULL) {
        uint32_t unused = sched_gate_free_count(gate);
        uint32_t fresh = slots->prompt ? 0 : slots->fresh;
        slots_give(slots, slots->hard, unused > fresh ? unused - fresh : 0);
    }
}

void sched_slots_give_soft(struct sched_gate *gate)
{
    struct sched_slots *slots = gate->lease;
    if (slots != NULL) {
        uint32_t unused = sched_gate_free_count(gate), lacking = slots->lacking;
        slots_give(slots, slots->soft < slots->hard ? slots->soft : slots->hard,
                   unused > lacking ? unused - lacking : 0);
        uint32_t unused_yet = sched_gate_free_count(gate) + gate->reserved_count;
        slots->fresh = slots->fresh < unused_yet ? slots->fresh : unused_yet;
    }
}

void sched_slots_use(struct sched_gate *gate)
{
    if (gate->lease != NULL && gate->lease->fresh > 0) {
        gate->lease->fresh--;
    }
}

bool sched_slots_surplus(const struct sched_gate *gate, uint32_t message_count)
{
    const struct sched_slots *slots = gate->lease;
    if (slots == NULL) {
        return false;
    }
    uint32_t kept = slots->have > gate->yielding_count ? slots->have - gate->yielding_count : 0;
    if (message_count == SCHED_CONNECTION_IDLE) {
        return kept > slots->hard || kept > slots->soft;
    }
    return kept > slots->hard && (slots->prompt || message_count >= SCHED_SLICE_MESSAGES);
}

/* Sites with a connection that has nothing to do are asked whether it is a surplus. */
static void idle_look(struct sched_gate *gate)
{
    const struct sched_slots *slots = gate->lease;
    uint32_t keep = slots->soft < slots->hard ? slots->soft : slots->hard;
    const struct list_node *node = gate->idle.next;
    for (uint32_t over = slots->have > keep ? slots->have - keep : 0;
         over > 0 && node != &gate->idle; over--, node = node->next) {
        struct sched_place *place = list_entry(node, struct sched_place, idle);
        sched_site_look_at(list_entry(place - place->index, struct sched_site, places));
    }
}

/* ---- Tokens ---- */

void sched_tokens_look(const struct sched_tokens *tokens, struct list_node *node)
{
    bool connections = tokens == &tokens->group->lease->tokens[LEASE_CONNECTIONS];
    sched_site_look_at(connections ? list_entry(node, struct sched_site, connection_wait)
                                   : list_entry(node, struct sched_site, message_wait));
}

static void waiting_look(const struct sched_meter *meter)
{
    const struct list_node *head = &meter->waiting;
    for (struct list_node *node = head->next; node != head; node = node->next) {
        sched_tokens_look(meter->lease, node);
    }
}

static void tokens_come(struct sched_group *group, enum lease_rate which, uint32_t count,
                        uint64_t now_ns)
{
    struct sched_tokens *tokens = &group->lease->tokens[which];
    if (count == 0) {
        return;
    }
    tokens->have += count;
    tokens->seen += count;
    tokens->told -= count < tokens->told ? count : tokens->told;
    tokens->lacking -= count < tokens->lacking ? count : tokens->lacking;
    tokens->granted_ns = now_ns;
    group->lease->granted_ns = now_ns;
    list_remove(&group->lease->holds); /* it is the last now */
    waiting_look(meter_of(group, which));
}

uint64_t sched_leases_tidy(struct sched *sched, uint64_t now_ns)
{
    while (!list_empty(&sched->lease_holds)) {
        struct sched_lease *lease = list_entry(sched->lease_holds.next, struct sched_lease, holds);
        if (lease->granted_ns + SCHED_LEASE_UNUSED_NS > now_ns) {
            return lease->granted_ns + SCHED_LEASE_UNUSED_NS;
        }
        for (unsigned i = 0; i < LEASE_RATES; i++) {
            lease->tokens[i].given += lease->tokens[i].have;
            lease->tokens[i].have = 0;
            waiting_look(meter_of(lease->group, i)); /* who still wants one asks again */
        }
        sched_lease_note(lease);
    }
    return SCHED_NEVER;
}

void sched_group_answer(struct sched_group *group, const struct lease_answer *answer,
                        uint64_t now_ns)
{
    struct sched_slots *slots = &group->lease->slots;
    uint32_t granted = answer->slots_granted;
    slots->have += granted;
    slots->fresh += granted;
    slots->seen += granted;
    slots->told -= granted < slots->told ? granted : slots->told;
    slots->hard = answer->slots_hard;
    slots->soft = answer->slots_soft;
    slots->prompt = answer->prompt;
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        tokens_come(group, i, answer->tokens_granted[i], now_ns);
    }
    sched_gate_hand_out(&group->gate);
    idle_look(&group->gate);
    sched_lease_note(group->lease);
}
