#include "engine/net/port_tap.h"
#include "engine/net/port_deal.h"
#include "engine/net/port_dpdk.h"
#include <net/if.h>
#include <rte_dev.h>
#include <rte_log.h>
#include <stdio.h>
#include <errno.h>

#define DESCRIPTORS 64u /* buffers that a queue of net_tap takes for good */

/* The driver logs that it cannot have flow rules, which nobody asked for. */
static int device_make(const char *device, const char *arguments)
{
    uint32_t level = rte_log_get_global_level();
    rte_log_set_global_level(RTE_LOG_CRIT);
    int status = rte_eal_hotplug_add("vdev", device, arguments);
    rte_log_set_global_level(level);
    return status;
}

int port_tap_open(struct port **port, const struct port_tap_settings *settings)
{
    const struct port_facts *facts = &settings->beside->facts;
    char device[32], arguments[96];
    if (if_nametoindex(settings->name) != 0) {
        return -EEXIST;
    }
    snprintf(device, sizeof(device), "net_tap_%s", settings->name);
    snprintf(arguments, sizeof(arguments), "iface=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x",
             settings->name, facts->mac[0], facts->mac[1], facts->mac[2], facts->mac[3],
             facts->mac[4], facts->mac[5]);
    int status = device_make(device, arguments);
    if (status < 0) {
        return status;
    }
    const struct port_dpdk_settings dpdk = {.name = device,
                                            .queues_wanted = settings->shard_count,
                                            .descriptors = DESCRIPTORS,
                                            .mtu = facts->mtu,
                                            .pools = settings->pools};
    status = port_dpdk_open(port, &dpdk);
    if (status == 0 && (*port)->facts.queue_count < settings->shard_count) {
        status = port_deal_among(port, settings->shard_count);
    }
    return status;
}
