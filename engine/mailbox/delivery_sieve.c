#include "engine/mailbox/delivery_sieve_private.h"
#include "engine/mailbox/sieve_message.h"
#include "proto/message/header.h"
#include <stdlib.h>

#define HEADER_BYTES_FIRST 4096u
#define MEMORY_BYTES_MAX                                                                           \
    (4u * 1024 * 1024) /* of a message: places and refusals of all recipients, values */
#define SECOND_NS 1000000000ull
#define EDIT_MEMORY_BYTES_MAX (16u * 1024 * 1024) /* where scripts edit the header */
#define EDITED_BODY_BYTES_MAX (16u * 1024 * 1024) /* of a message whose header is edited */
#define BODY_MEMORY_BYTES_MAX (16u * 1024 * 1024) /* of a script that looks at the body */
#define WORK_MAX 5000000u                  /* steps of one script: some milliseconds of the shard */
#define BODY_WORK_MAX 25000000u            /* of one that looks at the body */
#define KEPT_BYTES_MAX (64u * 1024 * 1024) /* of bodies, of all sessions together */

/* ---- The text ---- */

uint32_t delivery_sieve_wants(struct delivery_text *text)
{
    struct mailbox *mailbox = text->mailbox;
    uint32_t wants = 0;
    for (uint32_t i = 0; mailbox->scripts != NULL && i < text->recipient_count; i++) {
        struct mailstore_user *user;
        if (mailstore_user_open(mailbox->texts, slice_text(text->recipients[i].user), &user) == 0) {
            wants |= sieve_scripts_want(mailbox->scripts, user);
            mailstore_user_close(mailbox->texts, user);
        }
    }
    return wants;
}

void delivery_sieve_begin(struct delivery_text *text)
{
    delivery_sieve_end(text);
    uint32_t wants = text->by_store ? text->wants : delivery_sieve_wants(text);
    if (text->mailbox->remembered != NULL && text->mailbox->conf->lmtp.drop_duplicates > 0) {
        wants |= SIEVE_SCRIPTS_HEADER; /* Message-ID: is there */
    }
    bool edits = (wants & SIEVE_SCRIPTS_EDIT) != 0;
    arena_open(&text->sieve_memory, edits ? EDIT_MEMORY_BYTES_MAX : MEMORY_BYTES_MAX);
    text->eight_bit = text->cut = false;
    text->keeping = text->watched = wants != 0;
    text->body_bytes_max = (wants & SIEVE_SCRIPTS_EDIT) != 0   ? EDITED_BODY_BYTES_MAX
                           : (wants & SIEVE_SCRIPTS_BODY) != 0 ? SIEVE_MAIL_BODY_BYTES_MAX
                                                               : 0;
}

void delivery_kept_drop(struct delivery_text *text)
{
    free(text->kept);
    text->kept = NULL;
    text->kept_bytes = text->kept_room = text->header_bytes = 0;
    text->mailbox->kept_bytes -= text->budgeted;
    text->budgeted = text->body_bytes_max = 0;
    text->keeping = text->watched = false;
}

void delivery_sieve_end(struct delivery_text *text)
{
    arena_close(&text->sieve_memory);
    delivery_kept_drop(text);
    text->letters = NULL;
    text->after = NULL;
    text->variants = NULL;
}

static bool in_body(const struct delivery_text *text)
{
    return text->header_bytes > 0;
}

static size_t room_max(const struct delivery_text *text)
{
    return in_body(text) ? text->header_bytes + text->body_bytes_max
                         : DELIVERY_SIEVE_HEADER_BYTES_MAX;
}

