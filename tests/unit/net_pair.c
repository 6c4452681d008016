#include "tests/unit/net_pair.h"
#include "engine/core/check.h"
#include "engine/core/limits.h"
#include "engine/shard/memory.h"

struct net_talker_reference {
    struct ref ref;
    struct net_talker *talker;
    uint8_t *bytes;
};

int net_pools_open(struct rte_mempool *pools[2], unsigned mbufs)
{
    pools[0] = memory_pool_open("host0", mbufs, MEMORY_MBUF_BYTES);
    pools[1] = memory_pool_open("host1", mbufs, MEMORY_MBUF_BYTES);
    return pools[0] == NULL || pools[1] == NULL ? -1 : 0;
}

struct endpoint net_endpoint(const char *text)
{
    struct endpoint endpoint;
    check(endpoint_parse(&endpoint, slice_text(text)) == 0);
    return endpoint;
}

void net_pair_open(struct net_pair *pair, const struct net_pair_settings *settings,
                   struct rte_mempool *const pools[2])
{
    static const char *const own[2][2] = {{"10.0.0.1/24", "fd00::1/64"},
                                          {"10.0.0.2/24", "fd00::2/64"}};
    net_world_open(&pair->world, settings->seed);
    net_link_open(&pair->link, &pair->world, settings->seed, pools[0], pools[1]);
    pair->link.faults = settings->faults;
    for (unsigned side = 0; side < 2; side++) {
        struct net_host *host = &pair->hosts[side];
        struct network_prefix addresses[2];
        struct port_facts *facts = &pair->link.ports[side].port.facts;
        facts->tx_segments = settings->tx_segments[side];
        facts->tso = settings->tso[side];
        facts->tx_checksum_tcp = settings->tso[side];
        facts->tx_checksum_ipv4 = settings->tso[side];
        pair->link.ports[side].port.facts.mtu = settings->mtu == 0 ? 1500 : settings->mtu;
        host->pool = pools[side];
        host->wheel = wheel_open(pair->world.now_ns);
        for (unsigned i = 0; i < 2; i++) {
            check(network_prefix_parse(&addresses[i], slice_text(own[side][i])) == 0);
        }
        struct stack_settings stack = {.port = &pair->link.ports[side].port,
                                       .world = &pair->world.world,
                                       .wheel = host->wheel,
                                       .pool = host->pool,
                                       .addresses = addresses,
                                       .address_count = settings->ipv6 ? 2 : 1,
                                       .skips_dad = true,
                                       .vlan = settings->vlan,
                                       .limits = settings->limits[side]};
        if (settings->routed) {
            stack.gateway = net_endpoint(side == 0 ? "10.0.0.2:1" : "10.0.0.1:1");
        }
        check(stack_open(&host->network, &stack) == 0);
    }
}

void net_pair_close(struct net_pair *pair)
{
    for (unsigned side = 0; side < 2; side++) {
        pair->hosts[side].network->ops->close(pair->hosts[side].network);
        wheel_close(pair->hosts[side].wheel);
    }
    net_link_close(&pair->link);
}

static void host_round(struct net_pair *pair, struct net_host *host)
{
    uint64_t now_ns = pair->world.now_ns;
    host->network->ops->poll(host->network, now_ns);
    wheel_run(host->wheel, now_ns);
    host->network->ops->flush(host->network, now_ns);
}

bool net_pair_step(struct net_pair *pair, uint64_t at_most_ns)
{
    uint64_t next_ns = net_link_next_ns(&pair->link);
    for (unsigned side = 0; side < 2; side++) {
        struct network *network = pair->hosts[side].network;
        uint64_t timer_ns = wheel_next_ns(pair->hosts[side].wheel);
        next_ns = timer_ns < next_ns ? timer_ns : next_ns;
        if (network->ops->arm(network) == -EAGAIN) {
            next_ns = 0;
        }
    }
    bool any = next_ns != UINT64_MAX;
    next_ns = next_ns < at_most_ns ? next_ns : at_most_ns;
    /* Rounds take time too. */
    uint64_t least_ns = pair->world.now_ns + 1000;
    pair->world.now_ns = next_ns > least_ns ? next_ns : least_ns;
    net_link_run(&pair->link);
    host_round(pair, &pair->hosts[0]);
    host_round(pair, &pair->hosts[1]);
    return any;
}

void net_pair_run(struct net_pair *pair, uint64_t for_ns)
{
    uint64_t until_ns = pair->world.now_ns + for_ns;
    while (pair->world.now_ns < until_ns) {
        net_pair_step(pair, until_ns);
    }
}

uint8_t net_byte(uint64_t seed, uint64_t offset)
{
    uint64_t state = seed + offset / 8;
    return (uint8_t)(net_random(&state) >> offset % 8 * 8);
}

