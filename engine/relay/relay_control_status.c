/* What is counted on the shards, and the sums. */
#include "engine/relay/relay_control_private.h"
#include "engine/relay/tls_report.h"
#include "engine/relay/relay_space.h"
#include "engine/resolve/resolve.h"
#include "engine/tls/tls.h"
#include "queue/log/log.h"
#include "queue/spool/spool.h"
#include <unistd.h>

/* ---- On each shard ---- */

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *relay_numbers(const struct relay_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "connections_in", counters->connections_in);
    set_number(json, "connections_refused", counters->connections_refused);
    set_number(json, "connections_pregreet", counters->connections_pregreet);
    set_number(json, "timeouts_in", counters->timeouts_in);
    set_number(json, "connections_out", counters->connections_out);
    set_number(json, "connections_out_failed", counters->connections_out_failed);
    set_number(json, "connections_out_insecure", counters->connections_out_insecure);
    set_number(json, "messages_in", counters->messages_in);
    set_number(json, "recipients_in", counters->recipients_in);
    set_number(json, "bytes_in", counters->bytes_in);
    set_number(json, "refused_commands", counters->refused_commands);
    set_number(json, "refused_messages", counters->refused_messages);
    set_number(json, "deliveries", counters->deliveries);
    set_number(json, "delivered", counters->delivered);
    set_number(json, "deferred", counters->deferred);
    set_number(json, "deferred_unreached", counters->deferred_unreached);
    set_number(json, "failed", counters->failed);
    set_number(json, "bounces", counters->bounces);
    set_number(json, "double_bounces", counters->double_bounces);
    set_number(json, "success_reports", counters->success_reports);
    set_number(json, "transports", counters->transports);
    set_number(json, "transports_refused", counters->transports_refused);
    set_number(json, "transport_failures", counters->transport_failures);
    set_number(json, "delay_reports", counters->delay_reports);
    set_number(json, "bytes_out", counters->bytes_out);
    return json;
}

static json_t *log_numbers(const struct log_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "records", counters->records);
    set_number(json, "record_bytes", counters->record_bytes);
    set_number(json, "writes", counters->writes);
    set_number(json, "write_bytes", counters->write_bytes);
    set_number(json, "write_failures", counters->write_failures);
    set_number(json, "refused_full", counters->refused_full);
    set_number(json, "refused_broken", counters->refused_broken);
    set_number(json, "damaged_bytes", counters->damaged_bytes);
    set_number(json, "unread_bytes", counters->unread_bytes);
    set_number(json, "segments_prepared", counters->segments_prepared);
    set_number(json, "segments_recycled", counters->segments_recycled);
    set_number(json, "segments_freed", counters->segments_freed);
    set_number(json, "segments_freed_between", counters->segments_freed_between);
    return json;
}

static json_t *spool_numbers(const struct spool_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "fetches", counters->fetches);
    set_number(json, "fetch_failures", counters->fetch_failures);
    set_number(json, "copied_forward_bytes", counters->copied_forward_bytes);
    set_number(json, "moved_notes", counters->moved_notes);
    set_number(json, "lost_notes", counters->lost_notes);
    return json;
}

static json_t *dns_numbers(const struct resolve_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "queries", counters->queries);
    set_number(json, "hits", counters->hits);
    set_number(json, "refused", counters->refused);
    set_number(json, "questions", counters->questions);
    set_number(json, "answers", counters->answers);
    set_number(json, "negatives", counters->negatives);
    set_number(json, "failures", counters->failures);
    set_number(json, "bogus", counters->bogus);
    set_number(json, "malformed", counters->malformed);
    set_number(json, "evicted", counters->evicted);
    set_number(json, "mta_sts_fetched", counters->mta_sts_fetched);
    set_number(json, "mta_sts_failed", counters->mta_sts_failed);
    return json;
}

/* Of next hops, by what reports call it. */
static json_t *tls_results(const struct tls_report *report)
{
    json_t *json = json_object();
    for (unsigned i = 0; i < TLS_RESULT_COUNT; i++) {
        set_number(json, tls_result_name((enum tls_result)i), report->totals[i]);
    }
    return json;
}

