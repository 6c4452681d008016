#include "engine/relay/sender_owner.h"
#include "engine/relay/address_parts.h"
#include <stdio.h>

/* The keys of an address, in their order. */
enum form { FORM_ADDRESS, FORM_WITHOUT_TAG, FORM_DOMAIN, FORM_NONE };

/* The key whose turn it is. False: the address has no such key. */
static bool key_make(const struct sender_owner *job, char key[MAP_KEY_MAX], struct slice *made)
{
    struct address_parts parts = address_parts_of(job->address, job->extension);
    struct slice local = parts.local;
    switch ((enum form)job->form) {
    case FORM_ADDRESS:
        break;
    case FORM_WITHOUT_TAG:
        if (parts.tag.size == 0) {
            return false; /* as the form before it */
        }
        local = parts.user;
        break;
    case FORM_DOMAIN:
        if (parts.domain.size == 0) {
            return false;
        }
        local = slice_of("", 0);
        break;
    case FORM_NONE:
        return false;
    }
    int size = snprintf(key, MAP_KEY_MAX, "%.*s%s%.*s", (int)local.size, (const char *)local.bytes,
                        parts.domain.size > 0 ? "@" : "", (int)parts.domain.size,
                        (const char *)parts.domain.bytes);
    *made = slice_of(key, (size_t)size);
    return size > 0 && (size_t)size < MAP_KEY_MAX;
}

/* Is the login among those with commas or blanks between? */
static bool names_login(struct slice value, struct slice login)
{
    while (value.size > 0) {
        size_t size = 0;
        while (size < value.size && value.bytes[size] > ' ' && value.bytes[size] != ',') {
            size++;
        }
        if (size > 0 && slice_equal_nocase(slice_first(value, size), login)) {
            return true;
        }
        value = slice_from(value, size + 1);
    }
    return false;
}

/* True: that was the answer. The value is given. */
static bool answered(struct sender_owner *job, struct lookup_value *value)
{
    bool found = value->answer != MAP_ABSENT;
    if (value->answer == MAP_FOUND) {
        job->answer = names_login(value->text, job->login) ? SENDER_OWNED : SENDER_NOT_OWNED;
    } else if (found) {
        job->answer = SENDER_UNKNOWN;
    } else {
        job->map_at++;
    }
    lookup_value_drop(value);
    return found;
}

static void told(struct lookup_query *query, struct lookup_value *value);

static int run(struct sender_owner *job)
{
    for (; job->form < FORM_NONE; job->form++, job->map_at = 0) {
        char key[MAP_KEY_MAX];
        struct slice made;
        if (!key_make(job, key, &made)) {
            continue;
        }
        while (job->map_at < job->maps->count) {
            struct map *map = job->maps->maps[job->map_at];
            struct lookup_value *value;
            if (map_of_patterns(map) && job->form != FORM_ADDRESS) {
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
                job->answer = SENDER_UNKNOWN;
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
    struct sender_owner *job = list_entry(query, struct sender_owner, query);
    job->waiting = false;
    if (answered(job, value) || run(job) == 0) {
        job->done(job); /* which may free it */
    }
}

int sender_owner_run(struct sender_owner *job, struct lookup *lookup,
                     const struct rewrite_maps *maps, const struct rewrite_rules *rules,
                     struct slice address, struct slice login)
{
    check(!job->waiting);
    job->lookup = lookup;
    job->maps = maps;
    job->address = address;
    job->login = login;
    job->extension = rules->extension;
    job->form = FORM_ADDRESS;
    job->map_at = 0;
    job->answer = SENDER_NOT_OWNED;
    return run(job);
}

void sender_owner_end(struct sender_owner *job)
{
    if (job->waiting) {
        lookup_cancel(&job->query);
        job->waiting = false;
    }
}
