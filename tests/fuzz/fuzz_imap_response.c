/* Any bytes as a server's response: tokens lie in it, and every walk ends. */
#include "engine/core/check.h"
#include "proto/imap/response.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice whole = slice_of(bytes, size), rest = whole, value;
    char *text = (char *)malloc(size + 1);
    uint64_t literal;
    check(text != NULL);
    imap_response_literal(whole, &literal);
    for (;;) {
        size_t before = rest.size;
        struct imap_token token = imap_response_next(&rest);
        if (token.kind == IMAP_TOKEN_END || token.kind == IMAP_TOKEN_BAD) {
            break;
        }
        check(rest.size < before);
        check(token.bytes.size == 0 ||
              (token.bytes.bytes >= bytes && token.bytes.bytes + token.bytes.size <= bytes + size));
        check(imap_token_copy(&token, text) <= token.bytes.size);
    }
    rest = whole;
    while (imap_response_value(&rest, &value)) {
        check(value.size > 0 && value.bytes >= bytes && value.bytes + value.size <= bytes + size);
    }
    free(text);
    return 0;
}
