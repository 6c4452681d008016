/*
 * delivery_rig: LMTP into the store by way of users' scripts, with a relay that takes what they send. One at a time.
 */
#pragma once
#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/sieve_scripts.h"
#include "queue/mailbox/maildir_files.h"
#include "tests/unit/pop3_rig.h"
#include "tests/unit/relay_fake.h"

#define STORED "250 2.0.0 Ok: stored\r\n"
#define MESSAGE "Subject: =?utf-8?q?caf=C3=A9?=\r\nX-List: c\r\n\r\nbody\r\n"

extern struct pop3_rig lmtp_rig;
extern struct relay_fake lmtp_relay;
extern struct pop3_client *lmtp_client; /* the last that was made */

/* Of cmocka. */
int delivery_set_up(void **state);
/* The same on Maildirs, in a folder of its own. */
int delivery_set_up_maildirs(void **state);
int delivery_tear_down(void **state);

/* A test of what holds in both. */
#define DELIVERY_TEST(test)                                                                        \
    {#test, test, delivery_set_up, delivery_tear_down, NULL},                                      \
    {                                                                                              \
#test "_on_maildirs", test, delivery_set_up_maildirs, delivery_tear_down, NULL             \
    }

const char *lmtp_maildirs(void);        /* that folder */
struct maildir_files *lmtp_files(void); /* and what works there, to be broken */
const char *lmtp_logged(void); /* since the last time; of static memory, as all texts here */

void lmtp_property_set(const char *user, const char *key, const char *value);
void lmtp_script_set(const char *user, const char *text); /* the active one */
void lmtp_mailbox_make(const char *user, const char *mailbox);
/* "INBOX () (S) Lists/c (F label)": the mailboxes that hold something, and each message's flags. */
const char *lmtp_held(const char *user);

/* The text of the first message there. */
const char *lmtp_read(const char *user, const char *mailbox);

void lmtp_greet(void); /* a client connects */
/* recipients: "RCPT TO:<a@y>\r\n" and so on. What the end of DATA is answered. */
const char *lmtp_deliver_to(const char *recipients, const char *message);
const char *lmtp_deliver(const char *message); /* to ann@y */

uint32_t
lmtp_outgoing_left(void); /* how many letters and texts the store still has of what is sent */
/* What sends ends, and begins again, without the rest of the service. */
void lmtp_outgoing_close(void);
int lmtp_outgoing_open(void);
const char *lmtp_taken(void);    /* what the relay has taken */
void lmtp_service_crashes(void); /* and starts again */
