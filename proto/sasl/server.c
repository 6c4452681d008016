#include "proto/sasl/server.h"
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include "proto/sasl/made_up.h"
#include "proto/sasl/prepare.h"
#include <errno.h>
#include <gsasl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#define SALT_BYTES_MAX 128u
#define BINDING_BYTES_MAX 256u    /* tls-exporter has 32 octets, tls-unique 12 or 36 */
#define CHALLENGE_BYTES_MAX 1024u /* of those that are made here */

/*
 *           names the user              secret              last word of the server
 *  OPEN ────────────────────► SECRET ──────────► KNOWN ─────────────────────────────► LAST
 *   │ │                                            │                                   │
 *   │ └─ password, name ─► VERIFY ── right ──► ENDED (done or failed) ◄────────────────┘
 *   └─── token ──────────► TOKEN ─── right ────────┤
 *                            └─ wrong ─► REFUSED ──┘  the client answers the error first, RFC 7628 §3.2.3
 */
enum state {
    STATE_OPEN,   /* nothing is known of the user */
    STATE_SECRET, /* the owner is to say what is stored */
    STATE_KNOWN,  /* the library has it */
    STATE_VERIFY,
    STATE_TOKEN,
    STATE_LAST, /* right, and the client has still to take note of it */
    STATE_REFUSED,
    STATE_DONE,
    STATE_FAILED,
};

struct sasl_library {
    Gsasl *gsasl;
    EVP_MAC_CTX *hash; /* of the secret: makes up what nobody has */
    const struct sasl_settings *settings;
};

struct sasl_server {
    struct sasl_library *library;
    Gsasl_session *session; /* NULL: a mechanism of our own */
    enum sasl_mechanism mechanism;
    enum state state;
    enum sasl_failure failure;
    bool begun, unknown; /* unknown: no such user, whatever the proof */
    char *challenge;     /* owned, of the library; NULL: empty */
    size_t challenge_bytes;
    struct sasl_question question;
    struct sasl_names names;
    uint8_t authid[SASL_NAME_BYTES_MAX], authzid[SASL_NAME_BYTES_MAX]; /* prepared */
    char certificate_name[SASL_NAME_BYTES_MAX];
    uint16_t certificate_bytes;
    uint16_t message_bytes; /* that waits for the secret */
    uint8_t message[SASL_MESSAGE_BYTES_MAX];
};

/* ---- The library ---- */

/* The machine decides about passwords and names after the step, so within it all are welcome. Everything else is either
 * known by now or does not exist. */
static int answer_library(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    (void)gsasl;
    (void)session;
    return property == GSASL_VALIDATE_SIMPLE || property == GSASL_VALIDATE_EXTERNAL
               ? GSASL_OK
               : GSASL_NO_CALLBACK;
}

static bool is_bearer(enum sasl_mechanism mechanism)
{
    return mechanism == SASL_OAUTHBEARER || mechanism == SASL_XOAUTH2;
}

static bool library_has_all(const struct sasl_library *library)
{
    for (unsigned i = 0; i < SASL_MECHANISMS; i++) {
        bool wanted = library->settings->offer.mechanisms & SASL_BIT(i);
        if (wanted && !is_bearer(i) &&
            !gsasl_server_support_p(library->gsasl, sasl_mechanism_name(i))) {
            return false;
        }
    }
    return true;
}

int sasl_library_open(struct sasl_library **opened, const struct sasl_settings *settings)
{
    struct sasl_library *library = calloc(1, sizeof(*library));
    if (library == NULL || gsasl_init(&library->gsasl) != GSASL_OK) {
        free(library);
        return -ENOMEM;
    }
    library->settings = settings;
    library->hash = keyed_hash_open(settings->secret);
    if (library->hash == NULL) {
        sasl_library_close(library);
        return -ENOMEM;
    }
    gsasl_callback_set(library->gsasl, answer_library);
    if (!library_has_all(library)) {
        sasl_library_close(library);
        return -ENOSYS;
    }
    *opened = library;
    return 0;
}

void sasl_library_close(struct sasl_library *library)
{
    gsasl_done(library->gsasl);
    keyed_hash_close(library->hash);
    free(library);
}

/* ---- Open and close ---- */

static void binding_set(struct sasl_server *server, Gsasl_property property, struct slice binding)
{
    char text[BASE64_BYTES(BINDING_BYTES_MAX) + 1];
    if (binding.size > 0 && binding.size <= BINDING_BYTES_MAX) {
        text[base64_encode(binding, text)] = '\0';
        gsasl_property_set(server->session, property, text);
    }
}

