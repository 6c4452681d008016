/*
 * date: a point in time as message headers write it, in UTC: "Sat, 01 Aug 2026 09:05:00 +0000".
 *
 * For Received:, Date: and delivery reports. Pure arithmetic, no time zone of the machine.
 *
 * Source: RFC 5322 §3.3.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_DATE_TEXT 32 /* 31 characters and NUL, for the years 0 to 9999 */

/* Seconds since 1970-01-01T00:00:00Z; what lies outside the years 0..9999 is shown as its nearest
 * end. Returns the length. */
size_t message_date_format(int64_t wall_s, char text[MESSAGE_DATE_TEXT]);
