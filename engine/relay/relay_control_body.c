/* queue body: the text of a message, piece by piece, in base 64 (RFC 4648 §4), as it lies in the log. */
#include "engine/relay/relay_control_private.h"
#include "engine/core/ref.h"
#include <openssl/evp.h>
#include <stdlib.h>

#define PIECE_BYTES_MAX (48u * 1024)

/* Whoever has the message reads a piece of it; the others come back at once. */
struct reading {
    struct control_request *request;
    uint64_t id, from;
    uint32_t pending;
    struct reading_share {
        struct visit visit;
        struct reading *reading;
        struct message *message; /* held while its bytes are fetched */
        struct spool_fetch fetch;
        int status; /* -ENOENT: it is not here */
        uint64_t next, bytes;
        json_t *piece;
    } shares[];
};

static json_t *piece_json(struct slice bytes)
{
    size_t size = 4 * ((bytes.size + 2) / 3);
    char *text = malloc(size + 1);
    if (text == NULL) {
        return NULL;
    }
    EVP_EncodeBlock((unsigned char *)text, bytes.bytes, (int)bytes.size);
    json_t *json = json_stringn(text, size);
    free(text);
    return json;
}

static void share_read(struct reading_share *share)
{
    struct spool *spool = relay_spool(visit_relay(&share->visit));
    uint64_t from = share->reading->from;
    struct slice bytes = slice_of(NULL, 0);
    struct ref *owner = NULL;
    share->bytes = share->message->body_bytes;
    share->status = 0;
    if (from < share->bytes) {
        share->status = spool_read(spool, share->message, from, &bytes, &owner, &share->fetch);
        if (share->status == -EINPROGRESS) {
            return;
        }
    }
    if (owner != NULL) {
        bytes = slice_first(bytes, PIECE_BYTES_MAX);
        share->piece = piece_json(bytes);
        share->next = from + bytes.size;
        ref_drop(owner);
    }
    spool_message_release(spool, share->message);
    visit_return(&share->visit);
}

static void share_fetched(struct spool_waiter *waiter, int status)
{
    (void)status; /* spool_read says it again */
    share_read(list_entry(waiter, struct reading_share, fetch.waiter));
}

static void reading_there(struct visit *visit)
{
    struct reading_share *share = list_entry(visit, struct reading_share, visit);
    share->message = spool_find(relay_spool(visit_relay(visit)), share->reading->id);
    share->status = -ENOENT;
    if (share->message == NULL) {
        visit_return(visit);
        return;
    }
    share->fetch.waiter.done = share_fetched;
    spool_message_hold(share->message);
    share_read(share);
}

static void piece_finish(struct control_request *request, struct reading_share *share)
{
    if (share->status == -EAGAIN) {
        control_finish_error(request, "busy", "memory for reading is out, try again");
    } else if (share->status < 0) {
        control_finish_error(request, "failed", "the message cannot be read");
    } else if (share->next == 0) { /* behind its end */
        control_finish(request);
    } else {
        control_line(request, json_pack("{s:o}", "text", share->piece));
        control_finish_with(request, share->next < share->bytes ? "next" : NULL,
                            share->next < share->bytes ? json_integer((json_int_t)share->next)
                                                       : NULL);
    }
}

static void reading_back(struct visit *visit)
{
    struct reading_share *share = list_entry(visit, struct reading_share, visit);
    struct reading *reading = share->reading;
    if (share->status != -ENOENT && reading->request != NULL) {
        piece_finish(reading->request, share);
        reading->request = NULL;
    }
    if (--reading->pending == 0) {
        if (reading->request != NULL) {
            control_finish_error(reading->request, "not-found",
                                 "no message of this id is in the queue");
        }
        free(reading);
    }
}

void queue_body_ask(struct relay_control *control, struct control_request *request,
                    struct queue_order *order)
{
    unsigned count = control->settings.worker_count;
    struct reading *reading = calloc(1, sizeof(*reading) + count * sizeof(reading->shares[0]));
    if (reading == NULL) {
        control_finish_error(request, "failed", "out of memory");
    } else {
        reading->request = request;
        reading->id = order->filter.ids[0];
        reading->from = order->from;
        reading->pending = count;
        for (unsigned i = 0; i < count; i++) {
            reading->shares[i].reading = reading;
            reading->shares[i].visit.there = reading_there;
            reading->shares[i].visit.back = reading_back;
            visit_begin(&reading->shares[i].visit, control, i);
        }
    }
    queue_order_give(order);
}
