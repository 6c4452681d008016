#include "engine/auth/dovecot_socket.h"
#include "engine/core/check.h"
#include "engine/core/base64.h"
#include <stdio.h>

#define ANSWER_BYTES_MAX (BASE64_BYTES(DOVECOT_CHALLENGE_MAX) + 64)

_Static_assert(ANSWER_BYTES_MAX <= DOVECOT_OUTPUT_BYTES, "any answer fits in an empty output");
_Static_assert(2 * DOVECOT_NAME_MAX + 64 <= ANSWER_BYTES_MAX, "so does a name of escapes alone");

/* ---- Output ---- */

static size_t room(const struct dovecot_socket *socket)
{
    return sizeof(socket->output) - socket->output_bytes + socket->output_from;
}

bool dovecot_socket_has_room(const struct dovecot_socket *socket)
{
    return room(socket) >= ANSWER_BYTES_MAX;
}

static void add(struct dovecot_socket *socket, struct slice octets)
{
    if (socket->output_from > 0) {
        memmove(socket->output, socket->output + socket->output_from,
                socket->output_bytes - socket->output_from);
        socket->output_bytes = (uint16_t)(socket->output_bytes - socket->output_from);
        socket->output_from = 0;
    }
    check(octets.size <= sizeof(socket->output) - socket->output_bytes);
    if (octets.size > 0) {
        memcpy(socket->output + socket->output_bytes, octets.bytes, octets.size);
        socket->output_bytes = (uint16_t)(socket->output_bytes + octets.size);
    }
}

static void add_text(struct dovecot_socket *socket, const char *text)
{
    add(socket, slice_text(text));
}

/* A field: what would end it, or a line, is written otherwise. */
static void add_escaped(struct dovecot_socket *socket, struct slice field)
{
    for (size_t i = 0; i < field.size; i++) {
        switch (field.bytes[i]) {
        case '\0':
            add_text(socket, "\1"
                             "0");
            break;
        case '\1':
            add_text(socket, "\1"
                             "1");
            break;
        case '\t':
            add_text(socket, "\1t");
            break;
        case '\r':
            add_text(socket, "\1r");
            break;
        case '\n':
            add_text(socket, "\1n");
            break;
        default:
            add(socket, slice_of(field.bytes + i, 1));
        }
    }
}

static void add_begin(struct dovecot_socket *socket, const char *command, uint32_t id)
{
    char text[32];
    snprintf(text, sizeof(text), "%s\t%u", command, id);
    add_text(socket, text);
}

void dovecot_socket_open(struct dovecot_socket *socket, const struct dovecot_facts *facts)
{
    char text[100];
    memset(socket, 0, offsetof(struct dovecot_socket, line));
    add_text(socket, "VERSION\t1\t2\n");
    for (unsigned i = 0; i < SASL_MECHANISMS; i++) {
        bool secret =
            i == SASL_PLAIN || i == SASL_LOGIN || i == SASL_OAUTHBEARER || i == SASL_XOAUTH2;
        if (facts->mechanisms & SASL_BIT(i)) {
            snprintf(text, sizeof(text), "MECH\t%s%s\n", sasl_mechanism_name(i),
                     secret ? "\tplaintext" : "");
            add_text(socket, text);
        }
    }
    snprintf(text, sizeof(text), "SPID\t%u\nCUID\t%u\nCOOKIE\t", facts->server_pid,
             facts->connection_id);
    add_text(socket, text);
    for (unsigned i = 0; i < sizeof(facts->cookie); i++) {
        snprintf(text, sizeof(text), "%02x", facts->cookie[i]);
        add_text(socket, text);
    }
    add_text(socket, "\nDONE\n");
}

void dovecot_socket_ok(struct dovecot_socket *socket, uint32_t id, struct slice user)
{
    add_begin(socket, "OK", id);
    add_text(socket, "\tuser=");
    add_escaped(socket, slice_first(user, DOVECOT_NAME_MAX));
    add_text(socket, "\n");
}

