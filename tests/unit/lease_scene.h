/*
 * lease_scene: several shards with sites of one group, the books of its limits and of all sites', and words between
 * them that take their time. Virtual time, in steps of a millisecond.
 */
#pragma once
#include "queue/sched/lease.h"
#include "queue/spool/spool.h"

#define MS 1000000ull
#define SECOND (1000 * MS)
#define SHARDS_MAX 8
#define SITES 3 /* of each shard */
#define CONNECTIONS_MAX 64
#define POSTS_MAX 4096
#define MESSAGES 60000
#define MINUTE_MS 60000

struct connection {
    struct sched_site *site; /* NULL: none */
    struct sched_delivery *delivery;
    uint64_t opens_ns; /* 0: it is open */
    uint64_t ends_ns;
    uint32_t sent;
};

struct part { /* of one shard */
    struct sched *sched;
    struct sched_group *group;
    struct sched_site *sites[SITES];
    bool touched[SITES]; /* to be looked at */
    struct connection connections[CONNECTIONS_MAX];
    uint32_t sent, waiting;
    uint64_t last_to_owner_ns, last_from_owner_ns;
};

enum which { OF_GROUP, OF_ALL, BOOKS };

struct post {
    uint64_t at_ns;
    unsigned shard;
    enum which which;
    bool answers;
    struct lease_word word;
    struct lease_answer answer;
};

struct lease_scene {
    unsigned shard_count;
    struct sched_limits limits;
    struct lease_book *book;
    struct lease_book *book_of_all; /* NULL: all sites together have no limit */
    struct part parts[SHARDS_MAX];
    struct post posts[POSTS_MAX];
    unsigned post_count;
    uint64_t now_ns, random;
    uint64_t takes_ns;  /* a message */
    uint64_t delay_ns;  /* a word, at most */
    unsigned most_open; /* that were open at once */
    unsigned word_count;
    uint64_t *sent_at; /* of each message that was begun */
    unsigned sent_count, opened_count;
};

/* limits: of the group. Every shard has SITES sites of it. */
struct lease_scene *lease_scene_open(unsigned shard_count, const struct sched_limits *limits);
void lease_scene_close(struct lease_scene *scene);
/* All sites together have so many connections. Each shard wishes for so many at first. */
void lease_scene_limit_all(struct lease_scene *scene, uint32_t count, uint32_t wished);
/* So many messages wait at a site from now on; at each. */
void lease_scene_add(struct lease_scene *scene, unsigned shard, unsigned site, unsigned count);
void lease_scene_add_everywhere(struct lease_scene *scene, unsigned count);
void lease_scene_run(struct lease_scene *scene, unsigned ms);
unsigned lease_scene_open_count(const struct lease_scene *scene);    /* connections */
unsigned lease_scene_waiting_count(const struct lease_scene *scene); /* messages */
uint64_t lease_scene_draw(struct lease_scene *scene, uint64_t below);
