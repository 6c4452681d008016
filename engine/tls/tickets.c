#include "engine/tls/tickets.h"
#include "engine/tls/context_private.h"
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICKET_SECONDS (12u * 3600u)
#define TICKET_NAME_BYTES 16u
#define TICKET_KEY_BYTES 32u
#define PERIODS 2u

struct ticket_keys {
    bool drawn;
    uint64_t period;
    uint8_t name[TICKET_NAME_BYTES];
    uint8_t sealing[TICKET_KEY_BYTES], signing[TICKET_KEY_BYTES];
};

struct tls_tickets {
    uint8_t secret[TLS_SECRET_BYTES];
    uint32_t period_s;
    int64_t (*wall_s)(void *self);
    void *wall_self;
    EVP_CIPHER *cipher;
    struct ticket_keys keys[PERIODS]; /* of period p at p % PERIODS */
};

static bool draw(const struct tls_tickets *self, uint64_t period, const char *what, uint8_t *bytes,
                 size_t size)
{
    uint8_t text[32] = {0}, digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
    int length = snprintf((char *)text, sizeof(text), "%s", what);
    for (unsigned i = 0; i < 8; i++) {
        text[length + 1 + (int)i] = (uint8_t)(period >> 8 * i);
    }
    if (HMAC(EVP_sha256(), self->secret, TLS_SECRET_BYTES, text, (size_t)length + 9, digest,
             &digest_size) == NULL ||
        digest_size < size) {
        return false;
    }
    memcpy(bytes, digest, size);
    OPENSSL_cleanse(digest, sizeof(digest));
    return true;
}

/* NULL: they cannot be drawn. */
static const struct ticket_keys *keys_of(struct tls_tickets *self, uint64_t period)
{
    struct ticket_keys *keys = &self->keys[period % PERIODS];
    if (!keys->drawn || keys->period != period) {
        keys->period = period;
        keys->drawn = draw(self, period, "name", keys->name, sizeof(keys->name)) &&
                      draw(self, period, "sealing", keys->sealing, sizeof(keys->sealing)) &&
                      draw(self, period, "signing", keys->signing, sizeof(keys->signing));
    }
    return keys->drawn ? keys : NULL;
}

static bool ciphers_set(const struct tls_tickets *self, const struct ticket_keys *keys,
                        const uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)keys->signing,
                                          sizeof(keys->signing)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end()};
    return EVP_CipherInit_ex(cipher, self->cipher, NULL, keys->sealing, iv, seal) == 1 &&
           EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

static int ticket_seal(struct tls_tickets *self, uint64_t period, unsigned char *name,
                       unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac)
{
    const struct ticket_keys *keys = keys_of(self, period);
    if (keys == NULL || RAND_bytes(iv, EVP_CIPHER_get_iv_length(self->cipher)) != 1 ||
        !ciphers_set(self, keys, iv, cipher, mac, 1)) {
        return -1;
    }
    memcpy(name, keys->name, sizeof(keys->name));
    return 1;
}

/* Those of TLS 1.3 are always renewed, as a client uses each once; others when their period is over. */
static int ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                      EVP_MAC_CTX *mac, int seal)
{
    const struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct tls_tickets *self = context->tickets;
    uint64_t period = (uint64_t)self->wall_s(self->wall_self) / self->period_s;
    if (seal) {
        return ticket_seal(self, period, name, iv, cipher, mac);
    }
    for (unsigned age = 0; age < PERIODS && period >= age; age++) {
        const struct ticket_keys *keys = keys_of(self, period - age);
        if (keys != NULL && memcmp(name, keys->name, sizeof(keys->name)) == 0) {
            bool renew = age > 0 || SSL_version(ssl) >= TLS1_3_VERSION;
            return !ciphers_set(self, keys, iv, cipher, mac, 0) ? -1 : renew ? 2 : 1;
        }
    }
    return 0; /* a whole handshake */
}

int tls_tickets_open(struct tls_tickets **tickets, const struct tls_server_settings *settings)
{
    struct tls_tickets *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    memcpy(made->secret, settings->ticket_secret, TLS_SECRET_BYTES);
    made->period_s = settings->ticket_s == 0 ? TICKET_SECONDS : settings->ticket_s;
    made->wall_s = settings->wall_s;
    made->wall_self = settings->wall_self;
    made->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (made->cipher == NULL) {
        tls_tickets_close(made);
        return -ENOMEM;
    }
    *tickets = made;
    return 0;
}

void tls_tickets_close(struct tls_tickets *tickets)
{
    EVP_CIPHER_free(tickets->cipher);
    OPENSSL_cleanse(tickets, sizeof(*tickets));
    free(tickets);
}

int tls_tickets_serve(SSL_CTX *identity)
{
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(identity, ticket_key) == 1 ? 0 : -ENOMEM;
}
