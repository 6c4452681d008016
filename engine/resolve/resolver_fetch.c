/* The thread that fetches MTA-STS policies: many at once, with libcurl (RFC 8461 §3.3). */
#include "engine/resolve/resolver_private.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>

#define CONNECTIONS_MAX 32L
#define WRITE_AFTER_NS 1000000000ull /* what comes in a second is written to the file together */
#define IDLE_MS 60000

/* A policy that is being fetched. */
struct resolver_page {
    struct list_node node;
    struct resolver_job *job;
    CURL *curl;
    struct curl_slist *addresses;
    bool too_long;
};

static size_t body_arrived(char *bytes, size_t size, size_t count, void *owner)
{
    struct resolver_page *page = owner;
    struct resolver_job *job = page->job;
    size *= count;
    if (size > DNS_MTA_STS_POLICY_BYTES_MAX - job->text_size) {
        page->too_long = true;
        return 0;
    }
    memcpy(job->text + job->text_size, bytes, size);
    job->text_size += size;
    return size;
}

static void page_free(struct resolver_page *page)
{
    list_remove(&page->node);
    curl_easy_cleanup(page->curl);
    curl_slist_free_all(page->addresses);
    free(page);
}

/* "host:port:address,address": curl looks up no name itself. */
static int set_addresses(struct resolver_page *page, uint16_t port)
{
    const struct resolver_job *job = page->job;
    char text[DNS_NAME_BYTES + 16 + RESOLVER_ADDRESSES_MAX * 65];
    int size = snprintf(text, sizeof(text), "%s:%u:", job->name, port);
    for (unsigned i = 0; i < job->address_count; i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "%s%s", i > 0 ? "," : "",
                         job->addresses[i]);
    }
    page->addresses = curl_slist_append(NULL, text);
    return page->addresses != NULL ? 0 : -ENOMEM;
}

static int set_up(struct resolver_page *page)
{
    char url[DNS_NAME_BYTES + 64];
    CURL *curl = page->curl = curl_easy_init();
    if (curl == NULL || set_addresses(page, page->job->web_port) < 0) {
        return -ENOMEM;
    }
    snprintf(url, sizeof(url), "https://%s:%u/.well-known/mta-sts.txt", page->job->name,
             page->job->web_port);
    CURLcode bad = curl_easy_setopt(curl, CURLOPT_URL, url);
    bad |= curl_easy_setopt(curl, CURLOPT_RESOLVE, page->addresses);
    bad |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    bad |= curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L); /* MUST NOT, §3.3 */
    bad |= curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    bad |= curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(page->job->web_timeout_ns / 1000000));
    bad |= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    bad |= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, body_arrived);
    bad |= curl_easy_setopt(curl, CURLOPT_WRITEDATA, page);
    bad |= curl_easy_setopt(curl, CURLOPT_PRIVATE, page);
    if (page->job->web_authorities != NULL) {
        bad |= curl_easy_setopt(curl, CURLOPT_CAINFO, page->job->web_authorities);
    }
    return bad == CURLE_OK ? 0 : -EINVAL;
}

static void page_begin(CURLM *multi, struct list_node *pages, struct resolver_job *job)
{
    struct resolver_page *page = calloc(1, sizeof(*page));
    job->text = malloc(DNS_MTA_STS_POLICY_BYTES_MAX);
    if (page == NULL || job->text == NULL) {
        free(page);
        resolver_job_fail(job, "out of memory");
        return;
    }
    page->job = job;
    list_append(pages, &page->node);
    if (set_up(page) < 0 || curl_multi_add_handle(multi, page->curl) != CURLM_OK) {
        page_free(page);
        resolver_job_fail(job, "the fetch could not be set up");
    }
}

static bool is_plain_text(CURL *curl)
{
    const char *type = NULL;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    struct slice text = type != NULL ? slice_text(type) : slice_of("", 0);
    struct slice wanted = slice_text("text/plain");
    return slice_equal_nocase(slice_first(text, wanted.size), wanted) &&
           (text.size == wanted.size || strchr("; \t", text.bytes[wanted.size]) != NULL);
}

