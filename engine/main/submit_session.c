/* The way to the relay: its SMTP, spoken over a socket that may block, since nobody else waits. */
#include "engine/core/endpoint.h"
#include "engine/main/tubepost.h"
#include "engine/main/tubepost_submit.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MINUTE_NS (60ull * 1000000000ull)
#define PATIENCE_S 600

struct session {
    const struct submit *submit;
    struct smtp_client client;
    int fd;
    uint32_t taken;
    int code; /* what to exit with */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static bool write_all(int fd, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t written = send(fd, bytes.bytes, bytes.size, MSG_NOSIGNAL);
        if (written < 0 && errno != EINTR) {
            return false;
        }
        bytes = slice_from(bytes, written > 0 ? (size_t)written : 0);
    }
    return true;
}

static void result_take(struct session *session, const struct smtp_client_result *result)
{
    struct slice path = session->submit->recipients[result->index].forward_path;
    if (result->outcome == SMTP_CLIENT_ACCEPTED) {
        session->taken++;
        return;
    }
    session->code = result->outcome == SMTP_CLIENT_PERMANENT && session->code != EX_TEMPFAIL
                        ? EX_UNAVAILABLE
                        : EX_TEMPFAIL;
    fprintf(stderr, "sendmail: <%.*s>: ", (int)path.size, (const char *)path.bytes);
    if (result->code != 0) {
        fprintf(stderr, "%u ", result->code);
    }
    fprintf(stderr, "%.*s\n", (int)result->text.size, (const char *)result->text.bytes);
}

static bool output_write(struct session *session)
{
    for (struct slice out; (out = smtp_client_output(&session->client)).size > 0;) {
        if (!write_all(session->fd, out)) {
            return false;
        }
        smtp_client_output_sent(&session->client, now_ns());
    }
    return true;
}

/* What the machine wants next. False: it wants more input, or nothing at all (*over). */
static bool want_serve(struct session *session, enum smtp_client_want want, bool *begun, bool *over,
                       const struct smtp_client_result *result)
{
    const struct submit *submit = session->submit;
    switch (want) {
    case SMTP_CLIENT_WANT_RESULT:
        result_take(session, result);
        return true;
    case SMTP_CLIENT_WANT_MESSAGE:
        if (!*begun) {
            const struct smtp_client_message message = {
                .reverse_path = slice_text(submit->sender),
                .flags = submit->eight_bit ? SMTP_CLIENT_8BITMIME : 0u,
                .recipient_count = submit->recipient_count,
                .body_bytes = submit->body_bytes,
                .recipients = submit->recipients,
                .envid = slice_text(submit->envid != NULL ? submit->envid : ""),
                .ret = submit->ret};
            *begun = true;
            smtp_client_begin(&session->client, &message, now_ns());
        } else {
            smtp_client_quit(&session->client, now_ns());
        }
        return true;
    case SMTP_CLIENT_WANT_BODY:
        if (!write_all(session->fd, slice_of(submit->body, submit->body_bytes))) {
            smtp_client_closed(&session->client, "lost in the message");
        } else {
            smtp_client_body_sent(&session->client, now_ns());
        }
        return true;
    case SMTP_CLIENT_WANT_CLOSE:
    case SMTP_CLIENT_WANT_TLS: /* is not asked for */
        *over = true;
        return false;
    case SMTP_CLIENT_WANT_INPUT:
        return false;
    }
    return false;
}

static void converse(struct session *session)
{
    char buffer[4096];
    size_t filled = 0;
    bool begun = false, over = false;
    while (!over) {
        struct smtp_client_result result;
        size_t used = 0;
        enum smtp_client_want want =
            smtp_client_input(&session->client, now_ns(), slice_of(buffer, filled), &used, &result);
        memmove(buffer, buffer + used, filled - used);
        filled -= used;
        bool served = want_serve(session, want, &begun, &over, &result);
        if (!output_write(session)) {
            smtp_client_closed(&session->client, "connection lost");
            continue;
        }
        if (served || over || filled > 0) {
            continue;
        }
        ssize_t size = recv(session->fd, buffer, sizeof(buffer), 0);
        if (size > 0) {
            filled = (size_t)size;
        } else if (size == 0 || errno != EINTR) {
            smtp_client_closed(&session->client,
                               size == 0 ? "the relay has closed the connection" : strerror(errno));
        }
    }
    const struct smtp_client_result *failure = smtp_client_failure(&session->client);
    if (failure != NULL && session->taken == 0 && session->code == EX_OK) {
        session->code = tool_fail(EX_TEMPFAIL, "the relay says: %.*s", (int)failure->text.size,
                                  (const char *)failure->text.bytes);
    }
}

int submit_send(const struct submit *submit, const struct endpoint *to)
{
    static const struct timeval patience = {.tv_sec = PATIENCE_S};
    const struct smtp_client_settings settings = {.hostname = slice_text(submit->hostname),
                                                  .pipelining = true,
                                                  .greeting_ns = 5 * MINUTE_NS,
                                                  .reply_ns = 5 * MINUTE_NS,
                                                  .data_start_ns = 2 * MINUTE_NS,
                                                  .data_block_ns = 3 * MINUTE_NS,
                                                  .data_end_ns = 10 * MINUTE_NS,
                                                  .quit_ns = MINUTE_NS};
    struct session session = {.submit = submit};
    struct sockaddr_storage address;
    char name[ENDPOINT_TEXT_MAX];
    socklen_t size = endpoint_to_sockaddr(to, &address);
    endpoint_format(to, name);
    session.fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (session.fd < 0 || connect(session.fd, (struct sockaddr *)&address, size) < 0) {
        int code = tool_fail(EX_TEMPFAIL, "%s: %s; does tubepostd run?", name, strerror(errno));
        if (session.fd >= 0) {
            close(session.fd);
        }
        return code;
    }
    setsockopt(session.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(session.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    smtp_client_open(&session.client, &settings, now_ns());
    converse(&session);
    close(session.fd);
    return session.code;
}
