#include "proto/dns/mta_sts.h"

#include <errno.h>

#define FIELD_NAME_MAX 32u

static bool is_alphanumeric(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (slice_lower(byte) >= 'a' && slice_lower(byte) <= 'z');
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && is_blank(text.bytes[0])) {
        text = slice_from(text, 1);
    }
    while (text.size > 0 && is_blank(text.bytes[text.size - 1])) {
        text.size--;
    }
    return text;
}

/* Splits "name<mark>value"; the name must be one that a field can have. 0 or -EINVAL. */
static int field_split(struct slice field, char mark, struct slice *name, struct slice *value)
{
    const uint8_t *at = field.size > 0 ? memchr(field.bytes, mark, field.size) : NULL;
    if (at == NULL || at == field.bytes || at - field.bytes > FIELD_NAME_MAX) {
        return -EINVAL;
    }
    *name = slice_first(field, (size_t)(at - field.bytes));
    *value = slice_from(field, name->size + 1);
    for (size_t i = 0; i < name->size; i++) {
        uint8_t byte = name->bytes[i];
        bool inner = i > 0 && (byte == '_' || byte == '-' || byte == '.');
        if (!is_alphanumeric(byte) && !inner) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- The TXT record ---- */

bool dns_mta_sts_is_record(struct slice text)
{
    return slice_equal(slice_first(text, 8), slice_text("v=STSv1;"));
}

static bool extension_value_valid(struct slice value)
{
    for (size_t i = 0; i < value.size; i++) {
        if (value.bytes[i] <= ' ' || value.bytes[i] >= 0x7f || value.bytes[i] == '=') {
            return false;
        }
    }
    return value.size > 0;
}

static int id_read(struct slice value, char id[DNS_MTA_STS_ID_MAX + 1])
{
    if (value.size == 0 || value.size > DNS_MTA_STS_ID_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < value.size; i++) {
        if (!is_alphanumeric(value.bytes[i])) {
            return -EINVAL;
        }
        id[i] = (char)value.bytes[i];
    }
    id[value.size] = '\0';
    return 0;
}

int dns_mta_sts_read_record(struct slice text, char id[DNS_MTA_STS_ID_MAX + 1])
{
    id[0] = '\0';
    if (!dns_mta_sts_is_record(text)) {
        return -EINVAL;
    }
    text = slice_from(text, 8);
    while (text.size > 0) {
        struct slice name, value;
        const uint8_t *end = memchr(text.bytes, ';', text.size);
        size_t size = end != NULL ? (size_t)(end - text.bytes) : text.size;
        struct slice field = trim(slice_first(text, size));
        text = slice_from(text, size + 1);
        if (field.size == 0 && trim(text).size == 0) {
            break; /* the last delimiter may stand alone */
        }
        if (field_split(field, '=', &name, &value) < 0 || !extension_value_valid(value)) {
            return -EINVAL;
        }
        if (id[0] == '\0' && slice_equal(name, slice_text("id")) && id_read(value, id) < 0) {
            return -EINVAL;
        }
    }
    return id[0] != '\0' ? 0 : -EINVAL;
}

/* ---- The policy ---- */

enum policy_field { POLICY_VERSION = 1, POLICY_MODE = 2, POLICY_MAX_AGE = 4 };

static int mode_read(struct slice value, uint8_t *mode)
{
    static const char *const names[] = {[DNS_MTA_STS_NONE] = "none",
                                        [DNS_MTA_STS_TESTING] = "testing",
                                        [DNS_MTA_STS_ENFORCE] = "enforce"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal(value, slice_text(names[i]))) {
            *mode = (uint8_t)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int max_age_read(struct slice value, uint32_t *max_age_s)
{
    uint64_t seconds = 0;
    if (value.size == 0 || value.size > 10) {
        return -EINVAL;
    }
    for (size_t i = 0; i < value.size; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9') {
            return -EINVAL;
        }
        seconds = seconds * 10 + (value.bytes[i] - '0');
    }
    *max_age_s = seconds < DNS_MTA_STS_AGE_MAX_S ? (uint32_t)seconds : DNS_MTA_STS_AGE_MAX_S;
    return 0;
}

static int pattern_read(struct slice value, struct dns_mta_sts_policy *policy)
{
    char name[DNS_NAME_BYTES];
    bool wildcard = slice_equal(slice_first(value, 2), slice_text("*."));
    int length = dns_name_from_text(slice_from(value, wildcard ? 2 : 0), name);
    if (length <= 0 || length + 2 > DNS_NAME_MAX ||
        policy->pattern_count == DNS_MTA_STS_PATTERNS_MAX) {
        return -EINVAL;
    }
    char *pattern = policy->patterns[policy->pattern_count++];
    memcpy(pattern, "*.", 2);
    memcpy(pattern + (wildcard ? 2 : 0), name, (size_t)length + 1);
    return 0;
}

/* A field that is there again is skipped, all but mx (§3.2). */
static int policy_field_read(struct slice name, struct slice value, unsigned *seen,
                             struct dns_mta_sts_policy *policy)
{
    if (slice_equal(name, slice_text("mx"))) {
        return pattern_read(value, policy);
    }
    if (slice_equal(name, slice_text("version")) && !(*seen & POLICY_VERSION)) {
        *seen |= POLICY_VERSION;
        return slice_equal(value, slice_text("STSv1")) ? 0 : -EINVAL;
    }
    if (slice_equal(name, slice_text("mode")) && !(*seen & POLICY_MODE)) {
        *seen |= POLICY_MODE;
        return mode_read(value, &policy->mode);
    }
    if (slice_equal(name, slice_text("max_age")) && !(*seen & POLICY_MAX_AGE)) {
        *seen |= POLICY_MAX_AGE;
        return max_age_read(value, &policy->max_age_s);
    }
    return 0;
}

int dns_mta_sts_read_policy(struct slice text, struct dns_mta_sts_policy *policy)
{
    unsigned seen = 0;
    policy->mode = DNS_MTA_STS_NONE;
    policy->max_age_s = 0;
    policy->pattern_count = 0;
    if (text.size > DNS_MTA_STS_POLICY_BYTES_MAX) {
        return -EINVAL;
    }
    while (text.size > 0) {
        struct slice name, value;
        const uint8_t *end = memchr(text.bytes, '\n', text.size);
        size_t size = end != NULL ? (size_t)(end - text.bytes) : text.size;
        struct slice line = slice_first(text, size);
        text = slice_from(text, size + 1);
        if (end != NULL && line.size > 0 && line.bytes[line.size - 1] == '\r') {
            line.size--;
        }
        if (trim(line).size == 0) {
            continue; /* the grammar has none, files that people write do */
        }
        if (field_split(line, ':', &name, &value) < 0 ||
            policy_field_read(name, trim(value), &seen, policy) < 0) {
            return -EINVAL;
        }
    }
    bool whole = seen == (POLICY_VERSION | POLICY_MODE | POLICY_MAX_AGE) &&
                 (policy->mode == DNS_MTA_STS_NONE || policy->pattern_count > 0);
    return whole ? 0 : -EINVAL;
}

bool dns_mta_sts_pattern_matches(const char *pattern, const char *host)
{
    if (strncmp(pattern, "*.", 2) != 0) {
        return strcmp(pattern, host) == 0;
    }
    const char *dot = strchr(host, '.');
    return dot != NULL && dot != host && strcmp(pattern + 2, dot + 1) == 0;
}
