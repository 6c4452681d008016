/*
 * SORT and THREAD (RFC 5256, RFC 5957): what each message that was found is put in order by.
 *
 * For SORT a message keeps one text or number for each key, in an arena; for THREAD hashes of its ids and subject. The
 * hash is keyed by the store's random numbers, so that nobody can make two subjects alike.
 */
#include "engine/mailbox/imap_search.h"
#include "engine/core/gradual_sort.h"
#include "proto/message/address_reader.h"
#include "proto/message/header.h"
#include "proto/message/subject.h"
#include "proto/message/thread.h"
#include "proto/sieve/moment.h"
#include <stdlib.h>

#define KEYS_MAX 16u       /* of one SORT; later ones do not count */
#define KEY_BYTES_MAX 512u /* of a text that is compared */
#define SORTING_BYTES_MAX (512u * 1024 * 1024)
#define PIECE_BYTES 1024u
/* Each costs some tenths of a microsecond, of what lies far apart in memory. */
#define SORTED_A_STEP 10000u
#define THREADED_A_STEP 10000u

struct sort_value { /* a number, or a text, by the key */
    union {
        int64_t number;
        const uint8_t *bytes;
    };
    uint32_t size; /* of the text; of a number 0 */
};
static_assert(sizeof(struct sort_value) == 16, "a million messages have one for each key");

struct sorted {
    uint32_t found; /* as it is answered */
    uint32_t number;
    struct sort_value *values; /* of each key */
};

struct sorting {
    const struct imap_search *command;
    bool thread;
    uint32_t key_count;
    struct arena arena;
    union {
        struct sorted *sorted; /* owned */
        struct thread_message *messages;
    };
    uint32_t count, room;
    uint64_t hash_key[2];
    bool begun; /* what was found is put in order */
    struct gradual_sort sort;
    uint32_t told; /* of the sorted ones: they are in search->found */
    size_t reference_count;
    struct thread_forest *forest; /* owned */
    bool any_thread;              /* was written */
};

int sorting_open(struct search *search)
{
    const struct world *world = search->session->session.mailbox->shard->world;
    struct sorting *sorting = (struct sorting *)calloc(1, sizeof(*sorting));
    if (sorting == NULL) {
        return -ENOMEM;
    }
    sorting->command = &search->command->search;
    sorting->thread = search->command->kind == IMAP_THREAD;
    sorting->key_count =
        sorting->command->sort_count < KEYS_MAX ? sorting->command->sort_count : KEYS_MAX;
    arena_open(&sorting->arena, SORTING_BYTES_MAX);
    world->random(world->self, sorting->hash_key, sizeof(sorting->hash_key));
    search->sorting = sorting;
    return 0;
}

void sorting_close(struct search *search)
{
    struct sorting *sorting = search->sorting;
    if (sorting != NULL) {
        gradual_sort_close(&sorting->sort);
        thread_free(sorting->forest);
        arena_close(&sorting->arena);
        free(sorting->thread ? (void *)sorting->messages : (void *)sorting->sorted);
        free(sorting);
    }
    search->sorting = NULL;
}

bool sorting_needs_header(const struct search *search)
{
    const struct sorting *sorting = search->sorting;
    for (uint32_t i = 0; i < sorting->key_count; i++) {
        uint8_t kind = sorting->command->sort[i].kind;
        if (kind != IMAP_SORT_ARRIVAL && kind != IMAP_SORT_SIZE) {
            return true;
        }
    }
    return sorting->thread;
}

/* ---- What is compared ---- */

static int64_t sent_of(const struct search *search)
{
    struct header_field field;
    struct sieve_moment moment;
    if (header_find(search_header(search), slice_text("Date"), &field) &&
        sieve_moment_read(field.value, &moment)) {
        return moment.utc_s;
    }
    return search->entry.internal_s; /* §2.2 */
}

