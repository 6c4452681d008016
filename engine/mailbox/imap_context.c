/*
 * SEARCH and SORT whose results are kept up (RFC 5267): RETURN (UPDATE), ADDTO and REMOVEFROM, CANCELUPDATE, NOUPDATE.
 *
 * A context is the command and the uids that it has found. When the client has been told of changes, and no command is
 * under way, the messages that have changed are judged again, as by SEARCH; what the answer has become other by is told.
 * For SORT all are judged again, since a place among them is to be told: so it is for mailboxes of modest size.
 */
#include "engine/core/check.h"
#include "engine/mailbox/imap_search.h"
#include <stdlib.h>

#define CONTEXTS_MAX 8u
#define CONTEXT_FOUND_MAX (256u * 1024) /* uids of all contexts of a session */
#define CONTEXT_SORT_MAX 10000u         /* messages in a mailbox whose SORT is kept up */
#define CONTEXT_BYTES_MAX (64u * 1024)  /* of a command */
#define LINE_BYTES_MAX (64u * 1024)
#define LINE_NUMBERS 4096u

struct imap_context {
    struct arena arena;
    struct imap_command command; /* in the arena */
    uint32_t *found;             /* owned: uids; ascending, of SORT in its order */
    uint32_t count;
    uint64_t modseq; /* up to here messages are judged */
    uint32_t uid_last;
    struct imap_range *fresh; /* owned: uids of new messages whose items are to be told */
    uint32_t fresh_count, fresh_room;
    struct imap_fetch fetch; /* of these */
};

struct imap_contexts {
    struct imap_context *all[CONTEXTS_MAX];
    uint32_t count;
};

static bool is_sort(const struct imap_context *context)
{
    return context->command.kind == IMAP_SORT;
}

/* ---- Life ---- */

static void context_free(struct imap_context *context)
{
    arena_close(&context->arena);
    free(context->found);
    free(context->fresh);
    free(context);
}

void imap_contexts_end(struct imap_session *session)
{
    struct imap_contexts *contexts = session->contexts;
    session->contexts = NULL;
    for (uint32_t i = 0; contexts != NULL && i < contexts->count; i++) {
        context_free(contexts->all[i]);
    }
    free(contexts);
}

static void context_remove(struct imap_session *session, uint32_t index)
{
    struct imap_contexts *contexts = session->contexts;
    check(contexts != NULL && index < contexts->count);
    context_free(contexts->all[index]);
    contexts->count--;
    memmove(&contexts->all[index], &contexts->all[index + 1],
            (contexts->count - index) * sizeof(contexts->all[0]));
    if (contexts->count == 0) {
        imap_contexts_end(session);
    }
}

/* CONTEXTS_MAX: there is none. */
static uint32_t context_index(const struct imap_session *session, struct slice tag)
{
    const struct imap_contexts *contexts = session->contexts;
    for (uint32_t i = 0; contexts != NULL && i < contexts->count; i++) {
        if (slice_equal(contexts->all[i]->command.tag, tag)) {
            return i;
        }
    }
    return CONTEXTS_MAX;
}

bool imap_context_is_there(const struct imap_session *session, struct slice tag)
{
    return context_index(session, tag) != CONTEXTS_MAX;
}

static void no_update_write(struct imap_session *session, struct slice tag)
{
    struct imap_writer writer;
    imap_writer_open(&writer, LINE_BYTES_MAX);
    imap_write(&writer, "* NO [NOUPDATE ");
    imap_write_string(&writer, tag);
    imap_write(&writer, "] Too much to keep up\r\n");
    if (!imap_session_send(session, &writer)) {
        session->outbox.failed = true;
    }
    imap_writer_close(&writer);
}

static uint32_t found_of_all(const struct imap_session *session)
{
    uint32_t count = 0;
    for (uint32_t i = 0; session->contexts != NULL && i < session->contexts->count; i++) {
        count += session->contexts->all[i]->count;
    }
    return count;
}

