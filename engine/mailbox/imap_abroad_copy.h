/*
 * imap_abroad_copy: a COPY or MOVE to another shard. Private to imap_abroad_copy.c, which goes from stage to stage, and
 * imap_abroad_copy_say.c, which words what the agents are told.
 */
#pragma once
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/imap_abroad.h"
#include "engine/mailbox/imap_placing.h"

#define HEAD_BYTES_MAX (256u * 1024)
#define COMMAND_BYTES_MAX (IMAP_COMMAND_BYTES_MAX + IMAP_AGENT_COMMAND_BYTES_MORE)
#define REFUSAL_BYTES 128u

enum carry_stage {
    CARRY_INVITE,
    CARRY_EXAMINE, /* the source selects what is selected here */
    CARRY_FETCH,
    CARRY_DRAIN,
    CARRY_PROBE,
    CARRY_CARRIED, /* the target says that it has them */
    CARRY_PLACE,
};

struct carrying {
    struct imap_task task;
    struct imap_session *session;
    const struct imap_command *command;
    struct imap_agent *source, *target;
    enum carry_stage stage;
    bool here; /* what is selected is of this shard, and the source owned */
    bool move;
    enum { IN_HEAD, IN_TEXT, IN_REST, IN_OTHER } at; /* of a response of the source */
    struct imap_writer head;                         /* its first line */
    struct imap_writer fetch;                        /* the command that is next, for the source */
    struct mailstore_uids
        *asked; /* `here`: what is to be fetched, and how far it is; of the heap */
    uint32_t asked_count, asked_at;
    struct mailstore_uids *uids; /* those that are carried; of the heap */
    uint32_t uid_count, uid_room, messages;
    uint32_t batch_messages; /* of the APPEND that is being said */
    uint64_t batch_bytes;
    uint32_t unanswered; /* APPENDs */
    uint64_t source_user, source_box;
    struct imap_placing *placing;
    struct imap_answer refusal; /* in DRAIN */
    char refusal_code[REFUSAL_BYTES], refusal_text[REFUSAL_BYTES];
    char carriage[CARRIAGE_NAME_BYTES];
};

/* ---- imap_abroad_copy_say.c: false: memory is short ---- */
void uids_write(struct imap_writer *writer, const struct mailstore_uids *uids, uint32_t count);
/* May anything be put into the target? */
bool carrying_say_invite(struct carrying *carrying);
/* The source selects what is selected here. */
bool carrying_say_examine(struct carrying *carrying);
/* carrying->fetch: of the set that the client has written; of the next of those that are asked for. */
bool carrying_fetch_set(struct carrying *carrying);
bool carrying_fetch_next(struct carrying *carrying);
/* What goes before a text. It is one of those that are carried. */
bool carrying_say_message(struct carrying *carrying, const struct imap_carried *carried);
/* The APPEND under way is whole. */
void carrying_say_batch_end(struct carrying *carrying);
