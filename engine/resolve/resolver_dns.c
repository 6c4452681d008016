/* A thread around a libunbound context: many questions at once, each with a deadline. */
#include "engine/resolve/resolver_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unbound.h>

#define CLASS_IN 1
#define RCODE_SUCCESS 0

static uint64_t now_ns(const struct resolver_dns *dns)
{
    return world_now_ns(dns->settings->world);
}

/* ---- Answers ---- */

static enum resolve_answer_status status_of(const struct ub_result *result)
{
    if (result->bogus) {
        return RESOLVE_ANSWER_BOGUS;
    }
    if (result->nxdomain) {
        return RESOLVE_ANSWER_NO_DOMAIN;
    }
    if (result->rcode != RCODE_SUCCESS) {
        return RESOLVE_ANSWER_FAILED;
    }
    return result->havedata ? RESOLVE_ANSWER_RECORDS : RESOLVE_ANSWER_NO_DATA;
}

/* One block: the slices, then what they point to. false: memory is short. */
static bool copy_records(struct resolver_job *job, const struct ub_result *result)
{
    uint32_t count = 0;
    size_t bytes = 0;
    while (result->data[count] != NULL) {
        bytes += (size_t)result->len[count++];
    }
    struct slice *slices = malloc(count * sizeof(*slices) + bytes + 1);
    if (slices == NULL) {
        return false;
    }
    uint8_t *at = (uint8_t *)(slices + count);
    for (uint32_t i = 0; i < count; i++) {
        size_t size = (size_t)result->len[i];
        memcpy(at, result->data[i], size);
        slices[i] = slice_of(at, size);
        at += size;
    }
    job->rdata = (uint8_t *)slices;
    job->answer.records = slices;
    job->answer.record_count = count;
    return true;
}

static void read_result(struct resolver_job *job, const struct ub_result *result)
{
    struct resolve_answer *answer = &job->answer;
    *answer = (struct resolve_answer){.status = (uint8_t)status_of(result),
                                      .secure = result->secure != 0,
                                      .ttl_s = result->ttl > 0 ? (uint32_t)result->ttl : 0};
    if (answer->status == RESOLVE_ANSWER_BOGUS || answer->status == RESOLVE_ANSWER_FAILED) {
        snprintf(job->reason, sizeof(job->reason), "%s",
                 result->why_bogus != NULL ? result->why_bogus : "the servers give no answer");
        answer->reason = job->reason;
        answer->secure = false;
        return;
    }
    if (answer->status == RESOLVE_ANSWER_RECORDS && !copy_records(job, result)) {
        *answer = (struct resolve_answer){.status = RESOLVE_ANSWER_FAILED};
        return;
    }
    if (result->canonname != NULL &&
        dns_name_from_text(slice_text(result->canonname), job->canonical) > 0 &&
        strcmp(job->canonical, job->name) != 0) {
        answer->canonical = job->canonical;
    }
}

/* ---- The addresses of a web server: AAAA, then A, then off to the fetcher ---- */

static void question_ask(struct resolver_dns *dns, struct resolver_job *job);

static void read_web_addresses(struct resolver_job *job, const struct ub_result *result)
{
    for (unsigned i = 0; result->havedata && result->data[i] != NULL; i++) {
        struct endpoint address;
        if (job->address_count < RESOLVER_ADDRESSES_MAX &&
            dns_address_read(job->type, slice_of(result->data[i], (size_t)result->len[i]), 0,
                             &address) == 0) {
            char text[ENDPOINT_TEXT_MAX];
            bool ipv6 = address.family == ENDPOINT_IPV6;
            endpoint_format_address(&address, text);
            snprintf(job->addresses[job->address_count++], sizeof(job->addresses[0]),
                     ipv6 ? "[%.46s]" : "%.46s", text);
        }
    }
}

static int web_settings_take(struct resolver_job *job, const struct resolver_settings *settings)
{
    job->web_port = settings->mta_sts_port;
    job->web_timeout_ns = settings->mta_sts_timeout_ns;
    if (settings->mta_sts_ca != NULL &&
        (job->web_authorities = strdup(settings->mta_sts_ca)) == NULL) {
        return -ENOMEM;
    }
    return 0;
}

