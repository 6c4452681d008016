/* Users of LDAP, without a server of it: what the file must say, and what a server's results mean. */
#include "engine/auth/directory.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static char path[64], name[128];
static struct directory *directory;
static struct logger logger;
static int log_pipe[2];

static void random_fill(void *self, void *bytes, size_t count)
{
    (void)self;
    memset(bytes, 7, count);
}

static const struct world world = {.random = random_fill};

static void file_write(const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(path, sizeof(path), "/tmp/test_backend_ldap.XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    snprintf(name, sizeof(name), "ldap-bind:%s", path);
    assert_int_equal(pipe(log_pipe), 0);
    logger_open(&logger, log_pipe[1], LOGGER_INFO);
    directory = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (directory != NULL) {
        directory_close(directory);
    }
    close(log_pipe[0]);
    close(log_pipe[1]);
    return unlink(path);
}

static const char *logged(void)
{
    static char text[4096];
    ssize_t size = read(log_pipe[0], text, sizeof(text) - 1);
    text[size < 0 ? 0 : size] = '\0';
    return text;
}

static int opened(char problem[BACKEND_PROBLEM_MAX])
{
    const char *const backends[] = {name, NULL};
    const struct directory_settings settings = {.backends = backends,
                                                .world = &world,
                                                .logger = &logger,
                                                .scheme = "PLAIN",
                                                .penalty = {.block_after = UINT32_MAX}};
    return directory_open(&directory, &settings, problem);
}

static enum auth_outcome ask_of_tim(enum auth_ask_kind kind, const char *password)
{
    struct auth_answer answer;
    const struct auth_ask ask = {.kind = kind,
                                 .credential = AUTH_SCRAM_SHA_256,
                                 .method = "PLAIN",
                                 .authid = slice_text("tim"),
                                 .password = slice_text(password)};
    directory_answer(directory, &ask, 1, &answer);
    return answer.outcome;
}

static void what_an_ldap_file_lacks_is_told(void **state)
{
    static const struct {
        const char *text, *told;
    } rows[] = {
        {"", "user_dn or query_filter is expected"},
        {"user_dn = uid=%s,dc=x\nquery_filter = (uid=%s)\nsearch_base = dc=x\n",
         "user_dn or query_filter is expected"},
        {"query_filter = (uid=%s)\n", "\"search_base\" is missing"},
        {"user_dn = uid=%s\nscope = all\n", "scope: sub, one or base is expected"},
        {"user_dn = uid=%s\ntimeout = 0\n", "timeout: 1 to 300 seconds are expected"},
        {"user_dn = uid=%s\nstart_tls = true\n", "start_tls: yes or no is expected"},
        {"user_dn = uid=%s\nserver_hosts = x\n", "server_hosts"},
    };
    char problem[BACKEND_PROBLEM_MAX];
    (void)state;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        file_write(rows[i].text);
        assert_int_equal(opened(problem), -EINVAL);
        assert_non_null(strstr(problem, rows[i].told));
    }
    directory = NULL;
}

/* Port 1: nobody is there. An empty password is never asked with: a directory would take it for no question. */
static void an_ldap_server_that_is_out_of_reach_is_no_verdict(void **state)
{
    char problem[BACKEND_PROBLEM_MAX];
    (void)state;
    file_write("server_host = ldap://127.0.0.1:1\nuser_dn = uid=%s,dc=x\n");
    assert_int_equal(opened(problem), 0);
    assert_int_equal(ask_of_tim(AUTH_VERIFY, "secret"), AUTH_UNKNOWN);
    assert_non_null(strstr(logged(), "auth: ldap-bind: ldap://127.0.0.1:1: "));
    assert_int_equal(ask_of_tim(AUTH_VERIFY, ""), AUTH_WRONG);
    assert_int_equal(ask_of_tim(AUTH_CREDENTIAL, ""), AUTH_WRONG);
}

/* ---- A directory that answers each request with a result of the table ---- */

struct ldap_peer {
    pthread_t thread;
    int socket;
    uint16_t port;
    const uint8_t *results;
    size_t count;
};

