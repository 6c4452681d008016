/*
 * limits: every bound that is not configured, named once, with the answer when it is reached.
 */
#pragma once

#define SMTP_COMMAND_BYTES_MAX                                                                     \
    2048 /* RFC 5321 §4.5.3.1.4 asks 512 and extensions add; longer: 500 5.5.2 */
#define SMTP_AUTH_LINE_BYTES_MAX                                                                   \
    (12288 + 64) /* RFC 4954 §4, with the verb and a mechanism; longer: 500 5.5.6 */
#define SMTP_ADDRESS_BYTES_MAX                                                                     \
    320 /* RFC 5321 §4.5.3.1: path 256; local part 64 @ domain 255; longer: 501 5.1.3 */
#define SMTP_REPLY_LINE_BYTES_MAX 2048 /* RFC 5321 §4.5.3.1.5 says 512; longer: protocol error */
#define SMTP_REPLY_LINES_MAX 128       /* lines of one reply; more: protocol error */
#define STREAM_WRITE_MAX 16384         /* bytes that one stream write() copies at most */
#define STREAM_QUEUED_BYTES_MAX (256 * 1024) /* above it write and write_ref answer -EAGAIN */

#define IMAP_COMMAND_BYTES_BEFORE_LOGIN (8 * 1024) /* with its literals; longer: BAD [LIMIT] */
#define IMAP_COMMAND_BYTES_MAX (64 * 1024)         /* after login; the message of APPEND apart */
#define IMAP_AUTH_LINE_BYTES_MAX 12288             /* as RFC 4954 §4 asks of SMTP; longer: BAD */
#define IMAP_TAG_BYTES_MAX 64                      /* longer: BAD without it */
#define IMAP_SKIP_BYTES_MAX (1024 * 1024)          /* of a command too long; more: BYE */
#define IMAP_TREE_BYTES_BEFORE_LOGIN (32 * 1024) /* of a command's syntax tree; more: NO [LIMIT] */
#define IMAP_TREE_BYTES_MAX (2 * 1024 * 1024)
#define IMAP_CODE_BYTES_MAX (64 * 1024)  /* of a response code; longer: it is left out */
#define IMAP_SEARCH_DEPTH_MAX 32         /* parentheses, NOT and OR; deeper: BAD */
#define IMAP_FETCH_ITEMS_MAX 256         /* of one FETCH; more: NO [LIMIT] */
#define IMAP_SECTION_PARTS_MAX 64        /* numbers of one section; more: NO [LIMIT] */
#define IMAP_ID_PAIRS_MAX 30             /* RFC 2971 §3.3; more: BAD */
#define IMAP_MAILBOX_BYTES_MAX 1024      /* of a mailbox name, UTF-8; longer: NO [CANNOT] */
#define IMAP_MAILBOX_LEVEL_BYTES_MAX 255 /* of one level of it, as file systems have it */
#define IMAP_MAILBOX_LEVELS_MAX 64       /* deeper: NO [CANNOT] */
