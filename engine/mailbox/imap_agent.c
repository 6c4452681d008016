/*
 * An agent: a session of the user's own on another shard, for what others share with him there. His session says commands
 * to it, and hears what it answers.
 *
 *      the user's shard                                    the owner's shard
 *   imap_session ── imap_agent ── pipe ══ passage ══ far end ── imap_session, which has logged in
 *
 * It is in no list of clients and counts in no limit: it ends with whom it serves. There it may do what the user may, by
 * imap_access.c; it has no mailboxes of its own (a guest), unless it is one of his own shard's.
 */
#include "engine/core/check.h"
#include "engine/mailbox/carriage.h"
#include "engine/mailbox/imap_session.h"
#include "engine/mailbox/pipe.h"
#include "proto/imap/response.h"
#include <stdlib.h>

#define PIPE_BYTES (128u * 1024)
#define LINE_BYTES_MAX (IMAP_CODE_BYTES_MAX + 4096u) /* of an answer */
#define PART_BYTES_MAX (64u * 1024)                  /* of a response, told at a time */
#define WORD_BYTES 6u                                /* that tell what a line is */

struct imap_agent {
    struct imap_session *session;
    struct pipe *pipe;
    unsigned shard;
    uint8_t enabled; /* enum imap_enabled, there */
    unsigned untold; /* answers to come that nobody waits for */
    enum { AT_LINE, IN_RESPONSE, IN_LITERAL } at;
    bool line_given;       /* the line was told: the next one begins */
    bool told_literal;     /* what was told last is of a literal */
    size_t used;           /* of the pipe's first bytes: they were told */
    uint64_t literal_left; /* of the literal that they are in */
    char tail[32];         /* the end of the line, or of that which is over */
    size_t tail_bytes;
    uint8_t *line; /* of the heap; answers as a whole */
    size_t line_bytes, line_room;
};

/* ---- There ---- */

struct sending {
    struct crossing_note note; /* first */
    struct mailbox_group *group;
    struct stream *stream;
    uint8_t enabled; /* enum imap_enabled */
    bool guest, watches;
    char user[USER_NAME_BYTES];
    char carriage[CARRIAGE_NAME_BYTES]; /* "": none */
};

static void sending_arrives(struct shard_message *message, struct shard *shard)
{
    struct sending *sending = list_entry(message, struct sending, note.message);
    struct mailbox *mailbox = sending->group->members[shard->settings.index];
    struct imap_serving with = {.stream = sending->stream,
                                .enabled = sending->enabled,
                                .guest = sending->guest,
                                .watches = sending->watches,
                                .carriage =
                                    sending->carriage[0] != '\0' ? sending->carriage : NULL};
    if (mailbox->left ||
        mailstore_user_open(mailbox->texts, slice_text(sending->user), &with.user) < 0) {
        stream_abort(sending->stream);
        stream_release(sending->stream);
    } else {
        imap_serve(mailbox, &with);
    }
    free(sending);
}

/* Its stream ends by itself. */
static void sending_dropped(struct shard_message *message)
{
    free(list_entry(message, struct sending, note.message));
}

/* ---- Here ---- */

static void agent_heard(void *owner)
{
    imap_session_later(((struct imap_agent *)owner)->session);
}

static struct sending *sending_of(const struct imap_session *session, bool guest)
{
    struct sending *sending = (struct sending *)calloc(1, sizeof(*sending));
    if (sending != NULL) {
        sending->note.message =
            (struct shard_message){.run = sending_arrives, .dropped = sending_dropped};
        sending->group = session->session.mailbox->group;
        sending->guest = guest;
        strcpy(sending->user, session->user->name);
    }
    return sending;
}

struct agent_kind {
    uint8_t enabled; /* enum imap_enabled */
    bool watches;
    const char *carriage; /* "": none */
};