/* "$" is what was saved before this search saves what it has found. */
void imap_context_ask(struct search *search)
{
    if (search->context != NULL || !(search->command->search.returns & IMAP_SEARCH_UPDATE)) {
        return;
    }
    struct imap_context *context = (struct imap_context *)calloc(1, sizeof(*context));
    if (context == NULL) {
        return;
    }
    arena_open(&context->arena, CONTEXT_BYTES_MAX);
    if (!imap_context_command_copy(search->session, &context->arena, search->command,
                                   &context->command)) {
        context_free(context);
        return;
    }
    search->begins = context;
}

void imap_context_forget(struct search *search)
{
    if (search->begins != NULL) {
        context_free(search->begins);
    }
    search->begins = NULL;
}

/* NULL: memory was short, when it was asked or now. */
static struct imap_context *context_take(struct search *search)
{
    struct imap_context *context = search->begins;
    uint32_t *found = (uint32_t *)malloc((search->found_count + 1u) * sizeof(found[0]));
    if (context == NULL || found == NULL) {
        free(found);
        return NULL;
    }
    for (uint32_t i = 0; i < search->found_count; i++) {
        found[i] = search_uid(search, search->found[i]);
    }
    context->found = found;
    context->count = search->found_count;
    context->modseq = search->told_modseq;
    context->uid_last = search->told_uid;
    search->begins = NULL;
    return context;
}

void imap_context_begin(struct search *search)
{
    struct imap_session *session = search->session;
    struct imap_context *context = NULL;
    if (session->contexts == NULL) {
        session->contexts = (struct imap_contexts *)calloc(1, sizeof(*session->contexts));
    }
    if (session->contexts != NULL && session->contexts->count < CONTEXTS_MAX &&
        found_of_all(session) + search->found_count <= CONTEXT_FOUND_MAX &&
        (search->command->kind != IMAP_SORT || session->view.count <= CONTEXT_SORT_MAX)) {
        context = context_take(search);
    }
    if (context == NULL) {
        no_update_write(session, search->command->tag);
        if (session->contexts != NULL && session->contexts->count == 0) {
            imap_contexts_end(session);
        }
        return;
    }
    session->contexts->all[session->contexts->count++] = context;
}

void imap_context_cancel(struct imap_session *session, const struct imap_text_list *tags)
{
    for (uint32_t i = 0; i < tags->count; i++) {
        if (!imap_context_is_there(session, tags->items[i])) {
            imap_session_bad(session, "No updates are sent with this tag");
            return;
        }
    }
    for (uint32_t i = 0; i < tags->count; i++) {
        uint32_t index = context_index(session, tags->items[i]); /* one may be named twice */
        if (index != CONTEXTS_MAX) {
            context_remove(session, index);
        }
    }
    imap_session_ok(session);
}

/* ---- What is told ---- */

struct context_writer {
    struct imap_session *session;
    const struct imap_context *context;
    const char *word; /* " ADDTO (" */
    struct imap_writer writer;
    uint32_t numbers[LINE_NUMBERS]; /* of one line */
    uint32_t count;
};

/* place: 0 where results have no order. */
static void line_write(struct context_writer *line, uint32_t place)
{
    struct imap_writer *writer = &line->writer;
    if (line->count == 0) {
        return;
    }
    imap_write(writer, "* ESEARCH (TAG ");
    imap_write_string(writer, line->context->command.tag);
    imap_write(writer, line->context->command.uid ? ") UID" : ")");
    imap_write(writer, line->word);
    imap_write_number(writer, place);
    imap_write(writer, " ");
    imap_write_sequence_set(writer, line->numbers, line->count);
    imap_write(writer, ")\r\n");
    line->count = 0;
    if (!imap_session_send(line->session, writer)) {
        line->session->outbox.failed = true;
    }
}

static void line_add(struct context_writer *line, uint32_t uid)
{
    line->numbers[line->count++] =
        line->context->command.uid ? uid : view_number(&line->session->view, uid);
    if (line->count == LINE_NUMBERS) {
        line_write(line, 0);
    }
}

static struct context_writer *writer_new(struct imap_session *session,
                                         const struct imap_context *context)
{
    struct context_writer *line = (struct context_writer *)malloc(sizeof(*line));
    if (line != NULL) {
        line->session = session;
        line->context = context;
        line->count = 0;
        imap_writer_open(&line->writer, LINE_BYTES_MAX);
    } else {
        session->outbox.failed = true; /* what the client believes cannot be made right again */
    }
    return line;
}

