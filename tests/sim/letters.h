/*
 * letters: what the world knows of each message: who has sent it, what was answered, who has got it.
 *
 * The three answers of a crash, and what follows from them for whoever receives: a letter that was
 * answered with 250 comes to each of its recipients, or a report of it to its sender; one whose end was
 * sent, but not answered, may; any other must not. Byte by byte as it was sent, to nobody else, and twice
 * only for a reason. And its sender hears what he asked for, and nothing that he did not (RFC 3461).
 */
#pragma once
#include "engine/core/slice.h"
#include "tests/sim/sim.h"

#define LETTERS_MAX 512u
#define LETTER_RECIPIENTS_MAX 5u
#define LETTER_BYTES_MAX 400000u

/*
 *   NEW ──the dot is written──► SENT ──250──► ACCEPTED
 *    └──refused before──► REFUSED ◄──4xx, 5xx──┘
 */
enum letter_fate { LETTER_NEW, LETTER_SENT, LETTER_ACCEPTED, LETTER_REFUSED };

struct letter_recipient {
    uint8_t site;
    uint8_t user;   /* of a mailbox service, from 1; 0: of a sink, which knows everybody */
    bool rejected;  /* the sinks say 550 to it */
    bool left_out;  /* the relay did not take it at RCPT */
    uint8_t notify; /* enum smtp_notify: what its sender has asked for, and the relay has heard */
    bool unsure;    /* a relay may have forgotten that it was delivered */
    uint16_t delivered, confirmed, bounced, told; /* told: of success */
    uint16_t forgotten;    /* so often a relay may have forgotten that it has passed it on */
    uint64_t first_ns;     /* delivered */
    uint64_t confirmed_ns; /* the first time */
    uint64_t bounced_ns;   /* the last time */
    uint16_t delayed;      /* reports that it waits */
};

struct letter {
    uint32_t id;
    uint64_t seed;
    uint32_t bytes; /* of its body, about */
    bool null_sender;
    enum letter_fate fate;
    bool revived; /* refused, but a crash has brought it back */
    uint64_t sent_ns, refused_ns;
    uint32_t recipient_count;
    struct letter_recipient recipients[LETTER_RECIPIENTS_MAX];
};

struct letters {
    struct sim *sim;
    struct letter all[LETTERS_MAX];
    uint32_t count;
    uint8_t *text; /* room for one body */
    uint32_t large_percent;
    const uint8_t *sites; /* those that letters go to, by what was drawn; NULL: 0, 1, 2... */
    uint32_t user_count;  /* of a mailbox service, to which all of it goes; 0: there is none */
    /* The scenario's: may it come twice, or never come but as a report? */
    bool (*may_repeat)(void *owner, const struct letter *letter, uint32_t recipient);
    bool (*may_fail)(void *owner, const struct letter *letter, uint32_t recipient);
    void *owner;
    bool reports_expire; /* and are dropped then */
    bool wishless;       /* their senders wish nothing of reports */
    bool relayed_on;     /* who has taken it from the first relay may be another one ... */
    bool wishes_lost; /* ... which has not heard what the sender wishes, and reports all failures */
    uint64_t deliveries, reports, repeats;
};

void letters_open(struct letters *letters, struct sim *sim);
void letters_close(struct letters *letters);
/* NULL: enough. */
struct letter *letter_write(struct letters *letters, uint32_t site_count);
/* In wire form, in letters->text, until the next call. */
struct slice letter_body(struct letters *letters, const struct letter *letter);
void letter_path(const struct letter *letter, uint32_t recipient, char path[static 64]);
void letter_sender(const struct letter *letter, char path[static 64]); /* empty: the null path */

/* The letter and the recipient that a path is of. False: of none. */
bool letter_find(struct letters *letters, struct slice path, struct letter **letter,
                 uint32_t *recipient);
/* "m<id>@back.example": the letter that a report to this address is about. */
struct letter *letter_find_sender(struct letters *letters, struct slice path);

/* A sink has taken it, whose end had come to it at come_ns. It judges, and counts. */
void letter_delivered(struct letters *letters, struct letter *letter, uint32_t recipient,
                      uint64_t come_ns);
/* The relay knows it. */
void letter_confirmed(struct letters *letters, struct letter *letter, uint32_t recipient);
/* A relay has lost its power: what it was told since `settled_ns` may not be on its disk. */
void letters_forgotten(struct letters *letters, uint64_t settled_ns);
void letter_reported(struct letters *letters, struct letter *letter, struct slice report);
/* Is it the body that was sent, after Received: fields? */
void letter_compare(struct letters *letters, const struct letter *letter, struct slice body);
/* What the one who sent it was told is no. */
void letter_refused(struct letters *letters, struct letter *letter);
/* May it be on a relay's disk, after a crash? void_since_ns: since then the log could not write down which
 * of its records are void; 0: it could. */
void letter_check_kept(struct letters *letters, struct letter *letter, uint32_t recipient,
                       uint64_t void_since_ns);
/* At the end: nothing that was promised is missing. */
void letters_check_all(struct letters *letters);
