/* imap_two: alice is client 0 and has a mailbox "work" with two letters, bob is client 1. */
#pragma once
#include "tests/unit/imap_rig.h"

static inline void log_in_as(struct imap_rig *rig, unsigned index, const char *user)
{
    char command[80];
    connect_client(rig, index);
    snprintf(command, sizeof(command), "l LOGIN %s secret\r\n", user);
    talk(rig, index, command, "OK");
}

static inline struct imap_rig *alice_and_bob(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in_as(rig, 0, "alice");
    log_in_as(rig, 1, "bob");
    talk(rig, 0, "al1 CREATE work\r\n", "OK");
    append(rig, 0, "work", "Subject: one\r\n\r\nfirst\r\n");
    append(rig, 0, "work", "Subject: two\r\n\r\nsecond\r\n");
    return rig;
}

/* What bob may do with "work". */
static inline void bob_may(struct imap_rig *rig, const char *rights)
{
    char command[80];
    snprintf(command, sizeof(command), "al2 SETACL work bob \"%s\"\r\n", rights);
    talk(rig, 0, command, "OK");
}
