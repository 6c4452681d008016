#include "engine/tls/context_private.h"
#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tls_problem(char *text, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    snprintf(text, size, "%s", reason != NULL ? reason : code == 0 ? "" : "an unknown error");
}

static int refuse(char problem[TLS_PROBLEM_MAX], const char *what, const char *name)
{
    char reason[128];
    tls_problem(reason, sizeof(reason));
    snprintf(problem, TLS_PROBLEM_MAX, "%s%s%s%s%s", what, name != NULL ? " " : "",
             name != NULL ? name : "", reason[0] != '\0' ? ": " : "", reason);
    return -EINVAL;
}

/* ---- Rules ---- */

static int rules_set(SSL_CTX *made, const struct tls_rules *rules, char problem[TLS_PROBLEM_MAX])
{
    uint16_t version = rules->version_min > TLS1_2_VERSION ? rules->version_min : TLS1_2_VERSION;
    SSL_CTX_set_options(made, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                  SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    /* Buffers of idle connections are given back; nothing is ever half written. */
    SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(made, 1);
    if (rules->security_level > 0) {
        SSL_CTX_set_security_level(made, rules->security_level);
    }
    if (SSL_CTX_set_min_proto_version(made, version) != 1) {
        return refuse(problem, "the least version of TLS will not do", NULL);
    }
    if (rules->ciphers != NULL && SSL_CTX_set_cipher_list(made, rules->ciphers) != 1) {
        return refuse(problem, "ciphers", rules->ciphers);
    }
    if (rules->suites != NULL && SSL_CTX_set_ciphersuites(made, rules->suites) != 1) {
        return refuse(problem, "cipher suites", rules->suites);
    }
    if (rules->read != NULL) {
        SSL_CTX_set1_cert_store(made, rules->read->store);
    }
    return 0;
}

/* The same rules with what they name read. Who asks for no certificate needs nobody to judge it. */
static int rules_read(struct tls_rules *filled, const struct tls_rules *rules, bool judges,
                      char problem[TLS_PROBLEM_MAX])
{
    *filled = *rules;
    if (judges && rules->read != NULL) {
        ref_take(&rules->read->ref);
        return 0;
    }
    filled->read = NULL;
    return judges ? tls_authorities_read(&filled->read, rules->authorities, NULL, problem) : 0;
}

static void rules_drop(struct tls_rules *filled)
{
    if (filled->read != NULL) {
        tls_authorities_drop(filled->read);
    }
}

static int pairs_load(SSL_CTX *made, const struct tls_pair *pairs, uint32_t count,
                      char problem[TLS_PROBLEM_MAX])
{
    for (uint32_t i = 0; i < count; i++) {
        if (SSL_CTX_use_certificate_chain_file(made, pairs[i].certificate) != 1) {
            return refuse(problem, "certificate", pairs[i].certificate);
        }
        if (SSL_CTX_use_PrivateKey_file(made, pairs[i].key, SSL_FILETYPE_PEM) != 1) {
            return refuse(problem, "key", pairs[i].key);
        }
        if (SSL_CTX_check_private_key(made) != 1) {
            return refuse(problem, "this key is not the certificate's:", pairs[i].key);
        }
    }
    return 0;
}

/* ---- Names ---- */

static int name_add(struct tls_context *self, const char *name, size_t size, SSL_CTX *identity)
{
    if (size == 0 || memchr(name, '\0', size) != NULL) {
        return 0; /* nobody asks for it */
    }
    struct tls_name *grown = realloc(self->names, (self->name_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return -ENOMEM;
    }
    self->names = grown;
    char *copy = strndup(name, size);
    if (copy == NULL) {
        return -ENOMEM;
    }
    for (char *at = copy; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    self->names[self->name_count++] = (struct tls_name){copy, identity};
    return 0;
}

static int common_name_add(struct tls_context *self, X509 *certificate, SSL_CTX *identity)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (index < 0) {
        return 0;
    }
    const ASN1_STRING *text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
    return name_add(self, (const char *)ASN1_STRING_get0_data(text),
                    (size_t)ASN1_STRING_length(text), identity);
}

/* RFC 6125 §6.4.4: the common name only where there are no others. */
static int certificate_names_add(struct tls_context *self, SSL_CTX *identity)
{
    X509 *certificate = SSL_CTX_get0_certificate(identity);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int status = 0;
    if (names == NULL) {
        return common_name_add(self, certificate, identity);
    }
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && status == 0; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) {
            status = name_add(self, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                              (size_t)ASN1_STRING_length(name->d.dNSName), identity);
        }
    }
    GENERAL_NAMES_free(names);
    return status;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tls_name *)a)->name, ((const struct tls_name *)b)->name);
}

