#include "proto/sieve/compile_private.h"

/* What is known of a constant string is checked here; what has variables in it, when it runs. */
static bool constant_field_name(struct sieve_compiler *compiler,
                                const struct sieve_argument *argument)
{
    struct sieve_compiled_string name;
    if (!sieve_string_compile(compiler, argument->strings, &name)) {
        return false;
    }
    return name.kind != SIEVE_TEXT || sieve_field_name_valid(name.bytes) ||
           sieve_wrong_argument(compiler, argument, "this is no name for a header field");
}

static bool keep_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    sieve_begin(compiler, SIEVE_OP_KEEP);
    return sieve_put_optional_list(compiler, given->values[SIEVE_TAG_FLAGS]);
}

static bool fileinto_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    sieve_begin(compiler, SIEVE_OP_FILEINTO);
    if (!sieve_put_string(compiler, given->positional[0]) ||
        !sieve_put_optional_list(compiler, given->values[SIEVE_TAG_FLAGS])) {
        return false;
    }
    sieve_flags(compiler, (given->tags[SIEVE_TAG_COPY] != NULL ? SIEVE_COPY : 0u) |
                              (given->tags[SIEVE_TAG_CREATE] != NULL ? SIEVE_CREATE : 0u));
    return true;
}

static bool string_action(struct sieve_compiler *compiler, const struct sieve_given *given,
                          enum sieve_operation operation, uint32_t flags)
{
    sieve_begin(compiler, operation);
    if (!sieve_put_string(compiler, given->positional[0])) {
        return false;
    }
    if (operation != SIEVE_OP_FAIL) {
        sieve_flags(compiler, flags);
    }
    return true;
}

static bool vacation_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    const struct sieve_argument *days = given->values[SIEVE_TAG_DAYS];
    const struct sieve_argument *seconds = given->values[SIEVE_TAG_SECONDS];
    const struct sieve_argument *time = days != NULL ? days : seconds;
    if (time != NULL && time->number > UINT32_MAX) {
        return sieve_wrong_argument(compiler, time, "the number is too large");
    }
    sieve_begin(compiler, SIEVE_OP_VACATION);
    if (!sieve_put_string(compiler, given->positional[0])) {
        return false;
    }
    sieve_code_number(sieve_unit_code(compiler), days != NULL      ? days->number * 86400
                                                 : seconds != NULL ? seconds->number
                                                                   : 0);
    if (!sieve_put_optional(compiler, given->values[SIEVE_TAG_SUBJECT]) ||
        !sieve_put_optional(compiler, given->values[SIEVE_TAG_FROM]) ||
        !sieve_put_optional_list(compiler, given->values[SIEVE_TAG_ADDRESSES]) ||
        !sieve_put_optional(compiler, given->values[SIEVE_TAG_HANDLE])) {
        return false;
    }
    sieve_flags(compiler, (given->tags[SIEVE_TAG_MIME] != NULL ? SIEVE_VACATION_MIME : 0u) |
                              (time != NULL ? SIEVE_VACATION_SECONDS : 0u));
    return true;
}

static bool setflag_compile(struct sieve_compiler *compiler, const struct sieve_given *given,
                            enum sieve_operation operation)
{
    uint32_t variable = SIEVE_VARIABLE_FLAGS;
    if (given->positional[0] != NULL &&
        !sieve_variable_given(compiler, given->positional[0]->strings, &variable)) {
        return false;
    }
    sieve_begin(compiler, operation);
    sieve_code_number(sieve_unit_code(compiler), variable);
    return sieve_put_list(compiler, given->positional[1]);
}

