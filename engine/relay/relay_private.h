/*
 * relay_private: what the parts of the relay (relay, inbound, outbound, bounce) share. Nobody else includes it.
 */
#pragma once
#include "engine/relay/client_count.h"
#include "engine/relay/queue_walk.h"
#include "engine/relay/relay.h"
#include "engine/relay/relay_detour.h"
#include "engine/relay/relay_domain.h"
#include "engine/relay/relay_sites.h"
#include "engine/relay/relay_space.h"
#include "engine/relay/relay_suspend.h"
#include "engine/relay/relay_tls.h"
#include "engine/relay/relay_transports.h"
#include "proto/smtp/client.h"
#include "proto/smtp/received.h"
#include "proto/smtp/server.h"
#include "queue/log/log.h"
#include "queue/sched/sched.h"
#include "queue/spool/spool.h"

struct inbound;
struct login_desk;
struct lease_desk;
struct outbound;
struct relay_bad_host;
struct relay_group;
struct relay_parking;
struct tls_clear;
struct tls_report;

/* A set of next hops and the way to them. Outlives its route while it has connections. */
struct relay_site {
    struct relay_site_key key;
    struct relay_site *next; /* in its bucket */
    struct list_node node;   /* in sites.used or sites.retired */
    struct list_node dirty;  /* in relay->dirty: relay_round looks at it */
    struct relay *relay;
    const struct conf_route *route;    /* NULL once the route is gone from the configuration */
    struct relay_transport *transport; /* that has made the route; held; NULL: it is none's */
    bool lobby;                        /* no hosts: see relay_direct.h */
    bool lmtp;
    struct sched_site *sched;
    struct relay_group *group;     /* whose limits hold; NULL: a lobby */
    struct relay_parking *parking; /* it has no next hop: see relay_parking.h */
    struct smtp_client_settings client_settings;
    uint32_t connections;  /* outbound sessions, connecting ones too */
    struct list_node idle; /* outbound sessions that wait for a message */
    char *name;            /* see relay_site_name; NULL: nobody has asked */
    struct timer wake;     /* when the site must be looked at if nothing else happens */
    uint64_t used_ns;      /* when it was found last */
    uint32_t next_host;    /* whose turn it is: see relay_hops.h */
    /* By MX. */
    struct destination *destination;  /* the newest answer for any of its domains; held */
    uint64_t fresh_until_ns;          /* the first answer for one of its domains ends; also of a
                                         site not by MX, where maps have a say: see relay_way.h */
    uint64_t review_count;            /* deliveries still to be asked where they lead by now */
    struct relay_bad_host *bad_hosts; /* see relay_hops.h */
    uint32_t bad_host_count;
};

/* Where one connection goes: chosen by the site when it is opened, kept by the session (relay_hops.h). What the
 * domain says about TLS with this host is in destination->hosts[host]. */
struct relay_hop {
    struct endpoint to;
    struct destination
        *destination; /* held until relay_hop_release; NULL: the route names the endpoint */
    uint32_t host;    /* of destination->hosts */
};

struct relay_listener {
    struct relay *relay;
    struct network *network;
    struct listener *listener;
    struct endpoint at;
    uint8_t protocol;           /* enum conf_protocol */
    uint8_t tls;                /* enum conf_tls, as the configuration now has it */
    uint8_t client_certificate; /* enum conf_client_certificate, too */
    uint8_t priority;           /* enum conf_priority_level, too */
    uint8_t greet_action;       /* enum conf_greet_action, too */
    uint8_t login;              /* enum conf_login, as it was at start */
    uint64_t greet_wait_ns;
};

enum relay_tls_kind {
    RELAY_TLS_OFF,
    RELAY_TLS_OFFERED,
    RELAY_TLS_REQUIRED,
    RELAY_TLS_MISSED, /* required, but the last reload has taken the listener's certificate */
    RELAY_TLS_KINDS
};

