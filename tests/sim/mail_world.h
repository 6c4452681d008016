/*
 * mail_world: the hosts of the scenarios with mail, and how they lose their power: see mail.c.
 */
#pragma once
#include "tests/sim/mail_client.h"
#include "tests/sim/mail_sink.h"
#include "tests/sim/mailbox_host.h"
#include "tests/sim/relay_host.h"

#define RELAYS_MAX 2u
#define SINKS_MAX 2u
#define CLIENTS_MAX 2u

struct mail_host { /* what may lose its power */
    struct timer crash, boot;
    bool awaits; /* a moment that is worth it */
    struct mail *mail;
    unsigned index;
};

struct mail {
    struct sim *sim;
    struct letters letters;
    struct sim_relay relays[RELAYS_MAX];
    struct sim_mailbox mailbox;
    struct mail_sink sinks[SINKS_MAX];
    struct mail_client clients[CLIENTS_MAX];
    /* And in this order on the hosts: */
    unsigned relay_count, mailbox_count, sink_count, client_count;
    struct mail_host hosts[SIM_HOSTS_MAX];
    enum sim_family family; /* that they speak */
    bool secures;           /* with TLS: */
    bool never_clear;       /* between relays and sinks */
    enum smtp_client_tls client_tls;
    bool expires;
    uint64_t calm_ns;       /* at most so long nobody loses their power, or is without */
    uint64_t until_ns;      /* no power is lost after */
    uint64_t void_since_ns; /* of the relay that comes back */
};

/* Of host `index`: its timers, which are the scenario's to arm. */
void mail_power_open(struct mail *mail, unsigned index);
