/*
 * recipient: what RCPT and MAIL are answered where the operator's maps have a say: rewriting, aliases, who exists.
 *
 * A recipient is rewritten (rewrite.h). One that stands for itself is judged as without maps (recipient_judge); what a map
 * has made of one is where its owner wants it, so it needs a route and no permission, unless a pattern has made it.
 * Where transport maps name ways (transport.h), each must have one that is no refusal. Then each must be known to the
 * recipients of its route, where that names any. All are taken, or none.
 *
 * A sender who has logged in must own his reverse-path, where auth.sender_logins says whose it is; then it is rewritten.
 *
 * Lookups may have to wait: then the session does, in a state, not in a thread.
 */
#pragma once
#include "engine/relay/relay_maps.h"
#include "engine/relay/transport.h"
#include "engine/relay/transport_lookup.h"
#include "proto/smtp/server.h"
#include "queue/spool/spool.h"

struct relay;

struct recipient_job {
    void (*done)(struct recipient_job *job); /* set before it is run; which may end it */
    void *owner;                             /* whoever waits for it */
    /* The result. code 250: taken. Text and status are borrowed from the configuration or static. */
    struct smtp_verdict verdict;
    const struct slice *addresses; /* of 250; until recipient_job_end */
    uint32_t address_count;
    /* What the sender is told of the recipient itself, if he wants to know: RECIPIENT_TELL_EXPANDED, or _LISTED where it
     * is a mailing list (RFC 3461 §5.2.7.1); RECIPIENT_WAITING: nothing, the one address that it stands for speaks for
     * it. */
    enum recipient_state told;
    char reason[REWRITE_REASON_MAX]; /* for the log, when a map is to blame; "": none is */
    /* Its own. */
    struct relay *relay;
    bool trusted, is_sender;
    bool from_nobody; /* the null reverse-path */
    /* What the client wants of reports (RFC 3461), in `text`. */
    struct slice xtext; /* ENVID of a sender, ORCPT of a recipient */
    uint8_t notify;
    struct smtp_path path; /* as the client gave it, in `text` */
    uint32_t way_at;       /* the address whose way is looked up */
    uint32_t known_at;     /* the address whose existence is */
    struct slice login;    /* of a sender who has logged in; empty: he has not. In `text` */
    struct rewrite_job rewrite, known;
    struct transport_job way;   /* of a sender: who owns his reverse-path */
    struct transport transport; /* what the last way says: a refusal is borrowed from it */
    char text[];
};

/* The owner of the mailing list that an address belongs to; empty: to none. What goes to it is of its owner's sending, but
 * for reports to an owner: whoever a list of owners sends them to, they are from nobody. Otherwise an owner who leads to
 * his own list, or two who lead to each other's, would hear of the reports' failures for ever. */
struct slice recipient_owner(const struct recipient_job *job, uint32_t index);

/*
 * What an address that the recipient stands for takes over from it (RFC 3461 §5.2.7): the original address, and NOTIFY.
 * When there are several, that it was expanded is what the sender hears of success (§5.2.7.3 c), and not one report of
 * each.
 */
#define ORCPT_ROOM SMTP_ORCPT_BYTES_MAX
void recipient_inherit(const struct recipient_job *job, struct slice address,
                       char orcpt[ORCPT_ROOM], struct envelope_recipient *made);

/* Is there a map that has a say? Otherwise nobody needs a job. */
bool recipient_needs_job(const struct relay *relay, struct slice mailbox);
/* login: empty: the client has not logged in. */
bool sender_needs_job(const struct relay *relay, struct slice mailbox, struct slice login);

/* NULL: memory is short. `done` runs only when recipient_job_run says so. reverse_path: of the transaction. */
struct recipient_job *recipient_job_new(struct relay *relay, const struct smtp_event *event,
                                        bool client_trusted, struct slice reverse_path);
struct recipient_job *sender_job_new(struct relay *relay, const struct smtp_event *event,
                                     struct slice login);
/* 0: it is done, `done` does not run; -EINPROGRESS: it runs later. Once. */
int recipient_job_run(struct recipient_job *job);
/* Frees it, done or not. */
void recipient_job_end(struct recipient_job *job);
