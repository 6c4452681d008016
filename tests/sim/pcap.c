#include "tests/sim/pcap.h"
#include <errno.h>
#include <stdio.h>

#define PCAP_NANOSECONDS 0xa1b23c4du /* the magic number of files with nanoseconds */
#define PCAP_ETHERNET 1u

static FILE *file;

int pcap_open(const char *path)
{
    const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap_bytes, link;
    } head = {PCAP_NANOSECONDS, 2, 4, 0, 0, 65535, PCAP_ETHERNET};
    file = fopen(path, "we");
    if (file != NULL) {
        setvbuf(file, NULL, _IONBF, 0); /* a run that fails closes nothing */
    }
    return file == NULL || fwrite(&head, sizeof(head), 1, file) != 1 ? -errno : 0;
}

void pcap_frame(uint64_t now_ns, const uint8_t *frame, uint32_t size)
{
    if (file != NULL) {
        const uint32_t head[4] = {(uint32_t)(now_ns / 1000000000), (uint32_t)(now_ns % 1000000000),
                                  size, size};
        fwrite(head, sizeof(head), 1, file);
        fwrite(frame, size, 1, file);
    }
}

void pcap_close(void)
{
    if (file != NULL) {
        fclose(file);
        file = NULL;
    }
}
