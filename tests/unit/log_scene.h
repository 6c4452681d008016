/*
 * log_scene: a log on a disk that lies, and all that was appended to it, to be compared with what a start finds.
 */
#pragma once
#include "tests/unit/log_rig.h"

#define TYPE_MAIL 20
#define TYPE_NOTE 21
#define CONTENT_MAX 65536

/* What recovery is compared with: every record that was appended, its content made from its tag. */
struct told {
    struct log_waiter waiter;
    uint64_t lsn;
    uint64_t tag;
    uint32_t length;
    bool done, waits;
    int status;
};

struct scene {
    struct log_rig rig;
    struct told *told;
    uint32_t count, capacity;
    /* Found by recovery. */
    uint32_t found_count;
    uint64_t found_lsn;
    uint64_t damaged_bytes;
    bool *found;
    uint8_t content[CONTENT_MAX];
    uint64_t random;
};

uint32_t scene_below(struct scene *scene, uint32_t limit);
struct scene *scene_open(uint64_t seed);
void scene_close(struct scene *scene);
/* The `done` of a struct told. */
void told_done(struct log_waiter *waiter, int status);
/* The content of a record. */
void scene_fill(uint8_t *bytes, uint64_t tag, uint32_t length);
/* NULL: refused. */
struct told *scene_append(struct scene *scene, uint8_t flags, uint32_t length);
/* Opens the log, and sees what is found. */
void scene_start(struct scene *scene);
