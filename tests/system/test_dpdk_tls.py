"""The tests of TLS, DANE and MTA-STS over our own TCP."""
import unittest

from lab_runs import LabRuns


class TlsOverOurTcp(LabRuns):
    def test_tls_to_next_hops_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_outbound_tls")

    def test_tls_at_the_listeners_over_af_packet(self):
        self.run_in_lab("net_af_packet", *(f"test_tls.Tls.test_{name}" for name in (
            "the_load_generator_speaks_tls_and_resumes_sessions", "large_messages_both_versions_and_pipelining", "swaks_and_openssl",
            "plaintext_behind_starttls_is_never_executed", "required_and_implicit",
            "a_client_that_trusts_nobody_or_is_torn_off_leaves_nothing", "starttls_and_the_end_at_once_do_not_hold_a_session")))

    def test_tls_with_real_servers_and_clients_over_af_packet(self):
        self.run_in_lab("net_af_packet", *(f"test_peers_tls.PeersWithTls.test_{name}" for name in (
            "postfix_is_the_next_hop", "exim_is_the_next_hop", "postfix_is_a_client_at_each_level",
            "exim_is_a_client_known_by_its_certificate", "openssl_resumes_a_session_of_each_version")), servers=("postfix", "exim"))

    def test_dane_and_mta_sts_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_demands", servers=("nsd",))


if __name__ == "__main__":
    unittest.main()
