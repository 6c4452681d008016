/*
 * rfc_play: the examples of an RFC, played by clients of tests/unit/imap_rig.h.
 *
 * A step is what a client says and what it hears then, as its RFC shows it; mail and numbers are the test's own. In what
 * is said "\n" ends a line, "<<text>>" is a literal that waits for the server, "<+text+>" one that does not; the end of
 * the command is put behind. What is heard is as tests/unit/rfc_pattern.h has it.
 */
#pragma once
#include "tests/unit/imap_rig.h"
#include "tests/unit/rfc_pattern.h"

#define RFC_SAID_MAX 16384u
#define RFC_ROUNDS_MAX 3000u

struct rfc_step {
    unsigned client;
    const char *says; /* NULL: nothing */
    const char *hears;
};

/* Waits for all of it. */
static inline void rfc_hear(struct imap_rig *rig, const struct rfc_step *step)
{
    struct imap_client *client = &rig->clients[step->client];
    const char *missing = NULL;
    for (unsigned round = 0; round < RFC_ROUNDS_MAX; round++) {
        missing = rfc_missing(client->heard, step->hears);
        if (missing == NULL || client->closed) {
            break;
        }
        rig_round(rig);
    }
    const char *unwanted = rfc_unwanted(client->heard, step->hears);
    if (missing != NULL || unwanted != NULL) {
        const char *line = missing != NULL ? missing : unwanted;
        fail_msg("%s\nis answered with\n%s\n\"%.*s\" is not so", step->says, client->heard,
                 (int)strcspn(line, "\n"), line);
    }
}

struct rfc_said {
    char bytes[RFC_SAID_MAX];
    size_t count;
};

static inline void rfc_put(struct rfc_said *said, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        check(said->count + 2 < sizeof(said->bytes));
        if (text[i] == '\n') {
            said->bytes[said->count++] = '\r';
        }
        said->bytes[said->count++] = text[i];
    }
}

static inline void rfc_say(struct imap_rig *rig, unsigned client, struct rfc_said *said)
{
    say_bytes(rig, client, slice_of(said->bytes, said->count));
    said->count = 0;
}

/* Returns what is behind the literal. */
static inline const char *rfc_literal(struct imap_rig *rig, unsigned client, struct rfc_said *said,
                                      const char *at)
{
    bool waits = at[1] == '<';
    const char *text = at + 2, *end = strstr(text, waits ? ">>" : "+>");
    char head[32];
    check(end != NULL);
    size_t size = (size_t)(end - text);
    for (const char *c = text; c < end; c++) {
        size += *c == '\n';
    }
    snprintf(head, sizeof(head), waits ? "{%zu}\n" : "{%zu+}\n", size);
    rfc_put(said, head, strlen(head));
    if (waits) {
        rfc_say(rig, client, said);
        hear(rig, client, "+ ");
    }
    rfc_put(said, text, (size_t)(end - text));
    return end + 2;
}

static inline void rfc_play(struct imap_rig *rig, const struct rfc_step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct rfc_said said = {.count = 0};
        for (const char *at = steps[i].says; at != NULL && *at != '\0';) {
            if (at[0] == '<' && (at[1] == '<' || at[1] == '+')) {
                at = rfc_literal(rig, steps[i].client, &said, at);
            } else {
                rfc_put(&said, at++, 1);
            }
        }
        if (steps[i].says != NULL) {
            rfc_put(&said, "\n", 1);
            rfc_say(rig, steps[i].client, &said);
        }
        rfc_hear(rig, &steps[i]);
    }
}
#define RFC_PLAY(rig, steps) rfc_play(rig, steps, sizeof(steps) / sizeof((steps)[0]))

/* Client 0 is alice. */
static inline struct imap_rig *rfc_alice(void **state)
{
    struct imap_rig *rig = (struct imap_rig *)*state;
    log_in(rig, 0);
    return rig;
}

/* So many letters in INBOX: "Subject: letter 3" and a body of one line. */
static inline void rfc_letters(struct imap_rig *rig, unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        char letter[200];
        snprintf(letter, sizeof(letter),
                 "Date: Tue, %u Feb 1994 21:52:25 -0800\r\nFrom: Fred <fred@x.example>\r\n"
                 "Subject: letter %u\r\n\r\ntext of %u\r\n",
                 i % 28 + 1, i, i);
        append(rig, 0, "INBOX", letter);
    }
}
