#include "engine/net/stack_private.h"

#define ARP_FRAME_BYTES (ETH_BYTES + sizeof(struct rte_arp_hdr))
#define ASK_EVERY_NS SECOND_NS    /* RFC 1122 §2.3.2.1: at most one question a second */
#define ASK_TRIES 3u              /* unanswered, for one that was never known */
#define AGE_NS (60 * SECOND_NS)   /* then it is asked again, and used meanwhile */
#define AGED_TRIES 5u             /* unanswered: forgotten */
#define UNICAST_TRIES 3u          /* the first of these: RFC 4861 §7.3.3, RFC 1122 §2.3.2.1 */
#define FAILED_NS (3 * SECOND_NS) /* then the next packet asks again */

static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};

static void repeat(struct timer *timer, uint64_t now_ns);

int neighbours_open(struct stack *stack)
{
    struct neighbours *all = &stack->neighbours;
    list_init(&all->asked);
    timer_init(&all->timer, repeat);
    all->sets = calloc(NEIGHBOUR_SETS, sizeof(all->sets[0]));
    if (all->sets == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < NEIGHBOUR_SETS * NEIGHBOUR_WAYS; i++) {
        list_init(&all->sets[i / NEIGHBOUR_WAYS][i % NEIGHBOUR_WAYS].node);
    }
    return 0;
}

static void waiting_drop(struct stack *stack, struct neighbour *neighbour)
{
    stack->counters.arp_unresolved_lost += neighbour->waiting_count;
    stack->neighbours.waiting_count -= neighbour->waiting_count;
    while (neighbour->waiting_count > 0) {
        rte_pktmbuf_free(neighbour->waiting[--neighbour->waiting_count]);
    }
}

void neighbours_close(struct stack *stack)
{
    struct neighbours *all = &stack->neighbours;
    wheel_disarm(stack->wheel, &all->timer);
    for (unsigned i = 0; all->sets != NULL && i < NEIGHBOUR_SETS * NEIGHBOUR_WAYS; i++) {
        waiting_drop(stack, &all->sets[i / NEIGHBOUR_WAYS][i % NEIGHBOUR_WAYS]);
    }
    free(all->sets);
    all->sets = NULL;
}

static void arp_send(struct stack *stack, uint16_t operation, const struct ip_address *source,
                     const uint8_t to_mac[6], const struct ip_address *target)
{
    struct rte_mbuf *frame = eth_control_frame(stack, ARP_FRAME_BYTES);
    if (frame == NULL) {
        return;
    }
    struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, struct rte_ether_hdr *);
    struct rte_arp_hdr *arp = (struct rte_arp_hdr *)(eth + 1);
    const uint8_t *own = stack->port->facts.mac;
    memcpy(eth->dst_addr.addr_bytes, to_mac, 6);
    memcpy(eth->src_addr.addr_bytes, own, 6);
    eth->ether_type = htons(RTE_ETHER_TYPE_ARP);
    *arp = (struct rte_arp_hdr){.arp_hardware = htons(RTE_ARP_HRD_ETHER),
                                .arp_protocol = htons(RTE_ETHER_TYPE_IPV4),
                                .arp_hlen = 6,
                                .arp_plen = 4,
                                .arp_opcode = htons(operation)};
    memcpy(arp->arp_data.arp_sha.addr_bytes, own, 6);
    arp->arp_data.arp_sip = source->words[3];
    if (operation == RTE_ARP_OP_REPLY) {
        memcpy(arp->arp_data.arp_tha.addr_bytes, to_mac, 6);
    }
    arp->arp_data.arp_tip = target->words[3];
    stack->counters.arp_out++;
    eth_send(stack, frame);
}

void neighbour_announce(struct stack *stack, const struct ip_address *own)
{
    arp_send(stack, RTE_ARP_OP_REQUEST, own, broadcast, own);
}

static struct neighbour *find(struct stack *stack, const struct ip_address *address,
                              struct neighbour **set)
{
    const uint64_t words[2] = {(uint64_t)address->words[0] << 32 | address->words[1],
                               (uint64_t)address->words[2] << 32 | address->words[3]};
    uint64_t hash = siphash(&stack->tcp.table.key, words, 2);
    *set = stack->neighbours.sets[hash % NEIGHBOUR_SETS];
    for (unsigned i = 0; i < NEIGHBOUR_WAYS; i++) {
        struct neighbour *entry = &(*set)[i];
        if (entry->state != NEIGHBOUR_FREE && ip_address_equal(&entry->address, address)) {
            return entry;
        }
    }
    return NULL;
}

