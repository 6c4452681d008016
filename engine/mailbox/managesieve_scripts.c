/* A ManageSieve client's scripts, as properties of the user (sieve_scripts.h): RFC 5804 §2.3 to §2.12. */
#include "engine/mailbox/managesieve_session.h"
#include <stdio.h>
#include <stdlib.h>

static struct mailstore *store_of(const struct managesieve_session *session)
{
    return session->dialogue.session.mailbox->texts;
}

/* ---- Changes ---- */

static void steps_forget(struct managesieve_session *session)
{
    for (uint32_t i = 0; i < session->step_count; i++) {
        free(session->steps[i].key);
        free((void *)(uintptr_t)session->steps[i].value.bytes);
    }
    session->step_count = session->step = 0;
}

static void script_forget(struct managesieve_session *session)
{
    free(session->script);
    session->script = NULL;
    session->script_bytes = session->script_room = 0;
}

void managesieve_scripts_end(struct managesieve_session *session)
{
    if (session->dialogue.state == MANAGESIEVE_SESSION_CHANGING) {
        mailstore_waiter_cancel(store_of(session), &session->waiter);
    }
    steps_forget(session);
    script_forget(session);
}

static void refuse(struct managesieve_session *session, int status)
{
    bool full = status == -ENOSPC || status == -EDQUOT;
    if (!full) {
        logger_line(session->dialogue.session.mailbox->shard->logger, LOGGER_ERROR,
                    "store: a script of %s: %s", session->user->name, strerror(-status));
    }
    managesieve_session_refuse(session, full ? "QUOTA" : "TRYLATER",
                               full ? "There is no room" : "This cannot be done now");
}

static void step_done(struct mailstore_waiter *waiter, int status);

/* Answers, or waits for the next. */
static void steps_go_on(struct managesieve_session *session, int status)
{
    if (status == 0 && session->step < session->step_count) {
        const struct managesieve_step *step = &session->steps[session->step++];
        const struct mailstore_property property = {.key = slice_text(step->key),
                                                    .value = step->value};
        session->waiter = (struct mailstore_waiter){.done = step_done};
        status =
            mailstore_property_set(store_of(session), session->user, &property, &session->waiter);
        if (status == 0) {
            session->dialogue.state = MANAGESIEVE_SESSION_CHANGING;
            return;
        }
    }
    steps_forget(session);
    if (status == 0) {
        managesieve_server_verdict(&session->server, NULL);
    } else {
        refuse(session, status);
    }
}

static void step_done(struct mailstore_waiter *waiter, int status)
{
    struct managesieve_session *session = list_entry(waiter, struct managesieve_session, waiter);
    session->dialogue.state = MANAGESIEVE_SESSION_READING;
    steps_go_on(session, status);
    managesieve_session_output(session);
    dialogue_run(&session->dialogue);
}

/* 0, -ENOMEM. value: copied. */
static int step_add(struct managesieve_session *session, const char *prefix, struct slice name,
                    struct slice value)
{
    struct managesieve_step *step = &session->steps[session->step_count++];
    uint8_t *copy = (uint8_t *)malloc(value.size + 1);
    *step = (struct managesieve_step){.value = slice_of(copy, copy != NULL ? value.size : 0)};
    if (asprintf(&step->key, "%s%.*s", prefix, (int)name.size,
                 name.size > 0 ? (const char *)name.bytes : "") < 0) {
        step->key = NULL;
    }
    if (copy == NULL || step->key == NULL) {
        return -ENOMEM;
    }
    if (value.size > 0) {
        memcpy(copy, value.bytes, value.size);
    }
    return 0;
}

/* ---- What there is ---- */

/* *value is of the heap. */
static int property_get(struct managesieve_session *session, const char *prefix, struct slice name,
                        struct slice *value)
{
    char key[MAILSTORE_PROPERTY_KEY_BYTES_MAX + 1];
    int size = snprintf(key, sizeof key, "%s%.*s", prefix, (int)name.size,
                        name.size > 0 ? (const char *)name.bytes : "");
    struct mailstore_property property = {.key = slice_of(key, (size_t)size)};
    *value = slice_of(NULL, 0);
    if ((size_t)size >= sizeof key) {
        return -ENOENT;
    }
    int status = mailstore_property_get(store_of(session), session->user, &property);
    *value = status == 0 ? property.value : *value;
    return status;
}

static int script_get(struct managesieve_session *session, struct slice name, struct slice *text)
{
    return property_get(session, SIEVE_SCRIPT_KEY, name, text);
}

/* 0, -ENOENT, another. */
static int script_find(struct managesieve_session *session, struct slice name)
{
    struct slice text;
    int status = script_get(session, name, &text);
    free((void *)(uintptr_t)text.bytes);
    return status;
}