static struct imap_agent *agent_new(struct imap_session *session, unsigned shard,
                                    const struct agent_kind *kind)
{
    const struct mailbox *mailbox = session->session.mailbox;
    const struct mailbox *to = mailbox->group->members[shard];
    struct imap_agent *agent = (struct imap_agent *)calloc(1, sizeof(*agent));
    struct pipe *pipe = pipe_open(PIPE_BYTES, agent_heard, agent);
    struct sending *sending = sending_of(session, to != mailbox);
    if (agent == NULL || pipe == NULL || sending == NULL) {
        goto failed;
    }
    check(strlen(kind->carriage) < sizeof(sending->carriage));
    strcpy(sending->carriage, kind->carriage);
    sending->enabled = kind->enabled;
    sending->watches = kind->watches;
    sending->stream = crossing_pass(mailbox->crossing, to->crossing, &pipe->stream, false);
    if (sending->stream == NULL) {
        goto failed;
    }
    agent->session = session;
    agent->pipe = pipe;
    agent->shard = shard;
    agent->enabled = kind->enabled;
    crossing_send(mailbox->crossing, to->shard, &sending->note);
    return agent;
failed:
    free(sending);
    if (pipe != NULL) {
        pipe_close(pipe);
    }
    free(agent);
    return NULL;
}

struct imap_agent *imap_agent_new(struct imap_session *session, unsigned shard)
{
    return imap_agent_new_carrying(session, shard, "");
}

struct imap_agent *imap_agent_new_carrying(struct imap_session *session, unsigned shard,
                                           const char *carriage)
{
    const struct agent_kind kind = {.enabled = session->server.enabled, .carriage = carriage};
    return agent_new(session, shard, &kind);
}

struct imap_agent *imap_agent_new_watcher(struct imap_session *session, unsigned shard)
{
    const struct agent_kind kind = {.enabled = IMAP_ENABLED_UTF8, .watches = true, .carriage = ""};
    return agent_new(session, shard, &kind);
}

void imap_agent_end(struct imap_agent *agent)
{
    if (agent != NULL) {
        pipe_close(agent->pipe);
        free(agent->line);
        free(agent);
    }
}

unsigned imap_agent_shard(const struct imap_agent *agent)
{
    return agent->shard;
}

void imap_agent_say(struct imap_agent *agent, struct slice bytes)
{
    pipe_write(agent->pipe, bytes);
}

void imap_agent_say_text(struct imap_agent *agent, const char *text)
{
    pipe_write(agent->pipe, slice_text(text));
}

bool imap_agent_is_full(struct imap_agent *agent)
{
    return pipe_is_full(agent->pipe);
}

void imap_agent_catch_up(struct imap_agent *agent, bool by_command)
{
    const uint8_t both = IMAP_ENABLED_CONDSTORE | IMAP_ENABLED_QRESYNC;
    if ((agent->session->server.enabled & both) == 0 || (agent->enabled & both) != 0) {
        return;
    }
    agent->enabled |= IMAP_ENABLED_CONDSTORE;
    if (!by_command) { /* of no message: it only begins to tell mod-sequences. By UID it would tell EXPUNGE, too. */
        agent->untold++;
        imap_agent_say_text(agent, "~c FETCH 4294967295 (MODSEQ)\r\n");
    }
}

void imap_agent_break(struct imap_agent *agent)
{
    agent->pipe->over = true;
}

bool imap_agent_is_over(const struct imap_agent *agent)
{
    return agent->pipe->over;
}

void imap_agent_say_command(struct imap_agent *agent, struct slice text)
{
    while (text.size > 0) {
        const uint8_t *newline = (const uint8_t *)memchr(text.bytes, '\n', text.size);
        size_t size = newline == NULL ? text.size : (size_t)(newline - text.bytes) + 1;
        struct slice line = slice_first(text, size);
        struct imap_literal_head head;
        bool literal = newline != NULL && size > 2 &&
                       imap_literal_head_find(slice_first(line, size - 2), &head);
        text = slice_from(text, size);
        if (literal && !head.no_wait) {
            imap_agent_say(agent, slice_first(line, size - 3));
            imap_agent_say_text(agent, "+}\r\n");
        } else {
            imap_agent_say(agent, line);
        }
        if (literal) {
            struct slice bytes = slice_first(text, (size_t)head.bytes);
            imap_agent_say(agent, bytes);
            text = slice_from(text, bytes.size);
        }
    }
}

