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

static int word_take(struct mailbox_order *order, struct slice key, const char *value)
{
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
        {"cursor", NULL, 0, &order->cursor, NULL},
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
            word_take(order, key, value) < 0) {
            return -EINVAL;
        }
    }
    return 0;
}

/* ---- Users ---- */

bool mailbox_control_user(struct mailbox_control *control, struct control_request *request,
                          const struct mailbox_order *order, struct mailstore_user **user)
{
    struct mailbox *mailbox = control->mailbox;
    char name[USER_NAME_BYTES];
    if (mailbox->texts == NULL) {
        control_finish_error(request, "unavailable",
                             "the mail lies in Maildirs (store.format), which others read");
        return false;
    }
    if (order->user[0] == '\0' || user_name_of_mailbox(slice_text(order->user), name) < 0) {
        control_finish_error(request, "bad-request", "expected user=NAME");
        return false;
    }
    int status = mailstore_user_open(mailbox->texts, slice_text(name), user);
    if (status < 0) {
        control_finish_error(request, "failed", strerror(-status));
        return false;
    }
    if ((*user)->id == 0 && !(order->create && mailbox_knows(mailbox, name))) {
        mailstore_user_close(mailbox->texts, *user);
        control_finish_error(request, "not-found", "no mail is kept for such a user");
        return false;
    }
    return true;
}

static void imap_answer(struct mailbox_control *control, struct control_request *request,
                        const struct mailbox_order *order)
{
    struct imap_operator with = {.make_inbox = order->create};
    if (mailbox_control_user(control, request, order, &with.user)) {
        with.stream = control_take_over(request, &with.finished);
        imap_operate(&control->door, &with);
    }
}

/* ---- The socket ---- */

static void ask(void *owner, struct control_request *request)
{
    struct mailbox_control *control = (struct mailbox_control *)owner;
    struct mailbox_order order = {.user = ""};
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
        who_answer(control, request, &order);
        return;
    case CONTROL_MAILBOX_KICK:
        kick_answer(control, request, &order);
        return;
    case CONTROL_MAILBOX_IMAP:
        imap_answer(control, request, &order);
        return;
    case CONTROL_MAILBOX_QUOTA:
        quota_answer(control, request, &order);
        return;
    case CONTROL_MAILBOX_KEPT:
        kept_answer(control, request, &order);
        return;
    case CONTROL_MAILBOX_UNDELETE:
        undelete_ask(control, request, &order);
        return;
    default:
        mailbox_status_answer(control, request);
        return;
    }
}

int mailbox_control_open(struct mailbox_control **opened, struct mailbox *mailbox)
{
    const struct mailboxd_conf *conf = mailbox->conf;
    struct mailbox_control *control = (struct mailbox_control *)calloc(1, sizeof *control);
    if (control == NULL) {
        return -ENOMEM;
    }
    control->mailbox = mailbox;
    control->door = (struct mailbox_door){
        .mailbox = mailbox, .protocol = CONF_PROTOCOL_IMAP, .tls = CONF_TLS_OFF, .operators = true};
    control->opened_ns = mailbox->shard->now_ns;
    timer_init(&control->kick_timer, kick_tick);
    list_init(&control->undeletes);
    struct control_settings settings = {
        .network = mailbox->network,
        .at = {.family = ENDPOINT_UNIX},
        .unix_mode = conf->control.unix_mode,
        .ask = ask,
        .owner = control,
        .expected = "expected status or mailbox who|kick|imap|quota|kept|undelete",
    };
    int size = snprintf(settings.at.path, sizeof settings.at.path, "%s", conf->control.path);
    int status = (size_t)size >= sizeof settings.at.path
                     ? -ENAMETOOLONG
                     : control_open(&control->control, &settings);
    if (status < 0) {
        free(control);
        return status;
    }
    *opened = control;
    return 0;
}

bool mailbox_control_is_quiet(const struct mailbox_control *control)
{
    return control_pending(control->control) == 0;
}

void mailbox_control_close(struct mailbox_control *control)
{
    wheel_disarm(control->mailbox->shard->wheel, &control->kick_timer);
    undeletes_end(control);
    control_close(control->control);
    free(control);
}
