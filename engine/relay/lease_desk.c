#include "engine/relay/lease_desk.h"
#include "engine/core/check.h"
#include "engine/shard/shard.h"
#include "queue/sched/lease.h"
#include <errno.h>
#include <stdlib.h>

#define DESK_BUCKETS_FIRST 64u
#define DESK_TURNS_MAX 8              /* of asking and answering oneself, in a round */
#define DESK_RETRY_NS (100 * 1000000) /* memory was short */

/* What is found by an id. */
struct desk_entry {
    struct lease_id id;
    struct desk_entry *next; /* in its bucket */
};

struct desk_table {
    struct desk_entry **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
};

/* A word or an answer under way. */
struct desk_letter {
    struct shard_message message;
    struct list_node node; /* in outgoing, or unread */
    struct lease_desk *to;
    unsigned from;
    struct lease_id id;
    uint32_t incarnation; /* of the part that it comes from, or is for */
    bool answers;
    bool with_limits;
    struct sched_limits limits;
    struct lease_word word;
    struct lease_answer answer;
};

/* A group of this shard. */
struct desk_part {
    struct desk_entry entry;
    struct sched_group *group;
    void *owner;
    uint32_t incarnation; /* an answer for one that has left is not for the next of the same id */
    bool with_limits;     /* they go with the next word */
    struct sched_limits limits;
    struct list_node speaks; /* in the desk's list, because of the limits */
    struct desk_letter *farewell;
};

/* The book of a group, here or elsewhere. */
struct desk_book {
    struct desk_entry entry;
    struct lease_desk *desk;
    struct lease_book *book;
    struct list_node dirty;
    struct timer timer;
    uint32_t incarnations[]; /* of the part on each shard */
};

struct lease_desk {
    struct lease_desk_settings settings;
    struct shard *shard;
    struct siphash_key secret;
    struct sched *sched;
    struct desk_table parts, books;
    struct list_node speaks;   /* parts with limits to tell */
    struct list_node dirty;    /* books with answers to give */
    struct list_node outgoing; /* letters */
    struct list_node unread;   /* letters for which memory was short */
    struct timer tidy, retry;
    bool starved; /* memory was short, in this round */
    uint32_t incarnation;
};

/* ---- Tables ---- */

static struct desk_entry **bucket_of(const struct lease_desk *desk, const struct desk_table *table,
                                     const struct lease_id *id)
{
    return &table->buckets[siphash(&desk->secret, id->words, 2) & (table->bucket_count - 1)];
}

static struct desk_entry *entry_find(const struct lease_desk *desk, const struct desk_table *table,
                                     const struct lease_id *id)
{
    struct desk_entry *entry = *bucket_of(desk, table, id);
    while (entry != NULL &&
           (entry->id.words[0] != id->words[0] || entry->id.words[1] != id->words[1])) {
        entry = entry->next;
    }
    return entry;
}

static void entry_link(const struct lease_desk *desk, struct desk_table *table,
                       struct desk_entry *entry)
{
    struct desk_entry **bucket = bucket_of(desk, table, &entry->id);
    entry->next = *bucket;
    *bucket = entry;
}

