"""The same tests over our own TCP: the relay on a DPDK port, Linux on the other end of a veth, in a namespace.

Each test here is a whole run of another file's tests inside a lab; what fails there is printed.
"""
import os
import re
import subprocess
import sys
import unittest

from harness import TOP

FOLDER = os.path.dirname(os.path.abspath(__file__))


def eal(driver):
    return ", ".join(f'"{argument}"' for argument in (f"--vdev={driver}0,iface=relay0", "--no-pci", "--no-huge", "-m", "512"))


@unittest.skipUnless(os.geteuid() == 0, "a lab (network namespace) needs root")
class OverOurTcp(unittest.TestCase):
    def run_in_lab(self, driver, *tests, **environment):
        command = [os.path.join(TOP, "scripts/lab"), "with", sys.executable, "-W", "ignore", "-m", "unittest", "-v", *tests]
        # libxdp 1.3 forgets what it keeps about a umem when the last socket goes.
        suppressions = os.path.join(FOLDER, "lsan.supp")
        environment["LSAN_OPTIONS"] = f"suppressions={suppressions}:print_suppressions=0"
        result = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, errors="replace", timeout=600,
                                env=dict(os.environ, TUBEPOST_TEST_PORT=f"{driver}0", TUBEPOST_TEST_EAL=eal(driver), **environment))
        ran = re.search(r"Ran (\d+) tests?", result.stderr)
        self.assertEqual(result.returncode, 0, (result.stdout + result.stderr)[-8000:])
        self.assertGreater(int(ran.group(1)), 0)
        self.assertNotIn("skipped", result.stderr)
        print(f"{ran.group(1)} tests in the lab ... ", end="")

    def test_deliveries_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_delivery")

    def test_hostile_inputs_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_cases")

    def test_kill_9_over_af_packet(self):
        self.run_in_lab("net_af_packet", "test_crash.Crash.test_nothing_acknowledged_is_lost_by_kill_9",
                        TUBEPOST_CRASH_ROUNDS="20")

    def test_deliveries_over_af_xdp(self):
        self.run_in_lab("net_af_xdp", "test_delivery")


if __name__ == "__main__":
    unittest.main()
