#include "tests/unit/search_mail.h"
#include "engine/core/check.h"
#include <iconv.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LETTER_BYTES (1u << 20)
#define SAID_BYTES (64u << 10)
#define COMMAND_BYTES (64u << 10)

/* What folds, composes, decomposes, grows or is reordered when case is mapped. */
static const char *const pieces[] = {
    "a",
    "b",
    "Ab",
    "needle",
    "HAY",
    "stack",
    " ",
    " ",
    " ",
    "  ",
    "\r\n ",
    ", ",
    ".",
    "-",
    "\"",
    "'",
    "*",
    "(",
    "%",
    "re: ",
    "the ",
    "meeting",
    "Stra\xc3\x9f\x65",
    "STRASSE",
    "gr\xc3\xbc\xc3\x9f\x65",
    "M\xc3\xbcnchen",
    "\xc3\xa9t\xc3\xa9",
    "e\xcc\x81t\xc3\xa9",
    "a\xcc\xa3\xcc\x81",
    "a\xcc\x81\xcc\xa3",
    "\xe1\xba\xa1\xcc\x81",
    "\xc4\xb0stanbul",
    "\xc4\xb1",
    "\xef\xac\x81sh",
    "\xef\xbc\xa1\xef\xbc\xa2",
    "\xe2\x84\xab",
    "\xce\xa3\xce\xaf\xcf\x83\xcf\x85\xcf\x86\xce\xbf\xcf\x82",
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82",
    "\xe4\xbd\xa0\xe5\xa5\xbd",
    "\xea\xb0\x80\xea\xb0\x81",
    "\xe1\x84\x80\xe1\x85\xa1",
    "\xf0\x9f\x98\x80",
    "\xef\xb7\xba",
    "\xe2\x80\x8d",
    "\xcd\x85",
    "\xcc\x88",
    "\xc2\xad",
    "\xc2\xa0",
    "1",
    "23",
    "2026",
    "x@y.example",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static uint32_t below(struct search_mail *mail, uint32_t limit)
{
    mail->random ^= mail->random << 13;
    mail->random ^= mail->random >> 7;
    mail->random ^= mail->random << 17;
    return (uint32_t)((mail->random >> 11) % limit);
}

struct search_mail *search_mail_open(uint64_t seed)
{
    struct search_mail *mail = (struct search_mail *)calloc(1, sizeof(*mail));
    check(mail != NULL);
    mail->seed = seed;
    mail->random = seed * 0x9e3779b97f4a7c15ull | 1;
    mail->letter = (char *)malloc(LETTER_BYTES);
    mail->said = (char *)malloc(SAID_BYTES);
    mail->command = (char *)malloc(COMMAND_BYTES);
    check(mail->letter != NULL && mail->said != NULL && mail->command != NULL);
    return mail;
}

void search_mail_close(struct search_mail *mail)
{
    free(mail->letter);
    free(mail->said);
    free(mail->command);
    free(mail);
}

/* ---- Text ---- */

/* So many pieces; remembered as something that can be searched for. */
static size_t text_make(struct search_mail *mail, uint32_t count, char *text, size_t room)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *piece = pieces[below(mail, sizeof(pieces) / sizeof(pieces[0]))];
        size_t more = strlen(piece);
        if (size + more + 1 >= room) {
            break;
        }
        memcpy(text + size, piece, more);
        size += more;
    }
    text[size] = '\0';
    if (mail->said_bytes + size > SAID_BYTES) {
        mail->said_bytes = 0;
    }
    memcpy(mail->said + mail->said_bytes, text, size);
    mail->said_bytes += size;
    return size;
}

/* In another charset, as far as it has the characters. */
static size_t text_convert(const char *charset, const char *text, size_t size, char *out,
                           size_t room)
{
    char name[64], *from = (char *)(uintptr_t)text, *to = out;
    snprintf(name, sizeof(name), "%s//TRANSLIT", charset);
    iconv_t converter = iconv_open(name, "UTF-8");
    check(converter != (iconv_t)-1);
    while (size > 0 && iconv(converter, &from, &size, &to, &room) == (size_t)-1 && room > 8) {
        from++; /* it has none */
        size--;
    }
    iconv_close(converter);
    return (size_t)(to - out);
}

