#include "engine/net/port_dpdk.h"
#include "engine/core/check.h"
#include "engine/net/memif_gate.h"
#include <errno.h>
#include <linux/if_packet.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_epoll.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_log.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS_DEFAULT 1024u
#define DESCRIPTORS_SEARCHED 1024 /* the EAL opens its devices first, so theirs are low */
#define VLAN_BYTES 4u
#define WHOLE_BURST 32u
#define AF_PACKET_PLACE_BYTES 2048u /* the default of the driver */
#define AF_PACKET_OFFSET_BYTES                                                                     \
    66u /* where the kernel puts an Ethernet frame in its place in the ring */
#define RX_CHECKSUMS (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define TX_CHECKSUMS (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM)

struct dpdk_queue {
    int epoll_fd;  /* of its receive interrupt; -1: it has none */
    int socket_fd; /* of a driver that stands on a socket; the driver's; -1: none */
};

struct port_dpdk {
    struct port port;
    uint16_t id;
    uint64_t rx_offloads, tx_offloads;
    bool interrupts;
    struct rte_eth_dev_info info;
    struct memif_gate *gate; /* of net_memif; NULL: another driver */
    struct dpdk_queue queues[PORT_DPDK_QUEUES_MAX];
};

static struct port_dpdk *dpdk_of(const struct port *port)
{
    return (struct port_dpdk *)(uintptr_t)port; /* its first member */
}

static uint16_t dpdk_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    return rte_eth_rx_burst(dpdk_of(port)->id, queue, frames, count);
}

static uint16_t dpdk_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    return rte_eth_tx_burst(dpdk_of(port)->id, queue, frames, count);
}

/* For devices that take only frames in one piece (net_af_xdp): others are copied together. */
static uint16_t dpdk_transmit_whole(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                                    uint16_t count)
{
    struct rte_mbuf *whole[WHOLE_BURST];
    uint16_t wanted = 0;
    for (; wanted < count && wanted < WHOLE_BURST; wanted++) {
        struct rte_mbuf *frame = frames[wanted];
        whole[wanted] =
            frame->nb_segs == 1 ? frame : rte_pktmbuf_copy(frame, frame->pool, 0, UINT32_MAX);
        if (whole[wanted] == NULL) {
            break; /* the pool is empty: the rest later */
        }
    }
    uint16_t sent = rte_eth_tx_burst(dpdk_of(port)->id, queue, whole, wanted);
    for (uint16_t i = 0; i < wanted; i++) {
        if (whole[i] != frames[i]) {
            rte_pktmbuf_free(i < sent ? frames[i] : whole[i]);
        }
    }
    return sent;
}

static uint16_t memif_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct memif_gate *gate = dpdk_of(port)->gate;
    uint16_t received = 0;
    if (queue == 0) {
        memif_gate_tend(gate);
    }
    if (memif_gate_enter(gate, queue)) {
        received = dpdk_receive(port, queue, frames, count);
        memif_gate_exit(gate, queue);
    }
    return received;
}

static uint16_t memif_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                               uint16_t count)
{
    struct memif_gate *gate = dpdk_of(port)->gate;
    uint16_t sent = 0;
    if (memif_gate_enter(gate, queue)) {
        sent = dpdk_transmit(port, queue, frames, count);
        memif_gate_exit(gate, queue);
    }
    return sent;
}

/* Between the last empty burst and the enabling a frame may have come without an interrupt: look
 * again after it. */
static int dpdk_arm(struct port *port, uint16_t queue)
{
    struct port_dpdk *self = dpdk_of(port);
    struct dpdk_queue *q = &self->queues[queue];
    struct rte_epoll_event event;
    if (q->socket_fd >= 0) {
        return q->socket_fd; /* readable as long as frames wait */
    }
    if (q->epoll_fd < 0) {
        return -ENOTSUP;
    }
    rte_eth_dev_rx_intr_disable(self->id, queue);
    rte_epoll_wait(q->epoll_fd, &event, 1,
                   0); /* reads what the last interrupt left in the descriptor */
    if (rte_eth_dev_rx_intr_enable(self->id, queue) < 0) {
        return -ENOTSUP;
    }
    if (rte_eth_rx_queue_count(self->id, queue) > 0) {
        return -EAGAIN;
    }
    return q->epoll_fd;
}

