/*
 * Any message as Sieve sees and changes it: its body and parts, its header after edits, what is answered to it, and any
 * record of a letter. The first byte says how long the name and value of an added field are.
 */
#include "engine/core/check.h"
#include "engine/mailbox/outgoing_letter.h"
#include "engine/mailbox/sieve_answer.h"
#include "engine/mailbox/sieve_edit.h"
#include "engine/mailbox/sieve_message.h"
#include "proto/message/header.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define ARENA_BYTES (64u << 20)

/* A record that is read is written the same. */
static void record_read(struct slice input)
{
    static uint8_t again[OUTGOING_RECORD_BYTES_MAX];
    struct outgoing_letter letter;
    if (outgoing_letter_read(&letter, input)) {
        size_t size = outgoing_letter_write(&letter, again);
        check(size == input.size && memcmp(again, input.bytes, size) == 0);
    }
}

static size_t header_size(struct slice message)
{
    const uint8_t *end = (const uint8_t *)memmem(message.bytes, message.size, "\r\n\r\n", 4);
    return end != NULL ? (size_t)(end - message.bytes) + 4 : message.size;
}

static void body_look(struct arena *arena, struct slice header, struct slice body)
{
    struct sieve_mail mail = {.header = header, .body = body, .arena = arena};
    const struct sieve_message message = sieve_mail_message(&mail);
    struct sieve_body_part part;
    uint8_t sum = 0;
    for (uint32_t i = 0; message.body_part(message.self, i, &part); i++) {
        check(part.content.size <= 3 * (header.size + body.size) + 1024);
        for (size_t at = 0; at < part.content.size; at++) {
            sum ^= part.content.bytes[at];
        }
    }
    (void)sum;
}

static uint32_t fields_count(struct slice header)
{
    struct header_field field;
    uint32_t count = 0;
    while (header_next(&header, &field)) {
        count++;
    }
    return count;
}

/* One more field, or one less at most, and nothing that ends the header early. */
static void header_edit(struct arena *arena, struct slice header, struct slice name,
                        struct slice value)
{
    struct sieve_edit edits[] = {
        {.kind = SIEVE_EDIT_ADD, .name = name, .value = value, .last = value.size % 2 == 0},
        {.kind = SIEVE_EDIT_DELETE, .name = name, .index = (uint32_t)(value.size % 3)},
    };
    struct slice edited;
    uint32_t count = fields_count(header);
    if (sieve_edit_header(arena, header, edits, 1, &edited) == 0) {
        check(fields_count(edited) == count + 1);
    }
    if (sieve_edit_header(arena, header, edits, 2, &edited) == 0) {
        uint32_t now = fields_count(edited);
        check(now == count || now == count + 1);
    }
}

/* Wire form: no line but the last is a dot alone, and lines end with CRLF. */
static void wire_check(const uint8_t *bytes, size_t size)
{
    struct slice rest = slice_of(bytes, size);
    while (rest.size > 0) {
        const uint8_t *end = (const uint8_t *)memchr(rest.bytes, '\n', rest.size);
        check(end != NULL && end > rest.bytes && end[-1] == '\r');
        size_t line = (size_t)(end - rest.bytes) - 1;
        check(line == 0 || rest.bytes[0] != '.' || (line > 1 && rest.bytes[1] == '.'));
        check(memchr(rest.bytes, '\r', line) == NULL);
        rest = slice_from(rest, line + 2);
    }
}

static void answers_write(struct slice header, struct slice text, struct slice subject)
{
    static uint8_t out[OUTGOING_WORDS_BYTES_MAX];
    struct sieve_answer answer = {.hostname = slice_text("mail.test"),
                                  .wall_s = 1700000000,
                                  .to = slice_text("a@x.test"),
                                  .owner = slice_text("b@y.test"),
                                  .original = header,
                                  .reason = text,
                                  .from = subject,
                                  .subject = subject};
    wire_check(out, sieve_answer_vacation(&answer, out, sizeof out));
    answer.mime = true;
    wire_check(out, sieve_answer_vacation(&answer, out, sizeof out));
    wire_check(out, sieve_answer_rejection(&answer, out, sizeof out));
}

/* A name as the interpreter lets through. */
static bool is_name(struct slice name)
{
    bool good = name.size > 0;
    for (size_t i = 0; i < name.size; i++) {
        good = good && name.bytes[i] > ' ' && name.bytes[i] <= '~' && name.bytes[i] != ':';
    }
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice input = slice_of(bytes, size);
    struct arena arena;
    record_read(input);
    if (size == 0) {
        return 0;
    }
    struct slice name = slice_first(slice_from(input, 1), bytes[0] & 15);
    struct slice rest = slice_from(input, 1 + name.size);
    struct slice value = slice_first(rest, bytes[0] >> 2);
    struct slice message = slice_from(rest, value.size);
    struct slice header = slice_first(message, header_size(message));
    struct slice body = slice_from(message, header.size);
    arena_open(&arena, ARENA_BYTES);
    body_look(&arena, header, body);
    /* A field of ours comes first: a line that begins with a blank would go on with what is put before it. */
    bool begins = header.size > 0 && header.bytes[0] != ' ' && header.bytes[0] != '\t';
    if (is_name(name) && begins) {
        header_edit(&arena, header, name, value);
    }
    answers_write(header, body, value);
    arena_close(&arena);
    return 0;
}
