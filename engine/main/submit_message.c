/* A message as programs write it, made one as SMTP carries it. */
#include "engine/main/tubepost.h"
#include "engine/main/tubepost_submit.h"
#include "proto/message/address_list.h"
#include "proto/message/date.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum field { FIELD_FROM = 1, FIELD_DATE = 2, FIELD_MESSAGE_ID = 4, FIELD_TO = 8, FIELD_BCC = 16 };

/* ---- Recipients ---- */

int submit_recipient_add(struct submit *submit, struct slice mailbox)
{
    bool whole = memchr(mailbox.bytes, '@', mailbox.size) != NULL;
    size_t room = mailbox.size + strlen(submit->hostname) + 2;
    if (submit->recipient_count == submit->recipient_room) {
        uint32_t more = submit->recipient_room * 2 + 8;
        struct smtp_client_recipient *grown = realloc(submit->recipients, more * sizeof(*grown));
        if (grown == NULL) {
            return -ENOMEM;
        }
        submit->recipients = grown;
        submit->recipient_room = more;
    }
    char *text = malloc(room);
    if (text == NULL) {
        return -ENOMEM;
    }
    int size = snprintf(text, room, "%.*s%s%s", (int)mailbox.size, (const char *)mailbox.bytes,
                        whole ? "" : "@", whole ? "" : submit->hostname);
    submit->recipients[submit->recipient_count++] = (struct smtp_client_recipient){
        .forward_path = slice_of(text, (size_t)size), .notify = submit->notify};
    return mailbox.size > 0 ? 0 : -EINVAL;
}

void submit_free(struct submit *submit)
{
    for (uint32_t i = 0; i < submit->recipient_count; i++) {
        free((void *)(uintptr_t)submit->recipients[i].forward_path.bytes);
    }
    free(submit->recipients);
    free(submit->body);
    free(submit->sender);
}

/* ---- Wire form ---- */

static int put(struct submit *submit, const char *text, size_t size)
{
    if (submit->body_bytes + size > submit->body_room) {
        size_t room = (submit->body_bytes + size) * 2;
        char *grown = realloc(submit->body, room);
        if (grown == NULL) {
            return -ENOMEM;
        }
        submit->body = grown;
        submit->body_room = room;
    }
    memcpy(submit->body + submit->body_bytes, text, size);
    submit->body_bytes += size;
    return 0;
}

/* A line without its end; what stands alone in it of CR becomes nothing, since no line of SMTP can hold it. The dot that
 * then comes first is stuffed: else "\r." would end the message, and what follows be commands. */
static int put_line(struct submit *submit, const char *line, size_t size)
{
    size_t first = 0;
    while (first < size && line[first] == '\r') {
        first++;
    }
    int status = first < size && line[first] == '.' ? put(submit, ".", 1) : 0;
    for (size_t i = first; i < size && status == 0;) {
        size_t run = 0;
        while (i + run < size && line[i + run] != '\r') {
            submit->eight_bit = submit->eight_bit || (line[i + run] & 0x80) != 0;
            run++;
        }
        status = put(submit, line + i, run);
        i += run + 1;
    }
    return status == 0 ? put(submit, "\r\n", 2) : status;
}

/* ---- The header ---- */

static unsigned field_of(const char *line, size_t size)
{
    static const struct {
        const char *name;
        unsigned field;
    } fields[] = {{"From", FIELD_FROM}, {"Date", FIELD_DATE}, {"Message-ID", FIELD_MESSAGE_ID},
                  {"To", FIELD_TO},     {"Cc", FIELD_TO},     {"Bcc", FIELD_TO | FIELD_BCC}};
    const char *colon = memchr(line, ':', size);
    size_t name_bytes = colon != NULL ? (size_t)(colon - line) : 0;
    while (name_bytes > 0 && (line[name_bytes - 1] == ' ' || line[name_bytes - 1] == '\t')) {
        name_bytes--;
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (slice_equal_nocase(slice_of(line, name_bytes), slice_text(fields[i].name))) {
            return fields[i].field;
        }
    }
    return 0;
}

/* RFC 5322 §3.6.8: printable without ':', then ':'. */
static bool is_field(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (line[i] == ':') {
            return i > 0;
        }
        if (line[i] <= ' ' || line[i] > '~') {
            return (line[i] == ' ' || line[i] == '\t') && i > 0 && field_of(line, size) != 0;
        }
    }
    return false;
}

static int field_recipients(struct submit *submit, struct slice field)
{
    const uint8_t *colon = memchr(field.bytes, ':', field.size);
    struct slice list = slice_from(field, (size_t)(colon - field.bytes) + 1);
    char mailbox[512];
    size_t size;
    int status;
    while ((status = address_list_next(&list, mailbox, sizeof(mailbox), &size)) == 1) {
        status = submit_recipient_add(submit, slice_of(mailbox, size));
        if (status < 0) {
            return status;
        }
    }
    return status;
}

struct header {
    struct submit *submit;
    bool names_recipients;
    bool begun;    /* there was a field, be it one that is left out */
    unsigned seen; /* enum field */
    unsigned now;  /* the field that is being read */
    char *text;    /* of it, folded */
    size_t size, room;
};

/* What the field was is known when the next one begins. */
static int field_end(struct header *header)
{
    int status = 0;
    if ((header->now & FIELD_TO) != 0 && header->names_recipients) {
        status = field_recipients(header->submit, slice_of(header->text, header->size));
    }
    header->seen |= header->now;
    header->now = 0;
    header->size = 0;
    return status;
}

