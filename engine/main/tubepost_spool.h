/* tubepost_spool: what the parts of "tubepost spool" share: tubepost_spool.c, tubepost_spool_stat.c
 * and tubepost_spool_export.c. */
#pragma once
#include "queue/spool/spool_reader.h"
#include <stdbool.h>

#define STAT_AGES 6u

struct stat_domain;

struct spool_tool {
    const char *folder;
    struct disk *disk;
    void (*shard)(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard);
    uint32_t shards; /* that have a log */
    uint32_t unread; /* files or parts of them that the disk refuses */
    int code;        /* what to exit with, so far */
    bool as_json;
    struct { /* stat: sums of the shards */
        struct spool_reader_facts facts;
        uint64_t ages[STAT_AGES], tried, body_bytes;
        struct stat_domain *domains; /* a table */
        uint64_t domain_count, domain_capacity;
        int64_t now_s;
    } stat;
    const char *to; /* export: the folder */
    int to_fd;
    bool with_json;
    uint64_t *ids; /* those wanted; none: all */
    uint32_t id_count, found, exported, damaged;
};

void stat_shard(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard);
int stat_print(struct spool_tool *tool);

int export_choose(struct spool_tool *tool, const char *id); /* TOOL_TAKEN, or what to exit with */
int export_open(struct spool_tool *tool);
void export_shard(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard);
int export_close(struct spool_tool *tool, int code);
