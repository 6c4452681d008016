#include "bench/logins.h"
#include "bench/scram_client.h"
#include "engine/core/base64.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include <stdio.h>
#include <stdlib.h>

#define OPENING_MAX 64u /* TCP handshakes under way at once */
#define LINE_BYTES_MAX 2048u
#define AGAIN_NS 10000000ull /* after a connection that failed */
#define PASSWORD_BYTES_MAX 100u
#define TLS_1_3 0x0304u /* what is measured; the ciphers of 1.2 need not be gone through */

/*
 *  IDLE ─► CONNECTING ─► SECURING ─► GREETING ─┬─► PLAIN ──────────────────┬─► LEAVING ─► OVER ─► IDLE
 *                    └──── in the clear ───┘   └─► FIRST ─► PROOF ─► PLAIN ─┘
 */
enum logins_state {
    LOGINS_IDLE,
    LOGINS_CONNECTING,
    LOGINS_SECURING,
    LOGINS_GREETING,
    LOGINS_FIRST, /* of SCRAM: the server's first message */
    LOGINS_PROOF, /* its proof, as a challenge */
    LOGINS_ANSWER,
    LOGINS_LEAVING,
    LOGINS_OVER, /* the server closes */
};

struct client {
    struct logins *logins;
    struct stream *stream;
    enum logins_state state;
    uint32_t user;
    uint64_t begun_ns, due_ns;
    struct scram_client scram;
    char line[LINE_BYTES_MAX]; /* what has come of one */
    size_t line_bytes;
};

struct logins {
    struct logins_settings settings;
    struct network *network;
    const struct world *world;
    struct secure *secure;
    struct logins_counters counters;
    struct histogram latency;
    uint64_t begun_ns, now_ns;
    uint32_t next_user, opening_count;
    struct scram_client_keys keys;
    char trouble[200];
    struct client clients[];
};

static bool measured(const struct logins *logins)
{
    double passed_s = (double)(logins->now_ns - logins->begun_ns) / 1e9;
    return passed_s >= logins->settings.warmup_s && passed_s < logins->settings.seconds;
}

static void let_go(struct client *client)
{
    client->logins->opening_count -= client->state == LOGINS_CONNECTING;
    stream_release(client->stream);
    client->stream = NULL;
    client->state = LOGINS_IDLE;
}

static void lost(struct client *client)
{
    struct logins *logins = client->logins;
    if (client->state != LOGINS_OVER) {
        logins->counters.lost++;
        client->due_ns = logins->now_ns + AGAIN_NS;
    }
    let_go(client);
}

static void refused(struct client *client, struct slice said)
{
    struct logins *logins = client->logins;
    logins->counters.refused++;
    if (logins->trouble[0] == '\0') {
        snprintf(logins->trouble, sizeof(logins->trouble), "%.*s", (int)said.size,
                 (const char *)said.bytes);
    }
    client->due_ns = logins->now_ns + AGAIN_NS;
    let_go(client);
}

/* Such short lines always have room: the connection has nothing else under way. A closed one says so by itself. */
static void say(struct client *client, const char *before, struct slice coded)
{
    char text[LINE_BYTES_MAX];
    size_t size = strlen(before);
    check(size + BASE64_BYTES(coded.size) + 2 <= sizeof(text));
    memcpy(text, before, size);
    size += coded.size == 0 ? 0 : base64_encode(coded, text + size);
    memcpy(text + size, "\r\n", 2);
    int status = stream_write(client->stream, slice_of(text, size + 2));
    check(status != -EAGAIN && status != -EMSGSIZE);
}

static void authenticate(struct client *client)
{
    struct logins *logins = client->logins;
    char user[16];
    snprintf(user, sizeof(user), "u%07u", client->user);
    if (logins->settings.mechanism == LOGINS_PLAIN) {
        char message[2 + sizeof(user) + PASSWORD_BYTES_MAX];
        int size =
            snprintf(message, sizeof(message), "%c%s%c%s", 0, user, 0, logins->settings.password);
        client->state = LOGINS_ANSWER;
        say(client, "a AUTHENTICATE PLAIN ", slice_of(message, (size_t)size));
        return;
    }
    uint8_t nonce[SCRAM_CLIENT_NONCE_BYTES];
    world_random(logins->world, nonce, sizeof(nonce));
    size_t size = scram_client_begin(&client->scram, user, nonce);
    client->state = LOGINS_FIRST;
    say(client, "a AUTHENTICATE SCRAM-SHA-256 ", slice_of(client->scram.first, size));
}

