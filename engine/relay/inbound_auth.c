/* AUTH: who the client is, as the login desk finds out; and what he may do then. */
#include "engine/auth/login.h"
#include "engine/relay/inbound_private.h"
#include <stdio.h>
#include <stdlib.h>

struct inbound_auth {
    struct login login;
    struct inbound *in;
    char *room; /* for a line that is longer than a command; owned */
    char mechanisms[LOGIN_MECHANISMS_BYTES_MAX];
    char user[BACKEND_NAME_MAX + 1]; /* who has logged in; "": nobody yet */
};

static const struct smtp_verdict verdicts[] = {
    [LOGIN_IN] = {235, "2.7.0", {(const uint8_t *)"Authentication successful", 25}},
    [LOGIN_REFUSED] = {535, "5.7.8", {(const uint8_t *)"Authentication failed", 21}},
    [LOGIN_MALFORMED] = {501, "5.5.2", {(const uint8_t *)"Not as the mechanism has it", 27}},
    [LOGIN_UNAVAILABLE] = {454, "4.7.0", {(const uint8_t *)"Temporary authentication failure", 32}},
};

static struct login_facts facts_of(const struct inbound *in)
{
    return (struct login_facts){.stream = &in->facts, .service = "smtp"};
}

static void told(struct login *login, const struct login_told *news);

void inbound_auth_offer(struct inbound *in)
{
    const struct login_desk *desk = in->relay->logins;
    const struct login_facts facts = facts_of(in);
    struct slice mechanisms = slice_of(NULL, 0);
    if (in->at->login == CONF_LOGIN_OFF || desk == NULL) {
        return;
    }
    if (in->auth == NULL) {
        in->auth = calloc(1, sizeof(*in->auth));
    }
    if (in->auth != NULL) {
        in->auth->in = in;
        in->auth->login.told = told;
        mechanisms =
            slice_of(in->auth->mechanisms, login_mechanisms(desk, &facts, in->auth->mechanisms,
                                                            sizeof(in->auth->mechanisms)));
    }
    smtp_server_offer_auth(&in->server, mechanisms,
                           in->at->login == CONF_LOGIN_REQUIRED ? SMTP_AUTH_DEMANDED
                                                                : SMTP_AUTH_OFFERED);
}

static void room_free(struct inbound_auth *auth)
{
    if (auth->room != NULL) {
        explicit_bzero(auth->room, SMTP_AUTH_LINE_BYTES_MAX);
        free(auth->room);
        auth->room = NULL;
    }
}

static void verdict_give(struct inbound *in, const struct smtp_verdict *verdict)
{
    if (verdict->code >= 400) {
        in->relay->counters.refused_commands++;
    }
    smtp_server_verdict(&in->server, verdict);
    if (in->auth != NULL) {
        room_free(in->auth);
    }
}

static void let_in(struct inbound *in, const char *user)
{
    char from[ENDPOINT_TEXT_MAX];
    size_t size = endpoint_format_address(&in->facts.remote, from);
    snprintf(in->auth->user, sizeof(in->auth->user), "%s", user);
    inbound_trust(in);
    logger_line(in->relay->logger, LOGGER_INFO, "smtp: login: user=<%s>, rip=%.*s%s", user,
                (int)size, from, in->facts.tls != NULL ? ", TLS" : "");
}

static void told(struct login *login, const struct login_told *news)
{
    struct inbound_auth *auth = list_entry(login, struct inbound_auth, login);
    struct inbound *in = auth->in;
    in->state = INBOUND_READING;
    if (in->relay->draining) {
        login_cancel(login);
        inbound_verdict(in, 421, "4.3.2", "Service is ending");
    } else if (news->news != LOGIN_CHALLENGE) {
        if (news->news == LOGIN_IN) {
            let_in(in, news->user);
        }
        verdict_give(in, &verdicts[news->news]);
    } else if (!smtp_server_challenge(&in->server, news->bytes)) {
        login_cancel(login);
        verdict_give(in, &verdicts[LOGIN_UNAVAILABLE]);
    }
    inbound_run(in);
}

/* What login_begin or login_answer has said. False when the session must wait. */
static bool asked(struct inbound *in, int status, bool needs_tls)
{
    if (status == 0) {
        in->state = INBOUND_LOGIN;
        return false;
    }
    if (status == -EPERM && needs_tls) {
        inbound_verdict(in, 538, "5.7.11", "Encryption is required for this mechanism");
    } else if (status == -EPERM) {
        inbound_verdict(in, 504, "5.5.4", "Mechanism is not offered");
    } else if (status == -EINVAL) {
        inbound_verdict(in, 500, "5.5.6", "Line too long");
    } else {
        verdict_give(in, &verdicts[LOGIN_UNAVAILABLE]);
    }
    if (in->auth != NULL) {
        room_free(in->auth); /* whichever verdict it was */
    }
    return true;
}

bool inbound_auth_take(struct inbound *in, const struct smtp_event *event)
{
    struct login_desk *desk = in->relay->logins;
    const struct login_facts facts = facts_of(in);
    struct inbound_auth *auth = in->auth;
    if (event->kind == SMTP_EVENT_AUTH && auth == NULL) {
        return asked(in, -ENOMEM, false);
    }
    switch (event->kind) {
    case SMTP_EVENT_AUTH:
        return asked(in,
                     login_begin(desk, &auth->login, &facts, event->text,
                                 event->has_octets ? &event->octets : NULL),
                     login_needs_tls(desk, event->text) && in->facts.tls == NULL);
    case SMTP_EVENT_AUTH_ANSWER:
        return asked(in, login_answer(&auth->login, event->octets), false);
    case SMTP_EVENT_AUTH_ROOM:
        if (auth != NULL && auth->room == NULL) {
            auth->room = malloc(SMTP_AUTH_LINE_BYTES_MAX);
        }
        smtp_server_auth_room(&in->server, auth != NULL ? auth->room : NULL);
        return true;
    case SMTP_EVENT_AUTH_END:
        inbound_auth_cancel(in);
        return true;
    default: /* the others are inbound.c's */
        return true;
    }
}

struct slice inbound_auth_user(const struct inbound *in)
{
    return in->auth == NULL ? slice_of(NULL, 0) : slice_text(in->auth->user);
}

void inbound_auth_cancel(struct inbound *in)
{
    if (in->auth != NULL) {
        login_cancel(&in->auth->login);
        room_free(in->auth);
    }
}

void inbound_auth_close(struct inbound *in)
{
    inbound_auth_cancel(in);
    free(in->auth);
    in->auth = NULL;
}
