#include "bench/queue_cost.h"
#include "bench/report.h"
#include "engine/core/check.h"
#include "engine/disk/disk.h"
#include "engine/shard/uring.h"
#include "queue/log/log.h"
#include "queue/sched/sched.h"
#include "queue/spool/spool.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define SITES 1000u
#define LOG_MEMORY_BYTES (64u << 20)
#define URING_ENTRIES 1024
#define BURST 64u /* messages a round */
#define HOUR_NS 3600000000000ull

struct queue_cost {
    const struct queue_cost_settings *settings;
    struct uring uring;
    struct disk *disk;
    void *memory;
    struct log *log;
    struct spool *spool;
    struct sched *sched;
    struct sched_site *sites[SITES];
    uint64_t random, queued;
    uint64_t now_ns; /* as a shard has it: of the round */
    uint8_t *body;
};

/* One that is on its way to the disk. */
struct letter {
    struct spool_waiter durable;
    struct queue_cost *cost;
    struct message *message;
};

static uint64_t clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t clock_ns(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu %llu", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* As a relay does with a message that it has tried before: it waits for its time. */
static void file_message(struct queue_cost *cost, struct message *message)
{
    uint32_t index = 0, site = 0;
    const struct slice path = message_forward_path(message, 0);
    const uint8_t *at = memchr(path.bytes, '@', path.size); /* ...@NUMBER.example.net */
    while (at != NULL && at[1] != '.') {
        site = site * 10 + (uint32_t)(*++at - '0');
    }
    const struct sched_request request = {.message = message,
                                          .indexes = &index,
                                          .count = 1,
                                          .attempts = 1,
                                          .due_ns = cost->now_ns + HOUR_NS,
                                          .sender = 1};
    check(sched_add(cost->sites[site % SITES], &request, cost->now_ns) == 0);
    cost->queued++;
}

static void message_found(void *owner, struct message *message)
{
    file_message(owner, message);
}

static int sites_open(struct queue_cost *cost)
{
    const struct sched_site_settings settings = {
        .connection_count_max = 10,
        .retry = {.first_ns = 1000000000, .limit_ns = HOUR_NS},
        .reconnect = {.first_ns = 1000000000, .limit_ns = HOUR_NS},
        .expire_ns = 120 * HOUR_NS};
    cost->sched = sched_open(1);
    int status = cost->sched != NULL ? 0 : -ENOMEM;
    for (unsigned i = 0; i < SITES && status == 0; i++) {
        status = sched_site_open(cost->sched, &settings, NULL, &cost->sites[i]);
    }
    return status;
}

static int queue_open(struct queue_cost *cost)
{
    struct log_settings log = {.disk = cost->disk,
                               .memory = cost->memory,
                               .memory_bytes = LOG_MEMORY_BYTES,
                               .new_id = clock_ns()};
    const struct spool_settings spool = {.message_bytes_max = 64u << 20, .draft_count_max = 1000};
    cost->now_ns = clock_ns();
    int status = sites_open(cost);
    status = status == 0 ? log_open(&cost->log, &log) : status;
    return status == 0 ? spool_open(&cost->spool, cost->log, &spool, message_found, cost) : status;
}

static void queue_round(struct queue_cost *cost)
{
    cost->disk->ops->reap(cost->disk);
    uring_reap(&cost->uring);
    cost->now_ns = clock_ns();
    log_round(cost->log, cost->now_ns);
    spool_round(cost->spool);
    log_flush(cost->log);
    cost->disk->ops->submit(cost->disk);
    uring_submit(&cost->uring);
}

static void queue_close(struct queue_cost *cost)
{
    while (cost->log != NULL && !log_is_quiet(cost->log)) {
        queue_round(cost);
    }
    sched_close(cost->sched);
    if (cost->spool != NULL) {
        spool_close(cost->spool);
    }
    if (cost->log != NULL) {
        log_close(cost->log);
    }
    cost->sched = NULL;
    cost->spool = NULL;
    cost->log = NULL;
}

static void letter_durable(struct spool_waiter *waiter, int status)
{
    struct letter *letter = list_entry(waiter, struct letter, durable);
    if (status == 0) {
        file_message(letter->cost, letter->message);
    }
    free(letter);
}

static int letter_post(struct queue_cost *cost, uint64_t number)
{
    struct spool_draft *draft;
    int status = spool_begin(cost->spool, &draft);
    if (status != 0) {
        return status;
    }
    struct slice body = slice_of(cost->body, cost->settings->body_bytes);
    while ((status = spool_append(draft, &body, 1)) == -EAGAIN) {
        queue_round(cost);
    }
    struct letter *letter = calloc(1, sizeof(*letter));
    if (status != 0 || letter == NULL) {
        spool_abort(draft);
        free(letter);
        return status != 0 ? status : -ENOMEM;
    }
    char from[64], to[64];
    cost->random = cost->random * 6364136223846793005u + 1442695040888963407u;
    snprintf(from, sizeof(from), "bounce-%08llx@mail.example.com", (unsigned long long)number);
    snprintf(to, sizeof(to), "user%llu@%u.example.net", (unsigned long long)number,
             (unsigned)(cost->random >> 33) % SITES);
    const struct envelope envelope = {.reverse_path = slice_text(from),
                                      .arrival_wall_s = 1800000000 + (int64_t)(number / 1000)};
    const struct envelope_recipient recipient = {.forward_path = slice_text(to)};
    letter->durable.done = letter_durable;
    letter->cost = cost;
    return spool_commit(draft, &envelope, &recipient, 1, &letter->message, &letter->durable);
}

static int fill(struct queue_cost *cost, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        int status = letter_post(cost, i);
        while (status == -EAGAIN) {
            queue_round(cost);
            status = letter_post(cost, i);
        }
        if (status != 0) {
            return status;
        }
        if (i % BURST == 0) {
            queue_round(cost);
        }
    }
    while (!log_is_quiet(cost->log)) {
        queue_round(cost);
    }
    return 0;
}