static void forget(struct stack *stack, struct neighbour *entry)
{
    waiting_drop(stack, entry);
    list_remove(&entry->node);
    entry->state = NEIGHBOUR_FREE;
    entry->tries = 0;
    entry->confirmed_ns = 0;
    entry->asked_ns = 0;
    entry->unproven = false;
    entry->wanted_elsewhere = false;
}

struct neighbour *neighbour_of(struct stack *stack, const struct ip_address *address)
{
    struct neighbour *set, *entry = find(stack, address, &set);
    if (entry != NULL) {
        return entry;
    }
    entry = set;
    for (unsigned i = 0; i < NEIGHBOUR_WAYS; i++) {
        if (set[i].state == NEIGHBOUR_FREE) {
            entry = &set[i];
            break;
        }
        entry = set[i].confirmed_ns < entry->confirmed_ns ? &set[i] : entry;
    }
    forget(stack, entry);
    entry->address = *address;
    entry->state = NEIGHBOUR_FAILED; /* asked as soon as something is to be sent */
    return entry;
}

/* The answers come to one queue: its shard asks for all. False: ask here. */
static bool ask_owner(struct stack *stack, const struct neighbour *entry)
{
    struct endpoint address;
    if (stack->ask_neighbour == NULL) {
        return false;
    }
    endpoint_of_ip_address(&address, &entry->address, 0);
    return stack->ask_neighbour(stack->owner, &address) == 0;
}

/* At most once a second for each. */
static void ask(struct stack *stack, struct neighbour *entry)
{
    struct ip_way way;
    if ((entry->asked_ns != 0 && stack->now_ns - entry->asked_ns < ASK_EVERY_NS) ||
        ip_route(stack, &entry->address, &way) < 0) {
        return;
    }
    bool where_it_was = entry->state == NEIGHBOUR_KNOWN && entry->tries < UNICAST_TRIES;
    entry->asked_ns = stack->now_ns;
    entry->tries++;
    if (ask_owner(stack, entry)) {
        return;
    }
    if (ip_address_is_ipv4(&entry->address)) {
        arp_send(stack, RTE_ARP_OP_REQUEST, &way.source, where_it_was ? entry->mac : broadcast,
                 &entry->address);
    } else {
        nd_solicit(stack, &entry->address, where_it_was ? entry->mac : NULL);
    }
}

static void ask_until_answered(struct stack *stack, struct neighbour *entry)
{
    entry->state = NEIGHBOUR_ASKED;
    entry->tries = 0;
    list_append(&stack->neighbours.asked, &entry->node);
    if (!timer_armed(&stack->neighbours.timer)) {
        wheel_arm(stack->wheel, &stack->neighbours.timer, stack->now_ns + ASK_EVERY_NS);
    }
    ask(stack, entry);
}

static void repeat(struct timer *timer, uint64_t now_ns)
{
    struct stack *stack = list_entry(timer, struct stack, neighbours.timer);
    struct list_node *head = &stack->neighbours.asked, *next;
    stack->now_ns = now_ns;
    for (struct list_node *node = head->next; node != head; node = next) {
        struct neighbour *entry = list_entry(node, struct neighbour, node);
        next = node->next;
        if (entry->tries >= ASK_TRIES && now_ns - entry->asked_ns >= ASK_EVERY_NS) {
            waiting_drop(stack, entry);
            list_remove(&entry->node);
            entry->state = NEIGHBOUR_FAILED;
            entry->asked_ns = now_ns;
        } else {
            ask(stack, entry);
        }
    }
    if (!list_empty(head)) {
        wheel_arm(stack->wheel, timer, now_ns + ASK_EVERY_NS);
    }
}

static void send_known(struct stack *stack, const struct neighbour *entry, struct rte_mbuf *frame)
{
    memcpy(rte_pktmbuf_mtod(frame, struct rte_ether_hdr *)->dst_addr.addr_bytes, entry->mac, 6);
    eth_send(stack, frame);
}

