#include "engine/resolve/domain.h"
#include "engine/conf/idna.h"

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

enum domain_kind domain_read(struct slice text, char name[DNS_NAME_BYTES], struct endpoint *address)
{
    enum domain_kind kind = DOMAIN_WRONG;
    char ascii[IDNA_ASCII_MAX + 1];
    if (text.size > 2 && text.bytes[0] == '[' && text.bytes[text.size - 1] == ']') {
        return literal_read(text, name, address);
    }
    bool readable = !idna_is_unicode(text) || idna_to_ascii(text, ascii, &text);
    if (readable && dns_name_from_text(text, name) > 0) {
        kind = DOMAIN_NAME;
    }
    return kind == DOMAIN_NAME && dns_name_is_address(name) ? DOMAIN_WRONG : kind;
}
