/* tubepost mailbox fetch: fields of messages, as `doveadm fetch` has them. */
#include "engine/core/check.h"
#include "engine/main/tubepost_mailbox.h"
#include "proto/imap/response.h"
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 32
#define ITEM_BYTES 192

struct field {
    char name[ITEM_BYTES];
    char item[ITEM_BYTES];     /* what FETCH is asked for; "": nothing */
    char response[ITEM_BYTES]; /* what it is called in the answer */
    char *value;               /* of this message, owned; NULL: not told */
    size_t size;
};

struct fetching {
    struct tool *tool;
    const struct mailbox_options *options;
    struct field fields[FIELDS_MAX];
    size_t field_count;
    struct mailbox_hits *hits;
    bool failed; /* memory was short */
};

static const struct {
    const char *name, *item, *response;
} plain[] = {
    {"user", "", ""},
    {"mailbox", "", ""},
    {"mailbox-guid", "", ""},
    {"seq", "", ""},
    {"uid", "UID", "UID"},
    {"guid", "EMAILID", "EMAILID"},
    {"flags", "FLAGS", "FLAGS"},
    {"modseq", "MODSEQ", "MODSEQ"},
    {"size.virtual", "RFC822.SIZE", "RFC822.SIZE"},
    {"date.received", "INTERNALDATE", "INTERNALDATE"},
    {"date.saved", "SAVEDATE", "SAVEDATE"},
    {"hdr", "BODY.PEEK[HEADER]", "BODY[HEADER]"},
    {"body", "BODY.PEEK[TEXT]", "BODY[TEXT]"},
    {"text", "BODY.PEEK[]", "BODY[]"},
    {"imap.envelope", "ENVELOPE", "ENVELOPE"},
    {"imap.body", "BODY", "BODY"},
    {"imap.bodystructure", "BODYSTRUCTURE", "BODYSTRUCTURE"},
};

/* A header field's name, or a section's number: nothing that could end the item. */
static bool is_plain(const char *text)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return text[0] != '\0' && strlen(text) < 100 && strspn(text, fine) == strlen(text);
}

static bool field_read(struct field *field, const char *name)
{
    if (strlen(name) >= sizeof field->name) {
        return false;
    }
    strcpy(field->name, name);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (strcmp(name, plain[i].name) == 0) {
            strcpy(field->item, plain[i].item);
            strcpy(field->response, plain[i].response);
            return true;
        }
    }
    char section[ITEM_BYTES - 16];
    if (strncmp(name, "hdr.", 4) == 0 && is_plain(name + 4)) {
        snprintf(section, sizeof section, "[HEADER.FIELDS (%s)]", name + 4);
    } else if (strncmp(name, "body.", 5) == 0 && is_plain(name + 5)) {
        snprintf(section, sizeof section, "[%s]", name + 5);
    } else {
        return false;
    }
    snprintf(field->item, sizeof field->item, "BODY.PEEK%s", section);
    snprintf(field->response, sizeof field->response, "BODY%s", section);
    return true;
}

static int fields_read(struct fetching *fetching, const char *words)
{
    char *copy = strdup(words), *rest = copy;
    int code = copy != NULL ? EX_OK : tool_fail(EX_OSERR, "out of memory");
    for (char *word; code == EX_OK && (word = strsep(&rest, " ")) != NULL;) {
        if (word[0] == '\0') {
            continue;
        }
        if (fetching->field_count == FIELDS_MAX ||
            !field_read(&fetching->fields[fetching->field_count++], word)) {
            code = tool_fail(EX_USAGE, "fetch: '%s' is no field: see tubepost mailbox help", word);
        }
    }
    free(copy);
    return code == EX_OK && fetching->field_count == 0 ? tool_fail(EX_USAGE, "fetch: no field")
                                                       : code;
}

/* ---- A message ---- */

static void value_set(struct fetching *fetching, struct field *field, const char *bytes,
                      size_t size)
{
    free(field->value);
    field->value = (char *)malloc(size + 1);
    fetching->failed = fetching->failed || field->value == NULL;
    if (field->value != NULL) {
        memcpy(field->value, bytes, size);
        field->value[size] = '\0';
        field->size = size;
    }
}

/* Texts as they are, of lists what is in them. */
static void value_take(struct fetching *fetching, struct field *field, struct slice value)
{
    struct slice rest = value;
    struct imap_token token = imap_response_next(&rest);
    if (token.kind == IMAP_TOKEN_TEXT) {
        char *text = (char *)malloc(token.bytes.size + 1);
        size_t size = text != NULL ? imap_token_copy(&token, text) : 0;
        fetching->failed = fetching->failed || text == NULL;
        value_set(fetching, field, text != NULL ? text : "", size);
        free(text);
    } else if (token.kind == IMAP_TOKEN_OPEN) {
        value_set(fetching, field, (const char *)value.bytes + 1, value.size - 2);
    } else if (!slice_equal(value, slice_text("NIL"))) {
        value_set(fetching, field, (const char *)value.bytes, value.size);
    }
}

