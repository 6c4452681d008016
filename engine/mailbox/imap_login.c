/* LOGIN and AUTHENTICATE by the login desk, and what of them is announced. */
#include "engine/mailbox/imap_session.h"
#include "engine/core/limits.h"

#define LOGIN_NS (60ull * 1000000000ull)
#define AGENT_IDLE_NS (1ull << 62)           /* it is not for it to say when its session ends */
#define IDLE_NS (30ull * 60 * 1000000000ull) /* RFC 9051 §5.4: at least 30 minutes */

static struct login_facts facts_of(const struct imap_session *session)
{
    return (struct login_facts){.stream = &session->facts, .service = "imap"};
}

void imap_login_settings(struct imap_session *session)
{
    const struct mailbox *mailbox = session->session.mailbox;
    const struct login_facts facts = facts_of(session);
    bool may_secure = mailbox->tls_server != NULL && session->door->tls != CONF_TLS_OFF &&
                      session->door->tls != CONF_TLS_IMPLICIT;
    /* Without a desk there are the operator's sessions only. */
    size_t size = mailbox->logins == NULL
                      ? 0
                      : login_mechanisms(mailbox->logins, &facts, session->mechanisms,
                                         sizeof(session->mechanisms));
    struct slice mechanisms = slice_of(session->mechanisms, size);
    bool secured = session->facts.tls != NULL;
    session->settings = (struct imap_server_settings){
        .hostname = slice_text(mailbox->conf->hostname),
        .capabilities = imap_session_capabilities,
        /* Of those that ask for encryption it is told why they are refused. */
        .mechanisms = secured ? mechanisms : slice_text("PLAIN LOGIN"),
        .mechanisms_clear = secured ? slice_of(NULL, 0) : mechanisms,
        .starttls = may_secure,
        .login_in_clear = mailbox->logins != NULL && login_in_clear(mailbox->logins, &facts),
        .append_bytes_max = mailbox->conf->limits.message_bytes,
        .errors_max = mailbox->conf->limits.errors > 0 ? mailbox->conf->limits.errors : 1,
        .login_ns = LOGIN_NS,
        .idle_ns = IDLE_NS,
    };
    if (session->session.of_service) {
        session->settings.errors_max = UINT32_MAX;
        session->settings.command_bytes_more = IMAP_AGENT_COMMAND_BYTES_MORE;
        session->settings.idle_ns = AGENT_IDLE_NS;
    }
    if (session->carriage !=
        NULL) { /* what lies in a mailbox may be larger than what may come in */
        session->settings.append_bytes_max = UINT64_MAX;
    }
}

static void user_leave(struct imap_session *session)
{
    mailstore_user_close(imap_session_store(session), session->user);
    session->user = NULL;
    session_exit(&session->session);
}

/* His mailboxes are loaded. */
static int user_enter(struct imap_session *session, const char *name)
{
    int status = session_enter(&session->session, name);
    if (status < 0) {
        return status;
    }
    status = mailstore_user_open(imap_session_store(session), slice_text(name), &session->user);
    if (status < 0) {
        session->user = NULL;
        session_exit(&session->session);
    }
    return status;
}

/* There is an INBOX, or is not: the client cannot make one. */
static enum imap_step inbox_made(struct imap_session *session, struct imap_change *change)
{
    (void)
        change; /* another session may have been faster; and without one there is still the rest */
    return imap_session_ok(session);
}

/* He is in. Whoever has never had mail has no INBOX yet, and that must not show (RFC 9051 §5.1). */
static void entered(struct imap_session *session)
{
    if (mailstore_box_find(session->user, slice_text("INBOX")) != NULL) {
        imap_session_ok(session);
        return;
    }
    struct imap_change *change = imap_change_new(session, inbox_made);
    if (change == NULL) {
        user_leave(session); /* NO was said, and he may try again */
        return;
    }
    change->create = (struct mailstore_create){.mailbox = slice_text("INBOX")};
    int status = mailstore_box_create(imap_session_store(session), session->user, &change->create,
                                      &change->waiter);
    imap_change_begin(session, change, status);
}

static void refuse(struct imap_session *session, const char *code, const char *text)
{
    imap_session_no(session, code, text);
}

void imap_login_arrived(struct imap_session *session, const char *user)
{
    int status = user_enter(session, user);
    if (status == 0) {
        entered(session);
    } else if (status == -EUSERS) {
        refuse(session, "LIMIT", SESSION_TOO_MANY_OF_USER);
    } else {
        refuse(session, "UNAVAILABLE", "The mailboxes cannot be opened now");
    }
}

/* False: it has gone to another shard. */
static bool login_in(struct imap_session *session, const struct login_told *told)
{
    char name[USER_NAME_BYTES];
    if (user_name_of_mailbox(slice_text(told->user), name) < 0) {
        refuse(session, "UNAVAILABLE", "The mailboxes cannot be opened now");
    } else if (!session_is_abroad(&session->session, name)) {
        imap_login_arrived(session, name);
    } else {
        const char *why = imap_session_pass(session, name);
        if (why == NULL) {
            return false;
        }
        refuse(session, "UNAVAILABLE", why);
    }
    return true;
}

static void login_told(struct login *login, const struct login_told *told)
{
    struct imap_session *session = list_entry(login, struct imap_session, login);
    switch (told->news) {
    case LOGIN_CHALLENGE:
        session->state = IMAP_SESSION_READING;
        imap_server_challenge(&session->server, told->bytes);
        imap_session_output(session);
        break;
    case LOGIN_IN:
        if (!login_in(session, told)) {
            return;
        }
        break;
    case LOGIN_REFUSED:
        session_counters(&session->session)->logins_failed++;
        refuse(session, "AUTHENTICATIONFAILED", "Authentication failed");
        break;
    case LOGIN_MALFORMED:
        imap_session_bad(session, "The mechanism's rules are broken");
        break;
    case LOGIN_UNAVAILABLE:
        refuse(session, "UNAVAILABLE", "Users cannot be looked up now");
        break;
    }
    imap_session_later(session);
}

/* The desk was asked, or could not be. */
static void asked(struct imap_session *session, int status)
{
    if (status == 0) {
        session->state = IMAP_SESSION_LOGGING_IN;
    } else if (status == -EPERM) {
        refuse(session, "PRIVACYREQUIRED", "Not on this connection");
    } else if (status == -EINVAL) {
        refuse(session, "AUTHENTICATIONFAILED", "Authentication failed");
    } else {
        refuse(session, "UNAVAILABLE", "Too many at once, try again later");
    }
}

void imap_login_begin(struct imap_session *session, const struct imap_event *event)
{
    struct login_desk *desk = session->session.mailbox->logins;
    const struct imap_command *command = event->command;
    const struct login_facts facts = facts_of(session);
    session->login.told = login_told;
    if (desk == NULL) {
        asked(session, -EPERM);
    } else if (command->kind == IMAP_LOGIN) {
        asked(session, login_password(desk, &session->login, &facts, command->login.user,
                                      command->login.password));
    } else {
        asked(session, login_begin(desk, &session->login, &facts, command->authenticate.mechanism,
                                   event->initial_given ? &event->bytes : NULL));
    }
}

void imap_login_answer(struct imap_session *session, struct slice response)
{
    asked(session, login_answer(&session->login, response));
}

void imap_login_cancelled(struct imap_session *session)
{
    login_cancel(&session->login);
}
