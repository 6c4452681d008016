#include "engine/auth/login.h"
#include "engine/core/check.h"
#include "proto/sasl/prepare.h"
#include "proto/sasl/server.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ATTEMPTS_MAX 4096u
#define SCRAM_ITERATIONS 4096u
#define VERDICT_AGAIN_NS 10000000ull
/* What carries a token. */
#define TOKENS (SASL_BIT(SASL_OAUTHBEARER) | SASL_BIT(SASL_XOAUTH2))

static_assert(SASL_NAME_BYTES_MAX <= BACKEND_NAME_MAX, "what SASL takes as a name can be asked");
static_assert(SASL_PASSWORD_BYTES_MAX <= PASSWORD_STORED_MAX, "and so can a password");
static_assert(SASL_MESSAGE_BYTES_MAX <= TOKEN_BYTES_MAX, "and a token");
static_assert(SASL_PASSWORD_BYTES_MAX <= SASL_PREPARE_BYTES_MAX, "and it can be prepared");

/*
 *                                 ┌────────── login_answer ───────────┐
 *   login_begin                   ▼                                   │
 *   login_password ──┬─► CREDENTIAL, VERIFY ──► NEWS ──► told ──► CLIENT (of a challenge)
 *                    │        │    │             ▲                    │
 *                    └────────┼────┼─────────────┤◄───────────────────┘
 *                             ▼    ▼             │
 *                  OWING ◄──► VERDICT ───────────┘
 *
 * What is news is told by the timer, in the next round of the wheel, so that nobody is told from inside of his call. An
 * exchange that was judged by a stored secret owes the directory its verdict, and is told when that has it: a failure that
 * is not counted would be a try for nothing. So one that cannot be given now, OWING, is given later, client or no client.
 */
enum attempt_state {
    ATTEMPT_CLIENT,     /* has a challenge */
    ATTEMPT_CREDENTIAL, /* what is stored of the user? */
    ATTEMPT_VERIFY,     /* is this the password, the name, or the token of somebody? */
    ATTEMPT_OWING,
    ATTEMPT_VERDICT, /* the directory is told of it */
    ATTEMPT_NEWS,
};

struct who_came_in {
    char user[BACKEND_NAME_MAX + 1];
    struct auth_user fields;
};

struct login_attempt {
    struct list_node node; /* in desk->attempts */
    struct login_desk *desk;
    struct login *login; /* NULL: gone; it owes a verdict */
    enum attempt_state state;
    enum login_news news;     /* of NEWS; OWING and VERDICT: afterwards */
    bool judged;              /* the exchange has what is stored, or that nothing is */
    struct sasl_server *sasl; /* owned; NULL: a plain name and password */
    const char *method, *service;
    struct penalty_address address;
    struct auth_request request;
    struct timer timer;
    struct who_came_in who; /* as the directory says */
};

struct login_desk {
    struct shard *shard;
    struct auth *auth;
    struct sasl_library *library;
    struct sasl_settings sasl;
    bool (*is_user)(const char *user);
    struct list_node attempts;
    uint32_t attempt_count, attempts_max;
};

/* ---- The desk ---- */

