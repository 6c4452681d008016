/*
 * inbound_letter: the messages that one transaction makes.
 *
 * There is its own, and one for each mailing list among its recipients: what the members of a list get comes from the
 * list's owner, and with none of the sender's wishes about reports (RFC 3461 §5.2.7.1). All are received at once, from
 * the same text, and answered for together: 250 when all are durable.
 *
 * A letter without recipients is none: a transaction may have only those to lists.
 */
#pragma once
#include "engine/relay/inbound_paths.h"

struct inbound;

#define INBOUND_RECIPIENTS_MAX 100000u /* that a transaction's addresses stand for */
#define INBOUND_LISTS_MAX 64u          /* each receives the text for itself */

struct inbound_letter {
    struct inbound_letter *next; /* NULL: the last */
    struct inbound *in;
    struct inbound_paths paths; /* of a list: its reverse-path is the owner */
    uint32_t count_before;      /* recipients, before those of the RCPT under way */
    struct spool_draft *draft;  /* while the text is received */
    struct message *message;    /* from spool_commit on, unless it has failed */
    struct spool_waiter durable;
};

struct inbound_letters { /* zeroed before its first use */
    struct inbound_letter own;
    uint32_t list_count, lists_before;
    struct inbound_letter
        *append_at; /* who could not take a piece that those before have; NULL: nobody */
};

/* How many recipients there are in all. */
uint32_t inbound_letters_recipients(const struct inbound_letters *letters);
/* The letter of the list with this owner, made where there is none. 0, -ENOMEM, or -E2BIG: too many. */
int inbound_letters_list(struct inbound_letters *letters, struct slice owner,
                         struct inbound_letter **letter);
/* Recipients are about to be added to any of them; and are taken out again. */
void inbound_letters_mark(struct inbound_letters *letters);
void inbound_letters_undo(struct inbound_letters *letters);

/* More of the text, for each that is received. As spool_append; after -EAGAIN it goes on with the same piece where it
 * has ended. */
int inbound_letters_append(struct inbound_letters *letters, struct slice piece);
/* What was received is thrown away; recipients stay. */
void inbound_letters_abort(struct inbound_letters *letters);

/* The transaction is over. */
void inbound_letters_reset(struct inbound_letters *letters);
void inbound_letters_free(struct inbound_letters *letters);
