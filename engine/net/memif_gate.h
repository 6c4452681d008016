/*
 * memif_gate: makes a net_memif device safe to poll while its peer comes and goes.
 *
 * That driver answers its peer on the EAL's interrupt thread. When the peer goes, it unmaps the
 * rings there and then, although a poll may be reading them; and a client whose server was not yet
 * there is never connected. So the gate holds the interrupt thread still, in a
 * callback of the EAL's alarm, and lets it run for a moment only while no queue is being polled;
 * and it starts a client's device again whose link stays down. What it cannot mend: a client that
 * goes away before the server's interrupt thread has come to it leaves a freed callback in the
 * server (DPDK 22.11), so a client waits long for the answer of a server that it has reached.
 *
 * A process has one interrupt thread, hence one gate for all its devices; this is the only state
 * here that is the process's. Other work of the interrupt thread waits for the next moment: at most
 * 500 ms, or 1 ms while a link is down, as long as queue 0 of some device is being polled.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct memif_gate;

/* For a configured device that was started, or (running: false) could not be because its server is
 * not there. NULL: no memory. Owned until memif_gate_leave. */
struct memif_gate *memif_gate_join(uint16_t port_id, uint16_t queue_count, bool running);
/* Stops and closes the device too, while the interrupt thread is held: it may have the peer's last
 * word in hand, and the driver frees what it is read into. */
void memif_gate_leave(struct memif_gate *);

/* Around each burst. False: the device must not be touched at present, since it is stopped or the
 * interrupt thread is still at work for longer than a moment. */
bool memif_gate_enter(struct memif_gate *, uint16_t queue);
void memif_gate_exit(struct memif_gate *, uint16_t queue);
/* Called often, and outside of a burst, by the thread of queue 0: opens the gate when it is time. */
void memif_gate_tend(struct memif_gate *);
