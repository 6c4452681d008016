"""kill -9 at a random moment under load, fifty times: every acknowledged message comes out, byte for byte."""
import hashlib
import os
import random
import signal
import socket
import threading
import time
import unittest

from harness import Client, SystemTest, wait_until

ROUNDS = int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50"))
CLIENTS = 6


def message(identity):
    """The text is a function of its id, so that whatever comes out can be held against what went in."""
    rng = random.Random(identity)
    lines = [b"Subject: " + identity.encode(), b"X-Id: " + identity.encode(), b""]
    for _ in range(rng.choice([1, 5, 60, 60, 900])):
        lines.append(bytes(rng.choices(b"abcdefghij .", k=rng.randint(0, 70))))
        if rng.random() < 0.05:
            lines.append(b"." * rng.randint(1, 3))
    return b"\r\n".join(lines) + b"\r\n"


def stuffed(body):
    return b"".join(b"." + line if line.startswith(b".") else line for line in body.splitlines(keepends=True))


class Load:
    """Clients that send until the relay dies under them."""

    def __init__(self):
        self.acknowledged, self.sent, self.open = [], set(), []
        self.lock = threading.Lock()

    def run(self, port, name, stop):
        count = 0
        try:
            with Client(port, patience_s=20) as client:
                with self.lock:
                    self.open.append(client.socket)
                if stop.is_set():
                    return
                client.command("EHLO load.test")
                while not stop.is_set():
                    count += 1
                    identity = f"{name}-{count}"
                    body = message(identity)
                    with self.lock:
                        self.sent.add(identity)
                    client.command("MAIL FROM:<a@load.test>")
                    client.command("RCPT TO:<b@example.org>")
                    if not client.command("DATA").startswith("354"):
                        continue
                    client.send(stuffed(body))
                    if client.command(b".\r\n").startswith("250"):
                        with self.lock:
                            self.acknowledged.append(identity)
        except OSError:
            pass

    def hang_up(self):
        """After the relay's death, of which its own TCP tells nobody. What has arrived is still read."""
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # closed already
                    pass
            self.open.clear()


class Crash(SystemTest):
    def crash_rounds(self, settings, rounds, seed):
        rng = random.Random(seed)
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{sink.to}\"]}}", settings=settings)
        load, clients = Load(), []
        for number in range(rounds):
            stop = threading.Event()
            for i in range(CLIENTS):
                clients.append(threading.Thread(target=load.run, args=(relay.port, f"{seed}-{number}-{i}", stop)))
                clients[-1].start()
            before = len(load.acknowledged)
            if number % 5:
                # Mostly under load, now and then before the first answer.
                wait_until(lambda: len(load.acknowledged) > before or relay.popen.poll() is not None, "a first 250")
            time.sleep(rng.random() * 0.15)
            relay.popen.send_signal(signal.SIGKILL)
            relay.popen.wait()
            stop.set()
            load.hang_up()
            relay.restart()
        for client in clients:
            client.join()
        received = {}

        def all_there():
            with sink.lock:
                for _, _, body in sink.messages:
                    identity = body.split(b"X-Id: ", 1)[1].split(b"\r\n", 1)[0].decode()
                    received.setdefault(identity, []).append(body)
                sink.messages.clear()
            return all(i in received for i in load.acknowledged)
        try:
            wait_until(all_there, "every acknowledged message", 60)
        except AssertionError:
            missing = [i for i in load.acknowledged if i not in received]
            self.fail(f"seed {seed}: {len(missing)} of {len(load.acknowledged)} lost: {missing[:5]}\n"
                      + relay.output()[-3000:])
        for identity, bodies in received.items():
            self.assertIn(identity, load.sent)
            wanted = message(identity)
            for body in bodies:
                # Ours begins after the trace lines that the relay has added.
                self.assertEqual(hashlib.sha256(body[-len(wanted):]).digest(), hashlib.sha256(wanted).digest(),
                                 f"{identity} was changed")
                self.assertTrue(body[:-len(wanted)].startswith(b"Received: "))
        self.assertGreater(len(load.acknowledged), rounds)
        print(f"crash: {rounds} rounds, {len(load.acknowledged)} acknowledged, {len(received)} received, "
              f"{sum(len(b) - 1 for b in received.values())} repeated ... ", end="")

    def test_nothing_acknowledged_is_lost_by_kill_9(self):
        self.crash_rounds("", ROUNDS - 15, seed=random.SystemRandom().randrange(1 << 30))

    def test_nothing_acknowledged_is_lost_by_kill_9_with_two_shards_and_no_io_uring(self):
        self.crash_rounds("shards: 2\nio: {uring: off}", 15, seed=random.SystemRandom().randrange(1 << 30))


if __name__ == "__main__":
    unittest.main()
