/*
 * CATENATE where the message that a URL names and the mailbox that is appended to are not both of this shard: an agent
 * fetches what is named, and it goes into the draft here, or to the agent that appends.
 *
 *   EXAMINE ─► FETCH ─► the part ─► taken
 */
#include "engine/mailbox/imap_abroad.h"
#include "engine/mailbox/imap_fetch.h"
#include "proto/imap/response.h"
#include "proto/imap/url.h"
#include <stdlib.h>

#define ARENA_BYTES_MAX (256u * 1024)
#define COMMAND_BYTES_MAX (IMAP_COMMAND_BYTES_MAX - 256u)
#define HEAD_BYTES_MAX (256u * 1024)
#define COPIES_MAX 4u /* of the largest message, as in imap_append.c */

#define NO_MAILBOX "No such mailbox"
#define NO_MESSAGE "No such message"
#define NO_PART "The message has no such part"

struct fetching {
    struct imap_task task;
    struct arena arena;
    struct slice text; /* of the URL */
    struct imap_url url;
    struct imap_agent *agent;
    bool examined;
    bool appends; /* to another shard */
    bool in_text; /* its size is known */
    bool found;   /* the message is there */
    uint32_t uidvalidity;
    struct imap_writer head; /* of a response, so far */
    struct slice held;       /* of the text: it has not been taken yet */
    const char *why;         /* it cannot be; NULL: it can */
};

/* ---- Where it goes ---- */

/* So many bytes follow. 0, or why not. */
static int text_begin(struct imap_session *session, struct fetching *fetching, uint64_t bytes)
{
    struct imap_abroad *abroad = session->abroad;
    fetching->in_text = true;
    if (!fetching->appends) {
        return imap_append_allows(session, bytes);
    }
    uint64_t most = session->settings.append_bytes_max;
    if (bytes > most || abroad->copied_bytes + bytes > COPIES_MAX * most) {
        return -EFBIG;
    }
    abroad->copied_bytes += bytes;
    imap_abroad_append_part(session, bytes);
    return 0;
}

/* 0; -EAGAIN: not now; or why not. */
static int text_take(struct imap_session *session, struct fetching *fetching, struct slice bytes)
{
    if (fetching->appends) {
        struct imap_agent *agent = session->abroad->appends;
        if (imap_agent_is_over(agent)) {
            return -EPIPE;
        }
        if (imap_agent_is_full(agent)) {
            return -EAGAIN;
        }
        imap_agent_say(agent, bytes);
        return 0;
    }
    return imap_append_write(session, bytes);
}

/* ---- What is said ---- */

static void response_take(struct fetching *fetching)
{
    static const char validity[] = "* OK [UIDVALIDITY ";
    struct slice head = imap_writer_bytes(&fetching->head);
    const size_t size = sizeof(validity) - 1;
    if (slice_equal(slice_first(head, size), slice_text(validity))) {
        imap_nz_number_read(slice_from(head, size), &fetching->uidvalidity);
    }
    imap_writer_reset(&fetching->head);
}

/* The first line of what may be the message: "* 7 FETCH (UID 9 BODY[...] {12}". 0, or why not. */
static int head_take(struct imap_session *session, struct fetching *fetching)
{
    struct slice rest = imap_writer_bytes(&fetching->head), line = rest;
    uint64_t bytes = 0;
    imap_response_next(&rest);
    imap_response_next(&rest);
    bool fetch = slice_equal(imap_response_next(&rest).bytes, slice_text("FETCH"));
    bool literal = imap_response_literal(line, &bytes);
    /* Flags are told in a FETCH, too. */
    if (!fetching->examined || !fetch || memmem(line.bytes, line.size, "BODY[", 5) == NULL) {
        response_take(fetching);
        return 0;
    }
    fetching->found = true;
    bool nil = !literal && memmem(line.bytes, line.size, "] NIL", 5) != NULL;
    imap_writer_reset(&fetching->head);
    fetching->why = nil ? NO_PART : fetching->why;
    return nil || !literal ? 0 : text_begin(session, fetching, bytes);
}