static void writer_free(struct context_writer *line)
{
    imap_writer_close(&line->writer);
    free(line);
}

static bool uids_have(const uint32_t *uids, uint32_t count, uint32_t uid)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (uids[middle] < uid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && uids[low] == uid;
}

/* Those of `gone` (ascending) leave the context, and are told; of SORT each with its place, the last first, so that the
 * places of the others stay. */
static void gone_tell(struct imap_session *session, struct imap_context *context,
                      const uint32_t *gone, uint32_t gone_count)
{
    struct context_writer *line = gone_count > 0 ? writer_new(session, context) : NULL;
    if (line == NULL) {
        return;
    }
    line->word = " REMOVEFROM (";
    for (uint32_t i = context->count; is_sort(context) && i > 0; i--) {
        if (uids_have(gone, gone_count, context->found[i - 1])) {
            line_add(line, context->found[i - 1]);
            line_write(line, i);
        }
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < context->count; i++) {
        if (!uids_have(gone, gone_count, context->found[i])) {
            context->found[kept++] = context->found[i];
        } else if (!is_sort(context)) {
            line_add(line, context->found[i]);
        }
    }
    context->count = kept;
    line_write(line, 0);
    writer_free(line);
}

void imap_contexts_expunge(struct imap_session *session)
{
    const struct view *view = &session->view;
    for (uint32_t i = 0; session->contexts != NULL && i < session->contexts->count; i++) {
        gone_tell(session, session->contexts->all[i], view->missing, view->missing_count);
    }
}

/* ---- Judging again ---- */

bool imap_context_skips(const struct search *search)
{
    const struct imap_context *context = search->context;
    return context != NULL && !is_sort(context) && search->entry.uid <= context->uid_last &&
           search->entry.modseq <= context->modseq;
}

/* A new message has been added: its items follow (RFC 5465 §7, §5.2). Without memory they do not: the client knows of it,
 * and may ask. */
static void fresh_add(struct imap_context *context, uint32_t uid)
{
    if (context->command.search.update_count == 0 || uid <= context->uid_last) {
        return;
    }
    if (context->fresh_count == context->fresh_room) {
        uint32_t room = context->fresh_room * 2 + 8;
        struct imap_range *grown =
            (struct imap_range *)realloc(context->fresh, room * sizeof(grown[0]));
        if (grown == NULL) {
            return;
        }
        context->fresh = grown;
        context->fresh_room = room;
    }
    context->fresh[context->fresh_count++] = (struct imap_range){uid, uid};
}

static int range_order(const void *left, const void *right)
{
    uint32_t a = ((const struct imap_range *)left)->first;
    uint32_t b = ((const struct imap_range *)right)->first;
    return a < b ? -1 : a > b;
}

/* True: a task was begun. */
static bool fresh_tell(struct imap_session *session, struct imap_context *context)
{
    const struct imap_search *search = &context->command.search;
    if (context->fresh_count == 0) {
        return false;
    }
    qsort(context->fresh, context->fresh_count, sizeof(context->fresh[0]), range_order);
    context->fetch =
        (struct imap_fetch){.set = {.ranges = context->fresh, .count = context->fresh_count},
                            .items = search->update,
                            .count = search->update_count};
    context->fresh_count = 0;
    imap_fetch_unasked(session, &context->fetch);
    return session->task != NULL;
}

bool imap_contexts_tell(struct imap_session *session)
{
    const struct view *view = &session->view;
    for (uint32_t i = 0; session->contexts != NULL && i < session->contexts->count; i++) {
        struct imap_context *context = session->contexts->all[i];
        if (context->modseq < view->modseq_told || context->uid_last < view->uid_last) {
            return imap_search_again(session, context, &context->command);
        }
    }
    for (uint32_t i = 0; session->contexts != NULL && i < session->contexts->count; i++) {
        if (fresh_tell(session, session->contexts->all[i])) {
            return true;
        }
    }
    return false;
}

