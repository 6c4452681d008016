#include "tests/sim/letters.h"
#include "proto/smtp/dsn_parameters.h"
#include "engine/core/check.h"
#include <ctype.h>

void letters_open(struct letters *letters, struct sim *sim)
{
    memset(letters, 0, sizeof(*letters));
    letters->sim = sim;
    letters->text = malloc(LETTER_BYTES_MAX + 2048);
    check(letters->text != NULL);
}

void letters_close(struct letters *letters)
{
    free(letters->text);
}

/* Half of all senders have none. Drawn aside from the world's randomness: what else happens is the same without it. */
static uint8_t wish(const struct letter *letter, uint32_t recipient)
{
    static const uint8_t wishes[] = {SMTP_NOTIFY_NEVER, SMTP_NOTIFY_SUCCESS, SMTP_NOTIFY_FAILURE,
                                     SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY};
    uint64_t random = letter->seed + recipient;
    uint32_t drawn = net_random_below(&random, 2 * sizeof(wishes));
    return drawn < sizeof(wishes) ? wishes[drawn] : 0;
}

struct letter *letter_write(struct letters *letters, uint32_t site_count)
{
    struct sim *sim = letters->sim;
    if (letters->count == LETTERS_MAX) {
        return NULL;
    }
    struct letter *letter = &letters->all[letters->count];
    *letter = (struct letter){.id = letters->count++, .seed = net_random(&sim->random)};
    letter->bytes =
        (uint32_t)(sim_chance(sim, letters->large_percent) ? sim_spread(sim, 1, LETTER_BYTES_MAX)
                                                           : sim_spread(sim, 1, 20000));
    letter->bytes = (uint32_t)sim_at_most(letter->bytes, sim->options.bytes);
    letter->null_sender = sim_chance(sim, 5);
    letter->recipient_count = (uint32_t)sim_spread(sim, 1, LETTER_RECIPIENTS_MAX);
    for (uint32_t i = 0; i < letter->recipient_count; i++) {
        uint8_t drawn = (uint8_t)sim_below(sim, site_count);
        letter->recipients[i].site = letters->sites == NULL ? drawn : letters->sites[drawn];
        letter->recipients[i].rejected = sim_chance(sim, 5);
        letter->recipients[i].notify = letters->wishless ? 0 : wish(letter, i);
        if (letters->user_count > 0) {
            letter->recipients[i].user = (uint8_t)(1 + sim_below(sim, letters->user_count));
        }
    }
    return letter;
}

/* Lines of any length, some of which begin with a dot. */
struct slice letter_body(struct letters *letters, const struct letter *letter)
{
    uint64_t random = letter->seed;
    uint8_t *at = letters->text;
    at +=
        sprintf((char *)at, "X-Sim: %u\r\nSubject: of %u bytes\r\n\r\n", letter->id, letter->bytes);
    uint8_t *end = at + letter->bytes;
    while (at < end) {
        uint32_t size = net_random_below(&random, net_random_below(&random, 8) == 0 ? 900 : 80);
        if (net_random_below(&random, 6) == 0) {
            *at++ = '.';
            *at++ = '.';
        }
        for (uint32_t i = 0; i < size && at < end; i += 8) {
            uint64_t bytes = net_random(&random);
            for (uint32_t j = 0; j < 8 && i + j < size && at < end; j++) {
                *at++ = (uint8_t)('A' + (bytes >> 8 * j) % 58);
            }
        }
        *at++ = '\r';
        *at++ = '\n';
    }
    return slice_of(letters->text, (size_t)(at - letters->text));
}

void letter_path(const struct letter *letter, uint32_t recipient, char path[static 64])
{
    const struct letter_recipient *to = &letter->recipients[recipient];
    char user[16] = "";
    if (to->user > 0 && to->rejected) {
        snprintf(user, sizeof(user), "nobody+");
    } else if (to->user > 0) {
        snprintf(user, sizeof(user), "u%u+", to->user);
    }
    snprintf(path, 64, "%sm%ur%u@s%u.example", user, letter->id, recipient, to->site);
}

void letter_sender(const struct letter *letter, char path[static 64])
{
    snprintf(path, 64, letter->null_sender ? "" : "m%u@back.example", letter->id);
}

bool letter_find(struct letters *letters, struct slice path, struct letter **letter,
                 uint32_t *recipient)
{
    char text[64], again[64];
    unsigned id, number;
    snprintf(text, sizeof(text), "%.*s", (int)path.size, (const char *)path.bytes);
    const char *plus = strchr(text, '+');
    if (sscanf(plus == NULL ? text : plus + 1, "m%ur%u@", &id, &number) != 2 ||
        id >= letters->count || number >= letters->all[id].recipient_count) {
        return false;
    }
    *letter = &letters->all[id];
    *recipient = number;
    letter_path(*letter, number, again);
    return strcmp(text, again) == 0;
}

