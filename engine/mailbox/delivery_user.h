/*
 * delivery_user: is there such a user? The configuration says so at once; else the backends of auth are asked, on helper
 * threads, as a login would ask them.
 *
 * delivery.c asks for each recipient. A user is looked for by his name, and by his whole address, since backends may have
 * either.
 */
#pragma once
#include "engine/mailbox/mailbox_private.h"
#include "queue/mailbox/user_name.h"

enum delivery_user {
    DELIVERY_USER_THERE,
    DELIVERY_USER_ABSENT,
    DELIVERY_USER_NOT_KNOWN, /* no backend can tell now, or not without a password (ldap-bind) */
    DELIVERY_USER_ASKED,     /* told will be called */
};

struct delivery_ask;

/* user: of the address, as user_name_of_mailbox has it. With DELIVERY_USER_ASKED, *ask is there until told is called, from
 * the shard's round, or delivery_user_forget is. Both slices are borrowed for the call. */
enum delivery_user delivery_user_ask(struct mailbox *mailbox, const char *user,
                                     struct slice address,
                                     void (*told)(void *owner, enum delivery_user answer),
                                     void *owner, struct delivery_ask **ask);
/* The answer is not wanted any more. */
void delivery_user_forget(struct delivery_ask *ask);
