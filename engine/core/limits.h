/*
 * limits: every bound that is not configured, named once, with the answer when it is reached.
 */
#pragma once

#define SMTP_COMMAND_BYTES_MAX                                                                     \
    2048 /* RFC 5321 §4.5.3.1.4 asks 512 and extensions add; longer: 500 5.5.2 */
#define SMTP_ADDRESS_BYTES_MAX                                                                     \
    320 /* RFC 5321 §4.5.3.1: path 256; local part 64 @ domain 255; longer: 501 5.1.3 */
#define SMTP_REPLY_LINE_BYTES_MAX 2048 /* RFC 5321 §4.5.3.1.5 says 512; longer: protocol error */
#define SMTP_REPLY_LINES_MAX 128       /* lines of one reply; more: protocol error */
#define STREAM_WRITE_MAX 16384         /* bytes that one stream write() copies at most */
#define STREAM_QUEUED_BYTES_MAX (256 * 1024) /* above it write and write_ref answer -EAGAIN */
