/*
 * login_rig: a shard with helpers, a directory of users in a passwd-file and in the configuration, a login desk, and
 * clients that log in with GNU SASL's own client. The clock stands still unless it is said that it runs.
 */
#pragma once
#include "engine/auth/login.h"
#include "proto/sasl/mechanism.h"
#include <pthread.h>
#include <semaphore.h>

#define LOGIN_RIG_SECOND_NS 1000000000ull
#define LOGIN_RIG_QUEUE 8u /* jobs that may wait for a helper */

/* Users: tim ("tanstaaftanstaaf", home /home/tim), tom ("other"), hal (a hash of "secret"), sam (SCRAM-SHA-256 of
 * "pencil"), dig (DIGEST-MD5 of "secret"), card@example.org; "una" of the configuration ("unas"); master root
 * ("toor"), by "*". */
struct login_rig {
    char folder[64];
    int log_pipe[2];
    struct logger logger;
    struct shard shard;
    struct helpers *helpers;
    struct directory *directory;
    struct login_desk *desk;
    uint64_t now_ns;
    struct world world;
    char passwd[160];
    const char *backends[4];
};

struct login_rig_settings { /* zeroes: as login_desk_settings */
    bool clear_on_loopback;
    uint32_t mechanisms, attempts_max, block_after;
    bool
        unreachable; /* who is not in the other backends is looked for in a database that is gone */
};

void login_rig_open(struct login_rig *rig, const struct login_rig_settings *settings);
void login_rig_close(struct login_rig *rig);         /* checks that no attempt is left */
const char *login_rig_logged(struct login_rig *rig); /* since the last time; of static memory */

/* The one helper waits until it may go on: what is asked meanwhile is not answered. */
void login_rig_helper_stop(struct login_rig *rig);
void login_rig_helper_go_on(struct login_rig *rig);
/* Jobs that do nothing until no more can be given; the helper is stopped. */
void login_rig_queue_fill(struct login_rig *rig);

/* A connection, as its stream's facts say. */
struct login_rig_facts {
    struct tls_facts tls;
    struct stream_facts stream;
    struct login_facts facts;
};
/* remote: "192.0.2.1:1000", "unix:/x"; certificate: of a verified client; NULL: none. */
void login_rig_secure(struct login_rig_facts *facts, const char *remote, const char *certificate);
/* The connection is one that a proof can be bound to. */
void login_rig_bind(struct login_rig_facts *facts);
void login_rig_clear(struct login_rig_facts *facts, const char *remote);

struct login_rig_session {
    struct login login;
    struct login_rig *rig;
    unsigned told, challenges;
    enum login_news news; /* the last */
    uint8_t bytes[1024];
    size_t byte_count;
    bool has_bytes;
    char user[64], home[64];
    pthread_t thread;
    void (*then)(struct login_rig_session *session); /* from inside of told; NULL: nothing */
    unsigned then_told;
};
void login_rig_session(struct login_rig_session *session, struct login_rig *rig);

/* Rounds until the session is told; the clock runs where somebody waits for a time. False: it was not. */
bool login_rig_told(struct login_rig_session *session);
/* The same within ten rounds, while the clock stands. */
bool login_rig_told_now(struct login_rig_session *session);
void login_rig_rounds(struct login_rig *rig, unsigned count);
/* The helper has answered all that was asked, and what was asked then, and the shard has taken it; the clock stands. */
void login_rig_helped(struct login_rig *rig);
/* The same, and no delay is waited for any more. */
void login_rig_settle(struct login_rig *rig);

struct login_rig_client {
    enum sasl_mechanism mechanism;
    const char *user, *password, *authzid;
    bool initial;          /* what the client can say first comes with the command */
    bool binding_of_other; /* -PLUS, of another connection */
};
/* A whole exchange; the last news. */
enum login_news login_rig_exchange(struct login_rig_session *session,
                                   const struct login_rig_facts *facts,
                                   const struct login_rig_client *client);
/* One begun, up to the client's proof, which *proof (1024) holds and was not sent. Its size. */
size_t login_rig_proof(struct login_rig_session *session, const struct login_rig_facts *facts,
                       const struct login_rig_client *client, uint8_t *proof);
enum login_news login_rig_password(struct login_rig_session *session,
                                   const struct login_rig_facts *facts, const char *user,
                                   const char *password);
