/*
 * mailbox_host: the mailbox service on a host: the real one, with its Maildirs on files that forget. It may
 * be killed, or lose its power, between any two of their operations; it then starts on what is left.
 */
#pragma once
#include "engine/conf/conf.h"
#include "engine/mailbox/mailbox.h"
#include "tests/sim/files.h"
#include "tests/sim/letters.h"

#define SIM_LMTP_PORT 24u
#define SIM_USERS 6u

/* How often a letter lies in a user's Maildir. */
struct sim_copies {
    uint8_t of[LETTERS_MAX][SIM_USERS + 1];
};

struct sim_mailbox {
    struct sim_host *host;
    struct letters *letters;
    struct mailboxd_conf *conf;
    struct conf_listener listener;
    struct endpoint address;
    char names[SIM_USERS][8];
    const char *known[SIM_USERS];
    struct sim_files *files;
    struct sim_files_settings faults;
    struct mailbox *mailbox; /* NULL: it does not run */
    bool drained;
    uint64_t slow_ns;           /* the writer begins within this */
    uint64_t due_ns;            /* when it does */
    struct timer *crash;        /* NULL, or fires when the files have stopped */
    struct sim_copies copies;   /* when they were looked at last */
    struct sim_copies survived; /* the last power loss: for good */
};

/* On a host that is open. What the service and its files are like is drawn. */
void sim_mailbox_setup(struct sim_mailbox *mailbox, struct sim_host *host, struct letters *letters,
                       enum sim_family family);
void sim_mailbox_teardown(struct sim_mailbox *mailbox);
/* On a host that is open. 0, or what mailbox_open said. */
int sim_mailbox_start(struct sim_mailbox *mailbox);
/* Power is lost while it opens its store; to be started again. */
void sim_mailbox_start_in_vain(struct sim_mailbox *mailbox);
/* `crash` fires when its files have been changed so often. */
void sim_mailbox_await(struct sim_mailbox *mailbox, uint32_t changes, struct timer *crash);
/* On the host too. */
void sim_mailbox_crash(struct sim_mailbox *mailbox, enum sim_files_end end);
void sim_mailbox_heal(struct sim_mailbox *mailbox);

/* Every file in every Maildir is whole, for that user, and as it was sent; nothing has vanished. */
void sim_mailbox_check(struct sim_mailbox *mailbox);
/* Copies beyond one for each recipient, and one for each time that a relay may have forgotten. */
uint32_t sim_mailbox_extra_copies(const struct sim_mailbox *mailbox);
/* All sessions have ended: nothing is open or waiting, and nothing is left in the staging folder. */
void sim_mailbox_check_quiet(struct sim_mailbox *mailbox);
void sim_mailbox_drain(struct sim_mailbox *mailbox);
/* It has been drained. */
void sim_mailbox_stop(struct sim_mailbox *mailbox);
