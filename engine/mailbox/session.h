/*
 * session: what the service (mailbox.c) knows of a session, whatever it speaks. delivery.c (LMTP), imap_session.c,
 * pop3_session.c, managesieve_session.c and auth_socket.c have one each; nobody else includes it.
 *
 * A session adds itself to mailbox->sessions when its connection is accepted, and is freed by itself.
 */
#pragma once
#include "engine/mailbox/mailbox_private.h"

struct session;
struct session_ops {
    /* The service is ending: who is between commands is told so and closed; others are asked again later. */
    void (*drain)(struct session *session);
    /* Now. False: it waits for the store alone, and ends when that has answered. */
    bool (*abort)(struct session *session);
    /* The store is closed: nothing answers any more. Frees it. */
    void (*forget)(struct session *session);
};
struct session {
    struct list_node node; /* in mailbox->sessions */
    const struct session_ops *ops;
    struct mailbox *mailbox;
};

/* A configured address: what accepted() gets as its owner. Lives until mailbox_close. */
struct mailbox_door {
    struct mailbox *mailbox;
    struct listener *listener;
    uint8_t protocol; /* enum conf_protocol */
    uint8_t tls;      /* enum conf_tls: none, STARTTLS, implicit */
};

/* Of listen_request. Into either store. */
void delivery_accepted(void *door, struct listener *listener, struct stream *stream);
/* imap_session.c, pop3_session.c, managesieve_session.c: they need mailbox->texts and mailbox->logins, and are not listened
 * for without them. */
void imap_accepted(void *door, struct listener *listener, struct stream *stream);
void pop3_accepted(void *door, struct listener *listener, struct stream *stream);
void managesieve_accepted(void *door, struct listener *listener, struct stream *stream);
/* auth_socket.c: it needs mailbox->logins. */
void auth_socket_accepted(void *door, struct listener *listener, struct stream *stream);
