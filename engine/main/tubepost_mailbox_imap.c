/* The tool as an IMAP client of the mailbox service: a session of a user's that the control socket gives (RFC 9051). */
#include "engine/control/words.h"
#include "engine/main/tubepost_mailbox.h"
#include "proto/imap/response.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_S 3600 /* a search of all texts says nothing while it goes on */
#define TAG "t"
#define LINE_BYTES 4096

static int lost(const struct mailbox_peer *peer)
{
    return ferror(peer->tool->from) != 0 && errno != EAGAIN
               ? tool_fail(EX_UNAVAILABLE, "tubepost-mailboxd: %s", strerror(errno))
               : tool_fail(EX_UNAVAILABLE, "tubepost-mailboxd closed the connection or is silent");
}

/* ---- Responses ---- */

static bool room_make(struct mailbox_peer *peer, size_t room)
{
    if (peer->room >= room) {
        return true;
    }
    room = room < 2 * peer->room ? 2 * peer->room : room;
    char *larger = (char *)realloc(peer->response, room);
    if (larger == NULL) {
        return false;
    }
    peer->response = larger;
    peer->room = room;
    return true;
}

/* A line with its literals. Returns its size; 0: the problem is printed. */
static size_t response_read(struct mailbox_peer *peer, int *code)
{
    size_t size = 0;
    for (;;) {
        size_t line = size;
        do {
            if (!room_make(peer, size + LINE_BYTES)) {
                *code = tool_fail(EX_OSERR, "out of memory");
                return 0;
            }
            if (fgets(peer->response + size, LINE_BYTES, peer->tool->from) == NULL) {
                *code = lost(peer);
                return 0;
            }
            /* Bytes of zero are in literals only. */
            size += strlen(peer->response + size);
        } while (size == 0 || peer->response[size - 1] != '\n');
        uint64_t literal = 0;
        if (!imap_response_literal(slice_of(peer->response + line, size - line), &literal)) {
            return size;
        }
        if (literal > SIZE_MAX / 4 || !room_make(peer, size + literal + 1)) {
            *code = tool_fail(EX_OSERR, "out of memory");
            return 0;
        }
        if (fread(peer->response + size, 1, literal, peer->tool->from) != literal) {
            *code = lost(peer);
            return 0;
        }
        size += literal;
    }
}

static bool begins(struct slice *text, const char *beginning)
{
    size_t size = strlen(beginning);
    bool does = text->size >= size && memcmp(text->bytes, beginning, size) == 0;
    *text = does ? slice_from(*text, size) : *text;
    return does;
}

static struct slice without_line_end(struct slice text)
{
    while (text.size > 0 &&
           (text.bytes[text.size - 1] == '\n' || text.bytes[text.size - 1] == '\r')) {
        text.size--;
    }
    return text;
}

/* ---- Asking ---- */

int peer_open(struct mailbox_peer *peer, struct tool *tool, const char *user, bool create)
{
    char request[REQUEST_MAX] = "mailbox imap";
    size_t used = strlen(request);
    *peer = (struct mailbox_peer){.tool = tool};
    tool->patience_s = PATIENCE_S;
    if (control_word_append(request, sizeof request, &used, "user", slice_text(user)) < 0) {
        return tool_fail(EX_USAGE, "the user's name is too long");
    }
    int code = tool_reach(tool);
    if (code != EX_OK) {
        return code;
    }
    fprintf(tool->to, "%s%s\n", request, create ? " create=yes" : "");
    fflush(tool->to);
    size_t size = response_read(peer, &code);
    struct slice said = slice_of(peer->response, size);
    if (size == 0) {
        return code;
    }
    if (!begins(&said, "* PREAUTH ")) {
        json_t *json = json_loadb(peer->response, size, 0, NULL);
        code = json != NULL ? tool_refusal(tool, json)
                            : tool_fail(EX_TEMPFAIL, "%.*s", (int)without_line_end(said).size,
                                        (const char *)said.bytes);
        json_decref(json);
        return code;
    }
    peer_begin(peer, "ENABLE IMAP4rev2"); /* names are UTF-8 then */
    return peer_end(peer, NULL, NULL);
}

void peer_close(struct mailbox_peer *peer)
{
    free(peer->response);
    peer->response = NULL;
}

void peer_begin(struct mailbox_peer *peer, const char *text)
{
    fprintf(peer->tool->to, TAG "%u %s", ++peer->tag, text);
}

void peer_text(struct mailbox_peer *peer, const char *text)
{
    fputs(text, peer->tool->to);
}

/* A NUL is in literals of RFC 3516 only. */
void peer_string(struct mailbox_peer *peer, struct slice bytes)
{
    bool binary = bytes.size > 0 && memchr(bytes.bytes, '\0', bytes.size) != NULL;
    fprintf(peer->tool->to, " %s{%zu+}\r\n", binary ? "~" : "", bytes.size);
    fwrite(bytes.bytes, 1, bytes.size, peer->tool->to);
}

/* "NO [CODE] text", told without the code. */
static int refused(struct slice answer)
{
    bool bad = begins(&answer, "BAD ");
    bool busy = !bad && begins(&answer, "NO [UNAVAILABLE] ");
    if (!bad && !busy) {
        begins(&answer, "NO ");
        const uint8_t *end = answer.size > 0 && answer.bytes[0] == '['
                                 ? memchr(answer.bytes, ']', answer.size)
                                 : NULL;
        if (end != NULL && end + 1 < answer.bytes + answer.size) {
            answer = slice_from(answer, (size_t)(end - answer.bytes) + 2);
        }
    }
    return tool_fail(bad    ? EX_USAGE
                     : busy ? EX_TEMPFAIL
                            : EX_DATAERR,
                     "%.*s", (int)answer.size, (const char *)answer.bytes);
}

