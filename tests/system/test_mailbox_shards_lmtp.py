"""LMTP on a service of several shards: a message's recipients have their mail on any of them."""
import os
import random
import re
import signal
import threading

from harness import BUILD, PATIENCE_S, SystemTest, wait_until
from test_mailboxd_store import PASSWORD, Store, message

USERS = [f"w{i}" for i in range(12)]
SHARDS = 3
CRASH_ROUNDS = int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50")) // 10


class Shards(Store):
    def write_config(self, settings, uring="auto"):
        with open(os.path.join(self.folder, "users"), "a") as f:
            f.writelines(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in USERS)
        super().write_config(settings, uring)


def text_of(identity):
    """A function of its identity."""
    rng = random.Random(identity)
    lines = rng.choice((1, 5, 5, 40, 40, 40, 400, 4000))
    return message(identity, "".join(f"{rng.choice(('', '.', '..'))}{identity} {i} {'x' * 60}\r\n" for i in range(lines)))


class Load:
    """One client that delivers until it is told to stop, or the service goes."""

    def __init__(self, service, number):
        self.service, self.rng, self.number = service, random.Random(number), number
        self.stop = threading.Event()
        self.told = {}       # identity -> {user: code}
        self.pending = None  # (identity, users) whose replies have not come, or not all
        self.error = None
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        try:
            with self.service.connect(self.rng.choice(("unix", "tcp"))) as client:
                while not self.stop.is_set():
                    users = self.rng.sample(USERS, self.rng.choice((1, 2, 3, 8)))
                    identity = f"n{self.number}-{self.rng.getrandbits(60):x}"
                    self.pending = (identity, users)
                    self.told[identity] = dict(zip(users, client.deliver(users, text_of(identity))))
                    self.pending = None
        except OSError:
            pass
        except Exception as error:  # told by the main thread
            self.error = error

    def end(self):
        self.stop.set()
        self.thread.join(PATIENCE_S)
        if self.error is not None:
            raise self.error


