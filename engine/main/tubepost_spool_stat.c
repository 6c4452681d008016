/* tubepost spool stat: what waits, by age and by domain. */
#include "engine/main/tubepost.h"
#include "engine/main/tubepost_spool.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOP 10u
#define DOMAIN_TEXT 256

struct stat_domain {
    char *name; /* NULL: free */
    uint64_t recipients;
};

static const struct {
    const char *name;
    int64_t below_s;
} ages[STAT_AGES] = {{"below 1 hour", 3600},     {"1 to 6 hours", 6 * 3600},
                     {"6 to 24 hours", 86400},   {"1 to 3 days", 3 * 86400},
                     {"3 to 5 days", 5 * 86400}, {"5 days and more", INT64_MAX}};

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name != '\0'; name++) {
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    }
    return hash ^ hash >> 32;
}

static struct stat_domain *domain_place(struct stat_domain *domains, uint64_t capacity,
                                        const char *name)
{
    uint64_t i = hash_of(name) % capacity;
    while (domains[i].name != NULL && strcmp(domains[i].name, name) != 0) {
        i = (i + 1) % capacity;
    }
    return &domains[i];
}

static bool domains_grow(struct spool_tool *tool)
{
    uint64_t capacity = tool->stat.domain_capacity * 2 + 1024;
    struct stat_domain *grown = calloc(capacity, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    for (uint64_t i = 0; i < tool->stat.domain_capacity; i++) {
        struct stat_domain *domain = &tool->stat.domains[i];
        if (domain->name != NULL) {
            *domain_place(grown, capacity, domain->name) = *domain;
        }
    }
    free(tool->stat.domains);
    tool->stat.domains = grown;
    tool->stat.domain_capacity = capacity;
    return true;
}

/* What stands behind the last @, as it can be printed. */
static void domain_of(struct slice path, char name[DOMAIN_TEXT])
{
    size_t at = path.size;
    while (at > 0 && path.bytes[at - 1] != '@') {
        at--;
    }
    struct slice domain = slice_from(path, at > 0 ? at : path.size);
    size_t size = 0;
    for (; size < domain.size && size + 1 < DOMAIN_TEXT; size++) {
        uint8_t byte = domain.bytes[size];
        name[size] = (char)(byte > 0x20 && byte < 0x7f ? tolower(byte) : '?');
    }
    name[size] = '\0';
}

static void recipient_count(struct spool_tool *tool, struct slice path)
{
    char name[DOMAIN_TEXT];
    domain_of(path, name);
    if (tool->stat.domain_count * 2 >= tool->stat.domain_capacity && !domains_grow(tool)) {
        return;
    }
    struct stat_domain *domain = domain_place(tool->stat.domains, tool->stat.domain_capacity, name);
    if (domain->name == NULL) {
        domain->name = strdup(name);
        if (domain->name == NULL) {
            return;
        }
        tool->stat.domain_count++;
    }
    domain->recipients++;
}

static void message_count(struct spool_tool *tool, const struct message *message)
{
    int64_t age_s = tool->stat.now_s - message_arrival_wall_s(message);
    uint32_t age = 0;
    while (age_s >= ages[age].below_s) {
        age++;
    }
    tool->stat.ages[age]++;
    tool->stat.tried += message->attempts > 0;
    tool->stat.body_bytes += message->body_bytes;
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        if (message_recipient_state(message, i) == RECIPIENT_WAITING) {
            recipient_count(tool, message_forward_path(message, i));
        }
    }
}

void stat_shard(struct spool_tool *tool, struct spool_reader *reader, uint32_t shard)
{
    const struct spool_reader_facts *facts = spool_reader_facts(reader);
    struct spool_reader_facts *sum = &tool->stat.facts;
    const struct message *message;
    (void)shard;
    tool->stat.now_s = (int64_t)time(NULL);
    for (uint64_t i = 0; (message = spool_reader_message(reader, i)) != NULL; i++) {
        message_count(tool, message);
    }
    sum->segments_used += facts->segments_used;
    sum->segments_spare += facts->segments_spare;
    sum->used_bytes += facts->used_bytes;
    sum->live_bytes += facts->live_bytes;
    sum->damaged_bytes += facts->damaged_bytes;
    sum->unread_bytes += facts->unread_bytes;
    sum->messages += facts->messages;
    sum->recipients_waiting += facts->recipients_waiting;
}

