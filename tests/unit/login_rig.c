#include "tests/unit/login_rig.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"
#include "queue/mailbox/user_name.h"
#include <errno.h>
#include <fcntl.h>
#include <gsasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ROUNDS_MAX 100000u
#define ROUND_US 50u

static sem_t may_go_on, has_stopped;

/* ---- The service ---- */

static uint64_t clock_now(void *self)
{
    return ((struct login_rig *)self)->now_ns;
}

static int64_t clock_wall(void *self)
{
    (void)self;
    return 0;
}

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const char users[] =
    "tim:{PLAIN}tanstaaftanstaaf:1000:1000::/home/tim\n"
    "tom:{PLAIN}other\n"
    "hal:{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=\n"
    "sam:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n" /* RFC 7677 §3 */
    /* printf dig:mail.example.org:secret | md5sum */
    "dig:{DIGEST-MD5}ae4f36b2ee5d548eeb7bb7101ff491fa\n"
    "card@example.org:{PLAIN}unused\n"
    "a b:{PLAIN}c d\n"
    "back\\slash:{PLAIN}secret\n";

static void file_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    check(file != NULL && fputs(text, file) >= 0);
    check(fclose(file) == 0);
}

static const char *path_of(const struct login_rig *rig, const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", rig->folder, name);
    return path;
}

static void directory_start(struct login_rig *rig, const struct login_rig_settings *settings)
{
    static const char *const masters[] = {"static:root:{PLAIN}toor", NULL};
    static char database[160];
    char problem[BACKEND_PROBLEM_MAX];
    file_write(path_of(rig, "users"), users);
    snprintf(rig->passwd, sizeof(rig->passwd), "passwd-file:%s", path_of(rig, "users"));
    file_write(path_of(rig, "gone.cf"), "dbpath = /nonexistent/users.db\nquery = SELECT '%s'\n");
    snprintf(database, sizeof(database), "sqlite:%s", path_of(rig, "gone.cf"));
    rig->backends[0] = "static:una:{PLAIN}unas";
    rig->backends[1] = rig->passwd;
    rig->backends[2] = settings->unreachable ? database : NULL;
    const struct directory_settings of_users = {
        .backends = rig->backends,
        .masters = masters,
        .master_separator = '*',
        .secret = "0123456789abcdef0123456789abcde",
        .penalty = {.block_after = settings->block_after == 0 ? UINT32_MAX : settings->block_after},
        .world = &rig->world,
        .logger = &rig->logger};
    check(directory_open(&rig->directory, &of_users, problem) == 0);
}

/* As the mailbox service has it. */
static bool has_mailbox_name(const char *user)
{
    char name[USER_NAME_BYTES];
    return user_name_of_mailbox(slice_text(user), name) == 0;
}

void login_rig_open(struct login_rig *rig, const struct login_rig_settings *settings)
{
    memset(rig, 0, sizeof(*rig));
    check(sem_init(&may_go_on, 0, 0) == 0 && sem_init(&has_stopped, 0, 0) == 0);
    rig->now_ns = 1000 * LOGIN_RIG_SECOND_NS;
    rig->world = (struct world){
        .now_ns = clock_now, .wall_s = clock_wall, .random = random_fill, .self = rig};
    snprintf(rig->folder, sizeof(rig->folder), "/tmp/test_login.XXXXXX");
    check(mkdtemp(rig->folder) != NULL && pipe2(rig->log_pipe, O_NONBLOCK | O_CLOEXEC) == 0);
    logger_open(&rig->logger, rig->log_pipe[1], LOGGER_INFO);
    const struct shard_settings of_shard = {.count = 1, .cpu = -1, .world = &rig->world};
    const struct helpers_settings helping = {
        .threads = 1, .queue_max = 2 * LOGIN_RIG_QUEUE, .name = "auth"};
    check(shard_open(&rig->shard, &of_shard) == 0 && helpers_open(&rig->helpers, &helping) == 0);
    directory_start(rig, settings);
    const struct login_desk_settings of_desk = {
        .shard = &rig->shard,
        .helpers = rig->helpers,
        .directory = rig->directory,
        .realm = "mail.example.org",
        .secret = "0123456789abcdef0123456789abcde",
        .clear_on_loopback = settings->clear_on_loopback,
        .mechanisms = settings->mechanisms,
        .attempts_max = settings->attempts_max,
        .is_user = has_mailbox_name,
    };
    check(login_desk_open(&rig->desk, &of_desk) == 0);
    shard_round(&rig->shard);
}