static bool octets_read(int from, uint8_t *octets, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t more = read(from, octets + got, size - got);
        if (more <= 0) {
            return false;
        }
        got += (size_t)more;
    }
    return true;
}

/* Requests and answers are shorter than 128 octets, and so are their numbers (RFC 4511 §5.1). */
static void *ldap_peer_run(void *peer_given)
{
    const struct ldap_peer *peer = (const struct ldap_peer *)peer_given;
    uint8_t request[130];
    int client = accept(peer->socket, NULL, NULL);
    for (size_t i = 0; i < peer->count; i++) {
        if (!octets_read(client, request, 2) || !octets_read(client, request + 2, request[1])) {
            break;
        }
        const uint8_t answer[] = {0x30,       12,
                                  2,          1,
                                  request[4], (uint8_t)(request[5] == 0x60 ? 0x61 : 0x65),
                                  7,          0x0a,
                                  1,          peer->results[i],
                                  4,          0,
                                  4,          0};
        if (write(client, answer, sizeof(answer)) != (ssize_t)sizeof(answer)) {
            break;
        }
    }
    (void)octets_read(client, request, sizeof(request)); /* until it leaves */
    close(client);
    return NULL;
}

static void ldap_peer_start(struct ldap_peer *peer, const uint8_t *results, size_t count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    peer->results = results;
    peer->count = count;
    peer->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(peer->socket >= 0);
    assert_int_equal(bind(peer->socket, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(peer->socket, 1), 0);
    assert_int_equal(getsockname(peer->socket, (struct sockaddr *)&at, &size), 0);
    peer->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&peer->thread, NULL, ldap_peer_run, peer), 0);
}

static void ldap_peer_end(struct ldap_peer *peer)
{
    pthread_join(peer->thread, NULL);
    close(peer->socket);
}

/* What the service itself did wrong has been told as the client's wrong password, and remembered. */
static void only_the_clients_own_bind_is_a_verdict_of_ldap(void **state)
{
    enum { OK, NO_SUCH_OBJECT = 32, INVALID_DN = 34, INAPPROPRIATE = 48, INVALID = 49 };
    static const struct {
        const char *who;
        uint8_t results[3];
        size_t count;
        enum auth_outcome outcome;
    } rows[] = {
        {"user_dn = uid=%s", {OK}, 1, AUTH_RIGHT},
        {"user_dn = uid=%s", {INVALID}, 1, AUTH_WRONG},
        {"user_dn = uid=%s", {INAPPROPRIATE}, 1, AUTH_WRONG},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {INVALID}, 1, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {INAPPROPRIATE}, 1, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {INVALID_DN}, 1, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {NO_SUCH_OBJECT}, 1, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {OK, INVALID_DN}, 2, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {OK, NO_SUCH_OBJECT}, 2, AUTH_UNKNOWN},
        {"search_base = dc=x\nquery_filter = (uid=%s)", {OK, OK, INVALID}, 3, AUTH_WRONG},
    };
    char text[256], problem[BACKEND_PROBLEM_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ldap_peer peer;
        ldap_peer_start(&peer, rows[i].results, rows[i].count);
        snprintf(text, sizeof(text), "server_host = ldap://127.0.0.1:%u\n%s\n", peer.port,
                 rows[i].who);
        file_write(text);
        assert_int_equal(opened(problem), 0);
        enum auth_outcome outcome = ask_of_tim(AUTH_VERIFY, "secret");
        ldap_peer_end(&peer);
        if (outcome != rows[i].outcome) {
            fail_msg("row %zu: %d", i, outcome);
        }
        if (outcome == AUTH_UNKNOWN) {
            assert_non_null(strstr(logged(), "auth: ldap-bind: ldap://127.0.0.1:"));
        }
        directory_close(directory);
        directory = NULL;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_an_ldap_file_lacks_is_told),
        TEST(an_ldap_server_that_is_out_of_reach_is_no_verdict),
        TEST(only_the_clients_own_bind_is_a_verdict_of_ldap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
