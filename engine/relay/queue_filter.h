/*
 * queue_filter: which of the queued recipients an operator means.
 *
 * Made on shard 0 from the words of a request, then read by every shard. All conditions must hold.
 * Some are of the message (id, sender, age, hold), the others of each recipient (domain, site, state,
 * text), so that of a message to two domains only the recipients of one may be meant.
 *
 *   id=A,B          one of these messages
 *   sender=S        user@example.org; example.org: any of that domain; <>: the null reverse-path
 *   older=2h        waits longer than that; younger: less. s, m, h, d, w; a number alone is seconds
 *   held            held messages; ready: the others
 *   domain=D        example.org; .example.org: what is below it
 *   recipient=R     user@example.org
 *   site=S          the next hop, as lists name it
 *   deferred        tried before, and waits for another attempt
 *   pattern=RE      PCRE2, no case: found in sender, recipient or reason
 *   limit=N         so many recipients at most
 *   all             everything: what forgets or returns mail wants this word where there is no condition
 *
 * A pattern that takes too long on a text has not matched it; that is counted. Nothing here does I/O.
 */
#pragma once
#include "engine/core/limits.h"
#include "queue/spool/spool.h"
#include <stdbool.h>
#include <stdio.h>

#define QUEUE_FILTER_IDS_MAX 32u
#define QUEUE_FILTER_TEXT_MAX (SMTP_ADDRESS_BYTES_MAX + 1)
#define QUEUE_FILTER_PATTERN_MAX 256u
#define QUEUE_FILTER_PROBLEM_MAX 160u
#define QUEUE_PATTERN_STEPS_MAX 5000u /* of one match; more: it has not matched */

struct queue_pattern; /* compiled; any shard may use it */
struct queue_matcher; /* what one shard needs to use it */

enum queue_hold { QUEUE_HOLD_ANY, QUEUE_HOLD_HELD, QUEUE_HOLD_READY };

struct queue_filter {
    uint64_t ids[QUEUE_FILTER_IDS_MAX];
    uint32_t id_count;
    bool all, deferred;
    uint8_t hold;                       /* enum queue_hold */
    uint64_t older_s, younger_s;        /* 0: any age */
    uint64_t limit;                     /* 0: none */
    char sender[QUEUE_FILTER_TEXT_MAX]; /* "": any */
    char domain[QUEUE_FILTER_TEXT_MAX];
    char recipient[QUEUE_FILTER_TEXT_MAX];
    char site[QUEUE_FILTER_TEXT_MAX];
    char pattern_text[QUEUE_FILTER_PATTERN_MAX + 1];
    struct queue_pattern *pattern; /* owned; NULL: none */
};

void queue_filter_init(struct queue_filter *filter);
void queue_filter_free(struct queue_filter *filter); /* what it owns */

/* One condition. 0; -ENOENT: this key is none; -EINVAL: the value is wrong and `problem` says how. */
int queue_filter_read(struct queue_filter *filter, struct slice key, const char *value,
                      char problem[QUEUE_FILTER_PROBLEM_MAX]);
/* Says nothing about which mail is meant? */
bool queue_filter_is_empty(const struct queue_filter *filter);
/* Looks at single recipients? Otherwise all that wait of a message are meant, or none. */
bool queue_filter_of_recipients(const struct queue_filter *filter);
/* 0, or -EINVAL: no duration. For other options of the same form. */
int queue_duration_read(const char *text, uint64_t *seconds);

/* ---- on a shard ---- */

/* NULL: memory is short. Without a pattern it costs nothing. */
struct queue_matcher *queue_matcher_open(const struct queue_filter *filter);
void queue_matcher_close(struct queue_matcher *matcher);
uint64_t queue_matcher_gave_up(const struct queue_matcher *matcher); /* texts not judged */

/* Are recipients of this message meant, if they fit? Call it before the next function, for each
 * message anew. */
bool queue_filter_message(const struct queue_filter *filter, struct queue_matcher *matcher,
                          const struct message *message, int64_t now_wall_s);

/* What is known of a recipient besides its mailbox. */
struct queue_facts {
    struct slice site, reason; /* may be empty */
    bool deferred;
};
bool queue_filter_recipient(const struct queue_filter *filter, struct queue_matcher *matcher,
                            struct slice forward_path, const struct queue_facts *facts);
