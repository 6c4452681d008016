/*
 * relay_rig: a whole relay on virtual time: a disk in memory, a network of byte queues, a DNS that is made up, and
 * servers that take what they are given.
 *
 * The DNS knows what it was told (rig_mx, rig_a, ...); every other name does not exist. A server listens at an
 * address and notes each transaction; an address where none listens refuses connections.
 */
#pragma once
#include "engine/relay/relay_private.h"
#include "engine/resolve/backend.h"
#include "tests/unit/fake_network.h"
#include "engine/relay/bounce.h"
#include "engine/relay/outbound.h"
#include "engine/shard/helpers.h"
#include "tests/unit/log_rig.h"
#include <pthread.h>

#define RIG_SECOND 1000000000ull
#define RIG_TEXT 512

/* A transaction that a server has taken. */
struct rig_letter {
    unsigned connection; /* of all of the rig */
    unsigned server;
    char sender[RIG_TEXT], recipients[RIG_TEXT]; /* "a@b c@d" */
    char body[4096];                             /* its beginning */
    char mail[RIG_TEXT], rcpt[RIG_TEXT];         /* the commands; of RCPT the last */
};

struct rig_server {
    struct relay_rig *rig;
    struct endpoint at;
    struct listener *listener; /* NULL: down */
    char greeting[100], rcpt_reply[100];
    char helo[100]; /* the last one */
    unsigned connection_count;
    const char *offers; /* one extension; NULL: none */
};

/* What the sender wants of reports, and has. */
struct rig_wishes {
    const char *envid, *orcpt; /* NULL: none */
    uint8_t ret, notify;       /* enum spool_ret, enum spool_notify */
    bool expanded;             /* the first recipient is */
    uint32_t flags;            /* enum spool_flags */
    const char *body;          /* NULL: a short one */
};

#define RIG_SERVERS 16u
#define RIG_LETTERS 4096u

struct relay_rig {
    struct log_rig log;
    struct world world;
    uint64_t now_ns, random;
    int64_t wall_jump_s; /* by so much somebody has set the clock of dates */
    struct shard shard;
    struct logger logger;
    struct network *network;
    struct relay_conf *conf;
    struct resolve *resolve;
    struct resolve_settings resolve_settings;
    struct relay_maps *maps; /* of conf */
    struct lookup *lookup;
    uint64_t lookup_bytes;   /* what it remembers, from the next start on; 0: as it likes */
    struct helpers *helpers; /* who ask the maps; NULL: they are asked in place */
    struct helper_job maps_hold;
    pthread_mutex_t maps_lock; /* while maps_held */
    bool maps_held;
    struct relay *relay;
    struct operator_orders orders; /* what the operator has said before a restart */
    struct rig_server servers[RIG_SERVERS];
    unsigned server_count, connection_count;
    struct rig_letter *letters;
    unsigned letter_count, posted, durable;

    struct resolve_backend backend; /* the DNS */
    struct list_node records, questions;
    bool dns_held;            /* questions wait */
    const char *secure_below; /* names that end so are validated by DNSSEC; NULL: none */
    const char *policy_domain, *policy_text; /* MTA-STS: one domain's, see rig_policy */
    struct list_node fetches;
    unsigned question_count; /* asked so far */
    int log_fds[2];
    size_t log_size;
    char log_text[1 << 20]; /* that rig_log_says has read */
};

/* routes: YAML, what follows "routes:". */
struct relay_rig *relay_rig_open(const char *routes);
/* From the next start of a relay on its maps are asked by a thread, whose answers come with rig_maps_answer. */
void rig_maps_thread(struct relay_rig *rig);
void rig_maps_hold(struct relay_rig *rig); /* until then it answers nothing */
void rig_maps_answer(struct relay_rig *rig);
/* With the domains a.test (server 0) and b.test (server 1), by MX. */
struct relay_rig *rig_open_two(const char *routes);
void relay_rig_close(struct relay_rig *rig);
void rig_reload(struct relay_rig *rig, const char *routes);
/* The process ends without a word to anybody, and another one starts. */
void rig_restart(struct relay_rig *rig);
void rig_restart_only(struct relay_rig *rig); /* nothing has run since */
void rig_restart_with(struct relay_rig *rig, const char *routes);

/* Rounds until nothing happens any more, in at most a second. */
void rig_settle(struct relay_rig *rig);
/* Time passes, and all that falls due happens. */
void rig_pass(struct relay_rig *rig, uint64_t ns);

/* recipients: "a@b c@d". Settled afterwards. */
void rig_post(struct relay_rig *rig, const char *sender, const char *recipients);
/* The same; nothing runs but what makes it durable. */
void rig_post_only(struct relay_rig *rig, const char *sender, const char *recipients);

/* As rig_post_only. */
void rig_post_wanting(struct relay_rig *rig, const struct rig_wishes *wishes, const char *sender,
                      const char *recipients);

/* address: "192.0.2.1:25". */
struct rig_server *rig_serve(struct relay_rig *rig, const char *address);
void rig_server_down(struct rig_server *server);
void rig_server_up(struct rig_server *server);

void rig_mx(struct relay_rig *rig, const char *name, unsigned preference, const char *host,
            uint32_t ttl_s);
void rig_a(struct relay_rig *rig, const char *name, const char *address, uint32_t ttl_s);
/* "3 1 1" and a digest that no certificate has. */
void rig_tlsa(struct relay_rig *rig, const char *name);
/* The domain has this MTA-STS policy. Texts are borrowed. */
void rig_policy(struct relay_rig *rig, const char *domain, const char *text);
/* This name and type answers so, whatever was told of it. */
void rig_dns_status(struct relay_rig *rig, const char *name, unsigned type,
                    enum resolve_answer_status status);
void rig_dns_forget(struct relay_rig *rig, const char *name); /* it exists no more */

/* The letter that a server took for these recipients, the last of several; NULL: none. */
const struct rig_letter *rig_letter_for(const struct relay_rig *rig, const char *recipients);
/* Was this said in the log? */
bool rig_log_says(struct relay_rig *rig, const char *words);
/* Recipients that wait. */
uint64_t rig_waiting(const struct relay_rig *rig);
