/*
 * search_desk: asks the full-text indexes of users, and keeps them up, on a thread of its own.
 *
 *   SEARCH ──ask──► question ──────► thread: search_index_find ──► which texts cannot hold the words
 *   user changes ──► keeper ──ids──► thread: what is missing, what is to go
 *                          ──texts─► thread: searchable, search_index_add
 *
 * One index for each user who has searched in texts (queue/mailbox/search_index.h), by ids of texts, which never change.
 * It only ever says that a text does not hold some words: what it does not know is looked at. So an answer is the same
 * with any index and with none. An index is a cache in PATH/search, which may be removed or spoilt at any time.
 *
 * A keeper begins with its user's first question. A while after something has changed in the user's mailboxes all their
 * ids are compared with the index; what is missing is read, some at a time, and what is gone leaves.
 * Bounded: the users kept up, the texts on their way, the questions under way and the memory of their answers.
 *
 * Who calls: engine/mailbox, from the shard's thread. The thread has the files; the shard never waits for them.
 */
#pragma once
#include "engine/core/slice.h"
#include "engine/shard/shard.h"
#include "queue/mailbox/mailstore.h"

struct search_desk;
struct search_question;

struct search_desk_settings {
    struct shard *shard;
    struct mailstore *texts;
    const char *folder; /* made when it is missing; its parent is there. Borrowed for the call */
    uint64_t log_id;    /* of the log that the texts are in: indexes of another one are removed */
    bool driven;        /* no thread: search_desk_poll does its work (tests) */
};

/* 0, -ENOMEM, or what the folder answers. */
int search_desk_open(struct search_desk **desk, const struct search_desk_settings *settings);
/* Nothing is begun any more; questions are still answered. */
void search_desk_rest(struct search_desk *desk);
/* After the shard's rounds, before it is closed, before the store comes to rest: waits for what the thread does just
 * now. All questions have been ended. NULL is fine. */
void search_desk_close(struct search_desk *desk);
/* Of a driven one: what the thread would do. Returns how much was done. */
unsigned search_desk_poll(void *desk, uint64_t now_ns);

struct search_wanted {
    struct slice text; /* as text_casemap makes it; borrowed for the call */
    unsigned where;    /* bits of enum search_where */
};
struct search_asker {
    void (*answered)(
        void *owner); /* once, from a round of the shard, unless the question is ended */
    void *owner;
    uint32_t
        messages; /* that are searched: while the thread is busy few of them are not asked about */
};
/* NULL: the index cannot help, or not now. Of at most 1000 words. */
struct search_question *search_desk_ask(struct search_desk *desk, struct mailstore_user *user,
                                        const struct search_wanted *wanted, uint32_t count,
                                        const struct search_asker *asker);
/* At any time, once. NULL is fine. */
void search_question_end(struct search_question *question);
/* Is it certain that this text does not hold the word of this number? After `answered`. Fast when texts ascend. */
bool search_question_excludes(struct search_question *question, uint32_t word, uint64_t text);

struct search_desk_counters {
    uint64_t questions, unanswered; /* those that the index could not help with */
    uint64_t passes, texts_added, texts_dropped, failures;
    uint32_t keepers; /* now */
    size_t answer_bytes;
};
void search_desk_counters(const struct search_desk *desk, struct search_desk_counters *counters);
