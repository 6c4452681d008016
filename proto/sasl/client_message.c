#include "proto/sasl/client_message.h"

#define CRAM_DIGEST_BYTES 32u /* MD5 in hexadecimal digits */

static bool begins(struct slice text, const char *start)
{
    return slice_equal(slice_first(text, strlen(start)), slice_text(start));
}

/* Takes what is before the octet off *rest, and the octet. False: there is none. */
static bool take_until(struct slice *rest, uint8_t octet, struct slice *part)
{
    const uint8_t *at = rest->size == 0 ? NULL : memchr(rest->bytes, octet, rest->size);
    if (at == NULL) {
        return false;
    }
    *part = slice_of(rest->bytes, (size_t)(at - rest->bytes));
    *rest = slice_from(*rest, part->size + 1);
    return true;
}

/* saslname of RFC 5802 §7: "=2C" is a comma, "=3D" an equals sign, and no other "=" may be. */
static bool saslname_read(struct slice text, uint8_t *room, struct slice *name)
{
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t octet = text.bytes[i];
        if (octet == '=') {
            struct slice code = slice_from(text, i);
            if (!begins(code, "=2C") && !begins(code, "=3D")) {
                return false;
            }
            octet = code.bytes[1] == '2' ? ',' : '=';
            i += 2;
        }
        if (octet == '\0' || used == SASL_NAME_BYTES_MAX) {
            return false;
        }
        room[used++] = octet;
    }
    *name = slice_of(room, used);
    return used > 0;
}

/* The GS2 header up to and with its second comma. */
static bool gs2_header_read(struct slice *rest, struct slice *flag, struct sasl_names *names)
{
    struct slice authzid;
    if (!take_until(rest, ',', flag) || !take_until(rest, ',', &authzid)) {
        return false;
    }
    return authzid.size == 0 ||
           (begins(authzid, "a=") &&
            saslname_read(slice_from(authzid, 2), names->room[1], &names->authzid));
}

/* Channel binding and mechanism must go together (RFC 5802 §6). */
static bool flag_fits(enum sasl_mechanism mechanism, struct slice flag)
{
    bool plus = mechanism == SASL_SCRAM_SHA_1_PLUS || mechanism == SASL_SCRAM_SHA_256_PLUS;
    if (plus) {
        return slice_equal(flag, slice_text("p=tls-unique")) ||
               slice_equal(flag, slice_text("p=tls-exporter"));
    }
    return slice_equal(flag, slice_text("n")) || slice_equal(flag, slice_text("y"));
}

static bool scram_read(enum sasl_mechanism mechanism, struct slice message,
                       struct sasl_names *names)
{
    struct slice flag, name;
    return gs2_header_read(&message, &flag, names) && flag_fits(mechanism, flag) &&
           begins(message, "n=") && take_until(&message, ',', &name) &&
           saslname_read(slice_from(name, 2), names->room[0], &names->authid);
}

/* "name digest"; the name may have blanks. */
static bool cram_read(struct slice message, struct sasl_names *names)
{
    if (message.size < CRAM_DIGEST_BYTES + 2 ||
        message.bytes[message.size - CRAM_DIGEST_BYTES - 1] != ' ') {
        return false;
    }
    names->authid = slice_first(message, message.size - CRAM_DIGEST_BYTES - 1);
    return names->authid.size <= SASL_NAME_BYTES_MAX;
}

