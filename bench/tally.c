#include "bench/tally.h"
#include <stdlib.h>
#include <string.h>

void tally_open(struct tally *tally, uint64_t run, uint32_t recipient_count)
{
    *tally = (struct tally){.run = run, .recipient_count = recipient_count};
}

void tally_close(struct tally *tally)
{
    free(tally->bits);
    tally->bits = NULL;
    tally->word_count = 0;
}

static bool tally_grow(struct tally *tally, uint64_t words)
{
    uint64_t wanted = tally->word_count > 0 ? tally->word_count : 1024;
    while (wanted < words) {
        wanted *= 2;
    }
    uint64_t *bits = realloc(tally->bits, wanted * sizeof(*bits));
    if (bits == NULL) {
        return false;
    }
    memset(bits + tally->word_count, 0, (wanted - tally->word_count) * sizeof(*bits));
    tally->bits = bits;
    tally->word_count = wanted;
    return true;
}

enum tally_answer tally_mark(struct tally *tally, uint64_t sequence, uint32_t recipient)
{
    if (recipient >= tally->recipient_count ||
        sequence >= TALLY_DELIVERIES_MAX / tally->recipient_count) {
        return TALLY_REFUSED;
    }
    uint64_t delivery = sequence * tally->recipient_count + recipient;
    uint64_t word = delivery / 64;
    if (word >= tally->word_count && !tally_grow(tally, word + 1)) {
        return TALLY_REFUSED;
    }
    uint64_t bit = 1ull << delivery % 64;
    if (tally->bits[word] & bit) {
        tally->repeated_count++;
        return TALLY_REPEATED;
    }
    tally->bits[word] |= bit;
    tally->seen_count++;
    if (delivery >= tally->end) {
        tally->end = delivery + 1;
    }
    return TALLY_FIRST;
}

uint64_t tally_missing(const struct tally *tally)
{
    if (tally->recipient_count == 0) {
        return 0;
    }
    uint64_t letters = (tally->end + tally->recipient_count - 1) / tally->recipient_count;
    return letters * tally->recipient_count - tally->seen_count;
}