static void page_end(CURLM *multi, struct resolver_page *page, CURLcode result)
{
    struct resolver_job *job = page->job;
    long code = 0;
    curl_easy_getinfo(page->curl, CURLINFO_RESPONSE_CODE, &code);
    if (result == CURLE_PEER_FAILED_VERIFICATION) {
        job->fetch_status = RESOLVE_FETCH_CERTIFICATE_INVALID;
    } else if (result != CURLE_OK || code != 200 || page->too_long || !is_plain_text(page->curl)) {
        job->fetch_status = RESOLVE_FETCH_FAILED;
    } else {
        job->fetch_status = RESOLVE_FETCH_OK;
    }
    if (job->fetch_status != RESOLVE_FETCH_OK) {
        job->text_size = 0;
    }
    curl_multi_remove_handle(multi, page->curl);
    page_free(page);
    resolver_job_return(job);
}

static void end_finished(CURLM *multi)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        struct resolver_page *page = NULL;
        CURLcode result = message->data.result;
        if (message->msg == CURLMSG_DONE) {
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &page);
            page_end(multi, page, result);
        }
    }
}

static void take_in(struct resolver_fetcher *fetcher, struct list_node *jobs,
                    struct list_node *pages)
{
    struct policy_file *policies = &fetcher->resolver->policies;
    struct list_node *node;
    while ((node = list_pop(jobs)) != NULL) {
        struct resolver_job *job = list_entry(node, struct resolver_job, node);
        if (job->kind == RESOLVER_FETCH) {
            page_begin(fetcher->multi, pages, job);
            continue;
        }
        if (!policies->changed) {
            fetcher->write_ns = world_now_ns(fetcher->resolver->world) + WRITE_AFTER_NS;
        }
        policy_file_put(policies, slice_of(job->text, job->text_size));
        resolver_job_free(job);
    }
}

/* Writes when it is time. Returns how long there is nothing to do. */
static int write_policies(struct resolver_fetcher *fetcher)
{
    struct policy_file *policies = &fetcher->resolver->policies;
    uint64_t now_ns = world_now_ns(fetcher->resolver->world);
    if (!policies->changed) {
        return IDLE_MS;
    }
    if (now_ns < fetcher->write_ns) {
        return (int)((fetcher->write_ns - now_ns) / 1000000) + 1;
    }
    if (policy_file_write(policies) < 0) {
        policies->changed = true; /* the disk may be full: again in a minute */
        fetcher->write_ns = now_ns + 60 * WRITE_AFTER_NS;
    }
    return IDLE_MS;
}

static void *fetcher_main(void *owner)
{
    struct resolver_fetcher *fetcher = owner;
    CURLM *multi = fetcher->multi;
    struct list_node jobs, pages;
    list_init(&jobs);
    list_init(&pages);
    while (resolver_inbox_take(&fetcher->inbox, &jobs)) {
        struct curl_waitfd inbox = {.fd = fetcher->inbox.fd, .events = CURL_WAIT_POLLIN};
        int running;
        take_in(fetcher, &jobs, &pages);
        curl_multi_perform(multi, &running);
        end_finished(multi);
        curl_multi_poll(multi, &inbox, 1, write_policies(fetcher), NULL);
    }
    take_in(fetcher, &jobs, &pages); /* the last policies are kept too */
    while (!list_empty(&pages)) {
        struct resolver_page *page = list_entry(pages.next, struct resolver_page, node);
        page_end(multi, page, CURLE_ABORTED_BY_CALLBACK);
    }
    (void)policy_file_write(&fetcher->resolver->policies);
    return NULL;
}

static int open_parts(struct resolver_fetcher *fetcher)
{
    fetcher->multi = curl_multi_init();
    if (fetcher->multi == NULL) {
        return -ENOMEM;
    }
    curl_multi_setopt(fetcher->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
    int status = resolver_inbox_open(&fetcher->inbox);
    if (status < 0) {
        curl_multi_cleanup(fetcher->multi);
        return status;
    }
    status = resolver_thread_start(&fetcher->thread, fetcher_main, fetcher);
    if (status < 0) {
        resolver_inbox_close(&fetcher->inbox);
        curl_multi_cleanup(fetcher->multi);
    }
    return status;
}

int resolver_fetcher_open(struct resolver_fetcher *fetcher, struct resolver *resolver)
{
    fetcher->resolver = resolver;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return -ENOMEM;
    }
    int status = open_parts(fetcher);
    if (status < 0) {
        curl_global_cleanup();
    }
    return status;
}

void resolver_fetcher_close(struct resolver_fetcher *fetcher)
{
    resolver_inbox_stop(&fetcher->inbox);
    pthread_join(fetcher->thread, NULL);
    resolver_inbox_close(&fetcher->inbox);
    curl_multi_cleanup(fetcher->multi);
    curl_global_cleanup();
}
