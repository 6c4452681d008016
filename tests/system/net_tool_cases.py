"""`tubepost net ...` of a relay on our own TCP; run in a lab by test_dpdk.py."""
import json
import os
import signal
import socket
import struct
import subprocess

from harness import BUILD, PEER, RELAY, Client, SystemTest, wait_until

ROUTE = "  - {match: \"*\", via: smtp, to: [\"192.0.2.3:2525\"]}"


def pcapng_frames(path):
    """The frames of a capture, each with its time; every block is checked against the format."""
    with open(path, "rb") as f:
        data = f.read()
    at, frames = 0, []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length
        if kind == 6:
            _, high, low, captured, original = struct.unpack_from("<IIIII", data, at + 8)
            assert captured == original
            frames.append(((high << 32 | low) / 1e9, data[at + 28:at + 28 + captured]))
        at += length
    assert data[:4] == b"\x0a\x0d\x0d\x0a" and at == len(data)
    return frames


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
            routes = self.net("routes").splitlines()
            self.assertEqual(routes[:2], [f"192.0.2.0/24 proto connected src {RELAY}", "fd00::/64 proto connected src fd00::1"])
            self.assertRegex(routes[2], r"^fe80::/10 proto connected src fe80::")
            self.assertEqual(len(routes), 3)
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

    def capture(self, *words):
        tool = subprocess.Popen([os.path.join(BUILD, "tubepost"), "-c", self.started.config, "net", "capture", *words],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(tool.communicate)
        self.addCleanup(tool.kill)
        return tool

    def test_a_connection_is_captured_whole_while_others_talk(self):
        path = os.path.join(self.folder, "one.pcapng")
        with Client(self.started.port) as client, Client(self.started.port) as other:
            own = "%s:%d" % client.socket.getsockname()
            tool = self.capture("-w", path, "--seconds", "2", "--connection", f"{own}-{RELAY}:{self.started.port}")
            wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 0, "the capture's begin")
            for i in range(20):
                client.command(f"NOOP {i}")
                other.command("NOOP")
            out, err = tool.communicate(timeout=60)
        self.assertEqual((tool.returncode, err), (0, ""))
        frames = pcapng_frames(path)
        self.assertEqual(out, f"{len(frames)} frames in {path}, 0 lost\n")
        self.assertTrue(all(frame[12:14] == b"\x08\x00" for _, frame in frames))
        ports = {(int.from_bytes(f[34:36], "big"), int.from_bytes(f[36:38], "big")) for _, f in frames}
        here = client.socket.fileno() < 0 and int(own.rsplit(":", 1)[1])
        self.assertEqual(ports, {(here, self.started.port), (self.started.port, here)})
        self.assertIn(b"NOOP 19\r\n", b"".join(frame for _, frame in frames))
        self.assertEqual([t for t, _ in frames], sorted(t for t, _ in frames))

    def test_a_capture_never_overwrites_and_ends_with_its_operator_and_the_relay(self):
        there, path = os.path.join(self.folder, "there"), os.path.join(self.folder, "new.pcapng")
        with open(there, "w"):
            pass
        result = self.started.ctl("net", "capture", "-w", there)
        self.assertEqual((result.returncode, result.stderr), (70, "tubepost: File exists\n"))
        first = self.capture("-w", path, "--seconds", "3000")
        wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 0, "the capture's begin")
        self.assertEqual(self.started.ctl("net", "capture", "-w", path + "2").returncode, 75)
        first.kill()
        wait_until(lambda: self.started.ctl("net", "capture", "-w", path + "3", "--count", "1", "--seconds", "1").returncode == 0,
                   "the end of the first capture")
        self.capture("-w", path + "4", "--seconds", "3000")
        wait_until(lambda: os.path.exists(path + "4") and os.path.getsize(path + "4") > 0, "the capture's begin")
        self.assertEqual(self.started.stop(patience_s=30), 0, self.started.output()[-3000:])

    def test_a_capture_that_has_just_begun_ends_with_the_relay(self):
        """Before the shards hear of it: a second one is refused as soon as it has begun."""
        path = os.path.join(self.folder, "control")
        request = f"net capture file {os.path.join(self.folder, 'late')} seconds 3000\n".encode()
        with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
            for control in (first, second):
                control.settimeout(60)
                control.connect(path)
                control.sendall(request)
            self.assertIn("another capture is under way", second.makefile().readline())
            self.started.popen.send_signal(signal.SIGTERM)
            answer = json.loads(first.makefile().readline())
            self.assertEqual((answer["end"], answer["capture"]["lost"]), ("ok", 0))
        self.assertEqual(self.started.popen.wait(60), 0, self.started.output()[-3000:])

    def test_what_makes_no_sense_is_refused(self):
        for words in (("connections", "state", "happy"), ("connections", "local"), ("connections", "remote", "nowhere"),
                      ("counters", "some"), ("weather",), ("connections", "live"), ("capture",), ("capture", "-w", "a b"),
                      ("capture", "-w", "x", "--connection", "nowhere")):
            with self.subTest(words=words):
                self.assertEqual(self.started.ctl("net", *words).returncode, 64)
