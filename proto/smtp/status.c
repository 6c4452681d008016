#include "proto/smtp/status.h"

#include <stdio.h>

/* One to three digits without leading zeros; returns how many, 0 when it is not that. */
static size_t number_parse(uint16_t *number, struct slice text)
{
    size_t digits = 0;
    unsigned value = 0;
    while (digits < text.size && text.bytes[digits] >= '0' && text.bytes[digits] <= '9') {
        if (digits == 3) {
            return 0;
        }
        value = value * 10 + (text.bytes[digits] - '0');
        digits++;
    }
    *number = (uint16_t)value;
    return digits;
}

size_t smtp_status_parse(struct smtp_status *status, struct slice text)
{
    if (text.size < 5 || text.bytes[1] != '.' ||
        (text.bytes[0] != '2' && text.bytes[0] != '4' && text.bytes[0] != '5')) {
        return 0;
    }
    struct smtp_status found = {.class = (uint8_t)(text.bytes[0] - '0')};
    size_t at = 2;
    size_t digits = number_parse(&found.subject, slice_from(text, at));
    at += digits;
    if (digits == 0 || at == text.size || text.bytes[at] != '.') {
        return 0;
    }
    at++;
    digits = number_parse(&found.detail, slice_from(text, at));
    at += digits;
    if (digits == 0 || (at < text.size && text.bytes[at] != ' ')) {
        return 0;
    }
    *status = found;
    return at;
}

size_t smtp_status_format(const struct smtp_status *status, char text[SMTP_STATUS_TEXT_MAX])
{
    unsigned subject = status->subject % 1000u, detail = status->detail % 1000u;
    return (size_t)snprintf(text, SMTP_STATUS_TEXT_MAX, "%u.%u.%u", status->class % 10u, subject,
                            detail);
}
