/* FETCH (RFC 9051 §6.4.5, RFC 3516, 7162, 8474, 8514, 8970, 9394). */
#include "proto/imap/parser_private.h"

/* "1.2.3" and what follows a dot, which may be a word. *dot: a word must follow. */
static bool take_parts(struct imap_parser *parser, struct imap_section *section, bool *dot)
{
    const void *parts = NULL;
    *dot = false;
    while (imap_peek(parser) >= '0' && imap_peek(parser) <= '9') {
        if (section->part_count == IMAP_SECTION_PARTS_MAX) {
            return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Section is too deep");
        }
        uint32_t *part = imap_list_add(parser, &parts, &section->part_count, sizeof(*part));
        if (part == NULL) {
            return false;
        }
        section->parts = parts;
        if (!imap_take_nz_number(parser, part)) {
            return false;
        }
        *dot = imap_skip_byte(parser, '.');
        if (!*dot) {
            break;
        }
    }
    return true;
}

static bool take_header_fields(struct imap_parser *parser, struct imap_section *section)
{
    if (!imap_take_space(parser) || imap_peek(parser) != '(') {
        return imap_parse_bad(parser, "Expected a list of header fields");
    }
    return imap_take_astrings(parser, &section->fields);
}

static bool take_section_text(struct imap_parser *parser, struct imap_section *section)
{
    static const struct imap_word words[] = {
        {"HEADER", IMAP_SECTION_HEADER},
        {"HEADER.FIELDS", IMAP_SECTION_HEADER_FIELDS},
        {"HEADER.FIELDS.NOT", IMAP_SECTION_HEADER_FIELDS_NOT},
        {"TEXT", IMAP_SECTION_TEXT},
        {"MIME", IMAP_SECTION_MIME},
    };
    uint32_t text;
    if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &text)) {
        return imap_parse_bad(parser, "Unknown section");
    }
    section->text = (enum imap_section_text)text;
    if (section->text == IMAP_SECTION_MIME && section->part_count == 0) {
        return imap_parse_bad(parser, "MIME needs the number of a part");
    }
    if (section->text == IMAP_SECTION_HEADER_FIELDS ||
        section->text == IMAP_SECTION_HEADER_FIELDS_NOT) {
        return take_header_fields(parser, section);
    }
    return true;
}

bool imap_take_section(struct imap_parser *parser, bool parts_only, struct imap_section *section)
{
    bool dot;
    if (!imap_take_byte(parser, '[', "Expected [") || !take_parts(parser, section, &dot)) {
        return false;
    }
    bool word = dot || (section->part_count == 0 && imap_peek(parser) != ']');
    if (word && parts_only) {
        return imap_parse_bad(parser, "BINARY takes the numbers of a part");
    }
    if (word && !take_section_text(parser, section)) {
        return false;
    }
    return imap_take_byte(parser, ']', "Expected ] behind the section");
}

static bool take_item_partial(struct imap_parser *parser, struct imap_fetch_item *item)
{
    uint64_t first;
    if (!imap_skip_byte(parser, '<')) {
        return true;
    }
    item->partial = true;
    if (!imap_take_number(parser, UINT32_MAX, &first) ||
        !imap_take_byte(parser, '.', "Expected . in the range") ||
        !imap_take_nz_number(parser, &item->partial_bytes)) {
        return false;
    }
    item->partial_first = (uint32_t)first;
    return imap_take_byte(parser, '>', "Expected > behind the range");
}

/* BODY[...], BODY.PEEK[...], BINARY[...], BINARY.PEEK[...], BINARY.SIZE[...]. *mine: it was one of them. */
static bool take_section_item(struct imap_parser *parser, struct imap_fetch_item *item, bool *mine)
{
    static const struct {
        const char *word;
        uint8_t kind;
        bool peek;
    } words[] = {
        {"BODY[", IMAP_FETCH_BODY_SECTION, false},
        {"BODY.PEEK[", IMAP_FETCH_BODY_SECTION, true},
        {"BINARY[", IMAP_FETCH_BINARY, false},
        {"BINARY.PEEK[", IMAP_FETCH_BINARY, true},
        {"BINARY.SIZE[", IMAP_FETCH_BINARY_SIZE, true},
    };
    *mine = false;
    for (size_t i = 0; i < sizeof(words) / sizeof(*words) && !*mine; i++) {
        size_t size = strlen(words[i].word);
        bool room = (size_t)(parser->end - parser->at) >= size;
        if (room && slice_equal_nocase(slice_of(parser->at, size), slice_text(words[i].word))) {
            parser->at += size - 1;
            item->kind = words[i].kind;
            item->peek = words[i].peek;
            *mine = true;
        }
    }
    if (!*mine) {
        return true;
    }
    bool body = item->kind == IMAP_FETCH_BODY_SECTION;
    return imap_take_section(parser, !body, &item->section) &&
           (item->kind == IMAP_FETCH_BINARY_SIZE || take_item_partial(parser, item));
}

