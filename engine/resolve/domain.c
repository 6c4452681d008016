#include "engine/resolve/domain.h"

#include <idn2.h>

#define UTF8_MAX (4 * DNS_NAME_MAX)

static enum domain_kind literal_read(struct slice text, char name[DNS_NAME_BYTES],
                                     struct endpoint *address)
{
    static const char tag[] = "IPv6:";
    struct slice inner = slice_of(text.bytes + 1, text.size - 2);
    struct network_prefix prefix;
    bool tagged = slice_equal_nocase(slice_first(inner, sizeof(tag) - 1), slice_text(tag));
    inner = slice_from(inner, tagged ? sizeof(tag) - 1 : 0);
    if (text.size > DNS_NAME_MAX || inner.size == 0 ||
        memchr(inner.bytes, '/', inner.size) != NULL ||
        memchr(inner.bytes, '%', inner.size) != NULL ||
        memchr(inner.bytes, '\0', inner.size) != NULL || network_prefix_parse(&prefix, inner) < 0) {
        return DOMAIN_WRONG;
    }
    for (size_t i = 0; i < text.size; i++) {
        name[i] = (char)slice_lower(text.bytes[i]);
    }
    name[text.size] = '\0';
    *address = prefix.address;
    bool as_tagged = tagged == (memchr(inner.bytes, ':', inner.size) != NULL);
    return as_tagged ? DOMAIN_LITERAL : DOMAIN_WRONG;
}

static bool is_ascii(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] >= 0x80) {
            return false;
        }
    }
    return true;
}

static enum domain_kind unicode_read(struct slice text, char name[DNS_NAME_BYTES])
{
    uint8_t unicode[UTF8_MAX + 1], *ascii = NULL;
    enum domain_kind kind = DOMAIN_WRONG;
    if (text.size > UTF8_MAX || memchr(text.bytes, '\0', text.size) != NULL) {
        return DOMAIN_WRONG;
    }
    memcpy(unicode, text.bytes, text.size);
    unicode[text.size] = '\0';
    if (idn2_lookup_u8(unicode, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK &&
        dns_name_from_text(slice_text((const char *)ascii), name) > 0) {
        kind = DOMAIN_NAME;
    }
    idn2_free(ascii);
    return kind;
}

enum domain_kind domain_read(struct slice text, char name[DNS_NAME_BYTES], struct endpoint *address)
{
    enum domain_kind kind = DOMAIN_WRONG;
    if (text.size > 2 && text.bytes[0] == '[' && text.bytes[text.size - 1] == ']') {
        return literal_read(text, name, address);
    }
    if (!is_ascii(text)) {
        kind = unicode_read(text, name);
    } else if (dns_name_from_text(text, name) > 0) {
        kind = DOMAIN_NAME;
    }
    return kind == DOMAIN_NAME && dns_name_is_address(name) ? DOMAIN_WRONG : kind;
}
