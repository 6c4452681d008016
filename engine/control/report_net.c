#include "engine/control/report_net.h"
#include <inttypes.h>
#include <stdint.h>

static const char *text_of(const json_t *object, const char *key, const char *otherwise)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : otherwise;
}

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(object, key));
    return number > 0 ? (uint64_t)number : 0;
}

static void print_number(FILE *out, const json_t *line, const char *name, const char *key)
{
    fprintf(out, " %s:%" PRIu64, name, number_of(line, key));
}

/* What is zero mostly is left out, as ss does. */
static void print_if_any(FILE *out, const json_t *line, const char *name, const char *key)
{
    if (number_of(line, key) > 0) {
        print_number(out, line, name, key);
    }
}

/* The second line of ss -ti, in its words where it has them; bytes where it counts segments. */
static void print_detail(FILE *out, const json_t *line)
{
    fprintf(out, "\t%s%s %s wscale:%" PRIu64 ",%" PRIu64,
            json_is_true(json_object_get(line, "timestamps")) ? "ts " : "",
            json_is_true(json_object_get(line, "sack")) ? "sack" : "nosack",
            text_of(line, "congestion", "-"), number_of(line, "snd_scale"),
            number_of(line, "rcv_scale"));
    print_number(out, line, "rto", "rto_ms");
    print_if_any(out, line, "backoff", "backoff");
    fprintf(out, " rtt:%.3f/%.3f", (double)number_of(line, "rtt_us") / 1000,
            (double)number_of(line, "rttvar_us") / 1000);
    print_number(out, line, "mss", "mss");
    print_number(out, line, "pmtu", "path_mtu");
    print_number(out, line, "rcvmss", "received_mss");
    print_number(out, line, "cwnd", "cwnd");
    print_if_any(out, line, "ssthresh", "ssthresh");
    print_number(out, line, "bytes_acked", "bytes_acked");
    print_number(out, line, "bytes_received", "bytes_received");
    print_number(out, line, "segs_out", "segments_out");
    print_number(out, line, "segs_in", "segments_in");
    print_number(out, line, "snd_wnd", "snd_wnd");
    print_number(out, line, "rcv_wnd", "rcv_wnd");
    print_number(out, line, "lastsnd", "last_sent_ms");
    print_number(out, line, "lastrcv", "last_heard_ms");
    print_if_any(out, line, "unacked", "unacked");
    print_if_any(out, line, "sacked", "sacked");
    print_if_any(out, line, "lost", "lost");
    print_if_any(out, line, "retrans", "retransmitted");
    print_if_any(out, line, "early", "early_segments");
    fprintf(out, " recovery:%s\n", text_of(line, "recovery", "-"));
}

/* Said where the relay has several. */
static void print_port(FILE *out, const json_t *line)
{
    if (json_object_get(line, "port") != NULL) {
        fprintf(out, " port %s", text_of(line, "port", "-"));
    }
}

void net_report_connection(struct net_report *report, const json_t *line)
{
    FILE *out = report->out;
    if (!report->titled) {
        report->titled = true;
        fprintf(out, "%-11s %7s %7s %-28s %-28s %5s\n", "State", "Recv-Q", "Send-Q",
                "Local Address:Port", "Peer Address:Port", "Shard");
    }
    fprintf(out, "%-11s %7" PRIu64 " %7" PRIu64 " %-28s %-28s %5" PRIu64,
            text_of(line, "state", "-"), number_of(line, "receive_queue"),
            number_of(line, "send_queue"), text_of(line, "local", "-"),
            text_of(line, "remote", "*"), number_of(line, "shard"));
    print_port(out, line);
    if (json_object_get(line, "timer") != NULL) {
        fprintf(out, " timer:(%s,%" PRIu64 "ms)", text_of(line, "timer", "-"),
                number_of(line, "timer_ms"));
    }
    fprintf(out, "%s\n", json_is_true(json_object_get(line, "orphan")) ? " orphan" : "");
    if (json_object_get(line, "cwnd") != NULL) {
        print_detail(out, line);
    }
}

void net_report_neighbor(struct net_report *report, const json_t *line)
{
    fprintf(report->out, "%s shard %" PRIu64, text_of(line, "address", "-"),
            number_of(line, "shard"));
    print_port(report->out, line);
    if (json_object_get(line, "mac") != NULL) {
        fprintf(report->out, " lladdr %s used %" PRIu64 "s", text_of(line, "mac", "-"),
                number_of(line, "confirmed_ms") / 1000);
    }
    if (number_of(line, "waiting") > 0) {
        fprintf(report->out, " waiting %" PRIu64, number_of(line, "waiting"));
    }
    fprintf(report->out, " %s\n", text_of(line, "state", "-"));
}

void net_report_route(struct net_report *report, const json_t *line)
{
    fprintf(report->out, "%s", text_of(line, "to", "-"));
    if (json_object_get(line, "via") != NULL) {
        fprintf(report->out, " via %s", text_of(line, "via", "-"));
    }
    print_port(report->out, line);
    fprintf(report->out, " proto %s src %s", text_of(line, "origin", "-"),
            text_of(line, "source", "-"));
    if (number_of(line, "expires_s") > 0) {
        fprintf(report->out, " expires %" PRIu64 "s", number_of(line, "expires_s"));
    }
    fprintf(report->out, "\n");
}

void net_report_trace(struct net_report *report, const json_t *line)
{
    size_t index;
    json_t *event;
    fprintf(report->out, "%s%s %s shard %" PRIu64, report->titled ? "\n" : "",
            text_of(line, "local", "-"), text_of(line, "remote", "-"), number_of(line, "shard"));
    print_port(report->out, line);
    fprintf(report->out, ", %s", text_of(line, "reason", "-"));
    report->titled = true;
    if (json_object_get(line, "error") != NULL) {
        fprintf(report->out, " (%s)", text_of(line, "error", "-"));
    }
    fprintf(report->out, ", %.3f s ago\n", (double)number_of(line, "age_ms") / 1000);
    json_array_foreach(json_object_get(line, "events"), index, event)
    {
        fprintf(report->out, "  %s\n", json_string_value(event));
    }
}

void net_report_counters(struct net_report *report, const json_t *line)
{
    const char *name;
    json_t *value, *counters = json_object_get(line, "counters");
    if (counters == NULL) {
        fprintf(report->out,
                "shard %" PRIu64 ": longest gap between polls %.3f ms, %" PRIu64 " rounds\n",
                number_of(line, "shard"), (double)number_of(line, "poll_gap_us_max") / 1000,
                number_of(line, "rounds"));
        return;
    }
    json_object_foreach(counters, name, value)
    {
        if (report->zeros || json_integer_value(value) != 0) {
            fprintf(report->out, "%-40s %20" JSON_INTEGER_FORMAT "\n", name,
                    json_integer_value(value));
        }
    }
}