int login_desk_open(struct login_desk **opened, const struct login_desk_settings *settings)
{
    struct login_desk *desk = calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return -ENOMEM;
    }
    uint32_t wanted = settings->mechanisms == 0 ? UINT32_MAX : settings->mechanisms;
    desk->shard = settings->shard;
    desk->is_user = settings->is_user;
    desk->attempts_max = settings->attempts_max == 0 ? ATTEMPTS_MAX : settings->attempts_max;
    desk->sasl = (struct sasl_settings){
        .offer = {.mechanisms = wanted & (SASL_BIT(SASL_MECHANISMS) - 1) &
                                (settings->tokens ? UINT32_MAX : ~TOKENS),
                  .clear_on_loopback = settings->clear_on_loopback},
        .iterations =
            settings->scram_iterations == 0 ? SCRAM_ITERATIONS : settings->scram_iterations,
        .realm = settings->realm,
        .oauth_scope = settings->token_scope,
        .oauth_openid_configuration = settings->token_configuration,
    };
    memcpy(desk->sasl.secret, settings->secret, sizeof(desk->sasl.secret));
    list_init(&desk->attempts);
    const struct auth_settings of_auth = {.shard = settings->shard,
                                          .helpers = settings->helpers,
                                          .directory = settings->directory,
                                          .asked_max = desk->attempts_max};
    int status = sasl_library_open(&desk->library, &desk->sasl);
    status = status < 0 ? status : auth_open(&desk->auth, &of_auth);
    if (status < 0) {
        login_desk_close(desk);
        return status;
    }
    *opened = desk;
    return 0;
}

static void attempt_free(struct login_attempt *attempt)
{
    wheel_disarm(attempt->desk->shard->wheel, &attempt->timer);
    auth_cancel(&attempt->request);
    list_remove(&attempt->node);
    attempt->desk->attempt_count--;
    if (attempt->sasl != NULL) {
        sasl_server_close(attempt->sasl);
    }
    explicit_bzero(attempt, sizeof(*attempt));
    free(attempt);
}

void login_desk_close(struct login_desk *desk)
{
    while (!list_empty(&desk->attempts)) {
        struct login_attempt *attempt = list_entry(desk->attempts.next, struct login_attempt, node);
        check(attempt->login == NULL);
        attempt_free(attempt);
    }
    if (desk->auth != NULL) {
        auth_close(desk->auth);
    }
    if (desk->library != NULL) {
        sasl_library_close(desk->library);
    }
    explicit_bzero(desk, sizeof(*desk));
    free(desk);
}

/* ---- What is offered ---- */

static bool is_encrypted(const struct stream_facts *stream)
{
    return stream->tls != NULL && stream->tls->version != NULL;
}

/* That the connection has an exporter says what is offered; what it says is for a proof, which is bound to it. */
static struct sasl_facts facts_of(const struct stream_facts *stream)
{
    static const uint8_t some[1];
    struct sasl_facts facts = {.encrypted = is_encrypted(stream),
                               .loopback = endpoint_is_loopback(&stream->remote)};
    if (facts.encrypted && stream->tls->exporter_known) {
        facts.tls_exporter = slice_of(some, sizeof(some));
    }
    if (facts.encrypted && stream->tls->verified) {
        facts.certificate_name = slice_text(stream->tls->peer_name);
    }
    return facts;
}

bool login_in_clear(const struct login_desk *desk, const struct login_facts *facts)
{
    return is_encrypted(facts->stream) ||
           (desk->sasl.offer.clear_on_loopback && endpoint_is_loopback(&facts->stream->remote));
}

bool login_needs_tls(const struct login_desk *desk, struct slice mechanism)
{
    static const uint8_t some[1];
    const struct sasl_facts known = {.encrypted = true, .tls_exporter = {some, sizeof(some)}};
    enum sasl_mechanism found = sasl_mechanism_find(mechanism);
    return found != SASL_MECHANISMS &&
           (sasl_mechanisms_offered(&desk->sasl.offer, &known) & SASL_BIT(found)) != 0;
}

uint32_t login_mechanism_bits(const struct login_desk *desk, const struct login_facts *facts)
{
    const struct sasl_facts known = facts_of(facts->stream);
    return sasl_mechanisms_offered(&desk->sasl.offer, &known);
}

size_t login_mechanisms(const struct login_desk *desk, const struct login_facts *facts, char *out,
                        size_t room)
{
    uint32_t offered = login_mechanism_bits(desk, facts);
    size_t used = 0;
    check(room > 0);
    out[0] = '\0';
    for (unsigned i = 0; i < SASL_MECHANISMS; i++) {
        if (offered & SASL_BIT(i)) {
            int size = snprintf(out + used, room - used, "%s%s", used == 0 ? "" : " ",
                                sasl_mechanism_name(i));
            check(size > 0 && used + (size_t)size < room);
            used += (size_t)size;
        }
    }
    return used;
}

