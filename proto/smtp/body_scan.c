#include "proto/smtp/body_scan.h"
#include "engine/core/check.h"
#include "engine/core/mutation.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

/*
 *               CR          LF
 *   TEXT ─────────► CR ─────────► LINE ──"."──► DOT ──CR──► DOT_CR ──LF──► the end
 *    ▲ ▲                           │             │           │
 *    │ └───────any other───────────┘◄──any other─┘           └── a bare CR
 *    └── BARE_LINE (normalize: behind a line end that was none; a dot there is text)
 */
enum body_place { PLACE_LINE, PLACE_DOT, PLACE_DOT_CR, PLACE_TEXT, PLACE_CR, PLACE_BARE_LINE };

static const uint8_t one_dot[] = ".";
static const uint8_t two_dots[] = "..";
static const uint8_t crlf[] = "\r\n";

void body_scan_open(struct body_scan *scan, const struct body_limits *limits, bool chunks)
{
    *scan = (struct body_scan){.limits = limits, .chunks = chunks, .in_header = true};
}

static void fault_note(struct body_scan *scan, enum body_fault fault)
{
    if (scan->fault == BODY_GOOD) {
        scan->fault = (uint8_t)fault;
    }
}

/* The next CR, LF or NUL at or behind `at`; the size when there is none. */
static size_t special_find(struct slice input, size_t at)
{
#if defined(__AVX2__)
    const __m256i carriage = _mm256_set1_epi8('\r');
    const __m256i line = _mm256_set1_epi8('\n');
    const __m256i zero = _mm256_setzero_si256();
    for (; at + 32 <= input.size; at += 32) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(input.bytes + at));
        __m256i found = _mm256_or_si256(
            _mm256_or_si256(_mm256_cmpeq_epi8(bytes, carriage), _mm256_cmpeq_epi8(bytes, line)),
            _mm256_cmpeq_epi8(bytes, zero));
        unsigned mask = (unsigned)_mm256_movemask_epi8(found);
        if (mask != 0) {
            return at + (unsigned)__builtin_ctz(mask);
        }
    }
#endif
    for (; at < input.size; at++) {
        uint8_t byte = input.bytes[at];
        if (byte == '\r' || byte == '\n' || byte == 0) {
            return at;
        }
    }
    return input.size;
}

/* Octets of a line that are no line end. */
static void line_take(struct body_scan *scan, const uint8_t *bytes, size_t size)
{
    uint64_t length = (uint64_t)scan->line_bytes + size;
    if (scan->limits->line_bytes_max > 0 && length > scan->limits->line_bytes_max) {
        fault_note(scan, BODY_LONG_LINE);
    }
    scan->line_bytes = length > UINT32_MAX ? UINT32_MAX : (uint32_t)length;
    if (scan->in_header) {
        for (size_t i = 0; i < size && scan->prefix_bytes < sizeof(scan->prefix); i++) {
            scan->prefix[scan->prefix_bytes++] = slice_lower(bytes[i]);
        }
        if (scan->limits->header_bytes_max > 0 &&
            (uint64_t)scan->header_bytes + length > scan->limits->header_bytes_max) {
            fault_note(scan, BODY_LARGE_HEADER);
        }
    }
}

static void line_end(struct body_scan *scan)
{
    if (scan->in_header) {
        const struct body_limits *limits = scan->limits;
        uint8_t first = scan->prefix_bytes > 0 ? scan->prefix[0] : 0;
        scan->header_bytes += scan->line_bytes + 2;
        if (scan->line_bytes == 0) {
            scan->in_header = false;
        } else if (first != ' ' && first != '\t') {
            scan->header_lines++;
            scan->hops += scan->prefix_bytes == 9 && memcmp(scan->prefix, "received:", 9) == 0;
        }
        if (limits->hops_max > 0 && scan->hops > limits->hops_max) {
            fault_note(scan, BODY_LOOP);
        }
        if (limits->header_lines_max > 0 && scan->header_lines > limits->header_lines_max) {
            fault_note(scan, BODY_LARGE_HEADER);
        }
        scan->prefix_bytes = 0;
    }
    scan->line_bytes = 0;
}

