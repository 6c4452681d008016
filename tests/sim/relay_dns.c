#include "tests/sim/relay_dns.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

#define DNS_LATE_NS (2 * SIM_S)
#define DNS_TTL_S 30u
#define DNS_FAILS_PERCENT 15u

struct dns_question {
    struct list_node node;
    struct resolve_question *question;
    uint64_t due_ns;
};

static uint32_t below(struct sim_dns *dns, uint32_t bound)
{
    return net_random_below(&dns->random, bound);
}

bool sim_dns_chance(struct sim_dns *dns, uint32_t percent)
{
    return below(dns, 100) < percent;
}

static struct sim_dns *dns_of(struct resolve_backend *backend)
{
    return list_entry(backend, struct sim_dns, backend);
}

/* ---- Questions ---- */

static void due_set(struct sim_dns *dns)
{
    dns->due_ns = UINT64_MAX;
    for (struct list_node *node = dns->questions.next; node != &dns->questions; node = node->next) {
        uint64_t due_ns = list_entry(node, struct dns_question, node)->due_ns;
        dns->due_ns = due_ns < dns->due_ns ? due_ns : dns->due_ns;
    }
}

static int dns_ask(struct resolve_backend *backend, struct resolve_question *question)
{
    struct sim_dns *dns = dns_of(backend);
    struct dns_question *asked = malloc(sizeof(*asked));
    check(asked != NULL);
    uint32_t late_us = 1 + below(dns, (uint32_t)(DNS_LATE_NS / SIM_US));
    late_us >>= below(dns, 12); /* most are quick */
    *asked = (struct dns_question){.question = question,
                                   .due_ns = dns->sim->world.now_ns + late_us * SIM_US};
    question->job = asked;
    list_init(&asked->node);
    list_append(&dns->questions, &asked->node);
    due_set(dns);
    return 0;
}

static void question_drop(struct sim_dns *dns, struct dns_question *asked)
{
    list_remove(&asked->node);
    free(asked);
    due_set(dns);
}

static void dns_cancel(struct resolve_backend *backend, struct resolve_question *question)
{
    question_drop(dns_of(backend), question->job);
}

static int dns_fetch(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    (void)backend, (void)fetch;
    return -ENOTSUP;
}

static void dns_cancel_fetch(struct resolve_backend *backend, struct resolve_fetch *fetch)
{
    (void)backend, (void)fetch;
}

static const struct resolve_backend_ops operations = {
    .ask = dns_ask, .cancel = dns_cancel, .fetch = dns_fetch, .cancel_fetch = dns_cancel_fetch};

/* ---- Answers ---- */

/* MX: "hN.mx", two labels. Returns the size of the rdata. */
static size_t exchange_write(uint8_t rdata[16], unsigned preference, unsigned host)
{
    const uint8_t bytes[] = {0, (uint8_t)preference, 2, 'h', (uint8_t)('0' + host), 2, 'm', 'x', 0};
    memcpy(rdata, bytes, sizeof(bytes));
    return sizeof(bytes);
}

/* One of the servers, or both, in either order of preference. */
static void exchangers_name(struct sim_dns *dns, struct resolve_answer *answer,
                            struct slice *records, uint8_t rdata[][16])
{
    unsigned first = below(dns, dns->host_count);
    unsigned count = dns->host_count > 1 && sim_dns_chance(dns, 50) ? 2 : 1;
    unsigned step = below(dns, 2);
    for (unsigned i = 0; i < count; i++) {
        size_t size = exchange_write(rdata[i], 10 + i * step, (first + i) % dns->host_count);
        records[i] = slice_of(rdata[i], size);
    }
    answer->record_count = count;
}

static void address_name(struct sim_dns *dns, const struct resolve_question *question,
                         struct resolve_answer *answer, struct slice *records)
{
    unsigned host = (unsigned)(question->name[1] - '0');
    check(host < dns->host_count);
    const struct endpoint *at = &dns->hosts[host];
    bool ipv4 = at->family == ENDPOINT_IPV4;
    if (question->type == (ipv4 ? DNS_TYPE_A : DNS_TYPE_AAAA)) {
        records[0] = slice_of(at->address, ipv4 ? 4 : 16);
        answer->record_count = 1;
    }
}

static void question_answer(struct sim_dns *dns, struct resolve_question *question)
{
    struct slice records[SIM_DNS_HOSTS];
    uint8_t rdata[SIM_DNS_HOSTS][16];
    struct resolve_answer answer = {
        .status = RESOLVE_ANSWER_NO_DATA, .ttl_s = 1 + below(dns, DNS_TTL_S), .records = records};
    if (sim_dns_chance(dns, DNS_FAILS_PERCENT) && !dns->sim->healed) {
        answer.status = RESOLVE_ANSWER_FAILED;
        answer.reason = "the seed says so";
    } else if (question->type == DNS_TYPE_MX) {
        exchangers_name(dns, &answer, records, rdata);
    } else if (question->type == DNS_TYPE_A || question->type == DNS_TYPE_AAAA) {
        address_name(dns, question, &answer, records);
    }
    if (answer.record_count > 0) {
        answer.status = RESOLVE_ANSWER_RECORDS;
    }
    question->answered(question, &answer);
}

unsigned sim_dns_poll(struct sim_dns *dns, uint64_t now_ns)
{
    unsigned count = 0;
    while (dns->due_ns <= now_ns) {
        struct list_node *node = dns->questions.next;
        while (list_entry(node, struct dns_question, node)->due_ns > now_ns) {
            node = node->next;
        }
        struct dns_question *asked = list_entry(node, struct dns_question, node);
        struct resolve_question *question = asked->question;
        question_drop(dns, asked);
        question_answer(dns, question);
        count++;
    }
    dns->answers += count;
    return count;
}

/* ---- Life ---- */

void sim_dns_setup(struct sim_dns *dns, struct sim *sim, uint64_t salt)
{
    *dns = (struct sim_dns){.sim = sim,
                            .backend = {.ops = &operations},
                            .random = sim->options.seed ^ 0xd25 ^ salt << 32,
                            .due_ns = UINT64_MAX};
    list_init(&dns->questions);
}

void sim_dns_add(struct sim_dns *dns, const struct endpoint *host)
{
    check(dns->host_count < SIM_DNS_HOSTS);
    dns->hosts[dns->host_count++] = *host;
}

int sim_dns_start(struct sim_dns *dns, struct shard *shard)
{
    const struct resolve_settings settings = {.backend = &dns->backend,
                                              .world = shard->world,
                                              .wheel = shard->wheel,
                                              .logger = shard->logger,
                                              .cache_bytes = 64 << 10,
                                              .ttl_min_ns = SIM_S,
                                              .ttl_max_ns = 3600 * SIM_S,
                                              .negative_ttl_max_ns = 10 * SIM_S,
                                              .failure_ns = SIM_S,
                                              .outstanding_max = 1 + below(dns, 8),
                                              .waiting_max = 1 + below(dns, 8)};
    return resolve_open(&dns->resolve, &settings);
}

void sim_dns_stop(struct sim_dns *dns)
{
    if (dns->resolve != NULL) {
        resolve_close(dns->resolve);
        dns->resolve = NULL;
    }
    while (!list_empty(&dns->questions)) { /* of a program that is gone */
        question_drop(dns, list_entry(dns->questions.next, struct dns_question, node));
    }
}