static size_t base64_write(const uint8_t *bytes, size_t size, unsigned line, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = out;
    for (size_t i = 0; i < size; i += 3) {
        uint32_t value = (uint32_t)bytes[i] << 16 |
                         (i + 1 < size ? (uint32_t)bytes[i + 1] : 0) << 8 |
                         (i + 2 < size ? (uint32_t)bytes[i + 2] : 0);
        *at++ = digits[value >> 18];
        *at++ = digits[value >> 12 & 63];
        *at++ = i + 1 < size ? digits[value >> 6 & 63] : '=';
        *at++ = i + 2 < size ? digits[value & 63] : '=';
        if (line != 0 && i / 3 % line == line - 1) {
            at += sprintf(at, "\r\n");
        }
    }
    *at = '\0';
    return (size_t)(at - out);
}

static size_t quoted_write(const uint8_t *bytes, size_t size, bool word, char *out)
{
    char *at = out;
    unsigned column = 0;
    for (size_t i = 0; i < size; i++) {
        bool plain = bytes[i] > ' ' && bytes[i] < 0x7f && strchr("=?_\"()", bytes[i]) == NULL;
        bool newline = !word && bytes[i] == '\r' && i + 1 < size && bytes[i + 1] == '\n';
        if (newline) {
            at += sprintf(at, "\r\n");
            i++;
            column = 0;
            continue;
        }
        at += plain ? sprintf(at, "%c", bytes[i]) : sprintf(at, "=%02X", bytes[i]);
        if (!word && ++column % 20 == 0) {
            at += sprintf(at, "=\r\n");
        }
    }
    *at = '\0';
    return (size_t)(at - out);
}

/* ---- A letter ---- */

static const char *const charsets[] = {"utf-8", "iso-8859-1", "koi8-r", "utf-16be", "iso-2022-jp"};

static size_t field_make(struct search_mail *mail, const char *name, char *out)
{
    char text[2048], other[4096];
    size_t size = text_make(mail, 1 + below(mail, below(mail, 20) == 0 ? 150 : 8), text, 1200);
    char *at = out + sprintf(out, "%s: ", name);
    for (size_t i = 0; i + 1 < size; i++) { /* a field is folded where there is a blank only */
        text[i] = text[i] == '\r' || text[i] == '\n' ? ' ' : text[i];
    }
    if (below(mail, 2) == 0) {
        at += sprintf(at, "%s", text);
    } else {
        const char *charset = charsets[below(mail, 3)];
        size = text_convert(charset, text, size, other, sizeof(other));
        at += sprintf(at, "=?%s?%c?", charset, size % 2 == 0 ? 'B' : 'q');
        at += size % 2 == 0 ? base64_write((uint8_t *)other, size, 0, at)
                            : quoted_write((uint8_t *)other, size, true, at);
        at += sprintf(at, "?= tail");
    }
    if (below(mail, 5) == 0) {
        at += sprintf(at, "\r\n\tfolded");
    }
    return (size_t)(at + sprintf(at, "\r\n") - out);
}

