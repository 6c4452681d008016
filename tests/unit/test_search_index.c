/*
 * search_index: whatever a text holds is found by any piece of it, what is dropped is found no more, and a spoilt file
 * costs the index and nothing else.
 */
#include "queue/mailbox/search_index.h"
#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[96];

static int folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/tubepost-search-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/index", folder);
    return 0;
}

static int folder_remove(void **state)
{
    static const char *const names[] = {"index", "index-journal"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char name[128];
        snprintf(name, sizeof(name), "%s/%s", folder, names[i]);
        unlink(name);
    }
    return rmdir(folder);
}

struct ids {
    uint64_t ids[1024];
    size_t count;
};

static void id_take(void *owner, uint64_t id)
{
    struct ids *ids = owner;
    assert_true(ids->count < 1024);
    assert_true(ids->count == 0 || ids->ids[ids->count - 1] < id);
    ids->ids[ids->count++] = id;
}

static struct search_index *opened(void)
{
    struct search_index *index;
    assert_int_equal(search_index_open(&index, path, 1), 0);
    return index;
}

static void add(struct search_index *index, uint64_t id, const char *header, const char *body)
{
    const struct search_text text = {
        .id = id, .header = slice_text(header), .body = slice_text(body)};
    assert_int_equal(search_index_add(index, &text, 1), 0);
}

/* `expected`: ids, small ones, each a digit. */
static void find_check(struct search_index *index, const char *words, unsigned where,
                       const char *expected)
{
    struct ids found = {.count = 0};
    char text[64] = "";
    assert_int_equal(search_index_find(index, slice_text(words), where, id_take, &found), 0);
    for (size_t i = 0; i < found.count; i++) {
        snprintf(text + i, sizeof(text) - i, "%u", (unsigned)found.ids[i]);
    }
    assert_string_equal(text, expected);
}

static void texts_are_found_by_any_piece_of_three_characters_or_more(void **state)
{
    (void)state;
    struct search_index *index = opened();
    add(index, 1, "subject: the tube post", "pneumatic letters under the streets");
    add(index, 2,
        "subject: gr\xc3\xbc\xc3\x9f"
        "e",
        "k\xc3\xb6ln, \xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x81\xae");
    add(index, 3, "", "say \"it's 100%\" AND (OR) NOT * under_score");
    find_check(index, "tub", SEARCH_IN_HEADER, "1");
    find_check(index, "tub", SEARCH_IN_BODY, "");
    find_check(index, "he s", SEARCH_IN_BODY, "1");
    find_check(index, "subject", SEARCH_IN_HEADER | SEARCH_IN_BODY, "12");
    find_check(index,
               "\xc3\xbc\xc3\x9f"
               "e",
               SEARCH_IN_HEADER, "2");
    find_check(index, "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", SEARCH_IN_BODY, "2");
    find_check(index, "say \"it's 100%\" AND (OR) NOT * under_score", SEARCH_IN_BODY, "3");
    find_check(index, "\"it", SEARCH_IN_BODY, "3");
    find_check(index, "under", SEARCH_IN_HEADER | SEARCH_IN_BODY, "13");
    find_check(index, "nothing of this", SEARCH_IN_HEADER | SEARCH_IN_BODY, "");
    search_index_close(index);
}

static void what_it_cannot_tell_it_says(void **state)
{
    (void)state;
    static const char *const words[] = {
        "", "a", "ab", "\xe6\x97\xa5\xe6\x9c\xac", "abc\xff", "\x80\x80\x80\x80", "abcd\xe6\x97"};
    struct search_index *index = opened();
    struct ids found = {.count = 0};
    add(index, 1, "abc", "abc");
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        assert_int_equal(
            search_index_find(index, slice_text(words[i]), SEARCH_IN_BODY, id_take, &found),
            -ENOENT);
    }
    assert_int_equal(found.count, 0);
    search_index_close(index);
}

