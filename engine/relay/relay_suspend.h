/*
 * relay_suspend: what the operator has suspended on this shard: a site, or mail by its sender, domain, recipient or a
 * pattern.
 *
 * Nothing of it is begun until the time that was said; deliveries under way go on, mail that arrives waits too,
 * and expires as ever. A site, and all mail of a sender's domain, the scheduler suspends in its place; of other mail
 * the deliveries leave their sites when their turn comes, and wait aside (relay_parking.h). Here each is remembered by
 * name, since a site may be closed and opened again meanwhile. That they outlast the process is the business of
 * relay_control and of whoever opens the relay: see relay_settings.orders.
 */
#pragma once
#include "engine/relay/operator_orders.h"

struct relay;
struct relay_parking;
struct relay_site;

struct relay_suspension {
    struct operator_suspension said;
    uint64_t until_ns;             /* of the shard's clock */
    struct relay_parking *parking; /* where the mail waits; NULL: in its place */
};

struct relay_suspensions {
    struct relay_suspension *all; /* of the heap, made with the first */
    uint32_t count;
};

/* Once more for the same name: replaces. 0, -ENOMEM, -ENOSPC: there are as many as there may be; -EINVAL: the pattern
 * is none. */
int relay_suspend(struct relay *relay, const struct operator_suspension *said, uint64_t until_ns);
/* NULL: all. Returns how many were suspended. */
uint32_t relay_resume(struct relay *relay, const struct operator_suspension *like);
/* Those that are in force, the longest known first; borrowed. */
const struct relay_suspension *relay_suspensions(struct relay *relay, uint32_t *count);

/* At the start: those that are not over, for what is left of their time. 0 or -ENOMEM. */
int relay_suspensions_load(struct relay *relay, const struct operator_orders *orders);

/* A site was opened: it may be suspended by name. */
void relay_suspend_site(struct relay_site *site);
/* The time of some is over. */
void relay_suspensions_look(struct relay *relay);
void relay_suspensions_close(struct relay *relay);
