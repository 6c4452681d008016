/*
 * client_message: who a client says it is, read from its message before the library gets it, and the whole of the
 * messages that the library does not know.
 *
 * The stored secret must be fetched before the step that needs it, since GNU SASL asks for it from within. So the name
 * is read here first; server.c compares it with what the library has read afterwards. Pure parsers: nothing is
 * allocated; slices point into the input or into the buffer that is handed in, and are borrowed like them.
 *
 * Source: RFC 5802 §7 (SCRAM); RFC 2195 §2 (CRAM-MD5); RFC 2831 §2.1.2 (DIGEST-MD5); RFC 7628 §3.1 (OAUTHBEARER);
 * RFC 5801 §4 (GS2 header). XOAUTH2 has no RFC: the form that Google and Microsoft document.
 */
#pragma once
#include "proto/sasl/mechanism.h"

#define SASL_NAME_BYTES_MAX 320u /* of a user's name; longer: failed */

struct sasl_names {
    struct slice authid, authzid, realm;  /* empty: not given */
    struct slice token;                   /* of OAUTHBEARER and XOAUTH2 */
    uint8_t room[3][SASL_NAME_BYTES_MAX]; /* what had to be unescaped */
};

/* Reads the message of the mechanism that names the user. False: it is malformed, or a name is too long. */
bool sasl_client_message_read(enum sasl_mechanism mechanism, struct slice message,
                              struct sasl_names *names);
