#include "engine/mailbox/delivery_sieve.h"
#include "engine/mailbox/sieve_message.h"
#include "engine/mailbox/sieve_scripts.h"
#include "proto/message/header.h"
#include <stdio.h>
#include <stdlib.h>

#define HEADER_BYTES_FIRST 4096u
#define MEMORY_BYTES_MAX                                                                           \
    (4u * 1024 * 1024)    /* of a message: places and refusals of all recipients, values */
#define WORK_MAX 5000000u /* steps of one script: some milliseconds of the shard */
#define REDIRECTED_FROM "X-Sieve-Redirected-From"
#define DELIVERED_TO "Delivered-To"

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

static bool is_eight_bit(struct slice part)
{
    uint8_t all = 0;
    for (size_t i = 0; i < part.size; i++) {
        all |= part.bytes[i];
    }
    return (all & 0x80) != 0;
}

void delivery_sieve_take(struct delivery_text *text, const struct slice *parts, size_t count)
{
    for (size_t i = 0; text->watched && i < count; i++) {
        text->eight_bit = text->eight_bit || is_eight_bit(parts[i]);
        struct slice rest = parts[i];
        while (text->header_wanted && rest.size > 0) {
            size_t from = text->header_bytes;
            if (from == text->header_room && !header_grow(text)) {
                text->header_wanted = false;
                return;
            }
            struct slice piece = slice_first(rest, text->header_room - from);
            memcpy(text->header + from, piece.bytes, piece.size);
            text->header_bytes += piece.size;
            rest = slice_from(rest, piece.size);
            text->header_wanted = !header_is_whole(text, from);
        }
    }
}

/* ---- From actions to places ---- */

struct judging {
    struct delivery_text *text;
    struct delivery_recipient *recipient;
    const struct mailstore_place *usual;
    struct mailstore_user *user;
    uint32_t index; /* of the recipient */
    uint32_t first; /* of his places */
    bool kept;      /* it lies where it would without a script */
    bool sent;      /* it lies where outgoing.h has its texts */
    int trouble;    /* of the recipient */
};

static void complain(const struct judging *judging, const char *what)
{
    logger_line(judging->text->mailbox->shard->logger, LOGGER_WARNING,
                "sieve: %s: %s, the message is kept", judging->recipient->user, what);
}

static uint8_t flag_of(struct slice word)
{
    static const struct {
        const char *name;
        uint8_t flag;
    } flags[] = {{"\\Seen", MAILSTORE_SEEN},
                 {"\\Answered", MAILSTORE_ANSWERED},
                 {"\\Flagged", MAILSTORE_FLAGGED},
                 {"\\Deleted", MAILSTORE_DELETED},
                 {"\\Draft", MAILSTORE_DRAFT}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (slice_equal_nocase(word, slice_text(flags[i].name))) {
            return flags[i].flag;
        }
    }
    return 0;
}

/* Flags that there is no memory for are left off: the message is worth more. */
static void flags_take(struct arena *arena, struct slice said, struct mailstore_place *place)
{
    struct slice *keywords = NULL;
    if (said.size == 0 || !arena_copy(arena, said, &said)) {
        return;
    }
    keywords = (struct slice *)arena_take_array(arena, said.size / 2 + 1, sizeof *keywords);
    while (said.size > 0) {
        const uint8_t *blank = (const uint8_t *)memchr(said.bytes, ' ', said.size);
        size_t size = blank != NULL ? (size_t)(blank - said.bytes) : said.size;
        struct slice word = slice_first(said, size);
        said = slice_from(said, size + 1);
        if (size > 0 && word.bytes[0] == '\\') {
            place->flags |= flag_of(word);
        } else if (size > 0 && keywords != NULL) {
            keywords[place->keyword_count++] = word;
        }
    }
    place->keywords = keywords;
}

/* Parts between '/', none empty (mailstore.h), and nothing that steers a terminal. */
static bool name_is_good(struct slice name)
{
    bool good = name.size > 0 && name.size <= MAILSTORE_NAME_BYTES_MAX && name.bytes[0] != '/' &&
                name.bytes[name.size - 1] != '/';
    for (size_t i = 0; good && i < name.size; i++) {
        good = name.bytes[i] >= ' ' && name.bytes[i] != 0x7f &&
               !(i > 0 && name.bytes[i] == '/' && name.bytes[i - 1] == '/');
    }
    return good;
}

static struct mailstore_place *place_add(struct judging *judging)
{
    struct mailstore_place *place = &judging->text->places[judging->text->place_count++];
    *place = *judging->usual;
    return place;
}

static void keep(struct judging *judging, struct slice flags)
{
    if (!judging->kept) {
        flags_take(&judging->text->sieve_memory, flags, place_add(judging));
    }
    judging->kept = true;
}

