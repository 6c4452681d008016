/*
 * searchable: what of a message is searched for words, in the form in which it is compared (text_casemap).
 *
 * Header fields with their names, decoded; the bodies of parts of type text, decoded; the headers of parts and of
 * messages within, as they stand. SEARCH looks for words in it as it comes, and what is indexed of a message is the same
 * bytes: so what an index does not have no search finds.
 *
 * The caller reads the message: first its header, then what searchable_wants asks for. Nothing is kept of it.
 *
 * Source: RFC 9051 §6.4.4.
 */
#pragma once
#include "proto/message/structure.h"
#include "proto/message/text.h"
#include "proto/message/transfer.h"

#define SEARCHABLE_VERSION 1u /* of what is searched, and in which form: for who keeps it */
#define SEARCHABLE_HEADER_BYTES_MAX (256u * 1024)      /* the rest of a header is not searched */
#define SEARCHABLE_PARTS_BYTES_MAX (16u * 1024 * 1024) /* of the arena of the message's parts */
#define SEARCHABLE_PIECE_BYTES_MAX (32u * 1024)        /* that `text` is told of at once */

enum searchable_where {
    SEARCHABLE_HEADER, /* fields, also those of parts */
    SEARCHABLE_BODY,
};

struct searchable {
    /* The next piece, cut anywhere between characters. Borrowed. */
    void (*text)(void *owner, struct slice text, enum searchable_where where);
    /* A word does not go on behind this: a field or a part is over. */
    void (*ended)(void *owner, enum searchable_where where);
    void *owner;
    bool failed; /* memory was short: some text did not come */
    /* Private. */
    uint8_t *gather; /* owned: UTF-8 that is not mapped yet */
    uint8_t *mapped; /* owned */
    size_t gather_bytes;
    struct message_part *part;
    uint64_t part_at; /* what is read next; offset in the message */
    bool part_open;
    struct transfer_decoder transfer;
    struct charset_decoder charset;
};

/* Where the header ends that these bytes begin with, its empty line counted; looked for behind `from`, up to which it is
 * known not to end. 0: not there. */
size_t searchable_header_end(struct slice bytes, size_t from);
/* A field's value as text, of the heap; false: no memory. */
bool searchable_field_text(struct slice value, struct slice *text);

/* `text`, `ended` and `owner` are set, all else is zero. 0 or -ENOMEM. */
int searchable_open(struct searchable *searchable);
void searchable_close(struct searchable *searchable); /* harmless twice, and when it is not open */
/* The message's own header. */
void searchable_header(struct searchable *searchable, struct slice header);
/* The rest: root and what hangs on it are borrowed until searchable_close. */
void searchable_parts(struct searchable *searchable, struct message_part *root);
/* Bytes of the message that come next, of which some at least are to be given. False: there are no more. */
bool searchable_wants(struct searchable *searchable, uint64_t *offset, uint64_t *bytes);
void searchable_give(struct searchable *searchable, struct slice bytes);
