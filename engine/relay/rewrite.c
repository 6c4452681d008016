#include "engine/relay/rewrite.h"
#include "engine/relay/address_parts.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "engine/conf/idna.h"
#include "proto/smtp/address.h"
#include <stdio.h>
#include <stdlib.h>

#define KEY_FORMS 5u
#define KEY_SPELLINGS 2u /* of the domain: as it was written, and in its other form (idna.h) */
#define INCLUDE ":include:"

/* What is done to an address next. */
enum step { STEP_CANONICAL, STEP_SENDER, STEP_VIRTUAL, STEP_ALIAS, STEP_INCLUDE, STEP_KNOWN };

struct rewrite_item {
    uint8_t step;  /* enum step */
    bool stands;   /* for itself: it goes to the result as it is */
    uint16_t size; /* of the text */
    uint32_t list; /* of rewrite_lists; 0: none has given it */
    char *text;    /* owned */
};

static struct slice item_text(const struct rewrite_item *item)
{
    return slice_of(item->text, item->size);
}

static bool domain_listed(const struct rewrite_rules *rules, struct slice domain)
{
    if (domain.size == 0 || slice_equal_nocase(domain, slice_text(rules->hostname))) {
        return true;
    }
    for (uint32_t i = 0; i < rules->local_domains_count; i++) {
        if (slice_equal_nocase(domain, slice_text(rules->local_domains[i]))) {
            return true;
        }
    }
    return false;
}

static bool domain_is_local(const struct rewrite_rules *rules, struct slice domain)
{
    char other[IDNA_TEXT_MAX + 1];
    struct slice spelled;
    return domain_listed(rules, domain) ||
           (idna_other_form(domain, other, &spelled) && domain_listed(rules, spelled));
}

static struct address_parts parts_of(const struct rewrite_rules *rules, struct slice address)
{
    return address_parts_of(address, rules->extension);
}

/* ---- Items: what was seen ---- */

static bool fail(struct rewrite_job *job, enum rewrite_status status, const char *what,
                 struct slice text)
{
    job->status = status;
    snprintf(job->reason, sizeof(job->reason), "%.80s: %.*s", what,
             (int)(text.size < 100 ? text.size : 100), (const char *)text.bytes);
    return false;
}

/* user@DOMAIN and user@domain are one; users are told apart, as the next host may. */
static bool address_same(struct slice a, struct slice b)
{
    return slice_equal_nocase(a, b);
}

/* False: it failed. An address that was seen already is not looked at again. */
static bool item_add(struct rewrite_job *job, struct slice text, enum step step, bool stands)
{
    const struct siphash_key *secret = lookup_secret(job->lookup);
    struct address_walk walk = address_set_find(secret, text);
    for (uint32_t at; address_set_next(&job->seen, &walk, &at);) {
        const struct rewrite_item *seen = &job->items[at];
        if ((seen->step == step || seen->stands) && address_same(item_text(seen), text)) {
            return true;
        }
    }
    if (job->item_count == REWRITE_ADDRESSES_MAX) {
        return fail(job, REWRITE_TOO_MANY, "too many addresses", text);
    }
    if (job->item_count == job->item_size) {
        uint32_t size = job->item_size == 0 ? 4 : job->item_size * 2;
        struct rewrite_item *grown = realloc(job->items, size * sizeof(*grown));
        if (grown == NULL) {
            return fail(job, REWRITE_FAILED, "out of memory", text);
        }
        job->items = grown;
        job->item_size = size;
    }
    char *copy = malloc(text.size + 1);
    if (copy == NULL || address_set_add(&job->seen, secret, text, job->item_count) < 0) {
        free(copy);
        return fail(job, REWRITE_FAILED, "out of memory", text);
    }
    memcpy(copy, text.bytes, text.size);
    job->items[job->item_count++] = (struct rewrite_item){.step = (uint8_t)step,
                                                          .stands = stands,
                                                          .size = (uint16_t)text.size,
                                                          .list = job->list_now,
                                                          .text = copy};
    return true;
}

