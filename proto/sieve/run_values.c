#include "proto/sieve/run_private.h"
#include "proto/message/utf8.h"
#include <stdio.h>

struct slice sieve_cut(struct slice text, size_t bytes)
{
    if (text.size <= bytes) {
        return text;
    }
    while (bytes > 0 && (text.bytes[bytes] & 0xc0) == 0x80) {
        bytes--;
    }
    return slice_first(text, bytes);
}

/* ---- Strings ---- */

static bool piece_next(struct sieve_run *run, struct slice *pieces, struct slice *text)
{
    uint64_t piece, number;
    struct sieve_frame *frame = sieve_frame(run);
    if (!sieve_number_read(pieces, &piece) || !sieve_number_read(pieces, &number)) {
        return false;
    }
    *text = slice_of(NULL, 0);
    switch ((enum sieve_piece)piece) {
    case SIEVE_PIECE_TEXT:
        *text = slice_first(*pieces, number);
        *pieces = slice_from(*pieces, number);
        break;
    case SIEVE_PIECE_LOCAL:
        *text = slice_of(frame->locals[number].bytes, frame->locals[number].size);
        break;
    case SIEVE_PIECE_GLOBAL:
        *text = slice_of(run->globals[number].bytes, run->globals[number].size);
        break;
    case SIEVE_PIECE_MATCH:
        if (number < frame->capture_count) {
            *text = frame->captures[number];
        }
        break;
    }
    return true;
}

bool sieve_string(struct sieve_run *run, uint32_t index, struct slice *text)
{
    const struct sieve_program_string *string = &run->program->strings[index];
    *text = string->bytes;
    if (string->kind == SIEVE_TEXT) {
        return true;
    }
    size_t size = 0;
    struct slice pieces = string->bytes, piece;
    while (piece_next(run, &pieces, &piece)) {
        size += piece.size;
    }
    size = size > SIEVE_EXPANDED_BYTES_MAX + 4 ? SIEVE_EXPANDED_BYTES_MAX + 4 : size;
    run->work += size / 16 + 1;
    uint8_t *bytes = arena_take(&run->scratch, size);
    if (bytes == NULL) {
        return sieve_fail_memory(run);
    }
    size_t used = 0;
    pieces = string->bytes;
    while (piece_next(run, &pieces, &piece)) {
        piece = slice_first(piece, size - used);
        if (piece.size > 0) {
            memcpy(bytes + used, piece.bytes, piece.size);
        }
        used += piece.size;
    }
    *text = sieve_cut(slice_of(bytes, used), SIEVE_EXPANDED_BYTES_MAX);
    return true;
}

bool sieve_operand(struct sieve_run *run, unsigned index, struct slice *text)
{
    *text = slice_of(NULL, 0);
    uint32_t string = run->instruction.strings[index];
    return string == SIEVE_NO_STRING || sieve_string(run, string, text);
}

bool sieve_list_strings(struct sieve_run *run, struct sieve_list list, struct slice **texts)
{
    uint32_t item, count = 0;
    *texts = arena_take_array(&run->scratch, list.count, sizeof(**texts));
    if (*texts == NULL) {
        return sieve_fail_memory(run);
    }
    while (count < list.count && sieve_list_next(&list, &item)) {
        run->work++;
        if (!sieve_string(run, item, &(*texts)[count++])) {
            return false;
        }
    }
    return true;
}

/* ---- Variables (RFC 5229) ---- */

static struct sieve_value *value_of(struct sieve_run *run, uint32_t variable)
{
    if (variable == SIEVE_VARIABLE_FLAGS) {
        return &run->flags;
    }
    uint32_t slot = (variable - 1) / 2;
    return (variable - 1) % 2 == 1 ? &run->globals[slot] : &sieve_frame(run)->locals[slot];
}

struct slice sieve_variable_get(struct sieve_run *run, uint32_t variable)
{
    const struct sieve_value *value = value_of(run, variable);
    return slice_of(value->bytes, value->size);
}

