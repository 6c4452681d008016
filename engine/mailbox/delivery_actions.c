/* delivery_actions: from what a script has decided to places in the store, letters and answers. */
#include "engine/mailbox/delivery_sieve_private.h"
#include "engine/mailbox/quota.h"
#include "engine/mailbox/sieve_answer.h"
#include "proto/message/header.h"
#include <stdio.h>
#include <stdlib.h>

#define REDIRECTED_FROM "X-Sieve-Redirected-From"
#define DELIVERED_TO "Delivered-To"

bool delivery_is_eight_bit(struct slice part)
{
    uint8_t all = 0;
    for (size_t i = 0; i < part.size; i++) {
        all |= part.bytes[i];
    }
    return (all & 0x80) != 0;
}

void delivery_complain(const struct judging *judging, const char *what)
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

static struct mailstore_place *place_add(struct judging *judging, uint32_t edit_count)
{
    struct delivery_text *text = judging->text;
    struct delivery_variant *variant = delivery_edit_get(judging, edit_count);
    struct mailstore_place *place = variant != NULL ? &variant->places[variant->place_count++]
                                                    : &text->places[text->place_count++];
    *place = *judging->usual;
    return place;
}

static void keep(struct judging *judging, struct slice flags, uint32_t edit_count)
{
    if (!judging->kept) {
        flags_take(&judging->text->sieve_memory, flags, place_add(judging, edit_count));
    }
    judging->kept = true;
}

static void file_into(struct judging *judging, const struct sieve_action *action)
{
    struct slice name;
    bool good =
        name_is_good(action->text) &&
        (!action->create || mailstore_can_name(judging->text->mailbox->texts, action->text));
    if (!good) {
        delivery_complain(judging, "no mailbox can have the name that it is filed into");
        keep(judging, action->flags, action->edit_count);
        return;
    }
    if (!arena_copy(&judging->text->sieve_memory, action->text, &name)) {
        delivery_complain(judging, "out of memory");
        keep(judging, action->flags, action->edit_count);
        return;
    }
    struct mailstore_place *place = place_add(judging, action->edit_count);
    place->mailbox = name;
    place->options =
        action->create ? MAILSTORE_AUTOCREATE | MAILSTORE_NO_UID : judging->usual->options;
    struct quota quota = quota_limit(judging->text->mailbox->conf, judging->user, name);
    place->quota_bytes = quota.bytes;
    place->quota_messages = quota.messages;
    flags_take(&judging->text->sieve_memory, action->flags, place);
}

/* One line of ASCII for the reply, blanks for ends of lines. What has other characters is not said at all: LMTP's
 * replies have no charset (RFC 5429 §2.1.2). */
static void refuse(struct judging *judging, struct slice reason)
{
    struct slice line = slice_text(DELIVERY_SIEVE_REFUSAL);
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
    struct slice rest = delivery_header(judging->text);
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
    const struct delivery_text *text = judging->text;
    uint32_t ours = text->recipient_count == 1 && !text->partial ? 1 : 0;
    return fields_name(judging, REDIRECTED_FROM) > 0 || fields_name(judging, DELIVERED_TO) > ours;
}

/* The place for the texts of what is sent, once for each text; which it is of the variant's, or the message's. */
static uint32_t sent_place(struct judging *judging, struct delivery_variant *variant,
                           uint32_t edit_count)
{
    uint32_t *place = variant != NULL ? &variant->sent_place : &judging->sent_place;
    bool *sent = variant != NULL ? &variant->sent : &judging->sent;
    if (!*sent) {
        *place = variant != NULL ? variant->place_count : judging->text->place_count;
        *place_add(judging, edit_count) = outgoing_place();
        *sent = true;
    }
    return *place;
}

/* 0 or -errno. */
static int letter_put(struct judging *judging, const struct outgoing_letter *said,
                      uint32_t edit_count)
{
    struct delivery_text *text = judging->text;
    struct delivery_variant *variant = delivery_edit_get(judging, edit_count);
    struct outgoing_letter letter = *said;
    bool ascii =
        !delivery_is_eight_bit(letter.forward_path) && !delivery_is_eight_bit(letter.reverse_path);
    struct delivery_letter *put =
        (struct delivery_letter *)arena_take(&text->sieve_memory, sizeof *put);
    letter.text = mailstore_draft_id(variant != NULL ? variant->draft : text->message);
    letter.born_s = (uint64_t)world_wall_s(text->mailbox->shard->world);
    letter.flags |= (uint8_t)(ascii ? 0u : OUTGOING_SMTPUTF8);
    letter.user = slice_text(judging->recipient->user);
    int status = put != NULL ? outgoing_put(text->mailbox->outgoing, &letter, &put->item) : -ENOMEM;
    if (status != 0) {
        return status;
    }
    put->recipient = judging->index;
    put->variant = variant;
    put->place = sent_place(judging, variant, edit_count);
    put->next = text->letters;
    text->letters = put;
    return 0;
}

