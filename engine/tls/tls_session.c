/* Sessions that a client may resume: the most recent ones, by their key. */
#include "engine/tls/tls_private.h"
#include <stdlib.h>

static uint32_t chain_of(const char *key)
{
    uint32_t hash = 2166136261u; /* FNV-1a; the keys are ours */
    for (; *key != '\0'; key++) {
        hash = (hash ^ (uint8_t)*key) * 16777619u;
    }
    return hash % TLS_SESSION_CHAINS;
}

/* The newest of a key. */
static struct tls_session **find(struct tls *tls, const char *key)
{
    struct tls_session **at = &tls->chains[chain_of(key)];
    while (*at != NULL && strcmp((*at)->key, key) != 0) {
        at = &(*at)->next;
    }
    return at;
}

static void forget(struct tls *tls, struct tls_session **at)
{
    struct tls_session *found = *at;
    check(found != NULL);
    *at = found->next;
    list_remove(&found->node);
    SSL_SESSION_free(found->session);
    free(found);
    tls->session_count--;
}

static void forget_oldest(struct tls *tls)
{
    struct tls_session *oldest = list_entry(tls->sessions.next, struct tls_session, node);
    struct tls_session **at = &tls->chains[chain_of(oldest->key)];
    while (*at != oldest) {
        at = &(*at)->next;
    }
    forget(tls, at);
}

/* Those of TLS 1.3 are used once, so as many are kept as connections may be opened together. */
static void make_room(struct tls *tls, const char *key)
{
    struct tls_session **oldest = NULL;
    unsigned count = 0;
    for (struct tls_session **at = find(tls, key); *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->key, key) == 0) {
            oldest = at;
            count++;
        }
    }
    if (count >= TLS_SESSIONS_OF_KEY) {
        forget(tls, oldest);
    } else if (tls->session_count >= tls->settings.session_max) {
        forget_oldest(tls);
    }
}

void tls_session_keep(struct tls *tls, const char *key, SSL_SESSION *session)
{
    size_t size = strlen(key) + 1;
    make_room(tls, key);
    struct tls_session *made = malloc(sizeof(*made) + size);
    if (made == NULL) {
        SSL_SESSION_free(session); /* the next handshake is a whole one */
        return;
    }
    struct tls_session **first = &tls->chains[chain_of(key)];
    made->next = *first;
    *first = made;
    made->session = session;
    memcpy(made->key, key, size);
    list_init(&made->node);
    list_append(&tls->sessions, &made->node);
    tls->session_count++;
}

SSL_SESSION *tls_session_find(struct tls *tls, const char *key)
{
    struct tls_session **at = find(tls, key);
    if (*at == NULL) {
        return NULL;
    }
    SSL_SESSION *session = (*at)->session;
    if (SSL_SESSION_is_resumable(session) != 1) {
        forget(tls, at);
        return NULL;
    }
    if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) {
        return SSL_SESSION_dup(
            session); /* what becomes of one connection is not the next one's fault */
    }
    check(SSL_SESSION_up_ref(session) == 1);
    forget(tls, at);
    return session;
}

void tls_session_forget(struct tls *tls, const char *key)
{
    struct tls_session **at = find(tls, key);
    if (*at != NULL) {
        forget(tls, at);
    }
}

void tls_sessions_close(struct tls *tls)
{
    while (tls->session_count > 0) {
        forget_oldest(tls);
    }
}
