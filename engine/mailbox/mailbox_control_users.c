/* mailbox users: who has mail. */
#include "engine/mailbox/mailbox_control_private.h"
#include <fnmatch.h>

#define PAGE 500u
#define LOOKED_AT_MAX 2000u /* names, of a shard and a page: few of them may match */

/* The first names behind the cursor, of all shards; one more than a page has says that there is another page. */
struct users {
    struct mailbox_job job; /* first */
    unsigned count;
    char names[PAGE + 1][USER_NAME_BYTES]; /* ascending */
    /* Behind this one a shard may have names that it has not looked at; "": there are none. */
    char horizon[USER_NAME_BYTES];
    char looked_at[USER_NAME_BYTES]; /* the last one on this shard */
};

static bool is_beyond(const struct users *users, const char *name)
{
    return users->horizon[0] != '\0' && strcmp(name, users->horizon) > 0;
}

static void users_add(struct users *users, const char *name)
{
    unsigned at = users->count;
    while (at > 0 && strcmp(users->names[at - 1], name) > 0) {
        at--;
    }
    /* Who was found on two shards is told once. */
    if (at > PAGE || (at > 0 && strcmp(users->names[at - 1], name) == 0)) {
        return;
    }
    unsigned kept = users->count <= PAGE ? users->count : PAGE;
    memmove(users->names[at + 1], users->names[at], (kept - at) * sizeof users->names[0]);
    strcpy(users->names[at], name);
    users->count = kept + 1;
}

static bool user_look(void *owner, struct slice name)
{
    struct users *users = (struct users *)owner;
    const char *mask = users->job.order.user;
    char *text = users->looked_at;
    if (name.size >= USER_NAME_BYTES) {
        return true; /* none that is a user's */
    }
    memcpy(text, name.bytes, name.size);
    text[name.size] = '\0';
    if (is_beyond(users, text) || (users->count > PAGE && strcmp(text, users->names[PAGE]) > 0)) {
        return false;
    }
    if (text[0] != '.' && (mask[0] == '\0' || fnmatch(mask, text, FNM_CASEFOLD) == 0)) {
        users_add(users, text);
    }
    return true;
}

static void users_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct users *users = (struct users *)job;
    int count = mailstore_users_after(mailbox->texts, slice_text(job->order.after), LOOKED_AT_MAX,
                                      user_look, users);
    if (count < 0) {
        job_refuse(job, "failed", strerror(-count));
    } else if (count == LOOKED_AT_MAX && !is_beyond(users, users->looked_at)) {
        strcpy(users->horizon, users->looked_at);
    }
    job_go_on(job);
}

static void users_back(struct mailbox_job *job)
{
    const struct users *users = (const struct users *)job;
    unsigned told = 0;
    while (told < users->count && told < PAGE && !is_beyond(users, users->names[told])) {
        job_line(job, json_pack("{s:o}", "user", control_text(slice_text(users->names[told]))));
        told++;
    }
    if (told < users->count && told == PAGE) {
        job->next = json_string(users->names[PAGE - 1]);
    } else if (users->horizon[0] != '\0') {
        job->next = json_string(users->horizon);
    }
}

void users_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order)
{
    if (control->mailbox->texts == NULL) {
        control_finish_error(request, "unavailable",
                             "the mail lies in Maildirs (store.format), which others read");
        return;
    }
    struct mailbox_job *job = job_new(control, request, order, sizeof(struct users));
    if (job != NULL) {
        job->there = users_there;
        job->back = users_back;
        job_tour(job);
    }
}
