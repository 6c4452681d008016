/* The names of the commands, and the arguments of the small ones. */
#include "proto/imap/parser_private.h"

struct command_name {
    const char *word;
    uint8_t kind; /* enum imap_command_kind */
    bool may_uid;
};

static const struct command_name names[] = {
    {"CAPABILITY", IMAP_CAPABILITY, false},
    {"NOOP", IMAP_NOOP, false},
    {"LOGOUT", IMAP_LOGOUT, false},
    {"ID", IMAP_ID, false},
    {"ENABLE", IMAP_ENABLE, false},
    {"STARTTLS", IMAP_STARTTLS, false},
    {"AUTHENTICATE", IMAP_AUTHENTICATE, false},
    {"LOGIN", IMAP_LOGIN, false},
    {"UNAUTHENTICATE", IMAP_UNAUTHENTICATE, false},
    {"COMPRESS", IMAP_COMPRESS, false},
    {"SELECT", IMAP_SELECT, false},
    {"EXAMINE", IMAP_EXAMINE, false},
    {"CREATE", IMAP_CREATE, false},
    {"DELETE", IMAP_DELETE, false},
    {"RENAME", IMAP_RENAME, false},
    {"SUBSCRIBE", IMAP_SUBSCRIBE, false},
    {"UNSUBSCRIBE", IMAP_UNSUBSCRIBE, false},
    {"LIST", IMAP_LIST, false},
    {"LSUB", IMAP_LSUB, false},
    {"NAMESPACE", IMAP_NAMESPACE, false},
    {"STATUS", IMAP_STATUS, false},
    {"APPEND", IMAP_APPEND, false},
    {"REPLACE", IMAP_REPLACE, true},
    {"IDLE", IMAP_IDLE, false},
    {"CHECK", IMAP_CHECK, false},
    {"CLOSE", IMAP_CLOSE, false},
    {"UNSELECT", IMAP_UNSELECT, false},
    {"EXPUNGE", IMAP_EXPUNGE, true},
    {"SEARCH", IMAP_SEARCH, true},
    {"SORT", IMAP_SORT, true},
    {"THREAD", IMAP_THREAD, true},
    {"FETCH", IMAP_FETCH, true},
    {"STORE", IMAP_STORE, true},
    {"COPY", IMAP_COPY, true},
    {"MOVE", IMAP_MOVE, true},
    {"GETQUOTA", IMAP_GETQUOTA, false},
    {"GETQUOTAROOT", IMAP_GETQUOTAROOT, false},
    {"SETQUOTA", IMAP_SETQUOTA, false},
    {"GETACL", IMAP_GETACL, false},
    {"SETACL", IMAP_SETACL, false},
    {"DELETEACL", IMAP_DELETEACL, false},
    {"LISTRIGHTS", IMAP_LISTRIGHTS, false},
    {"MYRIGHTS", IMAP_MYRIGHTS, false},
    {"GETMETADATA", IMAP_GETMETADATA, false},
    {"SETMETADATA", IMAP_SETMETADATA, false},
    {"NOTIFY", IMAP_NOTIFY, false},
    {"CANCELUPDATE", IMAP_CANCELUPDATE, false},
};

/* ASTRING-CHAR but "+". */
static bool tag_take(struct imap_parser *parser, struct slice *tag)
{
    uint8_t *from = parser->at;
    while (parser->at < parser->end && (imap_atom_char(*parser->at) || *parser->at == ']') &&
           *parser->at != '+') {
        parser->at++;
    }
    *tag = slice_of(from, (size_t)(parser->at - from));
    bool ends = imap_at_end(parser) || *parser->at == ' ';
    if (tag->size == 0 || tag->size > IMAP_TAG_BYTES_MAX || !ends) {
        *tag = slice_of(NULL, 0);
        return imap_parse_bad(parser, "Invalid tag");
    }
    return true;
}

bool imap_parse_head(struct imap_parser *parser, struct imap_command_head *head)
{
    *head = (struct imap_command_head){0};
    if (!tag_take(parser, &head->tag)) {
        return false;
    }
    if (!imap_skip_byte(parser, ' ')) {
        return imap_parse_bad(parser, "Missing command");
    }
    if (imap_skip_word(parser, "UID") && !(head->uid = imap_skip_byte(parser, ' '))) {
        return imap_parse_bad(parser, "Missing command behind UID");
    }
    uint8_t *from = parser->at;
    while (parser->at < parser->end && imap_atom_char(*parser->at)) {
        parser->at++;
    }
    head->word = slice_of(from, (size_t)(parser->at - from));
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (slice_equal_nocase(head->word, slice_text(names[i].word)) &&
            (!head->uid || names[i].may_uid)) {
            head->known = true;
            head->kind = (enum imap_command_kind)names[i].kind;
            return true;
        }
    }
    return imap_parse_bad(parser, "Unknown command");
}

