/* What lies in the Maildirs of a mailbox host, held against what was sent. */
#include "engine/core/check.h"
#include "tests/sim/mailbox_host.h"
#include "tests/sim/sim.h"
#include <ctype.h>

struct visit {
    struct sim_mailbox *mailbox;
    unsigned user;
    const char *place; /* "new" */
};

__attribute__((noreturn)) static void wrong(const struct visit *visit, const char *name,
                                            const char *what)
{
    sim_fail(visit->mailbox->host->sim, "host %u: u%u/%s/%s %s", visit->mailbox->host->index,
             visit->user, visit->place, name, what);
}

/* ---- One file ---- */

/* From wire form, in place: as RFC 5321 §4.5.2 has it, for text that has no CR or LF alone. */
static struct slice unwired(struct slice wire, uint8_t *text)
{
    size_t used = 0;
    bool begins = true;
    for (size_t i = 0; i < wire.size; i++) {
        if (wire.bytes[i] == '\r' || (begins && wire.bytes[i] == '.')) {
            begins = false;
            continue;
        }
        begins = wire.bytes[i] == '\n';
        text[used++] = wire.bytes[i];
    }
    return slice_of(text, used);
}

static bool begins_with(struct slice text, const char *with)
{
    return slice_equal(slice_first(text, strlen(with)), slice_text(with));
}

/* The first line, without its end; *text goes on after it. */
static struct slice line_take(struct slice *text)
{
    const uint8_t *end = text->size == 0 ? NULL : memchr(text->bytes, '\n', text->size);
    struct slice line = slice_first(*text, end == NULL ? text->size : (size_t)(end - text->bytes));
    *text = slice_from(*text, line.size + 1);
    return line;
}

static void name_check(const struct visit *visit, const char *name, struct slice text)
{
    const char *sizes = strstr(name, ",S=");
    unsigned long long size = 0, with_carriages = 0, lines = 0;
    for (size_t i = 0; i < text.size; i++) {
        lines += text.bytes[i] == '\n';
    }
    if (sizes == NULL || sscanf(sizes, ",S=%llu,W=%llu", &size, &with_carriages) != 2 ||
        size != text.size || with_carriages != text.size + lines) {
        wrong(visit, name, "has other sizes than its name tells");
    }
}

/* Before what was sent come Return-Path:, Delivered-To: where there was one recipient, and who has passed it
 * on. Returns the recipient, or LETTER_RECIPIENTS_MAX where it is not told. */
static uint32_t trace_check(const struct visit *visit, const char *name,
                            const struct letter *letter, struct slice trace)
{
    char sender[64], path[80];
    uint32_t recipient = LETTER_RECIPIENTS_MAX;
    letter_sender(letter, sender);
    snprintf(path, sizeof(path), "Return-Path: <%s>", sender);
    if (!slice_equal(line_take(&trace), slice_text(path))) {
        wrong(visit, name, "has not the Return-Path: of its sender");
    }
    if (begins_with(trace, "Delivered-To: ")) {
        struct letter *other;
        struct slice line = line_take(&trace);
        if (!letter_find(visit->mailbox->letters, slice_from(line, 14), &other, &recipient) ||
            other != letter || letter->recipients[recipient].user != visit->user) {
            wrong(visit, name, "is Delivered-To: somebody else");
        }
    }
    unsigned passed = 0;
    while (trace.size > 0) {
        struct slice line = line_take(&trace);
        if (begins_with(line, "Received: ")) {
            passed++;
        } else if (passed == 0 || line.size == 0 || !isblank(line.bytes[0])) {
            wrong(visit, name, "has something else before what was sent");
        }
    }
    if (passed < 2) {
        wrong(visit, name, "does not tell by whom it has come");
    }
    return recipient;
}

/* Does this user get it? */
static bool is_for(const struct letter *letter, unsigned user)
{
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        const struct letter_recipient *to = &letter->recipients[i];
        if (to->user == user && !to->left_out && !to->rejected) {
            return true;
        }
    }
    return false;
}

