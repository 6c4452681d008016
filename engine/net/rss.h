/*
 * rss: which queue the port's hash sends a packet to, and how far that is to be believed.
 *
 * The port is asked for its key and redirection table, or given ours; the stack asks rss_queue_of
 * before it takes a source port, so that the replies land at home. Some devices say yes to a key
 * and hash otherwise (ENA, gVNIC), so the prediction is compared with what received mbufs carry
 * (rss_observe): one contradiction and the port's hash counts as unknown. Then a frame may land on
 * any queue, and the port must be dealt in software (port_deal), which uses the same arithmetic.
 *
 * One struct a port, written by the queue's owner at start and by rss_observe; each shard keeps its
 * own copy. Pure arithmetic: no device, no clock. The hash is Toeplitz over addresses and TCP ports
 * as they stand in the arriving frame (source first).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define RSS_KEY_BYTES 40 /* what addresses and ports of IPv6 need; longer device keys are cut */
#define RSS_KEY_BYTES_MAX 64
#define RSS_TABLE_MAX 512  /* entries of a redirection table; a power of two */
#define RSS_PROOF_COUNT 16 /* agreeing frames after which nothing more is compared */

/*
 *             key and table read back       RSS_PROOF_COUNT frames agree
 *  RSS_UNKNOWN ────────────► RSS_CLAIMED ────────────────► RSS_PROVEN
 *       ▲                        │
 *       └── a frame contradicts ─┘
 */
enum rss_mode { RSS_UNKNOWN, RSS_CLAIMED, RSS_PROVEN };

struct rss_tuple {
    uint8_t source[16]; /* network order; the first 4 for IPv4 */
    uint8_t target[16];
    uint16_t source_port; /* host order; both 0: hashed by addresses alone */
    uint16_t target_port;
    bool ipv6;
};

struct rss {
    enum rss_mode mode;
    uint16_t queue_count;
    uint16_t table_count;
    uint16_t agreed_count;
    uint32_t key[RSS_KEY_BYTES_MAX / 4]; /* words in host order */
    uint16_t table[RSS_TABLE_MAX];
};

/* The key given to ports that take one. Both directions of a connection hash alike with it. */
extern const uint8_t rss_key_symmetric[RSS_KEY_BYTES_MAX];

/* One queue: everything goes there, RSS_PROVEN. More: RSS_UNKNOWN, all hashes dealt evenly by our
 * own key. */
void rss_init(struct rss *rss, uint16_t queue_count);
/* What a device says of itself; RSS_CLAIMED. 0, or -EINVAL: key shorter than RSS_KEY_BYTES, table
 * no power of two, above RSS_TABLE_MAX, or naming a queue that is not there; then rss stays as it
 * was. */
int rss_claim(struct rss *rss, const uint8_t *key, unsigned key_bytes, const uint16_t *table,
              unsigned table_count);

uint32_t rss_hash(const struct rss *rss, const struct rss_tuple *arriving);
uint16_t rss_queue_of_hash(const struct rss *rss, uint32_t hash);
uint16_t rss_queue_of(const struct rss *rss, const struct rss_tuple *arriving);

/* A TCP frame that arrived on `queue` and whose mbuf carries `hash`. Returns the mode after it. */
enum rss_mode rss_observe(struct rss *rss, const struct rss_tuple *arriving, uint32_t hash,
                          uint16_t queue);

/* What an Ethernet frame (one VLAN tag at most) is hashed by. An ICMP or ICMPv6 error is read by
 * the packet that it quotes, turned round, so that it finds the connection it speaks of; other
 * packets than unfragmented TCP and UDP by their addresses. False: no IP, or cut short. */
bool rss_tuple_of_frame(struct rss_tuple *tuple, const uint8_t *frame, uint32_t bytes);