static json_t *tls_numbers(const struct tls_counters *counters)
{
    json_t *json = json_object();
    set_number(json, "accepted", counters->accepted);
    set_number(json, "connected", counters->connected);
    set_number(json, "resumed", counters->resumed);
    set_number(json, "failed", counters->failed);
    set_number(json, "put_off", counters->turns_put_off);
    set_number(json, "truncated", counters->truncated);
    return json;
}

void status_share_answer(struct share *share)
{
    struct relay *relay = worker_relay(share->worker);
    const struct relay_counters *counters = relay_counters(relay);
    const struct spool_counters *spool = spool_counters(relay_spool(relay));
    const struct log_counters *log = log_counters(worker_log(share->worker));
    const struct shard *shard = worker_shard(share->worker);
    const struct resolve *resolve = worker_resolve(share->worker);
    json_t *counted = json_object();
    json_t *gauges = json_object();
    json_t *rounds = json_object();
    json_object_set_new(counted, "relay", relay_numbers(counters));
    json_object_set_new(counted, "log", log_numbers(log));
    json_object_set_new(counted, "spool", spool_numbers(spool));
    json_object_set_new(counted, "tls", tls_numbers(worker_tls_counters(share->worker)));
    json_object_set_new(counted, "tls_to_next_hops", tls_results(relay_tls_report(relay)));
    if (resolve != NULL) {
        json_object_set_new(counted, "dns", dns_numbers(resolve_counters(resolve)));
        set_number(gauges, "dns_waiting", resolve_counters(resolve)->waiting);
        set_number(gauges, "dns_outstanding", resolve_counters(resolve)->outstanding);
        set_number(gauges, "dns_cache_bytes", resolve_counters(resolve)->cache_bytes);
    }
    set_number(rounds, "rounds", shard->counters.rounds);
    set_number(rounds, "busy_rounds", shard->counters.busy_rounds);
    set_number(rounds, "busy_us", shard->counters.busy_ns / 1000);
    set_number(rounds, "sleeps", shard->counters.sleeps);
    set_number(rounds, "system_calls", shard->uring != NULL ? shard->uring->enter_count : 0);
    json_object_set_new(counted, "shard", rounds);
    set_number(gauges, "poll_gap_us_max", shard->counters.poll_gap_ns_max / 1000);
    set_number(gauges, "sessions_in", counters->sessions_in);
    set_number(gauges, "sessions_out", counters->sessions_out);
    set_number(gauges, "messages_queued", spool->live_messages);
    relay_space_gauges(relay, gauges);
    set_number(gauges, "segments_used", log->segments_used);
    set_number(gauges, "segments_spare", log->segments_spare);
    share->answer = json_object();
    json_object_set_new(share->answer, "counters", counted);
    json_object_set_new(share->answer, "gauges", gauges);
}

/* ---- Back on shard 0 ---- */

/* What is the largest of a shard is no sum of all. */
static bool ends_in_max(const char *key)
{
    size_t length = strlen(key);
    return length > 4 && strcmp(key + length - 4, "_max") == 0;
}

void status_add_numbers(json_t *into, const json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        json_t *sum = json_object_get(into, key);
        if (json_is_object(value)) {
            status_add_numbers(sum, value);
        } else if (ends_in_max(key)) {
            json_integer_set(sum, json_integer_value(sum) > json_integer_value(value)
                                      ? json_integer_value(sum)
                                      : json_integer_value(value));
        } else {
            json_integer_set(sum, json_integer_value(sum) + json_integer_value(value));
        }
    }
}

void status_finish(struct question *question)
{
    json_t *sum = question->shares[0].answer;
    for (unsigned i = 1; i < question->share_count; i++) {
        status_add_numbers(sum, question->shares[i].answer);
    }
    const struct relay_control_settings *settings = &question->control->settings;
    const struct world *world = worker_shard(settings->workers[0])->world;
    json_object_set_new(sum, "shards", json_integer(question->share_count));
    json_object_set_new(sum, "hostname", control_text(slice_text(settings->hostname)));
    set_number(sum, "pid", (uint64_t)getpid());
    set_number(sum, "uptime_s",
               (world_now_ns(world) - question->control->opened_ns) / 1000000000ull);
    control_line(question->request, json_incref(sum));
    control_finish(question->request);
}
