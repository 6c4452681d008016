/* delivery_edit: the message as a script has edited it is a text of its own: its header anew, and the body that was kept. */
#include "engine/mailbox/delivery_sieve_private.h"
#include "engine/mailbox/sieve_edit.h"

#define PIECE_BYTES (256u * 1024)
static_assert(PIECE_BYTES <= MAILSTORE_APPEND_BYTES_MAX, "a piece is given in one call");

/* NULL: there is no memory; or, with judging->trouble, the store takes no further text now. */
static struct delivery_variant *variant_new(struct judging *judging, uint32_t edit_count)
{
    struct delivery_text *text = judging->text;
    const struct sieve_result *result = judging->result;
    struct delivery_variant *variant =
        (struct delivery_variant *)arena_take(&text->sieve_memory, sizeof *variant);
    struct mailstore_place *places = (struct mailstore_place *)arena_take_array(
        &text->sieve_memory, result->action_count, sizeof *places);
    if (variant == NULL || places == NULL ||
        sieve_edit_header(&text->sieve_memory, delivery_header(text), result->edits, edit_count,
                          &variant->header) != 0) {
        return NULL;
    }
    int status = mailstore_begin(text->mailbox->texts, &variant->draft);
    if (status != 0) {
        judging->trouble = judging->trouble != 0 ? judging->trouble : status;
        return NULL;
    }
    variant->text = text;
    variant->recipient = judging->index;
    variant->edit_count = edit_count;
    variant->places = places;
    variant->next = text->variants;
    text->variants = variant;
    return variant;
}

struct delivery_variant *delivery_edit_get(struct judging *judging, uint32_t edit_count)
{
    struct delivery_variant *variant = judging->text->variants;
    while (variant != NULL && variant->recipient == judging->index &&
           variant->edit_count != edit_count) {
        variant = variant->next;
    }
    if (edit_count == 0 || judging->not_edited) {
        return NULL;
    }
    if (variant != NULL && variant->recipient == judging->index) {
        return variant;
    }
    variant = judging->text->cut ? NULL : variant_new(judging, edit_count);
    judging->not_edited = variant == NULL;
    if (variant == NULL && judging->trouble == 0) {
        delivery_complain(judging, "it is too large to be edited, or there is no memory");
    }
    return variant;
}

static void variant_give_up(struct delivery_variant *variant, int status)
{
    mailstore_abort(variant->draft);
    variant->draft = NULL;
    variant->status = status;
}

int delivery_edit_write(struct delivery_text *text)
{
    struct slice kept = slice_of(text->kept, text->kept_bytes);
    struct slice body = slice_from(kept, delivery_header(text).size);
    for (struct delivery_variant *variant = text->variants; variant != NULL;
         variant = variant->next) {
        size_t size = variant->header.size + body.size;
        while (variant->draft != NULL && variant->written < size) {
            size_t at = variant->written;
            struct slice rest = at < variant->header.size
                                    ? slice_from(variant->header, at)
                                    : slice_from(body, at - variant->header.size);
            struct slice piece = slice_first(rest, PIECE_BYTES);
            int status = mailstore_append(variant->draft, &piece, 1);
            if (status == -EAGAIN) {
                return status;
            }
            if (status < 0) {
                variant_give_up(variant, status);
            }
            variant->written += piece.size;
        }
    }
    return 0;
}

void delivery_edit_forget(struct delivery_text *text, uint32_t recipient)
{
    struct delivery_variant **at = &text->variants;
    while (*at != NULL) {
        if ((*at)->recipient == recipient) {
            variant_give_up(*at, 0);
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}
