"""The stack below the relay: neighbours, fragments, several ports and shards, and what the tool shows of it.

test_dpdk_delivery, test_dpdk_hostile and test_dpdk_tls have the relay's own tests over it.
"""
import json
import os
import struct
import subprocess
import sys
import unittest

from harness import BUILD, TOP, Process, SystemTest, sanitizer_environment, wait_until
from lab_runs import LabRuns


class StackOverOurTcp(LabRuns):
    def test_what_the_kernel_asks_of_an_ipv6_neighbour_is_answered(self):
        self.run_in_lab("net_af_packet", "neighbours.Neighbours", TUBEPOST_TEST_IPV6="1")

    def test_fragments_of_the_kernel_are_joined_and_ours_by_the_kernel(self):
        self.run_in_lab("net_af_xdp", "neighbours.Fragments", TUBEPOST_TEST_IPV6="1")

    def test_the_tool_shows_the_stack(self):
        self.run_in_lab("net_af_packet", "net_tool_cases")


class ThroughSharedMemory(SystemTest):
    """tubepost-bench on the other end of net_memif: no kernel between it and the relay."""

    def words(self, name, role):
        return ["--no-huge", "-m512", "--no-pci", f"--file-prefix={name}{os.getpid()}",
                f"--vdev=net_memif0,role={role},socket-abstract=no,socket={self.folder}/memif"]

    def start_relay(self, routes):
        config = os.path.join(self.folder, "relay.yaml")
        with open(config, "w") as f:
            json.dump({"hostname": "relay.test", "transport": "dpdk", "routes": routes,
                       "dpdk": {"eal": self.words("relay", "server"),
                                "ports": [{"name": "net_memif0", "addresses": ["198.51.100.1/24"]}]},
                       "listen": [{"name": "mx", "address": ["198.51.100.1:25"]}],
                       "relay_networks": ["198.51.100.0/24"],
                       "control": {"path": f"{self.folder}/control"},
                       "spool": {"path": f"{self.folder}/spool", "segment_bytes": "16M", "memory_bytes": "32M"}}, f)
        os.makedirs(f"{self.folder}/spool")
        relay = Process([os.path.join(BUILD, "tubepostd"), "-c", config], os.path.join(self.folder, "relay.log"),
                        env=sanitizer_environment())
        self.addCleanup(self.end, relay)
        wait_until(lambda: "is ready" in relay.output(), "the relay's start")
        return relay

    def bench(self, *words):
        port = ["--port", "net_memif0", "--address", "198.51.100.2/24"]
        for word in self.words("bench", "client"):
            port += ["--eal", word]
        result = subprocess.run([os.path.join(BUILD, "tubepost-bench"), *words, "--json", *port], capture_output=True,
                                text=True, timeout=120, check=False, env=sanitizer_environment())
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return json.loads(result.stdout)

    def test_every_letter_goes_in_and_comes_out_once_and_whole(self):
        relay = self.start_relay([{"match": "*", "via": "smtp", "to": ["198.51.100.2:2601"]}])
        for pace in ("command", "deep"):
            report = self.bench("loop", "--to", "198.51.100.1:25", "--listen", "198.51.100.2:2601", "--count", "3000",
                                "--connections", "30", "--pace", pace, "--size", "6000", "--idle", "20")
            self.assertEqual([report[key] for key in ("acknowledged", "proven", "damaged", "deliveries_missing",
                                                      "deliveries_repeated", "connections_lost")], [3000, 3000, 0, 0, 0, 0], report)
            self.assertEqual(report["transport"], "dpdk")
        relay.stop()
        self.assertEqual(relay.popen.returncode, 0, relay.output()[-3000:])


def captured_by_interface(path):
    """Frames of IPv4 and ARP in a pcapng file, by the number of their interface."""
    frames, at = {}, 0
    with open(path, "rb") as f:
        data = f.read()
    while at < len(data):
        kind, size, interface = struct.unpack_from("<III", data, at)
        if kind == 6:  # an Enhanced Packet Block
            captured, = struct.unpack_from("<I", data, at + 20)
            frame = data[at + 28:at + 28 + captured]
            if frame[12:14] in (b"\x08\x00", b"\x08\x06"):
                frames.setdefault(interface, []).append(frame)
        at += size
    return frames


