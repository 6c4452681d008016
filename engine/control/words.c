#include "engine/control/words.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

static const char digits[] = "0123456789ABCDEF";

static bool is_plain(uint8_t byte)
{
    return byte > ' ' && byte < 0x7f && byte != '%';
}

int control_word_append(char *line, size_t room, size_t *used, const char *key, struct slice value)
{
    size_t wanted = strlen(key) + 2;
    for (size_t i = 0; i < value.size; i++) {
        wanted += is_plain(value.bytes[i]) ? 1 : 3;
    }
    if (wanted >= room - *used) {
        return -EMSGSIZE;
    }
    char *at = line + *used + snprintf(line + *used, room - *used, " %s=", key);
    for (size_t i = 0; i < value.size; i++) {
        uint8_t byte = value.bytes[i];
        if (is_plain(byte)) {
            *at++ = (char)byte;
        } else {
            *at++ = '%';
            *at++ = digits[byte >> 4];
            *at++ = digits[byte & 15];
        }
    }
    *at = '\0';
    *used = (size_t)(at - line);
    return 0;
}

static int digit_of(uint8_t byte)
{
    const char *found = byte != '\0' ? strchr(digits, byte) : NULL;
    return found != NULL                ? (int)(found - digits)
           : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                                        : -1;
}

int control_word_read(struct slice word, struct slice *key, char *text, size_t room)
{
    const uint8_t *equals = word.size > 0 ? memchr(word.bytes, '=', word.size) : NULL;
    size_t used = 0;
    *key = equals != NULL ? slice_first(word, (size_t)(equals - word.bytes)) : word;
    struct slice value =
        equals != NULL ? slice_from(word, key->size + 1) : slice_from(word, word.size);
    while (value.size > 0) {
        int byte = value.bytes[0];
        size_t size = 1;
        if (byte == '%') {
            int high = value.size >= 3 ? digit_of(value.bytes[1]) : -1;
            int low = value.size >= 3 ? digit_of(value.bytes[2]) : -1;
            if (high < 0 || low < 0) {
                return -EINVAL;
            }
            byte = high << 4 | low;
            size = 3;
        }
        if (byte == '\0') {
            return -EINVAL;
        }
        if (used + 1 >= room) {
            return -EMSGSIZE;
        }
        text[used++] = (char)byte;
        value = slice_from(value, size);
    }
    text[used] = '\0';
    return 0;
}