/* ---- What is told, and when ---- */

static void tell_soon(struct login_attempt *attempt, enum login_news news)
{
    attempt->news = news;
    attempt->state = ATTEMPT_NEWS;
    wheel_arm(attempt->desk->shard->wheel, &attempt->timer, 0);
}

/* The last thing that is done with an attempt in a round: within `told` it may be answered, cancelled, begun anew. */
static void tell(struct login_attempt *attempt)
{
    struct login *login = attempt->login;
    struct login_told told = {.news = attempt->news};
    if (told.news == LOGIN_CHALLENGE) {
        told.has_bytes = true;
        told.bytes = sasl_server_challenge(attempt->sasl);
        attempt->state = ATTEMPT_CLIENT;
        login->told(login, &told);
        return;
    }
    if (told.news == LOGIN_IN && attempt->desk->is_user != NULL &&
        !attempt->desk->is_user(attempt->who.user)) {
        told.news = LOGIN_REFUSED;
    }
    /* Its place is free before the session may want another. */
    struct who_came_in who = attempt->who;
    if (told.news == LOGIN_IN) {
        told.user = who.user;
        told.fields = &who.fields;
    }
    login->attempt = NULL;
    attempt_free(attempt);
    login->told(login, &told);
    explicit_bzero(&who, sizeof(who));
}

/* ---- What is asked of the directory ---- */

static struct auth_ask ask_of(const struct login_attempt *attempt, enum auth_ask_kind kind)
{
    struct auth_ask ask = {.kind = kind,
                           .method = attempt->method,
                           .service = attempt->service,
                           .address = attempt->address};
    if (attempt->sasl != NULL) {
        const struct sasl_question *question = sasl_server_question(attempt->sasl);
        ask.authid = question->authid;
        ask.authzid = question->authzid;
    }
    return ask;
}

static enum auth_credential credential_of(enum sasl_mechanism mechanism)
{
    switch (mechanism) {
    case SASL_SCRAM_SHA_256_PLUS:
    case SASL_SCRAM_SHA_256:
        return AUTH_SCRAM_SHA_256;
    case SASL_SCRAM_SHA_1_PLUS:
    case SASL_SCRAM_SHA_1:
        return AUTH_SCRAM_SHA_1;
    case SASL_DIGEST_MD5:
        return AUTH_DIGEST_MD5;
    case SASL_CRAM_MD5:
        return AUTH_PASSWORD;
    case SASL_EXTERNAL:
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2:
    case SASL_PLAIN:
    case SASL_LOGIN:
    case SASL_MECHANISMS:
        break;
    }
    check(!"a mechanism that wants what is stored");
    return AUTH_PASSWORD;
}

static int ask_credential(struct login_attempt *attempt)
{
    struct auth_ask ask = ask_of(attempt, AUTH_CREDENTIAL);
    ask.credential = credential_of(sasl_server_question(attempt->sasl)->mechanism);
    attempt->state = ATTEMPT_CREDENTIAL;
    return auth_ask(attempt->desk->auth, &attempt->request, &ask);
}

static int ask_verify(struct login_attempt *attempt)
{
    const struct sasl_question *question = sasl_server_question(attempt->sasl);
    bool external = question->mechanism == SASL_EXTERNAL;
    struct auth_ask ask = ask_of(attempt, external ? AUTH_EXISTS : AUTH_VERIFY);
    ask.password = external ? slice_of(NULL, 0) : question->password;
    attempt->state = ATTEMPT_VERIFY;
    return auth_ask(attempt->desk->auth, &attempt->request, &ask);
}

