/*
 * stack_counters: what one stack has seen and done. Written by its shard alone; read relaxed by
 * anyone.
 *
 * Names: RFC 4293 (ip), RFC 4022 (tcp), RFC 4113 (udp), and Linux's TcpExt where they are silent,
 * so that an operator finds them in `nstat`.
 */
#pragma once
#include <stdint.h>

/* One list for the struct, for reports and for tests. */
#define STACK_COUNTERS(X)                                                                          \
    X(frames_in)                                                                                   \
    X(frames_out)                                                                                  \
    X(frames_not_ours)      /* another Ethernet address or ethertype */                            \
    X(frames_for_siblings)  /* for an address of another port */                                   \
    X(frames_other_vlan)    /* a tag that is not ours, or none where ours is wanted */             \
    X(frames_out_lost)      /* the port's ring and ours were full */                               \
    X(frames_in_no_buffer)  /* no mbuf to copy it to */                                            \
    X(frames_out_no_buffer) /* no mbuf to build it in */                                           \
    X(arp_in)                                                                                      \
    X(arp_out)                                                                                     \
    X(arp_refused)   /* malformed, or nothing that a sane host says */                             \
    X(arp_conflicts) /* another host claims our address */                                         \
    X(nd_in)                                                                                       \
    X(nd_refused)   /* malformed, from beyond the link, or a redirect */                           \
    X(nd_conflicts) /* another host has or wants our IPv6 address */                               \
    X(nd_out_solicitations)                                                                        \
    X(nd_out_advertisements)                                                                       \
    X(nd_router_advertisements)                                                                    \
    X(mld_out_reports)                                                                             \
    X(arp_unresolved_lost) /* packets for hosts that do not answer */                              \
    X(ip_in_receives)                                                                              \
    X(ip_in_header_errors)                                                                         \
    X(ip_in_address_errors) /* not for us, or martian */                                           \
    X(ip_in_unknown_protocols)                                                                     \
    X(ip_reassembly_requests) /* fragments */                                                      \
    X(ip_reassembly_done)     /* datagrams that became whole */                                    \
    X(ip_reassembly_failed)   /* that did not, for any of the reasons below or another */          \
    X(ip_reassembly_timeouts)                                                                      \
    X(ip_reassembly_overlaps)   /* fragments that contradict others */                             \
    X(ip_reassembly_pushed_out) /* a bound was reached */                                          \
    X(ip_fragments_ok)          /* packets that left in fragments */                               \
    X(ip_fragments_failed)      /* that should have, but for want of buffers */                    \
    X(ip_fragments_made)                                                                           \
    X(ip_out_requests)                                                                             \
    X(ip_out_no_routes)                                                                            \
    X(ip_out_tentative) /* not sent: is our address ours alone? */                                 \
    X(icmp_in)                                                                                     \
    X(icmp_in_errors) /* malformed, or no segment of ours is quoted */                             \
    X(icmp_in_echoes)                                                                              \
    X(icmp_out)                                                                                    \
    X(icmp_out_rate_limited)                                                                       \
    X(udp_no_ports)                                                                                \
    X(tcp_active_opens)                                                                            \
    X(tcp_passive_opens)                                                                           \
    X(tcp_attempt_fails)                                                                           \
    X(tcp_established_resets)                                                                      \
    X(tcp_current_established) /* a gauge */                                                       \
    X(tcp_in_segments)                                                                             \
    X(tcp_out_segments)                                                                            \
    X(tcp_retransmitted_segments)                                                                  \
    X(tcp_in_errors) /* checksum, header */                                                        \
    X(tcp_out_resets)                                                                              \
    X(tcp_in_bytes)  /* in order, given to sessions */                                             \
    X(tcp_out_bytes) /* acknowledged */                                                            \
    X(tcp_timeouts)  /* retransmission timer fired */                                              \
    X(tcp_fast_retransmits)                                                                        \
    X(tcp_loss_probes)     /* of the tail, RFC 8985 */                                             \
    X(tcp_dsacks_in)       /* duplicates that peers report */                                      \
    X(tcp_undos)           /* losses that were none */                                             \
    X(tcp_rack_none)       /* flights without records: all were in use */                          \
    X(tcp_mtu_told)        /* by routers, and believed */                                          \
    X(tcp_mtu_black_holes) /* full segments that vanished without a word */                        \
    X(tcp_mtu_probes)                                                                              \
    X(tcp_mtu_probes_lost)                                                                         \
    X(tcp_out_supers) /* frames that the port cut into segments */                                 \
    X(tcp_recoveries)                                                                              \
    X(tcp_delayed_acks)                                                                            \
    X(tcp_duplicate_acks_in)                                                                       \
    X(tcp_zero_window_probes)                                                                      \
    X(tcp_keepalives)                                                                              \
    X(tcp_ecn_agreed)     /* connections */                                                        \
    X(tcp_ce_in)          /* data segments that were marked */                                     \
    X(tcp_ecn_reductions) /* the peer told of marks */                                             \
    X(tcp_ecn_given_up)   /* all was marked: the path is not to be believed */                     \
    X(tcp_challenge_acks)                                                                          \
    X(tcp_acks_rate_limited)                                                                       \
    X(tcp_paws_refused)                                                                            \
    X(tcp_out_of_window)                                                                           \
    X(tcp_out_of_order)          /* kept */                                                        \
    X(tcp_out_of_order_lost)     /* dropped for want of room */                                    \
    X(tcp_out_of_order_pruned)   /* kept, and dropped again for bytes in order: RFC 2018 §8 */    \
    X(tcp_receive_pruned)        /* in-order data dropped: buffers are out */                      \
    X(tcp_window_growth_refused) /* buffers are short */                                           \
    X(tcp_half_open_drops)       /* SYN dropped: table full, no cookies possible */                \
    X(tcp_syns_refused)          /* buffers are out */                                             \
    X(tcp_syn_cookies_sent)                                                                        \
    X(tcp_syn_cookies_received)                                                                    \
    X(tcp_syn_cookies_failed)                                                                      \
    X(tcp_data_before_cookie) /* dropped: what brings the cookie will come again */                \
    X(tcp_accept_overflows)   /* handshake done, but no room for the connection */                 \
    X(tcp_time_waits)                                                                              \
    X(tcp_time_wait_reused)                                                                        \
    X(tcp_time_wait_overflows)                                                                     \
    X(tcp_aborts_on_memory)                                                                        \
    X(tcp_aborts_on_timeout)                                                                       \
    X(tcp_aborts_on_linger)                                                                        \
    X(tcp_handed_over)         /* frames given to another shard */                                 \
    X(tcp_hand_overs_lost)     /* too many were nobody's, or there was no way */                   \
    X(tcp_taken_over)          /* frames of ours that another shard received */                    \
    X(tcp_tx_copied_bytes)     /* payload that could not be sent by reference */                   \
    X(tcp_tx_referenced_bytes) /* payload sent from where it lies */                               \
    X(tcp_rx_coalesced)        /* segments that were joined to the one before in their burst */    \
    X(tcp_rx_merged)           /* small segments copied together to save buffers */                \
    X(udp_in_datagrams)                                                                            \
    X(udp_in_errors) /* those below, and malformed ones */                                         \
    X(udp_in_checksum_errors)                                                                      \
    X(udp_receive_buffer_errors) /* nobody took them in time */                                    \
    X(udp_out_datagrams)                                                                           \
    X(udp_handed_over)     /* to another shard: datagrams, and errors that quote them */           \
    X(udp_hand_overs_lost) /* too many, or there was no way */                                     \
    X(udp_taken_over)      /* of ours, that another shard received */                              \
    X(exception_out)       /* to the kernel */                                                     \
    X(exception_in)        /* from it */                                                           \
    X(exception_lost)      /* too many in one round, too large, or no buffer */                    \
    X(trace_kept)          /* copied into the archive */                                           \
    X(trace_not_kept)      /* too many in one second */                                            \
    X(trace_rings_moved)   /* from a silent connection to another */                               \
    X(trace_missed)        /* events of connections for which there was no ring */

#define STACK_COUNTER_FIELD(name) uint64_t name;
struct stack_counters {
    STACK_COUNTERS(STACK_COUNTER_FIELD)
};

/* Their names in the order of the struct, which holds nothing else: field i is word i. */
#define STACK_COUNTER_NAME(name) #name,
#define STACK_COUNTER_NAMES                                                                        \
    {                                                                                              \
        STACK_COUNTERS(STACK_COUNTER_NAME)                                                         \
    }
static inline uint64_t stack_counter_at(const struct stack_counters *counters, unsigned index)
{
    return ((const uint64_t *)counters)[index];
}