static int part_take(struct imap_session *session, struct fetching *fetching, struct slice part)
{
    if (imap_agent_told_literal(fetching->agent)) {
        fetching->held = fetching->in_text ? part : slice_of(NULL, 0);
        return 0;
    }
    if (fetching->in_text) { /* the end of the response */
        fetching->in_text = !imap_agent_is_between(fetching->agent);
        return 0;
    }
    imap_write_bytes(&fetching->head, part);
    if (fetching->head.failed) {
        return -ENOMEM;
    }
    return part.bytes[part.size - 1] == '\n' ? head_take(session, fetching) : 0;
}

/* False: memory is short. */
static bool fetch_say(struct fetching *fetching)
{
    const struct imap_url *url = &fetching->url;
    struct imap_writer writer;
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    imap_write(&writer, "~u UID FETCH ");
    imap_write_number(&writer, url->uid);
    imap_write(&writer, " BODY.PEEK[");
    fetch_section_name_write(&writer, &url->section);
    imap_write(&writer, "]");
    if (url->partial) {
        imap_write(&writer, "<");
        imap_write_number(&writer, url->first);
        imap_write(&writer, ".");
        imap_write_number(&writer, url->bytes != 0 ? url->bytes : UINT32_MAX);
        imap_write(&writer, ">");
    }
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(fetching->agent, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* ---- Its ends ---- */

static enum imap_step refuse(struct imap_session *session, const struct imap_answer *answer)
{
    imap_append_refuse(session, answer);
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    return IMAP_STEP_ANSWERED;
}

static enum imap_step refuse_status(struct imap_session *session, int status)
{
    const struct imap_answer answer =
        status == -EPIPE ? (struct imap_answer){IMAP_NO, slice_text("UNAVAILABLE"),
                                                slice_text(IMAP_ABROAD_UNREACHABLE)}
                         : imap_append_answer_of(status);
    return refuse(session, &answer);
}

static enum imap_step fetched(struct imap_session *session, struct fetching *fetching)
{
    const char *why = fetching->found ? fetching->why : NO_MESSAGE;
    if (why != NULL) {
        return imap_append_refuse_url(session, fetching->text, why);
    }
    imap_task_end(session);
    session->state = IMAP_SESSION_READING;
    imap_server_take(&session->server);
    imap_session_output(session);
    return IMAP_STEP_ANSWERED;
}

static enum imap_step agent_answered(struct imap_session *session, struct fetching *fetching,
                                     const struct imap_answer *answer)
{
    bool good = answer->result == IMAP_OK;
    if (fetching->examined) {
        return good ? fetched(session, fetching) : refuse_status(session, -EIO);
    }
    if (!good) {
        return imap_append_refuse_url(session, fetching->text, NO_MAILBOX);
    }
    if (fetching->url.uid_validity != 0 && fetching->url.uid_validity != fetching->uidvalidity) {
        return imap_append_refuse_url(session, fetching->text,
                                      "The mailbox has another UIDVALIDITY");
    }
    fetching->examined = true;
    return fetch_say(fetching) ? IMAP_STEP_MORE : refuse_status(session, -ENOMEM);
}

/* The one that appends has refused what came before, as for want of room: the rest need not be fetched. */
static bool is_refused(struct imap_session *session, const struct fetching *fetching,
                       struct imap_answer *answer)
{
    const struct imap_abroad *abroad = session->abroad;
    struct slice bytes;
    if (!fetching->appends || abroad->appends == abroad->selected ||
        imap_agent_hear(abroad->appends, &bytes) != IMAP_HEARD_ANSWER) {
        return false;
    }
    *answer = imap_agent_answer(bytes);
    return true;
}

/* MORE, when there may be more at once. */
static enum imap_step agent_step(struct imap_session *session, struct fetching *fetching)
{
    struct slice bytes;
    struct imap_answer answer;
    int status;
    if (is_refused(session, fetching, &answer)) {
        return refuse(session, &answer);
    }
    if (fetching->held.size > 0) {
        struct slice piece = slice_first(fetching->held, MAILSTORE_APPEND_BYTES_MAX);
        status = text_take(session, fetching, piece);
        if (status == 0) {
            fetching->held = slice_from(fetching->held, piece.size);
            return IMAP_STEP_MORE;
        }
        return status == -EAGAIN ? IMAP_STEP_RETRY : refuse_status(session, status);
    }
    switch (imap_agent_hear(fetching->agent, &bytes)) {
    case IMAP_HEARD_NOTHING:
        return IMAP_STEP_WAIT;
    case IMAP_HEARD_PART:
        status = part_take(session, fetching, bytes);
        return status == 0 ? IMAP_STEP_MORE : refuse_status(session, status);
    case IMAP_HEARD_CONTINUE:
        return IMAP_STEP_MORE;
    case IMAP_HEARD_ANSWER:
        answer = imap_agent_answer(bytes);
        return agent_answered(session, fetching, &answer);
    case IMAP_HEARD_BYE:
    case IMAP_HEARD_END:
        break;
    }
    return refuse_status(session, -EPIPE);
}

static enum imap_step fetching_step(struct imap_session *session, struct imap_task *task)
{
    enum imap_step step = IMAP_STEP_MORE;
    while (step == IMAP_STEP_MORE) {
        step = agent_step(session, (struct fetching *)task);
    }
    return step;
}

static void fetching_end(struct imap_session *session, struct imap_task *task)
{
    struct fetching *fetching = (struct fetching *)task;
    (void)session;
    imap_agent_end(fetching->agent);
    arena_close(&fetching->arena);
    imap_writer_close(&fetching->head);
}

/* ---- The URL ---- */

static bool examine_say(struct imap_session *session, struct fetching *fetching)
{
    struct imap_writer writer;
    imap_writer_open(&writer, COMMAND_BYTES_MAX);
    writer.utf8 = imap_session_utf8(session);
    imap_write(&writer, "~e EXAMINE ");
    imap_name_write(session, &writer, fetching->url.mailbox);
    imap_write(&writer, "\r\n");
    bool good = !writer.failed;
    if (good) {
        imap_agent_say_command(fetching->agent, imap_writer_bytes(&writer));
    }
    imap_writer_close(&writer);
    return good;
}

/* "": none. */
static struct slice selected_name(const struct imap_session *session,
                                  char name[IMAP_SHARED_NAME_BYTES])
{
    if (imap_abroad_is_selected(session)) {
        return session->abroad->selected_name;
    }
    return session->view.is_open ? slice_of(name, imap_box_name(session, session->view.box, name))
                                 : slice_of(NULL, 0);
}

/* NULL: it is good. */
static const char *url_read(struct imap_session *session, struct fetching *fetching,
                            struct slice text)
{
    char name[IMAP_SHARED_NAME_BYTES];
    struct slice selected = selected_name(session, name);
    arena_open(&fetching->arena, ARENA_BYTES_MAX);
    if ((selected.size > 0 && !arena_copy(&fetching->arena, selected, &selected)) ||
        (text.size > 0 && !arena_copy(&fetching->arena, text, &fetching->text))) {
        return "URL is too long";
    }
    return imap_url_read(&fetching->arena, fetching->text, selected, &fetching->url);
}

bool imap_abroad_url(struct imap_session *session, struct slice text)
{
    const struct mailbox *mailbox = session->session.mailbox;
    if (mailbox->group->count == 1 || session->session.of_service) {
        return false;
    }
    struct fetching *fetching = (struct fetching *)calloc(1, sizeof(*fetching));
    if (fetching == NULL) {
        refuse_status(session, -ENOMEM);
        return true;
    }
    fetching->task = (struct imap_task){.step = fetching_step, .end = fetching_end};
    fetching->appends = imap_abroad_appends(session);
    imap_writer_open(&fetching->head, HEAD_BYTES_MAX);
    const char *why = url_read(session, fetching, text);
    int shard = why == NULL ? imap_abroad_shard(session, fetching->url.mailbox) : -1;
    session->task = &fetching->task;
    if (why == NULL && shard < 0 && !fetching->appends) {
        imap_task_end(session);
        return false; /* all of it is here */
    }
    if (why != NULL) {
        imap_append_refuse_url(session, text, why);
        return true;
    }
    fetching->agent =
        imap_agent_new(session, shard >= 0 ? (unsigned)shard : mailbox_index(mailbox));
    if (fetching->agent == NULL || !examine_say(session, fetching)) {
        refuse_status(session, -ENOMEM);
        return true;
    }
    session->state = IMAP_SESSION_WORKING;
    imap_session_begin(session);
    return true;
}
