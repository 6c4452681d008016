#include "queue/mailbox/checked_vfs.h"
#include "engine/core/crc32c.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define PAGE_BYTES 4096
#define SUM_BYTES 8
#define PART_BYTES_MAX 100 /* SQLite reads so much of the first page, to learn what a page is */
#define NAME "tubepost-checked"

struct checked_file {
    sqlite3_file file;   /* first */
    bool checked;        /* a database: others have sums of their own */
    sqlite3_file *below; /* in the memory behind this */
};

static sqlite3_file *below_of(sqlite3_file *file)
{
    return ((struct checked_file *)(void *)file)->below;
}

/* ---- Pages ---- */

/* A page at another place is another one. */
static void sum_make(const uint8_t *page, sqlite3_int64 offset, uint8_t sum[SUM_BYTES])
{
    uint32_t first = crc32c(0, &offset, sizeof(offset));
    first = crc32c(first, page, PAGE_BYTES - SUM_BYTES);
    uint32_t second = ~first;
    memcpy(sum, &first, sizeof(first));
    memcpy(sum + sizeof(first), &second, sizeof(second));
}

static int checked_read(sqlite3_file *file, void *bytes, int size, sqlite3_int64 offset)
{
    sqlite3_file *below = below_of(file);
    uint8_t sum[SUM_BYTES];
    int status = below->pMethods->xRead(below, bytes, size, offset);
    if (status != SQLITE_OK || !((struct checked_file *)(void *)file)->checked ||
        (size <= PART_BYTES_MAX && offset < PAGE_BYTES)) {
        return status;
    }
    if (size != PAGE_BYTES || offset % PAGE_BYTES != 0) {
        return SQLITE_CORRUPT; /* the first page is not as we make it */
    }
    sum_make((const uint8_t *)bytes, offset, sum);
    return memcmp((const uint8_t *)bytes + PAGE_BYTES - SUM_BYTES, sum, SUM_BYTES) == 0
               ? SQLITE_OK
               : SQLITE_CORRUPT;
}

static int checked_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset)
{
    sqlite3_file *below = below_of(file);
    uint8_t page[PAGE_BYTES];
    if (!((struct checked_file *)(void *)file)->checked) {
        return below->pMethods->xWrite(below, bytes, size, offset);
    }
    if (size != PAGE_BYTES || offset % PAGE_BYTES != 0) {
        return SQLITE_IOERR_WRITE;
    }
    memcpy(page, bytes, PAGE_BYTES - SUM_BYTES);
    sum_make(page, offset, page + PAGE_BYTES - SUM_BYTES);
    return below->pMethods->xWrite(below, page, size, offset);
}

/* ---- What is handed on ---- */

static int checked_close(sqlite3_file *file)
{
    return below_of(file)->pMethods->xClose(below_of(file));
}
static int checked_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return below_of(file)->pMethods->xTruncate(below_of(file), size);
}
static int checked_sync(sqlite3_file *file, int flags)
{
    return below_of(file)->pMethods->xSync(below_of(file), flags);
}
static int checked_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return below_of(file)->pMethods->xFileSize(below_of(file), size);
}
static int checked_lock(sqlite3_file *file, int lock)
{
    return below_of(file)->pMethods->xLock(below_of(file), lock);
}
static int checked_unlock(sqlite3_file *file, int lock)
{
    return below_of(file)->pMethods->xUnlock(below_of(file), lock);
}
static int checked_reserved(sqlite3_file *file, int *result)
{
    return below_of(file)->pMethods->xCheckReservedLock(below_of(file), result);
}
static int checked_control(sqlite3_file *file, int which, void *argument)
{
    return below_of(file)->pMethods->xFileControl(below_of(file), which, argument);
}
static int checked_sector(sqlite3_file *file)
{
    return below_of(file)->pMethods->xSectorSize(below_of(file));
}
static int checked_device(sqlite3_file *file)
{
    return below_of(file)->pMethods->xDeviceCharacteristics(below_of(file));
}

/* The first version: without shared memory and mapping there is no page that is not read by checked_read. */
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = checked_close,
    .xRead = checked_read,
    .xWrite = checked_write,
    .xTruncate = checked_truncate,
    .xSync = checked_sync,
    .xFileSize = checked_size,
    .xLock = checked_lock,
    .xUnlock = checked_unlock,
    .xCheckReservedLock = checked_reserved,
    .xFileControl = checked_control,
    .xSectorSize = checked_sector,
    .xDeviceCharacteristics = checked_device,
};

/* ---- The VFS ---- */

static int checked_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                        int *flags_out)
{
    struct checked_file *checked = (struct checked_file *)(void *)file;
    sqlite3_vfs *below = (sqlite3_vfs *)vfs->pAppData;
    *checked = (struct checked_file){.checked = (flags & SQLITE_OPEN_MAIN_DB) != 0,
                                     .below = (sqlite3_file *)(void *)(checked + 1)};
    memset(checked->below, 0, (size_t)below->szOsFile);
    int status = below->xOpen(below, name, checked->below, flags, flags_out);
    if (checked->below->pMethods != NULL) {
        file->pMethods = &methods;
    }
    return status;
}

/* SQLite has one list of them for the process, so there is one of ours. */
static sqlite3_vfs checked_vfs;
static bool is_registered;

static void vfs_register(void)
{
    sqlite3_vfs *below = sqlite3_vfs_find(NULL);
    if (below == NULL) {
        return;
    }
    checked_vfs = *below; /* what concerns names is the same */
    checked_vfs.pNext = NULL;
    checked_vfs.zName = NAME;
    checked_vfs.pAppData = below;
    checked_vfs.szOsFile = (int)sizeof(struct checked_file) + below->szOsFile;
    checked_vfs.xOpen = checked_open;
    is_registered = sqlite3_vfs_register(&checked_vfs, 0) == SQLITE_OK;
}

const char *checked_vfs_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, vfs_register);
    return is_registered ? NAME : NULL;
}

int checked_vfs_begin(sqlite3 *database)
{
    int kept = SUM_BYTES;
    return sqlite3_file_control(database, "main", SQLITE_FCNTL_RESERVE_BYTES, &kept);
}
