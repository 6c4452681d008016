#include "proto/sieve/compile_private.h"
#include "engine/core/check.h"
#include "proto/message/utf8.h"
#include "proto/sieve/program.h"
#include <stdio.h>
#include <stdlib.h>

struct sieve_compiler *sieve_compiler_open(const struct sieve_compile_settings *settings)
{
    struct sieve_compiler *compiler = calloc(1, sizeof(*compiler));
    if (compiler == NULL) {
        return NULL;
    }
    compiler->settings = settings;
    arena_open(&compiler->names, SIEVE_COMPILE_BYTES_MAX);
    arena_open(&compiler->tree, SIEVE_COMPILE_BYTES_MAX);
    compiler->unit_count = 1;
    return compiler;
}

void sieve_compiler_close(struct sieve_compiler *compiler)
{
    if (compiler == NULL) {
        return;
    }
    for (uint32_t i = 0; i < compiler->unit_count; i++) {
        sieve_code_close(&compiler->units[i].code);
    }
    sieve_code_close(&compiler->strings);
    sieve_code_close(&compiler->program);
    arena_close(&compiler->names);
    arena_close(&compiler->tree);
    free(compiler);
}

bool sieve_wrong_at(struct sieve_compiler *compiler, const struct sieve_node *node,
                    const char *what)
{
    sieve_error_set(&compiler->error, node->line, node->column, "%.*s: %s",
                    (int)(node->name.size < 40 ? node->name.size : 40),
                    (const char *)node->name.bytes, what);
    return false;
}

bool sieve_wrong_argument(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                          const char *what)
{
    sieve_error_set(&compiler->error, argument->line, argument->column, "%s", what);
    return false;
}

void sieve_begin(struct sieve_compiler *compiler, enum sieve_operation operation)
{
    sieve_code_number(sieve_unit_code(compiler), operation);
    sieve_code_number(sieve_unit_code(compiler), compiler->line);
}

void sieve_flags(struct sieve_compiler *compiler, uint32_t flags)
{
    sieve_code_number(sieve_unit_code(compiler), flags);
}

bool sieve_defer(struct sieve_compiler *compiler)
{
    char text[SIEVE_ERROR_BYTES];
    memcpy(text, compiler->error.text, sizeof(text));
    compiler->error = (struct sieve_error){0};
    sieve_begin(compiler, SIEVE_OP_FAIL);
    return sieve_put_text(compiler, slice_text(text));
}

/* ---- Arguments ---- */

static const char *kind_name(char kind)
{
    return kind == 's' ? "a string" : kind == 'n' ? "a number" : "a list of strings";
}

static bool kind_fits(const struct sieve_argument *argument, char kind)
{
    switch (argument->kind) {
    case SIEVE_ARGUMENT_TAG:
        return false;
    case SIEVE_ARGUMENT_NUMBER:
        return kind == 'n';
    case SIEVE_ARGUMENT_STRING:
        return kind == 's' || kind == 'l';
    case SIEVE_ARGUMENT_LIST:
        return kind == 'l';
    }
    return false;
}

static bool extension_need(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                           enum sieve_extension extension, bool *deferred)
{
    sieve_error_set(&compiler->error, argument->line, argument->column,
                    "the tag :%.*s needs require \"%s\"",
                    (int)(argument->tag.size < 40 ? argument->tag.size : 40),
                    (const char *)argument->tag.bytes, sieve_extension_name(extension));
    *deferred = sieve_enabled(compiler, SIEVE_EXTENSION_IHAVE);
    return false;
}

/* *argument is the tag, and moves to its last argument. */
static bool tag_sort(struct sieve_compiler *compiler, const struct sieve_argument **argument,
                     struct sieve_given *given, bool *deferred)
{
    const struct sieve_argument *tag = *argument;
    const struct sieve_tag_shape *shape =
        sieve_tag_find(tag->tag, sieve_word_shapes[given->word].tags);
    if (shape == NULL) {
        sieve_error_set(&compiler->error, tag->line, tag->column, "%s has no tag :%.*s",
                        sieve_word_shapes[given->word].name,
                        (int)(tag->tag.size < 40 ? tag->tag.size : 40),
                        (const char *)tag->tag.bytes);
        *deferred = sieve_enabled(compiler, SIEVE_EXTENSION_IHAVE);
        return false;
    }
    if (!sieve_enabled(compiler, shape->extension)) {
        return extension_need(compiler, tag, shape->extension, deferred);
    }
    if (given->tags[shape->tag] != NULL) {
        return sieve_wrong_argument(compiler, tag, "this tag has been given before");
    }
    if (shape->group != 0 && given->groups[shape->group] != NULL) {
        return sieve_wrong_argument(compiler, tag, "this tag contradicts one before it");
    }
    given->groups[shape->group] = tag;
    given->tags[shape->tag] = tag;
    if (shape->value != '\0') {
        if (tag->next == NULL || !kind_fits(tag->next, shape->value)) {
            sieve_error_set(&compiler->error, tag->line, tag->column, "behind :%s there must be %s",
                            shape->name, kind_name(shape->value));
            return false;
        }
        given->values[shape->tag] = *argument = tag->next;
    }
    return true;
}

