/*
 * disk_file: files and folders by calls that block: what both production disks do in the same way,
 * at start on the shard's thread and later as jobs of a disk_worker. Private to engine/disk.
 */
#pragma once
#include "engine/disk/disk_worker.h"

/* Jobs. */
int disk_job_prepare(struct disk_job *job);
void disk_job_prepare_undo(struct disk_job *job); /* closes what nobody will hear of */
int disk_job_remove(struct disk_job *job);
int disk_job_write(struct disk_job *job);
int disk_job_read(struct disk_job *job);
int disk_job_space(struct disk_job *job);
void disk_job_space_finish(struct disk_job *job); /* job->block: who asked */

/* At start. A descriptor of the folder, or -errno; direct: whether O_DIRECT works in it. */
int disk_folder_open(const char *path, bool *direct);
int disk_file_open(int folder, const char *name, bool direct, uint64_t *bytes);
/* Names that begin with a dot are not told. */
int disk_folder_list(int folder, const char *name, void (*visit)(void *owner, const char *name),
                     void *owner);
