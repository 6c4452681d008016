#include "proto/message/text.h"
#include "engine/core/check.h"
#include "proto/message/header.h"
#include "proto/message/transfer.h"
#include <errno.h>
#include <iconv.h>
#include <unicase.h>
#include <uninorm.h>
#include <stdlib.h>
#include <unistr.h>

#define CHARSET_NAME_MAX 64u
#define REPLACEMENT "\xef\xbf\xbd"
#define REPLACEMENT_SIZE 3u

/* ---- Charsets ---- */

int charset_open(struct charset_decoder *decoder, struct slice charset)
{
    char name[CHARSET_NAME_MAX];
    *decoder = (struct charset_decoder){.converter = NULL};
    if (charset.size == 0 || charset.size >= sizeof(name)) {
        return -EINVAL;
    }
    for (size_t i = 0; i < charset.size; i++) {
        uint8_t byte = charset.bytes[i];
        if (byte <= ' ' || byte >= 0x7f ||
            byte == '/') { /* "//TRANSLIT" would be an order to iconv */
            return -EINVAL;
        }
        name[i] = (char)byte;
    }
    name[charset.size] = '\0';
    if (slice_equal_nocase(charset, slice_text("utf-8")) ||
        slice_equal_nocase(charset, slice_text("utf8")) ||
        slice_equal_nocase(charset, slice_text("us-ascii"))) {
        return 0; /* text that says us-ascii and is UTF-8 is common */
    }
    iconv_t converter = iconv_open("UTF-8", name);
    if (converter == (iconv_t)-1) {
        return errno == ENOMEM ? -ENOMEM : -EINVAL;
    }
    decoder->converter = converter;
    return 0;
}

/* Copies what is UTF-8 and marks what is not. Stops in front of a character that may go on. */
static size_t utf8_copy(struct slice *input, uint8_t *out, size_t room)
{
    size_t size = 0;
    while (input->size > 0 && room - size >= 4) {
        int length = u8_mblen(input->bytes, input->size < 4 ? input->size : 4);
        if (input->bytes[0] == '\0') {
            length = 1;
        }
        if (length > 0) {
            memcpy(out + size, input->bytes, (size_t)length);
            size += (size_t)length;
            *input = slice_from(*input, (size_t)length);
            continue;
        }
        ucs4_t character;
        int taken = u8_mbtoucr(&character, input->bytes, input->size);
        if (taken == -2) {
            break;
        }
        memcpy(out + size, REPLACEMENT, REPLACEMENT_SIZE);
        size += REPLACEMENT_SIZE;
        *input = slice_from(*input, 1);
    }
    return size;
}

static size_t iconv_copy(iconv_t converter, struct slice *input, uint8_t *out, size_t room)
{
    size_t size = 0;
    while (input->size > 0 && room - size >= REPLACEMENT_SIZE) {
        char *from = (char *)input->bytes; /* iconv does not write to it */
        char *to = (char *)out + size;
        size_t from_size = input->size, to_size = room - size;
        size_t status = iconv(converter, &from, &from_size, &to, &to_size);
        int error = status == (size_t)-1 ? errno : 0;
        *input = slice_from(*input, input->size - from_size);
        size = room - to_size;
        if (error != EILSEQ || room - size < REPLACEMENT_SIZE) {
            break; /* done, no room, or a character that may go on */
        }
        memcpy(out + size, REPLACEMENT, REPLACEMENT_SIZE);
        size += REPLACEMENT_SIZE;
        *input = slice_from(*input, 1);
    }
    return size;
}

static size_t piece_copy(struct charset_decoder *decoder, struct slice *input, uint8_t *out,
                         size_t room)
{
    return decoder->converter == NULL ? utf8_copy(input, out, room)
                                      : iconv_copy(decoder->converter, input, out, room);
}

