/*
 * mime_field: what stands in structured MIME fields: tokens, quoted strings, comments, parameters.
 *
 * For the structure of messages. Everything is kept as it was written: encoded words and the percent signs of RFC 2231
 * stay, only continued parameters become one. What cannot be read ends the reading; what was read before it counts.
 *
 * Source: RFC 2045 §5.1, RFC 2183 §2, RFC 2231 §3-§4.
 */
#pragma once
#include "engine/core/arena.h"

struct mime_parameter {
    struct mime_parameter *next;
    struct slice
        name; /* with a '*' at the end: the value is as RFC 2231 §4 has it, charset'language'text */
    struct slice value;
};

/* Blanks, ends of lines and comments in front of text go. */
void mime_skip_blanks(struct slice *text);
/* Takes a token, empty when there is none, and what mime_skip_blanks takes behind it. */
struct slice mime_token(struct slice *text);
/* The parameters at the start of text, "; name=value; ...", those of RFC 2231 behind the others. NULL: there are none,
 * or the arena has no room. */
struct mime_parameter *mime_parameters(struct arena *arena, struct slice text);
/* NULL: there is none of this name. */
const struct mime_parameter *mime_parameter_find(const struct mime_parameter *first,
                                                 const char *name);
