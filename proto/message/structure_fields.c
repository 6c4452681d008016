#include "proto/message/structure_private.h"
#include "proto/message/header.h"

/* In one line; bytes are not NULL unless the arena is full. Blanks at its end go. */
static struct slice value_copy(struct arena *arena, struct slice value)
{
    uint8_t *text = arena_take(arena, value.size);
    if (text == NULL) {
        return slice_of(NULL, 0);
    }
    return slice_of(text, header_unfold(value, text, value.size));
}

static void content_type_read(struct arena *arena, struct message_part *part, struct slice value)
{
    if (part->type_seen) {
        return;
    }
    part->type_seen = true;
    part->type = part->subtype = slice_text("");
    mime_skip_blanks(&value);
    struct slice type = mime_token(&value), subtype = slice_text("");
    if (value.size > 0 && value.bytes[0] == '/') {
        value = slice_from(value, 1);
        mime_skip_blanks(&value);
        subtype = mime_token(&value);
        if (type.size == 0 || subtype.size == 0) {
            return;
        }
    }
    if (value.size > 0 && value.bytes[0] != ';') {
        return;
    }
    part->type = type;
    part->subtype = subtype;
    part->parameters = mime_parameters(arena, value);
}

static void disposition_read(struct arena *arena, struct message_part *part, struct slice value)
{
    mime_skip_blanks(&value);
    part->disposition = mime_token(&value);
    part->disposition_parameters = mime_parameters(arena, value);
}

static void field_append(struct arena *arena, struct message_field **first, struct slice value)
{
    struct message_field *field = arena_take(arena, sizeof(*field));
    if (field != NULL) {
        field->value = value;
        field->next = *first; /* newest first: turned round when the header is over */
        *first = field;
    }
}

static void fields_turn(struct message_field **first)
{
    struct message_field *turned = NULL;
    for (struct message_field *field = *first, *next; field != NULL; field = next) {
        next = field->next;
        field->next = turned;
        turned = field;
    }
    *first = turned;
}

/* RFC 3282 §2: tags between commas. */
static void language_read(struct arena *arena, struct message_part *part, struct slice value)
{
    if (part->languages != NULL) {
        return;
    }
    mime_skip_blanks(&value);
    while (value.size > 0) {
        struct slice tag = mime_token(&value);
        if (tag.size > 0) {
            field_append(arena, &part->languages, tag);
        } else {
            value = slice_from(value, 1); /* a comma, or what should not be there */
            mime_skip_blanks(&value);
        }
    }
}

/* RFC 2045 §6.1: one token. */
static void encoding_read(struct message_part *part, struct slice value)
{
    mime_skip_blanks(&value);
    struct slice encoding = mime_token(&value);
    if (value.size == 0 && encoding.size > 0) {
        part->encoding = encoding;
    }
}

/* Fields of which the text is kept as it is. */
static struct slice *plain_field(struct message_part *part, struct slice name)
{
    const struct {
        const char *name;
        struct slice *place;
    } fields[] = {
        {"Content-ID", &part->id},
        {"Content-Description", &part->description},
        {"Content-MD5", &part->md5},
        {"Content-Location", &part->location},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (slice_equal_nocase(name, slice_text(fields[i].name))) {
            return fields[i].place;
        }
    }
    return NULL;
}

static void content_field_read(struct arena *arena, struct message_part *part,
                               const struct header_field *field)
{
    struct slice *plain = plain_field(part, field->name);
    if (plain != NULL) {
        if (plain->bytes == NULL) {
            *plain = value_copy(arena, field->value);
        }
        return;
    }
    /* What is read of it points into the copy. */
    if (slice_equal_nocase(field->name, slice_text("Content-Type"))) {
        content_type_read(arena, part, value_copy(arena, field->value));
    } else if (slice_equal_nocase(field->name, slice_text("Content-Transfer-Encoding"))) {
        if (part->encoding.bytes == NULL) {
            encoding_read(part, value_copy(arena, field->value));
        }
    } else if (slice_equal_nocase(field->name, slice_text("Content-Disposition"))) {
        disposition_read(arena, part, value_copy(arena, field->value)); /* the last one counts */
    } else if (slice_equal_nocase(field->name, slice_text("Content-Language"))) {
        language_read(arena, part, value_copy(arena, field->value));
    }
}

void structure_field_read(struct arena *arena, struct message_part *part, struct slice whole,
                          bool of_message)
{
    static const char *const names[ENVELOPE_FIELDS] = {[ENVELOPE_DATE] = "Date",
                                                       [ENVELOPE_SUBJECT] = "Subject",
                                                       [ENVELOPE_FROM] = "From",
                                                       [ENVELOPE_SENDER] = "Sender",
                                                       [ENVELOPE_REPLY_TO] = "Reply-To",
                                                       [ENVELOPE_TO] = "To",
                                                       [ENVELOPE_CC] = "Cc",
                                                       [ENVELOPE_BCC] = "Bcc",
                                                       [ENVELOPE_IN_REPLY_TO] = "In-Reply-To",
                                                       [ENVELOPE_MESSAGE_ID] = "Message-ID"};
    struct header_field field = header_field_of(whole);
    if (field.name.size > 8 &&
        slice_equal_nocase(slice_first(field.name, 8), slice_text("Content-"))) {
        content_field_read(arena, part, &field);
        return;
    }
    if (slice_equal_nocase(field.name, slice_text("MIME-Version"))) {
        part->version_seen = true;
    }
    for (size_t i = 0; of_message && i < ENVELOPE_FIELDS; i++) {
        if (slice_equal_nocase(field.name, slice_text(names[i]))) {
            field_append(arena, &part->envelope[i], value_copy(arena, field.value));
        }
    }
}

static void charset_default(struct arena *arena, struct message_part *part)
{
    struct mime_parameter **end = &part->parameters;
    if (mime_parameter_find(*end, "charset") != NULL) {
        return;
    }
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = arena_take(arena, sizeof(**end));
    if (*end != NULL) {
        (*end)->name = slice_text("charset");
        (*end)->value = slice_text("us-ascii");
    }
}

static void content_forget(struct message_part *part)
{
    part->id = part->description = part->encoding = part->md5 = slice_of(NULL, 0);
    part->disposition = part->location = slice_of(NULL, 0);
    part->disposition_parameters = NULL;
    part->languages = NULL;
}

void structure_fields_default(struct arena *arena, struct message_part *part, bool in_digest)
{
    bool of_message = part->parent == NULL || part->parent->kind == PART_MESSAGE;
    if (of_message && !part->type_seen && !part->version_seen) {
        content_forget(part);
    }
    fields_turn(&part->languages);
    for (size_t i = 0; i < ENVELOPE_FIELDS; i++) {
        fields_turn(&part->envelope[i]);
    }
    if (!part->type_seen) {
        part->type = slice_text(in_digest ? "message" : "text");
        part->subtype = slice_text(in_digest ? "rfc822" : "plain");
    }
    if (slice_equal_nocase(part->type, slice_text("text"))) {
        charset_default(arena, part);
    }
    if (part->encoding.bytes == NULL) {
        part->encoding = slice_text("7bit");
    }
}