static void dpdk_close(struct port *port)
{
    struct port_dpdk *self = dpdk_of(port);
    for (unsigned i = 0; i < PORT_DPDK_QUEUES_MAX; i++) {
        if (self->queues[i].epoll_fd >= 0) {
            close(self->queues[i].epoll_fd);
        }
    }
    if (self->gate != NULL) {
        memif_gate_leave(self->gate);
    } else {
        rte_eth_dev_stop(self->id);
        rte_eth_dev_close(self->id);
    }
    free(self);
}

static const struct port_ops dpdk_ops = {
    .receive = dpdk_receive,
    .transmit = dpdk_transmit,
    .arm = dpdk_arm,
    .close = dpdk_close,
};

static const struct port_ops dpdk_whole_ops = {
    .receive = dpdk_receive,
    .transmit = dpdk_transmit_whole,
    .arm = dpdk_arm,
    .close = dpdk_close,
};

static const struct port_ops memif_ops = {
    .receive = memif_receive,
    .transmit = memif_transmit,
    .arm = dpdk_arm,
    .close = dpdk_close,
};

/* TCP and UDP by their ports, fragments by their addresses, which are the same in all of one datagram.
 * Some devices count fragments among the other packets of IP. One that cannot tell TCP: all by addresses. */
uint64_t port_dpdk_rss_types(uint64_t offered)
{
    const uint64_t tcp = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;
    const uint64_t udp = RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV6_UDP;
    if ((offered & tcp) == 0) {
        return offered & RTE_ETH_RSS_IP;
    }
    uint64_t fragments4 =
        (offered & RTE_ETH_RSS_FRAG_IPV4) != 0 ? RTE_ETH_RSS_FRAG_IPV4 : RTE_ETH_RSS_IPV4;
    uint64_t fragments6 =
        (offered & RTE_ETH_RSS_FRAG_IPV6) != 0 ? RTE_ETH_RSS_FRAG_IPV6 : RTE_ETH_RSS_IPV6;
    return offered & (tcp | udp | fragments4 | fragments6);
}

static void rss_ask(const struct port_dpdk *self, struct rte_eth_conf *conf)
{
    uint64_t types = port_dpdk_rss_types(self->info.flow_type_rss_offloads);
    if (types == 0) {
        return;
    }
    conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
    conf->rx_adv_conf.rss_conf.rss_hf = types;
    if (self->info.hash_key_size >= RSS_KEY_BYTES &&
        self->info.hash_key_size <= RSS_KEY_BYTES_MAX) {
        conf->rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)rss_key_symmetric;
        conf->rx_adv_conf.rss_conf.rss_key_len = self->info.hash_key_size;
    }
    if (self->info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH) {
        conf->rxmode.offloads |= RTE_ETH_RX_OFFLOAD_RSS_HASH;
    }
}

/* With receive interrupts and our key if the device takes them, without if not. */
static int dpdk_configure(struct port_dpdk *self, uint16_t queue_count)
{
    struct rte_eth_conf conf = {0};
    conf.rxmode.offloads = self->info.rx_offload_capa & RX_CHECKSUMS;
    conf.txmode.offloads =
        self->info.tx_offload_capa &
        (TX_CHECKSUMS | RTE_ETH_TX_OFFLOAD_MULTI_SEGS | RTE_ETH_TX_OFFLOAD_TCP_TSO);
    if (queue_count > 1) {
        rss_ask(self, &conf);
    }
    self->rx_offloads = conf.rxmode.offloads;
    self->tx_offloads = conf.txmode.offloads;
    conf.intr_conf.rxq = 1;
    self->interrupts = true;
    int rc = rte_eth_dev_configure(self->id, queue_count, queue_count, &conf);
    if (rc < 0) {
        conf.intr_conf.rxq = 0;
        self->interrupts = false;
        rc = rte_eth_dev_configure(self->id, queue_count, queue_count, &conf);
    }
    if (rc < 0 && conf.rx_adv_conf.rss_conf.rss_key != NULL) {
        conf.rx_adv_conf.rss_conf.rss_key = NULL;
        rc = rte_eth_dev_configure(self->id, queue_count, queue_count, &conf);
    }
    return rc;
}

