/*
 * MTA-STS: the bytes as a TXT record, as a policy file, and as a record that was kept on the disk.
 *
 * Checked: an id is letters and digits; a policy that is accepted has patterns that are names, unless its mode is none,
 * and every pattern matches what it stands for; a kept record is written again as it was read.
 */
#include "engine/core/check.h"
#include "engine/core/crc32c.h"
#include "engine/resolve/policy_record.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void pattern_check(const char *pattern)
{
    char name[DNS_NAME_BYTES], host[DNS_NAME_BYTES + 8];
    bool wildcard = strncmp(pattern, "*.", 2) == 0;
    const char *domain = pattern + (wildcard ? 2 : 0);
    int length = dns_name_from_text(slice_text(domain), name);
    check(length > 0 && strcmp(name, domain) == 0);
    snprintf(host, sizeof(host), "%s%s", wildcard ? "mx." : "", domain);
    check(dns_mta_sts_pattern_matches(pattern, host));
    snprintf(host, sizeof(host), "a.b.%s", domain);
    check(!dns_mta_sts_pattern_matches(pattern, host));
}

/* With the right length and checksum, which no fuzzer would find. */
static void record_try(const uint8_t *bytes, size_t size)
{
    uint8_t file[8 + 4096], again[POLICY_RECORD_BYTES_MAX];
    struct policy_record record;
    size = size < 4096 ? size : 4096;
    uint32_t length = (uint32_t)size, sum = crc32c(0, bytes, size);
    memcpy(file, &length, 4);
    memcpy(file + 4, &sum, 4);
    memcpy(file + 8, bytes, size);
    struct slice rest = slice_of(file, 8 + size);
    if (policy_record_read(&rest, &record) == 0) {
        check(rest.size == 0);
        check(policy_record_write(&record, again) == 8 + size &&
              memcmp(again, file, 8 + size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct dns_mta_sts_policy policy;
    char id[DNS_MTA_STS_ID_MAX + 1];
    if (size > 0) {
        record_try(bytes, size);
    }
    if (dns_mta_sts_read_record(slice_of(bytes, size), id) == 0) {
        check(dns_mta_sts_is_record(slice_of(bytes, size)));
        check(id[0] != '\0' && strlen(id) <= DNS_MTA_STS_ID_MAX);
        check(strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") ==
              strlen(id));
    }
    if (dns_mta_sts_read_policy(slice_of(bytes, size), &policy) == 0) {
        check(policy.mode <= DNS_MTA_STS_ENFORCE && policy.max_age_s <= DNS_MTA_STS_AGE_MAX_S);
        check(policy.mode == DNS_MTA_STS_NONE || policy.pattern_count > 0);
        check(policy.pattern_count <= DNS_MTA_STS_PATTERNS_MAX);
        for (uint32_t i = 0; i < policy.pattern_count; i++) {
            pattern_check(policy.patterns[i]);
        }
    }
    return 0;
}