static bool set_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    uint32_t variable, flags = 0;
    struct sieve_compiled_string name;
    for (unsigned i = 0; i <= SIEVE_TAG_LENGTH - SIEVE_TAG_LOWER; i++) {
        flags |= given->tags[SIEVE_TAG_LOWER + i] != NULL ? 1u << i : 0;
    }
    if (!sieve_string_compile(compiler, given->positional[0]->strings, &name)) {
        return false;
    }
    if (name.kind != SIEVE_TEXT) {
        return sieve_wrong_argument(compiler, given->positional[0],
                                    "there may be no variables in this string");
    }
    const struct sieve_string text = {.line = given->positional[0]->line,
                                      .column = given->positional[0]->column,
                                      .text = name.bytes};
    if (!sieve_variable_given(compiler, &text, &variable)) {
        return false;
    }
    sieve_begin(compiler, SIEVE_OP_SET);
    sieve_code_number(sieve_unit_code(compiler), variable);
    if (!sieve_put_string(compiler, given->positional[1])) {
        return false;
    }
    sieve_flags(compiler, flags);
    return true;
}

/* The number of the unit, which is made when nobody has asked for it before. */
static bool unit_find(struct sieve_compiler *compiler, const struct sieve_given *given,
                      uint32_t *script)
{
    struct slice name;
    enum sieve_location location =
        given->tags[SIEVE_TAG_GLOBAL] != NULL ? SIEVE_GLOBAL : SIEVE_PERSONAL;
    if (!sieve_constant(compiler, given->positional[0], &name)) {
        return false;
    }
    if (!sieve_script_name_valid(name)) {
        return sieve_wrong_argument(compiler, given->positional[0], "this is no name for a script");
    }
    for (*script = 1; *script < compiler->unit_count; (*script)++) {
        struct sieve_unit *unit = &compiler->units[*script];
        if (unit->location == location && slice_equal(unit->name, name)) {
            return true;
        }
    }
    struct sieve_unit unit = {.location = location};
    if (*script == SIEVE_SCRIPTS_MAX || !arena_copy(&compiler->names, name, &unit.name)) {
        return sieve_wrong_argument(compiler, given->positional[0],
                                    "too many scripts are included");
    }
    compiler->units[compiler->unit_count++] = unit;
    return true;
}

static bool include_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    uint32_t script = 0;
    if (!unit_find(compiler, given, &script)) {
        return false;
    }
    sieve_begin(compiler, SIEVE_OP_INCLUDE);
    sieve_code_number(sieve_unit_code(compiler), script);
    sieve_flags(compiler,
                (given->tags[SIEVE_TAG_ONCE] != NULL ? SIEVE_INCLUDE_ONCE : 0u) |
                    (given->tags[SIEVE_TAG_OPTIONAL] != NULL ? SIEVE_INCLUDE_OPTIONAL : 0u));
    return true;
}

static bool global_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    if (!sieve_enabled(compiler, SIEVE_EXTENSION_VARIABLES)) {
        return sieve_wrong_at(compiler, given->node, "needs require \"variables\"");
    }
    for (const struct sieve_string *name = given->positional[0]->strings; name != NULL;
         name = name->next) {
        if (!sieve_global_declare(compiler, name)) {
            return false;
        }
    }
    return true;
}

static bool addheader_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    if (!constant_field_name(compiler, given->positional[0])) {
        return false;
    }
    sieve_begin(compiler, SIEVE_OP_ADDHEADER);
    if (!sieve_put_string(compiler, given->positional[0]) ||
        !sieve_put_string(compiler, given->positional[1])) {
        return false;
    }
    sieve_flags(compiler, given->tags[SIEVE_TAG_LAST] != NULL ? SIEVE_LAST : 0);
    return true;
}

