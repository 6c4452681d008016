/*
 * tubepost_mailbox: what the commands `tubepost mailbox ...` share.
 *
 *   tubepost_mailbox.c         the command line, its help
 *   tubepost_mailbox_users.c   a command for each of several users
 *   tubepost_mailbox_ask.c     who, kick, stats, quota, undelete: answered by the control socket (mailbox_control.h)
 *   tubepost_mailbox_imap.c    an IMAP session of a user's, which the control socket gives
 *   tubepost_mailbox_query.c   a query in doveadm's words, as IMAP's SEARCH has it
 *   tubepost_mailbox_list.c    list, status, search, expunge
 *   tubepost_mailbox_fetch.c   fetch
 *   tubepost_mailbox_import.c  import
 *   tubepost_mailbox_export.c  export
 *   tubepost_mailbox_store.c   check, rebuild: of a service that does not run
 *   tubepost_mailbox_check.c   ... and of one that does
 *   tubepost_mailbox_files.c   mbox files and Maildirs, for both
 */
#pragma once
#include "engine/core/slice.h"
#include "engine/main/tubepost.h"

struct mailbox_options {
    const char *user; /* -u */
    bool all;         /* -A */
    bool several;     /* the command runs for users in turn, and this is one of them: */
    bool first;       /* of them */
    bool subscribed;  /* -s */
    bool totals;      /* -t */
    bool each;        /* -1 */
    bool list;        /* --list */
    bool metrics;     /* --prometheus */
    const char *uids, *session;
    uint64_t since_s; /* --since; 0: none */
    char **words;     /* what follows the options */
    int count;
};

int mailbox_usage(int code);
/* Of bytes that came from outside: as they are where they are UTF-8, which JSON's escapes make harmless, else as
 * control_text has it. */
json_t *mailbox_json(struct slice bytes);
/* For people's terminals: as control_text has it. */
void mailbox_print(FILE *out, const char *text);

/* ---- tubepost_mailbox_users.c ---- */
/* Does -u name users by a mask? */
bool users_are_masked(const char *user);
/* The command for each user that has mail, or is meant by the mask. What is wrong with one does not keep it from the others;
 * the first problem is what is ended with. */
int users_each(struct tool *tool, const struct mailbox_options *options,
               int (*run)(struct tool *tool, const struct mailbox_options *options));
/* Where there are several: the user in front of a line, and a blank; nothing else. */
void user_print(const struct mailbox_options *options);
/* The same in a line of JSON, which is given and printed. */
void user_print_json(const struct mailbox_options *options, json_t *line);

/* ---- tubepost_mailbox_ask.c ---- */
int mailbox_who(struct tool *tool, const struct mailbox_options *options);
int mailbox_kick(struct tool *tool, const struct mailbox_options *options);
int mailbox_stats(struct tool *tool, const struct mailbox_options *options);
int mailbox_quota(struct tool *tool, const struct mailbox_options *options);
int mailbox_undelete(struct tool *tool, const struct mailbox_options *options);

/* ---- tubepost_mailbox_imap.c ---- */
struct mailbox_peer {
    struct tool *tool;
    unsigned tag;
    char *response; /* owned: the last one */
    size_t room;
};
/* A response that is not the answer, without "* "; borrowed for the call. */
typedef void peer_heard(void *owner, struct slice response);

/* EX_OK, or what to exit with; the problem is printed. create: the user need not have mail yet. */
int peer_open(struct mailbox_peer *peer, struct tool *tool, const char *user, bool create);
void peer_close(struct mailbox_peer *peer);
/* A command: peer_begin and its beginning, then peer_text and peer_string in turn, then peer_end, which waits for
 * the answer. Nothing is wrong before peer_end says so. NO is EX_DATAERR, BAD is EX_USAGE. */
void peer_begin(struct mailbox_peer *peer, const char *text);
void peer_text(struct mailbox_peer *peer, const char *text);
void peer_string(struct mailbox_peer *peer, struct slice bytes); /* " " and a literal */
int peer_end(struct mailbox_peer *peer, peer_heard *heard, void *owner);

/* What EXAMINE or SELECT tells. */
struct peer_box {
    uint32_t exists, uidvalidity;
    char id[40]; /* MAILBOXID */
};
int peer_select(struct mailbox_peer *peer, const char *command, const char *mailbox,
                struct peer_box *box);

/* Names of mailboxes, or uids; of the heap. */
struct name_list {
    char **names;
    size_t count;
    bool failed; /* memory was short */
};
void name_list_add(struct name_list *list, const char *name, size_t size); /* once each */
void name_list_free(struct name_list *list);
/* Those that match the mask ('*' anything, '%' anything but '/') and can be selected, in order of their names. */
int peer_list(struct mailbox_peer *peer, const char *mask, bool subscribed, struct name_list *list);

/* Ranges of uids, ascending: "1:3,7". */
struct uid_set {
    struct uid_range {
        uint32_t first, last;
    } * ranges; /* of the heap */
    size_t count;
};
uint64_t uid_set_count(const struct uid_set *set);
/* The next part of the set that fits a command, from *at on; false: there is no more. */
#define UID_SET_TEXT_BYTES 4096u
bool uid_set_text(const struct uid_set *set, size_t *at, char text[UID_SET_TEXT_BYTES]);

/* ---- tubepost_mailbox_query.c ---- */
struct mailbox_query {
    struct name_list masks; /* `mailbox MASK`, at the top level; none: every mailbox */
    const char *id;         /* `mailbox-guid ID`; NULL */
    bool narrows;           /* has a key besides */
    struct query_piece {    /* of the heap: what SEARCH is told; text, or a string */
        char *text;
        bool is_string;
    } * pieces;
    size_t piece_count;
};
/* EX_OK, or EX_USAGE and the problem is printed. */
int query_read(struct mailbox_query *query, char **words, int count);
void query_free(struct mailbox_query *query);
/* Of the mailbox that is selected. */
int query_search(struct mailbox_peer *peer, const struct mailbox_query *query,
                 struct uid_set *found);

/* Runs `each` for every mailbox that the query names and in which something was found; it is selected with `command`. */
struct mailbox_hits {
    struct mailbox_peer *peer;
    const char *mailbox;
    struct peer_box box;
    struct uid_set uids;
};
int query_each(struct mailbox_peer *peer, const struct mailbox_query *query, const char *command,
               int (*each)(void *owner, struct mailbox_hits *hits), void *owner);

/* ---- The commands that have a file of their own ---- */
int mailbox_list(struct tool *tool, const struct mailbox_options *options);
int mailbox_status(struct tool *tool, const struct mailbox_options *options);
int mailbox_search(struct tool *tool, const struct mailbox_options *options);
int mailbox_expunge(struct tool *tool, const struct mailbox_options *options);
int mailbox_fetch(struct tool *tool, const struct mailbox_options *options);
int mailbox_import(struct tool *tool, const struct mailbox_options *options);
int mailbox_export(struct tool *tool, const struct mailbox_options *options);
int mailbox_check(struct tool *tool, const struct mailbox_options *options);
int mailbox_rebuild(struct tool *tool, const struct mailbox_options *options);

/* ---- tubepost_mailbox_check.c ---- */
int check_ask(struct tool *tool, const struct mailbox_options *options, bool rebuilds);
/* A line of what differs, as the service says it. */
void check_difference_print(const json_t *line);
