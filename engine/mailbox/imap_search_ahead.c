/* The texts that a search will read next are fetched while it looks at others: a disk has more than one hand. */
#include "engine/mailbox/imap_search.h"
#include <stdlib.h>

/* For messages that are not judged yet: so many reads, and of so many bytes that two of a piece of the log are under way. */
#define READS 16u
#define READ_BYTES (300u * 1024)
#define MESSAGES 512u       /* so far ahead at most */
#define ENTRIES_A_CALL 256u /* looked at for more of them */
#define LOOKS_A_STEP 64u    /* at fields of them: each costs as much as if it were its turn */

struct search_ahead {
    uint32_t number; /* all up to it were looked at */
    uint32_t needed; /* those of them behind the message under way that need their text */
    uint32_t numbers[MESSAGES], first;
    struct {
        uint32_t number, bytes; /* of the message for which it was begun */
    } reads[READS];
};

/* Those that were judged need nothing any more. */
static void judged_leave(struct search *search)
{
    struct search_ahead *ahead = search->ahead;
    while (ahead->needed > 0 && ahead->numbers[ahead->first] <= search->number) {
        ahead->first = (ahead->first + 1) % MESSAGES;
        ahead->needed--;
    }
}

/* Where another read is noted; -1: those that were begun are enough. */
static int read_place(const struct search *search)
{
    const struct search_ahead *ahead = search->ahead;
    uint32_t bytes = 0;
    int place = -1;
    for (unsigned i = 0; i < READS; i++) {
        bool is_judged = ahead->reads[i].number <= search->number;
        bytes += is_judged ? 0 : ahead->reads[i].bytes;
        place = is_judged ? (int)i : place;
    }
    return bytes < READ_BYTES ? place : -1;
}

/* The text stays in the store's buffers for some time, where whoever needs it finds it. False: not now. */
static bool text_expect(struct search *search, uint32_t number, int place)
{
    struct search_ahead *ahead = search->ahead;
    const struct mailstore_entry *entry = view_entry(&search->session->view, number);
    int status =
        entry != NULL ? mailstore_expect(imap_session_store(search->session), entry->text) : 0;
    if (status == -EAGAIN) {
        return false;
    }
    ahead->numbers[(ahead->first + ahead->needed++) % MESSAGES] = number;
    if (status > 0) {
        ahead->reads[place].number = number;
        ahead->reads[place].bytes = (uint32_t)status;
    }
    return true;
}

void search_ahead_run(struct search *search)
{
    const struct view *view = &search->session->view;
    if (search->ahead == NULL) {
        search->ahead = (struct search_ahead *)calloc(1, sizeof(*search->ahead));
    }
    struct search_ahead *ahead = search->ahead;
    if (ahead == NULL) {
        return; /* it is slower then */
    }
    if (ahead->number < search->number) {
        ahead->number = search->number;
    }
    judged_leave(search);
    int place = read_place(search);
    for (unsigned i = 0; place >= 0 && i < ENTRIES_A_CALL && search->looks_ahead < LOOKS_A_STEP &&
                         ahead->needed < MESSAGES && ahead->number < view->count;
         i++) {
        uint32_t number = ahead->number + 1;
        if (search_needs_text(search, number) && !text_expect(search, number, place)) {
            return;
        }
        ahead->number = number;
        place = read_place(search);
    }
}

void search_ahead_end(struct search *search)
{
    free(search->ahead);
    search->ahead = NULL;
}
