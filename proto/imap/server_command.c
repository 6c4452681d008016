/* What is legal when, what the machine does itself, and what an answer means for the session. */
#include "proto/imap/server_private.h"
#include "engine/core/check.h"

enum {
    IN_NOT_AUTHENTICATED = 1 << IMAP_NOT_AUTHENTICATED,
    IN_AUTHENTICATED = 1 << IMAP_AUTHENTICATED,
    IN_SELECTED = 1 << IMAP_SELECTED,
    IN_BOTH = IN_AUTHENTICATED | IN_SELECTED, /* after login */
    IN_ALL = IN_NOT_AUTHENTICATED | IN_BOTH,
};

/* RFC 9051 §6: where a command is legal, and what must be announced for it to be known. */
static const struct {
    uint8_t states;
    uint64_t capability; /* 0: none */
} rules[IMAP_COMMAND_KINDS] = {
    [IMAP_CAPABILITY] = {IN_ALL, 0},
    [IMAP_NOOP] = {IN_ALL, 0},
    [IMAP_LOGOUT] = {IN_ALL, 0},
    [IMAP_ID] = {IN_ALL, 0},
    [IMAP_ENABLE] = {IN_AUTHENTICATED, 0},
    [IMAP_STARTTLS] = {IN_NOT_AUTHENTICATED, 0},
    [IMAP_AUTHENTICATE] = {IN_NOT_AUTHENTICATED, 0},
    [IMAP_LOGIN] = {IN_NOT_AUTHENTICATED, 0},
    [IMAP_UNAUTHENTICATE] = {IN_BOTH, IMAP_CAP_UNAUTHENTICATE},
    [IMAP_COMPRESS] = {IN_BOTH, IMAP_CAP_COMPRESS},
    [IMAP_SELECT] = {IN_BOTH, 0},
    [IMAP_EXAMINE] = {IN_BOTH, 0},
    [IMAP_CREATE] = {IN_BOTH, 0},
    [IMAP_DELETE] = {IN_BOTH, 0},
    [IMAP_RENAME] = {IN_BOTH, 0},
    [IMAP_SUBSCRIBE] = {IN_BOTH, 0},
    [IMAP_UNSUBSCRIBE] = {IN_BOTH, 0},
    [IMAP_LIST] = {IN_BOTH, 0},
    [IMAP_LSUB] = {IN_BOTH, 0},
    [IMAP_NAMESPACE] = {IN_BOTH, IMAP_CAP_NAMESPACE},
    [IMAP_STATUS] = {IN_BOTH, 0},
    [IMAP_APPEND] = {IN_BOTH, 0},
    [IMAP_REPLACE] = {IN_SELECTED, IMAP_CAP_REPLACE},
    [IMAP_IDLE] = {IN_BOTH, IMAP_CAP_IDLE},
    [IMAP_CHECK] = {IN_SELECTED, 0},
    [IMAP_CLOSE] = {IN_SELECTED, 0},
    [IMAP_UNSELECT] = {IN_SELECTED, IMAP_CAP_UNSELECT},
    [IMAP_EXPUNGE] = {IN_SELECTED, 0},
    [IMAP_SEARCH] = {IN_SELECTED, 0},
    [IMAP_SORT] = {IN_SELECTED, IMAP_CAP_SORT},
    [IMAP_THREAD] = {IN_SELECTED, IMAP_CAP_THREAD},
    [IMAP_FETCH] = {IN_SELECTED, 0},
    [IMAP_STORE] = {IN_SELECTED, 0},
    [IMAP_COPY] = {IN_SELECTED, 0},
    [IMAP_MOVE] = {IN_SELECTED, IMAP_CAP_MOVE},
    [IMAP_GETQUOTA] = {IN_BOTH, IMAP_CAP_QUOTA},
    [IMAP_GETQUOTAROOT] = {IN_BOTH, IMAP_CAP_QUOTA},
    [IMAP_SETQUOTA] = {IN_BOTH, IMAP_CAP_QUOTA},
    [IMAP_GETACL] = {IN_BOTH, IMAP_CAP_ACL},
    [IMAP_SETACL] = {IN_BOTH, IMAP_CAP_ACL},
    [IMAP_DELETEACL] = {IN_BOTH, IMAP_CAP_ACL},
    [IMAP_LISTRIGHTS] = {IN_BOTH, IMAP_CAP_ACL},
    [IMAP_MYRIGHTS] = {IN_BOTH, IMAP_CAP_ACL},
    [IMAP_GETMETADATA] = {IN_BOTH, IMAP_CAP_METADATA},
    [IMAP_SETMETADATA] = {IN_BOTH, IMAP_CAP_METADATA},
    [IMAP_NOTIFY] = {IN_BOTH, IMAP_CAP_NOTIFY},
    [IMAP_CANCELUPDATE] = {IN_SELECTED, IMAP_CAP_CONTEXT_SEARCH},
};

