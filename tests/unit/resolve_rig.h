/* resolve_rig: a resolve over a made-up DNS, on a clock and with random bits of the test's. */
#pragma once
#include "engine/resolve/resolve.h"
#include "tests/unit/fake_dns.h"

#define RIG_SECOND 1000000000ull

struct resolve_rig {
    struct fake_dns dns;
    struct world world;
    struct wheel *wheel;
    struct logger logger;
    struct resolve_settings settings;
    struct resolve *resolve;
    uint64_t now_ns;
    int64_t wall_s;
    uint64_t random;
};

/* Of cmocka: *state is the rig. */
int resolve_rig_open(void **state);
int resolve_rig_close(void **state);
/* Anew, with rig->settings as they are now. */
void resolve_rig_reopen(struct resolve_rig *rig);
void resolve_rig_pass(struct resolve_rig *rig, uint64_t seconds);

/* A query that remembers. */
struct rig_query {
    struct resolve_query query;
    struct destination *destination;
    unsigned done_count;
};

/* Asks; answers at once or later. */
int rig_ask(struct resolve_rig *rig, const char *domain, const struct resolve_options *options,
            struct rig_query *query);
/* Asks, answers whatever is asked of the DNS, and gives the destination; drop it. */
struct destination *rig_resolve(struct resolve_rig *rig, const char *domain,
                                const struct resolve_options *options);
/* "10 a.test 192.0.2.1 192.0.2.2; 20 b.test ...", with '!' for a failed lookup; borrowed until the next call. */
const char *rig_hosts(const struct destination *destination);

extern const struct resolve_options rig_plain; /* any family, port 25 */
extern const struct resolve_options rig_tls;   /* the same, with the facts about TLS */
