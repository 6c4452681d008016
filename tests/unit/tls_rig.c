#include "tests/unit/tls_rig.h"
#include "engine/core/check.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const hosts[] = {"mx.example", "other.example", "stranger", "expired", "nul"};

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
    static long serial;
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    check(X509_set_version(certificate, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    bool expired = strcmp(name, "expired") == 0;
    name = expired ? "mx.example" : name;
    X509_gmtime_adj(X509_getm_notAfter(certificate), expired ? -60 : 3600);
    bool nul = strcmp(name, "nul") == 0;
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)(nul ? "mx.example\0x" : name), nul ? 12 : -1,
                               -1, 0);
    X509_set_issuer_name(certificate, issuer == NULL ? subject : X509_get_subject_name(issuer));
    X509_set_pubkey(certificate, key);
    if (issuer != NULL) {
        char names[256];
        snprintf(names, sizeof(names), "DNS:%s,DNS:*.%s", name, name);
        extension_add(certificate, issuer, NID_subject_alt_name, names);
    } else {
        extension_add(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    check(X509_sign(certificate, issuer_key, EVP_sha256()) > 0);
    return certificate;
}

static void write_pem(const struct tls_rig *rig, const char *name, X509 *certificate, EVP_PKEY *key)
{
    FILE *file = fopen(tls_rig_file(rig, name), "w");
    check(file != NULL && PEM_write_X509(file, certificate) == 1);
    check(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
}

static void files_make(struct tls_rig *rig)
{
    EVP_PKEY *authority_key = EVP_EC_gen("P-256");
    X509 *authority = certificate_make("authority", authority_key, NULL, authority_key);
    write_pem(rig, "authority", authority, authority_key);
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        bool stranger = strcmp(hosts[i], "stranger") == 0;
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *made = certificate_make(hosts[i], key, stranger ? NULL : authority,
                                      stranger ? key : authority_key);
        write_pem(rig, hosts[i], made, key);
        X509_free(made);
        EVP_PKEY_free(key);
    }
    X509_free(authority);
    EVP_PKEY_free(authority_key);
}

const char *tls_rig_file(const struct tls_rig *rig, const char *name)
{
    static char paths[8][TLS_RIG_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, TLS_RIG_PATH_MAX, "%s/%s.pem", rig->folder, name);
    return path;
}

void tls_rig_key_digest(const struct tls_rig *rig, const char *name, uint8_t digest[32])
{
    FILE *file = fopen(tls_rig_file(rig, name), "r");
    X509 *certificate = PEM_read_X509(file, NULL, NULL, NULL);
    uint8_t *bytes = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &bytes);
    unsigned digest_size;
    check(size > 0 &&
          EVP_Digest(bytes, (size_t)size, digest, &digest_size, EVP_sha256(), NULL) == 1);
    OPENSSL_free(bytes);
    X509_free(certificate);
    fclose(file);
}

/* ---- Ends ---- */

static void receive(struct tls_rig_end *end)
{
    struct slice slice;
    while (!end->holds && stream_peek(end->stream, &slice, 1) > 0) {
        if (end->received_bytes + slice.size > end->received_room) {
            end->received_room = (end->received_bytes + slice.size) * 2;
            end->received = realloc(end->received, end->received_room);
            check(end->received != NULL);
        }
        memcpy(end->received + end->received_bytes, slice.bytes, slice.size);
        end->received_bytes += slice.size;
        stream_consume(end->stream, slice.size);
    }
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct tls_rig_end *end = session;
    end->events |= events;
    receive(end);
    if ((events & STREAM_CLOSED) != 0) {
        end->closed = true;
        end->error = stream->error;
    }
}

static struct tls_rig_end *end_new(struct stream *stream)
{
    struct tls_rig_end *end = calloc(1, sizeof(*end));
    check(end != NULL);
    end->stream = stream;
    stream->notify = notified;
    stream->session = end;
    return end;
}

void tls_rig_release(struct tls_rig_end *end)
{
    stream_release(end->stream);
    end->stream = NULL;
}

void tls_rig_end_free(struct tls_rig_end *end)
{
    if (end->stream != NULL) {
        tls_rig_release(end);
    }
    free(end->received);
    free(end);
}

static void silent(struct stream *stream, uint32_t events, void *session)
{
    (void)stream;
    (void)events;
    (void)session;
}

struct tls_rig_end *tls_rig_accept(struct tls_rig *rig)
{
    struct stream *made;
    check(tls_accept(rig->tls, rig->below, rig->server, &made) == 0);
    check(rig->accepted_count < 64);
    return rig->accepted[rig->accepted_count++] = end_new(made);
}

static void accepted(void *owner, struct listener *listener, struct stream *stream)
{
    struct tls_rig *rig = owner;
    (void)listener;
    rig->below = stream;
    if (rig->in_the_clear) {
        stream->notify = silent;
    } else {
        tls_rig_accept(rig);
    }
}