/* The text without regard to case, at most so much of it. */
static struct slice mapped(struct sorting *sorting, struct slice text)
{
    uint8_t out[8 * KEY_BYTES_MAX];
    size_t size = 0;
    struct slice copy;
    text = slice_first(text, KEY_BYTES_MAX);
    while (text.size > 0 && text_casemap(text, out, sizeof(out), &size) != 0) {
        text.size--; /* it was cut within a character */
    }
    return arena_copy(&sorting->arena, slice_of(out, size), &copy) ? copy : slice_of(NULL, 0);
}

static struct slice base_subject(struct search *search, bool *is_reply)
{
    struct header_field field;
    struct slice text, key = slice_of(NULL, 0);
    *is_reply = false;
    if (header_find(search_header(search), slice_text("Subject"), &field) &&
        searchable_field_text(field.value, &text)) {
        key = mapped(search->sorting,
                     subject_base((uint8_t *)(uintptr_t)text.bytes, text.size, is_reply));
        free((void *)(uintptr_t)text.bytes);
    }
    return key;
}

/* Of the first address: its mailbox (RFC 5256 §3), or how it is displayed (RFC 5957). */
static struct slice address_key(struct search *search, const char *name, bool display)
{
    struct header_field field;
    struct arena arena;
    struct address *first = NULL;
    struct slice key = slice_of(NULL, 0);
    if (!header_find(search_header(search), slice_text(name), &field)) {
        return key;
    }
    arena_open(&arena, 1u << 20);
    address_read(&arena, slice_first(field.value, 65536), &first);
    struct slice text;
    if (first != NULL && display && first->name.size > 0 &&
        searchable_field_text(first->name, &text)) {
        key = mapped(search->sorting, text);
        free((void *)(uintptr_t)text.bytes);
    } else if (first != NULL && display && first->local.size > 0) {
        uint8_t whole[KEY_BYTES_MAX];
        size_t local = first->local.size < 255 ? first->local.size : 255;
        size_t domain = first->domain.size < 255 ? first->domain.size : 255;
        memcpy(whole, first->local.bytes, local);
        whole[local] = '@';
        if (domain > 0) {
            memcpy(whole + local + 1, first->domain.bytes, domain);
        }
        key = mapped(search->sorting, slice_of(whole, local + 1 + domain));
    } else if (first != NULL) {
        /* A group stands in the envelope as an address whose mailbox is the group's name. */
        key = mapped(search->sorting, first->kind == ADDRESS_GROUP ? first->name : first->local);
    }
    arena_close(&arena);
    return key;
}

static bool is_number(enum imap_sort_kind kind)
{
    return kind == IMAP_SORT_ARRIVAL || kind == IMAP_SORT_DATE || kind == IMAP_SORT_SIZE;
}

static struct sort_value value_of(struct search *search, enum imap_sort_kind kind)
{
    struct sort_value value = {0};
    struct slice text = slice_of(NULL, 0);
    bool is_reply;
    switch (kind) {
    case IMAP_SORT_ARRIVAL:
        value.number = search->entry.internal_s;
        break;
    case IMAP_SORT_DATE:
        value.number = sent_of(search);
        break;
    case IMAP_SORT_SIZE:
        value.number = search->entry.bytes;
        break;
    case IMAP_SORT_SUBJECT:
        text = base_subject(search, &is_reply);
        break;
    case IMAP_SORT_FROM:
        text = address_key(search, "From", false);
        break;
    case IMAP_SORT_TO:
        text = address_key(search, "To", false);
        break;
    case IMAP_SORT_CC:
        text = address_key(search, "Cc", false);
        break;
    case IMAP_SORT_DISPLAYFROM:
        text = address_key(search, "From", true);
        break;
    case IMAP_SORT_DISPLAYTO:
        text = address_key(search, "To", true);
        break;
    }
    if (!is_number(kind)) {
        value.bytes = text.bytes;
        value.size = (uint32_t)text.size;
    }
    return value;
}

/* ---- Threads ---- */

