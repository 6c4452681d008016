/* maildirs_rig: a mailbox store on Maildirs, real files in a folder of its own, which others change too; the log's disk loses
 * what it may at a crash. Its user is ann; of cmocka's tests only. */
#pragma once
#include "queue/mailbox/maildir_lock.h"
#include "tests/unit/mailstore_rig.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define LIST "3 V1234567 N9 G0123456789abcdef0123456789abcdef\n3 :a\n7 W9 :b\n"

struct maildirs_rig {
    struct mailstore_rig rig;
    char path[64], staging[96];
    struct maildir_files files;
    struct world world;
    struct maildir_owner owner;
    struct mailstore_maildirs maildirs;
    struct mailstore_user *user;
    uint64_t random;
    bool crowded;   /* there are more users than files are kept open for */
    unsigned lists; /* of folders */
    unsigned troubles;
    int trouble; /* the last that was told */
};

void maildirs_user_open(struct maildirs_rig *fixture);
int maildirs_set_up(void **state);
/* With more users than files are kept open for. */
int maildirs_set_up_crowded(void **state);
int maildirs_tear_down(void **state);
/* Of a name in his Maildir. */
void maildirs_path(const struct maildirs_rig *fixture, const char *name, char path[512]);
/* ---- What others do there ---- */
void maildirs_put(const struct maildirs_rig *fixture, const char *name, const char *text);
void maildirs_folder(const struct maildirs_rig *fixture, const char *name);
void maildirs_move(const struct maildirs_rig *fixture, const char *from, const char *to);
void maildirs_take(const struct maildirs_rig *fixture, const char *name);
/* A file or folder whose name is so; a pattern. */
bool maildirs_has(const struct maildirs_rig *fixture, const char *pattern);
/* ---- What the store has ---- */
void maildirs_look(struct maildirs_rig *fixture);
struct mailstore_box *maildirs_box(struct maildirs_rig *fixture, const char *name);
/* "UID:FLAGS:KEYWORDS ..." with flags as a number. */
void assert_box(struct maildirs_rig *fixture, const char *name, const char *expected);
void assert_text(struct maildirs_rig *fixture, const char *name, uint32_t uid,
                 const char *expected);
void maildirs_flag(struct maildirs_rig *fixture, const char *name, uint32_t uid, uint8_t flags,
                   const char *keyword);
void maildirs_expunge(struct maildirs_rig *fixture, const char *name, uint32_t uid);
struct mailstore_place maildirs_append(struct maildirs_rig *fixture, const char *name,
                                       struct slice text);
/* After mailstore_rig_stop or mailstore_rig_crash. */
void maildirs_start_again(struct maildirs_rig *fixture, void (*end)(struct mailstore_rig *rig));
/* Two messages of Dovecot's: UIDs 3 and 7. */
void maildirs_inbox(struct maildirs_rig *fixture);
