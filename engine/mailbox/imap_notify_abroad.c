/*
 * NOTIFY: what can be seen on other shards.
 *
 * Each shard of which something may be asked for has a watcher: an agent of the session's (imap_agent.c) that is told which of
 * the owners there are meant, and tells what the user may look up of theirs (imap_notify_feed.c). What it has told is kept here, as
 * it was last, and is looked at as mailboxes of this shard are. So it does not matter how slowly the client reads: what the watchers
 * tell is taken when it comes, and they never wait for him.
 *
 * Subscriptions are at home: whom they name is watched from then on, until the next NOTIFY.
 */
#include "engine/mailbox/imap_notify_private.h"
#include "engine/core/check.h"
#include <stdlib.h>

#define SEEN_BYTES_MAX (256u * 1024) /* of all shards together */
#define GROUPS_BYTES_MAX                                                                           \
    (60u * 1024) /* that a watcher is told at a time; a command there has 64 KiB */

static unsigned shard_count(const struct imap_notify_state *state)
{
    return state->session->session.mailbox->group->count;
}

/* A watcher is no watcher's, and an agent that has a mailbox selected looks at nothing else. */
static bool is_alone(const struct imap_notify_state *state)
{
    return shard_count(state) == 1 || state->session->session.of_service;
}

int notify_abroad_shard(const struct imap_notify_state *state, struct slice name)
{
    struct slice user = imap_shared_name_user(state->session, name);
    char owner[USER_NAME_BYTES];
    if (user.size == 0 || user_name_of_mailbox(user, owner) != 0 ||
        !slice_equal(slice_text(owner), user)) {
        return -1;
    }
    unsigned shard = mailbox_group_shard(state->session->session.mailbox->group, owner);
    return shard == notify_here(state) ? -1 : (int)shard;
}

/* NULL: memory is short. */
static struct notify_watcher *watcher_of(struct imap_notify_state *state, unsigned shard)
{
    if (state->watchers == NULL) {
        unsigned count = shard_count(state);
        state->watchers = (struct notify_watcher *)calloc(count, sizeof(state->watchers[0]));
        for (unsigned i = 0; state->watchers != NULL && i < count; i++) {
            imap_writer_open(&state->watchers[i].response, NOTIFY_FED_BYTES_MAX);
        }
    }
    return state->watchers != NULL ? &state->watchers[shard] : NULL;
}

void notify_abroad_end(struct imap_notify_state *state)
{
    for (unsigned i = 0; state->watchers != NULL && i < shard_count(state); i++) {
        struct notify_watcher *watcher = &state->watchers[i];
        imap_agent_end(watcher->agent);
        notify_known_free(&watcher->seen);
        imap_writer_close(&watcher->response);
    }
    free(state->watchers);
    state->watchers = NULL;
}

/* ---- What is asked for ---- */

static uint32_t subscribed_events(const struct imap_notify_state *state)
{
    uint32_t events = 0;
    for (uint32_t i = 0; i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        events |= group->filter == IMAP_NOTIFY_SUBSCRIBED ? group->events : 0;
    }
    return events;
}

static void subscribed_visit(void *owner, struct slice name)
{
    struct imap_notify_state *state = (struct imap_notify_state *)owner;
    int shard = notify_abroad_shard(state, name);
    struct slice user = imap_shared_name_user(state->session, name);
    for (const struct notify_named *named = state->named; named != NULL && shard >= 0;
         named = named->next) { /* the last first: names of one user stand together, mostly */
        shard = slice_equal(named->user, user) ? -1 : shard;
    }
    if (shard < 0) {
        return;
    }
    struct notify_watcher *watcher = watcher_of(state, (unsigned)shard);
    struct notify_named *named =
        (struct notify_named *)arena_take_array(&state->arena, 1, sizeof(*named));
    if (watcher == NULL || named == NULL || !arena_copy(&state->arena, user, &named->user)) {
        state->is_too_much = true;
        return;
    }
    named->shard = (unsigned)shard;
    named->next = state->named;
    state->named = named;
    watcher->named_count++;
}