static void fill(uint64_t seed, uint64_t offset, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = net_byte(seed, offset + i);
    }
}

static void reference_end(struct ref *ref)
{
    struct net_talker_reference *reference =
        (struct net_talker_reference *)((char *)ref - offsetof(struct net_talker_reference, ref));
    memset(reference->bytes, 0xdd, 8); /* whoever still reads it finds it changed */
    memory_give(reference->bytes);
    reference->talker->references--;
    free(reference);
}

static int write_reference(struct net_talker *talker, size_t size)
{
    struct net_talker_reference *reference = malloc(sizeof(*reference));
    check(reference != NULL);
    reference->talker = talker;
    reference->bytes = memory_take("reference", size + 8, 64);
    check(reference->bytes != NULL);
    ref_init(&reference->ref, reference_end);
    talker->references++;
    fill(talker->seed_out, talker->sent, reference->bytes, size);
    int status =
        stream_write_ref(talker->stream, slice_of(reference->bytes, size), &reference->ref);
    ref_drop(&reference->ref);
    return status;
}

static int write_copy(struct net_talker *talker, size_t size)
{
    uint8_t bytes[STREAM_WRITE_MAX];
    fill(talker->seed_out, talker->sent, bytes, size);
    return stream_write(talker->stream, slice_of(bytes, size));
}

static void talk(struct net_talker *talker)
{
    while (talker->sent < talker->to_send) {
        uint64_t left = talker->to_send - talker->sent;
        bool reference = net_random_below(&talker->random, 3) == 0;
        uint32_t most = net_random_below(&talker->random, 2) == 0 ? 200 : reference ? 60000 : 16384;
        size_t size = 1 + net_random_below(&talker->random, most);
        size = size < left ? size : left;
        int status = reference ? write_reference(talker, size) : write_copy(talker, size);
        if (status < 0) {
            check(status == -EAGAIN || status == -ENOMEM || status == -EPIPE);
            return;
        }
        talker->sent += size;
    }
    if (!talker->shut) {
        talker->shut = true;
        stream_shut(talker->stream);
    }
}

static void listen_to(struct net_talker *talker)
{
    struct slice slices[8];
    size_t count;
    while ((count = stream_peek(talker->stream, slices, 8)) > 0) {
        size_t taken = 0;
        for (size_t i = 0; i < count; i++) {
            for (size_t j = 0; j < slices[i].size; j++) {
                talker->wrong |= slices[i].bytes[j] != net_byte(talker->seed_in, talker->received);
                talker->received++;
                taken++;
            }
            if (talker->holds_back && net_random_below(&talker->random, 4) == 0) {
                break;
            }
        }
        stream_consume(talker->stream, taken);
        if (talker->holds_back && net_random_below(&talker->random, 3) == 0) {
            return;
        }
    }
}

void net_talker_go(struct net_talker *talker)
{
    if (talker->stream == NULL) {
        return;
    }
    listen_to(talker);
    if (!talker->closed) {
        talk(talker);
    }
    bool all = talker->shut && talker->received >= talker->to_receive;
    if (talker->closed || (talker->close_first && all)) {
        stream_release(talker->stream);
        talker->stream = NULL;
    }
}

static void notified(struct stream *stream, uint32_t events, void *session)
{
    struct net_talker *talker = session;
    talker->events |= events;
    talker->connected |= (events & STREAM_CONNECTED) != 0;
    talker->half_closed |= (events & STREAM_HALF_CLOSED) != 0;
    if ((events & STREAM_CLOSED) != 0) {
        talker->closed = true;
        talker->error = stream->error;
        while (talker->received < talker->to_receive && talker->error == 0) {
            uint64_t before = talker->received;
            listen_to(talker);
            if (talker->received == before && !talker->holds_back) {
                break;
            }
        }
    }
    if (talker->holds_back && !talker->closed && net_random_below(&talker->random, 2) == 0) {
        return; /* somebody will call net_talker_go */
    }
    net_talker_go(talker);
}

void net_talker_open(struct net_talker *talker, struct net_world *world, uint64_t seed,
                     unsigned side, uint64_t to_send, uint64_t to_receive)
{
    *talker = (struct net_talker){.world = world,
                                  .seed_out = seed * 1000003 + side * 500009,
                                  .seed_in = seed * 1000003 + (1 - side) * 500009,
                                  .random = seed * 77 + side,
                                  .to_send = to_send,
                                  .to_receive = to_receive};
}

void net_talker_attach(struct net_talker *talker, struct stream *stream)
{
    talker->stream = stream;
    stream->notify = notified;
    stream->session = talker;
}

bool net_talker_done(const struct net_talker *talker)
{
    return talker->stream == NULL && talker->received == talker->to_receive &&
           talker->sent == talker->to_send;
}
