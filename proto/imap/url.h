/*
 * url: the messages, and parts of messages, that CATENATE names (RFC 4469 §3): URLs of IMAP within this server and user.
 *
 *     /INBOX;UIDVALIDITY=785799047/;UID=113330/;SECTION=1.5.9/;PARTIAL=0.1024
 *     ;UID=20                of the selected mailbox
 *     Drafts/;UID=20         beside the selected mailbox
 *
 * Names are UTF-8 with percent signs. URLs with a server, with URLAUTH, or that name no message are refused.
 *
 * Pure; for imap_catenate.c; what it makes lies in the caller's arena. Source: RFC 5092 §5-§7, §11; RFC 3986 §2.1.
 */
#pragma once
#include "proto/imap/command.h"

struct imap_url {
    struct slice mailbox;  /* canonical (names.h) */
    uint32_t uid_validity; /* 0: not given */
    uint32_t uid;
    struct imap_section section; /* IMAP_SECTION_ALL without parts: the message */
    bool partial;
    uint32_t first, bytes; /* of the section; bytes: 0: to its end */
};

/* selected: the canonical name of the selected mailbox; empty: none. NULL; else what is wrong with it, static text. */
const char *imap_url_read(struct arena *arena, struct slice text, struct slice selected,
                          struct imap_url *url);
