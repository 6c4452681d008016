/* resolve: asks the DNS of shard 0 as its deliveries do, and answers when it has answered. */
#include "engine/relay/destination_json.h"
#include "engine/relay/relay_control_private.h"
#include "engine/resolve/resolve.h"
#include <errno.h>
#include <stdlib.h>

struct lookup {
    struct resolve_query query;
    struct list_node node; /* in control->lookups */
    struct relay_control *control;
    struct control_request *request;
};

static void lookup_free(struct lookup *lookup)
{
    list_remove(&lookup->node);
    free(lookup);
}

static void lookup_answer(struct lookup *lookup, struct destination *destination)
{
    const struct worker *first = lookup->control->settings.workers[0];
    const struct shard *shard = worker_shard((struct worker *)(uintptr_t)first);
    control_line(lookup->request, destination_json(destination, world_now_ns(shard->world)));
    control_finish(lookup->request);
    destination_drop(destination);
    lookup_free(lookup);
}

static void lookup_done(struct resolve_query *query, struct destination *destination)
{
    lookup_answer(list_entry(query, struct lookup, query), destination);
}

void resolve_ask(struct relay_control *control, struct control_request *request)
{
    static const struct resolve_options options = {.port = 25, .tls_policy = true};
    struct resolve *resolve = worker_resolve(control->settings.workers[0]);
    struct lookup *lookup = resolve != NULL ? calloc(1, sizeof(*lookup)) : NULL;
    struct destination *destination;
    if (lookup == NULL) {
        control_finish_error(request, resolve == NULL ? "unavailable" : "failed",
                             resolve == NULL ? "the relay asks no DNS" : "out of memory");
        return;
    }
    *lookup =
        (struct lookup){.query = {.done = lookup_done}, .control = control, .request = request};
    list_append(&control->lookups, &lookup->node);
    int status =
        resolve_destination(resolve, request->words[0], &options, &lookup->query, &destination);
    if (status == 0) {
        lookup_answer(lookup, destination);
    } else if (status != -EINPROGRESS) {
        control_finish_error(request, "busy", "too many domains are being looked up");
        lookup_free(lookup);
    }
}

void resolve_end_all(struct relay_control *control)
{
    while (!list_empty(&control->lookups)) {
        struct lookup *lookup = list_entry(control->lookups.next, struct lookup, node);
        resolve_cancel(worker_resolve(control->settings.workers[0]), &lookup->query);
        control_finish_error(lookup->request, "failed", "shutting down");
        lookup_free(lookup);
    }
}