void imap_agent_say_untold(struct imap_agent *agent, struct slice text)
{
    agent->untold++;
    imap_agent_say_command(agent, text);
}

/* ---- What it says ---- */

static bool line_add(struct imap_agent *agent, struct slice bytes)
{
    size_t needed = agent->line_bytes + bytes.size;
    if (needed > agent->line_room) {
        size_t room = agent->line_room == 0 ? 256 : agent->line_room;
        while (room < needed) {
            room *= 2;
        }
        uint8_t *grown = needed <= LINE_BYTES_MAX ? (uint8_t *)realloc(agent->line, room) : NULL;
        if (grown == NULL) {
            return false;
        }
        agent->line = grown;
        agent->line_room = room;
    }
    memcpy(agent->line + agent->line_bytes, bytes.bytes, bytes.size);
    agent->line_bytes += bytes.size;
    return true;
}

static void tail_add(struct imap_agent *agent, struct slice bytes)
{
    const size_t room = sizeof(agent->tail);
    bool over = agent->tail_bytes > 0 && agent->tail[agent->tail_bytes - 1] == '\n';
    agent->tail_bytes = over ? 0 : agent->tail_bytes; /* of the line before */
    if (bytes.size >= room) {
        memcpy(agent->tail, bytes.bytes + bytes.size - room, room);
        agent->tail_bytes = room;
        return;
    }
    size_t kept = agent->tail_bytes < room - bytes.size ? agent->tail_bytes : room - bytes.size;
    memmove(agent->tail, agent->tail + agent->tail_bytes - kept, kept);
    memcpy(agent->tail + kept, bytes.bytes, bytes.size);
    agent->tail_bytes = kept + bytes.size;
}

/* A line of a response is over: a literal follows, or the next response. */
static void response_line_end(struct imap_agent *agent)
{
    uint64_t bytes;
    bool literal = imap_response_literal(slice_of(agent->tail, agent->tail_bytes), &bytes);
    agent->literal_left = literal ? bytes : 0;
    agent->at = !literal ? AT_LINE : bytes > 0 ? IN_LITERAL : IN_RESPONSE;
}

/* Up to the end of the line: what is not yet there is NULL. */
static struct slice line_part(struct slice first, size_t most, bool *whole)
{
    first = slice_first(first, most);
    const uint8_t *newline = (const uint8_t *)memchr(first.bytes, '\n', first.size);
    *whole = newline != NULL;
    return *whole ? slice_first(first, (size_t)(newline - first.bytes) + 1) : first;
}

/* IMAP_HEARD_NOTHING: more of it is to be looked at. */
static enum imap_heard line_hear(struct imap_agent *agent, struct slice first, struct slice *bytes)
{
    bool whole, undecided = agent->line_bytes < WORD_BYTES;
    struct slice part =
        line_part(first, undecided ? WORD_BYTES - agent->line_bytes : first.size, &whole);
    agent->used = part.size;
    if (!line_add(agent, part)) {
        agent->pipe->over = true;
        pipe_used(agent->pipe, first.size);
        agent->used = 0;
        return IMAP_HEARD_END;
    }
    *bytes = slice_of(agent->line, agent->line_bytes);
    bool known = whole || agent->line_bytes >= WORD_BYTES;
    bool untagged = agent->line[0] == '*' &&
                    !slice_equal(slice_first(*bytes, WORD_BYTES), slice_text("* BYE "));
    if (known && untagged) {
        agent->at = IN_RESPONSE;
        agent->line_given = true;
        tail_add(agent, *bytes);
        if (whole) {
            response_line_end(agent);
        }
        return IMAP_HEARD_PART;
    }
    if (!whole) {
        return IMAP_HEARD_NOTHING;
    }
    agent->line_given = true;
    return agent->line[0] == '*'   ? IMAP_HEARD_BYE
           : agent->line[0] == '+' ? IMAP_HEARD_CONTINUE
                                   : IMAP_HEARD_ANSWER;
}

