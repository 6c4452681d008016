/*
 * Copying forward: what still lives in the oldest segment moves to the end of the log, with a new
 * commit that carries what its recipients have reached. The old bytes count until the copy is
 * durable. When, and how much, is for spool_space.c to say.
 *
 * A body is cut anew where it goes, as it was when it came: whole records would not fill the frames,
 * and a log that is full could not be copied into the room that it has.
 */
#include "queue/spool/spool_private.h"

#define COPY_BYTES_MAX (256u * 1024) /* a round */
#define COPY_MEMBERS_MAX 128u        /* a round: less would leave much of the blocks as padding */
#define IN_FLIGHT_MAX 256u
#define REST_ROUNDS 65536u

/* ── Reading back ────────────────────────────────────────────────────────────────────────────── */

static void fetched(struct spool_waiter *waiter, int status)
{
    struct spool_fetch *fetch = list_entry(waiter, struct spool_fetch, waiter);
    struct spool_forward_fetch *own = list_entry(fetch, struct spool_forward_fetch, fetch);
    (void)status; /* reading says it again */
    own->busy = false;
    if (own->body != NULL) {
        own->body->fetch = 0;
        own->body = NULL;
    }
}

void spool_forward_leave(struct spool *spool, struct spool_body *body)
{
    if (body->fetch != 0) {
        spool->forward.fetches[body->fetch - 1].body = NULL;
        body->fetch = 0;
    }
}

/* As spool_read_extent. Several are under way at a time, each for another body, since one after the
 * other would be slower than mail comes. */
static int extent_read(struct spool *spool, struct spool_body *body,
                       const struct log_extent *extent, struct slice *bytes, struct ref **owner)
{
    struct spool_forward_fetch *fetches = spool->forward.fetches;
    uint32_t i = 0;
    while (i < FORWARD_FETCHES_MAX && fetches[i].busy) {
        i++;
    }
    if (i == FORWARD_FETCHES_MAX) {
        return -EAGAIN;
    }
    fetches[i].fetch.waiter.done = fetched;
    int result = spool_read_extent(spool, extent, bytes, owner, &fetches[i].fetch);
    if (result == -EINPROGRESS) {
        fetches[i].busy = true;
        fetches[i].body = body;
        body->fetch = (i + 1) & 63u;
    }
    return result;
}

/* ── Extents ─────────────────────────────────────────────────────────────────────────────────── */

static int copy_reserve(struct spool_copy *copy, uint32_t more)
{
    if (copy->extent_count + more <= copy->extent_capacity) {
        return 0;
    }
    uint32_t capacity = copy->extent_count + more;
    struct spool_extent *extents =
        (struct spool_extent *)realloc(copy->extents, capacity * sizeof(copy->extents[0]));
    if (extents == NULL) {
        return -ENOMEM;
    }
    copy->extents = extents;
    copy->extent_capacity = capacity;
    return 0;
}

static void copy_count(struct spool *spool, struct spool_copy *copy, uint64_t lsn, uint32_t bytes)
{
    body_live_add(spool, lsn, bytes);
    copy->bytes += bytes;
    spool->twice_bytes += bytes;
}

/* To the log, where there is room: behind the copy's last extent, or as a part of it. */
static void copy_append(struct spool *spool, struct spool_copy *copy, uint64_t id,
                        struct slice bytes, uint32_t offset)
{
    struct log_head head = {.type = SPOOL_BODY, .flags = LOG_BODY | LOG_RESERVED, .tag = id};
    check(copy->extents != NULL); /* by copy_reserve */
    for (size_t done = 0; done < bytes.size;) {
        struct spool_extent *last =
            copy->extent_count > 0 ? &copy->extents[copy->extent_count - 1] : NULL;
        struct log_extent grown = {0}, extent;
        if (last != NULL) {
            grown = (struct log_extent){.lsn = last->lsn, .length = last->length};
        }
        uint32_t added = log_append_body(spool->log, &head, &bytes, 1, done,
                                         last != NULL ? &grown : NULL, &extent);
        if (last != NULL && extent.lsn == last->lsn) {
            last->length = extent.length;
            copy_count(spool, copy, extent.lsn, added);
        } else {
            copy->extents[copy->extent_count++] = (struct spool_extent){
                .lsn = extent.lsn, .length = extent.length, .offset = offset + (uint32_t)done};
            copy_count(spool, copy, extent.lsn, added + RECORD_COST);
        }
        done += added;
    }
    spool->counters.copied_forward_bytes += bytes.size;
}

