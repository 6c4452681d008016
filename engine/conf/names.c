#include "engine/conf/names.h"
#include <string.h>

bool name_is_printable(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f) {
            return false;
        }
    }
    return text[0] != '\0';
}

bool name_is_absolute_path(const char *text)
{
    return text[0] == '/' && strlen(text) < 3900 && name_is_printable(text);
}

static bool in_label(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_' || byte >= 0x80;
}

bool name_is_domain(const char *text)
{
    size_t label = 0;
    const char *p = text;
    for (; *p != '\0'; p++) {
        if (*p == '.') {
            if (label == 0 || p[-1] == '-') {
                return false;
            }
            label = 0;
        } else if (!in_label((unsigned char)*p) || (label == 0 && *p == '-') || ++label > 63) {
            return false;
        }
    }
    return label > 0 && p[-1] != '-' && p - text <= 255;
}

bool name_is_interface(const char *text)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x80 || (!in_label(byte) && (byte != '.' || i == 0))) {
            return false;
        }
    }
    return size > 0 && size <= 15;
}