void dovecot_socket_fail(struct dovecot_socket *socket, uint32_t id, struct slice user,
                         enum dovecot_failure failure)
{
    add_begin(socket, "FAIL", id);
    if (user.size > 0) {
        add_text(socket, "\tuser=");
        add_escaped(socket, slice_first(user, DOVECOT_NAME_MAX));
    }
    add_text(socket, failure == DOVECOT_TEMPORARY ? "\ttemp\tcode=temp_fail\n" : "\n");
}

bool dovecot_socket_continue(struct dovecot_socket *socket, uint32_t id, struct slice challenge)
{
    char text[BASE64_BYTES(DOVECOT_CHALLENGE_MAX)];
    if (challenge.size > DOVECOT_CHALLENGE_MAX) {
        dovecot_socket_fail(socket, id, slice_of(NULL, 0), DOVECOT_WRONG);
        return false;
    }
    add_begin(socket, "CONT", id);
    add_text(socket, "\t");
    add(socket, slice_of(text, base64_encode(challenge, text)));
    add_text(socket, "\n");
    return true;
}

struct slice dovecot_socket_output(const struct dovecot_socket *socket)
{
    return slice_of(socket->output + socket->output_from,
                    (size_t)(socket->output_bytes - socket->output_from));
}

void dovecot_socket_sent(struct dovecot_socket *socket, size_t bytes)
{
    check(bytes <= (size_t)(socket->output_bytes - socket->output_from));
    socket->output_from = (uint16_t)(socket->output_from + bytes);
}

/* ---- Input ---- */

/* Takes the next field off *rest and removes its escapes in place. False: there is none. */
static bool field_take(struct slice *rest, struct slice *field)
{
    if (rest->bytes == NULL) {
        return false;
    }
    const uint8_t *tab = rest->size == 0 ? NULL : memchr(rest->bytes, '\t', rest->size);
    size_t size = tab == NULL ? rest->size : (size_t)(tab - rest->bytes);
    uint8_t *place = (uint8_t *)(uintptr_t)rest->bytes;
    size_t kept = 0;
    *rest = tab == NULL ? slice_of(NULL, 0) : slice_of(tab + 1, rest->size - size - 1);
    for (size_t i = 0; i < size; i++) {
        uint8_t octet = place[i];
        if (octet == '\1' && i + 1 < size) {
            octet = place[++i];
            octet = octet == '0'   ? '\0'
                    : octet == '1' ? '\1'
                    : octet == 't' ? '\t'
                    : octet == 'r' ? '\r'
                    : octet == 'n' ? '\n'
                                   : octet;
        }
        place[kept++] = octet;
    }
    *field = slice_of(place, kept);
    return true;
}

static bool number_read(struct slice text, uint32_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < '0' || text.bytes[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.bytes[i] - '0');
        if (value > UINT32_MAX) {
            return false;
        }
    }
    *number = (uint32_t)value;
    return text.size > 0;
}

/* Is the field "name=..."? Then *value is what follows. */
static bool named(struct slice field, const char *name, struct slice *value)
{
    size_t size = strlen(name);
    if (field.size <= size || field.bytes[size] != '=' || memcmp(field.bytes, name, size) != 0) {
        return false;
    }
    *value = slice_from(field, size + 1);
    return true;
}

static bool octets_decode(struct slice text, struct slice *octets)
{
    uint8_t *place = (uint8_t *)(uintptr_t)text.bytes;
    long size = base64_decode(text, place);
    *octets = slice_of(place, size < 0 ? 0 : (size_t)size);
    return size >= 0;
}

static bool port_read(struct slice text, uint16_t *port)
{
    uint32_t number;
    if (!number_read(text, &number) || number > 65535) {
        return false;
    }
    *port = (uint16_t)number;
    return true;
}

/* What is not known is passed over, as the protocol wants it. False: malformed. */
static bool parameter_read(struct slice field, struct dovecot_event *event)
{
    struct slice value;
    event->secured |= slice_equal(field, slice_text("secured")) || named(field, "secured", &value);
    event->no_penalty |= slice_equal(field, slice_text("no-penalty"));
    event->certificate_valid |= slice_equal(field, slice_text("valid-client-cert"));
    if (named(field, "service", &value)) {
        event->service = value;
    } else if (named(field, "rip", &value)) {
        event->remote_ip = value;
    } else if (named(field, "lip", &value)) {
        event->local_ip = value;
    } else if (named(field, "cert_username", &value)) {
        event->certificate_name = value;
    } else if (named(field, "rport", &value)) {
        return port_read(value, &event->remote_port);
    } else if (named(field, "lport", &value)) {
        return port_read(value, &event->local_port);
    }
    return true;
}