bool imap_server_allows(const struct imap_server *server, const struct imap_command_head *head,
                        struct imap_answer *answer)
{
    uint64_t capability = rules[head->kind].capability;
    bool starttls = head->kind == IMAP_STARTTLS && !server->settings->starttls;
    if (starttls || (capability & server->settings->capabilities) != capability) {
        *answer = imap_answer_of(IMAP_BAD, NULL, "Unknown command");
        return false;
    }
    if ((rules[head->kind].states & 1u << server->state) == 0) {
        *answer = imap_answer_of(IMAP_BAD, NULL,
                                 server->state == IMAP_NOT_AUTHENTICATED ? "Log in first"
                                 : server->state == IMAP_AUTHENTICATED &&
                                         (rules[head->kind].states & IN_SELECTED) != 0
                                     ? "Select a mailbox first"
                                     : "Not valid in this state");
        return false;
    }
    if (head->kind == IMAP_STARTTLS && server->secured) {
        *answer = imap_answer_of(IMAP_BAD, NULL, "It is encrypted already");
        return false;
    }
    if (head->kind == IMAP_STARTTLS && server->compressed) { /* after UNAUTHENTICATE */
        *answer = imap_answer_of(IMAP_BAD, NULL, "Encryption comes before compression");
        return false;
    }
    /* What holds a password is refused before it is sent, if the client waits. */
    if (head->kind == IMAP_LOGIN && !server->secured && !server->settings->login_in_clear) {
        *answer = imap_answer_of(IMAP_NO, "PRIVACYREQUIRED", "Only when encrypted");
        return false;
    }
    return true;
}

/* RFC 9051 §7.5.1: sequence numbers must not change under these. */
static bool may_expunge(const struct imap_command *command)
{
    bool by_number = command->kind == IMAP_FETCH || command->kind == IMAP_STORE ||
                     command->kind == IMAP_SEARCH || command->kind == IMAP_SORT ||
                     command->kind == IMAP_THREAD;
    return command->uid || !by_number;
}

void imap_server_give(struct imap_server *server, struct imap_command *command,
                      struct imap_event *event)
{
    if (command->condstore && (server->settings->capabilities & IMAP_CAP_CONDSTORE) != 0 &&
        (server->enabled & IMAP_ENABLED_CONDSTORE) == 0) {
        server->enabled |= IMAP_ENABLED_CONDSTORE;
        event->condstore_begins = true;
    }
    if (command->kind == IMAP_SELECT || command->kind == IMAP_EXAMINE) {
        if (server->state == IMAP_SELECTED) { /* RFC 7162 §3.2.11, RFC 9051 §7.1 */
            imap_server_write_text(server, "* OK [CLOSED] Previous mailbox is closed\r\n");
        }
        server->state = IMAP_AUTHENTICATED;
    }
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    server->append_open = false; /* the owner commits, or not */
    server->command = command;
    server->phase = IMAP_PHASE_COMMAND;
    event->kind = IMAP_EVENT_COMMAND;
    event->command = command;
    event->may_expunge = may_expunge(command);
}

/* ---- What the machine does itself ---- */

