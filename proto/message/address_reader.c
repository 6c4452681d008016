#include "proto/message/address_reader.h"

/* A join of two words, until it is known whether they are a name ("A. B": a blank) or a local part (nothing). */
#define JOIN '\0'

struct reading {
    struct arena *arena;
    struct slice rest;
    uint8_t *out; /* as large as the text: each byte read gives at most one */
    size_t size;
    struct slice comment; /* the last one of this address */
    bool in_group;
};

static uint8_t first(const struct reading *reading)
{
    return reading->rest.size > 0 ? reading->rest.bytes[0] : '\0';
}

static void advance(struct reading *reading, size_t size)
{
    reading->rest = slice_from(reading->rest, size);
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n' || byte == '\0';
}

/* RFC 5322 §3.2.3 atext, RFC 6532 §3.2; control characters too: they are shown as they are. */
static bool is_atext(uint8_t byte)
{
    return !is_blank(byte) && strchr("()<>[]:;@\\,.\"", byte) == NULL;
}

static bool skip_line_end(uint8_t byte)
{
    return byte == '\r' || byte == '\n' || byte == '\0';
}

static void keep(struct reading *reading, uint8_t byte)
{
    if (!skip_line_end(byte)) {
        reading->out[reading->size++] = byte;
    }
}

/* What lies in the output from `from` on. */
static struct slice kept(const struct reading *reading, size_t from)
{
    return slice_of(reading->out + from, reading->size - from);
}

static void comment_take(struct reading *reading)
{
    size_t start = reading->size, depth = 0;
    while (reading->rest.size > 0) {
        uint8_t byte = first(reading);
        advance(reading, 1);
        if (byte == '\\' && reading->rest.size > 0) {
            keep(reading, first(reading));
            advance(reading, 1);
            continue;
        }
        depth += byte == '(';
        if (byte == ')' && --depth == 0) {
            reading->comment = kept(reading, start);
            return;
        }
        if (byte != '(' || depth > 1) {
            keep(reading, byte);
        }
    }
    reading->size = start; /* it has no end */
}

static bool blanks_skip(struct reading *reading)
{
    bool skipped = false;
    while (reading->rest.size > 0 && (is_blank(first(reading)) || first(reading) == '(')) {
        skipped = true;
        if (first(reading) == '(') {
            comment_take(reading);
        } else {
            advance(reading, 1);
        }
    }
    return skipped;
}

/* False: it has no end; all is taken. */
static bool quoted_take(struct reading *reading)
{
    advance(reading, 1);
    while (reading->rest.size > 0) {
        uint8_t byte = first(reading);
        advance(reading, 1);
        if (byte == '"') {
            return true;
        }
        if (byte == '\\' && reading->rest.size > 0) {
            byte = first(reading);
            advance(reading, 1);
        }
        keep(reading, byte);
    }
    return false;
}

/* Words, dots among them, up to what is none. A comment that stands between two is moved behind them: its text is copied
 * to the arena first. False: a quoted string has no end. *count: how many words. */
static bool words_take(struct reading *reading, struct slice *words, size_t *count)
{
    uint8_t *own = reading->out;
    size_t start = reading->size;
    *count = 0;
    bool whole = true;
    while (whole && reading->rest.size > 0) {
        uint8_t byte = first(reading);
        if (byte != '"' && byte != '.' && !is_atext(byte)) {
            break;
        }
        if (*count > 0) {
            own[reading->size++] = JOIN; /* the blank or quote that was read */
        }
        ++*count;
        if (byte == '"') {
            whole = quoted_take(reading);
        } else {
            while (first(reading) == '.' || is_atext(first(reading))) {
                keep(reading, first(reading));
                advance(reading, 1);
            }
        }
        size_t end = reading->size;
        struct slice before = reading->comment;
        blanks_skip(reading);
        if (reading->comment.bytes != before.bytes) {
            arena_copy(reading->arena, reading->comment, &reading->comment);
        }
        reading->size = end;
    }
    *words = kept(reading, start);
    return whole;
}

/* A display name: words with blanks between them. */
static struct slice words_name(struct slice words)
{
    uint8_t *text = (uint8_t *)words.bytes; /* our own output */
    for (size_t i = 0; i < words.size; i++) {
        text[i] = text[i] == JOIN ? ' ' : text[i];
    }
    return words;
}

/* The words at the end that dots hold together ("a . b") are a local part; *words keeps those before. */
static struct slice words_local(struct slice *words)
{
    uint8_t *text = (uint8_t *)words->bytes;
    size_t start = words->size, size = 0;
    while (start > 0 && !(text[start - 1] == JOIN && start < words->size && text[start] != '.' &&
                          (start < 2 || text[start - 2] != '.'))) {
        start--;
    }
    for (size_t i = start; i < words->size; i++) {
        if (text[i] != JOIN) {
            text[start + size++] = text[i];
        }
    }
    struct slice local = slice_of(text + start, size);
    words->size = start > 0 ? start - 1 : 0;
    return local;
}