static bool is_space(uint8_t octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

/* Takes one value off *rest: quoted, or as far as a comma. Octets of which there are too many are counted, not kept. */
static bool digest_value(struct slice *rest, uint8_t *room, struct slice *value)
{
    size_t used = 0, at = 0;
    bool quoted = rest->size > 0 && rest->bytes[0] == '"';
    for (at = quoted; at < rest->size; at++) {
        uint8_t octet = rest->bytes[at];
        if (quoted ? octet == '"' : octet == ',' || is_space(octet)) {
            break;
        }
        if (quoted && octet == '\\' && ++at < rest->size) {
            octet = rest->bytes[at];
        }
        if (used < SASL_NAME_BYTES_MAX) {
            room[used] = octet;
        }
        used++;
    }
    if (quoted && at++ >= rest->size) {
        return false;
    }
    *rest = slice_from(*rest, at);
    *value = slice_of(room, used);
    return true;
}

/* Where a directive's value goes; NULL: it is not wanted. */
static struct slice *digest_wanted(struct slice name, struct sasl_names *names, uint8_t **room)
{
    static const char *const wanted[] = {"username", "authzid", "realm"};
    struct slice *const at[] = {&names->authid, &names->authzid, &names->realm};
    for (unsigned i = 0; i < 3; i++) {
        if (slice_equal_nocase(name, slice_text(wanted[i]))) {
            *room = names->room[i];
            return at[i];
        }
    }
    return NULL;
}

static bool digest_directive(struct slice *rest, struct sasl_names *names)
{
    struct slice name, value;
    uint8_t unwanted[SASL_NAME_BYTES_MAX];
    uint8_t *room = unwanted;
    if (!take_until(rest, '=', &name)) {
        return false;
    }
    while (name.size > 0 && is_space(name.bytes[name.size - 1])) {
        name.size--;
    }
    while (rest->size > 0 && is_space(rest->bytes[0])) {
        *rest = slice_from(*rest, 1);
    }
    struct slice *into = digest_wanted(name, names, &room);
    if (into != NULL && into->bytes != NULL) {
        return false; /* twice: another reader might believe the other one */
    }
    if (!digest_value(rest, room, &value) || (into != NULL && value.size > SASL_NAME_BYTES_MAX)) {
        return false;
    }
    if (into != NULL) {
        *into = value;
    }
    return true;
}

static bool digest_read(struct slice message, struct sasl_names *names)
{
    while (message.size > 0) {
        if (message.bytes[0] == ',' || is_space(message.bytes[0])) {
            message = slice_from(message, 1);
        } else if (!digest_directive(&message, names)) {
            return false;
        }
    }
    return names->authid.size > 0;
}

/* RFC 6750 §2.1. */
static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t octet = slice_lower(text.bytes[i]);
        bool letter = (octet >= 'a' && octet <= 'z') || (octet >= '0' && octet <= '9');
        if (!letter && (octet == '\0' || strchr("-._~+/=", octet) == NULL)) {
            return false;
        }
    }
    return text.size > 0;
}

/* "KEY=VALUE^A" again and again, then "^A". */
static bool pairs_read(struct slice message, struct sasl_names *names)
{
    struct slice pair, key;
    while (take_until(&message, 1, &pair)) {
        if (pair.size == 0) {
            return message.size == 0 && is_token(names->token);
        }
        if (!take_until(&pair, '=', &key) || key.size == 0) {
            return false;
        }
        if (slice_equal(key, slice_text("auth"))) {
            if (names->token.size > 0 ||
                !slice_equal_nocase(slice_first(pair, 7), slice_text("Bearer "))) {
                return false;
            }
            names->token = slice_from(pair, 7);
        }
    }
    return false;
}

static bool oauthbearer_read(struct slice message, struct sasl_names *names)
{
    struct slice flag, nothing;
    if (!gs2_header_read(&message, &flag, names) || !flag_fits(SASL_OAUTHBEARER, flag) ||
        !take_until(&message, 1, &nothing) || nothing.size > 0) {
        return false;
    }
    names->authid = names->authzid; /* RFC 7628 §3.1: it is all that names the user */
    return pairs_read(message, names);
}

static bool xoauth2_read(struct slice message, struct sasl_names *names)
{
    struct slice user;
    if (!begins(message, "user=") || !take_until(&message, 1, &user)) {
        return false;
    }
    names->authid = slice_from(user, 5);
    return names->authid.size > 0 && names->authid.size <= SASL_NAME_BYTES_MAX &&
           pairs_read(message, names);
}

bool sasl_client_message_read(enum sasl_mechanism mechanism, struct slice message,
                              struct sasl_names *names)
{
    names->authid = names->authzid = names->realm = names->token = slice_of(NULL, 0);
    if (message.size > 0 && memchr(message.bytes, '\0', message.size) != NULL) {
        return false;
    }
    switch (mechanism) {
    case SASL_SCRAM_SHA_256_PLUS:
    case SASL_SCRAM_SHA_1_PLUS:
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_1:
        return scram_read(mechanism, message, names);
    case SASL_CRAM_MD5:
        return cram_read(message, names);
    case SASL_DIGEST_MD5:
        return digest_read(message, names);
    case SASL_OAUTHBEARER:
        return oauthbearer_read(message, names);
    case SASL_XOAUTH2:
        return xoauth2_read(message, names);
    case SASL_EXTERNAL:
    case SASL_PLAIN:
    case SASL_LOGIN:
    case SASL_MECHANISMS:
        break;
    }
    return false;
}
