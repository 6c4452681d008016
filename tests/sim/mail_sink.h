/*
 * mail_sink: a host that takes mail by SMTP or LMTP, and remembers what for; with the manners of the
 * worst of them where the fault "peer" is on.
 */
#pragma once
#include "proto/smtp/server.h"
#include "tests/sim/letters.h"
#include "tests/sim/secure.h"

struct mail_sink {
    struct sim_host *host;
    enum sim_family family; /* that it listens to */
    struct letters *letters;
    struct listener *listener;
    struct list_node sessions;
    struct smtp_server_settings settings;
    uint32_t sites; /* 1 << site: whose mail it takes */
    /* Of 1,000 events each: */
    uint32_t refuses, drops, waits;
    uint64_t wait_ns;
    /* May be NULL. What to say to a recipient: 0: as usual, else 451 or 550. */
    unsigned (*judge)(struct mail_sink *sink, struct letter *letter, uint32_t recipient);
    /* May be NULL. Whether a connection is taken at all. */
    bool (*admit)(struct mail_sink *sink);
    void *owner;
    char name[32];
    uint64_t taken;
    bool secures;     /* the scenario has TLS */
    bool never_clear; /* who sends to it must not do so in the clear */
    struct sim_secure secure;
    uint64_t secured;
};

/* What the sink is like is drawn. */
void mail_sink_setup(struct mail_sink *sink, struct sim_host *host, struct letters *letters,
                     bool lmtp);
/* On a host that is open. */
void mail_sink_start(struct mail_sink *sink);
/* Its host is about to lose its power: its sessions are gone, what it has acknowledged is not. */
void mail_sink_crash(struct mail_sink *sink);
void mail_sink_heal(struct mail_sink *sink);