static int ask_token(struct login_attempt *attempt)
{
    struct auth_ask ask = ask_of(attempt, AUTH_TOKEN);
    ask.password = sasl_server_question(attempt->sasl)->token;
    attempt->state = ATTEMPT_VERIFY;
    return auth_ask(attempt->desk->auth, &attempt->request, &ask);
}

/* How the exchange has ended, which a stored secret has judged. */
static void verdict_give(struct login_attempt *attempt, enum login_news news)
{
    const struct auth_ask ask = ask_of(attempt, news == LOGIN_IN ? AUTH_SUCCEEDED : AUTH_FAILED);
    attempt->news = news;
    attempt->state = ATTEMPT_VERDICT;
    if (auth_ask(attempt->desk->auth, &attempt->request, &ask) < 0) {
        struct shard *shard = attempt->desk->shard;
        attempt->state = ATTEMPT_OWING;
        wheel_arm(shard->wheel, &attempt->timer, shard->now_ns + VERDICT_AGAIN_NS);
    }
}

/* ---- The exchange ---- */

static void failed(struct login_attempt *attempt)
{
    switch (sasl_server_failure(attempt->sasl)) {
    case SASL_MALFORMED:
        if (!attempt->judged) {
            tell_soon(attempt, LOGIN_MALFORMED);
            return;
        }
        break;
    case SASL_WRONG:
        if (!attempt->judged) { /* of VERIFY, or a token: the directory has said so itself */
            tell_soon(attempt, LOGIN_REFUSED);
            return;
        }
        break;
    case SASL_UNAVAILABLE:
        tell_soon(attempt, LOGIN_UNAVAILABLE);
        return;
    }
    verdict_give(attempt, LOGIN_REFUSED);
}

/* 0, or what auth_ask has answered: nothing will be told. */
static int go_on(struct login_attempt *attempt, enum sasl_want want)
{
    switch (want) {
    case SASL_WANT_INPUT:
        tell_soon(attempt, LOGIN_CHALLENGE);
        return 0;
    case SASL_WANT_SECRET:
        return ask_credential(attempt);
    case SASL_WANT_VERIFY:
        return ask_verify(attempt);
    case SASL_DONE:
        if (attempt->judged) {
            verdict_give(attempt, LOGIN_IN);
        } else {
            tell_soon(attempt, LOGIN_IN);
        }
        return 0;
    case SASL_FAILED:
        failed(attempt);
        return 0;
    case SASL_WANT_TOKEN:
        return ask_token(attempt);
    }
    check(!"what a machine wants");
    return 0;
}

static enum sasl_verdict verdict_of(enum auth_outcome outcome)
{
    return outcome == AUTH_RIGHT   ? SASL_RIGHT
           : outcome == AUTH_WRONG ? SASL_NOT_RIGHT
                                   : SASL_UNKNOWN_NOW;
}

static enum login_news news_of(enum auth_outcome outcome)
{
    return outcome == AUTH_RIGHT   ? LOGIN_IN
           : outcome == AUTH_WRONG ? LOGIN_REFUSED
                                   : LOGIN_UNAVAILABLE;
}

static enum sasl_want credential_take(struct login_attempt *attempt,
                                      const struct auth_answer *answer)
{
    const struct sasl_secret secret = {
        .password = slice_of(answer->password, answer->password_bytes),
        .digest_ha1 = slice_text(answer->digest_ha1),
        .iterations = answer->scram.iterations,
        .salt = slice_of(answer->scram.salt, answer->scram.salt_bytes),
        .stored_key = slice_of(answer->scram.stored_key, answer->scram.key_bytes),
        .server_key = slice_of(answer->scram.server_key, answer->scram.key_bytes),
    };
    const struct sasl_secret seems = {
        .iterations = answer->seems.iterations,
        .salt = slice_of(answer->seems.salt, answer->seems.salt_bytes),
    };
    if (answer->outcome == AUTH_UNKNOWN) {
        return sasl_server_verdict(attempt->sasl, SASL_UNKNOWN_NOW);
    }
    attempt->judged = true;
    return sasl_server_secret(attempt->sasl, answer->outcome == AUTH_RIGHT ? &secret : &seems);
}

