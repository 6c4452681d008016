/*
 * structure: the MIME parts of a message: where they lie, and what their fields say.
 *
 * For the mailbox service, which feeds a message piece by piece as the store reads it, and answers BODYSTRUCTURE,
 * ENVELOPE and BODY[section] from the tree. Nothing of a body is kept. The tree and all text in it lie in the caller's
 * arena; it is complete after structure_finish.
 *
 * It never fails on what a message says. Beyond the limits, and when the arena is full, no more parts are found: what
 * is left belongs to the body in which it stands, and fields are missing. Time is in proportion to the message: a line
 * costs at most one comparison with each boundary that is open.
 *
 * Where RFCs leave broken mail open it does as Dovecot does: a part ends at any boundary of those around it, also in
 * its header; a line that goes on behind a boundary is one; of those that fit the longest counts, then the innermost.
 * Content fields of a message that has neither MIME-Version nor Content-Type do not count.
 * Offsets and sizes are of the text as it was fed: feed it with CRLF if that is what the client is to see.
 *
 * Source: RFC 2045, RFC 2046 §5.1-§5.2, RFC 2183, RFC 2231, RFC 6532 §3.7 (message/global).
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/message/mime_field.h"

#define STRUCTURE_PARTS_MAX 10000u
#define STRUCTURE_DEPTH_MAX 100u         /* below: application/octet-stream without parts */
#define STRUCTURE_FIELD_BYTES_MAX 65536u /* of one field; the rest of it is not seen */
#define STRUCTURE_HEADERS_BYTES_MAX                                                                \
    (4u << 20) /* of the headers of all parts; fields behind that are not seen */
#define STRUCTURE_BOUNDARY_BYTES_MAX                                                               \
    200u /* RFC 2046 §5.1.1 says 70; the rest of it is not compared */

enum message_part_kind {
    PART_SINGLE,    /* no parts in it */
    PART_MULTIPART, /* any number of them */
    PART_MESSAGE,   /* one: the message that it holds */
};

/* Fields of one name, in the order in which they came, each in one line. */
struct message_field {
    struct message_field *next;
    struct slice value;
};

enum envelope_field {
    ENVELOPE_DATE,
    ENVELOPE_SUBJECT,
    ENVELOPE_FROM,
    ENVELOPE_SENDER,
    ENVELOPE_REPLY_TO,
    ENVELOPE_TO,
    ENVELOPE_CC,
    ENVELOPE_BCC,
    ENVELOPE_IN_REPLY_TO,
    ENVELOPE_MESSAGE_ID,
    ENVELOPE_FIELDS,
};

struct message_part {
    struct message_part *parent, *next, *children, *last_child;
    struct message_field *envelope[ENVELOPE_FIELDS]; /* of a message; all NULL in other parts */
    uint64_t header_offset, body_offset, body_bytes;
    uint32_t body_lines;   /* ends of lines in the body */
    uint32_t lines_before; /* those of the message in front of the body */
    uint32_t child_count;
    uint8_t kind;               /* enum message_part_kind */
    uint8_t depth;              /* 0: the whole message */
    bool boundary_over;         /* the last of its boundaries has come */
    struct slice type, subtype; /* as written; without a field text/plain or message/rfc822 */
    struct mime_parameter *parameters;
    struct slice boundary;
    /* As written, without comments where the syntax has them. Bytes are NULL when the field is missing. */
    struct slice id, description, encoding, md5, disposition, location;
    struct mime_parameter *disposition_parameters;
    struct message_field *languages;
    bool type_seen;    /* it has a Content-Type */
    bool version_seen; /* it has a MIME-Version */
};

struct structure {
    struct arena *arena; /* borrowed until the tree is no longer used */
    struct message_part *root, *current;
    uint64_t offset; /* bytes so far */
    uint32_t lines;  /* ends of lines in whole lines so far */
    uint32_t part_count;
    bool in_header, full;
    uint8_t ending_before; /* bytes that ended the line before this one */
    uint64_t line_bytes;   /* of this line so far */
    uint8_t last_byte;
    uint16_t prefix_size;
    uint8_t prefix[STRUCTURE_BOUNDARY_BYTES_MAX + 8]; /* its first bytes, when they matter */
    /* The first bytes of the open boundary at each depth, and which of them count: hardly a line has to be compared
     * with boundaries themselves. */
    uint64_t boundary_keys[STRUCTURE_DEPTH_MAX + 1];
    uint64_t boundary_masks[STRUCTURE_DEPTH_MAX + 1];
    size_t header_bytes; /* of all parts so far */
    uint8_t *field;      /* owned: the field that is being read, folded */
    size_t field_size, field_room;
};

/* 0 or -ENOMEM, when nothing need be closed. */
int structure_open(struct structure *structure, struct arena *arena);
/* The next piece of the message, of any size. Borrowed. */
void structure_feed(struct structure *structure, struct slice piece);
/* The message is whole. Frees all but the tree. Returns the part that is the message. */
struct message_part *structure_finish(struct structure *structure);
/* Instead of structure_finish: the message is not wanted any more. */
void structure_abort(struct structure *structure);
/* The next of the tree, parents before their children; NULL: it was the last. */
struct message_part *message_part_behind(const struct message_part *part);
