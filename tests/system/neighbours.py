"""Inside a lab, run by test_dpdk: Linux as the relay's neighbour. It resolves us, pings us, has an address that we want."""
import os
import re
import select
import socket
import struct
import subprocess
import time
import unittest

from harness import RELAY, SystemTest, wait_until


def ping(address, size=56, patience_s=5, scope=0):
    """An ICMPv6 echo by a raw socket; the kernel fills in the checksum. True: it came back whole."""
    number = os.getpid() & 0xffff
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
        data = os.urandom(size)
        s.sendto(struct.pack("!BBHHH", 128, 0, 0, number, 1) + data, (address, 0, 0, scope))
        end = time.monotonic() + patience_s
        while (left := end - time.monotonic()) > 0:
            if select.select([s], [], [], left)[0]:
                answer = s.recv(65535)
                if answer[0] == 129 and answer[4:8] == struct.pack("!HH", number, 1):
                    return answer[8:] == data
    return False


def ping4(address, size, patience_s=5):
    """The same of IPv4."""
    number = os.getpid() & 0xffff
    data = os.urandom(size)
    header = struct.pack("!BBHHH", 8, 0, 0, number, 1)
    words = header + data + b"\0" * (size % 2)
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        s.sendto(struct.pack("!BBHHH", 8, 0, ~total & 0xffff, number, 1) + data, (address, 0))
        end = time.monotonic() + patience_s
        while (left := end - time.monotonic()) > 0:
            if select.select([s], [], [], left)[0]:
                packet = s.recv(65535)
                answer = packet[(packet[0] & 15) * 4:]
                if answer[0] == 0 and answer[4:8] == struct.pack("!HH", number, 1):
                    return answer[8:] == data
    return False


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Neighbours(SystemTest):
    def neighbour(self, address):
        found = re.search(rf"^{re.escape(address)} .*lladdr (\S+)( router)? (\w+) *$", ip("-6", "neigh", "show", "dev", "peer0"), re.M)
        return found.groups() if found else (None, None, None)

    def test_it_is_found_and_answers_echoes_of_all_sizes(self):
        self.relay("  []")
        ip("-6", "neigh", "flush", "dev", "peer0")
        for size in (0, 56, 1232, 1452):
            self.assertTrue(ping(RELAY, size), size)
        mac, router, state = self.neighbour(RELAY)
        self.assertIsNotNone(mac)
        self.assertIsNone(router)
        self.assertIn(state, ("REACHABLE", "DELAY", "STALE"))

    def test_its_link_local_address_is_that_of_its_port(self):
        self.relay("  []")
        self.assertTrue(ping(RELAY))
        b = [int(part, 16) for part in self.neighbour(RELAY)[0].split(":")]
        local = socket.inet_ntop(socket.AF_INET6, bytes([0xfe, 0x80] + [0] * 6 + [b[0] ^ 2, b[1], b[2], 0xff, 0xfe, *b[3:]]))
        self.assertTrue(ping(local, scope=socket.if_nametoindex("peer0")))

    def test_it_answers_after_the_kernel_has_forgotten_it(self):
        relay = self.relay("  []")
        for _ in range(5):
            ip("-6", "neigh", "flush", "dev", "peer0")
            with socket.create_connection((RELAY, relay.port), 10) as s:
                self.assertEqual(s.recv(4), b"220 ")

    def test_an_address_that_linux_has_is_not_used_and_the_others_are(self):
        ip("-6", "address", "add", "fd00::5/64", "dev", "peer0", "nodad")
        self.addCleanup(ip, "-6", "address", "del", "fd00::5/64", "dev", "peer0")
        relay = self.relay("  []", addresses=("192.0.2.1/24", "fd00::1/64", "fd00::5/64"))
        wait_until(lambda: re.search(r"fd00::5 is not used: [0-9a-f:]{17} has it already", relay.output()), "the conflict in the log")
        self.assertTrue(ping(RELAY))

    def test_a_port_that_is_closed_says_so_at_once(self):
        self.relay("  []")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((RELAY, 9), 10)


class Fragments(SystemTest):
    """Not over net_af_packet: the kernel joins IPv4 fragments for it, and cuts off what is longer than one of its frames."""

    def test_echoes_in_fragments_come_back_whole(self):
        relay = self.relay("  []")
        for size in (1473, 3000, 8192, 20000):
            self.assertTrue(ping(RELAY, size), size)
            self.assertTrue(ping4("192.0.2.1", size), size)
        counters = relay.ctl("net", "counters").stdout
        self.assertRegex(counters, r"(?m)^IpReasmOKs +8$")
        self.assertRegex(counters, r"(?m)^IpFragOKs +8$")


if __name__ == "__main__":
    unittest.main()
