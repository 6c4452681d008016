/*
 * lookup: a shard's way to the operator's maps (map.h): asks the helpers, remembers what they answered.
 *
 * What is remembered is answered at once; what is not is told later, on the shard. One key of a map is asked for once,
 * however many wait for it. Answers live for a while (found, absent and failed each its own) or until the map's file
 * has changed; the memory for them is bounded, the least recently used goes first.
 *
 * Where there are no helpers (tests, the simulator, a command of the operator's) maps are asked in place.
 */
#pragma once
#include "engine/core/list.h"
#include "engine/core/ref.h"
#include "engine/lookup/map.h"
#include "engine/net/siphash.h"
#include "engine/shard/helpers.h"

struct lookup;

struct lookup_settings {     /* zeroes are replaced */
    struct shard *shard;     /* clock, and where answers come to; may be NULL without helpers */
    struct helpers *helpers; /* of own_bytes LOOKUP_HELPER_BYTES; NULL: in place */
    uint64_t found_ns, absent_ns, failed_ns; /* 60 s, 60 s, 5 s */
    uint64_t bytes_max;                      /* of what is remembered; 16 MiB */
    uint32_t asked_max;                      /* questions under way; 1024 */
};

#define LOOKUP_HELPER_BYTES sizeof(struct map_result)

struct lookup_value { /* counted, immutable; of one shard */
    struct ref ref;
    enum map_answer answer;
    struct slice text; /* of MAP_FOUND: the value; of MAP_FAILED and MAP_TOO_LONG: why */
};

struct lookup_query { /* the asker's, until `told` or lookup_cancel */
    void (*told)(struct lookup_query *query, struct lookup_value *value); /* given: drop it */
    struct list_node node;                                                /* lookup's own */
};

/* 0 or -ENOMEM. */
int lookup_open(struct lookup **lookup, const struct lookup_settings *settings);
/* After every query was told or cancelled; what the helpers still have under way ends by itself. */
void lookup_close(struct lookup *lookup);

/* 0 and *value, which is given: drop it; -EINPROGRESS: query->told runs later, never before this returns; -ENOBUFS: too
 * many are asked; -ENOMEM. The map may be closed after lookup_forget. */
int lookup_find(struct lookup *lookup, struct map *map, struct slice key,
                struct lookup_query *query, struct lookup_value **value);
void lookup_cancel(struct lookup_query *query);
/* What is hashed of what peers may choose is hashed with this. */
const struct siphash_key *lookup_secret(const struct lookup *lookup);
/* After a reload: nothing of the old maps is remembered. */
void lookup_forget(struct lookup *lookup);

struct lookup_counters {
    uint64_t hits, misses, failures, refused, evicted;
    uint64_t bytes; /* now */
    uint32_t asked; /* now */
};
const struct lookup_counters *lookup_counters(const struct lookup *lookup);

static inline void lookup_value_drop(struct lookup_value *value)
{
    ref_drop(&value->ref);
}
