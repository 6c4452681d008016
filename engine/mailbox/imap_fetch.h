/*
 * imap_fetch: what the files of FETCH share, and CATENATE, which copies the same sections. Nobody else includes it.
 *
 *  SEEN ──► NEXT ──► SCAN ──► ITEMS ◄──► LOAD (HEADER.FIELDS), COUNT (BINARY)
 *            ▲                  │ ▲
 *            └──── ")" ─────────┘ └──► LITERAL
 */
#pragma once
#include "engine/mailbox/imap_cache.h"
#include "engine/mailbox/imap_session.h"
#include "proto/imap/section.h"
#include "proto/message/structure.h"

enum fetch_phase {
    FETCH_SEEN, /* \Seen is being set */
    FETCH_NEXT, /* the next message */
    FETCH_SCAN, /* its text is read for what its parts are */
    FETCH_ITEMS,
    FETCH_LOAD,    /* bytes are gathered, to take fields or words from them */
    FETCH_COUNT,   /* how large a decoded part is */
    FETCH_LITERAL, /* bytes of it go out as they are */
    FETCH_DECODED, /* bytes of it go out decoded */
};

enum fetch_need {
    FETCH_NEEDS_TEXT = 1,   /* its bytes */
    FETCH_NEEDS_HEADER = 2, /* where its header ends, and what stands in it */
    FETCH_NEEDS_PARTS = 4,  /* all of its structure */
};

struct fetch {
    struct imap_task task;
    struct imap_session *session;
    const struct imap_fetch *command;
    bool uid; /* UID FETCH */
    bool unasked;
    uint8_t phase;
    struct imap_messages messages;

    /* \Seen */
    struct mailstore_waiter waiter;
    struct mailstore_flags flags;
    struct mailstore_uids *uids; /* owned */
    bool flags_wait;
    bool some_gone; /* messages were expunged meanwhile */
    bool some_broken;
    bool binary_refused; /* an encoding that nobody knows */

    /* The message */
    uint32_t number;
    struct mailstore_entry entry;
    struct imap_text text;
    bool text_open;
    uint8_t needs; /* enum fetch_need */
    uint32_t scanned;
    bool scanning; /* `structure` is open */
    struct structure structure;
    struct arena arena;
    struct message_part *root; /* NULL: not known */
    bool root_is_whole;

    /* The item */
    uint32_t item;
    bool said_any; /* something stands behind the parenthesis */
    struct section_range range;
    uint8_t *gathered; /* owned */
    uint32_t gathered_bytes;
    struct transfer_decoder decoder;
    uint64_t decoded_bytes; /* of the whole part */
    uint64_t skip, left;    /* of decoded bytes, for a partial */
    struct imap_writer writer;
};

#define FETCH_ARENA_BYTES_MAX (16u * 1024 * 1024)
#define FETCH_GATHERED_BYTES_MAX                                                                   \
    (8u * 1024 * 1024) /* of a header that fields are taken from; its rest is left out */

/* ---- imap_fetch_preview.c ---- */
enum fetch_phase fetch_preview_begin(struct fetch *fetch, const struct imap_fetch_item *item);
/* Behind LOAD. */
void fetch_preview_loaded(struct fetch *fetch);

/* ---- imap_fetch_text.c ---- */
/* What an item needs, by the cache too. */
uint8_t fetch_needs(const struct fetch *fetch, const struct imap_fetch_item *item);
/* 0: the text is there, and scanned as far as it is needed; else imap_text_must_wait, -EIO or -E2BIG: in the next round. */
int fetch_scan(struct fetch *fetch);
/* ENVELOPE, BODY, BODYSTRUCTURE, by the cache when it has it. */
void fetch_structure_write(struct fetch *fetch, const struct imap_fetch_item *item);
/* Pieces of fetch->range; each advances it. 0: all of it; -E2BIG: in the next round; or as fetch_scan. */
int fetch_literal(struct fetch *fetch);
int fetch_load(struct fetch *fetch);
int fetch_count(struct fetch *fetch);
int fetch_decoded(struct fetch *fetch);
void fetch_message_end(struct fetch *fetch);

/* ---- imap_fetch_item.c ---- */
/* Writes what can be said of the item at once, and says what phase follows: ITEMS: it is done. */
enum fetch_phase fetch_item_begin(struct fetch *fetch, const struct imap_fetch_item *item);
/* "1.2.HEADER.FIELDS (a b)" */
void fetch_section_name_write(struct imap_writer *writer, const struct imap_section *section);
/* False: there is no such section. The message is scanned as far as fetch_needs says. */
bool fetch_section_find(const struct fetch *fetch, const struct imap_section *section,
                        struct section_range *range);
/* Behind LOAD, COUNT. */
enum fetch_phase fetch_item_loaded(struct fetch *fetch, const struct imap_fetch_item *item);
enum fetch_phase fetch_item_counted(struct fetch *fetch, const struct imap_fetch_item *item);
/* FLAGS, with modseq also MODSEQ where it is told. */
void fetch_flags_write(struct fetch *fetch, bool modseq);
