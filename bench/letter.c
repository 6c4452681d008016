#include "bench/letter.h"
#include <errno.h>
#include <inttypes.h>
#include <rte_hash_crc.h>
#include <stdio.h>
#include <time.h>

#define LINE_BYTES 78u /* with CRLF, RFC 5322 §2.1.1 */

static const char claim_name[] = "Tubepost-Bench: ";

uint32_t letter_crc32c(uint32_t crc32c, struct slice bytes)
{
    const uint8_t *at = bytes.bytes, *end = bytes.bytes + bytes.size;
    crc32c = ~crc32c;
    for (; end - at >= 8; at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word)); /* slices begin anywhere */
        crc32c = rte_hash_crc_8byte(word, crc32c);
    }
    for (; at < end; at++) {
        crc32c = rte_hash_crc_1byte(*at, crc32c);
    }
    return ~crc32c;
}

static uint64_t mix(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Lines of printable bytes; now and then one that begins with a dot, and one that is only a dot. */
static void fill_content(uint8_t *content, size_t size, uint64_t seed)
{
    static const char letters[65] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t at = 0;
    while (at < size) {
        size_t left = size - at;
        size_t line =
            left < LINE_BYTES + 3 ? left : LINE_BYTES; /* no rest too short for its CRLF */
        uint64_t kind = mix(&seed) % 32;
        if (kind == 0 && left > 2 * LINE_BYTES) {
            line = 3;
        }
        for (size_t i = 0; i + 2 < line; i++) {
            content[at + i] = (uint8_t)letters[mix(&seed) % 64];
        }
        if (kind <= 1 && line > 2) {
            content[at] = '.';
        }
        content[at + line - 2] = '\r';
        content[at + line - 1] = '\n';
        at += line;
    }
}

static size_t stuff(const uint8_t *content, size_t size, uint8_t *wire)
{
    size_t out = 0;
    for (size_t i = 0; i < size; i++) {
        if (content[i] == '.' && (i == 0 || content[i - 1] == '\n')) {
            wire[out++] = '.';
        }
        wire[out++] = content[i];
    }
    wire[out++] = '.';
    wire[out++] = '\r';
    wire[out++] = '\n';
    return out;
}

static int body_make(struct letter_book *book, struct letter_body *body, size_t bytes,
                     uint64_t seed)
{
    uint8_t *content = book->memory.take(bytes);
    uint8_t *wire = book->memory.take(bytes + bytes / 3 + 4);
    body->content = slice_of(content, bytes);
    body->wire = slice_of(wire, 0);
    if (content == NULL || wire == NULL) {
        return -ENOMEM;
    }
    fill_content(content, bytes, seed);
    body->wire.size = stuff(content, bytes, wire);
    body->crc32c = letter_crc32c(0, body->content);
    return 0;
}

static void book_never_released(struct ref *ref)
{
    (void)ref;
}

int letter_book_open(struct letter_book *book, const struct letter_plan *plan)
{
    check(plan->message_bytes >= LETTER_BYTES_MIN);
    memset(book, 0, sizeof(*book));
    book->run = plan->run;
    book->recipient_count = plan->recipient_count;
    book->memory = plan->memory;
    size_t fitting = LETTER_BOOK_BYTES / plan->message_bytes;
    book->body_count = fitting >= LETTER_BODIES ? LETTER_BODIES
                       : fitting > 0            ? (uint32_t)fitting
                                                : 1;
    ref_init(&book->ref, book_never_released);
    struct tm parts;
    time_t seconds = (time_t)plan->wall_s;
    gmtime_r(&seconds, &parts);
    strftime(book->date, sizeof(book->date), "%a, %d %b %Y %H:%M:%S +0000", &parts);
    char header[LETTER_HEADER_BYTES_MAX];
    size_t header_bytes = letter_header(book, 0, 0, header);
    for (unsigned i = 0; i < book->body_count; i++) {
        int rc =
            body_make(book, &book->bodies[i], plan->message_bytes - header_bytes, plan->run + i);
        if (rc < 0) {
            letter_book_close(book);
            return rc;
        }
    }
    return 0;
}

void letter_book_close(struct letter_book *book)
{
    for (unsigned i = 0; i < book->body_count; i++) {
        book->memory.give((void *)(uintptr_t)book->bodies[i].content.bytes);
        book->memory.give((void *)(uintptr_t)book->bodies[i].wire.bytes);
        book->bodies[i] = (struct letter_body){0};
    }
    book->body_count = 0;
}

const struct letter_body *letter_body_of(const struct letter_book *book, uint64_t sequence)
{
    return &book->bodies[sequence % book->body_count];
}

static char *put_text(char *at, const char *text)
{
    while (*text != '\0') {
        *at++ = *text++;
    }
    return at;
}

static char *put_hex(char *at, uint64_t value, unsigned digits)
{
    for (unsigned i = 0; i < digits; i++) {
        at[i] = "0123456789abcdef"[value >> 4 * (digits - 1 - i) & 15];
    }
    return at + digits;
}

size_t letter_header(const struct letter_book *book, uint64_t sequence, uint64_t sent_ns,
                     char *header)
{
    const struct letter_body *body = letter_body_of(book, sequence);
    char *at = put_text(header, "From: <source@bench.example>\r\nTo: <r0@bench.example>\r\nDate: ");
    at = put_text(at, book->date);
    at = put_text(at, "\r\nSubject: a letter of the bench\r\nMessage-ID: <");
    at = put_hex(at, book->run, 16);
    *at++ = '.';
    at = put_hex(at, sequence, 16);
    at = put_text(at, "@bench.example>\r\n");
    at = put_text(at, claim_name);
    const uint64_t values[] = {book->run,    sequence, body->content.size,
                               body->crc32c, sent_ns,  book->recipient_count};
    static const uint8_t digits[] = {16, 16, 8, 8, 16, 8};
    for (unsigned i = 0; i < 6; i++) {
        at = put_hex(at, values[i], digits[i]);
        *at++ = ' ';
    }
    at = put_text(at - 1, "\r\n\r\n");
    return (size_t)(at - header);
}

void letter_proof_begin(struct letter_proof *proof)
{
    proof->claimed = false;
    proof->in_body = false;
    proof->line_bytes = 0;
    proof->crc32c = 0;
    proof->body_bytes = 0;
    proof->content_bytes = 0;
}

static bool take_hex(const char **at, unsigned digits, uint64_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = *(*at)++;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a') + 10;
        if (digit > 15) {
            return false;
        }
        *value = *value << 4 | digit;
    }
    (*at)++; /* the blank, or the line's end */
    return true;
}

