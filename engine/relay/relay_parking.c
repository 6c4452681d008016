#include "engine/relay/relay_parking.h"
#include "engine/relay/relay_part.h"
#include "queue/sched/operator.h"
#include <stdlib.h>

#define SIFT_MOST 64u /* deliveries that leave, in one call */

struct relay_parking {
    struct list_node node; /* in relay->parkings */
    struct relay_site *site;
    uint64_t until_ns;
    struct queue_filter filter;
    struct queue_matcher *matcher;
};

/* ---- Life ---- */

static void parking_wake(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    relay_site_touch(list_entry(timer, struct relay_site, wake));
}

/* It is in no table: nobody finds it but through its suspension. NULL: memory is short. */
static struct relay_site *site_make(struct relay *relay)
{
    struct relay_site *site = calloc(1, sizeof(*site));
    struct sched_site_settings settings = {.connection_count_max = 1};
    if (site == NULL) {
        return NULL;
    }
    site->relay = relay;
    site->name = strdup("suspended");
    site->fresh_until_ns = UINT64_MAX;
    list_init(&site->node);
    list_init(&site->idle);
    list_init(&site->dirty);
    timer_init(&site->wake, parking_wake);
    relay_site_times(relay->conf, &settings);
    if (site->name == NULL || sched_site_open(relay->sched, &settings, site, &site->sched) < 0) {
        free(site->name);
        free(site);
        return NULL;
    }
    list_append(&relay->sites.retired, &site->node); /* it ends as those do */
    return site;
}

static int filter_make(struct queue_filter *filter, const struct operator_suspension *said)
{
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    queue_filter_init(filter);
    return queue_filter_read(filter, slice_text(operator_of_name(said->of)), said->name, problem);
}

/* Its site, with nothing in it, ends in its next turn. */
static void parking_free(struct relay_parking *parking)
{
    queue_matcher_close(parking->matcher);
    queue_filter_free(&parking->filter);
    list_remove(&parking->node);
    free(parking);
}

static int parking_make(struct relay *relay, struct relay_suspension *suspension)
{
    struct relay_parking *parking = calloc(1, sizeof(*parking));
    if (parking == NULL) {
        return -ENOMEM;
    }
    list_init(&parking->node);
    int status = filter_make(&parking->filter, &suspension->said);
    if (status < 0) {
        free(parking);
        return status;
    }
    parking->matcher = queue_matcher_open(&parking->filter);
    parking->site = parking->matcher != NULL ? site_make(relay) : NULL;
    if (parking->site == NULL) {
        parking_free(parking);
        return -ENOMEM;
    }
    parking->site->parking = parking;
    list_append(&relay->parkings, &parking->node);
    suspension->parking = parking;
    return 0;
}

int relay_parking_begin(struct relay *relay, struct relay_suspension *suspension)
{
    bool is_new = suspension->parking == NULL;
    int status = is_new ? parking_make(relay, suspension) : 0;
    if (status < 0) {
        return status;
    }
    struct relay_parking *parking = suspension->parking;
    status = sched_site_suspend(parking->site->sched, suspension->until_ns,
                                slice_text(suspension->said.reason));
    if (status == 0) {
        parking->until_ns = suspension->until_ns;
        relay_site_touch(parking->site);
    } else if (is_new) {
        relay_parking_end(parking);
        suspension->parking = NULL;
    }
    return status;
}

void relay_parking_end(struct relay_parking *parking)
{
    parking->site->parking = NULL;
    sched_site_resume(parking->site->sched);
    relay_site_touch(parking->site);
    parking_free(parking);
}

void relay_parking_close(struct relay_parking *parking)
{
    parking_free(parking);
}

void relay_parkings_reload(struct relay *relay)
{
    struct sched_site_settings settings = {.connection_count_max = 1};
    struct list_node *all = &relay->parkings;
    relay_site_times(relay->conf, &settings);
    for (struct list_node *node = all->next; node != all; node = node->next) {
        struct relay_site *site = list_entry(node, struct relay_parking, node)->site;
        sched_site_set(site->sched, &settings);
        relay_site_touch(site);
    }
}

/* ---- What is suspended ---- */

static bool holds(const struct relay *relay, struct relay_parking *parking,
                  const struct message *message, uint32_t index)
{
    static const struct queue_facts nothing;
    return parking->until_ns > relay->shard->now_ns &&
           queue_filter_message(&parking->filter, parking->matcher, message,
                                world_wall_s(relay->shard->world)) &&
           queue_filter_recipient(&parking->filter, parking->matcher,
                                  message_forward_path(message, index), &nothing);
}

/* NULL: it is not suspended. */
static struct relay_parking *parking_of(const struct relay *relay, const struct message *message,
                                        uint32_t index)
{
    for (struct list_node *node = relay->parkings.next; node != &relay->parkings;
         node = node->next) {
        struct relay_parking *parking = list_entry(node, struct relay_parking, node);
        if (holds(relay, parking, message, index)) {
            return parking;
        }
    }
    return NULL;
}

uint64_t relay_parking_until(const struct relay *relay, const struct message *message,
                             uint32_t index)
{
    const struct relay_parking *parking = parking_of(relay, message, index);
    return parking != NULL ? parking->until_ns : 0;
}

/* ---- Whose turn it is ---- */

static struct relay_site *parking_site_of(void *owner, const struct message *message,
                                          uint32_t index)
{
    const struct relay_parking *parking = parking_of(owner, message, index);
    return parking != NULL ? parking->site : NULL;
}

bool relay_parking_takes(struct relay_site *site, struct sched_delivery *delivery)
{
    const struct relay_part_choice choice = {.where = parking_site_of, .owner = site->relay};
    return !list_empty(&site->relay->parkings) && relay_part_by(delivery, &choice);
}

bool relay_parking_sift(struct relay_site *site)
{
    struct relay *relay = site->relay;
    if (list_empty(&relay->parkings)) {
        return true;
    }
    for (unsigned i = 0; i < SIFT_MOST; i++) {
        struct sched_delivery *delivery = sched_next(site->sched, relay->shard->now_ns);
        if (delivery == NULL) {
            return true; /* nothing, or not yet: whoever counts connections knows */
        }
        if (!relay_parking_takes(site, delivery)) {
            sched_park(delivery); /* the rate at which messages go is not used up by a look */
            sched_return(delivery, sched_indexes(delivery), delivery->count);
            return true;
        }
    }
    relay_site_touch(site);
    return false;
}

void relay_parking_run(struct relay_site *site)
{
    if (site->parking != NULL && site->parking->until_ns <= site->relay->shard->now_ns) {
        relay_suspensions_look(site->relay);
    }
}