class LmtpOfShards(SystemTest):
    uring, store = "auto", "log"

    def service(self, settings="", **kwargs):
        service = Shards(self.folder, settings, self.uring, shards=SHARDS, store=self.store, **kwargs)
        self.addCleanup(self.end, service)
        return service

    def held(self, service):
        """{user: {identity: how often}}; each text is whole."""
        found = {}
        for user in USERS:
            found[user] = {}
            for text in service.texts(user):
                identity = re.match(rb"Subject: (\S+)\r\n", text).group(1).decode()
                self.assertTrue(text == text_of(identity), f"{identity} is not whole")
                found[user][identity] = found[user].get(identity, 0) + 1
        return found

    def compare(self, found, loads):
        """What was acknowledged is there once; what was not is not, but for what was cut."""
        pending = {load.pending[0]: load.pending[1] for load in loads if load.pending is not None}
        expected = {user: set() for user in USERS}
        for load in loads:
            for identity, codes in load.told.items():
                for user, code in codes.items():
                    self.assertEqual(code, 250)
                    expected[user].add(identity)
        for user in USERS:
            self.assertEqual({identity: times for identity, times in found[user].items() if times > 1}, {})
            self.assertEqual(expected[user] - set(found[user]), set())
            for identity in set(found[user]) - expected[user]:
                self.assertIn(user, pending.get(identity, ()))

    def test_every_recipient_has_what_was_acknowledged_on_whatever_shard_he_is(self):
        service = self.service()
        loads = [Load(service, number) for number in range(6)]
        wait_until(lambda: sum(len(load.told) for load in loads) > 150, "150 messages")
        for load in loads:
            load.end()
            self.assertIsNone(load.pending)
        self.compare(self.held(service), loads)
        self.assertEqual(service.stop(), 0)
        service = self.service()
        users = [int(count) for count in re.findall(r"store: (\d+) users", service.output())][-SHARDS:]
        self.assertEqual((len(users), sum(users)), (SHARDS, len(USERS)))
        self.assertGreater(min(users), 0, "users are on one shard")
        self.compare(self.held(service), loads)
        self.assertEqual(service.stop(), 0)

    def test_a_stop_under_load_loses_nothing_that_was_acknowledged(self):
        loads = []
        for number in range(3):
            service = self.service()
            mine = [Load(service, 100 * number + i) for i in range(6)]
            loads += mine
            wait_until(lambda: sum(len(load.told) for load in mine) > 40, "40 messages")
            self.assertEqual(service.stop(), 0)
            for load in mine:
                load.end()
        service = self.service()
        self.compare(self.held(service), loads)

    def test_kill_9_under_load_loses_nothing_that_was_acknowledged(self):
        loads = []
        for number in range(CRASH_ROUNDS):
            service = self.service()
            mine = [Load(service, 1000 + 100 * number + i) for i in range(6)]
            loads += mine
            least = random.randrange(1, 60)
            wait_until(lambda: sum(len(load.told) for load in mine) > least, "some messages")
            service.popen.send_signal(signal.SIGKILL)
            service.popen.wait(PATIENCE_S)
            for load in mine:
                load.end()
        service = self.service()
        self.compare(self.held(service), loads)

    def test_a_client_that_is_cut_does_no_harm(self):
        service = self.service()
        rng = random.Random(7)
        text = text_of("cut").replace(b"\r\n.", b"\r\n..")
        whole = 0
        for _ in range(60):
            with service.connect(rng.choice(("unix", "tcp"))) as client:
                client.envelope(rng.sample(USERS, 8))
                end = rng.randrange(0, len(text) * 2)
                client.send(text[:end] + (b".\r\n" if end >= len(text) else b""))
                whole += end >= len(text)
        load = Load(service, 1)
        wait_until(lambda: len(load.told) > 5, "5 messages behind it")
        load.end()
        found = self.held(service)
        cut = sum(texts.pop("cut", 0) for texts in found.values())
        self.assertLessEqual(cut, whole * 8)
        self.assertEqual(cut % 8, 0)  # to all of its recipients, or none
        self.compare(found, [load])
        self.assertEqual(service.stop(), 0)

    def test_who_is_full_and_who_is_not_are_told_so_each(self):
        service = self.service("users: {any: false, quota_messages: 2}")
        with service.connect() as client:
            self.assertEqual(client.deliver(USERS[:6], text_of("first")), [250] * 6)
            self.assertEqual(client.deliver(USERS[:6], text_of("second")), [250] * 6)
            self.assertEqual(client.deliver(USERS, text_of("third")), [452] * 6 + [250] * 6)
            self.assertEqual(client.deliver(["w11", "w0", "nobody", "w10"], text_of("fourth")), [250, 452, 550, 250])
        found = self.held(service)
        self.assertEqual([found["w0"], found["w5"]], [{"first": 1, "second": 1}] * 2)
        self.assertEqual([found["w10"], found["w11"]], [{"third": 1, "fourth": 1}] * 2)

    def test_a_large_message_to_all_goes_through_little_memory(self):
        service = self.service()
        with service.connect() as client:
            self.assertEqual(client.deliver(USERS, text_of("small")), [250] * len(USERS))
        before = service.resident_kib()
        text = message("large", ("0123456789" * 7 + "\r\n") * ((48 << 20) // 72))
        with service.connect() as client:
            self.assertEqual(client.deliver(USERS, text), [250] * len(USERS))
        if os.path.basename(BUILD) == "build":  # sanitizers keep back what is freed
            self.assertLess(service.resident_kib() - before, (SHARDS * 8 + 12) << 10)  # the logs' memory, and a little
        small, large = sorted(service.texts("w0"), key=len) if self.store == "maildir" else service.texts("w0")
        self.assertTrue((small, large) == (text_of("small"), text))


class LmtpOfShardsWithoutUring(LmtpOfShards):
    uring = "off"
