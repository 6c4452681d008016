#include "engine/resolve/answer.h"

static void answer_release(struct ref *ref)
{
    free(list_entry(ref, struct answer, ref));
}

static uint64_t clamp(uint64_t value, uint64_t floor, uint64_t cap)
{
    value = value < floor ? floor : value;
    return value < cap ? value : cap;
}

static uint64_t life_ns(const struct resolve_answer *answer, const struct answer_lives *lives)
{
    uint64_t ttl_ns = answer->ttl_s * 1000000000ull;
    switch ((enum resolve_answer_status)answer->status) {
    case RESOLVE_ANSWER_RECORDS:
        return clamp(ttl_ns, lives->ttl_min_ns, lives->ttl_max_ns);
    case RESOLVE_ANSWER_NO_DATA:
    case RESOLVE_ANSWER_NO_DOMAIN:
        return clamp(ttl_ns, lives->ttl_min_ns, lives->negative_ttl_max_ns);
    case RESOLVE_ANSWER_FAILED:
    case RESOLVE_ANSWER_BOGUS:
        break;
    }
    return lives->failure_ns;
}

/* Copies and returns what follows the copy. */
static uint8_t *lay(uint8_t *at, const void *bytes, size_t size)
{
    if (size > 0) {
        memcpy(at, bytes, size);
    }
    return at + size;
}

struct answer *answer_new(const struct resolve_answer *from, const struct answer_lives *lives,
                          uint64_t now_ns)
{
    uint32_t count =
        from->record_count < ANSWER_RECORDS_MAX ? from->record_count : ANSWER_RECORDS_MAX;
    size_t canonical_bytes = from->canonical != NULL ? strlen(from->canonical) + 1 : 0;
    size_t bytes = sizeof(struct answer) + count * sizeof(struct slice) + canonical_bytes;
    for (uint32_t i = 0; i < count; i++) {
        bytes += from->records[i].size;
    }
    struct answer *answer = malloc(bytes);
    if (answer == NULL) {
        return NULL;
    }
    ref_init(&answer->ref, answer_release);
    answer->is = *from;
    answer->is.reason = NULL;
    answer->is.records = answer->records;
    answer->is.record_count = count;
    answer->bytes = bytes;
    answer->expires_ns = now_ns + life_ns(from, lives);
    uint8_t *at = (uint8_t *)(answer->records + count);
    for (uint32_t i = 0; i < count; i++) {
        answer->records[i] = slice_of(at, from->records[i].size);
        at = lay(at, from->records[i].bytes, from->records[i].size);
    }
    if (canonical_bytes > 0) {
        answer->is.canonical = (const char *)at;
        lay(at, from->canonical, canonical_bytes);
    }
    return answer;
}
