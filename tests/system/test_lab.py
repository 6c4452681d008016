"""scripts/lab: the private network that other tests stand on, and that it leaves nothing behind."""
import os
import signal
import subprocess
import tempfile
import unittest

from harness import TOP, wait_until

LAB = os.path.join(TOP, "scripts/lab")


def lab(*words, **kwargs):
    return subprocess.run([LAB, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **kwargs)


def labs():
    return set(lab("list").stdout.split())


def namespaces():
    return subprocess.run(["ip", "netns"], stdout=subprocess.PIPE, text=True, check=True).stdout


@unittest.skipUnless(os.geteuid() == 0, "namespaces take root")
class Lab(unittest.TestCase):
    def setUp(self):
        # Labs of its own: other tests make theirs meanwhile.
        state = tempfile.TemporaryDirectory(prefix="tubepost-test-")
        self.addCleanup(state.cleanup)
        os.environ["TUBEPOST_LAB_STATE"] = state.name
        self.addCleanup(os.environ.pop, "TUBEPOST_LAB_STATE")
        self.name = f"test-{os.getpid()}"
        self.addCleanup(lab, "down", self.name)

    def test_up_joins_two_interfaces_whose_frames_are_as_on_a_wire(self):
        self.assertEqual(lab("up", self.name).returncode, 0)
        for interface in ("relay0", "peer0"):
            features = lab("exec", self.name, "ethtool", "-k", interface).stdout
            for feature in ("tx-checksumming", "tcp-segmentation-offload", "generic-segmentation-offload",
                            "generic-receive-offload"):
                self.assertIn(f"{feature}: off", features)
        self.assertIn("192.0.2.2/24", lab("exec", self.name, "ip", "address", "show", "peer0").stdout)
        self.assertNotIn("inet", lab("exec", self.name, "ip", "address", "show", "relay0").stdout)

    def test_down_removes_the_namespace_and_the_processes_inside(self):
        lab("up", self.name)
        sleeper = subprocess.Popen([LAB, "exec", self.name, "sleep", "1000"])
        wait_until(lambda: "sleep" in lab("exec", self.name, "ps", "-o", "args=", "--ppid", str(sleeper.pid)).stdout,
                   "the command inside")
        self.assertEqual(lab("down", self.name).returncode, 0)
        self.assertNotEqual(sleeper.wait(10), 0)
        self.assertNotIn(self.name, namespaces())
        self.assertNotIn(self.name, labs())

    def test_a_name_in_use_is_refused_and_left_alone(self):
        lab("up", self.name)
        self.assertEqual(lab("up", self.name).returncode, 1)
        self.assertIn(self.name, namespaces())

    def test_with_passes_the_exit_code_on_and_cleans_up(self):
        before = labs()
        self.assertEqual(lab("with", "bash", "-c", "exit 7").returncode, 7)
        self.assertEqual(labs(), before)

    def test_with_cleans_up_when_it_is_told_to_stop(self):
        before = labs()
        process = subprocess.Popen([LAB, "with", "sleep", "1000"])
        wait_until(lambda: labs() - before, "the lab")
        mine = (labs() - before).pop()
        wait_until(lambda: f"tubepost-{mine}" in namespaces(), "the namespace")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(30), 143)
        self.assertNotIn(mine, namespaces())
        self.assertNotIn(mine, labs())

    def test_huge_pages_are_mounted_and_given_back(self):
        def total():
            with open("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages") as file:
                return int(file.read())
        before = total()
        if lab("up", self.name, "--huge", "16").returncode != 0:
            self.skipTest("this machine has no huge pages to give")
        self.assertGreaterEqual(total(), before + 8)
        self.assertIn("LAB_HUGE_DIR=", lab("env", self.name).stdout)
        during = total()
        lab("down", self.name)
        self.assertEqual(total(), during - 8)


if __name__ == "__main__":
    unittest.main()
