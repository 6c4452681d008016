/*
 * relay_domain: where the mail of a domain goes: what resolve knows at once, what it does not know later.
 *
 * A domain is here only while a question for it is under way; deliveries that need the answer are parked with
 * it. It is asked once however many wait. The domains in question are found by a keyed hash.
 *
 * An address literal ("[192.0.2.1]") is a destination of its own, which nobody need be asked for (relay_literal.h).
 */
#pragma once
#include "engine/net/siphash.h"
#include "engine/resolve/resolve.h"

struct conf_route;
struct relay;
struct relay_domain;
struct sched_delivery;

struct relay_domains {
    struct siphash_key secret;
    struct relay_domain **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
    struct relay_domain *spare; /* for the next question, most of which are answered at once */
};

int relay_domains_open(struct relay *relay); /* 0 or -ENOMEM */
/* Nobody is told any more; the deliveries stay where they are. Also after an open that failed. */
void relay_domains_close(struct relay *relay);

/* Of a mailbox; the part behind the last '@', or our own name. */
struct slice relay_domain_of(const struct relay *relay, struct slice mailbox);
/* What is asked for, by a route by MX: that, or the next hop that a transport map has named. */
struct slice relay_domain_for(const struct relay *relay, const struct conf_route *route,
                              struct slice mailbox);

/*
 * Where does a route by MX lead for this domain? 0: *destination is given. -EINPROGRESS: *domain is being asked for,
 * and stays until the answer is there. -ENOBUFS, -ENOMEM: not now. -ENOTSUP: there is no DNS.
 */
int relay_domain_ask(struct relay *relay, const struct conf_route *route, struct slice name,
                     struct destination **destination, struct relay_domain **domain);
/* Parks an ACTIVE delivery; when the answer is there relay_direct has it. 0 or -ENOMEM. */
int relay_domain_wait(struct relay_domain *domain, struct sched_delivery *delivery);
