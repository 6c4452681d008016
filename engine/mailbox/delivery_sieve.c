#include "engine/mailbox/delivery_sieve_private.h"
#include "engine/mailbox/sieve_message.h"
#include "engine/mailbox/sieve_scripts.h"
#include <stdlib.h>

#define HEADER_BYTES_FIRST 4096u
#define MEMORY_BYTES_MAX                                                                           \
    (4u * 1024 * 1024) /* of a message: places and refusals of all recipients, values */
#define SECOND_NS 1000000000ull
#define WORK_MAX 5000000u /* steps of one script: some milliseconds of the shard */

/* ---- The header ---- */

static bool wanted(struct delivery_text *text)
{
    struct mailbox *mailbox = text->mailbox;
    bool any = false;
    for (uint32_t i = 0; mailbox->scripts != NULL && i < text->recipient_count && !any; i++) {
        struct mailstore_user *user;
        if (mailstore_user_open(mailbox->texts, slice_text(text->recipients[i].user), &user) == 0) {
            any = sieve_scripts_any(mailbox->scripts, user);
            mailstore_user_close(mailbox->texts, user);
        }
    }
    return any;
}

void delivery_sieve_begin(struct delivery_text *text)
{
    delivery_sieve_end(text);
    arena_open(&text->sieve_memory, MEMORY_BYTES_MAX);
    text->header_wanted = text->watched = wanted(text);
    text->eight_bit = false;
}

void delivery_sieve_end(struct delivery_text *text)
{
    arena_close(&text->sieve_memory);
    free(text->header);
    text->header = NULL;
    text->header_bytes = text->header_room = 0;
    text->header_wanted = text->watched = false;
    text->letters = NULL;
    text->after = NULL;
}

/* False: the memory is short, and the script sees no more of it. */
static bool header_grow(struct delivery_text *text)
{
    size_t room = text->header_room == 0 ? HEADER_BYTES_FIRST : text->header_room * 2;
    room = room < DELIVERY_SIEVE_HEADER_BYTES_MAX ? room : DELIVERY_SIEVE_HEADER_BYTES_MAX;
    uint8_t *grown = room > text->header_room ? (uint8_t *)realloc(text->header, room) : NULL;
    if (grown == NULL) {
        return false;
    }
    text->header = grown;
    text->header_room = room;
    return true;
}

/* Behind `from` bytes: has the empty line come? */
static bool header_is_whole(const struct delivery_text *text, size_t from)
{
    static const uint8_t end[4] = {'\r', '\n', '\r', '\n'};
    from = from > 3 ? from - 3 : 0;
    return text->header != NULL &&
           memmem(text->header + from, text->header_bytes - from, end, sizeof end) != NULL;
}

void delivery_sieve_take(struct delivery_text *text, const struct slice *parts, size_t count)
{
    for (size_t i = 0; text->watched && i < count; i++) {
        text->eight_bit = text->eight_bit || delivery_is_eight_bit(parts[i]);
        struct slice rest = parts[i];
        while (text->header_wanted && rest.size > 0) {
            size_t from = text->header_bytes;
            if (from == text->header_room && !header_grow(text)) {
                text->header_wanted = false;
                break;
            }
            struct slice piece = slice_first(rest, text->header_room - from);
            memcpy(text->header + from, piece.bytes, piece.size);
            text->header_bytes += piece.size;
            rest = slice_from(rest, piece.size);
            text->header_wanted = !header_is_whole(text, from);
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
    arena_open(&values, MEMORY_BYTES_MAX);
    struct sieve_mail mail = {
        .header = slice_of(text->header, text->header_bytes),
        .size = mailstore_draft_bytes(text->message),
        .from = text->reverse_path,
        .to = slice_of(judging->recipient->address, judging->recipient->address_bytes),
        .arena = &values,
    };
    const struct sieve_message message = sieve_mail_message(&mail);
    const struct sieve_settings settings = {
        .now_s = world_wall_s(text->mailbox->shard->world),
        .separator = slice_text("+"),
        .work_max = WORK_MAX,
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

bool delivery_sieve_judge(struct delivery_text *text, uint32_t index,
                          const struct mailstore_place *usual)
{
    struct mailbox *mailbox = text->mailbox;
    struct judging judging = {.text = text,
                              .recipient = &text->recipients[index],
                              .usual = usual,
                              .index = index,
                              .first = text->place_count};
    const struct sieve_program *program = NULL;
    struct sieve_error error = {0};
    if (mailbox->scripts == NULL ||
        mailstore_user_open(mailbox->texts, usual->user, &judging.user) != 0) {
        return false;
    }
    int status = sieve_scripts_active(mailbox->scripts, judging.user, &program, &error);
    bool done = status == 0 && run(&judging, program);
    if (status == -EINVAL) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: the script is wrong: line %u: %s, the message is kept",
                    judging.recipient->user, error.line, error.text);
    } else if (status != 0 && status != -ENOENT) {
        delivery_complain(&judging, "the script cannot be read");
    }
    mailstore_user_close(mailbox->texts, judging.user);
    return done;
}
