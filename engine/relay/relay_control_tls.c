/* tls report: each shard's rows, and rows of the same domain put together. */
#include "engine/relay/relay_control_private.h"
#include "engine/relay/tls_report.h"
#include <stdio.h>
#include <time.h>

/* ---- On each shard ---- */

static void row_visit(void *owner, const struct tls_report_row *row)
{
    json_t *rows = owner, *results = json_object();
    char day[16] = "";
    time_t wall_s = (time_t)row->day * 86400;
    struct tm date;
    if (gmtime_r(&wall_s, &date) != NULL) {
        strftime(day, sizeof day, "%Y-%m-%d", &date);
    }
    for (unsigned i = 0; i < TLS_RESULT_COUNT; i++) {
        if (row->counts[i] > 0) {
            json_object_set_new(results, tls_result_name((enum tls_result)i),
                                json_integer((json_int_t)row->counts[i]));
        }
    }
    json_array_append_new(rows, json_pack("{s:s, s:o, s:s, s:o}", "day", day, "domain",
                                          control_text(slice_text(row->domain)), "policy",
                                          tls_policy_kind_name((enum tls_policy_kind)row->kind),
                                          "results", results));
}

void tls_share_answer(struct share *share)
{
    share->answer = json_array();
    tls_report_each(relay_tls_report(worker_relay(share->worker)), row_visit, share->answer);
    share->status = share->answer == NULL ? -ENOMEM : 0;
}

/* ---- Back on shard 0 ---- */

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text != NULL ? text : "";
}

static void results_add(json_t *into, const json_t *from)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        json_int_t before = json_integer_value(json_object_get(into, key));
        json_object_set_new(into, key, json_integer(before + json_integer_value(value)));
    }
}

static void rows_add(json_t *all, const json_t *rows)
{
    size_t index;
    json_t *row;
    json_array_foreach(rows, index, row)
    {
        char key[512];
        snprintf(key, sizeof key, "%s %s %s", text_of(row, "day"), text_of(row, "domain"),
                 text_of(row, "policy"));
        json_t *known = json_object_get(all, key);
        if (known == NULL) {
            json_object_set(all, key, row);
        } else {
            results_add(json_object_get(known, "results"), json_object_get(row, "results"));
        }
    }
}

void tls_finish(struct question *question)
{
    json_t *all = json_object(), *row;
    const char *key;
    for (unsigned i = 0; i < question->share_count; i++) {
        rows_add(all, question->shares[i].answer);
    }
    json_object_foreach(all, key, row)
    {
        control_line(question->request, json_incref(row));
    }
    json_decref(all);
    control_finish(question->request);
}