static SSL_CTX *identity_of(const struct tls_context *self, char *name)
{
    const struct tls_name wanted = {name, NULL};
    const struct tls_name *found =
        self->name_count == 0
            ? NULL
            : bsearch(&wanted, self->names, self->name_count, sizeof(self->names[0]), by_name);
    return found == NULL ? NULL : found->context;
}

static int name_asked(SSL *ssl, int *alert, void *owner)
{
    const struct tls_context *self = owner;
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    char name[256];
    (void)alert;
    if (asked == NULL || strlen(asked) >= sizeof(name)) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    size_t size = strlen(asked);
    for (size_t i = 0; i <= size; i++) {
        name[i] = (char)tolower((unsigned char)asked[i]);
    }
    SSL_CTX *identity = identity_of(self, name);
    char *point = strchr(name, '.');
    if (identity == NULL && point != NULL && point > name) {
        point[-1] = '*';
        identity = identity_of(self, point - 1);
    }
    if (identity != NULL) {
        SSL_set_SSL_CTX(ssl, identity);
    }
    /* Whoever asks for another gets the first, as it did without asking. */
    return identity != NULL ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* ---- Contexts ---- */

static void release(struct ref *ref)
{
    struct tls_context *self = (struct tls_context *)(void *)ref; /* its first member */
    for (uint32_t i = 0; i < self->identity_count; i++) {
        SSL_CTX_free(self->identities[i]);
    }
    for (uint32_t i = 0; i < self->name_count; i++) {
        free(self->names[i].name);
    }
    if (self->tickets != NULL) {
        tls_tickets_close(self->tickets);
    }
    free(self->identities);
    free(self->names);
    free(self);
}

struct tls_context *tls_context_take(struct tls_context *context)
{
    ref_take(&context->ref);
    return context;
}

void tls_context_drop(struct tls_context *context)
{
    ref_drop(&context->ref);
}

static struct tls_context *context_new(uint32_t identities)
{
    struct tls_context *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return NULL;
    }
    ref_init(&self->ref, release);
    self->identities = calloc(identities, sizeof(self->identities[0]));
    if (self->identities == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

static SSL_CTX *identity_new(struct tls_context *self, const SSL_METHOD *method)
{
    SSL_CTX *made = SSL_CTX_new(method);
    if (made != NULL) {
        self->identities[self->identity_count++] = made;
        SSL_CTX_set_app_data(made, self);
    }
    return made;
}

/* A client that was only asked may show what it has; whether it is verified is told to the session. */
static int take_any(int verified, X509_STORE_CTX *store)
{
    (void)verified;
    (void)store;
    return 1;
}

/* Sessions are resumed within it. What one listener has let through without a certificate is not where one
 * is required, nor what an authority has vouched for once those that we trust have changed. */
static void service_name(const struct tls_server_settings *settings, char *name, size_t size)
{
    static const char *const kinds[] = {"tubepost", "tubepost a", "tubepost r"};
    const struct tls_authorities *trusted = settings->rules.read;
    uint64_t state = 0;
    if (trusted != NULL) {
        state =
            (uint64_t)trusted->changed.tv_sec * 1000000000u + (uint64_t)trusted->changed.tv_nsec;
        state ^= (uint64_t)trusted->bytes << 40 ^ (uint64_t)trusted->inode << 20;
    }
    snprintf(name, size, "%s %016llx", kinds[settings->client_certificate],
             (unsigned long long)state);
}

/* Every identity is set up alike: once a name is known, only certificates change. */
static int server_set_up(struct tls_context *self, SSL_CTX *made,
                         const struct tls_server_settings *settings)
{
    char service[SSL_MAX_SID_CTX_LENGTH + 1];
    service_name(settings, service, sizeof(service));
    int verify = settings->client_certificate == TLS_CLIENT_REQUIRED
                     ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                 : settings->client_certificate == TLS_CLIENT_ASKED ? SSL_VERIFY_PEER
                                                                    : SSL_VERIFY_NONE;
    SSL_CTX_set_verify(made, verify,
                       settings->client_certificate == TLS_CLIENT_ASKED ? take_any : NULL);
    SSL_CTX_set_tlsext_servername_callback(made, name_asked);
    SSL_CTX_set_tlsext_servername_arg(made, self);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF); /* tickets only: no state of ours */
    if (self->tickets == NULL) {
        SSL_CTX_set_options(made, SSL_OP_NO_TICKET);
        return SSL_CTX_set_num_tickets(made, 0) == 1 ? 0 : -ENOMEM;
    }
    return SSL_CTX_set_num_tickets(made, 1) == 1 &&
                   SSL_CTX_set_session_id_context(made, (const unsigned char *)service,
                                                  (unsigned)strlen(service)) == 1 &&
                   tls_tickets_serve(made) == 0
               ? 0
               : -ENOMEM;
}

/* Where nobody has said which suite a server shall take, AES with 128 bits comes first, which every client has (RFC 8446
 * §9.1): SHA-256 has instructions of its own where SHA-384 of OpenSSL's first has none, and a resumed handshake hashes
 * for a tenth of its time. Which there are is left as the system has it. */
static int suites_order(SSL_CTX *made)
{
    static const char first[] = "TLS_AES_128_GCM_SHA256";
    const STACK_OF(SSL_CIPHER) *all = SSL_CTX_get_ciphers(made);
    char list[256];
    bool has = false;
    size_t used = (size_t)snprintf(list, sizeof(list), "%s", first);
    for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
        const SSL_CIPHER *suite = sk_SSL_CIPHER_value(all, i);
        const char *name = SSL_CIPHER_get_name(suite);
        if (SSL_CIPHER_get_protocol_id(suite) >> 8 != 0x13) { /* of TLS 1.2 */
            continue;
        }
        if (strcmp(name, first) == 0) {
            has = true;
        } else if (used < sizeof(list)) {
            used += (size_t)snprintf(list + used, sizeof(list) - used, ":%s", name);
        }
    }
    return !has || used >= sizeof(list) || SSL_CTX_set_ciphersuites(made, list) == 1 ? 0 : -ENOMEM;
}