size_t charset_decode(struct charset_decoder *decoder, struct slice *input, uint8_t *out,
                      size_t room)
{
    check(room >= 64);
    size_t size = 0;
    while (decoder->held_size > 0 && input->size > 0 && room - size >= 32) {
        decoder->held[decoder->held_size++] = input->bytes[0];
        *input = slice_from(*input, 1);
        struct slice held = slice_of(decoder->held, decoder->held_size);
        size += piece_copy(decoder, &held, out + size, room - size);
        if (held.size == CHARSET_HELD_MAX) { /* no charset has such characters */
            memcpy(out + size, REPLACEMENT, REPLACEMENT_SIZE);
            size += REPLACEMENT_SIZE;
            held.size = 0;
        }
        memmove(decoder->held, held.bytes, held.size);
        decoder->held_size = (uint8_t)held.size;
    }
    if (decoder->held_size > 0 || input->size == 0) {
        return size;
    }
    size_t before = input->size;
    size += piece_copy(decoder, input, out + size, room - size);
    if (input->size > 0 && input->size < CHARSET_HELD_MAX &&
        (room - size >= 32 || input->size == before)) {
        memcpy(decoder->held, input->bytes, input->size);
        decoder->held_size = (uint8_t)input->size;
        *input = slice_of(NULL, 0);
    } else if (input->size == before && size == 0) {
        memcpy(out, REPLACEMENT, REPLACEMENT_SIZE); /* a character without an end */
        size = REPLACEMENT_SIZE;
        *input = slice_from(*input, 1);
    }
    return size;
}

size_t charset_close(struct charset_decoder *decoder, uint8_t *out)
{
    size_t size = 0;
    if (decoder->converter != NULL) {
        char *to = (char *)out;
        size_t room = CHARSET_CLOSE_BYTES - REPLACEMENT_SIZE, left = room;
        iconv(decoder->converter, NULL, NULL, &to, &left); /* some keep a character back */
        size = room - left;
        iconv_close(decoder->converter);
        decoder->converter = NULL;
    }
    if (decoder->held_size > 0) {
        memcpy(out + size, REPLACEMENT, REPLACEMENT_SIZE);
        size += REPLACEMENT_SIZE;
        decoder->held_size = 0;
    }
    return size;
}

/* ---- Encoded words ---- */

struct output {
    uint8_t *bytes;
    size_t size, room;
};

struct encoded_word {
    struct slice charset, text;
    bool base64;
    size_t size; /* of all of it */
};

/* "=?charset*language?Q?text?=" at the start of text. */
static bool encoded_word_find(struct slice text, struct encoded_word *word)
{
    size_t marks[3], count = 0, i = 2;
    if (text.size < 8 || text.bytes[0] != '=' || text.bytes[1] != '?') {
        return false;
    }
    for (; i < text.size && count < 3; i++) {
        uint8_t byte = text.bytes[i];
        if (byte <= ' ' && !(count == 2 && byte == ' ')) { /* many leave blanks in the text */
            return false;
        }
        if (byte == '?') {
            marks[count++] = i;
        }
    }
    if (count < 3 || marks[1] != marks[0] + 2 || marks[2] + 1 >= text.size ||
        text.bytes[marks[2] + 1] != '=') {
        return false;
    }
    uint8_t encoding = slice_lower(text.bytes[marks[0] + 1]);
    word->charset = slice_of(text.bytes + 2, marks[0] - 2);
    const uint8_t *star = memchr(word->charset.bytes, '*', word->charset.size);
    if (star != NULL) {
        word->charset.size = (size_t)(star - word->charset.bytes);
    }
    word->text = slice_of(text.bytes + marks[1] + 1, marks[2] - marks[1] - 1);
    word->base64 = encoding == 'b';
    word->size = marks[2] + 2;
    return encoding == 'b' || encoding == 'q';
}

static void output_decoded(struct output *output, struct charset_decoder *charset,
                           struct slice bytes)
{
    while (bytes.size > 0 && output->room - output->size >= 64) {
        output->size += charset_decode(charset, &bytes, output->bytes + output->size,
                                       output->room - output->size);
    }
}

/* RFC 2047 §4.2: "_" is a blank, and a blank at the end is one too. */
static size_t q_decode(struct slice *text, uint8_t *out, size_t room)
{
    size_t size = 0, i = 0;
    while (i < text->size && size < room) {
        uint8_t byte = text->bytes[i];
        struct slice escape = slice_first(slice_from(*text, i), 3);
        struct transfer_decoder decoder;
        uint8_t decoded[TRANSFER_ROOM_MIN];
        transfer_open(&decoder, TRANSFER_QUOTED_PRINTABLE);
        if (byte == '=' && escape.size == 3 &&
            transfer_decode(&decoder, &escape, decoded, sizeof(decoded)) == 1) {
            out[size++] = decoded[0];
            i += 3;
            continue;
        }
        out[size++] = byte == '_' ? ' ' : byte;
        i++;
    }
    *text = slice_from(*text, i);
    return size;
}