/* ---- The small ones, behind the head ---- */

static bool parse_login(struct imap_parser *parser, struct imap_command *command)
{
    return imap_take_space(parser) && imap_take_astring(parser, &command->login.user) &&
           imap_take_space(parser) && imap_take_astring(parser, &command->login.password);
}

static bool parse_authenticate(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_authenticate *authenticate = &command->authenticate;
    if (!imap_take_space(parser) || !imap_take_atom(parser, &authenticate->mechanism)) {
        return false;
    }
    if (!imap_skip_byte(parser, ' ')) {
        return true;
    }
    authenticate->initial_given = true;
    return imap_take_atom(parser, &authenticate->initial);
}

static bool parse_id(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_id *id = &command->id;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "NIL")) {
        return true;
    }
    if (!imap_take_byte(parser, '(', "Expected NIL or a list")) {
        return false;
    }
    if (imap_skip_byte(parser, ')')) {
        return true;
    }
    do {
        const void *pairs = id->pairs;
        if (id->count == IMAP_ID_PAIRS_MAX) {
            return imap_parse_bad(parser, "Too many pairs");
        }
        struct imap_pair *pair = imap_list_add(parser, &pairs, &id->count, sizeof(*pair));
        if (pair == NULL) {
            return false;
        }
        id->pairs = pairs;
        if (!imap_take_string(parser, &pair->name) || !imap_take_space(parser) ||
            !imap_take_nstring(parser, &pair->value, &pair->nil)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the list");
}

static bool parse_enable(struct imap_parser *parser, struct imap_command *command)
{
    static const struct imap_word words[] = {
        {"CONDSTORE", IMAP_ENABLED_CONDSTORE},
        {"QRESYNC", IMAP_ENABLED_QRESYNC | IMAP_ENABLED_CONDSTORE},
        {"UTF8=ACCEPT", IMAP_ENABLED_UTF8},
        {"IMAP4rev2", IMAP_ENABLED_REV2},
    };
    if (!imap_take_space(parser)) {
        return false;
    }
    do {
        uint32_t enabled;
        struct slice unknown; /* RFC 5161 §3.1: passed over */
        if (imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &enabled)) {
            command->enable |= enabled;
        } else if (!imap_take_atom(parser, &unknown)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return true;
}

static bool parse_compress(struct imap_parser *parser, struct imap_command *command)
{
    (void)command;
    return imap_take_space(parser) && (imap_skip_word(parser, "DEFLATE") ||
                                       imap_parse_bad(parser, "Unknown compression mechanism"));
}

static bool parse_mailbox(struct imap_parser *parser, struct imap_command *command)
{
    return imap_take_space(parser) && imap_take_mailbox(parser, &command->mailbox.name);
}

/* RFC 9051 §6.3.4: what has a wildcard in it could not be listed alone. */
static bool new_name_check(struct imap_parser *parser, struct slice name)
{
    return !imap_name_has_wildcard(name) ||
           imap_parse_fail(parser, IMAP_PARSE_NAME, "A new mailbox name has no wildcards");
}

static bool parse_create(struct imap_parser *parser, struct imap_command *command)
{
    static const struct imap_word words[] = {
        {"All", IMAP_USE_ALL},       {"Archive", IMAP_USE_ARCHIVE},
        {"Drafts", IMAP_USE_DRAFTS}, {"Flagged", IMAP_USE_FLAGGED},
        {"Junk", IMAP_USE_JUNK},     {"Sent", IMAP_USE_SENT},
        {"Trash", IMAP_USE_TRASH},   {"Important", IMAP_USE_IMPORTANT},
    };
    if (!parse_mailbox(parser, command) || !new_name_check(parser, command->mailbox.name)) {
        return false;
    }
    if (!imap_skip_byte(parser, ' ')) {
        return true;
    }
    if (!imap_skip_word(parser, "(USE") || !imap_take_space(parser) ||
        !imap_take_byte(parser, '(', "Expected a list of uses")) {
        return imap_parse_bad(parser, "Unknown parameter of CREATE");
    }
    if (!imap_skip_byte(parser, ')')) {
        do {
            uint32_t use = IMAP_USE_UNKNOWN;
            struct slice unknown;
            if (!imap_take_byte(parser, '\\', "Expected a special use") ||
                (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &use) &&
                 !imap_take_atom(parser, &unknown))) {
                return false;
            }
            command->mailbox.special_use |= use;
        } while (imap_skip_byte(parser, ' '));
        if (!imap_take_byte(parser, ')', "Expected ) behind the uses")) {
            return false;
        }
    }
    return imap_take_byte(parser, ')', "Expected ) behind the parameters");
}

static bool parse_rename(struct imap_parser *parser, struct imap_command *command)
{
    if (!imap_take_space(parser) || !imap_take_mailbox(parser, &command->rename.from) ||
        !imap_take_space(parser)) {
        return false;
    }
    return imap_take_mailbox(parser, &command->rename.to) &&
           new_name_check(parser, command->rename.to);
}

static bool parse_status(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_status *status = &command->status;
    if (!imap_take_space(parser) || !imap_take_mailbox(parser, &status->mailbox) ||
        !imap_take_space(parser) || !imap_take_status_items(parser, &status->items)) {
        return false;
    }
    command->condstore = (status->items & IMAP_STATUS_HIGHESTMODSEQ) != 0;
    return true;
}

static bool parse_expunge(struct imap_parser *parser, struct imap_command *command)
{
    return !command->uid || (imap_take_space(parser) && imap_take_set(parser, &command->expunge));
}

static bool parse_copy(struct imap_parser *parser, struct imap_command *command)
{
    return imap_take_space(parser) && imap_take_set(parser, &command->copy.set) &&
           imap_take_space(parser) && imap_take_mailbox(parser, &command->copy.mailbox);
}

static bool parse_cancel_update(struct imap_parser *parser, struct imap_command *command)
{
    if (!imap_take_space(parser)) {
        return false;
    }
    do {
        struct slice tag;
        if (!imap_take_string(parser, &tag) || !imap_text_list_add(parser, &command->tags, tag)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return true;
}

static bool arguments_of(struct imap_parser *parser, struct imap_command *command)
{
    switch (command->kind) {
    case IMAP_CAPABILITY:
    case IMAP_NOOP:
    case IMAP_LOGOUT:
    case IMAP_STARTTLS:
    case IMAP_UNAUTHENTICATE:
    case IMAP_NAMESPACE:
    case IMAP_IDLE:
    case IMAP_CHECK:
    case IMAP_CLOSE:
    case IMAP_UNSELECT:
        return true;
    case IMAP_ID:
        return parse_id(parser, command);
    case IMAP_ENABLE:
        return parse_enable(parser, command);
    case IMAP_AUTHENTICATE:
        return parse_authenticate(parser, command);
    case IMAP_LOGIN:
        return parse_login(parser, command);
    case IMAP_COMPRESS:
        return parse_compress(parser, command);
    case IMAP_SELECT:
    case IMAP_EXAMINE:
        return imap_parse_select(parser, command);
    case IMAP_CREATE:
        return parse_create(parser, command);
    case IMAP_DELETE:
    case IMAP_SUBSCRIBE:
    case IMAP_UNSUBSCRIBE:
    case IMAP_GETQUOTAROOT:
    case IMAP_GETACL:
    case IMAP_MYRIGHTS:
        return parse_mailbox(parser, command);
    case IMAP_RENAME:
        return parse_rename(parser, command);
    case IMAP_LIST:
        return imap_parse_list(parser, command);
    case IMAP_LSUB:
        return imap_parse_lsub(parser, command);
    case IMAP_STATUS:
        return parse_status(parser, command);
    case IMAP_APPEND:
    case IMAP_REPLACE:
        break;
    case IMAP_EXPUNGE:
        return parse_expunge(parser, command);
    case IMAP_SEARCH:
        return imap_parse_search(parser, command);
    case IMAP_SORT:
        return imap_parse_sort(parser, command);
    case IMAP_THREAD:
        return imap_parse_thread(parser, command);
    case IMAP_FETCH:
        return imap_parse_fetch(parser, command);
    case IMAP_STORE:
        return imap_parse_store(parser, command);
    case IMAP_COPY:
    case IMAP_MOVE:
        return parse_copy(parser, command);
    case IMAP_GETQUOTA:
    case IMAP_SETQUOTA:
        return imap_parse_quota(parser, command);
    case IMAP_SETACL:
    case IMAP_DELETEACL:
    case IMAP_LISTRIGHTS:
        return imap_parse_acl(parser, command);
    case IMAP_GETMETADATA:
    case IMAP_SETMETADATA:
        return imap_parse_metadata(parser, command);
    case IMAP_NOTIFY:
        return imap_parse_notify(parser, command);
    case IMAP_CANCELUPDATE:
        return parse_cancel_update(parser, command);
    }
    return imap_parse_bad(parser, "Missing message");
}

enum imap_parse imap_parse_arguments(struct imap_parser *parser,
                                     const struct imap_command_head *head,
                                     struct imap_command *command)
{
    *command = (struct imap_command){.kind = head->kind, .uid = head->uid, .tag = head->tag};
    if (arguments_of(parser, command) && !imap_at_end(parser)) {
        imap_parse_bad(parser, "Unexpected text behind the arguments");
    }
    return (enum imap_parse)parser->result;
}
