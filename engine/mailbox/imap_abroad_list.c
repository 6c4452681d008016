/*
 * The mailboxes of other shards that a user may look up, for LIST.
 *
 * Each shard on which anything is shared is asked by an agent, one after the other: LIST of all that is below the shared root, with
 * what the client wants to be returned. Their names join the others; the responses behind each are kept as they came, and told
 * with it.
 */
#include "engine/mailbox/imap_session.h"
#include "proto/imap/response.h"
#include <stdlib.h>

#define TOLD_BYTES_MAX (64u << 20)
#define RESPONSE_BYTES_MAX (8u << 20)
#define COMMAND_BYTES_MAX (64u * 1024)
#define NAMES_BYTES_MAX (64u << 20)

struct imap_finding {
    const struct imap_list *list;
    unsigned shard; /* that is asked */
    struct imap_agent *agent;
    struct imap_found *all; /* of the heap */
    size_t count, room;
    struct arena names;
    struct imap_writer told;
    struct imap_writer response; /* that has come so far */
};

static bool is_shared_on(const struct imap_session *session, unsigned shard)
{
    const struct mailbox *mailbox = session->session.mailbox;
    return shard != mailbox_index(mailbox) && mailbox->group->shares[shard];
}

/* From there on. */
static unsigned shard_next(const struct imap_session *session, unsigned shard)
{
    unsigned count = session->session.mailbox->group->count;
    while (shard < count && !is_shared_on(session, shard)) {
        shard++;
    }
    return shard;
}

int imap_finding_open(struct imap_session *session, const struct imap_list *list,
                      struct imap_finding **result)
{
    unsigned shard = shard_next(session, 0);
    *result = NULL;
    if (session->session.of_service || shard >= session->session.mailbox->group->count ||
        !imap_shared_may_match(session, &list->patterns)) {
        return 0;
    }
    struct imap_finding *finding = (struct imap_finding *)calloc(1, sizeof(*finding));
    if (finding == NULL) {
        return -ENOMEM;
    }
    finding->list = list;
    finding->shard = shard;
    arena_open(&finding->names, NAMES_BYTES_MAX);
    imap_writer_open(&finding->told, TOLD_BYTES_MAX);
    imap_writer_open(&finding->response, RESPONSE_BYTES_MAX);
    *result = finding;
    return 0;
}

void imap_finding_close(struct imap_finding *finding)
{
    if (finding != NULL) {
        imap_agent_end(finding->agent);
        free(finding->all);
        arena_close(&finding->names);
        imap_writer_close(&finding->told);
        imap_writer_close(&finding->response);
        free(finding);
    }
}

const struct imap_found *imap_finding_next(const struct imap_finding *finding,
                                           const struct imap_found *found)
{
    size_t index = found == NULL ? 0 : (size_t)(found - finding->all) + 1;
    return index < finding->count ? &finding->all[index] : NULL;
}

struct slice imap_finding_told(const struct imap_finding *finding, const struct imap_found *found)
{
    struct slice told = imap_writer_bytes(&finding->told);
    return slice_first(slice_from(told, found->told_from), found->told_bytes);
}

/* ---- What is asked ---- */

static void status_items_write(struct imap_writer *writer, uint32_t items)
{
    const char *blank = "";
    imap_write(writer, "STATUS (");
    for (uint32_t bit = 0; bit < 32; bit++) {
        const char *word = items & 1u << bit ? imap_status_word(1u << bit) : NULL;
        if (word != NULL) {
            imap_write(writer, blank);
            imap_write(writer, word);
            blank = " ";
        }
    }
    imap_write(writer, ") ");
}

static void metadata_write(struct imap_writer *writer, const struct imap_text_list *entries)
{
    imap_write(writer, "METADATA (");
    for (uint32_t i = 0; i < entries->count; i++) {
        imap_write(writer, i > 0 ? " " : "");
        imap_write_astring(writer, entries->items[i]);
    }
    imap_write(writer, ") ");
}

