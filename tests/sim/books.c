#include "tests/sim/books.h"
#include "engine/core/check.h"
#include <stdlib.h>

const char *const books_box_names[BOOKS_BOXES] = {"INBOX", "work", "old"};

void books_open(struct books *books, struct sim *sim)
{
    memset(books, 0, sizeof(*books));
    books->sim = sim;
    books->well_ns = UINT64_MAX;
    books->text = malloc(BOOKS_LETTER_BYTES_MAX + 256);
    check(books->text != NULL);
}

void books_close(struct books *books)
{
    free(books->text);
}

/* ---- Letters ---- */

uint32_t books_letter_new(struct books *books)
{
    if (books->letter_count + 1 == BOOKS_LETTERS_MAX) {
        return 0;
    }
    struct book_letter *letter = &books->letters[++books->letter_count];
    *letter = (struct book_letter){.seed = net_random(&books->sim->random)};
    uint64_t most = books->sim->options.bytes > 0 ? books->sim->options.bytes : 40000;
    letter->bytes = (uint32_t)sim_spread(books->sim, 0, most);
    return books->letter_count;
}

struct slice books_letter_text(struct books *books, uint32_t number)
{
    check(number > 0 && number <= books->letter_count);
    const struct book_letter *letter = &books->letters[number];
    uint64_t random = letter->seed;
    char *text = (char *)books->text;
    size_t size =
        (size_t)sprintf(text, "X-Letter: %u\r\nSubject: letter %u\r\n\r\n", number, number);
    for (size_t end = size + letter->bytes; size < end;) {
        uint32_t line = net_random_below(&random, 77);
        for (uint32_t i = 0; i < line; i++) {
            text[size++] = (char)('a' + net_random_below(&random, 26));
        }
        text[size++] = '\r';
        text[size++] = '\n';
    }
    check(size < BOOKS_LETTER_BYTES_MAX + 256);
    return slice_of(text, size);
}

/* ---- Entries ---- */

void books_uidvalidity(struct books *books, unsigned box, uint32_t uidvalidity)
{
    uint32_t *known = &books->boxes[box].uidvalidity;
    if (*known != 0 && *known != uidvalidity) {
        sim_fail(books->sim, "the UIDVALIDITY of %s was %u, and is %u", books_box_names[box],
                 *known, uidvalidity);
    }
    *known = uidvalidity;
}

struct book_entry *books_entry(struct books *books, unsigned box, uint32_t uid)
{
    if (uid == 0 || uid >= BOOKS_UIDS_MAX) {
        sim_fail(books->sim, "uid %u of %s is told of", uid, books_box_names[box]);
    }
    struct book_entry *entry = &books->boxes[box].entries[uid];
    if (!entry->known) {
        entry->known = true;
        entry->known_ns = books->sim->world.now_ns;
    }
    return entry;
}

void books_entry_is(struct books *books, unsigned box, uint32_t uid, uint32_t letter)
{
    struct book_entry *entry = books_entry(books, box, uid);
    if (letter == 0 || letter > books->letter_count) {
        sim_fail(books->sim, "uid %u of %s is letter %u, which nobody has written", uid,
                 books_box_names[box], letter);
    }
    if (entry->letter != 0 && entry->letter != letter) {
        sim_fail(books->sim, "uid %u of %s was letter %u, and is letter %u", uid,
                 books_box_names[box], entry->letter, letter);
    }
    if (entry->letter == 0) {
        entry->letter = letter;
        books->letters[letter].in[box].seen++;
    }
}

void books_entry_text(struct books *books, unsigned box, uint32_t uid, struct slice text)
{
    static const char field[] = "X-Letter: ";
    const uint8_t *at = memmem(text.bytes, text.size, field, sizeof(field) - 1);
    if (at == NULL) {
        sim_fail(books->sim, "uid %u of %s is no letter: %zu bytes", uid, books_box_names[box],
                 text.size);
    }
    struct slice found = slice_from(text, (size_t)(at - text.bytes));
    uint32_t letter = (uint32_t)strtoul((const char *)at + sizeof(field) - 1, NULL, 10);
    books_entry_is(books, box, uid, letter);
    struct slice written = books_letter_text(books, letter);
    if (!slice_equal(found, written)) {
        sim_fail(books->sim, "uid %u of %s is not letter %u as it was written: %zu bytes of %zu",
                 uid, books_box_names[box], letter, found.size, written.size);
    }
}

bool books_may_be_gone(const struct books *books, unsigned box, uint32_t uid)
{
    const struct book_entry *entry = &books->boxes[box].entries[uid];
    /* Which letter it was may be known later, by who has copied it here. */
    bool deleted = entry->letter == 0 || books->letters[entry->letter].deleted;
    return entry->leaves || (deleted && books->boxes[box].expunged);
}

void books_gone(struct books *books, unsigned box, uint32_t uid)
{
    struct book_entry *entry = books_entry(books, box, uid);
    if (!books_may_be_gone(books, box, uid)) {
        sim_fail(books->sim, "uid %u of %s has gone, which nobody has asked for", uid,
                 books_box_names[box]);
    }
    if (entry->gone_ns == 0) {
        entry->gone_ns = books->sim->world.now_ns;
    }
}

void books_check_view(struct books *books, unsigned box, const uint32_t *uids, uint32_t count,
                      uint64_t since_ns)
{
    uint32_t at = 0;
    for (uint32_t uid = 1; uid < BOOKS_UIDS_MAX; uid++) {
        const struct book_entry *entry = &books->boxes[box].entries[uid];
        bool is_there = at < count && uids[at] == uid;
        at += is_there;
        if (is_there && entry->gone_ns != 0 && entry->gone_ns < since_ns) {
            sim_fail(books->sim, "uid %u of %s has come back", uid, books_box_names[box]);
        }
        if (!is_there && entry->known && entry->known_ns < since_ns) {
            books_gone(books, box, uid);
        }
    }
    if (at != count) {
        sim_fail(books->sim, "the uids of %s are not in order: entry %u is %u",
                 books_box_names[box], at, uids[at]);
    }
    books->told++;
}

void books_check_all(struct books *books)
{
    for (uint32_t i = 1; i <= books->letter_count; i++) {
        for (unsigned box = 0; box < BOOKS_BOXES; box++) {
            const struct book_letter *letter = &books->letters[i];
            if (letter->in[box].seen < letter->in[box].least ||
                letter->in[box].seen > letter->in[box].most) {
                sim_fail(books->sim, "letter %u was seen in %s %u times, expected %u to %u", i,
                         books_box_names[box], letter->in[box].seen, letter->in[box].least,
                         letter->in[box].most);
            }
        }
    }
}
