#include "proto/message/utf8.h"

size_t utf8_printable(struct slice text)
{
    if (text.size == 0) {
        return 0;
    }
    uint8_t first = text.bytes[0];
    if (first < 0x80) {
        return first >= ' ' && first != 0x7f ? 1 : 0;
    }
    size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || bytes > text.size) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((text.bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    uint8_t second = text.bytes[1];
    bool wrong = (first == 0xc2 && second < 0xa0) ||  /* C1 */
                 (first == 0xe0 && second < 0xa0) ||  /* overlong */
                 (first == 0xed && second >= 0xa0) || /* surrogates */
                 (first == 0xf0 && second < 0x90) ||  /* overlong */
                 (first == 0xf4 && second >= 0x90);   /* beyond U+10FFFF */
    return wrong ? 0 : bytes;
}
