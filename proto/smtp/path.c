#include "proto/smtp/path.h"

#include "engine/core/limits.h"

bool smtp_path_writable(struct slice path, bool *ascii)
{
    bool quoted = false;
    *ascii = true;
    if (path.size > SMTP_ADDRESS_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < path.size; i++) {
        uint8_t byte = path.bytes[i];
        if (byte < ' ' || byte == 0x7f) {
            return false;
        }
        if (byte >= 0x80) {
            *ascii = false;
        } else if (quoted && byte == '\\') {
            i++;
            if (i == path.size || path.bytes[i] < ' ' || path.bytes[i] >= 0x7f) {
                return false;
            }
        } else if (byte == '"') {
            quoted = !quoted;
        } else if (!quoted && (byte == '<' || byte == '>' || byte == ' ')) {
            return false;
        }
    }
    return !quoted;
}
