#include "queue/mailbox/user_name.h"
#include <errno.h>

/* The local part: up to the '@', or between quotes with backslashes undone. Returns its size or
 * -EINVAL. */
static int copy_local_part(struct slice mailbox, char name[USER_NAME_BYTES])
{
    size_t used = 0;
    bool quoted = mailbox.size > 0 && mailbox.bytes[0] == '"';
    size_t i = quoted ? 1 : 0;
    for (; i < mailbox.size && mailbox.bytes[i] != (quoted ? '"' : '@'); i++) {
        if (quoted && mailbox.bytes[i] == '\\' && ++i == mailbox.size) {
            return -EINVAL;
        }
        if (used == USER_NAME_BYTES - 1) {
            return -EINVAL;
        }
        name[used++] = (char)mailbox.bytes[i];
    }
    if (quoted && (i == mailbox.size || (i + 1 < mailbox.size && mailbox.bytes[i + 1] != '@'))) {
        return -EINVAL; /* not closed, or something between the quote and the '@' */
    }
    return (int)used;
}

/* The size of the UTF-8 character at the front, or 0: not valid, or a control character. RFC 3629.
 */
static size_t character_size(const uint8_t *bytes, size_t size)
{
    uint8_t first = bytes[0];
    if (first < 0x80) {
        return first >= 0x20 && first != 0x7f ? 1 : 0;
    }
    size_t length = first >= 0xf0 && first <= 0xf4  ? 4
                    : first >= 0xe0 && first < 0xf0 ? 3
                    : first >= 0xc2 && first < 0xe0 ? 2
                                                    : 0;
    if (length == 0 || length > size) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (first == 0xe0 && bytes[1] < 0xa0) || (first == 0xf0 && bytes[1] < 0x90);
    bool surrogate = first == 0xed && bytes[1] >= 0xa0;
    bool beyond = first == 0xf4 && bytes[1] >= 0x90;
    bool control = first == 0xc2 && bytes[1] < 0xa0; /* U+0080 to U+009F */
    return overlong || surrogate || beyond || control ? 0 : length;
}

int user_name_of_mailbox(struct slice mailbox, char name[USER_NAME_BYTES])
{
    int size = copy_local_part(mailbox, name);
    if (size <= 0) {
        return -EINVAL;
    }
    size_t end = (size_t)size;
    for (size_t i = 0; i < end; i++) {
        name[i] = (char)slice_lower((uint8_t)name[i]);
    }
    const char *plus = memchr(name + 1, '+', end - 1);
    if (plus != NULL) {
        end = (size_t)(plus - name);
    }
    if (name[0] == '.') {
        return -EINVAL;
    }
    for (size_t i = 0; i < end;) {
        size_t length = character_size((const uint8_t *)name + i, end - i);
        if (length == 0 || name[i] == '/' || name[i] == '\\') {
            return -EINVAL;
        }
        i += length;
    }
    name[end] = '\0';
    return 0;
}

void user_detail_of_mailbox(struct slice mailbox, char detail[USER_NAME_BYTES])
{
    char local[USER_NAME_BYTES];
    int size = copy_local_part(mailbox, local);
    const char *plus = size > 1 ? memchr(local + 1, '+', (size_t)size - 1) : NULL;
    size_t from = plus != NULL ? (size_t)(plus - local) + 1 : 0, used = 0;
    bool good = plus != NULL && from < (size_t)size && local[from] != '/' && local[size - 1] != '/';
    for (size_t i = from; good && i < (size_t)size;) {
        size_t length = character_size((const uint8_t *)local + i, (size_t)size - i);
        good = length > 0 && !(local[i] == '/' && local[i - 1] == '/');
        memcpy(detail + used, local + i, length);
        used += length;
        i += length;
    }
    detail[good ? used : 0] = '\0';
}
