/*
 * imap_session: one IMAP session: a stream on one side, the protocol machine in the middle, the store on the other.
 *
 *   stream ──peek──► imap_server ──event──► a command ──► the store, the view of the selected mailbox
 *   stream ◄─flush── outbox ◄─── what the machine says and what the command writes, in this order
 *
 * Private to the files imap_*.c beside it. A command that cannot be answered at once is a task: it is stepped once a
 * round, and by what it waits for, until it has answered. An idle session has no task, no text and no output.
 *
 * Source: RFC 9051, RFC 3501 and what the files name.
 */
#pragma once
#include "engine/mailbox/compression.h"
#include "engine/auth/login.h"
#include "engine/mailbox/outbox.h"
#include "engine/mailbox/session.h"
#include "proto/imap/server.h"
#include "proto/imap/writer.h"
#include "queue/mailbox/mailstore.h"
#include "queue/mailbox/view.h"

/*
 *                STARTTLS                          handshake done
 *  READING ─────────────────► SECURING ──► HANDSHAKE ─────────────► READING
 *   │ ▲  command      answer
 *   │ └──────────── WORKING, LOGGING_IN            READING ──room──► HELD ──room──► READING
 *   └── LOGOUT, errors, time ──► CLOSING
 */
enum imap_session_state {
    IMAP_SESSION_HANDSHAKE, /* of TLS */
    IMAP_SESSION_READING,
    IMAP_SESSION_LOGGING_IN, /* the login desk is asked */
    IMAP_SESSION_WORKING,    /* session->task runs */
    IMAP_SESSION_HELD,       /* bytes of a message wait until the store takes them */
    IMAP_SESSION_SECURING,   /* TLS begins when the output is written */
    IMAP_SESSION_CLOSING,    /* the last words are on their way; what comes in is dropped */
};

enum imap_step {
    IMAP_STEP_ANSWERED, /* imap_session_answer was called; the task is gone */
    IMAP_STEP_MORE,     /* in the next round, as soon as the output has room */
    IMAP_STEP_WAIT,     /* imap_session_wake follows */
    IMAP_STEP_RETRY,    /* memory of the store was out: soon */
    IMAP_STEP_BROKEN,   /* a literal cannot be ended: the connection is cut */
};

struct imap_session;
/* How far a command is, for INPROGRESS (RFC 9585). */
struct imap_progress {
    bool known;
    uint32_t done, goal; /* if known: done < goal */
};
/* The first field of what a command keeps; of the heap. */
struct imap_task {
    enum imap_step (*step)(struct imap_session *session, struct imap_task *task);
    bool is_change; /* it is over soon, and tells nothing of the mailbox before it answers */
    /* Lets go of all but the task's own memory, whatever is under way. May be NULL. */
    void (*end)(struct imap_session *session, struct imap_task *task);
    /* The client is told while it takes long: of commands that say nothing before their answer. May be NULL. */
    struct imap_progress (*progress)(const struct imap_session *session,
                                     const struct imap_task *task);
    uint64_t tell_ns; /* when; 0: it has not begun */
};

struct carriage;
struct imap_again; /* a round that was asked for */
struct imap_abroad;
struct imap_agent;
struct imap_drafts;
struct imap_notify_state;
struct imap_context;
struct imap_contexts;

struct imap_session {
    struct session session;
    const struct mailbox_door *door;
    struct stream *stream;
    struct stream_facts facts;
    uint8_t state; /* enum imap_session_state */
    bool finished; /* the client has sent its FIN */
    bool idling;   /* IDLE runs */
    bool running;  /* imap_session_run is on the stack */
    bool read_only;
    bool may_expunge;   /* during the command under way */
    bool expunges;      /* the command under way itself takes messages away */
    bool notify_silent; /* NOTIFY: of the selected mailbox only what the client does is told */
    bool guest;         /* an agent on a shard where its user has no mailboxes: see imap_agent.c */
    bool watches;       /* one that is there for NOTIFY alone, and feeds who has it */
    bool rights_untold; /* other flags can be stored than the client knows */
    uint32_t rights;    /* enum imap_right, of the selected mailbox, as they were at its */
    uint64_t rights_seen; /* properties */
    struct imap_again *again;
    struct timer timer;
    uint64_t give_up_ns; /* when the client has to have taken some output; 0: nothing waits */
    uint64_t retry_ns;   /* 0: none */
    struct outbox outbox;
    struct compression *compression; /* from COMPRESS on: between the outbox and the stream */
    struct login login;
    struct mailstore_user *user; /* NULL before login */
    struct view view;
    struct imap_task *task;
    struct imap_drafts *drafts;       /* messages of APPEND */
    struct imap_notify_state *notify; /* of NOTIFY SET; NULL: none */
    struct imap_contexts *contexts;   /* searches that are kept up; NULL: none */
    struct imap_abroad *abroad;       /* what it does on other shards; NULL: nothing */
    struct carriage
        *carriage;            /* of an agent: into which it puts what it is to APPEND; NULL: none */
    struct imap_range *saved; /* uids, what SEARCH saved; of the heap */
    uint32_t saved_count;
    struct imap_server server;
    struct imap_server_settings settings;
    char mechanisms[LOGIN_MECHANISMS_BYTES_MAX];
};
static_assert(sizeof(struct imap_session) <= 3072, "an idle session must fit in 16 KiB with all");