/* Without memory the chains grow longer, that is all. */
static void table_grow(const struct lease_desk *desk, struct desk_table *table)
{
    struct desk_table grown = {.bucket_count = 2 * table->bucket_count, .count = table->count};
    grown.buckets = calloc(grown.bucket_count, sizeof(struct desk_entry *));
    if (grown.buckets == NULL) {
        return;
    }
    for (uint32_t i = 0; i < table->bucket_count; i++) {
        for (struct desk_entry *entry = table->buckets[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            entry_link(desk, &grown, entry);
        }
    }
    free(table->buckets);
    *table = grown;
}

static void entry_enter(const struct lease_desk *desk, struct desk_table *table,
                        struct desk_entry *entry)
{
    if (table->count >= table->bucket_count) {
        table_grow(desk, table);
    }
    entry_link(desk, table, entry);
    table->count++;
}

static void entry_leave(const struct lease_desk *desk, struct desk_table *table,
                        const struct desk_entry *entry)
{
    struct desk_entry **at = bucket_of(desk, table, &entry->id);
    while (*at != entry) {
        at = &(*at)->next;
    }
    *at = entry->next;
    table->count--;
}

static int table_open(struct desk_table *table)
{
    table->bucket_count = DESK_BUCKETS_FIRST;
    table->buckets = calloc(table->bucket_count, sizeof(struct desk_entry *));
    return table->buckets == NULL ? -ENOMEM : 0;
}

/* ---- Letters ---- */

static void letter_read(struct desk_letter *letter);

static void letter_arrived(struct shard_message *message, struct shard *shard)
{
    (void)shard;
    letter_read(list_entry(message, struct desk_letter, message));
}

static void letter_dropped(struct shard_message *message)
{
    free(list_entry(message, struct desk_letter, message));
}

static struct desk_letter *letter_new(void)
{
    struct desk_letter *letter = calloc(1, sizeof(*letter));
    if (letter != NULL) {
        letter->message = (struct shard_message){letter_arrived, letter_dropped};
        list_init(&letter->node);
    }
    return letter;
}

/* In order, to each shard. */
static void letter_send(struct lease_desk *desk, unsigned to, struct desk_letter *letter)
{
    letter->from = desk->settings.index;
    letter->to = desk->settings.all[to];
    if (letter->to == desk) {
        letter_read(letter);
    } else {
        list_append(&desk->outgoing, &letter->node);
    }
}

/* One that finds no room holds back those behind it. */
static void outgoing_flush(struct lease_desk *desk)
{
    while (!list_empty(&desk->outgoing)) {
        struct desk_letter *letter = list_entry(desk->outgoing.next, struct desk_letter, node);
        list_remove(&letter->node);
        if (shard_send(desk->shard, letter->to->shard, &letter->message) < 0) {
            list_prepend(&desk->outgoing, &letter->node);
            return;
        }
    }
}

static void retry_later(struct lease_desk *desk)
{
    desk->starved = true;
    if (!timer_armed(&desk->retry)) {
        wheel_arm(desk->shard->wheel, &desk->retry, desk->shard->now_ns + DESK_RETRY_NS);
    }
}

/* ---- Books ---- */

static void book_dirty(struct desk_book *book)
{
    if (list_empty(&book->dirty)) {
        list_append(&book->desk->dirty, &book->dirty);
    }
}

static void book_due(struct timer *timer, uint64_t now_ns)
{
    struct desk_book *book = list_entry(timer, struct desk_book, timer);
    lease_book_round(book->book, now_ns);
    book_dirty(book);
}

static struct desk_book *book_open(struct lease_desk *desk, const struct lease_id *id,
                                   const struct sched_limits *limits)
{
    unsigned count = desk->settings.count;
    struct desk_book *book = calloc(1, sizeof(*book) + count * sizeof(book->incarnations[0]));
    if (book == NULL) {
        return NULL;
    }
    book->book = lease_book_open(count, limits);
    if (book->book == NULL) {
        free(book);
        return NULL;
    }
    book->entry.id = *id;
    book->desk = desk;
    list_init(&book->dirty);
    timer_init(&book->timer, book_due);
    entry_enter(desk, &desk->books, &book->entry);
    return book;
}

static void book_free(struct desk_book *book)
{
    wheel_disarm(book->desk->shard->wheel, &book->timer);
    lease_book_close(book->book);
    free(book);
}

static void book_close(struct desk_book *book)
{
    entry_leave(book->desk, &book->desk->books, &book->entry);
    list_remove(&book->dirty);
    book_free(book);
}

/* False: memory is short. */
static bool word_read(struct lease_desk *desk, const struct desk_letter *letter)
{
    struct desk_entry *entry = entry_find(desk, &desk->books, &letter->id);
    struct desk_book *book = entry != NULL ? list_entry(entry, struct desk_book, entry)
                                           : book_open(desk, &letter->id, &letter->limits);
    if (book == NULL) {
        return false;
    }
    uint64_t now_ns = desk->shard->now_ns;
    book->incarnations[letter->from] = letter->incarnation;
    if (letter->with_limits) {
        lease_book_set(book->book, &letter->limits, now_ns);
    }
    lease_book_told(book->book, letter->from, &letter->word, now_ns);
    book_dirty(book);
    return true;
}

static void answer_read(struct lease_desk *desk, const struct desk_letter *letter)
{
    struct desk_entry *entry = entry_find(desk, &desk->parts, &letter->id);
    struct desk_part *part = entry == NULL ? NULL : list_entry(entry, struct desk_part, entry);
    if (part != NULL && part->incarnation == letter->incarnation) {
        sched_group_answer(part->group, &letter->answer, desk->shard->now_ns);
    }
}

static void letter_read(struct desk_letter *letter)
{
    struct lease_desk *desk = letter->to;
    if (letter->answers) {
        answer_read(desk, letter);
    } else if (!list_empty(&desk->unread) || !word_read(desk, letter)) {
        list_append(&desk->unread, &letter->node); /* they keep their order */
        retry_later(desk);
        return;
    }
    free(letter);
}

static void unread_read(struct lease_desk *desk)
{
    while (!list_empty(&desk->unread)) {
        struct desk_letter *letter = list_entry(desk->unread.next, struct desk_letter, node);
        if (!word_read(desk, letter)) {
            retry_later(desk);
            return;
        }
        list_remove(&letter->node);
        free(letter);
    }
}

/* False: memory is short, there is more to answer. */
static bool book_answers(struct desk_book *book)
{
    struct lease_desk *desk = book->desk;
    struct desk_letter *letter = NULL;
    for (unsigned i = 0; i < desk->settings.count; i++) {
        letter = letter != NULL ? letter : letter_new();
        if (letter == NULL) {
            return false;
        }
        if (lease_book_answer(book->book, i, &letter->answer)) {
            letter->answers = true;
            letter->id = book->entry.id;
            letter->incarnation = book->incarnations[i];
            letter_send(desk, i, letter);
            letter = NULL;
        }
    }
    free(letter);
    return true;
}

static void books_answer(struct lease_desk *desk)
{
    while (!list_empty(&desk->dirty)) {
        struct desk_book *book = list_entry(desk->dirty.next, struct desk_book, dirty);
        if (!book_answers(book)) {
            retry_later(desk);
            return;
        }
        list_remove(&book->dirty);
        if (lease_book_unused(book->book)) {
            book_close(book);
            continue;
        }
        uint64_t due_ns = lease_book_due(book->book), now_ns = desk->shard->now_ns;
        if (due_ns == SCHED_NEVER) {
            wheel_disarm(desk->shard->wheel, &book->timer);
        } else {
            wheel_arm(desk->shard->wheel, &book->timer,
                      due_ns > now_ns ? due_ns : now_ns + WHEEL_TICK_NS);
        }
    }
}

/* ---- Groups of this shard ---- */

static unsigned owner_of(const struct lease_desk *desk, const struct lease_id *id)
{
    const struct siphash_key *secret = lease_desk_secret(desk);
    return (unsigned)(siphash(secret, id->words, 2) % desk->settings.count);
}

/* With the limits, if they are new to the owner. */
static void word_send(struct lease_desk *desk, struct desk_part *part, struct desk_letter *letter)
{
    letter->id = part->entry.id;
    letter->incarnation = part->incarnation;
    letter->limits = part->limits;
    letter->with_limits = part->with_limits;
    part->with_limits = false;
    list_remove(&part->speaks);
    letter_send(desk, owner_of(desk, &letter->id), letter);
}

/* NULL: nobody has anything to say. */
static struct desk_part *speaker(const struct lease_desk *desk)
{
    struct sched_group *group = desk->sched == NULL ? NULL : sched_lease_speaker(desk->sched);
    if (group != NULL) {
        return sched_group_lease_owner(group);
    }
    return list_empty(&desk->speaks) ? NULL
                                     : list_entry(desk->speaks.next, struct desk_part, speaks);
}

static void parts_speak(struct lease_desk *desk)
{
    struct desk_part *part;
    while ((part = speaker(desk)) != NULL) {
        struct desk_letter *letter = letter_new();
        if (letter == NULL) {
            retry_later(desk);
            return;
        }
        sched_group_word(part->group, &letter->word);
        word_send(desk, part, letter);
    }
}

void *lease_desk_find(const struct lease_desk *desk, const struct lease_id *id)
{
    struct desk_entry *entry = entry_find(desk, &desk->parts, id);
    return entry == NULL ? NULL : list_entry(entry, struct desk_part, entry)->owner;
}

int lease_desk_join(struct lease_desk *desk, const struct lease_id *id, struct sched_group *group,
                    const struct sched_limits *limits, void *owner)
{
    struct desk_part *part = calloc(1, sizeof(*part));
    struct desk_letter *farewell = letter_new();
    if (part == NULL || farewell == NULL ||
        sched_group_lease(group, desk->settings.count, part) < 0) {
        free(part);
        free(farewell);
        return -ENOMEM;
    }
    *part = (struct desk_part){.entry = {.id = *id},
                               .group = group,
                               .owner = owner,
                               .incarnation = ++desk->incarnation,
                               .limits = *limits,
                               .farewell = farewell};
    list_init(&part->speaks);
    entry_enter(desk, &desk->parts, &part->entry);
    return 0;
}

void lease_desk_set(struct lease_desk *desk, struct sched_group *group,
                    const struct sched_limits *limits)
{
    struct desk_part *part = sched_group_lease_owner(group);
    part->limits = *limits;
    part->with_limits = true;
    list_remove(&part->speaks);
    list_append(&desk->speaks, &part->speaks);
}

void lease_desk_leave(struct lease_desk *desk, struct sched_group *group)
{
    struct desk_part *part = sched_group_lease_owner(group);
    sched_group_word(group, &part->farewell->word);
    part->farewell->word.leaves = true;
    entry_leave(desk, &desk->parts, &part->entry);
    word_send(desk, part, part->farewell);
    free(part);
}

/* ---- Life ---- */

/* The round that follows does it. */
static void desk_tidy(struct timer *timer, uint64_t now_ns)
{
    (void)timer;
    (void)now_ns;
}

static void desk_retry(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    unread_read(list_entry(timer, struct lease_desk, retry));
}

int lease_desk_open(const struct lease_desk_settings *settings)
{
    struct lease_desk *desk = calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return -ENOMEM;
    }
    desk->settings = *settings;
    desk->shard = settings->shard;
    world_random(desk->shard->world, &desk->secret, sizeof(desk->secret));
    list_init(&desk->speaks);
    list_init(&desk->dirty);
    list_init(&desk->outgoing);
    list_init(&desk->unread);
    timer_init(&desk->tidy, desk_tidy);
    timer_init(&desk->retry, desk_retry);
    if (table_open(&desk->parts) < 0 || table_open(&desk->books) < 0) {
        free(desk->parts.buckets);
        free(desk);
        return -ENOMEM;
    }
    settings->all[settings->index] = desk;
    return 0;
}

