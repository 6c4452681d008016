/*
 * utf8: is this text, and text that cannot steer a terminal?
 *
 * For what peers say and is shown to people: replies, addresses, reports.
 *
 * Source: RFC 3629.
 */
#pragma once
#include "engine/core/slice.h"

/* Bytes of the well-formed UTF-8 character at the start of text, 1..4; 0 when there is none, when
 * it is cut short, or when it is a control character (C0, DEL, C1). */
size_t utf8_printable(struct slice text);
