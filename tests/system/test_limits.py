"""Where something runs out: disk, descriptors, patience."""
import os
import resource
import selectors
import socket
import subprocess
import time
import unittest

from harness import BUILD, RELAY, Client, SystemTest, free_port, wait_until

MESSAGE_BYTES = 200_000
QUICK = "retry: {first: 300ms, limit: 1s, expire: 1h, jitter_pct: 0}"
SPOOL = "spool: {{path: {}, segment_bytes: 4M, memory_bytes: 16M, free_min: 4M}}"


def body_of(number):
    line = b"%08d " % number * 7 + b"\r\n"
    return b"X-Number: %d\r\n\r\n" % number + line * (MESSAGE_BYTES // len(line))


def send_one(client, number):
    """The reply that decides: 250 at the end, or the first refusal."""
    for command in ("MAIL FROM:<a@client.test>", "RCPT TO:<b@example.org>", "DATA"):
        reply = client.command(command)
        if reply[0] not in "23":
            client.command("RSET")
            return reply
    client.send(body_of(number))
    return client.command(b".\r\n")


@unittest.skipUnless(os.geteuid() == 0, "a file system of its own takes root")
class DiskFull(SystemTest):
    def small_disk(self, megabytes):
        image, at = os.path.join(self.folder, "image"), os.path.join(self.folder, "disk")
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        os.makedirs(at)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, at], check=True)
        self.addCleanup(subprocess.run, ["umount", at], check=True)
        return at

    def fill(self, client, first):
        acknowledged = []
        for number in range(first, first + 2000):
            reply = send_one(client, number)
            if not reply.startswith("250"):
                return acknowledged, reply
            acknowledged.append(number)
        raise AssertionError("the disk was never full")

    def serves(self, relay, number):
        """With a session of its own: refusals are counted as errors, and one that has many is closed."""
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            return send_one(client, number).startswith("250")

    def numbers_at(self, sink):
        found = []
        for _, _, body in list(sink.messages):
            at = body.index(b"X-Number: ")
            number = int(body[at + 10:body.index(b"\r\n", at)])
            self.assertTrue(body.endswith(body_of(number)), number)
            found.append(number)
        return found

    def test_a_full_disk_refuses_clearly_loses_nothing_and_serves_again(self):
        disk = self.small_disk(96)
        with open(os.path.join(disk, "ballast"), "wb") as f:
            f.write(b"b" * (32 << 20))
            os.fsync(f.fileno())
        closed = "127.0.0.1:1"  # nobody delivers there
        path = os.path.join(self.folder, "lmtp")
        spool = SPOOL.format(os.path.join(disk, "spool"))
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{closed}\"]}}", settings=f"{QUICK}\n{spool}")
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            acknowledged, reply = self.fill(client, 0)
            self.assertRegex(reply, "^452 4\\.3\\.1 ")
            self.assertGreater(len(acknowledged), 20)
            self.assertTrue(client.command("NOOP").startswith("250"))
        os.remove(os.path.join(disk, "ballast"))
        wait_until(lambda: self.serves(relay, 100_000), "service after space came back")
        acknowledged.append(100_000)
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            more, reply = self.fill(client, 200_000)
            self.assertRegex(reply, "^452 4\\.3\\.1 ")
            acknowledged += more
        # Full again; what is in goes out all the same, and after a restart too.
        relay.stop()
        sink = self.sink(path=path, lmtp=True)
        with open(relay.config) as f:
            text = f.read().replace(f"\"{closed}\"", f"\"{sink.to}\"")
        with open(relay.config, "w") as f:
            f.write(text)
        relay.restart()
        wait_until(lambda: len(sink.messages) >= len(acknowledged), f"{len(acknowledged)} messages")
        wait_until(lambda: self.serves(relay, 300_000), "service after the queue is empty")
        wait_until(lambda: len(sink.messages) > len(acknowledged), "the last")
        self.assertEqual(sorted(self.numbers_at(sink)), acknowledged + [300_000])


class Many(SystemTest):
    def setUp(self):
        super().setUp()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.lmtp = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)

    def start(self):
        # It must help itself to descriptors: a service starts with 1,024.
        return self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{self.lmtp.to}\"]}}",
                          prefix=["prlimit", f"--nofile=1024:{resource.getrlimit(resource.RLIMIT_NOFILE)[1]}"])

    def test_five_thousand_sessions_and_others_are_served(self):
        relay = self.start()
        idle = []
        self.addCleanup(lambda: [s.close() for s in idle])
        for _ in range(5000):
            idle.append(socket.create_connection((RELAY, relay.port), 30))
        for s in idle:
            self.assertEqual(s.recv(4), b"220 ")
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            for number in range(20):
                self.assertTrue(send_one(client, number).startswith("250"))
        wait_until(lambda: len(self.lmtp.messages) == 20, "twenty messages")
        for s in idle[::100]:
            s.sendall(b"NOOP\r\n")
        for s in idle[::100]:
            heard = b""
            while b"\r\n250 " not in heard or not heard.endswith(b"\r\n"):
                piece = s.recv(4096)
                self.assertNotEqual(piece, b"", heard)
                heard += piece

    def test_clients_that_ask_and_never_read_cost_bounded_memory(self):
        relay = self.start()
        with Client(relay.port) as client:
            client.command("NOOP")
        before = relay.resident()
        selector = selectors.DefaultSelector()
        sockets = []
        self.addCleanup(lambda: [s.close() for s in sockets])
        for _ in range(200):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect((RELAY, relay.port))
            s.setblocking(False)
            sockets.append(s)
            selector.register(s, selectors.EVENT_WRITE)
        end = time.monotonic() + 5
        asked, pattern = 0, b"HELP\r\n" * 1000
        while time.monotonic() < end and (ready := selector.select(1)):
            for key, _ in ready:
                try:
                    asked += key.fileobj.send(pattern)
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(key.fileobj)
        self.assertGreater(asked, 200 * 6000)
        self.assertLess(relay.resident() - before, 64 << 20)
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            self.assertTrue(send_one(client, 1).startswith("250"))

    def test_a_second_relay_on_the_same_spool_is_refused(self):
        relay = self.start()
        with open(relay.config) as f:
            text = f.read().replace(f":{relay.port}\"", f":{free_port()}\"").replace(relay.control, relay.control + "2")
        second = os.path.join(self.folder, "second.yaml")
        with open(second, "w") as f:
            f.write(text)
        result = subprocess.run([os.path.join(BUILD, "tubepostd"), "-c", second], capture_output=True, text=True,
                                timeout=60, check=False)
        self.assertEqual(result.returncode, os.EX_OSERR, result.stderr)
        self.assertIn("another relay works on it", result.stderr)
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            self.assertTrue(send_one(client, 1).startswith("250"))


if __name__ == "__main__":
    unittest.main()