static void file_into(struct judging *judging, const struct sieve_action *action)
{
    struct slice name;
    if (!name_is_good(action->text)) {
        complain(judging, "no mailbox can have the name that it is filed into");
        keep(judging, action->flags);
        return;
    }
    if (!arena_copy(&judging->text->sieve_memory, action->text, &name)) {
        complain(judging, "out of memory");
        keep(judging, action->flags);
        return;
    }
    struct mailstore_place *place = place_add(judging);
    place->mailbox = name;
    place->options = action->create ? MAILSTORE_AUTOCREATE : MAILSTORE_OR_INBOX;
    flags_take(&judging->text->sieve_memory, action->flags, place);
}

/* One line of ASCII for the reply, blanks for ends of lines. What has other characters is not said at all: LMTP's
 * replies have no charset (RFC 5429 §2.1.2). */
static void refuse(struct judging *judging, struct slice reason)
{
    struct slice line = slice_text("The recipient does not want this message");
    size_t size = 0,
           room = reason.size < SMTP_VERDICT_TEXT_MAX ? reason.size : SMTP_VERDICT_TEXT_MAX;
    uint8_t *text = (uint8_t *)arena_take(&judging->text->sieve_memory, room + 1);
    bool good = text != NULL;
    for (size_t i = 0; good && i < reason.size && size < room; i++) {
        uint8_t byte = reason.bytes[i] < ' ' ? ' ' : reason.bytes[i];
        good = byte < 0x7f;
        if (byte != ' ' || (size > 0 && text[size - 1] != ' ')) {
            text[size++] = byte;
        }
    }
    while (good && size > 0 && text[size - 1] == ' ') {
        size--;
    }
    judging->recipient->refusal = good && size > 0 ? slice_of(text, size) : line;
}

/* ---- Redirecting ---- */

static struct slice trim(struct slice value)
{
    while (value.size > 0 && value.bytes[0] <= ' ') {
        value = slice_from(value, 1);
    }
    while (value.size > 0 && value.bytes[value.size - 1] <= ' ') {
        value.size--;
    }
    return value;
}

/* How many fields of this name hold the recipient's address. */
static uint32_t fields_name(const struct judging *judging, const char *name)
{
    const struct delivery_recipient *recipient = judging->recipient;
    struct slice address = slice_of(recipient->address, recipient->address_bytes);
    struct slice rest = slice_of(judging->text->header, judging->text->header_bytes);
    struct header_field field;
    uint32_t count = 0;
    while (header_find_next(&rest, slice_text(name), &field)) {
        count += slice_equal_nocase(trim(field.value), address);
    }
    return count;
}

/* Has this recipient had the message before? Our own Delivered-To: is there when he is the only one. */
static bool loops(const struct judging *judging)
{
    uint32_t ours = judging->text->recipient_count == 1 ? 1 : 0;
    return fields_name(judging, REDIRECTED_FROM) > 0 || fields_name(judging, DELIVERED_TO) > ours;
}

static bool is_ascii(struct slice text)
{
    return !is_eight_bit(text);
}

/* 0 or -errno. */
static int letter_put(struct judging *judging, struct slice address)
{
    struct delivery_text *text = judging->text;
    const struct delivery_recipient *recipient = judging->recipient;
    char words[sizeof REDIRECTED_FROM + SMTP_ADDRESS_BYTES_MAX + 8];
    int size = snprintf(words, sizeof words, REDIRECTED_FROM ": %.*s\r\n",
                        (int)recipient->address_bytes, (const char *)recipient->address);
    bool ascii = is_ascii(address) && is_ascii(text->reverse_path);
    const struct outgoing_letter letter = {
        .text = mailstore_draft_id(text->message),
        .born_s = (uint64_t)world_wall_s(text->mailbox->shard->world),
        .flags = (uint8_t)((text->eight_bit ? OUTGOING_8BITMIME : 0u) |
                           (ascii ? 0u : OUTGOING_SMTPUTF8)),
        .user = slice_text(recipient->user),
        .reverse_path = text->reverse_path,
        .forward_path = address,
        .words = slice_of(words, (size_t)size),
    };
    struct delivery_letter *put =
        (struct delivery_letter *)arena_take(&text->sieve_memory, sizeof *put);
    int status = put != NULL ? outgoing_put(text->mailbox->outgoing, &letter, &put->item) : -ENOMEM;
    if (status == 0) {
        put->recipient = judging->index;
        put->next = text->letters;
        text->letters = put;
    }
    return status;
}

static void redirect(struct judging *judging, const struct sieve_action *action)
{
    const struct outgoing *outgoing = judging->text->mailbox->outgoing;
    if (outgoing == NULL || !outgoing_can_send(outgoing)) {
        complain(judging, "redirect needs sieve.relay");
        keep(judging, slice_of(NULL, 0));
        return;
    }
    if (loops(judging)) {
        complain(judging, "it was redirected from here before");
        keep(judging, slice_of(NULL, 0));
        return;
    }
    int status = letter_put(judging, action->text);
    judging->trouble = judging->trouble != 0 ? judging->trouble : status;
    if (status == 0 && !judging->sent) {
        judging->sent = true;
        *place_add(judging) = outgoing_place();
    }
}

