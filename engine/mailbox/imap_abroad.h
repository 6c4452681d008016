/*
 * imap_abroad: commands of an IMAP session about mailboxes whose owner's shard is another one. Private to the files
 * imap_abroad*.c; the others call them by what imap_session.h says.
 *
 * The mailboxes are used by an agent (imap_agent.c), a session of the same user's on that shard, to which commands go as they
 * came. The one that has the selected mailbox is the session's as long as it is selected; any other lives for its command. When
 * it ends early (its shard stops, its store fails) the answer is NO [UNAVAILABLE]; of the selected mailbox it is BYE, since the
 * client's numbers mean nothing any more; in the middle of a response the connection is cut.
 */
#pragma once
#include "engine/mailbox/imap_session.h"

#define IMAP_ABROAD_UNREACHABLE "The shard of that mailbox cannot be reached, try again later"

struct imap_abroad {
    struct imap_agent
        *selected; /* it has the mailbox that is selected; NULL: that is here, or none is */
    struct imap_agent *appends; /* a message is on its way there; NULL: no */
    struct slice selected_name; /* what the client calls it; of the heap */
    uint64_t selected_box; /* once somebody has asked: the mailbox that was called so then; 0 */
    uint64_t copied_bytes; /* by URLs of the command */
    bool answered;         /* the command is over for `appends` */
    bool first_part;       /* of CATENATE */
    bool must_silence;     /* who has the selected mailbox is to hear that NOTIFY is over */
    uint64_t part_left;    /* of the literal that is being said to it */
    struct slice held;     /* of it, borrowed from the stream, until there is room */
    size_t held_used;
};

/* ---- imap_abroad.c ---- */
/* The session's, made when there is none. NULL: memory is short. */
struct imap_abroad *imap_abroad_of(struct imap_session *session);
/* Hands responses on until there is something else, which is returned, with what an answer or a BYE says, or the output is
 * full: IMAP_HEARD_PART. */
enum imap_heard imap_abroad_relay(struct imap_session *session, struct imap_agent *agent,
                                  struct imap_answer *answer);
/* The agent has ended under the command: bye: its words; NULL: none. The task is over. */
enum imap_step imap_abroad_lost(struct imap_session *session, struct imap_agent *agent,
                                const struct imap_answer *bye);
/* An answer that is given later than the task that made it ends. False: memory is short. */
struct arena;
bool imap_abroad_keep_answer(struct arena *texts, const struct imap_answer *answer,
                             struct imap_answer *kept);
/* Answers, of a selected mailbox behind what has happened in it, which is on another shard. */
enum imap_step imap_abroad_settle(struct imap_session *session, const struct imap_answer *answer);
/* The agent, which is given, was told a whole command: what it says and answers is handed on. */
void imap_abroad_finish(struct imap_session *session, struct imap_agent *agent);

/* ---- imap_abroad_copy.c ---- */
/* COPY or MOVE from what is selected, which is on another shard, to a mailbox of this shard or a third one. */
void imap_abroad_copy(struct imap_session *session, const struct imap_command *command,
                      unsigned shard);

/* ---- imap_abroad_carried.c ---- */
/* A message that is copied, as its FETCH response begins. Borrowed from there. */
struct imap_carried {
    uint32_t uid;
    struct slice flags, date; /* as they stand there; the date without its quotes */
    uint64_t bytes;           /* of the text that follows */
    bool gone;                /* it has none any more */
};
/* False: it is something else that the source tells. */
bool imap_carried_read(struct slice head, struct imap_carried *carried);

/* ---- imap_abroad_append.c ---- */
/* A part of CATENATE begins, which is so large. */
void imap_abroad_append_part(struct imap_session *session, uint64_t bytes);
/* False: no message went to another shard. */
bool imap_abroad_append_commit(struct imap_session *session);
