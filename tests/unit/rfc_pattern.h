/*
 * rfc_pattern: what is heard, compared with the shape that an RFC shows.
 *
 * Each line is a pattern, and they come in this order: "^" is a number, "%" stands for anything within the line, "%%" for
 * more lines, too. "!" in front: there is no such line. Other lines may stand between.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Is the line, or are the lines, so? Returns the end, or NULL. */
static inline const char *rfc_begins(const char *text, const char *pattern, const char *pattern_end)
{
    for (; pattern < pattern_end; pattern++) {
        if (*pattern == '^') {
            if (*text < '0' || *text > '9') {
                return NULL;
            }
            text += strspn(text, "0123456789");
            continue;
        }
        if (*pattern == '%') {
            bool lines = pattern + 1 < pattern_end && pattern[1] == '%';
            const char *rest = pattern + (lines ? 2 : 1);
            for (;; text++) {
                const char *end = rfc_begins(text, rest, pattern_end);
                if (end != NULL) {
                    return end;
                }
                if (*text == '\0' || (!lines && *text == '\r')) {
                    return NULL;
                }
            }
        }
        if (*text != *pattern) {
            return NULL;
        }
        text++;
    }
    return text[0] == '\r' && text[1] == '\n' ? text : NULL;
}

/* The next whole line that is as the pattern says; NULL: there is none. Returns what is behind it. */
static inline const char *rfc_find(const char *heard, const char *pattern, const char *pattern_end)
{
    while (heard != NULL && *heard != '\0') {
        const char *end = rfc_begins(heard, pattern, pattern_end);
        if (end != NULL) {
            return end + 2;
        }
        heard = strstr(heard, "\r\n");
        heard = heard != NULL ? heard + 2 : NULL;
    }
    return NULL;
}

/* NULL: all is there; else the first pattern that is not. */
static inline const char *rfc_missing(const char *heard, const char *hears)
{
    const char *at = heard;
    while (*hears != '\0') {
        const char *end = hears + strcspn(hears, "\n");
        const char *after = hears[0] != '!' ? rfc_find(at, hears, end) : at;
        if (after == NULL) {
            return hears;
        }
        at = after;
        hears = *end == '\n' ? end + 1 : end;
    }
    return NULL;
}

/* NULL: none of what must not be there is. */
static inline const char *rfc_unwanted(const char *heard, const char *hears)
{
    while (*hears != '\0') {
        const char *end = hears + strcspn(hears, "\n");
        if (hears[0] == '!' && rfc_find(heard, hears + 1, end) != NULL) {
            return hears;
        }
        hears = *end == '\n' ? end + 1 : end;
    }
    return NULL;
}
