#include "engine/net/networks.h"
#include "engine/net/stack.h"
#include "engine/net/udp.h"
#include <stdlib.h>

struct networks {
    struct network network; /* first */
    struct list_node listeners;
    unsigned count;
    struct network *stacks[];
};

/* What the caller knows as its listener. */
struct networks_listener {
    struct list_node node;
    struct listen_request request;
    struct listener *of_stack[]; /* NULL: not on this one */
};

static struct networks *networks_of(const struct network *network)
{
    return (struct networks *)(uintptr_t)network; /* its first member */
}

static bool is_any(const struct endpoint *at)
{
    static const uint8_t none[sizeof(at->address)];
    return memcmp(at->address, none, sizeof(none)) == 0;
}

/* ---- Listening ---- */

static void accepted(void *owner, struct listener *of_stack, struct stream *stream)
{
    struct networks_listener *listener = owner;
    (void)of_stack;
    listener->request.accepted(listener->request.owner, (struct listener *)listener, stream);
}

static void listener_end(struct networks *self, struct networks_listener *listener)
{
    for (unsigned i = 0; i < self->count; i++) {
        if (listener->of_stack[i] != NULL) {
            self->stacks[i]->ops->unlisten(self->stacks[i], listener->of_stack[i]);
        }
    }
    list_remove(&listener->node);
    free(listener);
}

static void networks_unlisten(struct network *network, struct listener *listener)
{
    listener_end(networks_of(network), (struct networks_listener *)listener);
}

/* On those that it concerns. 0, or the first failure. */
static int listen_all(struct networks *self, struct networks_listener *listener)
{
    struct listen_request request = listener->request;
    bool any = is_any(&request.at), found = false;
    request.accepted = accepted;
    request.owner = listener;
    for (unsigned i = 0; i < self->count; i++) {
        struct network *stack = self->stacks[i];
        if (any || stack_has_address(stack, &request.at)) {
            int status = stack->ops->listen(stack, &request, &listener->of_stack[i]);
            if (status < 0) {
                return status;
            }
            found = true;
        }
    }
    return found ? 0 : -EADDRNOTAVAIL;
}

static int networks_listen(struct network *network, const struct listen_request *request,
                           struct listener **made)
{
    struct networks *self = networks_of(network);
    struct networks_listener *listener =
        calloc(1, sizeof(*listener) + self->count * sizeof(listener->of_stack[0]));
    if (listener == NULL) {
        return -ENOMEM;
    }
    listener->request = *request;
    list_init(&listener->node);
    list_append(&self->listeners, &listener->node);
    int status = listen_all(self, listener);
    if (status < 0) {
        listener_end(self, listener);
        return status;
    }
    *made = (struct listener *)listener;
    return 0;
}

/* ---- Connecting ---- */

/* NULL: *status says why. */
static struct network *stack_for(const struct networks *self, const struct endpoint *from,
                                 const struct endpoint *to, int *status)
{
    struct network *best = NULL;
    int highest = -1;
    bool bound = from->family != ENDPOINT_NONE;
    for (unsigned i = 0; i < self->count; i++) {
        if (stack_has_address(self->stacks[i], to)) {
            *status = -ENETUNREACH; /* ourselves */
            return NULL;
        }
        int rank = bound ? stack_has_address(self->stacks[i], from) - 1
                         : stack_route_rank(self->stacks[i], to);
        if (rank > highest) {
            highest = rank;
            best = self->stacks[i];
        }
    }
    *status = bound ? -EADDRNOTAVAIL : -ENETUNREACH;
    return best;
}

static int networks_connect(struct network *network, const struct connect_request *request,
                            struct stream **stream)
{
    int status;
    struct network *stack = stack_for(networks_of(network), &request->from, &request->to, &status);
    return stack == NULL ? status : stack->ops->connect(stack, request, stream);
}

int networks_datagram_open(struct network *network, const struct datagram_request *request,
                           struct datagram_socket **socket)
{
    struct connect_request as = {.to = request->peer, .from = request->at};
    struct network *stack = networks_stack(network, 0);
    int status = 0;
    if (as.from.family != ENDPOINT_NONE && is_any(&as.from)) {
        as.from.family = ENDPOINT_NONE;
    }
    if (networks_count(network) > 1 &&
        (as.from.family != ENDPOINT_NONE || as.to.family != ENDPOINT_NONE)) {
        stack = stack_for(networks_of(network), &as.from, &as.to, &status);
    }
    return stack == NULL ? status : udp_open(stack, request, socket);
}

/* ---- The round ---- */

static unsigned networks_poll(struct network *network, uint64_t now_ns)
{
    struct networks *self = networks_of(network);
    unsigned work = 0;
    for (unsigned i = 0; i < self->count; i++) {
        work += self->stacks[i]->ops->poll(self->stacks[i], now_ns);
    }
    return work;
}

static void networks_flush(struct network *network, uint64_t now_ns)
{
    struct networks *self = networks_of(network);
    for (unsigned i = 0; i < self->count; i++) {
        self->stacks[i]->ops->flush(self->stacks[i], now_ns);
    }
}

/* There is not one descriptor for all of them. */
static int networks_arm(struct network *network)
{
    struct networks *self = networks_of(network);
    for (unsigned i = 0; i < self->count; i++) {
        if (self->stacks[i]->ops->arm(self->stacks[i]) == -EAGAIN) {
            return -EAGAIN;
        }
    }
    return -ENOTSUP;
}

static void networks_close(struct network *network)
{
    struct networks *self = networks_of(network);
    for (unsigned i = 0; i < self->count; i++) {
        stack_siblings_set(self->stacks[i], NULL, 0);
    }
    while (!list_empty(&self->listeners)) {
        listener_end(self, list_entry(self->listeners.next, struct networks_listener, node));
    }
    for (unsigned i = 0; i < self->count; i++) {
        self->stacks[i]->ops->close(self->stacks[i]);
    }
    free(self);
}

static const struct network_ops networks_ops = {.listen = networks_listen,
                                                .unlisten = networks_unlisten,
                                                .connect = networks_connect,
                                                .poll = networks_poll,
                                                .flush = networks_flush,
                                                .arm = networks_arm,
                                                .close = networks_close};

int networks_open(struct network **network, struct network *const *stacks, unsigned count)
{
    check(count > 0);
    if (count == 1) {
        *network = stacks[0];
        return 0;
    }
    struct networks *self = calloc(1, sizeof(*self) + count * sizeof(self->stacks[0]));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->network = (struct network){.ops = &networks_ops, .transport = stacks[0]->transport};
    self->count = count;
    list_init(&self->listeners);
    memcpy(self->stacks, stacks, count * sizeof(self->stacks[0]));
    for (unsigned i = 0; i < count; i++) {
        stack_siblings_set(stacks[i], self->stacks, count);
    }
    *network = &self->network;
    return 0;
}

unsigned networks_count(const struct network *network)
{
    return network->ops == &networks_ops ? networks_of(network)->count : 1;
}

struct network *networks_stack(const struct network *network, unsigned index)
{
    if (network->ops == &networks_ops) {
        check(index < networks_of(network)->count);
        return networks_of(network)->stacks[index];
    }
    check(index == 0);
    return (struct network *)(uintptr_t)network;
}