/* False: there may be no more, and scripts see no more of it. */
static bool kept_grow(struct delivery_text *text)
{
    size_t most = room_max(text);
    size_t room = text->kept_room == 0 ? HEADER_BYTES_FIRST : text->kept_room * 2;
    room = room < most ? room : most;
    size_t more = in_body(text) && room > text->kept_room ? room - text->kept_room : 0;
    if (room <= text->kept_room || text->mailbox->kept_bytes + more > KEPT_BYTES_MAX) {
        return false;
    }
    uint8_t *grown = (uint8_t *)realloc(text->kept, room);
    if (grown == NULL) {
        return false;
    }
    text->kept = grown;
    text->kept_room = room;
    text->budgeted += more;
    text->mailbox->kept_bytes += more;
    return true;
}

struct slice delivery_header(const struct delivery_text *text)
{
    return slice_of(text->kept, in_body(text) ? text->header_bytes : text->kept_bytes);
}

/* Behind `from` bytes: where the empty line has ended; 0: it has not come. */
static size_t header_end(const struct delivery_text *text, size_t from)
{
    static const uint8_t end[4] = {'\r', '\n', '\r', '\n'};
    from = from > 3 ? from - 3 : 0;
    const uint8_t *found =
        (const uint8_t *)memmem(text->kept + from, text->kept_bytes - from, end, sizeof end);
    return found != NULL ? (size_t)(found - text->kept) + sizeof end : 0;
}

static void piece_keep(struct delivery_text *text, struct slice *rest)
{
    size_t from = text->kept_bytes;
    if ((from == text->kept_room || from == room_max(text)) && !kept_grow(text)) {
        text->keeping = false;
        text->cut = true;
        return;
    }
    size_t room = (text->kept_room < room_max(text) ? text->kept_room : room_max(text)) - from;
    struct slice piece = slice_first(*rest, room);
    memcpy(text->kept + from, piece.bytes, piece.size);
    text->kept_bytes += piece.size;
    *rest = slice_from(*rest, piece.size);
    if (!in_body(text)) {
        text->header_bytes = header_end(text, from);
        text->keeping = !in_body(text) || text->body_bytes_max > 0;
    }
}

void delivery_sieve_take(struct delivery_text *text, const struct slice *parts, size_t count)
{
    for (size_t i = 0; text->watched && i < count; i++) {
        struct slice rest = parts[i];
        text->eight_bit = text->eight_bit || delivery_is_eight_bit(parts[i]);
        while (text->keeping && rest.size > 0) {
            piece_keep(text, &rest);
        }
    }
}

/* ---- Running ---- */

/* What only the store knows. */
static bool answer(const struct judging *judging, const struct sieve_asked *asked)
{
    switch (asked->want) {
    case SIEVE_WANT_MAILBOX:
        return mailstore_box_find(judging->user, asked->name) != NULL;
    case SIEVE_WANT_DUPLICATE:
        return delivery_was_seen(judging, REMEMBERED_DUPLICATE, asked->handle, asked->name);
    case SIEVE_WANT_NOTHING:
        break;
    }
    return false;
}

static bool run(struct judging *judging, const struct sieve_program *program)
{
    struct delivery_text *text = judging->text;
    const struct mailboxd_conf *conf = text->mailbox->conf;
    struct arena values;
    arena_open(&values, program->reads_body ? BODY_MEMORY_BYTES_MAX : MEMORY_BYTES_MAX);
    struct slice header = delivery_header(text);
    struct sieve_mail mail = {
        .header = header,
        .body = slice_from(slice_of(text->kept, text->kept_bytes), header.size),
        .size = mailstore_draft_bytes(text->message),
        .from = text->reverse_path,
        .to = slice_of(judging->recipient->address, judging->recipient->address_bytes),
        .arena = &values,
    };
    const struct sieve_message message = sieve_mail_message(&mail);
    const struct sieve_settings settings = {
        .now_s = world_wall_s(text->mailbox->shard->world),
        .separator = slice_text("+"),
        .work_max = program->reads_body ? BODY_WORK_MAX : WORK_MAX,
        .redirects_max = conf->sieve.max_redirects,
        .vacation_default_s = (uint32_t)(conf->sieve.vacation_default / SECOND_NS),
        .vacation_min_s = (uint32_t)(conf->sieve.vacation_min / SECOND_NS),
        .duplicate_default_s = (uint32_t)(conf->sieve.duplicate_default / SECOND_NS),
        .duplicate_max_s = (uint32_t)(conf->sieve.duplicate_max / SECOND_NS),
        .vacation_max_s = (uint32_t)(conf->sieve.vacation_max / SECOND_NS),
    };
    struct sieve_run *script = sieve_run_open(program, &message, &settings);
    bool good = script != NULL;
    if (good) {
        enum sieve_want want = sieve_run_go(script);
        while (want != SIEVE_WANT_NOTHING) {
            want = sieve_run_answer(script, answer(judging, sieve_run_asked(script)));
        }
        const struct sieve_result *result = sieve_run_result(script);
        if (result->failed) {
            logger_line(text->mailbox->shard->logger, LOGGER_WARNING,
                        "sieve: %s: line %u: %s, the message is kept", judging->recipient->user,
                        result->error.line, result->error.text);
        }
        good = delivery_actions_do(judging, result);
    }
    if (!good) {
        delivery_complain(judging, "too many places, or out of memory");
    }
    sieve_run_close(script);
    arena_close(&values);
    return good;
}

