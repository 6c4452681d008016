"""`tubepost net ...` of a relay on our own TCP; run in a lab by test_dpdk.py."""
import json
import re
import socket
import struct
import subprocess
import unittest

from harness import PEER, RELAY, Client, SystemTest, wait_until

ROUTE = "  - {match: \"*\", via: smtp, to: [\"192.0.2.3:2525\"]}"


class NetTool(SystemTest):
    def setUp(self):
        super().setUp()
        self.started = self.relay(ROUTE, settings="shards: 2")

    def net(self, *words):
        result = self.started.ctl("net", *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def lines(self, *words):
        result = self.started.ctl("--json", "net", *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_a_connection_is_shown_with_its_state_and_found_by_address(self):
        with Client(self.started.port) as client:
            client.command("EHLO client.test")
            own = "%s:%d" % client.socket.getsockname()
            found = self.lines("connections", "state", "established", "remote", own)
            self.assertEqual([(c["remote"], c["local"]) for c in found], [(own, f"{RELAY}:{self.started.port}")])
            connection = found[0]
            self.assertEqual(connection["bytes_received"], len("EHLO client.test\r\n"))
            self.assertGreater(connection["bytes_acked"], 20)
            self.assertGreater(connection["rtt_us"], 0)
            self.assertEqual(connection["path_mtu"], 1500)
            text = self.net("connections", "remote", own)
            self.assertRegex(text, rf"ESTABLISHED +0 +\d+ +{RELAY}:{self.started.port} +{own} ")
            self.assertRegex(text, r"\n\tts sack \S+ wscale:\d+,\d+ rto:\d+ rtt:[\d.]+/[\d.]+ mss:1448 pmtu:1500 ")
            self.assertEqual(self.lines("connections", "remote", own, "state", "time-wait"), [])
            self.assertEqual(self.lines("connections", "remote", "198.51.100.0/24"), [])
        self.assertEqual({c["shard"] for c in self.lines("connections", "state", "listen")}, {0, 1})

    def test_a_list_of_many_connections_is_whole_and_mail_goes_on(self):
        clients = [Client(self.started.port) for _ in range(300)]
        for client in clients:
            self.addCleanup(client.close)
        listed = self.lines("connections", "state", "established", "local", f":{self.started.port}")
        self.assertEqual(sorted(c["remote"] for c in listed),
                         sorted("%s:%d" % client.socket.getsockname() for client in clients))
        self.assertEqual({c["shard"] for c in listed}, {0, 1})
        self.assertTrue(clients[0].command("NOOP").startswith("250"))

    def test_neighbours_routes_and_counters_are_shown(self):
        with Client(self.started.port):
            self.assertRegex(self.net("neighbors"), rf"{PEER} shard \d lladdr ([0-9a-f]{{2}}:){{5}}[0-9a-f]{{2}} used \d+s REACHABLE\n")
            self.assertEqual(self.net("routes"), f"192.0.2.0/24 proto connected src {RELAY}\n")
            counters = self.net("counters")
        self.assertRegex(counters, r"shard 0: longest gap between polls \d+\.\d+ ms, \d+ rounds\nshard 1: ")
        self.assertRegex(counters, r"\nTcpInSegs +[1-9]\d*\n")
        self.assertRegex(counters, r"\nTcpPassiveOpens +[1-9]\d*\n")
        self.assertNotIn("TcpInErrs", counters)
        self.assertRegex(self.net("counters", "all"), r"\nTcpInErrs +0\n")
        self.assertRegex(self.started.ctl("status", "0").stdout, r"poll_gap_us_max +\d+\n")

    def test_the_trace_of_a_connection_that_was_reset_is_kept(self):
        client = Client(self.started.port)
        own = "%s:%d" % client.socket.getsockname()
        client.command("EHLO client.test")
        live = self.net("trace", "live", "remote", own)
        self.assertIn(f"{RELAY}:{self.started.port} {own} shard ", live)
        self.assertRegex(live, r" in +\[P\.\] seq 1:19 ack \d+ length 18\n")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        kept = wait_until(lambda: self.net("trace", "remote", own), "the trace of the reset connection")
        self.assertRegex(kept, r"failure \(Connection reset by peer\), [\d.]+ s ago\n")
        self.assertRegex(kept, r"-\d+\.\d{6} in +\[R.*\n")
        self.assertEqual(self.net("trace", "remote", "198.51.100.1"), "")

    def test_what_makes_no_sense_is_refused(self):
        for words in (("connections", "state", "happy"), ("connections", "local"), ("connections", "remote", "nowhere"),
                      ("counters", "some"), ("weather",), ("connections", "live")):
            with self.subTest(words=words):
                self.assertEqual(self.started.ctl("net", *words).returncode, 64)
