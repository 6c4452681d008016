/* mbox_reader: the front of each line is looked at, the rest passes through. */
#include "engine/core/check.h"
#include "queue/mailbox/mbox.h"

void mbox_reader_begin(struct mbox_reader *reader, enum mbox_quoting quoting)
{
    memset(reader, 0, sizeof *reader);
    reader->quoting = quoting;
}

/* ---- our headers ---- */

static uint32_t number_take(struct slice *value)
{
    uint64_t number = 0;
    while (value->size > 0 && value->bytes[0] == ' ') {
        *value = slice_from(*value, 1);
    }
    while (value->size > 0 && value->bytes[0] >= '0' && value->bytes[0] <= '9') {
        number = number <= UINT32_MAX ? number * 10 + (value->bytes[0] - '0') : number;
        *value = slice_from(*value, 1);
    }
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

static void flags_read(struct mbox_facts *facts, struct slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        switch (value.bytes[i]) {
        case 'R':
            facts->flags |= MAILDIR_SEEN;
            break;
        case 'O':
            facts->old = true;
            break;
        case 'A':
            facts->flags |= MAILDIR_REPLIED;
            break;
        case 'F':
            facts->flags |= MAILDIR_FLAGGED;
            break;
        case 'T':
            facts->flags |= MAILDIR_DRAFT;
            break;
        case 'D':
            facts->flags |= MAILDIR_TRASHED;
            break;
        default:
            break;
        }
    }
}

static void keywords_read(struct mbox_facts *facts, struct slice value)
{
    size_t used = strlen(facts->keywords);
    for (size_t at = 0; at < value.size;) {
        size_t end = at;
        while (end < value.size && value.bytes[end] > ' ') {
            end++;
        }
        if (end > at && used + 1 + (end - at) < MBOX_KEYWORDS_BYTES) {
            if (used > 0) {
                facts->keywords[used++] = ' ';
            }
            memcpy(facts->keywords + used, value.bytes + at, end - at);
            used += end - at;
        }
        at = end + 1;
    }
    facts->keywords[used] = 0;
}

static bool is_header(struct slice line, const char *name, struct slice *value)
{
    struct slice wanted = slice_text(name);
    *value = slice_from(line, wanted.size);
    return slice_equal_nocase(slice_first(line, wanted.size), wanted);
}

/* One of ours: its facts are kept and it is dropped. */
static bool header_read(struct mbox_reader *reader, struct slice line)
{
    struct mbox_facts *facts = &reader->facts;
    struct slice value;
    reader->keywords_go_on = false;
    if (is_header(line, "Status:", &value) || is_header(line, "X-Status:", &value)) {
        flags_read(facts, value);
        return true;
    }
    if (is_header(line, "X-Keywords:", &value)) {
        keywords_read(facts, value);
        reader->keywords_go_on = true;
        return true;
    }
    if (is_header(line, "X-UID:", &value)) {
        facts->uid = number_take(&value);
        return true;
    }
    bool internal = is_header(line, "X-IMAP:", &value);
    if (internal || is_header(line, "X-IMAPbase:", &value)) {
        facts->internal = internal;
        facts->uidvalidity = number_take(&value);
        facts->uid_last = number_take(&value);
        return true;
    }
    return false;
}

/* ---- lines ---- */

static bool is_blank(struct slice line)
{
    return (line.size == 1 && line.bytes[0] == '\n') ||
           (line.size == 2 && line.bytes[0] == '\r' && line.bytes[1] == '\n');
}

static size_t quotes_of(struct slice line)
{
    size_t quotes = 0;
    while (quotes < line.size && line.bytes[quotes] == '>') {
        quotes++;
    }
    return quotes;
}

/* 1: the first '>' is not the message's. In a header too: some writers keep a stray From_ line there. */
static size_t is_quoted(const struct mbox_reader *reader, struct slice line)
{
    size_t quotes = quotes_of(line);
    struct slice behind = slice_from(line, quotes);
    bool from = behind.size >= 5 && memcmp(behind.bytes, "From ", 5) == 0;
    return from && (reader->quoting == MBOX_RD ? quotes > 0 : quotes == 1);
}

static enum mbox_event tell(struct mbox_reader *reader, const uint8_t *bytes, size_t size)
{
    reader->text = slice_of(bytes, size);
    return MBOX_TEXT;
}

/* The empty line that was held back is text after all. */
static bool tell_blank(struct mbox_reader *reader)
{
    if (reader->blank_size == 0) {
        return false;
    }
    tell(reader, reader->blank, reader->blank_size);
    reader->blank_size = 0;
    return true;
}

