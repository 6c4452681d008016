/*
 * Subscriptions that anybody has written: each name is one that a folder can have, with a NUL behind it; who subscribes is
 * in the list then, who unsubscribes is not, and nobody else has gone or come.
 */
#include "engine/core/check.h"
#include "queue/mailbox/maildir_subscriptions.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static unsigned count_of(const char *names, size_t used, const char *name)
{
    unsigned count = 0;
    for (size_t at = 0; at < used; at += strlen(names + at) + 1) {
        count += strcmp(names + at, name) == 0;
    }
    return count;
}

static unsigned count_all(const char *names, size_t used)
{
    unsigned count = 0;
    for (size_t at = 0; at < used; at += strlen(names + at) + 1) {
        check(names[at] != 0);
        count++;
    }
    return count;
}

/* A line that goes can leave one in front that looks like a header. */
static bool is_second(struct slice text)
{
    return text.size >= 4 && memcmp(text.bytes, "V\t2\n", 4) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char *const mailboxes[] = {"INBOX", "a", "Sent/2024", "\xc3\xa4/x"};
    struct slice text = slice_of(bytes, size);
    size_t used, changed_used;
    char *names = maildir_subscriptions_names(text, &used);
    check(names != NULL && (used == 0 || names[used - 1] == 0));
    unsigned all = count_all(names, used);
    for (unsigned i = 0; i < 8; i++) {
        const char *mailbox = mailboxes[i / 2];
        bool subscribed = i % 2;
        char *out = malloc(size + MAILDIR_SUBSCRIPTIONS_MORE);
        check(out != NULL);
        ssize_t changed = maildir_subscriptions_change(text, mailbox, subscribed, out);
        check(changed >= 0 && (size_t)changed <= size + MAILDIR_SUBSCRIPTIONS_MORE);
        char *after = maildir_subscriptions_names(slice_of(out, (size_t)changed), &changed_used);
        check(after != NULL);
        unsigned before = count_of(names, used, mailbox),
                 now = count_of(after, changed_used, mailbox);
        check(subscribed ? now >= 1 : now <= before);
        bool same_version =
            size == 0 || is_second(text) == is_second(slice_of(out, (size_t)changed));
        check(!same_version || count_all(after, changed_used) - now == all - before);
        free(after);
        free(out);
    }
    free(names);
    return 0;
}
