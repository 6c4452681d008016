/*
 * operator_orders: what the operator has said that outlives the process: suspensions, and where mail was rerouted.
 *
 * Kept in one small file (operator_file.h), as a line of JSON for each, so that a damaged one is told by its line:
 *
 *   {"tubepost":"operator","version":1,"entries":2}
 *   {"suspend":"domain","name":"example.org","since":1700000000,"until":1700003600,"uid":0,"text":"ticket 7"}
 *   {"reroute":"192.0.2.9:25","of":"domain=example.net","since":1700000000,"uid":0}
 *
 * The number of entries is said first: a file that was cut off is no shorter list. Times are seconds of the wall
 * clock, since it is the only one that goes on while the relay is down.
 *
 * Pure: no I/O, no clock.
 */
#pragma once
#include "engine/core/slice.h"

#define OPERATOR_SUSPENSIONS_MAX 256u
#define OPERATOR_REROUTES_MAX 256u
#define OPERATOR_NAME_MAX 321u
#define OPERATOR_REASON_MAX 201u
#define OPERATOR_TO_MAX 160u
#define OPERATOR_WORDS_MAX 1024u
#define OPERATOR_PROBLEM_MAX 200u
#define OPERATOR_MAIL_AGE_SLACK_S 86400 /* a report may wait a little longer than mail may */
#define OPERATOR_TO_ROUTES "routes"     /* as a next hop: where the routes lead after all */

enum operator_of {
    OPERATOR_OF_SITE,      /* a next hop, by the name that lists give it */
    OPERATOR_OF_SENDER,    /* user@example.org; example.org: all of that domain; "<>" */
    OPERATOR_OF_DOMAIN,    /* recipients there; .example.org: at what is below it */
    OPERATOR_OF_RECIPIENT, /* one address */
    OPERATOR_OF_PATTERN,   /* PCRE2, found in the sender or the recipient */
    OPERATOR_OFS
};
/* "site", "sender", ...: as options of the tool and in the file. */
const char *operator_of_name(unsigned of);

struct operator_suspension {
    uint8_t of; /* enum operator_of */
    int64_t since_wall_s, until_wall_s;
    int64_t user; /* who said so; -1: not known */
    char name[OPERATOR_NAME_MAX];
    char reason[OPERATOR_REASON_MAX]; /* may be empty */
};
/* Are they about the same mail? */
bool operator_suspension_same(const struct operator_suspension *a,
                              const struct operator_suspension *b);

/* Mail that had come by then and is meant by these words goes to another next hop. */
struct operator_reroute {
    int64_t since_wall_s;
    int64_t user;
    char to[OPERATOR_TO_MAX];
    char words[OPERATOR_WORDS_MAX]; /* as on the control socket, with blanks between them */
};

/* Does it leave nothing to one that was said before? It means all mail; or its words are the same, and mean what they
 * meant then: they ask for no next hop, and for no mail that was younger. */
bool operator_reroute_replaces(const struct operator_reroute *said,
                               const struct operator_reroute *before);

struct operator_orders {
    struct operator_suspension *suspensions; /* the longest known first; owned */
    uint32_t suspension_count;
    struct operator_reroute *reroutes; /* in the order in which they were said; owned */
    uint32_t reroute_count;
};

/* All zero is none. */
void operator_orders_free(struct operator_orders *orders);
int operator_orders_copy(struct operator_orders *to,
                         const struct operator_orders *from); /* 0 or -ENOMEM */

/* Takes the place of the one that is about the same mail. 0, -ENOMEM; -ENOSPC: there are as many as there may be;
 * -EILSEQ: its texts are not UTF-8. */
int operator_orders_suspend(struct operator_orders *orders, const struct operator_suspension *said);
/* like: what it is about; NULL: all. Returns how many are gone. */
uint32_t operator_orders_resume(struct operator_orders *orders,
                                const struct operator_suspension *like);
/* As operator_orders_suspend; the last one said is the last, and takes the place of those that it leaves nothing to.
 * What leads to the routes is not kept where no other is left. */
int operator_orders_reroute(struct operator_orders *orders, const struct operator_reroute *said);
/* Without what is over: suspensions that have ended; reroutes of mail so old that none of it can wait. */
void operator_orders_tidy(struct operator_orders *orders, int64_t now_wall_s,
                          int64_t mail_age_max_s);

/* The file's text, of malloc; NULL: memory is short. */
char *operator_orders_write(const struct operator_orders *orders);
/* 0, and *orders is the caller's; -EINVAL: `problem` says what is wrong, with *line (from 1); -ENOMEM. An empty text
 * is damaged too. */
int operator_orders_read(struct operator_orders *orders, struct slice text, unsigned *line,
                         char problem[OPERATOR_PROBLEM_MAX]);