static bool positional_check(struct sieve_compiler *compiler, struct sieve_given *given,
                             const struct sieve_argument **found, unsigned count)
{
    const char *shape = sieve_word_shapes[given->word].positional;
    unsigned wanted = 0, optional = 4;
    char kinds[4] = {0};
    for (; *shape != '\0'; shape++) {
        if (*shape == '?') {
            optional = wanted;
        } else {
            kinds[wanted++] = *shape;
        }
    }
    if (count != wanted && !(optional < 4 && count + 1 == wanted)) {
        return sieve_wrong_at(compiler, given->node,
                              count > wanted ? "too many arguments" : "arguments are missing");
    }
    for (unsigned place = 0, next = 0; place < wanted; place++) {
        if (count < wanted && place == optional) {
            continue;
        }
        if (!kind_fits(found[next], kinds[place])) {
            sieve_error_set(&compiler->error, found[next]->line, found[next]->column,
                            "argument %u of %s must be %s", next + 1,
                            sieve_word_shapes[given->word].name, kind_name(kinds[place]));
            return false;
        }
        given->positional[place] = found[next++];
    }
    return true;
}

static bool tests_check(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    const struct sieve_node *node = given->node;
    const struct sieve_word_shape *shape = &sieve_word_shapes[given->word];
    switch (shape->tests) {
    case SIEVE_TESTS_NONE:
        if (node->test_count > 0) {
            return sieve_wrong_at(compiler, node, "no test may stand here");
        }
        break;
    case SIEVE_TESTS_ONE:
        if (node->test_count != 1 || node->tests_listed) {
            return sieve_wrong_at(compiler, node, "one test must stand here");
        }
        break;
    case SIEVE_TESTS_MANY:
        if (!node->tests_listed) {
            return sieve_wrong_at(compiler, node, "a list of tests in ( ) must stand here");
        }
        break;
    }
    if (node->has_block != shape->block) {
        return sieve_wrong_at(
            compiler, node, shape->block ? "a block in { } is missing" : "no block may stand here");
    }
    return true;
}

bool sieve_given_sort(struct sieve_compiler *compiler, const struct sieve_node *node, bool test,
                      struct sieve_given *given, bool *deferred)
{
    int word = sieve_word_find(node->name, test);
    *deferred = false;
    compiler->line = node->line;
    if (word < 0) {
        *deferred = sieve_enabled(compiler, SIEVE_EXTENSION_IHAVE);
        return sieve_wrong_at(compiler, node,
                              test ? "this test is unknown" : "this command is unknown");
    }
    *given = (struct sieve_given){.word = (enum sieve_word)word, .node = node};
    if (!sieve_enabled(compiler, sieve_word_shapes[word].extension)) {
        sieve_error_set(&compiler->error, node->line, node->column, "%s needs require \"%s\"",
                        sieve_word_shapes[word].name,
                        sieve_extension_name(sieve_word_shapes[word].extension));
        *deferred = sieve_enabled(compiler, SIEVE_EXTENSION_IHAVE);
        return false;
    }
    const struct sieve_argument *found[4] = {NULL};
    unsigned count = 0;
    for (const struct sieve_argument *argument = node->arguments; argument != NULL;
         argument = argument->next) {
        if (argument->kind == SIEVE_ARGUMENT_TAG) {
            if (count > 0) {
                return sieve_wrong_argument(compiler, argument,
                                            "tags must stand before the other arguments");
            }
            if (!tag_sort(compiler, &argument, given, deferred)) {
                return false;
            }
        } else if (count < 4) {
            found[count++] = argument;
        } else {
            return sieve_wrong_argument(compiler, argument, "too many arguments");
        }
    }
    return positional_check(compiler, given, found, count) && tests_check(compiler, given);
}

/* ---- Scripts and the program ---- */