static int session_open(struct sasl_server *server, const struct sasl_facts *facts)
{
    int status = gsasl_server_start(server->library->gsasl, sasl_mechanism_name(server->mechanism),
                                    &server->session);
    if (status != GSASL_OK) {
        server->session = NULL;
        return -ENOMEM;
    }
    /* Where channel binding is offered, a client that thinks it is not has been lied to: the library refuses its "y"
     * when it knows of a binding (RFC 5802 §6). */
    uint32_t plus = SASL_BIT(SASL_SCRAM_SHA_1_PLUS) | SASL_BIT(SASL_SCRAM_SHA_256_PLUS);
    if (sasl_mechanisms_offered(&server->library->settings->offer, facts) & plus) {
        binding_set(server, GSASL_CB_TLS_UNIQUE, facts->tls_unique);
        binding_set(server, GSASL_CB_TLS_EXPORTER, facts->tls_exporter);
    }
    if (server->library->settings->realm != NULL) {
        gsasl_property_set(server->session, GSASL_REALM, server->library->settings->realm);
    }
    return 0;
}

int sasl_server_open(struct sasl_server **opened, struct sasl_library *library,
                     enum sasl_mechanism mechanism, const struct sasl_facts *facts)
{
    uint32_t offered = sasl_mechanisms_offered(&library->settings->offer, facts);
    if (mechanism >= SASL_MECHANISMS || !(offered & SASL_BIT(mechanism)) ||
        (mechanism == SASL_EXTERNAL && facts->certificate_name.size > SASL_NAME_BYTES_MAX)) {
        return -EPERM;
    }
    struct sasl_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return -ENOMEM;
    }
    server->library = library;
    server->mechanism = server->question.mechanism = mechanism;
    if (mechanism == SASL_EXTERNAL) {
        server->certificate_bytes = (uint16_t)facts->certificate_name.size;
        memcpy(server->certificate_name, facts->certificate_name.bytes, server->certificate_bytes);
    }
    int status = is_bearer(mechanism) ? 0 : session_open(server, facts);
    if (status < 0) {
        sasl_server_close(server);
        return status;
    }
    *opened = server;
    return 0;
}

static void challenge_drop(struct sasl_server *server)
{
    gsasl_free(server->challenge);
    server->challenge = NULL;
    server->challenge_bytes = 0;
}

/* The library frees what is secret and leaves it in the heap. */
static void secrets_wipe(struct sasl_server *server)
{
    static const Gsasl_property secret[] = {GSASL_PASSWORD, GSASL_DIGEST_MD5_HASHED_PASSWORD,
                                            GSASL_SCRAM_STOREDKEY, GSASL_SCRAM_SERVERKEY};
    for (unsigned i = 0; i < sizeof(secret) / sizeof(secret[0]); i++) {
        const char *text =
            server->session == NULL ? NULL : gsasl_property_fast(server->session, secret[i]);
        if (text != NULL) {
            OPENSSL_cleanse((void *)(uintptr_t)text, strlen(text));
        }
    }
}

void sasl_server_close(struct sasl_server *server)
{
    challenge_drop(server);
    secrets_wipe(server);
    if (server->session != NULL) {
        gsasl_finish(server->session);
    }
    explicit_bzero(server,
                   sizeof(*server)); /* 16 KiB: OPENSSL_cleanse takes eight octets at a time */
    free(server);
}

/* ---- The exchange ---- */

static enum sasl_want fail(struct sasl_server *server, enum sasl_failure failure)
{
    challenge_drop(server);
    server->state = STATE_FAILED;
    server->failure = failure;
    return SASL_FAILED;
}

static enum sasl_want done(struct sasl_server *server)
{
    if (server->unknown) {
        return fail(server, SASL_WRONG);
    }
    challenge_drop(server);
    server->state = STATE_DONE;
    return SASL_DONE;
}

static bool names_take(struct sasl_server *server, struct slice authid, struct slice authzid)
{
    struct sasl_question *question = &server->question;
    if (!sasl_prepare(authid, server->authid, SASL_NAME_BYTES_MAX, &question->authid) ||
        !sasl_prepare(authzid, server->authzid, SASL_NAME_BYTES_MAX, &question->authzid)) {
        return false;
    }
    if (slice_equal(question->authid, question->authzid)) {
        question->authzid.size = 0;
    }
    return true;
}