/* False: nobody knows its charset. */
static bool encoded_word_decode(struct output *output, const struct encoded_word *word)
{
    struct charset_decoder charset;
    struct transfer_decoder decoder;
    uint8_t piece[TRANSFER_ROOM_MIN];
    if (charset_open(&charset, word->charset) != 0) {
        return false;
    }
    transfer_open(&decoder, TRANSFER_BASE64);
    for (struct slice text = word->text; text.size > 0;) {
        size_t size = word->base64 ? transfer_decode(&decoder, &text, piece, sizeof(piece))
                                   : q_decode(&text, piece, sizeof(piece));
        output_decoded(output, &charset, slice_of(piece, size));
    }
    uint8_t rest[CHARSET_CLOSE_BYTES];
    size_t size = charset_close(&charset, rest);
    if (output->room - output->size >= size && size > 0) {
        memcpy(output->bytes + output->size, rest, size);
        output->size += size;
    }
    return true;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Text up to the next "=?", of raw bytes; ends of lines go. */
static size_t plain_copy(struct output *output, struct slice text)
{
    struct charset_decoder charset = {.converter = NULL};
    uint8_t rest[CHARSET_CLOSE_BYTES], line[256];
    size_t size = 1;
    while (size < text.size &&
           !(text.bytes[size] == '=' && size + 1 < text.size && text.bytes[size + 1] == '?')) {
        size++;
    }
    for (size_t i = 0; i < size;) {
        size_t kept = 0;
        for (; i < size && kept < sizeof(line); i++) {
            if (text.bytes[i] != '\r' && text.bytes[i] != '\n') {
                line[kept++] = text.bytes[i];
            }
        }
        output_decoded(output, &charset, slice_of(line, kept));
    }
    size_t cut = charset_close(&charset, rest);
    if (cut > 0 && output->room - output->size >= cut) {
        memcpy(output->bytes + output->size, rest, cut);
        output->size += cut;
    }
    return size;
}

size_t text_of_field(struct slice value, uint8_t *out, size_t room)
{
    struct output output = {.bytes = out, .room = room};
    struct encoded_word word;
    bool after_word = false;
    while (value.size > 0) {
        size_t blanks = 0;
        while (after_word && blanks < value.size && is_blank(value.bytes[blanks])) {
            blanks++; /* between two encoded words they do not count (RFC 2047 §6.2) */
        }
        if (encoded_word_find(slice_from(value, blanks), &word) &&
            encoded_word_decode(&output, &word)) {
            value = slice_from(value, blanks + word.size);
            after_word = true;
            continue;
        }
        after_word = false;
        value = slice_from(value, plain_copy(&output, value));
    }
    return output.size;
}

/* ---- Comparison ---- */

/* Most texts: Unicode says the same of them, and takes some hundred times as long. */
static bool is_ascii(struct slice text)
{
    uint8_t all = 0;
    for (size_t i = 0; i < text.size; i++) {
        all |= text.bytes[i];
    }
    return all < 0x80;
}

int text_casemap(struct slice text, uint8_t *out, size_t room, size_t *size)
{
    size_t wanted = room;
    *size = 0;
    if (is_ascii(text)) {
        for (size_t i = 0; i < text.size && text.size <= room; i++) {
            out[i] = slice_lower(text.bytes[i]);
        }
        *size = text.size <= room ? text.size : 0;
        return text.size <= room ? 0 : -E2BIG;
    }
    if (u8_check(text.bytes, text.size) != NULL) {
        return -EINVAL;
    }
    uint8_t *folded = u8_casefold(text.bytes, text.size, NULL, UNINORM_NFKD, out, &wanted);
    if (folded == NULL) {
        return -ENOMEM;
    }
    if (folded != out) {
        free(folded);
        return -E2BIG;
    }
    *size = wanted;
    return 0;
}

bool text_contains(struct slice text, struct slice part)
{
    return part.size == 0 ||
           (text.size >= part.size && memmem(text.bytes, text.size, part.bytes, part.size) != NULL);
}
