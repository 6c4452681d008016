/* password_private: what password.c, password_kind.c and password_make.c share. Nobody else includes it. */
#pragma once
#include "engine/auth/password.h"

enum password_encoding { PASSWORD_USUAL, PASSWORD_BASE64, PASSWORD_HEX };

struct password_parts { /* slices of what is stored */
    struct slice scheme, rest;
    enum password_encoding encoding;
};
/* False: it is too long, or its scheme does not end. */
bool password_part(struct slice stored, const char *otherwise_scheme, struct password_parts *parts);
/* The rest as octets; returns how many, or -1. usual: how it is written when the suffix does not say. */
long password_decode(const struct password_parts *parts, enum password_encoding usual,
                     uint8_t to[PASSWORD_STORED_MAX]);
/* False: malformed, or too costly. */
bool password_scram_parse(const struct password_parts *parts, enum password_hash hash,
                          struct password_scram *scram);
/* crypt(5): is it a setting that we take, and none that costs too much? */
bool password_crypt_bounded(const char *setting);
