/*
 * Lists and keywords that anybody has written, cut into pieces anywhere: UIDs are in order, none is past the next one,
 * each is found by its number and its base, and the pieces do not matter.
 */
#include "engine/core/check.h"
#include "queue/mailbox/maildir_keywords.h"
#include "queue/mailbox/maildir_uidlist.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void list_check(const struct maildir_uidlist *list)
{
    uint32_t last = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct maildir_uid *uid = &list->uids[i];
        check(uid->uid > last && uid->uid < list->uid_next);
        last = uid->uid;
        check(maildir_uidlist_find_uid(list, uid->uid) == uid);
        check(strchr(uid->base, '\n') == NULL && strchr(uid->base, '/') == NULL &&
              strchr(uid->base, ':') == NULL);
        check(uid->base[0] == 0 || maildir_uidlist_find(list, slice_text(uid->base)) == uid);
        maildir_uid_field(uid, 'W');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct maildir_uidlist whole, cut;
    struct maildir_files none = {0};
    struct maildir_keywords keywords = {0};
    if (size == 0) {
        return 0;
    }
    struct slice text = slice_of(bytes + 1, size - 1);
    maildir_uidlist_open(&whole);
    maildir_uidlist_open(&cut);
    ssize_t taken = maildir_uidlist_take(&whole, text);
    size_t at = bytes[0] < text.size ? bytes[0] : text.size;
    ssize_t first = maildir_uidlist_take(&cut, slice_first(text, at));
    ssize_t second =
        first < 0 ? first : maildir_uidlist_take(&cut, slice_from(text, (size_t)first));
    check(taken < 0 ? second == taken : first + second == taken);
    check(whole.count == cut.count && whole.uid_next == cut.uid_next &&
          whole.damaged == cut.damaged);
    list_check(&whole);
    if (whole.count > 0 && maildir_uidlist_add(&whole, slice_text("added")) == 0) {
        list_check(&whole);
        maildir_uidlist_drop_gone(&whole);
        list_check(&whole);
    }
    maildir_uidlist_close(&whole, &none);
    maildir_uidlist_close(&cut, &none);
    maildir_keywords_take(&keywords, text);
    maildir_keywords_complete(&keywords, UINT32_MAX);
    for (int i = 0; i < MAILDIR_KEYWORDS_MAX; i++) {
        check(maildir_keywords_find(&keywords, slice_text(keywords.names[i])) == i);
    }
    return 0;
}
