#include "proto/sieve/run_private.h"
#include "proto/message/utf8.h"
#include "proto/smtp/address.h"

static bool has_action(const struct sieve_run *run, enum sieve_action_kind kind)
{
    for (uint32_t i = 0; i < run->result.action_count; i++) {
        if (run->actions[i].kind == kind) {
            return true;
        }
    }
    return false;
}

/* RFC 5429 §2.1.1, §2.2: refused and delivered at once cannot be. */
static bool fits(struct sieve_run *run, enum sieve_action_kind kind)
{
    bool rejected = has_action(run, SIEVE_ACTION_REJECT) || has_action(run, SIEVE_ACTION_EREJECT);
    if (kind == SIEVE_ACTION_REJECT || kind == SIEVE_ACTION_EREJECT) {
        return run->result.action_count == 0 ||
               sieve_fail(run, rejected ? "the message is rejected already"
                                        : "reject cannot go with other actions");
    }
    return !rejected || sieve_fail(run, "the message is rejected already");
}

struct sieve_action *sieve_action_add(struct sieve_run *run, enum sieve_action_kind kind)
{
    if (!fits(run, kind)) {
        return NULL;
    }
    if (run->result.action_count == SIEVE_ACTIONS_MAX) {
        sieve_fail(run, "the script does too much");
        return NULL;
    }
    struct sieve_action *action = &run->actions[run->result.action_count++];
    *action = (struct sieve_action){.kind = kind, .edit_count = run->result.edit_count};
    return action;
}

/* One that does the same already; NULL: none. INBOX is the main mailbox (RFC 9051 §5.1). */
static struct sieve_action *same_find(struct sieve_run *run, enum sieve_action_kind kind,
                                      struct slice text)
{
    struct slice inbox = slice_text("INBOX");
    bool stores = kind == SIEVE_ACTION_KEEP || kind == SIEVE_ACTION_FILEINTO;
    bool main = kind == SIEVE_ACTION_KEEP || (stores && slice_equal_nocase(text, inbox));
    for (uint32_t i = 0; i < run->result.action_count; i++) {
        struct sieve_action *action = &run->actions[i];
        bool other = action->kind == SIEVE_ACTION_KEEP || (action->kind == SIEVE_ACTION_FILEINTO &&
                                                           slice_equal_nocase(action->text, inbox));
        if ((main && other) || (action->kind == kind && !main && slice_equal(action->text, text))) {
            return action;
        }
    }
    return NULL;
}

/* Into a mailbox, once: who files again into the same one says which flags it shall have. */
static bool store(struct sieve_run *run, enum sieve_action_kind kind, struct slice mailbox)
{
    struct slice flags;
    if (!sieve_action_flags(run, run->instruction.lists[0], &flags)) {
        return false;
    }
    struct sieve_action *action = same_find(run, kind, mailbox);
    if (action == NULL) {
        action = sieve_action_add(run, kind);
        if (action == NULL) {
            return false;
        }
        if (!arena_copy(&run->arena, mailbox, &action->text)) {
            return sieve_fail_memory(run);
        }
    }
    action->flags = flags;
    if (kind == SIEVE_ACTION_FILEINTO && (run->instruction.flags & SIEVE_CREATE)) {
        action->create = true;
    }
    return true;
}

bool sieve_keep_run(struct sieve_run *run)
{
    run->implicit_keep = false;
    return store(run, SIEVE_ACTION_KEEP, slice_of(NULL, 0));
}

static bool printable(struct slice text)
{
    while (text.size > 0) {
        size_t bytes = utf8_printable(text);
        if (bytes == 0) {
            return false;
        }
        text = slice_from(text, bytes);
    }
    return true;
}

bool sieve_fileinto_run(struct sieve_run *run)
{
    struct slice mailbox;
    if (!sieve_operand(run, 0, &mailbox)) {
        return false;
    }
    if (mailbox.size == 0 || mailbox.size > SIEVE_MAILBOX_BYTES_MAX || !printable(mailbox)) {
        return sieve_fail(run, "fileinto: this is no name for a mailbox");
    }
    if (!(run->instruction.flags & SIEVE_COPY)) {
        run->implicit_keep = false;
    }
    return store(run, SIEVE_ACTION_FILEINTO, mailbox);
}

bool sieve_address_valid(struct slice address)
{
    uint8_t path[SIEVE_ADDRESS_BYTES_MAX + 2];
    struct smtp_path parsed;
    size_t used;
    if (address.size == 0 || address.size > SIEVE_ADDRESS_BYTES_MAX) {
        return false;
    }
    path[0] = '<';
    memcpy(path + 1, address.bytes, address.size);
    path[address.size + 1] = '>';
    struct slice text = slice_of(path, address.size + 2);
    return smtp_path_parse(&parsed, text, &used) == SMTP_PATH_GOOD && used == text.size &&
           parsed.domain.size > 0 && parsed.mailbox.size == address.size;
}

bool sieve_redirect_run(struct sieve_run *run)
{
    struct slice address;
    if (!sieve_operand(run, 0, &address)) {
        return false;
    }
    address = sieve_trim(address);
    if (!sieve_address_valid(address)) {
        return sieve_fail(run, "redirect: this is no address");
    }
    if (!(run->instruction.flags & SIEVE_COPY)) {
        run->implicit_keep = false;
    }
    if (same_find(run, SIEVE_ACTION_REDIRECT, address) != NULL) {
        return true;
    }
    if (run->redirects++ >= run->settings->redirects_max) {
        return sieve_fail(run, "redirect: more than %u are not allowed",
                          run->settings->redirects_max);
    }
    struct sieve_action *action = sieve_action_add(run, SIEVE_ACTION_REDIRECT);
    if (action == NULL) {
        return false;
    }
    return arena_copy(&run->arena, address, &action->text) || sieve_fail_memory(run);
}

bool sieve_reject_run(struct sieve_run *run)
{
    struct slice reason;
    if (!sieve_operand(run, 0, &reason)) {
        return false;
    }
    run->implicit_keep = false;
    struct sieve_action *action = sieve_action_add(
        run, (run->instruction.flags & SIEVE_EREJECT) ? SIEVE_ACTION_EREJECT : SIEVE_ACTION_REJECT);
    if (action == NULL) {
        return false;
    }
    return arena_copy(&run->arena, sieve_cut(reason, SIEVE_REASON_BYTES_MAX), &action->text) ||
           sieve_fail_memory(run);
}