static bool deleteheader_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    const struct sieve_argument *index = given->values[SIEVE_TAG_INDEX];
    const struct sieve_argument *keys = given->positional[1];
    uint32_t match = 0;
    if (given->tags[SIEVE_TAG_LAST] != NULL && index == NULL) {
        return sieve_wrong_argument(compiler, given->tags[SIEVE_TAG_LAST], ":last needs :index");
    }
    if (index != NULL && index->number == 0) {
        return sieve_wrong_argument(compiler, index, "an index is at least 1");
    }
    if (!constant_field_name(compiler, given->positional[0])) {
        return false;
    }
    if (keys != NULL && (!sieve_match_given(compiler, given, &match) ||
                         !sieve_patterns_check(compiler, match, keys))) {
        return false;
    }
    if (sieve_match_type(match) == SIEVE_COUNT) {
        return sieve_wrong_at(compiler, given->node, ":count has no meaning here");
    }
    sieve_begin(compiler, SIEVE_OP_DELETEHEADER);
    if (!sieve_put_string(compiler, given->positional[0])) {
        return false;
    }
    sieve_code_number(sieve_unit_code(compiler), index != NULL ? index->number : 0);
    sieve_code_number(sieve_unit_code(compiler), match);
    sieve_flags(compiler, given->tags[SIEVE_TAG_LAST] != NULL ? SIEVE_LAST : 0);
    return sieve_put_optional_list(compiler, keys);
}

static bool command_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    switch (given->word) {
    case SIEVE_WORD_STOP:
        sieve_begin(compiler, SIEVE_OP_STOP);
        return true;
    case SIEVE_WORD_RETURN:
        sieve_begin(compiler, SIEVE_OP_RETURN);
        return true;
    case SIEVE_WORD_DISCARD:
        sieve_begin(compiler, SIEVE_OP_DISCARD);
        return true;
    case SIEVE_WORD_KEEP:
        return keep_compile(compiler, given);
    case SIEVE_WORD_FILEINTO:
        return fileinto_compile(compiler, given);
    case SIEVE_WORD_REDIRECT:
        return string_action(compiler, given, SIEVE_OP_REDIRECT,
                             given->tags[SIEVE_TAG_COPY] != NULL ? SIEVE_COPY : 0);
    case SIEVE_WORD_REJECT:
        return string_action(compiler, given, SIEVE_OP_REJECT, 0);
    case SIEVE_WORD_EREJECT:
        return string_action(compiler, given, SIEVE_OP_REJECT, SIEVE_EREJECT);
    case SIEVE_WORD_ERROR:
        return string_action(compiler, given, SIEVE_OP_FAIL, 0);
    case SIEVE_WORD_VACATION:
        return vacation_compile(compiler, given);
    case SIEVE_WORD_SETFLAG:
        return setflag_compile(compiler, given, SIEVE_OP_SETFLAG);
    case SIEVE_WORD_ADDFLAG:
        return setflag_compile(compiler, given, SIEVE_OP_ADDFLAG);
    case SIEVE_WORD_REMOVEFLAG:
        return setflag_compile(compiler, given, SIEVE_OP_REMOVEFLAG);
    case SIEVE_WORD_SET:
        return set_compile(compiler, given);
    case SIEVE_WORD_INCLUDE:
        return include_compile(compiler, given);
    case SIEVE_WORD_GLOBAL:
        return global_compile(compiler, given);
    case SIEVE_WORD_ADDHEADER:
        return addheader_compile(compiler, given);
    case SIEVE_WORD_DELETEHEADER:
        return deleteheader_compile(compiler, given);
    case SIEVE_WORD_REQUIRE:
        return sieve_wrong_at(compiler, given->node, "must stand before all other commands");
    case SIEVE_WORD_ELSIF:
    case SIEVE_WORD_ELSE:
        return sieve_wrong_at(compiler, given->node, "there is no if before it");
    default: /* `if` is its own case, the rest are tests */
        break;
    }
    return false;
}

/* ---- if (RFC 5228 §3.1) ---- */

/* An `elsif` or `else`? */
static bool goes_on(const struct sieve_node *node)
{
    return node != NULL && (slice_equal_nocase(node->name, slice_text("elsif")) ||
                            slice_equal_nocase(node->name, slice_text("else")));
}

/* Jumps that all lead to the same place, which is not known yet: each holds where the one before it is. */
static void jumps_land(struct sieve_code *code, size_t last)
{
    while (last != 0 && !code->failed) {
        size_t before = 0;
        for (unsigned i = 0; i < 4; i++) {
            before |= (size_t)code->bytes[last + i] << 8 * i;
        }
        sieve_code_land(code, last);
        last = before;
    }
}

