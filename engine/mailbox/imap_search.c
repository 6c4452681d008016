/* SEARCH, SORT, THREAD (RFC 9051 §6.4.4, RFC 5256): so many messages in each round, so that others have their turn. */
#include "engine/mailbox/imap_search.h"
#include "queue/mailbox/search_index.h"
#include <stdlib.h>

#define ENTRIES_A_STEP 5000u
#define TEXTS_A_STEP 32u
#define TEXT_BYTES 8192u /* so many more of one are as much as another */

static bool found_add(struct search *search)
{
    if (search->found_count == search->found_room) {
        uint32_t room = search->found_room * 2 + 64;
        uint32_t *grown = (uint32_t *)realloc(search->found, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        search->found = grown;
        search->found_room = room;
    }
    search->found[search->found_count++] =
        search->command->uid ? search->entry.uid : search->number;
    if (search->entry.modseq > search->modseq) {
        search->modseq = search->entry.modseq;
    }
    return search->sorting == NULL || sorting_add(search) == 0;
}

static bool gone_add(struct search *search)
{
    if (search->gone_count == search->gone_room) {
        uint32_t room = search->gone_room * 2 + 64;
        uint32_t *grown = (uint32_t *)realloc(search->gone, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        search->gone = grown;
        search->gone_room = room;
    }
    search->gone[search->gone_count++] = search->entry.uid;
    return true;
}

static void message_end(struct search *search)
{
    search_text_end(search);
    search->phase = SEARCH_NEXT;
}

/* Is what was said enough? */
static bool is_decided(const struct search *search, enum search_verdict verdict)
{
    bool fields = search->stage >= SEARCH_FIELDS;
    return verdict == SEARCH_NO || (verdict == SEARCH_YES && (fields || search->sorting == NULL ||
                                                              !sorting_needs_header(search)));
}

/* By what is at hand without the text. */
static enum search_verdict entry_judge(struct search *search)
{
    search->stage = SEARCH_ENTRY;
    search->fields_found = false;
    enum search_verdict verdict = search_judge(search, &search->command->search.key);
    if (search->fields_wanted && !is_decided(search, verdict) && search_fields_find(search)) {
        search->stage = SEARCH_FIELDS;
        search->fields_found = true;
        verdict = search_judge(search, &search->command->search.key);
    }
    return verdict;
}

bool search_needs_text(struct search *search, uint32_t number)
{
    const struct mailstore_entry under_way = search->entry;
    const struct mailstore_entry *entry = view_entry(&search->session->view, number);
    uint32_t number_under_way = search->number;
    uint8_t stage = search->stage;
    bool fields_found = search->fields_found;
    if (entry == NULL) {
        return false;
    }
    search->fields_found = false;
    search->entry = *entry;
    search->number = number;
    bool needs = !imap_context_skips(search) && !is_decided(search, entry_judge(search));
    search->looks_ahead += search->fields_found;
    search->entry = under_way;
    search->number = number_under_way;
    search->stage = stage;
    search->fields_found = fields_found;
    return needs;
}

/* What comes next for the message, by what is known of it. */
static void message_judged(struct search *search, enum search_verdict verdict)
{
    if (verdict == SEARCH_YES && is_decided(search, verdict)) {
        search->failed = search->failed || !found_add(search);
        message_end(search);
    } else if (verdict == SEARCH_NO) {
        search->failed = search->failed || (search->context != NULL && !gone_add(search));
        message_end(search);
    } else if (search->stage < SEARCH_HEADER) {
        search->phase = SEARCH_LOAD;
        search_ahead_run(search);
    } else {
        search->phase = SEARCH_PARTS;
    }
}

/* False: there are no more. */
static bool message_next(struct search *search)
{
    const struct view *view = &search->session->view;
    if (search->number >= view->count) {
        return false;
    }
    const struct mailstore_entry *entry = view_entry(view, ++search->number);
    if (entry != NULL) {
        search->entry = *entry;
        if (!imap_context_skips(search)) {
            message_judged(search, entry_judge(search));
        }
    }
    return true;
}

/* The text cannot be read: the message is not found, and the answer says that something is missing. */
static void message_broken(struct search *search, int status)
{
    search->some_broken = search->some_broken || status != -ENOENT;
    message_end(search);
}

static int phase_run(struct search *search)
{
    int status = search_text_open(search);
    if (status != 0) {
        return status;
    }
    switch ((enum search_phase)search->phase) {
    case SEARCH_ASK:
        break;
    case SEARCH_LOAD:
        status = search_header_load(search);
        if (status == 0) {
            search->stage = SEARCH_HEADER;
            if (search->fields_wanted && !search->fields_found) {
                search_fields_keep(search);
            }
            message_judged(search, search_judge(search, &search->command->search.key));
        }
        return status;
    case SEARCH_PARTS:
        status = search_parts_scan(search);
        if (status == 0) {
            search->phase = SEARCH_BODIES;
        }
        return status;
    case SEARCH_BODIES:
        status = search_bodies(search);
        if (status == 0) {
            search->stage = SEARCH_WHOLE;
            message_judged(search, search_judge(search, &search->command->search.key));
        }
        return status;
    case SEARCH_NEXT:
    case SEARCH_ORDER:
    case SEARCH_ANSWER:
        break;
    }
    return 0;
}

/* Nobody has asked, so nothing is answered. */
static enum imap_step again_end(struct search *search)
{
    struct imap_session *session = search->session;
    imap_context_told(search);
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    imap_session_later(session);
    return IMAP_STEP_ANSWERED;
}

static enum imap_step order(struct search *search)
{
    int status = search->sorting != NULL ? sorting_step(search) : 0;
    if (status == -EAGAIN) {
        return IMAP_STEP_MORE;
    }
    search->failed = search->failed || status != 0;
    if (search->context == NULL && status == 0) {
        status = search_result_keep(search, true);
    }
    if (status != 0 && search->context == NULL) {
        return search_refuse(search, status);
    }
    search->phase = SEARCH_ANSWER;
    return search->context == NULL ? search_answer(search) : again_end(search);
}

/* All are judged. What is left is begun at once, and goes on in rounds to come when there is much of it. */
static enum imap_step judged(struct search *search)
{
    imap_context_ask(search);
    int status = search->context == NULL ? search_result_keep(search, false) : 0;
    search->phase = SEARCH_ORDER;
    return status == 0 ? order(search) : search_refuse(search, status);
}

/* In texts. */
static unsigned phase_cost(const struct search *search)
{
    unsigned more = search->phase == SEARCH_LOAD ? 0 : search->entry.bytes / TEXT_BYTES;
    return more + (search->phase != SEARCH_BODIES);
}

/* Judges some. */
static enum imap_step judge(struct search *search)
{
    unsigned entries = 0, texts = 0;
    search->looks_ahead = 0;
    while (entries < ENTRIES_A_STEP && texts < TEXTS_A_STEP) {
        if (search->phase == SEARCH_NEXT) {
            entries++;
            if (!message_next(search)) {
                return judged(search);
            }
            texts += search->phase == SEARCH_NEXT && search->fields_found;
            continue;
        }
        texts += phase_cost(search);
        int status = phase_run(search);
        if (imap_text_must_wait(status)) {
            return imap_text_step(status);
        }
        if (status == -E2BIG) {
            return IMAP_STEP_MORE;
        }
        if (status != 0) {
            message_broken(search, status);
        }
    }
    return IMAP_STEP_MORE;
}

static enum imap_step search_step(struct imap_session *session, struct imap_task *task)
{
    struct search *search = (struct search *)task;
    (void)session;
    if (search->asked) {
        return IMAP_STEP_WAIT;
    }
    switch ((enum search_phase)search->phase) {
    case SEARCH_ASK:
        search->phase = SEARCH_NEXT;
        return judge(search);
    case SEARCH_NEXT:
    case SEARCH_LOAD:
    case SEARCH_PARTS:
    case SEARCH_BODIES:
        return judge(search);
    case SEARCH_ORDER:
        return order(search);
    case SEARCH_ANSWER:
        break;
    }
    return search_answer(search);
}

static struct imap_progress search_progress(const struct imap_session *session,
                                            const struct imap_task *task)
{
    const struct search *search = (const struct search *)task;
    uint32_t count = session->view.count;
    return (struct imap_progress){.known = count > 0,
                                  .done = search->number < count ? search->number : count - 1,
                                  .goal = count};
}

static void search_end(struct imap_session *session, struct imap_task *task)
{
    struct search *search = (struct search *)task;
    (void)session;
    search_question_end(search->question);
    search_text_end(search);
    search_text_free(search);
    search_ahead_end(search);
    sorting_close(search);
    imap_context_forget(search);
    arena_close(&search->arena);
    for (uint32_t i = 0; i < search->word_count; i++) {
        free(search->words[i].mapped);
    }
    free(search->words);
    free(search->fields);
    free(search->gone);
    free(search->found);
}

/* ---- What the index knows ---- */

static void question_answered(void *owner)
{
    struct search *search = (struct search *)owner;
    search->asked = false;
    imap_session_wake(search->session);
}

static unsigned where_of(const struct imap_search_key *key)
{
    return key->kind == IMAP_SEARCH_BODY   ? SEARCH_IN_BODY
           : key->kind == IMAP_SEARCH_TEXT ? SEARCH_IN_HEADER | SEARCH_IN_BODY
                                           : SEARCH_IN_HEADER;
}

/* Which messages need not be read. */
static void index_ask(struct search *search)
{
    struct search_desk *desk = search->session->session.mailbox->searches;
    const struct view *view = &search->session->view;
    struct search_wanted wanted[SEARCH_WORDS_MAX];
    if (desk == NULL || search->word_count == 0 || view->count == 0) {
        return;
    }
    for (uint32_t i = 0; i < search->word_count; i++) {
        const struct search_word *word = &search->words[i];
        wanted[i] =
            (struct search_wanted){slice_of(word->mapped, word->bytes), where_of(word->key)};
    }
    const struct search_asker asker = {question_answered, search, view->count};
    search->question = search_desk_ask(desk, view->box->user, wanted, search->word_count, &asker);
    search->asked = search->question != NULL;
}

/* 0, -ENOMEM, -E2BIG. */
static int search_open(struct search *search, struct imap_session *session,
                       const struct imap_command *command)
{
    search->task.end = search_end;
    search->session = session;
    search->command = command;
    search->now_s = world_wall_s(session->session.mailbox->shard->world);
    search->told_modseq = session->view.modseq_told;
    search->told_uid = session->view.uid_last;
    arena_open(&search->arena, SEARCHABLE_PARTS_BYTES_MAX);
    int status = search_words(search, &command->search.key);
    if (status == 0 && command->kind != IMAP_SEARCH) {
        status = sorting_open(search);
    }
    search->fields_wanted = status == 0 && search_fields_wanted(search);
    return status;
}

bool imap_search_again(struct imap_session *session, struct imap_context *context,
                       const struct imap_command *command)
{
    struct search *search = (struct search *)calloc(1, sizeof(*search));
    if (search == NULL) {
        return false;
    }
    search->task.step = search_step;
    search->context = context;
    session->task = &search->task;
    if (search_open(search, session, command) != 0) {
        imap_task_end(session);
        return false;
    }
    session->state = IMAP_SESSION_WORKING;
    imap_session_later(session);
    return true;
}

void imap_search(struct imap_session *session, const struct imap_command *command)
{
    if ((command->search.returns & IMAP_SEARCH_UPDATE) &&
        imap_context_is_there(session, command->tag)) {
        imap_session_bad(session, "Updates are sent with this tag already");
        return;
    }
    struct search *search =
        (struct search *)imap_session_task(session, sizeof(*search), search_step);
    if (search == NULL) {
        return;
    }
    search->task.progress = search_progress;
    int status = search_open(search, session, command);
    if (status != 0) {
        search_refuse(search, status);
        return;
    }
    index_ask(search);
    imap_session_begin(session);
}
