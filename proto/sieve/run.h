/*
 * run: a program on one message: what shall be done with it.
 *
 * Reads nothing by itself: facts of the message come through struct sieve_message, and what only a store can know is
 * asked for:
 *
 *     want = sieve_run_go(run);
 *     while (want != SIEVE_WANT_NOTHING) {     // see sieve_run_asked
 *         want = sieve_run_answer(run, yes);
 *     }
 *     result = sieve_run_result(run);
 *
 * Nothing is done before the end, so a script that fails has done nothing: its result is to keep the message.
 * Every script ends: there are no loops, and what it costs is held by a budget, in steps of about a byte looked at. A
 * budget is no clock on purpose: the same script on the same message always ends in the same way.
 *
 * Source: RFC 5228; the RFCs of the extensions are in docs/sieve.md.
 */
#pragma once
#include "proto/sieve/error.h"
#include "proto/sieve/program.h"

/* How the value of a field is wanted. */
enum sieve_field_form {
    SIEVE_FIELD_RAW,  /* as it is behind the colon, folded or not */
    SIEVE_FIELD_TEXT, /* encoded words decoded (RFC 2047), in UTF-8 */
};

struct sieve_body_part {
    struct slice type; /* "text/plain"; empty: text/plain */
    /* Decoded, text in UTF-8. Of multipart: what is before and behind its parts. Of message/rfc822: its header. */
    struct slice content;
};

/* Borrowed until the run is closed; so is what the functions give until they are called again. They may not wait. What
 * is NULL knows nothing. */
struct sieve_message {
    void *self;
    uint64_t size;
    size_t header_bytes;        /* that a look for a field goes through: it is paid for */
    struct slice envelope_from; /* empty: the null reverse-path */
    struct slice envelope_to;   /* the one this script is run for */
    /* The index-th field of that name, from 0, from the top. False: there are not so many. */
    bool (*field)(void *self, struct slice name, uint32_t index, enum sieve_field_form form,
                  struct slice *value);
    /* All of the body, undecoded; may be cut. */
    bool (*body)(void *self, struct slice *body);
    bool (*body_part)(void *self, uint32_t index, struct sieve_body_part *part);
    /* RFC 5183: "domain", "host", "location", "name", "phase", "remote-host", "remote-ip", "version", "vnd.". */
    bool (*environment)(void *self, struct slice name, struct slice *value);
};

/* Borrowed until the run is closed. */
struct sieve_settings {
    int64_t now_s;          /* the time at which it runs, since 1970 */
    int32_t zone_minutes;   /* the owner's zone, east of UTC */
    struct slice separator; /* of subaddresses (RFC 5233): "+"; empty: they have none */
    uint64_t work_max;      /* steps; 0 or more than SIEVE_WORK_MAX: so many */
    uint32_t redirects_max; /* different ones; then the script fails */
    /* Whose script it is, beside envelope_to: an answer is sent only to mail that names one of them. */
    const struct slice *addresses;
    size_t address_count;
    uint32_t vacation_default_s, vacation_min_s, vacation_max_s;
    uint32_t duplicate_default_s, duplicate_max_s;
};

enum sieve_want {
    SIEVE_WANT_NOTHING,   /* it has ended */
    SIEVE_WANT_MAILBOX,   /* is there a mailbox `name` that mail can be filed into? (RFC 5490) */
    SIEVE_WANT_DUPLICATE, /* has `name` been seen, with that handle, within its time? (RFC 7352) */
};

struct sieve_asked {
    enum sieve_want want;
    struct slice name;
    struct slice handle;
    uint32_t seconds; /* after which it is forgotten */
    bool last;        /* each time it is seen the time begins anew */
};

/* ---- What shall be done ---- */

enum sieve_action_kind {
    SIEVE_ACTION_KEEP,     /* into the main mailbox; also the implicit keep */
    SIEVE_ACTION_FILEINTO, /* text: the mailbox, in UTF-8 */
    SIEVE_ACTION_REDIRECT, /* text: the address */
    SIEVE_ACTION_REJECT,   /* text: the reason, for a report of refusal (RFC 5429 §2.2) */
    SIEVE_ACTION_EREJECT, /* the same, to be refused in the protocol where that is still possible */
    SIEVE_ACTION_VACATION, /* text: the reason; see vacation */
};

/* An answer that may be sent: all checks but one are done: whether the sender had one within `seconds` from the same
 * handle (RFC 5230 §4.2). It goes to `to`, with a null reverse-path and Auto-Submitted: auto-replied. */
struct sieve_vacation {
    struct slice to;
    struct slice from; /* a mailbox as From: has it; empty: the owner's usual one */
    struct slice subject;
    struct slice handle; /* never empty: without :handle it is made from what is said */
    uint32_t seconds;    /* 0: always */
    bool mime;           /* the text is a MIME entity, with its header */
};

struct sieve_action {
    enum sieve_action_kind kind;
    struct slice text;
    struct slice flags;  /* of KEEP and FILEINTO: "\\Seen $label", one blank between */
    bool create;         /* FILEINTO: the mailbox may be made */
    uint32_t edit_count; /* it is done with the message as the first so many edits have made it */
    struct sieve_vacation vacation;
};

/* Header edits (RFC 5293), in their order, each on what those before it have left. */
struct sieve_edit {
    enum { SIEVE_EDIT_ADD, SIEVE_EDIT_DELETE } kind;
    struct slice name;
    struct slice value; /* ADD: UTF-8, one line, to be encoded and folded */
    bool last;          /* ADD: behind all fields; else before them */
    uint32_t index;     /* DELETE: the index-th of the name, from 0 */
};

/* What is now seen, to be remembered when the actions are done (RFC 7352 §3). */
struct sieve_seen {
    struct slice name, handle;
    uint32_t seconds;
};

/* Why a vacation did not become an action. */
enum sieve_no_answer {
    SIEVE_ANSWERED,         /* it did, or there was none */
    SIEVE_NO_ANSWER_SENDER, /* null, or an address of a program or list (RFC 5230 §4.6) */
    SIEVE_NO_ANSWER_SELF,
    SIEVE_NO_ANSWER_LIST,      /* List-* or Precedence: */
    SIEVE_NO_ANSWER_AUTOMATIC, /* Auto-Submitted: (RFC 3834 §5) */
    SIEVE_NO_ANSWER_RECIPIENT, /* no address of the owner's in To:, Cc: and the like (RFC 5230 §4.5) */
};

struct sieve_result {
    bool failed; /* error says why; the one action is KEEP */
    struct sieve_error error;
    const struct sieve_action *actions;
    uint32_t action_count; /* 0: the message is thrown away */
    const struct sieve_edit *edits;
    uint32_t edit_count;
    const struct sieve_seen *seen;
    uint32_t seen_count;
    enum sieve_no_answer no_answer;
    uint64_t work; /* what it has cost */
};

struct sieve_run;

/* NULL: no memory. All three are borrowed until it is closed. */
struct sieve_run *sieve_run_open(const struct sieve_program *program,
                                 const struct sieve_message *message,
                                 const struct sieve_settings *settings);
void sieve_run_close(struct sieve_run *run); /* NULL is fine */
enum sieve_want sieve_run_go(struct sieve_run *run);
enum sieve_want sieve_run_answer(struct sieve_run *run, bool yes);
const struct sieve_asked *sieve_run_asked(const struct sieve_run *run);
/* After SIEVE_WANT_NOTHING; valid until it is closed. */
const struct sieve_result *sieve_run_result(const struct sieve_run *run);
