#include "engine/relay/worker_net.h"
#include "engine/net/stack.h"
#include "engine/relay/worker.h"
#include <stdlib.h>

struct wandering_frame {
    struct shard_message message;
    struct worker *origin;
    struct worker *at; /* the worker whose shard has it */
    unsigned port;
    struct rte_mbuf *frame;
};

static int frame_send(struct wandering_frame *wandering, struct worker *from)
{
    wandering->at = worker_next(from);
    return shard_send(worker_shard(from), worker_shard(wandering->at), &wandering->message);
}

static void frame_arrived(struct shard_message *message, struct shard *shard)
{
    struct wandering_frame *wandering = list_entry(message, struct wandering_frame, message);
    struct worker *here = wandering->at;
    struct network *stack = worker_stack(here, wandering->port);
    (void)shard;
    if (here == wandering->origin) {
        stack_frame_refuse(stack, wandering->frame);
        free(wandering);
    } else if (stack_frame_take(stack, wandering->frame)) {
        free(wandering);
    } else if (frame_send(wandering, here) < 0) {
        rte_pktmbuf_free(wandering->frame); /* the peer sends it again */
        free(wandering);
    }
}

int worker_net_hand_over(void *owner, struct rte_mbuf *frame)
{
    struct worker_port *port = owner;
    struct worker *worker = port->worker;
    struct wandering_frame *wandering = malloc(sizeof(*wandering));
    if (wandering == NULL) {
        return -ENOMEM;
    }
    *wandering = (struct wandering_frame){
        .message = {.run = frame_arrived}, .origin = worker, .port = port->index, .frame = frame};
    int status = frame_send(wandering, worker);
    if (status < 0) {
        free(wandering);
    }
    return status;
}

struct neighbour_question {
    struct shard_message message;
    struct worker *to;
    unsigned port;
    struct endpoint address;
};

static void question_arrived(struct shard_message *message, struct shard *shard)
{
    struct neighbour_question *question = list_entry(message, struct neighbour_question, message);
    (void)shard;
    struct network *stack = worker_stack(question->to, question->port);
    if (stack != NULL) {
        stack_neighbour_wanted(stack, &question->address);
    }
    free(question);
}

/* The first shard's: what has no hash arrives at the first queue. */
int worker_net_ask_neighbour(void *owner, const struct endpoint *address)
{
    struct worker_port *port = owner;
    struct worker *worker = port->worker;
    struct neighbour_question *question = malloc(sizeof(*question));
    if (question == NULL) {
        return -ENOMEM;
    }
    *question = (struct neighbour_question){.message = {.run = question_arrived},
                                            .to = worker_first(worker),
                                            .port = port->index,
                                            .address = *address};
    int status = shard_send(worker_shard(worker), worker_shard(question->to), &question->message);
    if (status < 0) {
        free(question);
    }
    return status;
}

struct neighbour_news {
    struct shard_message message;
    struct worker *to;
    unsigned port;
    struct endpoint address;
    uint8_t mac[6];
};

static void neighbour_arrived(struct shard_message *message, struct shard *shard)
{
    struct neighbour_news *news = list_entry(message, struct neighbour_news, message);
    (void)shard;
    struct network *stack = worker_stack(news->to, news->port);
    if (stack != NULL) {
        stack_neighbour_learn(stack, &news->address, news->mac);
    }
    free(news);
}

void worker_net_share_neighbour(void *owner, const struct endpoint *address, const uint8_t mac[6])
{
    struct worker_port *port = owner;
    struct worker *worker = port->worker;
    for (struct worker *to = worker_next(worker); to != worker; to = worker_next(to)) {
        struct neighbour_news *news = malloc(sizeof(*news));
        if (news == NULL) {
            return; /* the others ask for themselves */
        }
        *news = (struct neighbour_news){.message = {.run = neighbour_arrived},
                                        .to = to,
                                        .port = port->index,
                                        .address = *address};
        memcpy(news->mac, mac, sizeof(news->mac));
        if (shard_send(worker_shard(worker), worker_shard(to), &news->message) < 0) {
            free(news);
        }
    }
}