int peer_end(struct mailbox_peer *peer, peer_heard *heard, void *owner)
{
    char tag[24];
    int code = EX_OK;
    snprintf(tag, sizeof tag, TAG "%u ", peer->tag);
    fputs("\r\n", peer->tool->to);
    if (fflush(peer->tool->to) != 0) {
        return lost(peer);
    }
    for (;;) {
        size_t size = response_read(peer, &code);
        if (size == 0) {
            return code;
        }
        struct slice said = slice_of(peer->response, size);
        if (begins(&said, tag)) {
            said = without_line_end(said);
            return begins(&said, "OK") ? EX_OK : refused(said);
        }
        if (begins(&said, "* BYE ")) {
            said = without_line_end(said);
            return tool_fail(EX_TEMPFAIL, "tubepost-mailboxd: %.*s", (int)said.size,
                             (const char *)said.bytes);
        }
        if (begins(&said, "* ") && heard != NULL) {
            heard(owner, said);
        }
    }
}

/* ---- SELECT ---- */

static void box_hear(void *owner, struct slice said)
{
    struct peer_box *box = (struct peer_box *)owner;
    struct slice number = said;
    if (begins(&said, "OK [UIDVALIDITY ")) {
        box->uidvalidity = (uint32_t)strtoul((const char *)said.bytes, NULL, 10);
    } else if (begins(&said, "OK [MAILBOXID (")) {
        const uint8_t *end = memchr(said.bytes, ')', said.size);
        size_t size = end != NULL ? (size_t)(end - said.bytes) : 0;
        if (size < sizeof box->id) {
            memcpy(box->id, said.bytes, size);
            box->id[size] = '\0';
        }
    } else if (number.size > 9 && memcmp(number.bytes + number.size - 9, " EXISTS\r\n", 9) == 0) {
        box->exists = (uint32_t)strtoul((const char *)number.bytes, NULL, 10);
    }
}

int peer_select(struct mailbox_peer *peer, const char *command, const char *mailbox,
                struct peer_box *box)
{
    *box = (struct peer_box){.exists = 0};
    peer_begin(peer, command);
    peer_string(peer, slice_text(mailbox));
    return peer_end(peer, box_hear, box);
}

/* ---- LIST ---- */

void name_list_add(struct name_list *list, const char *name, size_t size)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strlen(list->names[i]) == size && memcmp(list->names[i], name, size) == 0) {
            return;
        }
    }
    char **larger = (char **)realloc(list->names, (list->count + 1) * sizeof(larger[0]));
    list->names = larger != NULL ? larger : list->names;
    char *copy = larger != NULL ? (char *)malloc(size + 1) : NULL;
    if (copy == NULL) {
        list->failed = true;
        return;
    }
    memcpy(copy, name, size);
    copy[size] = '\0';
    list->names[list->count++] = copy;
}

void name_list_free(struct name_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->names[i]);
    }
    free(list->names);
    *list = (struct name_list){.names = NULL};
}

/* LIST (\HasNoChildren) "/" name */
static void name_hear(void *owner, struct slice said)
{
    struct name_list *list = (struct name_list *)owner;
    struct slice attributes, delimiter;
    if (!begins(&said, "LIST ") || !imap_response_value(&said, &attributes) ||
        !imap_response_value(&said, &delimiter)) {
        return;
    }
    struct imap_token name = imap_response_next(&said);
    char *text = (char *)malloc(name.bytes.size + 1);
    if (text == NULL) {
        list->failed = true;
        return;
    }
    size_t size = imap_token_copy(&name, text);
    bool is_none = memmem(attributes.bytes, attributes.size, "\\NonExistent", 12) != NULL ||
                   memmem(attributes.bytes, attributes.size, "\\Noselect", 9) != NULL;
    if (!is_none && (name.kind == IMAP_TOKEN_ATOM || name.kind == IMAP_TOKEN_TEXT)) {
        name_list_add(list, text, size);
    }
    free(text);
}

int peer_list(struct mailbox_peer *peer, const char *mask, bool subscribed, struct name_list *list)
{
    peer_begin(peer, subscribed ? "LIST (SUBSCRIBED) \"\"" : "LIST \"\"");
    peer_string(peer, slice_text(mask));
    int code = peer_end(peer, name_hear, list);
    return code == EX_OK && list->failed ? tool_fail(EX_OSERR, "out of memory") : code;
}

/* ---- Sets of uids ---- */

uint64_t uid_set_count(const struct uid_set *set)
{
    uint64_t count = 0;
    for (size_t i = 0; i < set->count; i++) {
        count += (uint64_t)set->ranges[i].last - set->ranges[i].first + 1;
    }
    return count;
}

bool uid_set_text(const struct uid_set *set, size_t *at, char text[UID_SET_TEXT_BYTES])
{
    size_t used = 0;
    while (*at < set->count && used + 32 < UID_SET_TEXT_BYTES) {
        const struct uid_range *range = &set->ranges[(*at)++];
        used += (size_t)snprintf(text + used, UID_SET_TEXT_BYTES - used, "%s%u",
                                 used > 0 ? "," : "", range->first);
        if (range->last != range->first) {
            used += (size_t)snprintf(text + used, UID_SET_TEXT_BYTES - used, ":%u", range->last);
        }
    }
    return used > 0;
}
