"""Our TCP and Linux's, both ways, over wires of every kind: options off and on, congestion controls, small and large MTU, loss.

tubepost-bench over our stack on one end, over kernel sockets on the other; each letter is proven by its digest. Three
namespaces: ours, the wire (tests/system/lossy_wire.c), Linux. TUBEPOST_INTEROP_BYTES: how much goes each way (default 8 MiB;
bench/compare-net measures, this file only asks that every byte arrives).
"""
import json
import os
import signal
import subprocess
import sys
import unittest

from harness import BUILD, sanitizer_environment

BENCH = os.path.join(BUILD, "tubepost-bench")
BYTES = int(os.environ.get("TUBEPOST_INTEROP_BYTES", str(8 << 20)))
ADDRESSES = {"ipv4": ("198.51.100.1", "198.51.100.2", 24), "ipv6": ("2001:db8::1", "2001:db8::2", 64)}
OURS = ADDRESSES["ipv4"][0]


def run(*words, **more):
    return subprocess.run(words, check=True, **more)


class Wire:
    """ours:a0 ═ a1:middle:b1 ═ b0:linux, joined by lossy_wire; direct: ours:a0 ═ b0:linux."""

    def __init__(self, test, mtu=1500, sysctls=(), faults=None, congestion=None, family="ipv4"):
        name = f"interop-{os.getpid()}"
        self.ours, self.middle, self.linux = (f"{name}-{part}" for part in ("ours", "wire", "linux"))
        self.test, self.mtu = test, mtu
        self.our_address, self.linux_address, self.prefix = ADDRESSES[family]
        spaces = [self.ours, self.linux] + ([self.middle] if faults is not None else [])
        for space in spaces:
            run("ip", "netns", "add", space)
            test.addCleanup(run, "ip", "netns", "del", space)
            self.inside(space, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.autoconf=0")
            run("ip", "-n", space, "link", "set", "lo", "up")
        if faults is None:
            self.pair(self.ours, "a0", self.linux, "b0", mtu)
        else:
            self.pair(self.ours, "a0", self.middle, "a1", mtu)
            self.pair(self.middle, "b1", self.linux, "b0", mtu)
        self.inside(self.ours, "sysctl", "-qw", "net.ipv6.conf.a0.disable_ipv6=1")
        run("ip", "-n", self.linux, "address", "add", f"{self.linux_address}/{self.prefix}", "dev", "b0")
        if congestion is not None:  # by the route: the setting of a namespace takes only what the machine allows to everybody
            run("ip", "-n", self.linux, "route", "replace", "198.51.100.0/24", "dev", "b0", "src", self.linux_address, "congctl", congestion)
        for setting in sysctls:
            self.inside(self.linux, "sysctl", "-qw", setting)
        if faults is not None:
            self.start_faults(faults)

    def pair(self, space, link, other_space, other_link, mtu):
        run("ip", "-n", space, "link", "add", link, "mtu", str(mtu), "type", "veth",
            "peer", "name", other_link, "netns", other_space, "mtu", str(mtu))
        for where, what in ((space, link), (other_space, other_link)):
            self.inside(where, "ethtool", "-K", what, "tx", "off", "gso", "off", "tso", "off", "gro", "off",
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            run("ip", "-n", where, "link", "set", what, "up", "promisc", "on")

    def start_faults(self, faults):
        words = [word for key, value in faults.items() for word in (f"--{key}", str(value))]
        wire = self.test.start(["ip", "netns", "exec", self.middle, os.path.join(BUILD, "tests/system/lossy_wire"),
                                "a1", "b1", "--seconds", "300", *words])
        self.test.assertEqual(wire.stdout.readline(), "ready\n")
        self.wire = wire

    def inside(self, space, *words, **more):
        return run("ip", "netns", "exec", space, *words, **more)

    def wire_counts(self):
        self.wire.send_signal(signal.SIGTERM)
        out, _ = self.wire.communicate(timeout=20)
        return out


@unittest.skipUnless(os.geteuid() == 0, "namespaces take root")
class Interop(unittest.TestCase):
    def start(self, words):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=sanitizer_environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def bench(self, space, *words):
        return self.start(["ip", "netns", "exec", space, BENCH, *words, "--json"])

    def port(self, driver, wire):
        words = ["--port", f"{driver.split(',')[0]}0", "--address", f"{wire.our_address}/{wire.prefix}"]
        vdev = f"--vdev={driver.split(',')[0]}0,iface=a0" + "".join(f",{word}" for word in driver.split(",")[1:])
        for word in ("--no-huge", "-m512", "--no-pci", f"--file-prefix=interop{os.getpid()}", vdev):
            words += ["--eal", word]
        return words

    def wait_for_listener(self, space, host, port):
        knock = (f"import socket, time\nfor _ in range(40):\n try: socket.create_connection(({host!r}, {port}), 1).close(); break\n"
                 " except OSError: time.sleep(0.1)\nelse: raise SystemExit(1)")
        run("ip", "netns", "exec", space, sys.executable, "-c", knock)

    def report(self, process):
        out, _ = process.communicate(timeout=240)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        self.assertTrue(lines, out)
        return json.loads(lines[-1])

    def transfer(self, wire, ours_sends, driver, size=100000):
        count = max(BYTES // size, 4)
        sends = ["--count", str(count), "--connections", "8", "--size", str(size), "--pace", "deep", "--stall", "100"]
        takes = ["--count", str(count), "--seconds", "200"]
        port = [*self.port(driver, wire), "--mtu", str(wire.mtu)]
        ours, linux = (f"[{address}]" if ":" in address else address for address in (wire.our_address, wire.linux_address))
        if ours_sends:
            sink = self.bench(wire.linux, "sink", "--listen", f"{linux}:2525", *takes)
            self.wait_for_listener(wire.linux, wire.linux_address, 2525)
            source = self.bench(wire.ours, "source", "--to", f"{linux}:2525", *sends, *port)
        else:
            sink = self.bench(wire.ours, "sink", "--listen", f"{ours}:2525", *takes, *port)
            self.wait_for_listener(wire.linux, wire.our_address, 2525)
            source = self.bench(wire.linux, "source", "--to", f"{ours}:2525", *sends)
        sent, taken = self.report(source), self.report(sink)
        self.assertEqual((sent["acknowledged"], sent["connections_lost"]), (count, 0), sent)
        self.assertEqual((taken["proven"], taken["damaged"], taken["deliveries_missing"], taken["deliveries_repeated"]),
                         (count, 0, 0, 0), taken)
        return sent if ours_sends else taken

    def both_ways(self, driver="net_af_packet", **wire):
        for ours_sends in (True, False):
            with self.subTest(ours_sends=ours_sends):
                try:
                    report = self.transfer(Wire(self, **wire), ours_sends, driver)
                    if wire.get("mtu", 1500) > 1500:  # the frames are large indeed
                        self.assertLess(report["frames_out" if ours_sends else "frames_in"], BYTES / 4000)
                finally:
                    self.doCleanups()

    def test_without_sack(self):
        self.both_ways(sysctls=["net.ipv4.tcp_sack=0"])

    def test_without_timestamps(self):
        self.both_ways(sysctls=["net.ipv4.tcp_timestamps=0"])

    def test_without_window_scaling(self):
        self.both_ways(sysctls=["net.ipv4.tcp_window_scaling=0"])

    def test_with_ecn(self):
        self.both_ways(sysctls=["net.ipv4.tcp_ecn=1"])

    def test_congestion_controls_of_linux(self):
        for name in ("reno", "cubic", "bbr"):
            with self.subTest(congestion=name):
                self.both_ways(congestion=name)

    def test_mtu_1280(self):
        for family in ADDRESSES:
            with self.subTest(family=family):
                self.both_ways(mtu=1280, family=family)

    def test_over_ipv6(self):
        self.both_ways(family="ipv6")

    def test_mtu_9000(self):
        self.both_ways(driver="net_af_packet,blocksz=16384,framesz=16384,framecnt=256", mtu=9000)

    def test_over_af_xdp(self):
        self.both_ways(driver="net_af_xdp,force_copy=1")

    def test_who_was_killed_leaves_no_peer_hanging(self):
        """kill -9, then a new start on the same address: what the peer sends on its old connection is answered by RST."""
        wire = Wire(self)
        answer = ["answer", "--listen", f"{OURS}:2525", "--seconds", "100", *self.port("net_af_packet", wire)]
        first = self.bench(wire.ours, *answer)
        self.wait_for_listener(wire.linux, OURS, 2525)
        talk = (f"import socket, sys\ns = socket.create_connection(({OURS!r}, 2525), 5); s.settimeout(30)\n"
                "s.sendall(b'q' * 64); assert len(s.recv(64)) == 64\nprint('up', flush=True); sys.stdin.readline()\n"
                "try:\n s.sendall(b'q' * 64); s.recv(64); print('no reset')\nexcept ConnectionResetError: print('reset')\n")
        peer = subprocess.Popen(["ip", "netns", "exec", wire.linux, sys.executable, "-c", talk], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        self.addCleanup(peer.wait)
        self.addCleanup(peer.kill)
        self.assertEqual(peer.stdout.readline(), "up\n")
        first.kill()
        first.wait()
        self.bench(wire.ours, *answer)
        self.wait_for_listener(wire.linux, OURS, 2525)
        out, _ = peer.communicate("\n", timeout=60)
        self.assertEqual(out, "reset\n")

    def test_over_a_wire_that_loses_reorders_and_repeats(self):
        faults = {"loss": 100, "reorder": 100, "repeat": 50, "delay-us": 2000}
        for ours_sends in (True, False):
            with self.subTest(ours_sends=ours_sends):
                try:
                    wire = Wire(self, faults=faults)
                    self.transfer(wire, ours_sends, "net_af_packet")
                    counts = wire.wire_counts()
                    self.assertNotIn("lost 0 ", counts)
                    self.assertNotIn("reordered 0 ", counts)
                finally:
                    self.doCleanups()

    def test_over_a_wire_with_heavy_loss_without_sack(self):
        wire = Wire(self, faults={"loss": 500, "delay-us": 1000}, sysctls=["net.ipv4.tcp_sack=0"])
        self.transfer(wire, True, "net_af_packet", size=20000)


if __name__ == "__main__":
    unittest.main()
