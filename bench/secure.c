#include "bench/secure.h"
#include "engine/core/wheel.h"
#include "engine/tls/tls.h"
#include <stdio.h>
#include <stdlib.h>

struct secure {
    enum secure_kind kind;
    struct wheel *wheel;
    struct tls *tls;
    struct tls_context *context;
};

int secure_open(struct secure **secure, const struct world *world, enum secure_kind kind,
                const struct tls_rules *rules)
{
    const struct tls_client_settings client = {.rules = *rules};
    char problem[TLS_PROBLEM_MAX] = "";
    struct secure *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    made->kind = kind;
    made->wheel = wheel_open(world_now_ns(world));
    int rc = made->wheel == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        /* The generator waits for nobody: its handshakes are not to be spared. */
        const struct tls_settings settings = {
            .wheel = made->wheel, .handshakes_a_round = 64, .records_a_turn = 64};
        rc = tls_open(&made->tls, &settings);
    }
    rc = rc == 0 ? tls_context_client(&made->context, &client, problem) : rc;
    if (rc < 0) {
        fprintf(stderr, "tubepost-bench: tls: %s\n", problem[0] != '\0' ? problem : strerror(-rc));
        secure_close(made);
        return rc;
    }
    *secure = made;
    return 0;
}

void secure_close(struct secure *secure)
{
    if (secure == NULL) {
        return;
    }
    if (secure->tls != NULL) {
        tls_close(secure->tls);
    }
    if (secure->context != NULL) {
        tls_context_drop(secure->context);
    }
    if (secure->wheel != NULL) {
        wheel_close(secure->wheel);
    }
    free(secure);
}

int secure_connect(struct secure *secure, struct stream *below, unsigned target,
                   struct stream **stream)
{
    char key[32];
    snprintf(key, sizeof(key), "target %u", target);
    const struct tls_peer peer = {.context = secure->context,
                                  .trust = TLS_ANYBODY,
                                  .session_key = secure->kind == SECURE_RESUMED ? key : NULL};
    return tls_connect(secure->tls, below, &peer, stream);
}

void secure_round(struct secure *secure, uint64_t now_ns)
{
    tls_poll(secure->tls, now_ns);
    wheel_run(secure->wheel, now_ns);
}

bool secure_has_work(const struct secure *secure)
{
    return tls_has_work(secure->tls);
}

void secure_count(const struct secure *secure, struct secure_counters *counters)
{
    const struct tls_counters *all = tls_counters(secure->tls);
    *counters = (struct secure_counters){
        .handshakes = all->connected, .resumed = all->resumed, .failed = all->failed};
}