static void who_take(struct login_attempt *attempt, const struct auth_answer *answer)
{
    if (answer->outcome == AUTH_RIGHT) {
        memcpy(attempt->who.user, answer->user, sizeof(attempt->who.user));
        attempt->who.fields = answer->fields;
    }
}

static void answered(struct auth_request *request, const struct auth_answer *answer)
{
    struct login_attempt *attempt = list_entry(request, struct login_attempt, request);
    int status = 0;
    switch (attempt->state) {
    case ATTEMPT_CREDENTIAL:
        who_take(attempt, answer);
        status = go_on(attempt, credential_take(attempt, answer));
        break;
    case ATTEMPT_VERIFY:
        who_take(attempt, answer);
        if (attempt->sasl == NULL) {
            tell_soon(attempt, news_of(answer->outcome));
        } else {
            status =
                go_on(attempt, sasl_server_verdict(attempt->sasl, verdict_of(answer->outcome)));
        }
        break;
    case ATTEMPT_VERDICT:
        if (attempt->login == NULL) {
            attempt_free(attempt);
        } else {
            tell_soon(attempt, attempt->news);
        }
        break;
    case ATTEMPT_CLIENT:
    case ATTEMPT_OWING:
    case ATTEMPT_NEWS:
        check(!"an answer where nothing is asked");
    }
    if (status < 0) {
        tell_soon(attempt, LOGIN_UNAVAILABLE);
    }
}

static void time_has_come(struct timer *timer, uint64_t now_ns)
{
    struct login_attempt *attempt = list_entry(timer, struct login_attempt, timer);
    (void)now_ns;
    switch (attempt->state) {
    case ATTEMPT_NEWS:
        tell(attempt);
        return;
    case ATTEMPT_OWING:
        verdict_give(attempt, attempt->news);
        return;
    case ATTEMPT_CLIENT:
    case ATTEMPT_CREDENTIAL:
    case ATTEMPT_VERIFY:
    case ATTEMPT_VERDICT:
        break;
    }
    check(!"a timer where none was armed");
}

/* ---- What the session calls ---- */

static struct penalty_address penalty_address_of(const struct endpoint *remote)
{
    struct penalty_address address = {.ipv6 = remote->family == ENDPOINT_IPV6};
    if (remote->family == ENDPOINT_IPV4) {
        memcpy(address.octets, remote->address, 4);
    } else if (address.ipv6) {
        memcpy(address.octets, remote->address, sizeof(address.octets));
    }
    return address;
}

static int attempt_new(struct login_attempt **made, struct login_desk *desk,
                       const struct login_facts *facts)
{
    if (desk->attempt_count >= desk->attempts_max) {
        return -ENOBUFS;
    }
    struct login_attempt *attempt = calloc(1, sizeof(*attempt));
    if (attempt == NULL) {
        return -ENOMEM;
    }
    attempt->desk = desk;
    attempt->service = facts->service;
    attempt->address = penalty_address_of(&facts->stream->remote);
    attempt->request.told = answered;
    timer_init(&attempt->timer, time_has_come);
    list_append(&desk->attempts, &attempt->node);
    desk->attempt_count++;
    *made = attempt;
    return 0;
}

/* Under way, or over by an error. */
static int attempt_settled(struct login_attempt *attempt, struct login *login, int status)
{
    attempt->login = login;
    login->attempt = attempt;
    if (status < 0) {
        login->attempt = NULL;
        attempt_free(attempt);
    }
    return status;
}

/* In place of what says that there is one, for a proof that is bound to it; of another the machine only asks whether there is one
 * (RFC 5802 §6). False: it cannot be had. */
