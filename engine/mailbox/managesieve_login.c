/* Who a ManageSieve session's client is: RFC 5804 §2.1. */
#include "engine/core/base64.h"
#include "engine/core/check.h"
#include "engine/mailbox/managesieve_session.h"

static void facts_take(const struct managesieve_session *session, struct stream_facts *stream,
                       struct login_facts *facts)
{
    stream_facts(session->dialogue.stream, stream);
    *facts = (struct login_facts){.stream = stream, .service = "sieve"};
}

void managesieve_login_offer(struct managesieve_session *session)
{
    struct stream_facts stream;
    struct login_facts facts;
    facts_take(session, &stream, &facts);
    size_t size = login_mechanisms(session->dialogue.session.mailbox->logins, &facts,
                                   session->mechanisms, sizeof session->mechanisms);
    session->settings.sasl = slice_of(session->mechanisms, size);
    session->settings.sasl_in_clear =
        slice_of(session->mechanisms, session->dialogue.tls_required ? 0 : size);
}

void managesieve_login_end(struct managesieve_session *session)
{
    login_cancel(&session->login);
    session_exit(&session->dialogue.session);
    if (session->user != NULL) {
        mailstore_user_close(session->dialogue.session.mailbox->texts, session->user);
        session->user = NULL;
        session->settings.owner = slice_of(NULL, 0);
    }
}

static void challenge_say(struct managesieve_session *session, struct slice octets)
{
    char text[MANAGESIEVE_CHALLENGE_BYTES_MAX];
    if (BASE64_BYTES(octets.size) > sizeof text) {
        login_cancel(&session->login);
        managesieve_session_refuse(session, NULL, "The mechanism has too much to say");
        return;
    }
    managesieve_server_challenge(&session->server, slice_of(text, base64_encode(octets, text)));
}

void managesieve_login_arrived(struct managesieve_session *session, const char *name)
{
    struct mailbox *mailbox = session->dialogue.session.mailbox;
    int status = session_enter(&session->dialogue.session, name);
    if (status == -EUSERS) {
        managesieve_session_refuse(session, "TRYLATER", SESSION_TOO_MANY_OF_USER);
        return;
    }
    status =
        status < 0 ? status : mailstore_user_open(mailbox->texts, slice_text(name), &session->user);
    if (status == 0) {
        session->settings.owner = slice_text(session->user->name);
        managesieve_server_verdict(&session->server, NULL);
        return;
    }
    session->user = NULL;
    session_exit(&session->dialogue.session);
    logger_line(mailbox->shard->logger, LOGGER_ERROR, "store: %s cannot be read: %s", name,
                strerror(-status));
    managesieve_session_refuse(session, "TRYLATER", "Your scripts cannot be read now");
}

/* False: it has gone to another shard. */
static bool login_in(struct managesieve_session *session, const struct login_told *told)
{
    char name[USER_NAME_BYTES];
    if (user_name_of_mailbox(slice_text(told->user), name) < 0) {
        managesieve_session_refuse(session, NULL, "The name is none that can have scripts");
    } else if (!session_is_abroad(&session->dialogue.session, name)) {
        managesieve_login_arrived(session, name);
    } else {
        const char *why = dialogue_pass(&session->dialogue, name);
        if (why == NULL) {
            return false;
        }
        managesieve_session_refuse(session, "TRYLATER", why);
    }
    return true;
}

static void told(struct login *login, const struct login_told *told)
{
    struct managesieve_session *session = list_entry(login, struct managesieve_session, login);
    check(session->dialogue.state == MANAGESIEVE_SESSION_LOGIN);
    session->dialogue.state = MANAGESIEVE_SESSION_READING;
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
        managesieve_session_refuse(session, NULL, "Wrong name or password");
        break;
    case LOGIN_MALFORMED:
        managesieve_session_refuse(session, NULL, "The mechanism has other rules");
        break;
    case LOGIN_UNAVAILABLE:
        managesieve_session_refuse(session, "TRYLATER", "This cannot be known now");
        break;
    }
    managesieve_session_output(session);
    dialogue_run(&session->dialogue);
}

static void asked(struct managesieve_session *session, int status)
{
    if (status == 0) {
        session->dialogue.state = MANAGESIEVE_SESSION_LOGIN;
        return;
    }
    login_cancel(&session->login);
    if (status == -EPERM) {
        managesieve_session_refuse(session, NULL, "Not here, or not without encryption");
    } else if (status == -EINVAL) {
        managesieve_session_refuse(session, NULL, "No base64, or longer than any that is right");
    } else {
        managesieve_session_refuse(session, "TRYLATER", "Too busy, try again later");
    }
}

void managesieve_login_begin(struct managesieve_session *session,
                             const struct managesieve_event *event)
{
    uint8_t octets[MANAGESIEVE_COMMAND_BYTES_MAX];
    struct stream_facts stream;
    struct login_facts facts;
    login_cancel(&session->login);
    session->login.told = told;
    facts_take(session, &stream, &facts);
    long size = event->has_text ? base64_decode(event->text, octets) : 0;
    if (size < 0) {
        asked(session, -EINVAL);
    } else {
        struct slice initial = slice_of(octets, (size_t)size);
        asked(session, login_begin(session->dialogue.session.mailbox->logins, &session->login,
                                   &facts, event->name, event->has_text ? &initial : NULL));
    }
    explicit_bzero(octets, sizeof octets);
}

void managesieve_login_answer(struct managesieve_session *session, struct slice response)
{
    uint8_t octets[MANAGESIEVE_COMMAND_BYTES_MAX];
    long size = base64_decode(response, octets);
    asked(session,
          size < 0 ? -EINVAL : login_answer(&session->login, slice_of(octets, (size_t)size)));
    explicit_bzero(octets, sizeof octets);
}