void login_rig_close(struct login_rig *rig)
{
    if (rig->desk != NULL) {
        login_desk_close(rig->desk);
    }
    helpers_close(rig->helpers);
    directory_close(rig->directory);
    shard_close(&rig->shard);
    close(rig->log_pipe[0]);
    close(rig->log_pipe[1]);
    check(unlink(path_of(rig, "users")) == 0 && unlink(path_of(rig, "gone.cf")) == 0);
    check(rmdir(rig->folder) == 0);
}

const char *login_rig_logged(struct login_rig *rig)
{
    static char text[8192];
    ssize_t size = read(rig->log_pipe[0], text, sizeof(text) - 1);
    text[size < 0 ? 0 : size] = '\0';
    return text;
}

/* ---- The helper ---- */

struct stop {
    struct helper_job job;
    bool waits;
};

static void stop_work(struct helper_job *job, void *own)
{
    (void)own;
    if (((struct stop *)(void *)job)->waits) {
        sem_post(&has_stopped);
        while (sem_wait(&may_go_on) < 0) {
        }
    }
}

static void stop_done(struct helper_job *job, struct shard *shard)
{
    (void)shard;
    free(job);
}

static void stop_dropped(struct helper_job *job)
{
    free(job);
}

static int job_give(struct login_rig *rig, bool waits)
{
    struct stop *stop = calloc(1, sizeof(*stop));
    check(stop != NULL);
    *stop = (struct stop){{.work = stop_work, .done = stop_done, .dropped = stop_dropped}, waits};
    int status = helpers_give(rig->helpers, &rig->shard, &stop->job);
    if (status < 0) {
        free(stop);
    }
    return status;
}

void login_rig_helper_stop(struct login_rig *rig)
{
    while (job_give(rig, true) < 0) {
        usleep(ROUND_US);
    }
    while (sem_wait(&has_stopped) < 0) {
    }
}

void login_rig_helper_go_on(struct login_rig *rig)
{
    (void)rig;
    sem_post(&may_go_on);
}

void login_rig_queue_fill(struct login_rig *rig)
{
    while (job_give(rig, false) == 0) {
    }
}

/* ---- Connections and sessions ---- */

void login_rig_clear(struct login_rig_facts *facts, const char *remote)
{
    memset(facts, 0, sizeof(*facts));
    check(endpoint_parse(&facts->stream.remote, slice_text(remote)) == 0);
    facts->stream.transport = "test";
    facts->facts = (struct login_facts){.stream = &facts->stream, .service = "imap"};
}

void login_rig_secure(struct login_rig_facts *facts, const char *remote, const char *certificate)
{
    login_rig_clear(facts, remote);
    facts->tls.version = "TLSv1.3";
    if (certificate != NULL) {
        snprintf(facts->tls.peer_name, sizeof(facts->tls.peer_name), "%s", certificate);
        facts->tls.verified = true;
    }
    facts->stream.tls = &facts->tls;
}

static bool exporter(const struct tls_facts *facts, uint8_t exported[TLS_EXPORTER_BYTES])
{
    (void)facts;
    memset(exported, 0x5a, TLS_EXPORTER_BYTES);
    return true;
}

void login_rig_bind(struct login_rig_facts *facts)
{
    facts->tls.exporter_known = true;
    facts->tls.exporter = exporter;
}

