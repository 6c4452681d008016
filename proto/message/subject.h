/*
 * subject: the base subject, by which messages are sorted and threaded: without "Re:", "Fwd:", "[list]" and "(fwd)".
 *
 * Source: RFC 5256 §2.1.
 */
#pragma once
#include "engine/core/slice.h"

/* `text` is the decoded subject (text_of_field); it is changed in place. Returns what is left of it; *is_reply: it was
 * a reply or was forwarded (RFC 5256 §2.1 and §3, ORDEREDSUBJECT and REFERENCES). */
struct slice subject_base(uint8_t *text, size_t size, bool *is_reply);