bool sieve_variable_set(struct sieve_run *run, uint32_t variable, struct slice text)
{
    struct sieve_value *value = value_of(run, variable);
    bool local = variable != SIEVE_VARIABLE_FLAGS && (variable - 1) % 2 == 0;
    if (value->bytes == NULL) {
        value->bytes =
            arena_take(local ? &sieve_frame(run)->arena : &run->arena, SIEVE_VALUE_BYTES_MAX);
        if (value->bytes == NULL) {
            return sieve_fail_memory(run);
        }
    }
    text = sieve_cut(text, SIEVE_VALUE_BYTES_MAX);
    if (text.size > 0) {
        memmove(value->bytes, text.bytes, text.size);
    }
    value->size = text.size;
    return true;
}

void sieve_captures_keep(struct sieve_run *run, const struct sieve_captures *captures)
{
    struct sieve_frame *frame = sieve_frame(run);
    arena_reset(&frame->captured);
    frame->capture_count = 0;
    size_t room = SIEVE_MATCH_BYTES_MAX;
    for (unsigned i = 0; i < captures->count; i++) {
        struct slice text = sieve_cut(captures->values[i], SIEVE_EXPANDED_BYTES_MAX);
        text = sieve_cut(text, room);
        room -= text.size;
        if (!arena_copy(&frame->captured, text, &frame->captures[i])) {
            return;
        }
        frame->capture_count++;
    }
}

static uint8_t case_change(uint8_t byte, bool up)
{
    uint8_t lower = slice_lower(byte);
    return up && lower >= 'a' && lower <= 'z' ? (uint8_t)(lower - ('a' - 'A')) : lower;
}

/* Backslashes before what is in `special`. NULL bytes: no memory. */
static struct slice quoted(struct sieve_run *run, struct slice text, const char *special)
{
    uint8_t *bytes = arena_take(&run->scratch, text.size * 2);
    size_t used = 0;
    for (size_t i = 0; bytes != NULL && i < text.size; i++) {
        if (text.bytes[i] != '\0' && strchr(special, text.bytes[i]) != NULL) {
            bytes[used++] = '\\';
        }
        bytes[used++] = text.bytes[i];
    }
    return slice_of(bytes, used);
}

static struct slice length_of(struct sieve_run *run, struct slice text)
{
    char *digits = arena_take(&run->scratch, 24);
    size_t characters = 0;
    for (size_t i = 0; i < text.size; i++) {
        characters += (text.bytes[i] & 0xc0) != 0x80;
    }
    return digits != NULL ? slice_of(digits, (size_t)snprintf(digits, 24, "%zu", characters))
                          : slice_of(NULL, 0);
}

bool sieve_set_run(struct sieve_run *run)
{
    struct slice text;
    uint32_t flags = run->instruction.flags;
    if (!sieve_operand(run, 0, &text)) {
        return false;
    }
    text = sieve_cut(text, SIEVE_VALUE_BYTES_MAX);
    uint8_t *bytes = arena_take(&run->scratch, text.size);
    if (bytes == NULL) {
        return sieve_fail_memory(run);
    }
    bool all = (flags & (SIEVE_SET_LOWER | SIEVE_SET_UPPER)) != 0;
    bool first = (flags & (SIEVE_SET_LOWERFIRST | SIEVE_SET_UPPERFIRST)) != 0;
    for (size_t i = 0; i < text.size; i++) {
        bytes[i] = text.bytes[i];
        if (first && i == 0) {
            bytes[i] = case_change(bytes[i], (flags & SIEVE_SET_UPPERFIRST) != 0);
        } else if (all) {
            bytes[i] = case_change(bytes[i], (flags & SIEVE_SET_UPPER) != 0);
        }
    }
    text = slice_of(bytes, text.size);
    if (flags & SIEVE_SET_QUOTEWILDCARD) {
        text = quoted(run, text, "*?\\");
    } else if (flags & SIEVE_SET_QUOTEREGEX) {
        text = quoted(run, text, "\\^$.[]|()?*+{}");
    }
    if (flags & SIEVE_SET_LENGTH) {
        text = length_of(run, text);
    }
    run->work += text.size / 16;
    return text.bytes == NULL ? sieve_fail_memory(run)
                              : sieve_variable_set(run, run->instruction.variable, text);
}