static void web_address_found(struct resolver_dns *dns, struct resolver_job *job,
                              const struct ub_result *result)
{
    if (result != NULL && !result->bogus) {
        read_web_addresses(job, result);
    }
    if (job->type == DNS_TYPE_AAAA) {
        job->type = DNS_TYPE_A;
        question_ask(dns, job);
    } else if (job->address_count == 0) {
        resolver_job_fail(job, "the web server has no address");
    } else if (web_settings_take(job, dns->settings) < 0) {
        resolver_job_fail(job, "out of memory");
    } else {
        resolver_inbox_put(&dns->resolver->fetcher.inbox, job);
    }
}

/* ---- Questions ---- */

static void result_arrived(void *owner, int error, struct ub_result *result)
{
    struct resolver_job *job = owner;
    list_remove(&job->node);
    if (job->kind == RESOLVER_FETCH) {
        web_address_found(job->dns, job, error == 0 ? result : NULL);
    } else if (error != 0) {
        resolver_job_fail(job, ub_strerror(error));
    } else {
        read_result(job, result);
        resolver_job_return(job);
    }
    ub_resolve_free(result);
}

static void question_ask(struct resolver_dns *dns, struct resolver_job *job)
{
    job->deadline_ns = now_ns(dns) + dns->settings->timeout_ns;
    list_append(&dns->asked, &job->node);
    int error = ub_resolve_async(dns->context, job->name, job->type, CLASS_IN, job, result_arrived,
                                 &job->async_id);
    if (error != 0) {
        list_remove(&job->node);
        logger_line(dns->settings->logger, LOGGER_WARNING, "resolve: %s: %s", job->name,
                    ub_strerror(error));
        resolver_job_fail(job, ub_strerror(error));
    }
}

static void expire(struct resolver_dns *dns, uint64_t at_ns)
{
    while (!list_empty(&dns->asked)) {
        struct resolver_job *job = list_entry(dns->asked.next, struct resolver_job, node);
        if (job->deadline_ns > at_ns) {
            return;
        }
        list_remove(&job->node);
        ub_cancel(dns->context, job->async_id);
        if (job->kind == RESOLVER_FETCH) {
            web_address_found(dns, job, NULL);
        } else {
            resolver_job_fail(job, "no answer in time");
        }
    }
}

/* ---- The context ---- */

static int add_servers(struct ub_ctx *context, const struct resolver_settings *settings)
{
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < settings->server_count; i++) {
        const struct endpoint *server = &settings->servers[i];
        char address[ENDPOINT_TEXT_MAX], with_port[ENDPOINT_TEXT_MAX + 8];
        endpoint_format_address(server, address);
        snprintf(with_port, sizeof(with_port), "%s@%u", address,
                 server->port != 0 ? (unsigned)server->port : 53u);
        error = ub_ctx_set_fwd(context, with_port);
    }
    if (settings->server_count == 0 && settings->resolv_conf != NULL) {
        error = ub_ctx_resolvconf(context, settings->resolv_conf);
    }
    return error;
}

static int set_options(struct ub_ctx *context, const struct resolver_settings *settings)
{
    char attempts[16];
    snprintf(attempts, sizeof(attempts), "%u", settings->attempts);
    const char *const options[][2] = {
        {"module-config:", settings->dnssec ? "validator iterator" : "iterator"},
        {"do-not-query-localhost:", "no"}, /* a resolver beside us is the usual one */
        {"num-queries-per-thread:", "1024"},
        {"outgoing-range:", "256"},
        {"outgoing-num-tcp:", "32"},
        {"rrset-roundrobin:", "no"}, /* resolve shuffles */
        {"outbound-msg-retry:", attempts},
    };
    int error = 0;
    for (size_t i = 0; error == 0 && i < sizeof(options) / sizeof(options[0]); i++) {
        error = ub_ctx_set_option(context, options[i][0], options[i][1]);
        if (error != 0) {
            logger_line(settings->logger, LOGGER_ERROR, "resolve: libunbound's option %s %s: %s",
                        options[i][0], options[i][1], ub_strerror(error));
        }
    }
    return error;
}

