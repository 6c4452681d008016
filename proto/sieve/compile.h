/*
 * compile: from a script's text to bytecode that can be kept beside it and run (proto/sieve/program.h, run.h).
 *
 * Reads nothing by itself: where a script includes others, the compiler asks for them, and its owner gives each one's
 * text or says that there is none:
 *
 *     compiled = sieve_compile(compiler, script);
 *     while (compiled == SIEVE_COMPILE_NEED) {
 *         need = sieve_compile_need(compiler);
 *         compiled = found ? sieve_compile(compiler, text) : sieve_compile_absent(compiler);
 *     }
 *
 * The first mistake ends it. Source: RFC 5228, RFC 6609; docs/sieve.md lists the extensions.
 */
#pragma once
#include "proto/sieve/error.h"
#include "proto/sieve/words.h"

enum sieve_location { SIEVE_PERSONAL, SIEVE_GLOBAL };

struct sieve_compile_settings {
    uint32_t extensions; /* SIEVE_EXTENSION_BIT()s that scripts may use; SIEVE_EXTENSIONS_ALL */
    bool
        check_only; /* what a script includes is not asked for, and there is no program (CHECKSCRIPT) */
};

enum sieve_compiled {
    SIEVE_COMPILE_GOOD,
    SIEVE_COMPILE_NEED,
    SIEVE_COMPILE_WRONG, /* see sieve_compile_error */
};

struct sieve_need {
    struct slice name; /* as RFC 5804 §1.6 wants them; valid until the compiler is closed */
    enum sieve_location location;
};

struct sieve_compiler;

/* NULL: no memory. *settings is borrowed until it is closed. */
struct sieve_compiler *sieve_compiler_open(const struct sieve_compile_settings *settings);
void sieve_compiler_close(struct sieve_compiler *compiler); /* NULL is fine */

/* The script, and then each that was needed. The text is borrowed until the call returns. */
enum sieve_compiled sieve_compile(struct sieve_compiler *compiler, struct slice text);
enum sieve_compiled sieve_compile_absent(struct sieve_compiler *compiler);
struct sieve_need sieve_compile_need(const struct sieve_compiler *compiler);

/* After SIEVE_COMPILE_GOOD; valid until it is closed. */
struct slice sieve_compiled_program(const struct sieve_compiler *compiler);
/* After SIEVE_COMPILE_WRONG; likewise. */
const struct sieve_error *sieve_compile_error(const struct sieve_compiler *compiler);

/* "fileinto reject ...": what ManageSieve's SIEVE capability says. Cut at room; returns its length. */
size_t sieve_extensions_list(uint32_t extensions, char *room, size_t bytes);
/* Of 1 to 128 characters, without control characters and line separators (RFC 5804 §1.6)? */
bool sieve_script_name_valid(struct slice name);
