/* Messages by id. Grows piece by piece, so that no insertion stops the shard. */
#include "queue/spool/spool_private.h"

#define BUCKETS_MIN 1024u
#define MOVED_BUCKETS 8u  /* with each insertion while it grows */
#define AHEAD_MESSAGES 4u /* so many buckets ahead of a walk */
#define AHEAD_BUCKETS 8u

/* Messages that came one after the other lie beside each other, in the table as in memory, and only
 * what came in another segment lies elsewhere: a start, which adds millions in that order, misses the
 * cache for few of them. How full the buckets are is as by chance. Nobody else chooses our ids. */
static uint64_t bucket_of(uint64_t id, uint64_t count)
{
    uint64_t within = id & ((1u << 24) - 1), start = (id >> 24) * 0x9e3779b97f4a7c15ull >> 20;
    return (start + within) & (count - 1);
}

int message_table_open(struct message_table *table, const struct spool_store *store)
{
    *table = (struct message_table){.span = store->heap.base, .bucket_count = BUCKETS_MIN};
    table->buckets = (uint32_t *)calloc(BUCKETS_MIN, sizeof(table->buckets[0]));
    return table->buckets != NULL ? 0 : -ENOMEM;
}

void message_table_close(struct message_table *table)
{
    free(table->buckets);
    free(table->old);
    *table = (struct message_table){0};
}

static struct spool_message *message_at(const struct message_table *table, uint32_t link)
{
    return (struct spool_message *)near_at(table->span, link);
}

static void move_some(struct message_table *table, uint64_t limit)
{
    for (; limit > 0 && table->old_moved < table->old_count; limit--) {
        struct spool_message *message = message_at(table, table->old[table->old_moved]);
        table->old[table->old_moved++] = 0;
        while (message != NULL) {
            struct spool_message *next = message_next(message);
            uint64_t bucket = bucket_of(message->message.id, table->bucket_count);
            message->message.next = table->buckets[bucket];
            table->buckets[bucket] = near_link(message);
            message = next;
        }
    }
    if (table->old != NULL && table->old_moved == table->old_count) {
        free(table->old);
        table->old = NULL;
        table->old_count = table->old_moved = 0;
    }
}

/* When memory is short the chains just become longer. */
static void grow(struct message_table *table)
{
    uint64_t count = table->bucket_count * 2;
    uint32_t *buckets = (uint32_t *)calloc(count, sizeof(table->buckets[0]));
    if (buckets != NULL) {
        table->old = table->buckets;
        table->old_count = table->bucket_count;
        table->old_moved = 0;
        table->buckets = buckets;
        table->bucket_count = count;
    }
}

/* The link that leads to the message, or the 0 at the end of its chain. */
static uint32_t *link_of(const struct message_table *table, uint64_t id)
{
    uint32_t *buckets = table->buckets;
    uint64_t bucket = bucket_of(id, table->bucket_count);
    if (table->old != NULL && bucket_of(id, table->old_count) >= table->old_moved) {
        buckets = table->old;
        bucket = bucket_of(id, table->old_count);
    }
    uint32_t *link = &buckets[bucket];
    for (struct spool_message *message;
         (message = message_at(table, *link)) != NULL && message->message.id != id;) {
        link = &message->message.next;
    }
    return link;
}

struct spool_message *message_table_find(const struct message_table *table, uint64_t id)
{
    return message_at(table, *link_of(table, id));
}

void message_table_add(struct message_table *table, struct spool_message *message)
{
    if (table->old != NULL) {
        move_some(table, MOVED_BUCKETS);
    } else if (table->count >= table->bucket_count) {
        grow(table);
    }
    uint32_t *link = link_of(table, message->message.id);
    check(*link == 0);
    message->message.next = 0;
    *link = near_link(message);
    table->count++;
}

void message_table_remove(struct message_table *table, struct spool_message *message)
{
    uint32_t *link = link_of(table, message->message.id);
    check(*link == near_link(message));
    *link = message->message.next;
    message->message.next = 0;
    table->count--;
}

static void bucket_visit(struct spool_message *message,
                         void (*visit)(void *owner, struct spool_message *message), void *owner)
{
    while (message != NULL) {
        struct spool_message *next = message_next(message);
        visit(owner, message);
        message = next;
    }
}

void message_table_each(struct message_table *table,
                        void (*visit)(void *owner, struct spool_message *message), void *owner)
{
    move_some(table, UINT64_MAX);
    for (uint64_t bucket = 0; bucket < table->bucket_count; bucket++) {
        bucket_visit(message_at(table, table->buckets[bucket]), visit, owner);
    }
}

static uint64_t bits_reversed(uint64_t bits)
{
    bits = (bits & 0x5555555555555555ull) << 1 | (bits >> 1 & 0x5555555555555555ull);
    bits = (bits & 0x3333333333333333ull) << 2 | (bits >> 2 & 0x3333333333333333ull);
    bits = (bits & 0x0f0f0f0f0f0f0f0full) << 4 | (bits >> 4 & 0x0f0f0f0f0f0f0f0full);
    return __builtin_bswap64(bits);
}

/* Counts from the highest bit of a bucket's index down: when the table has grown, the two buckets
 * into which one was split come one after the other, and both lie behind the cursor or both before it. */
static uint64_t cursor_after(uint64_t cursor, uint64_t bucket_count, uint64_t buckets)
{
    uint64_t one = bits_reversed(bucket_count >> 1);
    return bits_reversed(bits_reversed(cursor | ~(bucket_count - 1)) + 1 + (buckets - 1) * one);
}

/* The walk jumps about in memory, where nothing is in the caches: what it comes to is asked for ahead of it, first a
 * bucket, then the message in it. */
static void walk_ahead(const struct message_table *table, uint64_t cursor)
{
    uint64_t mask = table->bucket_count - 1;
    uint64_t far = cursor_after(cursor, table->bucket_count, AHEAD_BUCKETS);
    uint64_t near = cursor_after(cursor, table->bucket_count, AHEAD_MESSAGES);
    const struct spool_message *message = message_at(table, table->buckets[near & mask]);
    __builtin_prefetch(&table->buckets[far & mask]);
    if (message != NULL) {
        __builtin_prefetch(message);
        __builtin_prefetch(message->recipients);
    }
}

uint64_t message_table_walk(const struct message_table *table, uint64_t cursor,
                            void (*visit)(void *owner, struct spool_message *message), void *owner)
{
    uint64_t count = table->bucket_count, fewer = count;
    walk_ahead(table, cursor);
    if (table->old != NULL) {
        fewer = table->old_count;
        bucket_visit(message_at(table, table->old[cursor & (fewer - 1)]), visit, owner);
    }
    do {
        bucket_visit(message_at(table, table->buckets[cursor & (count - 1)]), visit, owner);
        cursor = cursor_after(cursor, count, 1);
    } while ((cursor & (count - 1) & ~(fewer - 1)) != 0);
    return cursor;
}