static void bare_newline(struct body_scan *scan)
{
    if (!scan->limits->normalize) {
        fault_note(scan, BODY_BARE_NEWLINE);
    }
}

/* Gives `piece`, or nothing when the message is bad already. */
static enum body_step piece_give(struct body_scan *scan, struct slice given, struct slice *piece)
{
    scan->bytes += given.size;
    if (scan->limits->bytes_max > 0 && scan->bytes > scan->limits->bytes_max) {
        fault_note(scan, BODY_TOO_LARGE);
    }
    *piece = given;
    return BODY_PIECE;
}

/* At the start of a line or inside the end of data. *done: input that is decided; true: what comes next is text at
 * *done, or a piece is given. */
enum dot_outcome { DOT_TEXT, DOT_WAIT, DOT_END, DOT_GIVEN };

static enum dot_outcome dot_after_line(struct body_scan *scan, struct slice input, size_t *at,
                                       struct slice *given)
{
    uint8_t byte = input.bytes[*at];
    if (scan->state == PLACE_LINE) {
        if (byte != '.') {
            scan->state = PLACE_TEXT;
            return DOT_TEXT;
        }
        scan->state = PLACE_DOT;
        ++*at;
        return DOT_WAIT;
    }
    if (scan->state == PLACE_DOT) {
        if (byte == '\r') {
            scan->state = PLACE_DOT_CR;
            ++*at;
            return DOT_WAIT;
        }
        if (byte == '\n' && scan->limits->normalize) {
            *given = slice_of(two_dots, 2); /* a line of a dot, whose end was none */
            scan->state = PLACE_TEXT;
            return DOT_GIVEN;
        }
        *given = slice_of(one_dot, MUTATED(DOT_LOST) ? 0 : 1);
        line_take(scan, one_dot, 1);
        scan->state = PLACE_TEXT;
        return DOT_GIVEN;
    }
    check(scan->state == PLACE_DOT_CR);
    if (byte == '\n') {
        ++*at;
        return DOT_END;
    }
    bare_newline(scan);
    *given = slice_of(two_dots, 2);
    scan->newline = true;
    scan->state = PLACE_BARE_LINE;
    return DOT_GIVEN;
}

/* The line end at `at` that is CRLF. Returns how far it reaches: behind the LF, or behind a CR that ends the input. */
static size_t crlf_take(struct body_scan *scan, struct slice input, size_t at)
{
    if (at + 1 == input.size) {
        scan->state = PLACE_CR;
        return at + 1;
    }
    line_end(scan);
    scan->state = PLACE_LINE;
    return at + 2;
}

/* Text of strict mode from `at` on; returns where it must stop: at a line start that holds a dot, or at the end. */
static size_t strict_text(struct body_scan *scan, struct slice input, size_t at)
{
    for (;;) {
        if (scan->state == PLACE_LINE && at < input.size) {
            if (input.bytes[at] == '.') {
                return at;
            }
            scan->state = PLACE_TEXT;
        }
        if (at >= input.size) {
            return input.size;
        }
        if (scan->state == PLACE_CR) {
            if (input.bytes[at] == '\n') {
                at++;
                line_end(scan);
                scan->state = PLACE_LINE;
                continue;
            }
            bare_newline(scan);
            scan->state = PLACE_TEXT;
        }
        size_t special = special_find(input, at);
        line_take(scan, input.bytes + at, special - at);
        if (special == input.size) {
            return special;
        }
        at = special;
        if (input.bytes[at] == '\r' && (at + 1 == input.size || input.bytes[at + 1] == '\n')) {
            at = crlf_take(scan, input, at);
            continue;
        }
        if (input.bytes[at] == 0) {
            fault_note(scan, BODY_NUL);
        } else {
            bare_newline(scan);
        }
        at++;
    }
}

