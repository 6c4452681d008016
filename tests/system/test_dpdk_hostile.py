"""The tests of hostile peers and of kill -9 over our own TCP."""
import unittest

from lab_runs import LabRuns


class HostileOverOurTcp(LabRuns):
    def test_hostile_inputs_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_cases", "test_cases_tls",
                        "test_limits.Many.test_clients_that_ask_and_never_read_cost_bounded_memory")

    def test_hostile_next_hops_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_next_hops")

    def test_kill_9_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_crash.Crash.test_nothing_acknowledged_is_lost_by_kill_9",
                        TUBEPOST_CRASH_ROUNDS="20")


if __name__ == "__main__":
    unittest.main()
