#include "engine/relay/destination_json.h"

#include <stdio.h>

static json_t *addresses_json(const struct destination_host *host)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < host->address_count; i++) {
        char text[ENDPOINT_TEXT_MAX];
        endpoint_format(&host->addresses[i], text);
        json_array_append_new(list, json_string(text));
    }
    return list;
}

/* As a zone file says it; of a whole certificate the beginning. */
static json_t *tlsa_json(const struct destination_host *host)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < host->tlsa_count; i++) {
        const struct dns_tlsa *tlsa = &host->tlsa_records[i];
        char text[200];
        int size = snprintf(text, sizeof(text), "%u %u %u ", tlsa->usage, tlsa->selector,
                            tlsa->matching_type);
        for (size_t j = 0; j < tlsa->data.size && j < 64; j++) {
            size += snprintf(text + size, sizeof(text) - (size_t)size, "%02x", tlsa->data.bytes[j]);
        }
        snprintf(text + size, sizeof(text) - (size_t)size, "%s", tlsa->data.size > 64 ? "..." : "");
        json_array_append_new(list, json_string(text));
    }
    return list;
}

static json_t *host_json(const struct destination_host *host)
{
    static const char *const tlsa[] = {[DESTINATION_TLSA_NONE] = "none",
                                       [DESTINATION_TLSA_USABLE] = "usable",
                                       [DESTINATION_TLSA_UNUSABLE] = "unusable",
                                       [DESTINATION_TLSA_FAILED] = "failed"};
    json_t *object = json_pack("{s:s, s:i, s:o}", "name", host->name, "preference",
                               (int)host->preference, "addresses", addresses_json(host));
    if (object == NULL) {
        return NULL;
    }
    if (host->lookup_failed) {
        json_object_set_new(object, "lookup_failed", json_true());
    }
    json_object_set_new(object, "secure", json_boolean(host->secure));
    json_object_set_new(object, "tlsa", json_string(tlsa[host->tlsa]));
    if (host->tlsa != DESTINATION_TLSA_NONE) {
        json_object_set_new(object, "tlsa_base", json_string(host->tlsa_base));
    }
    if (host->tlsa_count > 0) {
        json_object_set_new(object, "tlsa_records", tlsa_json(host));
    }
    if (host->excluded) {
        json_object_set_new(object, "excluded", json_true());
    }
    return object;
}

static json_t *mta_sts_json(const struct destination_mta_sts *mta_sts)
{
    static const char *const modes[] = {[DNS_MTA_STS_NONE] = "none",
                                        [DNS_MTA_STS_TESTING] = "testing",
                                        [DNS_MTA_STS_ENFORCE] = "enforce"};
    static const char *const failures[] = {
        [DESTINATION_MTA_STS_NO_FAILURE] = NULL,
        [DESTINATION_MTA_STS_FETCH_ERROR] = "sts-policy-fetch-error",
        [DESTINATION_MTA_STS_INVALID] = "sts-policy-invalid",
        [DESTINATION_MTA_STS_WEBPKI_INVALID] = "sts-webpki-invalid"};
    json_t *object = json_pack("{s:s}", "mode", modes[mta_sts->mode]);
    if (mta_sts->id[0] != '\0') {
        json_t *patterns = json_array();
        for (uint32_t i = 0; i < mta_sts->pattern_count; i++) {
            json_array_append_new(patterns, json_string(mta_sts->patterns[i]));
        }
        json_object_set_new(object, "id", json_string(mta_sts->id));
        json_object_set_new(object, "mx", patterns);
        json_object_set_new(object, "max_age_s", json_integer(mta_sts->max_age_s));
    }
    if (failures[mta_sts->failure] != NULL) {
        json_object_set_new(object, "failure", json_string(failures[mta_sts->failure]));
    }
    return object;
}

json_t *destination_json(const struct destination *destination, uint64_t now_ns)
{
    uint64_t left_ns = destination->expires_ns > now_ns ? destination->expires_ns - now_ns : 0;
    json_t *object = json_pack("{s:s, s:s, s:I}", "domain", destination->domain, "status",
                               destination_status_name(destination->status), "expires_s",
                               (json_int_t)(left_ns / 1000000000u));
    if (object == NULL) {
        return NULL;
    }
    if (destination->status != DESTINATION_OK) {
        char enhanced[24];
        snprintf(enhanced, sizeof(enhanced), "%u.%u.%u", destination->enhanced_class,
                 destination->enhanced_subject, destination->enhanced_detail);
        json_object_set_new(object, "code", json_integer(destination->reply_code));
        json_object_set_new(object, "enhanced", json_string(enhanced));
        json_object_set_new(object, "text", json_string(destination->text));
        return object;
    }
    char site[20];
    json_t *hosts = json_array();
    for (uint32_t i = 0; i < destination->host_count; i++) {
        json_array_append_new(hosts, host_json(&destination->hosts[i]));
    }
    snprintf(site, sizeof(site), "%016llx", (unsigned long long)destination->site_key);
    json_object_set_new(object, "site", json_string(site));
    json_object_set_new(object, "implicit_mx", json_boolean(destination->implicit_mx));
    json_object_set_new(object, "mx_secure", json_boolean(destination->mx_secure));
    json_object_set_new(object, "hosts", hosts);
    json_object_set_new(object, "mta_sts", mta_sts_json(&destination->mta_sts));
    return object;
}