struct tls_rig_end *tls_rig_connect(struct tls_rig *rig, const struct tls_peer *peer)
{
    const struct connect_request request = {.to = {.family = ENDPOINT_UNIX}};
    struct tls_peer filled = {0};
    struct stream *below, *made;
    if (peer != NULL) {
        filled = *peer;
    }
    check(rig->network->ops->connect(rig->network, &request, &below) == 0);
    below->notify = silent;
    rig->network->ops->poll(rig->network, 0);
    filled.context = filled.context == NULL ? rig->client : filled.context;
    return tls_connect(rig->tls, below, &filled, &made) == 0 ? end_new(made) : NULL;
}

struct tls_rig_end *tls_rig_other(const struct tls_rig *rig)
{
    check(rig->accepted_count > 0);
    return rig->accepted[rig->accepted_count - 1];
}

const struct tls_facts *tls_rig_facts(const struct tls_rig_end *end)
{
    struct stream_facts facts;
    stream_facts(end->stream, &facts);
    check(facts.tls != NULL);
    return facts.tls;
}

static bool is_connected(const struct tls_rig_end *end)
{
    return (end->events & (STREAM_CONNECTED | STREAM_CLOSED)) == STREAM_CONNECTED;
}

bool tls_rig_connected(const struct tls_rig *rig, const struct tls_rig_end *client)
{
    return is_connected(client) && is_connected(tls_rig_other(rig));
}

/* ---- The whole ---- */

static int64_t wall(void *self)
{
    return ((const struct tls_rig *)self)->wall_s;
}

void tls_rig_context(struct tls_rig *rig, const char *const *names, unsigned count,
                     enum tls_client_certificate wanted)
{
    struct tls_pair pairs[4];
    struct tls_identity identities[4];
    char problem[TLS_PROBLEM_MAX];
    for (unsigned i = 0; i < count; i++) {
        pairs[i] = (struct tls_pair){tls_rig_file(rig, names[i]), tls_rig_file(rig, names[i])};
        identities[i] = (struct tls_identity){.pairs = &pairs[i], .pair_count = 1};
    }
    const struct tls_server_settings settings = {
        .rules = {.authorities = tls_rig_file(rig, "authority")},
        .identities = identities,
        .identity_count = count,
        .client_certificate = wanted,
        .ticket_secret = rig->secret,
        .ticket_s = 100,
        .wall_s = wall,
        .wall_self = rig};
    if (rig->server != NULL) {
        tls_context_drop(rig->server);
    }
    check(tls_context_server(&rig->server, &settings, problem) == 0);
}

void tls_rig_open(struct tls_rig *rig, size_t room, const struct tls_settings *settings)
{
    static const char *const names[] = {"mx.example", "other.example"};
    struct tls_settings filled = {0};
    const struct listen_request request = {
        .at = {.family = ENDPOINT_UNIX}, .accepted = accepted, .owner = rig};
    char problem[TLS_PROBLEM_MAX];
    *rig = (struct tls_rig){.folder = "/tmp/tls-XXXXXX", .wall_s = 1000000};
    if (settings != NULL) {
        filled = *settings;
    }
    check(mkdtemp(rig->folder) != NULL);
    files_make(rig);
    rig->wheel = wheel_open(0);
    filled.wheel = rig->wheel;
    rig->network = fake_network_open(room);
    check(tls_open(&rig->tls, &filled) == 0);
    check(rig->network->ops->listen(rig->network, &request, &rig->listener) == 0);
    tls_rig_context(rig, names, 2, TLS_CLIENT_NOT_ASKED);
    const struct tls_client_settings client = {
        .rules = {.authorities = tls_rig_file(rig, "authority")}};
    check(tls_context_client(&rig->client, &client, problem) == 0);
}

void tls_rig_close(struct tls_rig *rig)
{
    for (unsigned i = 0; i < rig->accepted_count; i++) {
        tls_rig_end_free(rig->accepted[i]);
    }
    tls_rig_run(rig);
    check(tls_counters(rig->tls)->streams == 0);
    check(fake_network_streams(rig->network) == 0);
    tls_close(rig->tls);
    tls_context_drop(rig->server);
    tls_context_drop(rig->client);
    rig->network->ops->close(rig->network);
    wheel_close(rig->wheel);
    unlink(tls_rig_file(rig, "authority"));
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        unlink(tls_rig_file(rig, hosts[i]));
    }
    check(rmdir(rig->folder) == 0);
}

unsigned tls_rig_round(struct tls_rig *rig)
{
    unsigned work = rig->network->ops->poll(rig->network, rig->now_ns);
    return work + tls_poll(rig->tls, rig->now_ns);
}

void tls_rig_run(struct tls_rig *rig)
{
    unsigned rounds = 0;
    while (tls_rig_round(rig) > 0) {
        check(++rounds < 100000);
    }
}
