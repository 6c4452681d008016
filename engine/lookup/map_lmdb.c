/*
 * Maps in LMDB, as postmap(1) makes them: lmdb:/etc/tubepost/virtual reads /etc/tubepost/virtual.lmdb.
 *
 * Postfix locks the file itself, by fcntl, and has LMDB's own lock file off; so do we.
 */
#include "engine/lookup/map.h"
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct map_source {
    char *path;
    MDB_env *environment; /* NULL: to be opened */
    MDB_dbi database;
    ino_t inode; /* of the file that is open */
};

static void lmdb_drop(struct map_source *source)
{
    if (source->environment != NULL) {
        mdb_env_close(source->environment);
        source->environment = NULL;
    }
}

static void lmdb_map_close(struct map_source *source)
{
    lmdb_drop(source);
    free(source->path);
    free(source);
}

/* F_RDLCK or F_UNLCK. A writer is soon done. */
static void file_lock(struct map_source *source, short kind)
{
    struct flock lock = {.l_type = kind, .l_whence = SEEK_SET};
    int fd;
    if (mdb_env_get_fd(source->environment, &fd) == 0) {
        while (fcntl(fd, F_OFD_SETLKW, &lock) < 0 && errno == EINTR) {
        }
    }
}

static int database_open(struct map_source *source)
{
    struct stat file;
    MDB_txn *transaction = NULL;
    if (stat(source->path, &file) < 0) {
        lmdb_drop(source);
        return errno;
    }
    if (source->environment != NULL && source->inode == file.st_ino) {
        return 0;
    }
    lmdb_drop(source); /* postmap has put another in its place */
    int status = mdb_env_create(&source->environment);
    if (status != 0) {
        source->environment = NULL;
        return status;
    }
    status = mdb_env_open(source->environment, source->path, MDB_NOSUBDIR | MDB_RDONLY | MDB_NOLOCK,
                          0600);
    if (status == 0) {
        file_lock(source, F_RDLCK);
        status = mdb_txn_begin(source->environment, NULL, MDB_RDONLY, &transaction);
    }
    status = status == 0 ? mdb_dbi_open(transaction, NULL, 0, &source->database) : status;
    if (status == 0) {
        status = mdb_txn_commit(transaction); /* or the handle would go with it */
        file_lock(source, F_UNLCK);
    } else {
        mdb_txn_abort(transaction); /* NULL is fine */
        lmdb_drop(source);
    }
    source->inode = file.st_ino;
    return status;
}

static int lmdb_map_open(struct map_source **made, const char *where, char problem[MAP_PROBLEM_MAX])
{
    static const char suffix[] = ".lmdb";
    size_t size = strlen(where), suffix_bytes = sizeof(suffix) - 1;
    bool whole = size > suffix_bytes && strcmp(where + size - suffix_bytes, suffix) == 0;
    struct map_source *source = calloc(1, sizeof(*source));
    char *path = malloc(size + sizeof(suffix));
    if (source == NULL || path == NULL) {
        free(source);
        free(path);
        return -ENOMEM;
    }
    snprintf(path, size + sizeof(suffix), "%s%s", where, whole ? "" : suffix);
    source->path = path;
    int status = database_open(source);
    if (status != 0) {
        snprintf(problem, MAP_PROBLEM_MAX, "%.150s: %s", path, mdb_strerror(status));
        lmdb_map_close(source);
        return status > 0 ? -status : -EINVAL;
    }
    *made = source;
    return 0;
}

static void lmdb_map_find(struct map_source *source, struct slice key, struct map_result *result)
{
    char terminated[MAP_KEY_MAX + 1];
    MDB_txn *transaction;
    MDB_val wanted = {key.size, terminated}, value;
    int status = database_open(source);
    if (status == 0) {
        file_lock(source, F_RDLCK);
        status = mdb_txn_begin(source->environment, NULL, MDB_RDONLY, &transaction);
    }
    if (status != 0) {
        lmdb_drop(source);
        map_failed(result, "%.150s: %s", source->path, mdb_strerror(status));
        return;
    }
    memcpy(terminated, key.bytes, key.size);
    terminated[key.size] = '\0';
    status = mdb_get(transaction, source->database, &wanted, &value);
    if (status == MDB_NOTFOUND) { /* some write the NUL behind key and value, and some do not */
        wanted.mv_size++;
        status = mdb_get(transaction, source->database, &wanted, &value);
    }
    if (status == 0) {
        struct slice text = slice_of(value.mv_data, value.mv_size);
        text.size -= text.size > 0 && text.bytes[text.size - 1] == '\0';
        map_found(result, text);
    } else if (status == MDB_NOTFOUND || status == MDB_BAD_VALSIZE) {
        map_absent(result); /* a key that is too long for LMDB is not in it */
    } else {
        map_failed(result, "%.150s: %s", source->path, mdb_strerror(status));
    }
    mdb_txn_abort(transaction);
    file_lock(source, F_UNLCK);
}

const struct map_kind map_lmdb = {
    .name = "lmdb", .open = lmdb_map_open, .close = lmdb_map_close, .find = lmdb_map_find};