static void told_take(struct fetching *fetching, struct slice name, struct slice value)
{
    for (size_t i = 0; i < fetching->field_count; i++) {
        struct field *field = &fetching->fields[i];
        if (field->response[0] != '\0' && slice_equal_nocase(name, slice_text(field->response))) {
            value_take(fetching, field, value);
        }
    }
}

/* What is known without asking. */
static void known_take(struct fetching *fetching, struct slice number)
{
    const struct mailbox_hits *hits = fetching->hits;
    check(hits != NULL);
    for (size_t i = 0; i < fetching->field_count; i++) {
        struct field *field = &fetching->fields[i];
        const char *known = strcmp(field->name, "user") == 0           ? fetching->options->user
                            : strcmp(field->name, "mailbox") == 0      ? hits->mailbox
                            : strcmp(field->name, "mailbox-guid") == 0 ? hits->box.id
                                                                       : NULL;
        if (known != NULL) {
            value_set(fetching, field, known, strlen(known));
        } else if (strcmp(field->name, "seq") == 0) {
            value_set(fetching, field, (const char *)number.bytes, number.size);
        }
    }
}

static bool said_any; /* a message was printed, of this user or another */

static void message_print(struct fetching *fetching)
{
    json_t *json = fetching->tool->as_json ? json_object() : NULL;
    if (json == NULL && said_any) {
        puts("\f");
    }
    if (json == NULL && fetching->options->several) {
        printf("username: %s\n", fetching->options->user);
    }
    for (size_t i = 0; i < fetching->field_count; i++) {
        struct field *field = &fetching->fields[i];
        struct slice value = slice_of(field->value != NULL ? field->value : "",
                                      field->value != NULL ? field->size : 0);
        bool is_long = strncmp(field->response, "BODY[", 5) == 0;
        if (json != NULL) {
            json_object_set_new(json, field->name, mailbox_json(value));
        } else {
            printf("%s:%s", field->name, is_long ? "\n" : " ");
            fwrite(value.bytes, 1, value.size, stdout);
            if (!is_long || value.size == 0 || value.bytes[value.size - 1] != '\n') {
                putchar('\n');
            }
        }
        free(field->value);
        field->value = NULL;
    }
    if (json != NULL) {
        user_print_json(fetching->options, json);
    }
    said_any = true;
}

/* 3 FETCH (UID 7 BODY[] {5} ...) */
static void message_hear(void *owner, struct slice said)
{
    struct fetching *fetching = (struct fetching *)owner;
    struct slice number, name, value;
    if (!imap_response_value(&said, &number) || !imap_response_value(&said, &name) ||
        !slice_equal(name, slice_text("FETCH")) ||
        imap_response_next(&said).kind != IMAP_TOKEN_OPEN) {
        return;
    }
    known_take(fetching, number);
    while (imap_response_value(&said, &name) && imap_response_value(&said, &value)) {
        told_take(fetching, name, value);
    }
    message_print(fetching);
}

static int found_fetch(void *owner, struct mailbox_hits *hits)
{
    struct fetching *fetching = (struct fetching *)owner;
    char text[UID_SET_TEXT_BYTES];
    int code = EX_OK;
    fetching->hits = hits;
    for (size_t at = 0; code == EX_OK && uid_set_text(&hits->uids, &at, text);) {
        peer_begin(hits->peer, "UID FETCH ");
        peer_text(hits->peer, text);
        peer_text(hits->peer, " (UID");
        for (size_t i = 0; i < fetching->field_count; i++) {
            if (fetching->fields[i].item[0] != '\0') {
                peer_text(hits->peer, " ");
                peer_text(hits->peer, fetching->fields[i].item);
            }
        }
        peer_text(hits->peer, ")");
        code = peer_end(hits->peer, message_hear, fetching);
    }
    return code == EX_OK && fetching->failed ? tool_fail(EX_OSERR, "out of memory") : code;
}

int mailbox_fetch(struct tool *tool, const struct mailbox_options *options)
{
    static struct fetching fetching;
    struct mailbox_query query;
    struct mailbox_peer peer;
    fetching = (struct fetching){.tool = tool, .options = options};
    int code = fields_read(&fetching, options->words[0]);
    if (code != EX_OK) {
        return code;
    }
    code = query_read(&query, options->words + 1, options->count - 1);
    if (code == EX_OK) {
        code = peer_open(&peer, tool, options->user, false);
        if (code == EX_OK) {
            code = query_each(&peer, &query, "EXAMINE", found_fetch, &fetching);
        }
        peer_close(&peer);
    }
    query_free(&query);
    return code;
}
