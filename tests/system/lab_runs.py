"""Runs of other files' tests over our own TCP: the relay on a DPDK port, Linux on the other end of a veth, in a namespace."""
import os
import re
import subprocess
import sys
import unittest

from harness import TOP
from real_peers import peers

FOLDER = os.path.dirname(os.path.abspath(__file__))


def eal(driver):
    return ", ".join(f'"{argument}"' for argument in (f"--vdev={driver}0,iface=relay0", "--no-pci", "--no-huge", "-m", "512"))


@unittest.skipUnless(os.geteuid() == 0, "a lab (network namespace) needs root")
class LabRuns(unittest.TestCase):
    """Each test of a subclass is a whole run inside a lab; what fails there is printed."""

    def run_in_lab(self, driver, *tests, servers=(), **environment):
        for server in servers:
            peers("fetch", server)  # inside of the lab there is no way to a package mirror
        command = [os.path.join(TOP, "scripts/lab"), "with", sys.executable, "-W", "ignore", "-m", "unittest", "-v", *tests]
        result = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, errors="replace", timeout=600,
                                env=dict(os.environ, TUBEPOST_TEST_PORT=f"{driver}0", TUBEPOST_TEST_EAL=eal(driver), **environment))
        ran = re.search(r"Ran (\d+) tests?", result.stderr)
        self.assertEqual(result.returncode, 0, (result.stdout + result.stderr)[-8000:])
        self.assertGreater(int(ran.group(1)), 0)
        self.assertNotIn("skipped", result.stderr)
        print(f"{ran.group(1)} tests in the lab ... ", end="")
