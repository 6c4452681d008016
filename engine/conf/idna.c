#include "engine/conf/idna.h"
#include <idn2.h>

#define LABEL_PREFIX "xn--"

bool idna_is_unicode(struct slice domain)
{
    for (size_t i = 0; i < domain.size; i++) {
        if (domain.bytes[i] >= 0x80) {
            return true;
        }
    }
    return false;
}

/* Terminated, as the library wants it; the case of ASCII's letters would go through punycode. */
static bool copied(struct slice domain, char text[IDNA_TEXT_MAX + 1])
{
    if (domain.size == 0 || domain.size > IDNA_TEXT_MAX ||
        memchr(domain.bytes, '\0', domain.size) != NULL) {
        return false;
    }
    for (size_t i = 0; i < domain.size; i++) {
        text[i] = (char)slice_lower(domain.bytes[i]);
    }
    text[domain.size] = '\0';
    return true;
}

bool idna_to_ascii(struct slice domain, char ascii[IDNA_ASCII_MAX + 1], struct slice *made)
{
    char text[IDNA_TEXT_MAX + 1];
    uint8_t *found = NULL;
    bool good = false;
    if (copied(domain, text) && idn2_lookup_u8((const uint8_t *)text, &found,
                                               IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) == IDN2_OK) {
        size_t size = strlen((const char *)found);
        good = size > 0 && size <= IDNA_ASCII_MAX;
        if (good) {
            memcpy(ascii, found, size + 1);
            *made = slice_of(ascii, size);
        }
    }
    idn2_free(found);
    return good;
}

static bool has_a_label(struct slice domain)
{
    const size_t prefix = sizeof(LABEL_PREFIX) - 1;
    for (size_t i = 0; i + prefix < domain.size; i++) {
        if ((i == 0 || domain.bytes[i - 1] == '.') &&
            slice_equal_nocase(slice_of(domain.bytes + i, prefix), slice_text(LABEL_PREFIX))) {
            return true;
        }
    }
    return false;
}

static bool to_unicode(struct slice domain, char unicode[IDNA_TEXT_MAX + 1], struct slice *made)
{
    char text[IDNA_TEXT_MAX + 1], *found = NULL;
    bool good = false;
    if (copied(domain, text) &&
        idn2_to_unicode_8z8z(text, &found, IDN2_NONTRANSITIONAL) == IDN2_OK) {
        size_t size = strlen(found);
        *made = slice_of(unicode, size);
        good = size > 0 && size <= IDNA_TEXT_MAX && idna_is_unicode(slice_text(found));
        if (good) {
            memcpy(unicode, found, size + 1);
        }
    }
    idn2_free(found);
    return good;
}

bool idna_other_form(struct slice domain, char other[IDNA_TEXT_MAX + 1], struct slice *made)
{
    if (idna_is_unicode(domain)) {
        return idna_to_ascii(domain, other, made);
    }
    return has_a_label(domain) && to_unicode(domain, other, made);
}
