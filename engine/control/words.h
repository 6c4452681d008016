/*
 * words: KEY=VALUE as one word of a request line, whatever the value is. Pure.
 *
 * In a value '%' and what could end a word or a line are written as %XX (RFC 3986 §2.1).
 */
#pragma once
#include "engine/core/slice.h"

/* Appends " KEY=VALUE" to a line that has `*used` bytes. 0, or -EMSGSIZE: there is no room, nothing
 * was written. The line stays a C string. */
int control_word_append(char *line, size_t room, size_t *used, const char *key, struct slice value);

/* Takes a word apart: the key points into it, the value is decoded into `text` and ends with NUL. A
 * word without '=' is a key with an empty value. 0; -EINVAL: a bad escape, or a NUL; -EMSGSIZE: the value
 * is longer than room - 1. */
int control_word_read(struct slice word, struct slice *key, char *text, size_t room);