void neighbour_send(struct stack *stack, struct neighbour *entry, struct rte_mbuf *frame)
{
    if (entry->state == NEIGHBOUR_KNOWN) {
        if (entry->unproven || stack->now_ns - entry->confirmed_ns > AGE_NS) {
            if (entry->tries < AGED_TRIES) {
                ask(stack, entry);
            } else if (stack->now_ns - entry->asked_ns >= ASK_EVERY_NS) {
                ask_until_answered(stack, entry);
            }
        }
        if (entry->state == NEIGHBOUR_KNOWN) {
            send_known(stack, entry, frame);
            return;
        }
    }
    if (entry->state == NEIGHBOUR_FAILED &&
        (entry->asked_ns == 0 || stack->now_ns - entry->asked_ns > FAILED_NS)) {
        ask_until_answered(stack, entry);
    }
    struct neighbours *all = &stack->neighbours;
    if (entry->state == NEIGHBOUR_ASKED && entry->waiting_count < NEIGHBOUR_WAITING_MAX &&
        all->waiting_count < NEIGHBOUR_WAITING_ALL_MAX) {
        all->waiting_count++;
        entry->waiting[entry->waiting_count++] = frame;
        return;
    }
    stack->counters.arp_unresolved_lost++;
    rte_pktmbuf_free(frame);
}

static void share(struct stack *stack, const struct ip_address *ip, const uint8_t mac[6])
{
    struct endpoint address;
    if (stack->share_neighbour != NULL) {
        endpoint_of_ip_address(&address, ip, 0);
        stack->share_neighbour(stack->owner, &address, mac);
    }
}

static void heard(struct stack *stack, struct neighbour *entry, const uint8_t mac[6])
{
    memmove(entry->mac, mac, 6); /* it may be its own */
    list_remove(&entry->node);
    entry->state = NEIGHBOUR_KNOWN;
    entry->confirmed_ns = stack->now_ns;
    entry->tries = 0;
    entry->unproven = false;
    for (unsigned i = 0; i < entry->waiting_count; i++) {
        send_known(stack, entry, entry->waiting[i]);
    }
    stack->neighbours.waiting_count -= entry->waiting_count;
    entry->waiting_count = 0;
    if (entry->wanted_elsewhere) {
        entry->wanted_elsewhere = false;
        share(stack, &entry->address, entry->mac);
    }
}

void neighbour_wanted(struct stack *stack, const struct ip_address *address)
{
    if (!ip_is_on_link(stack, address) || ip_is_ours(stack, address)) {
        return;
    }
    struct neighbour *entry = neighbour_of(stack, address);
    bool fresh = !entry->unproven && stack->now_ns - entry->confirmed_ns <= AGE_NS;
    entry->wanted_elsewhere = true;
    if (entry->state == NEIGHBOUR_KNOWN && fresh) {
        entry->wanted_elsewhere = false;
        share(stack, address, entry->mac);
    } else if (entry->state == NEIGHBOUR_KNOWN && entry->tries < AGED_TRIES) {
        ask(stack, entry);
    } else if (entry->state != NEIGHBOUR_ASKED) {
        ask_until_answered(stack, entry);
    }
}

void neighbour_learn(struct stack *stack, const struct ip_address *address, const uint8_t mac[6])
{
    if (ip_is_on_link(stack, address) && !ip_is_ours(stack, address)) {
        heard(stack, neighbour_of(stack, address), mac);
    }
}

void neighbour_solicited(struct stack *stack, const struct ip_address *address,
                         const uint8_t mac[6])
{
    struct neighbour *set, *entry = find(stack, address, &set);
    if (entry != NULL && entry->state == NEIGHBOUR_KNOWN && memcmp(entry->mac, mac, 6) == 0) {
        return;
    }
    entry = entry != NULL ? entry : neighbour_of(stack, address);
    entry->wanted_elsewhere = true;
    heard(stack, entry, mac);
    entry->unproven = true;
}

