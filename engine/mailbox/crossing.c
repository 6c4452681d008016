#include "engine/mailbox/crossing_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define RETRY_NS (100ull * 1000000) /* memory was short */

/* ---- Notes ---- */

static void note_drop(struct crossing_note *note)
{
    if (note->message.dropped != NULL) {
        note->message.dropped(&note->message);
    }
}

/* As far as there is room. Once sent, a note may be gone. */
static void queue_flush(struct crossing *crossing, struct crossing_queue *queue)
{
    while (queue->first != NULL) {
        struct crossing_note *note = queue->first, *next = note->next;
        bool over = queue->to->private == NULL; /* the shard was closed */
        if (!over && shard_send(crossing->shard, queue->to, &note->message) < 0) {
            return;
        }
        queue->first = next;
        queue->last = next == NULL ? &queue->first : queue->last;
        if (over) {
            note_drop(note);
        }
    }
}

void crossing_send(struct crossing *crossing, struct shard *to, struct crossing_note *note)
{
    check(to->settings.index < crossing->queue_count);
    struct crossing_queue *queue = &crossing->queues[to->settings.index];
    bool waits = queue->first != NULL;
    queue->to = to;
    note->next = NULL;
    *queue->last = note;
    queue->last = &note->next;
    if (!waits) {
        queue_flush(crossing, queue);
    }
}

static bool has_queued(const struct crossing *crossing)
{
    for (unsigned i = 0; i < crossing->queue_count; i++) {
        if (crossing->queues[i].first != NULL) {
            return true;
        }
    }
    return false;
}

/* ---- Words ---- */

static void word_go(struct crossing *crossing, struct shard *to, struct passage_word *word)
{
    if (word->away || word->wanted == word->said) {
        return;
    }
    word->says = word->wanted & (uint8_t)~word->said;
    word->said = word->wanted;
    word->away = true;
    crossing_send(crossing, to, &word->note);
}

void passage_say_near(struct passage *passage, uint8_t says)
{
    passage->near.word.wanted |= says;
    word_go(passage->near.crossing, passage->far_shard, &passage->near.word);
}

void passage_say_far(struct passage *passage, uint8_t says)
{
    passage->far.word.wanted |= says;
    word_go(passage->far.crossing, passage->near_shard, &passage->far.word);
}

static struct passage *passage_of_near(struct shard_message *message)
{
    return list_entry(message, struct passage, near.word.note.message);
}

static struct passage *passage_of_far(struct shard_message *message)
{
    return list_entry(message, struct passage, far.word.note.message);
}

static void near_word_returns(struct shard_message *message, struct shard *shard);
static void far_word_returns(struct shard_message *message, struct shard *shard);

static void passage_free(struct passage *passage)
{
    check(!passage->far.word.away && chunks_empty(&passage->far.received) &&
          list_empty(&passage->far.sent));
    list_remove(&passage->far.node);
    free(passage);
}

/* On the far half's shard. It goes home first: what it says may lead to the next. */
static void near_word_arrives(struct shard_message *message, struct shard *shard)
{
    struct passage *passage = passage_of_near(message);
    uint8_t says = passage->near.word.says;
    (void)shard;
    if ((says & PASSAGE_FAREWELL) != 0) {
        passage_free(passage);
        return;
    }
    message->run = near_word_returns;
    crossing_send(passage->far.crossing, passage->near_shard, &passage->near.word.note);
    passage_far_hear(passage, says);
}

static void near_word_returns(struct shard_message *message, struct shard *shard)
{
    struct passage *passage = passage_of_near(message);
    (void)shard;
    message->run = near_word_arrives;
    passage->near.word.away = false;
    passage_near_word_home(passage);
}

/* On the near half's shard. */
static void far_word_arrives(struct shard_message *message, struct shard *shard)
{
    struct passage *passage = passage_of_far(message);
    uint8_t says = passage->far.word.says;
    (void)shard;
    message->run = far_word_returns;
    crossing_send(passage->near.crossing, passage->far_shard, &passage->far.word.note);
    passage_near_hear(passage, says);
}

static void far_word_returns(struct shard_message *message, struct shard *shard)
{
    struct passage *passage = passage_of_far(message);
    (void)shard;
    message->run = far_word_arrives;
    passage->far.word.away = false;
    passage_say_far(passage, 0);
}

static void near_word_dropped(struct shard_message *message)
{
    struct passage *passage = passage_of_near(message);
    passage->near.word.away = false;
    passage_forget(passage);
}

static void far_word_dropped(struct shard_message *message)
{
    struct passage *passage = passage_of_far(message);
    passage->far.word.away = false;
    passage_forget(passage);
}

