#include "proto/sieve/compile_private.h"
#include "proto/message/utf8.h"
#include <unistr.h>

/* ---- ${hex:...} and ${unicode:...} (RFC 5228 §2.4.2.4) ---- */

static int hex_digit(uint8_t byte)
{
    uint8_t lower = slice_lower(byte);
    return byte >= '0' && byte <= '9'     ? byte - '0'
           : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                          : -1;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

enum characters { CHARACTERS_NONE, CHARACTERS_GOOD, CHARACTERS_WRONG };

/* The numbers up to '}', of at most `digits` digits. What they stand for takes no more room than they. */
static enum characters numbers_read(struct slice *text, unsigned digits, uint8_t *bytes,
                                    size_t *used)
{
    size_t count = 0;
    for (size_t at = 0; at < text->size;) {
        if (is_blank(text->bytes[at])) {
            at++;
            continue;
        }
        if (text->bytes[at] == '}') {
            *text = slice_from(*text, at + 1);
            return count > 0 ? CHARACTERS_GOOD : CHARACTERS_NONE;
        }
        uint32_t number = 0;
        unsigned read = 0;
        while (at < text->size && hex_digit(text->bytes[at]) >= 0 && number < 0x1000000) {
            number = number * 16 + (uint32_t)hex_digit(text->bytes[at++]);
            read++;
        }
        if (read == 0 || (digits == 2 && read > 2) ||
            (at < text->size && !is_blank(text->bytes[at]) && text->bytes[at] != '}')) {
            return CHARACTERS_NONE;
        }
        if (digits == 2) {
            bytes[(*used)++] = (uint8_t)number;
        } else if (number > 0x10ffff || (number >= 0xd800 && number < 0xe000)) {
            return CHARACTERS_WRONG;
        } else {
            *used += (size_t)u8_uctomb(bytes + *used, number, 4); /* it stood in more */
        }
        count++;
    }
    return CHARACTERS_NONE;
}

static bool characters_decode(struct sieve_compiler *compiler, const struct sieve_string *string,
                              struct slice *decoded)
{
    /* "${unicode:40}": what is written is never longer than what is read. */
    uint8_t *bytes = arena_take(&compiler->tree, string->text.size);
    if (bytes == NULL) {
        sieve_error_set(&compiler->error, string->line, string->column,
                        "the script takes too much memory");
        return false;
    }
    size_t used = 0;
    for (struct slice rest = string->text; rest.size > 0;) {
        bool hex = slice_equal_nocase(slice_first(rest, 6), slice_text("${hex:"));
        bool unicode = slice_equal_nocase(slice_first(rest, 10), slice_text("${unicode:"));
        enum characters found = CHARACTERS_NONE;
        size_t before = used;
        if (hex || unicode) {
            struct slice numbers = slice_from(rest, hex ? 6 : 10);
            found = numbers_read(&numbers, hex ? 2 : 8, bytes, &used);
            rest = found == CHARACTERS_GOOD ? numbers : rest;
        }
        if (found == CHARACTERS_WRONG) {
            sieve_error_set(&compiler->error, string->line, string->column,
                            "${unicode:} names what is no character");
            return false;
        }
        if (found == CHARACTERS_NONE) {
            used = before;
            bytes[used++] = rest.bytes[0];
            rest = slice_from(rest, 1);
        }
    }
    *decoded = slice_of(bytes, used);
    return true;
}

/* ---- Variables (RFC 5229 §3) ---- */

static struct sieve_variable_name *name_find(struct sieve_variable_names *names, struct slice name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (slice_equal_nocase(names->names[i].name, name)) {
            return &names->names[i];
        }
    }
    return NULL;
}

