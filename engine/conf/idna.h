/*
 * idna: the two forms of an internationalised domain name: U-labels in UTF-8 (bücher.example) and A-labels
 * (xn--bcher-kva.example), which are the same domain.
 *
 * Who compares domains compares A-labels, which have one spelling; who asks for one in a table that somebody keeps asks
 * for both. With libidn2, non-transitional, so that "ß" stays itself. No I/O.
 * Source: RFC 5890 §2.3.2.1; RFC 5891 §5 (lookup).
 */
#pragma once
#include "engine/core/slice.h"

#define IDNA_ASCII_MAX 255u                /* RFC 1035 §2.3.4 */
#define IDNA_TEXT_MAX (4 * IDNA_ASCII_MAX) /* in UTF-8 */

/* Is there a byte that is not ASCII? */
bool idna_is_unicode(struct slice domain);
/* In A-labels, in small letters and terminated. False: it is no domain, or too long. */
bool idna_to_ascii(struct slice domain, char ascii[IDNA_ASCII_MAX + 1], struct slice *made);
/* The form that it is not written in: A-labels of U-labels, U-labels of A-labels. False: it has none. */
bool idna_other_form(struct slice domain, char other[IDNA_TEXT_MAX + 1], struct slice *made);