static bool can_send(const struct judging *judging)
{
    const struct outgoing *outgoing = judging->text->mailbox->outgoing;
    return outgoing != NULL && outgoing_can_send(outgoing);
}

static void redirect(struct judging *judging, const struct sieve_action *action)
{
    struct delivery_recipient *recipient = judging->recipient;
    char words[sizeof REDIRECTED_FROM + SMTP_ADDRESS_BYTES_MAX + 8];
    if (!can_send(judging)) {
        delivery_complain(judging, "redirect needs sieve.relay");
        keep(judging, slice_of(NULL, 0), action->edit_count);
        return;
    }
    if (loops(judging)) {
        delivery_complain(judging, "it was redirected from here before");
        keep(judging, slice_of(NULL, 0), action->edit_count);
        return;
    }
    int size = snprintf(words, sizeof words, REDIRECTED_FROM ": %.*s\r\n",
                        (int)recipient->address_bytes, (const char *)recipient->address);
    const struct outgoing_letter letter = {
        .flags = judging->text->eight_bit ? OUTGOING_8BITMIME : 0,
        .reverse_path = judging->text->reverse_path,
        .forward_path = action->text,
        .words = slice_of(words, (size_t)size),
    };
    int status = letter_put(judging, &letter, action->edit_count);
    judging->trouble = judging->trouble != 0 ? judging->trouble : status;
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

/* Of the place that holds its text. */
static int letter_status(const struct delivery_text *text, const struct delivery_letter *letter)
{
    const struct delivery_variant *variant = letter->variant;
    int status = variant != NULL ? variant->status : text->status;
    const struct mailstore_place *places = variant != NULL ? variant->places : text->places;
    return status != 0 ? status : places[letter->place].status;
}

static void status_worsen(struct delivery_text *text, uint32_t recipient, int status)
{
    for (uint32_t i = 0; status != 0 && i < text->recipient_count; i++) {
        if (text->ranges[i].recipient == recipient) {
            text->recipients[i].status = status;
        }
    }
}

/* Who is to be sent the message again has its letters then. */
static void letters_settle(struct delivery_text *text)
{
    for (struct delivery_letter *letter = text->letters; letter != NULL; letter = letter->next) {
        status_worsen(text, letter->recipient, letter_status(text, letter));
    }
    for (struct delivery_letter *letter = text->letters; letter != NULL; letter = letter->next) {
        bool good = text->recipients[letter->recipient].status == 0;
        int status = outgoing_settle(text->mailbox->outgoing, letter->item, good);
        if (good) {
            status_worsen(text, letter->recipient, status);
        }
    }
    text->letters = NULL;
}

/* ---- Answers ---- */

static struct sieve_answer answer_begin(const struct judging *judging)
{
    const struct delivery_text *text = judging->text;
    const struct delivery_recipient *recipient = judging->recipient;
    struct sieve_answer answer = {
        .hostname = slice_text(text->mailbox->conf->hostname),
        .wall_s = world_wall_s(text->mailbox->shard->world),
        .to = text->reverse_path,
        .owner = slice_of(recipient->address, recipient->address_bytes),
        .original = delivery_header(text),
    };
    world_random(text->mailbox->shard->world, answer.id, sizeof answer.id);
    return answer;
}

/* What there is no memory for is empty. */
static struct slice answer_write(struct judging *judging, const struct sieve_answer *answer,
                                 size_t (*write)(const struct sieve_answer *, uint8_t *, size_t))
{
    uint8_t *room = (uint8_t *)malloc(OUTGOING_WORDS_BYTES_MAX);
    size_t size = room != NULL ? write(answer, room, OUTGOING_WORDS_BYTES_MAX) : 0;
    struct slice words = slice_of(NULL, 0);
    if (size > 0) {
        arena_copy(&judging->text->sieve_memory, slice_of(room, size), &words);
    }
    free(room);
    return words;
}

/* Of an answer: its header may have such bytes too. */
static uint8_t eight_bit_flags(struct slice words)
{
    return delivery_is_eight_bit(words) ? OUTGOING_8BITMIME | OUTGOING_SMTPUTF8 : 0;
}

static void not_answered(const struct judging *judging, const char *why)
{
    logger_line(judging->text->mailbox->shard->logger, LOGGER_WARNING,
                "sieve: %s: the sender has no answer of vacation: %s", judging->recipient->user,
                why);
}

static struct delivery_after *after_add(struct judging *judging)
{
    struct delivery_text *text = judging->text;
    struct delivery_after *after =
        (struct delivery_after *)arena_take(&text->sieve_memory, sizeof *after);
    if (after != NULL) {
        after->recipient = judging->index;
        after->next = text->after;
        text->after = after;
    }
    return after;
}

static void after_forget(struct delivery_text *text, uint32_t recipient)
{
    struct delivery_after **at = &text->after;
    while (*at != NULL) {
        if ((*at)->recipient == recipient) {
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

/* ---- What was seen ---- */

bool delivery_was_seen(const struct judging *judging, enum remembered_kind kind,
                       struct slice handle, struct slice name)
{
    struct mailbox *mailbox = judging->text->mailbox;
    struct remembered_thing thing;
    return mailbox->remembered != NULL && remembered_make(&thing, kind, handle, name) &&
           remembered_has(mailbox->remembered, judging->user, &thing,
                          (uint64_t)world_wall_s(mailbox->shard->world));
}

void delivery_remember(struct judging *judging, enum remembered_kind kind, struct slice handle,
                       struct slice name, uint32_t seconds)
{
    struct remembered_thing thing;
    struct delivery_after *after = NULL;
    if (judging->text->mailbox->remembered != NULL && remembered_make(&thing, kind, handle, name)) {
        after = after_add(judging);
    }
    if (after != NULL) {
        after->thing = thing;
        after->seconds = seconds;
    }
}

/* ---- Away ---- */

/* RFC 5230 §4.2: once in `seconds` to each sender, in whatever letters he writes himself. */
static bool was_answered(const struct judging *judging, const struct sieve_vacation *vacation,
                         struct remembered_thing *thing)
{
    struct remembered *remembered = judging->text->mailbox->remembered;
    uint8_t sender[SMTP_ADDRESS_BYTES_MAX];
    size_t size = vacation->to.size < sizeof sender ? vacation->to.size : sizeof sender;
    for (size_t i = 0; i < size; i++) {
        sender[i] = slice_lower(vacation->to.bytes[i]);
    }
    return remembered == NULL ||
           !remembered_make(thing, REMEMBERED_VACATION, vacation->handle, slice_of(sender, size)) ||
           remembered_has(remembered, judging->user, thing,
                          (uint64_t)world_wall_s(judging->text->mailbox->shard->world));
}

static void vacation(struct judging *judging, const struct sieve_action *action)
{
    const struct sieve_vacation *said = &action->vacation;
    struct remembered_thing thing = {0};
    if (!can_send(judging)) {
        not_answered(judging, "it needs sieve.relay");
        return;
    }
    if (loops(judging) || was_answered(judging, said, &thing)) {
        return;
    }
    struct sieve_answer answer = answer_begin(judging);
    answer.to = said->to;
    answer.from = said->from;
    answer.subject = said->subject;
    answer.mime = said->mime;
    answer.reason = action->text;
    struct slice words = answer_write(judging, &answer, sieve_answer_vacation);
    struct delivery_after *after = words.size > 0 ? after_add(judging) : NULL;
    if (after == NULL || !arena_copy(&judging->text->sieve_memory, said->to, &after->to)) {
        not_answered(judging, "it is too long, or there is no memory");
        return;
    }
    after->words = words;
    after->thing = thing;
    after->seconds = said->seconds;
}

/* RFC 5429 §2.2: where the reply cannot carry the reason, a report does. False: it cannot be sent either. */
static bool rejection_sent(struct judging *judging, const struct sieve_action *action)
{
    if (action->kind != SIEVE_ACTION_REJECT || judging->text->reverse_path.size == 0 ||
        !can_send(judging)) {
        return false;
    }
    struct sieve_answer answer = answer_begin(judging);
    answer.reason = action->text;
    const struct slice words = answer_write(judging, &answer, sieve_answer_rejection);
    const struct outgoing_letter letter = {
        .flags = OUTGOING_WORDS_ALONE | eight_bit_flags(words),
        .forward_path = judging->text->reverse_path,
        .words = words,
    };
    int status = letter.words.size > 0 ? letter_put(judging, &letter, 0) : -E2BIG;
    if (status != -E2BIG && judging->trouble == 0) {
        judging->trouble = status;
    }
    return status != -E2BIG;
}

static void reject(struct judging *judging, const struct sieve_action *action)
{
    if (!delivery_is_eight_bit(action->text) || !rejection_sent(judging, action)) {
        refuse(judging, action->text);
    }
}

static void answer_send(const struct delivery_text *text, const struct delivery_after *after)
{
    const struct delivery_recipient *recipient = &text->recipients[after->recipient];
    const struct outgoing_letter letter = {
        .born_s = (uint64_t)world_wall_s(text->mailbox->shard->world),
        .flags = eight_bit_flags(after->words),
        .user = slice_text(recipient->user),
        .forward_path = after->to,
        .words = after->words,
    };
    int status = outgoing_put(text->mailbox->outgoing, &letter, NULL);
    if (status != 0) {
        logger_line(text->mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: the sender has no answer of vacation: %s", recipient->user,
                    strerror(-status));
    }
}

static void thing_remember(const struct delivery_text *text, const struct delivery_after *after)
{
    struct mailbox *mailbox = text->mailbox;
    const struct delivery_recipient *recipient = &text->recipients[after->recipient];
    uint64_t now_s = (uint64_t)world_wall_s(mailbox->shard->world);
    struct mailstore_user *user = NULL;
    int status = mailstore_user_open(mailbox->texts, slice_text(recipient->user), &user);
    if (status == 0) {
        status =
            remembered_add(mailbox->remembered, user, &after->thing, now_s, now_s + after->seconds);
        mailstore_user_close(mailbox->texts, user);
    }
    if (status != 0) {
        logger_line(mailbox->shard->logger, LOGGER_WARNING,
                    "sieve: %s: what was seen is not remembered: %s", recipient->user,
                    strerror(-status));
    }
}

void delivery_sieve_settle(struct delivery_text *text)
{
    letters_settle(text);
    for (struct delivery_after *after = text->after; after != NULL; after = after->next) {
        if (text->recipients[after->recipient].status == 0) {
            if (after->words.size > 0) {
                answer_send(text, after);
            }
            if (after->seconds > 0) {
                thing_remember(text, after);
            }
        }
    }
    text->after = NULL;
    text->variants = NULL;
    delivery_kept_drop(text);
}

/* ---- Actions ---- */

static void action_do(struct judging *judging, const struct sieve_action *action)
{
    switch (action->kind) {
    case SIEVE_ACTION_KEEP:
        keep(judging, action->flags, action->edit_count);
        return;
    case SIEVE_ACTION_FILEINTO:
        file_into(judging, action);
        return;
    case SIEVE_ACTION_REDIRECT:
        redirect(judging, action);
        return;
    case SIEVE_ACTION_REJECT:
    case SIEVE_ACTION_EREJECT:
        reject(judging, action);
        return;
    case SIEVE_ACTION_VACATION:
        vacation(judging, action);
        return;
    }
}

/* What is kept comes first, so that flags said for it are not lost to a redirect's. */
static void in_order(struct judging *judging, const struct sieve_result *result)
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
                "sieve: %s: what the script sends or edits cannot be stored now: %s",
                judging->recipient->user, strerror(-judging->trouble));
    letters_forget(judging->text, judging->index);
    after_forget(judging->text, judging->index);
    delivery_edit_forget(judging->text, judging->index);
    judging->text->place_count = judging->first;
    judging->recipient->trouble = judging->trouble;
}

bool delivery_actions_do(struct judging *judging, const struct sieve_result *result)
{
    if (!room_make(judging->text, judging->index, result->action_count)) {
        return false;
    }
    judging->result = result;
    in_order(judging, result);
    for (uint32_t i = 0; i < result->seen_count; i++) {
        const struct sieve_seen *seen = &result->seen[i];
        delivery_remember(judging, REMEMBERED_DUPLICATE, seen->handle, seen->name, seen->seconds);
    }
    if (judging->trouble != 0) {
        trouble_take(judging);
    }
    return true;
}
