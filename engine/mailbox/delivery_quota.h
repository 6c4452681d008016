/*
 * delivery_quota: is there room for a message in the Maildirs of its recipients?
 *
 * LMTP's messages go into Maildirs by a writer of their own (queue/mailbox/maildir.h), past the store that knows what users
 * have (queue/mailbox/mailstore.h) and finds them there later. So they are charged (mailstore_comes) from their commit until
 * a look at the Maildir has found them, as is what scripts file (delivery_files.c). Whose Maildir was not looked at for a
 * minute has it looked at first, by the store's helpers, and so has who would be refused: others may have removed something.
 * Meanwhile the message waits, and nobody else.
 *
 * delivery_maildir.c makes the claims, where there are quotas and a store; delivery_files.c, which looks by itself, asks who was
 * looked at, and says who. What is charged may be counted twice, never not
 * at all; as a look comes before a refusal, only what is counted once refuses.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/mailbox/mailbox_private.h"

struct quota_ledger;  /* of a mailbox service */
struct quota_account; /* of a user */

/* Of a message: `count` claims, which are filled by quota_claim_user before they are asked for. */
struct quota_claim {
    struct list_node node; /* of its account, while it waits */
    struct quota_claims *claims;
    struct quota_account *account; /* held, as long as it is charged */
    uint32_t twin;                 /* the same user again: he has the message once */
    unsigned looks;
    bool last; /* nothing more is to be learnt */
    int status; /* 0: there is room, and it is charged; -EDQUOT, -ENOMEM; -EINPROGRESS: not known yet */
};
struct quota_claims {
    struct list_node node; /* of the ledger */
    struct quota_ledger *ledger;
    uint64_t bytes;
    uint32_t count, waiting;
    void (*known)(struct quota_claims
                      *claims); /* all of them, after quota_claims_ask answered -EINPROGRESS */
    void (*end)(struct quota_claims *claims); /* that will not run: the service ends; free it */
    void *owner;
    struct quota_claim each[];
};

/* Owned by the mailbox, which is borrowed. 0, -ENOMEM. */
int quota_ledger_open(struct quota_ledger **ledger, struct mailbox *mailbox);
/* Those who wait are told to end. What was charged may still be settled, and freed, until quota_ledger_close. */
void quota_ledger_rest(struct quota_ledger *ledger);
void quota_ledger_close(struct quota_ledger *ledger); /* NULL is fine */
bool quota_is_limited(const struct mailbox *mailbox); /* is there any? */
/* Was he looked at within a minute? Then what is charged since says how much he has, but for what others have removed. */
bool quota_is_fresh(struct quota_ledger *ledger, const char *user);
void quota_looked(struct quota_ledger *ledger,
                  const char *user); /* now, by another than the ledger */

/* bytes: of the message, lines ending in CRLF. Zeroed claims, of the heap; NULL: memory is short. */
struct quota_claims *quota_claims_new(struct quota_ledger *ledger, uint64_t bytes, uint32_t count);
/* 0: each has its status; -EINPROGRESS: claims->known will run. users: by claim. */
int quota_claims_ask(struct quota_claims *claims,
                     const char *(*user)(const struct quota_claims *claims, uint32_t index));
/* The message lies in the Maildir of this claim, or does not. Once for each whose status was 0. */
void quota_claim_settle(struct quota_claim *claim, bool stored);
void quota_claims_free(struct quota_claims *claims); /* NULL is fine */