/* Of a challenge, out of base64. False: it is none. */
static bool challenge_read(struct slice line, uint8_t out[LINE_BYTES_MAX], struct slice *challenge)
{
    if (line.size < 2 || line.bytes[0] != '+' || line.bytes[1] != ' ') {
        return false;
    }
    long size = base64_decode(slice_from(line, 2), out);
    *challenge = slice_of(out, size < 0 ? 0 : (size_t)size);
    return size > 0;
}

static void challenged(struct client *client, struct slice line)
{
    struct logins *logins = client->logins;
    uint8_t room[LINE_BYTES_MAX];
    struct slice challenge;
    char final[SCRAM_CLIENT_BYTES];
    if (!challenge_read(line, room, &challenge)) {
        refused(client, line);
    } else if (client->state == LOGINS_FIRST) {
        size_t size = scram_client_answer(&client->scram, &logins->keys, logins->settings.password,
                                          challenge, final);
        if (size == 0) {
            refused(client, line);
            return;
        }
        client->state = LOGINS_PROOF;
        say(client, "", slice_of(final, size));
    } else if (!scram_client_proven(&client->scram, challenge)) {
        refused(client, line);
    } else {
        client->state = LOGINS_ANSWER;
        say(client, "", slice_of(NULL, 0));
    }
}

static bool begins(struct slice line, const char *with)
{
    return line.size >= strlen(with) && memcmp(line.bytes, with, strlen(with)) == 0;
}

static void left(struct client *client)
{
    struct logins *logins = client->logins;
    logins->counters.logins++;
    if (measured(logins)) {
        logins->counters.measured++;
        histogram_record(&logins->latency, logins->now_ns - client->begun_ns);
    }
    client->state = LOGINS_OVER;
}

static void line_came(struct client *client, struct slice line)
{
    bool untagged = begins(line, "* ");
    switch (client->state) {
    case LOGINS_GREETING:
        if (begins(line, "* OK")) {
            authenticate(client);
        } else {
            refused(client, line);
        }
        return;
    case LOGINS_FIRST:
    case LOGINS_PROOF:
        challenged(client, line);
        return;
    case LOGINS_ANSWER:
        if (begins(line, "a OK")) {
            client->state = LOGINS_LEAVING;
            say(client, "b LOGOUT", slice_of(NULL, 0));
        } else if (!untagged) {
            refused(client, line);
        }
        return;
    case LOGINS_LEAVING:
        if (begins(line, "b OK")) {
            left(client);
        } else if (!untagged) {
            refused(client, line);
        }
        return;
    case LOGINS_IDLE:
    case LOGINS_CONNECTING:
    case LOGINS_SECURING:
    case LOGINS_OVER:
        return;
    }
}

/* Each line is whole before it is looked at, and no longer than fits. */
static void octet_came(struct client *client, uint8_t octet)
{
    if (octet != '\n' && client->line_bytes < LINE_BYTES_MAX) {
        client->line[client->line_bytes++] = (char)octet;
        return;
    }
    size_t size = client->line_bytes;
    size -= size > 0 && client->line[size - 1] == '\r';
    client->line_bytes = 0;
    line_came(client, slice_of(client->line, size));
}

static void lines_read(struct client *client)
{
    struct slice slices[4];
    while (client->stream != NULL) {
        size_t count = stream_peek(client->stream, slices, 4), bytes = 0;
        if (count == 0) {
            return;
        }
        char text[LINE_BYTES_MAX];
        for (size_t i = 0; i < count && bytes < sizeof(text); i++) {
            struct slice some = slice_first(slices[i], sizeof(text) - bytes);
            memcpy(text + bytes, some.bytes, some.size);
            bytes += some.size;
        }
        stream_consume(client->stream, bytes);
        for (size_t i = 0; i < bytes && client->stream != NULL; i++) {
            octet_came(client, (uint8_t)text[i]);
        }
    }
}

static void notified(struct stream *stream, uint32_t events, void *session);

