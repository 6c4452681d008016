"""tubepost-bench over our own stack: against itself through shared memory, and against Linux on a veth pair."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, TOP, sanitizer_environment, wait_until

BENCH = os.path.join(BUILD, "tubepost-bench")
LAB = os.path.join(TOP, "scripts/lab")


def eal(prefix, device):
    words = []
    for word in ("--no-huge", "-m512", "--no-pci", f"--file-prefix={prefix}{os.getpid()}", f"--vdev={device}"):
        words += ["--eal", word]
    return words


def report_of(process, timeout=60):
    out, _ = process.communicate(timeout=timeout)
    return process.returncode, json.loads(out)


class OwnStack(unittest.TestCase):
    def bench(self, *words, inside=()):
        process = subprocess.Popen([*inside, BENCH, *words, "--json"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, env=sanitizer_environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def assert_all_arrived(self, sent, taken, count):
        self.assertEqual((sent["acknowledged"], sent["connections_lost"]), (count, 0), sent)
        self.assertEqual((taken["proven"], taken["damaged"], taken["deliveries_missing"], taken["deliveries_repeated"]),
                         (count, 0, 0, 0), taken)


class ThroughSharedMemory(OwnStack):
    def run_pair(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/memif"
            device = "net_memif0,role={},socket-abstract=no,socket=" + path
            ends = [("198.51.100.1/24", "server"), ("198.51.100.2/24", "client")]
            words = [[*eal(role, device.format(role)), "--port", "net_memif0", "--address", address]
                     for address, role in ends]
            sink = self.bench("sink", "--listen", "198.51.100.1:25", "--seconds", "50", *words[0])
            wait_until(lambda: os.path.exists(path), "the sink's socket")
            code, sent = report_of(self.bench("source", "--to", "198.51.100.1:25", *options, *words[1]))
            sink.send_signal(signal.SIGTERM)
            return code, sent, report_of(sink)[1]

    def test_small_letters_arrive_at_every_pace(self):
        for pace in ("command", "deep"):
            with self.subTest(pace=pace):
                code, sent, taken = self.run_pair("--count", "3000", "--connections", "20", "--pace", pace)
                self.assertEqual(code, 0)
                self.assert_all_arrived(sent, taken, 3000)
                self.assertEqual(sent["transport"], "dpdk")

    def test_large_letters_arrive_whole_and_are_not_copied(self):
        code, sent, taken = self.run_pair("--count", "40", "--connections", "4", "--size", "3000000")
        self.assertEqual(code, 0)
        self.assert_all_arrived(sent, taken, 40)
        self.assertGreater(sent["tcp_tx_referenced_bytes"], 40 * 2900000)


@unittest.skipUnless(os.geteuid() == 0, "namespaces take root")
class AgainstLinux(OwnStack):
    def setUp(self):
        self.lab = f"bench-{os.getpid()}"
        self.addCleanup(subprocess.run, [LAB, "down", self.lab], check=True)
        subprocess.run([LAB, "up", self.lab], check=True)

    def wait_for_listener(self, address):
        host, port = address.split(":")
        knock = (f"import socket, time\nfor _ in range(300):\n try: socket.create_connection(({host!r}, {port}), 1).close(); break\n"
                 " except OSError: time.sleep(0.1)\nelse: raise SystemExit(1)")
        subprocess.run([LAB, "exec", self.lab, sys.executable, "-c", knock], check=True)

    def pair(self, own_part, own, linux_part, linux, device):
        port = device.split(",")[0]
        words = [*eal("linux", device), "--port", port, "--address", "192.0.2.1/24"]
        inside = [LAB, "exec", self.lab]
        if own_part == "source":
            sink = self.bench(linux_part, *linux, inside=inside)
            self.wait_for_listener(linux[1])
            code, sent = report_of(self.bench(own_part, *own, *words, inside=inside))
        else:
            sink = self.bench(own_part, *own, *words, inside=inside)
            self.wait_for_listener(own[1])
            code, sent = report_of(self.bench(linux_part, *linux, inside=inside))
        self.assertEqual(code, 0, sent)
        return sent, report_of(sink)[1]

    def both_ways(self, device, size):
        load = ["--count", "300", "--connections", "10", "--size", size, "--pace", "deep"]
        ended = ["--count", "300", "--seconds", "50"]
        sent, taken = self.pair("source", ["--to", "192.0.2.2:2525", *load], "sink", ["--listen", "192.0.2.2:2525", *ended], device)
        self.assert_all_arrived(sent, taken, 300)
        sent, taken = self.pair("sink", ["--listen", "192.0.2.1:25", *ended], "source", ["--to", "192.0.2.1:25", *load], device)
        self.assert_all_arrived(sent, taken, 300)

    def test_af_packet_both_ways(self):
        for size in ("600", "40000"):
            with self.subTest(size=size):
                self.both_ways("net_af_packet0,iface=relay0", size)

    def test_af_xdp_both_ways(self):
        self.both_ways("net_af_xdp0,iface=relay0,force_copy=1", "4096")


if __name__ == "__main__":
    unittest.main()