/* False: memory is short. */
static bool ask(struct imap_session *session, struct imap_finding *finding)
{
    const struct imap_list *list = finding->list;
    struct slice root = imap_shared_root(session);
    char pattern[512];
    struct imap_writer writer;
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    snprintf(pattern, sizeof(pattern), "%.*s/*", (int)root.size, (const char *)root.bytes);
    imap_write(&writer, "~l LIST \"\" ");
    imap_name_write(session, &writer, slice_text(pattern));
    imap_write(&writer, " RETURN (");
    if (list->returns & IMAP_RETURN_STATUS) {
        status_items_write(&writer, list->status_items);
    }
    if (list->returns & IMAP_RETURN_METADATA) {
        metadata_write(&writer, &list->metadata);
    }
    imap_write(&writer,
               list->returns & IMAP_RETURN_MYRIGHTS ? "MYRIGHTS CHILDREN)\r\n" : "CHILDREN)\r\n");
    finding->agent = writer.failed ? NULL : imap_agent_new(session, finding->shard);
    if (finding->agent != NULL) {
        imap_agent_say_command(finding->agent, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return finding->agent != NULL;
}

/* ---- What is answered ---- */

static bool found_keep(struct imap_finding *finding, struct slice name)
{
    if (finding->count == finding->room) {
        size_t room = finding->room * 2 + 32;
        struct imap_found *grown =
            (struct imap_found *)realloc(finding->all, room * sizeof(grown[0]));
        if (grown == NULL) {
            return false;
        }
        finding->all = grown;
        finding->room = room;
    }
    finding->all[finding->count++] =
        (struct imap_found){.name = name, .told_from = imap_writer_bytes(&finding->told).size};
    return true;
}

static bool is_parent_alone(struct slice attributes)
{
    while (attributes.size > 0) {
        struct imap_token token = imap_response_next(&attributes);
        if (token.kind == IMAP_TOKEN_END || token.kind == IMAP_TOKEN_BAD) {
            break;
        }
        if (slice_equal_nocase(token.bytes, slice_text("\\NonExistent")) ||
            slice_equal_nocase(token.bytes, slice_text("\\Noselect"))) {
            return true;
        }
    }
    return false;
}

/* Of "* LIST (attributes) "/" name". False: memory is short. */
static bool name_take(const struct imap_session *session, struct imap_finding *finding,
                      struct slice rest)
{
    struct slice attributes = slice_of(NULL, 0), name, text;
    bool good = imap_response_value(&rest, &attributes);
    imap_response_next(&rest); /* the separator */
    rest = slice_from(rest, 1);
    if (!good || rest.size < 2 || is_parent_alone(attributes)) {
        return true;
    }
    /* An atom here may have brackets, and a string blanks. */
    struct imap_token token = {.kind = IMAP_TOKEN_ATOM, .bytes = slice_first(rest, rest.size - 2)};
    if (rest.bytes[0] == '"' || rest.bytes[0] == '{') {
        token = imap_response_next(&rest);
    }
    char *copy = (char *)malloc(token.bytes.size + 1);
    if (copy == NULL) {
        return false;
    }
    text = slice_of(copy, imap_token_copy(&token, copy));
    enum imap_name_fault fault =
        imap_name_read(&finding->names, text, imap_session_utf8(session), &name);
    good = fault == IMAP_NAME_GOOD && arena_copy(&finding->names, name, &name);
    free(copy);
    return good ? found_keep(finding, name) : fault != IMAP_NAME_MEMORY;
}

/* A whole response. False: memory is short. */
static bool response_take(const struct imap_session *session, struct imap_finding *finding)
{
    struct slice response = imap_writer_bytes(&finding->response);
    struct slice begins = slice_text("* LIST ");
    bool good = !finding->response.failed;
    if (good && slice_equal(slice_first(response, begins.size), begins)) {
        good = name_take(session, finding, slice_from(response, begins.size));
    } else if (good && finding->count > 0) {
        imap_write_bytes(&finding->told, response);
        finding->all[finding->count - 1].told_bytes += response.size;
        good = !finding->told.failed;
    }
    imap_writer_reset(&finding->response);
    return good;
}

static void shard_end(struct imap_session *session, struct imap_finding *finding, bool good)
{
    if (!good) {
        imap_session_write(session,
                           "* NO [UNAVAILABLE] Some that others share cannot be listed now\r\n");
    }
    imap_writer_reset(&finding->response);
    imap_agent_end(finding->agent);
    finding->agent = NULL;
    finding->shard = shard_next(session, finding->shard + 1);
}

int imap_finding_step(struct imap_session *session, struct imap_finding *finding)
{
    unsigned count = session->session.mailbox->group->count;
    while (finding->shard < count) {
        struct slice bytes;
        if (finding->agent == NULL && !ask(session, finding)) {
            return -ENOMEM;
        }
        switch (imap_agent_hear(finding->agent, &bytes)) {
        case IMAP_HEARD_NOTHING:
            return 1;
        case IMAP_HEARD_PART:
            imap_write_bytes(&finding->response, bytes);
            if (imap_agent_is_between(finding->agent) && !response_take(session, finding)) {
                return -ENOMEM;
            }
            break;
        case IMAP_HEARD_CONTINUE:
            break;
        case IMAP_HEARD_ANSWER:
            shard_end(session, finding, imap_agent_answer(bytes).result == IMAP_OK);
            break;
        case IMAP_HEARD_BYE:
        case IMAP_HEARD_END:
            shard_end(session, finding, false);
            break;
        }
    }
    return 0;
}
