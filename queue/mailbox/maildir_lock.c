#include "queue/mailbox/maildir_lock.h"
#include "engine/core/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOCK_NAME_BYTES 128
#define PAUSE_NS_FIRST 1000000u
#define PAUSE_NS_MAX 200000000u
#define YOUNG_S 2 /* who has just made it is alive, or is still writing who he is */

static void lock_name(const struct maildir_lock *lock, char name[LOCK_NAME_BYTES])
{
    snprintf(name, LOCK_NAME_BYTES, "%s.lock", lock->protected);
}

static bool same_facts(const struct maildir_file_facts *one, const struct maildir_file_facts *other)
{
    return one->inode == other->inode && one->device == other->device &&
           one->bytes == other->bytes && one->modified_s == other->modified_s &&
           one->changed_s == other->changed_s;
}

/* ---- whose it is ---- */

/* The process that it names, if that is one of this host; 0: none. */
static uint32_t local_process(const struct maildir_lock *lock, const char *name)
{
    const struct maildir_files *files = lock->owner->files;
    int file = files->open_file(files->self, lock->at, name);
    if (file < 0) {
        return 0;
    }
    char text[512];
    ssize_t size = files->read(files->self, file, 0, text, sizeof text - 1);
    files->close(files->self, file);
    if (size <= 0) {
        return 0;
    }
    size -= text[size - 1] == '\n';
    text[size] = 0;
    char *host = NULL;
    unsigned long process = strtoul(text, &host, 10);
    bool ours = host != text && *host == ':' && strcmp(host + 1, lock->owner->hostname) == 0;
    return ours && process <= INT32_MAX ? (uint32_t)process : 0;
}

/* Remembers when anything changed; the first look believes the file's own times. */
static void watch(struct maildir_lock *lock, const struct maildir_file_facts *now,
                  struct maildir_file_facts *seen, int64_t wall_s)
{
    if (same_facts(now, seen)) {
        return;
    }
    int64_t changed_s = wall_s;
    if (seen->inode == 0) {
        changed_s = now->modified_s > now->changed_s && now->modified_s <= wall_s ? now->modified_s
                                                                                  : now->changed_s;
    }
    lock->changed_wall_s = changed_s > lock->changed_wall_s ? changed_s : lock->changed_wall_s;
    *seen = *now;
}

static bool is_void(struct maildir_lock *lock, const char *name,
                    const struct maildir_file_facts *facts)
{
    const struct maildir_files *files = lock->owner->files;
    int64_t wall_s = world_wall_s(lock->owner->world);
    watch(lock, facts, &lock->seen, wall_s);
    if (facts->modified_s < wall_s - YOUNG_S) {
        uint32_t process = local_process(lock, name);
        if (process == lock->owner->process_id) {
            return facts->changed_s < lock->owner->started_wall_s;
        }
        if (process != 0) {
            return !files->process_lives(files->self, process);
        }
    }
    if (wall_s <= lock->changed_wall_s + lock->stale_s) {
        return false;
    }
    struct maildir_file_facts of_file;
    if (files->facts(files->self, lock->at, lock->protected, &of_file) == 0) {
        watch(lock, &of_file, &lock->seen_protected, wall_s);
    }
    return wall_s > lock->changed_wall_s + lock->stale_s;
}

/* Takes it aside, and puts it back if it has become another's meanwhile. */
static void remove_void(struct maildir_lock *lock, const char *name)
{
    const struct maildir_files *files = lock->owner->files;
    char aside[LOCK_NAME_BYTES + 32];
    uint64_t random;
    world_random(lock->owner->world, &random, sizeof random);
    snprintf(aside, sizeof aside, ".%s.%016" PRIx64, name, random);
    if (files->rename(files->self, lock->at, name, lock->at, aside) < 0) {
        return;
    }
    struct maildir_file_facts facts;
    if (files->facts(files->self, lock->at, aside, &facts) == 0 &&
        (facts.inode != lock->seen.inode || facts.modified_s != lock->seen.modified_s)) {
        files->link(files->self, lock->at, aside, lock->at, name);
    }
    files->remove(files->self, lock->at, aside);
}

/* ---- taking ---- */

/* Where there are links it is there with its content, or not at all: one that a crash leaves without a name in it would
 * be believed for minutes. */
