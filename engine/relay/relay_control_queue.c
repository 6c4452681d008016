/* What the spools and schedulers answer to `queue ...`. */
#include "engine/relay/relay_control_private.h"
#include "queue/spool/spool.h"
#include <stdlib.h>

/* ---- On each shard ---- */

static const char *state_name(const struct recipient *recipient,
                              const struct relay_recipient_view *view)
{
    switch ((enum recipient_state)recipient->state) {
    case RECIPIENT_WAITING:
        return view->active ? "active" : "deferred";
    case RECIPIENT_DELIVERED:
        return "delivered";
    case RECIPIENT_FAILED:
        return "failed";
    }
    return "";
}

static json_t *recipient_json(struct relay *relay, const struct message *message, uint32_t index,
                              struct relay_recipient_view *view)
{
    const struct recipient *recipient = &message->recipients[index];
    *view = (struct relay_recipient_view){0};
    if (recipient->state == RECIPIENT_WAITING) {
        relay_view_recipient(relay, message, index, view);
    }
    json_t *json = json_object();
    json_object_set_new(json, "address", control_text(recipient->forward_path));
    json_object_set_new(json, "state", json_string(state_name(recipient, view)));
    if (view->reason.size > 0) {
        json_object_set_new(json, "reason", control_text(view->reason));
    }
    return json;
}

static json_t *message_json(struct relay *relay, const struct message *message)
{
    char id[MESSAGE_ID_TEXT];
    uint64_t due_s = UINT64_MAX;
    json_t *json = json_object();
    json_t *recipients = json_array();
    message_id_format(message->id, id);
    for (uint32_t i = 0; i < message->recipient_count; i++) {
        struct relay_recipient_view view;
        json_array_append_new(recipients, recipient_json(relay, message, i, &view));
        if (message->recipients[i].state == RECIPIENT_WAITING && !view.active &&
            view.next_attempt_s < due_s) {
            due_s = view.next_attempt_s;
        }
    }
    json_object_set_new(json, "id", json_string(id));
    json_object_set_new(json, "arrival",
                        json_integer((json_int_t)message->envelope.arrival_wall_s));
    json_object_set_new(json, "bytes", json_integer((json_int_t)message->body_bytes));
    json_object_set_new(json, "sender", control_text(message->envelope.reverse_path));
    json_object_set_new(json, "attempts", json_integer(message->attempts));
    json_object_set_new(json, "recipient_count", json_integer(message->recipient_count));
    json_object_set_new(json, "waiting_count", json_integer(message->waiting_count));
    if (due_s != UINT64_MAX) {
        json_object_set_new(json, "due_s", json_integer((json_int_t)due_s));
    }
    json_object_set_new(json, "recipients", recipients);
    return json;
}

/* The `limit` smallest ids behind a given one, in order. */
struct id_page {
    uint64_t after;
    uint32_t limit, count;
    bool more;
    uint64_t *ids;
};

static void page_add(void *owner, struct message *message)
{
    struct id_page *page = owner;
    if (message->id <= page->after) {
        return;
    }
    if (page->count == page->limit) {
        page->more = true;
        if (message->id > page->ids[page->count - 1]) {
            return;
        }
        page->count--;
    }
    uint32_t place = page->count;
    while (place > 0 && page->ids[place - 1] > message->id) {
        page->ids[place] = page->ids[place - 1];
        place--;
    }
    page->ids[place] = message->id;
    page->count++;
}

static void answer_list(struct share *share, struct relay *relay)
{
    struct id_page page = {.after = share->question->id, .limit = share->question->limit};
    struct spool *spool = relay_spool(relay);
    page.ids = calloc(page.limit, sizeof(*page.ids));
    share->answer = json_array();
    if (page.ids == NULL) {
        share->status = -ENOMEM;
        return;
    }
    spool_each(spool, page_add, &page);
    for (uint32_t i = 0; i < page.count; i++) {
        json_array_append_new(share->answer, message_json(relay, spool_find(spool, page.ids[i])));
    }
    share->more = page.more;
    free(page.ids);
}

static void answer_flush(struct share *share, struct relay *relay)
{
    if (share->question->id != 0 && spool_find(relay_spool(relay), share->question->id) == NULL) {
        share->status = -ENOENT;
        return;
    }
    share->count = spool_counters(relay_spool(relay))->live_messages;
    relay_flush_queue(relay);
}

void queue_share_answer(struct share *share)
{
    struct relay *relay = worker_relay(share->worker);
    const struct message *message;
    switch (share->question->request->verb) {
    case CONTROL_QUEUE_LIST:
        answer_list(share, relay);
        return;
    case CONTROL_QUEUE_SHOW:
        message = spool_find(relay_spool(relay), share->question->id);
        share->status = message == NULL ? -ENOENT : 0;
        share->answer = message == NULL ? NULL : message_json(relay, message);
        return;
    case CONTROL_QUEUE_FLUSH:
        answer_flush(share, relay);
        return;
    case CONTROL_QUEUE_DELETE:
        share->status = relay_delete(relay, share->question->id);
        return;
    default:
        return;
    }
}

/* ---- Back on shard 0 ---- */

/* Merges the shards' pages, each in order, into one. */
static void finish_list(struct question *question)
{
    size_t next[CONF_SHARDS_MAX] = {0};
    const char *last = NULL;
    bool more = false;
    for (uint32_t sent = 0;; sent++) {
        struct share *first = NULL;
        const char *first_id = NULL;
        for (unsigned i = 0; i < question->share_count; i++) {
            struct share *share = &question->shares[i];
            json_t *message = json_array_get(share->answer, next[i]);
            const char *id = json_string_value(json_object_get(message, "id"));
            more = more || share->more;
            if (id != NULL && (first_id == NULL || strcmp(id, first_id) < 0)) {
                first = share;
                first_id = id;
            }
        }
        if (first == NULL) {
            break;
        }
        if (sent == question->limit) {
            more = true;
            break;
        }
        size_t place = next[first - question->shares]++;
        last = first_id;
        control_line(question->request, json_incref(json_array_get(first->answer, place)));
    }
    if (more && last != NULL) {
        control_finish_with(question->request, "next", json_string(last));
    } else {
        control_finish(question->request);
    }
}

/* One shard has it, or none. */
static void finish_one(struct question *question)
{
    const struct share *found = NULL;
    for (unsigned i = 0; i < question->share_count; i++) {
        if (question->shares[i].status != -ENOENT) {
            found = &question->shares[i];
        }
    }
    if (found == NULL) {
        control_finish_error(question->request, "not-found",
                             "no message of this id is in the queue");
    } else if (found->status == -EBUSY) {
        control_finish_error(question->request, "busy", "the message is being delivered right now");
    } else if (found->status < 0) {
        control_finish_error(question->request, "failed", strerror(-found->status));
    } else {
        if (found->answer != NULL) {
            control_line(question->request, json_incref(found->answer));
        }
        control_finish(question->request);
    }
}

static void finish_flush(struct question *question)
{
    uint64_t count = 0;
    if (question->id != 0) {
        finish_one(question);
        return;
    }
    for (unsigned i = 0; i < question->share_count; i++) {
        count += question->shares[i].count;
    }
    control_finish_with(question->request, "count", json_integer((json_int_t)count));
}

void queue_finish(struct question *question)
{
    switch (question->request->verb) {
    case CONTROL_QUEUE_LIST:
        finish_list(question);
        return;
    case CONTROL_QUEUE_FLUSH:
        finish_flush(question);
        return;
    default:
        finish_one(question);
        return;
    }
}
