#include "bench/carrier.h"
#include "bench/network_epoll.h"
#include <stdio.h>

int carrier_open(struct network **network, const struct dpdk_options *dpdk,
                 const struct world *world)
{
    (void)world;
    if (dpdk->wanted) {
        fprintf(stderr, "tubepost-bench: this build has no dpdk transport\n");
        return -ENOTSUP;
    }
    return network_epoll_open(network);
}

void carrier_patience(struct network *network, int milliseconds)
{
    network_epoll_patience(network, milliseconds);
}

void carrier_close(struct network *network)
{
    network->ops->close(network);
}
