/*
 * relay_host: a whole relay on a host: the real one, with its log on a disk that lies and its streams on
 * the host's stack. Its power may be lost at any moment; it then starts on what its disk holds.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/disk/disk_fault.h"
#include "engine/relay/operator_orders.h"
#include "engine/relay/relay.h"
#include "engine/relay/relay_tls.h"
#include "tests/sim/relay_dns.h"
#include "tests/sim/sim.h"

#define SIM_SITES 3u
#define SIM_BACK SIM_SITES /* where reports go: the site of back.example */
#define SIM_ROUTES (SIM_SITES + 1)
#define SIM_ROUTES_MAX 6u
#define SIM_SMTP_PORT 25u
#define SIM_SINK_PORT 2525u

/* Most mistakes of a log are seen by those who lose their power at the wrong moment. */
enum sim_moment {
    SIM_MOMENT_ANY,
    SIM_MOMENT_WRITE,  /* something is on its way to the disk */
    SIM_MOMENT_BODY,   /* something long, which may get there in part */
    SIM_MOMENT_WRITES, /* several things, of which the first may not get there */
    SIM_MOMENT_FAILED, /* a write has failed */
    SIM_MOMENT_VOID,   /* and its disk says so, in another segment */
    SIM_MOMENTS
};

struct sim_relay {
    struct sim_host *host;
    struct relay_conf *conf;
    struct conf_listener listener;
    struct conf_route routes[SIM_ROUTES_MAX];
    struct endpoint next_hops[SIM_ROUTES_MAX][2];
    char matches[SIM_ROUTES_MAX][32];
    unsigned route_count; /* 0: SIM_ROUTES */
    struct sim_dns dns;
    struct endpoint address; /* that it listens at */
    struct network_prefix clients[SIM_FAMILIES];
    struct disk_fault_settings disk_settings;
    struct disk_fault *fault;
    struct disk *disk;
    uint64_t disk_slow_ns; /* an operation takes up to this */
    uint64_t disk_due_ns;
    uint32_t segment_bytes;
    void *log_memory, *fetch_memory;
    struct log *log;
    struct relay *relay; /* NULL: it does not run */
    char *operator_text; /* of the operator's file; NULL: there is none */
    bool secures;        /* the scenario has TLS: */
    struct conf_certificate certificate;
    enum conf_tls_level level; /* to next hops */
    enum conf_tls listener_tls;
    const char *names[2]; /* of next hops */
    struct relay_tls tls;
    uint8_t ticket_secret[TLS_SECRET_BYTES];
    bool serving;
    uint64_t void_since_ns;   /* what of the log is void is not on the disk since then; 0: it is */
    uint64_t crashed_ns;      /* the last time; 0: never */
    uint64_t settled_ns;      /* the last time that its disk had all that its log was given */
    uint64_t deferred, lives; /* of the lives before */
    struct timer stall;
    struct timer *crash; /* NULL, or fires soon after what is waited for has come: */
    enum sim_moment moment;
    uint64_t write_failures; /* when the waiting began */
};

/* routes, next_hops and dns are the scenario's to fill before; the host is open. */
void sim_relay_setup(struct sim_relay *relay, struct sim_host *host, enum sim_family family);
void sim_relay_teardown(struct sim_relay *relay);
/* On a host that is open. 0, or what relay_open said. */
int sim_relay_start(struct sim_relay *relay);
/* Power is lost while it reads what its disk holds; to be started again. */
void sim_relay_start_in_vain(struct sim_relay *relay);
/* Power is lost, on the host too. */
void sim_relay_crash(struct sim_relay *relay);
/* The body of a message that it keeps, into room for its body_bytes. At once, by a disk that works: called
 * when it has just started. 0, or what spool_read answered. */
int sim_relay_text(struct sim_relay *relay, struct message *message, uint8_t *to);
/* It has been drained: everything is given back. */
void sim_relay_stop(struct sim_relay *relay);
/* `crash` fires when a moment has come that is drawn here. */
void sim_relay_await(struct sim_relay *relay, struct timer *crash);
/* What the operator suspends from now on; as tubepostd does it: written down, then begun. */
void sim_relay_suspend(struct sim_relay *relay, const struct operator_suspension *said);
/* The disk works, and there is room on it. */
void sim_relay_heal(struct sim_relay *relay);
/* Recipients that were put off so far, in all its lives. */
uint64_t sim_relay_deferred(const struct sim_relay *relay);

/* Memory of sessions that died with their relay is not given back: LeakSanitizer is told so. */
extern bool sim_relay_has_crashed;
