/*
 * imap_host: the mailbox service on a host with the store of its own: LMTP in, IMAP out, on a disk that lies. It may lose
 * its power at any time; it then starts on what the disk holds, with the index of then or without. Now and then its operator
 * has the index checked against the log.
 */
#pragma once
#include "engine/mailbox/session.h"
#include "tests/sim/sim.h"
#include "tests/unit/mailstore_rig.h"

#define SIM_IMAP_PORT 143u
#define SIM_IMAP_LMTP_PORT 24u
#define SIM_IMAP_USER "alice" /* whose password is "secret" */

struct login_desk;

struct sim_imap {
    struct sim_host *host;
    struct mailboxd_conf *conf;
    struct conf_listener listeners[2];
    struct endpoint imap, lmtp;
    struct login_desk *desk;
    struct mailbox mailbox;
    struct mailstore_rig store;
    struct disk_fault_settings disk;
    uint64_t disk_slow_ns, disk_due_ns;
    uint64_t audit_each_ns, audit_ns; /* of its index against its log, while it serves; the next */
    unsigned audits;                  /* that came to an end */
    bool serves;
    unsigned lives;
};

/* On a host that is open. What its disk is like is drawn. */
void sim_imap_setup(struct sim_imap *imap, struct sim_host *host, enum sim_family family);
void sim_imap_teardown(struct sim_imap *imap);
/* The run ends here and now: what it has in the file system goes. */
void sim_imap_remove(void);
/* 0, or what mailstore_open said. */
int sim_imap_start(struct sim_imap *imap);
/* On the host too. */
void sim_imap_crash(struct sim_imap *imap);
void sim_imap_heal(struct sim_imap *imap);
/* Nothing is under way. */
bool sim_imap_rests(const struct sim_imap *imap);
/* It rests. In order; and an index that is built anew must be the same as the one that was kept. */
void sim_imap_stop(struct sim_imap *imap);