@unittest.skipUnless(os.geteuid() == 0, "a lab (network namespace) needs root")
class TwoPorts(SystemTest):
    """Mail comes in by one port and leaves by the other, where only the longest prefix of all ports leads."""

    CALL = "import socket; s = socket.create_connection(('192.0.2.1', 25), 10); print(s.recv(999)); s.sendall(b'QUIT\\r\\n'); print(s.recv(999))"

    def lab(self):
        name = f"ports-{os.getpid()}"
        subprocess.run([os.path.join(TOP, "scripts/lab"), "up", name], check=True)
        self.addCleanup(subprocess.run, [os.path.join(TOP, "scripts/lab"), "down", name], check=True)
        self.inside = ["nsenter", f"--net=/run/netns/tubepost-{name}"]
        self.run_inside("ip", "link", "add", "relay1", "type", "veth", "peer", "name", "peer1")
        for interface in ("relay1", "peer1"):
            self.run_inside("ethtool", "-K", interface, "tx", "off", "gso", "off", "tso", "off", "gro", "off")
            self.run_inside("ip", "link", "set", interface, "up")
        self.run_inside("ip", "link", "set", "relay1", "promisc", "on")
        self.run_inside("ip", "address", "add", "198.51.100.2/24", "dev", "peer1")

    def run_inside(self, *words):
        result = subprocess.run([*self.inside, *words], capture_output=True, text=True, timeout=150, check=False, env=sanitizer_environment())
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def net(self, *words):
        return self.run_inside(os.path.join(BUILD, "tubepost"), "-s", f"{self.folder}/control", "net", *words)

    def start_relay(self, shards, ecn):
        config = os.path.join(self.folder, "relay.yaml")
        words = ["--no-huge", "-m1024", "--no-pci", f"--file-prefix=ports{os.getpid()}",
                 f"--vdev=net_af_packet0,iface=relay0,qpairs={shards}", "--vdev=net_af_packet1,iface=relay1"]
        with open(config, "w") as f:
            json.dump({"hostname": "relay.test", "transport": "dpdk", "shards": shards,
                       "routes": [{"match": "*", "via": "smtp", "to": ["198.51.100.2:2601"]}],
                       "dpdk": {"eal": words, "ecn": ecn,
                                "ports": [{"name": "net_af_packet0", "addresses": ["192.0.2.1/24"], "gateway": "192.0.2.9"},
                                          {"name": "net_af_packet1", "addresses": ["198.51.100.1/24"]}]},
                       "listen": [{"name": "mx", "address": ["0.0.0.0:25"]}], "relay_networks": ["192.0.2.0/24"],
                       "memory": {"mbuf_count": 8192}, "cpu": {"pin": False},
                       "control": {"path": f"{self.folder}/control"},
                       "spool": {"path": f"{self.folder}/spool", "segment_bytes": "16M", "memory_bytes": "16M"}}, f)
        relay = Process([*self.inside, os.path.join(BUILD, "tubepostd"), "-c", config], os.path.join(self.folder, "relay.log"),
                        env=sanitizer_environment())
        self.addCleanup(self.end, relay)
        wait_until(lambda: "is ready" in relay.output(), "the relay's start")
        return relay

    def go(self, shards, ecn, syn_flags):
        self.lab()
        relay = self.start_relay(shards, ecn)
        capture = subprocess.Popen([*self.inside, os.path.join(BUILD, "tubepost"), "-s", f"{self.folder}/control", "net", "capture",
                                    "-w", f"{self.folder}/both.pcapng", "--count", "1000"], stdout=subprocess.PIPE, text=True)
        self.addCleanup(capture.communicate)
        self.addCleanup(capture.kill)
        wait_until(lambda: os.path.exists(f"{self.folder}/both.pcapng") and os.path.getsize(f"{self.folder}/both.pcapng") > 0, "the capture's begin")
        report = json.loads(self.run_inside(os.path.join(BUILD, "tubepost-bench"), "loop", "--to", "192.0.2.1:25", "--listen",
                                            "198.51.100.2:2601", "--count", "1000", "--connections", "20", "--per-connection", "20",
                                            "--size", "3000", "--idle", "30", "--json"))
        self.assertEqual([report[key] for key in ("acknowledged", "proven", "damaged", "deliveries_missing", "deliveries_repeated",
                                                  "connections_lost")], [1000, 1000, 0, 0, 0, 0], report)
        capture.communicate(timeout=60)
        captured = captured_by_interface(f"{self.folder}/both.pcapng")
        self.assertEqual(set(captured), {0, 1})
        self.assertTrue(all(b"\xc0\x00\x02\x02" in frame for frame in captured[0]))
        self.assertTrue(all(b"\xc6\x33\x64\x02" in frame for frame in captured[1]))
        ours = b"\xc6\x33\x64\x01"
        self.assertEqual({frame[47] for frame in captured[1] if frame[26:30] == ours and frame[12:14] == b"\x08\x00" and frame[47] & 2}, {syn_flags})
        neighbours = self.net("neighbors")
        for address, port in (("192.0.2.2", 0), ("198.51.100.2", 1)):
            self.assertRegex(neighbours, rf"(?m)^{address} shard 0 port net_af_packet{port} lladdr ")
        self.assertEqual(self.net("routes").splitlines(), ["192.0.2.0/24 port net_af_packet0 proto connected src 192.0.2.1",
                                                           "0.0.0.0/0 via 192.0.2.9 port net_af_packet0 proto static src 192.0.2.1",
                                                           "198.51.100.0/24 port net_af_packet1 proto connected src 198.51.100.1"])
        listening = [json.loads(line) for line in self.run_inside(os.path.join(BUILD, "tubepost"), "-s", f"{self.folder}/control", "--json",
                                                                  "net", "connections", "state", "LISTEN").splitlines()]
        self.assertEqual(sorted((line["shard"], line["port"]) for line in listening if "port" in line),
                         [(shard, f"net_af_packet{port}") for shard in range(shards) for port in range(2)])
        # From now on what is for the first port's address comes by the second; the answers go by the first.
        self.run_inside("ip", "route", "add", "192.0.2.1/32", "via", "198.51.100.1", "dev", "peer1", "src", "192.0.2.2")
        answers = self.run_inside(sys.executable, "-c", self.CALL)
        self.assertIn("220 relay.test", answers)
        self.assertIn("221 ", answers)
        self.assertRegex(self.net("counters"), r"\n\S*FramesForSiblings +[1-9]\d*\n")
        relay.stop()
        self.assertEqual(relay.popen.returncode, 0, relay.output()[-3000:])

    def test_one_shard(self):
        self.go(1, "accept", 0x02)

    def test_two_shards_that_ask_for_ecn(self):
        self.go(2, "ask", 0xc2)  # CWR, ECE, SYN