static struct slice property_of(const struct sasl_server *server, Gsasl_property property)
{
    const char *text = gsasl_property_fast(server->session, property);
    return slice_text(text == NULL ? "" : text);
}

/* Has the library read the same names as we? Else the secret was another's. */
static bool names_agree(const struct sasl_server *server)
{
    uint8_t room[SASL_NAME_BYTES_MAX];
    const struct sasl_question *question = &server->question;
    struct slice name;
    if (!sasl_prepare(property_of(server, GSASL_AUTHID), room, sizeof(room), &name) ||
        !slice_equal(name, question->authid) ||
        !sasl_prepare(property_of(server, GSASL_AUTHZID), room, sizeof(room), &name)) {
        return false;
    }
    return slice_equal(name, question->authid) ? question->authzid.size == 0
                                               : slice_equal(name, question->authzid);
}

static enum sasl_want ask_verify(struct sasl_server *server)
{
    bool external = server->mechanism == SASL_EXTERNAL;
    struct slice authid = external ? slice_of(server->certificate_name, server->certificate_bytes)
                                   : property_of(server, GSASL_AUTHID);
    struct slice password = property_of(server, GSASL_PASSWORD);
    if (authid.size == 0 || (!external && password.size == 0) ||
        password.size > SASL_PASSWORD_BYTES_MAX ||
        !names_take(server, authid, property_of(server, GSASL_AUTHZID))) {
        return fail(server, SASL_MALFORMED);
    }
    server->question.password = password;
    server->state = STATE_VERIFY;
    return SASL_WANT_VERIFY;
}

/* What GSASL_OK of the library means. */
static enum sasl_want library_agrees(struct sasl_server *server)
{
    switch (server->mechanism) {
    case SASL_EXTERNAL:
    case SASL_PLAIN:
    case SASL_LOGIN:
        return ask_verify(server);
    case SASL_SCRAM_SHA_256_PLUS:
    case SASL_SCRAM_SHA_1_PLUS:
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_1:
    case SASL_DIGEST_MD5:
    case SASL_CRAM_MD5:
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2:
    case SASL_MECHANISMS:
        break;
    }
    if (!names_agree(server)) {
        return fail(server, SASL_MALFORMED);
    }
    if (server->challenge_bytes > 0 && !server->unknown) {
        server->state = STATE_LAST; /* no protocol of ours carries it with the success itself */
        return SASL_WANT_INPUT;
    }
    return done(server);
}

static enum sasl_want library_step(struct sasl_server *server, struct slice message)
{
    char *output = NULL;
    size_t bytes = 0;
    challenge_drop(server);
    /* Without a message (NULL) the library begins; one that is empty is another thing. */
    int status =
        gsasl_step(server->session, (const char *)message.bytes, message.size, &output, &bytes);
    server->challenge = output;
    server->challenge_bytes = output == NULL ? 0 : bytes;
    if (status == GSASL_OK) {
        return library_agrees(server);
    }
    if (status == GSASL_NEEDS_MORE) {
        return SASL_WANT_INPUT;
    }
    return fail(server, status == GSASL_MALLOC_ERROR           ? SASL_UNAVAILABLE
                        : status == GSASL_AUTHENTICATION_ERROR ? SASL_WRONG
                                                               : SASL_MALFORMED);
}

/* The message that names the user waits for what is stored of him. */
static enum sasl_want ask_secret(struct sasl_server *server, struct slice message)
{
    if (!sasl_client_message_read(server->mechanism, message, &server->names) ||
        !names_take(server, server->names.authid, server->names.authzid) ||
        server->question.authid.size == 0) {
        return fail(server, SASL_MALFORMED);
    }
    server->question.realm = server->names.realm;
    memcpy(server->message, message.bytes, message.size);
    server->message_bytes = (uint16_t)message.size;
    server->state = STATE_SECRET;
    return SASL_WANT_SECRET;
}

static enum sasl_want ask_token(struct sasl_server *server, struct slice message)
{
    if (message.size == 0) {
        return fail(server, SASL_MALFORMED);
    }
    memcpy(server->message, message.bytes, message.size);
    message = slice_of(server->message, message.size);
    if (!sasl_client_message_read(server->mechanism, message, &server->names) ||
        !names_take(server, server->names.authid, slice_of(NULL, 0))) {
        return fail(server, SASL_MALFORMED);
    }
    server->question.token = server->names.token;
    server->state = STATE_TOKEN;
    return SASL_WANT_TOKEN;
}