static int make_by_link(struct maildir_lock *lock, const char *from, const char *name)
{
    const struct maildir_files *files = lock->owner->files;
    struct maildir_file_facts facts;
    if (strcmp(from, name) == 0) {
        return 0;
    }
    int status = files->link(files->self, lock->at, from, lock->at, name);
    /* A link may be there although its answer was lost (NFS). */
    if (status < 0 && files->facts(files->self, lock->at, name, &facts) == 0 &&
        facts.inode == lock->inode && facts.device == lock->device) {
        status = 0;
    }
    files->remove(files->self, lock->at, from);
    lock->held = status == 0;
    return status;
}

static int make_as(struct maildir_lock *lock, const char *from, const char *name)
{
    const struct maildir_files *files = lock->owner->files;
    int file = files->make_file(files->self, lock->at, from);
    if (file < 0) {
        return file;
    }
    char text[300];
    int size = snprintf(text, sizeof text, "%" PRIu32 ":%.255s", lock->owner->process_id,
                        lock->owner->hostname);
    ssize_t written = files->write(files->self, file, text, (size_t)size);
    struct maildir_file_facts facts = {0};
    int status = files->facts_of_open(files->self, file, &facts);
    files->close(files->self, file);
    if (written != size || status < 0) { /* half a name could be another process */
        files->remove(files->self, lock->at, from);
        return written < 0 ? (int)written : status < 0 ? status : -ENOSPC;
    }
    lock->held = true;
    lock->inode = facts.inode;
    lock->device = facts.device;
    return make_by_link(lock, from, name);
}

static int make(struct maildir_lock *lock, const char *name)
{
    const struct maildir_files *files = lock->owner->files;
    struct maildir_file_facts facts;
    char from[LOCK_NAME_BYTES + 32];
    uint64_t random;
    if (files->facts(files->self, lock->at, name, &facts) == 0) {
        return -EEXIST;
    }
    world_random(lock->owner->world, &random, sizeof random);
    snprintf(from, sizeof from, ".%s.%016" PRIx64, name, random);
    int status = make_as(lock, from, name);
    bool none = status == -EPERM || status == -EOPNOTSUPP || status == -ENOSYS;
    return none ? make_as(lock, name, name) : status;
}

int maildir_lock_try(struct maildir_lock *lock)
{
    check(!lock->held);
    const struct maildir_files *files = lock->owner->files;
    char name[LOCK_NAME_BYTES];
    lock_name(lock, name);
    int status = make(lock, name);
    if (status != -EEXIST) {
        return status;
    }
    struct maildir_file_facts facts;
    status = files->facts(files->self, lock->at, name, &facts);
    if (status < 0) {
        return status == -ENOENT ? -EAGAIN : status;
    }
    if (!is_void(lock, name, &facts)) {
        return -EAGAIN;
    }
    remove_void(lock, name);
    status = make(lock, name);
    return status == -EEXIST ? -EAGAIN : status;
}

int maildir_lock_take(struct maildir_lock *lock, int64_t patience_s)
{
    const struct maildir_owner *owner = lock->owner;
    uint64_t now_ns = world_now_ns(owner->world);
    uint64_t end_ns = patience_s > 0 ? now_ns + (uint64_t)patience_s * 1000000000u : now_ns;
    uint64_t pause_ns = PAUSE_NS_FIRST;
    lock->seen = lock->seen_protected = (struct maildir_file_facts){0};
    lock->changed_wall_s = 0;
    for (;;) {
        int status = maildir_lock_try(lock);
        if (status != -EAGAIN) {
            return status;
        }
        bool hurries = owner->hurries != NULL && atomic_load(owner->hurries);
        if (hurries || world_now_ns(owner->world) >= end_ns) {
            return -ETIMEDOUT;
        }
        owner->files->pause(owner->files->self, pause_ns);
        pause_ns = pause_ns * 2 < PAUSE_NS_MAX ? pause_ns * 2 : PAUSE_NS_MAX;
    }
}

bool maildir_lock_holds(const struct maildir_lock *lock)
{
    char name[LOCK_NAME_BYTES];
    lock_name(lock, name);
    struct maildir_file_facts facts;
    const struct maildir_files *files = lock->owner->files;
    return lock->held && files->facts(files->self, lock->at, name, &facts) == 0 &&
           facts.inode == lock->inode && facts.device == lock->device;
}

void maildir_lock_release(struct maildir_lock *lock)
{
    char name[LOCK_NAME_BYTES];
    lock_name(lock, name);
    if (maildir_lock_holds(lock)) {
        lock->owner->files->remove(lock->owner->files->self, lock->at, name);
    }
    lock->held = false;
}
