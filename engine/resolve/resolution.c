#include "engine/resolve/resolve_private.h"

#include <errno.h>
#include <stdio.h>

/* ---- What is asked ---- */

void resolution_begin(struct resolution *resolution)
{
    struct resolve *resolve = resolution->resolve;
    char name[DNS_NAME_BYTES];
    if (resolution->options.host_only) {
        return;
    }
    asking_need(resolve, resolution, &resolution->mx, resolution->domain, DNS_TYPE_MX);
    if (resolution->options.tls_policy && resolve->settings.mta_sts &&
        dns_name_with_prefix("_mta-sts", resolution->domain, name) > 0) {
        asking_need(resolve, resolution, &resolution->txt, name, DNS_TYPE_TXT);
    }
}

static void ask_addresses(struct resolution *resolution)
{
    static const enum dns_type types[] = {
        [RESOLUTION_IPV4] = DNS_TYPE_A, [RESOLUTION_IPV6] = DNS_TYPE_AAAA};
    for (uint32_t i = 0; i < resolution->host_count; i++) {
        struct resolution_host *host = &resolution->hosts[i];
        for (unsigned family = 0; family < RESOLUTION_FAMILIES; family++) {
            if (resolution->options.family !=
                (family == RESOLUTION_IPV4 ? RESOLVE_IPV6_ONLY : RESOLVE_IPV4_ONLY)) {
                asking_need(resolution->resolve, resolution, &host->addresses[family], host->name,
                            types[family]);
            }
        }
    }
}

static void ask_tlsa_of(struct resolution *resolution, struct need *need, const char *host)
{
    char prefix[32], name[DNS_NAME_BYTES];
    snprintf(prefix, sizeof(prefix), "_%u._tcp", resolution->options.port);
    if (dns_name_with_prefix(prefix, host, name) > 0) { /* else there can be no such records */
        asking_need(resolution->resolve, resolution, need, name, DNS_TYPE_TLSA);
    }
}

/* Where addresses are not validated TLSA records are not asked for: they would prove nothing, and servers that
 * choke on the type are all in such zones (RFC 7672 §2.1.2). But the first link of the CNAMEs may be validated, and
 * then records at the name itself count (§2.2.2). */
static void ask_tlsa(struct resolution *resolution)
{
    for (uint32_t i = 0; i < resolution->host_count; i++) {
        struct resolution_host *host = &resolution->hosts[i];
        const char *canonical = resolution_host_canonical(host);
        if (!resolution->mx_secure || !resolution_host_has_address(host)) {
            continue;
        }
        host->secure = resolution_host_validated(host);
        if (host->secure) {
            ask_tlsa_of(resolution, &host->tlsa, canonical);
        } else if (strcmp(canonical, host->name) != 0) {
            asking_need(resolution->resolve, resolution, &host->alias, host->name, DNS_TYPE_CNAME);
        }
    }
}

static bool records_validated(const struct answer *answer)
{
    return answer->is.status == RESOLVE_ANSWER_RECORDS && answer->is.secure;
}

static void ask_tlsa_initial(struct resolution *resolution)
{
    for (uint32_t i = 0; i < resolution->host_count; i++) {
        struct resolution_host *host = &resolution->hosts[i];
        const struct answer *tlsa = host->tlsa.answer, *alias = host->alias.answer;
        bool none_at_end = tlsa != NULL && !answer_failed(tlsa) && !records_validated(tlsa) &&
                           strcmp(resolution_host_canonical(host), host->name) != 0;
        if (none_at_end || (alias != NULL && records_validated(alias))) {
            ask_tlsa_of(resolution, &host->tlsa_initial, host->name);
        }
    }
}

/* ---- MTA-STS ---- */

/* The id that the domain announces; "" when it announces none: §3.1 wants exactly one record of the version. */
static void read_policy_id(const struct answer *txt, char id[DNS_MTA_STS_ID_MAX + 1])
{
    unsigned found = 0;
    id[0] = '\0';
    for (uint32_t i = 0; txt != NULL && i < txt->is.record_count; i++) {
        char text[1024];
        int length = dns_txt_read(txt->is.records[i], text, sizeof(text));
        struct slice record = slice_of(text, length < 0 ? 0 : (size_t)length);
        if (dns_mta_sts_is_record(record) && ++found == 1) {
            (void)dns_mta_sts_read_record(record, id);
        }
    }
    if (found != 1) {
        id[0] = '\0';
    }
}

static void ask_policy(struct resolution *resolution)
{
    struct resolve *resolve = resolution->resolve;
    char id[DNS_MTA_STS_ID_MAX + 1];
    if (resolution->txt.answer == NULL) {
        return;
    }
    read_policy_id(resolution->txt.answer, id);
    switch (policies_judge(&resolve->policies, resolution->domain, id,
                           world_wall_s(resolve->settings.world))) {
    case POLICIES_READY:
        break;
    case POLICIES_FETCH:
        fetching_need(resolve, resolution, resolution->domain, id);
        break;
    case POLICIES_REFRESH:
        fetching_need(resolve, NULL, resolution->domain, id);
        break;
    }
}

/* ---- The hosts ---- */

static int hosts_new(struct resolution *resolution, uint32_t count)
{
    resolution->hosts = calloc(count, sizeof(*resolution->hosts));
    resolution->host_count = resolution->host_made = resolution->hosts != NULL ? count : 0;
    return resolution->hosts != NULL ? 0 : -ENOMEM;
}