static int queues_set_up(struct port_dpdk *self, const struct port_dpdk_settings *settings,
                         uint16_t queue_count)
{
    uint16_t rx = settings->descriptors != 0 ? settings->descriptors : DESCRIPTORS_DEFAULT;
    uint16_t tx = rx;
    int rc = rte_eth_dev_adjust_nb_rx_tx_desc(self->id, &rx, &tx);
    int socket = rte_eth_dev_socket_id(self->id);
    struct rte_eth_rxconf rx_conf = self->info.default_rxconf;
    struct rte_eth_txconf tx_conf = self->info.default_txconf;
    rx_conf.offloads = self->rx_offloads;
    tx_conf.offloads = self->tx_offloads;
    for (uint16_t i = 0; rc == 0 && i < queue_count; i++) {
        rc =
            rte_eth_rx_queue_setup(self->id, i, rx, (unsigned)socket, &rx_conf, settings->pools[i]);
        if (rc == 0) {
            rc = rte_eth_tx_queue_setup(self->id, i, tx, (unsigned)socket, &tx_conf);
        }
    }
    return rc;
}

/* A queue's receive interrupt goes to an epoll descriptor of its own, which the shard can watch. A
 * device without interrupts is no error, but the library would log one for each queue. */
static void interrupts_set_up(struct port_dpdk *self, uint16_t queue_count)
{
    uint32_t log_level = rte_log_get_global_level();
    rte_log_set_global_level(RTE_LOG_CRIT);
    for (uint16_t i = 0; self->interrupts && i < queue_count; i++) {
        int fd = epoll_create1(EPOLL_CLOEXEC);
        if (fd >= 0 && rte_eth_dev_rx_intr_ctl_q(self->id, i, fd, RTE_INTR_EVENT_ADD, NULL) == 0 &&
            rte_eth_dev_rx_intr_enable(self->id, i) == 0) {
            rte_eth_dev_rx_intr_disable(self->id, i);
            self->queues[i].epoll_fd = fd;
        } else if (fd >= 0) {
            close(fd);
        }
    }
    rte_log_set_global_level(log_level);
}

static bool socket_is_of(int fd, int domain, uint32_t interface_index)
{
    int found = 0;
    socklen_t size = sizeof(found);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &found, &size) < 0 || found != domain) {
        return false;
    }
    struct sockaddr_ll address = {0};
    size = sizeof(address);
    return domain == AF_XDP || (getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
                                address.sll_ifindex == (int)interface_index);
}

/* The virtual devices over kernel sockets offer no receive interrupt, but their sockets can be
 * watched, and without that an idle relay would burn a core. They are looked for among our
 * descriptors: the driver opens them in the order of its queues. If there are more or fewer than
 * queues it is not clear which is which, and the port is polled. */
static void sockets_find(struct port_dpdk *self, uint16_t queue_count)
{
    bool packet = strcmp(self->info.driver_name, "net_af_packet") == 0;
    bool xdp = strcmp(self->info.driver_name, "net_af_xdp") == 0;
    int found[PORT_DPDK_QUEUES_MAX] = {0};
    unsigned count = 0;
    struct rlimit files = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    int end = files.rlim_cur < DESCRIPTORS_SEARCHED ? (int)files.rlim_cur : DESCRIPTORS_SEARCHED;
    for (int fd = 0; (packet || xdp) && fd < end; fd++) {
        if (socket_is_of(fd, packet ? AF_PACKET : AF_XDP, self->info.if_index)) {
            if (count == queue_count) {
                return;
            }
            found[count++] = fd;
        }
    }
    for (unsigned i = 0; count == queue_count && i < count; i++) {
        self->queues[i].socket_fd = found[i];
    }
    for (uint16_t i = 0; strcmp(self->info.driver_name, "net_tap") == 0 && i < queue_count; i++) {
        self->queues[i].socket_fd = rte_eth_dev_rx_intr_ctl_q_get_fd(self->id, i);
    }
}

