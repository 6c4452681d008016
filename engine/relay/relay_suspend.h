/*
 * relay_suspend: what the operator has suspended on this shard: a site, or all mail of a sender's domain.
 *
 * Nothing of it is begun until the time that was said; deliveries under way go on, mail that arrives waits too,
 * and expires as ever. The scheduler ends a suspension to the nanosecond; here it is remembered by name, since a
 * site may be closed and opened again meanwhile. None of it survives a restart.
 */
#pragma once
#include "engine/core/slice.h"

#define RELAY_SUSPENSIONS_MAX 64u
#define RELAY_SUSPENSION_NAME_MAX 321u
#define RELAY_SUSPENSION_REASON_MAX 201u

struct relay;
struct relay_site;

enum relay_suspension_of { RELAY_SUSPENDS_SITE, RELAY_SUSPENDS_SENDER };

struct relay_suspension {
    uint8_t of; /* enum relay_suspension_of */
    uint64_t until_ns;
    char name
        [RELAY_SUSPENSION_NAME_MAX]; /* of the site, or the domain; "<>": the null reverse-path */
    char reason[RELAY_SUSPENSION_REASON_MAX];
};

struct relay_suspensions {
    struct relay_suspension *all; /* of the heap, made with the first */
    uint32_t count;
};

/* Once more for the same name: replaces. 0, -ENOMEM, or -ENOSPC: there are as many as there may be. */
int relay_suspend(struct relay *relay, const struct relay_suspension *wanted);
/* NULL: all. Returns how many were suspended. */
uint32_t relay_resume(struct relay *relay, const struct relay_suspension *wanted);
/* Those that are in force, the longest known first; borrowed. */
const struct relay_suspension *relay_suspensions(struct relay *relay, uint32_t *count);

/* A site was opened: it may be suspended by name. */
void relay_suspend_site(struct relay_site *site);
void relay_suspensions_close(struct relay *relay);
