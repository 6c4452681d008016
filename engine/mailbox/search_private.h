/*
 * search_private: what the files of search_desk share. Nobody else includes it.
 *
 *   search_desk.c    questions, jobs, its life           on the shard
 *   search_keep.c    which texts an index is to have     on the shard
 *   search_thread.c  the indexes themselves              on the thread
 */
#pragma once
#include "engine/mailbox/search_desk.h"
#include "engine/shard/helpers.h"
#include "queue/mailbox/search_index.h"

#define SEARCH_INDEXES_OPEN 8u                /* files at a time */
#define SEARCH_KEEPERS_MAX 128u               /* users; who has not searched for longest goes */
#define SEARCH_QUESTIONS_MAX 64u              /* jobs that wait; a power of two */
#define SEARCH_BATCH_TEXTS 128u               /* added at once */
#define SEARCH_BATCH_BYTES (1u * 1024 * 1024) /* about, and one text more */
#define SEARCH_BUSY_MESSAGES 256u /* fewer are read sooner than the thread has done what it does */
#define SEARCH_READ_BYTES_MAX (8u * 1024 * 1024) /* a longer text is looked at each time */
#define SEARCH_IDS_MAX (4u * 1024 * 1024) /* messages of a user; with more there is no index */
#define SEARCH_ANSWERS_BYTES_MAX (64u * 1024 * 1024) /* of all questions under way */

/* Ascending ids, of the heap. */
struct search_ids {
    uint64_t *ids;
    size_t count, room, at; /* at: near what was looked for last */
};
/* False: no memory. */
bool search_ids_add(struct search_ids *ids, uint64_t id);

/* What the thread has: nobody else touches it while it runs. */
struct search_thread {
    char *folder; /* owned */
    uint32_t version;
    uint64_t log_id, stamped; /* the stamp says so */
    uint64_t uses;
    struct {
        uint64_t user, used;
        struct search_index *index;
    } open[SEARCH_INDEXES_OPEN];
    _Atomic size_t answer_bytes;
};

/* A job. It is freed where it ends: nobody may be left to tell. */
struct search_work {
    struct helper_job job;
    struct list_node node;    /* of a driven desk */
    struct search_desk *desk; /* gone when it is dropped */
    bool orphan;              /* nobody waits for it any more */
    size_t counted;           /* bytes of an answer, in the thread's */
    void (*run)(struct search_thread *thread, struct search_work *work);
    void (*told)(struct search_desk *desk, struct search_work *work); /* owns it from now on */
    void (*free)(struct search_work *work);                           /* knows no desk */
};

struct search_word_answer {
    uint8_t *text; /* owned */
    size_t bytes;
    unsigned where;
    bool known; /* `found` are all that may hold it */
    struct search_ids found;
};

struct search_question {
    struct search_work work; /* first */
    uint64_t user;
    void (*answered)(void *owner);
    void *owner;
    bool over; /* it was answered */
    bool helps;
    struct search_ids indexed;
    uint32_t count;
    struct search_word_answer words[];
};

/* Which of the ids are not in the index; those in the index that are not among them leave it. */
struct search_compare {
    struct search_work work; /* first */
    uint64_t user;
    struct search_ids ids; /* in: all; out: those that are missing */
    int status;
    bool again; /* not all was done */
    uint64_t indexed, dropped;
};

struct search_raw {
    uint64_t id;
    uint8_t *bytes; /* owned; NULL: too long */
    uint32_t size;
};
struct search_batch {
    struct search_work work; /* first */
    uint64_t user, applied;  /* the newest change of the store */
    int status;
    size_t bytes;
    uint32_t count;
    struct search_raw texts[SEARCH_BATCH_TEXTS];
};

struct search_keeper {
    struct list_node node; /* of desk->keepers, least recently asked first */
    struct search_desk *desk;
    struct mailstore_user *user; /* open */
    struct mailstore_watch watch;
    bool dirty; /* something has changed since the last pass began */
    uint64_t due_ns;
};

/*
 *          keeper is due            all ids                missing                 batch is full, or the last
 *  NONE ───────────────► GATHER ──────────────► COMPARE ──────────► READ ───────────────────────────► ADD
 *   ▲                                              │ nothing missing  ▲ │ all                          │
 *   └──────────────────────────────────────────────┴──────────────────┼─┘                              │
 *                                                                      └────────────────────────────────┘
 */
enum search_pass_state {
    SEARCH_PASS_NONE,
    SEARCH_PASS_GATHER,
    SEARCH_PASS_COMPARE,
    SEARCH_PASS_READ,
    SEARCH_PASS_ADD
};

struct search_pass {
    uint8_t state; /* enum search_pass_state */
    struct search_keeper *keeper;
    uint64_t began_ns;
    struct mailstore_box *box; /* open; GATHER */
    uint64_t entering;         /* id of this one, or of the one that is being loaded; 0: none yet */
    uint32_t uid;              /* the last that was seen of it */
    struct search_ids ids;
    size_t next;                /* of the ids that are missing */
    struct search_batch *batch; /* owned in READ */
    struct search_work *work;   /* under way; its own */
    struct mailstore_text text; /* being read, for the last of the batch */
    struct mailstore_fetch fetch;
    bool reads, waits;
    uint32_t at;
    uint64_t added, dropped, indexed;
};

struct search_desk {
    struct shard *shard;
    struct mailstore *texts;
    struct helpers *helpers; /* NULL: driven */
    struct list_node driven; /* works */
    struct search_thread thread;
    struct list_node keepers;
    uint32_t keeper_count;
    struct search_ids
        found; /* users whose index was there at the start: each is looked after once */
    struct timer timer;
    struct search_pass pass;
    bool rests;
    struct search_desk_counters counters;
};

/* ---- search_desk.c ---- */
/* 0: given; -ENOBUFS: too much waits, and it is still the caller's. */
int search_give(struct search_desk *desk, struct search_work *work);

/* ---- search_keep.c ---- */
/* Somebody searches in this user's texts. */
void search_keep(struct search_desk *desk, struct mailstore_user *user);
void search_keep_open(struct search_desk *desk);
void search_keep_close(struct search_desk *desk);

/* ---- search_thread.c ---- */
/* Finds which indexes there are; removes them where they are of another log, or know more than it. 0 or -errno. */
int search_thread_open(struct search_thread *thread, const char *folder, uint64_t applied,
                       struct search_ids *users);
void search_thread_close(struct search_thread *thread);
void search_question_run(struct search_thread *thread, struct search_work *work);
void search_compare_run(struct search_thread *thread, struct search_work *work);
void search_batch_run(struct search_thread *thread, struct search_work *work);