struct letter *letter_find_sender(struct letters *letters, struct slice path)
{
    char text[64], again[64];
    unsigned id;
    snprintf(text, sizeof(text), "%.*s", (int)path.size, (const char *)path.bytes);
    if (sscanf(text, "m%u@", &id) != 1 || id >= letters->count) {
        return NULL;
    }
    letter_sender(&letters->all[id], again);
    return strcmp(text, again) == 0 ? &letters->all[id] : NULL;
}

static const char *fate_name(const struct letter *letter)
{
    static const char *const names[] = {"never sent", "sent but not answered", "accepted",
                                        "refused"};
    return names[letter->fate];
}

void letter_delivered(struct letters *letters, struct letter *letter, uint32_t recipient,
                      uint64_t come_ns)
{
    struct letter_recipient *to = &letter->recipients[recipient];
    letters->deliveries++;
    if (letter->fate == LETTER_NEW || letter->fate == LETTER_REFUSED || to->left_out) {
        sim_fail(letters->sim, "letter %u is delivered to recipient %u, though it was %s",
                 letter->id, recipient, to->left_out ? "not taken for it" : fate_name(letter));
    }
    if (to->rejected) {
        sim_fail(letters->sim, "letter %u is taken for recipient %u, whom nobody takes", letter->id,
                 recipient);
    }
    if (to->delivered > 0) {
        letters->repeats++;
    }
    if (to->confirmed > 0 && come_ns > to->confirmed_ns &&
        !letters->may_repeat(letters->owner, letter, recipient)) {
        sim_fail(letters->sim,
                 "letter %u comes to recipient %u again, though the relay has had the "
                 "answer to the first",
                 letter->id, recipient);
    }
    to->first_ns = to->delivered == 0 ? letters->sim->world.now_ns : to->first_ns;
    to->delivered++;
}

void letter_confirmed(struct letters *letters, struct letter *letter, uint32_t recipient)
{
    struct letter_recipient *to = &letter->recipients[recipient];
    to->confirmed_ns = to->confirmed == 0 ? letters->sim->world.now_ns : to->confirmed_ns;
    to->confirmed++;
}

void letters_forgotten(struct letters *letters, uint64_t settled_ns)
{
    for (uint32_t i = 0; i < letters->count; i++) {
        struct letter *letter = &letters->all[i];
        for (uint32_t j = 0; j < letter->recipient_count; j++) {
            struct letter_recipient *to = &letter->recipients[j];
            to->forgotten += letter->fate == LETTER_SENT || letter->fate == LETTER_ACCEPTED;
            /* What it has said last may still be on its way. */
            to->unsure |=
                to->delivered > 0 && (to->confirmed == 0 || to->confirmed_ns >= settled_ns);
        }
    }
}

/* What a report says of one recipient: "failed", "relayed", ... */
static void recipient_reported(struct letters *letters, struct letter *letter, uint32_t recipient,
                               const char *action)
{
    struct letter_recipient *to = &letter->recipients[recipient];
    bool success = strcmp(action, "relayed") == 0 || strcmp(action, "delivered") == 0;
    unsigned wished = success                          ? SMTP_NOTIFY_SUCCESS
                      : strcmp(action, "delayed") == 0 ? SMTP_NOTIFY_DELAY
                                                       : SMTP_NOTIFY_FAILURE;
    /* A relay reports failures to whoever has not said that he does not want it, and delays if it is told to. */
    bool unasked = !success && (to->notify == 0 || letters->wishes_lost);
    if (!unasked && (to->notify & wished) == 0) {
        sim_fail(letters->sim,
                 "letter %u is reported as %s for recipient %u, of which nobody wants to hear",
                 letter->id, action, recipient);
    }
    if (success && to->delivered == 0 && to->user == 0 && !letters->relayed_on) {
        sim_fail(letters->sim, "letter %u is reported as %s for recipient %u, who has nothing",
                 letter->id, action, recipient);
    }
    if (wished == SMTP_NOTIFY_FAILURE && !letters->may_fail(letters->owner, letter, recipient)) {
        sim_fail(letters->sim, "letter %u is returned for recipient %u, without a reason",
                 letter->id, recipient);
    }
    to->told += success;
    to->delayed += wished == SMTP_NOTIFY_DELAY;
    if (wished == SMTP_NOTIFY_FAILURE) {
        to->bounced++;
        to->bounced_ns = letters->sim->world.now_ns;
    }
}