static void program_write(struct sieve_compiler *compiler)
{
    struct sieve_code *program = &compiler->program;
    sieve_code_put(program, slice_text(SIEVE_PROGRAM_MAGIC));
    sieve_code_number(program, SIEVE_CODE_VERSION);
    sieve_code_number(program, compiler->globals.slots);
    sieve_code_number(program, compiler->string_count);
    sieve_code_number(program, compiler->unit_count);
    sieve_code_put(program, slice_of(compiler->strings.bytes, compiler->strings.size));
    program->failed = program->failed || compiler->strings.failed;
    for (uint32_t i = 0; i < compiler->unit_count; i++) {
        const struct sieve_unit *unit = &compiler->units[i];
        sieve_code_number(program, unit->name.size);
        sieve_code_put(program, unit->name);
        sieve_code_number(program, unit->present);
        sieve_code_number(program, unit->locals);
        sieve_code_number(program, unit->code.size);
        sieve_code_put(program, slice_of(unit->code.bytes, unit->code.size));
        program->failed = program->failed || unit->code.failed;
    }
}

static enum sieve_compiled compiled(struct sieve_compiler *compiler, bool good)
{
    if (!good) {
        compiler->error.script = compiler->current;
        return SIEVE_COMPILE_WRONG;
    }
    for (uint32_t i = 0; !compiler->settings->check_only && i < compiler->unit_count; i++) {
        if (!compiler->units[i].done) {
            compiler->current = i;
            return SIEVE_COMPILE_NEED;
        }
    }
    program_write(compiler);
    if (compiler->program.failed) {
        sieve_error_set(&compiler->error, 1, 0, "the program is too large");
        return SIEVE_COMPILE_WRONG;
    }
    return SIEVE_COMPILE_GOOD;
}

enum sieve_compiled sieve_compile(struct sieve_compiler *compiler, struct slice text)
{
    struct sieve_unit *unit = &compiler->units[compiler->current];
    struct sieve_node *commands;
    check(!unit->done && compiler->error.text[0] == '\0');
    unit->done = unit->present = true;
    compiler->enabled = SIEVE_EXTENSION_BIT(OCTET) | SIEVE_EXTENSION_BIT(CASEMAP);
    compiler->locals = (struct sieve_variable_names){0};
    compiler->line = 1;
    compiler->regexes = 0;
    bool good = sieve_tree_parse(text, &compiler->tree, &commands, &compiler->error) &&
                sieve_commands_compile(compiler, commands);
    unit->locals = compiler->locals.slots;
    sieve_begin(compiler, SIEVE_OP_RETURN);
    arena_reset(&compiler->tree);
    return compiled(compiler, good);
}

enum sieve_compiled sieve_compile_absent(struct sieve_compiler *compiler)
{
    check(compiler->current > 0 && !compiler->units[compiler->current].done);
    compiler->units[compiler->current].done = true;
    sieve_begin(compiler, SIEVE_OP_RETURN);
    return compiled(compiler, true);
}

struct sieve_need sieve_compile_need(const struct sieve_compiler *compiler)
{
    const struct sieve_unit *unit = &compiler->units[compiler->current];
    return (struct sieve_need){unit->name, unit->location};
}

struct slice sieve_compiled_program(const struct sieve_compiler *compiler)
{
    return slice_of(compiler->program.bytes, compiler->program.size);
}

const struct sieve_error *sieve_compile_error(const struct sieve_compiler *compiler)
{
    return &compiler->error;
}

size_t sieve_extensions_list(uint32_t extensions, char *room, size_t bytes)
{
    size_t used = 0;
    for (int i = SIEVE_EXTENSION_NONE + 1; i < SIEVE_EXTENSION_OCTET; i++) {
        const char *name = sieve_extension_name((enum sieve_extension)i);
        size_t size = strlen(name);
        if ((extensions >> i & 1) && used + size + 2 < bytes) {
            used += (size_t)snprintf(room + used, bytes - used, "%s%s", used > 0 ? " " : "", name);
        }
    }
    return used;
}

bool sieve_script_name_valid(struct slice name)
{
    size_t characters = 0;
    if (name.size == 0 || name.size > SIEVE_SCRIPT_NAME_BYTES_MAX) {
        return false;
    }
    for (; name.size > 0; characters++) {
        size_t bytes = utf8_printable(name);
        bool separator = bytes == 3 && name.bytes[0] == 0xe2 && name.bytes[1] == 0x80 &&
                         (name.bytes[2] == 0xa8 || name.bytes[2] == 0xa9); /* U+2028, U+2029 */
        if (bytes == 0 || separator) {
            return false;
        }
        name = slice_from(name, bytes);
    }
    return characters <= 128;
}