/* Drivers that do not say have the key that the definition of RSS began with. */
static uint8_t key_bytes_of(const struct port_dpdk *self)
{
    return self->info.hash_key_size != 0 ? self->info.hash_key_size : RSS_KEY_BYTES;
}

/* What the device says of its hash after it was started; anything odd leaves the hash unknown. */
static void rss_read(struct port_dpdk *self, struct rss *rss)
{
    uint8_t key[RSS_KEY_BYTES_MAX] = {0};
    struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = key_bytes_of(self)};
    struct rte_eth_rss_reta_entry64 entries[RSS_TABLE_MAX / RTE_ETH_RETA_GROUP_SIZE];
    uint16_t table[RSS_TABLE_MAX];
    uint16_t count = self->info.reta_size;
    if (rss->queue_count == 1 || count == 0 || count > RSS_TABLE_MAX ||
        conf.rss_key_len > RSS_KEY_BYTES_MAX ||
        rte_eth_dev_rss_hash_conf_get(self->id, &conf) < 0) {
        return;
    }
    memset(entries, 0, sizeof(entries));
    for (unsigned i = 0; i < count; i++) {
        entries[i / RTE_ETH_RETA_GROUP_SIZE].mask |= 1ull << i % RTE_ETH_RETA_GROUP_SIZE;
    }
    if (rte_eth_dev_rss_reta_query(self->id, entries, count) < 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        table[i] = entries[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
    }
    (void)rss_claim(rss, key, conf.rss_key_len, table, count);
}

