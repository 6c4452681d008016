#include "proto/sieve/tree.h"
#include "proto/sieve/limits.h"

/* Recursive descent; the depth is bounded by SIEVE_NESTING_MAX. */
struct parser {
    struct sieve_lexer lexer;
    struct sieve_token token; /* the next one */
    struct arena *arena;
    struct sieve_error *error;
    unsigned blocks, tests; /* nested, just now */
    unsigned nodes;
};

static bool step(struct parser *parser)
{
    return sieve_lexer_next(&parser->lexer, &parser->token);
}

static bool wrong(const struct parser *parser, const char *what)
{
    sieve_error_set(parser->error, parser->token.line, parser->token.column, "%s", what);
    return false;
}

static bool unexpected(const struct parser *parser, const char *wanted)
{
    char room[64];
    sieve_error_set(parser->error, parser->token.line, parser->token.column,
                    "expected %s, but found %s", wanted, sieve_token_name(&parser->token, room));
    return false;
}

static bool expect(struct parser *parser, enum sieve_token_kind kind, const char *wanted)
{
    return parser->token.kind == kind ? step(parser) : unexpected(parser, wanted);
}

/* ---- Arguments ---- */

static bool string_parse(struct parser *parser, struct sieve_argument *argument,
                         struct sieve_string ***end)
{
    if (parser->token.kind != SIEVE_TOKEN_STRING) {
        return unexpected(parser, "a string");
    }
    if (argument->string_count == SIEVE_LIST_STRINGS_MAX) {
        return wrong(parser, "too many strings in one list");
    }
    struct sieve_string *string = arena_take(parser->arena, sizeof(*string));
    if (string == NULL) {
        return wrong(parser, "the script takes too much memory");
    }
    *string = (struct sieve_string){
        .line = parser->token.line, .column = parser->token.column, .text = parser->token.text};
    **end = string;
    *end = &string->next;
    argument->string_count++;
    return step(parser);
}

static bool list_parse(struct parser *parser, struct sieve_argument *argument)
{
    struct sieve_string **end = &argument->strings;
    argument->kind = SIEVE_ARGUMENT_LIST;
    if (!step(parser)) {
        return false;
    }
    for (;;) {
        if (!string_parse(parser, argument, &end)) {
            return false;
        }
        if (parser->token.kind != SIEVE_TOKEN_COMMA) {
            return expect(parser, SIEVE_TOKEN_BRACKET_CLOSE, "',' or ']' behind the string");
        }
        if (!step(parser)) {
            return false;
        }
    }
}

static bool argument_parse(struct parser *parser, struct sieve_argument *argument)
{
    argument->line = parser->token.line;
    argument->column = parser->token.column;
    switch (parser->token.kind) {
    case SIEVE_TOKEN_TAG:
        argument->kind = SIEVE_ARGUMENT_TAG;
        argument->tag = parser->token.text;
        return step(parser);
    case SIEVE_TOKEN_NUMBER:
        argument->kind = SIEVE_ARGUMENT_NUMBER;
        argument->number = parser->token.number;
        return step(parser);
    case SIEVE_TOKEN_STRING: {
        struct sieve_string **end = &argument->strings;
        argument->kind = SIEVE_ARGUMENT_STRING;
        return string_parse(parser, argument, &end);
    }
    case SIEVE_TOKEN_BRACKET_OPEN:
        return list_parse(parser, argument);
    case SIEVE_TOKEN_END:
    case SIEVE_TOKEN_IDENTIFIER:
    case SIEVE_TOKEN_COMMA:
    case SIEVE_TOKEN_SEMICOLON:
    case SIEVE_TOKEN_PARENTHESIS_OPEN:
    case SIEVE_TOKEN_PARENTHESIS_CLOSE:
    case SIEVE_TOKEN_BRACKET_CLOSE:
    case SIEVE_TOKEN_BRACE_OPEN:
    case SIEVE_TOKEN_BRACE_CLOSE:
        break;
    }
    return unexpected(parser, "an argument");
}

static bool is_argument(enum sieve_token_kind kind)
{
    return kind == SIEVE_TOKEN_TAG || kind == SIEVE_TOKEN_NUMBER || kind == SIEVE_TOKEN_STRING ||
           kind == SIEVE_TOKEN_BRACKET_OPEN;
}

