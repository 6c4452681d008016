/*
 * delivery_store: where LMTP sessions (delivery.c, the only caller) put messages: Maildirs (delivery_files), the service's own
 * store, or, where the service has several shards, either of the recipients' shards, by the same calls.
 *
 * A session has one struct delivery_text, and at most one message at a time in it. Text comes in wire form, CRLF and
 * dot-stuffed. Nothing here calls back from inside a call.
 */
#pragma once
#include "engine/core/arena.h"
#include "engine/mailbox/mailbox_private.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/remembered.h"
#include "queue/mailbox/mailstore.h"
#include "queue/mailbox/unstuff.h"

struct delivery_recipient {
    char user[USER_NAME_BYTES];              /* from user_name_of_mailbox */
    char detail[USER_NAME_BYTES];            /* from user_detail_of_mailbox; "": none */
    uint8_t address[SMTP_ADDRESS_BYTES_MAX]; /* as RCPT has it */
    size_t address_bytes;
    /* What his script says to the sender instead of taking the message, one printable line; empty: nothing. Valid until
     * the next message begins. */
    struct slice refusal;
    /* His script could not be done now, and nothing of it is: -errno; he is to be sent the message again. 0: none. */
    int trouble;
    int status; /* when it is committed: 0: durable; -EDQUOT: over quota; -ENOSPC; another: not stored */
    uint8_t shard; /* delivery_shards.c: that has his mail */
};

#define DELIVERY_ID_BYTES 64u

struct
    delivery_range { /* of a recipient's places; none: his script has thrown the message away, or refused it */
    uint32_t first, count;
    uint32_t recipient; /* of whom: another when he was named twice */
};

/* The message as a recipient's script has edited it: a text of its own. */
struct delivery_variant {
    struct delivery_variant *next;
    struct delivery_text *text;
    uint32_t recipient, edit_count;
    struct mailstore_draft *draft; /* NULL: committed, or given up */
    struct slice header;           /* edited */
    size_t written;                /* of that and the body */
    struct mailstore_place *places;
    uint32_t place_count;
    bool sent; /* one of them is where outgoing.h has its texts: */
    uint32_t sent_place;
    struct mailstore_waiter durable;
    bool waits_durable;
    int status; /* when it is committed, as mailstore_commit's waiter has it */
};

/* What a recipient's script sends: goes when the message is committed. */
struct delivery_letter {
    struct delivery_letter *next;
    struct outgoing_item *item;
    uint32_t recipient;
    struct delivery_variant *variant; /* whose text it sends; NULL: that of the message */
    uint32_t place; /* that holds the text, among the variant's or the message's */
};

/* What is to be done when a recipient has the message: an answer is sent, a thing remembered, or both. */
struct delivery_after {
    struct delivery_after *next;
    uint32_t recipient;
    struct slice words, to; /* the answer; no words: none */
    struct remembered_thing thing;
    uint32_t seconds; /* for which the thing is remembered; 0: it is not */
};

struct delivery_text {
    struct mailbox *mailbox;
    /* Both from the shard's round. */
    void (*room_came)(struct delivery_text *text); /* after `when_room` */
    void (*committed)(struct delivery_text *text); /* each recipient has his status */
    struct delivery_recipient *recipients;         /* owned */
    uint32_t recipient_count, recipient_room;
    struct slice reverse_path; /* empty: the null one */
    bool begun;                /* a message is being received: abort or commit it */
    bool partial;              /* the message has other recipients, on other shards */

    /* delivery_shards.c */
    struct delivery_spread *spread; /* the message goes to other shards; NULL: it does not */

    /* delivery_files.c */
    bool by_store;               /* into Maildirs by way of the store on them: */
    uint32_t wants;              /* what delivery_sieve_wants says of it */
    struct delivery_look *looks; /* owned: one for each recipient, while some are waited for */
    uint32_t looking;

    /* delivery_maildir.c */
    struct maildir_draft *draft;
    struct maildir_delivery *deliveries;
    struct maildir_commit commit;
    struct maildir_waiter room;
    struct quota_claims *claims; /* while it is committed, where there are quotas */

    /* delivery_log.c */
    struct mailstore_draft *message;
    struct unstuff unstuff;
    struct mailstore_place *places;
    struct delivery_range *ranges; /* by recipient: two that are the same share one */
    uint32_t place_count, place_room;
    struct mailstore_waiter durable, log_room;
    bool waits_durable, waits_room;
    int status; /* when the message is committed, as mailstore_commit's waiter has it */

    /* delivery_sieve.c */
    struct arena sieve_memory; /* what places and refusals point to */
    /* Owned: the text as far as it was kept, when a script is to see it: the header, and behind header_bytes the body,
     * when one is to see that. */
    uint8_t *kept;
    size_t kept_bytes, kept_room, header_bytes;
    size_t budgeted;       /* of mailbox->kept_bytes */
    size_t body_bytes_max; /* 0: none of it is to be kept */
    bool keeping;          /* more of it is wanted */
    bool cut;              /* not all that was wanted is there */
    bool watched;          /* somebody has a script */
    bool eight_bit;        /* bytes above 127 were seen */
    struct delivery_letter *letters;
    struct delivery_variant *variants;
    struct delivery_after *after;
};

struct delivery_store {
    /* What `count` recipients need, before the next is told that he is known. 0, -ENOMEM. */
    int (*reserve)(struct delivery_text *text, uint32_t count);
    /* 0; -EAGAIN: again after when_room; -ENOBUFS: too many are received; -ENOSPC, -ENOMEM, -EIO... */
    int (*begin)(struct delivery_text *text);
    /* For trace lines and logs. */
    void (*id)(const struct delivery_text *text, char id[DELIVERY_ID_BYTES]);
    /* How many bytes were taken; fewer than given: again after when_room. Negative: abort. */
    ssize_t (*append)(struct delivery_text *text, struct slice wire);
    void (*when_room)(struct delivery_text *text);
    void (*forget_room)(struct delivery_text *text); /* harmless when none is waited for */
    /* The message is given. 0: `committed` will run; else it will not, and each recipient has his status: nothing is
     * stored, or (above 0) nobody wants it. */
    int (*commit)(struct delivery_text *text);
    void (*abort)(struct delivery_text *text);
    /* Frees what it has of the text, which may be being committed when the store is closed. */
    void (*close)(struct delivery_text *text);
};

extern const struct delivery_store delivery_files, delivery_maildir, delivery_log, delivery_shards;

/* Of a shard's own users. */
static inline const struct delivery_store *delivery_here(const struct mailbox *mailbox)
{
    return mailbox->store != NULL ? &delivery_files : &delivery_log;
}

/* delivery_part.c: what is being received from sessions of other shards ends; and, when the store is at rest, what is being
 * committed, too. */
void delivery_parts_rest(struct mailbox *mailbox);
void delivery_parts_forget(struct mailbox *mailbox);