static void tell_memory(const struct queue_cost *cost, struct report *report, const char *when,
                        uint64_t before)
{
    char name[64];
    struct spool_fill fill;
    double each = (double)(cost->queued > 0 ? cost->queued : 1);
    spool_fill(cost->spool, &fill);
    snprintf(name, sizeof(name), "resident_bytes_each%s", when);
    report_number(report, name, (double)(resident_bytes() - before) / each);
    snprintf(name, sizeof(name), "spool_bytes_each%s", when);
    report_number(report, name, (double)fill.memory_bytes / each);
    snprintf(name, sizeof(name), "sched_bytes_each%s", when);
    report_number(report, name, (double)sched_memory_bytes(cost->sched) / each);
}

static int measure(struct queue_cost *cost, struct report *report)
{
    uint64_t before = resident_bytes(), start_ns = clock_ns();
    int status = queue_open(cost);
    if (status == 0 && cost->queued < cost->settings->count) {
        status = fill(cost, cost->settings->count - cost->queued);
    }
    if (status != 0) {
        return status;
    }
    report_count(report, "recipients", cost->queued);
    report_number(report, "fill_s", (double)(clock_ns() - start_ns) / 1e9);
    tell_memory(cost, report, "", before);
    queue_close(cost);

    cost->queued = 0;
    start_ns = clock_ns();
    uint64_t cpu_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    status = queue_open(cost);
    cpu_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    double seconds = (double)(clock_ns() - start_ns) / 1e9;
    if (status == 0) {
        report_count(report, "recovered", cost->queued);
        report_number(report, "restart_s", seconds);
        report_number(report, "restart_cpu_s", (double)cpu_ns / 1e9);
        report_number(report, "restart_MB_per_s",
                      (double)log_counters(cost->log)->scanned_bytes / 1e6 / seconds);
    }
    return status;
}

int queue_cost_run(const struct queue_cost_settings *settings, bool as_json)
{
    struct queue_cost *cost = calloc(1, sizeof(*cost));
    int status = cost != NULL ? uring_open(&cost->uring, URING_ENTRIES, URING_SLEEPS) : -ENOMEM;
    if (status < 0) {
        free(cost);
        return status;
    }
    cost->settings = settings;
    cost->random = 1;
    cost->body = malloc(settings->body_bytes);
    cost->memory = aligned_alloc(DISK_BLOCK_BYTES, LOG_MEMORY_BYTES);
    status = cost->body != NULL && cost->memory != NULL ? 0 : -ENOMEM;
    if (status == 0) {
        memset(cost->body, 'x', settings->body_bytes);
        memset(cost->memory, 0, LOG_MEMORY_BYTES);
        status = disk_open_uring(&cost->disk, &cost->uring, settings->folder);
    }
    struct report *report = report_open();
    if (status == 0) {
        status = measure(cost, report);
    }
    report_print(report, as_json);
    if (status == 0) {
        queue_close(cost);
    }
    if (cost->disk != NULL) {
        cost->disk->ops->close(cost->disk);
    }
    uring_close(&cost->uring);
    free(cost->memory);
    free(cost->body);
    free(cost);
    return status;
}
