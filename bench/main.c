/*
 * tubepost-bench: load generator and receiver. See options.c for what it takes.
 */
#include "bench/carrier.h"
#include "bench/cost.h"
#include "bench/queue_cost.h"
#include "bench/report.h"
#include "bench/sched_cost.h"
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define PATIENCE_MS 20 /* longest sleep in a round; bounds in time are as exact as this */

static volatile sig_atomic_t stop_asked;

struct bench {
    struct options options;
    struct world world;
    struct carrier carrier;
    struct source *source; /* NULL: only the sink */
    struct sink *sink;     /* NULL: only the source */
    struct asker *asker;
    struct logins *logins;
    struct flood flood;
    struct answerer *answerer;
    uint64_t begun_ns, now_ns;
    uint64_t sink_first_ns, sink_last_ns; /* of the first and the last message */
    uint64_t sink_seen;
};

static uint64_t clock_now_ns(void *self)
{
    struct timespec now;
    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int64_t clock_wall_s(void *self)
{
    (void)self;
    return (int64_t)time(NULL);
}

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    check(getrandom(bytes, count, 0) == (ssize_t)count);
}

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

static void process_prepare(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void cpu_choose(int cpu)
{
    cpu_set_t set;
    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        fprintf(stderr, "tubepost-bench: cpu %d: not usable\n", cpu);
    }
}

static int bench_open(struct bench *bench)
{
    struct options *options = &bench->options;
    int rc = carrier_open(&bench->carrier, &options->carrier, &bench->world);
    if (rc < 0) {
        return rc;
    }
    cpu_choose(options->cpu); /* after the EAL, which sets its own mind on one */
    options->source.memory = options->exchange.memory = carrier_memory(&bench->carrier);
    if (options->flood.kind != FLOOD_NONE) {
        options->flood.to = options->exchange.at;
        options->flood.port = bench->carrier.port;
        options->flood.pool = bench->carrier.pool;
        options->flood.world = &bench->world;
        flood_open(&bench->flood, &options->flood);
    }
    if (options->part == BENCH_ASK) {
        return asker_open(&bench->asker, bench->carrier.network, &bench->world, &options->exchange);
    }
    if (options->part == BENCH_LOGINS) {
        return logins_open(&bench->logins, bench->carrier.network, &bench->world, &options->logins);
    }
    if (options->part == BENCH_ANSWER) {
        return answerer_open(&bench->answerer, bench->carrier.network, &options->exchange);
    }
    if (options->part & BENCH_SINK) {
        rc = sink_open(&bench->sink, bench->carrier.network, &bench->world, &options->sink);
    }
    if (rc == 0 && (options->part & BENCH_SOURCE)) {
        rc = source_open(&bench->source, bench->carrier.network, &bench->world, &options->source);
    }
    return rc;
}

static void bench_close(struct bench *bench)
{
    if (bench->asker != NULL) {
        asker_close(bench->asker);
    }
    if (bench->logins != NULL) {
        logins_close(bench->logins);
    }
    if (bench->answerer != NULL) {
        answerer_close(bench->answerer);
    }
    if (bench->source != NULL) {
        source_close(bench->source);
    }
    if (bench->sink != NULL) {
        sink_close(bench->sink);
    }
    carrier_close(&bench->carrier);
}

static void sink_watch(struct bench *bench)
{
    uint64_t messages = sink_counters(bench->sink)->messages;
    if (messages != bench->sink_seen) {
        bench->sink_seen = messages;
        bench->sink_last_ns = bench->now_ns;
        if (bench->sink_first_ns == 0) {
            bench->sink_first_ns = bench->now_ns;
        }
    }
}

static bool sink_wants_more(const struct bench *bench)
{
    const struct options *options = &bench->options;
    const struct sink_counters *counters = sink_counters(bench->sink);
    double idle_s = (double)(bench->now_ns - bench->sink_last_ns) / 1e9;
    if (options->sink_count > 0 && counters->messages >= options->sink_count) {
        return counters->sessions_open > 0 && idle_s < 1; /* let the last ones say QUIT */
    }
    if (options->sink_seconds > 0 &&
        (double)(bench->now_ns - bench->begun_ns) / 1e9 >= options->sink_seconds) {
        return false;
    }
    return options->sink_idle_s <= 0 || bench->sink_seen == 0 || idle_s < options->sink_idle_s;
}

/* Of a loop: what the source had acknowledged must come back, in its own time. */
static bool loop_wants_more(const struct bench *bench)
{
    uint64_t different, repeated, missing;
    sink_deliveries(bench->sink, &different, &repeated, &missing);
    uint64_t last_ns =
        bench->sink_last_ns > bench->begun_ns ? bench->sink_last_ns : bench->begun_ns;
    double idle_limit_s = bench->options.sink_idle_s > 0 ? bench->options.sink_idle_s : 30;
    return different < source_counters(bench->source)->deliveries &&
           (double)(bench->now_ns - last_ns) / 1e9 < idle_limit_s;
}

