#include "engine/relay/address_parts.h"
#include <string.h>

static bool name_is_whole(struct slice local)
{
    static const char owner[] = "owner-", request[] = "-request";
    size_t from = local.size >= strlen(request) ? local.size - strlen(request) : 0;
    return (local.size >= strlen(owner) &&
            slice_equal_nocase(slice_first(local, strlen(owner)), slice_text(owner))) ||
           slice_equal_nocase(slice_from(local, from), slice_text(request));
}

struct address_parts address_parts_of(struct slice address, char extension)
{
    const uint8_t *at = address.size > 0 ? memrchr(address.bytes, '@', address.size) : NULL;
    struct address_parts parts = {.local = address};
    if (at != NULL) {
        parts.local = slice_first(address, (size_t)(at - address.bytes));
        parts.domain = slice_from(address, parts.local.size + 1);
    }
    struct slice local = parts.local;
    bool has_none = extension == 0 || local.size < 2 || local.bytes[0] == '"' ||
                    (extension == '-' && name_is_whole(local));
    const uint8_t *tag = has_none ? NULL : memchr(local.bytes + 1, extension, local.size - 1);
    size_t user = tag != NULL ? (size_t)(tag - local.bytes) : local.size;
    parts.user = slice_first(local, user);
    parts.tag = slice_from(local, user);
    return parts;
}
