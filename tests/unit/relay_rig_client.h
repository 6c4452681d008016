/*
 * relay_rig_client: clients of a relay_rig's relay, by SMTP, octet for octet.
 *
 * Each call lets the relay settle; what it has said so far lies in `replies`.
 */
#pragma once
#include "tests/unit/relay_rig.h"

struct rig_client {
    struct relay_rig *rig;
    struct stream *stream;
    bool reads;  /* false: what the relay says stays on its way */
    bool closed; /* the relay has ended it */
    size_t size;
    char replies[1 << 16];
};

/* To the relay's first address, from this one: "192.0.2.77:4000". */
struct rig_client *rig_dial(struct relay_rig *rig, const char *from);
void rig_say(struct rig_client *client, const char *text);
void rig_send(struct rig_client *client, struct slice bytes);
/* As much as the way takes, and nothing runs. False: no room. */
bool rig_put(struct rig_client *client, struct slice bytes);
/* "220 250 354": of what was said since the last call. */
const char *rig_codes(struct rig_client *client);
/* With FIN, or with RST. Frees it. */
void rig_hang_up(struct rig_client *client);
void rig_tear(struct rig_client *client);
