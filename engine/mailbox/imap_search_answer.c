/* SEARCH, SORT, ESEARCH, THREAD: what was found (RFC 9051 §7.3.4, RFC 4731, RFC 5267, RFC 5182, RFC 7162 §3.1.5). */
#include "engine/mailbox/imap_search.h"
#include <stdlib.h>

#define RESPONSE_BYTES_MAX (64u * 1024 * 1024)

static int number_order(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

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

static bool found_save(struct search *search)
{
    struct imap_session *session = search->session;
    const struct returned returned = returned_of(search);
    uint32_t count = 0;
    free(session->saved);
    session->saved = NULL;
    session->saved_count = 0;
    if (returned.count == 0) {
        return true;
    }
    uint32_t *uids = (uint32_t *)malloc(returned.count * sizeof(uids[0]));
    struct imap_range *saved = (struct imap_range *)malloc(returned.count * sizeof(saved[0]));
    if (uids == NULL || saved == NULL) {
        free(uids);
        free(saved);
        return false;
    }
    for (uint32_t i = 0; i < returned.count; i++) {
        if (is_returned(&returned, i)) {
            uids[count++] = search_uid(search, search->found[i]);
        }
    }
    qsort(uids, count, sizeof(uids[0]), number_order);
    for (uint32_t i = 0; i < count; i++) {
        struct imap_range *last =
            session->saved_count > 0 ? &saved[session->saved_count - 1] : NULL;
        if (last != NULL && last->last + 1 == uids[i]) {
            last->last = uids[i];
        } else {
            saved[session->saved_count++] = (struct imap_range){uids[i], uids[i]};
        }
    }
    free(uids);
    session->saved = saved;
    return true;
}

/* "2,10:11": in order for SEARCH, as they are sorted for SORT (RFC 5267 §3). */
static void found_set_write(const struct search *search, struct imap_writer *writer, uint32_t from,
                            uint32_t count)
{
    const uint32_t *found = search->found + from;
    for (uint32_t i = 0; i < count;) {
        uint32_t end = i + 1;
        while (end < count && found[end] == found[end - 1] + 1) {
            end++;
        }
        imap_write(writer, i == 0 ? "" : ",");
        imap_write_number(writer, found[i]);
        if (end - i > 1) {
            imap_write(writer, ":");
            imap_write_number(writer, found[end - 1]);
        }
        i = end;
    }
}

static void all_write(const struct search *search, struct imap_writer *writer)
{
    if (search->found_count > 0) {
        imap_write(writer, " ALL ");
        found_set_write(search, writer, 0, search->found_count);
    }
}

/* RFC 9394 §3.1 */
static void partial_write(const struct search *search, struct imap_writer *writer)
{
    const struct imap_partial *partial = &search->command->search.partial;
    const char *sign = partial->from_end ? "-" : "";
    uint32_t first;
    uint32_t count = imap_partial_of(partial, search->found_count, &first);
    imap_write(writer, " PARTIAL (");
    imap_write(writer, sign);
    imap_write_number(writer, partial->first);
    imap_write(writer, ":");
    imap_write(writer, sign);
    imap_write_number(writer, partial->last);
    imap_write(writer, count > 0 ? " " : " NIL");
    found_set_write(search, writer, first, count);
    imap_write(writer, ")");
}

static void pair_write(struct imap_writer *writer, const char *word, uint64_t number)
{
    imap_write(writer, word);
    imap_write_number(writer, number);
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

static void esearch_write(const struct search *search, struct imap_writer *writer)
{
    const uint32_t results = IMAP_SEARCH_MIN | IMAP_SEARCH_MAX | IMAP_SEARCH_RETURN_ALL |
                             IMAP_SEARCH_COUNT | IMAP_SEARCH_PARTIAL;
    uint32_t returns = search->command->search.returns;
    uint32_t count = search->found_count;
    if ((returns & (results | IMAP_SEARCH_SAVE)) == 0) { /* UPDATE alone asks for all */
        returns |= IMAP_SEARCH_RETURN_ALL;
    }
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
    if (returns & IMAP_SEARCH_RETURN_ALL) {
        all_write(search, writer);
    }
    if (returns & IMAP_SEARCH_PARTIAL) {
        partial_write(search, writer);
    }
    uint64_t modseq = tells_modseq(search) ? modseq_of_returned(search) : 0;
    if (modseq != 0) {
        pair_write(writer, " MODSEQ ", modseq);
    }
    imap_write(writer, "\r\n");
}

static void plain_write(const struct search *search, struct imap_writer *writer)
{
    imap_write(writer, search->command->kind == IMAP_SORT ? "* SORT" : "* SEARCH");
    for (uint32_t i = 0; i < search->found_count; i++) {
        pair_write(writer, " ", search->found[i]);
    }
    if (tells_modseq(search)) {
        pair_write(writer, " (MODSEQ ", search->modseq);
        imap_write(writer, ")");
    }
    imap_write(writer, "\r\n");
}

static int found_write(struct search *search)
{
    const struct imap_search *command = &search->command->search;
    bool rev2 = imap_session_has(search->session, IMAP_ENABLED_REV2);
    struct imap_writer writer;
    imap_writer_open(&writer, RESPONSE_BYTES_MAX);
    if (command->extended &&
        (command->returns & ~(uint32_t)IMAP_SEARCH_CONTEXT) == IMAP_SEARCH_SAVE) {
        return 0; /* RFC 5182 §2.1: nothing is to be said */
    }
    if (command->extended) {
        esearch_write(search, &writer);
    } else if (rev2 && search->command->kind == IMAP_SEARCH) { /* RFC 9051 §7.3.4 */
        imap_write(&writer, "* ESEARCH (TAG ");
        imap_write_string(&writer, search->command->tag);
        imap_write(&writer, search->command->uid ? ") UID" : ")");
        all_write(search, &writer);
        imap_write(&writer, "\r\n");
    } else {
        plain_write(search, &writer);
    }
    bool good = imap_session_send(search->session, &writer);
    imap_writer_close(&writer);
    return good ? 0 : -ENOMEM;
}

enum imap_step search_answer(struct search *search)
{
    struct imap_session *session = search->session;
    const struct imap_search *command = &search->command->search;
    int status = search->failed ? -ENOMEM : search->some_broken ? -EIO : 0;
    if (search->command->kind == IMAP_SORT) {
        sorting_finish(search);
    }
    if (status == 0 && (command->returns & IMAP_SEARCH_SAVE) && !found_save(search)) {
        status = -ENOMEM;
    }
    if (status == 0) {
        status =
            search->command->kind == IMAP_THREAD ? threading_write(search) : found_write(search);
    }
    if (status == 0 && (command->returns & IMAP_SEARCH_UPDATE)) {
        imap_context_begin(search);
    }
    if (status != 0 && (command->returns & IMAP_SEARCH_SAVE)) { /* RFC 5182 §2.1 */
        free(session->saved);
        session->saved = NULL;
        session->saved_count = 0;
    }
    return status == 0 ? imap_session_ok(session) : imap_session_refuse(session, status);
}
