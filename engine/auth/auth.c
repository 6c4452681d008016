#include "engine/auth/auth.h"
#include "engine/core/check.h"
#include <errno.h>
#include <stdlib.h>

struct auth {
    struct auth_settings settings;
    struct list_node jobs; /* asked, or waiting for their delay */
    uint32_t asked;
};

/* On its way to a helper and back, or to none, then perhaps on the wheel; ends by itself when nobody wants to know any more. */
struct auth_job {
    struct helper_job job;
    struct timer timer;
    struct list_node node;        /* in auth->jobs */
    struct auth *auth;            /* NULL: it was closed */
    struct auth_request *request; /* NULL: it was cancelled */
    struct directory *directory;
    struct auth_ask ask; /* slices of text */
    uint64_t now_ns;
    struct auth_answer answer;
    size_t text_bytes;
    uint8_t text[]; /* names, password or token */
};

int auth_open(struct auth **opened, const struct auth_settings *settings)
{
    struct auth *auth = calloc(1, sizeof(*auth));
    if (auth == NULL) {
        return -ENOMEM;
    }
    auth->settings = *settings;
    auth->settings.asked_max = settings->asked_max == 0 ? 1024 : settings->asked_max;
    list_init(&auth->jobs);
    *opened = auth;
    return 0;
}

static void job_free(struct auth_job *job)
{
    if (job->auth != NULL) {
        job->auth->asked--;
    }
    list_remove(&job->node);
    explicit_bzero(job, sizeof(*job) + job->text_bytes);
    free(job);
}

static void job_tell(struct auth_job *job)
{
    struct auth_request *request = job->request;
    if (request != NULL) {
        request->job = NULL;
        request->told(request, &job->answer);
    }
    job_free(job);
}

static void delay_over(struct timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    job_tell(list_entry(timer, struct auth_job, timer));
}

static void job_work(struct helper_job *helper_job, void *own)
{
    struct auth_job *job = list_entry(helper_job, struct auth_job, job);
    (void)own;
    directory_answer(job->directory, &job->ask, job->now_ns, &job->answer);
    explicit_bzero(job->text, job->text_bytes);
}

static void job_done(struct helper_job *helper_job, struct shard *shard)
{
    struct auth_job *job = list_entry(helper_job, struct auth_job, job);
    if (job->request == NULL || job->answer.delay_ns == 0) {
        job_tell(job);
        return;
    }
    wheel_arm(shard->wheel, &job->timer, shard->now_ns + job->answer.delay_ns);
}

static void job_dropped(struct helper_job *helper_job)
{
    job_free(list_entry(helper_job, struct auth_job, job));
}

/* Behind what is there already. */
static struct slice text_copy(struct auth_job *job, size_t *used, struct slice text)
{
    uint8_t *to = job->text + *used;
    if (text.size > 0) {
        memcpy(to, text.bytes, text.size);
    }
    *used += text.size;
    return slice_of(to, text.size);
}

/* What is known here needs no helper, who costs two changes of threads; it is told in the next round all the same. */
static int job_begin(struct auth *auth, struct auth_job *job)
{
    struct shard *shard = auth->settings.shard;
    if (!directory_answer_near(job->directory, &job->ask, job->now_ns, &job->answer)) {
        return helpers_give(auth->settings.helpers, shard, &job->job);
    }
    explicit_bzero(job->text, job->text_bytes);
    check(job->answer.delay_ns == 0);
    wheel_arm(shard->wheel, &job->timer, 0); /* in the next round, not at the next tick */
    return 0;
}

int auth_ask(struct auth *auth, struct auth_request *request, const struct auth_ask *ask)
{
    size_t used = 0, text_bytes = ask->authid.size + ask->authzid.size + ask->password.size;
    size_t password_max = ask->kind == AUTH_TOKEN ? TOKEN_BYTES_MAX : PASSWORD_STORED_MAX;
    request->job = NULL;
    if (ask->authid.size > BACKEND_NAME_MAX || ask->authzid.size > BACKEND_NAME_MAX ||
        ask->password.size > password_max) {
        return -EINVAL;
    }
    if (auth->asked >= auth->settings.asked_max) {
        return -ENOBUFS;
    }
    struct auth_job *job = calloc(1, sizeof(*job) + text_bytes);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->job = (struct helper_job){.work = job_work, .done = job_done, .dropped = job_dropped};
    timer_init(&job->timer, delay_over);
    list_init(&job->node);
    job->text_bytes = text_bytes;
    job->directory = auth->settings.directory;
    job->now_ns = auth->settings.shard->now_ns;
    job->ask = *ask;
    job->ask.authid = text_copy(job, &used, ask->authid);
    job->ask.authzid = text_copy(job, &used, ask->authzid);
    job->ask.password = text_copy(job, &used, ask->password);
    int status = job_begin(auth, job);
    if (status < 0) {
        job_free(job);
        return status;
    }
    job->auth = auth;
    job->request = request;
    request->job = job;
    list_append(&auth->jobs, &job->node);
    auth->asked++;
    return 0;
}

void auth_cancel(struct auth_request *request)
{
    struct auth_job *job = request->job;
    if (job == NULL) {
        return;
    }
    request->job = NULL;
    job->request = NULL;
    if (timer_armed(&job->timer)) {
        wheel_disarm(job->auth->settings.shard->wheel, &job->timer);
        job_free(job);
    }
}

void auth_close(struct auth *auth)
{
    for (struct list_node *node; (node = list_pop(&auth->jobs)) != NULL;) {
        struct auth_job *job = list_entry(node, struct auth_job, node);
        check(job->request == NULL && !timer_armed(&job->timer));
        job->auth = NULL;
    }
    free(auth);
}

uint32_t auth_asked(const struct auth *auth)
{
    return auth->asked;
}
