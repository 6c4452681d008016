#include "engine/net/mld.h"
#include "engine/net/icmp6.h"
#include "engine/net/nd.h"
#include "engine/net/stack_private.h"

#define AT (ETH_BYTES + IPV6_BYTES)
#define ALERT_BYTES 8u   /* hop-by-hop header with the router alert option: RFC 3810 §5 */
#define REPORT_BYTES 28u /* with one record */
#define CHANGE_TO_EXCLUDE 4
#define MODE_IS_EXCLUDE 2
#define BATCH 32u
#define BATCH_NS (10 * MS_NS)

static const struct ip_address all_routers = {{RTE_BE32(0xff020000), 0, 0, RTE_BE32(0x16)}};
static const struct ip_address nobody = {{0, 0, 0, 0}};

static void record_send(struct stack *stack, const struct ip_address *own, uint8_t kind)
{
    static const uint8_t alert[ALERT_BYTES] = {IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    const struct ip_address *from = nd_link_local(stack);
    struct ip_address group = nd_group_of(own);
    struct ip_header header = {.from = from == NULL ? &nobody : from,
                               .to = &all_routers,
                               .hop_limit = 1,
                               .payload_bytes = REPORT_BYTES};
    struct rte_mbuf *frame = icmp6_message(stack, &header, ICMP6_LISTENER_REPORT);
    if (frame == NULL) {
        return;
    }
    uint8_t *report = icmp6_body(frame);
    report[7] = 1; /* record */
    report[8] = kind;
    memcpy(report + 12, group.words, 16);
    /* The checksum does not cover the extension header, which is put before the report last. */
    icmp6_checksum_fill(frame);
    uint8_t *begin = (uint8_t *)rte_pktmbuf_prepend(frame, ALERT_BYTES);
    check(begin != NULL);
    memmove(begin, begin + ALERT_BYTES, AT);
    memcpy(begin + AT, alert, ALERT_BYTES);
    struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(begin + ETH_BYTES);
    ip->proto = IPPROTO_HOPOPTS;
    ip->payload_len = htons(ALERT_BYTES + REPORT_BYTES);
    stack->counters.mld_out_reports++;
    icmp6_send_ready(stack, frame, NULL);
}

void mld_report(struct stack *stack, const struct ip_address *own)
{
    record_send(stack, own, CHANGE_TO_EXCLUDE); /* nobody: all senders are listened to */
}

static void fire(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, mld.timer);
    struct mld *mld = &stack->mld;
    stack->now_ns = now_ns;
    for (unsigned i = 0; i < BATCH && mld->reported < stack->own.count; i++) {
        const struct own_address *own = &stack->own.list[mld->reported++];
        if (!ip_address_is_ipv4(&own->address) && own->state != OWN_DUPLICATE) {
            record_send(stack, &own->address, MODE_IS_EXCLUDE);
        }
    }
    if (mld->reported < stack->own.count) {
        wheel_arm(stack->wheel, &mld->timer, now_ns + BATCH_NS);
    }
}

void mld_open(struct stack *stack)
{
    timer_init(&stack->mld.timer, fire);
}

void mld_close(struct stack *stack)
{
    wheel_disarm(stack->wheel, &stack->mld.timer);
}

/* RFC 3810 §5.1.3, in ms: above 32767 a mantissa and an exponent. */
static uint32_t response_ms(uint16_t code)
{
    if (code < 0x8000) {
        return code;
    }
    return (uint32_t)(0x1000 | (code & 0xfff)) << ((code >> 12 & 7) + 3);
}

/* Whatever group is asked about, all are told: there are few, and it is asked seldom. */
void mld_query_arrives(struct stack *stack, const struct rte_mbuf *frame)
{
    const struct rte_ipv6_hdr *ip =
        rte_pktmbuf_mtod_offset(frame, const struct rte_ipv6_hdr *, ETH_BYTES);
    const uint8_t *query = rte_pktmbuf_mtod_offset(frame, const uint8_t *, AT);
    struct ip_address from = ip_address_of_ipv6(ip->src_addr);
    uint32_t random;
    if (frame->data_len < AT + 24 || ip->hop_limits != 1 || !ip_address_is_link_local(&from)) {
        stack->counters.icmp_in_errors++;
        return;
    }
    if (stack->queue != 0 || timer_armed(&stack->mld.timer)) {
        return;
    }
    uint32_t within_ms = response_ms((uint16_t)(query[4] << 8 | query[5]));
    world_random(stack->world, &random, sizeof(random));
    stack->mld.reported = 0;
    wheel_arm(stack->wheel, &stack->mld.timer,
              stack->now_ns + (within_ms == 0 ? 0 : random % within_ms) * MS_NS);
}
