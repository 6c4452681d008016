#include "engine/relay/relay_control_net.h"
#include "engine/net/counter_names.h"
#include "engine/net/stack.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- the question ---- */

static bool word_is(struct slice word, const char *text)
{
    return slice_equal(word, slice_text(text));
}

static int parse_number(struct slice text, uint64_t max, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return -EINVAL;
        }
        *number = *number * 10 + (uint64_t)(text.bytes[i] - '0');
        if (*number > max) {
            return -EINVAL;
        }
    }
    return text.size == 0 ? -EINVAL : 0;
}

static int parse_cursor(struct net_question *question, struct slice cursor, unsigned shard_count,
                        unsigned port_count)
{
    const uint64_t max[] = {shard_count - 1, port_count - 1, UINT32_MAX};
    uint64_t numbers[3] = {0};
    if (cursor.size == 0) {
        return 0;
    }
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *point = i < 2 ? memchr(cursor.bytes, '.', cursor.size) : NULL;
        if (i < 2 && point == NULL) {
            return -EINVAL;
        }
        size_t size = point == NULL ? cursor.size : (size_t)(point - cursor.bytes);
        if (parse_number(slice_first(cursor, size), max[i], &numbers[i]) < 0) {
            return -EINVAL;
        }
        cursor = slice_from(cursor, size + 1);
    }
    question->shard = (unsigned)numbers[0];
    question->port = (unsigned)numbers[1];
    question->position = (uint32_t)numbers[2];
    return 0;
}

/* "192.0.2.1:25", "192.0.2.0/24", "fd00::1", ":25". */
static int parse_place(struct slice text, struct network_prefix *prefix, uint16_t *port)
{
    struct endpoint at;
    uint64_t number = 0;
    if (text.size > 1 && text.bytes[0] == ':' &&
        parse_number(slice_of(text.bytes + 1, text.size - 1), UINT16_MAX, &number) == 0) {
        *port = (uint16_t)number;
        return 0;
    }
    if (network_prefix_parse(prefix, text) == 0) {
        return 0;
    }
    if (endpoint_parse(&at, text) < 0 || at.family == ENDPOINT_UNIX) {
        return -EINVAL;
    }
    *port = at.port;
    *prefix =
        (struct network_prefix){.address = at, .length = at.family == ENDPOINT_IPV4 ? 32 : 128};
    return 0;
}

