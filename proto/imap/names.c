#include "proto/imap/names.h"
#include "engine/core/check.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int base64_value(uint8_t digit)
{
    const char *at = digit == 0 ? NULL : strchr(base64_digits, digit);
    return at == NULL ? -1 : (int)(at - base64_digits);
}

static size_t utf8_write(uint32_t character, uint8_t out[4])
{
    if (character < 0x80) {
        out[0] = (uint8_t)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (uint8_t)(0xc0 | character >> 6);
        out[1] = (uint8_t)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (uint8_t)(0xe0 | character >> 12);
        out[1] = (uint8_t)(0x80 | (character >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | character >> 18);
    out[1] = (uint8_t)(0x80 | (character >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (character >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (character & 0x3f));
    return 4;
}

/* The character at the start of text, and how many bytes it has; 0: none that is well formed. */
static size_t utf8_read(struct slice text, uint32_t *character)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (text.size == 0) {
        return 0;
    }
    uint8_t first = text.bytes[0];
    if (first < 0x80) {
        *character = first;
        return 1;
    }
    size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || bytes > text.size) {
        return 0;
    }
    *character = first & (0xffu >> (bytes + 1));
    for (size_t i = 1; i < bytes; i++) {
        if ((text.bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
        *character = *character << 6 | (text.bytes[i] & 0x3fu);
    }
    bool surrogate = *character >= 0xd800 && *character < 0xe000;
    return *character < least[bytes] || *character > 0x10ffff || surrogate ? 0 : bytes;
}

bool imap_utf8_valid(struct slice text)
{
    while (text.size > 0) {
        uint32_t character;
        size_t bytes = utf8_read(text, &character);
        if (bytes == 0) {
            return false;
        }
        text = slice_from(text, bytes);
    }
    return true;
}

/* One shifted run, without its '&' and '-': UTF-16 in base64. Returns the bytes written; 0: it is none. */
static size_t shifted_decode(struct slice run, uint8_t *out)
{
    uint32_t bits = 0, high = 0;
    unsigned count = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < run.size; i++) {
        int value = base64_value(run.bytes[i]);
        if (value < 0) {
            return 0;
        }
        bits = (bits << 6 | (uint32_t)value) & 0x3fffff;
        count += 6;
        if (count < 16) {
            continue;
        }
        count -= 16;
        uint32_t unit = bits >> count & 0xffff;
        bool low = unit >= 0xdc00 && unit < 0xe000;
        if (low != (high != 0) || (unit >= 0x20 && unit < 0x7f)) {
            return 0; /* half a pair, or what stands for itself */
        }
        if (unit >= 0xd800 && unit < 0xdc00) {
            high = unit;
            continue;
        }
        uint32_t character = low ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00) : unit;
        high = 0;
        bytes += utf8_write(character, out + bytes);
    }
    bool padding = count < 6 && (bits & ((1u << count) - 1)) == 0;
    return high != 0 || !padding ? 0 : bytes;
}

enum imap_name_fault imap_utf7_decode(struct arena *arena, struct slice utf7, struct slice *text)
{
    *text = slice_of(NULL, 0);
    /* 8 digits are 3 characters of 3 bytes each at the most, so 9 bytes. */
    uint8_t *out = arena_take(arena, utf7.size * 9 / 8 + 4);
    if (out == NULL) {
        return IMAP_NAME_MEMORY;
    }
    size_t size = 0;
    bool after_shift = false; /* a run right behind a run could have been one */
    for (size_t at = 0; at < utf7.size;) {
        uint8_t byte = utf7.bytes[at];
        if (byte >= 0x7f || byte < 0x20) {
            return byte >= 0x80 ? IMAP_NAME_ENCODING : IMAP_NAME_CHARACTER;
        }
        if (byte != '&') {
            out[size++] = byte;
            at++;
            after_shift = false;
            continue;
        }
        const uint8_t *end = memchr(utf7.bytes + at, '-', utf7.size - at);
        if (end == NULL) {
            return IMAP_NAME_ENCODING;
        }
        struct slice run = slice_of(utf7.bytes + at + 1, (size_t)(end - utf7.bytes) - at - 1);
        at += run.size + 2;
        if (run.size == 0) {
            out[size++] = '&';
            after_shift = false;
            continue;
        }
        size_t bytes = after_shift ? 0 : shifted_decode(run, out + size);
        if (bytes == 0) {
            return IMAP_NAME_ENCODING;
        }
        size += bytes;
        after_shift = true;
    }
    *text = slice_of(out, size);
    return IMAP_NAME_GOOD;
}

struct shift_writer {
    uint8_t *out;
    size_t size;
    uint32_t bits;
    unsigned count;
};

static void shifted_unit(struct shift_writer *writer, uint32_t unit)
{
    writer->bits = writer->bits << 16 | unit;
    writer->count += 16;
    while (writer->count >= 6) {
        writer->count -= 6;
        writer->out[writer->size++] = (uint8_t)base64_digits[writer->bits >> writer->count & 0x3f];
    }
    writer->bits &= (1u << writer->count) - 1;
}

static void shifted_end(struct shift_writer *writer)
{
    if (writer->count > 0) {
        uint32_t rest = writer->bits << (6 - writer->count) & 0x3f;
        writer->out[writer->size++] = (uint8_t)base64_digits[rest];
    }
    writer->out[writer->size++] = '-';
    writer->bits = writer->count = 0;
}

bool imap_utf7_encode(struct arena *arena, struct slice text, struct slice *utf7)
{
    *utf7 = slice_of(NULL, 0);
    /* The worst is one byte alone: '&', three digits, '-'. */
    struct shift_writer writer = {.out = arena_take(arena, text.size * 5 + 8)};
    if (writer.out == NULL) {
        return false;
    }
    bool shifted = false;
    while (text.size > 0) {
        uint32_t character;
        size_t bytes = utf8_read(text, &character);
        check(bytes > 0);
        text = slice_from(text, bytes);
        bool plain = character >= 0x20 && character < 0x7f;
        if (plain && shifted) {
            shifted_end(&writer);
        } else if (!plain && !shifted) {
            writer.out[writer.size++] = '&';
        }
        shifted = !plain;
        if (plain) {
            writer.out[writer.size++] = (uint8_t)character;
            if (character == '&') {
                writer.out[writer.size++] = '-';
            }
        } else if (character >= 0x10000) {
            shifted_unit(&writer, 0xd800 + ((character - 0x10000) >> 10));
            shifted_unit(&writer, 0xdc00 + ((character - 0x10000) & 0x3ff));
        } else {
            shifted_unit(&writer, character);
        }
    }
    if (shifted) {
        shifted_end(&writer);
    }
    *utf7 = slice_of(writer.out, writer.size);
    return true;
}

static enum imap_name_fault characters_check(struct slice name)
{
    while (name.size > 0) {
        uint32_t character;
        size_t bytes = utf8_read(name, &character);
        if (bytes == 0) {
            return IMAP_NAME_ENCODING;
        }
        bool control = character < 0x20 || (character >= 0x7f && character < 0xa0);
        if (control || character == 0x2028 || character == 0x2029) {
            return IMAP_NAME_CHARACTER;
        }
        name = slice_from(name, bytes);
    }
    return IMAP_NAME_GOOD;
}

static enum imap_name_fault level_check(struct slice level)
{
    if (level.size == 0 || slice_equal(level, slice_text(".")) ||
        slice_equal(level, slice_text(".."))) {
        return IMAP_NAME_LEVEL;
    }
    return level.size > IMAP_MAILBOX_LEVEL_BYTES_MAX ? IMAP_NAME_LONG : IMAP_NAME_GOOD;
}

/* The bytes before the first separator. */
static struct slice level_first(struct slice name)
{
    const uint8_t *end = name.size == 0 ? NULL : memchr(name.bytes, IMAP_SEPARATOR, name.size);
    return end == NULL ? name : slice_of(name.bytes, (size_t)(end - name.bytes));
}

enum imap_name_fault imap_name_check(struct slice name)
{
    if (name.size > IMAP_MAILBOX_BYTES_MAX) {
        return IMAP_NAME_LONG;
    }
    enum imap_name_fault fault = characters_check(name);
    for (unsigned levels = 1; fault == IMAP_NAME_GOOD; levels++) {
        struct slice level = level_first(name);
        fault = level_check(level);
        if (level.size == name.size) {
            break;
        }
        if (levels == IMAP_MAILBOX_LEVELS_MAX) {
            return IMAP_NAME_LONG;
        }
        name = slice_from(name, level.size + 1);
    }
    return fault;
}

enum imap_name_fault imap_name_read(struct arena *arena, struct slice sent, bool utf8,
                                    struct slice *name)
{
    static const char inbox[] = "INBOX";
    struct slice text;
    *name = slice_of(NULL, 0);
    if (sent.size > 4u * IMAP_MAILBOX_BYTES_MAX) {
        return IMAP_NAME_LONG; /* three bytes in UTF-8 are five in UTF-7 */
    }
    if (!utf8) {
        enum imap_name_fault fault = imap_utf7_decode(arena, sent, &text);
        if (fault != IMAP_NAME_GOOD) {
            return fault;
        }
    } else if (!arena_copy(arena, sent, &text)) {
        return IMAP_NAME_MEMORY;
    }
    if (text.size > 1 && text.bytes[text.size - 1] == IMAP_SEPARATOR) {
        text.size--;
    }
    enum imap_name_fault fault = imap_name_check(text);
    if (fault != IMAP_NAME_GOOD) {
        return fault;
    }
    if (slice_equal_nocase(level_first(text), slice_text(inbox))) {
        /* It is ours, taken above. */
        memcpy((uint8_t *)(uintptr_t)text.bytes, inbox, sizeof(inbox) - 1);
    }
    *name = text;
    return IMAP_NAME_GOOD;
}

bool imap_name_has_wildcard(struct slice name)
{
    return name.size > 0 && (memchr(name.bytes, '*', name.size) != NULL ||
                             memchr(name.bytes, '%', name.size) != NULL);
}

/* "%*%" says no more than "*", and "%%" than "%". Returns the size that is left. */
static size_t wildcards_collapse(uint8_t *pattern, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = pattern[i];
        bool wild = byte == '*' || byte == '%';
        if (wild && kept > 0 && (pattern[kept - 1] == '*' || pattern[kept - 1] == '%')) {
            pattern[kept - 1] = pattern[kept - 1] == '*' || byte == '*' ? '*' : '%';
        } else {
            pattern[kept++] = byte;
        }
    }
    return kept;
}

enum imap_name_fault imap_pattern_read(struct arena *arena, struct slice reference,
                                       struct slice pattern, bool utf8, struct slice *joined)
{
    size_t size = reference.size + pattern.size;
    *joined = slice_of(NULL, 0);
    if (size > 4u * IMAP_MAILBOX_BYTES_MAX) {
        return IMAP_NAME_LONG;
    }
    uint8_t *bytes = arena_take(arena, size);
    if (bytes == NULL) {
        return IMAP_NAME_MEMORY;
    }
    if (reference.size > 0) {
        memcpy(bytes, reference.bytes, reference.size);
    }
    if (pattern.size > 0) {
        memcpy(bytes + reference.size, pattern.bytes, pattern.size);
    }
    struct slice text = slice_of(bytes, wildcards_collapse(bytes, size));
    if (!utf8) {
        struct slice utf7 = text;
        enum imap_name_fault fault = imap_utf7_decode(arena, utf7, &text);
        if (fault != IMAP_NAME_GOOD) {
            return fault;
        }
    }
    if (text.size > IMAP_MAILBOX_BYTES_MAX) {
        return IMAP_NAME_LONG;
    }
    enum imap_name_fault fault = characters_check(text);
    *joined = fault == IMAP_NAME_GOOD ? text : slice_of(NULL, 0);
    return fault;
}

static bool wildcard_takes(uint8_t wanted, uint8_t byte)
{
    return wanted == '*' || (wanted == '%' && byte != IMAP_SEPARATOR);
}

/* What can be reached with nothing more of the name: wildcards may stand for nothing. */
static bool reach_close(struct slice pattern, bool *reached)
{
    bool any = reached[pattern.size];
    for (size_t i = 0; i < pattern.size; i++) {
        any = any || reached[i];
        if (reached[i] && (pattern.bytes[i] == '*' || pattern.bytes[i] == '%')) {
            reached[i + 1] = true;
        }
    }
    return any;
}

bool imap_pattern_match(struct slice pattern, struct slice name)
{
    /* reached[i]: the name so far can be matched by the first i bytes of the pattern. All ways are followed at once, so
     * there is no way back and nothing exponential. */
    bool reached[IMAP_MAILBOX_BYTES_MAX + 1];
    check(pattern.size <= IMAP_MAILBOX_BYTES_MAX);
    memset(reached, 0, pattern.size + 1);
    reached[0] = true;
    reach_close(pattern, reached);
    size_t inbox = slice_equal(level_first(name), slice_text("INBOX")) ? 5 : 0;
    for (size_t at = 0; at < name.size; at++) {
        uint8_t byte = name.bytes[at];
        for (size_t i = pattern.size + 1; i-- > 0;) { /* backwards: each needs what was before it */
            bool stays = i < pattern.size && reached[i] && wildcard_takes(pattern.bytes[i], byte);
            uint8_t wanted = i > 0 ? pattern.bytes[i - 1] : '*';
            bool same = at < inbox ? slice_lower(wanted) == slice_lower(byte) : wanted == byte;
            bool literal = wanted != '*' && wanted != '%';
            reached[i] = stays || (i > 0 && reached[i - 1] && literal && same);
        }
        if (!reach_close(pattern, reached)) {
            return false;
        }
    }
    return reached[pattern.size];
}
