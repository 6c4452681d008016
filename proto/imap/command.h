/*
 * command: what a client asks, as a tree: what the parser makes and the engine executes.
 *
 * Everything lies in the arena of the parser or in the text that it was given, and is valid as long as both are. Names
 * of mailboxes are canonical (names.h), words of the grammar are enumerators or bits, strings are what they mean:
 * without quotes, escapes and literal heads. An array is NULL when its count is 0.
 *
 * Source: RFC 3501, RFC 9051 and what is named at each.
 */
#pragma once
#include "proto/imap/sets.h"

enum imap_command_kind {
    IMAP_CAPABILITY,
    IMAP_NOOP,
    IMAP_LOGOUT,
    IMAP_ID,     /* RFC 2971 */
    IMAP_ENABLE, /* RFC 5161 */
    IMAP_STARTTLS,
    IMAP_AUTHENTICATE, /* RFC 4959 */
    IMAP_LOGIN,
    IMAP_UNAUTHENTICATE, /* RFC 8437 */
    IMAP_COMPRESS,       /* RFC 4978 */
    IMAP_SELECT,
    IMAP_EXAMINE,
    IMAP_CREATE, /* RFC 6154 */
    IMAP_DELETE,
    IMAP_RENAME,
    IMAP_SUBSCRIBE,
    IMAP_UNSUBSCRIBE,
    IMAP_LIST, /* RFC 5258, 5819, 6154, 8440, 9590 */
    IMAP_LSUB,
    IMAP_NAMESPACE, /* RFC 2342 */
    IMAP_STATUS,
    IMAP_APPEND,  /* RFC 3502, 4469 */
    IMAP_REPLACE, /* RFC 8508 */
    IMAP_IDLE,    /* RFC 2177 */
    IMAP_CHECK,
    IMAP_CLOSE,
    IMAP_UNSELECT, /* RFC 3691 */
    IMAP_EXPUNGE,
    IMAP_SEARCH,
    IMAP_SORT, /* RFC 5256, 5267 */
    IMAP_THREAD,
    IMAP_FETCH,
    IMAP_STORE,
    IMAP_COPY,
    IMAP_MOVE,     /* RFC 6851 */
    IMAP_GETQUOTA, /* RFC 9208 */
    IMAP_GETQUOTAROOT,
    IMAP_SETQUOTA,
    IMAP_GETACL, /* RFC 4314 */
    IMAP_SETACL,
    IMAP_DELETEACL,
    IMAP_LISTRIGHTS,
    IMAP_MYRIGHTS,
    IMAP_GETMETADATA, /* RFC 5464 */
    IMAP_SETMETADATA,
    IMAP_NOTIFY,       /* RFC 5465 */
    IMAP_CANCELUPDATE, /* RFC 5267 */
};
#define IMAP_COMMAND_KINDS (IMAP_CANCELUPDATE + 1)

struct imap_text_list {
    const struct slice *items;
    uint32_t count;
};

/* ---- Before login ---- */

struct imap_login {
    struct slice user, password;
};

struct imap_authenticate {
    struct slice mechanism;
    bool initial_given;   /* may be empty all the same: "=" */
    struct slice initial; /* in base64; the server machine gives it decoded */
};

/* ENABLE, and what a session has enabled. */
enum imap_enabled {
    IMAP_ENABLED_CONDSTORE = 1 << 0, /* RFC 7162 */
    IMAP_ENABLED_QRESYNC = 1 << 1,   /* brings CONDSTORE */
    IMAP_ENABLED_UTF8 = 1 << 2,      /* UTF8=ACCEPT, RFC 6855 */
    IMAP_ENABLED_REV2 = 1 << 3,      /* RFC 9051; names are UTF-8 */
};

struct imap_pair {
    struct slice name, value;
    bool nil; /* value is NIL */
};

struct imap_id {
    const struct imap_pair *pairs;
    uint32_t count;
};

/* ---- Mailboxes ---- */