/* Text of normalize mode: stops also before each line end that is none. */
static size_t normal_text(struct body_scan *scan, struct slice input, size_t at)
{
    for (;;) {
        if (at >= input.size) {
            return input.size;
        }
        if (scan->state == PLACE_LINE || scan->state == PLACE_BARE_LINE) {
            if (input.bytes[at] == '.') {
                return at;
            }
            scan->state = PLACE_TEXT;
        }
        size_t special = special_find(input, at);
        line_take(scan, input.bytes + at, special - at);
        if (special == input.size) {
            return special;
        }
        at = special;
        uint8_t byte = input.bytes[at];
        if (byte == 0) {
            at++;
            continue;
        }
        if (byte == '\r' && at + 1 < input.size && input.bytes[at + 1] == '\n') {
            at = crlf_take(scan, input, at);
            continue;
        }
        return at; /* a bare LF, a bare CR, or a CR whose fate the next input tells */
    }
}

/* Normalize: the octet at `at` is a bare LF, or a CR. Sets what is to be given. Returns the octets it takes. */
static size_t bare_take(struct body_scan *scan, struct slice input, size_t at)
{
    if (input.bytes[at] == '\r' && at + 1 == input.size) {
        scan->state = PLACE_CR;
        return 1;
    }
    line_end(scan);
    scan->newline = true;
    scan->state = PLACE_BARE_LINE;
    return 1;
}

/* A CR ended the last input (normalize): LF or not, a line ends here. */
static size_t split_cr_take(struct body_scan *scan, struct slice input)
{
    bool whole = input.bytes[0] == '\n';
    line_end(scan);
    scan->newline = true;
    scan->state = whole ? PLACE_LINE : PLACE_BARE_LINE;
    return whole ? 1 : 0;
}

/* What has to be given before the input goes on. */
static bool owed_give(struct body_scan *scan, struct slice *piece)
{
    if (scan->newline) {
        scan->newline = false;
        piece_give(scan, slice_of(crlf, 2), piece);
        return true;
    }
    if (scan->stuff) {
        scan->stuff = false;
        piece_give(scan, slice_of(one_dot, 1), piece);
        return true;
    }
    return false;
}

static bool in_dot(const struct body_scan *scan)
{
    return !scan->chunks &&
           (scan->state == PLACE_LINE || scan->state == PLACE_DOT || scan->state == PLACE_DOT_CR);
}

/* A line that begins with a dot which is text: it is stuffed. */
static void dot_is_text(struct body_scan *scan)
{
    scan->stuff = true;
    scan->state = PLACE_TEXT;
}

enum body_step body_scan_next(struct body_scan *scan, struct slice input, size_t *used,
                              struct slice *piece)
{
    size_t at = 0;
    *used = 0;
    for (;;) {
        if (owed_give(scan, piece)) {
            break;
        }
        if (at == input.size) {
            *used = at;
            return BODY_MORE;
        }
        if (in_dot(scan)) {
            struct slice given;
            enum dot_outcome outcome = dot_after_line(scan, input, &at, &given);
            if (outcome == DOT_END) {
                *used = at;
                return BODY_END;
            }
            if (outcome == DOT_GIVEN) {
                piece_give(scan, given, piece);
                break;
            }
            continue;
        }
        if (scan->limits->normalize && scan->state == PLACE_CR) {
            at += split_cr_take(scan, slice_from(input, at));
            continue;
        }
        size_t end =
            scan->limits->normalize ? normal_text(scan, input, at) : strict_text(scan, input, at);
        bool dot = end < input.size && input.bytes[end] == '.';
        size_t taken = 0;
        if (dot && (scan->chunks || scan->state == PLACE_BARE_LINE)) {
            dot_is_text(scan);
        } else if (!dot && end < input.size) {
            taken = bare_take(scan, input, end);
        }
        size_t from = at;
        at = end + taken;
        if (end > from) {
            piece_give(scan, slice_of(input.bytes + from, end - from), piece);
            break;
        }
    }
    *used = at;
    return BODY_PIECE;
}

struct slice body_scan_close(struct body_scan *scan)
{
    struct slice piece = {0};
    bool at_line = scan->state == PLACE_LINE || scan->state == PLACE_BARE_LINE;
    if (scan->state == PLACE_CR && !scan->limits->normalize) {
        fault_note(scan, BODY_BARE_NEWLINE);
    }
    if (!at_line || scan->newline) {
        scan->newline = false;
        if (!at_line) {
            line_end(scan);
        }
        piece_give(scan, slice_of(crlf, 2), &piece);
    }
    scan->state = PLACE_LINE;
    return piece;
}
