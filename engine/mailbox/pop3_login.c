/* Who a POP3 session's client is, and his maildrop: RFC 1939 §7 (USER, PASS), RFC 5034 (AUTH), RFC 2449, RFC 3206 (codes). */
#include "engine/core/check.h"
#include "engine/mailbox/pop3_private.h"

static void told(struct login *login, const struct login_told *told);

static void facts_take(const struct pop3_session *session, struct stream_facts *stream,
                       struct login_facts *facts)
{
    stream_facts(session->dialogue.stream, stream);
    *facts = (struct login_facts){.stream = stream, .service = "pop3"};
}

void pop3_login_offer(struct pop3_session *session)
{
    const struct login_desk *desk = session->dialogue.session.mailbox->logins;
    struct stream_facts stream;
    struct login_facts facts;
    facts_take(session, &stream, &facts);
    size_t size = login_mechanisms(desk, &facts, session->mechanisms, sizeof(session->mechanisms));
    session->settings.sasl_secure = slice_of(session->mechanisms, size);
    session->settings.sasl_clear =
        slice_of(session->mechanisms, session->dialogue.tls_required ? 0 : size);
    session->settings.clear_login = !session->dialogue.tls_required && login_in_clear(desk, &facts);
}

static void look_end(struct pop3_session *session)
{
    struct mailstore *store = session->dialogue.session.mailbox->texts;
    if (session->looking != NULL) {
        mailstore_waiter_cancel(store, &session->looked);
        mailstore_user_close(store, session->looking);
        session->looking = NULL;
    }
}

void pop3_login_end(struct pop3_session *session)
{
    login_cancel(&session->login);
    look_end(session);
}

/* ---- In ---- */

static void maildrop_take(struct pop3_session *session)
{
    struct mailbox *mailbox = session->dialogue.session.mailbox;
    int status = session_enter(&session->dialogue.session, session->user);
    if (status == -EUSERS) {
        pop3_session_refuse(session, "IN-USE", SESSION_TOO_MANY_OF_USER);
        return;
    }
    status = status < 0
                 ? status
                 : maildrop_open(&session->drop, mailbox->texts, slice_text(session->user),
                                 mailbox->pop3_shared ? MAILDROP_SHARED : MAILDROP_EXCLUSIVE);
    if (status == 0) {
        pop3_server_admit(&session->server, &session->drop.listed);
        return;
    }
    session_exit(&session->dialogue.session);
    if (status == -EBUSY) {
        pop3_session_refuse(session, "IN-USE", "Another session has the maildrop");
    } else {
        logger_line(mailbox->shard->logger, LOGGER_ERROR,
                    "store: the mailbox of %s cannot be read: %s", session->user,
                    strerror(-status));
        pop3_session_refuse(session, "SYS/TEMP", "The maildrop cannot be read, try again later");
    }
}

static void looked(struct mailstore_waiter *waiter, int status)
{
    struct pop3_session *session = list_entry(waiter, struct pop3_session, looked);
    (void)status; /* what was known before is there in any case */
    session->dialogue.state = POP3_SESSION_READING;
    maildrop_take(session);
    look_end(session);
    dialogue_run(&session->dialogue);
}

/* What others have put into his Maildir is in the maildrop too. */
void pop3_login_arrived(struct pop3_session *session)
{
    struct mailstore *store = session->dialogue.session.mailbox->texts;
    int status = mailstore_user_open(store, slice_text(session->user), &session->looking);
    if (status != 0) {
        session->looking = NULL;
        maildrop_take(session); /* says why */
        return;
    }
    session->looked = (struct mailstore_waiter){.done = looked};
    if (mailstore_refresh(store, session->looking, &session->looked) == 0) {
        session->dialogue.state = POP3_SESSION_LOGIN;
        return;
    }
    maildrop_take(session);
    look_end(session);
}

/* False: it has gone to another shard. */
static bool login_in(struct pop3_session *session, const struct login_told *told)
{
    if (user_name_of_mailbox(slice_text(told->user), session->user) < 0) {
        pop3_session_refuse(session, "SYS/PERM", "The name is none that can have a maildrop");
    } else if (!session_is_abroad(&session->dialogue.session, session->user)) {
        pop3_login_arrived(session);
    } else {
        const char *why = dialogue_pass(&session->dialogue, session->user);
        if (why == NULL) {
            return false;
        }
        pop3_session_refuse(session, "SYS/TEMP", why);
    }
    return true;
}

static void challenge_say(struct pop3_session *session, struct slice octets)
{
    pop3_server_challenge(&session->server, octets);
    if (session->server.state != POP3_EXCHANGE) { /* it was too long */
        pop3_login_end(session);
    }
}

static void told(struct login *login, const struct login_told *told)
{
    struct pop3_session *session = list_entry(login, struct pop3_session, login);
    check(session->dialogue.state == POP3_SESSION_LOGIN);
    session->dialogue.state = POP3_SESSION_READING;
    switch (told->news) {
    case LOGIN_CHALLENGE:
        challenge_say(session, told->bytes);
        break;
    case LOGIN_IN:
        if (!login_in(session, told)) {
            return;
        }
        break;
    case LOGIN_REFUSED:
        session_counters(&session->dialogue.session)->logins_failed++;
        pop3_session_refuse(session, "AUTH", "Wrong name or password");
        break;
    case LOGIN_MALFORMED:
        pop3_session_refuse(session, "", "The mechanism has other rules");
        break;
    case LOGIN_UNAVAILABLE:
        pop3_session_refuse(session, "SYS/TEMP", "This cannot be known now, try again later");
        break;
    }
    dialogue_run(&session->dialogue);
}

/* ---- Asking ---- */

/* too_long: what it means. */
static void asked(struct pop3_session *session, int status, const char *too_long)
{
    if (status == 0) {
        session->dialogue.state = POP3_SESSION_LOGIN;
        return;
    }
    pop3_login_end(session);
    if (status == -EPERM) {
        pop3_session_refuse(session, "", "Not here, or not without encryption");
    } else if (status == -EINVAL) {
        pop3_session_refuse(session, too_long, "Longer than any that is right");
    } else {
        pop3_session_refuse(session, "SYS/TEMP", "Too busy, try again later");
    }
}

void pop3_login_password(struct pop3_session *session, const struct pop3_event *event)
{
    struct stream_facts stream;
    struct login_facts facts;
    pop3_login_end(
        session); /* the machine says nothing of an exchange that ended by a line that was none */
    facts_take(session, &stream, &facts);
    session->login.told = told;
    asked(session,
          login_password(session->dialogue.session.mailbox->logins, &session->login, &facts,
                         event->user, event->password),
          "AUTH");
}

void pop3_login_auth(struct pop3_session *session, const struct pop3_event *event)
{
    struct stream_facts stream;
    struct login_facts facts;
    pop3_login_end(session);
    facts_take(session, &stream, &facts);
    session->login.told = told;
    asked(session,
          login_begin(session->dialogue.session.mailbox->logins, &session->login, &facts,
                      event->mechanism, event->has_octets ? &event->octets : NULL),
          "");
}

void pop3_login_answer(struct pop3_session *session, struct slice octets)
{
    asked(session, login_answer(&session->login, octets), "");
}