/* NULL: too many, or no memory. */
static struct sieve_variable_name *name_add(struct sieve_compiler *compiler,
                                            struct sieve_variable_names *names, struct slice name)
{
    if (names->count == SIEVE_VARIABLES_MAX * 2 || names->slots == SIEVE_VARIABLES_MAX) {
        return NULL;
    }
    struct sieve_variable_name *entry = &names->names[names->count];
    *entry = (struct sieve_variable_name){.slot = names->slots};
    if (!arena_copy(&compiler->names, name, &entry->name)) {
        return NULL;
    }
    names->count++;
    names->slots++;
    return entry;
}

static bool identifier_valid(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t lower = slice_lower(name.bytes[i]);
        bool digit = lower >= '0' && lower <= '9';
        if (!((lower >= 'a' && lower <= 'z') || lower == '_' || (digit && i > 0))) {
            return false;
        }
    }
    return name.size > 0 && name.size <= SIEVE_VARIABLE_NAME_BYTES_MAX;
}

static bool global_prefix(struct slice *name)
{
    static const char prefix[] = "global.";
    size_t size = sizeof(prefix) - 1;
    if (!slice_equal_nocase(slice_first(*name, size), slice_text(prefix))) {
        return false;
    }
    *name = slice_from(*name, size);
    return true;
}

static bool string_wrong(struct sieve_compiler *compiler, const struct sieve_string *string,
                         const char *what)
{
    sieve_error_set(&compiler->error, string->line, string->column, "%s", what);
    return false;
}

static bool global_slot(struct sieve_compiler *compiler, const struct sieve_string *string,
                        struct slice name, uint32_t *slot)
{
    struct sieve_variable_name *entry = name_find(&compiler->globals, name);
    if (entry == NULL) {
        entry = name_add(compiler, &compiler->globals, name);
    }
    if (entry == NULL) {
        return string_wrong(compiler, string, "too many global variables");
    }
    *slot = entry->slot;
    return true;
}

bool sieve_variable_given(struct sieve_compiler *compiler, const struct sieve_string *name,
                          uint32_t *variable)
{
    struct slice text = name->text;
    uint32_t slot;
    bool global = sieve_enabled(compiler, SIEVE_EXTENSION_INCLUDE) && global_prefix(&text);
    if (!sieve_enabled(compiler, SIEVE_EXTENSION_VARIABLES)) {
        return string_wrong(compiler, name, "naming a variable needs require \"variables\"");
    }
    if (!identifier_valid(text)) {
        return string_wrong(compiler, name, "this is no name for a variable");
    }
    if (global) {
        if (!global_slot(compiler, name, text, &slot)) {
            return false;
        }
        *variable = sieve_variable(slot, true);
        return true;
    }
    struct sieve_variable_name *entry = name_find(&compiler->locals, text);
    if (entry == NULL) {
        entry = name_add(compiler, &compiler->locals, text);
    }
    if (entry == NULL) {
        return string_wrong(compiler, name, "too many variables");
    }
    *variable = sieve_variable(entry->slot, entry->global);
    return true;
}

bool sieve_global_declare(struct sieve_compiler *compiler, const struct sieve_string *name)
{
    uint32_t slot;
    if (!identifier_valid(name->text)) {
        return string_wrong(compiler, name, "this is no name for a variable");
    }
    struct sieve_variable_name *entry = name_find(&compiler->locals, name->text);
    if (entry != NULL && entry->global) {
        return true;
    }
    if (entry != NULL) {
        return string_wrong(compiler, name, "this variable is used already, and not global");
    }
    if (!global_slot(compiler, name, name->text, &slot)) {
        return false;
    }
    entry = name_add(compiler, &compiler->locals, name->text);
    if (entry == NULL) {
        return string_wrong(compiler, name, "too many variables");
    }
    compiler->locals.slots--;
    entry->global = true;
    entry->slot = slot;
    return true;
}

static void piece_put(struct sieve_code *code, enum sieve_piece piece, uint32_t number)
{
    sieve_code_number(code, piece);
    sieve_code_number(code, number);
}