static int field_line(struct header *header, const char *line, size_t size)
{
    bool folded = line[0] == ' ' || line[0] == '\t';
    int status = folded ? 0 : field_end(header);
    if (!folded) {
        header->now = field_of(line, size);
        header->begun = true;
    }
    if (status == 0 && (header->now & FIELD_TO) != 0) {
        if (header->size + size > header->room) {
            header->room = (header->size + size) * 2;
            char *grown = realloc(header->text, header->room);
            if (grown == NULL) {
                return -ENOMEM;
            }
            header->text = grown;
        }
        memcpy(header->text + header->size, line, size);
        header->size += size;
    }
    bool left_out = (header->now & FIELD_BCC) != 0;
    return status == 0 && !left_out ? put_line(header->submit, line, size) : status;
}

#define NAME_BYTES_MAX 300

/* RFC 5322 §3.2.5: a phrase, quoted where its characters mean something. Whoever calls sendmail may have it from a
 * stranger: nothing of it ends the line. */
static void phrase_make(const char *name, char phrase[2 * NAME_BYTES_MAX + 3])
{
    bool quoted = strpbrk(name, "()<>[]:;@\\,.\"") != NULL;
    char *to = phrase;
    if (quoted) {
        *to++ = '"';
    }
    for (size_t i = 0; name[i] != '\0' && i < NAME_BYTES_MAX; i++) {
        bool control = (unsigned char)name[i] < ' ' || name[i] == 0x7f;
        if (name[i] == '"' || name[i] == '\\') {
            *to++ = '\\';
        }
        *to++ = control ? ' ' : name[i];
    }
    if (quoted) {
        *to++ = '"';
    }
    *to = '\0';
}

static int add_field(struct submit *submit, unsigned field)
{
    char line[1200], date[MESSAGE_DATE_TEXT], phrase[2 * NAME_BYTES_MAX + 3];
    uint64_t random = 0;
    int size = 0;
    switch (field) {
    case FIELD_FROM:
        phrase_make(submit->full_name != NULL ? submit->full_name : "", phrase);
        size = submit->sender[0] == '\0'
                   ? snprintf(line, sizeof(line), "From: Mail Delivery System <MAILER-DAEMON@%s>",
                              submit->hostname)
               : phrase[0] != '\0'
                   ? snprintf(line, sizeof(line), "From: %s <%.500s>", phrase, submit->sender)
                   : snprintf(line, sizeof(line), "From: %.500s", submit->sender);
        break;
    case FIELD_DATE:
        message_date_format(time(NULL), date);
        size = snprintf(line, sizeof(line), "Date: %s", date);
        break;
    default:
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
            return -errno;
        }
        size =
            snprintf(line, sizeof(line), "Message-ID: <%llx.%016llx@%s>",
                     (unsigned long long)time(NULL), (unsigned long long)random, submit->hostname);
        break;
    }
    return put_line(submit, line, (size_t)size);
}

static int header_end(struct header *header)
{
    static const unsigned needed[] = {FIELD_FROM, FIELD_DATE, FIELD_MESSAGE_ID};
    int status = field_end(header);
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]) && status == 0; i++) {
        status = (header->seen & needed[i]) == 0 ? add_field(header->submit, needed[i]) : 0;
    }
    return status == 0 ? put_line(header->submit, "", 0) : status;
}

/* ---- All of it ---- */

/* The header is over with an empty line, or with one that is no field, which belongs to the body then. */
static int line_take(struct header *header, bool *in_body, const char *line, size_t size)
{
    bool folded = size > 0 && (line[0] == ' ' || line[0] == '\t') && header->begun;
    if (!*in_body && size > 0 && (folded || is_field(line, size))) {
        return field_line(header, line, size);
    }
    int status = 0;
    if (!*in_body) {
        *in_body = true;
        status = header_end(header);
        if (size == 0) {
            return status;
        }
    }
    return status == 0 ? put_line(header->submit, line, size) : status;
}

int submit_read(struct submit *submit, FILE *in, bool dot_ends, bool names_recipients)
{
    struct header header = {.submit = submit, .names_recipients = names_recipients};
    bool in_body = false;
    char *line = NULL;
    size_t room = 0;
    int status = 0;
    for (ssize_t size; status == 0 && (size = getline(&line, &room, in)) >= 0;) {
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r')) {
            size--;
        }
        if (dot_ends && size == 1 && line[0] == '.') {
            break;
        }
        bool mbox = !header.begun && !in_body && size > 5 && memcmp(line, "From ", 5) == 0;
        status = mbox ? 0 : line_take(&header, &in_body, line, (size_t)size);
        if (submit->body_bytes > SUBMIT_BYTES_MAX) {
            status = -EFBIG;
        }
    }
    if (status == 0 && !in_body) {
        status = header_end(&header);
    }
    free(line);
    free(header.text);
    if (status == -EINVAL || status == -E2BIG) {
        return tool_fail(EX_DATAERR, "an address in To:, Cc: or Bcc: cannot be read");
    }
    if (status < 0 || ferror(in)) {
        return tool_fail(EX_OSERR, "the message cannot be read: %s",
                         strerror(status < 0 ? -status : EIO));
    }
    return EX_OK;
}
