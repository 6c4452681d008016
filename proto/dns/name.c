#include "proto/dns/name.h"

#include <errno.h>

#define WIRE_MAX 255u

static bool byte_allowed(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
           byte == '_';
}

/* Appends a label and what parts it from the one before. Returns the new length, or -EINVAL. */
static int label_append(char name[DNS_NAME_BYTES], size_t length, struct slice label)
{
    size_t with_dot = label.size + (length > 0);
    if (label.size == 0 || label.size > DNS_LABEL_MAX || length + with_dot > DNS_NAME_MAX) {
        return -EINVAL;
    }
    if (length > 0) {
        name[length++] = '.';
    }
    for (size_t i = 0; i < label.size; i++) {
        uint8_t byte = slice_lower(label.bytes[i]);
        if (!byte_allowed(byte)) {
            return -EINVAL;
        }
        name[length++] = (char)byte;
    }
    name[length] = '\0';
    return (int)length;
}

int dns_name_from_text(struct slice text, char name[DNS_NAME_BYTES])
{
    int length = 0;
    name[0] = '\0';
    if (text.size == 1 && text.bytes[0] == '.') {
        return 0;
    }
    if (text.size > 0 && text.bytes[text.size - 1] == '.') {
        text.size--;
    }
    do {
        const uint8_t *dot = text.size > 0 ? memchr(text.bytes, '.', text.size) : NULL;
        size_t size = dot != NULL ? (size_t)(dot - text.bytes) : text.size;
        length = label_append(name, (size_t)length, slice_first(text, size));
        if (length < 0 || dot == NULL) {
            return length;
        }
        text = slice_from(text, size + 1);
    } while (true);
}

int dns_name_from_wire(struct slice rdata, size_t *offset, char name[DNS_NAME_BYTES])
{
    size_t at = *offset;
    int length = 0;
    name[0] = '\0';
    while (at < rdata.size && at - *offset < WIRE_MAX) {
        size_t size = rdata.bytes[at++];
        if (size == 0) {
            *offset = at;
            return length;
        }
        if (size > DNS_LABEL_MAX || size > rdata.size - at) { /* a pointer has its high bits set */
            return -EINVAL;
        }
        length = label_append(name, (size_t)length, slice_of(rdata.bytes + at, size));
        if (length < 0) {
            return length;
        }
        at += size;
    }
    return -EINVAL;
}

int dns_name_with_prefix(const char *prefix, const char *name, char result[DNS_NAME_BYTES])
{
    size_t prefix_size = strlen(prefix), name_size = strlen(name);
    if (prefix_size + 1 + name_size > DNS_NAME_MAX) {
        return -EINVAL;
    }
    memcpy(result, prefix, prefix_size);
    result[prefix_size] = '.';
    memcpy(result + prefix_size + 1, name, name_size + 1);
    return (int)(prefix_size + 1 + name_size);
}

bool dns_name_is_address(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *last = dot != NULL ? dot + 1 : name;
    return *last != '\0' && last[strspn(last, "0123456789")] == '\0';
}