struct imap_select {
    struct slice mailbox;
    bool condstore, qresync; /* RFC 7162 §3.1.8, §3.2.5 */
    uint32_t uid_validity;
    uint64_t mod_sequence;
    bool known_uids_given, match_given;
    struct imap_set known_uids;
    struct imap_set match_numbers, match_uids; /* the same count of numbers */
};

/* RFC 6154, RFC 8457; of CREATE's USE. */
enum imap_special_use {
    IMAP_USE_ALL = 1 << 0,
    IMAP_USE_ARCHIVE = 1 << 1,
    IMAP_USE_DRAFTS = 1 << 2,
    IMAP_USE_FLAGGED = 1 << 3,
    IMAP_USE_JUNK = 1 << 4,
    IMAP_USE_SENT = 1 << 5,
    IMAP_USE_TRASH = 1 << 6,
    IMAP_USE_IMPORTANT = 1 << 7,
    IMAP_USE_UNKNOWN = 1 << 8, /* one that we do not know: NO [USEATTR] */
};

/* CREATE, DELETE, SUBSCRIBE, UNSUBSCRIBE, GETQUOTAROOT, GETACL, MYRIGHTS. */
struct imap_mailbox {
    struct slice name;
    uint32_t special_use; /* enum imap_special_use, of CREATE */
};

struct imap_rename {
    struct slice from, to;
};

enum imap_status_item {
    IMAP_STATUS_MESSAGES = 1 << 0,
    IMAP_STATUS_RECENT = 1 << 1,
    IMAP_STATUS_UIDNEXT = 1 << 2,
    IMAP_STATUS_UIDVALIDITY = 1 << 3,
    IMAP_STATUS_UNSEEN = 1 << 4,
    IMAP_STATUS_DELETED = 1 << 5,          /* RFC 9051 */
    IMAP_STATUS_SIZE = 1 << 6,             /* RFC 8438 */
    IMAP_STATUS_HIGHESTMODSEQ = 1 << 7,    /* RFC 7162 */
    IMAP_STATUS_APPENDLIMIT = 1 << 8,      /* RFC 7889 */
    IMAP_STATUS_MAILBOXID = 1 << 9,        /* RFC 8474 */
    IMAP_STATUS_DELETED_STORAGE = 1 << 10, /* RFC 9208 */
};

struct imap_status {
    struct slice mailbox;
    uint32_t items; /* enum imap_status_item */
};

enum imap_list_select {
    IMAP_LIST_SUBSCRIBED = 1 << 0,
    IMAP_LIST_REMOTE = 1 << 1,
    IMAP_LIST_RECURSIVEMATCH = 1 << 2,
    IMAP_LIST_SPECIAL_USE = 1 << 3,
};

enum imap_list_return {
    IMAP_RETURN_SUBSCRIBED = 1 << 0,
    IMAP_RETURN_CHILDREN = 1 << 1,
    IMAP_RETURN_SPECIAL_USE = 1 << 2,
    IMAP_RETURN_STATUS = 1 << 3,
    IMAP_RETURN_MYRIGHTS = 1 << 4,
    IMAP_RETURN_METADATA = 1 << 5,
};

/* LIST and LSUB. A pattern has the reference in front of it and is for imap_pattern_match; the only one of
 * LIST "" "" is empty, which asks for the separator. */
struct imap_list {
    bool extended; /* in the form of RFC 5258 */
    struct slice reference;
    struct imap_text_list patterns;
    uint32_t select;  /* enum imap_list_select */
    uint32_t returns; /* enum imap_list_return */
    uint32_t status_items;
    struct imap_text_list metadata; /* names of entries */
};

/* ---- Messages ---- */

enum imap_flag {
    IMAP_FLAG_ANSWERED = 1 << 0,
    IMAP_FLAG_FLAGGED = 1 << 1,
    IMAP_FLAG_DELETED = 1 << 2,
    IMAP_FLAG_SEEN = 1 << 3,
    IMAP_FLAG_DRAFT = 1 << 4,
};

struct imap_flags {
    uint32_t system; /* enum imap_flag */
    struct imap_text_list keywords;
};

