/*
 * mailbox_control_private: what the parts of mailbox_control share. Nobody else includes it.
 *
 * mailbox_control.c         the socket, who answers what
 * mailbox_control_job.c     to the other shards and back
 * mailbox_control_imap.c    imap
 * mailbox_control_who.c     who, kick
 * mailbox_control_users.c   users
 * mailbox_control_kept.c    quota, kept, undelete
 * mailbox_control_check.c   check, rebuild
 * mailbox_control_status.c  status
 */
#pragma once
#include "engine/control/control.h"
#include "engine/mailbox/mailbox_control.h"
#include "engine/mailbox/session.h"
#include "queue/mailbox/mailstore.h"

#define ORDER_UIDS_BYTES 2048u

/* One a shard; that of shard 0 has the socket. */
struct mailbox_control {
    struct mailbox *mailbox;
    struct control *control;                    /* NULL: another shard's */
    struct shard *shards[CONF_SHARDS_MAX];      /* of the group, which outlive its members */
    struct crossing *passages[CONF_SHARDS_MAX]; /* the same; NULL: there is one shard */
    struct mailbox_door door;                   /* of IMAP sessions for the operator */
    uint64_t opened_ns;
    bool closing; /* nothing is begun any more */
    struct timer kick_timer;
    uint64_t kick_until_ns;   /* who is kicked on another shard may come from there until then */
    struct timer check_timer; /* while some are checked: of shard 0 */
    struct list_node jobs;    /* of shard 0: those that have not come back */
    struct list_node undeletes, looks; /* under way here */
};

/* The words of a request. */
struct mailbox_order {
    char user[256]; /* "": not given; so with all */
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1];
    char uids[ORDER_UIDS_BYTES];
    char after[USER_NAME_BYTES]; /* users: its cursor */
    bool has_network, has_session, has_since, create;
    struct network_prefix network;
    uint64_t session, since_s, cursor;
};

/* ---- To the other shards and back: mailbox_control_job.c ---- */

/*
 *   request ──► job ── there() on the first shard ── there() on the next ... ──► back() on shard 0 ──► answer
 *
 * Shards do not look into each other's memory: the request stays on shard 0, and the job takes along what is asked and
 * brings what is told. Who has it, has all of it but what is home's. A job that nobody waits for any more, or that is
 * dropped on its way, frees itself.
 */
struct mailbox_job {
    struct crossing_note note; /* first */
    /* home's own */
    struct list_node node;           /* in control->jobs */
    struct mailbox_control *control; /* NULL: it has closed, and the request was answered */
    struct control_request *request;
    /* travels */
    struct shard *shards[CONF_SHARDS_MAX];
    struct mailbox_group *group;
    unsigned at, last; /* shards */
    /* Ends with job_go_on, now or later. */
    void (*there)(struct mailbox_job *job, struct mailbox *mailbox);
    /* At home, unless it was refused: makes lines of what was brought; NULL: they are there. It may take the request
     * away (job->request = NULL). */
    void (*back)(struct mailbox_job *job);
    struct mailbox_order order;
    char name[USER_NAME_BYTES]; /* the user's, of a visit */
    json_t *sum;                /* an object, or NULL */
    json_t *lines;              /* an array, or NULL */
    json_t *next;               /* the end's "next", or NULL */
    bool failed;                /* memory was short */
    const char *code;           /* of a refusal; static text; NULL: none */
    char text[128];
};

/* A job of this size, which begins with struct mailbox_job. NULL: the request was answered. */
struct mailbox_job *job_new(struct mailbox_control *control, struct control_request *request,
                            const struct mailbox_order *order, size_t size);
void job_tour(struct mailbox_job *job); /* all shards, one after the other */
/* The shard of the user that the order names; the job has gone either way. */
void job_visit(struct mailbox_job *job);
void job_go_on(struct mailbox_job *job);
/* What is answered instead; job_go_on follows. code: static text. */
void job_refuse(struct mailbox_job *job, const char *code, const char *text);
void job_line(struct mailbox_job *job, json_t *line); /* given; NULL: memory was short */
/* There: the user's mailboxes; false: it was refused. */
bool job_user(struct mailbox_job *job, struct mailbox *mailbox, struct mailstore_user **user);
/* All that have not come back are answered that they have failed. */
void jobs_end(struct mailbox_control *control);

/* ---- The answers ---- */

void imap_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order);

void who_ask(struct mailbox_control *control, struct control_request *request,
             const struct mailbox_order *order);
void kick_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order);
void kick_tick(struct timer *timer, uint64_t now_ns);

void users_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order);

void quota_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order);
void kept_ask(struct mailbox_control *control, struct control_request *request,
              const struct mailbox_order *order);
void undelete_ask(struct mailbox_control *control, struct control_request *request,
                  const struct mailbox_order *order);
void kept_end(struct mailbox_control *control); /* what is under way here, at once: it has failed */

void check_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order);
void check_tick(struct timer *timer, uint64_t now_ns);
void check_end(struct mailbox_control *control); /* of this shard, at once: it has failed */

void status_ask(struct mailbox_control *control, struct control_request *request);
