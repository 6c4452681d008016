#include "proto/smtp/address.h"

#define PATH_BYTES_MAX 512 /* with a source route; RFC 5321 asks for 256 */
#define LOCAL_BYTES_MAX 64
#define DOMAIN_BYTES_MAX 255

static bool is_alnum(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z');
}

/* atext of RFC 5322, or a part of a UTF-8 character (checked as a whole elsewhere). */
static bool is_atext(uint8_t byte)
{
    return is_alnum(byte) || byte >= 0x80 ||
           (byte > ' ' && byte < 0x7f && strchr("!#$%&'*+-/=?^_`{|}~", byte) != NULL);
}

/* Is text whole, shortest-form UTF-8 without surrogates? */
static bool is_utf8(struct slice text)
{
    for (size_t i = 0; i < text.size;) {
        uint8_t lead = text.bytes[i];
        unsigned more = lead < 0x80                   ? 0
                        : lead >= 0xc2 && lead < 0xe0 ? 1
                        : lead >= 0xe0 && lead < 0xf0 ? 2
                        : lead >= 0xf0 && lead < 0xf5 ? 3
                                                      : 4;
        if (more == 4 || text.size - i <= more) {
            return false;
        }
        uint8_t second = more > 0 ? text.bytes[i + 1] : 0x80;
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
            (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) {
            return false;
        }
        for (unsigned j = 1; j <= more; j++) {
            if ((text.bytes[i + j] & 0xc0) != 0x80) {
                return false;
            }
        }
        i += more + 1;
    }
    return true;
}

static bool is_ascii(struct slice text)
{
    uint8_t seen = 0;
    for (size_t i = 0; i < text.size; i++) {
        seen |= text.bytes[i];
    }
    return seen < 0x80;
}

/* The length of a quoted string at the start, with its quotes; 0: it is none. */
static size_t quoted_size(struct slice text)
{
    for (size_t i = 1; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == '"') {
            return i + 1;
        }
        if (byte == '\\') {
            i++;
            byte = i < text.size ? text.bytes[i] : 0;
        }
        if (byte < ' ' || byte == 0x7f) {
            return 0;
        }
    }
    return 0;
}

static size_t local_size(struct slice text)
{
    size_t size = 0;
    if (text.size > 0 && text.bytes[0] == '"') {
        return quoted_size(text);
    }
    while (size < text.size && (is_atext(text.bytes[size]) || text.bytes[size] == '.')) {
        size++;
    }
    return size;
}

/* The length of "[...]" at the start; 0: it is none. */
static size_t literal_size(struct slice text)
{
    for (size_t i = 1; i < text.size; i++) {
        uint8_t byte = text.bytes[i];
        if (byte == ']') {
            return i > 1 ? i + 1 : 0;
        }
        if (!is_alnum(byte) && byte != '.' && byte != ':' && byte != '-') {
            return 0;
        }
    }
    return 0;
}

/* The length of a domain at the start; 0: it is none. */
static size_t domain_size(struct slice text)
{
    size_t size = 0;
    uint8_t before = '.';
    if (text.size > 0 && text.bytes[0] == '[') {
        return literal_size(text);
    }
    for (; size < text.size; size++) {
        uint8_t byte = text.bytes[size];
        bool good = byte == '.' ? before != '.'
                                : is_alnum(byte) || byte == '-' || byte == '_' || byte >= 0x80;
        if (!good) {
            break;
        }
        before = byte;
    }
    return size > 0 && before != '.' ? size : 0;
}

/* "@a,@b:" at the start; its length, 0 when there is none, SIZE_MAX when it is broken. */
static size_t route_size(struct slice text)
{
    size_t at = 0;
    if (text.size == 0 || text.bytes[0] != '@') {
        return 0;
    }
    while (at < text.size && text.bytes[at] == '@') {
        size_t size = domain_size(slice_from(text, at + 1));
        at += 1 + size;
        if (size == 0 || at >= text.size) {
            return SIZE_MAX;
        }
        if (text.bytes[at] == ':') {
            return at + 1;
        }
        if (text.bytes[at] != ',') {
            return SIZE_MAX;
        }
        at++;
    }
    return SIZE_MAX;
}

static enum smtp_path_error mailbox_parse(struct smtp_path *path, struct slice text, size_t *used)
{
    size_t local = local_size(text);
    size_t size = local;
    if (local == 0) {
        return SMTP_PATH_SYNTAX;
    }
    path->local = slice_first(text, local);
    path->domain = slice_of(text.bytes + local, 0);
    if (local < text.size && text.bytes[local] == '@') {
        size_t domain = domain_size(slice_from(text, local + 1));
        if (domain == 0) {
            return SMTP_PATH_SYNTAX;
        }
        path->domain = slice_of(text.bytes + local + 1, domain);
        size += 1 + domain;
    }
    if (local > LOCAL_BYTES_MAX || path->domain.size > DOMAIN_BYTES_MAX) {
        return SMTP_PATH_TOO_LONG;
    }
    path->mailbox = slice_first(text, size);
    path->ascii = is_ascii(path->mailbox);
    if (!path->ascii && !is_utf8(path->mailbox)) {
        return SMTP_PATH_NOT_UTF8;
    }
    *used = size;
    return SMTP_PATH_GOOD;
}

enum smtp_path_error smtp_path_parse(struct smtp_path *path, struct slice text, size_t *used)
{
    size_t at = 1;
    size_t taken = 0;
    *path = (struct smtp_path){.ascii = true};
    if (text.size < 2 || text.bytes[0] != '<') {
        return SMTP_PATH_SYNTAX;
    }
    if (text.bytes[1] != '>') {
        size_t route = route_size(slice_from(text, 1));
        if (route == SIZE_MAX) {
            return SMTP_PATH_SYNTAX;
        }
        at += route;
        enum smtp_path_error error = mailbox_parse(path, slice_from(text, at), &taken);
        if (error != SMTP_PATH_GOOD) {
            return error;
        }
        at += taken;
    }
    if (at >= text.size || text.bytes[at] != '>') {
        return SMTP_PATH_SYNTAX;
    }
    *used = at + 1;
    return *used > PATH_BYTES_MAX ? SMTP_PATH_TOO_LONG : SMTP_PATH_GOOD;
}

bool smtp_helo_valid(struct slice name)
{
    if (name.size == 0 || name.size > DOMAIN_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < name.size; i++) {
        if (name.bytes[i] <= ' ' || name.bytes[i] == 0x7f) {
            return false;
        }
    }
    return is_utf8(name);
}
