/* Quota (RFC 9208), rights (RFC 4314), metadata (RFC 5464), notifications (RFC 5465). */
#include "proto/imap/parser_private.h"

bool imap_parse_quota(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_quota *quota = &command->quota;
    const void *limits = NULL;
    if (!imap_take_space(parser) || !imap_take_astring(parser, &quota->root)) {
        return false;
    }
    if (command->kind == IMAP_GETQUOTA) {
        return true;
    }
    if (!imap_take_space(parser) || !imap_take_byte(parser, '(', "Expected a list of limits")) {
        return false;
    }
    if (imap_skip_byte(parser, ')')) {
        return true;
    }
    do {
        struct imap_quota_limit *limit =
            imap_list_add(parser, &limits, &quota->count, sizeof(*limit));
        if (limit == NULL) {
            return false;
        }
        quota->limits = limits;
        if (!imap_take_atom(parser, &limit->resource) || !imap_take_space(parser) ||
            !imap_take_number(parser, INT64_MAX, &limit->limit)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the limits");
}

bool imap_parse_acl(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_acl *acl = &command->acl;
    if (!imap_take_space(parser) || !imap_take_mailbox(parser, &acl->mailbox) ||
        !imap_take_space(parser) || !imap_take_astring(parser, &acl->identifier)) {
        return false;
    }
    if (command->kind != IMAP_SETACL) {
        return true;
    }
    if (!imap_take_space(parser) || !imap_take_astring(parser, &acl->rights)) {
        return false;
    }
    if (acl->rights.size > 0 && (acl->rights.bytes[0] == '+' || acl->rights.bytes[0] == '-')) {
        acl->mode = acl->rights.bytes[0] == '+' ? IMAP_ACL_ADD : IMAP_ACL_REMOVE;
        acl->rights = slice_from(acl->rights, 1);
    }
    for (size_t i = 0; i < acl->rights.size; i++) {
        uint8_t right = acl->rights.bytes[i];
        if (!(right >= 'a' && right <= 'z') && !(right >= '0' && right <= '9')) {
            return imap_parse_bad(parser, "Rights are small letters and digits");
        }
    }
    return true;
}

/* ---- Metadata ---- */

static bool take_metadata_options(struct imap_parser *parser, struct imap_metadata *metadata)
{
    static const struct imap_word depths[] = {
        {"0", IMAP_DEPTH_0}, {"1", IMAP_DEPTH_1}, {"infinity", IMAP_DEPTH_INFINITY}};
    do {
        uint64_t number;
        uint32_t depth;
        if (imap_skip_word(parser, "MAXSIZE")) {
            if (!imap_take_space(parser) || !imap_take_number(parser, UINT32_MAX, &number)) {
                return false;
            }
            metadata->size_max_given = true;
            metadata->size_max = (uint32_t)number;
        } else if (!imap_skip_word(parser, "DEPTH")) {
            return imap_parse_bad(parser, "Unknown option of GETMETADATA");
        } else if (!imap_take_space(parser)) {
            return false;
        } else if (imap_skip_word_of(parser, depths, sizeof(depths) / sizeof(*depths), &depth)) {
            metadata->depth = (enum imap_metadata_depth)depth;
        } else {
            return imap_parse_bad(parser, "DEPTH is 0, 1 or infinity");
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the options");
}

/* RFC 5464 §5: begins with a slash, ends with none, has no two in a row, no wildcards, ASCII. */
static bool entry_check(struct imap_parser *parser, struct slice entry)
{
    bool good = entry.size > 1 && entry.bytes[0] == '/' && entry.bytes[entry.size - 1] != '/';
    for (size_t i = 0; i < entry.size && good; i++) {
        uint8_t byte = entry.bytes[i];
        bool twice = byte == '/' && i > 0 && entry.bytes[i - 1] == '/';
        good = !twice && byte >= 0x20 && byte < 0x7f && byte != '*' && byte != '%';
    }
    return good || imap_parse_bad(parser, "Invalid name of a metadata entry");
}

static bool take_values(struct imap_parser *parser, struct imap_metadata *metadata)
{
    const void *values = NULL;
    if (!imap_take_byte(parser, '(', "Expected a list of entries")) {
        return false;
    }
    do {
        struct imap_pair *pair =
            imap_list_add(parser, &values, &metadata->value_count, sizeof(*pair));
        if (pair == NULL) {
            return false;
        }
        metadata->values = values;
        if (!imap_take_astring(parser, &pair->name) || !entry_check(parser, pair->name) ||
            !imap_take_space(parser)) {
            return false;
        }
        pair->nil = imap_skip_word(parser, "NIL");
        if (!pair->nil && !imap_take_string8(parser, &pair->value)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the entries");
}

/* "" is the server. */
static bool take_metadata_mailbox(struct imap_parser *parser, struct imap_metadata *metadata)
{
    metadata->of_server =
        parser->end - parser->at >= 2 && parser->at[0] == '"' && parser->at[1] == '"';
    if (metadata->of_server) {
        parser->at += 2;
        return imap_take_space(parser);
    }
    return imap_take_mailbox(parser, &metadata->mailbox) && imap_take_space(parser);
}

/* The options stand in front by the grammar, behind the mailbox in the examples of RFC 5464 §4.2: both are taken. */
static bool take_options_here(struct imap_parser *parser, struct imap_metadata *metadata)
{
    bool options = imap_peek(parser) == '(' && parser->end - parser->at > 1 &&
                   parser->at[1] != '/' && parser->at[1] != '"' && parser->at[1] != '{';
    if (!options) {
        return true;
    }
    parser->at++;
    return take_metadata_options(parser, metadata) && imap_take_space(parser);
}

/* Several stand in parentheses by the grammar, without them in examples of RFC 5464 §4.4.1: both are taken. */
static bool take_entries(struct imap_parser *parser, struct imap_text_list *entries)
{
    bool many = imap_skip_byte(parser, '(');
    do {
        struct slice entry;
        if (!imap_take_astring(parser, &entry) || !imap_text_list_add(parser, entries, entry)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return !many || imap_take_byte(parser, ')', "Expected ) behind the entries");
}

bool imap_parse_metadata(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_metadata *metadata = &command->metadata;
    bool set = command->kind == IMAP_SETMETADATA;
    if (!imap_take_space(parser) || (!set && !take_options_here(parser, metadata)) ||
        !take_metadata_mailbox(parser, metadata)) {
        return false;
    }
    if (set) {
        return take_values(parser, metadata);
    }
    if (!take_options_here(parser, metadata) || !take_entries(parser, &metadata->entries)) {
        return false;
    }
    for (uint32_t i = 0; i < metadata->entries.count; i++) {
        if (!entry_check(parser, metadata->entries.items[i])) {
            return false;
        }
    }
    return true;
}

/* ---- Notifications ---- */

static bool take_notify_mailboxes(struct imap_parser *parser, struct imap_notify_group *group)
{
    if (!imap_take_space(parser)) {
        return false;
    }
    bool many = imap_skip_byte(parser, '(');
    do {
        struct slice mailbox;
        if (!imap_take_mailbox(parser, &mailbox) ||
            !imap_text_list_add(parser, &group->mailboxes, mailbox)) {
            return false;
        }
    } while (many && imap_skip_byte(parser, ' '));
    return !many || imap_take_byte(parser, ')', "Expected ) behind the mailboxes");
}

static bool take_notify_event(struct imap_parser *parser, struct imap_command *command,
                              struct imap_notify_group *group)
{
    static const struct imap_word words[] = {
        {"MessageNew", IMAP_NOTIFY_MESSAGE_NEW},
        {"MessageExpunge", IMAP_NOTIFY_MESSAGE_EXPUNGE},
        {"FlagChange", IMAP_NOTIFY_FLAG_CHANGE},
        {"AnnotationChange", IMAP_NOTIFY_ANNOTATION_CHANGE},
        {"MailboxName", IMAP_NOTIFY_MAILBOX_NAME},
        {"SubscriptionChange", IMAP_NOTIFY_SUBSCRIPTION_CHANGE},
        {"MailboxMetadataChange", IMAP_NOTIFY_MAILBOX_METADATA_CHANGE},
        {"ServerMetadataChange", IMAP_NOTIFY_SERVER_METADATA_CHANGE},
    };
    uint32_t event = IMAP_NOTIFY_UNKNOWN;
    struct slice unknown;
    if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &event) &&
        !imap_take_atom(parser, &unknown)) {
        return false;
    }
    group->events |= event;
    bool fetch = event == IMAP_NOTIFY_MESSAGE_NEW && parser->end - parser->at > 1 &&
                 parser->at[0] == ' ' && parser->at[1] == '(';
    if (!fetch) {
        return true;
    }
    parser->at++;
    return imap_parse_fetch_items(parser, command, &group->fetch, &group->fetch_count);
}

/* "(inboxes (MessageNew MessageExpunge))", RFC 5465 §8. */
static bool take_notify_group(struct imap_parser *parser, struct imap_command *command,
                              struct imap_notify_group *group)
{
    static const struct imap_word filters[] = {
        {"selected", IMAP_NOTIFY_SELECTED},     {"selected-delayed", IMAP_NOTIFY_SELECTED_DELAYED},
        {"inboxes", IMAP_NOTIFY_INBOXES},       {"personal", IMAP_NOTIFY_PERSONAL},
        {"subscribed", IMAP_NOTIFY_SUBSCRIBED}, {"subtree", IMAP_NOTIFY_SUBTREE},
        {"mailboxes", IMAP_NOTIFY_MAILBOXES},
    };
    uint32_t filter;
    if (!imap_take_byte(parser, '(', "Expected an event group")) {
        return false;
    }
    if (!imap_skip_word_of(parser, filters, sizeof(filters) / sizeof(*filters), &filter)) {
        return imap_parse_bad(parser, "Unknown mailbox filter");
    }
    group->filter = (enum imap_notify_filter)filter;
    bool named = filter == IMAP_NOTIFY_SUBTREE || filter == IMAP_NOTIFY_MAILBOXES;
    if ((named && !take_notify_mailboxes(parser, group)) || !imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "NONE")) {
        return imap_take_byte(parser, ')', "Expected ) behind the event group");
    }
    if (!imap_take_byte(parser, '(', "Expected a list of events")) {
        return false;
    }
    do {
        if (!take_notify_event(parser, command, group)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the events") &&
           imap_take_byte(parser, ')', "Expected ) behind the event group");
}

bool imap_parse_notify(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_notify *notify = &command->notify;
    const void *groups = NULL;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_word(parser, "NONE")) {
        return true;
    }
    if (!imap_skip_word(parser, "SET")) {
        return imap_parse_bad(parser, "Expected NONE or SET");
    }
    notify->status = imap_skip_word(parser, " STATUS");
    if (!imap_take_space(parser)) {
        return false;
    }
    do {
        struct imap_notify_group *group =
            imap_list_add(parser, &groups, &notify->count, sizeof(*group));
        if (group == NULL) {
            return false;
        }
        notify->groups = groups;
        if (!take_notify_group(parser, command, group)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return true;
}
