#include "proto/imap/body_structure.h"
#include "proto/imap/envelope.h"

static void parameters_write(struct imap_writer *writer, const struct mime_parameter *parameter)
{
    if (parameter == NULL) {
        imap_write(writer, "NIL");
        return;
    }
    imap_write(writer, "(");
    for (; parameter != NULL; parameter = parameter->next) {
        imap_write_string(writer, parameter->name);
        imap_write(writer, " ");
        imap_write_string(writer, parameter->value);
        imap_write(writer, parameter->next != NULL ? " " : "");
    }
    imap_write(writer, ")");
}

/* " disposition language location": the end of what both kinds of bodies may have. */
static void extension_write(struct imap_writer *writer, const struct message_part *part)
{
    if (part->disposition.bytes == NULL) {
        imap_write(writer, " NIL ");
    } else {
        imap_write(writer, " (");
        imap_write_string(writer, part->disposition);
        imap_write(writer, " ");
        parameters_write(writer, part->disposition_parameters);
        imap_write(writer, ") ");
    }
    if (part->languages == NULL) {
        imap_write(writer, "NIL");
    }
    for (const struct message_field *tag = part->languages; tag != NULL; tag = tag->next) {
        imap_write(writer, tag == part->languages ? "(" : " ");
        imap_write_string(writer, tag->value);
        imap_write(writer, tag->next == NULL ? ")" : "");
    }
    imap_write(writer, " ");
    imap_write_nstring(writer, part->location);
}

static void multipart_write(struct imap_writer *writer, struct arena *arena,
                            const struct message_part *part, enum imap_body_form form)
{
    for (const struct message_part *child = part->children; child != NULL; child = child->next) {
        imap_write_body(writer, arena, child, form);
    }
    if (part->children == NULL) {
        imap_write(writer, "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0");
        imap_write(writer, form == IMAP_BODYSTRUCTURE ? " NIL NIL NIL NIL)" : ")");
    }
    imap_write(writer, " ");
    imap_write_string(writer, part->subtype);
    if (form == IMAP_BODYSTRUCTURE) {
        imap_write(writer, " ");
        parameters_write(writer, part->parameters);
        extension_write(writer, part);
    }
}

static void single_write(struct imap_writer *writer, struct arena *arena,
                         const struct message_part *part, enum imap_body_form form)
{
    imap_write_string(writer, part->type);
    imap_write(writer, " ");
    imap_write_string(writer, part->subtype);
    imap_write(writer, " ");
    parameters_write(writer, part->parameters);
    imap_write(writer, " ");
    imap_write_nstring(writer, part->id);
    imap_write(writer, " ");
    imap_write_nstring(writer, part->description);
    imap_write(writer, " ");
    imap_write_string(writer, part->encoding);
    imap_write(writer, " ");
    imap_write_number(writer, part->body_bytes);
    if (part->kind == PART_MESSAGE) {
        imap_write(writer, " ");
        imap_write_envelope(writer, arena, part->children->envelope);
        imap_write(writer, " ");
        imap_write_body(writer, arena, part->children, form);
    }
    if (part->kind == PART_MESSAGE || slice_equal_nocase(part->type, slice_text("text"))) {
        imap_write(writer, " ");
        imap_write_number(writer, part->body_lines);
    }
    if (form == IMAP_BODYSTRUCTURE) {
        imap_write(writer, " ");
        imap_write_nstring(writer, part->md5);
        extension_write(writer, part);
    }
}

void imap_write_body(struct imap_writer *writer, struct arena *arena,
                     const struct message_part *part, enum imap_body_form form)
{
    imap_write(writer, "(");
    if (slice_equal_nocase(part->type, slice_text("multipart"))) {
        multipart_write(writer, arena, part, form);
    } else {
        single_write(writer, arena, part, form);
    }
    imap_write(writer, ")");
}
