#include "proto/smtp/extensions.h"

/* 0 when it is no number: then there is no limit that we know of. */
static uint64_t size_parse(struct slice digits)
{
    uint64_t size = 0;
    for (size_t i = 0; i < digits.size; i++) {
        uint8_t byte = digits.bytes[i];
        if (byte < '0' || byte > '9' || size > (UINT64_MAX - 9) / 10) {
            return 0;
        }
        size = size * 10 + (byte - '0');
    }
    return size;
}

void smtp_extension_read(struct slice line, uint32_t *extensions, uint64_t *size_limit)
{
    static const struct {
        const char *keyword;
        uint32_t extension;
    } known[] = {
        {"PIPELINING", SMTP_EXTENSION_PIPELINING}, {"SIZE", SMTP_EXTENSION_SIZE},
        {"8BITMIME", SMTP_EXTENSION_8BITMIME},     {"SMTPUTF8", SMTP_EXTENSION_SMTPUTF8},
        {"STARTTLS", SMTP_EXTENSION_STARTTLS},     {"ENHANCEDSTATUSCODES", SMTP_EXTENSION_STATUS},
        {"CHUNKING", SMTP_EXTENSION_CHUNKING},     {"DSN", SMTP_EXTENSION_DSN},
    };
    const uint8_t *blank = line.size > 0 ? memchr(line.bytes, ' ', line.size) : NULL;
    size_t keyword_bytes = blank != NULL ? (size_t)(blank - line.bytes) : line.size;
    struct slice keyword = slice_first(line, keyword_bytes);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (slice_equal_nocase(keyword, slice_text(known[i].keyword))) {
            *extensions |= known[i].extension;
            if (known[i].extension == SMTP_EXTENSION_SIZE) {
                *size_limit = size_parse(slice_from(line, keyword_bytes + 1));
            }
        }
    }
}
