/*
 * The operator's words about the queue: a request line, its words, the filter and its pattern.
 *
 * Checked: a word that was read can be written and read again; what an order forgets or returns names some
 * mail, or all; a filter that was read judges a message within its limits; nothing leaks.
 */
#include "engine/control/request.h"
#include "engine/control/words.h"
#include "engine/core/check.h"
#include "engine/relay/queue_order.h"
#include "queue/spool/spool_private.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void word_check(struct slice word)
{
    char text[512], again[512], line[2048] = "";
    struct slice key;
    size_t used = 0;
    if (control_word_read(word, &key, text, sizeof(text)) < 0) {
        return;
    }
    check(strlen(text) <= word.size);
    check(control_word_append(line, sizeof(line), &used, "k", slice_text(text)) == 0);
    check(control_word_read(slice_text(line + 1), &key, again, sizeof(again)) == 0);
    check(strcmp(text, again) == 0);
}

static void filter_check(const struct queue_filter *filter)
{
    const struct envelope envelope = {.reverse_path = slice_text("alice@example.org"),
                                      .flags = SPOOL_HELD};
    const struct envelope_recipient recipient = {.forward_path = slice_text("bob@example.net")};
    struct spool_store store;
    check(store_open(&store) == 0);
    struct spool_message *message = message_new(&envelope, &recipient, 1, &store);
    check(message != NULL);
    const struct queue_facts facts = {.site = slice_text("192.0.2.1:25"),
                                      .reason = slice_text("450 4.2.0 try again aaaaaaaaaaaaaa")};
    struct queue_matcher *matcher = queue_matcher_open(filter);
    check(matcher != NULL);
    if (queue_filter_message(filter, matcher, &message->message, 1000)) {
        (void)queue_filter_recipient(filter, matcher, slice_text("bob@example.net"), &facts);
    }
    check(queue_matcher_gave_up(matcher) <= 3);
    queue_matcher_close(matcher);
    message_free(message);
    store_close(&store);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct control_request request = {0};
    struct queue_order order;
    char problem[QUEUE_FILTER_PROBLEM_MAX];
    if (size > CONTROL_LINE_MAX || control_request_parse(&request, slice_of(bytes, size)) < 0 ||
        request.verb >= CONTROL_STATUS) {
        return 0;
    }
    for (unsigned i = 0; i < request.word_count; i++) {
        word_check(request.words[i]);
    }
    if (queue_order_read(&order, &request, problem) < 0) {
        check(problem[0] != '\0');
        return 0;
    }
    check(order.verb != CONTROL_QUEUE_DELETE || order.filter.all ||
          !queue_filter_is_empty(&order.filter));
    check(order.filter.id_count <= QUEUE_FILTER_IDS_MAX && order.page <= QUEUE_PAGE_MAX);
    filter_check(&order.filter);
    queue_order_free(&order);
    return 0;
}
