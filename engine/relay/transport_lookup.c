#include "engine/relay/transport_lookup.h"
#include "engine/relay/address_parts.h"
#include "engine/conf/idna.h"
#include <stdio.h>

/* The keys of an address, in their order. */
enum form { FORM_ADDRESS, FORM_WITHOUT_TAG, FORM_DOMAIN, FORM_PARENT, FORM_ANY, FORM_NONE };

#define SPELLINGS 2u

/* The domain less its first labels, with the dot before; empty: it has not so many. */
static struct slice parent_of(struct slice domain, unsigned labels)
{
    for (size_t i = 1; i + 1 < domain.size; i++) {
        if (domain.bytes[i] == '.' && --labels == 0) {
            return slice_from(domain, i);
        }
    }
    return slice_of(domain.bytes, 0);
}

static struct slice domain_of(const struct transport_job *job)
{
    return slice_of(job->address + job->domain_at, job->address_bytes - job->domain_at);
}

static bool is_literal(struct slice domain)
{
    return domain.size > 0 && domain.bytes[0] == '[';
}

/* The key whose turn it is. False: the address has no such key. */
static bool key_make(const struct transport_job *job, char key[MAP_KEY_MAX], struct slice *made)
{
    char other[IDNA_TEXT_MAX + 1];
    struct slice domain = domain_of(job);
    int local_bytes = job->domain_at - 1;
    if (job->spelling > 0 && (job->form == FORM_ANY || !idna_other_form(domain, other, &domain))) {
        return false;
    }
    if (job->of_owners && job->form > FORM_DOMAIN) {
        return false;
    }
    switch ((enum form)job->form) {
    case FORM_WITHOUT_TAG:
        if (job->user_bytes == local_bytes) {
            return false; /* as the form before it */
        }
        local_bytes = job->user_bytes;
        break;
    case FORM_ADDRESS:
        break;
    case FORM_DOMAIN:
        local_bytes = job->of_owners ? 0 : -1; /* 0: "@domain" */
        break;
    case FORM_PARENT:
        local_bytes = -1;
        domain = is_literal(domain) ? slice_of("", 0) : parent_of(domain, job->parent);
        break;
    case FORM_ANY:
        local_bytes = -1;
        domain = slice_text("*");
        break;
    case FORM_NONE:
        return false;
    }
    int size = local_bytes < 0 ? snprintf(key, MAP_KEY_MAX, "%.*s", (int)domain.size,
                                          (const char *)domain.bytes)
                               : snprintf(key, MAP_KEY_MAX, "%.*s@%.*s", local_bytes, job->address,
                                          (int)domain.size, (const char *)domain.bytes);
    *made = slice_of(key, (size_t)size);
    return size > 0 && (size_t)size < MAP_KEY_MAX;
}

static void key_next(struct transport_job *job)
{
    job->map_at = 0;
    if (++job->spelling < SPELLINGS) {
        return;
    }
    job->spelling = 0;
    if (job->form == FORM_PARENT && parent_of(domain_of(job), job->parent + 1u).size > 0) {
        job->parent++;
        return;
    }
    job->form++;
    job->parent = 1;
}

static bool map_wants(const struct transport_job *job, const struct map *map)
{
    if (!map_of_patterns(map)) {
        return true;
    }
    return map_of_networks(map)
               ? job->form == FORM_DOMAIN && is_literal(domain_of(job)) && !job->of_owners
               : job->form == FORM_ADDRESS && job->spelling == 0;
}

/* True: that was the answer. The value is given. */
static bool answered(struct transport_job *job, struct lookup_value *value)
{
    job->answer = value->answer;
    if (value->answer == MAP_ABSENT) {
        lookup_value_drop(value);
        job->map_at++;
        return false;
    }
    job->value = value;
    return true;
}

static void told(struct lookup_query *query, struct lookup_value *value);

static int run(struct transport_job *job)
{
    for (; job->form < FORM_NONE; key_next(job)) {
        char key[MAP_KEY_MAX];
        struct slice made;
        if (!key_make(job, key, &made)) {
            continue;
        }
        while (job->map_at < job->maps->count) {
            struct map *map = job->maps->maps[job->map_at];
            struct lookup_value *value;
            if (!map_wants(job, map)) {
                job->map_at++;
                continue;
            }
            job->query.told = told;
            int status = lookup_find(job->lookup, map, made, &job->query, &value);
            if (status == -EINPROGRESS) {
                job->waiting = true;
                return status;
            }
            if (status < 0) {
                job->answer = MAP_FAILED;
                job->busy = true;
                return 0;
            }
            if (answered(job, value)) {
                return 0;
            }
        }
    }
    return 0;
}

static void told(struct lookup_query *query, struct lookup_value *value)
{
    struct transport_job *job = list_entry(query, struct transport_job, query);
    job->waiting = false;
    if (answered(job, value) || run(job) == 0) {
        job->done(job); /* which may free it */
    }
}

int transport_lookup(struct transport_job *job, struct lookup *lookup,
                     const struct rewrite_maps *maps, const struct rewrite_rules *rules,
                     struct slice address)
{
    struct address_parts parts = address_parts_of(address, rules->extension);
    struct slice local = parts.local;
    bool has_domain = local.size < address.size;
    struct slice domain = has_domain ? parts.domain : slice_text(rules->hostname);
    check(!job->waiting && job->value == NULL);
    job->lookup = lookup;
    job->maps = maps;
    job->answer = MAP_ABSENT;
    job->busy = false;
    job->form = FORM_ADDRESS;
    job->spelling = 0;
    job->parent = 1;
    job->map_at = 0;
    int size = snprintf(job->address, sizeof(job->address), "%.*s@%.*s", (int)local.size,
                        (const char *)local.bytes, (int)domain.size, (const char *)domain.bytes);
    if (size < 0 || (size_t)size >= sizeof(job->address)) {
        return 0; /* so long an address is in no map */
    }
    job->address_bytes = (uint16_t)size;
    job->domain_at = (uint16_t)(local.size + 1);
    job->user_bytes = (uint16_t)parts.user.size;
    return run(job);
}

void transport_job_end(struct transport_job *job)
{
    if (job->waiting) {
        lookup_cancel(&job->query);
        job->waiting = false;
    }
    if (job->value != NULL) {
        lookup_value_drop(job->value);
        job->value = NULL;
    }
}