static inline struct mailstore *imap_session_store(const struct imap_session *session)
{
    return session->session.mailbox->texts;
}
static inline uint64_t imap_session_now_ns(const struct imap_session *session)
{
    return session->session.mailbox->shard->now_ns;
}
static inline bool imap_session_has(const struct imap_session *session, enum imap_enabled enabled)
{
    return (session->server.enabled & enabled) != 0;
}
static inline bool imap_session_utf8(const struct imap_session *session)
{
    return (session->server.enabled & (IMAP_ENABLED_UTF8 | IMAP_ENABLED_REV2)) != 0;
}

/* ---- imap_session.c ---- */
/* What a task waited for is there. The session may be gone afterwards. */
void imap_session_wake(struct imap_session *session);
/* The same in the next round: for who must not have the session end under his hands. */
void imap_session_later(struct imap_session *session);
/* It goes to the shard of its user, who has logged in, and goes on there with imap_login_arrived. NULL: it is
 * not to be touched any more; else why it stays. */
const char *imap_session_pass(struct imap_session *session, const char *user);
/* Moves what the machine says to the output; after each call of it. */
void imap_session_output(struct imap_session *session);
void imap_session_write(struct imap_session *session, const char *text);
/* Moves it, and resets the writer. False: memory was short, or the bound was reached. */
bool imap_session_send(struct imap_session *session, struct imap_writer *writer);
/* The task is stepped again soon: the store's memory was out. */
void imap_session_retry(struct imap_session *session);

/* ---- imap_input.c ---- */
/* As much as may be done in one go. */
void imap_input_take(struct imap_session *session);
void imap_input_drop(struct imap_session *session);
/* The store may take now what it did not. */
void imap_input_held(struct imap_session *session);
bool imap_input_is_empty(struct imap_session *session);
size_t imap_output_waits(const struct imap_session *session);
/* 0, or as outbox_flush. */
int imap_output_send(struct imap_session *session);
void imap_compress(struct imap_session *session);

/* ---- imap_task.c ---- */
/* Tells what has happened in the mailbox, then answers the command under way; its task is freed. */
enum imap_step imap_session_answer(struct imap_session *session, const struct imap_answer *answer);
enum imap_step imap_session_ok(struct imap_session *session);
/* Sends what was written, closes the writer, then OK; or NO, when memory was short. */
enum imap_step imap_session_ok_with(struct imap_session *session, struct imap_writer *writer);
/* code: NULL: none. */
enum imap_step imap_session_no(struct imap_session *session, const char *code, const char *text);
enum imap_step imap_session_bad(struct imap_session *session, const char *text);
/* NO for what the store has said. */
enum imap_step imap_session_refuse(struct imap_session *session, int status);
/* The answer for what the store has said; static text. */
struct imap_answer imap_session_answer_of(int status);
/* The task of the command under way: zeroed. NULL: NO was answered. */
void *imap_session_task(struct imap_session *session, size_t bytes,
                        enum imap_step (*step)(struct imap_session *, struct imap_task *));
/* One step of it, when the output has room for what it says. */
void imap_session_begin(struct imap_session *session);
/* The command under way is given up. */
void imap_task_end(struct imap_session *session);

/* ---- imap_command.c ---- */
/* Does the command, or begins it. */
void imap_command_run(struct imap_session *session, const struct imap_event *event);
extern const uint64_t imap_session_capabilities;