static void events_write(struct imap_writer *writer, uint32_t events)
{
    static const struct {
        uint32_t event;
        const char *word;
    } words[] = {{IMAP_NOTIFY_MESSAGE_NEW, "MessageNew"},
                 {IMAP_NOTIFY_MESSAGE_EXPUNGE, "MessageExpunge"},
                 {IMAP_NOTIFY_FLAG_CHANGE, "FlagChange"},
                 {IMAP_NOTIFY_MAILBOX_NAME, "MailboxName"},
                 {IMAP_NOTIFY_SUBSCRIPTION_CHANGE, "SubscriptionChange"},
                 {IMAP_NOTIFY_MAILBOX_METADATA_CHANGE, "MailboxMetadataChange"},
                 {IMAP_NOTIFY_SERVER_METADATA_CHANGE, "ServerMetadataChange"}};
    const char *before = ") (";
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (events & words[i].event) {
            imap_write(writer, before);
            imap_write(writer, words[i].word);
            before = " ";
        }
    }
    imap_write(writer, "))");
}

/* Does the group name what lies there, or all that others share? */
static bool group_concerns(const struct imap_notify_state *state,
                           const struct imap_notify_group *group, struct slice name, unsigned shard)
{
    struct slice root = imap_shared_root(state->session);
    bool above = group->filter == IMAP_NOTIFY_SUBTREE && root.size > 0 &&
                 slice_equal(slice_first(root, name.size), name) &&
                 (root.size == name.size || root.bytes[name.size] == IMAP_SEPARATOR);
    return above || notify_abroad_shard(state, name) == (int)shard;
}

static void group_write(const struct imap_notify_state *state,
                        const struct imap_notify_group *group, unsigned shard,
                        struct imap_writer *writer)
{
    const char *before = group->filter == IMAP_NOTIFY_SUBTREE ? " (subtree (" : " (mailboxes (";
    bool some = false;
    for (uint32_t i = 0; i < group->mailboxes.count; i++) {
        if (group_concerns(state, group, group->mailboxes.items[i], shard)) {
            imap_write(writer, some ? " " : before);
            imap_write_astring(writer, group->mailboxes.items[i]);
            some = true;
        }
    }
    if (some) {
        events_write(writer, group->events);
    }
}

/* Whatever is whose: which of it is subscribed is known here. */
static void named_write(const struct imap_notify_state *state, unsigned shard,
                        struct imap_writer *writer)
{
    struct slice root = imap_shared_root(state->session);
    const char *before = " (subtree (";
    bool some = false;
    for (const struct notify_named *named = state->named; named != NULL; named = named->next) {
        char text[IMAP_SHARED_NAME_BYTES];
        if (named->shard == shard) {
            int size =
                snprintf(text, sizeof(text), "%.*s/%.*s", (int)root.size, (const char *)root.bytes,
                         (int)named->user.size, (const char *)named->user.bytes);
            imap_write(writer, some ? " " : before);
            imap_write_astring(writer, slice_of(text, (size_t)size));
            some = true;
        }
    }
    if (some) {
        events_write(writer, subscribed_events(state));
    }
}

/* What a watcher of that shard is to look at; nothing: there is none to be. */
static void groups_write(const struct imap_notify_state *state, unsigned shard,
                         struct imap_writer *writer)
{
    for (uint32_t i = 0; i < state->set.count; i++) {
        const struct imap_notify_group *group = &state->set.groups[i];
        bool names = group->filter == IMAP_NOTIFY_SUBTREE || group->filter == IMAP_NOTIFY_MAILBOXES;
        if (names && group->events != 0) {
            group_write(state, group, shard, writer);
        }
    }
    named_write(state, shard, writer);
}

