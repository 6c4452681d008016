#include "tests/wire/wire_run.h"

#define BUFFER_BYTES (4u << 20)

static int64_t number_of(const struct wire_invocation *invocation, unsigned index)
{
    const struct wire_value *value = &invocation->arguments[index];
    if (index >= invocation->argument_count || value->kind == WIRE_ELLIPSIS) {
        return 0;
    }
    return value->kind == WIRE_NUMBER ? value->number : value->numbers[0];
}

static int fd_of(const struct wire_run *run, int64_t script_fd)
{
    return script_fd >= 0 && script_fd < (int64_t)WIRE_SOCKETS_MAX ? run->fds[script_fd] : -1;
}

static struct endpoint endpoint_of(const struct wire_run *run, const uint8_t *address)
{
    struct endpoint endpoint = {.family = run->path.ipv6 ? ENDPOINT_IPV6 : ENDPOINT_IPV4,
                                .port = 8080};
    memcpy(endpoint.address, address, run->path.ipv6 ? 16 : 4);
    return endpoint;
}

/* Did it answer as told? A descriptor is remembered under the script's number. */
static bool answered(struct wire_run *run, const struct wire_event *event, int64_t result)
{
    const struct wire_invocation *told = &event->invocation;
    bool makes_fd = strcmp(told->name, "socket") == 0 || strcmp(told->name, "accept") == 0;
    if (makes_fd && result >= 0 && told->result >= 0 && told->result < (int64_t)WIRE_SOCKETS_MAX) {
        run->fds[told->result] = (int)result;
        return true;
    }
    int error = result < 0 ? (int)-result : 0;
    result = result < 0 ? -1 : result;
    if (result != told->result || (told->error != 0 && told->error != error)) {
        return wire_run_fail(run, event->line, "%s: expected %ld%s%s, but it returned %ld%s%s",
                             told->name, told->result, told->error != 0 ? " " : "",
                             told->error != 0 ? strerrorname_np(told->error) : "", result,
                             error != 0 ? " " : "", error != 0 ? strerrorname_np(error) : "");
    }
    return true;
}

static struct pollfd *polled_make(const struct wire_run *run, const struct wire_value *value)
{
    static struct pollfd polled[WIRE_VALUES_MAX];
    for (unsigned i = 0; i + 2 < value->count; i += 3) {
        polled[i / 3] = (struct pollfd){.fd = fd_of(run, value->numbers[i]),
                                        .events = (short)value->numbers[i + 1]};
    }
    return polled;
}

static bool polled_right(struct wire_run *run, const struct wire_event *event,
                         const struct wire_call *call)
{
    const struct wire_value *told = &event->invocation.arguments[0];
    for (unsigned i = 0; i < call->size && i * 3 + 2 < told->count; i++) {
        short revents = (short)told->numbers[i * 3 + 2];
        if (call->polled[i].revents != revents) {
            return wire_run_fail(run, event->line, "poll: expected revents %#x, but they are %#x",
                                 (unsigned)revents, (unsigned)call->polled[i].revents);
        }
    }
    return true;
}

/* False: it is no call that may block. */
static bool call_make(struct wire_run *run, const struct wire_event *event, struct wire_call *call)
{
    static uint8_t buffer[BUFFER_BYTES];
    const struct wire_invocation *told = &event->invocation;
    const char *name = told->name;
    size_t size = (size_t)number_of(told, 2);
    *call = (struct wire_call){.fd = fd_of(run, number_of(told, 0)), .size = size};
    if (strcmp(name, "accept") == 0) {
        call->operation = WIRE_ACCEPT;
    } else if (strcmp(name, "connect") == 0) {
        call->operation = WIRE_CONNECT;
        call->peer = endpoint_of(run, run->path.remote);
    } else if (strcmp(name, "read") == 0 || strcmp(name, "recv") == 0 ||
               strcmp(name, "recvfrom") == 0) {
        call->operation = WIRE_READ;
        call->buffer = size <= sizeof(buffer) ? buffer : NULL;
        call->flags = (int)number_of(told, 3);
    } else if (strcmp(name, "write") == 0 || strcmp(name, "send") == 0 ||
               strcmp(name, "sendto") == 0) {
        call->operation = WIRE_WRITE;
        call->flags = (int)number_of(told, 3);
    } else if (strcmp(name, "poll") == 0) {
        call->operation = WIRE_POLL;
        call->polled = polled_make(run, &told->arguments[0]);
        call->size = (size_t)number_of(told, 1);
        call->until_ns = size == (size_t)-1 ? WHEEL_NEVER : run->host.now_ns + size * MS_NS;
    } else {
        return false;
    }
    return true;
}

static int64_t option_set(struct wire_run *run, const struct wire_invocation *told, int fd)
{
    const struct wire_value *value = &told->arguments[3];
    int numbers[2] = {(int)number_of(told, 3), value->count > 1 ? (int)value->numbers[1] : 0};
    socklen_t bytes = (socklen_t)(value->count > 1 ? sizeof(numbers) : sizeof(numbers[0]));
    return wire_socket_set(&run->sockets, fd, (int)number_of(told, 1), (int)number_of(told, 2),
                           numbers, bytes);
}

