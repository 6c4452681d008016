/*
 * maildir_home_private: what the files of maildir_home.h share. Nobody else includes it.
 *
 * maildir_home.c       open, close, folders, looking at them
 * maildir_home_news.c  what has changed in one
 * maildir_home_put.c   messages come and are copied
 * maildir_home_deliver.c  messages come without UIDs
 * maildir_home_folders.c  folders are made, renamed, removed
 * maildir_home_text.c  messages are read
 * maildir_home_kept.c  ... are kept after expunge, and come back
 * maildir_home_subscribed.c  the list of subscriptions is read and written
 */
#pragma once
#include "queue/mailbox/maildir_home.h"

#define HOME_OPEN_FOLDERS                                                                          \
    4 /* each has four files open, and a user may have thousands; a copy needs two */
#define HOME_MAILBOX_BYTES (MAILDIR_FILE_NAME_MAX * 2 + 1)

struct home_facts {
    int64_t modified_s[4];
    uint64_t bytes[4], inodes[4];
};
/* Where a reader was in a message, for who reads on: its file stays open, for it may be removed meanwhile, and who has been
 * promised all of it gets it. */
#define HOME_READINGS 4u
struct home_reading {
    char *mailbox; /* owned; NULL: nobody reads */
    uint32_t uid, uidvalidity;
    int file;
    int64_t used_s;
    uint64_t offset; /* with all lines ending in CRLF */
    uint64_t at;     /* in the file */
    bool carriage;   /* the byte before was one */
};
struct home_folder {
    char name[MAILDIR_FILE_NAME_MAX + 1]; /* "" of INBOX */
    char mailbox[HOME_MAILBOX_BYTES];
    struct maildir_box box;
    bool open, listed;
    bool rests;              /* it was told, and is not any more */
    uint64_t used;           /* when it was last needed: the higher, the later */
    struct home_facts facts; /* before the last scan */
    int64_t looked_s;        /* when; 0: never */
    struct home_told *told;  /* NULL: nothing is told */
    bool letters;            /* its keywords are letters */
};
struct home {
    const struct maildir_owner *owner;
    int root;
    bool clean; /* what a crash has left was removed */
    uint32_t uidvalidity_least;
    uint64_t state; /* see home_state */
    int64_t patience_s;
    bool leaves_new;
    struct home_reading readings[HOME_READINGS];
    struct home_folder **folders;
    size_t folder_count, folder_room;
    uint64_t uses;
    struct home_facts subscriptions;
    int64_t subscriptions_s; /* when they were read; 0: never */
    struct maildir_namer namer;
    char *path;
    char user[];
};

static inline const struct maildir_files *home_files(const struct home *home)
{
    return home->owner->files;
}

/* maildir_home.c */
int home_root(struct home *home); /* opens it, made if it is missing */
/* Durable when it returns 0, and else not there. -EEXIST. */
int home_part_make(const struct maildir_files *files, int at, const char *name);
struct home_folder *home_folder_find(struct home *home, const char *mailbox);
/* NULL: memory is short. */
struct home_folder *home_folder_add(struct home *home, const char *name, const char *mailbox);
void home_folder_drop(struct home *home, struct home_folder *folder);
int home_folder_open(struct home *home, struct home_folder *folder);
void home_folder_close(struct home_folder *folder);
/* A folder that there is, opened. -ENOENT. */
int home_folder_need(struct home *home, const char *mailbox, struct home_folder **folder);
/* Also when it cannot be told: what is not seen for want of descriptors has not gone. */
bool home_folder_exists(struct home *home, const char *name);

/* maildir_home_news.c */
struct home_news *home_news_add(struct home_news **list, const char *mailbox);
int home_item_add(struct home_news *news, struct home_item item);
/* Scans; all that differs from what is told goes into the news, and counts as told. */
int home_folder_look(struct home *home, struct home_folder *folder, struct home_news **news);
/* Of a box that was just scanned. */
int home_folder_compare(struct home *home, struct home_folder *folder, struct home_news **news);
void home_folder_letters(struct home_folder *folder);
struct home_seen *home_seen_find(const struct home_told *told, uint32_t uid);
unsigned home_flags_to_maildir(uint8_t flags);
uint8_t home_flags_of_maildir(unsigned flags);
/* Letters of the bits that have a name in `names`; those that get none are left off. -errno. */
int home_letters_of(struct home_folder *folder, char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1],
                    unsigned count, uint64_t bits, uint32_t *letters);
uint64_t home_left_off(const struct home_folder *folder,
                       char (*names)[MAILDIR_KEYWORD_BYTES_MAX + 1], unsigned count, uint64_t bits);

/* maildir_home_put.c: a name for cur/, with sizes, flags and keywords. */
int home_name_make(struct home *home, const struct maildir_name *is, char *out);
bool home_has_no_links(int status); /* what link() has answered */
/* Its bytes, durable, and its mtime; what is there is replaced. */
int home_file_copy(const struct maildir_files *files, int from_at, const char *from, int to_at,
                   const char *to);
/* By links, or by bytes where there are none: all or none, without a gap in their uids. */
int home_puts(struct home *home, struct maildir_box *box, struct maildir_put *puts, size_t count);

/* maildir_home_kept.c: those of the writes that are to be kept are, durably, with a status for each: another than 0 may not
 * be expunged now. The folder was scanned. */
int home_keep(struct home *home, struct home_folder *folder, const struct home_writes *writes,
              int *statuses);

/* maildir_home_text.c: those that were not needed since then; INT64_MAX: all. */
void home_readings_close(struct home *home, int64_t since_s);

/* maildir_home_folders.c: once, what a crash has left aside. */
void home_clean(struct home *home);
