#include "engine/control/control.h"
#include <stdlib.h>

/* The size of the UTF-8 character at the front; 0: none, or a control character, a backslash. RFC
 * 3629. */
static size_t plain_character_size(const uint8_t *bytes, size_t size)
{
    uint8_t first = bytes[0];
    if (first < 0x80) {
        return first >= 0x20 && first != 0x7f && first != '\\' ? 1 : 0;
    }
    size_t length = first >= 0xc2 && first < 0xe0   ? 2
                    : first >= 0xe0 && first < 0xf0 ? 3
                    : first >= 0xf0 && first < 0xf5 ? 4
                                                    : 0;
    if (length == 0 || length > size) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool bad = (first == 0xe0 && bytes[1] < 0xa0) || (first == 0xed && bytes[1] >= 0xa0) ||
               (first == 0xf0 && bytes[1] < 0x90) || (first == 0xf4 && bytes[1] >= 0x90) ||
               (first == 0xc2 && bytes[1] < 0xa0);
    return bad ? 0 : length;
}

json_t *control_text(struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(bytes.size * 4 + 1);
    if (text == NULL) {
        return NULL;
    }
    size_t used = 0;
    for (size_t i = 0; i < bytes.size;) {
        size_t length = plain_character_size(bytes.bytes + i, bytes.size - i);
        if (length > 0) {
            memcpy(text + used, bytes.bytes + i, length);
            used += length;
            i += length;
        } else {
            text[used++] = '\\';
            text[used++] = 'x';
            text[used++] = digits[bytes.bytes[i] >> 4];
            text[used++] = digits[bytes.bytes[i] & 15];
            i++;
        }
    }
    json_t *json = json_stringn(text, used);
    free(text);
    return json;
}