static struct letter *letter_of(struct letters *letters, struct slice text, struct slice *trace)
{
    static const char field[] = "\nX-Sim: ";
    const uint8_t *at = text.size == 0 ? NULL : memmem(text.bytes, text.size, field, 8);
    unsigned id = UINT32_MAX;
    if (at != NULL) {
        char number[16];
        size_t before = (size_t)(at + 1 - text.bytes);
        *trace = slice_first(text, before);
        snprintf(number, sizeof(number), "%.*s", (int)slice_from(text, before + 7).size,
                 (const char *)at + 8);
        sscanf(number, "%u", &id);
    }
    return id < letters->count ? &letters->all[id] : NULL;
}

static void file_visit(void *owner, const char *name, struct slice text)
{
    static uint8_t sent_text[LETTER_BYTES_MAX + 2048];
    const struct visit *visit = owner;
    struct sim_mailbox *mailbox = visit->mailbox;
    struct slice trace;
    struct letter *letter = letter_of(mailbox->letters, text, &trace);
    if (letter == NULL) {
        wrong(visit, name, "is no letter, or not all of one");
    }
    struct slice sent = unwired(letter_body(mailbox->letters, letter), sent_text);
    if (!slice_equal(slice_from(text, trace.size), sent)) {
        wrong(visit, name, "is not as it was sent");
    }
    name_check(visit, name, text);
    uint32_t recipient = trace_check(visit, name, letter, trace);
    if (!is_for(letter, visit->user) || letter->fate == LETTER_NEW ||
        letter->fate == LETTER_REFUSED) {
        wrong(visit, name, "was not sent to this user, or was refused");
    }
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        struct letter_recipient *to = &letter->recipients[i];
        to->delivered +=
            to->user == visit->user && (i == recipient || recipient == LETTER_RECIPIENTS_MAX);
    }
    mailbox->letters->deliveries++;
    mailbox->copies.of[letter->id][visit->user]++;
}

/* ---- All of them ---- */

static void maildir_visit(void *owner, const char *name, struct slice text)
{
    static const char *const places[] = {"new", "cur", "tmp"};
    struct visit visit = {.mailbox = owner, .place = ""};
    (void)text;
    if (name[0] == '.') {
        return; /* the staging folder */
    }
    if (sscanf(name, "u%u", &visit.user) != 1 || visit.user == 0 || visit.user > SIM_USERS) {
        wrong(&visit, name, "is the Maildir of nobody");
    }
    for (unsigned i = 0; i < RTE_DIM(places); i++) {
        char path[32];
        visit.place = places[i];
        snprintf(path, sizeof(path), "%s/%s", name, places[i]);
        sim_files_each(visit.mailbox->files, path, file_visit, &visit);
    }
}

void sim_mailbox_check(struct sim_mailbox *mailbox)
{
    struct letters *letters = mailbox->letters;
    for (uint32_t i = 0; i < letters->count; i++) {
        for (uint32_t j = 0; j < letters->all[i].recipient_count; j++) {
            letters->all[i].recipients[j].delivered = 0;
        }
    }
    memset(&mailbox->copies, 0, sizeof(mailbox->copies));
    letters->deliveries = 0;
    check(sim_files_each(mailbox->files, "", maildir_visit, mailbox));
    for (uint32_t i = 0; i < letters->count; i++) {
        for (unsigned user = 1; user <= SIM_USERS; user++) {
            if (mailbox->copies.of[i][user] < mailbox->survived.of[i][user]) {
                sim_fail(mailbox->host->sim,
                         "host %u: letter %u has vanished from the Maildir of u%u, where it had "
                         "survived a power loss",
                         mailbox->host->index, i, user);
            }
        }
    }
}

uint32_t sim_mailbox_extra_copies(const struct sim_mailbox *mailbox)
{
    const struct letters *letters = mailbox->letters;
    uint32_t extra = 0;
    for (uint32_t i = 0; i < letters->count; i++) {
        const struct letter *letter = &letters->all[i];
        for (unsigned user = 1; user <= SIM_USERS; user++) {
            uint32_t excused = 0, copies = mailbox->copies.of[i][user];
            for (uint32_t j = 0; j < letter->recipient_count; j++) {
                excused +=
                    letter->recipients[j].user == user ? 1u + letter->recipients[j].forgotten : 0;
            }
            extra += copies > excused ? copies - excused : 0;
        }
    }
    return extra;
}