/* What the front of a line is in the body. */
static enum mbox_event body_front(struct mbox_reader *reader, struct slice line, bool ended)
{
    if (tell_blank(reader)) {
        return MBOX_TEXT; /* the line stays where it is, for the next call */
    }
    if (is_blank(line)) {
        memcpy(reader->blank, line.bytes, line.size);
        reader->blank_size = (unsigned)line.size;
        reader->was_blank = true;
        reader->used = 0;
        return MBOX_MORE;
    }
    size_t quotes = quotes_of(line);
    size_t quoted = is_quoted(reader, line);
    reader->was_blank = false;
    reader->used = 0;
    if (!ended && quotes == line.size) { /* one '>' stays until it is known what follows them */
        reader->line[0] = '>';
        reader->used = 1;
        return tell(reader, line.bytes + 1, line.size - 1);
    }
    reader->inside_line = !ended;
    return tell(reader, line.bytes + quoted, line.size - quoted);
}

static enum mbox_event header_front(struct mbox_reader *reader, struct slice line, bool ended)
{
    reader->used = 0;
    if (is_blank(line)) {
        reader->place = MBOX_IN_BODY;
        reader->dropping = false;
        reader->was_blank = true;
        return tell(reader, line.bytes, line.size);
    }
    bool goes_on = line.bytes[0] == ' ' || line.bytes[0] == '\t';
    if (goes_on && reader->dropping && reader->keywords_go_on) {
        keywords_read(&reader->facts, line);
    }
    if (!goes_on) {
        reader->dropping = header_read(reader, line);
    }
    reader->was_blank = false;
    reader->inside_line = !ended;
    size_t quoted = is_quoted(reader, line);
    return reader->dropping ? MBOX_MORE : tell(reader, line.bytes + quoted, line.size - quoted);
}

/* A whole line, or as much of one as is looked at, lies in reader->line. */
static enum mbox_event front(struct mbox_reader *reader, bool ended)
{
    struct slice line = slice_of(reader->line, reader->used);
    bool may_begin = reader->place == MBOX_AT_START || reader->was_blank;
    struct mbox_facts facts = {0};
    struct slice without_end = line;
    without_end.size -= ended && line.size > 0 && line.bytes[line.size - 1] == '\n';
    if (may_begin && mbox_from_read(without_end, &facts)) {
        bool first = reader->place == MBOX_AT_START;
        if (!first && !reader->started) {
            reader->started = true;
            reader->blank_size = 0; /* it stood between the two */
            return MBOX_END;
        }
        reader->started = false;
        reader->facts = facts;
        reader->place = MBOX_IN_HEADER;
        reader->was_blank = false;
        reader->dropping = !ended;
        reader->keywords_go_on = false;
        reader->inside_line = !ended;
        reader->used = 0;
        return MBOX_MESSAGE;
    }
    switch (reader->place) {
    case MBOX_AT_START:
        reader->used = 0;
        if (is_blank(line)) {
            return MBOX_MORE;
        }
        reader->place = MBOX_BROKEN;
        return MBOX_NONE;
    case MBOX_IN_HEADER:
        return header_front(reader, line, ended);
    case MBOX_IN_BODY:
        return body_front(reader, line, ended);
    case MBOX_BROKEN:
        break;
    }
    return MBOX_NONE;
}

/* The rest of a line whose front has been told. */
static enum mbox_event rest(struct mbox_reader *reader, struct slice *input)
{
    const uint8_t *end = memchr(input->bytes, '\n', input->size);
    struct slice piece =
        slice_first(*input, end == NULL ? input->size : (size_t)(end - input->bytes) + 1);
    *input = slice_from(*input, piece.size);
    reader->inside_line = end == NULL;
    if (reader->dropping && reader->place == MBOX_IN_HEADER) {
        return MBOX_MORE;
    }
    return tell(reader, piece.bytes, piece.size);
}

enum mbox_event mbox_read(struct mbox_reader *reader, struct slice *input)
{
    if (reader->place == MBOX_BROKEN) {
        return MBOX_NONE;
    }
    for (;;) {
        enum mbox_event event = MBOX_MORE;
        bool whole =
            reader->used > 0 && !reader->inside_line && reader->line[reader->used - 1] == '\n';
        if (whole) {
            event = front(reader, true);
        } else if (input->size == 0) {
            return MBOX_MORE;
        } else if (reader->inside_line) {
            event = rest(reader, input);
        } else {
            size_t room = MBOX_LINE_BYTES - reader->used;
            struct slice piece = slice_first(*input, room);
            const uint8_t *end = memchr(piece.bytes, '\n', piece.size);
            piece.size = end == NULL ? piece.size : (size_t)(end - piece.bytes) + 1;
            memcpy(reader->line + reader->used, piece.bytes, piece.size);
            reader->used += piece.size;
            *input = slice_from(*input, piece.size);
            if (end == NULL && reader->used == MBOX_LINE_BYTES) {
                event = front(reader, false);
            }
        }
        if (event != MBOX_MORE) {
            return event;
        }
    }
}

enum mbox_event mbox_read_end(struct mbox_reader *reader)
{
    if (reader->place == MBOX_BROKEN) {
        return MBOX_NONE;
    }
    while (reader->used > 0) {
        enum mbox_event event = front(reader, true);
        if (event != MBOX_MORE) {
            return event;
        }
    }
    if (reader->place == MBOX_AT_START || reader->at_end) {
        return MBOX_MORE;
    }
    reader->at_end = true;
    return MBOX_END;
}
