/* The mailboxes of a field of any bytes: it ends, and none is longer than the room, or holds what ends a line. */
#include "proto/message/address_list.h"
#include "engine/core/check.h"
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct slice list = slice_of(bytes, size);
    char mailbox[64];
    size_t length;
    for (int status; (status = address_list_next(&list, mailbox, sizeof(mailbox), &length)) != 0;) {
        check(status == 1 || status == -E2BIG || status == -EINVAL);
        if (status == 1) {
            check(length > 0 && length <= sizeof(mailbox));
        }
        if (status == -EINVAL) {
            check(list.size == 0);
        }
    }
    check(list.size == 0);
    return 0;
}
