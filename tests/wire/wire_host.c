#include "tests/wire/wire_host.h"
#include "engine/net/checksum.h"
#include "engine/shard/memory.h"

#define START_NS (1000 * SECOND_NS) /* so that nothing is mistaken for "never" */
#define ND_SOLICIT 135u
#define ND_ADVERT 136u
#define ND_ADVERT_FLAGS 0x60u /* solicited, override */
#define ND_BYTES 32u          /* of an advertisement with its option */
#define ETHER_IPV6 0x86ddu

static const uint8_t network_mac[6] = {2, 0, 0, 0, 0, 2};

struct name_of_limit {
    const char *name;
    size_t offset;
    uint8_t bytes; /* 8: a time, written in ms */
};

#define COUNT(field)                                                                               \
    {                                                                                              \
#field, offsetof(struct stack_limits, field), sizeof(((struct stack_limits *)0)->field)    \
    }
#define TIME(name)                                                                                 \
    {                                                                                              \
#name "_ms", offsetof(struct stack_limits, name##_ns), 8                                   \
    }

static const struct name_of_limit names[] = {COUNT(connection_max),
                                             COUNT(half_open_max),
                                             COUNT(time_wait_max),
                                             COUNT(orphan_max),
                                             COUNT(receive_window_bytes),
                                             COUNT(held_mbuf_max),
                                             TIME(user_timeout),
                                             TIME(linger),
                                             TIME(fin_wait_2),
                                             TIME(time_wait),
                                             TIME(keepalive_idle),
                                             TIME(keepalive_interval),
                                             COUNT(keepalive_probes)};

void wire_settings_default(struct wire_settings *settings)
{
    *settings = (struct wire_settings){.mtu = 1500, .seed = 1};
}

static int setting_put(struct wire_settings *settings, struct slice name, uint64_t value)
{
    if (slice_equal(name, slice_text("mtu"))) {
        settings->mtu = (uint32_t)value;
        return 0;
    }
    if (slice_equal(name, slice_text("nagle"))) {
        settings->limits.nagle = value != 0;
        return 0;
    }
    if (slice_equal(name, slice_text("ecn"))) {
        settings->ecn = (enum stack_ecn)value;
        return 0;
    }
    if (slice_equal(name, slice_text("seed"))) {
        settings->seed = value;
        return 0;
    }
    for (unsigned i = 0; i < RTE_DIM(names); i++) {
        uint8_t *field = (uint8_t *)&settings->limits + names[i].offset;
        if (!slice_equal(name, slice_text(names[i].name))) {
            continue;
        }
        if (names[i].bytes == 8) {
            uint64_t ns = value * MS_NS;
            memcpy(field, &ns, sizeof(ns));
        } else {
            uint32_t count = (uint32_t)value;
            memcpy(field, &count, sizeof(count));
        }
        return 0;
    }
    return -EINVAL;
}