void neighbour_advertised(struct stack *stack, const struct ip_address *address, const uint8_t *mac,
                          unsigned flags)
{
    struct neighbour *set, *entry = find(stack, address, &set);
    if (entry == NULL) {
        return;
    }
    if (entry->state != NEIGHBOUR_KNOWN) {
        if (mac != NULL) {
            entry->wanted_elsewhere = true;
            heard(stack, entry, mac);
            entry->unproven = (flags & NEIGHBOUR_CONFIRMS) == 0;
        }
        return;
    }
    bool moved = mac != NULL && memcmp(entry->mac, mac, 6) != 0;
    if (moved && (flags & NEIGHBOUR_OVERRIDES) == 0) {
        entry->unproven = true; /* is it still where we think? */
        return;
    }
    if (moved) {
        memcpy(entry->mac, mac, 6);
        entry->unproven = true;
        share(stack, address, mac);
    }
    if ((flags & NEIGHBOUR_CONFIRMS) != 0) {
        heard(stack, entry, entry->mac);
    }
}

bool neighbour_has_failed(struct stack *stack, const struct ip_address *address)
{
    struct neighbour *set, *entry = find(stack, address, &set);
    return entry != NULL && entry->state == NEIGHBOUR_FAILED && entry->asked_ns != 0;
}

static bool is_host_mac(const uint8_t mac[6])
{
    static const uint8_t none[6] = {0};
    return (mac[0] & 1) == 0 && memcmp(mac, none, 6) != 0;
}

static bool arp_right(const struct stack *stack, const struct rte_ether_hdr *eth,
                      const struct rte_arp_hdr *arp)
{
    const uint8_t *mac = arp->arp_data.arp_sha.addr_bytes;
    return arp->arp_hardware == htons(RTE_ARP_HRD_ETHER) &&
           arp->arp_protocol == htons(RTE_ETHER_TYPE_IPV4) && arp->arp_hlen == 6 &&
           arp->arp_plen == 4 && is_host_mac(mac) &&
           memcmp(mac, eth->src_addr.addr_bytes, 6) == 0 &&
           memcmp(mac, stack->port->facts.mac, 6) != 0;
}

static bool asks_for_us(const struct stack *stack, const struct rte_arp_hdr *arp)
{
    struct ip_address target = ip_address_of_ipv4(arp->arp_data.arp_tip);
    return arp->arp_opcode == htons(RTE_ARP_OP_REQUEST) &&
           own_find(&stack->own, &target) != OWN_NONE;
}

/* Believed: answers to us about neighbours that we know or ask for, questions to us, and what
 * neighbours that we know announce. */
static void arp_read(struct stack *stack, const struct rte_arp_hdr *arp)
{
    struct ip_address sender = ip_address_of_ipv4(arp->arp_data.arp_sip);
    struct ip_address target = ip_address_of_ipv4(arp->arp_data.arp_tip);
    const uint8_t *mac = arp->arp_data.arp_sha.addr_bytes;
    bool to_us = ip_is_ours(stack, &target);
    bool request = arp->arp_opcode == htons(RTE_ARP_OP_REQUEST);
    struct neighbour *set, *entry;

    if (ip_is_ours(stack, &sender)) {
        stack->counters.arp_conflicts++;
        return;
    }
    /* A probe (RFC 5227) has no sender address: it is answered, and teaches nothing. */
    if (sender.words[3] != 0 && !ip_is_on_link(stack, &sender)) {
        stack->counters.arp_refused++;
        return;
    }
    entry = sender.words[3] == 0 ? NULL : find(stack, &sender, &set);
    if (sender.words[3] != 0 && (entry != NULL || (request && to_us))) {
        entry = entry != NULL ? entry : neighbour_of(stack, &sender);
        entry->wanted_elsewhere |= entry->state != NEIGHBOUR_KNOWN;
        heard(stack, entry, mac);
    }
    if (request && to_us) {
        arp_send(stack, RTE_ARP_OP_REPLY, &target, mac, &sender);
    }
}

void neighbour_arp_input(struct stack *stack, struct rte_mbuf *frame)
{
    const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frame, const struct rte_ether_hdr *);
    const struct rte_arp_hdr *arp = (const struct rte_arp_hdr *)(eth + 1);
    stack->counters.arp_in++;
    if (frame->data_len < ARP_FRAME_BYTES || !arp_right(stack, eth, arp)) {
        stack->counters.arp_refused++;
    } else {
        arp_read(stack, arp);
        if (!asks_for_us(stack, arp) && exception_give(stack, frame)) {
            return;
        }
    }
    rte_pktmbuf_free(frame);
}
