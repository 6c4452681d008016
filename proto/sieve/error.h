/*
 * error: what is wrong with a script, and where: for the person who wrote it.
 */
#pragma once
#include <stdint.h>

#define SIEVE_ERROR_BYTES 200

struct sieve_error {
    uint32_t script;              /* 0: the script itself; else the n-th that it includes */
    uint32_t line, column;        /* from 1; column 0: not known */
    char text[SIEVE_ERROR_BYTES]; /* one line of UTF-8, NUL at its end; empty: nothing is wrong */
};

/* Puts it together; bytes of the script that would steer a terminal are shown as '?'. */
void sieve_error_set(struct sieve_error *error, uint32_t line, uint32_t column, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));
