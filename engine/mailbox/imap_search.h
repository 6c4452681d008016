/*
 * imap_search: what the files of SEARCH, SORT and THREAD share. Nobody else includes it.
 *
 * Messages are judged one after the other, with as little of them as decides: first by what the store's entry says, then
 * by the fields of its header that the index keeps, by the header, last by the whole text. A text is searched as it is
 * read; nothing of it is kept but those fields.
 */
#pragma once
#include "engine/mailbox/imap_cache.h"
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/search_desk.h"
#include "proto/message/searchable.h"

#define SEARCH_WORDS_MAX 64u        /* texts that one command looks for; more: NO [LIMIT] */
#define SEARCH_WORD_BYTES_MAX 1024u /* of one; longer: NO [LIMIT] */

enum search_verdict { SEARCH_NO, SEARCH_YES, SEARCH_UNKNOWN };

/* What is known of the message. */
enum search_stage { SEARCH_ENTRY, SEARCH_FIELDS, SEARCH_HEADER, SEARCH_WHOLE };

/* A text that is looked for. */
struct search_word {
    const struct imap_search_key *key;
    uint8_t *mapped; /* of the heap, as text_casemap makes it */
    size_t bytes;
    bool found; /* in this message */
};

enum search_phase {
    SEARCH_ASK,    /* the index is asked */
    SEARCH_NEXT,   /* the next message */
    SEARCH_LOAD,   /* its header is read */
    SEARCH_PARTS,  /* its structure */
    SEARCH_BODIES, /* its parts are searched */
    SEARCH_ORDER,  /* what was found is put in order, or in threads */
    SEARCH_ANSWER, /* it is written */
};

/* Of the answer, what comes next. */
enum search_part { SEARCH_HEAD, SEARCH_ALL, SEARCH_BETWEEN, SEARCH_PARTIAL, SEARCH_TAIL };

struct sorting; /* of SORT and THREAD; imap_sort.c */

struct search {
    struct imap_task task;
    struct imap_session *session;
    const struct imap_command *command;
    uint8_t phase; /* enum search_phase */
    uint8_t stage; /* enum search_stage, of this message */
    uint32_t number;
    struct mailstore_entry entry;
    int64_t now_s;

    struct search_word *words; /* owned */
    uint32_t word_count;
    struct imap_context *context; /* whose messages are judged again; NULL: of a command */
    uint32_t *gone;               /* owned: uids that do not fit, ascending; of a context */
    uint32_t gone_count, gone_room;
    struct imap_context *begins; /* owned: what is kept up from the answer on; NULL: nothing */
    uint64_t told_modseq;        /* of the view, when it began */
    uint32_t told_uid;
    struct search_question *question; /* to the index, of the words in their order; NULL: none */
    bool asked;                       /* it is not answered yet */

    uint32_t *found; /* owned: sequence numbers or uids, ascending */
    uint32_t found_count, found_room;
    uint64_t modseq; /* the highest of those found */
    bool failed;     /* memory was short */
    bool some_broken;
    struct sorting *sorting; /* owned */

    /* The answer: a part of it, and of its list what is next. */
    uint8_t part; /* enum search_part */
    uint32_t written, list_end;

    /* The text. */
    struct search_ahead *ahead; /* owned: of messages to come; NULL: none was needed yet */
    uint32_t looks_ahead;       /* in this step: how many of them were judged by their fields */
    struct imap_text text;
    bool fields_wanted; /* the command looks at fields that the index keeps */
    bool fields_found;  /* it has them of this message */
    uint8_t *fields;    /* owned; of the message that was judged last by them */
    uint32_t fields_bytes;
    uint8_t *header; /* owned */
    uint32_t header_bytes, header_room;
    bool header_whole;
    uint32_t scanned;
    bool scanning;
    struct structure structure;
    struct arena arena;
    struct searchable searchable;
    uint8_t *window; /* owned: mapped text, the end of what was before in front */
    size_t window_bytes;
};

/* ---- imap_search_key.c ---- */
enum search_verdict search_judge(const struct search *search, const struct imap_search_key *key);
/* Gathers the words. 0, -ENOMEM, -E2BIG. */
int search_words(struct search *search, const struct imap_search_key *key);

/* ---- imap_search.c ---- */
/* Must the text of this message be read, as far as can be told without it? */
bool search_needs_text(struct search *search, uint32_t number);

/* ---- imap_search_fields.c ---- */
/* Does the command look at fields that the index keeps? */
bool search_fields_wanted(const struct search *search);
/* Is it one of them? */
bool search_field_is_kept(struct slice name);
/* What the index keeps of the message under way. False: nothing. */
bool search_fields_find(struct search *search);
/* The header is there: the index keeps its fields, unless there is too much in them. */
void search_fields_keep(struct search *search);

/* ---- imap_search_ahead.c ---- */
/* The text of the message under way is about to be read: those of the next ones that need it are fetched, too. */
void search_ahead_run(struct search *search);
void search_ahead_end(struct search *search); /* at any time */

/* ---- imap_search_text.c: 0: done; -E2BIG: in the next round; imap_text_must_wait; or what is broken ---- */
int search_text_open(struct search *search);
int search_header_load(struct search *search);
int search_parts_scan(struct search *search);
int search_bodies(struct search *search);
void search_text_end(struct search *search);
void search_text_free(struct search *search); /* behind it: no other message follows */
/* Is the word in this field's value? */
bool search_field_has(struct slice value, const struct search_word *word);
/* What is known of it: of the stage SEARCH_FIELDS on. */
struct slice search_header(const struct search *search);

/* ---- imap_search_answer.c ---- */
/* All are judged; and again: they are sorted, if they are to be. 0, or why the answer is NO. */
int search_result_keep(struct search *search, bool sorted);
/* In each round from then on, until it is answered. */
enum imap_step search_answer(struct search *search);
enum imap_step search_refuse(struct search *search, int status);
/* Of what is in `found`. */
uint32_t search_uid(const struct search *search, uint32_t found);

/* ---- imap_context_command.c ---- */
/* Into the arena. Message numbers, and what was saved, stand for the uids that they have now. False: it does not fit. */
bool imap_context_command_copy(const struct imap_session *session, struct arena *arena,
                               const struct imap_command *from, struct imap_command *to);

/* ---- imap_context.c ---- */
/* All are judged, and nothing is saved yet: takes down what was asked, if it is to be kept up. */
void imap_context_ask(struct search *search);
void imap_context_forget(struct search *search); /* at any time */
/* The search has its answer: from now on it is kept up, or the client is told that it is not. */
void imap_context_begin(struct search *search);
/* The message under way was judged before, and nothing of it has changed. */
bool imap_context_skips(const struct search *search);
/* All are judged: tells what is other. The context may be gone. */
void imap_context_told(struct search *search);

/* ---- imap_sort.c ---- */
/* SORT and THREAD: 0, -ENOMEM. */
int sorting_open(struct search *search);
void sorting_close(struct search *search);
bool sorting_needs_header(const struct search *search);
/* The message under way was found: what it is sorted by is kept. */
int sorting_add(struct search *search);
/* Puts search->found in order, or makes the threads, a piece in each round. 0: done; -EAGAIN, -ENOMEM. */
int sorting_step(struct search *search);
/* "(1 2)(3)": the next piece. False: that was all. */
bool threading_write(struct search *search, struct imap_writer *writer);
