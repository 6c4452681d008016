/* LIST and LSUB (RFC 5258, 5819, 6154, 8440, 9590), SELECT and EXAMINE (RFC 7162). */
#include "proto/imap/parser_private.h"

/* ---- LIST ---- */

static bool list_char(uint8_t byte)
{
    return imap_atom_char(byte) || byte == ']' || byte == '%' || byte == '*';
}

/* list-mailbox, with the reference in front. */
static bool take_pattern(struct imap_parser *parser, struct imap_list *list)
{
    struct slice sent, pattern;
    uint8_t next = imap_peek(parser);
    if (list_char(next)) {
        uint8_t *from = parser->at;
        while (parser->at < parser->end && list_char(*parser->at)) {
            parser->at++;
        }
        sent = slice_of(from, (size_t)(parser->at - from));
    } else if (!imap_take_string(parser, &sent)) {
        return false;
    }
    if (sent.size == 0 && !list->extended) {
        return imap_text_list_add(parser, &list->patterns,
                                  sent); /* RFC 3501 §6.3.8: the separator */
    }
    enum imap_name_fault fault =
        imap_pattern_read(parser->arena, list->reference, sent, parser->utf8, &pattern);
    if (fault == IMAP_NAME_MEMORY) {
        return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Command is too complex");
    }
    if (fault != IMAP_NAME_GOOD) {
        return imap_parse_fail(parser, IMAP_PARSE_NAME, "No mailbox can match such a pattern");
    }
    return imap_text_list_add(parser, &list->patterns, pattern);
}

static bool take_select_options(struct imap_parser *parser, struct imap_list *list)
{
    static const struct imap_word words[] = {
        {"SUBSCRIBED", IMAP_LIST_SUBSCRIBED},
        {"REMOTE", IMAP_LIST_REMOTE},
        {"RECURSIVEMATCH", IMAP_LIST_RECURSIVEMATCH},
        {"SPECIAL-USE", IMAP_LIST_SPECIAL_USE},
    };
    if (!imap_skip_byte(parser, ')')) {
        do {
            uint32_t option;
            if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &option)) {
                return imap_parse_bad(parser, "Unknown selection option");
            }
            list->select |= option;
        } while (imap_skip_byte(parser, ' '));
        if (!imap_take_byte(parser, ')', "Expected ) behind the selection options")) {
            return false;
        }
    }
    uint32_t others = list->select & (IMAP_LIST_SUBSCRIBED | IMAP_LIST_SPECIAL_USE);
    if ((list->select & IMAP_LIST_RECURSIVEMATCH) != 0 && others == 0) {
        return imap_parse_bad(parser, "RECURSIVEMATCH needs another selection option");
    }
    return imap_take_space(parser);
}

static bool take_return_option(struct imap_parser *parser, struct imap_list *list)
{
    static const struct imap_word words[] = {
        {"SUBSCRIBED", IMAP_RETURN_SUBSCRIBED},   {"CHILDREN", IMAP_RETURN_CHILDREN},
        {"SPECIAL-USE", IMAP_RETURN_SPECIAL_USE}, {"STATUS", IMAP_RETURN_STATUS},
        {"MYRIGHTS", IMAP_RETURN_MYRIGHTS},       {"METADATA", IMAP_RETURN_METADATA},
    };
    uint32_t option;
    if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &option)) {
        return imap_parse_bad(parser, "Unknown return option");
    }
    list->returns |= option;
    if (option == IMAP_RETURN_STATUS) {
        return imap_take_space(parser) && imap_take_status_items(parser, &list->status_items);
    }
    if (option == IMAP_RETURN_METADATA) {
        return imap_take_space(parser) && imap_take_astrings(parser, &list->metadata);
    }
    return true;
}

