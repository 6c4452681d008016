#include "engine/resolve/policy_record.h"

#include "engine/core/crc32c.h"
#include <errno.h>

#define HEAD_BYTES 8u /* length of what follows, checksum of it */

static uint8_t *put_number(uint8_t *at, uint64_t number, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *at++ = (uint8_t)(number >> 8 * i);
    }
    return at;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t size = strlen(text);
    *at++ = (uint8_t)size;
    memcpy(at, text, size);
    return at + size;
}

size_t policy_record_write(const struct policy_record *record,
                           uint8_t bytes[POLICY_RECORD_BYTES_MAX])
{
    const struct dns_mta_sts_policy *policy = &record->policy;
    uint8_t *at = bytes + HEAD_BYTES;
    at = put_number(at, (uint64_t)record->fetched_s, 8);
    at = put_number(at, policy->max_age_s, 4);
    at = put_number(at, policy->mode, 1);
    at = put_number(at, policy->pattern_count, 1);
    at = put_text(at, record->domain);
    at = put_text(at, record->id);
    for (uint32_t i = 0; i < policy->pattern_count; i++) {
        at = put_text(at, policy->patterns[i]);
    }
    size_t size = (size_t)(at - bytes);
    put_number(bytes, size - HEAD_BYTES, 4);
    put_number(bytes + 4, crc32c(0, bytes + HEAD_BYTES, size - HEAD_BYTES), 4);
    return size;
}

/* Takes a number off the front; what is missing is zero, and `failed` is set. */
static uint64_t take_number(struct slice *bytes, unsigned count, bool *failed)
{
    uint64_t number = 0;
    if (bytes->size < count) {
        *failed = true;
        return 0;
    }
    for (unsigned i = 0; i < count; i++) {
        number |= (uint64_t)bytes->bytes[i] << 8 * i;
    }
    *bytes = slice_from(*bytes, count);
    return number;
}

static void take_text(struct slice *bytes, char *text, size_t text_max, bool *failed)
{
    size_t size = take_number(bytes, 1, failed);
    text[0] = '\0';
    if (*failed || size > text_max || size > bytes->size ||
        memchr(bytes->bytes, '\0', size) != NULL) {
        *failed = true;
        return;
    }
    memcpy(text, bytes->bytes, size);
    text[size] = '\0';
    *bytes = slice_from(*bytes, size);
}

int policy_record_read(struct slice *bytes, struct policy_record *record)
{
    bool failed = false;
    struct slice rest = *bytes;
    size_t size = take_number(&rest, 4, &failed);
    uint32_t sum = (uint32_t)take_number(&rest, 4, &failed);
    if (failed || size > rest.size || crc32c(0, rest.bytes, size) != sum) {
        return -EINVAL;
    }
    *bytes = slice_from(rest, size);
    rest = slice_first(rest, size);
    record->fetched_s = (int64_t)take_number(&rest, 8, &failed);
    record->policy.max_age_s = (uint32_t)take_number(&rest, 4, &failed);
    record->policy.mode = (uint8_t)take_number(&rest, 1, &failed);
    record->policy.pattern_count = (uint32_t)take_number(&rest, 1, &failed);
    failed |= record->policy.mode > DNS_MTA_STS_ENFORCE ||
              record->policy.max_age_s > DNS_MTA_STS_AGE_MAX_S ||
              record->policy.pattern_count > DNS_MTA_STS_PATTERNS_MAX;
    take_text(&rest, record->domain, DNS_NAME_MAX, &failed);
    take_text(&rest, record->id, DNS_MTA_STS_ID_MAX, &failed);
    for (uint32_t i = 0; !failed && i < record->policy.pattern_count; i++) {
        take_text(&rest, record->policy.patterns[i], DNS_NAME_MAX, &failed);
    }
    return failed || rest.size > 0 || record->domain[0] == '\0' || record->id[0] == '\0' ? -EINVAL
                                                                                         : 0;
}
