#include "proto/sieve/run_private.h"
#include "proto/message/address_list.h"
#include <errno.h>
#include <stdio.h>

/* ---- Who must not get an answer (RFC 5230 §4.5, §4.6; RFC 3834 §2) ---- */

static bool begins(struct slice text, const char *with)
{
    struct slice beginning = slice_text(with);
    return slice_equal_nocase(slice_first(text, beginning.size), beginning);
}

static bool ends(struct slice text, const char *with)
{
    struct slice end = slice_text(with);
    return text.size >= end.size && slice_equal_nocase(slice_from(text, text.size - end.size), end);
}

static bool is_program(struct slice address)
{
    const uint8_t *at = memrchr(address.bytes, '@', address.size);
    struct slice local =
        slice_first(address, at != NULL ? (size_t)(at - address.bytes) : address.size);
    static const char *const names[] = {"mailer-daemon", "listserv",   "majordomo",   "noreply",
                                        "no-reply",      "donotreply", "do-not-reply"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal_nocase(local, slice_text(names[i]))) {
            return true;
        }
    }
    return begins(local, "owner-") || ends(local, "-owner") || ends(local, "-request") ||
           ends(local, "-bounces") || begins(local, "bounce-") || begins(local, "bounces+");
}

/* One of the owner's? */
static bool is_own(const struct sieve_run *run, const struct slice *more, uint32_t more_count,
                   struct slice address)
{
    for (size_t i = 0; i < run->settings->address_count; i++) {
        if (slice_equal_nocase(address, run->settings->addresses[i])) {
            return true;
        }
    }
    for (uint32_t i = 0; i < more_count; i++) {
        if (slice_equal_nocase(address, sieve_trim(more[i]))) {
            return true;
        }
    }
    return slice_equal_nocase(address, run->message->envelope_to);
}

static bool field_exists(struct sieve_run *run, const char *name)
{
    struct slice value;
    return sieve_field(run, slice_text(name), 0, SIEVE_FIELD_RAW, &value);
}

static bool from_list(struct sieve_run *run)
{
    static const char *const names[] = {"List-Id",        "List-Post",  "List-Help",
                                        "List-Subscribe", "List-Owner", "List-Unsubscribe",
                                        "List-Archive"};
    struct slice value;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (field_exists(run, names[i])) {
            return true;
        }
    }
    if (!sieve_field(run, slice_text("Precedence"), 0, SIEVE_FIELD_RAW, &value)) {
        return false;
    }
    value = sieve_trim(value);
    return slice_equal_nocase(value, slice_text("bulk")) ||
           slice_equal_nocase(value, slice_text("junk")) ||
           slice_equal_nocase(value, slice_text("list"));
}

static bool automatic(struct sieve_run *run)
{
    struct slice value;
    if (sieve_field(run, slice_text("Auto-Submitted"), 0, SIEVE_FIELD_RAW, &value)) {
        value = sieve_trim(value);
        struct slice no = slice_text("no");
        bool is_no = slice_equal_nocase(slice_first(value, no.size), no) &&
                     (value.size == no.size || strchr(" \t(;\r", value.bytes[no.size]) != NULL);
        if (!is_no) {
            return true;
        }
    }
    if (sieve_field(run, slice_text("X-Auto-Response-Suppress"), 0, SIEVE_FIELD_RAW, &value)) {
        return memmem(value.bytes, value.size, "OOF", 3) != NULL ||
               memmem(value.bytes, value.size, "All", 3) != NULL;
    }
    return false;
}

/* Does the message name one of the owner's addresses? */
static bool is_recipient(struct sieve_run *run, const struct slice *more, uint32_t more_count)
{
    static const char *const names[] = {"To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct slice value;
        for (uint32_t n = 0; sieve_field(run, slice_text(names[i]), n, SIEVE_FIELD_RAW, &value);
             n++) {
            char mailbox[SIEVE_ADDRESS_BYTES_MAX];
            size_t size;
            int status;
            run->work += value.size / 4;
            while ((status = address_list_next(&value, mailbox, sizeof(mailbox), &size)) != 0) {
                if (status == 1 && is_own(run, more, more_count, slice_of(mailbox, size))) {
                    return true;
                }
            }
        }
    }
    return false;
}

static enum sieve_no_answer why_not(struct sieve_run *run, const struct slice *more,
                                    uint32_t more_count)
{
    struct slice sender = run->message->envelope_from;
    if (sender.size == 0 || !sieve_address_valid(sender) || is_program(sender)) {
        return SIEVE_NO_ANSWER_SENDER;
    }
    if (is_own(run, more, more_count, sender)) {
        return SIEVE_NO_ANSWER_SELF;
    }
    if (automatic(run)) {
        return SIEVE_NO_ANSWER_AUTOMATIC;
    }
    if (from_list(run)) {
        return SIEVE_NO_ANSWER_LIST;
    }
    return is_recipient(run, more, more_count) ? SIEVE_ANSWERED : SIEVE_NO_ANSWER_RECIPIENT;
}

/* ---- The answer ---- */

/* Text that goes into a header field: one line. */
static bool line_copy(struct sieve_run *run, struct slice text, struct slice *line)
{
    text = sieve_cut(text, SIEVE_VALUE_BYTES_MAX);
    uint8_t *bytes = arena_take(&run->arena, text.size);
    if (bytes == NULL) {
        return sieve_fail_memory(run);
    }
    for (size_t i = 0; i < text.size; i++) {
        bytes[i] = text.bytes[i] < ' ' || text.bytes[i] == 0x7f ? ' ' : text.bytes[i];
    }
    *line = sieve_trim(slice_of(bytes, text.size));
    return true;
}