static bool digits_read(struct slice name, uint32_t *number)
{
    *number = 0;
    for (size_t i = 0; i < name.size; i++) {
        if (name.bytes[i] < '0' || name.bytes[i] > '9') {
            return false;
        }
        *number = *number >= 1000 ? 1000 : *number * 10 + (uint32_t)(name.bytes[i] - '0');
    }
    return name.size > 0;
}

/* What stands between ${ and }. *is: it is the name of a variable; unknown ones are empty, and put nothing. */
static bool reference_put(struct sieve_compiler *compiler, const struct sieve_string *string,
                          struct slice name, struct sieve_code *code, bool *is)
{
    uint32_t number;
    *is = true;
    if (digits_read(name, &number)) {
        if (number < SIEVE_MATCH_VALUES_MAX) {
            piece_put(code, SIEVE_PIECE_MATCH, number);
        }
        return true;
    }
    struct slice bare = name;
    if (sieve_enabled(compiler, SIEVE_EXTENSION_INCLUDE) && global_prefix(&bare) &&
        identifier_valid(bare)) {
        if (!global_slot(compiler, string, bare, &number)) {
            return false;
        }
        piece_put(code, SIEVE_PIECE_GLOBAL, number);
        return true;
    }
    if (!identifier_valid(name)) {
        const uint8_t *dot = name.size > 0 ? memchr(name.bytes, '.', name.size) : NULL;
        size_t before = dot != NULL ? (size_t)(dot - name.bytes) : 0;
        uint32_t unused;
        struct slice behind = slice_from(name, before + 1);
        *is = false;
        return dot == NULL || !identifier_valid(slice_first(name, before)) ||
               !(identifier_valid(behind) || digits_read(behind, &unused)) ||
               string_wrong(compiler, string, "this variable is in a namespace that is unknown");
    }
    struct sieve_variable_name *entry = name_find(&compiler->locals, name);
    if (entry != NULL) {
        piece_put(code, entry->global ? SIEVE_PIECE_GLOBAL : SIEVE_PIECE_LOCAL, entry->slot);
    }
    return true;
}

static void literal_put(struct sieve_code *code, struct slice text)
{
    if (text.size > 0) {
        sieve_code_number(code, SIEVE_PIECE_TEXT);
        sieve_code_number(code, text.size);
        sieve_code_put(code, text);
    }
}

/* *found: at least one variable. The pieces go to *code. */
static bool variables_find(struct sieve_compiler *compiler, const struct sieve_string *string,
                           struct slice text, struct sieve_code *code, bool *found)
{
    size_t literal = 0; /* where it begins */
    *found = false;
    for (size_t at = 0; at + 2 < text.size; at++) {
        if (text.bytes[at] != '$' || text.bytes[at + 1] != '{') {
            continue;
        }
        struct slice rest =
            slice_first(slice_from(text, at + 2), 2 * SIEVE_VARIABLE_NAME_BYTES_MAX + 2);
        const uint8_t *end = memchr(rest.bytes, '}', rest.size);
        if (end == NULL) {
            continue;
        }
        struct slice name = slice_first(rest, (size_t)(end - rest.bytes));
        struct sieve_code pieces = {0};
        bool is, good = reference_put(compiler, string, name, &pieces, &is);
        if (good && is) {
            literal_put(code, slice_of(text.bytes + literal, at - literal));
            sieve_code_put(code, slice_of(pieces.bytes, pieces.size));
            literal = at + name.size + 3;
            at = literal - 1;
            *found = true;
        }
        sieve_code_close(&pieces);
        if (!good) {
            return false;
        }
    }
    literal_put(code, slice_from(text, literal));
    return true;
}

