#include "engine/relay/inbound_letter.h"
#include <errno.h>
#include <stdlib.h>

uint32_t inbound_letters_recipients(const struct inbound_letters *letters)
{
    uint32_t count = 0;
    for (const struct inbound_letter *letter = &letters->own; letter != NULL;
         letter = letter->next) {
        count += letter->paths.count;
    }
    return count;
}

int inbound_letters_list(struct inbound_letters *letters, struct slice owner,
                         struct inbound_letter **found)
{
    struct inbound_letter *last = &letters->own;
    for (; last->next != NULL; last = last->next) {
        if (slice_equal_nocase(inbound_paths_sender(&last->next->paths), owner)) {
            *found = last->next;
            return 0;
        }
    }
    if (letters->list_count == INBOUND_LISTS_MAX) {
        return -E2BIG;
    }
    struct inbound_letter *letter = calloc(1, sizeof(*letter));
    if (letter == NULL || inbound_paths_reverse(&letter->paths, owner, slice_of(NULL, 0)) < 0) {
        free(letter);
        return -ENOMEM;
    }
    last->next = letter;
    letters->list_count++;
    *found = letter;
    return 0;
}

/* `last` is the last from now on. */
static void lists_cut(struct inbound_letters *letters, struct inbound_letter *last)
{
    for (struct inbound_letter *letter; (letter = last->next) != NULL;) {
        last->next = letter->next;
        inbound_paths_free(&letter->paths);
        free(letter);
        letters->list_count--;
    }
}

void inbound_letters_mark(struct inbound_letters *letters)
{
    letters->lists_before = letters->list_count;
    for (struct inbound_letter *letter = &letters->own; letter != NULL; letter = letter->next) {
        letter->count_before = letter->paths.count;
    }
}

void inbound_letters_undo(struct inbound_letters *letters)
{
    struct inbound_letter *letter = &letters->own;
    inbound_paths_cut(&letter->paths, letter->count_before);
    for (uint32_t i = 0; i < letters->lists_before; i++) {
        letter = letter->next;
        inbound_paths_cut(&letter->paths, letter->count_before);
    }
    lists_cut(letters, letter);
}

int inbound_letters_append(struct inbound_letters *letters, struct slice piece)
{
    struct inbound_letter *letter = letters->append_at != NULL ? letters->append_at : &letters->own;
    letters->append_at = NULL;
    for (; letter != NULL; letter = letter->next) {
        int status = letter->draft != NULL ? spool_append(letter->draft, &piece, 1) : 0;
        if (status < 0) {
            letters->append_at = letter;
            return status;
        }
    }
    return 0;
}

void inbound_letters_abort(struct inbound_letters *letters)
{
    letters->append_at = NULL;
    for (struct inbound_letter *letter = &letters->own; letter != NULL; letter = letter->next) {
        if (letter->draft != NULL) {
            spool_abort(letter->draft);
            letter->draft = NULL;
        }
    }
}

void inbound_letters_reset(struct inbound_letters *letters)
{
    inbound_letters_abort(letters);
    lists_cut(letters, &letters->own);
    inbound_paths_reset(&letters->own.paths);
    letters->own.message = NULL;
}

void inbound_letters_free(struct inbound_letters *letters)
{
    lists_cut(letters, &letters->own);
    inbound_paths_free(&letters->own.paths);
}