/* The domain is its own and only host. */
static enum destination_status take_domain_as_host(struct resolution *resolution)
{
    if (hosts_new(resolution, 1) < 0) {
        return DESTINATION_TEMPORARY;
    }
    memcpy(resolution->hosts[0].name, resolution->domain, sizeof(resolution->domain));
    return DESTINATION_OK;
}

/* MX records that exist but name no host leave none: they never make the domain its own host. */
static enum destination_status take_exchangers(struct resolution *resolution,
                                               const struct answer *answer)
{
    struct dns_exchangers exchangers;
    dns_exchangers_open(&exchangers);
    for (uint32_t i = 0; i < answer->is.record_count; i++) {
        dns_exchangers_add(&exchangers, answer->is.records[i]);
    }
    resolve_count(&resolution->resolve->counters.malformed, exchangers.refused_count);
    if (dns_exchangers_null(&exchangers)) {
        return DESTINATION_NULL_MX;
    }
    dns_exchangers_sort(&exchangers);
    if (exchangers.count == 0) {
        return DESTINATION_NO_ADDRESS;
    }
    if (hosts_new(resolution, exchangers.count) < 0) {
        return DESTINATION_TEMPORARY;
    }
    for (uint32_t i = 0; i < exchangers.count; i++) {
        struct resolution_host *host = &resolution->hosts[i];
        memcpy(host->name, exchangers.mx[i].exchange, sizeof(host->name));
        host->preference = exchangers.mx[i].preference;
    }
    return DESTINATION_OK;
}

/* RFC 5321 §5.1: only a domain that certainly has no MX records is its own host. */
static enum destination_status take_mx_answer(struct resolution *resolution)
{
    const struct answer *mx = resolution->mx.answer;
    if (mx == NULL) { /* host_only */
        resolution->mx_secure = true;
        return take_domain_as_host(resolution);
    }
    resolution->mx_secure = mx->is.secure;
    switch ((enum resolve_answer_status)mx->is.status) {
    case RESOLVE_ANSWER_RECORDS:
        return take_exchangers(resolution, mx);
    case RESOLVE_ANSWER_NO_DATA:
        resolution->implicit_mx = true;
        return take_domain_as_host(resolution);
    case RESOLVE_ANSWER_NO_DOMAIN:
        return DESTINATION_NO_DOMAIN;
    case RESOLVE_ANSWER_BOGUS:
        return DESTINATION_BOGUS;
    case RESOLVE_ANSWER_FAILED:
        break;
    }
    return DESTINATION_TEMPORARY;
}

/* ---- The steps ---- */

static void step_exchangers(struct resolution *resolution)
{
    resolution->status = (uint8_t)take_mx_answer(resolution);
    if (resolution->status != DESTINATION_OK) {
        resolution->step = RESOLUTION_DONE;
        return;
    }
    resolution->step = RESOLUTION_ADDRESSES;
    resolution->asked = resolution->mx.answer == NULL || resolution->implicit_mx ? "A" : "MX";
    ask_policy(resolution);
    ask_addresses(resolution);
}

static void step_addresses(struct resolution *resolution)
{
    resolution_cut_loop(resolution);
    if (resolution->status != DESTINATION_OK || !resolution->options.tls_policy) {
        resolution->step = RESOLUTION_DONE;
        return;
    }
    resolution->step = RESOLUTION_TLSA;
    ask_tlsa(resolution);
}

static void step_tlsa(struct resolution *resolution)
{
    resolution->step = RESOLUTION_TLSA_INITIAL;
    ask_tlsa_initial(resolution);
}

struct destination *resolution_advance(struct resolution *resolution)
{
    while (resolution->missing == 0) {
        switch ((enum resolution_step)resolution->step) {
        case RESOLUTION_EXCHANGERS:
            step_exchangers(resolution);
            break;
        case RESOLUTION_ADDRESSES:
            step_addresses(resolution);
            break;
        case RESOLUTION_TLSA:
            step_tlsa(resolution);
            break;
        case RESOLUTION_TLSA_INITIAL:
            resolution->step = RESOLUTION_DONE;
            break;
        case RESOLUTION_DONE:
            return resolution_end(resolution);
        }
    }
    return NULL;
}

/* What it has asked for, and what came of it. */
static void needs_drop(struct resolution *resolution)
{
    need_drop(&resolution->mx);
    need_drop(&resolution->txt);
    for (uint32_t i = 0; i < resolution->host_made; i++) {
        struct resolution_host *host = &resolution->hosts[i];
        need_drop(&host->addresses[RESOLUTION_IPV4]);
        need_drop(&host->addresses[RESOLUTION_IPV6]);
        need_drop(&host->alias);
        need_drop(&host->tlsa);
        need_drop(&host->tlsa_initial);
    }
    free(resolution->hosts);
    list_remove(&resolution->fetch);
    list_remove(&resolution->ready);
}

void resolution_rewind(struct resolution *resolution)
{
    needs_drop(resolution);
    resolution->step = RESOLUTION_EXCHANGERS;
    resolution->missing = 0;
    resolution->mx = resolution->txt = (struct need){.resolution = NULL};
    resolution->status = DESTINATION_OK;
    resolution->implicit_mx = resolution->mx_secure = false;
    resolution->asked = "MX";
    resolution->host_count = resolution->host_made = 0;
    resolution->hosts = NULL;
}

void resolution_free(struct resolution *resolution)
{
    needs_drop(resolution);
    list_remove(&resolution->running);
    table_remove(&resolution->resolve->running, &resolution->node);
    free(resolution);
}