static bool take_item(struct imap_parser *parser, struct imap_command *command,
                      struct imap_fetch_item *item)
{
    static const struct imap_word words[] = {
        {"FLAGS", IMAP_FETCH_FLAGS},
        {"UID", IMAP_FETCH_UID},
        {"INTERNALDATE", IMAP_FETCH_INTERNALDATE},
        {"SAVEDATE", IMAP_FETCH_SAVEDATE},
        {"MODSEQ", IMAP_FETCH_MODSEQ},
        {"EMAILID", IMAP_FETCH_EMAILID},
        {"THREADID", IMAP_FETCH_THREADID},
        {"ENVELOPE", IMAP_FETCH_ENVELOPE},
        {"BODYSTRUCTURE", IMAP_FETCH_BODYSTRUCTURE},
        {"BODY", IMAP_FETCH_BODY},
        {"PREVIEW", IMAP_FETCH_PREVIEW},
        {"RFC822.HEADER", IMAP_FETCH_RFC822_HEADER},
        {"RFC822.SIZE", IMAP_FETCH_RFC822_SIZE},
        {"RFC822.TEXT", IMAP_FETCH_RFC822_TEXT},
        {"RFC822", IMAP_FETCH_RFC822},
    };
    uint32_t kind;
    bool mine;
    if (!take_section_item(parser, item, &mine) || mine) {
        return parser->result == IMAP_PARSE_GOOD;
    }
    if (!imap_skip_word_of(parser, words, sizeof(words) / sizeof(*words), &kind)) {
        return imap_parse_bad(parser, "Unknown FETCH item");
    }
    item->kind = (uint8_t)kind;
    if (kind == IMAP_FETCH_MODSEQ) {
        command->condstore = true;
    }
    if (kind == IMAP_FETCH_PREVIEW && imap_skip_word(parser, " (LAZY)")) {
        item->lazy = true;
    }
    return true;
}

static bool item_add(struct imap_parser *parser, const struct imap_fetch_item *item,
                     const struct imap_fetch_item **items, uint32_t *count)
{
    const void *list = *items;
    if (*count == IMAP_FETCH_ITEMS_MAX) {
        return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Too many FETCH items");
    }
    struct imap_fetch_item *place = imap_list_add(parser, &list, count, sizeof(*place));
    if (place == NULL) {
        return false;
    }
    *place = *item;
    *items = list;
    return true;
}

/* ALL, FAST, FULL stand alone (RFC 3501 §6.4.5). *mine: it was one of them. */
static bool take_macro(struct imap_parser *parser, const struct imap_fetch_item **items,
                       uint32_t *count, bool *mine)
{
    static const struct imap_word macros[] = {{"FAST", 3}, {"ALL", 4}, {"FULL", 5}};
    static const uint8_t kinds[] = {IMAP_FETCH_FLAGS, IMAP_FETCH_INTERNALDATE,
                                    IMAP_FETCH_RFC822_SIZE, IMAP_FETCH_ENVELOPE, IMAP_FETCH_BODY};
    uint32_t members = 0;
    *mine = imap_skip_word_of(parser, macros, sizeof(macros) / sizeof(*macros), &members);
    for (uint32_t i = 0; i < members; i++) {
        struct imap_fetch_item item = {.kind = kinds[i]};
        if (!item_add(parser, &item, items, count)) {
            return false;
        }
    }
    return true;
}

bool imap_parse_fetch_items(struct imap_parser *parser, struct imap_command *command,
                            const struct imap_fetch_item **items, uint32_t *count)
{
    bool many = imap_skip_byte(parser, '(');
    do {
        struct imap_fetch_item item = {0};
        if (!take_item(parser, command, &item) || !item_add(parser, &item, items, count)) {
            return false;
        }
    } while (many && imap_skip_byte(parser, ' '));
    return !many || imap_take_byte(parser, ')', "Expected ) behind the FETCH items");
}

static bool take_modifiers(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_fetch *fetch = &command->fetch;
    if (!imap_take_byte(parser, '(', "Expected a list of modifiers")) {
        return false;
    }
    do {
        if (imap_skip_word(parser, "CHANGEDSINCE") && !fetch->changed_since_given) {
            fetch->changed_since_given = command->condstore = true;
            if (!imap_take_space(parser) ||
                !imap_take_mod_sequence(parser, &fetch->changed_since)) {
                return false;
            }
        } else if (imap_skip_word(parser, "VANISHED")) {
            fetch->vanished = true;
        } else if (imap_skip_word(parser, "PARTIAL") && !fetch->partial_given) {
            fetch->partial_given = true;
            if (!imap_take_space(parser) || !imap_take_partial(parser, &fetch->partial)) {
                return false;
            }
        } else {
            return imap_parse_bad(parser, "Unknown modifier");
        }
    } while (imap_skip_byte(parser, ' '));
    /* RFC 7162 §3.2.6, RFC 9394 §3.3 */
    if (fetch->vanished && !(command->uid && fetch->changed_since_given)) {
        return imap_parse_bad(parser, "VANISHED needs UID FETCH and CHANGEDSINCE");
    }
    if (fetch->partial_given && !command->uid) {
        return imap_parse_bad(parser, "PARTIAL needs UID FETCH");
    }
    return imap_take_byte(parser, ')', "Expected ) behind the modifiers");
}

bool imap_parse_fetch(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_fetch *fetch = &command->fetch;
    bool macro;
    if (!imap_take_space(parser) || !imap_take_set(parser, &fetch->set) ||
        !imap_take_space(parser) || !take_macro(parser, &fetch->items, &fetch->count, &macro)) {
        return false;
    }
    if (!macro && !imap_parse_fetch_items(parser, command, &fetch->items, &fetch->count)) {
        return false;
    }
    return !imap_skip_byte(parser, ' ') || take_modifiers(parser, command);
}
