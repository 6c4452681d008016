/*
 * mail_client: a host that sends letters to a relay, connection after connection, and remembers what was
 * answered. Some of its connections end in the middle.
 */
#pragma once
#include "proto/smtp/client.h"
#include "tests/sim/letters.h"
#include "tests/sim/secure.h"

struct mail_client {
    struct sim_host *host;
    struct letters *letters;
    struct endpoint relay;
    struct list_node sessions;
    struct timer next; /* opens a session */
    uint64_t pause_ns; /* between two of them, up to */
    uint32_t letters_left, session_count_max, session_count;
    uint32_t site_count;
    uint32_t drops; /* of 1,000 steps */
    bool stopped;   /* begins nothing more */
    bool secures;   /* the scenario has TLS */
    enum smtp_client_tls tls;
    struct sim_secure secure;
    uint64_t secured;
};

/* On a host that is open. What the client is like is drawn. */
void mail_client_setup(struct mail_client *client, struct sim_host *host, struct letters *letters,
                       const struct endpoint *relay);
void mail_client_start(struct mail_client *client);
void mail_client_crash(struct mail_client *client);
bool mail_client_done(const struct mail_client *client);
