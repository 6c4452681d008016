/*
 * Space comes back from the oldest segment on. One in which nothing lives is freed; when much of the
 * log is dead, what still lives in the oldest is copied to the end, with a new commit that carries
 * what its recipients have reached. The old bytes count until the copy is durable.
 *
 * Copying begins when less than half of the log lives, so it never writes more than mail does.
 */
#include "queue/spool/spool_private.h"

#define TRIMS_MAX 16u                /* a round */
#define COPY_BYTES_MAX (256u * 1024) /* a round */
#define COPY_MEMBERS_MAX 64u         /* a round */
#define IN_FLIGHT_MAX 256u
#define SEGMENTS_MIN 8u /* the default of forward_bytes_min */
#define REST_ROUNDS 65536u

static unsigned trim(struct spool *spool)
{
    unsigned count = 0;
    for (; count < TRIMS_MAX; count++) {
        struct log_segment_live *live = log_segment_live(spool->log, log_head_sequence(spool->log));
        if (live == NULL || live->bytes > 0 || !list_empty(&live->members) ||
            log_trim(spool->log) != 0) {
            break;
        }
    }
    return count;
}

static bool is_due(const struct spool *spool, uint32_t head, uint64_t head_bytes)
{
    const struct log *log = spool->log;
    uint64_t used = log_used_bytes(log);
    uint64_t segment = log_settings_of(log)->segment_bytes;
    if (head == log_current_sequence(log) || used < spool->live_bytes) {
        return false;
    }
    /* A packed log is dead in part too: the ends of its first and last segment, and padding. */
    uint64_t dead = used - spool->live_bytes;
    if (log_is_short(log)) {
        return dead >= 3 * segment + used / 8 && head_bytes < log_left_bytes(log) / 2;
    }
    uint64_t least = spool->settings.forward_bytes_min;
    return used > (least != 0 ? least : SEGMENTS_MIN * segment) &&
           dead > spool->live_bytes + 4 * segment;
}

static void fetched(struct spool_waiter *waiter, int status)
{
    struct spool_fetch *fetch = list_entry(waiter, struct spool_fetch, waiter);
    (void)status; /* reading says it again */
    list_entry(fetch, struct spool_forward, fetch)->fetching = false;
}

/* Copies one body record. 0 with *to; -EINPROGRESS, -EAGAIN, or why it cannot be moved. */
static int extent_copy(struct spool *spool, uint64_t id, const struct spool_extent *from,
                       struct log_extent *to)
{
    struct log_extent extent = {.lsn = from->lsn, .length = from->length};
    struct log_head head = {.type = SPOOL_BODY, .flags = LOG_BODY | LOG_RESERVED, .tag = id};
    struct slice bytes;
    struct ref *owner;
    int result = log_room(spool->log, from->length, LOG_RESERVED);
    if (result != 0) {
        return result;
    }
    spool->forward.fetch.waiter.done = fetched;
    result = spool_read_extent(spool, &extent, &bytes, &owner, &spool->forward.fetch);
    if (result == -EINPROGRESS) {
        spool->forward.fetching = true;
    }
    if (result == 0) {
        result = log_append(spool->log, &head, &bytes, 1, to);
        ref_drop(owner);
    }
    if (result == 0) {
        spool->counters.copied_forward_bytes += from->length;
        body_live_add(spool, to->lsn, to->length + RECORD_COST);
    }
    return result;
}

/* Nobody was promised a draft: its bytes move at once, and are void if that write fails. */
static int draft_forward(struct spool *spool, struct spool_body *body, uint32_t head)
{
    for (uint32_t i = 0; i < body->extent_count; i++) {
        struct spool_extent *extent = &body->extents[i];
        struct log_extent to;
        if (log_lsn_sequence(extent->lsn) != head) {
            continue;
        }
        int result = extent_copy(spool, body->id, extent, &to);
        if (result != 0) {
            return result;
        }
        body_live_take(spool, extent->lsn, extent->length + RECORD_COST);
        extent->lsn = to.lsn;
    }
    body_place(spool, body, NULL);
    return 0;
}

/* ── A message ───────────────────────────────────────────────────────────────────────────────── */

static struct spool_copy *copy_begin(struct spool *spool, const struct spool_message *message)
{
    size_t bytes = message->body.extent_count * sizeof(struct spool_extent);
    struct spool_copy *copy = (struct spool_copy *)calloc(1, sizeof(*copy) + bytes);
    if (copy != NULL) {
        copy->extents = (struct spool_extent *)(copy + 1);
        copy->failures = log_counters(spool->log)->write_failures;
        if (bytes > 0) {
            memcpy(copy->extents, message->body.extents, bytes);
        }
    }
    return copy;
}

/* Drops what one of the two places holds alone. */
static void extents_take(struct spool *spool, const struct spool_extent *gone,
                         const struct spool_extent *kept, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (gone[i].lsn != kept[i].lsn) {
            body_live_take(spool, gone[i].lsn, gone[i].length + RECORD_COST);
        }
    }
}

