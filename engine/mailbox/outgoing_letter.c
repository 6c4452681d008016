#include "engine/mailbox/outgoing_letter.h"

#define VERSION 1u
#define FIXED_BYTES 18u
#define NAME_BYTES_MAX 1024u

static uint8_t *put_u64(uint8_t *at, uint64_t number)
{
    for (unsigned i = 0; i < 8; i++) {
        *at++ = (uint8_t)(number >> (8 * i));
    }
    return at;
}

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t number = 0;
    for (unsigned i = 8; i-- > 0;) {
        number = number << 8 | at[i];
    }
    return number;
}

static uint8_t *put_name(uint8_t *at, struct slice name)
{
    *at++ = (uint8_t)name.size;
    *at++ = (uint8_t)(name.size >> 8);
    if (name.size > 0) {
        memcpy(at, name.bytes, name.size);
    }
    return at + name.size;
}

static bool get_name(struct slice *rest, struct slice *name)
{
    size_t size = rest->size >= 2 ? (size_t)(rest->bytes[0] | rest->bytes[1] << 8) : 0;
    if (rest->size < 2 + size || size > NAME_BYTES_MAX) {
        return false;
    }
    *name = slice_of(rest->bytes + 2, size);
    *rest = slice_of(rest->bytes + 2 + size, rest->size - 2 - size);
    return true;
}

size_t outgoing_letter_write(const struct outgoing_letter *letter,
                             uint8_t record[OUTGOING_RECORD_BYTES_MAX])
{
    if (letter->user.size > NAME_BYTES_MAX || letter->reverse_path.size > NAME_BYTES_MAX ||
        letter->forward_path.size > NAME_BYTES_MAX || letter->forward_path.size == 0 ||
        letter->words.size > OUTGOING_WORDS_BYTES_MAX) {
        return 0;
    }
    uint8_t *at = record;
    *at++ = VERSION;
    *at++ = letter->flags;
    at = put_u64(at, letter->text);
    at = put_u64(at, letter->born_s);
    at = put_name(at, letter->user);
    at = put_name(at, letter->reverse_path);
    at = put_name(at, letter->forward_path);
    if (letter->words.size > 0) {
        memcpy(at, letter->words.bytes, letter->words.size);
    }
    return (size_t)(at - record) + letter->words.size;
}

bool outgoing_letter_read(struct outgoing_letter *letter, struct slice record)
{
    *letter = (struct outgoing_letter){0};
    if (record.size < FIXED_BYTES || record.bytes[0] != VERSION) {
        return false;
    }
    letter->flags = record.bytes[1];
    letter->text = get_u64(record.bytes + 2);
    letter->born_s = get_u64(record.bytes + 10);
    struct slice rest = slice_from(record, FIXED_BYTES);
    bool good = get_name(&rest, &letter->user) && get_name(&rest, &letter->reverse_path) &&
                get_name(&rest, &letter->forward_path);
    letter->words = rest;
    return good && letter->forward_path.size > 0 && rest.size <= OUTGOING_WORDS_BYTES_MAX;
}