static uint64_t rotated(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotated(v[1], 13) ^ v[0];
    v[3] = rotated(v[3], 16) ^ v[2];
    v[0] = rotated(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotated(v[1], 17) ^ v[2];
    v[3] = rotated(v[3], 21) ^ v[0];
    v[2] = rotated(v[2], 32);
}

/* SipHash-2-4; 0 only of nothing. */
static uint64_t name_hash(const struct sorting *sorting, struct slice text)
{
    uint64_t v[4] = {
        sorting->hash_key[0] ^ 0x736f6d6570736575ull, sorting->hash_key[1] ^ 0x646f72616e646f6dull,
        sorting->hash_key[0] ^ 0x6c7967656e657261ull, sorting->hash_key[1] ^ 0x7465646279746573ull};
    for (size_t at = 0; at <= text.size; at += 8) {
        uint8_t bytes[8] = {0};
        size_t size = text.size - at < 8 ? text.size - at : 8;
        uint64_t word;
        if (size > 0) {
            memcpy(bytes, text.bytes + at, size);
        }
        if (size < 8) {
            bytes[7] = (uint8_t)text.size;
        }
        memcpy(&word, bytes, sizeof(word));
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) {
        sip_round(v);
    }
    uint64_t hash = v[0] ^ v[1] ^ v[2] ^ v[3];
    return text.size == 0 ? 0 : hash != 0 ? hash : 1;
}

/* The next <...> of a field; blanks in it, where it was folded, do not count. */
static bool id_next(struct slice *value, uint8_t id[PIECE_BYTES], size_t *size)
{
    bool inside = false;
    *size = 0;
    for (size_t i = 0; i < value->size; i++) {
        uint8_t byte = value->bytes[i];
        if (byte == '<') {
            inside = true;
            *size = 0;
        } else if (byte == '>' && inside && *size > 0) {
            *value = slice_from(*value, i + 1);
            return true;
        } else if (inside && byte > ' ' && *size < PIECE_BYTES) {
            id[(*size)++] = byte;
        }
    }
    value->size = 0;
    return false;
}

static uint32_t ids_of(const struct search *search, const char *name, uint64_t *ids, uint32_t most)
{
    struct header_field field;
    uint8_t id[PIECE_BYTES];
    size_t size;
    uint32_t count = 0;
    if (!header_find(search_header(search), slice_text(name), &field)) {
        return 0;
    }
    while (id_next(&field.value, id, &size)) {
        if (count == most && most > 1) { /* the last ones count */
            memmove(ids, ids + 1, (most - 1) * sizeof(ids[0]));
            count--;
        }
        if (count < most) {
            ids[count++] = name_hash(search->sorting, slice_of(id, size));
        }
    }
    return count;
}

static int thread_add(struct search *search, struct thread_message *message)
{
    struct sorting *sorting = search->sorting;
    uint64_t ids[THREAD_REFERENCES_MAX];
    bool is_reply;
    *message = (struct thread_message){.number = search->found[search->found_count - 1]};
    message->sent_s = sent_of(search);
    message->subject = name_hash(sorting, base_subject(search, &is_reply));
    message->is_reply = is_reply;
    if (ids_of(search, "Message-ID", ids, 1) == 1) {
        message->id = ids[0];
    }
    uint32_t count = ids_of(search, "References", ids, THREAD_REFERENCES_MAX);
    if (count == 0) {
        count = ids_of(search, "In-Reply-To", ids, 1);
    }
    if (count > 0) {
        uint64_t *kept = (uint64_t *)arena_take_array(&sorting->arena, count, sizeof(kept[0]));
        if (kept == NULL) {
            return -ENOMEM;
        }
        memcpy(kept, ids, count * sizeof(kept[0]));
        message->references = kept;
        message->reference_count = count;
        sorting->reference_count += count;
    }
    return 0;
}

bool threading_write(struct search *search, struct imap_writer *writer)
{
    struct sorting *sorting = search->sorting;
    char text[2048];
    size_t size = thread_text(sorting->forest, text, sizeof(text));
    imap_write(writer, size > 0 && !sorting->any_thread ? " " : "");
    imap_write_bytes(writer, slice_of(text, size));
    sorting->any_thread = true;
    return size > 0;
}

/* ---- Gathering and sorting ---- */

/* For all that can be found at once: a million of them are not to be moved to a larger place one time after the other. What
 * is not used is not written, and so is no memory. */
static bool room_make(struct sorting *sorting, uint32_t most)
{
    size_t bytes = sorting->thread ? sizeof(struct thread_message) : sizeof(struct sorted);
    if (sorting->count < sorting->room) {
        return true;
    }
    uint32_t room = most > sorting->room ? most : sorting->room * 2 + 64;
    void *grown = realloc(sorting->thread ? (void *)sorting->messages : (void *)sorting->sorted,
                          room * bytes);
    if (grown == NULL) {
        return false;
    }
    if (sorting->thread) {
        sorting->messages = (struct thread_message *)grown;
    } else {
        sorting->sorted = (struct sorted *)grown;
    }
    sorting->room = room;
    return true;
}

int sorting_add(struct search *search)
{
    struct sorting *sorting = search->sorting;
    if (!room_make(sorting, search->session->view.count)) {
        return -ENOMEM;
    }
    if (sorting->thread) {
        return thread_add(search, &sorting->messages[sorting->count++]);
    }
    struct sorted *sorted = &sorting->sorted[sorting->count];
    *sorted =
        (struct sorted){.found = search->found[search->found_count - 1], .number = search->number};
    sorted->values = (struct sort_value *)arena_take_array(&sorting->arena, sorting->key_count,
                                                           sizeof(struct sort_value));
    if (sorted->values == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < sorting->key_count; i++) {
        sorted->values[i] = value_of(search, (enum imap_sort_kind)sorting->command->sort[i].kind);
    }
    sorting->count++;
    return 0;
}

static int number_order(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static int text_order(const struct sort_value *a, const struct sort_value *b)
{
    size_t size = a->size < b->size ? a->size : b->size;
    int order = size > 0 ? memcmp(a->bytes, b->bytes, size) : 0;
    return order != 0 ? order : number_order(a->size, b->size);
}

static int sorted_order(const void *left, const void *right, void *owner)
{
    const struct sorted *a = (const struct sorted *)left, *b = (const struct sorted *)right;
    const struct sorting *sorting = (const struct sorting *)owner;
    for (uint32_t i = 0; i < sorting->key_count; i++) {
        const struct imap_sort_key *key = &sorting->command->sort[i];
        int order = is_number((enum imap_sort_kind)key->kind)
                        ? number_order(a->values[i].number, b->values[i].number)
                        : text_order(&a->values[i], &b->values[i]);
        if (order != 0) {
            return key->reverse ? -order : order;
        }
    }
    return number_order(a->number, b->number);
}

/* 0, -EAGAIN, -ENOMEM. */
static int order_step(struct search *search, size_t steps)
{
    struct sorting *sorting = search->sorting;
    if (!sorting->begun) {
        sorting->begun = true;
        if (gradual_sort_open(&sorting->sort, sorting->sorted, sorting->count,
                              sizeof(sorting->sorted[0]), sorted_order, sorting) != 0) {
            return -ENOMEM;
        }
    }
    if (!gradual_sort_step(&sorting->sort, &steps)) {
        return -EAGAIN;
    }
    for (; sorting->told < sorting->count && steps > 0; steps--, sorting->told++) {
        search->found[sorting->told] = sorting->sorted[sorting->told].found;
    }
    return sorting->told == sorting->count ? 0 : -EAGAIN;
}

static int threads_step(struct search *search, size_t steps)
{
    struct sorting *sorting = search->sorting;
    bool by_subject = sorting->command->thread == IMAP_THREAD_ORDEREDSUBJECT;
    if (!sorting->begun) {
        sorting->begun = true;
        int status =
            thread_begin(&sorting->forest, by_subject ? THREAD_BY_SUBJECT : THREAD_BY_REFERENCES,
                         sorting->messages, sorting->count, sorting->reference_count);
        if (status != 0) {
            sorting->forest = NULL;
            return status;
        }
    }
    return thread_step(sorting->forest, steps);
}

int sorting_step(struct search *search)
{
    return search->sorting->thread ? threads_step(search, THREADED_A_STEP)
                                   : order_step(search, SORTED_A_STEP);
}