static size_t jump_chain(struct sieve_code *code, size_t before, uint32_t line)
{
    size_t jump = sieve_code_jump(code, SIEVE_OP_JUMP, line);
    for (unsigned i = 0; i < 4 && !code->failed; i++) {
        code->bytes[jump + i] = (uint8_t)(before >> 8 * i);
    }
    return jump;
}

/* *node is the `if`, and moves to the last of its branches. */
static bool if_compile(struct sieve_compiler *compiler, const struct sieve_node **node)
{
    struct sieve_code *code = sieve_unit_code(compiler);
    size_t ends = 0; /* the last of the jumps from the branches to the end; 0: none */
    for (;; *node = (*node)->next) {
        struct sieve_given given;
        bool deferred;
        if (!sieve_given_sort(compiler, *node, false, &given, &deferred)) {
            return false;
        }
        bool tested = given.word != SIEVE_WORD_ELSE;
        size_t next = 0;
        if (tested) {
            if (!sieve_test_compile(compiler, (*node)->tests)) {
                return false;
            }
            next = sieve_code_jump(code, SIEVE_OP_JUMP_FALSE, (*node)->line);
        }
        if (!sieve_commands_compile(compiler, (*node)->block)) {
            return false;
        }
        bool last = !tested || !goes_on((*node)->next);
        if (!last) {
            ends = jump_chain(code, ends, (*node)->line);
        }
        if (next != 0) {
            sieve_code_land(code, next);
        }
        if (last) {
            break;
        }
    }
    jumps_land(code, ends);
    return true;
}

/* ---- require (RFC 5228 §3.2) ---- */

static bool require_compile(struct sieve_compiler *compiler, const struct sieve_given *given)
{
    for (const struct sieve_string *string = given->positional[0]->strings; string != NULL;
         string = string->next) {
        enum sieve_extension extension = sieve_extension_find(string->text);
        bool always = extension == SIEVE_EXTENSION_OCTET || extension == SIEVE_EXTENSION_CASEMAP;
        if (extension == SIEVE_EXTENSION_NONE ||
            !(always || (compiler->settings->extensions >> extension & 1))) {
            sieve_error_set(&compiler->error, string->line, string->column,
                            "require: the extension \"%.*s\" is not supported",
                            (int)(string->text.size < 80 ? string->text.size : 80),
                            (const char *)string->text.bytes);
            return false;
        }
        compiler->enabled |= 1u << extension;
    }
    if (sieve_enabled(compiler, SIEVE_EXTENSION_VACATION_SECONDS)) {
        compiler->enabled |= SIEVE_EXTENSION_BIT(VACATION); /* RFC 6131 §2 */
    }
    return true;
}

static bool requires_compile(struct sieve_compiler *compiler, const struct sieve_node **node)
{
    while (*node != NULL && slice_equal_nocase((*node)->name, slice_text("require"))) {
        struct sieve_given given;
        bool deferred;
        if (!sieve_given_sort(compiler, *node, false, &given, &deferred) ||
            !require_compile(compiler, &given)) {
            return false;
        }
        *node = (*node)->next;
    }
    return true;
}

bool sieve_commands_compile(struct sieve_compiler *compiler, const struct sieve_node *first)
{
    bool top = sieve_unit_code(compiler)->size == 0;
    if (top && !requires_compile(compiler, &first)) {
        return false;
    }
    for (const struct sieve_node *node = first; node != NULL; node = node->next) {
        struct sieve_given given;
        bool deferred;
        if (slice_equal_nocase(node->name, slice_text("if"))) {
            if (!if_compile(compiler, &node)) {
                return false;
            }
            continue;
        }
        if (!sieve_given_sort(compiler, node, false, &given, &deferred)) {
            if (!deferred || !sieve_defer(compiler)) {
                return false;
            }
            continue;
        }
        if (!command_compile(compiler, &given)) {
            return false;
        }
    }
    return true;
}
