/*
 * dovecot_socket: the client's protocol of Dovecot's authentication service, the server's side of one connection,
 * without I/O.
 *
 * For programs that ask a Dovecot socket who may log in (Postfix's smtpd_sasl_type, Exim, Prosody). The owner reads and
 * writes a unix socket and runs the exchanges with proto/sasl and auth.h:
 *
 *     taken = dovecot_socket_input(socket, input, &event)   then consume `taken`; again while it takes or gives events
 *
 * An AUTH or CONT is answered by dovecot_socket_continue, _ok or _fail, in any order, by its id. What is to be sent
 * gathers in dovecot_socket_output; when there is no room for another line no input is taken. Slices of an event are
 * borrowed until the next call.
 *
 * Lines of fields with tabs between; a tab, LF, NUL or \x01 in a field is escaped by \x01. The server begins: VERSION,
 * MECH lines, SPID, CUID, COOKIE, DONE. The client says VERSION and CPID. Another major version ends the connection.
 *
 * Source: Dovecot's documentation, "Authentication protocol", version 1.2.
 */
#pragma once
#include "proto/sasl/mechanism.h"

#define DOVECOT_LINE_BYTES_MAX 16384u
#define DOVECOT_OUTPUT_BYTES 20000u
#define DOVECOT_CHALLENGE_MAX 9300u /* longer: it fails instead */
#define DOVECOT_NAME_MAX 320u

enum dovecot_event_kind {
    DOVECOT_NOTHING,
    DOVECOT_AUTH,   /* id, mechanism, and what is known of the client's client */
    DOVECOT_ANSWER, /* CONT: id, octets */
    DOVECOT_CANCEL, /* id: nobody wants to know any more; unanswered */
    DOVECOT_ENDED,  /* the client has broken the protocol: close */
};

struct dovecot_event {
    enum dovecot_event_kind kind;
    uint32_t id;
    struct slice mechanism, service;
    struct slice octets; /* decoded */
    bool has_octets;
    bool secured; /* its connection is encrypted, or that is all the same */
    bool no_penalty;
    bool certificate_valid;
    struct slice certificate_name;
    struct slice remote_ip, local_ip; /* text; empty: not said */
    uint16_t remote_port, local_port;
};

struct dovecot_facts {
    uint32_t mechanisms; /* SASL_BITs */
    uint32_t server_pid, connection_id;
    uint8_t cookie[16]; /* octets that nobody can tell */
};

struct dovecot_socket {
    bool version_seen, pid_seen, ended;
    uint32_t client_pid;
    uint16_t line_bytes;
    uint16_t output_from, output_bytes;
    char line[DOVECOT_LINE_BYTES_MAX];
    char output[DOVECOT_OUTPUT_BYTES];
};

/* Writes what the server says first. */
void dovecot_socket_open(struct dovecot_socket *socket, const struct dovecot_facts *facts);
size_t dovecot_socket_input(struct dovecot_socket *socket, struct slice input,
                            struct dovecot_event *event);

/* Each has room while input is taken, one answer an event. A challenge too long becomes a failure: false. */
bool dovecot_socket_continue(struct dovecot_socket *socket, uint32_t id, struct slice challenge);
void dovecot_socket_ok(struct dovecot_socket *socket, uint32_t id, struct slice user);
enum dovecot_failure { DOVECOT_WRONG, DOVECOT_TEMPORARY };
/* user: empty where it is not known. */
void dovecot_socket_fail(struct dovecot_socket *socket, uint32_t id, struct slice user,
                         enum dovecot_failure failure);

/* Room for an answer; without it answers wait. */
bool dovecot_socket_has_room(const struct dovecot_socket *socket);
struct slice dovecot_socket_output(const struct dovecot_socket *socket);
void dovecot_socket_sent(struct dovecot_socket *socket, size_t bytes);
