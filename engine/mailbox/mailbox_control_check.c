/*
 * mailbox check, rebuild: the index of each shard against its log (queue/mailbox/mailstore_audit.h), one shard after the
 * other.
 *
 * While the job is away its audit's thread says in it how far it is, for home, which tells the operator; and home says in it
 * when the operator has gone. Nothing else of it is touched by two at a time.
 */
#include "engine/mailbox/mailbox_control_private.h"
#include "engine/mailbox/mailbox_store.h"
#include "queue/mailbox/mailstore_audit.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define TICK_NS 500000000ull
#define DIFFERENCES_SHOWN 100u
#define KEY_TEXT_BYTES 96u
#define NAP_NS 1000000 /* about as long as it takes to read what lies between two */

struct check {
    struct mailbox_job job; /* first */
    bool marks;
    atomic_bool abandoned;
    atomic_uint shard, step;
    atomic_uint_fast64_t done, all;
    /* There: */
    struct mailbox *mailbox;
    uint64_t differences; /* those that are meant */
    char folder[MAILBOX_STORE_PATH_BYTES];
};

/* Which log it is about. */
static void line_add(struct check *check, json_t *line)
{
    struct mailbox_job *job = &check->job;
    char log[MAILBOX_STORE_PATH_BYTES + 16];
    snprintf(log, sizeof log, "%s/%u", check->folder, job->at);
    if (line != NULL) {
        json_object_set_new(line, "log", json_string(log));
        json_object_set_new(line, "several", json_boolean(job->group->count > 1));
    }
    job_line(job, line);
}

/* ---- The audit's thread ---- */

static int audit_progress(void *owner, const struct mailstore_audit_progress *progress)
{
    struct check *check = (struct check *)owner;
    atomic_store(&check->step, progress->step);
    atomic_store(&check->done, progress->done);
    atomic_store(&check->all, progress->all);
    if (progress->step == MAILSTORE_AUDIT_READS) {
        nanosleep(&(const struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return atomic_load(&check->abandoned);
}

static void key_text(struct slice key, char text[KEY_TEXT_BYTES])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 1; i < key.size && used + 3 < KEY_TEXT_BYTES; i++) {
        used += (size_t)snprintf(text + used, KEY_TEXT_BYTES - used, "%02x", key.bytes[i]);
    }
}

static void audit_visit(void *owner, const struct mailstore_difference *difference)
{
    struct check *check = (struct check *)owner;
    const char *where = !difference->in_second  ? "only in the index"
                        : !difference->in_first ? "missing in the index"
                                                : "something else in the index";
    bool meant = check->marks || check->job.order.user[0] == '\0' ||
                 slice_equal(difference->user, slice_text(check->job.name));
    if (!meant || check->differences++ >= DIFFERENCES_SHOWN) {
        return;
    }
    char key[KEY_TEXT_BYTES];
    key_text(difference->key, key);
    json_t *line = json_pack("{s:i,s:s,s:s,s:s}", "shard", (int)check->job.at, "what",
                             difference->what, "key", key, "where", where);
    if (line != NULL && difference->user.size > 0) {
        json_object_set_new(line, "user", control_text(difference->user));
    }
    line_add(check, line);
}

/* ---- There ---- */

static void audit_wake(void *owner)
{
    shard_wake(((struct check *)owner)->mailbox->shard);
}

static json_t *trouble_line(unsigned shard, int status)
{
    char text[64];
    const char *why = text, *code = "failed";
    snprintf(text, sizeof text, "%s", strerror(-status));
    switch (-status) {
    case EBUSY:
        why = "a check is under way";
        code = "busy";
        break;
    case EAGAIN:
        why = "the log could not be written meanwhile";
        code = "busy";
        break;
    case ENOSPC:
        why = "space is short: the check was given up, so that mail has it";
        code = "busy";
        break;
    case ETIMEDOUT:
        why = "the store had no moment for it, or has written nothing, for a minute: try again "
              "when it has less to do";
        code = "busy";
        break;
    case E2BIG:
        why = "the log has too many changes for the memory that a check may take beside the "
              "service, which has to be stopped for it";
        code = "busy";
        break;
    case ECANCELED:
        why = "the service is ending";
        break;
    case EIO:
        why = "the log or the index cannot be read";
        code = "damaged";
        break;
    default:
        break;
    }
    return json_pack("{s:i,s:s,s:s}", "shard", (int)shard, "failed", why, "code", code);
}

static void audit_done(void *owner, const struct mailstore_audit_result *result)
{
    struct check *check = (struct check *)owner;
    struct mailbox_job *job = &check->job;
    struct logger *logger = check->mailbox->shard->logger;
    if (result->status != 0) {
        line_add(check, trouble_line(job->at, result->status));
    } else {
        line_add(check,
                 json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:b}", "shard", (int)job->at, "users",
                           (json_int_t)result->users, "log_bytes", (json_int_t)result->log_bytes,
                           "damaged_bytes", (json_int_t)result->damaged_bytes, "torn_bytes",
                           (json_int_t)result->torn_bytes, "differences",
                           (json_int_t)check->differences, "marked", result->marked));
    }
    if (result->status == 0 && result->differences > 0) {
        logger_line(logger, LOGGER_WARNING,
                    "store: %" PRIu64 " rows of the index are not as the log says%s",
                    result->differences, result->marked ? ": the next start builds it anew" : "");
    }
    job_go_on(job);
}

