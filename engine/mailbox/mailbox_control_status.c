/* status: what is counted, the sums of all shards. */
#include "engine/mailbox/mailbox_control_private.h"
#include "engine/mailbox/mailbox_store.h"
#include "engine/mailbox/outgoing.h"
#include "engine/mailbox/search_desk.h"
#include "engine/tls/tls.h"
#include <unistd.h>

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

struct number {
    const char *key;
    uint64_t value;
};

static json_t *numbers(const struct number *rows, size_t count)
{
    json_t *json = json_object();
    for (size_t i = 0; i < count; i++) {
        set_number(json, rows[i].key, rows[i].value);
    }
    return json;
}
#define NUMBERS(rows) numbers(rows, sizeof(rows) / sizeof((rows)[0]))

static json_t *service_numbers(const struct mailbox_counters *counters)
{
    const struct number rows[] = {
        {"connections", counters->connections},
        {"connections_refused", counters->connections_refused},
        {"connections_refused_address", counters->connections_refused_address},
        {"logins_refused", counters->logins_refused},
        {"kicked", counters->kicked},
        {"messages", counters->messages},
        {"deliveries", counters->delivered},
        {"unknown_users", counters->unknown_users},
        {"refused", counters->refused},
    };
    return NUMBERS(rows);
}

static json_t *protocol_numbers(const struct mailbox_protocol_counters *counters)
{
    const struct number rows[] = {
        {"connections", counters->connections},     {"logins", counters->logins},
        {"logins_failed", counters->logins_failed}, {"commands", counters->commands},
        {"bytes_in", counters->bytes_in},           {"bytes_out", counters->bytes_out},
    };
    return NUMBERS(rows);
}

static json_t *store_numbers(const struct mailstore_counters *counters)
{
    const struct number rows[] = {
        {"delivered", counters->delivered},
        {"texts_committed", counters->texts_committed},
        {"bytes_in", counters->bytes_in},
        {"changes", counters->changes},
        {"changes_failed", counters->changes_failed},
        {"refused_quota", counters->refused_quota},
        {"entries_expunged", counters->entries_expunged},
        {"entries_restored", counters->entries_restored},
        {"texts_dropped", counters->texts_dropped},
        {"fetches", counters->fetches},
        {"fetch_failures", counters->fetch_failures},
        {"segments_cleaned", counters->segments_cleaned},
        {"copied_bytes", counters->copied_bytes},
        {"carried_records", counters->carried_records},
        {"snapshots", counters->snapshots},
        {"snapshot_bytes", counters->snapshot_bytes},
    };
    return NUMBERS(rows);
}

static json_t *index_numbers(const struct mailstore_counters *counters)
{
    const struct number rows[] = {
        {"writes", counters->index_writes},
        {"rows", counters->index_rows},
        {"replayed_records", counters->replayed_records},
        {"rebuilds", counters->rebuilds},
        {"damaged_bytes", counters->damaged_bytes},
    };
    return NUMBERS(rows);
}

static json_t *log_numbers(const struct log_counters *counters)
{
    const struct number rows[] = {
        {"records", counters->records},
        {"record_bytes", counters->record_bytes},
        {"writes", counters->writes},
        {"write_bytes", counters->write_bytes},
        {"write_failures", counters->write_failures},
        {"refused_full", counters->refused_full},
        {"refused_broken", counters->refused_broken},
        {"damaged_bytes", counters->damaged_bytes},
        {"unread_bytes", counters->unread_bytes},
        {"segments_freed", counters->segments_freed},
    };
    return NUMBERS(rows);
}

static json_t *outgoing_numbers(const struct outgoing_counters *counters)
{
    const struct number rows[] = {
        {"sent", counters->sent},
        {"deferred", counters->deferred},
        {"returned", counters->returned},
        {"dropped", counters->dropped},
        {"connections", counters->connections},
    };
    return NUMBERS(rows);
}

static json_t *search_numbers(const struct search_desk_counters *counters)
{
    const struct number rows[] = {
        {"questions", counters->questions},
        {"unanswered", counters->unanswered},
        {"passes", counters->passes},
        {"texts_added", counters->texts_added},
        {"texts_dropped", counters->texts_dropped},
        {"failures", counters->failures},
    };
    return NUMBERS(rows);
}

