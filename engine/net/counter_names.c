#include "engine/net/counter_names.h"
#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *ours, *name;
} names[] = {
    {"ip_in_receives", "IpInReceives"},
    {"ip_in_header_errors", "IpInHdrErrors"},
    {"ip_in_address_errors", "IpInAddrErrors"},
    {"ip_in_unknown_protocols", "IpInUnknownProtos"},
    {"ip_out_requests", "IpOutRequests"},
    {"ip_out_no_routes", "IpOutNoRoutes"},
    {"ip_reassembly_requests", "IpReasmReqds"},
    {"ip_reassembly_done", "IpReasmOKs"},
    {"ip_reassembly_failed", "IpReasmFails"},
    {"ip_reassembly_timeouts", "IpReasmTimeout"},
    {"ip_reassembly_overlaps", "IpExtReasmOverlaps"},
    {"ip_fragments_ok", "IpFragOKs"},
    {"ip_fragments_failed", "IpFragFails"},
    {"ip_fragments_made", "IpFragCreates"},
    {"icmp_in", "IcmpInMsgs"},
    {"icmp_in_errors", "IcmpInErrors"},
    {"icmp_in_echoes", "IcmpInEchos"},
    {"icmp_out", "IcmpOutMsgs"},
    {"icmp_out_rate_limited", "IcmpOutRateLimitGlobal"},
    {"udp_in_datagrams", "UdpInDatagrams"},
    {"udp_no_ports", "UdpNoPorts"},
    {"udp_in_errors", "UdpInErrors"},
    {"udp_out_datagrams", "UdpOutDatagrams"},
    {"udp_receive_buffer_errors", "UdpRcvbufErrors"},
    {"udp_send_buffer_errors", "UdpSndbufErrors"},
    {"udp_in_checksum_errors", "UdpInCsumErrors"},
    {"tcp_active_opens", "TcpActiveOpens"},
    {"tcp_passive_opens", "TcpPassiveOpens"},
    {"tcp_attempt_fails", "TcpAttemptFails"},
    {"tcp_established_resets", "TcpEstabResets"},
    {"tcp_current_established", "TcpCurrEstab"},
    {"tcp_in_segments", "TcpInSegs"},
    {"tcp_out_segments", "TcpOutSegs"},
    {"tcp_retransmitted_segments", "TcpRetransSegs"},
    {"tcp_in_errors", "TcpInErrs"},
    {"tcp_out_resets", "TcpOutRsts"},
    {"tcp_timeouts", "TcpExtTCPTimeouts"},
    {"tcp_fast_retransmits", "TcpExtTCPFastRetrans"},
    {"tcp_delayed_acks", "TcpExtDelayedACKs"},
    {"tcp_zero_window_probes", "TcpExtTCPWinProbe"},
    {"tcp_keepalives", "TcpExtTCPKeepAlive"},
    {"tcp_challenge_acks", "TcpExtTCPChallengeACK"},
    {"tcp_paws_refused", "TcpExtPAWSEstab"},
    {"tcp_out_of_order", "TcpExtTCPOFOQueue"},
    {"tcp_out_of_order_lost", "TcpExtTCPOFODrop"},
    {"tcp_receive_pruned", "TcpExtRcvPruned"},
    {"tcp_half_open_drops", "TcpExtTCPReqQFullDrop"},
    {"tcp_syn_cookies_sent", "TcpExtSyncookiesSent"},
    {"tcp_syn_cookies_received", "TcpExtSyncookiesRecv"},
    {"tcp_syn_cookies_failed", "TcpExtSyncookiesFailed"},
    {"tcp_accept_overflows", "TcpExtListenOverflows"},
    {"tcp_time_waits", "TcpExtTW"},
    {"tcp_time_wait_reused", "TcpExtTWRecycled"},
    {"tcp_time_wait_overflows", "TcpExtTCPTimeWaitOverflow"},
    {"tcp_aborts_on_memory", "TcpExtTCPAbortOnMemory"},
    {"tcp_aborts_on_timeout", "TcpExtTCPAbortOnTimeout"},
    {"tcp_aborts_on_linger", "TcpExtTCPAbortOnLinger"},
};

void counter_name(const char *ours, char name[COUNTER_NAME_MAX])
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(ours, names[i].ours) == 0) {
            snprintf(name, COUNTER_NAME_MAX, "%s", names[i].name);
            return;
        }
    }
    size_t used = (size_t)snprintf(name, COUNTER_NAME_MAX, "Tubepost");
    bool begins = true;
    for (; *ours != '\0' && used + 1 < COUNTER_NAME_MAX; ours++) {
        if (*ours == '_') {
            begins = true;
            continue;
        }
        name[used++] = (char)(begins ? toupper((unsigned char)*ours) : *ours);
        begins = false;
    }
    name[used] = '\0';
}
