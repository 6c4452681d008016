/* post_rig: letters through a spool on a disk that lies, and what the test knows of each. */
#pragma once
#include "queue/spool/spool_private.h"
#include "tests/unit/log_rig.h"

#define LETTERS_MAX 20000u
#define RECIPIENTS_MAX 6u

/*
 * What the test knows of a message: a letter.
 *   OPEN: being received   ASKED: committed, not answered   ACCEPTED: 250   REFUSED   GONE
 */
enum fate { LETTER_OPEN, LETTER_ASKED, LETTER_ACCEPTED, LETTER_REFUSED, LETTER_GONE };
struct letter {
    struct spool_waiter durable;
    struct spool_draft *draft;
    struct message *message;
    uint64_t id, seed;
    uint32_t length, sent;
    uint32_t recipient_count;
    uint8_t state[RECIPIENTS_MAX];   /* as told to the spool */
    uint8_t settled[RECIPIENTS_MAX]; /* of that, durable for sure */
    enum fate fate;
    int status;
    bool found;
};

struct post {
    struct log_rig rig;
    struct spool *spool;
    struct spool_settings settings;
    struct letter *letters;
    uint32_t count;
    uint32_t found_count;
    uint64_t random;
    uint64_t reading_failures;
};

uint32_t post_below(struct post *post, uint32_t limit);
/* A shard's spool on a disk that lies; opened with post_start. */
struct post *post_open(uint64_t seed);
/* Opens log and spool, and sees what is found. */
void post_start(struct post *post);
int post_try_start(struct post *post); /* 0 or -errno: then nothing is open */
/* One round, as a shard runs it. */
void post_round(struct post *post);
/* Rounds until nothing is under way; false: there still is. */
bool post_rests(struct post *post, int rounds);
void post_settle(struct post *post);
/* The process dies, and power is lost. */
void post_crash(struct post *post);
void post_close(struct post *post);
/* NULL: refused. No id may ever come twice. */
struct letter *letter_begin(struct post *post, uint32_t length, uint32_t recipient_count);
int letter_send(struct letter *letter, uint32_t bytes);
void letter_durable(struct spool_waiter *waiter, int status);
int letter_commit(struct letter *letter);
/* From begin to commit, whatever room it must wait for. */
struct letter *letter_post(struct post *post, uint32_t length, uint32_t recipient_count);
void letter_finish(struct post *post, struct letter *letter, uint32_t index);
/* 0 when the body is what was sent, byte by byte; or what spool_read answered. */
int letter_check_body(struct post *post, struct letter *letter);
void letter_check_envelope(const struct letter *letter);
/* The segment with its commit. */
uint32_t letter_sequence(const struct letter *letter);

#define POST_WINDOW 10u /* so many letters of a flow wait at a time */
/* Letters come, and stay. All is durable then, and here too. */
void letters_stay(struct post *post, uint32_t count, uint32_t length, uint32_t recipients);
/* Letters come, and each leaves when ten more have come. */
void letters_pass(struct post *post, uint32_t count, uint32_t length);
/* After a crash those that stay are there, whole, and nothing else; `tubepost spool check` says so too. */
void post_restarts_with(struct post *post, uint32_t staying);
const struct log_counters *post_log_counters(const struct post *post);