static json_t *maildir_numbers(struct maildir *store)
{
    struct maildir_counters counters;
    maildir_read_counters(store, &counters);
    const struct number rows[] = {
        {"messages", counters.messages},
        {"deliveries", counters.deliveries},
        {"refused_quota", counters.refused_quota},
        {"failed", counters.failed},
        {"bytes", counters.bytes},
        {"batches", counters.batches},
        {"syncs", counters.syncs},
    };
    return NUMBERS(rows);
}

static json_t *tls_numbers(const struct tls_counters *counters)
{
    const struct number rows[] = {
        {"accepted", counters->accepted},   {"resumed", counters->resumed},
        {"failed", counters->failed},       {"put_off", counters->turns_put_off},
        {"truncated", counters->truncated},
    };
    return NUMBERS(rows);
}

static json_t *shard_numbers(const struct shard *shard)
{
    const struct number rows[] = {
        {"rounds", shard->counters.rounds},
        {"busy_rounds", shard->counters.busy_rounds},
        {"busy_us", shard->counters.busy_ns / 1000},
        {"sleeps", shard->counters.sleeps},
        {"system_calls", shard->uring != NULL ? shard->uring->enter_count : 0},
    };
    return NUMBERS(rows);
}

static const struct {
    const char *counters, *sessions;
} protocols[CONF_PROTOCOL_COUNT] = {
    [CONF_PROTOCOL_LMTP] = {"lmtp", "sessions_lmtp"},
    [CONF_PROTOCOL_IMAP] = {"imap", "sessions_imap"},
    [CONF_PROTOCOL_POP3] = {"pop3", "sessions_pop3"},
    [CONF_PROTOCOL_SIEVE] = {"sieve", "sessions_sieve"},
};

static json_t *counted(const struct mailbox *mailbox)
{
    json_t *json = json_object();
    json_object_set_new(json, "mailbox", service_numbers(&mailbox->counters));
    for (unsigned i = 0; i < CONF_PROTOCOL_COUNT; i++) {
        if (protocols[i].counters != NULL) {
            json_object_set_new(json, protocols[i].counters,
                                protocol_numbers(&mailbox->counters.of[i]));
        }
    }
    if (mailbox->texts != NULL) {
        const struct mailstore_counters *store = mailstore_counters(mailbox->texts);
        json_object_set_new(json, "store", store_numbers(store));
        json_object_set_new(json, "index", index_numbers(store));
    }
    if (mailbox->own != NULL) {
        json_object_set_new(json, "log", log_numbers(mailbox_store_log_counters(mailbox->own)));
    }
    if (mailbox->outgoing != NULL) {
        json_object_set_new(json, "outgoing",
                            outgoing_numbers(outgoing_counters(mailbox->outgoing)));
    }
    if (mailbox->searches != NULL) {
        struct search_desk_counters searches;
        search_desk_counters(mailbox->searches, &searches);
        json_object_set_new(json, "search", search_numbers(&searches));
    }
    if (mailbox->store != NULL) {
        json_object_set_new(json, "maildir", maildir_numbers(mailbox->store));
    }
    if (mailbox->tls != NULL) {
        json_object_set_new(json, "tls", tls_numbers(tls_counters(mailbox->tls)));
    }
    json_object_set_new(json, "shard", shard_numbers(mailbox->shard));
    return json;
}

/* What the store has on the disk, and in memory. */
static void store_gauges(json_t *json, const struct mailbox *mailbox)
{
    const struct mailstore_counters *store = mailstore_counters(mailbox->texts);
    const struct log_counters *log = mailbox_store_log_counters(mailbox->own);
    struct mailstore_fill fill;
    mailstore_fill(mailbox->texts, &fill);
    set_number(json, "live_bytes", fill.live_bytes);
    set_number(json, "capacity_bytes", fill.capacity_bytes);
    set_number(json, "disk_free_bytes", fill.disk_free_bytes);
    set_number(json, "memory_bytes", store->memory_bytes);
    set_number(json, "users_loaded", store->users_loaded);
    set_number(json, "mailboxes_loaded", store->boxes_loaded);
    set_number(json, "drafts", store->drafts);
    set_number(json, "segments_used", log->segments_used);
    set_number(json, "segments_spare", log->segments_spare);
}