/* ---- imap_login.c ---- */
void imap_login_begin(struct imap_session *session, const struct imap_event *event);
void imap_login_answer(struct imap_session *session, struct slice response);
void imap_login_cancelled(struct imap_session *session);
/* It is on the shard of its user. */
void imap_login_arrived(struct imap_session *session, const char *user);
/* What the machine is to announce and allow, for the stream as it is now. */
void imap_login_settings(struct imap_session *session);

/* ---- imap_operator.c ---- */
/* Greets, when there is an INBOX to speak of. */
void imap_operator_begin(struct imap_session *session, bool make_inbox);

/* ---- imap_agent.c: a session of the user's own on another shard ---- */
/* As it comes there; for imap_serve, which is in imap_session.c. */
struct imap_serving {
    struct stream *stream;       /* given */
    struct mailstore_user *user; /* open in mailbox->texts, and given */
    uint8_t enabled;             /* enum imap_enabled, by the client */
    bool guest, watches;
    const char *carriage; /* NULL: it has none */
};
void imap_serve(struct mailbox *mailbox, const struct imap_serving *with);

/* On this shard it sees what the session does, on others what is shared with its user. NULL: memory is short. What the client
 * has enabled is enabled. imap_session_later when there is something to hear or room. */
struct imap_agent *imap_agent_new(struct imap_session *session, unsigned shard);
/* One that puts into a carriage of this name, which comes to be, what it is told to APPEND to a mailbox. */
struct imap_agent *imap_agent_new_carrying(struct imap_session *session, unsigned shard,
                                           const char *carriage);
/* One that watches for NOTIFY on another shard: names are UTF-8, and what it tells is of imap_notify_feed.c. */
struct imap_agent *imap_agent_new_watcher(struct imap_session *session, unsigned shard);
void imap_agent_end(struct imap_agent *agent); /* whatever is under way; or NULL */
unsigned imap_agent_shard(const struct imap_agent *agent);
void imap_agent_say(struct imap_agent *agent, struct slice bytes);
void imap_agent_say_text(struct imap_agent *agent, const char *text);
/* Whole lines with literals in them, which it does not ask for. */
void imap_agent_say_command(struct imap_agent *agent, struct slice text);
/* The same of one whose answer nobody waits for. */
void imap_agent_say_untold(struct imap_agent *agent, struct slice text);
/* Say no more of a message now. */
bool imap_agent_is_full(struct imap_agent *agent);
/* The client has enabled CONDSTORE since by a command: by the one that is said next, or another. */
void imap_agent_catch_up(struct imap_agent *agent, bool by_command);
/* Nothing more is said to it; it is as if it had ended. */
void imap_agent_break(struct imap_agent *agent);
bool imap_agent_is_over(const struct imap_agent *agent); /* it hears nothing any more */
/* What is made of a client's command may be longer than that. */
#define IMAP_AGENT_COMMAND_BYTES_MORE 1024u

enum imap_heard {
    IMAP_HEARD_NOTHING,  /* until more comes */
    IMAP_HEARD_PART,     /* of an untagged response, as the client would see it */
    IMAP_HEARD_CONTINUE, /* "+" */
    IMAP_HEARD_ANSWER,   /* a tagged line: imap_agent_answer */
    IMAP_HEARD_BYE,      /* a line: it ends */
    IMAP_HEARD_END,      /* it has ended */
};
/* *bytes: until the next call. */
enum imap_heard imap_agent_hear(struct imap_agent *agent, struct slice *bytes);
/* No response is begun and not yet whole. */
bool imap_agent_is_between(const struct imap_agent *agent);
bool imap_agent_told_literal(const struct imap_agent *agent); /* that part was of a literal */
/* The last bytes of the line of a response, of which that part was one; nothing in a literal. */
struct slice imap_agent_line_tail(const struct imap_agent *agent);
/* Of a tagged line, or of BYE; it lies there. */
struct imap_answer imap_agent_answer(struct slice line);

/* ---- imap_abroad.c: commands that are done on another shard ---- */
/* The shard of the mailbox's owner. -1: it is here, or nowhere. */
int imap_abroad_shard(const struct imap_session *session, struct slice name);
/* False: it is to be done here. */
bool imap_abroad_run(struct imap_session *session, const struct imap_event *event);
/* The client has ended IDLE. False: nothing is to be waited for. */
bool imap_abroad_idle_done(struct imap_session *session);
/* COPY or MOVE, which is allowed, from what is selected here to the shard of another user, in imap_abroad_copy.c. */
void imap_abroad_copy_from_here(struct imap_session *session, const struct imap_command *command,
                                unsigned shard);