static bool take_return_options(struct imap_parser *parser, struct imap_list *list)
{
    if (!imap_skip_word(parser, "RETURN")) {
        return imap_parse_bad(parser, "Expected RETURN");
    }
    if (!imap_take_space(parser) || !imap_take_byte(parser, '(', "Expected a list of options")) {
        return false;
    }
    if (imap_skip_byte(parser, ')')) {
        return true;
    }
    do {
        if (!take_return_option(parser, list)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the return options");
}

static bool take_patterns(struct imap_parser *parser, struct imap_list *list)
{
    if (!imap_skip_byte(parser, '(')) {
        return take_pattern(parser, list);
    }
    list->extended = true;
    do {
        if (!take_pattern(parser, list)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return imap_take_byte(parser, ')', "Expected ) behind the patterns");
}

/* The reference is only looked at as a part of a pattern. */
static bool take_reference(struct imap_parser *parser, struct imap_list *list)
{
    return imap_take_astring(parser, &list->reference) && imap_take_space(parser);
}

bool imap_parse_list(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_list *list = &command->list;
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_byte(parser, '(')) {
        list->extended = true;
        if (!take_select_options(parser, list)) {
            return false;
        }
    }
    if (!take_reference(parser, list) || !take_patterns(parser, list)) {
        return false;
    }
    if (imap_skip_byte(parser, ' ')) {
        list->extended = true;
        if (!take_return_options(parser, list)) {
            return false;
        }
    }
    command->condstore = (list->status_items & IMAP_STATUS_HIGHESTMODSEQ) != 0;
    return true;
}

bool imap_parse_lsub(struct imap_parser *parser, struct imap_command *command)
{
    return imap_take_space(parser) && take_reference(parser, &command->list) &&
           take_pattern(parser, &command->list);
}

/* ---- SELECT ---- */

/* No '*' in what the client has known, and no saved result. */
static bool take_known_set(struct imap_parser *parser, struct imap_set *set)
{
    if (!imap_take_set(parser, set)) {
        return false;
    }
    return (!set->saved && set->open_from == 0) ||
           imap_parse_bad(parser, "Neither * nor $ can be known");
}

/* "(uidvalidity modseq [uids] [(numbers uids)])" */
static bool take_qresync(struct imap_parser *parser, struct imap_select *select)
{
    select->qresync = true;
    if (!imap_take_space(parser) || !imap_take_byte(parser, '(', "Expected ( behind QRESYNC") ||
        !imap_take_nz_number(parser, &select->uid_validity) || !imap_take_space(parser) ||
        !imap_take_mod_sequence(parser, &select->mod_sequence)) {
        return false;
    }
    if (select->mod_sequence == 0) {
        return imap_parse_bad(parser, "Mod-sequence must not be 0");
    }
    bool more = imap_skip_byte(parser, ' ');
    if (more && imap_peek(parser) != '(') {
        select->known_uids_given = true;
        if (!take_known_set(parser, &select->known_uids)) {
            return false;
        }
        more = imap_skip_byte(parser, ' ');
    }
    if (more) {
        select->match_given = true;
        if (!imap_take_byte(parser, '(', "Expected (") ||
            !take_known_set(parser, &select->match_numbers) || !imap_take_space(parser) ||
            !take_known_set(parser, &select->match_uids) ||
            !imap_take_byte(parser, ')', "Expected )")) {
            return false;
        }
        if (imap_set_numbers(&select->match_numbers, UINT32_MAX) !=
            imap_set_numbers(&select->match_uids, UINT32_MAX)) {
            return imap_parse_bad(parser, "The two sets differ in size");
        }
    }
    return imap_take_byte(parser, ')', "Expected ) behind QRESYNC");
}

bool imap_parse_select(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_select *select = &command->select;
    if (!imap_take_space(parser) || !imap_take_mailbox(parser, &select->mailbox)) {
        return false;
    }
    if (!imap_skip_byte(parser, ' ')) {
        return true;
    }
    if (!imap_take_byte(parser, '(', "Expected a list of parameters")) {
        return false;
    }
    do {
        if (imap_skip_word(parser, "CONDSTORE")) {
            select->condstore = true;
        } else if (!imap_skip_word(parser, "QRESYNC")) {
            return imap_parse_bad(parser, "Unknown parameter");
        } else if (select->qresync) {
            return imap_parse_bad(parser, "QRESYNC twice");
        } else if (!take_qresync(parser, select)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    command->condstore = true;
    return imap_take_byte(parser, ')', "Expected ) behind the parameters");
}