static bool exchange_wants_more(struct bench *bench)
{
    if (stop_asked) {
        return false;
    }
    if (bench->asker != NULL) {
        if (bench->options.flood.kind != FLOOD_NONE) {
            flood_round(&bench->flood, bench->now_ns);
        }
        return asker_round(bench->asker, bench->now_ns);
    }
    double limit_s = bench->options.sink_seconds;
    return limit_s <= 0 || (double)(bench->now_ns - bench->begun_ns) / 1e9 < limit_s;
}

static bool bench_wants_more(struct bench *bench)
{
    if (bench->asker != NULL || bench->answerer != NULL) {
        return exchange_wants_more(bench);
    }
    if (bench->logins != NULL) {
        return !stop_asked && logins_round(bench->logins, bench->now_ns);
    }
    bool source_busy = bench->source != NULL && source_round(bench->source, bench->now_ns);
    if (bench->sink != NULL) {
        sink_round(bench->sink);
        sink_watch(bench);
    }
    if (stop_asked) {
        if (bench->source != NULL) {
            source_stop(bench->source);
        }
        return source_busy;
    }
    if (source_busy) {
        return true;
    }
    if (bench->source != NULL) {
        return bench->sink != NULL && loop_wants_more(bench);
    }
    return sink_wants_more(bench);
}

static void bench_run(struct bench *bench)
{
    bench->begun_ns = bench->now_ns = world_now_ns(&bench->world);
    carrier_flush(&bench->carrier,
                  bench->now_ns); /* tells it the time, or the first connections were late */
    while (bench_wants_more(bench)) {
        carrier_flush(&bench->carrier, bench->now_ns);
        bool busy = (bench->source != NULL && source_has_work(bench->source)) ||
                    (bench->logins != NULL && logins_have_work(bench->logins));
        carrier_poll(&bench->carrier, bench->now_ns, busy ? 0 : PATIENCE_MS);
        bench->now_ns = world_now_ns(&bench->world);
    }
    carrier_flush(&bench->carrier, bench->now_ns);
}

static void secure_tell(const struct secure *secure, struct report *report)
{
    struct secure_counters tls;
    if (secure != NULL) {
        secure_count(secure, &tls);
        report_count(report, "tls_handshakes", tls.handshakes);
        report_count(report, "tls_resumed", tls.resumed);
        report_count(report, "tls_failed", tls.failed);
    }
}

static bool source_tell(const struct bench *bench, struct report *report)
{
    const struct source_counters *counters = source_counters(bench->source);
    const struct source_settings *settings = &bench->options.source;
    double measured_s = source_measured_s(bench->source);
    double rate = measured_s > 0 ? (double)counters->measured / measured_s : 0;
    char run[17];
    snprintf(run, sizeof(run), "%016lx", source_run(bench->source));
    report_text(report, "run", run);
    report_count(report, "issued", counters->issued);
    report_count(report, "acknowledged", counters->acknowledged);
    report_count(report, "acknowledged_deliveries", counters->deliveries);
    report_count(report, "deferred", counters->deferred);
    report_count(report, "refused", counters->refused);
    report_count(report, "unanswered", counters->unanswered);
    report_count(report, "connections", counters->connections);
    report_count(report, "connections_failed", counters->connections_failed);
    report_count(report, "connections_lost", counters->connections_lost);
    report_number(report, "measured_s", measured_s);
    report_number(report, "sent_per_s", rate);
    report_number(report, "sent_mb_per_s", rate * (double)settings->message_bytes / 1e6);
    secure_tell(source_secure(bench->source), report);
    report_latency(report, "answer_us", source_latency(bench->source));
    if (source_trouble(bench->source)[0] != '\0') {
        report_text(report, "first_trouble", source_trouble(bench->source));
    }
    return counters->acknowledged > 0 && counters->acknowledged == counters->issued &&
           !source_stalled(bench->source);
}