static bool auth_run(struct slice rest, struct dovecot_event *event)
{
    struct slice field, value;
    if (!field_take(&rest, &field) || !number_read(field, &event->id) ||
        !field_take(&rest, &event->mechanism) || event->mechanism.size == 0) {
        return false;
    }
    while (field_take(&rest, &field)) {
        if (named(field, "resp", &value)) { /* the last one: base64 has "=" and nothing follows */
            event->has_octets = true;
            if (rest.bytes != NULL || !octets_decode(value, &event->octets)) {
                return false;
            }
        } else if (!parameter_read(field, event)) {
            return false;
        }
    }
    event->kind = DOVECOT_AUTH;
    return event->service.size > 0;
}

static bool cont_run(struct slice rest, struct dovecot_event *event)
{
    struct slice field;
    if (!field_take(&rest, &field) || !number_read(field, &event->id) ||
        !field_take(&rest, &field) || !octets_decode(field, &event->octets)) {
        return false;
    }
    event->has_octets = true;
    event->kind = DOVECOT_ANSWER;
    return true;
}

static bool cancel_run(struct slice rest, struct dovecot_event *event)
{
    struct slice field;
    event->kind = DOVECOT_CANCEL;
    return field_take(&rest, &field) && number_read(field, &event->id);
}

static bool version_run(struct dovecot_socket *socket, struct slice rest)
{
    struct slice field;
    uint32_t major, minor;
    bool good = !socket->version_seen && field_take(&rest, &field) && number_read(field, &major) &&
                field_take(&rest, &field) && number_read(field, &minor) && major == 1;
    socket->version_seen = good;
    return good;
}

static bool pid_run(struct dovecot_socket *socket, struct slice rest)
{
    struct slice field;
    bool good = socket->version_seen && !socket->pid_seen && field_take(&rest, &field) &&
                number_read(field, &socket->client_pid);
    socket->pid_seen = good;
    return good;
}

static bool line_run(struct dovecot_socket *socket, struct slice line, struct dovecot_event *event)
{
    struct slice command;
    field_take(&line, &command);
    if (slice_equal(command, slice_text("VERSION"))) {
        return version_run(socket, line);
    }
    if (slice_equal(command, slice_text("CPID"))) {
        return pid_run(socket, line);
    }
    if (!socket->version_seen || !socket->pid_seen) {
        return false;
    }
    if (slice_equal(command, slice_text("AUTH"))) {
        return auth_run(line, event);
    }
    if (slice_equal(command, slice_text("CONT"))) {
        return cont_run(line, event);
    }
    if (slice_equal(command, slice_text("CANCEL"))) {
        return cancel_run(line, event);
    }
    return true; /* of a later minor version */
}

size_t dovecot_socket_input(struct dovecot_socket *socket, struct slice input,
                            struct dovecot_event *event)
{
    *event = (struct dovecot_event){.kind = socket->ended ? DOVECOT_ENDED : DOVECOT_NOTHING};
    if (socket->ended || input.size == 0 || !dovecot_socket_has_room(socket)) {
        return 0;
    }
    const uint8_t *end = memchr(input.bytes, '\n', input.size);
    size_t size = end == NULL ? input.size : (size_t)(end - input.bytes);
    bool good = size <= sizeof(socket->line) - socket->line_bytes;
    if (good) {
        memcpy(socket->line + socket->line_bytes, input.bytes, size);
        socket->line_bytes = (uint16_t)(socket->line_bytes + size);
        if (end == NULL) {
            return size;
        }
        good = line_run(socket, slice_of(socket->line, socket->line_bytes), event);
        socket->line_bytes = 0;
    }
    if (!good) {
        socket->ended = true;
        *event = (struct dovecot_event){.kind = DOVECOT_ENDED};
    }
    return end == NULL ? size : size + 1;
}