void passage_forget(struct passage *passage)
{
    if (list_empty(&passage->near.node) && list_empty(&passage->far.node) &&
        !passage->near.word.away && !passage->far.word.away) {
        free(passage);
    }
}

void chunk_dropped(struct shard_message *message)
{
    struct chunk *chunk = list_entry(message, struct chunk, note.message);
    struct ref *owner = chunk->owner;
    list_remove(&chunk->sent);
    free(chunk);
    if (owner != NULL) {
        ref_drop(owner);
    }
}

/* ---- Making a passage ---- */

static size_t endpoint_bytes(const struct endpoint *endpoint)
{
    size_t path = endpoint->family == ENDPOINT_UNIX ? strlen(endpoint->path) + 1 : 0;
    return offsetof(struct endpoint, path) + path;
}

static struct passage *passage_new(struct stream *carrier)
{
    struct stream_facts facts;
    uint8_t exported[TLS_EXPORTER_BYTES];
    stream_facts(carrier, &facts);
    if (facts.tls != NULL && facts.tls->exporter_known) {
        facts.tls->exporter(facts.tls, exported); /* who asks again does so on the other shard */
    }
    size_t local = endpoint_bytes(&facts.local), remote = endpoint_bytes(&facts.remote);
    struct passage *passage = calloc(1, sizeof(*passage) + local + remote);
    if (passage == NULL) {
        return NULL;
    }
    passage->facts = (struct passage_facts){.transport = facts.transport,
                                            .tls = facts.tls,
                                            .user_known = facts.user_known,
                                            .user = facts.user};
    memcpy(passage->endpoints, &facts.local, local);
    memcpy(passage->endpoints + local, &facts.remote, remote);
    return passage;
}

struct stream *crossing_pass(struct crossing *here, struct crossing *to, struct stream *carrier,
                             bool finished)
{
    struct passage *passage = passage_new(carrier);
    if (passage == NULL) {
        return NULL;
    }
    passage->near_shard = here->shard;
    passage->far_shard = to->shard;
    passage->stream.ops = &passage_far_operations;
    passage->far.crossing = to;
    passage->near.crossing = here;
    passage->near.carrier = carrier;
    passage->near.finished = finished;
    passage->near.word.note.message =
        (struct shard_message){.run = near_word_arrives, .dropped = near_word_dropped};
    passage->far.word.note.message =
        (struct shard_message){.run = far_word_arrives, .dropped = far_word_dropped};
    list_init(&passage->stream.ready);
    list_init(&passage->far.node);
    list_init(&passage->far.to_fill);
    list_init(&passage->far.sent);
    list_init(&passage->near.node);
    list_append(&here->fresh, &passage->near.node);
    passage_near_take(passage);
    return &passage->stream;
}

/* ---- The part ---- */

static struct passage *near_of(struct list_node *node)
{
    return list_entry(node, struct passage, near.node);
}

static struct passage *far_of(struct list_node *node)
{
    return list_entry(node, struct passage, far.node);
}

static unsigned crossing_poll(void *self, uint64_t now_ns)
{
    struct crossing *crossing = self;
    struct list_node round;
    unsigned count = 0;
    (void)now_ns;
    list_init(&round);
    list_splice(&round, &crossing->waiting);
    list_splice(&round, &crossing->ready);
    for (struct list_node *node; (node = list_pop(&round)) != NULL;) {
        struct stream *stream = list_entry(node, struct stream, ready);
        if (stream->notify == NULL) {
            list_append(&crossing->waiting, node);
            continue;
        }
        count += passage_far_tell((struct passage *)(void *)stream);
    }
    return count;
}

static void crossing_flush(void *self, uint64_t now_ns)
{
    struct crossing *crossing = self;
    (void)now_ns;
    for (struct list_node *node; (node = list_pop(&crossing->fresh)) != NULL;) {
        list_append(&crossing->passages, node);
        passage_near_begin(near_of(node));
    }
    while (!list_empty(&crossing->filling)) {
        passage_far_flush(list_entry(crossing->filling.next, struct passage, far.to_fill));
    }
    for (unsigned i = 0; i < crossing->queue_count; i++) {
        queue_flush(crossing, &crossing->queues[i]);
    }
}

/* Nobody says when a ring has room again. */
static int crossing_arm(void *self)
{
    const struct crossing *crossing = self;
    bool work = has_queued(crossing) || !list_empty(&crossing->ready) ||
                !list_empty(&crossing->fresh) || !list_empty(&crossing->filling);
    return work ? -EAGAIN : SHARD_ARM_URING;
}