static void run_capability(struct imap_server *server)
{
    char capabilities[IMAP_CAPABILITY_BYTES_MAX];
    size_t size = imap_server_capabilities(server, server->state != IMAP_NOT_AUTHENTICATED,
                                           capabilities, sizeof(capabilities));
    imap_server_write_text(server, "* CAPABILITY ");
    imap_server_write(server, slice_of(capabilities, size));
    imap_server_write_text(server, "\r\n");
    imap_server_fail_now(server, IMAP_OK, NULL, "Completed");
}

static void run_logout(struct imap_server *server)
{
    imap_server_write_text(server, "* BYE Logging out\r\n");
    imap_server_fail_now(server, IMAP_OK, NULL, "Completed");
    imap_server_break(server);
}

static void run_starttls(struct imap_server *server)
{
    imap_server_fail_now(server, IMAP_OK, NULL, "Begin TLS now");
    if (server->phase != IMAP_PHASE_ENDED) {
        server->phase = IMAP_PHASE_SECURING;
    }
}

static void run_enable(struct imap_server *server, uint32_t wanted)
{
    static const struct {
        uint32_t enabled;
        uint64_t capability;
        const char *word;
    } words[] = {
        {IMAP_ENABLED_CONDSTORE, IMAP_CAP_CONDSTORE, " CONDSTORE"},
        {IMAP_ENABLED_QRESYNC, IMAP_CAP_QRESYNC, " QRESYNC"},
        {IMAP_ENABLED_UTF8, IMAP_CAP_UTF8, " UTF8=ACCEPT"},
        {IMAP_ENABLED_REV2, IMAP_CAP_REV2, " IMAP4rev2"},
    };
    imap_server_write_text(server, "* ENABLED");
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        bool can = (server->settings->capabilities & words[i].capability) != 0;
        if (can && (wanted & ~server->enabled & words[i].enabled) != 0) {
            server->enabled |= (uint8_t)words[i].enabled;
            imap_server_write_text(server, words[i].word);
        }
    }
    imap_server_write_text(server, "\r\n");
    imap_server_fail_now(server, IMAP_OK, NULL, "Completed");
}

/* The client may be idle for days: nothing of the command is kept. */
static void run_idle(struct imap_server *server, struct imap_event *event)
{
    static const struct imap_command idle = {.kind = IMAP_IDLE};
    imap_server_write_text(server, "+ idling\r\n");
    imap_server_command_forget(server);
    if (server->phase == IMAP_PHASE_ENDED) {
        return;
    }
    server->phase = IMAP_PHASE_IDLE;
    server->clock_due = true;
    event->kind = IMAP_EVENT_COMMAND;
    event->command = &idle;
    event->may_expunge = true;
}

/* What is wrong with it though its grammar is right; NULL: nothing. */
static const char *misused(const struct imap_server *server, const struct imap_command *command)
{
    bool select = command->kind == IMAP_SELECT || command->kind == IMAP_EXAMINE;
    bool qresync = (select && command->select.qresync) ||
                   (command->kind == IMAP_FETCH && command->fetch.vanished);
    if (qresync && (server->enabled & IMAP_ENABLED_QRESYNC) == 0) {
        return "QRESYNC is not enabled"; /* RFC 7162 §3.2.5, §3.2.6 */
    }
    return NULL;
}

static void dispatch(struct imap_server *server, struct imap_command *command,
                     struct imap_event *event)
{
    const char *misuse = misused(server, command);
    if (misuse != NULL) {
        imap_server_fail_now(server, IMAP_BAD, NULL, misuse);
        return;
    }
    if (command->kind == IMAP_COMPRESS && server->compressed) {
        imap_server_fail_now(server, IMAP_NO, "COMPRESSIONACTIVE", "It is compressed already");
    } else if (command->kind == IMAP_CAPABILITY) {
        run_capability(server);
    } else if (command->kind == IMAP_LOGOUT) {
        run_logout(server);
    } else if (command->kind == IMAP_STARTTLS) {
        run_starttls(server);
    } else if (command->kind == IMAP_ENABLE) {
        run_enable(server, command->enable);
    } else if (command->kind == IMAP_IDLE) {
        run_idle(server, event);
    } else if (command->kind == IMAP_AUTHENTICATE) {
        imap_server_authenticate(server, command, event);
    } else {
        imap_server_give(server, command, event);
    }
}