static void letters_free(struct list_node *letters)
{
    for (struct list_node *node; (node = list_pop(letters)) != NULL;) {
        free(list_entry(node, struct desk_letter, node));
    }
}

void lease_desk_close(struct lease_desk *desk)
{
    check(desk->parts.count == 0);
    wheel_disarm(desk->shard->wheel, &desk->tidy);
    wheel_disarm(desk->shard->wheel, &desk->retry);
    letters_free(&desk->outgoing);
    letters_free(&desk->unread);
    for (uint32_t i = 0; i < desk->books.bucket_count; i++) {
        for (struct desk_entry *entry = desk->books.buckets[i], *next; entry != NULL;
             entry = next) {
            next = entry->next;
            book_free(list_entry(entry, struct desk_book, entry));
        }
    }
    free(desk->parts.buckets);
    free(desk->books.buckets);
    free(desk);
}

const struct siphash_key *lease_desk_secret(const struct lease_desk *desk)
{
    return &desk->settings.all[0]->secret;
}

void lease_desk_attach(struct lease_desk *desk, struct sched *sched)
{
    desk->sched = sched;
}

static bool has_more(const struct lease_desk *desk)
{
    return speaker(desk) != NULL || !list_empty(&desk->dirty);
}

void lease_desk_round(struct lease_desk *desk)
{
    uint64_t due_ns =
        desk->sched == NULL ? SCHED_NEVER : sched_leases_tidy(desk->sched, desk->shard->now_ns);
    if (due_ns != SCHED_NEVER && !timer_armed(&desk->tidy)) {
        wheel_arm(desk->shard->wheel, &desk->tidy, due_ns);
    }
    /* What is asked of oneself is answered at once, and the answer may raise a question. */
    desk->starved = false;
    for (unsigned i = 0; i < DESK_TURNS_MAX && has_more(desk) && !desk->starved; i++) {
        parts_speak(desk);
        books_answer(desk);
    }
    outgoing_flush(desk);
}

bool lease_desk_busy(const struct lease_desk *desk)
{
    return !list_empty(&desk->outgoing) || (has_more(desk) && !desk->starved);
}