static bool sink_tell(const struct bench *bench, struct report *report)
{
    const struct sink_counters *counters = sink_counters(bench->sink);
    uint64_t different, repeated, missing;
    sink_deliveries(bench->sink, &different, &repeated, &missing);
    double taken_s = (double)(bench->sink_last_ns - bench->sink_first_ns) / 1e9;
    uint64_t first_ns = bench->source != NULL ? source_first_ns(bench->source) : 0;
    if (first_ns != 0 &&
        bench->sink_last_ns > first_ns) { /* of a loop: all of it, the slow end too */
        report_number(report, "through_per_s",
                      (double)counters->messages * 1e9 / (double)(bench->sink_last_ns - first_ns));
    }
    report_count(report, "sink_connections", counters->connections);
    report_count(report, "taken", counters->messages);
    report_count(report, "proven", counters->proven);
    report_count(report, "damaged", counters->damaged);
    report_count(report, "foreign", counters->foreign);
    report_count(report, "torn", counters->torn);
    report_count(report, "bare_lf", counters->bare_lf);
    report_count(report, "commands_refused", counters->wrong);
    report_count(report, "deliveries", different);
    report_count(report, "deliveries_repeated", repeated);
    report_count(report, "deliveries_missing", missing);
    report_number(report, "taken_per_s", taken_s > 0 ? (double)counters->messages / taken_s : 0);
    report_latency(report, "way_us", sink_latency(bench->sink));
    bool all_back =
        bench->source == NULL || different >= source_counters(bench->source)->deliveries;
    return counters->damaged == 0 && repeated == 0 && missing == 0 && all_back;
}

static bool exchange_tell(const struct bench *bench, struct report *report)
{
    const struct exchange_counters *counters =
        bench->asker != NULL ? asker_counters(bench->asker) : answerer_counters(bench->answerer);
    report_count(report, "connections", counters->connections);
    report_count(report, "exchanges", counters->exchanges);
    report_count(report, "failed", counters->failed);
    report_count(report, "bytes", counters->bytes);
    if (bench->asker != NULL) {
        double measured_s = asker_measured_s(bench->asker);
        report_number(report, "exchanges_per_s", (double)counters->measured / measured_s);
        report_number(report, "gbit_per_s",
                      (double)counters->measured_bytes * 8 / 1e9 / measured_s);
        report_latency(report, "exchange_us", asker_latency(bench->asker));
    }
    if (bench->options.flood.kind != FLOOD_NONE) {
        report_count(report, "flooded", bench->flood.sent);
        report_count(report, "flood_lost", bench->flood.lost);
    }
    return counters->failed == 0 && counters->connections > 0;
}

static bool logins_tell(const struct bench *bench, struct report *report)
{
    const struct logins_counters *counters = logins_counters(bench->logins);
    report_count(report, "logins", counters->logins);
    report_count(report, "refused", counters->refused);
    report_count(report, "lost", counters->lost);
    report_number(report, "logins_per_s",
                  (double)counters->measured / logins_measured_s(bench->logins));
    secure_tell(logins_secure(bench->logins), report);
    report_latency(report, "login_us", logins_latency(bench->logins));
    if (logins_trouble(bench->logins)[0] != '\0') {
        report_text(report, "first_trouble", logins_trouble(bench->logins));
    }
    return counters->logins > 0 && counters->refused == 0 && counters->lost == 0;
}

static bool bench_tell(const struct bench *bench)
{
    struct rusage usage;
    struct report *report = report_open();
    bool good = true;
    if (bench->asker != NULL || bench->answerer != NULL) {
        good = exchange_tell(bench, report);
    }
    if (bench->logins != NULL) {
        good = logins_tell(bench, report);
    }
    if (bench->source != NULL) {
        good = source_tell(bench, report) && good;
    }
    if (bench->sink != NULL) {
        good = sink_tell(bench, report) && good;
    }
    carrier_tell(&bench->carrier, report);
    getrusage(RUSAGE_SELF, &usage);
    report_number(report, "cpu_user_s",
                  (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6);
    report_number(report, "cpu_system_s",
                  (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
    report_print(report, bench->options.json);
    return good;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    options_parse(&bench.options, argc, argv);
    bench.world =
        (struct world){.now_ns = clock_now_ns, .wall_s = clock_wall_s, .random = random_fill};
    process_prepare();
    if (bench.options.part == BENCH_COST) {
        cpu_choose(bench.options.cpu);
        return cost_run(bench.options.json) < 0;
    }
    if (bench.options.part == BENCH_QUEUE) {
        cpu_choose(bench.options.cpu);
        const struct source_settings *source = &bench.options.source;
        const struct queue_cost_settings settings = {
            .folder = bench.options.folder,
            .count = source->count > 0 ? source->count : 1000000,
            .body_bytes = source->message_bytes,
        };
        return queue_cost_run(&settings, bench.options.json) < 0;
    }
    if (bench.options.part == BENCH_SCHED) {
        cpu_choose(bench.options.cpu);
        return sched_cost_run(bench.options.source.count, bench.options.json) < 0;
    }
    int rc = bench_open(&bench);
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: %s\n", strerror(-rc));
        bench_close(&bench);
        return 1;
    }
    bench_run(&bench);
    bool good = bench_tell(&bench);
    bench_close(&bench);
    return good ? 0 : 1;
}
