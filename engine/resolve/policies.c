#include "engine/resolve/policies.h"

#include <errno.h>
#include <stdio.h>

/* A domain of which something is known: a policy, a failure, or both. */
struct policy {
    struct table_node node;
    struct list_node used;
    size_t bytes;
    struct destination_mta_sts is; /* its patterns lie behind `domain`; id "": no policy */
    int64_t fetched_s;
    char failed_id[DNS_MTA_STS_ID_MAX + 1];
    int64_t retry_s; /* not before, for failed_id */
    char domain[DNS_NAME_BYTES];
    const char *patterns[]; /* then their texts */
};

int policies_open(struct policies *policies, const struct siphash_key *secret, size_t bytes_max)
{
    *policies = (struct policies){.bytes_max = bytes_max};
    list_init(&policies->used);
    return table_open(&policies->table, secret, bytes_max / (2 * sizeof(struct policy)));
}

static void policy_drop(struct policies *policies, struct policy *policy)
{
    table_remove(&policies->table, &policy->node);
    list_remove(&policy->used);
    policies->bytes -= policy->bytes;
    free(policy);
}

void policies_close(struct policies *policies)
{
    while (!list_empty(&policies->used)) {
        policy_drop(policies, list_entry(policies->used.next, struct policy, used));
    }
    table_close(&policies->table);
}

static struct policy *policy_find(const struct policies *policies, const char *domain)
{
    const struct table_key key = {.name = domain};
    struct table_node *node = table_find(&policies->table, &key);
    return node != NULL ? list_entry(node, struct policy, node) : NULL;
}

static bool policy_holds(const struct policy *policy, int64_t wall_s)
{
    return policy->is.id[0] != '\0' && wall_s < policy->is.valid_until_s;
}

enum policies_wish policies_judge(struct policies *policies, const char *domain, const char *id,
                                  int64_t wall_s)
{
    struct policy *policy = policy_find(policies, domain);
    if (policy == NULL) {
        return id[0] != '\0' ? POLICIES_FETCH : POLICIES_READY;
    }
    list_remove(&policy->used);
    list_append(&policies->used, &policy->used);
    if (id[0] == '\0' || (strcmp(id, policy->failed_id) == 0 && wall_s < policy->retry_s)) {
        return POLICIES_READY;
    }
    if (!policy_holds(policy, wall_s) || strcmp(id, policy->is.id) != 0) {
        return POLICIES_FETCH;
    }
    return wall_s - policy->fetched_s >= POLICIES_REFRESH_S ? POLICIES_REFRESH : POLICIES_READY;
}

static size_t patterns_bytes(const struct dns_mta_sts_policy *policy)
{
    size_t bytes = policy->pattern_count * sizeof(const char *);
    for (uint32_t i = 0; i < policy->pattern_count; i++) {
        bytes += strlen(policy->patterns[i]) + 1;
    }
    return bytes;
}

static struct policy *policy_add(struct policies *policies, const char *domain, size_t more_bytes)
{
    struct policy *policy = calloc(1, sizeof(*policy) + more_bytes);
    if (policy == NULL) {
        return NULL;
    }
    policy->bytes = sizeof(*policy) + more_bytes;
    while (policies->bytes + policy->bytes > policies->bytes_max && !list_empty(&policies->used)) {
        policy_drop(policies, list_entry(policies->used.next, struct policy, used));
        policies->evicted++;
    }
    snprintf(policy->domain, sizeof(policy->domain), "%s", domain);
    policies->bytes += policy->bytes;
    list_append(&policies->used, &policy->used);
    const struct table_key key = {.name = policy->domain};
    table_add(&policies->table, &policy->node, &key);
    return policy;
}

int policies_store(struct policies *policies, const char *domain, const char *id,
                   const struct dns_mta_sts_policy *from, int64_t fetched_s)
{
    struct policy *old = policy_find(policies, domain);
    if (old != NULL) {
        policy_drop(policies, old);
    }
    struct policy *policy = policy_add(policies, domain, patterns_bytes(from));
    if (policy == NULL) {
        return -ENOMEM;
    }
    char *text = (char *)(policy->patterns + from->pattern_count);
    for (uint32_t i = 0; i < from->pattern_count; i++) {
        size_t bytes = strlen(from->patterns[i]) + 1;
        policy->patterns[i] = memcpy(text, from->patterns[i], bytes);
        text += bytes;
    }
    policy->fetched_s = fetched_s;
    policy->is = (struct destination_mta_sts){.mode = from->mode,
                                              .max_age_s = from->max_age_s,
                                              .valid_until_s = fetched_s + from->max_age_s,
                                              .pattern_count = from->pattern_count,
                                              .patterns = policy->patterns};
    snprintf(policy->is.id, sizeof(policy->is.id), "%s", id);
    return 0;
}

void policies_fail(struct policies *policies, const char *domain, const char *id,
                   enum destination_mta_sts_failure failure, int64_t wall_s)
{
    struct policy *policy = policy_find(policies, domain);
    if (policy == NULL && (policy = policy_add(policies, domain, 0)) == NULL) {
        return; /* it will be asked again sooner, nothing worse */
    }
    snprintf(policy->failed_id, sizeof(policy->failed_id), "%s", id);
    policy->retry_s = wall_s + POLICIES_RETRY_S;
    policy->is.failure = (uint8_t)failure;
}

void policies_describe(struct policies *policies, const char *domain, int64_t wall_s,
                       struct destination_mta_sts *description)
{
    const struct policy *policy = policy_find(policies, domain);
    *description = (struct destination_mta_sts){.mode = DNS_MTA_STS_NONE};
    if (policy == NULL) {
        return;
    }
    if (policy_holds(policy, wall_s)) {
        *description = policy->is;
    } else {
        description->failure = policy->is.failure;
    }
}
