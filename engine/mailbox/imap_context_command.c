/* The command of a search that is kept up: it must outlive the line that it came in. */
#include "engine/core/check.h"
#include "engine/mailbox/imap_search.h"

static bool key_copy(const struct imap_session *session, struct arena *arena,
                     const struct imap_search_key *from, struct imap_search_key *to);

static bool ranges_copy(struct arena *arena, const struct imap_range *from, uint32_t count,
                        struct imap_set *to)
{
    struct imap_range *ranges =
        (struct imap_range *)arena_take_array(arena, count + 1u, sizeof(*ranges));
    if (ranges != NULL && count > 0) {
        memcpy(ranges, from, count * sizeof(ranges[0]));
    }
    to->ranges = ranges;
    to->count = count;
    return ranges != NULL;
}

/* Numbers will be other messages' when some are expunged, so they stand for the uids that they have now. */
static bool numbers_copy(const struct imap_session *session, struct arena *arena,
                         const struct imap_set *from, struct imap_set *to)
{
    const struct view *view = &session->view;
    struct imap_set_walk walk = {0};
    struct imap_range range, *ranges = NULL;
    uint32_t count = 0, room = from->count + 1u;
    ranges = (struct imap_range *)arena_take_array(arena, room, sizeof(*ranges));
    if (ranges == NULL) {
        return false;
    }
    while (imap_set_next(from, view->count, &walk, &range)) {
        bool goes_on =
            from->open_from != 0 && from->open_from != UINT32_MAX && range.last == view->count;
        check(count < room);
        ranges[count++] = (struct imap_range){view_uid(view, range.first),
                                              goes_on ? UINT32_MAX : view_uid(view, range.last)};
    }
    *to = (struct imap_set){.ranges = ranges, .count = count};
    return true;
}

static bool keys_copy(const struct imap_session *session, struct arena *arena,
                      const struct imap_search_key *from, struct imap_search_key *to)
{
    uint32_t count = from->kind == IMAP_SEARCH_NOT ? 1 : from->count;
    struct imap_search_key *keys =
        (struct imap_search_key *)arena_take_array(arena, count + 1u, sizeof(*keys));
    for (uint32_t i = 0; keys != NULL && i < count; i++) {
        if (!key_copy(session, arena, &from->keys[i], &keys[i])) {
            return false;
        }
    }
    to->keys = keys;
    return keys != NULL;
}

static bool text_copy(struct arena *arena, struct slice from, struct slice *to)
{
    *to = slice_of("", 0);
    return from.size == 0 || arena_copy(arena, from, to);
}

static bool set_copy(const struct imap_session *session, struct arena *arena,
                     const struct imap_search_key *from, struct imap_search_key *to)
{
    if (from->set.saved) { /* what it is now */
        to->kind = IMAP_SEARCH_UIDS;
        to->set = (struct imap_set){.ranges = NULL};
        return ranges_copy(arena, session->saved, session->saved_count, &to->set);
    }
    if (from->kind == IMAP_SEARCH_NUMBERS) {
        to->kind = IMAP_SEARCH_UIDS;
        return numbers_copy(session, arena, &from->set, &to->set);
    }
    return ranges_copy(arena, from->set.ranges, from->set.count, &to->set);
}

static bool key_copy(const struct imap_session *session, struct arena *arena,
                     const struct imap_search_key *from, struct imap_search_key *to)
{
    *to = *from;
    switch ((enum imap_search_kind)from->kind) {
    case IMAP_SEARCH_AND:
    case IMAP_SEARCH_OR:
    case IMAP_SEARCH_NOT:
        return keys_copy(session, arena, from, to);
    case IMAP_SEARCH_NUMBERS:
    case IMAP_SEARCH_UIDS:
        return set_copy(session, arena, from, to);
    case IMAP_SEARCH_KEYWORD:
    case IMAP_SEARCH_UNKEYWORD:
    case IMAP_SEARCH_FROM:
    case IMAP_SEARCH_TO:
    case IMAP_SEARCH_CC:
    case IMAP_SEARCH_BCC:
    case IMAP_SEARCH_SUBJECT:
    case IMAP_SEARCH_BODY:
    case IMAP_SEARCH_TEXT:
    case IMAP_SEARCH_HEADER:
    case IMAP_SEARCH_MODSEQ:
    case IMAP_SEARCH_EMAILID:
    case IMAP_SEARCH_THREADID:
        return text_copy(arena, from->name, &to->name) && text_copy(arena, from->text, &to->text);
    case IMAP_SEARCH_ALL:
    case IMAP_SEARCH_FLAG:
    case IMAP_SEARCH_UNFLAG:
    case IMAP_SEARCH_NEW:
    case IMAP_SEARCH_OLD:
    case IMAP_SEARCH_RECENT:
    case IMAP_SEARCH_BEFORE:
    case IMAP_SEARCH_ON:
    case IMAP_SEARCH_SINCE:
    case IMAP_SEARCH_SENTBEFORE:
    case IMAP_SEARCH_SENTON:
    case IMAP_SEARCH_SENTSINCE:
    case IMAP_SEARCH_SAVEDBEFORE:
    case IMAP_SEARCH_SAVEDON:
    case IMAP_SEARCH_SAVEDSINCE:
    case IMAP_SEARCH_SAVEDATESUPPORTED:
    case IMAP_SEARCH_LARGER:
    case IMAP_SEARCH_SMALLER:
    case IMAP_SEARCH_OLDER:
    case IMAP_SEARCH_YOUNGER:
        return true;
    }
    return false;
}

bool imap_context_command_copy(const struct imap_session *session, struct arena *arena,
                               const struct imap_command *from, struct imap_command *to)
{
    struct imap_search *search = &to->search;
    *to = *from;
    struct imap_sort_key *sort = (struct imap_sort_key *)arena_take_array(
        arena, from->search.sort_count + 1u, sizeof(*sort));
    if (sort == NULL || !text_copy(arena, from->tag, &to->tag) ||
        !imap_fetch_items_copy(arena, from->search.update, from->search.update_count,
                               &search->update) ||
        !key_copy(session, arena, &from->search.key, &search->key)) {
        return false;
    }
    if (from->search.sort_count > 0) {
        memcpy(sort, from->search.sort, from->search.sort_count * sizeof(sort[0]));
    }
    search->sort = sort;
    return true;
}
