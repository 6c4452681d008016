#include "proto/imap/url.h"
#include "proto/imap/parser_private.h"

struct reading {
    struct arena *arena;
    struct slice left;
    const char *error;
};

static bool fail(struct reading *reading, const char *error)
{
    reading->error = reading->error != NULL ? reading->error : error;
    return false;
}

/* The word if it stands here in any case. */
static bool skip(struct reading *reading, const char *word)
{
    struct slice expected = slice_text(word);
    bool here = slice_equal_nocase(slice_first(reading->left, expected.size), expected);
    reading->left = slice_from(reading->left, here ? expected.size : 0);
    return here;
}

/* Up to the first of this, or all. */
static struct slice take_until(struct reading *reading, const char *end)
{
    struct slice word = slice_text(end);
    size_t size = 0;
    while (size < reading->left.size &&
           !slice_equal(slice_first(slice_from(reading->left, size), word.size), word)) {
        size++;
    }
    struct slice taken = slice_first(reading->left, size);
    reading->left = slice_from(reading->left, size);
    return taken;
}

static bool take_number(struct reading *reading, uint32_t least, uint32_t *number)
{
    uint64_t value = 0;
    size_t size = 0;
    while (size < reading->left.size && size < 11 && reading->left.bytes[size] >= '0' &&
           reading->left.bytes[size] <= '9') {
        value = value * 10 + (reading->left.bytes[size++] - '0');
    }
    if (size == 0 || value < least || value > UINT32_MAX) {
        return fail(reading, "Invalid number in the URL");
    }
    reading->left = slice_from(reading->left, size);
    *number = (uint32_t)value;
    return true;
}

static int hex_of(uint8_t byte)
{
    return byte >= '0' && byte <= '9'   ? byte - '0'
           : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
           : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                        : -1;
}

/* What the percent signs stand for, between the two others. */
static bool decode(struct reading *reading, struct slice before, struct slice text,
                   const char *behind, struct slice *decoded)
{
    size_t most = before.size + text.size + strlen(behind), size = before.size;
    uint8_t *out = (uint8_t *)arena_take(reading->arena, most + 1);
    if (out == NULL) {
        return fail(reading, "URL is too long");
    }
    if (before.size > 0) {
        memcpy(out, before.bytes, before.size);
    }
    for (size_t i = 0; i < text.size; i++) {
        int byte = text.bytes[i];
        if (byte == '%') {
            int high = i + 2 < text.size ? hex_of(text.bytes[i + 1]) : -1;
            int low = i + 2 < text.size ? hex_of(text.bytes[i + 2]) : -1;
            byte = high >= 0 && low >= 0 ? high << 4 | low : 0;
            i += 2;
        }
        if (byte == 0) {
            return fail(reading, "Invalid character in the URL");
        }
        out[size++] = (uint8_t)byte;
    }
    memcpy(out + size, behind, strlen(behind));
    *decoded = slice_of(out, size + strlen(behind));
    return true;
}

/* What relative names begin with: all levels of the selected mailbox but the last (RFC 3986 §5.2.3). */
static struct slice base_of(struct slice selected)
{
    while (selected.size > 0 && selected.bytes[selected.size - 1] != IMAP_SEPARATOR) {
        selected.size--;
    }
    return selected;
}

static bool take_mailbox(struct reading *reading, struct slice selected, struct imap_url *url)
{
    bool absolute = skip(reading, "/");
    struct slice name = take_until(reading, ";"), decoded;
    if (name.size == 0) {
        url->mailbox = selected;
        return !absolute && selected.size > 0 ? true : fail(reading, "URL names no mailbox");
    }
    if (skip(reading, ";UIDVALIDITY=")) {
        if (!take_number(reading, 1, &url->uid_validity) || !skip(reading, "/")) {
            return fail(reading, "URL names no message");
        }
    } else if (name.bytes[--name.size] != '/') {
        return fail(reading, "URL names no message");
    }
    if (!decode(reading, absolute ? slice_of(NULL, 0) : base_of(selected), name, "", &decoded)) {
        return false;
    }
    return imap_name_read(reading->arena, decoded, true, &url->mailbox) == IMAP_NAME_GOOD
               ? true
               : fail(reading, "Invalid mailbox name in the URL");
}

static bool take_section(struct reading *reading, struct imap_section *section)
{
    struct slice text;
    struct imap_parser parser;
    if (!decode(reading, slice_text("["), take_until(reading, "/;"), "]", &text)) {
        return false;
    }
    imap_parser_open(&parser, reading->arena, (uint8_t *)(uintptr_t)text.bytes, text.size, true);
    bool good = text.size > 2 && imap_take_section(&parser, false, section);
    return good && imap_at_end(&parser) ? true : fail(reading, "Unknown section in the URL");
}

static bool take_partial(struct reading *reading, struct imap_url *url)
{
    url->partial = true;
    return take_number(reading, 0, &url->first) &&
           (!skip(reading, ".") || take_number(reading, 1, &url->bytes));
}

static bool take_all(struct reading *reading, struct slice selected, struct imap_url *url)
{
    if (skip(reading, "imap:") || skip(reading, "imaps:") || skip(reading, "//")) {
        return fail(reading, "URL names a server");
    }
    if (!take_mailbox(reading, selected, url)) {
        return false;
    }
    if (!skip(reading, ";UID=")) {
        return fail(reading, "URL names no message");
    }
    if (!take_number(reading, 1, &url->uid) ||
        (skip(reading, "/;SECTION=") && !take_section(reading, &url->section)) ||
        (skip(reading, "/;PARTIAL=") && !take_partial(reading, url))) {
        return false;
    }
    return reading->left.size == 0 ? true : fail(reading, "Unexpected text in the URL");
}

const char *imap_url_read(struct arena *arena, struct slice text, struct slice selected,
                          struct imap_url *url)
{
    struct reading reading = {.arena = arena, .left = text};
    *url = (struct imap_url){.section.text = IMAP_SECTION_ALL};
    return take_all(&reading, selected, url) ? NULL : reading.error;
}
