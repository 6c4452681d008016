/*
 * Mboxes that anybody has written, in pieces; and any text as a message: what mboxrd writes is read back as one
 * message with the same facts and, but for the headers that are ours, the same text.
 */
#include "engine/core/check.h"
#include "queue/mailbox/mbox.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct mbox_reader reader;

struct read_back {
    uint8_t *text;
    size_t size;
    unsigned messages, ends;
};

static bool step(struct read_back *back, enum mbox_event event)
{
    switch (event) {
    case MBOX_MORE:
    case MBOX_NONE:
        return false;
    case MBOX_MESSAGE:
        check(back->messages == back->ends);
        back->messages++;
        return true;
    case MBOX_TEXT:
        check(back->messages == back->ends + 1);
        memcpy(back->text + back->size, reader.text.bytes, reader.text.size);
        back->size += reader.text.size;
        return true;
    case MBOX_END:
        back->ends++;
        check(back->messages == back->ends);
        return true;
    }
    return false;
}

static void read_all(struct slice input, size_t piece, enum mbox_quoting quoting,
                     struct read_back *back)
{
    mbox_reader_begin(&reader, quoting);
    while (input.size > 0) {
        struct slice part = slice_first(input, piece);
        input = slice_from(input, part.size);
        while (step(back, mbox_read(&reader, &part))) {
        }
        check(part.size == 0 || reader.place == MBOX_BROKEN);
    }
    while (step(back, mbox_read_end(&reader))) {
    }
    check(back->messages == back->ends);
}

static size_t write_all(struct slice text, size_t piece, uint8_t *out, size_t room)
{
    struct mbox_facts facts = {.sender = "a b@c",
                               .date_s = 1005345232,
                               .flags = MAILDIR_SEEN | MAILDIR_DRAFT,
                               .uid = 7,
                               .keywords = "x y"};
    struct mbox_writer writer;
    size_t used = mbox_write_begin(&writer, MBOX_RD, &facts, (char *)out);
    while (text.size > 0) {
        struct slice part = slice_first(text, piece);
        text = slice_from(text, part.size);
        while (part.size > 0) {
            used += mbox_write(&writer, &part, out + used, room - used < 40 ? room - used : 40);
        }
    }
    return used + mbox_write_end(&writer, out + used);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 2) {
        return 0;
    }
    size_t piece = 1u + bytes[0] % 64u, room = MBOX_FRONT_BYTES_MAX + 8 * size + 256;
    struct slice input = slice_of(bytes + 1, size - 1);
    uint8_t *written = malloc(room);
    struct read_back back = {.text = malloc(room)}, again = {.text = malloc(room)};
    check(written != NULL && back.text != NULL && again.text != NULL);
    read_all(input, piece, bytes[0] & 64 ? MBOX_O : MBOX_RD, &back);
    read_all(input, size, bytes[0] & 64 ? MBOX_O : MBOX_RD, &again);
    check(back.size == again.size && memcmp(back.text, again.text, back.size) == 0 &&
          back.messages == again.messages);
    struct read_back mine = {.text = back.text}, whole = {.text = again.text};
    size_t used = write_all(input, piece, written, room);
    read_all(slice_of(written, used), piece, MBOX_RD, &mine);
    check(mine.messages == 1 && reader.facts.uid == 7 && reader.facts.date_s == 1005345232);
    check(strcmp(reader.facts.sender, "a b@c") == 0 && strcmp(reader.facts.keywords, "x y") == 0);
    check(reader.facts.flags == (MAILDIR_SEEN | MAILDIR_DRAFT));
    /* What has been read back, written again, is the same. */
    uint8_t *first = malloc(mine.size + 1);
    check(first != NULL);
    memcpy(first, mine.text, mine.size);
    used = write_all(slice_of(first, mine.size), size, written, room);
    read_all(slice_of(written, used), size, MBOX_RD, &whole);
    check(whole.messages == 1 && whole.size == mine.size &&
          memcmp(whole.text, first, mine.size) == 0);
    free(first);
    free(written);
    free(back.text);
    free(again.text);
    return 0;
}