static json_t *gauged(const struct mailbox *mailbox)
{
    json_t *json = json_object();
    set_number(json, "sessions", mailbox->counters.sessions);
    for (unsigned i = 0; i < CONF_PROTOCOL_COUNT; i++) {
        if (protocols[i].sessions != NULL) {
            set_number(json, protocols[i].sessions, mailbox->counters.of[i].sessions);
        }
    }
    set_number(json, "poll_gap_us_max", mailbox->shard->counters.poll_gap_ns_max / 1000);
    if (mailbox->own != NULL) {
        store_gauges(json, mailbox);
    }
    if (mailbox->outgoing != NULL) {
        set_number(json, "outgoing_waiting", outgoing_counters(mailbox->outgoing)->waiting);
    }
    if (mailbox->searches != NULL) {
        struct search_desk_counters searches;
        search_desk_counters(mailbox->searches, &searches);
        set_number(json, "search_users", searches.keepers);
        set_number(json, "search_answer_bytes", searches.answer_bytes);
    }
    return json;
}

/* ---- Sums ---- */

static json_int_t least(json_int_t a, json_int_t b)
{
    return a < b ? a : b;
}

/* The largest of all is no sum of them; all shards have one disk. */
static json_int_t together(const char *key, json_int_t a, json_int_t b)
{
    size_t size = strlen(key);
    if (size > 4 && strcmp(key + size - 4, "_max") == 0) {
        return a > b ? a : b;
    }
    return strcmp(key, "disk_free_bytes") == 0 ? least(a, b) : a + b;
}

/* A shard may have what others have not. */
static void sum_add(json_t *sum, json_t *share)
{
    const char *key;
    json_t *value;
    json_object_foreach(share, key, value)
    {
        json_t *there = json_object_get(sum, key);
        if (there == NULL) {
            json_object_set(sum, key, value);
        } else if (json_is_object(value)) {
            sum_add(there, value);
        } else {
            json_integer_set(there,
                             together(key, json_integer_value(there), json_integer_value(value)));
        }
    }
}

/* Each shard may grow into all that is free, and all of them only once. */
static void capacity_bound(json_t *gauges, uint64_t segment_bytes)
{
    json_t *capacity = json_object_get(gauges, "capacity_bytes");
    if (capacity != NULL) {
        json_int_t files = json_integer_value(json_object_get(gauges, "segments_used")) +
                           json_integer_value(json_object_get(gauges, "segments_spare"));
        json_int_t all = files * (json_int_t)segment_bytes +
                         json_integer_value(json_object_get(gauges, "disk_free_bytes"));
        json_integer_set(capacity, least(json_integer_value(capacity), all));
    }
}

static void status_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    json_t *share = json_pack("{s:o,s:o}", "counters", counted(mailbox), "gauges", gauged(mailbox));
    if (share == NULL) {
        job->failed = true;
    } else if (job->sum == NULL) {
        job->sum = json_incref(share);
    } else {
        sum_add(job->sum, share);
    }
    json_decref(share);
    job_go_on(job);
}

static void status_back(struct mailbox_job *job)
{
    const struct mailbox_control *control = job->control;
    const struct mailbox *mailbox = control->mailbox;
    uint64_t uptime_ns = mailbox->shard->now_ns - control->opened_ns;
    if (job->failed) {
        return;
    }
    json_t *gauges = json_object_get(job->sum, "gauges");
    if (job->group->count > 1) {
        capacity_bound(gauges, mailbox->conf->store.segment_bytes);
    }
    job_line(job, json_pack("{s:o,s:I,s:I,s:i,s:O,s:O}", "hostname",
                            control_text(slice_text(mailbox->conf->hostname)), "pid",
                            (json_int_t)getpid(), "uptime_s", (json_int_t)(uptime_ns / 1000000000),
                            "shards", (int)job->group->count, "counters",
                            json_object_get(job->sum, "counters"), "gauges", gauges));
}

void status_ask(struct mailbox_control *control, struct control_request *request)
{
    static const struct mailbox_order nothing;
    struct mailbox_job *job = job_new(control, request, &nothing, sizeof *job);
    if (job != NULL) {
        job->there = status_there;
        job->back = status_back;
        job_tour(job);
    }
}
