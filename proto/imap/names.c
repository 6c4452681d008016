#include "proto/imap/names.h"
#include "engine/core/check.h"
#include "engine/core/utf7.h"
#include <errno.h>
#include <unistr.h>

/* The character at the start of text, and how many bytes it has; 0: none that is well formed. */
static size_t utf8_read(struct slice text, ucs4_t *character)
{
    int bytes = text.size == 0 ? 0 : u8_mbtoucr(character, text.bytes, text.size);
    return bytes > 0 ? (size_t)bytes : 0;
}

bool imap_utf8_valid(struct slice text)
{
    return text.size == 0 || u8_check(text.bytes, text.size) == NULL;
}

enum imap_name_fault imap_utf7_decode(struct arena *arena, struct slice utf7, struct slice *text)
{
    size_t room = UTF7_DECODED_BYTES_MAX(utf7.size);
    uint8_t *out = arena_take(arena, room);
    *text = slice_of(NULL, 0);
    if (out == NULL) {
        return IMAP_NAME_MEMORY;
    }
    for (size_t i = 0; i < utf7.size; i++) {
        if (utf7.bytes[i] < 0x20 || utf7.bytes[i] == 0x7f) {
            return IMAP_NAME_CHARACTER;
        }
    }
    ssize_t size = utf7_decode(utf7, out, room);
    if (size < 0) {
        return size == -EINVAL ? IMAP_NAME_CHARACTER : IMAP_NAME_ENCODING;
    }
    *text = slice_of(out, (size_t)size);
    return IMAP_NAME_GOOD;
}

bool imap_utf7_encode(struct arena *arena, struct slice text, struct slice *utf7)
{
    size_t room = UTF7_ENCODED_BYTES_MAX(text.size);
    uint8_t *out = arena_take(arena, room);
    *utf7 = slice_of(NULL, 0);
    if (out == NULL) {
        return false;
    }
    ssize_t size = utf7_encode(text, out, room);
    check(size >= 0);
    *utf7 = slice_of(out, (size_t)size);
    return true;
}

static enum imap_name_fault characters_check(struct slice name)
{
    while (name.size > 0) {
        ucs4_t character;
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