bool sieve_string_compile(struct sieve_compiler *compiler, const struct sieve_string *string,
                          struct sieve_compiled_string *compiled)
{
    struct slice text = string->text;
    *compiled = (struct sieve_compiled_string){SIEVE_TEXT, text};
    if (text.size < 3 || memmem(text.bytes, text.size, "${", 2) == NULL) {
        return true;
    }
    if (sieve_enabled(compiler, SIEVE_EXTENSION_ENCODED_CHARACTER) &&
        !characters_decode(compiler, string, &text)) {
        return false;
    }
    compiled->bytes = text;
    if (!sieve_enabled(compiler, SIEVE_EXTENSION_VARIABLES)) {
        return true;
    }
    struct sieve_code pieces = {0};
    bool found, good = variables_find(compiler, string, text, &pieces, &found);
    if (good && found) {
        compiled->kind = SIEVE_TEMPLATE;
        good = !pieces.failed &&
               arena_copy(&compiler->tree, slice_of(pieces.bytes, pieces.size), &compiled->bytes);
        if (!good) {
            string_wrong(compiler, string, "the script takes too much memory");
        }
    }
    sieve_code_close(&pieces);
    return good;
}

/* ---- Operands ---- */

bool sieve_constant(struct sieve_compiler *compiler, const struct sieve_argument *argument,
                    struct slice *text)
{
    struct sieve_compiled_string compiled;
    if (!sieve_string_compile(compiler, argument->strings, &compiled)) {
        return false;
    }
    *text = compiled.bytes;
    return compiled.kind == SIEVE_TEXT ||
           sieve_wrong_argument(compiler, argument, "there may be no variables in this string");
}

static void string_write(struct sieve_compiler *compiler,
                         const struct sieve_compiled_string *compiled)
{
    sieve_code_number(&compiler->strings, compiled->kind);
    sieve_code_number(&compiler->strings, compiled->bytes.size);
    sieve_code_put(&compiler->strings, compiled->bytes);
    compiler->string_count++;
}

bool sieve_put_text(struct sieve_compiler *compiler, struct slice text)
{
    const struct sieve_compiled_string compiled = {SIEVE_TEXT, text};
    sieve_code_number(sieve_unit_code(compiler), compiler->string_count);
    string_write(compiler, &compiled);
    return true;
}

static bool put(struct sieve_compiler *compiler, const struct sieve_string *string, unsigned more)
{
    struct sieve_compiled_string compiled;
    if (!sieve_string_compile(compiler, string, &compiled)) {
        return false;
    }
    sieve_code_number(sieve_unit_code(compiler), (uint64_t)compiler->string_count + more);
    string_write(compiler, &compiled);
    return true;
}

bool sieve_put_string(struct sieve_compiler *compiler, const struct sieve_argument *argument)
{
    return put(compiler, argument->strings, 0);
}

bool sieve_put_optional(struct sieve_compiler *compiler, const struct sieve_argument *argument)
{
    if (argument == NULL) {
        sieve_code_number(sieve_unit_code(compiler), 0);
        return true;
    }
    return put(compiler, argument->strings, 1);
}

static bool put_all(struct sieve_compiler *compiler, const struct sieve_argument *argument)
{
    for (const struct sieve_string *string = argument->strings; string != NULL;
         string = string->next) {
        if (!put(compiler, string, 0)) {
            return false;
        }
    }
    return true;
}

bool sieve_put_list(struct sieve_compiler *compiler, const struct sieve_argument *argument)
{
    sieve_code_number(sieve_unit_code(compiler), argument->string_count);
    return put_all(compiler, argument);
}

bool sieve_put_optional_list(struct sieve_compiler *compiler, const struct sieve_argument *argument)
{
    if (argument == NULL) {
        sieve_code_number(sieve_unit_code(compiler), 0);
        return true;
    }
    sieve_code_number(sieve_unit_code(compiler), (uint64_t)argument->string_count + 1);
    return put_all(compiler, argument);
}

bool sieve_field_name_valid(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.bytes[i] <= ' ' || name.bytes[i] > '~' || name.bytes[i] == ':') {
            return false;
        }
    }
    return name.size > 0 && name.size <= 256;
}
