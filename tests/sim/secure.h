/*
 * secure: TLS on a simulated host, by OpenSSL with randomness of the run's seed.
 *
 * The certificates are made once a process, with the same bytes each time: an authority, and one of it for
 * "mx.example", which every server shows. What OpenSSL draws is decided by the seed, so that a handshake
 * has the same size in every run of it. Only the age of a session that is resumed is of the real clock: four
 * bytes, of no consequence.
 */
#pragma once
#include "engine/tls/tls.h"
#include "tests/sim/sim.h"

#define SIM_SECURE_NAME "mx.example"
#define SIM_SECURE_HANDSHAKE_NS (90 * SIM_S)

/* Files that hold them, as long as the process. */
const char *sim_secure_certificate(void); /* with its key */
const char *sim_secure_authority(void);

struct sim_secure {
    struct tls *tls; /* NULL: its host has none */
};

/* Before a run. */
void sim_secure_seed(struct sim *sim);
/* On a host that is open: adds its part to the shard. */
void sim_secure_open(struct sim_secure *secure, struct sim_host *host);
/* After all streams were released. */
void sim_secure_close(struct sim_secure *secure);
/* `below` is given. 0 or -errno. */
int sim_secure_accept(struct sim_secure *secure, struct stream *below, struct stream **stream);
int sim_secure_connect(struct sim_secure *secure, struct stream *below, struct stream **stream);
/* Nothing is left of any connection. */
void sim_secure_check_quiet(const struct sim_host *host, const struct tls *tls);
/* For sim_host.next_ns. */
static inline uint64_t sim_secure_next_ns(const struct sim_secure *secure, uint64_t now_ns)
{
    return secure->tls != NULL && tls_has_work(secure->tls) ? now_ns : UINT64_MAX;
}
