/*
 * login_fake: a login desk for tests of sessions, in the place of engine/mailbox/login.c: included by one file of a program
 * that the linker wraps those functions for (Makefile).
 *
 * The password of everybody is "secret"; with "unavailable" the directory is down, with "busy" the desk has no room. PLAIN is as
 * it should be. X-WORDS asks "who?", takes the answer for the user, and says "v=proof" at last. X-LONG asks more than fits.
 */
#pragma once
#include "engine/core/check.h"
#include "engine/auth/login.h"
#include <stdlib.h>

struct login_attempt {
    struct list_node node; /* in the desk's waiting */
    struct login *login;
    struct login_desk *desk;
    bool words; /* X-WORDS */
    enum login_news news;
    char user[128], bytes[4096];
    size_t byte_count;
};

struct login_desk {
    struct list_node waiting; /* to be told */
    unsigned attempts;        /* that are there now */
    bool clear;               /* passwords in the clear */
    bool holds;               /* tells nobody */
};

bool __wrap_login_in_clear(const struct login_desk *desk, const struct login_facts *facts);
size_t __wrap_login_mechanisms(const struct login_desk *desk, const struct login_facts *facts,
                               char *out, size_t room);
int __wrap_login_begin(struct login_desk *desk, struct login *login,
                       const struct login_facts *facts, struct slice mechanism,
                       const struct slice *initial);
int __wrap_login_answer(struct login *login, struct slice message);
int __wrap_login_password(struct login_desk *desk, struct login *login,
                          const struct login_facts *facts, struct slice user,
                          struct slice password);
void __wrap_login_cancel(struct login *login);

static void login_fake_open(struct login_desk *desk)
{
    *desk = (struct login_desk){.clear = true};
    list_init(&desk->waiting);
}

bool __wrap_login_in_clear(const struct login_desk *desk, const struct login_facts *facts)
{
    return desk->clear || facts->stream->tls != NULL;
}

size_t __wrap_login_mechanisms(const struct login_desk *desk, const struct login_facts *facts,
                               char *out, size_t room)
{
    const char *names = __wrap_login_in_clear(desk, facts) ? "X-WORDS PLAIN" : "X-WORDS";
    check(strlen(names) < room);
    strcpy(out, names);
    return strlen(names);
}

static struct login_attempt *attempt_new(struct login_desk *desk, struct login *login)
{
    struct login_attempt *attempt = (struct login_attempt *)calloc(1, sizeof(*attempt));
    check(attempt != NULL && login->attempt == NULL && login->told != NULL);
    list_init(&attempt->node);
    attempt->login = login;
    attempt->desk = desk;
    login->attempt = attempt;
    desk->attempts++;
    return attempt;
}

static void attempt_free(struct login_attempt *attempt)
{
    attempt->login->attempt = NULL;
    attempt->desk->attempts--;
    list_remove(&attempt->node);
    free(attempt);
}

static void attempt_tell(struct login_attempt *attempt, enum login_news news)
{
    check(list_empty(&attempt->node));
    attempt->news = news;
    list_append(&attempt->desk->waiting, &attempt->node);
}

/* Copied, in small letters. */
static void attempt_user(struct login_attempt *attempt, struct slice user)
{
    check(user.size < sizeof(attempt->user));
    for (size_t i = 0; i < user.size; i++) {
        attempt->user[i] = (char)slice_lower(user.bytes[i]);
    }
    attempt->user[user.size] = '\0';
}

static void attempt_judge(struct login_attempt *attempt, struct slice user, struct slice password)
{
    attempt_user(attempt, user);
    attempt_tell(attempt, slice_equal(password, slice_text("secret"))        ? LOGIN_IN
                          : slice_equal(password, slice_text("unavailable")) ? LOGIN_UNAVAILABLE
                                                                             : LOGIN_REFUSED);
}

static void plain_judge(struct login_attempt *attempt, struct slice message)
{
    const uint8_t *first = message.size == 0 ? NULL : memchr(message.bytes, '\0', message.size);
    struct slice user =
        slice_from(message, first == NULL ? message.size : (size_t)(first - message.bytes) + 1);
    const uint8_t *second = user.size == 0 ? NULL : memchr(user.bytes, '\0', user.size);
    if (second == NULL) {
        attempt_tell(attempt, LOGIN_MALFORMED);
        return;
    }
    size_t size = (size_t)(second - user.bytes);
    attempt_judge(attempt, slice_first(user, size), slice_from(user, size + 1));
}

int __wrap_login_password(struct login_desk *desk, struct login *login,
                          const struct login_facts *facts, struct slice user, struct slice password)
{
    check(facts->service != NULL);
    if (!__wrap_login_in_clear(desk, facts)) {
        return -EPERM;
    }
    if (user.size > 64) {
        return -EINVAL;
    }
    if (slice_equal(password, slice_text("busy"))) {
        return -ENOBUFS;
    }
    attempt_judge(attempt_new(desk, login), user, password);
    return 0;
}

int __wrap_login_begin(struct login_desk *desk, struct login *login,
                       const struct login_facts *facts, struct slice mechanism,
                       const struct slice *initial)
{
    bool plain = slice_equal_nocase(mechanism, slice_text("PLAIN"));
    bool is_long = slice_equal_nocase(mechanism, slice_text("X-LONG"));
    bool words = slice_equal_nocase(mechanism, slice_text("X-WORDS"));
    if ((plain && !__wrap_login_in_clear(desk, facts)) || (!plain && !words && !is_long)) {
        return -EPERM;
    }
    struct login_attempt *attempt = attempt_new(desk, login);
    attempt->words = words;
    if (plain && initial != NULL) {
        plain_judge(attempt, *initial);
        return 0;
    }
    attempt->byte_count = is_long ? sizeof(attempt->bytes) : words ? 4 : 0;
    memcpy(attempt->bytes, "who?", 4);
    attempt_tell(attempt, LOGIN_CHALLENGE);
    return 0;
}

int __wrap_login_answer(struct login *login, struct slice message)
{
    struct login_attempt *attempt = login->attempt;
    check(attempt != NULL);
    if (!attempt->words) {
        plain_judge(attempt, message);
    } else if (attempt->user[0] == '\0') {
        attempt_user(attempt, message);
        attempt->byte_count = 7;
        memcpy(attempt->bytes, "v=proof", 7);
        attempt_tell(attempt, LOGIN_CHALLENGE);
    } else {
        attempt_tell(attempt, message.size == 0 ? LOGIN_IN : LOGIN_MALFORMED);
    }
    return 0;
}

void __wrap_login_cancel(struct login *login)
{
    if (login->attempt != NULL) {
        attempt_free(login->attempt);
    }
}

static unsigned login_fake_round(struct login_desk *desk)
{
    struct list_node due;
    unsigned count = 0;
    list_init(&due);
    if (!desk->holds) {
        list_splice(&due, &desk->waiting);
    }
    for (struct list_node *node; (node = list_pop(&due)) != NULL; count++) {
        struct login_attempt *attempt = list_entry(node, struct login_attempt, node);
        struct login_attempt said = *attempt;
        struct login_told told = {.news = said.news,
                                  .has_bytes = said.news == LOGIN_CHALLENGE,
                                  .bytes = slice_of(said.bytes, said.byte_count),
                                  .user = said.news == LOGIN_IN ? said.user : NULL};
        if (said.news != LOGIN_CHALLENGE) {
            attempt_free(attempt);
        }
        said.login->told(said.login, &told);
    }
    return count;
}