/* RFC 5230 §4.3: "Auto: " and the subject of the message, when none is given. */
static bool subject_make(struct sieve_run *run, struct sieve_vacation *vacation)
{
    struct slice text, original = slice_of(NULL, 0);
    if (run->instruction.strings[1] != SIEVE_NO_STRING) {
        return sieve_operand(run, 1, &text) && line_copy(run, text, &vacation->subject);
    }
    sieve_field(run, slice_text("Subject"), 0, SIEVE_FIELD_TEXT, &original);
    original = sieve_cut(sieve_trim(original), SIEVE_VALUE_BYTES_MAX);
    uint8_t *bytes = arena_take(&run->scratch, original.size + 6);
    if (bytes == NULL) {
        return sieve_fail_memory(run);
    }
    memcpy(bytes, "Auto: ", 6);
    if (original.size > 0) {
        memcpy(bytes + 6, original.bytes, original.size);
    }
    return line_copy(run, slice_of(bytes, original.size + 6), &vacation->subject);
}

static bool from_make(struct sieve_run *run, struct sieve_vacation *vacation)
{
    char mailbox[SIEVE_ADDRESS_BYTES_MAX];
    struct slice text, list;
    size_t size;
    if (!sieve_operand(run, 2, &text) || !line_copy(run, text, &vacation->from)) {
        return false;
    }
    if (vacation->from.size == 0) {
        return true;
    }
    list = vacation->from;
    bool good = address_list_next(&list, mailbox, sizeof(mailbox), &size) == 1 &&
                sieve_address_valid(slice_of(mailbox, size)) &&
                address_list_next(&list, mailbox, sizeof(mailbox), &size) == 0;
    return good || sieve_fail(run, "vacation: :from is no mailbox");
}

static uint64_t hash_add(uint64_t hash, struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        hash = (hash ^ text.bytes[i]) * 0x100000001b3ull;
    }
    return (hash ^ 0xff) * 0x100000001b3ull; /* no text has this byte: "ab","c" is not "a","bc" */
}

/* RFC 5230 §4.2: what is said in the same words is the same answer. Only the owner's own words are in it. */
static bool handle_make(struct sieve_run *run, struct sieve_action *action)
{
    struct sieve_vacation *vacation = &action->vacation;
    struct slice given;
    if (run->instruction.strings[3] != SIEVE_NO_STRING) {
        if (!sieve_operand(run, 3, &given)) {
            return false;
        }
        if (given.size > 0) {
            return arena_copy(&run->arena, sieve_cut(given, SIEVE_VALUE_BYTES_MAX),
                              &vacation->handle) ||
                   sieve_fail_memory(run);
        }
    }
    bool subject = run->instruction.strings[1] != SIEVE_NO_STRING;
    uint64_t hash = hash_add(14695981039346656037ull, action->text);
    hash = hash_add(hash, subject ? vacation->subject : slice_of(NULL, 0));
    hash = hash_add(hash, vacation->from);
    hash = hash_add(hash, slice_text(vacation->mime ? "mime" : ""));
    char text[24];
    int size = snprintf(text, sizeof(text), "=%016llx", (unsigned long long)hash);
    return arena_copy(&run->arena, slice_of(text, (size_t)size), &vacation->handle) ||
           sieve_fail_memory(run);
}

static uint32_t seconds_get(const struct sieve_run *run)
{
    const struct sieve_settings *settings = run->settings;
    if (!(run->instruction.flags & SIEVE_VACATION_SECONDS)) {
        return settings->vacation_default_s;
    }
    uint64_t seconds = run->instruction.number;
    seconds = seconds < settings->vacation_min_s ? settings->vacation_min_s : seconds;
    seconds = seconds > settings->vacation_max_s ? settings->vacation_max_s : seconds;
    return (uint32_t)seconds;
}

bool sieve_vacation_run(struct sieve_run *run)
{
    struct sieve_list list = run->instruction.lists[0];
    struct slice *more, reason;
    for (uint32_t i = 0; i < run->result.action_count; i++) {
        if (run->actions[i].kind == SIEVE_ACTION_VACATION) {
            return sieve_fail(run, "vacation: there is an answer already");
        }
    }
    if (!sieve_operand(run, 0, &reason) || !sieve_list_strings(run, list, &more)) {
        return false;
    }
    enum sieve_no_answer no_answer = why_not(run, more, list.count);
    struct sieve_action *action = sieve_action_add(run, SIEVE_ACTION_VACATION);
    if (action == NULL) {
        return false;
    }
    struct sieve_vacation *vacation = &action->vacation;
    vacation->mime = (run->instruction.flags & SIEVE_VACATION_MIME) != 0;
    vacation->seconds = seconds_get(run);
    if (!arena_copy(&run->arena, sieve_cut(reason, SIEVE_REASON_BYTES_MAX), &action->text) ||
        !arena_copy(&run->arena, run->message->envelope_from, &vacation->to)) {
        return sieve_fail_memory(run);
    }
    if (!subject_make(run, vacation) || !from_make(run, vacation) || !handle_make(run, action)) {
        return false;
    }
    run->result.no_answer = no_answer;
    if (no_answer != SIEVE_ANSWERED) {
        run->result.action_count--; /* its mistakes are found all the same */
    }
    return true;
}