/* Behind '@'. Empty with NULL: it is none. */
static struct slice domain_take(struct reading *reading)
{
    size_t start;
    blanks_skip(reading);
    start = reading->size;
    if (first(reading) == '[') {
        const uint8_t *end = memchr(reading->rest.bytes, ']', reading->rest.size);
        if (end == NULL) {
            advance(reading, reading->rest.size);
            return slice_of(NULL, 0);
        }
        struct slice literal = slice_first(reading->rest, (size_t)(end - reading->rest.bytes) + 1);
        for (size_t i = 0; i < literal.size; i++) {
            keep(reading, literal.bytes[i]);
        }
        advance(reading, literal.size);
        struct slice domain = kept(reading, start);
        blanks_skip(reading);
        return domain;
    }
    struct slice words;
    size_t count;
    if (!is_atext(first(reading)) || !words_take(reading, &words, &count)) {
        return slice_of(NULL, 0);
    }
    /* Only words that dots hold together: of "b c" the first is the domain. */
    uint8_t *text = (uint8_t *)words.bytes;
    size_t size = 0;
    for (size_t i = 0; i < words.size; i++) {
        if (text[i] != JOIN) {
            text[size++] = text[i];
        } else if ((size == 0 || text[size - 1] != '.') && text[i + 1] != '.') {
            break;
        }
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '.' && (i + 1 == size || text[i + 1] == '.')) {
            return slice_of(NULL, 0);
        }
    }
    return slice_of(text, size);
}

/* "@a,@b:", kept without what stands between. Its comments are lost: a name in front of <> leaves them no use. */
static void route_take(struct reading *reading, struct address *address)
{
    size_t start = reading->size;
    address->route_broken = true;
    while (first(reading) == '@') {
        if (reading->size > start) {
            keep(reading, ',');
        }
        keep(reading, '@');
        advance(reading, 1);
        struct slice domain = domain_take(reading);
        if (domain.bytes == NULL) {
            return;
        }
        reading->size = (size_t)(domain.bytes - reading->out) + domain.size;
        if (first(reading) == ':') {
            advance(reading, 1);
            address->route = kept(reading, start);
            address->route_broken = false;
            blanks_skip(reading);
            return;
        }
        while (first(reading) == ',') {
            advance(reading, 1);
            size_t end = reading->size;
            blanks_skip(reading);
            reading->size = end;
        }
    }
}

/* Behind '<'. */
static void angle_take(struct reading *reading, struct address *address)
{
    struct slice words;
    size_t count;
    advance(reading, 1);
    blanks_skip(reading);
    if (first(reading) == '@') {
        route_take(reading, address);
        if (address->route_broken) {
            return;
        }
    }
    address->broken = !words_take(reading, &words, &count);
    if (count > 0) {
        address->local = words_local(&words);
        address->broken = address->broken || words.size > 0;
    }
    if (!address->broken && first(reading) == '@') {
        advance(reading, 1);
        address->domain = domain_take(reading);
        address->broken = address->domain.bytes == NULL;
    }
    if (first(reading) == '>') {
        advance(reading, 1);
        blanks_skip(reading);
    } else {
        address->broken = true;
    }
}

/* One mailbox, or the beginning of a group. */
static void address_take(struct reading *reading, struct address *address)
{
    struct slice words;
    size_t count;
    bool whole = words_take(reading, &words, &count);
    if (!whole) {
        return;
    }
    switch (first(reading)) {
    case '<':
        if (words.size > 0) {
            address->name = words_name(words);
        }
        angle_take(reading, address);
        return;
    case ':':
        if (!reading->in_group) {
            advance(reading, 1);
            address->kind = ADDRESS_GROUP;
            address->name = words_name(words);
            reading->in_group = true;
            return;
        }
        break;
    case '@':
        if (count > 0) {
            address->local = words_local(&words);
        }
        if (words.size > 0) {
            address->name = words_name(words);
        }
        advance(reading, 1);
        address->domain = domain_take(reading);
        if (address->name.bytes == NULL) {
            address->name = reading->comment;
        }
        return;
    default:
        break;
    }
    if (count == 1) {
        address->local = words_local(&words);
        address->name = reading->comment;
    } else if (count > 1) {
        address->name = words_name(words);
    }
}

/* What cannot be read up to what parts addresses, and that. True: a group ends. */
static bool separator_take(struct reading *reading)
{
    bool ended = false;
    while (reading->rest.size > 0 && first(reading) != ',') {
        if (first(reading) == ';' && reading->in_group) {
            reading->in_group = false;
            ended = true;
        }
        advance(reading, 1);
    }
    advance(reading, 1);
    return ended;
}

static struct address **append(struct arena *arena, struct address **end, struct address address)
{
    struct address *kept_address = end != NULL ? arena_take(arena, sizeof(*kept_address)) : NULL;
    if (kept_address == NULL) {
        return end;
    }
    *kept_address = address;
    *end = kept_address;
    return &kept_address->next;
}

struct address **address_read(struct arena *arena, struct slice text, struct address **end)
{
    struct reading reading = {.arena = arena, .rest = text};
    reading.out = arena_take(arena, text.size + 1);
    if (reading.out == NULL) {
        return end;
    }
    blanks_skip(&reading);
    while (reading.rest.size > 0) {
        struct address address = {.next = NULL};
        bool group_over = reading.in_group && first(&reading) == ';';
        reading.comment = slice_of(NULL, 0);
        if (!group_over) {
            address_take(&reading, &address);
            end = append(arena, end, address);
        }
        blanks_skip(&reading);
        if (address.kind != ADDRESS_GROUP && separator_take(&reading)) {
            end = append(arena, end, (struct address){.kind = ADDRESS_GROUP_END});
        }
        blanks_skip(&reading);
    }
    if (reading.in_group) {
        end = append(arena, end, (struct address){.kind = ADDRESS_GROUP_END});
    }
    return end;
}
