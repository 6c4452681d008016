/* imap_listen: client 0 listens, client 1 does things; both are alice. "Work" and INBOX have a letter each. */
#pragma once
#include "tests/unit/imap_rig.h"

#define LETTER "Subject: news\r\n\r\ntext\r\n"

static inline struct imap_rig *two(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    log_in(rig, 1);
    talk(rig, 1, "c CREATE Work\r\n", "OK");
    append(rig, 1, "INBOX", LETTER);
    append(rig, 1, "Work", LETTER);
    return rig;
}

/* What a client has been told up to now. */
static inline void forget(struct imap_rig *rig, unsigned index)
{
    rig_rounds(rig, 10);
    rig->clients[index].heard_bytes = 0;
    rig->clients[index].heard[0] = '\0';
}
