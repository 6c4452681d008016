#include "queue/sched/lease.h"

#include "engine/core/check.h"

#include <stdlib.h>

#define MOVES_MAX 64 /* slots called back at a time; those that come back make room for more */

/* Tokens of one rate, of one shard. */
struct token_share {
    uint32_t lacking;
    uint32_t sent;  /* in all */
    uint64_t since; /* whose turn it is: who was served the longest ago */
};

struct lease_share {
    bool present;
    uint32_t granted; /* slots that it has, or has under way */
    uint32_t lacking;
    uint32_t sent;       /* in all */
    uint64_t since;      /* as with tokens */
    uint32_t hard, soft; /* it may keep */
    bool prompt;
    uint32_t hard_told, soft_told;
    bool prompt_told;
    uint32_t kept; /* while it is reckoned: it would have so many */
    struct token_share tokens[LEASE_RATES];
    struct lease_answer answer; /* what is granted and not yet told */
};

struct lease_book {
    uint32_t slots_max; /* 0: no limit */
    struct rate rates[LEASE_RATES];
    struct rate_bucket buckets[LEASE_RATES];
    uint64_t turns;
    unsigned shard_count;
    struct lease_share shares[];
};

static uint32_t less(uint32_t from, uint32_t what)
{
    return from > what ? from - what : 0;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void rates_set(struct lease_book *book, const struct sched_limits *limits)
{
    const struct rate *rates[LEASE_RATES] = {&limits->connections, &limits->messages};
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        struct rate *rate = &book->rates[i];
        if (rate->count != rates[i]->count || rate->period_ns != rates[i]->period_ns) {
            book->buckets[i] = (struct rate_bucket){0};
        }
        *rate = *rates[i];
    }
}

static void keep_all(struct lease_share *share)
{
    share->hard = share->soft = LEASE_KEEP_ALL;
    share->prompt = false;
}

static void share_reset(struct lease_share *share)
{
    *share = (struct lease_share){.hard_told = LEASE_KEEP_ALL, .soft_told = LEASE_KEEP_ALL};
    keep_all(share);
}

struct lease_book *lease_book_open(unsigned shard_count, const struct sched_limits *limits)
{
    struct lease_book *book = calloc(1, sizeof(*book) + shard_count * sizeof(book->shares[0]));
    if (book == NULL) {
        return NULL;
    }
    book->shard_count = shard_count;
    book->slots_max = limits->connection_count_max;
    rates_set(book, limits);
    for (unsigned i = 0; i < shard_count; i++) {
        share_reset(&book->shares[i]);
    }
    return book;
}

void lease_book_close(struct lease_book *book)
{
    free(book);
}

/* ---- Slots ---- */

static uint64_t slots_most(const struct lease_book *book)
{
    return book->slots_max == 0 ? UINT32_MAX : book->slots_max;
}

static uint64_t slots_granted(const struct lease_book *book)
{
    uint64_t granted = 0;
    for (unsigned i = 0; i < book->shard_count; i++) {
        granted += book->shares[i].granted;
    }
    return granted;
}

static uint64_t slots_lacking(const struct lease_book *book)
{
    uint64_t lacking = 0;
    for (unsigned i = 0; i < book->shard_count; i++) {
        lacking += book->shares[i].lacking;
    }
    return lacking;
}

static void slots_grant_to(struct lease_book *book, struct lease_share *share, uint32_t count)
{
    share->granted += count;
    share->lacking -= count;
    share->sent += count;
    share->answer.slots_granted += count;
    share->since = ++book->turns;
}

/* What is free goes to whoever has least, one by one; among equals, to whoever was served the longest ago. */
static void slots_grant(struct lease_book *book)
{
    uint64_t most = slots_most(book), granted = slots_granted(book);
    while (granted < most) {
        struct lease_share *next = NULL;
        unsigned count = 0;
        for (unsigned i = 0; i < book->shard_count; i++) {
            struct lease_share *share = &book->shares[i];
            if (share->lacking == 0) {
                continue;
            }
            count++;
            if (next == NULL || share->granted < next->granted ||
                (share->granted == next->granted && share->since < next->since)) {
                next = share;
            }
        }
        if (next == NULL) {
            return;
        }
        uint64_t free_count = most - granted;
        uint32_t slice = free_count < next->lacking ? (uint32_t)free_count : next->lacking;
        slice = count > 1 ? 1 : slice;
        slots_grant_to(book, next, slice);
        granted += slice;
    }
}