static bool is_active(struct managesieve_session *session, struct slice name)
{
    struct slice active;
    property_get(session, SIEVE_ACTIVE_KEY, slice_of(NULL, 0), &active);
    bool same = active.size > 0 && slice_equal(active, name);
    free((void *)(uintptr_t)active.bytes);
    return same;
}

static bool refuse_unless_there(struct managesieve_session *session, struct slice name)
{
    int status = script_find(session, name);
    if (status == -ENOENT) {
        managesieve_session_refuse(session, "NONEXISTENT", "There is no script of this name");
    } else if (status != 0) {
        refuse(session, status);
    }
    return status != 0;
}

struct listing {
    struct managesieve_session *session;
    struct slice active;
    uint32_t count;
    bool says;
};

static void listed(void *owner, struct slice key, struct slice value)
{
    struct listing *listing = (struct listing *)owner;
    struct managesieve_session *session = listing->session;
    struct slice name = slice_from(key, sizeof SIEVE_SCRIPT_KEY - 1);
    (void)value;
    listing->count++;
    if (listing->says &&
        !managesieve_server_list(&session->server, name, slice_equal(name, listing->active))) {
        managesieve_session_output(session);
        managesieve_server_list(&session->server, name, slice_equal(name, listing->active));
    }
}

static int each(struct listing *listing)
{
    const struct mailstore_property property = {.key = slice_text(SIEVE_SCRIPT_KEY)};
    return mailstore_property_each(store_of(listing->session), listing->session->user, &property,
                                   listed, listing);
}

static void list(struct managesieve_session *session)
{
    struct listing listing = {.session = session, .says = true};
    property_get(session, SIEVE_ACTIVE_KEY, slice_of(NULL, 0), &listing.active);
    int status = each(&listing);
    free((void *)(uintptr_t)listing.active.bytes);
    if (status == 0 || status == -ENOENT) {
        managesieve_server_verdict(&session->server, NULL);
    } else {
        refuse(session, status);
    }
}

static void get(struct managesieve_session *session, struct slice name)
{
    struct slice text;
    if (refuse_unless_there(session, name)) {
        return;
    }
    int status = script_get(session, name, &text);
    if (status != 0) {
        refuse(session, status);
        return;
    }
    managesieve_server_script(&session->server, (uint32_t)text.size);
    for (struct slice rest = text; rest.size > 0;) {
        rest = slice_from(rest, managesieve_server_script_piece(&session->server, rest));
        managesieve_session_output(session);
    }
    free((void *)(uintptr_t)text.bytes);
    managesieve_server_verdict(&session->server, NULL);
}

/* ---- What is changed ---- */

/* May a script of this name and size come? NULL; or the code, and *why. */
static const char *no_room(struct managesieve_session *session,
                           const struct managesieve_event *event, const char **why)
{
    struct listing listing = {.session = session};
    *why = "There are too many scripts";
    if (event->size > MANAGESIEVE_SCRIPT_BYTES_MAX) {
        *why = "The script is too large";
        return "QUOTA/MAXSIZE";
    }
    if (script_find(session, event->name) != -ENOENT) {
        return NULL;
    }
    each(&listing);
    return listing.count >= MANAGESIEVE_SCRIPTS_MAX ? "QUOTA/MAXSCRIPTS" : NULL;
}

static void have_space(struct managesieve_session *session, const struct managesieve_event *event)
{
    const char *why, *code = no_room(session, event, &why);
    if (code != NULL) {
        managesieve_session_refuse(session, code, why);
    } else {
        managesieve_server_verdict(&session->server, NULL);
    }
}

static void script_begin(struct managesieve_session *session, const struct managesieve_event *event)
{
    const char *why = "The name is too long", *code = NULL;
    script_forget(session);
    bool good = event->check || event->name.size <= MANAGESIEVE_NAME_BYTES_MAX;
    code = good && !event->check ? no_room(session, event, &why) : NULL;
    if (good && code == NULL) {
        session->script_room = event->size;
        session->script = (uint8_t *)malloc((size_t)event->size + 1);
        why = "Out of memory";
    }
    if (session->script == NULL) {
        managesieve_session_refuse(session, code, why);
        return;
    }
    session->check_only = event->check;
    snprintf(session->name, sizeof session->name, "%.*s", (int)event->name.size,
             event->name.size > 0 ? (const char *)event->name.bytes : "");
    managesieve_server_verdict(&session->server, NULL);
}

static void script_take(struct managesieve_session *session, struct slice piece)
{
    piece = slice_first(piece, session->script_room - session->script_bytes);
    if (piece.size > 0) {
        memcpy(session->script + session->script_bytes, piece.bytes, piece.size);
        session->script_bytes += (uint32_t)piece.size;
    }
}