static bool arguments_parse(struct parser *parser, struct sieve_node *node)
{
    struct sieve_argument **end = &node->arguments;
    for (unsigned count = 0; is_argument(parser->token.kind); count++) {
        struct sieve_argument *argument = arena_take(parser->arena, sizeof(*argument));
        if (argument == NULL || count == SIEVE_ARGUMENTS_MAX) {
            return wrong(parser, argument == NULL ? "the script takes too much memory"
                                                  : "too many arguments of one command");
        }
        *end = argument;
        end = &argument->next;
        if (!argument_parse(parser, argument)) {
            return false;
        }
    }
    return true;
}

/* ---- Tests and commands ---- */

static bool node_begin(struct parser *parser, struct sieve_node **place, const char *wanted)
{
    if (parser->token.kind != SIEVE_TOKEN_IDENTIFIER) {
        return unexpected(parser, wanted);
    }
    if (parser->nodes++ == SIEVE_COMMANDS_MAX) {
        return wrong(parser, "the script has too many commands");
    }
    struct sieve_node *node = arena_take(parser->arena, sizeof(*node));
    if (node == NULL) {
        return wrong(parser, "the script takes too much memory");
    }
    node->name = parser->token.text;
    node->line = parser->token.line;
    node->column = parser->token.column;
    *place = node;
    return step(parser) && arguments_parse(parser, node);
}

static bool tests_parse(struct parser *parser, struct sieve_node *node);

static bool test_parse(struct parser *parser, struct sieve_node *parent, struct sieve_node **place)
{
    if (parser->tests == SIEVE_NESTING_MAX) {
        return wrong(parser, "tests are nested too deep");
    }
    parser->tests++;
    parent->test_count++;
    bool good = node_begin(parser, place, "a test") && tests_parse(parser, *place);
    parser->tests--;
    return good;
}

static bool tests_parse(struct parser *parser, struct sieve_node *node)
{
    if (parser->token.kind == SIEVE_TOKEN_IDENTIFIER) {
        return test_parse(parser, node, &node->tests);
    }
    if (parser->token.kind != SIEVE_TOKEN_PARENTHESIS_OPEN) {
        return true;
    }
    node->tests_listed = true;
    struct sieve_node **end = &node->tests;
    do {
        if (!step(parser) || !test_parse(parser, node, end)) {
            return false;
        }
        end = &(*end)->next;
    } while (parser->token.kind == SIEVE_TOKEN_COMMA);
    return expect(parser, SIEVE_TOKEN_PARENTHESIS_CLOSE, "',' or ')' behind the test");
}

static bool commands_parse(struct parser *parser, struct sieve_node **first);

static bool block_parse(struct parser *parser, struct sieve_node *node)
{
    struct sieve_token open = parser->token;
    if (parser->blocks == SIEVE_NESTING_MAX) {
        return wrong(parser, "blocks are nested too deep");
    }
    node->has_block = true;
    parser->blocks++;
    if (!step(parser) || !commands_parse(parser, &node->block)) {
        return false;
    }
    parser->blocks--;
    if (parser->token.kind == SIEVE_TOKEN_END) {
        sieve_error_set(parser->error, open.line, open.column,
                        "the block that begins here has no end");
        return false;
    }
    return expect(parser, SIEVE_TOKEN_BRACE_CLOSE, "a command or '}'");
}

static bool commands_parse(struct parser *parser, struct sieve_node **first)
{
    while (parser->token.kind != SIEVE_TOKEN_END && parser->token.kind != SIEVE_TOKEN_BRACE_CLOSE) {
        if (!node_begin(parser, first, "a command") || !tests_parse(parser, *first)) {
            return false;
        }
        bool good = parser->token.kind == SIEVE_TOKEN_BRACE_OPEN
                        ? block_parse(parser, *first)
                        : expect(parser, SIEVE_TOKEN_SEMICOLON,
                                 "';' at the end of the command, or a block");
        if (!good) {
            return false;
        }
        first = &(*first)->next;
    }
    return true;
}

bool sieve_tree_parse(struct slice script, struct arena *arena, struct sieve_node **commands,
                      struct sieve_error *error)
{
    struct parser parser = {.arena = arena, .error = error};
    *commands = NULL;
    if (script.size > SIEVE_SCRIPT_BYTES_MAX) {
        sieve_error_set(error, 1, 1, "the script is larger than %u bytes", SIEVE_SCRIPT_BYTES_MAX);
        return false;
    }
    sieve_lexer_open(&parser.lexer, script, arena, error);
    if (!step(&parser) || !commands_parse(&parser, commands)) {
        return false;
    }
    return parser.token.kind == SIEVE_TOKEN_END || unexpected(&parser, "a command");
}