static void a_cut_text_is_always_a_candidate(void **state)
{
    (void)state;
    struct search_index *index = opened();
    size_t size = SEARCH_INDEX_TEXT_MAX + 1;
    char *large = malloc(size);
    memset(large, 'x', size);
    const struct search_text texts[] = {
        {.id = 4, .body = slice_text("short"), .cut = true},
        {.id = 5, .body = slice_of(large, size)},
        {.id = 6, .body = slice_of(large, size - 1)},
    };
    assert_int_equal(search_index_add(index, texts, 3), 0);
    find_check(index, "elsewhere", SEARCH_IN_BODY, "45");
    find_check(index, "xxx", SEARCH_IN_BODY, "456");
    free(large);
    search_index_close(index);
}

static void a_nul_hides_nothing_behind_it(void **state)
{
    (void)state;
    struct search_index *index = opened();
    const struct search_text text = {.id = 7, .body = slice_of("before\0behind", 13)};
    assert_int_equal(search_index_add(index, &text, 1), 0);
    find_check(index, "behind", SEARCH_IN_BODY, "7");
    search_index_close(index);
}

static void words_longer_than_the_bound_are_found_by_their_beginning(void **state)
{
    (void)state;
    struct search_index *index = opened();
    static char words[3 * SEARCH_INDEX_WORDS_MAX], quotes[2 * SEARCH_INDEX_WORDS_MAX];
    for (size_t i = 0; i + 3 < sizeof(words); i += 3) {
        memcpy(words + i, "\xe6\x97\xa5", 3);
    }
    memset(quotes, '"', sizeof(quotes) - 1);
    add(index, 8, "", words);
    add(index, 9, "", quotes);
    find_check(index, words, SEARCH_IN_BODY, "8");
    find_check(index, quotes, SEARCH_IN_BODY, "9");
    search_index_close(index);
}

static void what_is_dropped_is_found_no_more_and_counted(void **state)
{
    (void)state;
    struct search_index_facts facts;
    struct search_index *index = opened();
    add(index, 1, "", "one text");
    add(index, 2, "", "another text");
    add(index, 2, "", "ids are not used twice");
    assert_int_equal(search_index_drop(index, (const uint64_t[]){1, 77, UINT64_MAX}, 3), 0);
    find_check(index, "text", SEARCH_IN_BODY, "2");
    find_check(index, "twice", SEARCH_IN_BODY, "");
    assert_int_equal(search_index_facts(index, &facts), 0);
    assert_int_equal(facts.texts, 1);
    assert_int_equal(facts.dropped, 1);
    assert_int_equal(search_index_renew(index), 0);
    find_check(index, "text", SEARCH_IN_BODY, "");
    assert_int_equal(search_index_facts(index, &facts), 0);
    assert_int_equal(facts.texts + facts.dropped, 0);
    search_index_close(index);
}

static void an_id_that_cannot_be_kept_is_refused_and_nothing_of_the_call_is_kept(void **state)
{
    (void)state;
    struct search_index *index = opened();
    const struct search_text texts[] = {{.id = 1, .body = slice_text("abc")},
                                        {.id = 1ull << 63, .body = slice_text("abc")}};
    assert_int_equal(search_index_add(index, texts, 2), -EINVAL);
    find_check(index, "abc", SEARCH_IN_BODY, "");
    search_index_close(index);
}

static void it_is_there_when_it_is_opened_again(void **state)
{
    (void)state;
    struct search_index *index = opened();
    struct ids ids = {.count = 0};
    add(index, 3, "", "kept");
    add(index, 1, "", "kept too");
    search_index_close(index);
    index = opened();
    find_check(index, "kept", SEARCH_IN_BODY, "13");
    assert_int_equal(search_index_each(index, id_take, &ids), 0);
    assert_int_equal(ids.count, 2);
    search_index_close(index);
}