static size_t leaf_make(struct search_mail *mail, char *out)
{
    static const char *const types[] = {"text/plain", "TEXT/html", "text/plain", "application/pdf"};
    uint32_t count = below(mail, 12) == 0 ? 3000 : 1 + below(mail, 60);
    size_t room = 24 * (size_t)count + 256;
    char *text = (char *)malloc(room), *other = (char *)malloc(4 * room);
    check(text != NULL && other != NULL);
    size_t size = text_make(mail, count, text, room);
    const char *charset = charsets[below(mail, 5)];
    uint32_t encoding = strcmp(charset, "utf-16be") == 0 ? 1 : below(mail, 4);
    size = text_convert(charset, text, size, other, 4 * room);
    char *at = out + sprintf(out, "Content-Type: %s; charset=%s\r\n", types[below(mail, 4)],
                             below(mail, 10) == 0 ? "x-unknown" : charset);
    if (encoding == 1) {
        at += sprintf(at, "Content-Transfer-Encoding: base64\r\n\r\n");
        at += base64_write((uint8_t *)other, size, 19, at);
    } else if (encoding == 2) {
        at += sprintf(at, "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
        at += quoted_write((uint8_t *)other, size, false, at);
    } else {
        at += sprintf(at, "\r\n%.*s", (int)size, other);
    }
    free(text);
    free(other);
    return (size_t)(at + sprintf(at, "\r\n") - out);
}

static size_t part_make(struct search_mail *mail, unsigned depth, char *out)
{
    char *at = out;
    uint32_t kind = depth < 3 ? below(mail, 6) : 5;
    if (kind == 0) {
        at += sprintf(at, "Content-Type: message/rfc822\r\n\r\n");
        at += field_make(mail, "Subject", at);
        at += sprintf(at, "MIME-Version: 1.0\r\n");
        return (size_t)(at - out) + part_make(mail, depth + 1, at);
    }
    if (kind > 2) {
        return leaf_make(mail, out);
    }
    at += sprintf(at, "Content-Type: multipart/mixed; boundary=\"b%u\"\r\n\r\npreamble\r\n", depth);
    for (uint32_t i = 0, count = 1 + below(mail, 3); i < count; i++) {
        at += sprintf(at, "--b%u\r\n", depth);
        at += below(mail, 3) == 0 ? field_make(mail, "Content-Description", at) : 0;
        at += part_make(mail, depth + 1, at);
    }
    return (size_t)(at + sprintf(at, "--b%u--\r\n", depth) - out);
}

const char *search_mail_next(struct search_mail *mail)
{
    static const char *const names[] = {"Subject", "From", "To", "Cc", "Bcc", "X-Spam", "Subject"};
    char *at = mail->letter;
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        at += below(mail, 4) != 0 ? field_make(mail, names[i], at) : 0;
    }
    at += below(mail, 8) != 0 ? sprintf(at, "MIME-Version: 1.0\r\n") : 0;
    at += part_make(mail, 0, at);
    check((size_t)(at - mail->letter) < LETTER_BYTES);
    if (below(mail, 10) == 0) { /* torn off */
        mail->letter[1 + below(mail, (uint32_t)(at - mail->letter))] = '\0';
    }
    return mail->letter;
}

/* ---- What is searched for ---- */

/* A piece of what was said: whole characters, or, seldom, cut anywhere. */
static struct slice word_cut(struct search_mail *mail, char *word, size_t room)
{
    size_t from = below(mail, (uint32_t)mail->said_bytes), size = 1 + below(mail, 24);
    bool broken = below(mail, 40) == 0;
    size = below(mail, 30) == 0 ? 300 : size;
    while (!broken && from > 0 && ((uint8_t)mail->said[from] & 0xc0) == 0x80) {
        from--;
    }
    size = from + size > mail->said_bytes ? mail->said_bytes - from : size;
    while (!broken && from + size < mail->said_bytes &&
           ((uint8_t)mail->said[from + size] & 0xc0) == 0x80) {
        size++;
    }
    check(size < room);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)mail->said[from + i];
        bool letter = (byte | 32) >= 'a' && (byte | 32) <= 'z';
        word[i] = (char)(letter && below(mail, 3) == 0 ? byte ^ 32 : byte);
    }
    if (below(mail, 12) == 0) {
        word[below(mail, (uint32_t)size)] = 'q'; /* and is nowhere */
    }
    return slice_of(word, size);
}

static char *key_make(struct search_mail *mail, unsigned depth, char *at)
{
    static const char *const kinds[] = {"BODY", "TEXT", "SUBJECT",       "FROM",
                                        "TO",   "CC",   "BCC",           "BODY",
                                        "TEXT", "BODY", "HEADER X-Spam", "HEADER subject"};
    char word[400];
    uint32_t form = depth < 2 ? below(mail, 8) : 7;
    if (form == 0) {
        at += sprintf(at, "OR ");
        at = key_make(mail, depth + 1, at);
        at += sprintf(at, " ");
        return key_make(mail, depth + 1, at);
    }
    if (form == 1) {
        at += sprintf(at, "NOT ");
        return key_make(mail, depth + 1, at);
    }
    struct slice cut = word_cut(mail, word, sizeof(word));
    at += sprintf(at, "%s {%zu+}\r\n", kinds[below(mail, sizeof(kinds) / sizeof(kinds[0]))],
                  cut.size);
    memcpy(at, cut.bytes, cut.size);
    at += cut.size;
    if (form == 2) {
        at += sprintf(at, " ");
        return key_make(mail, depth + 1, at);
    }
    return at;
}

struct slice search_mail_query(struct search_mail *mail)
{
    char *at = mail->command + sprintf(mail->command, "q SEARCH ");
    at = key_make(mail, 0, at);
    at += sprintf(at, "\r\n");
    check((size_t)(at - mail->command) < COMMAND_BYTES);
    return slice_of(mail->command, (size_t)(at - mail->command));
}
