/*
 * domain: what a recipient's address calls its domain, in the form that the DNS knows.
 *
 * U-labels become A-labels with libidn2. No I/O.
 * Source: RFC 5891 §5 (IDNA2008 lookup); RFC 5321 §4.1.3 (address literals).
 */
#pragma once
#include "engine/core/endpoint.h"
#include "proto/dns/name.h"

enum domain_kind { DOMAIN_NAME, DOMAIN_LITERAL, DOMAIN_WRONG };

/* NAME: name is set. LITERAL, "[192.0.2.1]" or "[IPv6:2001:db8::1]": name and address are set, but for the port. */
enum domain_kind domain_read(struct slice text, char name[DNS_NAME_BYTES],
                             struct endpoint *address);
