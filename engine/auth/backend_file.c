/* Users in a file of Dovecot's passwd-file format, which is read again when it has changed. */
#include "engine/auth/backend_users.h"
#include "engine/core/check.h"
#include "engine/lookup/text.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LOOK_AGAIN_NS 1000000000ull

struct backend_source {
    char *path;
    pthread_mutex_t looking; /* of who reads the file again, and of what the file was then */
    pthread_rwlock_t lock;   /* of users and generation */
    struct users *users;
    uint64_t generation;
    _Atomic uint64_t looked_ns;
    struct timespec changed;
    off_t size;
    ino_t inode;
};

static void file_note(struct backend_source *source, const struct stat *file)
{
    source->changed = file->st_mtim;
    source->size = file->st_size;
    source->inode = file->st_ino;
}

static int file_read(struct backend_source *source, struct users **users,
                     char problem[BACKEND_PROBLEM_MAX])
{
    char *text;
    size_t bytes;
    int status = text_read(source->path, &text, &bytes);
    return status < 0 ? status : users_open(users, text, bytes, problem);
}

static void file_close(struct backend_source *source)
{
    if (source->users != NULL) {
        users_close(source->users);
    }
    pthread_rwlock_destroy(&source->lock);
    pthread_mutex_destroy(&source->looking);
    free(source->path);
    free(source);
}

static int file_open(struct backend_source **opened, const char *kind, const char *where,
                     char problem[BACKEND_PROBLEM_MAX])
{
    struct stat file;
    struct backend_source *source = calloc(1, sizeof(*source));
    (void)kind;
    if (source == NULL) {
        return -ENOMEM;
    }
    check(pthread_rwlock_init(&source->lock, NULL) == 0);
    check(pthread_mutex_init(&source->looking, NULL) == 0);
    source->path = strdup(where);
    int status = source->path == NULL     ? -ENOMEM
                 : stat(where, &file) < 0 ? -errno
                                          : file_read(source, &source->users, problem);
    if (status < 0) {
        file_close(source);
        return status;
    }
    file_note(source, &file);
    *opened = source;
    return 0;
}

/* A file that is gone, or wrong, leaves the old users in force: it may be half written. It is read without the lock, which
 * those who find in memory hold for moments only. Under `looking`. */
static void read_again(struct backend_source *source)
{
    struct stat file;
    struct users *users;
    char problem[BACKEND_PROBLEM_MAX];
    if (stat(source->path, &file) < 0 ||
        (file.st_mtim.tv_sec == source->changed.tv_sec &&
         file.st_mtim.tv_nsec == source->changed.tv_nsec && file.st_size == source->size &&
         file.st_ino == source->inode)) {
        return;
    }
    file_note(source, &file);
    if (file_read(source, &users, problem) == 0) {
        pthread_rwlock_wrlock(&source->lock);
        struct users *before = source->users;
        source->users = users;
        source->generation++;
        pthread_rwlock_unlock(&source->lock);
        users_close(before);
    }
}

static bool is_due(struct backend_source *source, uint64_t now_ns)
{
    return atomic_load(&source->looked_ns) + LOOK_AGAIN_NS <= now_ns;
}

static void look_again(struct backend_source *source, uint64_t now_ns)
{
    if (!is_due(source, now_ns)) {
        return;
    }
    pthread_mutex_lock(&source->looking);
    if (is_due(source, now_ns)) {
        read_again(source);
        atomic_store(&source->looked_ns, now_ns);
    }
    pthread_mutex_unlock(&source->looking);
}

static bool file_is_near(struct backend_source *source, uint64_t now_ns)
{
    return !is_due(source, now_ns);
}

static enum backend_answer file_find(struct backend_source *source, struct slice name,
                                     uint64_t now_ns, struct auth_user *user,
                                     char problem[BACKEND_PROBLEM_MAX])
{
    look_again(source, now_ns);
    pthread_rwlock_rdlock(&source->lock);
    enum backend_answer answer = users_find(source->users, name, user, problem);
    pthread_rwlock_unlock(&source->lock);
    return answer;
}

static uint64_t file_generation(struct backend_source *source, uint64_t now_ns)
{
    look_again(source, now_ns);
    pthread_rwlock_rdlock(&source->lock);
    uint64_t generation = source->generation;
    pthread_rwlock_unlock(&source->lock);
    return generation;
}

/* Those who find do so meanwhile; who has read the file again waits with it. */
static void file_survey(struct backend_source *source, backend_told *told, void *self)
{
    pthread_rwlock_rdlock(&source->lock);
    users_survey(source->users, told, self);
    pthread_rwlock_unlock(&source->lock);
}

const struct backend_kind backend_file = {.name = "passwd-file",
                                          .open = file_open,
                                          .close = file_close,
                                          .find = file_find,
                                          .generation = file_generation,
                                          .is_near = file_is_near,
                                          .survey = file_survey};