int wire_settings_parse(struct wire_settings *settings, const char *text, const char **culprit)
{
    while (text != NULL && *text != '\0') {
        const char *equals = strchr(text, '=');
        char *end = NULL;
        *culprit = text;
        if (equals == NULL) {
            return -EINVAL;
        }
        uint64_t value = strtoull(equals + 1, &end, 10);
        if (end == equals + 1 || (*end != '\0' && *end != ',') ||
            setting_put(settings, slice_of(text, (size_t)(equals - text)), value) < 0) {
            return -EINVAL;
        }
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

static uint64_t world_clock(void *self)
{
    return ((const struct wire_host *)self)->now_ns;
}

static int64_t world_date(void *self)
{
    return (int64_t)(((const struct wire_host *)self)->now_ns / SECOND_NS);
}

/* SplitMix64: equal seeds, equal runs. */
static void world_dice(void *self, void *bytes, size_t count)
{
    struct wire_host *host = self;
    uint8_t *at = bytes;
    for (size_t i = 0; i < count; i++) {
        uint64_t word = host->random += 0x9e3779b97f4a7c15u;
        word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
        word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
        at[i] = (uint8_t)(word ^ (word >> 31));
    }
}

static struct wire_host *host_of(struct port *port)
{
    return list_entry(port, struct wire_host, port);
}

static uint16_t port_receive(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                             uint16_t count)
{
    struct wire_host *host = host_of(port);
    uint32_t got = host->arriving_count < count ? host->arriving_count : count;
    (void)queue;
    memcpy(frames, host->arriving, got * sizeof(frames[0]));
    host->arriving_count -= got;
    memmove(host->arriving, host->arriving + got, host->arriving_count * sizeof(frames[0]));
    return (uint16_t)got;
}

static void frame_arrives(struct wire_host *host, const uint8_t *headers, uint32_t header_bytes,
                          const uint8_t *payload, uint32_t bytes)
{
    struct rte_mbuf *frame = rte_pktmbuf_alloc(host->arriving_pool);
    if (frame == NULL || host->arriving_count == WIRE_FRAMES_MAX ||
        rte_pktmbuf_tailroom(frame) < header_bytes + bytes) {
        rte_pktmbuf_free(frame);
        return;
    }
    memcpy(rte_pktmbuf_append(frame, (uint16_t)header_bytes), headers, header_bytes);
    if (bytes > 0) {
        memcpy(rte_pktmbuf_append(frame, (uint16_t)bytes), payload, bytes);
    }
    host->arriving[host->arriving_count++] = frame;
}

/* Whoever is asked for, it is the network that answers; but nobody has the stack's own addresses,
 * and an announcement is no question. */
static void arp_answer(struct wire_host *host, const uint8_t *question)
{
    uint8_t frame[42];
    if (question[21] != 1 || memcmp(question + 28, question + 38, 4) == 0 ||
        memcmp(question + 28, "\0\0\0\0", 4) == 0) {
        return;
    }
    memcpy(frame, question, sizeof(frame));
    memcpy(frame, question + 6, 6);
    memcpy(frame + 6, network_mac, 6);
    frame[21] = 2;
    memcpy(frame + 22, network_mac, 6);
    memcpy(frame + 28, question + 38, 4);
    memcpy(frame + 32, question + 22, 10);
    frame_arrives(host, frame, sizeof(frame), NULL, 0);
}

static uint16_t icmp6_checksum(const uint8_t *ip, uint32_t bytes)
{
    uint64_t sum =
        checksum_add((uint64_t)htons((uint16_t)bytes) + htons(IPPROTO_ICMPV6), ip + 8, 32);
    return checksum_finish(checksum_add(sum, ip + 40, bytes));
}

/* As arp_answer. A question from the unspecified address looks for duplicates: there are none. */
static void nd_answer(struct wire_host *host, const uint8_t *question)
{
    static const uint8_t unspecified[16];
    uint8_t frame[ETH_BYTES + 40 + ND_BYTES] = {0};
    uint8_t *ip = frame + ETH_BYTES, *icmp = ip + 40;
    const uint8_t *asked = question + ETH_BYTES;
    if (memcmp(asked + 8, unspecified, 16) == 0) {
        return;
    }
    memcpy(frame, question + 6, 6);
    memcpy(frame + 6, network_mac, 6);
    frame[12] = ETHER_IPV6 >> 8;
    frame[13] = ETHER_IPV6 & 0xffu;
    ip[0] = 0x60;
    ip[5] = ND_BYTES;
    ip[6] = IPPROTO_ICMPV6;
    ip[7] = 255;
    memcpy(ip + 8, asked + 48, 16); /* from the target */
    memcpy(ip + 24, asked + 8, 16);
    icmp[0] = ND_ADVERT;
    icmp[4] = ND_ADVERT_FLAGS;
    memcpy(icmp + 8, asked + 48, 16);
    icmp[24] = 2; /* target link-layer address, one unit of 8 bytes */
    icmp[25] = 1;
    memcpy(icmp + 26, network_mac, 6);
    uint16_t sum = icmp6_checksum(ip, ND_BYTES);
    memcpy(icmp + 2, &sum, sizeof(sum));
    frame_arrives(host, frame, sizeof(frame), NULL, 0);
}

/* Neighbours, routers and groups: the life of a link that scripts do not look at. */
static bool is_link_talk(const uint8_t *frame, uint32_t bytes)
{
    uint8_t next = frame[ETH_BYTES + 6], kind = frame[ETH_BYTES + 40];
    bool nd_or_mld = (kind >= 130 && kind <= 137) || kind == 143;
    return bytes >= ETH_BYTES + 48 && (next == 0 || (next == IPPROTO_ICMPV6 && nd_or_mld));
}

static void frame_departs(struct wire_host *host, const uint8_t *frame, uint32_t bytes)
{
    uint32_t type = (uint32_t)frame[12] << 8 | frame[13];
    if (type == RTE_ETHER_TYPE_ARP) {
        arp_answer(host, frame);
        return;
    }
    if (type == ETHER_IPV6 && is_link_talk(frame, bytes)) {
        if (frame[ETH_BYTES + 40] == ND_SOLICIT) {
            nd_answer(host, frame);
        }
        return;
    }
    check(host->departure_count < WIRE_FRAMES_MAX);
    uint32_t at = (host->departure_first + host->departure_count++) % WIRE_FRAMES_MAX;
    struct wire_departure *departure = &host->departures[at];
    departure->bytes = bytes - ETH_BYTES;
    departure->sent_ns = host->now_ns;
    departure->packet = malloc(departure->bytes);
    check(departure->packet != NULL);
    memcpy(departure->packet, frame + ETH_BYTES, departure->bytes);
}

static uint16_t port_transmit(struct port *port, uint16_t queue, struct rte_mbuf **frames,
                              uint16_t count)
{
    struct wire_host *host = host_of(port);
    static uint8_t room[WIRE_PACKET_BYTES + ETH_BYTES];
    (void)queue;
    for (uint16_t i = 0; i < count; i++) {
        uint32_t bytes = frames[i]->pkt_len;
        check(bytes <= sizeof(room) && bytes > ETH_BYTES + IPV4_BYTES);
        frame_departs(host, rte_pktmbuf_read(frames[i], 0, bytes, room), bytes);
        rte_pktmbuf_free(frames[i]);
    }
    return count;
}

static int port_arm(struct port *port, uint16_t queue)
{
    (void)queue;
    return host_of(port)->arriving_count > 0 ? -EAGAIN : -ENOTSUP;
}

static void port_close(struct port *port)
{
    (void)port;
}

static const struct port_ops wire_port_ops = {
    .receive = port_receive, .transmit = port_transmit, .arm = port_arm, .close = port_close};

int wire_host_open(struct wire_host *host, const struct wire_settings *settings)
{
    const struct memory_settings memory = {.program = "wire", .megabytes = 64};
    memset(host, 0, sizeof(*host));
    host->settings = *settings;
    host->now_ns = START_NS;
    host->random = settings->seed;
    host->world = (struct world){
        .now_ns = world_clock, .wall_s = world_date, .random = world_dice, .self = host};
    int status = memory_start(&memory);
    if (status < 0) {
        return status;
    }
    host->pool = memory_pool_open("data", 4095, MEMORY_MBUF_BYTES);
    host->arriving_pool = memory_pool_open("receive", 4095, 9216);
    host->wheel = wheel_open(host->now_ns);
    return host->pool == NULL || host->arriving_pool == NULL || host->wheel == NULL ? -ENOMEM : 0;
}

void wire_host_close(struct wire_host *host)
{
    struct wire_departure departure;
    if (host->network != NULL) {
        host->network->ops->close(host->network);
    }
    while (host->arriving_count > 0) {
        rte_pktmbuf_free(host->arriving[--host->arriving_count]);
    }
    while (wire_host_take(host, &departure)) {
        free(departure.packet);
    }
    wheel_close(host->wheel);
    memory_pool_close(host->pool);
    memory_pool_close(host->arriving_pool);
    memory_stop();
}

/* Networks and gateways are those that packetdrill gives a tested stack. */
int wire_host_address(struct wire_host *host, const struct endpoint *address)
{
    struct network_prefix prefix = {.address = *address};
    bool ipv4 = address->family == ENDPOINT_IPV4;
    if (host->network != NULL) {
        return 0;
    }
    prefix.length = ipv4 ? 16 : 48;
    host->port = (struct port){.ops = &wire_port_ops,
                               .facts = {.mac = {2, 0, 0, 0, 0, 1},
                                         .mtu = (uint16_t)host->settings.mtu,
                                         .queue_count = 1,
                                         .tx_segments = true}};
    rss_init(&host->port.facts.rss, 1);
    struct stack_settings settings = {.port = &host->port,
                                      .world = &host->world,
                                      .wheel = host->wheel,
                                      .pool = host->pool,
                                      .addresses = &prefix,
                                      .address_count = 1,
                                      .routers = STACK_ROUTERS_IGNORED,
                                      .skips_dad = true,
                                      .ecn = host->settings.ecn,
                                      .limits = host->settings.limits};
    int status = ipv4 ? endpoint_parse(&settings.gateway, slice_text("192.168.0.1:0"))
                      : endpoint_parse(&settings.gateway6, slice_text("[fd3d:fa7b:d17d::1]:0"));
    status = status < 0 ? status : stack_open(&host->network, &settings);
    if (status < 0) {
        host->network = NULL;
        return status;
    }
    host->stack = stack_of(host->network);
    wire_host_round(host);
    return 0;
}

int wire_host_default_address(struct wire_host *host, enum endpoint_family family)
{
    struct endpoint address;
    int status = endpoint_parse(
        &address, slice_text(family == ENDPOINT_IPV6 ? "[fd3d:fa7b:d17d::2]:0" : "192.168.0.2:0"));
    return status < 0 ? status : wire_host_address(host, &address);
}

void wire_host_round(struct wire_host *host)
{
    struct network *network = host->network;
    bool again = network != NULL;
    while (again) {
        network->ops->poll(network, host->now_ns);
        wheel_run(host->wheel, host->now_ns);
        network->ops->flush(network, host->now_ns);
        again = network->ops->arm(network) == -EAGAIN;
        if (!again && host->settled != NULL) {
            again = host->settled(host->owner);
        }
    }
}

uint64_t wire_host_next_ns(const struct wire_host *host)
{
    return wheel_next_ns(host->wheel);
}

void wire_host_step(struct wire_host *host, uint64_t until_ns)
{
    uint64_t next_ns = wire_host_next_ns(host);
    next_ns = next_ns > host->now_ns ? next_ns : host->now_ns + 1000;
    host->now_ns = next_ns < until_ns ? next_ns : until_ns;
    wire_host_round(host);
}

void wire_host_wait(struct wire_host *host, uint64_t until_ns)
{
    while (host->now_ns < until_ns) {
        wire_host_step(host, until_ns);
    }
}

static bool destination_of(const uint8_t *packet, uint32_t bytes, struct endpoint *to)
{
    memset(to, 0, sizeof(*to));
    if (bytes >= IPV4_BYTES && packet[0] >> 4 == 4) {
        to->family = ENDPOINT_IPV4;
        memcpy(to->address, packet + 16, 4);
        return true;
    }
    to->family = ENDPOINT_IPV6;
    memcpy(to->address, bytes >= 40 ? packet + 24 : to->address, 16);
    return bytes >= 40 && packet[0] >> 4 == 6;
}

void wire_host_send(struct wire_host *host, const void *packet, uint32_t bytes)
{
    uint8_t header[ETH_BYTES];
    struct endpoint to;
    if (!destination_of(packet, bytes, &to) || wire_host_address(host, &to) < 0) {
        return;
    }
    memcpy(header, host->port.facts.mac, 6);
    memcpy(header + 6, network_mac, 6);
    uint16_t type = htons(to.family == ENDPOINT_IPV4 ? RTE_ETHER_TYPE_IPV4 : ETHER_IPV6);
    memcpy(header + 12, &type, sizeof(type));
    frame_arrives(host, header, sizeof(header), packet, bytes);
    wire_host_round(host);
}

bool wire_host_take(struct wire_host *host, struct wire_departure *departure)
{
    if (host->departure_count == 0) {
        return false;
    }
    *departure = host->departures[host->departure_first];
    host->departure_first = (host->departure_first + 1) % WIRE_FRAMES_MAX;
    host->departure_count--;
    return true;
}