struct relay_owed_entry {
    struct message *message;
    uint32_t index;
};
struct relay_owed { /* see relay_owed.h */
    bool starting;
    struct relay_owed_entry *entries;
    size_t count, room, done;
    struct timer timer;
    /* Of success, without memory. */
    struct timer search;
    uint64_t cursor;      /* of spool_walk */
    bool searches, again; /* again: some may have been missed, or have no memory still */
};

struct relay {
    const struct relay_conf *conf;
    struct shard *shard;
    struct logger *logger;
    struct network *kernel;
    struct network *bypass;
    struct log *log;
    struct spool *spool;
    struct sched *sched;
    struct client_count *clients;
    struct login_desk *logins; /* NULL: nobody logs in */
    struct relay_sites sites;
    struct relay_domains domains;
    struct list_node groups;
    struct lease_desk *leases; /* NULL: no other shard has a part in our limits */
    struct resolve *resolve;   /* NULL: no DNS */
    struct lookup *lookup;
    const struct relay_maps *maps; /* NULL: none */
    struct relay_transports transports;
    struct list_node way_waits; /* see relay_way.h */
    struct list_node dirty;
    struct relay_listener *listeners;
    uint32_t listener_count;
    struct relay_tls *tls;
    struct tls_clear *clear;
    struct tls_report *tls_report;
    /* Of SMTP and LMTP; what each kind says of TLS holds for sessions that are open, too. */
    struct smtp_server_settings server_settings[2][RELAY_TLS_KINDS];
    struct list_node inbounds;
    struct list_node outbounds;
    struct list_node bounces;
    struct relay_owed owed;
    struct relay_space space;
    struct queue_walks walks; /* of the operator */
    struct relay_suspensions suspensions;
    struct list_node parkings; /* see relay_parking.h */
    struct relay_detours detours;
    unsigned visits; /* of the operator's questions that are here: see relay_control */
    struct relay_counters counters;
    bool draining;
    bool flush_again; /* all that was not filed yet when the operator wanted it */
    uint64_t drain_deadline_ns;
};

/* relay_listen.c */
void relay_listeners_reload(struct relay *relay); /* relay->conf is another */
/* Of sessions that begin now. */
const struct smtp_server_settings *relay_listener_settings(const struct relay_listener *at);

/* What became of a recipient, for whoever is told. */
struct relay_outcome {
    uint32_t index; /* of the message's recipients */
    uint8_t action; /* enum dsn_action; 0: it has failed */
    struct smtp_status status;
    uint16_t code;    /* of the server's reply; 0: none */
    char remote[256]; /* who said so: host name or address literal; empty: nobody, we decided */
    char address[ENDPOINT_TEXT_MAX]; /* of a host that has a name */
    char text[256];
};

/* Files the waiting recipients of a durable message under their sites, due now. */
void relay_schedule(struct relay *relay, struct message *message);
/* Files some recipients again (their site is gone). */
void relay_file(struct relay *relay, struct message *message, const uint32_t *indexes,
                uint32_t count, uint32_t attempts);
/* The same, the way of each recipient being known; borrowed. */
void relay_file_by(struct relay *relay, struct message *message, const uint32_t *indexes,
                   const struct relay_way *ways, uint32_t count, uint32_t attempts);
/* The sender, as the scheduler knows it: all of a domain. */
uint64_t relay_sender_key(const struct relay *relay, struct slice reverse_path);
/* Which network reaches an address: the kernel for loopback and unix sockets, else the transport's. */
struct network *relay_network_to(struct relay *relay, const struct endpoint *to);
/* Too old while it waited (sched_expired): its recipients go back to the sender. False: not now,
 * memory is short. */
bool relay_delivery_expire(struct relay *relay, struct sched_delivery *delivery);
/* Memory is short: an ACTIVE delivery waits again, all of it. */
void relay_delivery_put_back(struct relay *relay, struct sched_delivery *delivery);
/* The site has work, or room for it: looked at in this round. */
void relay_site_touch(struct relay_site *site);
/* After a connection of a site has ended. */
void relay_site_left(struct relay_site *site);
