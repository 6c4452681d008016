#include "proto/sasl/prepare.h"
#include <gsasl.h>
#include <openssl/crypto.h>

/* Printable ASCII is what it would become: nothing of it is mapped, composed, prohibited, unassigned or written from right
 * to left. Nearly all names are so, and the library takes 5,000 instructions to find that out. */
static bool is_prepared(struct slice text)
{
    bool printable = true;
    for (size_t i = 0; i < text.size; i++) {
        printable &= text.bytes[i] >= 0x20 && text.bytes[i] < 0x7f;
    }
    return printable;
}

bool sasl_prepare(struct slice text, uint8_t *room, size_t room_bytes, struct slice *prepared)
{
    char terminated[SASL_PREPARE_BYTES_MAX + 1];
    char *made = NULL;
    if (text.size > SASL_PREPARE_BYTES_MAX) {
        return false;
    }
    *prepared = slice_of(room, 0);
    if (text.size == 0) {
        return true;
    }
    if (is_prepared(text)) {
        if (text.size > room_bytes) {
            return false;
        }
        memcpy(room, text.bytes, text.size);
        prepared->size = text.size;
        return true;
    }
    memcpy(terminated, text.bytes, text.size);
    terminated[text.size] = '\0';
    bool good = memchr(terminated, '\0', text.size) == NULL &&
                gsasl_saslprep(terminated, 0, &made, NULL) == GSASL_OK;
    size_t size = good ? strlen(made) : 0;
    good = size > 0 && size <= room_bytes;
    if (good) {
        memcpy(room, made, size);
        prepared->size = size;
    }
    if (made != NULL) {
        OPENSSL_cleanse(made, strlen(made));
    }
    gsasl_free(made);
    OPENSSL_cleanse(terminated, sizeof(terminated));
    return good;
}
