/*
 * spool_harvest: which messages a log's records make up. Fed by log_recover or log_folder_scan, at
 * start only.
 *
 * A message is kept when its commit and all that the commit refers to are valid. The newest commit of
 * an id counts; what recipients have reached is never taken back, whichever record says it.
 */
#pragma once
#include "queue/log/log.h"

struct message_table;
struct spool_message;
struct spool_store;
struct spool_harvest;

/* store: for the messages that it makes; borrowed. 0 or -ENOMEM. */
int spool_harvest_open(struct spool_harvest **harvest, struct spool_store *store);
void spool_harvest_close(struct spool_harvest *harvest);

/* Messages whose commit is whole and whose body is not are given too, marked as broken. */
void spool_harvest_keep_broken(struct spool_harvest *harvest);
/* Bodies without a commit. */
void spool_harvest_orphans(const struct spool_harvest *harvest, uint64_t *count, uint64_t *bytes);

/* A log_visitor's; owner is the harvest. */
int spool_harvest_record(void *owner, const struct log_record *record);
void spool_harvest_damaged(void *owner, uint64_t lsn, uint64_t bytes);

/* Gives the segments of the recovered log what their records say of messages in others. After the last
 * record. */
void spool_harvest_notes(struct spool_harvest *harvest, struct log *log);

/* Gives every message that still waits, in order of arrival; once. table: an empty one, which has them
 * all then; NULL: they are in none. 0 or -ENOMEM. */
int spool_harvest_each(struct spool_harvest *harvest, struct message_table *table,
                       void (*take)(void *owner, struct spool_message *message), void *owner);
