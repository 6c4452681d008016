#include "engine/mailbox/sieve_message.h"
#include "proto/message/header.h"
#include "proto/message/text.h"

#define DECODED_FACTOR                                                                             \
    4 /* a byte of a charset is at most one character, and that at most four bytes */
#define DECODED_MORE 64

/* Fields are asked for in ascending order: the search goes on where it has found the last. */
static bool field_find(struct sieve_mail *mail, struct slice name, uint32_t index,
                       struct header_field *found)
{
    if (index < mail->next || mail->next == 0 || !slice_equal_nocase(mail->name, name)) {
        mail->rest = mail->header;
        mail->next = 0;
    }
    while (header_find_next(&mail->rest, name, found)) {
        if (mail->next++ == index) {
            mail->name = slice_of(found->name.bytes, found->name.size);
            return true;
        }
    }
    mail->next = 0;
    return false;
}

/* The room stays from one value to the next, and grows. */
static bool decode(struct sieve_mail *mail, struct slice *value)
{
    size_t room = value->size * DECODED_FACTOR + DECODED_MORE;
    if (room > mail->decoded_room) {
        mail->decoded = (uint8_t *)arena_take(mail->arena, room);
        mail->decoded_room = mail->decoded != NULL ? room : 0;
    }
    if (mail->decoded == NULL) {
        return false;
    }
    *value = slice_of(mail->decoded, text_of_field(*value, mail->decoded, mail->decoded_room));
    return true;
}

static bool field(void *self, struct slice name, uint32_t index, enum sieve_field_form form,
                  struct slice *value)
{
    struct sieve_mail *mail = (struct sieve_mail *)self;
    struct header_field found;
    if (!field_find(mail, name, index, &found)) {
        return false;
    }
    *value = found.value;
    return form == SIEVE_FIELD_RAW || decode(mail, value);
}

static bool environment(void *self, struct slice name, struct slice *value)
{
    (void)self;
    static const struct {
        const char *name, *value;
    } items[] = {{"location", "MDA"}, {"name", "Tubepost"}, {"phase", "during"}};
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        if (slice_equal_nocase(name, slice_text(items[i].name))) {
            *value = slice_text(items[i].value);
            return true;
        }
    }
    return false;
}

struct sieve_message sieve_mail_message(struct sieve_mail *mail)
{
    return (struct sieve_message){
        .self = mail,
        .size = mail->size,
        .header_bytes = mail->header.size,
        .envelope_from = mail->from,
        .envelope_to = mail->to,
        .field = field,
        .body = sieve_mail_body,
        .body_part = sieve_mail_body_part,
        .environment = environment,
    };
}