/* Copies one body record. 0; -EINPROGRESS, -EAGAIN, or why it cannot be moved. */
static int extent_copy(struct spool *spool, struct spool_copy *copy, struct spool_body *body,
                       const struct spool_extent *from)
{
    struct log_extent extent = {.lsn = from->lsn, .length = from->length};
    struct slice bytes;
    struct ref *owner;
    int result = log_room(spool->log, from->length, LOG_RESERVED);
    if (result != 0) {
        return result;
    }
    result = extent_read(spool, body, &extent, &bytes, &owner);
    if (result == 0) {
        copy_append(spool, copy, body_id(body), bytes, from->offset);
        ref_drop(owner);
    }
    return result;
}

/* Goes on with the body's extents: those in the oldest segment are copied, the others stay. */
static int extents_copy(struct spool *spool, struct spool_copy *copy, struct spool_body *body)
{
    struct extent_list extents;
    body_extents(body, &extents);
    for (; copy->done_count < extents.count; copy->done_count++) {
        const struct spool_extent *extent = &extents.first[copy->done_count];
        uint32_t rest = extents.count - copy->done_count;
        int result = copy_reserve(copy, rest + COPY_PIECES_MAX);
        if (result == 0 && log_lsn_sequence(extent->lsn) == copy->head) {
            result = extent_copy(spool, copy, body, extent);
        } else if (result == 0) {
            copy->extents[copy->extent_count++] = *extent;
        }
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

static struct spool_copy *copy_begin(const struct spool *spool, uint32_t head)
{
    struct spool_copy *copy = (struct spool_copy *)calloc(1, sizeof(*copy));
    if (copy != NULL) {
        copy->head = head;
        copy->failures = log_counters(spool->log)->write_failures;
    }
    return copy;
}

static void copy_free(struct spool *spool, struct spool_copy *copy)
{
    spool->twice_bytes -= copy->bytes;
    free(copy->extents);
    free(copy);
}

/* The extents of a body that the copy replaces are dead. */
static void extents_leave(struct spool *spool, const struct spool_body *body, uint32_t head)
{
    struct extent_list extents;
    body_extents(body, &extents);
    for (uint32_t i = 0; i < extents.count; i++) {
        const struct spool_extent *extent = &extents.first[i];
        if (log_lsn_sequence(extent->lsn) == head) {
            body_live_take(spool, extent->lsn, extent->length + RECORD_COST);
        }
    }
}

/* The extents that the copy alone has are dead; both lists are in order of the body. */
static void copied_leave(struct spool *spool, const struct spool_copy *copy,
                         const struct spool_body *body)
{
    struct extent_list extents;
    uint32_t kept = 0;
    body_extents(body, &extents);
    for (uint32_t i = 0; i < copy->extent_count; i++) {
        const struct spool_extent *extent = &copy->extents[i];
        while (kept < extents.count && extents.first[kept].offset < extent->offset) {
            kept++;
        }
        if (kept < extents.count && extents.first[kept].lsn == extent->lsn) {
            continue;
        }
        body_live_take(spool, extent->lsn, extent->length + RECORD_COST);
    }
}

/* ── A draft ─────────────────────────────────────────────────────────────────────────────────── */

/* Nobody was promised a draft: its bytes move at once, and are void if that write fails. What was
 * copied before an error stays where it is, and the rest follows another time. */
static int draft_forward(struct spool *spool, struct spool_body *body, uint32_t head)
{
    struct spool_draft *draft = list_entry(body, struct spool_draft, body);
    struct spool_copy *copy = copy_begin(spool, head);
    int result = copy != NULL ? extents_copy(spool, copy, body) : -ENOMEM;
    uint32_t rest = copy != NULL ? draft->extent_count - copy->done_count : 0;
    if (copy == NULL || copy->done_count == 0) {
        if (copy != NULL) {
            copy_free(spool, copy);
        }
        return result;
    }
    if (rest > 0) { /* there is room for it */
        memcpy(copy->extents + copy->extent_count, draft->extents + copy->done_count,
               rest * sizeof(copy->extents[0]));
        copy->extent_count += rest;
    }
    for (uint32_t i = 0; i < copy->done_count; i++) {
        const struct spool_extent *extent = &draft->extents[i];
        if (log_lsn_sequence(extent->lsn) == head) {
            body_live_take(spool, extent->lsn, extent->length + RECORD_COST);
        }
    }
    draft_replace(draft, copy->extents, copy->extent_count, copy->extent_capacity);
    copy->extents = NULL;
    copy_free(spool, copy);
    if (result == 0) {
        body_place(spool, body, NULL);
    }
    return result;
}

/* ── A message ───────────────────────────────────────────────────────────────────────────────── */

/* The message is where it was before its copy began. */
static struct spool_copy *copy_leave(struct spool_message *message)
{
    struct spool_copy *copy = message->body.at.copy;
    message->body.at = copy->before;
    message->body.kind = copy->before_kind & 3u;
    return copy;
}

static void copy_drop(struct spool *spool, struct spool_message *message)
{
    struct spool_copy *copy = copy_leave(message);
    copied_leave(spool, copy, &message->body);
    place_live_take(spool, &copy->place);
    free(copy->place.parts);
    free(copy->many);
    copy_free(spool, copy);
}

bool spool_forward_drop(struct spool *spool, struct spool_message *message)
{
    if (message_copy(message)->in_flight) {
        return false;
    }
    copy_drop(spool, message);
    return true;
}

/* The message is where its copy is. */
static void copy_take(struct spool *spool, struct spool_message *message)
{
    struct spool_copy *copy = copy_leave(message);
    struct spool_place before = message_place(message);
    extents_leave(spool, &message->body, copy->head);
    place_live_take(spool, &before);
    spool->memory_bytes -= message_bytes(message);
    message_lies_nowhere(message);
    message_lies_at(message, copy->extents, copy->extent_count, &copy->place, copy->many);
    spool->memory_bytes += message_bytes(message);
    copy_free(spool, copy);
}

static void copy_done(struct log_waiter *waiter, int status)
{
    struct spool_copy *copy = list_entry(waiter, struct spool_copy, waiter);
    struct spool_message *message = copy->message;
    struct spool *spool = copy->spool;
    spool->forward.in_flight--;
    if (status == 0) {
        copy_take(spool, message);
    } else {
        copy_drop(spool, message);
    }
    struct spool_place place = message_place(message);
    body_place(spool, &message->body, &place);
    spool_message_settle(spool, message);
}

static bool copy_is_void(const struct spool *spool, const struct spool_message *message)
{
    const struct spool_copy *copy = message_copy(message);
    if (copy->failures == log_counters(spool->log)->write_failures) {
        return false;
    }
    for (uint32_t i = 0; i < copy->extent_count; i++) {
        if (log_is_void(spool->log, copy->extents[i].lsn)) {
            return true;
        }
    }
    return false;
}

/* The segment with the new commit says that the old one does not count any more. */
static void segment_keep_for(struct spool *spool, uint64_t lsn, uint32_t head)
{
    struct log_segment_live *live = log_segment_live(spool->log, log_lsn_sequence(lsn));
    live->kept_for = live->kept_for > head ? live->kept_for : head;
}

static int copy_commit(struct spool *spool, struct spool_message *message)
{
    struct spool_copy *copy = message_copy(message);
    const struct message *public = &message->message;
    int result = commit_room(spool, public, copy->extent_count, 0, LOG_RESERVED);
    if (result != 0) {
        return result;
    }
    if (copy_is_void(spool, message)) {
        copy_drop(spool, message);
        return -EAGAIN;
    }
    result = copy->many == NULL ? extents_make(public, copy->extent_count, &copy->many) : 0;
    if (result == 0) {
        result = commit_append(spool, public, copy->extents, copy->extent_count, LOG_RESERVED,
                               &copy->place);
    }
    if (result != 0) {
        return result;
    }
    place_live_add(spool, &copy->place);
    segment_keep_for(spool, copy->place.lsn, copy->head);
    copy->in_flight = true;
    spool->forward.in_flight++;
    body_leave(&message->body);
    copy->spool = spool;
    copy->message = message;
    copy->waiter.done = copy_done;
    log_when_durable(spool->log, &copy->waiter);
    return 0;
}

static int message_forward(struct spool *spool, struct spool_message *message, uint32_t head)
{
    struct spool_body *body = &message->body;
    if (body->state != MESSAGE_LIVE) {
        return -EBUSY;
    }
    if (body->kind != BODY_COPIED) {
        struct spool_copy *copy = copy_begin(spool, head);
        if (copy == NULL) {
            return -ENOMEM;
        }
        copy->before = body->at;
        copy->before_kind = body->kind;
        body->at.copy = copy;
        body->kind = BODY_COPIED;
    }
    int result = extents_copy(spool, body->at.copy, body);
    return result == 0 ? copy_commit(spool, message) : result;
}

/* ── A round ─────────────────────────────────────────────────────────────────────────────────── */

static int member_forward(struct spool *spool, struct near_node *node, uint32_t head)
{
    struct spool_body *body = list_entry(node, struct spool_body, member);
    if (body->is_draft) {
        return draft_forward(spool, body, head);
    }
    return message_forward(spool, list_entry(body, struct spool_message, body), head);
}

/* A bounded piece of what lives in the oldest segment. */
static unsigned members_forward(struct spool *spool, struct segment_bodies *bodies, uint32_t head)
{
    struct spool_forward *forward = &spool->forward;
    uint64_t before = spool->counters.copied_forward_bytes;
    unsigned done = 0;
    struct near_node *node = near_next(&bodies->bodies), *next;
    for (unsigned i = 0;
         i < COPY_MEMBERS_MAX && node != &bodies->bodies && forward->in_flight < IN_FLIGHT_MAX &&
         spool->counters.copied_forward_bytes - before < COPY_BYTES_MAX;
         i++, node = next) {
        next = near_next(node);
        if (list_entry(node, struct spool_body, member)->fetch != 0) {
            continue;
        }
        int result = member_forward(spool, node, head);
        if (result == -EAGAIN) {
            break;
        }
        if (result == -EINPROGRESS) {
            continue;
        }
        if (result != 0) { /* the others first */
            near_list_remove(node);
            near_list_append(&bodies->bodies, node);
            forward->stuck_sequence = head;
            forward->rest = i + 1 < COPY_MEMBERS_MAX ? 0 : REST_ROUNDS;
            continue;
        }
        done++;
        forward->stuck_sequence = 0;
    }
    return done;
}

unsigned spool_forward_round(struct spool *spool)
{
    struct spool_forward *forward = &spool->forward;
    unsigned done = spool_space_round(spool);
    uint32_t head = log_head_sequence(spool->log);
    struct log_segment_live *live = log_segment_live(spool->log, head);
    if (live == NULL || !spool->space.copies || spool->rests) {
        return done;
    }
    if (forward->stuck_sequence == head && forward->rest > 0) {
        forward->rest--;
        return done;
    }
    struct segment_bodies *bodies = segment_bodies(live);
    return bodies != NULL ? done + members_forward(spool, bodies, head) : done;
}
