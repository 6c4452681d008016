/*
 * program: bytecode, looked over, so that it can be run.
 *
 * What comes from a store is a stranger's: every number is checked here once, and jumps lead forward and to
 * instructions; what a program may cost is held by the interpreter.
 */
#pragma once
#include "engine/core/arena.h"
#include "proto/sieve/code.h"

#define SIEVE_PROGRAM_MAGIC "TPSV"

struct sieve_program_string {
    enum sieve_string_kind kind;
    struct slice bytes;
};

struct sieve_program_script {
    struct slice name; /* of what is included; empty: the script itself */
    bool present;
    uint32_t locals;
    struct slice code;
};

struct sieve_program {
    struct arena arena;
    struct sieve_program_string *strings;
    struct sieve_program_script *scripts;
    uint32_t string_count, script_count, globals;
    bool reads_body, edits_header, asks_mailboxes; /* it may: some instruction does */
};

/* bytes are borrowed until it is closed. 0; -EINVAL: it is none, or of another version: compile the script again;
 * -ENOMEM. Fine to close in all cases. */
int sieve_program_open(struct sieve_program *program, struct slice bytes);
void sieve_program_close(struct sieve_program *program);

/* For sieve_instruction_read. */
struct sieve_bounds sieve_program_bounds(const struct sieve_program *program, uint32_t script);
