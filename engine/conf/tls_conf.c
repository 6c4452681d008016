#include "engine/conf/tls_conf.h"
#include "engine/conf/names.h"
#include "engine/conf/words.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

typedef struct relay_conf R; /* in the tables only */

const struct reader_word tls_conf_listeners[] = {
    {"auto", CONF_TLS_AUTO},         {"off", CONF_TLS_OFF},
    {"starttls", CONF_TLS_STARTTLS}, {"required", CONF_TLS_REQUIRED},
    {"implicit", CONF_TLS_IMPLICIT}, {NULL, 0}};
const struct reader_word tls_conf_clients[] = {{"no", CONF_CLIENT_CERTIFICATE_NO},
                                               {"ask", CONF_CLIENT_CERTIFICATE_ASK},
                                               {"require", CONF_CLIENT_CERTIFICATE_REQUIRE},
                                               {NULL, 0}};
const struct reader_word tls_conf_levels[] = {
    {"none", CONF_LEVEL_NONE},         {"opportunistic", CONF_LEVEL_OPPORTUNISTIC},
    {"required", CONF_LEVEL_REQUIRED}, {"verified", CONF_LEVEL_VERIFIED},
    {"dane", CONF_LEVEL_DANE},         {NULL, 0}};
const struct reader_word tls_conf_versions[] = {
    {"1.2", CONF_TLS_1_2}, {"1.3", CONF_TLS_1_3}, {NULL, 0}};

const struct reader_key tls_conf_certificates[] = {
    KEY_TEXT("certificate", struct conf_certificate, certificate, name_is_absolute_path,
             NAME_PATH_EXPECTED, .required = true),
    KEY_TEXT("key", struct conf_certificate, key, name_is_absolute_path, NAME_PATH_EXPECTED,
             .required = true),
    KEY_LIST("names", struct conf_certificate, names, READER_TEXT, .max = 1000,
             .expected = "a host's name"),
    KEY_END,
};
const struct reader_key tls_conf_keys[] = {
    TLS_CONF_SERVER_KEYS(R),
    KEY_TEXT("client_certificate", R, tls.client_certificate, name_is_absolute_path,
             NAME_PATH_EXPECTED),
    KEY_TEXT("client_key", R, tls.client_key, name_is_absolute_path, NAME_PATH_EXPECTED),
    KEY_TEXT("authorities", R, tls.authorities, name_is_absolute_path, NAME_PATH_EXPECTED),
    KEY_END,
};

/* ---- what no single value shows ---- */

static void settle_listener(struct reader *reader, const struct relay_conf *conf, uint32_t index)
{
    struct conf_listener *one = &conf->listen[index];
    char key[64];
    if (one->tls == CONF_TLS_AUTO) {
        one->tls = conf->tls.certificates_count > 0 ? CONF_TLS_STARTTLS : CONF_TLS_OFF;
    } else if (one->tls != CONF_TLS_OFF && conf->tls.certificates_count == 0) {
        snprintf(key, sizeof key, "listen[%u].tls", index);
        reader_problem(reader, key, "without a certificate, expected one in tls.certificates");
    }
    if (one->client_certificate != CONF_CLIENT_CERTIFICATE_NO && one->tls == CONF_TLS_OFF) {
        snprintf(key, sizeof key, "listen[%u].client_certificate", index);
        reader_problem(reader, key, "without TLS nobody shows one, expected a listener with it");
    }
}

static void check_pair(struct reader *reader, const char *prefix, const char *const names[2],
                       const char *const values[2])
{
    char key[64];
    if ((values[0] == NULL) != (values[1] == NULL)) {
        snprintf(key, sizeof key, "%s%s", prefix, names[values[0] == NULL]);
        reader_problem(reader, key, "alone, expected %s with it", names[values[0] != NULL]);
    }
}

static void check_route(struct reader *reader, const struct conf_route *route, uint32_t index)
{
    static const char *const pair[] = {"tls_certificate", "tls_key"};
    char key[64], prefix[32];
    snprintf(prefix, sizeof prefix, "routes[%u].", index);
    check_pair(reader, prefix, pair, (const char *const[]){route->tls.certificate, route->tls.key});
    snprintf(key, sizeof key, "routes[%u].tls", index);
    if (route->tls.level == CONF_LEVEL_DANE && route->to_count > 0) {
        reader_problem(reader, key, "endpoints have no TLSA records, expected another level");
    } else if (route->tls.level == CONF_LEVEL_VERIFIED && route->to_count > 0 &&
               route->tls.names_count == 0) {
        reader_problem(reader, key, "of whom? expected the name of the next hop in tls_names");
    } else if (route->tls.level == CONF_LEVEL_NONE && route->tls.implicit) {
        reader_problem(reader, key, "against tls_implicit, expected another level");
    }
}

/* ---- fingerprints ---- */

static int digit_of(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : -1;
}

/* "AB:CD:…" as openssl and Postfix write it, or without colons. */
static bool fingerprint_read(const char *text, uint8_t digest[CONF_FINGERPRINT_BYTES])
{
    for (unsigned i = 0; i < CONF_FINGERPRINT_BYTES; i++) {
        int high = digit_of(text[0]);
        int low = high < 0 ? -1 : digit_of(text[1]);
        if (low < 0) {
            return false;
        }
        digest[i] = (uint8_t)(high << 4 | low);
        text += 2;
        text += *text == ':' && i + 1 < CONF_FINGERPRINT_BYTES;
    }
    return *text == '\0';
}

static int settle_clients(struct reader *reader, struct relay_conf *conf)
{
    conf->relay_client_digests =
        reader_take(reader->memory, (size_t)conf->relay_clients_count * CONF_FINGERPRINT_BYTES + 1);
    if (conf->relay_client_digests == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < conf->relay_clients_count; i++) {
        char key[64];
        snprintf(key, sizeof key, "relay_clients[%u]", i);
        if (!fingerprint_read(conf->relay_clients[i], conf->relay_client_digests[i])) {
            reader_problem(reader, key,
                           "no fingerprint, expected 32 bytes of SHA-256 in hexadecimal");
        }
    }
    return 0;
}

int tls_conf_settle(struct reader *reader, struct relay_conf *conf)
{
    static const char *const pair[] = {"client_certificate", "client_key"};
    for (uint32_t i = 0; i < conf->listen_count; i++) {
        settle_listener(reader, conf, i);
    }
    check_pair(reader, "tls.", pair,
               (const char *const[]){conf->tls.client_certificate, conf->tls.client_key});
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        check_route(reader, &conf->routes[i], i);
    }
    return settle_clients(reader, conf);
}
