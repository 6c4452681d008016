/*
 * Dovecot's authentication protocol against any client, cut anywhere. The first byte says how the rest is cut; the same
 * octets are then given whole, and must be the same events.
 */
#include "engine/auth/dovecot_socket.h"
#include "engine/core/check.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static uint64_t hash_add(uint64_t hash, struct slice octets)
{
    hash = (hash ^ octets.size) * 0x100000001b3ull;
    for (size_t i = 0; i < octets.size; i++) {
        hash = (hash ^ octets.bytes[i]) * 0x100000001b3ull;
    }
    return hash;
}

static uint64_t event_hash(uint64_t hash, const struct dovecot_event *event)
{
    const uint32_t numbers[] = {event->kind, event->id, event->remote_port, event->secured};
    hash = hash_add(hash, slice_of(numbers, sizeof(numbers)));
    hash = hash_add(hash, event->mechanism);
    hash = hash_add(hash, event->service);
    hash = hash_add(hash, event->remote_ip);
    return hash_add(hash, event->octets);
}

static uint64_t run(const uint8_t *bytes, size_t size, size_t cut)
{
    const struct dovecot_facts facts = {.mechanisms = SASL_BIT(SASL_PLAIN)};
    struct dovecot_socket *socket = malloc(sizeof(*socket));
    uint64_t hash = 1;
    check(socket != NULL);
    dovecot_socket_open(socket, &facts);
    for (size_t at = 0; at < size;) {
        struct dovecot_event event;
        size_t part = size - at < cut ? size - at : cut;
        uint8_t *copy = malloc(part);
        check(copy != NULL);
        memcpy(copy, bytes + at, part);
        dovecot_socket_sent(socket, dovecot_socket_output(socket).size);
        size_t taken = dovecot_socket_input(socket, slice_of(copy, part), &event);
        free(copy);
        check(taken <= part && (taken > 0 || event.kind == DOVECOT_ENDED));
        at += taken;
        if (event.kind != DOVECOT_NOTHING) {
            hash = event_hash(hash, &event);
        }
        if (event.kind == DOVECOT_ENDED) {
            break;
        }
        if (event.kind == DOVECOT_AUTH || event.kind == DOVECOT_ANSWER) {
            dovecot_socket_continue(socket, event.id, event.octets);
        }
    }
    free(socket);
    return hash;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 1) {
        return 0;
    }
    check(run(bytes + 1, size - 1, size) == run(bytes + 1, size - 1, (size_t)(bytes[0] % 17) + 1));
    return 0;
}