static enum imap_heard response_hear(struct imap_agent *agent, struct slice first,
                                     struct slice *bytes)
{
    bool whole;
    *bytes = line_part(first, PART_BYTES_MAX, &whole);
    agent->used = bytes->size;
    tail_add(agent, *bytes);
    if (whole) {
        response_line_end(agent);
    }
    return IMAP_HEARD_PART;
}

static enum imap_heard literal_hear(struct imap_agent *agent, struct slice first,
                                    struct slice *bytes)
{
    size_t left =
        agent->literal_left < PART_BYTES_MAX ? (size_t)agent->literal_left : PART_BYTES_MAX;
    *bytes = slice_first(first, left);
    agent->used = bytes->size;
    agent->literal_left -= bytes->size;
    agent->at = agent->literal_left > 0 ? IN_LITERAL : IN_RESPONSE;
    agent->told_literal = true;
    return IMAP_HEARD_PART;
}

enum imap_heard imap_agent_hear(struct imap_agent *agent, struct slice *bytes)
{
    enum imap_heard heard = IMAP_HEARD_NOTHING;
    *bytes = slice_of(NULL, 0);
    agent->told_literal = false;
    while (heard == IMAP_HEARD_NOTHING) {
        if (agent->line_given) {
            agent->line_given = false;
            agent->line_bytes = 0;
        }
        if (agent->used > 0) {
            size_t used = agent->used;
            agent->used = 0;
            pipe_used(agent->pipe, used);
        }
        struct slice first = pipe_first(agent->pipe);
        if (first.size == 0) {
            return agent->pipe->over ? IMAP_HEARD_END : IMAP_HEARD_NOTHING;
        }
        switch (agent->at) {
        case AT_LINE:
            heard = line_hear(agent, first, bytes);
            break;
        case IN_RESPONSE:
            heard = response_hear(agent, first, bytes);
            break;
        case IN_LITERAL:
            heard = literal_hear(agent, first, bytes);
            break;
        }
        if (heard == IMAP_HEARD_ANSWER && agent->untold > 0) {
            agent->untold--;
            heard = IMAP_HEARD_NOTHING;
        }
    }
    return heard;
}

bool imap_agent_is_between(const struct imap_agent *agent)
{
    return agent->at == AT_LINE;
}

bool imap_agent_told_literal(const struct imap_agent *agent)
{
    return agent->told_literal;
}

struct slice imap_agent_line_tail(const struct imap_agent *agent)
{
    return slice_of(agent->tail, agent->told_literal ? 0 : agent->tail_bytes);
}

struct imap_answer imap_agent_answer(struct slice line)
{
    struct imap_answer answer = {.result = IMAP_NO};
    const uint8_t *blank = (const uint8_t *)memchr(line.bytes, ' ', line.size);
    struct slice rest =
        blank == NULL ? slice_of(NULL, 0) : slice_from(line, (size_t)(blank - line.bytes) + 1);
    rest.size -= rest.size >= 2 ? 2 : rest.size; /* CRLF */
    if (slice_equal(slice_first(rest, 3), slice_text("OK "))) {
        answer.result = IMAP_OK;
    } else if (slice_equal(slice_first(rest, 4), slice_text("BAD "))) {
        answer.result = IMAP_BAD;
    }
    blank = rest.size > 0 ? (const uint8_t *)memchr(rest.bytes, ' ', rest.size) : NULL;
    answer.text = blank == NULL ? rest : slice_from(rest, (size_t)(blank - rest.bytes) + 1);
    const uint8_t *end = answer.text.size > 0 && answer.text.bytes[0] == '['
                             ? (const uint8_t *)memchr(answer.text.bytes, ']', answer.text.size)
                             : NULL;
    if (end != NULL) {
        size_t code_bytes = (size_t)(end - answer.text.bytes) - 1;
        answer.code = slice_of(answer.text.bytes + 1, code_bytes);
        answer.text = slice_from(answer.text, code_bytes + 2);
        answer.text = slice_from(answer.text, answer.text.size > 0); /* the blank */
    }
    return answer;
}