static int64_t option_get(struct wire_run *run, const struct wire_event *event, int fd)
{
    const struct wire_invocation *told = &event->invocation;
    int number = 0;
    socklen_t bytes = sizeof(number);
    int status = wire_socket_get(&run->sockets, fd, (int)number_of(told, 1),
                                 (int)number_of(told, 2), &number, &bytes);
    if (status == 0 && number != number_of(told, 3)) {
        wire_run_fail(run, event->line, "getsockopt: expected %ld, but it is %d",
                      number_of(told, 3), number);
    }
    return status;
}

static int64_t control(struct wire_run *run, const struct wire_event *event, int fd)
{
    const struct wire_invocation *told = &event->invocation;
    int number = 0;
    int status = wire_socket_ioctl(&run->sockets, fd, (unsigned long)number_of(told, 1), &number);
    if (status == 0 && number != number_of(told, 2)) {
        wire_run_fail(run, event->line, "ioctl: expected %ld, but it is %d", number_of(told, 2),
                      number);
    }
    return status;
}

static int64_t listen_now(struct wire_run *run, int fd)
{
    run->under_test = WIRE_TEST_LISTENS;
    return wire_socket_listen(&run->sockets, fd);
}

static bool call_at_once(struct wire_run *run, const struct wire_event *event)
{
    const struct wire_invocation *told = &event->invocation;
    struct wire_sockets *sockets = &run->sockets;
    int fd = fd_of(run, number_of(told, 0)), domain = run->path.ipv6 ? AF_INET6 : AF_INET;
    const struct endpoint local = endpoint_of(run, run->path.local);
    int64_t result;
    if (strcmp(told->name, "socket") == 0) {
        result =
            wire_socket_make(sockets, domain, (int)number_of(told, 1), (int)number_of(told, 2));
    } else if (strcmp(told->name, "bind") == 0) {
        result = wire_socket_bind(sockets, fd, &local);
    } else if (strcmp(told->name, "listen") == 0) {
        result = listen_now(run, fd);
    } else if (strcmp(told->name, "shutdown") == 0) {
        result = wire_socket_shutdown(sockets, fd, (int)number_of(told, 1));
    } else if (strcmp(told->name, "close") == 0) {
        result = wire_socket_shut(sockets, fd);
    } else if (strcmp(told->name, "fcntl") == 0) {
        result = wire_socket_fcntl(sockets, fd, (int)number_of(told, 1), (int)number_of(told, 2));
    } else if (strcmp(told->name, "setsockopt") == 0) {
        result = option_set(run, told, fd);
    } else if (strcmp(told->name, "getsockopt") == 0) {
        result = option_get(run, event, fd);
    } else if (strcmp(told->name, "ioctl") == 0) {
        result = control(run, event, fd);
    } else {
        return wire_run_fail(run, event->line, "call not known: %s", told->name);
    }
    wire_host_round(&run->host);
    return !run->failed && answered(run, event, result);
}

bool wire_run_call(struct wire_run *run, const struct wire_event *event, int64_t end_us)
{
    struct wire_call call;
    if (!call_make(run, event, &call)) {
        return call_at_once(run, event);
    }
    if (call.operation == WIRE_CONNECT && run->under_test != WIRE_TEST_OPEN) {
        run->under_test = WIRE_TEST_CONNECTS;
        run->local_isn_known = false;
        run->path.remote_port = 8080;
        run->path.local_port = 0;
    }
    if (event->invocation.blocks && run->pending_event != NULL) {
        return wire_run_fail(run, event->line, "another call is still blocked");
    }
    bool finished = wire_call_try(&run->sockets, &call);
    if (event->invocation.blocks) {
        run->pending = call;
        run->pending_event = event;
        run->pending_end_us = end_us;
    }
    wire_host_round(&run->host);
    if (event->invocation.blocks) {
        return wire_run_pending_ended(run);
    }
    if (!finished) {
        return wire_run_fail(run, event->line, "%s blocks: such a call needs a time range",
                             event->invocation.name);
    }
    return answered(run, event, call.result) &&
           (call.operation != WIRE_POLL || polled_right(run, event, &call));
}

bool wire_run_pending_ended(struct wire_run *run)
{
    const struct wire_event *event = run->pending_event;
    const struct wire_call *call = &run->pending;
    if (event == NULL || !call->finished) {
        return true;
    }
    run->pending_event = NULL;
    int64_t at_us = (int64_t)((call->finished_ns - run->start_ns) / 1000);
    return wire_run_time_right(run, event, at_us, run->pending_end_us, run->pending_end_us,
                               "the call's return") &&
           answered(run, event, call->result) &&
           (call->operation != WIRE_POLL || polled_right(run, event, call));
}