/* APPEND, in imap_abroad_append.c. False: the message is for this shard; else it was taken or refused, or will be, in state
 * WORKING. Then the others, which are as those of imap_append.c. */
bool imap_abroad_append(struct imap_session *session, const struct imap_append *append);
bool imap_abroad_appends(const struct imap_session *session);
bool imap_abroad_append_bytes(struct imap_session *session, struct slice bytes);
void imap_abroad_append_held(struct imap_session *session, size_t used);
size_t imap_abroad_append_resume(struct imap_session *session);
bool imap_abroad_replaces(const struct imap_session *session);
/* Of REPLACE: who has the mailbox selected looks for it. */
void imap_abroad_append_url(struct imap_session *session, struct slice url);
/* As imap_append_url, in imap_abroad_url.c. False: all of it is here. */
bool imap_abroad_url(struct imap_session *session, struct slice url);
void imap_abroad_append_message_end(struct imap_session *session);
void imap_abroad_append_end(struct imap_session *session); /* harmless without */
/* No command is under way, or IDLE: what happens in the mailbox that is selected on another shard. */
void imap_abroad_tell(struct imap_session *session);
/* A response of what is selected there has begun, and not ended: nothing else may be said. */
bool imap_abroad_is_midway(const struct imap_session *session);
bool imap_abroad_is_selected(const struct imap_session *session);
/* Is it this mailbox, of this shard, which is called so now? */
bool imap_abroad_has_selected(struct imap_session *session, unsigned shard, uint64_t box,
                              struct slice name);
/* NOTIFY is over, and not by a command: who has the selected mailbox hears of it as soon as may be. */
void imap_abroad_silence(struct imap_session *session);
/* Harmless without. */
void imap_abroad_deselect(struct imap_session *session);
void imap_abroad_end(struct imap_session *session);

/* ---- imap_access.c: which mailbox a name means, and what the user may do with it (RFC 4314) ---- */
enum imap_right {
    IMAP_RIGHT_LOOKUP = 1 << 0,      /* l */
    IMAP_RIGHT_READ = 1 << 1,        /* r */
    IMAP_RIGHT_WRITE = 1 << 2,       /* w: flags but those two: */
    IMAP_RIGHT_SEEN = 1 << 3,        /* s */
    IMAP_RIGHT_DELETED = 1 << 4,     /* t */
    IMAP_RIGHT_INSERT = 1 << 5,      /* i */
    IMAP_RIGHT_POST = 1 << 6,        /* p */
    IMAP_RIGHT_EXPUNGE = 1 << 7,     /* e */
    IMAP_RIGHT_CREATE = 1 << 8,      /* k */
    IMAP_RIGHT_DELETE = 1 << 9,      /* x */
    IMAP_RIGHT_ADMINISTER = 1 << 10, /* a */
};
#define IMAP_RIGHTS_ALL ((1u << 11) - 1)
#define IMAP_RIGHTS_OWNER (IMAP_RIGHT_LOOKUP | IMAP_RIGHT_ADMINISTER) /* which he cannot lose */
#define IMAP_RIGHTS_CHANGE                                                                         \
    (IMAP_RIGHT_WRITE | IMAP_RIGHT_SEEN | IMAP_RIGHT_DELETED | IMAP_RIGHT_INSERT |                 \
     IMAP_RIGHT_EXPUNGE)
#define IMAP_RIGHTS_BYTES 16u
#define IMAP_ANYONE "anyone"
/* Of a letter, "c" and "d" too; 0: none is called so. */
uint32_t imap_right_of(uint8_t letter);
/* Of a value as it is kept. */
uint32_t imap_rights_read(struct slice value);
/* "lrs", as it is kept; and with the "c" and "d" of RFC 2086, as clients are told. */
struct slice imap_rights_text(uint32_t rights, char text[IMAP_RIGHTS_BYTES]);
struct slice imap_rights_text_told(uint32_t rights, char text[IMAP_RIGHTS_BYTES]);
uint32_t imap_rights_of(const struct imap_session *session, struct mailstore_box *box);
/* The same for who has no session here. */
uint32_t imap_rights_of_user(struct mailstore *store, struct slice user, struct mailstore_box *box);
/* MAILSTORE_SEEN, ... that may be set and cleared with these; keywords go with MAILSTORE_FLAGGED. */
uint8_t imap_flags_allowed(uint32_t rights);

