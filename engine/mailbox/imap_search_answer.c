/* SEARCH, SORT, ESEARCH, THREAD: what was found (RFC 9051 §7.3.4, RFC 4731, RFC 5267, RFC 5182, RFC 7162 §3.1.5). */
#include "engine/mailbox/imap_search.h"
#include <stdlib.h>

#define PIECE_BYTES_MAX (256u * 1024)
#define NUMBERS_A_STEP 10000u

uint32_t search_uid(const struct search *search, uint32_t found)
{
    return search->command->uid ? found : view_uid(&search->session->view, found);
}

/* Which of those found the answer is about: `at` is a place among them, as they are sorted. */
struct returned {
    bool all, min, max;
    uint32_t first, last; /* of PARTIAL: from first to before last */
    uint32_t count;       /* that were found */
};

/* RFC 4731 §3.2, RFC 5182 §2.4, RFC 9394 §3.2: with MIN, MAX or PARTIAL and neither ALL nor COUNT, only those. */
static struct returned returned_of(const struct search *search)
{
    const struct imap_search *command = &search->command->search;
    const uint32_t some = IMAP_SEARCH_MIN | IMAP_SEARCH_MAX | IMAP_SEARCH_PARTIAL;
    struct returned returned = {
        .all = (command->returns & some) == 0 ||
               (command->returns & (IMAP_SEARCH_RETURN_ALL | IMAP_SEARCH_COUNT)) != 0,
        .min = command->returns & IMAP_SEARCH_MIN,
        .max = command->returns & IMAP_SEARCH_MAX,
        .count = search->found_count,
    };
    if (command->returns & IMAP_SEARCH_PARTIAL) {
        uint32_t count = imap_partial_of(&command->partial, returned.count, &returned.first);
        returned.last = returned.first + count;
    }
    return returned;
}

static bool is_returned(const struct returned *returned, uint32_t at)
{
    return returned->all || (returned->min && at == 0) ||
           (returned->max && at == returned->count - 1) ||
           (at >= returned->first && at < returned->last);
}

/* ---- What is saved ---- */

