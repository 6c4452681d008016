#include "engine/core/check.h"
#include "engine/mailbox/search_private.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TRIGRAM_BYTES 3u /* the index knows nothing of less */

bool search_ids_add(struct search_ids *ids, uint64_t id)
{
    if (ids->count == ids->room) {
        size_t room = ids->room * 2 + 256;
        uint64_t *grown = (uint64_t *)realloc(ids->ids, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        ids->ids = grown;
        ids->room = room;
    }
    ids->ids[ids->count++] = id;
    return true;
}

/* ---- Jobs ---- */

static void work_end(struct search_work *work)
{
    atomic_fetch_sub(&work->desk->thread.answer_bytes, work->counted);
    work->free(work);
}

static void work_done(struct helper_job *job, struct shard *shard)
{
    struct search_work *work = list_entry(job, struct search_work, job);
    (void)shard;
    if (work->orphan) {
        work_end(work);
    } else {
        work->told(work->desk, work);
    }
}

static void work_dropped(struct helper_job *job)
{
    struct search_work *work = list_entry(job, struct search_work, job);
    work->free(work);
}

static void work_run(struct helper_job *job, void *own)
{
    struct search_work *work = list_entry(job, struct search_work, job);
    (void)own;
    work->run(&work->desk->thread, work);
}

int search_give(struct search_desk *desk, struct search_work *work)
{
    work->desk = desk;
    work->job.work = work_run;
    work->job.done = work_done;
    work->job.dropped = work_dropped;
    if (desk->helpers != NULL) {
        return helpers_give(desk->helpers, desk->shard, &work->job);
    }
    list_append(&desk->driven, &work->node);
    return 0;
}

unsigned search_desk_poll(void *self, uint64_t now_ns)
{
    struct search_desk *desk = (struct search_desk *)self;
    struct list_node *node = list_pop(&desk->driven);
    (void)now_ns;
    if (node == NULL) {
        return 0;
    }
    struct search_work *work = list_entry(node, struct search_work, node);
    work_run(&work->job, NULL);
    work_done(&work->job, desk->shard);
    return 1;
}

/* ---- Questions ---- */

static void question_free(struct search_work *work)
{
    struct search_question *question = (struct search_question *)work;
    for (uint32_t i = 0; i < question->count; i++) {
        free(question->words[i].text);
        free(question->words[i].found.ids);
    }
    free(question->indexed.ids);
    free(question);
}

static void question_told(struct search_desk *desk, struct search_work *work)
{
    struct search_question *question = (struct search_question *)work;
    question->over = true;
    desk->counters.unanswered += !question->helps;
    question->answered(question->owner);
}

void search_question_end(struct search_question *question)
{
    if (question == NULL) {
        return;
    }
    if (!question->over) {
        question->work.orphan = true;
        return;
    }
    work_end(&question->work);
}

static bool is_usable(const struct search_wanted *wanted, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (wanted[i].text.size >= TRIGRAM_BYTES && wanted[i].where != 0) {
            return true;
        }
    }
    return false;
}

static struct search_question *question_new(const struct search_wanted *wanted, uint32_t count)
{
    struct search_question *question =
        (struct search_question *)calloc(1, sizeof(*question) + count * sizeof(question->words[0]));
    if (question == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct search_word_answer *word = &question->words[question->count++];
        word->text = (uint8_t *)malloc(wanted[i].text.size + 1);
        if (word->text == NULL) {
            question_free(&question->work);
            return NULL;
        }
        memcpy(word->text, wanted[i].text.bytes, wanted[i].text.size);
        word->bytes = wanted[i].text.size;
        word->where = wanted[i].where;
    }
    return question;
}

struct search_question *search_desk_ask(struct search_desk *desk, struct mailstore_user *user,
                                        const struct search_wanted *wanted, uint32_t count,
                                        const struct search_asker *asker)
{
    check(count <= 1000);
    if (user->id == 0 || !is_usable(wanted, count)) {
        return NULL;
    }
    search_keep(desk, user);
    if (desk->pass.work != NULL && asker->messages < SEARCH_BUSY_MESSAGES) {
        return NULL;
    }
    struct search_question *question = question_new(wanted, count);
    if (question == NULL) {
        return NULL;
    }
    question->user = user->id;
    question->answered = asker->answered;
    question->owner = asker->owner;
    question->work.run = search_question_run;
    question->work.told = question_told;
    question->work.free = question_free;
    if (search_give(desk, &question->work) != 0) {
        question_free(&question->work);
        return NULL;
    }
    desk->counters.questions++;
    return question;
}

/* The first that is not below id. Who asks in ascending order finds it where he was. */
static size_t ids_from(struct search_ids *ids, uint64_t id)
{
    size_t low = 0, high = ids->count;
    if (ids->at <= ids->count && (ids->at == 0 || ids->ids[ids->at - 1] < id)) {
        low = ids->at;
        for (size_t step = 1; low + step < high; step *= 2) {
            if (ids->ids[low + step] >= id) {
                high = low + step;
                break;
            }
        }
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ids->ids[middle] < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    ids->at = low;
    return low;
}

static bool ids_have(struct search_ids *ids, uint64_t id)
{
    size_t index = ids_from(ids, id);
    return index < ids->count && ids->ids[index] == id;
}

bool search_question_excludes(struct search_question *question, uint32_t word, uint64_t text)
{
    check(question->over && word < question->count);
    struct search_word_answer *answer = &question->words[word];
    return question->helps && answer->known && ids_have(&question->indexed, text) &&
           !ids_have(&answer->found, text);
}

/* ---- Life ---- */

int search_desk_open(struct search_desk **made, const struct search_desk_settings *settings)
{
    if (mkdir(settings->folder, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    struct search_desk *desk = (struct search_desk *)calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return -ENOMEM;
    }
    desk->shard = settings->shard;
    desk->texts = settings->texts;
    desk->thread.log_id = settings->log_id;
    list_init(&desk->driven);
    list_init(&desk->keepers);
    int status = search_thread_open(&desk->thread, settings->folder,
                                    mailstore_applied(settings->texts), &desk->found);
    if (status == 0 && !settings->driven) {
        const struct helpers_settings helpers = {
            .threads = 1, .queue_max = SEARCH_QUESTIONS_MAX, .name = "search"};
        status = helpers_open(&desk->helpers, &helpers);
    }
    search_keep_open(desk);
    if (status != 0) {
        search_desk_close(desk);
        return status;
    }
    *made = desk;
    return 0;
}

void search_desk_rest(struct search_desk *desk)
{
    desk->rests = true;
}

void search_desk_close(struct search_desk *desk)
{
    if (desk == NULL) {
        return;
    }
    search_keep_close(desk);
    if (desk->helpers != NULL) {
        helpers_close(desk->helpers);
    }
    for (struct list_node *node; (node = list_pop(&desk->driven)) != NULL;) {
        struct search_work *work = list_entry(node, struct search_work, node);
        work->free(work);
    }
    search_thread_close(&desk->thread);
    free(desk->found.ids);
    free(desk);
}

void search_desk_counters(const struct search_desk *desk, struct search_desk_counters *counters)
{
    *counters = desk->counters;
    counters->keepers = desk->keeper_count;
    counters->answer_bytes = atomic_load(&desk->thread.answer_bytes);
}
