#include "engine/lookup/ldap_text.h"

static size_t escape(char *to, size_t room, struct slice from, bool (*is_plain)(uint8_t octet))
{
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (size_t i = 0; i < from.size; i++) {
        uint8_t octet = from.bytes[i];
        if (used + 3 > room) {
            return SIZE_MAX;
        }
        if (is_plain(octet)) {
            to[used++] = (char)octet;
        } else {
            to[used++] = '\\';
            to[used++] = digits[octet >> 4];
            to[used++] = digits[octet & 15];
        }
    }
    return used;
}

static bool is_plain_in_filter(uint8_t octet)
{
    return octet >= ' ' && octet != '*' && octet != '(' && octet != ')' && octet != '\\';
}

static bool is_plain_in_name(uint8_t octet)
{
    uint8_t letter = slice_lower(octet);
    return octet >= 0x80 || (letter >= 'a' && letter <= 'z') || (octet >= '0' && octet <= '9') ||
           octet == '-' || octet == '.' || octet == '_' || octet == '@';
}

size_t ldap_escape_filter(void *owner, char *to, size_t room, struct slice from)
{
    (void)owner;
    return escape(to, room, from, is_plain_in_filter);
}

size_t ldap_escape_name(void *owner, char *to, size_t room, struct slice from)
{
    (void)owner;
    return escape(to, room, from, is_plain_in_name);
}
