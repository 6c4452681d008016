/* STORE (RFC 7162), APPEND (RFC 3502, 4469, 6855, 3516) and REPLACE (RFC 8508). */
#include "proto/imap/parser_private.h"

bool imap_parse_store(struct imap_parser *parser, struct imap_command *command)
{
    struct imap_store *store = &command->store;
    if (!imap_take_space(parser) || !imap_take_set(parser, &store->set) ||
        !imap_take_space(parser)) {
        return false;
    }
    if (imap_skip_byte(parser, '(')) {
        if (!imap_skip_word(parser, "UNCHANGEDSINCE")) {
            return imap_parse_bad(parser, "Unknown modifier");
        }
        store->unchanged_since_given = command->condstore = true;
        if (!imap_take_space(parser) || !imap_take_mod_sequence(parser, &store->unchanged_since) ||
            !imap_take_byte(parser, ')', "Expected ) behind the modifier") ||
            !imap_take_space(parser)) {
            return false;
        }
    }
    store->mode = imap_skip_byte(parser, '+')   ? IMAP_STORE_ADD
                  : imap_skip_byte(parser, '-') ? IMAP_STORE_REMOVE
                                                : IMAP_STORE_SET;
    store->silent = imap_skip_word(parser, "FLAGS.SILENT");
    if (!store->silent && !imap_skip_word(parser, "FLAGS")) {
        return imap_parse_bad(parser, "Expected FLAGS");
    }
    if (!imap_take_space(parser)) {
        return false;
    }
    if (imap_peek(parser) == '(') {
        return imap_take_flag_list(parser, &store->flags);
    }
    do {
        if (!imap_take_flag(parser, &store->flags)) {
            return false;
        }
    } while (imap_skip_byte(parser, ' '));
    return true;
}

/* ---- APPEND: what it says must outlive its text, which goes when the message comes ---- */

static bool flags_keep(struct imap_parser *parser, struct imap_flags *flags)
{
    struct imap_text_list kept = {0};
    for (uint32_t i = 0; i < flags->keywords.count; i++) {
        struct slice copy;
        if (!arena_copy(parser->arena, flags->keywords.items[i], &copy)) {
            return imap_parse_fail(parser, IMAP_PARSE_LIMIT, "Command is too complex");
        }
        if (!imap_text_list_add(parser, &kept, copy)) {
            return false;
        }
    }
    flags->keywords = kept;
    return true;
}

bool imap_parse_append_head(struct imap_parser *parser, const struct imap_command_head *head,
                            struct imap_append *append)
{
    *append = (struct imap_append){.replace = head->kind == IMAP_REPLACE, .uid = head->uid};
    if (append->replace) {
        if (!imap_take_space(parser)) {
            return false;
        }
        append->star = imap_skip_byte(parser, '*');
        append->number = UINT32_MAX;
        if (!append->star && !imap_take_nz_number(parser, &append->number)) {
            return false;
        }
    }
    return imap_take_space(parser) && imap_take_mailbox(parser, &append->mailbox);
}

/* The head of the literal that is the message or a part of it, and the last of the text. */
static enum imap_append_step take_message_literal(struct imap_parser *parser,
                                                  struct imap_append *append)
{
    struct imap_literal_head head;
    size_t size = (size_t)(parser->end - parser->at);
    bool crlf = size >= 2 && parser->end[-2] == '\r' && parser->end[-1] == '\n';
    struct slice line = slice_of(parser->at, crlf ? size - 2 : 0);
    bool tilde = line.size > 0 && line.bytes[0] == '~';
    struct slice braces = slice_from(line, tilde);
    bool found = braces.size > 0 && braces.bytes[0] == '{' && imap_literal_head_find(line, &head) &&
                 memchr(braces.bytes + 1, '{', braces.size - 1) == NULL;
    if (!found) {
        imap_parse_bad(parser, "Expected a literal");
        return IMAP_APPEND_FAILED;
    }
    if (append->utf8 && !head.binary) {
        imap_parse_bad(parser, "UTF8 takes a binary literal");
        return IMAP_APPEND_FAILED;
    }
    append->binary = head.binary;
    append->bytes = head.bytes;
    parser->at = parser->end;
    return IMAP_APPEND_LITERAL;
}

enum imap_append_step imap_parse_append_message(struct imap_parser *parser,
                                                struct imap_append *append)
{
    append->flags = (struct imap_flags){0};
    append->date_given = append->catenate = append->binary = append->utf8 = false;
    append->bytes = 0;
    if (!imap_take_space(parser)) {
        return IMAP_APPEND_FAILED;
    }
    if (imap_peek(parser) == '(' &&
        (!imap_take_flag_list(parser, &append->flags) || !flags_keep(parser, &append->flags) ||
         !imap_take_space(parser))) {
        return IMAP_APPEND_FAILED;
    }
    if (imap_peek(parser) == '"') {
        append->date_given = true;
        if (!imap_take_date_time(parser, &append->date_s, &append->zone_minutes) ||
            !imap_take_space(parser)) {
            return IMAP_APPEND_FAILED;
        }
    }
    if (imap_skip_word(parser, "CATENATE")) {
        append->catenate = true;
        if (!imap_take_space(parser) ||
            !imap_take_byte(parser, '(', "Expected ( behind CATENATE")) {
            return IMAP_APPEND_FAILED;
        }
        return IMAP_APPEND_OPEN;
    }
    if (imap_skip_word(parser, "UTF8")) {
        append->utf8 = true;
        if (!imap_take_space(parser) || !imap_take_byte(parser, '(', "Expected ( behind UTF8")) {
            return IMAP_APPEND_FAILED;
        }
    }
    return take_message_literal(parser, append);
}

enum imap_append_step imap_parse_append_part(struct imap_parser *parser, struct imap_append *append,
                                             bool first, struct slice *url)
{
    if (!first && imap_skip_byte(parser, ')')) {
        return IMAP_APPEND_CLOSE;
    }
    if (!first && !imap_take_byte(parser, ' ', "Expected ) or another part")) {
        return IMAP_APPEND_FAILED;
    }
    if (imap_skip_word(parser, "URL")) {
        bool taken = imap_take_space(parser) && imap_take_astring(parser, url);
        return taken ? IMAP_APPEND_URL : IMAP_APPEND_FAILED;
    }
    if (!imap_skip_word(parser, "TEXT")) {
        imap_parse_bad(parser, "Expected TEXT or URL");
        return IMAP_APPEND_FAILED;
    }
    return imap_take_space(parser) ? take_message_literal(parser, append) : IMAP_APPEND_FAILED;
}

enum imap_append_step imap_parse_append_close(struct imap_parser *parser,
                                              const struct imap_append *append)
{
    if (append->utf8 && !imap_take_byte(parser, ')', "Expected ) behind the message")) {
        return IMAP_APPEND_FAILED;
    }
    return IMAP_APPEND_CLOSE;
}

enum imap_append_step imap_parse_append_after(struct imap_parser *parser,
                                              const struct imap_append *append)
{
    if (imap_at_end(parser)) {
        return IMAP_APPEND_END;
    }
    if (append->replace || imap_peek(parser) != ' ') {
        imap_parse_bad(parser, "Unexpected text behind the message");
        return IMAP_APPEND_FAILED;
    }
    return IMAP_APPEND_NEXT;
}