/* Of the selected mailbox: session->rights are these. */
void imap_access_begin(struct imap_session *session, uint32_t rights);
/* Has somebody changed them? */
bool imap_access_is_stale(const struct imap_session *session);
/* Looks what session->rights are now. True: it may not be read any more. */
bool imap_access_lost(struct imap_session *session);

struct imap_place {
    struct mailstore_user
        *owner;                /* open until imap_place_leave; NULL: there can be no such mailbox */
    struct mailstore_box *box; /* NULL: there is none */
    struct slice name;         /* among the owner's; of the name that was given */
    uint32_t rights;           /* of the box */
};
/* Whose mailbox a name means, and what it is called among his, on whatever shard he is. False: there can be none. */
bool imap_place_names(const struct imap_session *session, struct slice name, struct slice *owner,
                      struct slice *mailbox);
/* 0, -ENOMEM, -EIO. */
int imap_place_find(struct imap_session *session, struct slice name, struct imap_place *place);
/* 0; -EACCES; -ENOENT: there is none, or none that he may know of. */
int imap_place_need(const struct imap_place *place, uint32_t rights);
/* Both. Not 0: it is left. */
int imap_place_find_with(struct imap_session *session, struct slice name, uint32_t rights,
                         struct imap_place *place);
/* 0; -EACCES. */
int imap_place_may_create(struct imap_session *session, const struct imap_place *place);
void imap_place_leave(struct imap_session *session, struct imap_place *place); /* harmless twice */

/* The first level of others' mailboxes; empty: they are not shown. */
struct slice imap_shared_root(const struct imap_session *session);
/* Is it that level, or below it? */
bool imap_name_is_shared(const struct imap_session *session, struct slice name);
/* The user whose mailboxes are called so; empty: none. */
struct slice imap_shared_name_user(const struct imap_session *session, struct slice name);
/* 0, and *owner is open; -ENOENT: not one who can have shared anything. */
int imap_owner_open(struct imap_session *session, struct slice user, struct mailstore_user **owner);
#define IMAP_SHARED_NAME_BYTES (MAILSTORE_NAME_BYTES_MAX + USER_NAME_BYTES + 256u)
/* What the user calls it. Returns its size. */
size_t imap_box_name(const struct imap_session *session, const struct mailstore_box *box,
                     char text[IMAP_SHARED_NAME_BYTES]);
void imap_box_name_write(const struct imap_session *session, struct imap_writer *writer,
                         const struct mailstore_box *box);

/* ---- imap_shared.c: the mailboxes of others that a user may look up ---- */
struct imap_shared;
/* Those that a pattern may match. 0, and *shared is owned; NULL: there are none. -ENOMEM, -EIO. */
int imap_shared_open(struct imap_session *session, const struct imap_text_list *patterns,
                     struct imap_shared **shared);
/* The names are borrowed until imap_shared_close. */
void imap_shared_each(const struct imap_shared *shared,
                      void (*visit)(void *owner, struct slice name, struct mailstore_box *box),
                      void *owner);
void imap_shared_close(struct imap_session *session, struct imap_shared *shared); /* or NULL */

/* Can a name below the shared root match one of them? */
bool imap_shared_may_match(const struct imap_session *session,
                           const struct imap_text_list *patterns);

/* ---- imap_abroad_list.c: the same of other shards ---- */
struct imap_finding;
struct imap_found {
    struct slice name; /* as that of imap_shared_each */
    size_t told_from, told_bytes;
};
/* 0: *finding is owned, NULL where nobody shares; -ENOMEM. Then imap_finding_step, as a task's: 0: all is there; 1: it is called
 * again when more has come; -ENOMEM. Of a shard that cannot be asked nothing is found, and the client is told. */
int imap_finding_open(struct imap_session *session, const struct imap_list *list,
                      struct imap_finding **finding);
int imap_finding_step(struct imap_session *session, struct imap_finding *finding);
void imap_finding_close(struct imap_finding *finding); /* or NULL */
/* The one behind, NULL: the first. NULL: there are no more. */
const struct imap_found *imap_finding_next(const struct imap_finding *finding,
                                           const struct imap_found *found);
/* The responses besides LIST that RETURN asks for. */
struct slice imap_finding_told(const struct imap_finding *finding, const struct imap_found *found);

/* ---- imap_acl.c ---- */
void imap_acl_get(struct imap_session *session, struct slice name);
void imap_acl_mine(struct imap_session *session, struct slice name);
void imap_acl_list_rights(struct imap_session *session, const struct imap_acl *acl);
/* SETACL; DELETEACL. */
void imap_acl_set(struct imap_session *session, const struct imap_acl *acl);
void imap_acl_delete(struct imap_session *session, const struct imap_acl *acl);