static void told(struct login *login, const struct login_told *what)
{
    struct login_rig_session *session = list_entry(login, struct login_rig_session, login);
    session->told++;
    session->challenges += what->news == LOGIN_CHALLENGE;
    session->news = what->news;
    session->has_bytes = what->has_bytes;
    session->byte_count = what->bytes.size;
    check(what->bytes.size <= sizeof(session->bytes));
    if (what->bytes.size > 0) {
        memcpy(session->bytes, what->bytes.bytes, what->bytes.size);
    }
    check((what->news == LOGIN_IN) == (what->user != NULL) &&
          (what->news == LOGIN_IN) == (what->fields != NULL));
    check((what->news == LOGIN_CHALLENGE) == (login->attempt != NULL));
    session->user[0] = session->home[0] = '\0';
    if (what->user != NULL) {
        snprintf(session->user, sizeof(session->user), "%s", what->user);
        snprintf(session->home, sizeof(session->home), "%.63s", what->fields->home);
        check(what->fields->stored[0] == '\0');
    }
    session->thread = pthread_self();
    if (session->then != NULL) {
        void (*then)(struct login_rig_session *) = session->then;
        session->then = NULL;
        then(session);
    }
}

void login_rig_session(struct login_rig_session *session, struct login_rig *rig)
{
    *session = (struct login_rig_session){.login = {.told = told}, .rig = rig};
}

/* Whoever waits for a time is there at once; who waits for the helper waits, however long it takes. */
static void clock_run(struct login_rig *rig)
{
    uint64_t next_ns = wheel_next_ns(rig->shard.wheel);
    if (next_ns != WHEEL_NEVER && next_ns > rig->now_ns) {
        rig->now_ns = next_ns + WHEEL_TICK_NS;
    }
}

bool login_rig_told(struct login_rig_session *session)
{
    unsigned before = session->told;
    for (unsigned i = 0; i < ROUNDS_MAX && session->told == before; i++) {
        clock_run(session->rig);
        shard_round(&session->rig->shard);
        usleep(session->told == before ? ROUND_US : 0);
    }
    return session->told == before + 1;
}

bool login_rig_told_now(struct login_rig_session *session)
{
    unsigned before = session->told;
    login_rig_rounds(session->rig, 10);
    return session->told == before + 1;
}

void login_rig_rounds(struct login_rig *rig, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        shard_round(&rig->shard);
        usleep(ROUND_US);
    }
}

/* A job behind all others is begun when they have answered; what is asked with an answer takes another. */
static void helped(struct login_rig *rig, bool clock_runs)
{
    for (unsigned i = 0; i < 4; i++) {
        login_rig_helper_stop(rig);
        login_rig_helper_go_on(rig);
        for (unsigned j = 0; j < 20; j++) {
            if (clock_runs) {
                clock_run(rig);
            }
            shard_round(&rig->shard);
        }
    }
}

void login_rig_helped(struct login_rig *rig)
{
    helped(rig, false);
}

void login_rig_settle(struct login_rig *rig)
{
    helped(rig, true);
}

/* ---- Clients ---- */

static int no_answer(Gsasl *gsasl, Gsasl_session *session, Gsasl_property property)
{
    (void)gsasl;
    (void)session;
    (void)property;
    return GSASL_NO_CALLBACK;
}

struct conversation {
    Gsasl *gsasl;
    Gsasl_session *client;
    int status;
};

