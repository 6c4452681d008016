#include "engine/mailbox/delivery_user.h"
#include "engine/auth/auth_service.h"
#include "engine/core/check.h"
#include <stdio.h>
#include <stdlib.h>

struct delivery_ask {
    struct helper_job job;
    struct directory *directory;
    uint64_t now_ns;
    char names[2][BACKEND_NAME_MAX + 1]; /* the address, without what is behind '+', and the user */
    enum auth_outcome outcome;
    void (*told)(void *owner, enum delivery_user answer); /* NULL: nobody wants to know */
    void *owner;
};

static struct delivery_ask *ask_of(struct helper_job *job)
{
    return list_entry(job, struct delivery_ask, job);
}

/* On a helper. */
static void ask_work(struct helper_job *job, void *own)
{
    struct delivery_ask *ask = ask_of(job);
    bool unknown = false;
    (void)own;
    ask->outcome = AUTH_WRONG;
    for (unsigned i = 0; i < 2 && ask->outcome != AUTH_RIGHT; i++) {
        ask->outcome = directory_knows(ask->directory, slice_text(ask->names[i]), ask->now_ns);
        unknown = unknown || ask->outcome == AUTH_UNKNOWN;
    }
    if (ask->outcome == AUTH_WRONG && unknown) {
        ask->outcome = AUTH_UNKNOWN;
    }
}

static void ask_done(struct helper_job *job, struct shard *shard)
{
    static const enum delivery_user answers[] = {[AUTH_RIGHT] = DELIVERY_USER_THERE,
                                                 [AUTH_WRONG] = DELIVERY_USER_ABSENT,
                                                 [AUTH_UNKNOWN] = DELIVERY_USER_NOT_KNOWN};
    struct delivery_ask ask = *ask_of(job);
    (void)shard;
    free(ask_of(job));
    if (ask.told != NULL) {
        ask.told(ask.owner, answers[ask.outcome]);
    }
}

static void ask_dropped(struct helper_job *job)
{
    free(ask_of(job));
}

/* "user@domain", in whatever letters. */
static void names_make(struct delivery_ask *ask, const char *user, struct slice address)
{
    const uint8_t *at = (const uint8_t *)memrchr(address.bytes, '@', address.size);
    struct slice domain =
        at != NULL ? slice_from(address, (size_t)(at - address.bytes)) : slice_of(NULL, 0);
    snprintf(ask->names[0], sizeof ask->names[0], "%s%.*s", user, (int)domain.size,
             (const char *)domain.bytes);
    snprintf(ask->names[1], sizeof ask->names[1], "%s", user);
}

enum delivery_user delivery_user_ask(struct mailbox *mailbox, const char *user,
                                     struct slice address,
                                     void (*told)(void *owner, enum delivery_user answer),
                                     void *owner, struct delivery_ask **asked)
{
    if (mailbox_knows(mailbox, user)) {
        return DELIVERY_USER_THERE;
    }
    if (mailbox->auth == NULL) {
        return DELIVERY_USER_ABSENT;
    }
    struct delivery_ask *ask = (struct delivery_ask *)calloc(1, sizeof *ask);
    if (ask == NULL) {
        return DELIVERY_USER_NOT_KNOWN;
    }
    ask->job = (struct helper_job){.work = ask_work, .done = ask_done, .dropped = ask_dropped};
    ask->directory = mailbox->auth->directory;
    ask->now_ns = mailbox->shard->now_ns;
    ask->told = told;
    ask->owner = owner;
    names_make(ask, user, address);
    if (helpers_give(mailbox->auth->helpers, mailbox->shard, &ask->job) != 0) {
        free(ask);
        return DELIVERY_USER_NOT_KNOWN;
    }
    *asked = ask;
    return DELIVERY_USER_ASKED;
}

void delivery_user_forget(struct delivery_ask *ask)
{
    ask->told = NULL;
}