@unittest.skipUnless(os.geteuid() == 0, "a lab (network namespace) needs root")
class SeveralShards(SystemTest):
    """Linux deals the frames of net_af_packet out by a hash that nobody can predict: connections in and out must find their shard."""

    def loop(self, shards, queues):
        lab = f"shards-{os.getpid()}"
        subprocess.run([os.path.join(TOP, "scripts/lab"), "up", lab], check=True)
        self.addCleanup(subprocess.run, [os.path.join(TOP, "scripts/lab"), "down", lab], check=True)
        inside = ["nsenter", f"--net=/run/netns/tubepost-{lab}"]  # becomes the program, which is then what a signal reaches
        config = os.path.join(self.folder, "relay.yaml")
        words = ["--no-huge", "-m1024", "--no-pci", f"--file-prefix=shards{os.getpid()}",
                 f"--vdev=net_af_packet0,iface=relay0,qpairs={queues}"]
        with open(config, "w") as f:
            json.dump({"hostname": "relay.test", "transport": "dpdk", "shards": shards,
                       "routes": [{"match": "*", "via": "smtp", "to": ["192.0.2.2:2601"]}],
                       "dpdk": {"eal": words, "ports": [{"name": "net_af_packet0", "addresses": ["192.0.2.1/24"]}]},
                       "listen": [{"name": "mx", "address": ["192.0.2.1:25"]}], "relay_networks": ["192.0.2.0/24"],
                       "memory": {"mbuf_count": 8192}, "cpu": {"pin": False},
                       "control": {"path": f"{self.folder}/control"},
                       "spool": {"path": f"{self.folder}/spool", "segment_bytes": "16M", "memory_bytes": "16M"}}, f)
        relay = Process([*inside, os.path.join(BUILD, "tubepostd"), "-c", config], os.path.join(self.folder, "relay.log"),
                        env=sanitizer_environment())
        self.addCleanup(self.end, relay)
        wait_until(lambda: "is ready" in relay.output(), "the relay's start")
        result = subprocess.run([*inside, os.path.join(BUILD, "tubepost-bench"), "loop", "--to", "192.0.2.1:25", "--listen", "192.0.2.2:2601",
                                 "--count", "1500", "--connections", "40", "--per-connection", "20", "--size", "3000", "--idle", "30", "--json"],
                                capture_output=True, text=True, timeout=150, check=False, env=sanitizer_environment())
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr + relay.output()[-3000:])
        report = json.loads(result.stdout)
        self.assertEqual([report[key] for key in ("acknowledged", "proven", "damaged", "deliveries_missing", "deliveries_repeated",
                                                  "connections_lost")], [1500, 1500, 0, 0, 0, 0], report)

    def test_two_shards_with_a_queue_each(self):
        self.loop(2, 2)

    def test_four_shards_with_a_queue_each(self):
        self.loop(4, 4)

    def test_three_shards_share_one_queue(self):
        self.loop(3, 1)


if __name__ == "__main__":
    unittest.main()