/* False: it is refused. */
static bool script_check(struct managesieve_session *session, struct slice text)
{
    const struct sieve_compile_settings settings = {.extensions = SIEVE_EXTENSIONS_HERE,
                                                    .check_only = true};
    struct sieve_compiler *compiler = sieve_compiler_open(&settings);
    char why[SIEVE_ERROR_BYTES + 64] = "Out of memory";
    bool good = compiler != NULL && sieve_compile(compiler, text) == SIEVE_COMPILE_GOOD;
    if (!good) {
        if (compiler != NULL) {
            const struct sieve_error *error = sieve_compile_error(compiler);
            snprintf(why, sizeof why, "line %u: %s", error->line, error->text);
        }
        managesieve_session_refuse(session, NULL, why);
    }
    sieve_compiler_close(compiler);
    return good;
}

static void script_end(struct managesieve_session *session)
{
    /* A property cannot be empty; an empty line says as little. */
    struct slice text = session->script_bytes > 0 ? slice_of(session->script, session->script_bytes)
                                                  : slice_text("\r\n");
    if (!script_check(session, text)) {
        script_forget(session);
        return;
    }
    int status = session->check_only
                     ? 0
                     : step_add(session, SIEVE_SCRIPT_KEY, slice_text(session->name), text);
    script_forget(session);
    steps_go_on(session, status);
}

static void set_active(struct managesieve_session *session, struct slice name)
{
    if (name.size > 0 && refuse_unless_there(session, name)) {
        return;
    }
    steps_go_on(session, step_add(session, SIEVE_ACTIVE_KEY, slice_of(NULL, 0), name));
}

static void delete (struct managesieve_session *session, struct slice name)
{
    if (refuse_unless_there(session, name)) {
        return;
    }
    if (is_active(session, name)) {
        managesieve_session_refuse(session, "ACTIVE", "The active script cannot be deleted");
        return;
    }
    steps_go_on(session, step_add(session, SIEVE_SCRIPT_KEY, name, slice_of(NULL, 0)));
}

/* In an order that leaves an active script at every moment. */
static void rename_script(struct managesieve_session *session, struct slice old, struct slice name)
{
    struct slice text;
    if (refuse_unless_there(session, old)) {
        return;
    }
    if (name.size > MANAGESIEVE_NAME_BYTES_MAX) {
        managesieve_session_refuse(session, NULL, "The name is too long");
        return;
    }
    if (script_find(session, name) != -ENOENT) {
        managesieve_session_refuse(session, "ALREADYEXISTS", "There is a script of this name");
        return;
    }
    int status = script_get(session, old, &text);
    status = status == 0 ? step_add(session, SIEVE_SCRIPT_KEY, name, text) : status;
    free((void *)(uintptr_t)text.bytes);
    if (status == 0 && is_active(session, old)) {
        status = step_add(session, SIEVE_ACTIVE_KEY, slice_of(NULL, 0), name);
    }
    status = status == 0 ? step_add(session, SIEVE_SCRIPT_KEY, old, slice_of(NULL, 0)) : status;
    steps_go_on(session, status);
}

void managesieve_scripts_event(struct managesieve_session *session,
                               const struct managesieve_event *event)
{
    switch (event->kind) {
    case MANAGESIEVE_EVENT_HAVESPACE:
        have_space(session, event);
        return;
    case MANAGESIEVE_EVENT_SCRIPT_BEGIN:
        script_begin(session, event);
        return;
    case MANAGESIEVE_EVENT_SCRIPT:
        script_take(session, event->text);
        return;
    case MANAGESIEVE_EVENT_SCRIPT_END:
        script_end(session);
        return;
    case MANAGESIEVE_EVENT_LISTSCRIPTS:
        list(session);
        return;
    case MANAGESIEVE_EVENT_SETACTIVE:
        set_active(session, event->name);
        return;
    case MANAGESIEVE_EVENT_GETSCRIPT:
        get(session, event->name);
        return;
    case MANAGESIEVE_EVENT_DELETESCRIPT:
        delete (session, event->name);
        return;
    case MANAGESIEVE_EVENT_RENAMESCRIPT:
        rename_script(session, event->name, event->new_name);
        return;
    case MANAGESIEVE_EVENT_NONE: /* these are the session's own */
    case MANAGESIEVE_EVENT_AUTHENTICATE:
    case MANAGESIEVE_EVENT_RESPONSE:
    case MANAGESIEVE_EVENT_CANCEL:
    case MANAGESIEVE_EVENT_UNAUTHENTICATE:
        return;
    }
}
