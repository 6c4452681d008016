/*
 * thread: which message answers which: THREAD=REFERENCES and THREAD=ORDEREDSUBJECT (RFC 5256).
 *
 * Message-ids and base subjects are given as 64-bit names: equal names are equal texts. Who makes them takes a keyed
 * hash, so that no sender can make two alike; 0: there is none. Memory and time are those of the messages and their
 * references, and of sorting them, whatever they refer to: chains may be as long as a mailbox, and may be circles.
 *
 * Of a circle the links that messages make themselves count first, in order; the RFC leaves open which one goes.
 *
 * Pure, and without recursion.
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

/* messages: in order of their numbers; not kept. 0 or -ENOMEM; *forest is the caller's, for thread_free. */
int thread_by_references(struct thread_forest **forest, const struct thread_message *messages,
                         uint32_t count);
int thread_by_subject(struct thread_forest **forest, const struct thread_message *messages,
                      uint32_t count);
void thread_free(struct thread_forest *forest); /* NULL is fine */

#define THREAD_TEXT_MIN 16u
/* The threads as THREAD answers them (§4): "(2)(3 6 (4 23)(44 7 96))". Writes the next piece, at most `room` bytes, at
 * least THREAD_TEXT_MIN of them must be given; returns how many: 0 at the end. */
size_t thread_text(struct thread_forest *forest, char *text, size_t room);
