/* Where a message lies in the log: nearly always its body is one record, of which the LSN says all. */
#include "queue/spool/spool_private.h"

static union body_at at_of(const struct spool_body *body, enum body_kind *kind)
{
    const struct spool_copy *copy = body->at.copy;
    bool copied = body->kind == BODY_COPIED;
    *kind = copied ? (enum body_kind)copy->before_kind : (enum body_kind)body->kind;
    return copied ? copy->before : body->at;
}

const struct spool_extents *message_many(const struct spool_message *message)
{
    enum body_kind kind;
    union body_at at = at_of(&message->body, &kind);
    return kind == BODY_MANY ? at.many : NULL;
}

void body_extents(const struct spool_body *body, struct extent_list *list)
{
    if (body->is_draft) {
        const struct spool_draft *draft = list_entry(body, struct spool_draft, body);
        *list = (struct extent_list){.first = draft->extents, .count = draft->extent_count};
        return;
    }
    const struct spool_message *message = list_entry(body, struct spool_message, body);
    enum body_kind kind;
    union body_at at = at_of(body, &kind);
    *list = (struct extent_list){.first = &list->one};
    if (kind == BODY_MANY) {
        list->first = at.many->list;
        list->count = at.many->count;
    } else if (kind == BODY_ONE) {
        list->one = (struct spool_extent){.lsn = at.lsn, .length = message->message.body_bytes};
        list->count = 1;
    }
}

int extents_make(const struct message *message, uint32_t count, struct spool_extents **many)
{
    *many = NULL;
    if (count <= 1 && !commit_is_large(message, count)) {
        return 0;
    }
    *many = (struct spool_extents *)calloc(1, sizeof(**many) + count * sizeof((*many)->list[0]));
    return *many != NULL ? 0 : -ENOMEM;
}

void message_lies_at(struct spool_message *message, const struct spool_extent *extents,
                     uint32_t count, const struct spool_place *place, struct spool_extents *many)
{
    struct spool_body *body = &message->body;
    check(body->kind == BODY_EMPTY);
    message->commit_lsn = place->lsn;
    body->commit_bytes = place->length;
    if (many == NULL) {
        check(count <= 1 && place->parts == NULL);
        body->kind = count == 1 ? BODY_ONE : BODY_EMPTY;
        body->at.lsn = count == 1 ? extents[0].lsn : 0;
        check(count == 0 || extents[0].length == message->message.body_bytes);
        return;
    }
    body->kind = BODY_MANY;
    body->at.many = many;
    many->parts = place->parts;
    many->part_count = place->part_count;
    many->count = count;
    if (count > 0) {
        memcpy(many->list, extents, count * sizeof(extents[0]));
    }
}

void message_lies_nowhere(struct spool_message *message)
{
    struct spool_body *body = &message->body;
    check(body->kind != BODY_COPIED);
    if (body->kind == BODY_MANY) {
        free(body->at.many->parts);
        free(body->at.many);
    }
    body->kind = BODY_EMPTY;
    body->commit_bytes = 0;
    message->commit_lsn = 0;
}

struct spool_place message_place(const struct spool_message *message)
{
    const struct spool_extents *many = message_many(message);
    return (struct spool_place){.lsn = message->commit_lsn,
                                .length = message->body.commit_bytes,
                                .part_count = many != NULL ? many->part_count : 0,
                                .parts = many != NULL ? many->parts : NULL};
}