static enum sasl_want answer_take(struct sasl_server *server, struct slice message)
{
    if (is_bearer(server->mechanism)) {
        return ask_token(server, message);
    }
    if (sasl_mechanism_server_first(server->mechanism) ||
        sasl_mechanism_is_scram(server->mechanism)) {
        return ask_secret(server, message);
    }
    if (message.size == 0) {
        return server->mechanism == SASL_EXTERNAL ? library_step(server, slice_text(""))
                                                  : fail(server, SASL_MALFORMED);
    }
    return library_step(server, message);
}

/* The first call: what came with the client's command, or NULL. */
static enum sasl_want begin(struct sasl_server *server, const struct slice *initial)
{
    bool server_first = sasl_mechanism_server_first(server->mechanism);
    server->begun = true;
    if (server_first || server->mechanism == SASL_LOGIN) {
        enum sasl_want want = library_step(server, slice_of(NULL, 0));
        if (initial == NULL || want != SASL_WANT_INPUT) {
            return want;
        }
        /* Some clients send LOGIN's name with the command: it answers the question that is not asked then. */
        return server_first ? fail(server, SASL_MALFORMED) : library_step(server, *initial);
    }
    return initial == NULL ? SASL_WANT_INPUT : answer_take(server, *initial);
}

/* NUL ends a string for the library; only PLAIN has any. */
static bool acceptable(const struct sasl_server *server, struct slice message)
{
    return message.size <= SASL_MESSAGE_BYTES_MAX &&
           (message.size == 0 || server->mechanism == SASL_PLAIN ||
            memchr(message.bytes, '\0', message.size) == NULL);
}

enum sasl_want sasl_server_step(struct sasl_server *server, const struct slice *message)
{
    check(message != NULL || !server->begun);
    if (message != NULL && !acceptable(server, *message)) {
        return fail(server, SASL_MALFORMED);
    }
    switch (server->state) {
    case STATE_OPEN:
        return server->begun ? answer_take(server, *message) : begin(server, message);
    case STATE_KNOWN:
        return library_step(server, *message);
    case STATE_LAST:
        return message->size == 0 ? done(server) : fail(server, SASL_MALFORMED);
    case STATE_REFUSED:
        return fail(server, SASL_WRONG);
    case STATE_SECRET:
    case STATE_VERIFY:
    case STATE_TOKEN:
    case STATE_DONE:
    case STATE_FAILED:
        break;
    }
    check(!"a message where none is wanted");
    return SASL_FAILED;
}

/* ---- What the owner knows ---- */

static size_t key_bytes(const struct sasl_server *server)
{
    return server->mechanism == SASL_SCRAM_SHA_1 || server->mechanism == SASL_SCRAM_SHA_1_PLUS ? 20
                                                                                               : 32;
}

static void make_up(const struct sasl_server *server, const char *purpose, uint8_t made[32])
{
    sasl_make_up(server->library->hash, purpose, key_bytes(server), server->question.authid, made);
}

static void property_base64(struct sasl_server *server, Gsasl_property property,
                            struct slice octets)
{
    char text[BASE64_BYTES(SALT_BYTES_MAX) + 1];
    text[base64_encode(octets, text)] = '\0';
    gsasl_property_set(server->session, property, text);
}

static bool scram_set(struct sasl_server *server, const struct sasl_secret *secret)
{
    char count[16];
    if (secret->iterations == 0 || secret->salt.size == 0 || secret->salt.size > SALT_BYTES_MAX ||
        secret->stored_key.size != key_bytes(server) ||
        secret->server_key.size != key_bytes(server)) {
        return false;
    }
    snprintf(count, sizeof(count), "%u", secret->iterations);
    gsasl_property_set(server->session, GSASL_SCRAM_ITER, count);
    property_base64(server, GSASL_SCRAM_SALT, secret->salt);
    property_base64(server, GSASL_SCRAM_STOREDKEY, secret->stored_key);
    property_base64(server, GSASL_SCRAM_SERVERKEY, secret->server_key);
    return true;
}

/* What nobody seems to have is made up for everybody, or one could tell by the time it takes who is somebody. Of keys that no
 * password has nothing is ever seen, so one will do for both. */
