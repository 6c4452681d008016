#include "engine/mailbox/mailbox_control_private.h"
#include "engine/control/words.h"
#include <stdio.h>
#include <stdlib.h>

/* ---- The words ---- */

static int number_read(const char *text, uint64_t *number)
{
    char *end = NULL;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 ? 0 : -EINVAL;
}

/* users: "cursor" is a name. */
static int word_take(struct mailbox_order *order, enum control_verb verb, struct slice key,
                     const char *value)
{
    bool is_name = verb == CONTROL_MAILBOX_USERS;
    const struct {
        const char *key;
        char *text;
        size_t room;
        uint64_t *number;
        bool *given;
    } known[] = {
        {"user", order->user, sizeof order->user, NULL, NULL},
        {"mailbox", order->mailbox, sizeof order->mailbox, NULL, NULL},
        {"uids", order->uids, sizeof order->uids, NULL, NULL},
        {"session", NULL, 0, &order->session, &order->has_session},
        {"since", NULL, 0, &order->since_s, &order->has_since},
        {"cursor", is_name ? order->after : NULL, sizeof order->after, &order->cursor, NULL},
    };
    if (slice_equal(key, slice_text("network"))) {
        order->has_network = true;
        return network_prefix_parse(&order->network, slice_text(value));
    }
    if (slice_equal(key, slice_text("create"))) {
        order->create = strcmp(value, "yes") == 0;
        return order->create ? 0 : -EINVAL;
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!slice_equal(key, slice_text(known[i].key))) {
            continue;
        }
        if (known[i].text == NULL) {
            *(known[i].given != NULL ? known[i].given : &(bool){false}) = true;
            return number_read(value, known[i].number);
        }
        if (strlen(value) == 0 || strlen(value) >= known[i].room) {
            return -EINVAL;
        }
        strcpy(known[i].text, value);
        return 0;
    }
    return -EINVAL;
}

static int order_read(struct mailbox_order *order, const struct control_request *request)
{
    char value[CONTROL_LINE_MAX];
    for (unsigned i = 0; i < request->word_count; i++) {
        struct slice key;
        if (control_word_read(request->words[i], &key, value, sizeof value) < 0 ||
            word_take(order, request->verb, key, value) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- The socket ---- */

static void ask(void *owner, struct control_request *request)
{
    struct mailbox_control *control = (struct mailbox_control *)owner;
    struct mailbox_order order = {.user = ""};
    if (control->closing) {
        control_finish_error(request, "failed", "the service has ended");
        return;
    }
    if (request->verb < CONTROL_MAILBOX_WHO && request->verb != CONTROL_STATUS) {
        control_finish_error(request, "bad-request",
                             "this is tubepost-mailboxd's socket: that is asked of the relay");
        return;
    }
    if (request->verb != CONTROL_STATUS && order_read(&order, request) < 0) {
        control_finish_error(request, "bad-request",
                             "a word is none that is known, or is malformed");
        return;
    }
    switch (request->verb) {
    case CONTROL_MAILBOX_WHO:
        who_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_KICK:
        kick_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_IMAP:
        imap_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_QUOTA:
        quota_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_KEPT:
        kept_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_UNDELETE:
        undelete_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_USERS:
        users_ask(control, request, &order);
        return;
    case CONTROL_MAILBOX_CHECK:
    case CONTROL_MAILBOX_REBUILD:
        check_ask(control, request, &order);
        return;
    default:
        status_ask(control, request);
        return;
    }
}

static int socket_open(struct mailbox_control *control)
{
    const struct mailboxd_conf *conf = control->mailbox->conf;
    struct control_settings settings = {
        .network = control->mailbox->network,
        .at = {.family = ENDPOINT_UNIX},
        .unix_mode = conf->control.unix_mode,
        .ask = ask,
        .owner = control,
        .expected = "expected status or mailbox "
                    "who|kick|imap|quota|kept|undelete|users|check|rebuild",
    };
    int size = snprintf(settings.at.path, sizeof settings.at.path, "%s", conf->control.path);
    return (size_t)size >= sizeof settings.at.path ? -ENAMETOOLONG
                                                   : control_open(&control->control, &settings);
}

int mailbox_control_open(struct mailbox_control **opened, struct mailbox *mailbox)
{
    struct mailbox_control *control = (struct mailbox_control *)calloc(1, sizeof *control);
    if (control == NULL) {
        return -ENOMEM;
    }
    control->mailbox = mailbox;
    control->door = (struct mailbox_door){
        .mailbox = mailbox, .protocol = CONF_PROTOCOL_IMAP, .tls = CONF_TLS_OFF, .operators = true};
    control->opened_ns = mailbox->shard->now_ns;
    timer_init(&control->kick_timer, kick_tick);
    timer_init(&control->check_timer, check_tick);
    list_init(&control->jobs);
    list_init(&control->undeletes);
    list_init(&control->looks);
    for (unsigned i = 0; i < mailbox->group->count; i++) {
        control->shards[i] = mailbox->group->members[i]->shard;
        control->passages[i] = mailbox->group->members[i]->crossing;
    }
    int status = mailbox_index(mailbox) == 0 ? socket_open(control) : 0;
    if (status < 0) {
        free(control);
        return status;
    }
    *opened = control;
    return 0;
}

bool mailbox_control_is_quiet(const struct mailbox_control *control)
{
    return list_empty(&control->undeletes) && list_empty(&control->looks) &&
           (control->control == NULL || control_pending(control->control) == 0);
}

void mailbox_control_close(struct mailbox_control *control)
{
    control->closing = true;
    wheel_disarm(control->mailbox->shard->wheel, &control->kick_timer);
    wheel_disarm(control->mailbox->shard->wheel, &control->check_timer);
    kept_end(control);
    check_end(control);
    jobs_end(control);
    if (control->control != NULL) {
        control_close(control->control);
    }
    free(control);
}