static int uid_order(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static uint32_t *sorted_copy(const uint32_t *uids, uint32_t count)
{
    uint32_t *copy = (uint32_t *)malloc((count + 1u) * sizeof(copy[0]));
    if (copy != NULL) {
        memcpy(copy, uids, count * sizeof(copy[0]));
        qsort(copy, count, sizeof(copy[0]), uid_order);
    }
    return copy;
}

/* What is in `all` and was not in the context; where it stands in `all` is its place. */
static void added_tell(struct imap_session *session, struct imap_context *context,
                       const uint32_t *all, uint32_t count)
{
    if (count == 0) {
        return;
    }
    struct context_writer *line = writer_new(session, context);
    uint32_t *sorted = is_sort(context) ? sorted_copy(context->found, context->count) : NULL;
    const uint32_t *before = is_sort(context) ? sorted : context->found;
    if (line == NULL || before == NULL) {
        session->outbox.failed = true;
    } else {
        line->word = " ADDTO (";
        for (uint32_t i = 0; i < count; i++) {
            if (!uids_have(before, context->count, all[i])) {
                line_add(line, all[i]);
                fresh_add(context, all[i]);
                if (is_sort(context)) {
                    line_write(line, i + 1);
                }
            }
        }
        line_write(line, 0);
    }
    free(sorted);
    if (line != NULL) {
        writer_free(line);
    }
}

/* all: given. */
static void found_set(struct imap_context *context, uint32_t *all, uint32_t count)
{
    free(context->found);
    context->found = all;
    context->count = count;
}

/* Of SORT: what is not found any more has gone. NULL: no memory. */
static uint32_t *gone_of(const struct imap_context *context, uint32_t *found, uint32_t count,
                         uint32_t *gone_count)
{
    uint32_t *sorted = (uint32_t *)malloc((count + context->count + 1u) * sizeof(sorted[0]));
    *gone_count = 0;
    if (sorted == NULL) {
        return NULL;
    }
    uint32_t *gone = sorted + count;
    memcpy(sorted, found, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), uid_order);
    for (uint32_t i = 0; i < context->count; i++) {
        if (!uids_have(sorted, count, context->found[i])) {
            gone[(*gone_count)++] = context->found[i];
        }
    }
    qsort(gone, *gone_count, sizeof(gone[0]), uid_order);
    memmove(sorted, gone, *gone_count * sizeof(gone[0]));
    return sorted;
}

/* The context's uids with those that were found now, ascending. NULL: no memory. */
static uint32_t *found_join(const struct imap_context *context, const uint32_t *found,
                            uint32_t count, uint32_t *all_count)
{
    uint32_t *all = (uint32_t *)malloc((count + context->count + 1u) * sizeof(all[0]));
    uint32_t i = 0, j = 0, k = 0;
    while (all != NULL && (i < context->count || j < count)) {
        bool old = j == count || (i < context->count && context->found[i] <= found[j]);
        uint32_t uid = old ? context->found[i++] : found[j++];
        if (k == 0 || all[k - 1] != uid) {
            all[k++] = uid;
        }
    }
    *all_count = k;
    return all;
}

static bool difference_tell(struct search *search)
{
    struct imap_context *context = search->context;
    uint32_t *found = search->found, count = search->found_count, all_count = count;
    for (uint32_t i = 0; i < count; i++) {
        found[i] = search_uid(search, found[i]);
    }
    if (is_sort(context)) {
        uint32_t gone_count;
        uint32_t *gone = gone_of(context, found, count, &gone_count);
        if (gone == NULL) {
            return false;
        }
        gone_tell(search->session, context, gone, gone_count);
        free(gone);
        added_tell(search->session, context, found, count);
        found_set(context, found, count);
        search->found = NULL;
        return true;
    }
    gone_tell(search->session, context, search->gone, search->gone_count);
    uint32_t *all = found_join(context, found, count, &all_count);
    if (all == NULL) {
        return false;
    }
    added_tell(search->session, context, found, count);
    found_set(context, all, all_count);
    return true;
}

void imap_context_told(struct search *search)
{
    struct imap_session *session = search->session;
    struct imap_context *context = search->context;
    bool good = !search->failed && difference_tell(search);
    context->modseq = search->told_modseq;
    context->uid_last = search->told_uid;
    bool much = found_of_all(session) > CONTEXT_FOUND_MAX ||
                (is_sort(context) && session->view.count > CONTEXT_SORT_MAX);
    if (!good || much) {
        no_update_write(session, context->command.tag);
        context_remove(session, context_index(session, context->command.tag));
    }
}
