/*
 * user_name: from the mailbox of a recipient to the name of the user's folder, or a refusal.
 *
 * The result is one name in one folder: never empty, never beginning with a dot, without '/', '\',
 * NUL, control characters; valid UTF-8. ASCII letters are lower case. What follows a '+' is left
 * off. Nothing else is interpreted:
 * "~root", "*" and quotes are ordinary characters.
 */
#pragma once
#include "engine/core/slice.h"

#define USER_NAME_BYTES                                                                            \
    65 /* a local part is at most 64 octets (RFC 5321 §4.5.3.1.1), and a NUL                      \
        */

/* mailbox: "local", "local@domain" or with a quoted local part, without <>. 0 or -EINVAL. */
int user_name_of_mailbox(struct slice mailbox, char name[USER_NAME_BYTES]);
/* What user_name_of_mailbox leaves off: behind the first '+', in its own letters. "": there is nothing, or nothing that
 * a mailbox of the user could be called (queue/mailbox/mailstore.h). Of a mailbox that is a user's. */
void user_detail_of_mailbox(struct slice mailbox, char detail[USER_NAME_BYTES]);