static void facts_read(struct port_dpdk *self, uint16_t queue_count)
{
    struct port_facts *facts = &self->port.facts;
    struct rte_ether_addr mac;
    facts->queue_count = queue_count;
    rte_eth_macaddr_get(self->id, &mac);
    memcpy(facts->mac, mac.addr_bytes, sizeof(facts->mac));
    rte_eth_dev_get_mtu(self->id, &facts->mtu);
    facts->rx_checksum_ipv4 = (self->rx_offloads & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
    facts->rx_checksum_tcp = (self->rx_offloads & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) != 0;
    facts->tx_checksum_ipv4 = (self->tx_offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
    facts->tx_checksum_tcp = (self->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0;
    facts->tx_segments = true;
    if ((self->tx_offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) == 0) {
        self->port.ops = &dpdk_whole_ops;
        facts->tx_segments = false;
    }
    facts->tso = (self->tx_offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO) != 0;
    facts->tx_segment_max = self->info.tx_desc_lim.nb_mtu_seg_max;
    rss_init(&facts->rss, queue_count);
    rss_read(self, &facts->rss);
}

/* Of a frame's place in the ring of net_af_packet, which copies whole frames into one mbuf each. 0: another driver. */
static uint32_t af_packet_place_bytes(const struct rte_eth_dev_info *info)
{
    const struct rte_devargs *arguments =
        info->device == NULL ? NULL : rte_dev_devargs(info->device);
    const char *given =
        arguments == NULL || arguments->args == NULL ? NULL : strstr(arguments->args, "framesz=");
    if (strcmp(info->driver_name, "net_af_packet") != 0) {
        return 0;
    }
    uint32_t place = given == NULL ? 0 : (uint32_t)strtoul(given + strlen("framesz="), NULL, 10);
    return place == 0 ? AF_PACKET_PLACE_BYTES : place;
}

uint32_t port_dpdk_buffer_bytes(const char *name, uint16_t mtu)
{
    struct rte_eth_dev_info info;
    uint16_t id;
    uint32_t bytes = mtu + (uint32_t)RTE_ETHER_HDR_LEN + VLAN_BYTES;
    if (rte_eth_dev_get_port_by_name(name, &id) == 0 && rte_eth_dev_info_get(id, &info) == 0) {
        uint32_t place = af_packet_place_bytes(&info); /* the driver asks for nearly all of it */
        bytes = place > bytes ? place : bytes;
    }
    return bytes;
}

/* Large frames: what the library believes of net_af_packet is 1500 whatever the interface carries. */
static void mtu_settle(struct port_dpdk *self, uint16_t wanted)
{
    struct port_facts *facts = &self->port.facts;
    uint32_t place = af_packet_place_bytes(&self->info);
    if (place >= wanted + AF_PACKET_OFFSET_BYTES + RTE_ETHER_HDR_LEN && wanted > facts->mtu) {
        facts->mtu = wanted;
    }
    if (wanted != 0 && wanted < facts->mtu) {
        facts->mtu = wanted;
    }
}

static uint16_t queue_count_of(const struct port_dpdk *self, uint16_t wanted)
{
    uint16_t count = wanted;
    count = count < self->info.max_rx_queues ? count : self->info.max_rx_queues;
    count = count < self->info.max_tx_queues ? count : self->info.max_tx_queues;
    return count;
}

/* A client of net_memif whose server is not yet there is a link that is down, which is no error. */
static int device_start(struct port_dpdk *self, uint16_t queue_count)
{
    int rc = rte_eth_dev_start(self->id);
    if (strcmp(self->info.driver_name, "net_memif") != 0) {
        return rc;
    }
    self->gate = memif_gate_join(self->id, queue_count, rc == 0);
    self->port.ops = &memif_ops;
    return self->gate == NULL ? -ENOMEM : 0;
}

static int dpdk_start(struct port_dpdk *self, const struct port_dpdk_settings *settings)
{
    uint16_t queue_count = queue_count_of(self, settings->queues_wanted);
    if (queue_count == 0) {
        return -ENODEV;
    }
    int rc = dpdk_configure(self, queue_count);
    if (rc == 0 && settings->mtu != 0 && af_packet_place_bytes(&self->info) == 0) {
        rc = rte_eth_dev_set_mtu(self->id, settings->mtu);
        rc = rc == -ENOTSUP ? 0 : rc; /* many virtual devices have none to set; the stack keeps to
                                         what the facts say */
    }
    if (rc == 0) {
        rc = queues_set_up(self, settings, queue_count);
    }
    if (rc == 0) {
        rc = device_start(self, queue_count);
    }
    if (rc < 0) {
        return rc;
    }
    rte_eth_allmulticast_enable(
        self->id); /* neighbour discovery; devices without a filter refuse and pass all */
    interrupts_set_up(self, queue_count);
    sockets_find(self, queue_count);
    facts_read(self, queue_count);
    mtu_settle(self, settings->mtu);
    return 0;
}

int port_dpdk_open(struct port **port, const struct port_dpdk_settings *settings)
{
    check(settings->queues_wanted >= 1 && settings->queues_wanted <= PORT_DPDK_QUEUES_MAX);
    uint16_t id;
    if (rte_eth_dev_get_port_by_name(settings->name, &id) < 0) {
        return -ENODEV;
    }
    struct port_dpdk *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return -ENOMEM;
    }
    self->port.ops = &dpdk_ops;
    self->id = id;
    for (unsigned i = 0; i < PORT_DPDK_QUEUES_MAX; i++) {
        self->queues[i].epoll_fd = self->queues[i].socket_fd = -1;
    }
    int rc = rte_eth_dev_info_get(id, &self->info);
    if (rc == 0) {
        rc = dpdk_start(self, settings);
    }
    if (rc < 0) {
        dpdk_close(&self->port);
        return rc;
    }
    *port = &self->port;
    return 0;
}

void port_dpdk_counters(const struct port *port, struct port_dpdk_counters *counters)
{
    struct rte_eth_stats stats = {0};
    rte_eth_stats_get(dpdk_of(port)->id, &stats);
    *counters = (struct port_dpdk_counters){
        .rx_frames = stats.ipackets,
        .tx_frames = stats.opackets,
        .rx_bytes = stats.ibytes,
        .tx_bytes = stats.obytes,
        .rx_missed = stats.imissed,
        .rx_errors = stats.ierrors,
        .tx_errors = stats.oerrors,
        .rx_no_mbuf = stats.rx_nombuf,
    };
}

const char *port_dpdk_driver(const struct port *port)
{
    return dpdk_of(port)->info.driver_name;
}