static int number_order(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

/* Ascending uids, one at least, as they follow each other. */
static void ranges_save(struct imap_session *session, struct imap_range *saved,
                        const uint32_t *uids, uint32_t count)
{
    struct imap_range *last = saved;
    *last = (struct imap_range){uids[0], uids[0]};
    for (uint32_t i = 1; i < count; i++) {
        if (last->last + 1 == uids[i]) {
            last->last = uids[i];
        } else {
            *++last = (struct imap_range){uids[i], uids[i]};
        }
    }
    session->saved_count = (uint32_t)(last - saved) + 1;
    struct imap_range *fitting =
        (struct imap_range *)realloc(saved, session->saved_count * sizeof(saved[0]));
    session->saved = fitting != NULL ? fitting : saved;
}

static bool found_save(struct search *search, const struct returned *returned, bool in_order)
{
    struct imap_session *session = search->session;
    uint32_t count = 0;
    free(session->saved);
    session->saved = NULL;
    session->saved_count = 0;
    if (returned->count == 0) {
        return true;
    }
    uint32_t *uids = (uint32_t *)malloc(returned->count * sizeof(uids[0]));
    struct imap_range *saved = (struct imap_range *)malloc(returned->count * sizeof(saved[0]));
    bool good = uids != NULL && saved != NULL;
    for (uint32_t i = 0; good && i < returned->count; i++) {
        if (is_returned(returned, i)) {
            uids[count++] = search_uid(search, search->found[i]);
        }
    }
    if (good && !in_order) {
        qsort(uids, count, sizeof(uids[0]), number_order);
    }
    if (good && count > 0) {
        ranges_save(session, saved, uids, count);
    } else {
        free(saved);
    }
    free(uids);
    return good;
}

/* All of them are saved before they are sorted, and some are when it is known which. */
int search_result_keep(struct search *search, bool sorted)
{
    const struct returned returned = returned_of(search);
    bool saves = search->command->search.returns & IMAP_SEARCH_SAVE;
    bool later = search->sorting != NULL && !returned.all;
    int status = search->failed ? -ENOMEM : search->some_broken ? -EIO : 0;
    if (status == 0 && saves && later == sorted && !found_save(search, &returned, !sorted)) {
        status = -ENOMEM;
    }
    return status;
}

/* ---- Lists ---- */

/* Some of the numbers that are left of the list. False: there are no more. */
static bool numbers_write(struct search *search, struct imap_writer *writer)
{
    uint32_t left = search->list_end - search->written;
    for (uint32_t i = left < NUMBERS_A_STEP ? left : NUMBERS_A_STEP; i > 0; i--) {
        imap_write(writer, " ");
        imap_write_number(writer, search->found[search->written++]);
    }
    return search->written < search->list_end;
}

/* "2,10:11": in order for SEARCH, as they are sorted for SORT (RFC 5267 §3). */
static bool set_write(struct search *search, struct imap_writer *writer, uint32_t from)
{
    const uint32_t *found = search->found;
    uint32_t left = search->list_end - search->written;
    uint32_t stop = search->written + (left < NUMBERS_A_STEP ? left : NUMBERS_A_STEP);
    while (search->written < stop) {
        uint32_t first = search->written++;
        while (search->written < search->list_end &&
               found[search->written] == found[search->written - 1] + 1) {
            search->written++;
        }
        imap_write(writer, first == from ? "" : ",");
        imap_write_number(writer, found[first]);
        if (search->written - first > 1) {
            imap_write(writer, ":");
            imap_write_number(writer, found[search->written - 1]);
        }
    }
    return search->written < search->list_end;
}

static void list_begin(struct search *search, uint32_t first, uint32_t count)
{
    search->written = first;
    search->list_end = first + count;
}

static void pair_write(struct imap_writer *writer, const char *word, uint64_t number)
{
    imap_write(writer, word);
    imap_write_number(writer, number);
}

/* ---- ESEARCH ---- */

/* What it is to say; UPDATE alone asks for all. */
static uint32_t returns_of(const struct search *search)
{
    const uint32_t results = IMAP_SEARCH_MIN | IMAP_SEARCH_MAX | IMAP_SEARCH_RETURN_ALL |
                             IMAP_SEARCH_COUNT | IMAP_SEARCH_PARTIAL;
    uint32_t returns = search->command->search.returns;
    if (!search->command->search.extended) { /* RFC 9051 §7.3.4 */
        return IMAP_SEARCH_RETURN_ALL;
    }
    return (returns & (results | IMAP_SEARCH_SAVE)) == 0 ? returns | IMAP_SEARCH_RETURN_ALL
                                                         : returns;
}

static void esearch_head(struct search *search, struct imap_writer *writer)
{
    uint32_t returns = returns_of(search), count = search->found_count;
    imap_write(writer, "* ESEARCH (TAG ");
    imap_write_string(writer, search->command->tag);
    imap_write(writer, search->command->uid ? ") UID" : ")");
    if (count > 0 && (returns & IMAP_SEARCH_MIN)) {
        pair_write(writer, " MIN ", search->found[0]);
    }
    if (count > 0 && (returns & IMAP_SEARCH_MAX)) {
        pair_write(writer, " MAX ", search->found[count - 1]);
    }
    if (returns & IMAP_SEARCH_COUNT) {
        pair_write(writer, " COUNT ", count);
    }
    if (count > 0 && (returns & IMAP_SEARCH_RETURN_ALL)) {
        imap_write(writer, " ALL ");
        list_begin(search, 0, count);
    }
}

/* RFC 9394 §3.1 */
static void partial_head(struct search *search, struct imap_writer *writer)
{
    const struct imap_partial *partial = &search->command->search.partial;
    const char *sign = partial->from_end ? "-" : "";
    uint32_t first, count = imap_partial_of(partial, search->found_count, &first);
    imap_write(writer, " PARTIAL (");
    imap_write(writer, sign);
    imap_write_number(writer, partial->first);
    imap_write(writer, ":");
    imap_write(writer, sign);
    imap_write_number(writer, partial->last);
    imap_write(writer, count > 0 ? " " : " NIL");
    list_begin(search, first, count);
}

static bool tells_modseq(const struct search *search)
{
    return search->command->condstore && search->found_count > 0;
}

/* The highest modseq of those that the answer is about; 0: they have gone meanwhile. */
static uint64_t modseq_of_returned(const struct search *search)
{
    const struct view *view = &search->session->view;
    const struct returned returned = returned_of(search);
    uint64_t modseq = 0;
    for (uint32_t i = 0; !returned.all && i < returned.count; i++) {
        if (is_returned(&returned, i)) {
            uint32_t number = view_number(view, search_uid(search, search->found[i]));
            const struct mailstore_entry *entry = number != 0 ? view_entry(view, number) : NULL;
            modseq = entry != NULL && entry->modseq > modseq ? entry->modseq : modseq;
        }
    }
    return returned.all ? search->modseq : modseq;
}

static void esearch_tail(const struct search *search, struct imap_writer *writer)
{
    uint64_t modseq = tells_modseq(search) ? modseq_of_returned(search) : 0;
    if (modseq != 0) {
        pair_write(writer, " MODSEQ ", modseq);
    }
    imap_write(writer, "\r\n");
}

/* The part that is due, or a piece of it. False: that was the last. */
static bool esearch_write(struct search *search, struct imap_writer *writer)
{
    uint32_t first;
    switch ((enum search_part)search->part) {
    case SEARCH_HEAD:
        esearch_head(search, writer);
        break;
    case SEARCH_ALL:
        if (set_write(search, writer, 0)) {
            return true;
        }
        break;
    case SEARCH_BETWEEN:
        if (returns_of(search) & IMAP_SEARCH_PARTIAL) {
            partial_head(search, writer);
        } else {
            search->part = SEARCH_PARTIAL;
        }
        break;
    case SEARCH_PARTIAL:
        imap_partial_of(&search->command->search.partial, search->found_count, &first);
        if (set_write(search, writer, first)) {
            return true;
        }
        imap_write(writer, ")");
        break;
    case SEARCH_TAIL:
        esearch_tail(search, writer);
        return false;
    }
    search->part++;
    return true;
}

/* ---- SEARCH, SORT, THREAD ---- */

static void plain_head(struct search *search, struct imap_writer *writer)
{
    enum imap_command_kind kind = search->command->kind;
    imap_write(writer, kind == IMAP_THREAD ? "* THREAD"
                       : kind == IMAP_SORT ? "* SORT"
                                           : "* SEARCH");
    list_begin(search, 0, search->found_count);
}

static bool plain_write(struct search *search, struct imap_writer *writer)
{
    bool threads = search->command->kind == IMAP_THREAD;
    if (search->part == SEARCH_HEAD) {
        plain_head(search, writer);
        search->part = SEARCH_ALL;
        return true;
    }
    if (threads ? threading_write(search, writer) : numbers_write(search, writer)) {
        return true;
    }
    if (!threads && tells_modseq(search)) {
        pair_write(writer, " (MODSEQ ", search->modseq);
        imap_write(writer, ")");
    }
    imap_write(writer, "\r\n");
    return false;
}

static bool is_silent(const struct imap_search *command)
{
    return command->extended && /* RFC 5182 §2.1: nothing is to be said */
           (command->returns & ~(uint32_t)IMAP_SEARCH_CONTEXT) == IMAP_SEARCH_SAVE;
}

/* A piece. False: that was the last. */
static bool answer_write(struct search *search, struct imap_writer *writer)
{
    const struct imap_command *command = search->command;
    bool rev2 = imap_session_has(search->session, IMAP_ENABLED_REV2);
    if (is_silent(&command->search)) {
        return false;
    }
    if (command->search.extended || (rev2 && command->kind == IMAP_SEARCH)) {
        return esearch_write(search, writer);
    }
    return plain_write(search, writer);
}

/* Nothing else may be said as long as a line is not whole: that it goes on is not told any more. */
enum imap_step search_answer(struct search *search)
{
    struct imap_session *session = search->session;
    struct imap_writer writer;
    bool more;
    search->task.progress = NULL;
    imap_writer_open(&writer, PIECE_BYTES_MAX);
    uint32_t before = search->written;
    do {
        more = answer_write(search, &writer);
        /* Parts of a few octets and the texts of threads share a step. */
    } while (more && !writer.failed && search->written == before &&
             writer.size < PIECE_BYTES_MAX / 4);
    bool good = imap_session_send(session, &writer);
    imap_writer_close(&writer);
    if (!good) {
        return IMAP_STEP_BROKEN;
    }
    if (more) {
        return IMAP_STEP_MORE;
    }
    if (search->command->search.returns & IMAP_SEARCH_UPDATE) {
        imap_context_begin(search);
    }
    return imap_session_ok(session);
}

enum imap_step search_refuse(struct search *search, int status)
{
    struct imap_session *session = search->session;
    if (search->command->search.returns & IMAP_SEARCH_SAVE) { /* RFC 5182 §2.1 */
        free(session->saved);
        session->saved = NULL;
        session->saved_count = 0;
    }
    return imap_session_refuse(session, status);
}