static bool result_add(struct rewrite_job *job, struct slice address)
{
    const struct siphash_key *secret = lookup_secret(job->lookup);
    struct address_walk walk = address_set_find(secret, address);
    for (uint32_t at; address_set_next(&job->results, &walk, &at);) {
        if (address_same(job->addresses[at], address)) {
            return true;
        }
    }
    if (job->address_count == job->address_size) {
        uint32_t size = job->address_size == 0 ? 4 : job->address_size * 2;
        struct slice *grown = realloc(job->addresses, size * sizeof(*grown));
        job->addresses = grown != NULL ? grown : job->addresses;
        uint32_t *lists = realloc(job->address_lists, size * sizeof(*lists));
        job->address_lists = lists != NULL ? lists : job->address_lists;
        if (grown == NULL || lists == NULL) {
            return fail(job, REWRITE_FAILED, "out of memory", address);
        }
        job->address_size = size;
    }
    if (address_set_add(&job->results, secret, address, job->address_count) < 0) {
        return fail(job, REWRITE_FAILED, "out of memory", address);
    }
    job->address_lists[job->address_count] = job->list_now;
    job->addresses[job->address_count++] = address;
    return true;
}

/* ---- Keys: the forms in which an address is looked for ---- */

static const struct rewrite_maps *maps_of(const struct rewrite_job *job, enum step step)
{
    static const struct rewrite_maps none;
    switch (step) {
    case STEP_CANONICAL:
        return &job->rules->recipient_canonical;
    case STEP_SENDER:
        return &job->rules->sender_canonical;
    case STEP_VIRTUAL:
        return &job->rules->virtual_aliases;
    case STEP_ALIAS:
        return &job->rules->aliases;
    case STEP_KNOWN:
        return job->known;
    case STEP_INCLUDE:
        return &none;
    }
    return &none;
}

/* One form of it. False: it has no such form. */
static bool key_of(const struct rewrite_job *job, const struct rewrite_item *item, uint32_t at,
                   char key[MAP_KEY_MAX], struct slice *made, bool *tagless)
{
    uint32_t form = at / KEY_SPELLINGS;
    char other[IDNA_TEXT_MAX + 1];
    struct address_parts parts = parts_of(job->rules, item_text(item));
    bool alias = item->step == STEP_ALIAS;
    struct slice local = form == 0 || form == 2 ? parts.local : parts.user;
    bool with_domain = form <= 1 && parts.domain.size > 0;
    *tagless = (form == 1 || form == 3) && parts.tag.size > 0;
    if (((form == 1 || form == 3) && parts.tag.size == 0) || /* as the form before it */
        (form == 4 && (parts.domain.size == 0 || alias)) || (form <= 1 && alias) ||
        ((form == 2 || form == 3) &&
         (!domain_is_local(job->rules, parts.domain) || (!alias && parts.domain.size == 0)))) {
        return false;
    }
    if (at % KEY_SPELLINGS > 0 && (form == 2 || form == 3 || parts.domain.size == 0 ||
                                   !idna_other_form(parts.domain, other, &parts.domain))) {
        return false;
    }
    if (form == 4) {
        local.size = 0;
        with_domain = true;
    }
    int size = snprintf(key, MAP_KEY_MAX, "%.*s%s%.*s", (int)local.size, (const char *)local.bytes,
                        with_domain ? "@" : "", with_domain ? (int)parts.domain.size : 0,
                        (const char *)parts.domain.bytes);
    *made = slice_of(key, (size_t)size);
    return size > 0 && (size_t)size < MAP_KEY_MAX;
}

/* ---- Expansion ---- */

static struct slice without_brackets(struct slice text)
{
    bool bracketed = text.size >= 2 && text.bytes[0] == '<' && text.bytes[text.size - 1] == '>';
    return bracketed ? slice_of(text.bytes + 1, text.size - 2) : text;
}

