#include "engine/shard/memory.h"
#include "engine/core/check.h"
#include <errno.h>
#include <mntent.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf_pool_ops.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define ARGUMENT_COUNT_MAX 128
#define ARGUMENT_BYTES_MAX 8192

/* The EAL wants writable strings, and keeps none of them. */
struct arguments {
    char *list[ARGUMENT_COUNT_MAX + 1];
    char text[ARGUMENT_BYTES_MAX];
    size_t text_bytes;
    int count;
    bool overflow;
};

__attribute__((format(printf, 2, 3))) static void add(struct arguments *arguments,
                                                      const char *format, ...)
{
    size_t room = sizeof(arguments->text) - arguments->text_bytes;
    char *at = arguments->text + arguments->text_bytes;
    va_list values;
    va_start(values, format);
    int size = vsnprintf(at, room, format, values);
    va_end(values);
    if (size < 0 || (size_t)size >= room || arguments->count == ARGUMENT_COUNT_MAX) {
        arguments->overflow = true;
        return;
    }
    arguments->list[arguments->count++] = at;
    arguments->text_bytes += (size_t)size + 1;
}

/* Is one of the names, or name=..., among what the operator gave? The list ends with NULL. */
static bool given(const char *const *eal, const char *const *names)
{
    for (; *eal != NULL; eal++) {
        for (const char *const *name = names; *name != NULL; name++) {
            size_t size = strlen(*name);
            bool lone_letter = size == 2; /* "-m512" is "-m 512" */
            if (strncmp(*eal, *name, size) == 0 &&
                ((*eal)[size] == 0 || (*eal)[size] == '=' || lone_letter)) {
                return true;
            }
        }
    }
    return false;
}

static uint64_t free_pages(uint64_t page_bytes)
{
    char path[128];
    unsigned long long count = 0;
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages",
             (unsigned long long)(page_bytes / 1024));
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &count) != 1) {
            count = 0;
        }
        fclose(file);
    }
    return count;
}

/* Pages that are free are of use only through a hugetlbfs that we may write to. */
static bool huge_pages_suffice(unsigned megabytes)
{
    bool suffice = false;
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    struct mntent entry, *mount;
    char strings[1024];
    if (mounts == NULL) {
        return false;
    }
    while (!suffice && (mount = getmntent_r(mounts, &entry, strings, sizeof(strings))) != NULL) {
        struct statfs facts;
        if (strcmp(mount->mnt_type, "hugetlbfs") == 0 && access(mount->mnt_dir, W_OK) == 0 &&
            statfs(mount->mnt_dir, &facts) == 0 && facts.f_bsize > 0) {
            uint64_t page_bytes = (uint64_t)facts.f_bsize;
            uint64_t wanted = (uint64_t)megabytes << 20;
            suffice = free_pages(page_bytes) > 0 && free_pages(page_bytes) * page_bytes >= wanted;
        }
    }
    endmntent(mounts);
    return suffice;
}

/* The EAL pins the calling thread to its first lcore, and by default starts a thread for every
 * other processor; one lcore it must have. The shards' threads register themselves. */
static void add_lcore(struct arguments *arguments, const cpu_set_t *allowed)
{
    int cpu = 0;
    while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, allowed)) {
        cpu++;
    }
    add(arguments, "--lcores=0@%d", cpu);
}

static void add_memory(struct arguments *arguments, unsigned megabytes)
{
    if (megabytes > 0) {
        add(arguments, "-m");
        add(arguments, "%u", megabytes);
    }
}

static void add_plain(struct arguments *arguments, const struct memory_settings *settings)
{
    add(arguments, "--no-huge");
    add(arguments, "--no-pci");
    add(arguments, "--no-shconf");
    add(arguments, "--no-telemetry");
    add(arguments, "--iova-mode=va");
    add_memory(arguments, settings->megabytes);
}

static void add_operators(struct arguments *arguments, const struct memory_settings *settings)
{
    static const char *const page_names[] = {"--no-huge",     "--huge-dir",   "--in-memory",
                                             "--huge-unlink", "--legacy-mem", NULL};
    static const char *const size_names[] = {"-m", "--socket-mem", NULL};
    static const char *const file_names[] = {"--single-file-segments", NULL};
    static const char *const share_names[] = {"--in-memory", "--proc-type", NULL};
    const char *const *eal = settings->eal;

    if (!given(eal, share_names)) {
        add(arguments, "--no-shconf");
    }
    if (!given(eal, page_names)) {
        if (!huge_pages_suffice(settings->megabytes)) {
            add(arguments, "--no-huge");
        } else if (!given(eal, file_names)) {
            /* Else a killed process leaves its pages taken; the EAL refuses both at once. */
            add(arguments, "--huge-unlink");
        }
    }
    if (!given(eal, size_names)) {
        add_memory(arguments, settings->megabytes);
    }
    for (; *eal != NULL; eal++) {
        add(arguments, "%s", *eal);
    }
}