static void a_file_that_is_none_of_ours_is_made_anew(void **state)
{
    (void)state;
    static const char *const contents[] = {"not a database at all, but longer than a header", "",
                                           "x"};
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(file, contents[i], strlen(contents[i])), strlen(contents[i]));
        close(file);
        struct search_index *index = opened();
        find_check(index, "anything", SEARCH_IN_BODY, "");
        add(index, 1, "", "anything");
        find_check(index, "anything", SEARCH_IN_BODY, "1");
        search_index_close(index);
    }
}

/* All but the first page, which says what tables there are. */
static void damage(void)
{
    struct stat facts;
    int file = open(path, O_RDWR);
    assert_int_equal(fstat(file, &facts), 0);
    assert_true(facts.st_size > 4 * 4096);
    size_t size = (size_t)facts.st_size - 4096;
    char *noise = malloc(size);
    memset(noise, 0xa5, size);
    assert_int_equal(pwrite(file, noise, size, 4096), size);
    free(noise);
    close(file);
}

static void damage_in_the_middle_leaves_an_empty_index_after_one_error_at_most(void **state)
{
    (void)state;
    static char bodies[500][400];
    static struct search_text texts[500];
    struct search_index *index = opened();
    struct search_index_facts facts;
    for (unsigned i = 0; i < 500; i++) {
        for (size_t b = 0; b < sizeof(bodies[i]); b++) {
            bodies[i][b] = (char)('a' + (b * i * 7 + i) % 26);
        }
        texts[i] = (struct search_text){.id = i, .body = slice_of(bodies[i], sizeof(bodies[i]))};
    }
    assert_int_equal(search_index_add(index, texts, 500), 0);
    search_index_close(index);
    damage();
    index = opened();
    /* SQLite may see it when the file is opened, or when it is read. */
    int status = search_index_facts(index, &facts);
    assert_true(status == -EIO || (status == 0 && facts.texts == 0));
    find_check(index, "abc", SEARCH_IN_BODY, "");
    add(index, 1, "header", "again");
    find_check(index, "again", SEARCH_IN_BODY, "1");
    search_index_close(index);
}

