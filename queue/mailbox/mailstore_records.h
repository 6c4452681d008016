/*
 * mailstore_records: the records of the mailbox store in the log, and what takes them apart. Nobody includes it but
 * mailstore_private.h. Records are read back by other versions: what is in them stays.
 */
#pragma once
#include "queue/log/log.h"
#include "queue/mailbox/mailstore.h"

enum mailstore_record {
    RECORD_CHUNK = LOG_TYPE_OWNER_MIN, /* tag: the text; struct chunk_head, then bytes of it */
    RECORD_PART,    /* of a change that is too large for one record; tag: which */
    RECORD_CHANGE,  /* the change, or its last part */
    RECORD_CARRIED, /* one of those two, copied from a segment that was freed: struct carried_head */
    RECORD_CLEANED, /* the LSN up to which records may have been left off: older indexes are of no use */
};

struct chunk_head {
    uint32_t offset; /* in the text */
    uint32_t zero;
};
struct carried_head {
    uint64_t lsn; /* where it was first: its place in the order of changes */
    uint8_t type;
    uint8_t zero[7];
};
/* At the beginning of parts and changes. Then users_bytes of names (a byte of length, and the name), of all users whose
 * state it touches; then what it says. */
struct change_head {
    uint64_t as_of; /* a snapshot's: it is the state behind this record; else 0 */
    uint32_t part;  /* RECORD_PART: which, from 0; RECORD_CHANGE: so many are before it */
    uint32_t wall_s;
    uint32_t users_bytes;
    uint8_t kind; /* enum change_kind */
    uint8_t zero[3];
};
static_assert(sizeof(struct change_head) == 24, "records are read back by other versions");

enum change_kind {
    CHANGE_DELIVER = 1,
    CHANGE_FLAGS,
    CHANGE_EXPUNGE,
    CHANGE_COPY,
    CHANGE_CREATE,
    CHANGE_DELETE,
    CHANGE_RENAME,
    CHANGE_SPECIAL_USE,
    CHANGE_SUBSCRIBE,
    CHANGE_PROPERTY,
    CHANGE_RESTORE,
    CHANGE_PURGE, /* what was kept after expunge goes */
    CHANGE_USER_DELETE,
    CHANGE_SNAPSHOT,   /* all rows of a user */
    CHANGE_PROPERTIES, /* several, all or none */
    CHANGE_TAKE,       /* what is in a Maildir */
    CHANGE_UNKEEP,     /* some of what was kept after expunge goes: they are messages again */
};

enum take_kind { TAKE_ADDED, TAKE_CHANGED, TAKE_GONE }; /* of an item of CHANGE_TAKE */
#define PLACE_REPLACES (1u << 31) /* in a place's options: box, uid and whether it is kept follow */
#define FLAGS_KEEPS 0x80u         /* beside the operation of CHANGE_FLAGS: what is kept follows */

struct
    text_extent { /* bytes [offset, offset + length) of the text, behind the chunk_head of the record */
    uint64_t lsn;
    uint32_t length, offset;
};
struct stored_entry { /* as it is in rows and records */
    struct mailstore_entry entry;
    uint64_t thread;
};
static_assert(sizeof(struct stored_entry) == 48, "rows and records are read back");

/* Bytes that grow. After memory was short nothing is written any more, and `failed`. */
struct writer {
    uint8_t *bytes; /* of the heap */
    size_t size, room;
    bool failed;
};
void write_bytes(struct writer *writer, const void *bytes, size_t size);
void write_u8(struct writer *writer, uint8_t value);
void write_u16(struct writer *writer, uint16_t value);
void write_u32(struct writer *writer, uint32_t value);
void write_u64(struct writer *writer, uint64_t value);
void write_text(struct writer *writer, struct slice text); /* at most 65,535 bytes */
void writer_free(struct writer *writer);

/* Bytes that are taken from the front. When there are too few: zeros, and `bad`. */
struct reader {
    const uint8_t *at, *end;
    bool bad;
};
struct slice read_bytes(struct reader *reader, size_t size);
uint8_t read_u8(struct reader *reader);
uint16_t read_u16(struct reader *reader);
uint32_t read_u32(struct reader *reader);
uint64_t read_u64(struct reader *reader);
struct slice read_text(struct reader *reader);

/* How far a change is that touches many entries: it is done in steps, each of which has a modseq of its own, so that who
 * has seen some of them is told of the others. Where a step ends follows from the record and the state alone. */
#define STEP_ENTRIES 4096u
struct change_steps {
    uint64_t box;     /* the target of a copy, or that goes */
    uint32_t added;   /* entries that it has */
    uint32_t removed; /* of the source */
    uint32_t from; /* of an expunge: uids below are done; of a mailbox that goes: rows of entries */
    uint32_t expunged;
    uint64_t modseq;
    struct writer gone; /* of an expunge whose asker wants to know: struct mailstore_uids */
    uint32_t cost;      /* about so many entries were touched since the last look */
};

/* A change as it is told to mailstore_apply, from the log or on its way there. */
struct change_said {
    uint64_t lsn;  /* its place in the order of changes */
    uint32_t item; /* of several in one record: which */
    uint64_t as_of;
    uint32_t wall_s;
    enum change_kind kind;
    struct slice users;
    struct slice body;
    void *result; /* what the caller is told, by kind; NULL: nobody asks */
    struct change_steps *steps;
};
/* The name of user `index` in change_said.users; empty: there is none. */
struct slice users_at(struct slice users, uint32_t index);
/* A part or change, taken apart. False: it is none. */
bool change_parse(struct slice content, struct change_head *head, struct slice *users,
                  struct slice *rest);
