"""The exception path: on one interface and one address the relay has its ports and the kernel all others.

Two namespaces: the relay's, with its end of a veth and the TAP, and Linux's as the peer on the other end.
"""
import ctypes
import json
import os
import socket
import struct
import subprocess
import threading
import time
import unittest

from harness import BUILD, TOP, Process, SystemTest, at, sanitizer_environment, wait_until

ALONE = "measures what a relay with nothing to do takes, and shows how long a keystroke lasts"

LAB = os.path.join(TOP, "scripts/lab")
CLONE_NEWNET = 0x40000000
RELAYS = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "fd00::1"}
PEERS = {socket.AF_INET: "192.0.2.2", socket.AF_INET6: "fd00::2"}
NETWORK_BITS = {socket.AF_INET: 24, socket.AF_INET6: 64}
ECHO = {socket.AF_INET: (socket.IPPROTO_ICMP, 8, 0), socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 129)}


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


class Namespace:
    """`with` it: what this thread opens is there."""

    def __init__(self, name):
        self.name = name

    def enter(self, path):
        fd = os.open(path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.enter(f"/run/netns/{self.name}")

    def __exit__(self, *_):
        self.enter(f"/proc/self/fd/{self.home}")
        os.close(self.home)


def echo_server(kind):
    """The kernel's, on every address of the namespace that we are in, of either family. Returns its socket."""
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", 22))

    def serve():
        try:
            while kind == socket.SOCK_DGRAM:
                s.sendto(*s.recvfrom(2048))
            while True:
                with s.accept()[0] as connection:
                    while data := connection.recv(65536):
                        connection.sendall(data)
        except OSError:
            pass
    if kind == socket.SOCK_STREAM:
        s.listen()
    threading.Thread(target=serve, daemon=True).start()
    return s


def ask(s, data):
    s.settimeout(10)
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        part = s.recv(65536)
        if not part:
            break
        got += part
    return got


@unittest.skipUnless(os.geteuid() == 0, "a lab (network namespace) needs root")
class SharedAddress(SystemTest):
    def setUp(self):
        super().setUp()
        lab = f"exception-{os.getpid()}"
        run(LAB, "up", lab)
        self.addCleanup(run, LAB, "down", lab)
        self.here, self.there = Namespace(f"tubepost-{lab}"), Namespace(f"tubepost-{lab}-peer")
        run("ip", "netns", "add", self.there.name)
        self.addCleanup(run, "ip", "netns", "delete", self.there.name)
        run("ip", "-n", self.here.name, "link", "set", "peer0", "netns", self.there.name)
        for family, address in PEERS.items():
            self.ip(self.there, f"address add {address}/{NETWORK_BITS[family]} dev peer0")
        self.ip(self.there, "link set peer0 up")
        # net_af_packet shows the kernel what it shows us: it must not take that for its own.
        run("ip", "netns", "exec", self.here.name, "sysctl", "-qw", "net.ipv4.conf.relay0.arp_ignore=8",
            "net.ipv4.conf.relay0.rp_filter=1", "net.ipv6.conf.relay0.disable_ipv6=1")

    def ip(self, namespace, words):
        run("ip", "-n", namespace.name, *words.split())

    def interfaces(self):
        return subprocess.run(["ip", "-n", self.here.name, "-br", "link"], check=True, capture_output=True, text=True).stdout

    def addresses(self, namespace):
        shown = subprocess.run(["ip", "-n", namespace.name, "-6", "address"], check=True, capture_output=True, text=True).stdout
        self.assertNotIn("dadfailed", shown)
        return shown

    def start(self, shards, meanwhile=None):
        config = os.path.join(self.folder, "relay.yaml")
        addresses = [f"{address}/{NETWORK_BITS[family]}" for family, address in RELAYS.items()]
        words = ["--no-huge", "-m512", "--no-pci", f"--file-prefix=exception{os.getpid()}",
                 f"--vdev=net_af_packet0,iface=relay0,qpairs={shards}"]
        with open(config, "w") as f:
            json.dump({"hostname": "relay.test", "transport": "dpdk", "shards": shards,
                       "dpdk": {"eal": words, "ports": [{"name": "net_af_packet0", "addresses": addresses,
                                                         "router_advertisements": "off", "exception": "tp0"}]},
                       "listen": [{"name": "mx", "address": [at(address, 25) for address in RELAYS.values()]}], "memory": {"mbuf_count": 8192}, "cpu": {"pin": False},
                       "control": {"path": f"{self.folder}/control"},
                       "spool": {"path": f"{self.folder}/spool", "segment_bytes": "16M", "memory_bytes": "16M"}}, f)
        relay = Process(["nsenter", f"--net=/run/netns/{self.here.name}", os.path.join(BUILD, "tubepostd"), "-c", config],
                        os.path.join(self.folder, "relay.log"), env=sanitizer_environment())
        self.addCleanup(self.end, relay)
        if meanwhile:
            meanwhile(relay)
        wait_until(lambda: "is ready" in relay.output(), "the relay's start")
        for address in addresses:
            self.ip(self.here, f"address add {address} dev tp0")
        # Each side's kernel asks first whether somebody else has its address.
        for side in (self.here, self.there):
            wait_until(lambda: "tentative" not in self.addresses(side), "the end of duplicate address detection", 20)
        return relay

    def connect(self, port, family=socket.AF_INET):
        s = socket.create_connection((RELAYS[family], port), 10)
        self.addCleanup(s.close)
        return s

    def ping(self, family):
        protocol, request, reply = ECHO[family]
        with socket.socket(family, socket.SOCK_RAW, protocol) as s:
            s.settimeout(10)
            # The kernel makes the checksum of ICMPv6.
            message = struct.pack("!BBHHH", request, 0, 0xffff - ((request << 8) + 7 + 1), 7, 1)
            s.sendto(message, (RELAYS[family], 0))
            while s.recv(100)[20 if family == socket.AF_INET else 0] != reply:
                pass

    def share_one_address(self, family, mail):
        with self.there:
            self.assertEqual(mail.recv(4), b"220 ")
            ssh = self.connect(22, family)
            data = os.urandom(300_000)
            writer = threading.Thread(target=ssh.sendall, args=(data,))
            writer.start()
            self.assertEqual(self.read(ssh, len(data)), data)
            writer.join()
            times = []
            for _ in range(50):
                start = time.monotonic()
                self.assertEqual(ask(ssh, b"key"), b"key")
                times.append(time.monotonic() - start)
                time.sleep(0.01)
            print(f"{sorted(times)[len(times) // 2] * 1e6:.0f} us a keystroke ... ", end="")
            self.ping(family)
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.connect((RELAYS[family], 22))
                self.assertEqual(ask(s, b"datagram"), b"datagram")
            with self.assertRaises(ConnectionRefusedError):  # the kernel's answer
                self.connect(23, family)
            listener = socket.create_server((PEERS[family], 7777), family=family)
        with self.here:  # out of the relay's namespace, by the kernel
            out = socket.create_connection((PEERS[family], 7777), 10)
        connection, address = listener.accept()
        self.assertEqual(address[0], RELAYS[family])
        out.sendall(b"hello")
        self.assertEqual(connection.recv(5), b"hello")
        mail.sendall(b"QUIT\r\n")
        self.assertIn(b"221 ", mail.recv(4096) + mail.recv(4096))
        for s in (ssh, out, connection, listener):
            s.close()

    def share_addresses(self, shards):
        relay = self.start(shards)
        with self.here:
            servers = [echo_server(socket.SOCK_STREAM), echo_server(socket.SOCK_DGRAM)]
        for family in RELAYS:
            before = self.to_kernel()
            with self.there:
                mail = self.connect(25, family)
            self.share_one_address(family, mail)
            self.assertGreater(self.to_kernel() - before, 100)  # not by way of relay0
        for s in servers:
            s.close()
        used = relay.cpu_seconds()
        time.sleep(1)
        self.assertLess(relay.cpu_seconds() - used, 0.3)
        relay.stop()
        self.assertEqual(relay.popen.returncode, 0, relay.output()[-3000:])
        wait_until(lambda: "tp0" not in self.interfaces(), "the end of tp0", 10)  # the kernel may let go of it a little later

    def to_kernel(self):
        shown = subprocess.run(["ip", "-n", self.here.name, "-s", "-j", "link", "show", "tp0"], check=True, capture_output=True)
        return json.loads(shown.stdout)[0]["stats64"]["rx"]["packets"]

    def read(self, s, size):
        s.settimeout(10)
        got = b""
        while len(got) < size:
            part = s.recv(65536)
            if not part:
                break
            got += part
        return got

    def test_the_relay_and_the_kernel_share_an_address_of_each_family(self):
        self.share_addresses(1)

    def test_with_two_shards_too(self):
        self.share_addresses(2)

    def test_an_interface_that_the_relay_before_left_is_waited_for(self):
        self.ip(self.here, "tuntap add dev tp0 mode tap")

        def go_away(relay):
            wait_until(lambda: "exception tp0 is there already: waiting for its end" in relay.output(), "the wait")
            self.ip(self.here, "tuntap del dev tp0 mode tap")
        self.start(1, go_away)
        with self.there:
            self.assertEqual(self.connect(25).recv(4), b"220 ")


if __name__ == "__main__":
    unittest.main()
