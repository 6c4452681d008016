#include "tests/sim/secure.h"
#include "engine/core/check.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/mman.h>
#include <unistd.h>

#define CERTIFICATES_SEED 1u

static uint64_t random_state;
static struct sim *running; /* whose clock servers seal their tickets by */
static char certificate_path[32], authority_path[32];
static struct tls_context *server_context, *client_context;

/* ---- OpenSSL's randomness ---- */

static int random_bytes(unsigned char *bytes, int count)
{
    for (int i = 0; i < count; i += 8) {
        uint64_t word = net_random(&random_state);
        memcpy(bytes + i, &word, (size_t)(count - i < 8 ? count - i : 8));
    }
    return 1;
}

static int random_ready(void)
{
    return 1;
}

/* The interface is an old one, but the only one that reaches all that OpenSSL draws without a provider. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void random_take_over(void)
{
    static const RAND_METHOD method = {
        .bytes = random_bytes, .pseudorand = random_bytes, .status = random_ready};
    check(RAND_set_rand_method(&method) == 1);
}
#pragma GCC diagnostic pop

/* ---- Certificates ---- */

static void extension_add(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    check(extension != NULL && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Signed by itself where there is no issuer. */
static X509 *certificate_make(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    check(X509_set_version(certificate, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), issuer == NULL ? 1 : 2);
    ASN1_TIME_set_string(X509_getm_notBefore(certificate), "200101000000Z");
    ASN1_TIME_set_string(X509_getm_notAfter(certificate), "491231235959Z");
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer == NULL ? subject : X509_get_subject_name(issuer));
    X509_set_pubkey(certificate, key);
    if (issuer != NULL) {
        extension_add(certificate, issuer, NID_subject_alt_name, "DNS:" SIM_SECURE_NAME);
    } else {
        extension_add(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    check(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
    return certificate;
}

static void file_make(char path[32], X509 *certificate, EVP_PKEY *key)
{
    int fd = memfd_create("certificate", MFD_CLOEXEC);
    FILE *file = fdopen(dup(fd), "w");
    check(fd >= 0 && file != NULL && PEM_write_X509(file, certificate) == 1);
    check(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
}

static void certificates_make(void)
{
    EVP_PKEY *authority_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    X509 *authority = certificate_make("authority", authority_key, NULL, authority_key);
    X509 *certificate = certificate_make(SIM_SECURE_NAME, key, authority, authority_key);
    file_make(authority_path, authority, authority_key);
    file_make(certificate_path, certificate, key);
    X509_free(authority);
    X509_free(certificate);
    EVP_PKEY_free(authority_key);
    EVP_PKEY_free(key);
}

const char *sim_secure_certificate(void)
{
    return certificate_path;
}

const char *sim_secure_authority(void)
{
    return authority_path;
}

/* ---- Contexts ---- */

static int64_t wall_s(void *self)
{
    (void)self;
    return world_wall_s(&running->world.world);
}

static void contexts_make(void)
{
    static const uint8_t secret[TLS_SECRET_BYTES] = "of all sinks together";
    const struct tls_pair pair = {certificate_path, certificate_path};
    const struct tls_identity identity = {.pairs = &pair, .pair_count = 1};
    const struct tls_server_settings server = {.rules = {.authorities = authority_path},
                                               .identities = &identity,
                                               .identity_count = 1,
                                               .ticket_secret = secret,
                                               .wall_s = wall_s};
    const struct tls_client_settings client = {.rules = {.authorities = authority_path}};
    char problem[TLS_PROBLEM_MAX];
    check(tls_context_server(&server_context, &server, problem) == 0);
    check(tls_context_client(&client_context, &client, problem) == 0);
}

void sim_secure_seed(struct sim *sim)
{
    running = sim;
    if (server_context == NULL) {
        random_take_over();
        random_state = CERTIFICATES_SEED;
        certificates_make();
        contexts_make();
    }
    random_state = sim->options.seed * 0x9e3779b97f4a7c15ull + 7;
}

/* ---- Hosts ---- */

static unsigned secure_poll(void *self, uint64_t now_ns)
{
    struct sim_secure *secure = self;
    return secure->tls == NULL ? 0 : tls_poll(secure->tls, now_ns);
}

void sim_secure_open(struct sim_secure *secure, struct sim_host *host)
{
    const struct tls_settings settings = {.wheel = host->shard.wheel};
    const struct shard_part part = {.name = "tls", .self = secure, .poll = secure_poll};
    check(tls_open(&secure->tls, &settings) == 0);
    shard_add(&host->shard, &part);
}

void sim_secure_close(struct sim_secure *secure)
{
    if (secure->tls != NULL) {
        tls_close(secure->tls);
        secure->tls = NULL;
    }
}

int sim_secure_accept(struct sim_secure *secure, struct stream *below, struct stream **stream)
{
    return tls_accept(secure->tls, below, server_context, stream);
}

int sim_secure_connect(struct sim_secure *secure, struct stream *below, struct stream **stream)
{
    static const char *const names[] = {SIM_SECURE_NAME};
    const struct tls_peer peer = {.context = client_context,
                                  .server_name = SIM_SECURE_NAME,
                                  .trust = TLS_VERIFIED,
                                  .names = names,
                                  .name_count = 1,
                                  .session_key = "the relay"};
    return tls_connect(secure->tls, below, &peer, stream);
}

void sim_secure_check_quiet(const struct sim_host *host, const struct tls *tls)
{
    uint64_t streams = tls == NULL ? 0 : tls_counters(tls)->streams;
    if (streams != 0) {
        sim_fail(host->sim, "host %u: %llu TLS streams are left, though nothing is to be said",
                 host->index, (unsigned long long)streams);
    }
}
