/*
 * disk_reader: a folder that is only looked at: for tools, while nobody works on it.
 *
 * Reads block, through the page cache, and are reported by the next reap; whatever would change
 * something answers -EROFS. Nothing is made, synced or locked in the folder, so a copy on read-only
 * ground will do.
 */
#pragma once
#include "engine/disk/disk.h"

/* 0 or -errno. Owned by the caller until its close. */
int disk_open_reader(struct disk **disk, const char *folder);
