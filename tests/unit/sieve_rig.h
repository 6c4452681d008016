/* sieve_rig: a script on a message, and what came of it as one line of text. */
#pragma once
#include "proto/sieve/compile.h"
#include "proto/sieve/run.h"

struct sieve_scene {
    const char *script;
    const char *message;     /* its lines end with \n, a field's may be folded; NULL: a short one */
    const char *from, *to;   /* of the envelope; NULL: sender@example.org, user@example.com */
    const char *includes[6]; /* name, text, name, text: the personal ones; then NULL */
    const char *yes; /* what a store answers yes to, each in commas: ",INBOX,"; NULL: nothing */
    uint64_t work_max;
    uint32_t vacation_min_s;
};

extern unsigned sieve_looks; /* for a field of the message, so far */

/*
 * "keep", "fileinto A [flags] copy", "redirect a@b", "discard" and so on, in their order, "; " between; edits before
 * them as "+Name: value", "-Name 0"; or "error 2:5 text", of the compiler, or "failed 3 text". Valid until the next call.
 */
const char *sieve_play(const struct sieve_scene *scene);
/* The same with this bytecode instead of the script. */
const char *sieve_play_program(const struct sieve_scene *scene, struct slice bytes);