/* ---- imap_change.c: one change of the store, then an answer ---- */
struct imap_change {
    struct imap_task task;
    struct imap_session *session;
    struct mailstore_waiter waiter;
    bool done;
    int status;
    /* When it is done. */
    enum imap_step (*told)(struct imap_session *session, struct imap_change *change);
    void (*free)(struct imap_change *change); /* what it holds; may be NULL */
    struct mailstore_uids *uids;              /* freed with it */
    uint32_t uid_count;
    union {
        struct mailstore_flags flags;
        struct mailstore_copy copy;
        struct mailstore_expunge expunge;
        struct mailstore_create create;
    };
    struct mailstore_box *box;    /* as the command needs it */
    struct mailstore_user *owner; /* of a mailbox that it names; NULL, or open until it ends */
    bool move;
};
/* A task; NULL: answered. */
struct imap_change *imap_change_new(struct imap_session *session,
                                    enum imap_step (*told)(struct imap_session *,
                                                           struct imap_change *));
/* The place is given. */
void imap_change_hold(struct imap_session *session, struct imap_change *change,
                      struct imap_place *place);
/* The store has been asked with &change->waiter and has answered status. */
void imap_change_begin(struct imap_session *session, struct imap_change *change, int status);
void imap_change_waits(struct imap_change *change, int status);

/* ---- imap_mailboxes.c ---- */
void imap_create(struct imap_session *session, const struct imap_mailbox *mailbox);
void imap_delete(struct imap_session *session, const struct imap_mailbox *mailbox);
void imap_rename(struct imap_session *session, const struct imap_rename *rename);
void imap_subscribe(struct imap_session *session, struct slice name, bool subscribed);
void imap_status(struct imap_session *session, const struct imap_status *status);
void imap_status_write(const struct imap_session *session, struct imap_writer *writer,
                       const struct mailstore_box *box, uint32_t items);
/* The same of a mailbox that he calls so; of the box the numbers alone are looked at. */
void imap_status_write_named(const struct imap_session *session, struct imap_writer *writer,
                             struct slice name, const struct mailstore_box *box, uint32_t items);
/* "MESSAGES", of one bit; NULL: there is none. */
const char *imap_status_word(uint32_t item);
/* In the form that the client is to see. */
void imap_name_write(const struct imap_session *session, struct imap_writer *writer,
                     struct slice name);
void imap_namespace(struct imap_session *session);
void imap_quota_root(struct imap_session *session, struct slice mailbox);
void imap_quota_get(struct imap_session *session, struct slice root);

/* ---- imap_list.c ---- */
void imap_list(struct imap_session *session, const struct imap_list *list, bool lsub);
/* "\Sent", ... of one bit. */
struct slice imap_special_use_word(uint32_t use);
struct imap_list_name {
    struct slice text;
    struct mailstore_box *box; /* NULL: there is none, on this shard */
    bool is_abroad;            /* there is one on another */
    bool subscribed;
    bool has_children;
};
/* "\\HasNoChildren \\Subscribed", as LIST-EXTENDED tells them. */
void imap_list_attributes_write(const struct imap_session *session, struct imap_writer *writer,
                                const struct imap_list_name *name);

/* ---- imap_metadata.c ---- */
#define IMAP_METADATA_SPECIAL_USE "/private/specialuse" /* RFC 6154 §4 */
/* The entry that a property is, if it is one that the user may know of: a part of its key. */
bool imap_metadata_entry(const struct imap_session *session, struct slice key, struct slice *entry);
void imap_metadata_get(struct imap_session *session, const struct imap_metadata *metadata);
void imap_metadata_set(struct imap_session *session, const struct imap_metadata *metadata);
/* May entries be read and set with these, private ones and shared ones? (RFC 5464 §3.3) */
bool imap_metadata_allowed(uint32_t rights);
/* False: a name that no entry can have, and BAD was answered. */
bool imap_metadata_check(struct imap_session *session, const struct imap_text_list *entries);
/* A METADATA response of these entries, which were checked. False: the store has failed. */
bool imap_metadata_write(struct imap_session *session, struct imap_writer *writer,
                         struct mailstore_box *box, const struct imap_text_list *entries);