/* By which duplicates are known. Empty: it has none, or they are not dropped. */
static struct slice message_id(const struct judging *judging)
{
    struct header_field id;
    return judging->text->mailbox->conf->lmtp.drop_duplicates >= SECOND_NS &&
                   header_find(delivery_header(judging->text), slice_text("Message-ID"), &id)
               ? id.value
               : slice_of(NULL, 0);
}

static bool is_duplicate(const struct judging *judging, struct slice id)
{
    struct slice detail = slice_text(judging->recipient->detail);
    bool seen = id.size > 0 && delivery_was_seen(judging, REMEMBERED_MESSAGE, detail, id);
    if (seen) {
        logger_line(judging->text->mailbox->shard->logger, LOGGER_INFO,
                    "lmtp: %s: a message that is there already is dropped: %.*s",
                    judging->recipient->user, (int)id.size, (const char *)id.bytes);
    }
    return seen;
}

/* What is refused is not there: when it comes again, it is judged again. */
static void message_remember(struct judging *judging, struct slice id)
{
    uint64_t seconds = judging->text->mailbox->conf->lmtp.drop_duplicates / SECOND_NS;
    if (id.size > 0 && judging->recipient->refusal.size == 0) {
        delivery_remember(judging, REMEMBERED_MESSAGE, slice_text(judging->recipient->detail), id,
                          (uint32_t)seconds);
    }
}

/* As delivery_sieve_judge, of a user who has been opened. */
static bool judge(struct judging *judging)
{
    struct mailbox *mailbox = judging->text->mailbox;
    const struct sieve_program *program = NULL;
    struct sieve_error error = {0};
    struct slice id = message_id(judging);
    if (is_duplicate(judging, id)) {
        return true;
    }
    int status = mailbox->scripts != NULL
                     ? sieve_scripts_active(mailbox->scripts, judging->user, &program, &error)
                     : -ENOENT;
    bool done = status == 0 && run(judging, program);
    if (status == -EINVAL) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: the script is wrong: line %u: %s, the message is kept",
                    judging->recipient->user, error.line, error.text);
    } else if (status != 0 && status != -ENOENT) {
        delivery_complain(judging, "the script cannot be read");
    }
    message_remember(judging, id);
    return done;
}

bool delivery_sieve_judge(struct delivery_text *text, uint32_t index,
                          const struct mailstore_place *usual)
{
    struct judging judging = {.text = text,
                              .recipient = &text->recipients[index],
                              .usual = usual,
                              .index = index,
                              .first = text->place_count};
    if (!text->watched ||
        mailstore_user_open(text->mailbox->texts, usual->user, &judging.user) != 0) {
        return false;
    }
    bool done = judge(&judging);
    mailstore_user_close(text->mailbox->texts, judging.user);
    return done;
}
