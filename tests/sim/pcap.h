/* pcap: every frame of a run, for Wireshark. One file a process. */
#pragma once
#include <stdint.h>

/* 0 or -errno. */
int pcap_open(const char *path);
void pcap_frame(uint64_t now_ns, const uint8_t *frame, uint32_t size);
void pcap_close(void);