static void connected(struct client *client)
{
    struct logins *logins = client->logins;
    if (client->state != LOGINS_CONNECTING || logins->secure == NULL) {
        logins->opening_count -= client->state == LOGINS_CONNECTING;
        client->state = LOGINS_GREETING;
        return;
    }
    logins->opening_count--;
    client->state = LOGINS_SECURING;
    struct stream *below = client->stream;
    if (secure_connect(logins->secure, below, (unsigned)(client - logins->clients),
                       &client->stream) < 0) {
        logins->counters.lost++;
        client->stream = NULL;
        client->state = LOGINS_IDLE;
        return;
    }
    client->stream->notify = notified;
    client->stream->session = client;
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct client *client = (struct client *)session;
    (void)stream;
    if (events & STREAM_CONNECTED) {
        connected(client);
    }
    if (client->stream != NULL && (events & STREAM_READABLE)) {
        lines_read(client);
    }
    if (client->stream != NULL && (events & (STREAM_HALF_CLOSED | STREAM_CLOSED))) {
        lost(client);
    }
}

static void client_connect(struct client *client)
{
    struct logins *logins = client->logins;
    const struct connect_request request = {.to = logins->settings.at,
                                            .timeout_ns = 10000000000ull};
    if (logins->network->ops->connect(logins->network, &request, &client->stream) < 0) {
        client->stream = NULL;
        logins->counters.lost++;
        client->due_ns = logins->now_ns + AGAIN_NS;
        return;
    }
    client->user = logins->next_user++ % logins->settings.users;
    client->begun_ns = logins->now_ns;
    client->line_bytes = 0;
    client->state = LOGINS_CONNECTING;
    client->stream->notify = notified;
    client->stream->session = client;
    logins->opening_count++;
}

bool logins_round(struct logins *logins, uint64_t now_ns)
{
    logins->now_ns = now_ns;
    if ((double)(now_ns - logins->begun_ns) / 1e9 >= logins->settings.seconds) {
        return false;
    }
    if (logins->secure != NULL) {
        secure_round(logins->secure, now_ns);
    }
    for (uint32_t i = 0; i < logins->settings.connections && logins->opening_count < OPENING_MAX;
         i++) {
        struct client *client = &logins->clients[i];
        if (client->stream == NULL && client->due_ns <= now_ns) {
            client_connect(client);
        }
    }
    return true;
}

int logins_open(struct logins **opened, struct network *network, const struct world *world,
                const struct logins_settings *settings)
{
    check(settings->connections > 0 && settings->users > 0);
    if (strlen(settings->password) > PASSWORD_BYTES_MAX) {
        return -EINVAL;
    }
    struct logins *logins =
        calloc(1, sizeof(*logins) + settings->connections * sizeof(logins->clients[0]));
    if (logins == NULL) {
        return -ENOMEM;
    }
    logins->settings = *settings;
    logins->network = network;
    logins->world = world;
    logins->begun_ns = logins->now_ns = world_now_ns(world);
    for (uint32_t i = 0; i < settings->connections; i++) {
        logins->clients[i].logins = logins;
    }
    const struct tls_rules rules = {.suites = settings->suites, .version_min = TLS_1_3};
    int status = settings->secure == SECURE_NOT
                     ? 0
                     : secure_open(&logins->secure, world, settings->secure, &rules);
    if (status < 0) {
        logins_close(logins);
        return status;
    }
    *opened = logins;
    return 0;
}

void logins_close(struct logins *logins)
{
    for (uint32_t i = 0; i < logins->settings.connections; i++) {
        struct client *client = &logins->clients[i];
        if (client->stream != NULL) {
            stream_abort(client->stream);
        }
        if (client->stream != NULL) { /* not every network says so before the next round */
            let_go(client);
        }
    }
    secure_close(logins->secure);
    scram_client_keys_drop(&logins->keys);
    free(logins);
}

bool logins_have_work(const struct logins *logins)
{
    return logins->secure != NULL && secure_has_work(logins->secure);
}

const struct logins_counters *logins_counters(const struct logins *logins)
{
    return &logins->counters;
}

const struct histogram *logins_latency(const struct logins *logins)
{
    return &logins->latency;
}

const struct secure *logins_secure(const struct logins *logins)
{
    return logins->secure;
}

double logins_measured_s(const struct logins *logins)
{
    return logins->settings.seconds - logins->settings.warmup_s;
}

const char *logins_trouble(const struct logins *logins)
{
    return logins->trouble;
}
