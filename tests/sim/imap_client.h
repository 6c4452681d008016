/*
 * imap_client: a mail reader: one connection after the other, one command at a time, each of them legal; what it is told it
 * compares with the books, and with what it was told before. Now and then it delivers a letter by LMTP instead.
 */
#pragma once
#include "tests/sim/books.h"

#define IMAP_HEARD_BYTES_MAX (256u * 1024)

struct imap_view { /* what the mailbox is as the client was told, message by message */
    uint32_t count;
    uint32_t uids[BOOKS_UIDS_MAX];  /* 0: not told yet */
    uint32_t flags[BOOKS_UIDS_MAX]; /* of imap_client.c */
};

enum imap_ask {
    IMAP_ASK_NONE,
    IMAP_ASK_LOGIN,
    IMAP_ASK_CREATE,
    IMAP_ASK_SELECT,
    IMAP_ASK_FETCH_ALL,  /* uids and flags of all */
    IMAP_ASK_FETCH_NEW,  /* of those that came */
    IMAP_ASK_FETCH_TEXT, /* which letter it is */
    IMAP_ASK_SEARCH,
    IMAP_ASK_APPEND,
    IMAP_ASK_STORE,
    IMAP_ASK_COPY,
    IMAP_ASK_MOVE,
    IMAP_ASK_EXPUNGE,
    IMAP_ASK_NOOP,
    IMAP_ASK_IDLE,
    IMAP_ASK_LOGOUT,
    IMAP_ASK_DELIVER, /* the LMTP dialogue */
};

struct imap_client {
    struct sim_host *host;
    struct books *books;
    struct endpoint imap, lmtp;
    unsigned number; /* its keyword's */
    struct stream *stream;
    struct timer next; /* it says something, or has waited long enough */
    uint8_t *heard;
    size_t heard_bytes;
    uint8_t *saying; /* what is not written yet */
    size_t said_bytes, saying_bytes;

    /* The connection. */
    bool delivers; /* it is one of LMTP */
    bool greeted, logged_in, selected, has_all, must_hear;
    uint64_t selected_ns; /* when it asked for it */
    unsigned box;
    struct imap_view view;

    /* The command under way. */
    enum imap_ask ask;
    uint32_t tag;
    uint64_t asked_ns;
    unsigned step;   /* of IMAP_ASK_DELIVER */
    unsigned target; /* mailbox */
    uint32_t letter, uid, flag;
    uint8_t key; /* of the uid, before */
    bool adds, silent, waits_to_go_on;
    size_t literal_at; /* where saying stops until "+" comes; 0: nowhere */
    uint32_t found[BOOKS_UIDS_MAX], found_count;

    uint64_t pause_ns;
    uint32_t left, drops; /* changes that it still makes; drops of 1,000 steps */
    bool stopped;         /* it changes nothing more: looks, and is done */
    bool done;            /* its view is what it was told last, and nothing is under way */
    bool audits;          /* is the last one: reads everything there is */
    bool boxes_made;
    uint64_t answers;
};

/* On a host that is open. What the client is like is drawn. */
void imap_client_setup(struct imap_client *client, struct sim_host *host, struct books *books,
                       unsigned number, const struct endpoint *imap, const struct endpoint *lmtp);
void imap_client_teardown(struct imap_client *client);
void imap_client_start(struct imap_client *client);
/* From now on it only looks, and is done when there is nothing new. */
void imap_client_finish(struct imap_client *client);
/* Looks into this mailbox, and reads all that nobody has read: then it is done. */
void imap_client_audit(struct imap_client *client, unsigned box);
void imap_client_leave(struct imap_client *client);