/* ---- imap_select.c ---- */
void imap_select(struct imap_session *session, const struct imap_select *select, bool read_only);
void imap_close(struct imap_session *session);
void imap_unselect(struct imap_session *session);
/* Leaves the selected mailbox. */
void imap_deselect(struct imap_session *session);

/* ---- imap_sync.c ---- */
/* Tells the client what has happened in the mailbox. Numbers may move only where may_expunge says so. */
void imap_sync(struct imap_session *session, bool may_expunge);
/* "* n FETCH (UID u FLAGS (...) MODSEQ (m))" */
void imap_sync_flags(struct imap_session *session, struct imap_writer *writer, uint32_t number,
                     const struct mailstore_entry *entry, bool uid, bool flags);
/* "(\Seen $Forwarded)" */
void imap_flags_write(struct imap_writer *writer, const struct mailstore_box *box,
                      const struct mailstore_entry *entry);
/* "* FLAGS (...)", and with permanent also "* OK [PERMANENTFLAGS (...)]". */
void imap_flags_of_box(struct imap_session *session, struct imap_writer *writer, bool permanent);
/* "* VANISHED (EARLIER) 1:3" of what is gone since a modseq, of known uids. */
void imap_vanished_write(struct imap_session *session, uint64_t since,
                         const struct imap_set *known);

/* ---- imap_uids.c: which messages a set names ---- */
struct imap_messages {
    struct imap_set set;
    bool by_uid;
    struct imap_set_walk walk;
    uint32_t number, last; /* of the range under way: what is next */
    uint32_t skip, left;   /* PARTIAL: how many are passed over, and how many come then */
};
/* False: it names numbers that the session does not know, and BAD was answered. */
bool imap_messages_open(struct imap_session *session, struct imap_messages *messages,
                        const struct imap_set *set, bool by_uid);
/* Only those (RFC 9394). Before the first is taken; not for imap_messages_uids. */
void imap_messages_partial(const struct imap_session *session, struct imap_messages *messages,
                           const struct imap_partial *partial);
/* Which of `count` they are: *first is the index of the first, returns how many. */
uint32_t imap_partial_of(const struct imap_partial *partial, uint32_t count, uint32_t *first);
/* The next sequence number; 0: there are no more. */
uint32_t imap_messages_next(const struct imap_session *session, struct imap_messages *messages);
/* All of them as ranges of uids, of the heap. 0 or -ENOMEM. *uids is NULL when there are none. */
int imap_messages_uids(const struct imap_session *session, struct imap_messages *messages,
                       struct mailstore_uids **uids, uint32_t *count);

/* ---- imap_store.c ---- */
/* Of the answer to a MOVE to INBOX of an agent that has none: which mailbox it has selected; ids of its user and of it. */
#define IMAP_SELECTED_CODE "TUBEPOST-SELECTED"
void imap_store(struct imap_session *session, const struct imap_command *command);
void imap_copy(struct imap_session *session, const struct imap_command *command, bool move);
void imap_expunge(struct imap_session *session, const struct imap_command *command);
uint8_t imap_flags_of(uint32_t system);

/* ---- imap_text.c: reads a text from the store, for a task that waits ---- */
struct imap_text {
    struct imap_session *session;
    struct mailstore_text text;
    struct mailstore_fetch fetch;
    bool waits;
    bool failed; /* -EIO once: it is not asked for again */
};
/* 0, -ENOENT: it has been expunged for good, -ENOMEM. One is open at a time. */
int imap_text_open(struct imap_text *text, struct imap_session *session, uint64_t id);
void imap_text_close(struct imap_text *text); /* harmless when it is not open */
/* Bytes from offset on, as many as lie together; none behind the end. The owner is taken for the caller. 0; else return
 * imap_text_step(status) from the task's step, and ask again in the next. */
int imap_text_read(struct imap_text *text, uint32_t offset, struct slice *bytes,
                   struct ref **owner);
static inline enum imap_step imap_text_step(int status)
{
    return status == -EINPROGRESS ? IMAP_STEP_WAIT : IMAP_STEP_RETRY;
}
static inline bool imap_text_must_wait(int status)
{
    return status == -EINPROGRESS || status == -EAGAIN;
}

/* ---- imap_fetch.c ---- */
void imap_fetch(struct imap_session *session, const struct imap_command *command);

/* Not of a command: nothing is answered, and nothing becomes \Seen. The command is borrowed until the task has ended. */
void imap_fetch_unasked(struct imap_session *session, const struct imap_fetch *command);
/* What such a command asks for, in the arena; peeks at it. False: it does not fit. */
bool imap_fetch_items_copy(struct arena *arena, const struct imap_fetch_item *from, uint32_t count,
                           const struct imap_fetch_item **to);