/* A header line, without its end; cut to what proof->line holds. */
static void line_judge(struct letter_proof *proof, const char *line, size_t size)
{
    const size_t name_bytes = sizeof(claim_name) - 1;
    if (size != name_bytes + 16 + 16 + 8 + 8 + 16 + 8 + 5 || proof->claimed ||
        memcmp(line, claim_name, name_bytes) != 0) {
        return;
    }
    uint64_t body_bytes, crc32c, recipient_count;
    const char *at = line + name_bytes;
    struct letter_claim *claim = &proof->claim;
    proof->claimed = take_hex(&at, 16, &claim->run) && take_hex(&at, 16, &claim->sequence) &&
                     take_hex(&at, 8, &body_bytes) && take_hex(&at, 8, &crc32c) &&
                     take_hex(&at, 16, &claim->sent_ns) && take_hex(&at, 8, &recipient_count);
    if (proof->claimed) {
        claim->body_bytes = (uint32_t)body_bytes;
        claim->crc32c = (uint32_t)crc32c;
        claim->recipient_count = (uint32_t)recipient_count;
    }
}

/* Takes header bytes up to the end of a line or of the slice; returns how many. */
static size_t header_take(struct letter_proof *proof, struct slice content)
{
    const uint8_t *feed = memchr(content.bytes, '\n', content.size);
    size_t size = feed != NULL ? (size_t)(feed - content.bytes) + 1 : content.size;
    size_t room = sizeof(proof->line) - proof->line_bytes;
    size_t kept = size < room ? size : room;
    memcpy(proof->line + proof->line_bytes, content.bytes, kept);
    proof->line_bytes += (uint32_t)kept;
    if (feed != NULL) {
        size_t line_bytes = proof->line_bytes;
        bool whole = proof->line[line_bytes - 1] == '\n';
        if (whole && line_bytes == 2 && proof->line[0] == '\r') {
            proof->in_body = true;
        } else if (whole && line_bytes >= 2) {
            line_judge(proof, proof->line, line_bytes - 2);
        }
        proof->line_bytes = 0;
    }
    return size;
}

void letter_proof_take(struct letter_proof *proof, struct slice content)
{
    proof->content_bytes += content.size;
    while (!proof->in_body && content.size > 0) {
        content = slice_from(content, header_take(proof, content));
    }
    proof->body_bytes += content.size;
    proof->crc32c = letter_crc32c(proof->crc32c, content);
}

bool letter_proof_holds(const struct letter_proof *proof)
{
    return proof->claimed && proof->in_body && proof->body_bytes == proof->claim.body_bytes &&
           proof->crc32c == proof->claim.crc32c;
}