static void fill(struct arguments *arguments, const struct memory_settings *settings,
                 const cpu_set_t *allowed)
{
    static const char *const none[] = {NULL};
    static const char *const lcore_names[] = {"-l", "-c", "--lcores", NULL};
    static const char *const prefix_names[] = {"--file-prefix", NULL};
    const char *const *eal = settings->eal != NULL ? settings->eal : none;

    add(arguments, "%s", settings->program);
    add(arguments, "--log-level=warning");
    if (settings->file_prefix != NULL) {
        add(arguments, "--file-prefix=%s", settings->file_prefix);
    } else if (!given(eal, prefix_names)) {
        add(arguments, "--file-prefix=tubepost%d", (int)getpid());
    }
    if (!given(eal, lcore_names)) {
        add_lcore(arguments, allowed);
    }
    if (settings->eal == NULL) {
        add_plain(arguments, settings);
    } else {
        add_operators(arguments, settings);
    }
}

/*
 * The EAL makes a folder for its files even when it will write none: below /var/run for root,
 * /tmp/dpdk for others, which then belongs to whoever came first. On the kernel transport it gets
 * one of its own, for as long as the start takes.
 */
static bool runtime_folder_lend(char *folder)
{
    if (getenv("RUNTIME_DIRECTORY") != NULL || mkdtemp(folder) == NULL) {
        return false;
    }
    return setenv("RUNTIME_DIRECTORY", folder, 1) == 0;
}

static void runtime_folder_return(const char *folder)
{
    char path[128];
    unsetenv("RUNTIME_DIRECTORY");
    snprintf(path, sizeof(path), "%s/dpdk", folder);
    rmdir(path);
    rmdir(folder);
}

static bool has_devices; /* the EAL is the process's, and so is this */

int memory_start(const struct memory_settings *settings)
{
    struct arguments arguments = {.count = 0};
    char folder[] = "/tmp/tubepost.XXXXXX";
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
        return -errno;
    }
    fill(&arguments, settings, &allowed);
    if (arguments.overflow) {
        return -E2BIG;
    }
    bool lent = settings->eal == NULL && runtime_folder_lend(folder);
    int error = rte_eal_init(arguments.count, arguments.list) < 0 ? -rte_errno : 0;
    rmdir(rte_eal_get_runtime_dir()); /* stays when something is in it */
    if (lent) {
        runtime_folder_return(folder);
    }
    sched_setaffinity(0, sizeof(allowed), &allowed);
    has_devices = settings->eal != NULL;
    return error;
}

/* The clean-up wakes the EAL's interrupt thread and takes away the memory that it then reads, when a
 * driver has left something for it to watch (net_memif does): a crash after a clean end. Ports are
 * closed by now, and what else there is the kernel takes back. */
void memory_stop(void)
{
    if (!has_devices) {
        rte_eal_cleanup();
    }
}

int memory_thread_enter(void)
{
    if (rte_lcore_id() != LCORE_ID_ANY) {
        return 0;
    }
    return rte_thread_register() < 0 ? -rte_errno : 0;
}

void memory_thread_leave(void)
{
    unsigned lcore = rte_lcore_id();
    if (lcore != LCORE_ID_ANY && rte_eal_lcore_role(lcore) == ROLE_NON_EAL) {
        rte_thread_unregister();
    }
}

/* Without huge pages no device reads by physical addresses, but by default each object is kept within
 * a page of 4 KiB. That wastes nearly half of the memory, and net_af_xdp, which reckons with none
 * between them, would lose every buffer of the farther half. */
static unsigned pool_flags(void)
{
    return rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
}

struct rte_mempool *memory_pool_open(const char *name, unsigned mbuf_count, unsigned data_bytes)
{
    unsigned cache = mbuf_count / 4 < 256 ? mbuf_count / 4 : 256;
    unsigned room = data_bytes + RTE_PKTMBUF_HEADROOM;
    if (room > UINT16_MAX) {
        rte_errno = EINVAL;
        return NULL;
    }
    struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = (uint16_t)room};
    struct rte_mempool *pool =
        rte_mempool_create_empty(name, mbuf_count, (unsigned)sizeof(struct rte_mbuf) + room, cache,
                                 sizeof(private), SOCKET_ID_ANY, pool_flags());
    if (pool == NULL) {
        return NULL;
    }
    int status = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
    if (status == 0) {
        rte_pktmbuf_pool_init(pool, &private);
        status = rte_mempool_populate_default(pool);
    }
    if (status < 0) {
        rte_mempool_free(pool);
        rte_errno = -status;
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

void memory_pool_close(struct rte_mempool *pool)
{
    rte_mempool_free(pool);
}

void *memory_take(const char *name, size_t bytes, size_t align)
{
    check(align != 0 && (align & (align - 1)) == 0);
    return rte_zmalloc(name, bytes, (unsigned)align);
}

void memory_give(void *memory)
{
    rte_free(memory);
}