static bool parts_list(uint8_t byte)
{
    return byte == ',' || byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* Takes the next address off a list: commas and blanks part them, not between quotes. */
static struct slice list_next(struct slice *list)
{
    size_t begin = 0, at;
    bool quoted = false;
    while (begin < list->size && parts_list(list->bytes[begin])) {
        begin++;
    }
    for (at = begin; at < list->size; at++) {
        uint8_t byte = list->bytes[at];
        if (!quoted && parts_list(byte)) {
            break;
        }
        quoted ^= byte == '"';
        at += byte == '\\' && quoted;
    }
    at = at < list->size ? at : list->size;
    struct slice found = slice_of(list->bytes + begin, at - begin);
    *list = slice_from(*list, at);
    return without_brackets(found);
}

/* One address that a map gives, made whole: the user of "@domain", our domain of "user", the tag that was left over. */
static bool complete(const struct rewrite_job *job, struct slice given,
                     const struct address_parts *of, bool tagless, char text[MAP_KEY_MAX],
                     struct slice *made)
{
    struct address_parts parts = parts_of(job->rules, given);
    struct slice local = parts.local,
                 tag = tagless && parts.tag.size == 0 ? of->tag : slice_of("", 0);
    struct slice domain = parts.domain.size > 0 ? parts.domain : slice_text(job->rules->hostname);
    if (given.size == 1 && given.bytes[0] == '@') {
        return false;
    }
    if (given.bytes[0] == '@') {
        local = of->local;
        tag.size = 0;
    }
    /* user"+tag" of a quoted local part goes before the quote's end; such are left as they are. */
    if (local.size > 0 && local.bytes[local.size - 1] == '"') {
        tag.size = 0;
    }
    int size = snprintf(text, MAP_KEY_MAX, "%.*s%.*s@%.*s", (int)local.size,
                        (const char *)local.bytes, (int)tag.size, (const char *)tag.bytes,
                        (int)domain.size, (const char *)domain.bytes);
    *made = slice_of(text, (size_t)size);
    return size > 0 && size <= (int)SMTP_ADDRESS_BYTES_MAX;
}

static bool is_address(struct slice text)
{
    char path[MAP_KEY_MAX + 2];
    struct smtp_path parsed;
    size_t used;
    int size = snprintf(path, sizeof(path), "<%.*s>", (int)text.size, (const char *)text.bytes);
    return size > 2 && (size_t)size < sizeof(path) &&
           smtp_path_parse(&parsed, slice_of(path, (size_t)size), &used) == SMTP_PATH_GOOD &&
           used == (size_t)size && parsed.mailbox.size == text.size;
}

/* An alias may be more than addresses. Commands and files are nothing that a relay runs or writes. */
static bool alias_special(struct rewrite_job *job, struct slice word, bool *special)
{
    struct slice bare = word;
    if (bare.size >= 2 && bare.bytes[0] == '"' && bare.bytes[bare.size - 1] == '"') {
        bare = slice_of(bare.bytes + 1, bare.size - 2);
    }
    *special = bare.size > 0 && (bare.bytes[0] == '|' || bare.bytes[0] == '/');
    if (*special) {
        return fail(job, REWRITE_WRONG, "an alias may not name a command or a file", word);
    }
    if (bare.size > strlen(INCLUDE) &&
        slice_equal_nocase(slice_first(bare, strlen(INCLUDE)), slice_text(INCLUDE))) {
        *special = true;
        if (job->rules->includes == NULL || bare.size > MAP_KEY_MAX) {
            return fail(job, REWRITE_WRONG, "an alias may not include a file", word);
        }
        return item_add(job, slice_from(bare, strlen(INCLUDE)), STEP_INCLUDE, false);
    }
    return true;
}

/* No map knows it. */
static bool absent(struct rewrite_job *job, uint32_t at)
{
    struct rewrite_item *item = &job->items[at];
    struct slice text = item_text(item);
    job->list_now = item->list;
    switch ((enum step)item->step) {
    case STEP_CANONICAL:
        return item_add(job, text, STEP_VIRTUAL, false);
    case STEP_VIRTUAL:
        if (job->rules->aliases.count > 0 &&
            domain_is_local(job->rules, parts_of(job->rules, text).domain)) {
            return item_add(job, text, STEP_ALIAS, false);
        }
        return result_add(job, text);
    case STEP_SENDER:
    case STEP_ALIAS:
        return result_add(job, text);
    case STEP_INCLUDE:
        return fail(job, REWRITE_FAILED, "an included file cannot be read", text);
    case STEP_KNOWN:
        return true;
    }
    return true;
}

/* It is a result as it is. */
static bool stand(struct rewrite_job *job, struct slice text)
{
    struct address_walk walk = address_set_find(lookup_secret(job->lookup), text);
    for (uint32_t at; address_set_next(&job->seen, &walk, &at);) {
        if (address_same(item_text(&job->items[at]), text)) {
            return result_add(job, item_text(&job->items[at]));
        }
    }
    return item_add(job, text, STEP_ALIAS, true) &&
           result_add(job, item_text(&job->items[job->item_count - 1]));
}

/* What becomes of one address that a map has given for the item at `at`. */
static bool given(struct rewrite_job *job, uint32_t at, struct slice made)
{
    bool itself = address_same(made, item_text(&job->items[at]));
    switch ((enum step)job->items[at].step) {
    case STEP_SENDER:
        return stand(job, made);
    case STEP_VIRTUAL:
        return itself ? absent(job, at) : item_add(job, made, STEP_VIRTUAL, false);
    case STEP_ALIAS:
        return itself ? stand(job, made) : item_add(job, made, STEP_VIRTUAL, false);
    case STEP_CANONICAL:
    case STEP_INCLUDE:
        return item_add(job, made, STEP_VIRTUAL, false);
    case STEP_KNOWN:
        return true;
    }
    return true;
}

static bool expand(struct rewrite_job *job, uint32_t at, struct slice list, bool tagless)
{
    const struct rewrite_item item = job->items[at]; /* its place moves when others are added */
    struct address_parts of = parts_of(job->rules, item_text(&item));
    bool of_alias = item.step == STEP_ALIAS || item.step == STEP_INCLUDE;
    bool only_one = item.step == STEP_CANONICAL || item.step == STEP_SENDER;
    for (struct slice word; (word = list_next(&list)).size > 0;) {
        char text[MAP_KEY_MAX];
        struct slice made;
        bool special = false;
        if (of_alias && !alias_special(job, word, &special)) {
            return false;
        }
        if (special) {
            continue;
        }
        bool final = of_alias && word.size > 1 && word.bytes[0] == '\\'; /* "\user" */
        word = slice_from(word, final);
        if (!complete(job, word, &of, tagless && !of_alias, text, &made) || !is_address(made)) {
            return fail(job, REWRITE_WRONG, "a map gives what is no address", word);
        }
        if (!(final ? stand(job, made) : given(job, at, made))) {
            return false;
        }
        if (only_one) {
            return true;
        }
    }
    return true;
}

/* ---- The walk: every item, every form of it, every map ---- */

/* What the alias under way has given comes from it. False: it failed. */
static bool list_begin(struct rewrite_job *job)
{
    const struct rewrite_item *item = &job->items[job->item_at];
    job->list_now = item->list;
    if (item->step != STEP_ALIAS) {
        return true;
    }
    struct address_parts parts = parts_of(job->rules, item_text(item));
    struct slice domain = parts.domain.size > 0 ? parts.domain : slice_text(job->rules->hostname);
    bool tagless = job->key_at / KEY_SPELLINGS == 3; /* see key_of */
    int list =
        rewrite_lists_open(&job->lists, item->list, tagless ? parts.user : parts.local, domain);
    if (list < 0) {
        return fail(job, REWRITE_FAILED, "out of memory", item_text(item));
    }
    job->list_now = (uint32_t)list;
    return true;
}

static void next_item(struct rewrite_job *job)
{
    job->item_at++;
    job->key_at = job->map_at = 0;
}

/* What a map said of the item under way. False: it failed. */
static bool answered(struct rewrite_job *job, const struct lookup_value *value, bool tagless,
                     bool by_pattern)
{
    uint32_t at = job->item_at;
    switch (value->answer) {
    case MAP_FAILED:
        return fail(job, REWRITE_FAILED, "a map does not answer", value->text);
    case MAP_ABSENT:
        if (job->items[at].step != STEP_INCLUDE) {
            job->map_at++;
            return true;
        }
        next_item(job);
        return absent(job, at);
    case MAP_FOUND:
        job->by_pattern |= by_pattern;
        if (!list_begin(job)) {
            return false;
        }
        next_item(job);
        return job->items[at].step == STEP_KNOWN ? result_add(job, item_text(&job->items[at]))
                                                 : expand(job, at, value->text, tagless);
    case MAP_TOO_LONG:
        if (job->items[at].step != STEP_KNOWN) {
            return fail(job, REWRITE_TOO_MANY, "too many addresses", value->text);
        }
        next_item(job);
        return result_add(job, item_text(&job->items[at]));
    }
    return true;
}

/* The map and key to ask next; NULL: every one was asked. */
static struct map *question_next(struct rewrite_job *job, char key[MAP_KEY_MAX], struct slice *made,
                                 bool *tagless)
{
    const struct rewrite_item *item = &job->items[job->item_at];
    const struct rewrite_maps *maps = maps_of(job, item->step);
    if (item->step == STEP_INCLUDE) {
        *made = item_text(item);
        *tagless = false;
        return job->rules->includes;
    }
    for (; job->key_at < KEY_FORMS * KEY_SPELLINGS; job->key_at++, job->map_at = 0) {
        if (!key_of(job, item, job->key_at, key, made, tagless)) {
            continue;
        }
        for (; job->map_at < maps->count; job->map_at++) {
            /* Patterns see the whole address only: a part of it would match what was not meant. */
            if (job->key_at == 0 || !map_of_patterns(maps->maps[job->map_at]) ||
                item->step == STEP_ALIAS) {
                return maps->maps[job->map_at];
            }
        }
    }
    return NULL;
}

/* ---- The owners of lists, when all addresses are there ---- */

static struct map *owner_question_next(struct rewrite_job *job, struct slice *made)
{
    const struct rewrite_maps *maps = &job->rules->aliases;
    while (rewrite_lists_ask(&job->lists, made)) {
        if (job->map_at < maps->count) {
            return maps->maps[job->map_at];
        }
        job->map_at = 0;
        rewrite_lists_told(&job->lists, false);
    }
    return NULL;
}

static void owner_answered(struct rewrite_job *job, const struct lookup_value *value)
{
    switch (value->answer) {
    case MAP_FAILED:
        fail(job, REWRITE_FAILED, "a map does not answer", value->text);
        break;
    case MAP_ABSENT:
        job->map_at++;
        break;
    case MAP_FOUND:
    case MAP_TOO_LONG: /* the owner is there, whoever that is */
        job->map_at = 0;
        rewrite_lists_told(&job->lists, true);
        break;
    }
}

/* ---- One question after the other ---- */

static void take(struct rewrite_job *job, struct lookup_value *value)
{
    if (job->item_at == job->item_count) {
        owner_answered(job, value);
    } else {
        answered(job, value, job->tagless, job->asked_pattern);
    }
    lookup_value_drop(value);
}

static void told(struct lookup_query *query, struct lookup_value *value);

/* 0: answered, or the job has failed; -EINPROGRESS. */
static int ask(struct rewrite_job *job, struct map *map, struct slice key, bool tagless)
{
    struct lookup_value *value;
    job->query.told = told;
    job->tagless = tagless;
    /* What a list includes is its owner's, and "include:" is asked for it by name. */
    job->asked_pattern = map_of_patterns(map) && map != job->rules->includes;
    int status = lookup_find(job->lookup, map, key, &job->query, &value);
    if (status == -EINPROGRESS) {
        job->waiting = true;
        return status;
    }
    if (status < 0) {
        fail(job, REWRITE_FAILED, "too many lookups are under way", key);
        return 0;
    }
    take(job, value);
    return 0;
}

/* 0: the job is done; -EINPROGRESS. */
static int run(struct rewrite_job *job)
{
    while (job->status == REWRITE_OK) {
        char key[MAP_KEY_MAX];
        struct slice made;
        bool tagless = false;
        struct map *map;
        if (job->item_at == job->item_count) {
            map = owner_question_next(job, &made);
            if (map == NULL) {
                break;
            }
        } else if (job->items[job->item_at].stands) {
            next_item(job);
            continue;
        } else {
            map = question_next(job, key, &made, &tagless);
            if (map == NULL) {
                uint32_t at = job->item_at;
                next_item(job);
                absent(job, at);
                continue;
            }
        }
        if (ask(job, map, made, tagless) < 0) {
            return -EINPROGRESS;
        }
    }
    if (job->status == REWRITE_OK && job->address_count == 0 && job->known == NULL) {
        fail(job, REWRITE_LOOP, "it leads back to itself", item_text(&job->items[0]));
    }
    return 0;
}

static void told(struct lookup_query *query, struct lookup_value *value)
{
    struct rewrite_job *job = list_entry(query, struct rewrite_job, query);
    job->waiting = false;
    take(job, value);
    if (run(job) == 0) {
        job->done(job); /* which may free it */
    }
}

static int begin(struct rewrite_job *job, struct lookup *lookup, const struct rewrite_rules *rules,
                 struct slice address, enum step step)
{
    job->lookup = lookup;
    job->rules = rules;
    job->status = REWRITE_OK;
    job->by_pattern = false;
    job->reason[0] = '\0';
    check(!job->waiting && job->item_count == 0);
    if (address.size > SMTP_ADDRESS_BYTES_MAX) {
        fail(job, REWRITE_WRONG, "too long", address);
        return 0;
    }
    return item_add(job, address, step, false) ? run(job) : -ENOMEM;
}

int rewrite_recipient(struct rewrite_job *job, struct lookup *lookup,
                      const struct rewrite_rules *rules, struct slice address)
{
    bool canonical = rules->recipient_canonical.count > 0;
    return begin(job, lookup, rules, address, canonical ? STEP_CANONICAL : STEP_VIRTUAL);
}

int rewrite_sender(struct rewrite_job *job, struct lookup *lookup,
                   const struct rewrite_rules *rules, struct slice address)
{
    return begin(job, lookup, rules, address, STEP_SENDER);
}

int rewrite_known(struct rewrite_job *job, struct lookup *lookup, const struct rewrite_rules *rules,
                  const struct rewrite_maps *maps, struct slice address)
{
    job->known = maps;
    return begin(job, lookup, rules, address, STEP_KNOWN);
}

struct slice rewrite_owner(const struct rewrite_job *job, uint32_t index)
{
    check(index < job->address_count);
    return rewrite_lists_owner(&job->lists, job->address_lists[index]);
}

bool rewrite_by_owner(const struct rewrite_job *job, uint32_t index)
{
    check(index < job->address_count);
    return rewrite_lists_of_owner(&job->lists, job->address_lists[index]);
}

void rewrite_job_end(struct rewrite_job *job)
{
    if (job->waiting) {
        lookup_cancel(&job->query);
    }
    for (uint32_t i = 0; i < job->item_count; i++) {
        free(job->items[i].text);
    }
    free(job->items);
    free(job->addresses);
    free(job->address_lists);
    rewrite_lists_free(&job->lists);
    address_set_free(&job->seen);
    address_set_free(&job->results);
    *job = (struct rewrite_job){.done = job->done};
}