void crossing_add_part(struct crossing *crossing)
{
    shard_add(crossing->shard, &(struct shard_part){.name = "crossing",
                                                    .self = crossing,
                                                    .poll = crossing_poll,
                                                    .flush = crossing_flush,
                                                    .arm = crossing_arm});
}

/* ---- Time ---- */

static void starved_again(struct timer *timer, uint64_t now_ns)
{
    struct crossing *crossing = list_entry(timer, struct crossing, starved);
    struct list_node *node, *next;
    (void)now_ns;
    for (node = crossing->passages.next; node != &crossing->passages; node = next) {
        next = node->next;
        passage_near_fed(near_of(node));
    }
    for (node = crossing->far_ends.next; node != &crossing->far_ends; node = next) {
        next = node->next;
        passage_far_fed(far_of(node));
    }
}

void crossing_retry_later(struct crossing *crossing)
{
    if (!timer_armed(&crossing->starved)) {
        wheel_arm(crossing->shard->wheel, &crossing->starved, crossing->shard->now_ns + RETRY_NS);
    }
}

static void linger_tick(struct timer *timer, uint64_t now_ns)
{
    struct crossing *crossing = list_entry(timer, struct crossing, linger);
    struct list_node *next;
    for (struct list_node *node = crossing->lingering.next; node != &crossing->lingering;
         node = next) {
        struct passage *passage = near_of(node);
        next = node->next;
        if (now_ns / SECOND_NS >= passage->near.linger_due_s) {
            passage_near_cut(passage);
        }
    }
    if (!list_empty(&crossing->lingering)) {
        wheel_arm(crossing->shard->wheel, timer, now_ns + SECOND_NS);
    }
}

void crossing_linger(struct crossing *crossing)
{
    if (!timer_armed(&crossing->linger)) {
        wheel_arm(crossing->shard->wheel, &crossing->linger, crossing->shard->now_ns + SECOND_NS);
    }
}

/* ---- Life ---- */

int crossing_open(struct crossing **made, struct shard *shard)
{
    unsigned count = shard->settings.count > shard->settings.index ? shard->settings.count
                                                                   : shard->settings.index + 1;
    struct crossing *crossing = calloc(1, sizeof(*crossing) + count * sizeof(crossing->queues[0]));
    if (crossing == NULL) {
        return -ENOMEM;
    }
    crossing->shard = shard;
    list_init(&crossing->fresh);
    list_init(&crossing->passages);
    list_init(&crossing->lingering);
    list_init(&crossing->far_ends);
    list_init(&crossing->filling);
    list_init(&crossing->ready);
    list_init(&crossing->waiting);
    timer_init(&crossing->starved, starved_again);
    timer_init(&crossing->linger, linger_tick);
    crossing->queue_count = count;
    for (unsigned i = 0; i < count; i++) {
        crossing->queues[i].last = &crossing->queues[i].first;
    }
    *made = crossing;
    return 0;
}

bool crossing_is_quiet(const struct crossing *crossing)
{
    return !has_queued(crossing) && list_empty(&crossing->fresh) &&
           list_empty(&crossing->passages) && list_empty(&crossing->lingering) &&
           list_empty(&crossing->far_ends);
}

void crossing_abort(struct crossing *crossing)
{
    struct list_node *lists[] = {&crossing->fresh, &crossing->passages, &crossing->lingering};
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct list_node *next;
        for (struct list_node *node = lists[i]->next; node != lists[i]; node = next) {
            next = node->next;
            passage_near_cut(near_of(node));
        }
    }
}

void crossing_let_go(struct crossing *crossing)
{
    for (struct list_node *node = crossing->far_ends.next; node != &crossing->far_ends;
         node = node->next) {
        passage_far_let_go(far_of(node));
    }
}

void crossing_close(struct crossing *crossing)
{
    struct list_node *lists[] = {&crossing->fresh, &crossing->passages, &crossing->lingering};
    crossing_let_go(crossing);
    wheel_disarm(crossing->shard->wheel, &crossing->starved);
    wheel_disarm(crossing->shard->wheel, &crossing->linger);
    for (unsigned i = 0; i < crossing->queue_count; i++) {
        for (struct crossing_note *note = crossing->queues[i].first, *next; note != NULL;
             note = next) {
            next = note->next;
            note_drop(note);
        }
    }
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        while (!list_empty(lists[i])) {
            passage_near_close(near_of(lists[i]->next));
        }
    }
    while (!list_empty(&crossing->far_ends)) {
        passage_far_close(far_of(crossing->far_ends.next));
    }
    free(crossing);
}