static bool exporter_take(const struct stream_facts *stream, enum sasl_mechanism mechanism,
                          uint8_t room[TLS_EXPORTER_BYTES], struct sasl_facts *facts)
{
    bool plus = mechanism == SASL_SCRAM_SHA_1_PLUS || mechanism == SASL_SCRAM_SHA_256_PLUS;
    if (!plus || facts->tls_exporter.size == 0) {
        return true;
    }
    facts->tls_exporter = slice_of(room, TLS_EXPORTER_BYTES);
    return stream->tls->exporter(stream->tls, room);
}

int login_begin(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                struct slice mechanism, const struct slice *initial)
{
    uint8_t exported[TLS_EXPORTER_BYTES];
    struct sasl_facts known = facts_of(facts->stream);
    enum sasl_mechanism found = sasl_mechanism_find(mechanism);
    struct login_attempt *attempt;
    check(login->attempt == NULL);
    if (initial != NULL && initial->size > SASL_MESSAGE_BYTES_MAX) {
        return -EINVAL;
    }
    int status = attempt_new(&attempt, desk, facts);
    if (status < 0) {
        return status;
    }
    status = exporter_take(facts->stream, found, exported, &known)
                 ? sasl_server_open(&attempt->sasl, desk->library, found, &known)
                 : -ENOMEM;
    if (status == 0) {
        attempt->method = sasl_mechanism_name(found);
        status = go_on(attempt, sasl_server_step(attempt->sasl, initial));
    }
    return attempt_settled(attempt, login, status);
}

int login_answer(struct login *login, struct slice message)
{
    struct login_attempt *attempt = login->attempt;
    check(attempt != NULL && attempt->state == ATTEMPT_CLIENT);
    int status = message.size > SASL_MESSAGE_BYTES_MAX
                     ? -EINVAL
                     : go_on(attempt, sasl_server_step(attempt->sasl, &message));
    return attempt_settled(attempt, login, status);
}

/* As SASL's PLAIN would have it; what cannot be prepared is taken as it was sent, and is no name or no password then, or
 * a password that was stored unprepared. */
static struct slice prepared_or_not(struct slice text, uint8_t *room, size_t room_bytes)
{
    struct slice prepared;
    return sasl_prepare(text, room, room_bytes, &prepared) ? prepared : text;
}

int login_password(struct login_desk *desk, struct login *login, const struct login_facts *facts,
                   struct slice user, struct slice password)
{
    uint8_t user_room[SASL_NAME_BYTES_MAX], password_room[SASL_PASSWORD_BYTES_MAX];
    struct login_attempt *attempt;
    check(login->attempt == NULL);
    if (!login_in_clear(desk, facts)) {
        return -EPERM;
    }
    if (user.size > SASL_NAME_BYTES_MAX || password.size > SASL_PASSWORD_BYTES_MAX) {
        return -EINVAL;
    }
    int status = attempt_new(&attempt, desk, facts);
    if (status < 0) {
        return status;
    }
    attempt->method = "PLAIN"; /* as Dovecot calls it in its log, which rules for Fail2ban know */
    struct auth_ask ask = ask_of(attempt, AUTH_VERIFY);
    ask.authid = prepared_or_not(user, user_room, sizeof(user_room));
    ask.password = prepared_or_not(password, password_room, sizeof(password_room));
    attempt->state = ATTEMPT_VERIFY;
    status = auth_ask(desk->auth, &attempt->request, &ask);
    explicit_bzero(password_room, sizeof(password_room));
    return attempt_settled(attempt, login, status);
}

void login_cancel(struct login *login)
{
    struct login_attempt *attempt = login->attempt;
    login->attempt = NULL;
    if (attempt == NULL) {
        return;
    }
    if (attempt->state == ATTEMPT_OWING) {
        attempt->login = NULL;
        return;
    }
    attempt_free(attempt);
}