static struct ub_ctx *context_new(const struct resolver_settings *settings)
{
    struct ub_ctx *context = ub_ctx_create();
    if (context == NULL) {
        return NULL;
    }
    ub_ctx_debugout(context, NULL); /* what matters is in the answers */
    int error = set_options(context, settings);
    if (error == 0) {
        error = add_servers(context, settings);
    }
    if (error == 0 && settings->dnssec && settings->trust_anchor != NULL) {
        error = ub_ctx_add_ta_file(context, settings->trust_anchor);
    }
    if (error == 0) {
        error = ub_ctx_async(context, 1);
    }
    if (error != 0) {
        logger_line(settings->logger, LOGGER_ERROR, "resolve: libunbound: %s", ub_strerror(error));
        ub_ctx_delete(context);
        return NULL;
    }
    return context;
}

/* A context reads its files when something is asked of it, be it only to forget a name. */
int resolver_dns_check(const struct resolver_settings *settings)
{
    struct ub_ctx *context = context_new(settings);
    if (context == NULL) {
        return -EINVAL;
    }
    int error = ub_ctx_data_remove(context, "nobody.invalid");
    if (error != 0) {
        logger_line(settings->logger, LOGGER_ERROR, "resolve: libunbound: %s%s%s",
                    ub_strerror(error), settings->dnssec ? "; dns.trust_anchor is " : "",
                    settings->dnssec && settings->trust_anchor != NULL ? settings->trust_anchor
                                                                       : "");
    }
    ub_ctx_delete(context);
    return error != 0 ? -EINVAL : 0;
}

/* ---- The thread ---- */

static void take_in(struct resolver_dns *dns, struct list_node *jobs)
{
    struct list_node *node;
    if (dns->context == NULL && !list_empty(jobs)) {
        dns->context = context_new(dns->settings);
    }
    while ((node = list_pop(jobs)) != NULL) {
        struct resolver_job *job = list_entry(node, struct resolver_job, node);
        if (dns->context != NULL) {
            question_ask(dns, job);
        } else {
            resolver_job_fail(job, "the resolver could not be set up");
        }
    }
}

static void fail_all(struct list_node *jobs)
{
    struct list_node *node;
    while ((node = list_pop(jobs)) != NULL) {
        resolver_job_fail(list_entry(node, struct resolver_job, node), "shutting down");
    }
}

static int wait_ms(const struct resolver_dns *dns)
{
    if (list_empty(&dns->asked)) {
        return -1;
    }
    uint64_t due_ns = list_entry(dns->asked.next, struct resolver_job, node)->deadline_ns;
    uint64_t at_ns = now_ns(dns);
    return due_ns > at_ns ? (int)((due_ns - at_ns) / 1000000 + 1) : 0;
}

static void *dns_main(void *owner)
{
    struct resolver_dns *dns = owner;
    struct list_node jobs;
    list_init(&jobs);
    while (resolver_inbox_take(&dns->inbox, &jobs)) {
        take_in(dns, &jobs);
        if (dns->context != NULL) {
            ub_process(dns->context);
            expire(dns, now_ns(dns));
        }
        struct pollfd watched[] = {
            {.fd = dns->inbox.fd, .events = POLLIN},
            {.fd = dns->context != NULL ? ub_fd(dns->context) : -1, .events = POLLIN},
        };
        poll(watched, 2, wait_ms(dns));
    }
    if (dns->context != NULL) {
        ub_ctx_delete(dns->context);
    }
    fail_all(&jobs);
    fail_all(&dns->asked);
    return NULL;
}

int resolver_dns_open(struct resolver_dns *dns, struct resolver *resolver,
                      const struct resolver_settings *settings)
{
    dns->resolver = resolver;
    dns->settings = settings;
    list_init(&dns->asked);
    int status = resolver_inbox_open(&dns->inbox);
    if (status < 0) {
        return status;
    }
    status = resolver_thread_start(&dns->thread, dns_main, dns);
    if (status < 0) {
        resolver_inbox_close(&dns->inbox);
    }
    return status;
}

void resolver_dns_close(struct resolver_dns *dns)
{
    resolver_inbox_stop(&dns->inbox);
    pthread_join(dns->thread, NULL);
    resolver_inbox_close(&dns->inbox);
}