/* One message of APPEND or REPLACE, before its octets come. */
struct imap_append {
    struct slice mailbox;
    bool replace;    /* REPLACE: this message instead of that */
    bool uid;        /* UID REPLACE */
    uint32_t number; /* of the message replaced; UINT32_MAX and star: '*' */
    bool star;
    struct imap_flags flags;
    bool date_given;
    int64_t date_s;       /* seconds since 1970 */
    int16_t zone_minutes; /* as it was written */
    bool catenate;        /* comes in parts, its size is not known (RFC 4469) */
    bool binary;          /* literal8 (RFC 3516) */
    bool utf8;            /* its header fields may be in UTF-8 (RFC 6855) */
    uint64_t bytes;       /* unless catenate */
};

/* APPEND and REPLACE, when all their messages were given. */
struct imap_appended {
    struct slice mailbox;
    uint32_t messages;
};

enum imap_search_kind {
    IMAP_SEARCH_ALL,
    IMAP_SEARCH_AND, /* keys; also what SEARCH as a whole is */
    IMAP_SEARCH_OR,  /* two keys */
    IMAP_SEARCH_NOT, /* one key */
    IMAP_SEARCH_NUMBERS,
    IMAP_SEARCH_UIDS,
    IMAP_SEARCH_FLAG,   /* flag is set; SEEN, DELETED, ... */
    IMAP_SEARCH_UNFLAG, /* flag is not set */
    IMAP_SEARCH_KEYWORD,
    IMAP_SEARCH_UNKEYWORD,
    IMAP_SEARCH_NEW,
    IMAP_SEARCH_OLD,
    IMAP_SEARCH_RECENT,
    IMAP_SEARCH_FROM,
    IMAP_SEARCH_TO,
    IMAP_SEARCH_CC,
    IMAP_SEARCH_BCC,
    IMAP_SEARCH_SUBJECT,
    IMAP_SEARCH_BODY,
    IMAP_SEARCH_TEXT,
    IMAP_SEARCH_HEADER, /* name, text */
    IMAP_SEARCH_BEFORE,
    IMAP_SEARCH_ON,
    IMAP_SEARCH_SINCE,
    IMAP_SEARCH_SENTBEFORE,
    IMAP_SEARCH_SENTON,
    IMAP_SEARCH_SENTSINCE,
    IMAP_SEARCH_SAVEDBEFORE, /* RFC 8514 */
    IMAP_SEARCH_SAVEDON,
    IMAP_SEARCH_SAVEDSINCE,
    IMAP_SEARCH_SAVEDATESUPPORTED,
    IMAP_SEARCH_LARGER,
    IMAP_SEARCH_SMALLER,
    IMAP_SEARCH_OLDER, /* number: seconds, RFC 5032 */
    IMAP_SEARCH_YOUNGER,
    IMAP_SEARCH_MODSEQ,  /* number; text: the entry, or empty; RFC 7162 */
    IMAP_SEARCH_EMAILID, /* RFC 8474 */
    IMAP_SEARCH_THREADID,
};

struct imap_search_key {
    uint8_t kind;  /* enum imap_search_kind */
    bool fuzzy;    /* RFC 6203 */
    uint32_t flag; /* enum imap_flag */
    union {
        struct imap_set set;
        struct {
            struct slice name, text;
        };
        int32_t day; /* since 1970-01-01 */
        struct {
            const struct imap_search_key *keys;
            uint32_t count;
        };
    };
    uint64_t number;
};

enum imap_search_return {
    IMAP_SEARCH_MIN = 1 << 0,
    IMAP_SEARCH_MAX = 1 << 1,
    IMAP_SEARCH_RETURN_ALL = 1 << 2,
    IMAP_SEARCH_COUNT = 1 << 3,
    IMAP_SEARCH_SAVE = 1 << 4,    /* RFC 5182 */
    IMAP_SEARCH_PARTIAL = 1 << 5, /* RFC 5267, 9394 */
    IMAP_SEARCH_UPDATE = 1 << 6,  /* RFC 5267 */
    IMAP_SEARCH_CONTEXT = 1 << 7,
};

