#include "proto/sieve/code.h"
#include "proto/sieve/limits.h"
#include "proto/sieve/match.h"
#include <stdlib.h>

static const struct {
    const char *operands;
    uint32_t flags_max;
} operations[] = {
#define SHAPE(name, operands, flags_max) {operands, flags_max},
    SIEVE_OPERATIONS(SHAPE)
#undef SHAPE
};

/* ---- Writing ---- */

void sieve_code_put(struct sieve_code *code, struct slice bytes)
{
    if (code->failed || bytes.size > SIEVE_PROGRAM_BYTES_MAX - code->size) {
        code->failed = true;
        return;
    }
    if (code->size + bytes.size > code->room) {
        size_t room = (code->size + bytes.size) * 2 + 64;
        uint8_t *larger = realloc(code->bytes, room);
        if (larger == NULL) {
            code->failed = true;
            return;
        }
        code->bytes = larger;
        code->room = room;
    }
    if (bytes.size > 0) {
        memcpy(code->bytes + code->size, bytes.bytes, bytes.size);
    }
    code->size += bytes.size;
}

void sieve_code_number(struct sieve_code *code, uint64_t number)
{
    uint8_t bytes[10];
    size_t used = 0;
    while (number >= 0x80) {
        bytes[used++] = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    bytes[used++] = (uint8_t)number;
    sieve_code_put(code, slice_of(bytes, used));
}

size_t sieve_code_jump(struct sieve_code *code, enum sieve_operation operation, uint32_t line)
{
    sieve_code_number(code, operation);
    sieve_code_number(code, line);
    size_t jump = code->size;
    sieve_code_put(code, slice_of("\0\0\0\0", 4));
    return jump;
}

void sieve_code_land(struct sieve_code *code, size_t jump)
{
    for (unsigned i = 0; !code->failed && i < 4; i++) {
        code->bytes[jump + i] = (uint8_t)(code->size >> 8 * i);
    }
}

void sieve_code_close(struct sieve_code *code)
{
    free(code->bytes);
    *code = (struct sieve_code){0};
}

/* ---- Reading ---- */

bool sieve_number_read(struct slice *bytes, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; shift < 63 && bytes->size > 0; shift += 7) {
        uint8_t byte = bytes->bytes[0];
        *bytes = slice_from(*bytes, 1);
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return true;
        }
    }
    return false;
}

static bool below_read(struct slice *bytes, uint64_t bound, uint32_t *number)
{
    uint64_t wide;
    if (!sieve_number_read(bytes, &wide) || wide >= bound) {
        return false;
    }
    *number = (uint32_t)wide;
    return true;
}

bool sieve_list_next(struct sieve_list *list, uint32_t *item)
{
    return below_read(&list->items, UINT32_MAX, item);
}

static bool variable_read(struct slice *bytes, const struct sieve_bounds *bounds,
                          uint32_t *variable)
{
    if (!below_read(bytes, UINT32_MAX, variable)) {
        return false;
    }
    uint32_t slot = (*variable - 1) / 2;
    bool global = (*variable - 1) % 2 == 1;
    return *variable == SIEVE_VARIABLE_FLAGS || slot < (global ? bounds->globals : bounds->locals);
}

static bool list_read(struct slice *bytes, char kind, const struct sieve_bounds *bounds,
                      struct sieve_list *list)
{
    uint64_t count;
    if (!sieve_number_read(bytes, &count)) {
        return false;
    }
    list->present = kind != 'x' || count > 0;
    count -= kind == 'x' && count > 0;
    if (count > bytes->size) {
        return false; /* each takes a byte at least */
    }
    list->count = (uint32_t)count;
    list->items = *bytes;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t item;
        if (!(kind == 'w' ? variable_read(bytes, bounds, &item)
                          : below_read(bytes, bounds->strings, &item))) {
            return false;
        }
    }
    list->items.size -= bytes->size;
    return true;
}

static bool target_read(struct slice *bytes, uint32_t *target)
{
    if (bytes->size < 4) {
        return false;
    }
    *target = 0;
    for (unsigned i = 0; i < 4; i++) {
        *target |= (uint32_t)bytes->bytes[i] << 8 * i;
    }
    *bytes = slice_from(*bytes, 4);
    return true;
}

static bool string_read(struct slice *bytes, char kind, const struct sieve_bounds *bounds,
                        uint32_t *string)
{
    if (kind == 's') {
        return below_read(bytes, bounds->strings, string);
    }
    if (!below_read(bytes, (uint64_t)bounds->strings + 1, string)) {
        return false;
    }
    *string = *string == 0 ? SIEVE_NO_STRING : *string - 1;
    return true;
}

bool sieve_instruction_read(struct slice code, size_t *at, const struct sieve_bounds *bounds,
                            struct sieve_instruction *instruction)
{
    struct slice rest = slice_from(code, *at);
    uint32_t operation, strings = 0, lists = 0;
    *instruction = (struct sieve_instruction){.operation = SIEVE_OP_STOP};
    if (!below_read(&rest, SIEVE_OP_COUNT, &operation) ||
        !below_read(&rest, UINT32_MAX, &instruction->line)) {
        return false;
    }
    instruction->operation = (enum sieve_operation)operation;
    bool good = true;
    for (const char *kind = operations[operation].operands; good && *kind != '\0'; kind++) {
        switch (*kind) {
        case 's':
        case 'o':
            good = string_read(&rest, *kind, bounds, &instruction->strings[strings++]);
            break;
        case 'l':
        case 'x':
        case 'w':
            good = list_read(&rest, *kind, bounds, &instruction->lists[lists++]);
            break;
        case 'm':
            good = below_read(&rest, UINT32_MAX, &instruction->match) &&
                   sieve_match_valid(instruction->match);
            break;
        case 'n':
            good = sieve_number_read(&rest, &instruction->number);
            break;
        case 'i':
            good = sieve_number_read(&rest, &instruction->index);
            break;
        case 'f':
            good = below_read(&rest, (uint64_t)operations[operation].flags_max + 1,
                              &instruction->flags);
            break;
        case 'p':
            good = below_read(&rest, SIEVE_PARTS, &instruction->part);
            break;
        case 'z':
            good = below_read(&rest, SIEVE_KINDS, &instruction->kind);
            break;
        case 'v':
            good = variable_read(&rest, bounds, &instruction->variable);
            break;
        case 'j':
            good = target_read(&rest, &instruction->target);
            break;
        default: /* k */
            good = below_read(&rest, bounds->scripts, &instruction->script);
            break;
        }
    }
    *at = code.size - rest.size;
    return good;
}