static struct lease_share *richest(struct lease_book *book)
{
    struct lease_share *found = &book->shares[0];
    for (unsigned i = 1; i < book->shard_count; i++) {
        if (book->shares[i].kept > found->kept) {
            found = &book->shares[i];
        }
    }
    return found;
}

/* Of those who lack some; NULL: nobody does. */
static struct lease_share *poorest(struct lease_book *book)
{
    struct lease_share *found = NULL;
    for (unsigned i = 0; i < book->shard_count; i++) {
        struct lease_share *share = &book->shares[i];
        bool lacks = share->kept < (uint64_t)share->granted + share->lacking;
        if (share->lacking > 0 && lacks && (found == NULL || share->kept < found->kept)) {
            found = share;
        }
    }
    return found;
}

/* There are fewer slots than shards that want one: some have none. Those who have had theirs the longest give it up. */
static void slots_rotate(struct lease_book *book)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < book->shard_count; i++) {
        waiting += book->shares[i].lacking > 0 && book->shares[i].kept == 0;
    }
    for (; waiting > 0; waiting--) {
        struct lease_share *oldest = NULL;
        for (unsigned i = 0; i < book->shard_count; i++) {
            struct lease_share *share = &book->shares[i];
            if (share->kept == 1 && share->granted == 1 && share->hard == LEASE_KEEP_ALL &&
                (oldest == NULL || share->since < oldest->since)) {
                oldest = share;
            }
        }
        if (oldest == NULL) {
            return;
        }
        oldest->hard = 0;
    }
}

/* What each may keep, so that those who lack some get their part, or the limit holds that was lowered. */
static void slots_recall(struct lease_book *book)
{
    uint64_t granted = slots_granted(book), lacking = slots_lacking(book);
    for (unsigned i = 0; i < book->shard_count; i++) {
        struct lease_share *share = &book->shares[i];
        keep_all(share);
        share->kept = share->granted;
        if (lacking > 0 && share->lacking == 0) {
            share->soft = lacking < share->granted ? share->granted - (uint32_t)lacking : 0;
        }
    }
    for (unsigned moves = 0; moves < MOVES_MAX; moves++) {
        struct lease_share *rich = richest(book), *poor = poorest(book);
        if (granted > slots_most(book)) {
            granted--;
        } else if (poor != NULL && rich->kept > poor->kept + 1) {
            poor->kept++;
        } else {
            break;
        }
        rich->kept--;
    }
    for (unsigned i = 0; i < book->shard_count; i++) {
        struct lease_share *share = &book->shares[i];
        if (share->kept < share->granted) {
            share->hard = share->kept;
            share->prompt = true;
        }
    }
    slots_rotate(book);
}

static void slots_deal(struct lease_book *book)
{
    slots_grant(book);
    slots_recall(book);
}

/* ---- Tokens ---- */

static struct lease_share *token_next(struct lease_book *book, enum lease_rate which,
                                      uint32_t *count)
{
    struct lease_share *next = NULL;
    *count = 0;
    for (unsigned i = 0; i < book->shard_count; i++) {
        struct lease_share *share = &book->shares[i];
        if (share->tokens[which].lacking > 0) {
            ++*count;
            if (next == NULL || share->tokens[which].since < next->tokens[which].since) {
                next = share;
            }
        }
    }
    return next;
}

static void tokens_deal(struct lease_book *book, enum lease_rate which, uint64_t now_ns)
{
    const struct rate *rate = &book->rates[which];
    struct rate_bucket *bucket = &book->buckets[which];
    struct lease_share *share;
    uint32_t count;
    while ((share = token_next(book, which, &count)) != NULL) {
        struct token_share *tokens = &share->tokens[which];
        uint32_t available = rate_available(rate, bucket, now_ns, UINT32_MAX);
        uint32_t part = available / count + (available % count > 0);
        part = least(part, tokens->lacking);
        if (part == 0) {
            return;
        }
        rate_take(rate, bucket, now_ns, part);
        tokens->lacking -= part;
        tokens->sent += part;
        tokens->since = ++book->turns;
        share->answer.tokens_granted[which] += part;
    }
}

