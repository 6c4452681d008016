/*
 * Any text as a URL of CATENATE. What is taken names a message in a mailbox whose name may be one, and nothing that the
 * arena does not hold. The text behind the first NUL is the selected mailbox.
 */
#include "engine/core/check.h"
#include "proto/imap/names.h"
#include "proto/imap/url.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct arena arena;
    struct imap_url url;
    const uint8_t *nul = size > 0 ? memchr(bytes, 0, size) : NULL;
    struct slice text = slice_of(bytes, nul != NULL ? (size_t)(nul - bytes) : size);
    struct slice selected = nul != NULL ? slice_from(slice_of(bytes, size), text.size + 1) : text;
    if (nul == NULL || imap_name_check(selected) != IMAP_NAME_GOOD) {
        selected = slice_of(NULL, 0);
    }
    arena_open(&arena, 256u * 1024);
    const char *error = imap_url_read(&arena, text, selected, &url);
    if (error == NULL) {
        check(url.uid > 0 && imap_name_check(url.mailbox) == IMAP_NAME_GOOD);
        for (uint32_t i = 0; i < url.section.part_count; i++) {
            check(url.section.parts[i] > 0);
        }
        for (uint32_t i = 0; i < url.section.fields.count; i++) {
            check(url.section.fields.items[i].size <= text.size);
        }
    } else {
        check(error[0] != '\0');
    }
    arena_close(&arena);
    return 0;
}
