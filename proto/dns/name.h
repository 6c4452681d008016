/*
 * name: a domain name in the form that everything else here compares and prints.
 *
 * Lower case, no final dot, letters, digits, hyphens and underscores only: what a host or a service
 * can be called. The root is "". Names that carry other bytes exist in the DNS but lead to no mail
 * host; they are refused where they come in, so that nothing behind needs to escape anything.
 * Pure functions.
 *
 * Source: RFC 1035 §3.1 (wire form), §2.3.4 (sizes); RFC 5321 §2.3.5.
 */
#pragma once
#include "engine/core/slice.h"

#define DNS_NAME_MAX 253                  /* as text, without NUL: 255 bytes on the wire */
#define DNS_NAME_BYTES (DNS_NAME_MAX + 1) /* what a name takes as text with its NUL */
#define DNS_LABEL_MAX 63

/* Reads a name of A-labels, with or without a final dot. Returns its length, or -EINVAL. */
int dns_name_from_text(struct slice text, char name[DNS_NAME_BYTES]);

/* Reads an uncompressed name at rdata[*offset] and moves *offset behind it. Compression pointers are
 * refused: rdata is handed over unpacked. Returns the length, or -EINVAL. */
int dns_name_from_wire(struct slice rdata, size_t *offset, char name[DNS_NAME_BYTES]);

/* "_25._tcp.mx.example.org". Returns the length, or -EINVAL when it would be too long. */
int dns_name_with_prefix(const char *prefix, const char *name, char result[DNS_NAME_BYTES]);

/* Is the last label a number? An IPv4 address in text looks like that, a domain does not (RFC 3696 §2). */
bool dns_name_is_address(const char *name);