void lease_book_round(struct lease_book *book, uint64_t now_ns)
{
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        tokens_deal(book, i, now_ns);
    }
}

uint64_t lease_book_due(const struct lease_book *book)
{
    uint64_t due_ns = SCHED_NEVER;
    for (unsigned i = 0; i < book->shard_count; i++) {
        for (unsigned which = 0; which < LEASE_RATES; which++) {
            if (book->shares[i].tokens[which].lacking > 0) {
                uint64_t at_ns = rate_due(&book->rates[which], &book->buckets[which]);
                due_ns = at_ns < due_ns ? at_ns : due_ns;
            }
        }
    }
    return due_ns;
}

/* ---- Words ---- */

static void deal(struct lease_book *book, uint64_t now_ns)
{
    slots_deal(book);
    lease_book_round(book, now_ns);
}

void lease_book_set(struct lease_book *book, const struct sched_limits *limits, uint64_t now_ns)
{
    book->slots_max = limits->connection_count_max;
    rates_set(book, limits);
    deal(book, now_ns);
}

/* Who did not lack anything comes behind those who do. */
static void lack(struct lease_book *book, uint32_t *lacking, uint64_t *since, uint32_t now)
{
    if (*lacking == 0 && now > 0) {
        *since = ++book->turns;
    }
    *lacking = now;
}

static void share_told(struct lease_book *book, struct lease_share *share,
                       const struct lease_word *word)
{
    check(word->slots_given <= share->granted);
    share->present = true;
    share->granted -= word->slots_given;
    lack(book, &share->lacking, &share->since,
         less(word->slots_lacking, share->sent - word->slots_seen));
    for (unsigned i = 0; i < LEASE_RATES; i++) {
        struct token_share *tokens = &share->tokens[i];
        for (uint32_t given = word->tokens[i].given; given > 0; given--) {
            rate_give(&book->rates[i], &book->buckets[i]);
        }
        lack(book, &tokens->lacking, &tokens->since,
             less(word->tokens[i].lacking, tokens->sent - word->tokens[i].seen));
    }
}

/* Of what nobody has; who lacks some comes first. */
static void wish_grant(struct lease_book *book, struct lease_share *share, uint32_t wished)
{
    uint64_t most = slots_most(book), granted = slots_granted(book);
    uint64_t left = granted < most ? most - granted : 0;
    uint32_t count = wished < left ? wished : (uint32_t)left;
    share->granted += count;
    share->sent += count;
    share->answer.slots_granted += count;
}

void lease_book_told(struct lease_book *book, unsigned shard, const struct lease_word *word,
                     uint64_t now_ns)
{
    struct lease_share *share = &book->shares[shard];
    check(shard < book->shard_count);
    share_told(book, share, word);
    if (word->leaves) {
        share_reset(share);
    }
    deal(book, now_ns);
    wish_grant(book, share, word->leaves ? 0 : word->slots_wished);
}

/* A word that takes nothing more away can wait for the next answer. */
static bool is_news(uint32_t now, uint32_t told, uint32_t granted)
{
    return now != told && (now < granted || told < granted);
}

bool lease_book_answer(struct lease_book *book, unsigned shard, struct lease_answer *answer)
{
    struct lease_share *share = &book->shares[shard];
    const struct lease_answer *grants = &share->answer;
    bool any = grants->slots_granted > 0 || grants->tokens_granted[LEASE_CONNECTIONS] > 0 ||
               grants->tokens_granted[LEASE_MESSAGES] > 0 ||
               is_news(share->hard, share->hard_told, share->granted) ||
               is_news(share->soft, share->soft_told, share->granted) ||
               (share->prompt && !share->prompt_told && share->hard < share->granted);
    if (!any) {
        return false;
    }
    *answer = *grants;
    answer->slots_hard = share->hard_told = share->hard;
    answer->slots_soft = share->soft_told = share->soft;
    answer->prompt = share->prompt_told = share->prompt;
    share->answer = (struct lease_answer){0};
    return true;
}

bool lease_book_unused(const struct lease_book *book)
{
    for (unsigned i = 0; i < book->shard_count; i++) {
        if (book->shares[i].present) {
            return false;
        }
    }
    return true;
}