static int parse_state(struct slice text, uint32_t *states)
{
    for (unsigned i = 0; i < TCP_FACTS_STATES; i++) {
        const char *name = tcp_facts_state_name((enum tcp_facts_state)i);
        if (text.size == strlen(name) &&
            strncasecmp(name, (const char *)text.bytes, text.size) == 0) {
            *states |= 1u << i;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_words(struct net_question *question, const struct control_request *request)
{
    struct tcp_facts_filter *filter = &question->filter;
    int status = 0;
    for (unsigned i = 0; i < request->word_count && status == 0; i++) {
        struct slice word = request->words[i];
        if (word_is(word, "live") && question->verb == CONTROL_NET_TRACE) {
            question->live = true;
            continue;
        }
        if (++i == request->word_count) {
            return -EINVAL;
        }
        if (word_is(word, "state")) {
            status = parse_state(request->words[i], &filter->states);
        } else if (word_is(word, "local")) {
            status = parse_place(request->words[i], &filter->local, &filter->local_port);
        } else if (word_is(word, "remote")) {
            status = parse_place(request->words[i], &filter->remote, &filter->remote_port);
        } else {
            status = -EINVAL;
        }
    }
    return status;
}

int net_question_read(struct net_question *question, const struct control_request *request,
                      unsigned shard_count, unsigned port_count)
{
    *question = (struct net_question){
        .verb = request->verb,
        .limit = request->limit < NET_PAGE_MAX ? request->limit : NET_PAGE_MAX,
    };
    int status = parse_cursor(question, request->cursor, shard_count, port_count);
    return status < 0 ? status : parse_words(question, request);
}

bool net_question_next(const struct net_question *question, unsigned shard_count,
                       unsigned port_count, char cursor[NET_CURSOR_MAX])
{
    if (question->position != STACK_FACTS_END) {
        snprintf(cursor, NET_CURSOR_MAX, "%u.%u.%u", question->shard, question->port,
                 question->position);
        return true;
    }
    if (question->port + 1 < port_count) {
        snprintf(cursor, NET_CURSOR_MAX, "%u.%u.0", question->shard, question->port + 1);
        return true;
    }
    /* Every shard knows the same routes. */
    if (question->verb == CONTROL_NET_ROUTES || question->shard + 1 == shard_count) {
        return false;
    }
    snprintf(cursor, NET_CURSOR_MAX, "%u.0.0", question->shard + 1);
    return true;
}

/* ---- answers ---- */

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void set_endpoint(json_t *object, const char *key, const struct endpoint *at)
{
    char text[ENDPOINT_TEXT_MAX];
    endpoint_format(at, text);
    json_object_set_new(object, key, json_string(text));
}

static void set_address(json_t *object, const char *key, const struct endpoint *at)
{
    char text[ENDPOINT_TEXT_MAX];
    endpoint_format_address(at, text);
    json_object_set_new(object, key, json_string(text));
}

static void set_detail(json_t *json, const struct tcp_facts *facts)
{
    json_object_set_new(json, "congestion", json_string(facts->congestion));
    json_object_set_new(json, "recovery", json_string(facts->recovery));
    set_number(json, "receive_queue", facts->receive_queue_bytes);
    set_number(json, "send_queue", facts->send_queue_bytes);
    set_number(json, "cwnd", facts->cwnd);
    if (facts->ssthresh != UINT32_MAX) {
        set_number(json, "ssthresh", facts->ssthresh);
    }
    set_number(json, "rtt_us", facts->srtt_us);
    set_number(json, "rttvar_us", facts->rttvar_us);
    set_number(json, "rto_ms", facts->rto_ms);
    set_number(json, "backoff", facts->backoff);
    set_number(json, "mss", facts->mss);
    set_number(json, "received_mss", facts->received_mss);
    set_number(json, "path_mtu", facts->path_mtu);
    set_number(json, "snd_wnd", facts->snd_wnd);
    set_number(json, "rcv_wnd", facts->rcv_wnd);
    set_number(json, "snd_scale", facts->snd_scale);
    set_number(json, "rcv_scale", facts->rcv_scale);
    json_object_set_new(json, "timestamps", json_boolean(facts->timestamps));
    json_object_set_new(json, "sack", json_boolean(facts->sack));
    set_number(json, "unacked", facts->unacked_bytes);
    set_number(json, "sacked", facts->sacked_bytes);
    set_number(json, "lost", facts->lost_bytes);
    set_number(json, "early_segments", facts->early_segments);
    set_number(json, "bytes_acked", facts->bytes_acked);
    set_number(json, "bytes_received", facts->bytes_received);
    set_number(json, "segments_out", facts->segments_out);
    set_number(json, "segments_in", facts->segments_in);
    set_number(json, "retransmitted", facts->segments_again);
    set_number(json, "last_sent_ms", facts->last_sent_ms);
    set_number(json, "last_heard_ms", facts->last_heard_ms);
}

static json_t *connection_json(const struct tcp_facts *facts, unsigned shard)
{
    json_t *json = json_object();
    json_object_set_new(json, "state", json_string(tcp_facts_state_name(facts->state)));
    set_endpoint(json, "local", &facts->local);
    if (facts->state != TCP_FACTS_LISTEN) {
        set_endpoint(json, "remote", &facts->remote);
    }
    set_number(json, "shard", shard);
    if (facts->timer != NULL) {
        json_object_set_new(json, "timer", json_string(facts->timer));
        set_number(json, "timer_ms", facts->timer_ms);
    }
    if (facts->orphan) {
        json_object_set_new(json, "orphan", json_true());
    }
    if (facts->whole) {
        set_detail(json, facts);
    }
    return json;
}

static void list_connections(struct net_question *question, struct network *network, json_t *lines)
{
    struct tcp_facts facts[NET_PAGE_MAX];
    size_t count =
        stack_tcp_facts(network, &question->filter, &question->position, facts, question->limit);
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(lines, connection_json(&facts[i], question->shard));
    }
}

static void list_neighbors(struct net_question *question, struct network *network, json_t *lines)
{
    struct neighbour_facts facts[NET_PAGE_MAX];
    size_t count = stack_neighbour_facts(network, &question->position, facts, question->limit);
    for (size_t i = 0; i < count; i++) {
        json_t *json = json_object();
        set_address(json, "address", &facts[i].address);
        json_object_set_new(json, "state", json_string(facts[i].state));
        set_number(json, "shard", question->shard);
        if (facts[i].has_mac) {
            const uint8_t *mac = facts[i].mac;
            json_object_set_new(json, "mac",
                                json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
                                             mac[2], mac[3], mac[4], mac[5]));
            set_number(json, "confirmed_ms", facts[i].confirmed_ms);
        }
        set_number(json, "waiting", facts[i].waiting);
        json_array_append_new(lines, json);
    }
}

static void list_routes(struct net_question *question, struct network *network, json_t *lines)
{
    struct route_facts facts[NET_PAGE_MAX];
    size_t count = stack_route_facts(network, &question->position, facts, question->limit);
    for (size_t i = 0; i < count; i++) {
        char to[ENDPOINT_TEXT_MAX];
        json_t *json = json_object();
        endpoint_format_address(&facts[i].to.address, to);
        json_object_set_new(json, "to", json_sprintf("%s/%u", to, facts[i].to.length));
        if (facts[i].via.family != ENDPOINT_NONE) {
            set_address(json, "via", &facts[i].via);
        }
        set_address(json, "source", &facts[i].source);
        json_object_set_new(json, "origin", json_string(facts[i].origin));
        if (facts[i].expires_s > 0) {
            set_number(json, "expires_s", facts[i].expires_s);
        }
        json_array_append_new(lines, json);
    }
}

static void add_event(void *owner, const char *text)
{
    json_array_append_new(owner, json_string(text));
}

static json_t *trace_json(const struct trace_kept *copy, const struct net_question *question,
                          uint64_t now_ns)
{
    struct endpoint local, remote;
    json_t *json = json_object(), *events = json_array();
    endpoint_of_ip_address(&local, &copy->tuple.local, copy->tuple.local_port);
    endpoint_of_ip_address(&remote, &copy->tuple.remote, copy->tuple.remote_port);
    set_endpoint(json, "local", &local);
    set_endpoint(json, "remote", &remote);
    set_number(json, "shard", question->shard);
    json_object_set_new(json, "reason", json_string(trace_reason_name(copy->reason)));
    set_number(json, "age_ms", (now_ns - copy->at_ns) / 1000000);
    if (copy->error < 0) {
        json_object_set_new(json, "error", json_string(strerror(-copy->error)));
    }
    trace_decode(copy, add_event, events);
    json_object_set_new(json, "events", events);
    return json;
}

static void list_traces(struct net_question *question, struct worker *worker, json_t *lines)
{
    struct trace_kept copy;
    struct network *network = worker_stack(worker, question->port);
    bool found = question->live
                     ? stack_trace_live(network, &question->filter, &question->position, &copy)
                     : stack_trace_kept(network, &question->filter, &question->position, &copy);
    if (found) {
        json_array_append_new(lines, trace_json(&copy, question, worker_shard(worker)->now_ns));
    }
}

/* Where there is a choice. */
static void name_port(json_t *lines, const char *name)
{
    size_t index;
    json_t *line;
    json_array_foreach(lines, index, line)
    {
        json_object_set_new(line, "port", json_string(name));
    }
}

json_t *net_question_answer(struct net_question *question, struct worker *worker)
{
    json_t *lines = json_array();
    struct network *network = worker_stack(worker, question->port);
    if (network == NULL) { /* the shard has ended */
        question->position = STACK_FACTS_END;
        return lines;
    }
    switch (question->verb) {
    case CONTROL_NET_CONNECTIONS:
        list_connections(question, network, lines);
        break;
    case CONTROL_NET_NEIGHBORS:
        list_neighbors(question, network, lines);
        break;
    case CONTROL_NET_ROUTES:
        list_routes(question, network, lines);
        break;
    case CONTROL_NET_TRACE:
        list_traces(question, worker, lines);
        break;
    default:
        break;
    }
    if (worker_port_count(worker) > 1) {
        name_port(lines, worker_port_name(worker, question->port));
    }
    return lines;
}

json_t *net_counters_answer(struct worker *worker)
{
    const struct shard *shard = worker_shard(worker);
    json_t *counters = json_object(), *of_shard = json_object();
    static const char *const names[] = STACK_COUNTER_NAMES;
    char name[COUNTER_NAME_MAX];
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t sum = 0;
        for (unsigned port = 0; port < worker_port_count(worker); port++) {
            const struct network *stack = worker_stack(worker, port);
            sum += stack == NULL ? 0 : stack_counter_at(stack_counters(stack), i);
        }
        counter_name(names[i], name);
        set_number(counters, name, sum);
    }
    set_number(of_shard, "shard", shard->settings.index);
    set_number(of_shard, "rounds", shard->counters.rounds);
    set_number(of_shard, "poll_gap_us_max", shard->counters.poll_gap_ns_max / 1000);
    return json_pack("{s:o,s:o}", "shard", of_shard, "counters", counters);
}