static void watcher_ask(struct imap_notify_state *state, unsigned shard, struct slice groups)
{
    struct notify_watcher *watcher = watcher_of(state, shard);
    if (watcher != NULL && watcher->agent == NULL) {
        watcher->agent = imap_agent_new_watcher(state->session, shard);
    }
    if (watcher == NULL || watcher->agent == NULL) {
        state->is_too_much = true;
        return;
    }
    imap_agent_say_text(watcher->agent, "~n NOTIFY SET");
    imap_agent_say_command(watcher->agent, groups);
    imap_agent_say_text(watcher->agent, "\r\n");
    watcher->said_count = watcher->named_count;
    watcher->awaited++;
}

static void shard_ask(struct imap_notify_state *state, unsigned shard)
{
    struct imap_writer writer;
    imap_writer_open(&writer, GROUPS_BYTES_MAX);
    writer.utf8 = true;
    groups_write(state, shard, &writer);
    struct slice groups = imap_writer_bytes(&writer);
    if (writer.failed) {
        state->is_too_much = true;
    } else if (groups.size > 0) {
        watcher_ask(state, shard, groups);
    }
    imap_writer_close(&writer);
}

void notify_abroad_ask(struct imap_notify_state *state)
{
    if (is_alone(state) || imap_shared_root(state->session).size == 0) {
        return;
    }
    if (subscribed_events(state) != 0) {
        mailstore_each_subscribed(state->session->user, subscribed_visit, state);
    }
    for (unsigned shard = 0; shard < shard_count(state); shard++) {
        const struct notify_watcher *watcher =
            state->watchers != NULL ? &state->watchers[shard] : NULL;
        bool known =
            state->is_asked && (watcher == NULL || watcher->said_count == watcher->named_count);
        if (shard != notify_here(state) && !known && !state->is_too_much) {
            shard_ask(state, shard);
        }
    }
    state->is_asked = true;
    state->names_asked = state->session->user->names;
}

bool notify_abroad_is_current(struct imap_notify_state *state)
{
    bool current = true;
    if (state->names_asked != state->session->user->names && subscribed_events(state) != 0) {
        notify_abroad_ask(state);
    }
    for (unsigned i = 0; state->watchers != NULL && i < shard_count(state); i++) {
        current = current && state->watchers[i].awaited == 0;
    }
    return current || state->is_lost || state->is_too_much;
}

/* ---- What is told ---- */

static void fed_take(struct imap_notify_state *state, unsigned shard, const struct notify_fed *fed,
                     struct slice name)
{
    struct notify_known_list *seen = &state->watchers[shard].seen;
    struct notify_known known = {.id = fed->id,
                                 .modseq = fed->modseq,
                                 .count = fed->count,
                                 .uidnext = fed->uidnext,
                                 .uidvalidity = fed->uidvalidity,
                                 .unseen_count = fed->unseen_count,
                                 .rights = (uint16_t)fed->rights,
                                 .shard = (uint8_t)shard};
    const struct notify_known *changed;
    switch ((enum notify_fed_kind)fed->kind) {
    case NOTIFY_FED_ALL:
        notify_known_free(seen);
        return;
    case NOTIFY_FED_BOX:
        notify_known_put(seen, &known, name);
        return;
    case NOTIFY_FED_GONE:
        notify_known_drop(seen, shard, fed->id);
        return;
    case NOTIFY_FED_ENTRY:
        changed = notify_known_by_id(seen, shard, fed->id);
        if (changed != NULL) {
            known = *changed;
            known.subscribed =
                mailstore_is_subscribed(state->session->user, notify_known_name(changed));
            if (notify_entries_wanted(state, &known)) {
                notify_entries_add(&state->entries, shard, fed->id, name);
            }
        }
        return;
    }
}

static size_t seen_bytes(const struct imap_notify_state *state)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < shard_count(state); i++) {
        bytes += state->watchers[i].seen.bytes;
    }
    return bytes;
}