static bool scram_set_or_made_up(struct sasl_server *server, const struct sasl_secret *secret)
{
    uint8_t salt[32], key[32];
    make_up(server, "salt", salt);
    make_up(server, "key", key);
    bool seems = secret != NULL && secret->iterations > 0 && secret->salt.size > 0 &&
                 secret->salt.size <= SALT_BYTES_MAX;
    const struct sasl_secret made = {
        .iterations = seems ? secret->iterations : server->library->settings->iterations,
        .salt = seems ? secret->salt : slice_of(salt, SASL_SALT_BYTES),
        .stored_key = slice_of(key, key_bytes(server)),
        .server_key = slice_of(key, key_bytes(server)),
    };
    bool known = secret != NULL && scram_set(server, secret);
    check(known || scram_set(server, &made));
    return known;
}

static bool password_set(struct sasl_server *server, const struct sasl_secret *secret)
{
    char text[SASL_PASSWORD_BYTES_MAX + 1];
    bool hashed = server->mechanism == SASL_DIGEST_MD5 && secret->digest_ha1.size == 32;
    struct slice value = hashed ? secret->digest_ha1 : secret->password;
    if (value.size == 0 || value.size > SASL_PASSWORD_BYTES_MAX ||
        memchr(value.bytes, '\0', value.size) != NULL) {
        return false;
    }
    memcpy(text, value.bytes, value.size);
    text[value.size] = '\0';
    gsasl_property_set(server->session, hashed ? GSASL_DIGEST_MD5_HASHED_PASSWORD : GSASL_PASSWORD,
                       text);
    OPENSSL_cleanse(text, sizeof(text));
    return true;
}

static bool password_set_or_made_up(struct sasl_server *server, const struct sasl_secret *secret)
{
    uint8_t octets[32];
    char text[BASE64_BYTES(32)];
    make_up(server, "password", octets);
    const struct sasl_secret made = {
        .password = slice_of(text, base64_encode(slice_of(octets, sizeof(octets)), text))};
    bool known = secret != NULL && password_set(server, secret);
    check(known || password_set(server, &made));
    return known;
}

enum sasl_want sasl_server_secret(struct sasl_server *server, const struct sasl_secret *secret)
{
    check(server->state == STATE_SECRET);
    bool scram = sasl_mechanism_is_scram(server->mechanism);
    server->unknown =
        !(scram ? scram_set_or_made_up(server, secret) : password_set_or_made_up(server, secret));
    server->state = STATE_KNOWN;
    return library_step(server, slice_of(server->message, server->message_bytes));
}

/* RFC 7628 §3.2.2. */
static enum sasl_want token_refuse(struct sasl_server *server)
{
    const struct sasl_settings *settings = server->library->settings;
    bool rfc = server->mechanism == SASL_OAUTHBEARER;
    const char *where = rfc ? settings->oauth_openid_configuration : NULL;
    char *text = malloc(CHALLENGE_BYTES_MAX);
    if (text == NULL) {
        return fail(server, SASL_UNAVAILABLE);
    }
    int size = snprintf(text, CHALLENGE_BYTES_MAX, "{\"status\":\"%s\"%s%s%s%s%s%s%s}",
                        rfc ? "invalid_token" : "401", rfc ? "" : ",\"schemes\":\"bearer\"",
                        settings->oauth_scope == NULL ? "" : ",\"scope\":\"",
                        settings->oauth_scope == NULL ? "" : settings->oauth_scope,
                        settings->oauth_scope == NULL ? "" : "\"",
                        where == NULL ? "" : ",\"openid-configuration\":\"",
                        where == NULL ? "" : where, where == NULL ? "" : "\"");
    server->challenge = text;
    server->challenge_bytes = size < (int)CHALLENGE_BYTES_MAX ? (size_t)size : 0;
    server->state = STATE_REFUSED;
    return SASL_WANT_INPUT;
}

enum sasl_want sasl_server_verdict(struct sasl_server *server, enum sasl_verdict verdict)
{
    bool token = server->state == STATE_TOKEN;
    check(token || server->state == STATE_VERIFY ||
          (server->state == STATE_SECRET && verdict == SASL_UNKNOWN_NOW));
    switch (verdict) {
    case SASL_RIGHT:
        return done(server);
    case SASL_NOT_RIGHT:
        return token ? token_refuse(server) : fail(server, SASL_WRONG);
    case SASL_UNKNOWN_NOW:
        break;
    }
    return fail(server, SASL_UNAVAILABLE);
}

struct slice sasl_server_challenge(const struct sasl_server *server)
{
    return slice_of(server->challenge, server->challenge_bytes);
}

const struct sasl_question *sasl_server_question(const struct sasl_server *server)
{
    return &server->question;
}

enum sasl_failure sasl_server_failure(const struct sasl_server *server)
{
    check(server->state == STATE_FAILED);
    return server->failure;
}
