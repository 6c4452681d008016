#include "engine/conf/value.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: formatting takes the first that divides. */
static const struct unit size_units[] = {{"T", 1ull << 40}, {"G", 1ull << 30}, {"M", 1ull << 20},
                                         {"K", 1ull << 10}, {"", 1},           {NULL, 0}};
static const struct unit duration_units[] = {
    {"d", 86400000000000ull}, {"h", 3600000000000ull}, {"m", 60000000000ull}, {"s", 1000000000ull},
    {"ms", 1000000ull},       {"us", 1000ull},         {"ns", 1ull},          {NULL, 0}};

/* Reads the digits at the start; *rest is what follows them. */
static int parse_digits(const char *text, unsigned base, uint64_t *number, const char **rest)
{
    const char *p = text;
    uint64_t sum = 0;
    for (; *p >= '0' && *p < (char)('0' + base); p++) {
        if (__builtin_mul_overflow(sum, (uint64_t)base, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(*p - '0'), &sum)) {
            return -ERANGE;
        }
    }
    if (p == text) {
        return -EINVAL;
    }
    *number = sum;
    *rest = p;
    return 0;
}

static int parse_with_unit(const char *text, const struct unit *units, uint64_t *value)
{
    uint64_t number = 0;
    const char *rest = text;
    int status = parse_digits(text, 10, &number, &rest);
    if (status < 0) {
        return status;
    }
    for (const struct unit *unit = units; unit->name != NULL; unit++) {
        if (strcmp(rest, unit->name) == 0) {
            return __builtin_mul_overflow(number, unit->factor, value) ? -ERANGE : 0;
        }
    }
    return -EINVAL;
}

int value_parse_number(const char *text, uint64_t *number)
{
    const char *rest = text;
    int status = parse_digits(text, 10, number, &rest);
    return status < 0 ? status : (*rest == '\0' ? 0 : -EINVAL);
}

int value_parse_size(const char *text, uint64_t *bytes)
{
    return parse_with_unit(text, size_units, bytes);
}

int value_parse_duration(const char *text, uint64_t *ns)
{
    if (strcmp(text, "0") == 0) { /* the one number that needs no unit */
        *ns = 0;
        return 0;
    }
    return parse_with_unit(text, duration_units, ns);
}

int value_parse_permissions(const char *text, uint64_t *mode)
{
    const char *rest = text;
    int status = parse_digits(text, 8, mode, &rest);
    if (status < 0) {
        return status;
    }
    return *rest == '\0' && *mode <= 07777 ? 0 : -EINVAL;
}

static const char *format_with_unit(uint64_t value, const struct unit *units,
                                    char text[VALUE_TEXT_MAX])
{
    const struct unit *unit = units;
    while (unit[1].name != NULL && (value == 0 || value % unit->factor != 0)) {
        unit++;
    }
    snprintf(text, VALUE_TEXT_MAX, "%" PRIu64 "%s", value / unit->factor,
             value == 0 ? "" : unit->name);
    return text;
}

const char *value_format_size(uint64_t bytes, char text[VALUE_TEXT_MAX])
{
    return format_with_unit(bytes, size_units, text);
}

const char *value_format_duration(uint64_t ns, char text[VALUE_TEXT_MAX])
{
    return format_with_unit(ns, duration_units, text);
}

const char *value_quote(const char *text, char *quoted, size_t size)
{
    size_t used = 0;
    quoted[used++] = '\'';
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (used + 4 + 5 > size) { /* an escape, then the end of a cut text and its NUL */
            memcpy(quoted + used, "...", 3);
            used += 3;
            break;
        }
        if (*p < 0x20 || *p == 0x7f) {
            used += (size_t)snprintf(quoted + used, size - used, "\\x%02x", *p);
        } else {
            quoted[used++] = (char)*p;
        }
    }
    quoted[used++] = '\'';
    quoted[used] = '\0';
    return quoted;
}
