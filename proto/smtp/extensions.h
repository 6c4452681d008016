/*
 * extensions: what a server announces in its answer to EHLO or LHLO, line by line.
 *
 * Source: RFC 5321 §4.1.1.1; each extension's own RFC.
 */
#pragma once
#include "engine/core/slice.h"

enum smtp_extension {
    SMTP_EXTENSION_PIPELINING = 1, /* RFC 2920 */
    SMTP_EXTENSION_SIZE = 2,       /* RFC 1870 */
    SMTP_EXTENSION_8BITMIME = 4,   /* RFC 6152 */
    SMTP_EXTENSION_SMTPUTF8 = 8,   /* RFC 6531 */
    SMTP_EXTENSION_STATUS = 16,    /* ENHANCEDSTATUSCODES, RFC 2034 */
    SMTP_EXTENSION_STARTTLS = 32,  /* RFC 3207 */
    SMTP_EXTENSION_CHUNKING = 64,  /* RFC 3030 */
    SMTP_EXTENSION_DSN = 128,      /* RFC 3461 */
};

/* Reads one line after the first, without its code: adds to *extensions what it announces, and sets
 * *size_limit when it is SIZE (0: no limit is known). What is not known is passed over. */
void smtp_extension_read(struct slice line, uint32_t *extensions, uint64_t *size_limit);