bool imap_text_list_copy(struct arena *arena, const struct imap_text_list *from,
                         struct imap_text_list *to);

/* ---- imap_notify.c ---- */
void imap_notify(struct imap_session *session, const struct imap_notify *notify);
/* Harmless when there is none. */
void imap_notify_end(struct imap_session *session);
/* What has come of other shards is taken note of. Harmless when there is none. */
void imap_notify_hear(struct imap_session *session);
/* Before the agent selects a mailbox for the session: what is to be told of it. */
void imap_notify_teach(const struct imap_session *session, struct imap_agent *agent);
/* The command has changed something on another shard, which is to be known before it is answered. False: no; else it is
 * answered later, the task is over, and the answer was copied. */
bool imap_notify_waits(struct imap_session *session, const struct imap_answer *answer);
/* What a MOVE has told before its answer: "COPYUID 7 1:3 3:5", or the end of it. Nothing: it has moved none. */
void imap_notify_moved(struct imap_session *session, struct slice code);
/* No command is under way, and the output has room: what has happened. session->notify is there. May begin a task. */
void imap_notify_tell(struct imap_session *session);
/* Does the client want to hear of flags in the selected mailbox? */
bool imap_notify_wants_flags(const struct imap_session *session);
/* Is their uid to be told with them? (RFC 5465 §5.1) */
bool imap_notify_wants_uids(const struct imap_session *session);
/* The client was told that there is this message. */
void imap_notify_new(struct imap_session *session, uint32_t uid);
void imap_notify_deselected(struct imap_session *session);
/* The client has changed names or subscriptions by this command. session->notify is there. */
void imap_notify_did(struct imap_session *session, const struct imap_command *command);
/* The client has put these uids into the mailbox. Harmless without NOTIFY. */
void imap_notify_put(struct imap_session *session, uint64_t box, uint32_t first, uint32_t last);

/* ---- imap_append.c ---- */
void imap_append_message(struct imap_session *session, const struct imap_append *append);
/* False: the store has no room now; the bytes are held, and are to be given again. */
bool imap_append_bytes(struct imap_session *session, struct slice bytes);
/* Of the message under way. At most MAILSTORE_APPEND_BYTES_MAX. 0, -EAGAIN: later, or why not. */
int imap_append_write(struct imap_session *session, struct slice bytes);
/* May so many bytes be copied into it? 0; -EFBIG: the message, or the command, would be too large; -EDQUOT. */
int imap_append_allows(struct imap_session *session, uint64_t bytes);
/* The command fails; its messages are nothing. */
void imap_append_refuse(struct imap_session *session, const struct imap_answer *answer);
struct imap_answer imap_append_answer_of(int status);
void imap_append_end(struct imap_session *session);
void imap_append_reset(struct imap_session *session);
void imap_append_commit(struct imap_session *session, const struct imap_command *command);
/* In state HELD: tries again. Returns the bytes of the stream that are done with, or 0: not yet. */
size_t imap_append_resume(struct imap_session *session);
/* The machine has used so much of the stream for what is held. */
void imap_append_held(struct imap_session *session, size_t used);

/* ---- imap_catenate.c ---- */
/* A part of the message is what this URL names. Takes or refuses it now or later, in state WORKING. */
void imap_append_url(struct imap_session *session, struct slice url);
/* NO [BADURL ...]; the task is over. */
enum imap_step imap_append_refuse_url(struct imap_session *session, struct slice text,
                                      const char *why);

/* ---- imap_search.c ---- */
void imap_search(struct imap_session *session, const struct imap_command *command);
/* For a context, not of a command: nothing is answered. False: not now. Both are borrowed until the task has ended. */
bool imap_search_again(struct imap_session *session, struct imap_context *context,
                       const struct imap_command *command);

/* ---- imap_context.c: searches that are kept up ---- */
/* They end with the mailbox. Harmless when there are none. */
void imap_contexts_end(struct imap_session *session);
void imap_context_cancel(struct imap_session *session, const struct imap_text_list *tags);
bool imap_context_is_there(const struct imap_session *session, struct slice tag);
/* What is missing in the view is about to be told: it leaves the results before. */
void imap_contexts_expunge(struct imap_session *session);
/* No command is under way, and the output has room. True: a task was begun. */
bool imap_contexts_tell(struct imap_session *session);
