#include "engine/shard/memory.h"
#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EAL_ARGUMENTS_MAX 64
#define EAL_TEXT_BYTES 96

struct eal_arguments {
    char *list[EAL_ARGUMENTS_MAX + 1]; /* the EAL moves these about and overwrites one */
    char *kept[EAL_ARGUMENTS_MAX];
    int count;
};

/* The EAL keeps the pointers, so every argument lives as long as the process. */
static int eal_add(struct eal_arguments *arguments, const char *text)
{
    if (arguments->count == EAL_ARGUMENTS_MAX) {
        return -E2BIG;
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return -ENOMEM;
    }
    arguments->kept[arguments->count] = copy;
    arguments->list[arguments->count++] = copy;
    return 0;
}

static bool eal_says(const struct memory_settings *settings, const char *option)
{
    for (const char *const *next = settings->eal; next != NULL && *next != NULL; next++) {
        if (strncmp(*next, option, strlen(option)) == 0) {
            return true;
        }
    }
    return false;
}

/* Free huge pages of the default size, in megabytes. */
static unsigned huge_megabytes_free(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long pages = 0;
    unsigned long kilobytes = 0;
    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "HugePages_Free:", 15) == 0) {
            pages = strtoul(line + 15, NULL, 10);
        } else if (strncmp(line, "Hugepagesize:", 13) == 0) {
            kilobytes = strtoul(line + 13, NULL, 10);
        }
    }
    fclose(file);
    return (unsigned)(pages * kilobytes / 1024);
}

static int eal_fill(struct eal_arguments *arguments, const struct memory_settings *settings)
{
    char text[EAL_TEXT_BYTES];
    int status = eal_add(arguments, settings->program);
    bool kernel = settings->eal == NULL;
    bool huge =
        !kernel && !eal_says(settings, "--no-huge") && huge_megabytes_free() >= settings->megabytes;
    bool said =
        !kernel && (eal_says(settings, "--no-huge") || eal_says(settings, "--huge") ||
                    eal_says(settings, "--in-memory") || eal_says(settings, "--single-file") ||
                    eal_says(settings, "-m") || eal_says(settings, "--socket-mem"));
    for (const char *const *next = settings->eal; status == 0 && next != NULL && *next != NULL;
         next++) {
        status = eal_add(arguments, *next);
    }
    if (status == 0 && !said) {
        if (!huge) {
            status = eal_add(arguments, "--no-huge");
            snprintf(text, sizeof(text), "-m%u", settings->megabytes);
            status = status == 0 ? eal_add(arguments, text) : status;
        }
    }
    if (status == 0 && !eal_says(settings, "--file-prefix")) {
        snprintf(text, sizeof(text), "--file-prefix=tubepost%d", (int)getpid());
        if (settings->file_prefix != NULL) {
            snprintf(text, sizeof(text), "--file-prefix=%.64s", settings->file_prefix);
        }
        status = eal_add(arguments, text);
    }
    if (status == 0 && kernel) {
        /* No devices: the drivers need not even be loaded, which saves most of the start. */
        status = eal_add(arguments, "--no-pci");
        status = status == 0 ? eal_add(arguments, "--iova-mode=va") : status;
        status = status == 0 ? eal_add(arguments, "-dlibrte_mempool_ring.so.23") : status;
    }
    static const char *const always[] = {"--no-telemetry", "--log-level=lib.*:4",
                                         "--log-level=pmd.*:4"};
    for (size_t i = 0; status == 0 && i < sizeof(always) / sizeof(*always); i++) {
        status = eal_add(arguments, always[i]);
    }
    if (status == 0 && !eal_says(settings, "--no-shconf") && !eal_says(settings, "--in-memory")) {
        status = eal_add(arguments, "--no-shconf");
    }
    if (status == 0 && !eal_says(settings, "-l") && !eal_says(settings, "--lcores") &&
        !eal_says(settings, "-c")) {
        snprintf(text, sizeof(text), "--lcores=0@(%u-%ld)", 0u, sysconf(_SC_NPROCESSORS_ONLN) - 1);
        status = eal_add(arguments, text);
    }
    return status;
}

int memory_start(const struct memory_settings *settings)
{
    static struct eal_arguments arguments;
    rte_log_set_global_level(RTE_LOG_WARNING);
    int status = eal_fill(&arguments, settings);
    if (status < 0) {
        return status;
    }
    return rte_eal_init(arguments.count, arguments.list) < 0 ? -rte_errno : 0;
}

void memory_stop(void)
{
    rte_eal_cleanup();
}

int memory_thread_enter(void)
{
    return rte_thread_register() < 0 ? -rte_errno : 0;
}

void memory_thread_leave(void)
{
    rte_thread_unregister();
}

struct rte_mempool *memory_pool_open(const char *name, unsigned mbuf_count, unsigned data_bytes)
{
    unsigned cache = mbuf_count / 2 < 256 ? 0 : 256;
    return rte_pktmbuf_pool_create(name, mbuf_count, cache, 0,
                                   (uint16_t)(data_bytes + RTE_PKTMBUF_HEADROOM),
                                   (int)rte_socket_id());
}

void memory_pool_close(struct rte_mempool *pool)
{
    rte_mempool_free(pool);
}

void *memory_take(const char *name, size_t bytes, size_t align)
{
    return rte_zmalloc(name, bytes, (unsigned)align);
}

void memory_give(void *memory)
{
    rte_free(memory);
}