/* A whole response. */
static void response_take(struct imap_notify_state *state, unsigned shard)
{
    struct notify_watcher *watcher = &state->watchers[shard];
    struct slice rest = imap_writer_bytes(&watcher->response);
    while (rest.size > 0 && !watcher->response.failed) {
        struct notify_fed fed;
        check(rest.size >= sizeof(fed)); /* it is ours */
        memcpy(&fed, rest.bytes, sizeof(fed));
        rest = slice_from(rest, sizeof(fed));
        check(rest.size >= fed.name_bytes);
        fed_take(state, shard, &fed, slice_first(rest, fed.name_bytes));
        rest = slice_from(rest, fed.name_bytes);
    }
    state->is_too_much = state->is_too_much || watcher->response.failed || watcher->seen.failed ||
                         seen_bytes(state) > SEEN_BYTES_MAX;
    imap_writer_close(&watcher->response); /* an idle session holds none */
    imap_writer_open(&watcher->response, NOTIFY_FED_BYTES_MAX);
    notify_changed(state);
}

/* Of a response, which is its NOTIFICATIONOVERFLOW if it is nothing else. */
static void part_take(struct imap_notify_state *state, unsigned shard, struct slice part,
                      bool begins)
{
    struct notify_watcher *watcher = &state->watchers[shard];
    struct slice word = slice_text(NOTIFY_FED_BEGINS);
    if (begins && !slice_equal(slice_first(part, word.size), word)) {
        state->is_too_much = true;
        notify_changed(state);
    }
    if (imap_agent_told_literal(watcher->agent)) {
        imap_write_bytes(&watcher->response, part);
    }
    if (imap_agent_is_between(watcher->agent)) {
        response_take(state, shard);
    }
}

static void watcher_hear(struct imap_notify_state *state, unsigned shard)
{
    struct notify_watcher *watcher = &state->watchers[shard];
    while (!state->is_lost) {
        struct slice bytes;
        bool begins = imap_agent_is_between(watcher->agent);
        switch (imap_agent_hear(watcher->agent, &bytes)) {
        case IMAP_HEARD_NOTHING:
            return;
        case IMAP_HEARD_PART:
            part_take(state, shard, bytes, begins);
            break;
        case IMAP_HEARD_CONTINUE:
            break;
        case IMAP_HEARD_ANSWER:
            watcher->awaited--;
            state->is_too_much = state->is_too_much || imap_agent_answer(bytes).result != IMAP_OK;
            notify_changed(state);
            break;
        case IMAP_HEARD_BYE:
        case IMAP_HEARD_END:
            state->is_lost = true;
            notify_changed(state);
            break;
        }
    }
}

void notify_abroad_hear(struct imap_notify_state *state)
{
    for (unsigned i = 0; state->watchers != NULL && i < shard_count(state); i++) {
        if (state->watchers[i].agent != NULL) {
            watcher_hear(state, i);
        }
    }
}

void imap_notify_hear(struct imap_session *session)
{
    if (session->notify != NULL) {
        notify_abroad_hear(session->notify);
    }
}

/* ---- What is there ---- */

const struct notify_known *notify_abroad_find(const struct imap_notify_state *state,
                                              struct slice name)
{
    int shard = state->watchers != NULL ? notify_abroad_shard(state, name) : -1;
    const struct notify_known_list *seen = shard >= 0 ? &state->watchers[shard].seen : NULL;
    for (uint32_t i = 0; seen != NULL && i < seen->count; i++) {
        if (slice_equal(notify_known_name(&seen->all[i]), name)) {
            return &seen->all[i];
        }
    }
    return NULL;
}

void notify_abroad_gather(struct imap_notify_state *state, struct notify_known_list *list)
{
    struct mailstore_user *user = state->session->user;
    list->failed = list->failed || state->is_lost || state->is_too_much;
    for (unsigned i = 0; state->watchers != NULL && i < shard_count(state); i++) {
        const struct notify_known_list *seen = &state->watchers[i].seen;
        for (uint32_t j = 0; j < seen->count && !list->failed; j++) {
            struct notify_known known = seen->all[j];
            struct slice name = notify_known_name(&known);
            if (mailstore_box_find(user, name) == NULL) { /* else by one of his own it is hidden */
                known.subscribed = mailstore_is_subscribed(user, name);
                notify_known_append(list, &known, name);
            }
        }
    }
}
