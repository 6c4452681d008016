"""The tests of deliveries over our own TCP, by each way to the wire."""
import unittest

from lab_runs import LabRuns


class DeliveryOverOurTcp(LabRuns):
    def test_deliveries_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_delivery")

    def test_deliveries_over_ipv6(self):
        self.run_in_lab("net_af_packet", "test_delivery", TUBEPOST_TEST_IPV6="1")

    def test_deliveries_over_ipv6_and_af_xdp(self):
        self.run_in_lab("net_af_xdp", "test_delivery.Delivery.test_a_message_arrives_by_smtp_over_tcp_and_the_connection_is_used_again",
                        TUBEPOST_TEST_IPV6="1")

    def test_deliveries_over_af_xdp(self):
        self.run_in_lab("net_af_xdp", "test_delivery")


if __name__ == "__main__":
    unittest.main()
