/* What the source of a COPY to another shard says of a message, before its text. */
#include "engine/mailbox/imap_abroad.h"
#include "proto/imap/response.h"

bool imap_carried_read(struct slice head, struct imap_carried *carried)
{
    struct imap_token token;
    bool text = false;
    *carried = (struct imap_carried){.uid = 0};
    imap_response_next(&head); /* "*", the number */
    imap_response_next(&head);
    token = imap_response_next(&head);
    if (!slice_equal(token.bytes, slice_text("FETCH")) ||
        imap_response_next(&head).kind != IMAP_TOKEN_OPEN) {
        return false;
    }
    while (!text && (token = imap_response_next(&head)).kind == IMAP_TOKEN_ATOM) {
        struct slice name = token.bytes, value = slice_of(NULL, 0);
        text = slice_equal(name, slice_text("BODY[]"));
        if (slice_equal(name, slice_text("INTERNALDATE"))) {
            carried->date = imap_response_next(&head).bytes;
        } else if (text) {
            carried->gone = !imap_response_literal(head, &carried->bytes);
        } else if (!imap_response_value(&head, &value)) {
            return false;
        }
        if (slice_equal(name, slice_text("UID"))) {
            imap_nz_number_read(value, &carried->uid);
        } else if (slice_equal(name, slice_text("FLAGS"))) {
            carried->flags = value;
        }
    }
    return text && carried->uid != 0 && carried->date.size > 0;
}