/* A user that is asked for has to have mail. */
static bool user_is_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct mailstore_user *user;
    if (job->order.user[0] == '\0') {
        return true;
    }
    if (!job_user(job, mailbox, &user)) {
        return false;
    }
    mailstore_user_close(mailbox->texts, user);
    return true;
}

static void check_there(struct mailbox_job *job, struct mailbox *mailbox)
{
    struct check *check = (struct check *)job;
    check->mailbox = mailbox;
    check->differences = 0;
    atomic_store(&check->done, 0);
    atomic_store(&check->shard, job->at);
    int status = mailbox_store_folder(mailbox->conf, check->folder);
    if (!user_is_there(job, mailbox)) {
        job_go_on(job);
        return;
    }
    const struct mailstore_audit_settings settings = {.folder = check->folder,
                                                      .marks = check->marks,
                                                      .progress = audit_progress,
                                                      .visit = audit_visit,
                                                      .wake = audit_wake,
                                                      .done = audit_done,
                                                      .owner = check};
    status = atomic_load(&check->abandoned) || mailbox->draining ? -ECANCELED : status;
    status = status == 0 ? mailstore_audit_begin(mailbox->texts, &settings) : status;
    if (status != 0) {
        line_add(check, trouble_line(job->at, status));
        job_go_on(job);
    }
}

void check_end(struct mailbox_control *control)
{
    if (control->mailbox->texts != NULL) {
        mailstore_audit_end(control->mailbox->texts);
    }
}

/* ---- At home ---- */

/* What is told was brought as lines. */
static void check_back(struct mailbox_job *job)
{
    (void)job;
}

static void progress_say(struct check *check)
{
    static const char *const steps[] = {[MAILSTORE_AUDIT_READS] = "reads",
                                        [MAILSTORE_AUDIT_BUILDS] = "builds",
                                        [MAILSTORE_AUDIT_COMPARES] = "compares"};
    struct control_request *request = check->job.request;
    if (control_abandoned(request)) {
        atomic_store(&check->abandoned, true);
        return;
    }
    control_line(request, json_pack("{s:{s:i,s:s,s:I,s:I}}", "progress", "shard",
                                    (int)atomic_load(&check->shard), "step",
                                    steps[atomic_load(&check->step)], "done",
                                    (json_int_t)atomic_load(&check->done), "all",
                                    (json_int_t)atomic_load(&check->all)));
    control_flush(request);
}

void check_tick(struct timer *timer, uint64_t now_ns)
{
    struct mailbox_control *control = list_entry(timer, struct mailbox_control, check_timer);
    bool any = false;
    for (struct list_node *node = control->jobs.next; node != &control->jobs; node = node->next) {
        struct mailbox_job *job = list_entry(node, struct mailbox_job, node);
        if (job->back == check_back) {
            progress_say((struct check *)job);
            any = true;
        }
    }
    if (any) {
        wheel_arm(control->mailbox->shard->wheel, timer, now_ns + TICK_NS);
    }
}

void check_ask(struct mailbox_control *control, struct control_request *request,
               const struct mailbox_order *order)
{
    if (control->mailbox->texts == NULL) {
        control_finish_error(request, "unavailable",
                             "the mail lies in Maildirs (store.format), which others read");
        return;
    }
    bool marks = request->verb == CONTROL_MAILBOX_REBUILD;
    struct mailbox_job *job = job_new(control, request, order, sizeof(struct check));
    if (job == NULL) {
        return;
    }
    struct check *check = (struct check *)job;
    check->marks = marks;
    atomic_init(&check->abandoned, false);
    atomic_init(&check->shard, 0);
    atomic_init(&check->step, MAILSTORE_AUDIT_READS);
    atomic_init(&check->done, 0);
    atomic_init(&check->all, 0);
    job->there = check_there;
    job->back = check_back;
    struct timer *timer = &control->check_timer;
    wheel_arm(control->mailbox->shard->wheel, timer, control->mailbox->shard->now_ns + TICK_NS);
    if (order->user[0] != '\0') {
        job_visit(job);
    } else {
        job_tour(job);
    }
}