void letter_reported(struct letters *letters, struct letter *letter, struct slice report)
{
    static const char field[] = "Final-Recipient: rfc822; ";
    const uint8_t *at = report.bytes, *end = report.bytes + report.size;
    unsigned named = 0;
    char text[256];
    letters->reports++;
    if (letter->fate == LETTER_NEW || letter->fate == LETTER_REFUSED) {
        sim_fail(letters->sim, "there is a report on letter %u, which was %s", letter->id,
                 fate_name(letter));
    }
    while ((at = memmem(at, (size_t)(end - at), field, sizeof(field) - 1)) != NULL) {
        struct letter *about;
        uint32_t recipient;
        at += sizeof(field) - 1;
        const uint8_t *line_end = memchr(at, '\r', (size_t)(end - at));
        struct slice path = slice_of(at, line_end == NULL ? 0 : (size_t)(line_end - at));
        if (!letter_find(letters, path, &about, &recipient) || about != letter) {
            sim_fail(letters->sim, "a report on letter %u is about %.*s", letter->id,
                     (int)path.size, (const char *)path.bytes);
        }
        char action[16] = "";
        snprintf(text, sizeof(text), "%.*s", (int)(end - at < 200 ? end - at : 200),
                 (const char *)at);
        const char *line = strstr(text, "\r\nAction: ");
        if (line == NULL || sscanf(line, "\r\nAction: %15[a-z]", action) != 1) {
            sim_fail(letters->sim, "a report on letter %u says nothing of recipient %u", letter->id,
                     recipient);
        }
        recipient_reported(letters, letter, recipient, action);
        named++;
    }
    if (named == 0) {
        sim_fail(letters->sim, "a report on letter %u names nobody", letter->id);
    }
}

void letter_compare(struct letters *letters, const struct letter *letter, struct slice body)
{
    struct slice sent = letter_body(letters, letter);
    if (body.size < sent.size ||
        memcmp(body.bytes + body.size - sent.size, sent.bytes, sent.size) != 0) {
        sim_fail(letters->sim,
                 "letter %u has changed on its way: %zu bytes were sent, %zu have come", letter->id,
                 sent.size, body.size);
    }
    size_t before = body.size - sent.size;
    for (size_t at = 0; at < before;) {
        const uint8_t *line = body.bytes + at;
        const uint8_t *line_end = memchr(line, '\n', before - at);
        if (line_end == NULL ||
            (strncmp((const char *)line, "Received: ", 10) != 0 && !(at > 0 && isblank(line[0])))) {
            sim_fail(letters->sim, "letter %u has come with something else before it", letter->id);
        }
        at += (size_t)(line_end - line) + 1;
    }
    if (before == 0) {
        sim_fail(letters->sim, "letter %u has come without a Received: field", letter->id);
    }
}

void letter_refused(struct letters *letters, struct letter *letter)
{
    letter->refused_ns = letters->sim->world.now_ns;
    letter->fate = letter->revived ? LETTER_SENT : LETTER_REFUSED;
}

void letter_check_kept(struct letters *letters, struct letter *letter, uint32_t recipient,
                       uint64_t void_since_ns)
{
    /* A write that has failed may have landed. When the disk fails again, so that the log cannot say in
     * another segment what is void, those who wait are told at once (log.h): a crash in that time may
     * bring back what was refused. The answer may even still be on its way. */
    if (void_since_ns != 0 && letter->fate == LETTER_REFUSED &&
        letter->refused_ns >= void_since_ns) {
        letter->fate = LETTER_SENT;
    }
    letter->revived |= void_since_ns != 0 && letter->fate == LETTER_SENT;
    if (letter->fate == LETTER_NEW || letter->fate == LETTER_REFUSED ||
        letter->recipients[recipient].left_out) {
        sim_fail(letters->sim, "letter %u for recipient %u is on the disk, though it was %s",
                 letter->id, recipient, fate_name(letter));
    }
}

void letters_check_all(struct letters *letters)
{
    for (uint32_t i = 0; i < letters->count; i++) {
        const struct letter *letter = &letters->all[i];
        for (uint32_t j = 0; letter->fate == LETTER_ACCEPTED && j < letter->recipient_count; j++) {
            const struct letter_recipient *to = &letter->recipients[j];
            /* A report for nobody is not made, and one that grows too old itself is dropped. */
            bool untold = letter->null_sender || letters->reports_expire;
            bool deaf = to->notify != 0 && (to->notify & SMTP_NOTIFY_FAILURE) == 0;
            bool dropped = (untold || deaf) && letters->may_fail(letters->owner, letter, j);
            if (to->delivered > 0 && to->told == 0 && !untold && !to->rejected && !to->left_out &&
                (to->notify & SMTP_NOTIFY_SUCCESS) != 0) {
                sim_fail(
                    letters->sim,
                    "recipient %u has letter %u, but its sender has not heard of it, as he wished",
                    j, i);
            }
            if (to->delivered == 0 && to->bounced == 0 && !to->left_out && !dropped) {
                sim_fail(letters->sim,
                         "letter %u was accepted at %.3f s, but recipient %u has nothing, "
                         "and its sender no report",
                         i, (double)(letter->sent_ns - letters->sim->started_ns) / 1e9, j);
            }
        }
    }
}
