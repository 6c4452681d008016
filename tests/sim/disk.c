#include "tests/sim/disk.h"
#include <string.h>

void sim_disk_forget(struct disk_fault *fault)
{
    const char *name;
    for (uint32_t i = 0; (name = disk_fault_name(fault, i)) != NULL; i++) {
        uint64_t bytes;
        uint8_t *content = disk_fault_bytes(fault, name, &bytes);
        uint64_t end = bytes;
        while (end > 0 && content[end - 1] == 0) {
            end--;
        }
        if (end > 2 * DISK_BLOCK_BYTES) {
            memset(content + DISK_BLOCK_BYTES, 0, end - DISK_BLOCK_BYTES);
        }
    }
}