enum imap_sort_kind {
    IMAP_SORT_ARRIVAL,
    IMAP_SORT_CC,
    IMAP_SORT_DATE,
    IMAP_SORT_FROM,
    IMAP_SORT_SIZE,
    IMAP_SORT_SUBJECT,
    IMAP_SORT_TO,
    IMAP_SORT_DISPLAYFROM, /* RFC 5957 */
    IMAP_SORT_DISPLAYTO,
};

struct imap_sort_key {
    uint8_t kind; /* enum imap_sort_kind */
    bool reverse;
};

enum imap_thread_algorithm { IMAP_THREAD_ORDEREDSUBJECT, IMAP_THREAD_REFERENCES };

/* SEARCH, SORT and THREAD. */
struct imap_search {
    bool extended;                        /* RETURN was given: answer with ESEARCH (RFC 4731) */
    uint32_t returns;                     /* enum imap_search_return; RETURN () is ALL */
    const struct imap_fetch_item *update; /* of UPDATE: what to fetch of new messages (RFC 5465) */
    uint32_t update_count;
    struct imap_partial partial;
    struct slice
        charset; /* as given, empty: none; US-ASCII or UTF-8, then all strings are valid in it */
    struct imap_search_key key; /* IMAP_SEARCH_AND */
    const struct imap_sort_key *sort;
    uint32_t sort_count;
    enum imap_thread_algorithm thread;
};

enum imap_section_text {
    IMAP_SECTION_ALL, /* of the message or of the part */
    IMAP_SECTION_HEADER,
    IMAP_SECTION_HEADER_FIELDS,
    IMAP_SECTION_HEADER_FIELDS_NOT,
    IMAP_SECTION_TEXT,
    IMAP_SECTION_MIME, /* only of a part */
};

struct imap_section {
    const uint32_t *parts; /* "1.2.3" */
    uint32_t part_count;
    enum imap_section_text text;
    struct imap_text_list fields;
};

enum imap_fetch_kind {
    IMAP_FETCH_FLAGS,
    IMAP_FETCH_UID,
    IMAP_FETCH_INTERNALDATE,
    IMAP_FETCH_SAVEDATE, /* RFC 8514 */
    IMAP_FETCH_MODSEQ,
    IMAP_FETCH_EMAILID,
    IMAP_FETCH_THREADID,
    IMAP_FETCH_ENVELOPE,
    IMAP_FETCH_BODY, /* the structure without extensions */
    IMAP_FETCH_BODYSTRUCTURE,
    IMAP_FETCH_PREVIEW, /* RFC 8970; lazy */
    IMAP_FETCH_RFC822,
    IMAP_FETCH_RFC822_HEADER,
    IMAP_FETCH_RFC822_SIZE,
    IMAP_FETCH_RFC822_TEXT,
    IMAP_FETCH_BODY_SECTION, /* section, peek, partial */
    IMAP_FETCH_BINARY,       /* parts only, peek, partial; RFC 3516 */
    IMAP_FETCH_BINARY_SIZE,
};

struct imap_fetch_item {
    uint8_t kind; /* enum imap_fetch_kind */
    bool peek, lazy, partial;
    uint32_t partial_first, partial_bytes; /* <first.bytes>, bytes >= 1 */
    struct imap_section section;
};

struct imap_fetch {
    struct imap_set set;
    const struct imap_fetch_item *items; /* macros are resolved */
    uint32_t count;
    bool changed_since_given, vanished; /* RFC 7162 */
    uint64_t changed_since;
    bool partial_given; /* RFC 9394 */
    struct imap_partial partial;
};

enum imap_store_mode { IMAP_STORE_SET, IMAP_STORE_ADD, IMAP_STORE_REMOVE };

struct imap_store {
    struct imap_set set;
    enum imap_store_mode mode;
    bool silent;
    bool unchanged_since_given; /* RFC 7162 */
    uint64_t unchanged_since;
    struct imap_flags flags;
};

struct imap_copy {
    struct imap_set set;
    struct slice mailbox;
};

/* ---- Quota, rights, metadata, notifications ---- */

