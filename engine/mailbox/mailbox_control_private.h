/*
 * mailbox_control_private: what the parts of mailbox_control share. Nobody else includes it.
 *
 * mailbox_control.c         the socket, who answers what; imap
 * mailbox_control_who.c     who, kick
 * mailbox_control_kept.c    quota, kept, undelete
 * mailbox_control_status.c  status
 */
#pragma once
#include "engine/control/control.h"
#include "engine/mailbox/mailbox_control.h"
#include "engine/mailbox/session.h"
#include "queue/mailbox/mailstore.h"

#define ORDER_UIDS_BYTES 2048u

struct mailbox_control {
    struct mailbox *mailbox;
    struct control *control;
    struct mailbox_door door; /* of IMAP sessions for the operator */
    uint64_t opened_ns;
    struct timer kick_timer;
    struct list_node undeletes; /* under way */
};

/* The words of a request. */
struct mailbox_order {
    char user[256]; /* "": not given; so with all */
    char mailbox[MAILSTORE_NAME_BYTES_MAX + 1];
    char uids[ORDER_UIDS_BYTES];
    bool has_network, has_session, has_since, create;
    struct network_prefix network;
    uint64_t session, since_s, cursor;
};

/* The user's mailboxes; false: the request has been answered why not. */
bool mailbox_control_user(struct mailbox_control *control, struct control_request *request,
                          const struct mailbox_order *order, struct mailstore_user **user);

void who_answer(struct mailbox_control *control, struct control_request *request,
                const struct mailbox_order *order);
void kick_answer(struct mailbox_control *control, struct control_request *request,
                 const struct mailbox_order *order);
void kick_tick(struct timer *timer, uint64_t now_ns);

void quota_answer(struct mailbox_control *control, struct control_request *request,
                  const struct mailbox_order *order);
void kept_answer(struct mailbox_control *control, struct control_request *request,
                 const struct mailbox_order *order);
void undelete_ask(struct mailbox_control *control, struct control_request *request,
                  const struct mailbox_order *order);
void undeletes_end(
    struct mailbox_control *control); /* at once: they are told that they have failed */

void mailbox_status_answer(struct mailbox_control *control, struct control_request *request);