static void letters_forget(struct delivery_text *text, uint32_t recipient)
{
    struct delivery_letter **at = &text->letters;
    while (*at != NULL) {
        struct delivery_letter *letter = *at;
        if (letter->recipient == recipient) {
            outgoing_settle(text->mailbox->outgoing, letter->item, false);
            *at = letter->next;
        } else {
            at = &letter->next;
        }
    }
}

void delivery_sieve_settle(struct delivery_text *text, bool committed)
{
    for (struct delivery_letter *letter = text->letters; letter != NULL; letter = letter->next) {
        struct delivery_recipient *recipient = &text->recipients[letter->recipient];
        bool good = committed && recipient->status == 0;
        int status = outgoing_settle(text->mailbox->outgoing, letter->item, good);
        for (uint32_t i = 0; good && status != 0 && i < text->recipient_count; i++) {
            if (text->ranges[i].recipient == letter->recipient) {
                text->recipients[i].status = status;
            }
        }
    }
    text->letters = NULL;
}

/* ---- Actions ---- */

static void action_do(struct judging *judging, const struct sieve_action *action)
{
    switch (action->kind) {
    case SIEVE_ACTION_KEEP:
        keep(judging, action->flags);
        return;
    case SIEVE_ACTION_FILEINTO:
        file_into(judging, action);
        return;
    case SIEVE_ACTION_REDIRECT:
        redirect(judging, action);
        return;
    case SIEVE_ACTION_REJECT:
    case SIEVE_ACTION_EREJECT:
        refuse(judging, action->text);
        return;
    case SIEVE_ACTION_VACATION:
        logger_line(judging->text->mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: vacation is not done, the sender has no answer",
                    judging->recipient->user);
        return;
    }
}

/* What is kept comes first, so that flags said for it are not lost to a redirect's. */
static void actions_do(struct judging *judging, const struct sieve_result *result)
{
    for (uint32_t i = 0; i < result->action_count; i++) {
        if (result->actions[i].kind == SIEVE_ACTION_KEEP) {
            action_do(judging, &result->actions[i]);
        }
    }
    for (uint32_t i = 0; i < result->action_count; i++) {
        if (result->actions[i].kind != SIEVE_ACTION_KEEP) {
            action_do(judging, &result->actions[i]);
        }
    }
}

static bool room_make(struct delivery_text *text, uint32_t recipient, uint32_t count)
{
    uint32_t room = text->place_count + count + (text->recipient_count - recipient - 1);
    if (room <= text->place_room) {
        return true;
    }
    struct mailstore_place *grown =
        room <= MAILSTORE_PLACES_MAX
            ? (struct mailstore_place *)realloc(text->places, room * sizeof *grown)
            : NULL;
    if (grown == NULL) {
        return false;
    }
    text->places = grown;
    text->place_room = room;
    return true;
}

/* Nothing is done, lest it were done twice. */
static void trouble_take(struct judging *judging)
{
    logger_line(judging->text->mailbox->shard->logger, LOGGER_WARNING,
                "sieve: %s: it cannot be redirected now: %s", judging->recipient->user,
                strerror(-judging->trouble));
    letters_forget(judging->text, judging->index);
    judging->text->place_count = judging->first;
    judging->recipient->trouble = judging->trouble;
}

/* ---- Running ---- */

static bool run(struct judging *judging, const struct sieve_program *program, uint32_t index)
{
    struct delivery_text *text = judging->text;
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
        .redirects_max = text->mailbox->conf->sieve.max_redirects,
    };
    struct sieve_run *script = sieve_run_open(program, &message, &settings);
    bool good = script != NULL;
    if (good) {
        enum sieve_want want = sieve_run_go(script);
        while (want != SIEVE_WANT_NOTHING) {
            struct slice name = sieve_run_asked(script)->name;
            want = sieve_run_answer(script, want == SIEVE_WANT_MAILBOX &&
                                                mailstore_box_find(judging->user, name) != NULL);
        }
        const struct sieve_result *result = sieve_run_result(script);
        if (result->failed) {
            logger_line(text->mailbox->shard->logger, LOGGER_WARNING,
                        "sieve: %s: line %u: %s, the message is kept", judging->recipient->user,
                        result->error.line, result->error.text);
        }
        good = room_make(text, index, result->action_count);
        if (good) {
            actions_do(judging, result);
        }
        if (judging->trouble != 0) {
            trouble_take(judging);
        }
    }
    if (!good) {
        complain(judging, "too many places, or out of memory");
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
    bool done = status == 0 && run(&judging, program, index);
    if (status == -EINVAL) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: the script is wrong: line %u: %s, the message is kept",
                    judging.recipient->user, error.line, error.text);
    } else if (status != 0 && status != -ENOENT) {
        complain(&judging, "the script cannot be read");
    }
    mailstore_user_close(mailbox->texts, judging.user);
    return done;
}
