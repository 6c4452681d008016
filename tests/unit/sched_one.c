#include "tests/unit/sched_one.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

const struct sched_site_settings settings = {
    .connection_count_max = 3,
    .address_count = 1,
    .retry = {.first_ns = 300 * SECOND, .limit_ns = 4 * HOUR},
    .reconnect = {.first_ns = 60 * SECOND, .limit_ns = HOUR},
    .expire_ns = 5 * DAY,
};

struct sched *sched;
struct sched_site *site;

int open_one(void **state)
{
    (void)state;
    sched = sched_open(1);
    return sched == NULL || sched_site_open(sched, &settings, &site, &site) != 0;
}

int close_one(void **state)
{
    (void)state;
    sched_close(sched);
    return 0;
}

void add(struct message *message, uint32_t index, uint64_t now_ns)
{
    const struct sched_request request = {
        .message = message, .indexes = &index, .count = 1, .due_ns = now_ns};
    assert_int_equal(sched_add(site, &request, now_ns), 0);
}

enum sched_defer defer_all(struct sched_delivery *delivery, uint64_t now_ns, const char *reason)
{
    return sched_defer(delivery, now_ns, sched_indexes(delivery), delivery->count,
                       slice_text(reason));
}

void connect_one(void)
{
    sched_connection_started(site);
    sched_connection_opened(site);
}
