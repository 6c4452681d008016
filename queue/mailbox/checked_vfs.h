/*
 * checked_vfs: SQLite's files with a checksum in each page of a database, so that what was spoilt is never believed.
 *
 * SQLite notices only what it cannot make sense of; a changed byte within a row is an answer to it. Here a page that is
 * not as it was written answers SQLITE_CORRUPT. For databases that can be made again: pages of 4,096 bytes, of which the
 * last eight are kept back (checked_vfs_begin), with a rollback journal; there is no WAL and no mapping.
 * For search_index.c, its only caller.
 */
#pragma once
#include <sqlite3.h>

/* To be given to sqlite3_open_v2; NULL: memory is short. */
const char *checked_vfs_name(void);
/* Of a database that was just opened: so that a new one keeps room for checksums. A status of SQLite's. */
int checked_vfs_begin(sqlite3 *database);
