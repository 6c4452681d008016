#include "bench/sched_cost.h"
#include "bench/report.h"
#include "queue/sched/operator.h"
#include "queue/spool/spool.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define COUNT 10000000u
#define SITES 1000u
#define DEAD_OF 10u /* one in so many */
#define SENDERS 10000u
#define TURNS 2000000u /* of the traffic beside those that wait */
#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
#define START HOUR

struct sched_cost {
    struct sched *sched;
    struct sched_site *sites[SITES];
    struct message *messages;
    uint64_t count, random;
    uint64_t begun_ns;
};

static uint64_t draw(struct sched_cost *cost, uint64_t below)
{
    cost->random = cost->random * 6364136223846793005u + 1442695040888963407u;
    return (cost->random >> 33) % below;
}

/* Of the processor's time that is ours: others may run beside us. */
static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void begin(struct sched_cost *cost)
{
    cost->begun_ns = clock_ns();
}

/* Of one of so many operations since `begin`. */
static void tell(const struct sched_cost *cost, struct report *report, const char *name,
                 uint64_t count)
{
    report_number(report, name, (double)(clock_ns() - cost->begun_ns) / (double)count);
}

static int add(struct sched_cost *cost, struct sched_site *site, struct message *message,
               uint64_t now_ns)
{
    const uint32_t index = 0;
    const struct sched_request request = {.message = message,
                                          .indexes = &index,
                                          .count = 1,
                                          .due_ns = now_ns,
                                          .sender = draw(cost, SENDERS),
                                          .priority = SCHED_PRIORITY_NORMAL};
    return sched_add(site, &request, now_ns);
}

static struct sched_site *healthy(struct sched_cost *cost)
{
    return cost->sites[draw(cost, SITES / DEAD_OF) * DEAD_OF + 1];
}

/* All of them are filed, a tenth for dead sites; then half of all is deferred. */
static int fill(struct sched_cost *cost, struct report *report)
{
    begin(cost);
    for (uint64_t i = 0; i < cost->count; i++) {
        if (add(cost, cost->sites[i % SITES], &cost->messages[i], START) < 0) {
            return -ENOMEM;
        }
    }
    tell(cost, report, "ns_per_add_of_a_backlog", cost->count);
    report_number(report, "bytes_per_ready_recipient",
                  (double)sched_memory_bytes(cost->sched) / (double)cost->count);
    begin(cost);
    for (uint64_t i = 0; i < cost->count / 2; i++) {
        struct sched_delivery *delivery = sched_next(cost->sites[i % SITES], START);
        sched_defer(delivery, START + draw(cost, HOUR), sched_indexes(delivery), 1,
                    slice_text("450 4.7.1 greylisted, try again in five minutes"));
    }
    tell(cost, report, "ns_per_next_and_defer", cost->count / 2);
    report_number(report, "bytes_per_recipient",
                  (double)sched_memory_bytes(cost->sched) / (double)cost->count);
    return 0;
}

/* Messages come and go through sites that have a backlog, through sites that have none, and are deferred and due
 * again. */
static int traffic(struct sched_cost *cost, struct report *report)
{
    begin(cost);
    for (uint64_t i = 0; i < TURNS; i++) {
        struct sched_site *site = healthy(cost);
        struct sched_delivery *delivery = sched_next(site, START);
        struct message *message = delivery->message;
        sched_done(delivery);
        if (add(cost, site, message, START) < 0) {
            return -ENOMEM;
        }
    }
    tell(cost, report, "ns_per_next_done_add_beside_a_backlog", TURNS);
    begin(cost);
    uint64_t served = 0;
    for (uint64_t i = 0; i < TURNS; i++) {
        struct sched_site *site = cost->sites[draw(cost, SITES)];
        struct sched_delivery *delivery = sched_next(site, START + 8 * HOUR);
        if (delivery != NULL) {
            served++;
            sched_defer(delivery, START + 8 * HOUR, sched_indexes(delivery), 1,
                        slice_text("450 4.7.1 greylisted, try again in five minutes"));
        }
    }
    tell(cost, report, "ns_per_next_and_defer_of_what_is_due_again", served > 0 ? served : 1);
    return 0;
}

/* One site more, that has nothing else to do. */
static int alone(struct sched_cost *cost, struct report *report,
                 const struct sched_site_settings *settings)
{
    struct sched_site *site;
    struct message message = {0};
    if (sched_site_open(cost->sched, settings, NULL, &site) < 0) {
        return -ENOMEM;
    }
    begin(cost);
    for (uint64_t i = 0; i < TURNS; i++) {
        if (add(cost, site, &message, START) < 0) {
            return -ENOMEM;
        }
        sched_done(sched_next(site, START));
    }
    tell(cost, report, "ns_per_add_next_done_of_an_empty_site", TURNS);
    begin(cost);
    struct sched_walk walk;
    uint64_t walked = 0;
    sched_walk_begin(&walk, cost->sched);
    while (sched_walk_next(&walk) != NULL) {
        walked++;
    }
    sched_walk_end(&walk);
    tell(cost, report, "ns_per_step_of_a_walk", walked);
    begin(cost);
    sched_flush(cost->sched);
    tell(cost, report, "ns_per_site_of_a_flush", SITES);
    return 0;
}

static int cost_open(struct sched_cost *cost, uint64_t count,
                     const struct sched_site_settings *settings)
{
    cost->count = count > 0 ? count : COUNT;
    cost->count -= cost->count % SITES;
    cost->messages = calloc(cost->count, sizeof(*cost->messages));
    cost->sched = sched_open(1);
    int rc = cost->messages == NULL || cost->sched == NULL || cost->count == 0 ? -ENOMEM : 0;
    for (unsigned i = 0; rc == 0 && i < SITES; i++) {
        rc = sched_site_open(cost->sched, settings, NULL, &cost->sites[i]);
        if (rc == 0 && i % DEAD_OF == 0) {
            sched_connection_started(cost->sites[i]);
            sched_connection_failed(cost->sites[i], START, slice_text("connection refused"));
        }
    }
    return rc;
}

int sched_cost_run(uint64_t count, bool as_json)
{
    static const struct sched_site_settings settings = {
        .connection_count_max = 20,
        .address_count = 1,
        .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR, .spread_pct = 20},
        .reconnect = {.first_ns = 300 * SECOND, .limit_ns = HOUR, .spread_pct = 20},
        .expire_ns = 120 * HOUR,
    };
    static struct sched_cost cost;
    struct report *report = report_open();
    int rc = cost_open(&cost, count, &settings);
    report_count(report, "waiting_recipients", cost.count);
    rc = rc < 0 ? rc : fill(&cost, report);
    rc = rc < 0 ? rc : traffic(&cost, report);
    rc = rc < 0 ? rc : alone(&cost, report, &settings);
    report_print(report, as_json);
    if (cost.sched != NULL) {
        sched_close(cost.sched);
    }
    free(cost.messages);
    return rc;
}
