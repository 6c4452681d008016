#include "proto/sieve/program.h"
#include "proto/sieve/limits.h"
#include <errno.h>

static bool count_read(struct slice *bytes, uint64_t most, uint32_t *count)
{
    uint64_t number;
    if (!sieve_number_read(bytes, &number) || number > most) {
        return false;
    }
    *count = (uint32_t)number;
    return true;
}

static bool bytes_read(struct slice *bytes, uint64_t most, struct slice *read)
{
    uint32_t size;
    if (!count_read(bytes, most, &size) || size > bytes->size) {
        return false;
    }
    *read = slice_first(*bytes, size);
    *bytes = slice_from(*bytes, size);
    return true;
}

/* ---- Strings ---- */

static bool template_good(struct slice pieces, uint32_t globals, uint32_t *locals)
{
    while (pieces.size > 0) {
        uint32_t piece, number;
        struct slice text;
        if (!count_read(&pieces, SIEVE_PIECE_MATCH, &piece)) {
            return false;
        }
        bool good = false;
        switch ((enum sieve_piece)piece) {
        case SIEVE_PIECE_TEXT:
            good = bytes_read(&pieces, SIEVE_PROGRAM_BYTES_MAX, &text);
            break;
        case SIEVE_PIECE_LOCAL:
            good = count_read(&pieces, SIEVE_VARIABLES_MAX - 1, &number);
            *locals = good && number >= *locals ? number + 1 : *locals;
            break;
        case SIEVE_PIECE_GLOBAL:
            good = count_read(&pieces, SIEVE_VARIABLES_MAX - 1, &number) && number < globals;
            break;
        case SIEVE_PIECE_MATCH:
            good = count_read(&pieces, SIEVE_MATCH_VALUES_MAX - 1, &number);
            break;
        }
        if (!good) {
            return false;
        }
    }
    return true;
}

/* *locals: how many variables of a script strings speak of, at most. Which script uses a string is not known here. */
static int strings_read(struct sieve_program *program, struct slice *bytes, uint32_t *locals)
{
    program->strings =
        arena_take_array(&program->arena, program->string_count, sizeof(*program->strings));
    if (program->strings == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < program->string_count; i++) {
        struct sieve_program_string *string = &program->strings[i];
        uint32_t kind;
        if (!count_read(bytes, SIEVE_TEMPLATE, &kind) ||
            !bytes_read(bytes, SIEVE_PROGRAM_BYTES_MAX, &string->bytes)) {
            return -EINVAL;
        }
        string->kind = (enum sieve_string_kind)kind;
        if (string->kind == SIEVE_TEMPLATE &&
            !template_good(string->bytes, program->globals, locals)) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- Scripts ---- */

/* Two walks: where instructions begin, then whether jumps lead there. */
static int code_check(struct sieve_program *program, uint32_t script)
{
    struct slice code = program->scripts[script].code;
    struct sieve_bounds bounds = sieve_program_bounds(program, script);
    struct sieve_instruction instruction = {.operation = SIEVE_OP_STOP};
    struct arena arena;
    arena_open(&arena, SIEVE_PROGRAM_BYTES_MAX);
    uint8_t *begins = arena_take(&arena, code.size / 8 + 1);
    int status = begins != NULL ? 0 : -ENOMEM;
    for (size_t at = 0; status == 0 && at < code.size;) {
        begins[at / 8] |= (uint8_t)(1u << at % 8);
        if (!sieve_instruction_read(code, &at, &bounds, &instruction)) {
            status = -EINVAL;
        }
        program->reads_body |= instruction.operation == SIEVE_OP_BODY;
        program->edits_header |= instruction.operation == SIEVE_OP_ADDHEADER ||
                                 instruction.operation == SIEVE_OP_DELETEHEADER;
        program->asks_mailboxes |= instruction.operation == SIEVE_OP_MAILBOXEXISTS;
    }
    if (status == 0 && instruction.operation != SIEVE_OP_RETURN) {
        status = -EINVAL; /* else it would run out at its end */
    }
    for (size_t at = 0; status == 0 && at < code.size;) {
        sieve_instruction_read(code, &at, &bounds, &instruction);
        enum sieve_operation operation = instruction.operation;
        size_t target = instruction.target;
        bool jump = operation == SIEVE_OP_JUMP || operation == SIEVE_OP_JUMP_TRUE ||
                    operation == SIEVE_OP_JUMP_FALSE;
        if (jump &&
            (target < at || target >= code.size || !(begins[target / 8] >> target % 8 & 1))) {
            status = -EINVAL;
        }
    }
    arena_close(&arena);
    return status;
}

static int scripts_read(struct sieve_program *program, struct slice *bytes, uint32_t locals)
{
    program->scripts =
        arena_take_array(&program->arena, program->script_count, sizeof(*program->scripts));
    if (program->scripts == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < program->script_count; i++) {
        struct sieve_program_script *script = &program->scripts[i];
        uint32_t present;
        if (!bytes_read(bytes, SIEVE_SCRIPT_NAME_BYTES_MAX, &script->name) ||
            !count_read(bytes, 1, &present) ||
            !count_read(bytes, SIEVE_VARIABLES_MAX, &script->locals) ||
            !bytes_read(bytes, SIEVE_PROGRAM_BYTES_MAX, &script->code)) {
            return -EINVAL;
        }
        script->present = present == 1;
        /* A string's variables are in any script that uses it. */
        script->locals = script->locals < locals ? locals : script->locals;
        int status = code_check(program, i);
        if (status != 0) {
            return status;
        }
    }
    return bytes->size == 0 ? 0 : -EINVAL;
}

struct sieve_bounds sieve_program_bounds(const struct sieve_program *program, uint32_t script)
{
    return (struct sieve_bounds){
        .strings = program->string_count,
        .locals = program->scripts[script].locals,
        .globals = program->globals,
        .scripts = program->script_count,
    };
}

int sieve_program_open(struct sieve_program *program, struct slice bytes)
{
    struct slice magic = slice_text(SIEVE_PROGRAM_MAGIC);
    uint32_t version, locals = 0;
    *program = (struct sieve_program){0};
    arena_open(&program->arena, SIEVE_COMPILE_BYTES_MAX);
    if (bytes.size > SIEVE_PROGRAM_BYTES_MAX ||
        !slice_equal(slice_first(bytes, magic.size), magic)) {
        return -EINVAL;
    }
    bytes = slice_from(bytes, magic.size);
    /* A string takes two bytes at least. */
    if (!count_read(&bytes, UINT32_MAX, &version) || version != SIEVE_CODE_VERSION ||
        !count_read(&bytes, SIEVE_VARIABLES_MAX, &program->globals) ||
        !count_read(&bytes, bytes.size / 2, &program->string_count) ||
        !count_read(&bytes, SIEVE_SCRIPTS_MAX, &program->script_count) ||
        program->script_count == 0) {
        return -EINVAL;
    }
    int status = strings_read(program, &bytes, &locals);
    return status == 0 ? scripts_read(program, &bytes, locals) : status;
}

void sieve_program_close(struct sieve_program *program)
{
    arena_close(&program->arena);
    *program = (struct sieve_program){0};
}