static int by_recipients(const void *left, const void *right)
{
    const struct stat_domain *a = left, *b = right;
    if (a->recipients != b->recipients) {
        return a->recipients < b->recipients ? 1 : -1;
    }
    return a->name == NULL || b->name == NULL ? (a->name == NULL) - (b->name == NULL)
                                              : strcmp(a->name, b->name);
}

static void line(const char *name, uint64_t value)
{
    printf("%-24s %14llu\n", name, (unsigned long long)value);
}

static void text_print(const struct spool_tool *tool, uint64_t top)
{
    const struct spool_reader_facts *facts = &tool->stat.facts;
    line("shards", tool->shards);
    line("segments in use", facts->segments_used);
    line("segments spare", facts->segments_spare);
    line("bytes in use", facts->used_bytes);
    line("bytes live", facts->live_bytes);
    line("bytes damaged", facts->damaged_bytes);
    line("bytes unreadable", facts->unread_bytes);
    line("messages", facts->messages);
    line("  never tried", facts->messages - tool->stat.tried);
    line("  tried", tool->stat.tried);
    line("recipients waiting", facts->recipients_waiting);
    line("bytes of text", tool->stat.body_bytes);
    printf("\nmessages by age\n");
    for (uint32_t i = 0; i < STAT_AGES; i++) {
        printf("  %-22s %14llu\n", ages[i].name, (unsigned long long)tool->stat.ages[i]);
    }
    printf("\nrecipients by domain (%llu domains)\n", (unsigned long long)tool->stat.domain_count);
    for (uint64_t i = 0; i < top; i++) {
        printf("  %-40s %14llu\n", tool->stat.domains[i].name,
               (unsigned long long)tool->stat.domains[i].recipients);
    }
}

static void set(json_t *json, const char *name, uint64_t value)
{
    json_object_set_new(json, name, json_integer((json_int_t)value));
}

static void json_print(const struct spool_tool *tool, uint64_t top)
{
    const struct spool_reader_facts *facts = &tool->stat.facts;
    json_t *json = json_object(), *by_age = json_object(), *domains = json_object();
    set(json, "shards", tool->shards);
    set(json, "segments_used", facts->segments_used);
    set(json, "segments_spare", facts->segments_spare);
    set(json, "used_bytes", facts->used_bytes);
    set(json, "live_bytes", facts->live_bytes);
    set(json, "damaged_bytes", facts->damaged_bytes);
    set(json, "unread_bytes", facts->unread_bytes);
    set(json, "messages", facts->messages);
    set(json, "tried", tool->stat.tried);
    set(json, "recipients_waiting", facts->recipients_waiting);
    set(json, "body_bytes", tool->stat.body_bytes);
    for (uint32_t i = 0; i < STAT_AGES; i++) {
        set(by_age, ages[i].name, tool->stat.ages[i]);
    }
    for (uint64_t i = 0; i < top; i++) {
        set(domains, tool->stat.domains[i].name, tool->stat.domains[i].recipients);
    }
    json_object_set_new(json, "messages_by_age", by_age);
    json_object_set_new(json, "recipients_by_domain", domains);
    tool_print_json(json);
    json_decref(json);
}

int stat_print(struct spool_tool *tool)
{
    uint64_t count = tool->stat.domain_count;
    if (tool->stat.domain_capacity > 0) {
        qsort(tool->stat.domains, tool->stat.domain_capacity, sizeof tool->stat.domains[0],
              by_recipients);
    }
    if (tool->as_json) {
        json_print(tool, count < TOP ? count : TOP);
    } else {
        text_print(tool, count < TOP ? count : TOP);
    }
    for (uint64_t i = 0; i < tool->stat.domain_capacity; i++) {
        free(tool->stat.domains[i].name);
    }
    free(tool->stat.domains);
    return EX_OK;
}
