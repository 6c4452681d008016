/*
 * outgoing_private: what outgoing.c and its sessions (outgoing_session.c) share. Nobody else includes it.
 */
#pragma once
#include "engine/mailbox/outgoing.h"
#include "proto/smtp/client.h"

enum outgoing_state {
    OUTGOING_WRITTEN,   /* the record, or the commit of the text, is not known to be durable */
    OUTGOING_READY,     /* in outgoing->ready */
    OUTGOING_WAITING,   /* until due_ns; in outgoing->waiting */
    OUTGOING_SENDING,   /* a session has it; in outgoing->busy */
    OUTGOING_RETURNING, /* the text is being copied into its user's INBOX; in outgoing->busy */
};

struct outgoing_item {
    struct list_node node;
    struct outgoing *outgoing;
    uint8_t state;      /* enum outgoing_state */
    bool record_there;  /* durable */
    bool text_there;    /* durable, or there is none */
    bool record_failed; /* it never will be */
    bool settled;       /* nobody else has it any more */
    bool words_alone;   /* of the letter */
    uint8_t tries;
    uint64_t id, text;
    uint64_t born_s, due_ns;
    struct mailstore_waiter written; /* of the record */
    bool waits_written;
    /* RETURNING */
    struct mailstore_waiter copied;
    bool waits_copied;
    struct mailstore_copy copy;
    struct mailstore_uids uids;
};

struct outgoing {
    struct shard *shard;
    struct network *network;
    struct mailstore *store;
    struct outgoing_conf conf;
    struct smtp_client_settings client_settings;
    struct mailstore_user *user;
    struct mailstore_box *box; /* open; NULL: nothing was ever put there */
    struct list_node ready, waiting, busy, written;
    struct list_node sessions;
    uint32_t session_count;
    uint64_t next_id;
    uint64_t hold_until_ns; /* the relay does not answer */
    uint8_t hold_tries;
    struct timer timer;
    bool resting, aborted;
    bool short_of_memory; /* at the start: not all that was found is here */
    struct outgoing_counters counters;
};

/* A session for the first letter that is ready. False: it cannot be opened now. */
bool outgoing_session_open(struct outgoing *outgoing);
void outgoing_session_abort_all(struct outgoing *outgoing);

/* The next letter that is ready, now SENDING; NULL: none. */
struct outgoing_item *outgoing_take(struct outgoing *outgoing);
/* Its record, of the heap; the letter points into it. 0, or -errno. */
int outgoing_read(struct outgoing *outgoing, const struct outgoing_item *item,
                  struct outgoing_letter *letter, uint8_t **record);
void outgoing_sent(struct outgoing *outgoing, struct outgoing_item *item);
/* It waits for a time of its own, also when the session has failed: that may be the letter's fault, and would be again. */
void outgoing_defer(struct outgoing *outgoing, struct outgoing_item *item);
void outgoing_refused(struct outgoing *outgoing, struct outgoing_item *item);
void outgoing_relay_works(struct outgoing *outgoing);
void outgoing_relay_fails(struct outgoing *outgoing, const char *why);
/* A session has ended, or may take a letter. */
void outgoing_pump(struct outgoing *outgoing);