struct imap_quota_limit {
    struct slice resource;
    uint64_t limit;
};

struct imap_quota {
    struct slice root;
    const struct imap_quota_limit *limits; /* SETQUOTA */
    uint32_t count;
};

enum imap_acl_mode { IMAP_ACL_SET, IMAP_ACL_ADD, IMAP_ACL_REMOVE };

struct imap_acl {
    struct slice mailbox, identifier;
    enum imap_acl_mode mode;
    struct slice rights; /* small letters and digits */
};

enum imap_metadata_depth { IMAP_DEPTH_0, IMAP_DEPTH_1, IMAP_DEPTH_INFINITY };

struct imap_metadata {
    bool of_server; /* the mailbox was "" */
    struct slice mailbox;
    bool size_max_given;
    uint32_t size_max;
    enum imap_metadata_depth depth;
    struct imap_text_list entries;  /* GETMETADATA */
    const struct imap_pair *values; /* SETMETADATA */
    uint32_t value_count;
};

enum imap_notify_filter {
    IMAP_NOTIFY_SELECTED,
    IMAP_NOTIFY_SELECTED_DELAYED,
    IMAP_NOTIFY_INBOXES,
    IMAP_NOTIFY_PERSONAL,
    IMAP_NOTIFY_SUBSCRIBED,
    IMAP_NOTIFY_SUBTREE,   /* mailboxes */
    IMAP_NOTIFY_MAILBOXES, /* mailboxes */
};

enum imap_notify_event {
    IMAP_NOTIFY_MESSAGE_NEW = 1 << 0, /* fetch: what to send with it */
    IMAP_NOTIFY_MESSAGE_EXPUNGE = 1 << 1,
    IMAP_NOTIFY_FLAG_CHANGE = 1 << 2,
    IMAP_NOTIFY_ANNOTATION_CHANGE = 1 << 3,
    IMAP_NOTIFY_MAILBOX_NAME = 1 << 4,
    IMAP_NOTIFY_SUBSCRIPTION_CHANGE = 1 << 5,
    IMAP_NOTIFY_MAILBOX_METADATA_CHANGE = 1 << 6,
    IMAP_NOTIFY_SERVER_METADATA_CHANGE = 1 << 7,
    IMAP_NOTIFY_UNKNOWN = 1 << 8, /* NO [BADEVENT] */
};

struct imap_notify_group {
    enum imap_notify_filter filter;
    uint32_t events; /* enum imap_notify_event; 0: NONE */
    struct imap_text_list mailboxes;
    const struct imap_fetch_item *fetch;
    uint32_t fetch_count;
};

struct imap_notify {
    bool status;
    const struct imap_notify_group *groups; /* none: NOTIFY NONE */
    uint32_t count;
};

/* ---- The command ---- */

struct imap_command {
    enum imap_command_kind kind;
    bool uid; /* "UID FETCH" and its like */
    /* It asks for mod-sequences, and so enables CONDSTORE (RFC 7162 §3.1). */
    bool condstore;
    struct slice tag;
    union {
        struct imap_login login;
        struct imap_authenticate authenticate;
        uint32_t enable; /* enum imap_enabled */
        struct imap_id id;
        struct imap_select select;   /* SELECT, EXAMINE */
        struct imap_mailbox mailbox; /* see there */
        struct imap_rename rename;
        struct imap_list list; /* LIST, LSUB */
        struct imap_status status;
        struct imap_appended appended; /* APPEND, REPLACE */
        struct imap_set expunge;       /* UID EXPUNGE */
        struct imap_search search;     /* SEARCH, SORT, THREAD */
        struct imap_fetch fetch;
        struct imap_store store;
        struct imap_copy copy;         /* COPY, MOVE */
        struct imap_quota quota;       /* GETQUOTA, SETQUOTA */
        struct imap_acl acl;           /* SETACL, DELETEACL, LISTRIGHTS */
        struct imap_metadata metadata; /* GETMETADATA, SETMETADATA */
        struct imap_notify notify;
        struct imap_text_list tags; /* CANCELUPDATE */
    };
};
