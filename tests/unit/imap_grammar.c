#include "tests/unit/imap_grammar.h"
#include "tests/unit/imap_dump.h"
#include <stdarg.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

enum imap_parse imap_grammar_parse(struct slice text, bool utf8, char *dump, size_t room)
{
    uint8_t *copy = malloc(text.size > 0 ? text.size : 1);
    struct arena arena;
    struct imap_parser parser;
    struct imap_command_head head;
    struct imap_command command;
    enum imap_parse result = IMAP_PARSE_BAD;
    memcpy(copy, text.bytes, text.size);
    dump[0] = '\0';
    arena_open(&arena, 1u << 20);
    imap_parser_open(&parser, &arena, copy, text.size, utf8);
    if (imap_parse_head(&parser, &head)) {
        result = imap_parse_arguments(&parser, &head, &command);
        if (result == IMAP_PARSE_GOOD) {
            imap_dump(&command, dump, room);
        }
    }
    assert_true((result == IMAP_PARSE_GOOD) == (parser.error == NULL));
    arena_close(&arena);
    free(copy);
    return result;
}

void imap_grammar_good(const struct imap_good *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char dump[1024];
        enum imap_parse result =
            imap_grammar_parse(slice_text(rows[i].text), false, dump, sizeof(dump));
        if (result != IMAP_PARSE_GOOD || strcmp(dump, rows[i].tree) != 0) {
            fail_msg("%s: %d\n got %s\nwant %s", rows[i].text, result, dump, rows[i].tree);
        }
    }
}

void imap_grammar_bad(const char *const *rows, size_t count, enum imap_parse wanted)
{
    for (size_t i = 0; i < count; i++) {
        char dump[1024];
        enum imap_parse result = imap_grammar_parse(slice_text(rows[i]), false, dump, sizeof(dump));
        if (result != wanted) {
            fail_msg("%s: %d %s", rows[i], result, dump);
        }
    }
}
