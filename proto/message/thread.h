/*
 * thread: which message answers which: THREAD=REFERENCES and THREAD=ORDEREDSUBJECT (RFC 5256).
 *
 * Message-ids and base subjects are given as 64-bit names: equal names are equal texts. Who makes them takes a keyed
 * hash, so that no sender can make two alike; 0: there is none. Memory and time are those of the messages and their
 * references, and of sorting them, whatever they refer to: chains may be as long as a mailbox, and may be circles.
 *
 * Of a circle the links that messages make themselves count first, in order; the RFC leaves open which one goes.
 *
 * Pure, without recursion, and done a piece at a time, so that who has others to serve can do so between.
 */
#pragma once
#include "engine/core/slice.h"

#define THREAD_MESSAGES_MAX (1u << 28)
#define THREAD_REFERENCES_MAX 100u /* of one message: the last ones count */

struct thread_message {
    uint32_t number; /* as it is answered: a sequence number or a uid, not 0 */
    uint32_t reference_count;
    int64_t sent_s;             /* the sent date (§2.2), in UTC */
    uint64_t id;                /* Message-ID */
    const uint64_t *references; /* References, oldest first; else the first id of In-Reply-To */
    uint64_t subject;           /* the base subject (§2.1); 0: empty */
    bool is_reply;              /* the subject was that of a reply or of what is passed on */
};

struct thread_forest; /* the threads, in their order */

enum thread_kind {
    THREAD_BY_REFERENCES,
    THREAD_BY_SUBJECT, /* ORDEREDSUBJECT */
};

/* messages: in order of their numbers; borrowed until thread_step says 0, or thread_free. reference_count: of all together.
 * 0 or -ENOMEM; *forest is the caller's, for thread_free. */
int thread_begin(struct thread_forest **forest, enum thread_kind kind,
                 const struct thread_message *messages, uint32_t count, size_t reference_count);
/* Does about so many of the things that are to be done, each of which costs a microsecond at most; a million messages
 * take some ten million. 0: the threads are made; -EAGAIN: there is more to do; -ENOMEM. */
int thread_step(struct thread_forest *forest, size_t steps);
void thread_free(struct thread_forest *forest); /* at any time; NULL is fine */

#define THREAD_TEXT_MIN 16u
/* After thread_step has said 0: the threads as THREAD answers them (§4): "(2)(3 6 (4 23)(44 7 96))". Writes the next
 * piece, at most `room` bytes, at least THREAD_TEXT_MIN of them must be given; returns how many: 0 at the end. */
size_t thread_text(struct thread_forest *forest, char *text, size_t room);
