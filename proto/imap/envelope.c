#include "proto/imap/envelope.h"
#include "proto/message/address_reader.h"

static struct slice last_value(const struct message_field *field)
{
    struct slice value = slice_of(NULL, 0);
    for (; field != NULL; field = field->next) {
        value = field->value;
    }
    return value;
}

static struct slice or_text(struct slice text, bool broken, const char *missing)
{
    return broken ? slice_text("SYNTAX_ERROR") : text.bytes != NULL ? text : slice_text(missing);
}

/* "(name adl mailbox host)"; a group begins and ends with one without a host. */
static void address_write(struct imap_writer *writer, const struct address *address)
{
    const struct slice nil = slice_of(NULL, 0);
    struct slice parts[4] = {address->name, address->route, address->local, address->domain};
    switch ((enum address_kind)address->kind) {
    case ADDRESS_MAILBOX:
        parts[1] = address->route_broken ? slice_text("INVALID_ROUTE") : address->route;
        parts[2] = or_text(address->local, false, "MISSING_MAILBOX");
        parts[3] = or_text(address->domain, address->broken, "MISSING_DOMAIN");
        break;
    case ADDRESS_GROUP:
        parts[0] = nil;
        parts[2] = or_text(address->name, false, "");
        break;
    case ADDRESS_GROUP_END:
        parts[2] = nil;
        break;
    }
    for (size_t i = 0; i < 4; i++) {
        imap_write(writer, i == 0 ? "(" : " ");
        imap_write_nstring(writer, parts[i]);
    }
    imap_write(writer, ")");
}

static struct address *addresses_of(struct arena *arena, const struct message_field *field)
{
    struct address *list = NULL, **end = &list;
    for (; field != NULL; field = field->next) {
        end = address_read(arena, field->value, end);
    }
    return list;
}

static void addresses_write(struct imap_writer *writer, const struct address *list)
{
    if (list == NULL) {
        imap_write(writer, " NIL");
        return;
    }
    imap_write(writer, " (");
    for (; list != NULL; list = list->next) {
        address_write(writer, list);
    }
    imap_write(writer, ")");
}

void imap_write_envelope(struct imap_writer *writer, struct arena *arena,
                         struct message_field *const fields[ENVELOPE_FIELDS])
{
    const struct address *from = addresses_of(arena, fields[ENVELOPE_FROM]);
    imap_write(writer, "(");
    imap_write_nstring(writer, last_value(fields[ENVELOPE_DATE]));
    imap_write(writer, " ");
    imap_write_nstring(writer, last_value(fields[ENVELOPE_SUBJECT]));
    for (size_t i = ENVELOPE_FROM; i <= ENVELOPE_BCC; i++) {
        const struct address *list = i == ENVELOPE_FROM ? from : addresses_of(arena, fields[i]);
        if (list == NULL && (i == ENVELOPE_SENDER || i == ENVELOPE_REPLY_TO)) {
            list = from;
        }
        addresses_write(writer, list);
    }
    imap_write(writer, " ");
    imap_write_nstring(writer, last_value(fields[ENVELOPE_IN_REPLY_TO]));
    imap_write(writer, " ");
    imap_write_nstring(writer, last_value(fields[ENVELOPE_MESSAGE_ID]));
    imap_write(writer, ")");
}