static uint64_t draw(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

#define TEXTS 150u

/* Few letters, so that pieces are often found where they are not meant. */
static void a_text_that_holds_the_words_is_never_missing(void **state)
{
    (void)state;
    static const char *const letters[] = {
        "a", "b", " ", "\"", "\xc3\xb6", "\xe6\x97\xa5", "\xf0\x9f\x93\xa8", "\n"};
    static char bodies[TEXTS][128];
    static struct search_text texts[TEXTS];
    uint64_t random = 88172645463325252ull;
    struct search_index *index = opened();
    for (unsigned i = 0; i < TEXTS; i++) {
        for (unsigned n = (unsigned)(draw(&random) % 20); n > 0; n--) {
            strcat(bodies[i], letters[draw(&random) % 8]);
        }
        texts[i] = (struct search_text){.id = i + 1, .body = slice_text(bodies[i])};
    }
    assert_int_equal(search_index_add(index, texts, TEXTS), 0);
    for (int round = 0; round < 1000; round++) {
        struct ids found = {.count = 0};
        char words[64] = "";
        size_t holding = 0, at = 0;
        for (unsigned n = 3 + (unsigned)(draw(&random) % 3); n > 0; n--) {
            strcat(words, letters[draw(&random) % 8]);
        }
        assert_int_equal(
            search_index_find(index, slice_text(words), SEARCH_IN_BODY, id_take, &found), 0);
        for (unsigned i = 0; i < TEXTS; i++) {
            if (strstr(bodies[i], words) != NULL) {
                holding++;
                while (at < found.count && found.ids[at] < i + 1) {
                    at++;
                }
                assert_true(at < found.count && found.ids[at] == i + 1);
            }
        }
        assert_true(found.count <= TEXTS && found.count >= holding);
    }
    search_index_close(index);
}

/* ---- A byte that has changed ---- */

static const char *const spoilt_words[] = {"text number 7", "number 19", "umber", "header of 3"};
#define SPOILT_WORDS (sizeof(spoilt_words) / sizeof(spoilt_words[0]))
#define SPOILT_TEXTS 200u

static void texts_add(void)
{
    struct search_index *index = opened();
    for (uint64_t id = 1; id <= SPOILT_TEXTS; id++) {
        char header[64], body[64];
        snprintf(header, sizeof(header), "header of %llu", (unsigned long long)id);
        snprintf(body, sizeof(body), "text number %llu", (unsigned long long)id);
        add(index, id, header, body);
    }
    search_index_close(index);
}

/* All that it says: 0, or what it answers first when it notices. */
static int all_ask(struct search_index *index, struct ids *texts, struct ids *found)
{
    texts->count = 0;
    int status = search_index_each(index, id_take, texts);
    for (size_t i = 0; i < SPOILT_WORDS && status == 0; i++) {
        found[i].count = 0;
        status = search_index_find(index, slice_text(spoilt_words[i]),
                                   SEARCH_IN_HEADER | SEARCH_IN_BODY, id_take, &found[i]);
    }
    return status;
}

static void file_write(const uint8_t *bytes, off_t size)
{
    int file = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(pwrite(file, bytes, (size_t)size, 0), size);
    close(file);
}

static void a_changed_bit_is_never_believed(void **state)
{
    static struct ids texts, right[SPOILT_WORDS], found[SPOILT_WORDS];
    (void)state;
    texts_add();
    struct search_index *index = opened();
    assert_int_equal(all_ask(index, &texts, right), 0);
    assert_int_equal(texts.count, SPOILT_TEXTS);
    search_index_close(index);
    int file = open(path, O_RDONLY);
    off_t size = lseek(file, 0, SEEK_END);
    uint8_t *whole = (uint8_t *)malloc((size_t)size);
    assert_int_equal(pread(file, whole, (size_t)size, 0), size);
    close(file);
    unsigned noticed = 0;
    for (off_t at = 0; at < size; at += 61 + at % 7) {
        whole[at] ^= (uint8_t)(1u << at % 8);
        file_write(whole, size);
        whole[at] ^= (uint8_t)(1u << at % 8);
        index = opened();
        int status = all_ask(index, &texts, found);
        if (status != 0 || texts.count == 0) { /* it is made anew */
            noticed++;
        } else {
            assert_int_equal(texts.count, SPOILT_TEXTS);
            assert_memory_equal(found, right, sizeof(found));
        }
        search_index_close(index);
    }
    assert_true(noticed > 50);
    free(whole);
}

static void without_its_journal_it_is_made_anew(void **state)
{
    static struct ids texts, found[SPOILT_WORDS];
    char journal[128];
    (void)state;
    texts_add();
    snprintf(journal, sizeof(journal), "%s-journal", path);
    assert_int_equal(unlink(journal), 0);
    struct search_index *index = opened();
    assert_int_equal(all_ask(index, &texts, found), 0);
    assert_int_equal(texts.count, 0);
    search_index_close(index);
}

#define with_folder(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_folder(texts_are_found_by_any_piece_of_three_characters_or_more),
        with_folder(what_it_cannot_tell_it_says),
        with_folder(a_cut_text_is_always_a_candidate),
        with_folder(a_nul_hides_nothing_behind_it),
        with_folder(words_longer_than_the_bound_are_found_by_their_beginning),
        with_folder(what_is_dropped_is_found_no_more_and_counted),
        with_folder(an_id_that_cannot_be_kept_is_refused_and_nothing_of_the_call_is_kept),
        with_folder(it_is_there_when_it_is_opened_again),
        with_folder(a_file_that_is_none_of_ours_is_made_anew),
        with_folder(damage_in_the_middle_leaves_an_empty_index_after_one_error_at_most),
        with_folder(a_text_that_holds_the_words_is_never_missing),
        with_folder(a_changed_bit_is_never_believed),
        with_folder(without_its_journal_it_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