void imap_server_run(struct imap_server *server, struct imap_event *event)
{
    struct imap_parser parser;
    struct imap_command_head head;
    bool utf8 = (server->enabled & (IMAP_ENABLED_UTF8 | IMAP_ENABLED_REV2)) != 0;
    struct imap_command *command = arena_take(&server->arena, sizeof(*command));
    if (command == NULL) {
        imap_server_fail_now(server, IMAP_NO, "LIMIT", "No memory for this command");
        return;
    }
    imap_parser_open(&parser, &server->arena, server->text, server->text_bytes - 2, utf8);
    check(imap_parse_head(&parser, &head)); /* with its first line it was good */
    switch (imap_parse_arguments(&parser, &head, command)) {
    case IMAP_PARSE_GOOD:
        dispatch(server, command, event);
        return;
    case IMAP_PARSE_NAME:
        imap_server_fail_now(server, IMAP_NO, "CANNOT", parser.error);
        return;
    case IMAP_PARSE_CHARSET:
        imap_server_fail_now(server, IMAP_NO, "BADCHARSET (US-ASCII UTF-8)", parser.error);
        return;
    case IMAP_PARSE_LIMIT:
        imap_server_fail_now(server, IMAP_NO, "LIMIT", parser.error);
        return;
    case IMAP_PARSE_BAD:
    case IMAP_PARSE_INCOMPLETE:
        break;
    }
    imap_server_fail_now(server, IMAP_BAD, NULL, parser.error);
}

/* ---- What the owner's answer means ---- */

static void logged_in(struct imap_server *server, const struct imap_answer *answer)
{
    char capabilities[IMAP_CAPABILITY_BYTES_MAX];
    struct imap_answer with = *answer;
    server->state = IMAP_AUTHENTICATED;
    if (with.code.size == 0) {
        memcpy(capabilities, "CAPABILITY ", 11);
        size_t size =
            imap_server_capabilities(server, true, capabilities + 11, sizeof(capabilities) - 11);
        with.code = slice_of(capabilities, 11 + size);
    }
    if (with.text.size == 0) {
        with.text = slice_text("Logged in");
    }
    imap_server_answer(server, &with);
}

static void settle_good(struct imap_server *server, const struct imap_answer *answer)
{
    switch ((enum imap_command_kind)server->kind) {
    case IMAP_LOGIN:
    case IMAP_AUTHENTICATE:
        logged_in(server, answer);
        return;
    case IMAP_SELECT:
    case IMAP_EXAMINE:
        server->state = IMAP_SELECTED;
        break;
    case IMAP_CLOSE:
    case IMAP_UNSELECT:
        server->state = IMAP_AUTHENTICATED;
        break;
    case IMAP_UNAUTHENTICATE: /* RFC 8437 §3 */
        server->state = IMAP_NOT_AUTHENTICATED;
        server->enabled = 0;
        break;
    case IMAP_COMPRESS:
        server->compressed = true;
        break;
    default: /* the others change nothing */
        break;
    }
    imap_server_answer(server, answer);
}

void imap_server_settle(struct imap_server *server, const struct imap_answer *answer)
{
    bool login = server->kind == IMAP_LOGIN || server->kind == IMAP_AUTHENTICATE;
    if (answer->result == IMAP_OK) {
        if (server->state != IMAP_NOT_AUTHENTICATED) {
            server->errors = 0;
        }
        settle_good(server, answer);
        return;
    }
    server->errors += login && answer->result == IMAP_NO;
    imap_server_answer(server, answer);
    if (login && server->errors >= server->settings->errors_max) {
        imap_server_bye(server, slice_of(NULL, 0), slice_text("Too many failures"));
    }
}
