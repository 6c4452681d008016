/*
 * delivery_sieve_private: what delivery_sieve.c, which runs a recipient's script, and delivery_actions.c, which does what
 * it says, share. Nobody else includes it.
 */
#pragma once
#include "engine/mailbox/delivery_sieve.h"
#include "proto/sieve/run.h"

/* One recipient's script on one message. */
struct judging {
    struct delivery_text *text;
    struct delivery_recipient *recipient;
    const struct mailstore_place *usual;
    struct mailstore_user *user;
    uint32_t index; /* of the recipient */
    uint32_t first; /* of his places */
    bool kept;      /* it lies where it would without a script */
    bool sent;      /* it lies where outgoing.h has its texts: */
    uint32_t sent_place;
    int trouble;     /* of the recipient */
    bool not_edited; /* it could not be: he has the message as it came */
    const struct sieve_result *result;
};

/* The message after so many of the script's edits. NULL: as it came. */
struct delivery_variant *delivery_edit_get(struct judging *judging, uint32_t edit_count);
void delivery_edit_forget(struct delivery_text *text, uint32_t recipient);
/* As far as it was kept. */
struct slice delivery_header(const struct delivery_text *text);
void delivery_kept_drop(struct delivery_text *text);
bool delivery_is_eight_bit(struct slice part);
/* A line in the log: what went wrong, and that the message is kept. */
void delivery_complain(const struct judging *judging, const char *what);
bool delivery_was_seen(const struct judging *judging, enum remembered_kind kind,
                       struct slice handle, struct slice name);
/* To be remembered when the recipient has the message. */
void delivery_remember(struct judging *judging, enum remembered_kind kind, struct slice handle,
                       struct slice name, uint32_t seconds);
/* False: there are too many places, or no memory, and nothing is done. */
bool delivery_actions_do(struct judging *judging, const struct sieve_result *result);
