/*
 * value: the small words of a configuration: whole numbers, sizes, durations, permissions.
 *
 * Pure functions. Each returns 0, -EINVAL for text that is no such value, or -ERANGE when it does
 * not fit 64 bits.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

int value_parse_number(const char *text, uint64_t *number); /* "12"; digits only */
int value_parse_size(const char *text,
                     uint64_t *bytes); /* "4096", "10K", "64M", "1G", "1T"; 1K is 1024 */
int value_parse_duration(const char *text,
                         uint64_t *ns); /* "20us", "300ms", "10s", "5m", "2h", "5d", "0" */
int value_parse_permissions(const char *text,
                            uint64_t *mode); /* octal, "660" or "0660", at most 7777 */

#define VALUE_TEXT_MAX 24
/* The largest unit that says it exactly. Returns text. */
const char *value_format_size(uint64_t bytes, char text[VALUE_TEXT_MAX]);
const char *value_format_duration(uint64_t ns, char text[VALUE_TEXT_MAX]);

/* Copies what came from a file so that it can stand in a message: quoted, control octets as \xNN,
 * cut when it is long. Returns quoted, of size >= 8. */
const char *value_quote(const char *text, char *quoted, size_t size);
