/* Message ids as people read them: base 32 without I, L, O, U; what is read in their place is taken
 * for what it looks like. */
#include "queue/spool/spool.h"

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void message_id_format(uint64_t id, char text[MESSAGE_ID_TEXT])
{
    text[MESSAGE_ID_TEXT - 1] = '\0';
    for (int i = MESSAGE_ID_TEXT - 2; i >= 0; i--) {
        text[i] = digits[id % 32];
        id /= 32;
    }
}

static int digit_of(uint8_t byte)
{
    if (byte >= 'a' && byte <= 'z') {
        byte = (uint8_t)(byte - 'a' + 'A');
    }
    if (byte == 'O') {
        return 0;
    }
    if (byte == 'I' || byte == 'L') {
        return 1;
    }
    const char *found = byte != '\0' ? strchr(digits, byte) : NULL;
    return found != NULL ? (int)(found - digits) : -1;
}

int message_id_parse(struct slice text, uint64_t *id)
{
    uint64_t value = 0;
    if (text.size != MESSAGE_ID_TEXT - 1) {
        return -EINVAL;
    }
    for (size_t i = 0; i < text.size; i++) {
        int digit = digit_of(text.bytes[i]);
        if (digit < 0 || value > UINT64_MAX >> 5) {
            return -EINVAL;
        }
        value = value << 5 | (uint64_t)digit;
    }
    *id = value;
    return 0;
}