static int identity_open(struct tls_context *self, const struct tls_server_settings *settings,
                         const struct tls_identity *identity, char problem[TLS_PROBLEM_MAX])
{
    SSL_CTX *made = identity_new(self, TLS_server_method());
    if (made == NULL) {
        return -ENOMEM;
    }
    int status = rules_set(made, &settings->rules, problem);
    status = status < 0 || settings->rules.suites != NULL ? status : suites_order(made);
    status = status < 0 ? status : server_set_up(self, made, settings);
    status = status < 0 ? status : pairs_load(made, identity->pairs, identity->pair_count, problem);
    if (status == 0 && identity->names == NULL) {
        status = certificate_names_add(self, made);
    }
    for (uint32_t i = 0; i < identity->name_count && identity->names != NULL && status == 0; i++) {
        status = name_add(self, identity->names[i], strlen(identity->names[i]), made);
    }
    return status;
}

/* The first identity that has a name keeps it. */
static void names_sort(struct tls_context *self)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->name_count; i++) {
        bool again = false;
        for (uint32_t j = 0; j < kept && !again; j++) {
            again = strcmp(self->names[j].name, self->names[i].name) == 0;
        }
        if (again) {
            free(self->names[i].name);
        } else {
            self->names[kept++] = self->names[i];
        }
    }
    self->name_count = kept;
    if (kept > 0) {
        qsort(self->names, kept, sizeof(self->names[0]), by_name);
    }
}

int tls_context_server(struct tls_context **context, const struct tls_server_settings *settings,
                       char problem[TLS_PROBLEM_MAX])
{
    struct tls_context *self = context_new(settings->identity_count);
    int status = 0;
    problem[0] = '\0';
    ERR_clear_error();
    if (self == NULL) {
        return -ENOMEM;
    }
    if (settings->ticket_secret != NULL) {
        status = tls_tickets_open(&self->tickets, settings);
    }
    struct tls_server_settings filled = *settings;
    filled.rules.read = NULL; /* nothing to drop yet */
    if (status == 0) {
        status = rules_read(&filled.rules, &settings->rules,
                            settings->client_certificate != TLS_CLIENT_NOT_ASKED, problem);
    }
    for (uint32_t i = 0; i < settings->identity_count && status == 0; i++) {
        status = identity_open(self, &filled, &settings->identities[i], problem);
    }
    rules_drop(&filled.rules);
    if (status < 0) {
        tls_context_drop(self);
        return status;
    }
    names_sort(self);
    *context = self;
    return 0;
}

int tls_context_client(struct tls_context **context, const struct tls_client_settings *settings,
                       char problem[TLS_PROBLEM_MAX])
{
    struct tls_context *self = context_new(1);
    problem[0] = '\0';
    ERR_clear_error();
    SSL_CTX *made = self == NULL ? NULL : identity_new(self, TLS_client_method());
    struct tls_rules rules = {0};
    int status = made == NULL ? -ENOMEM : rules_read(&rules, &settings->rules, true, problem);
    status = status < 0 ? status : rules_set(made, &rules, problem);
    rules_drop(&rules);
    status = status < 0 ? status : pairs_load(made, settings->pairs, settings->pair_count, problem);
    if (status == 0) {
        SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(made, tls_session_learned);
        status = SSL_CTX_dane_enable(made) == 1 ? 0 : -ENOMEM;
    }
    if (status < 0) {
        if (self != NULL) {
            tls_context_drop(self);
        }
        return status;
    }
    *context = self;
    return 0;
}
