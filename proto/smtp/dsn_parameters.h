/*
 * dsn_parameters: what a sender asks of reports, as MAIL and RCPT carry it: RET, ENVID, NOTIFY, ORCPT.
 *
 * ENVID and ORCPT are kept as they came, in xtext, so that they go on unchanged; only a report decodes them.
 *
 * Source: RFC 3461 §4; RFC 6533 §3 for ORCPT=utf-8.
 */
#pragma once
#include "engine/core/slice.h"

#define SMTP_ENVID_BYTES_MAX 100 /* §4.4 */
#define SMTP_ORCPT_BYTES_MAX 500 /* §4.2 */

/* §4.3. */
enum smtp_ret { SMTP_RET_NONE, SMTP_RET_FULL, SMTP_RET_HDRS };
/* §4.1: NEVER alone, or any of the others. 0: the sender did not say. */
enum smtp_notify {
    SMTP_NOTIFY_NEVER = 1,
    SMTP_NOTIFY_SUCCESS = 2,
    SMTP_NOTIFY_FAILURE = 4,
    SMTP_NOTIFY_DELAY = 8
};

/* Values as they stand behind '='. False: they are not what the RFC allows. */
bool smtp_ret_parse(struct slice value, uint8_t *ret);
bool smtp_notify_parse(struct slice value, uint8_t *notify);
bool smtp_envid_valid(struct slice value);
/* utf8: the transaction is one of SMTPUTF8, so the address of type utf-8 may hold it as it is. */
bool smtp_orcpt_valid(struct slice value, bool utf8);

/* "NEVER", or the others with commas; static. */
const char *smtp_notify_text(uint8_t notify);

/* ORCPT of a mailbox, "rfc822;..." or, where it is not ASCII, "utf-8;..." in ASCII: its size; 0: it cannot be said. */
size_t smtp_orcpt_make(struct slice mailbox, char orcpt[SMTP_ORCPT_BYTES_MAX]);

/* "type;xtext" apart. The value must be valid. */
void smtp_orcpt_split(struct slice value, struct slice *type, struct slice *xtext);

/* Decodes; in place is fine. At most text.size bytes. -1: it is no xtext. */
int smtp_xtext_decode(struct slice text, uint8_t *bytes);
/* Returns how many bytes it takes; writes them when they fit in `room`, else nothing. */
size_t smtp_xtext_encode(struct slice bytes, char *text, size_t room);
