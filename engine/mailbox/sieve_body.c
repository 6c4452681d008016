/* The body of a message for Sieve: its text, and its parts, decoded. */
#include "engine/mailbox/sieve_message.h"
#include "proto/message/text.h"
#include "proto/message/transfer.h"
#include <assert.h>
#include <stdio.h>

#define CONTENT_FACTOR                                                                             \
    3 /* a byte of a charset is at most U+FFFD, or what a stateful one comes to */
#define CONTENT_MORE 1024
#define DECODED_BYTES 1024u
static_assert(CONTENT_MORE > CHARSET_CLOSE_BYTES, "what is held at the end fits");

bool sieve_mail_body(void *self, struct slice *body)
{
    const struct sieve_mail *mail = (const struct sieve_mail *)self;
    *body = slice_first(mail->body, SIEVE_MAIL_BODY_BYTES_MAX);
    return mail->body.size > 0;
}

/* ---- The parts ---- */

static struct slice looked_at(const struct sieve_mail *mail)
{
    struct slice body = slice_first(mail->body, SIEVE_MAIL_BODY_BYTES_MAX);
    return slice_of(mail->header.bytes, mail->header.size + body.size);
}

static void parts_find(struct sieve_mail *mail)
{
    struct structure structure;
    mail->content_room = CONTENT_FACTOR * looked_at(mail).size + CONTENT_MORE;
    mail->content = (uint8_t *)arena_take(mail->arena, mail->content_room);
    if (mail->content != NULL && structure_open(&structure, mail->arena) == 0) {
        structure_feed(&structure, looked_at(mail));
        mail->root = structure_finish(&structure);
    }
    mail->part = mail->root;
    mail->part_index = 0;
}

static struct slice text_at(const struct sieve_mail *mail, uint64_t from, uint64_t to)
{
    struct slice text = looked_at(mail);
    from = from < text.size ? from : text.size;
    to = to < from ? from : to < text.size ? to : text.size;
    return slice_of(text.bytes + from, (size_t)(to - from));
}

/* ---- Their contents ---- */

/* Before the first boundary and behind the last (RFC 5173 §5.2), without the boundaries' lines. */
static struct slice around_parts(struct sieve_mail *mail, const struct message_part *part)
{
    const struct message_part *first = part->children, *last = part->last_child;
    uint64_t end = part->body_offset + part->body_bytes;
    struct slice before =
        text_at(mail, part->body_offset, first != NULL ? first->header_offset : end);
    struct slice behind =
        text_at(mail, last != NULL ? last->body_offset + last->body_bytes : end, end);
    if (first != NULL && before.size > 0) {
        const uint8_t *line = (const uint8_t *)memrchr(before.bytes, '\n', before.size - 1);
        before.size = line != NULL ? (size_t)(line - before.bytes) + 1 : 0;
    }
    for (int lines = 0; lines < 2 && behind.size > 0;
         lines++) { /* the end of the part's last line, the boundary */
        const uint8_t *line = (const uint8_t *)memchr(behind.bytes, '\n', behind.size);
        behind = slice_from(behind, line != NULL ? (size_t)(line - behind.bytes) + 1 : behind.size);
    }
    memcpy(mail->content, before.bytes, before.size);
    memcpy(mail->content + before.size, behind.bytes, behind.size);
    return slice_of(mail->content, before.size + behind.size);
}

struct content {
    struct sieve_mail *mail;
    struct charset_decoder charset;
    size_t size;
    bool text;
};

static void content_put(struct content *content, struct slice bytes)
{
    struct sieve_mail *mail = content->mail;
    while (bytes.size > 0 && mail->content_room - content->size >= CONTENT_MORE) {
        size_t room = mail->content_room - content->size;
        uint8_t *to = mail->content + content->size;
        if (content->text) {
            content->size += charset_decode(&content->charset, &bytes, to, room);
        } else {
            size_t size = bytes.size < room ? bytes.size : room;
            memcpy(to, bytes.bytes, size);
            content->size += size;
            bytes = slice_from(bytes, size);
        }
    }
}

static struct slice decoded(struct sieve_mail *mail, const struct message_part *part)
{
    struct content content = {.mail = mail};
    struct slice body = text_at(mail, part->body_offset, part->body_offset + part->body_bytes);
    const struct mime_parameter *charset = mime_parameter_find(part->parameters, "charset");
    enum transfer_encoding encoding =
        part->encoding.bytes != NULL ? transfer_encoding_of(part->encoding) : TRANSFER_IDENTITY;
    uint8_t bytes[DECODED_BYTES];
    struct transfer_decoder transfer;
    transfer_open(&transfer, encoding == TRANSFER_UNKNOWN ? TRANSFER_IDENTITY : encoding);
    content.text = part->type.size == 0 || slice_equal_nocase(part->type, slice_text("text"));
    content.text = content.text &&
                   (charset_open(&content.charset,
                                 charset != NULL ? charset->value : slice_text("utf-8")) == 0 ||
                    charset_open(&content.charset, slice_text("utf-8")) == 0);
    while (body.size > 0) {
        size_t size = transfer_decode(&transfer, &body, bytes, sizeof bytes);
        content_put(&content, slice_of(bytes, size));
    }
    content_put(&content, slice_of(bytes, transfer_close(&transfer, bytes)));
    if (content.text) {
        uint8_t rest[CHARSET_CLOSE_BYTES];
        struct slice last = slice_of(rest, charset_close(&content.charset, rest));
        content.text = false;
        content_put(&content, last);
    }
    return slice_of(mail->content, content.size);
}

static struct slice content_of(struct sieve_mail *mail, const struct message_part *part)
{
    switch ((enum message_part_kind)part->kind) {
    case PART_SINGLE:
        return decoded(mail, part);
    case PART_MULTIPART:
        return around_parts(mail, part);
    case PART_MESSAGE:
        break;
    }
    return text_at(mail, part->body_offset,
                   part->children != NULL ? part->children->body_offset : part->body_offset);
}

bool sieve_mail_body_part(void *self, uint32_t index, struct sieve_body_part *part)
{
    struct sieve_mail *mail = (struct sieve_mail *)self;
    if (mail->body.size == 0) {
        return false;
    }
    if (mail->root == NULL) {
        parts_find(mail);
    }
    if (index < mail->part_index) {
        mail->part = mail->root;
        mail->part_index = 0;
    }
    while (mail->part != NULL && mail->part_index < index) {
        mail->part = message_part_behind(mail->part);
        mail->part_index++;
    }
    if (mail->part == NULL || mail->content == NULL) {
        return false;
    }
    struct slice type = mail->part->type, subtype = mail->part->subtype;
    int size = snprintf(mail->type, sizeof mail->type, "%.*s/%.*s", (int)type.size,
                        (const char *)type.bytes, (int)subtype.size, (const char *)subtype.bytes);
    bool fits = type.size > 0 && size > 0 && (size_t)size < sizeof mail->type;
    part->type = slice_of(mail->type, fits ? (size_t)size : 0);
    part->content = content_of(mail, mail->part);
    return true;
}
