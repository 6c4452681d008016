#include "queue/mailbox/maildir_name.h"
#include "engine/core/utf7.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* ---- reading ---- */

static size_t find(struct slice text, uint8_t byte)
{
    const uint8_t *found = text.size == 0 ? NULL : memchr(text.bytes, byte, text.size);
    return found == NULL ? text.size : (size_t)(found - text.bytes);
}

/* The flags, and whatever follows them: behind the last ":2,". */
static struct slice flags_of(struct slice file)
{
    size_t at = file.size;
    while (at > 0 && file.bytes[at - 1] != ':') {
        at--;
    }
    struct slice info = slice_from(file, at);
    bool any = at > 0 && info.size >= 2 && info.bytes[0] == '2' && info.bytes[1] == ',';
    return any ? slice_from(info, 2) : slice_of(file.bytes + file.size, 0);
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The number behind ",S=" or ",W=", where only a comma or the end may follow. */
static uint64_t size_of(struct slice base, char key)
{
    for (size_t at = find(base, ','); at < base.size;
         at += 1 + find(slice_from(base, at + 1), ',')) {
        struct slice field = slice_from(base, at + 1);
        if (field.size < 3 || field.bytes[0] != (uint8_t)key || field.bytes[1] != '=') {
            continue;
        }
        uint64_t size = 0;
        size_t digits = 2;
        while (digits < field.size && is_digit(field.bytes[digits]) && size < UINT64_MAX / 20) {
            size = size * 10 + (field.bytes[digits++] - '0');
        }
        bool whole = digits > 2 && (digits == field.size || field.bytes[digits] == ',');
        return whole ? size : MAILDIR_SIZE_UNKNOWN;
    }
    return MAILDIR_SIZE_UNKNOWN;
}

static unsigned flag_of(uint8_t letter)
{
    switch (letter) {
    case 'D':
        return MAILDIR_DRAFT;
    case 'F':
        return MAILDIR_FLAGGED;
    case 'P':
        return MAILDIR_PASSED;
    case 'R':
        return MAILDIR_REPLIED;
    case 'S':
        return MAILDIR_SEEN;
    case 'T':
        return MAILDIR_TRASHED;
    default:
        return 0;
    }
}

static bool is_keyword(uint8_t letter)
{
    return letter >= 'a' && letter <= 'z';
}

int maildir_name_read(struct slice file, struct maildir_name *name)
{
    *name = (struct maildir_name){.base = slice_first(file, find(file, ':'))};
    if (name->base.size == 0 || file.bytes[0] == '.') {
        return -EINVAL;
    }
    for (size_t i = 0; i < file.size; i++) {
        uint8_t byte = file.bytes[i];
        if (byte == '/' || byte == 0 || byte == '\r' || byte == '\n') {
            return -EINVAL;
        }
    }
    name->bytes = size_of(name->base, 'S');
    name->virtual_bytes = size_of(name->base, 'W');
    struct slice flags = flags_of(file);
    for (size_t i = 0; i < flags.size && flags.bytes[i] != ','; i++) {
        name->flags |= flag_of(flags.bytes[i]);
        if (is_keyword(flags.bytes[i])) {
            name->keywords |= 1u << (flags.bytes[i] - 'a');
        }
    }
    return 0;
}

/* ---- writing ---- */

ssize_t maildir_name_write(struct slice file, unsigned flags, uint32_t keywords,
                           char out[MAILDIR_FILE_NAME_MAX])
{
    struct slice old = flags_of(file);
    size_t size = file.size;
    while (size > 0 && file.bytes[size - 1] != ':') {
        size--;
    }
    struct slice before = slice_first(file, size == 0 ? file.size : size - 1);
    char text[2 * 256];
    size_t used = 0;
    for (unsigned letter = 1; letter < 256; letter++) {
        bool known = flag_of((uint8_t)letter) != 0 || is_keyword((uint8_t)letter);
        bool set = is_keyword((uint8_t)letter) ? keywords >> (letter - 'a') & 1
                                               : (flags & flag_of((uint8_t)letter)) != 0;
        bool kept = !known && letter != ',' &&
                    find(slice_first(old, find(old, ',')), (uint8_t)letter) < find(old, ',');
        if (set || kept) {
            text[used++] = (char)letter;
        }
    }
    struct slice others = slice_from(old, find(old, ','));
    if (before.size + 3 + used + others.size > MAILDIR_FILE_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(out, before.bytes, before.size);
    memcpy(out + before.size, ":2,", 3);
    memcpy(out + before.size + 3, text, used);
    if (others.size > 0) {
        memcpy(out + before.size + 3 + used, others.bytes, others.size);
    }
    return (ssize_t)(before.size + 3 + used + others.size);
}

/* ---- the order of arrival ---- */

static uint64_t take_number(struct slice *text)
{
    uint64_t number = 0;
    while (text->size > 0 && is_digit(text->bytes[0])) {
        number = number < UINT64_MAX / 20 ? number * 10 + (text->bytes[0] - '0') : number;
        *text = slice_from(*text, 1);
    }
    return number;
}

/* Of ".<unique>.<host>": what stands behind an M in the unique part; -1: nothing does. */
static int64_t microseconds_of(struct slice rest)
{
    if (rest.size == 0 || rest.bytes[0] != '.') {
        return -1;
    }
    rest = slice_from(rest, 1);
    rest = slice_first(rest, find(rest, '.'));
    size_t at = find(rest, 'M');
    if (at == rest.size) {
        return -1;
    }
    rest = slice_from(rest, at + 1);
    return (int64_t)(take_number(&rest) & INT64_MAX);
}

static int order_of_bytes(struct slice one, struct slice other)
{
    size_t size = one.size < other.size ? one.size : other.size;
    int order = size == 0 ? 0 : memcmp(one.bytes, other.bytes, size);
    return order != 0 ? order : one.size < other.size ? -1 : one.size > other.size;
}

int maildir_name_order(struct slice one, struct slice other)
{
    one = slice_first(one, find(one, ':'));
    other = slice_first(other, find(other, ':'));
    struct slice one_rest = one, other_rest = other;
    uint64_t one_s = take_number(&one_rest), other_s = take_number(&other_rest);
    if (one_s != other_s) {
        return one_s < other_s ? -1 : 1;
    }
    /* A name without them is before those that have some, so that this stays an order. */
    int64_t one_us = microseconds_of(one_rest), other_us = microseconds_of(other_rest);
    if (one_us != other_us) {
        return one_us < other_us ? -1 : 1;
    }
    return order_of_bytes(one, other);
}

/* ---- names that no other has ---- */

ssize_t maildir_namer_next(struct maildir_namer *namer, int64_t wall_us, uint64_t bytes,
                           uint64_t virtual_bytes, char out[MAILDIR_FILE_NAME_MAX + 1])
{
    namer->last_us = wall_us > namer->last_us ? wall_us : namer->last_us + 1;
    int size = snprintf(out, MAILDIR_FILE_NAME_MAX + 1,
                        "%" PRId64 ".M%06" PRId64 "P%" PRIu32 ".%.150s", namer->last_us / 1000000,
                        namer->last_us % 1000000, namer->process_id, namer->hostname);
    for (int i = 0; i < size; i++) {
        if (out[i] == '/' || out[i] == ':' || out[i] == ',') {
            out[i] = '_';
        }
    }
    if (bytes != MAILDIR_SIZE_UNKNOWN) {
        size +=
            snprintf(out + size, (size_t)(MAILDIR_FILE_NAME_MAX + 1 - size), ",S=%" PRIu64, bytes);
    }
    if (virtual_bytes != MAILDIR_SIZE_UNKNOWN) {
        size += snprintf(out + size, (size_t)(MAILDIR_FILE_NAME_MAX + 1 - size), ",W=%" PRIu64,
                         virtual_bytes);
    }
    return size;
}

/* ---- folders ---- */

ssize_t maildir_folder_write(struct slice mailbox, char out[MAILDIR_FILE_NAME_MAX + 1])
{
    size_t used = 0;
    if (slice_equal_nocase(mailbox, slice_text("INBOX"))) {
        out[0] = 0;
        return 0;
    }
    /* INBOX is the one name whose case is not the user's. */
    if (mailbox.size > 6 && mailbox.bytes[5] == '/' &&
        slice_equal_nocase(slice_first(mailbox, 5), slice_text("INBOX"))) {
        memcpy(out, ".INBOX", 6);
        used = 6;
        mailbox = slice_from(mailbox, 6);
    }
    for (;;) {
        struct slice level = slice_first(mailbox, find(mailbox, '/'));
        if (level.size == 0 || find(level, '.') < level.size) {
            return -EINVAL;
        }
        if (used + 1 >= MAILDIR_FILE_NAME_MAX) {
            return -ENAMETOOLONG;
        }
        out[used++] = '.';
        ssize_t size = utf7_encode(level, (uint8_t *)out + used, MAILDIR_FILE_NAME_MAX - used);
        if (size < 0) {
            return size == -ENOBUFS ? -ENAMETOOLONG : -EINVAL;
        }
        used += (size_t)size;
        if (level.size == mailbox.size) {
            out[used] = 0;
            return (ssize_t)used;
        }
        mailbox = slice_from(mailbox, level.size + 1);
    }
}

ssize_t maildir_folder_read(struct slice folder, char out[MAILDIR_FILE_NAME_MAX * 2])
{
    if (folder.size == 0) {
        memcpy(out, "INBOX", 5);
        return 5;
    }
    if (folder.size > MAILDIR_FILE_NAME_MAX || folder.bytes[0] != '.' ||
        find(folder, '/') < folder.size) {
        return -EINVAL;
    }
    size_t used = 0;
    while (folder.size > 0) {
        folder = slice_from(folder, 1);
        struct slice level = slice_first(folder, find(folder, '.'));
        if (level.size == 0) {
            return -EINVAL;
        }
        if (used > 0) {
            out[used++] = '/';
        }
        ssize_t size = utf7_decode(level, (uint8_t *)out + used, MAILDIR_FILE_NAME_MAX * 2 - used);
        if (size < 0) {
            return -EINVAL;
        }
        used += (size_t)size;
        folder = slice_from(folder, level.size);
    }
    return (ssize_t)used;
}