static void conversation_open(struct conversation *with, const struct login_rig_facts *facts,
                              const struct login_rig_client *client)
{
    check(gsasl_init(&with->gsasl) == GSASL_OK);
    gsasl_callback_set(with->gsasl, no_answer);
    check(gsasl_client_start(with->gsasl, sasl_mechanism_name(client->mechanism), &with->client) ==
          GSASL_OK);
    gsasl_property_set(with->client, GSASL_AUTHID, client->user);
    gsasl_property_set(with->client, GSASL_PASSWORD, client->password);
    if (client->authzid != NULL) {
        gsasl_property_set(with->client, GSASL_AUTHZID, client->authzid);
    }
    if (facts->tls.exporter_known) {
        uint8_t exported[TLS_EXPORTER_BYTES];
        char text[BASE64_BYTES(sizeof(exported)) + 1];
        check(facts->tls.exporter(&facts->tls, exported));
        struct slice octets = slice_of(exported, sizeof(exported));
        octets = client->binding_of_other ? slice_text("another connection") : octets;
        text[base64_encode(octets, text)] = '\0';
        gsasl_property_set(with->client, GSASL_CB_TLS_EXPORTER, text);
    }
    gsasl_property_set(with->client, GSASL_SERVICE, "imap");
    gsasl_property_set(with->client, GSASL_HOSTNAME, "mail.example.org");
    with->status = GSASL_NEEDS_MORE;
}

static void conversation_close(struct conversation *with)
{
    gsasl_finish(with->client);
    gsasl_done(with->gsasl);
}

/* What the client says to what the session was told last. */
static size_t say(struct conversation *with, struct slice challenge, uint8_t said[1024])
{
    char *output = NULL;
    size_t size = 0;
    if (with->status == GSASL_NEEDS_MORE) {
        with->status =
            gsasl_step(with->client, (const char *)challenge.bytes, challenge.size, &output, &size);
    }
    check(with->status == GSASL_OK || with->status == GSASL_NEEDS_MORE);
    check(size <= 1024);
    if (size > 0) {
        memcpy(said, output, size);
    }
    gsasl_free(output);
    return size;
}

static bool begin(struct login_rig_session *session, const struct login_rig_facts *facts,
                  const struct login_rig_client *client, struct conversation *with)
{
    uint8_t said[1024];
    struct slice initial = slice_of(said, 0), name;
    name = slice_text(sasl_mechanism_name(client->mechanism));
    unsigned before = session->told;
    if (client->initial) {
        initial.size = say(with, slice_of(NULL, 0), said);
    }
    check(login_begin(session->rig->desk, &session->login, &facts->facts, name,
                      client->initial ? &initial : NULL) == 0);
    check(session->told == before);
    return login_rig_told(session);
}

static bool answer(struct login_rig_session *session, struct conversation *with)
{
    uint8_t said[1024];
    unsigned before = session->told;
    size_t size = say(with, slice_of(session->bytes, session->byte_count), said);
    check(login_answer(&session->login, slice_of(said, size)) == 0);
    check(session->told == before);
    return login_rig_told(session);
}

enum login_news login_rig_exchange(struct login_rig_session *session,
                                   const struct login_rig_facts *facts,
                                   const struct login_rig_client *client)
{
    struct conversation with;
    conversation_open(&with, facts, client);
    check(begin(session, facts, client, &with));
    while (session->news == LOGIN_CHALLENGE) {
        check(answer(session, &with));
    }
    /* It has what it wants of the server: its proof too, where there is one. */
    check(session->news != LOGIN_IN || with.status == GSASL_OK);
    conversation_close(&with);
    return session->news;
}

size_t login_rig_proof(struct login_rig_session *session, const struct login_rig_facts *facts,
                       const struct login_rig_client *client, uint8_t *proof)
{
    struct conversation with;
    bool scram = sasl_mechanism_is_scram(client->mechanism);
    conversation_open(&with, facts, client);
    check(begin(session, facts, client, &with));
    if (scram && !client->initial) {
        check(answer(session, &with));
    }
    size_t size = say(&with, slice_of(session->bytes, session->byte_count), proof);
    conversation_close(&with);
    return size;
}

enum login_news login_rig_password(struct login_rig_session *session,
                                   const struct login_rig_facts *facts, const char *user,
                                   const char *password)
{
    check(login_password(session->rig->desk, &session->login, &facts->facts, slice_text(user),
                         slice_text(password)) == 0);
    check(login_rig_told(session));
    return session->news;
}