static void copy_drop(struct spool *spool, struct spool_message *message)
{
    struct spool_copy *copy = message->copy;
    extents_take(spool, copy->extents, message->body.extents, message->body.extent_count);
    place_forget(spool, &copy->place);
    free(copy);
    message->copy = NULL;
}

bool spool_forward_drop(struct spool *spool, struct spool_message *message)
{
    if (message->copy->in_flight) {
        return false;
    }
    copy_drop(spool, message);
    return true;
}

static void copy_done(struct log_waiter *waiter, int status)
{
    struct spool_message *message = list_entry(waiter, struct spool_message, waiter);
    struct spool *spool = message->spool;
    struct spool_copy *copy = message->copy;
    struct spool_body *body = &message->body;
    spool->forward.in_flight--;
    if (status == 0) {
        extents_take(spool, body->extents, copy->extents, body->extent_count);
        if (body->extent_count > 0) {
            memcpy(body->extents, copy->extents, body->extent_count * sizeof(copy->extents[0]));
        }
        place_forget(spool, &message->place);
        message->place = copy->place;
        free(copy);
        message->copy = NULL;
    } else {
        copy_drop(spool, message);
    }
    body_place(spool, body, &message->place);
    spool_message_settle(spool, message);
}

static bool copy_is_void(const struct spool *spool, const struct spool_message *message)
{
    const struct spool_copy *copy = message->copy;
    if (copy->failures == log_counters(spool->log)->write_failures) {
        return false;
    }
    for (uint32_t i = 0; i < message->body.extent_count; i++) {
        if (log_is_void(spool->log, copy->extents[i].lsn)) {
            return true;
        }
    }
    return false;
}

static int copy_commit(struct spool *spool, struct spool_message *message)
{
    struct spool_copy *copy = message->copy;
    const struct message *public = &message->message;
    int result = commit_room(spool, public, message->body.extent_count, 0, LOG_RESERVED);
    if (result != 0) {
        return result;
    }
    if (copy_is_void(spool, message)) {
        copy_drop(spool, message);
        return -EAGAIN;
    }
    result = commit_append(spool, public, copy->extents, message->body.extent_count, LOG_RESERVED,
                           &copy->place);
    if (result != 0) {
        return result;
    }
    place_live_add(spool, &copy->place);
    copy->in_flight = true;
    spool->forward.in_flight++;
    list_remove(&message->body.member);
    message->waiter.done = copy_done;
    log_when_durable(spool->log, &message->waiter);
    return 0;
}

static int message_forward(struct spool *spool, struct spool_message *message, uint32_t head)
{
    if (message->state != MESSAGE_LIVE) {
        return -EBUSY;
    }
    if (message->copy == NULL) {
        message->copy = copy_begin(spool, message);
        if (message->copy == NULL) {
            return -ENOMEM;
        }
    }
    struct spool_copy *copy = message->copy;
    for (; copy->done_count < message->body.extent_count; copy->done_count++) {
        struct spool_extent *extent = &copy->extents[copy->done_count];
        struct log_extent to;
        if (log_lsn_sequence(extent->lsn) != head) {
            continue;
        }
        int result = extent_copy(spool, message->message.id, extent, &to);
        if (result != 0) {
            return result;
        }
        extent->lsn = to.lsn;
    }
    return copy_commit(spool, message);
}

/* ── A round ─────────────────────────────────────────────────────────────────────────────────── */

static int member_forward(struct spool *spool, struct list_node *node, uint32_t head)
{
    struct spool_body *body = list_entry(node, struct spool_body, member);
    if (body->is_draft) {
        return draft_forward(spool, body, head);
    }
    return message_forward(spool, list_entry(body, struct spool_message, body), head);
}

unsigned spool_forward_round(struct spool *spool)
{
    struct spool_forward *forward = &spool->forward;
    unsigned done = trim(spool);
    uint32_t head = log_head_sequence(spool->log);
    struct log_segment_live *live = log_segment_live(spool->log, head);
    if (live == NULL || forward->fetching || !is_due(spool, head, live->bytes)) {
        return done;
    }
    if (forward->stuck_sequence == head && forward->rest > 0) {
        forward->rest--;
        return done;
    }
    uint64_t before = spool->counters.copied_forward_bytes;
    for (unsigned i = 0; i < COPY_MEMBERS_MAX && !list_empty(&live->members) &&
                         forward->in_flight < IN_FLIGHT_MAX &&
                         spool->counters.copied_forward_bytes - before < COPY_BYTES_MAX;
         i++) {
        struct list_node *node = live->members.next;
        int result = member_forward(spool, node, head);
        if (result == -EINPROGRESS || result == -EAGAIN) {
            break;
        }
        if (result != 0) { /* the others first */
            list_remove(node);
            list_append(&live->members, node);
            forward->stuck_sequence = head;
            forward->rest = i + 1 < COPY_MEMBERS_MAX ? 0 : REST_ROUNDS;
            continue;
        }
        done++;
        forward->stuck_sequence = 0;
    }
    return done;
}