/* ---- Flags (RFC 5232) ---- */

bool sieve_flag_next(struct slice *flags, struct slice *flag)
{
    while (flags->size > 0 && flags->bytes[0] == ' ') {
        *flags = slice_from(*flags, 1);
    }
    size_t size = 0;
    while (size < flags->size && flags->bytes[size] != ' ') {
        size++;
    }
    *flag = slice_first(*flags, size);
    *flags = slice_from(*flags, size);
    return size > 0;
}

/* A keyword or a system flag (RFC 9051 §9), but \Recent. */
static bool flag_valid(struct slice flag)
{
    bool system = flag.size > 0 && flag.bytes[0] == '\\';
    struct slice name = system ? slice_from(flag, 1) : flag;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t byte = name.bytes[i];
        if (byte <= ' ' || byte > '~' || strchr("(){%*\"\\]", byte) != NULL) {
            return false;
        }
    }
    static const char *const names[] = {"answered", "flagged", "deleted", "seen", "draft"};
    for (size_t i = 0; system && i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal_nocase(name, slice_text(names[i]))) {
            return true;
        }
    }
    return !system && name.size > 0;
}

struct flags {
    uint8_t bytes[SIEVE_FLAGS_BYTES_MAX];
    size_t size;
};

static bool flag_in(struct slice flags, struct slice flag)
{
    for (struct slice each; sieve_flag_next(&flags, &each);) {
        if (slice_equal_nocase(each, flag)) {
            return true;
        }
    }
    return false;
}

/* Those that are none, are there already or have no room are left out. */
static void flags_add(struct sieve_run *run, struct flags *flags, struct slice more)
{
    for (struct slice flag; sieve_flag_next(&more, &flag);) {
        run->work += flags->size / 8 + 1;
        if (flag_valid(flag) && flags->size + flag.size + 1 <= sizeof(flags->bytes) &&
            !flag_in(slice_of(flags->bytes, flags->size), flag)) {
            if (flags->size > 0) {
                flags->bytes[flags->size++] = ' ';
            }
            memcpy(flags->bytes + flags->size, flag.bytes, flag.size);
            flags->size += flag.size;
        }
    }
}

bool sieve_setflag_run(struct sieve_run *run)
{
    uint32_t variable = run->instruction.variable;
    struct sieve_list list = run->instruction.lists[0];
    struct slice *texts, before = sieve_variable_get(run, variable);
    struct flags flags = {.size = 0};
    if (!sieve_list_strings(run, list, &texts)) {
        return false;
    }
    if (run->instruction.operation == SIEVE_OP_ADDFLAG) {
        flags_add(run, &flags, before);
    }
    if (run->instruction.operation != SIEVE_OP_REMOVEFLAG) {
        for (uint32_t i = 0; i < list.count; i++) {
            flags_add(run, &flags, texts[i]);
        }
        return sieve_variable_set(run, variable, slice_of(flags.bytes, flags.size));
    }
    for (struct slice flag; sieve_flag_next(&before, &flag);) {
        bool removed = false;
        for (uint32_t i = 0; i < list.count && !removed; i++) {
            run->work += texts[i].size / 8 + 1;
            removed = flag_in(texts[i], flag);
        }
        if (!removed) {
            flags_add(run, &flags, flag);
        }
        if (run->work > run->work_max) {
            break;
        }
    }
    return sieve_variable_set(run, variable, slice_of(flags.bytes, flags.size));
}

bool sieve_action_flags(struct sieve_run *run, struct sieve_list list, struct slice *flags)
{
    struct flags found = {.size = 0};
    struct slice *texts;
    if (!list.present) {
        flags_add(run, &found, sieve_variable_get(run, SIEVE_VARIABLE_FLAGS));
    } else if (!sieve_list_strings(run, list, &texts)) {
        return false;
    }
    for (uint32_t i = 0; list.present && i < list.count; i++) {
        flags_add(run, &found, texts[i]);
    }
    return arena_copy(&run->arena, slice_of(found.bytes, found.size), flags) ||
           sieve_fail_memory(run);
}
