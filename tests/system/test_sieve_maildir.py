"""The same as test_sieve, of users whose mail lies in Maildirs; and what only Maildirs have."""
import glob
import imaplib
import os
import pathlib
import random
import re
import signal
import threading
import unittest

import test_maildir_service
import test_sieve
from harness import PATIENCE_S, free_port, sanitizer_environment, wait_until
from real_peers import PeerTest
from test_mailboxd import Mailboxd

ROUNDS = int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50")) // 10
FILING = b"""require ["fileinto", "mailbox", "copy", "imap4flags"];
if header :is "x-to" "list" { addflag ["\\\\Flagged", "mine"]; fileinto :create "Lists/c"; }
elsif header :is "x-to" "both" { fileinto :create :copy :flags "\\\\Seen" "Lists/d"; }
"""


class Frugal(test_sieve.Sieved):
    """A sanitizer would keep back what has been freed."""
    prefix = ("env", f"ASAN_OPTIONS={sanitizer_environment()['ASAN_OPTIONS']}:quarantine_size_mb=1")


class SieveOnMaildirs(test_sieve.SieveTest):
    store = "maildir"

    def test_a_large_message_is_filed_through_little_memory(self):
        service = Frugal(self.folder, store=self.store)
        self.addCleanup(self.end, service)
        client = self.client(service)
        self.assertEqual(client.put(b"main", b'require ["fileinto", "mailbox"]; if size :over 40M { fileinto :create "Large"; }'), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        with service.connect() as peer:
            self.assertEqual(peer.deliver(["alice"], b"Subject: small\r\n\r\n"), [250])
        before = service.resident_kib()
        line = b"0123456789" * 7 + b"\r\n"
        text = b"Subject: large\r\n\r\n" + line * ((48 << 20) // len(line))
        with service.connect() as peer:
            self.assertEqual(peer.deliver(["alice"], text), [250])
        # Pieces that a helper has not written yet (16 MiB), and what their sizes are rounded up to.
        self.assertLess(service.resident_kib() - before, 40 << 10)
        name, = glob.glob(os.path.join(service.mail, "alice", ".Large", "new", "*"))
        with open(name, "rb") as f:
            self.assertTrue(f.read().replace(b"\n", b"\r\n").endswith(text))
        self.assertEqual([s for _, s in self.subjects(service, "INBOX")], [b"Subject: small"])


class SendingOnMaildirs(test_sieve.Sending):
    store = "maildir"


def text_of(identity, to):
    lines = b"line %s\r\n" % identity.encode() * random.Random(identity).choice((0, 1, 7, 300, 3000))
    return f"Subject: {identity}\r\nX-To: {to}\r\n\r\n".encode() + lines


def to_of(name, number):
    return random.Random(f"{name} {number}").choice(("list", "both", "none", "detail"))


class Filing:
    """Delivers by LMTP until its connection is gone, or `count` messages."""

    def __init__(self, service, name, count=10 ** 6):
        self.service, self.name, self.count, self.acknowledged, self.codes = service, name, count, {}, set()

    def work(self):
        for number in range(self.count):
            identity, to = f"{self.name}-{number}", to_of(self.name, number)
            try:
                with self.service.connect() as peer:
                    code, = peer.deliver(["alice+There" if to == "detail" else "alice"], text_of(identity, to))
            except OSError:
                return
            self.codes.add(code)
            if code == 250:
                self.acknowledged[identity] = to


def run(works):
    threads = [threading.Thread(target=work.work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


class CrashOnMaildirs(test_sieve.WithService):
    store = "maildir"

    def test_kill_9_leaves_what_was_acknowledged_whole_where_the_script_says(self):
        service = self.service()
        client = self.client(service)
        self.assertEqual(client.put(b"main", FILING), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        rng, acknowledged = random.Random(3), {}
        for turn in range(ROUNDS):
            works = [Filing(service, f"r{turn}w{number}") for number in range(4)]
            threads = run(works)
            threads[0].join(rng.uniform(0.2, 1))
            service.stop(signal.SIGKILL)
            for thread in threads:
                thread.join(PATIENCE_S)
                self.assertFalse(thread.is_alive())
            for work in works:
                self.assertLessEqual(work.codes, {250})
                acknowledged.update(work.acknowledged)
            service = self.service()
            self.assertEqual(glob.glob(os.path.join(service.mail, ".tubepost", "tmp*", "*")), [])
            self.judge(service, acknowledged)
        self.assertGreater(len(acknowledged), ROUNDS)

    def judge(self, service, acknowledged):
        there = {mailbox: {} for mailbox in ("INBOX", "Lists/c", "Lists/d")}
        for mailbox, messages in there.items():
            for flags, identity, whole in self.messages(service, mailbox):
                self.assertTrue(whole, identity)
                self.assertNotIn(identity, messages, "there twice")
                messages[identity] = flags
        for identity, to in acknowledged.items():
            self.assertEqual(identity in there["Lists/c"], to == "list", (identity, to))
            self.assertEqual(identity in there["Lists/d"], to == "both", (identity, to))
            self.assertEqual(identity in there["INBOX"], to != "list", (identity, to))
        for flags in there["Lists/c"].values():
            self.assertLessEqual({b"\\Flagged", b"mine"}, set(flags))
        for flags in there["Lists/d"].values():
            self.assertIn(b"\\Seen", flags)

    def messages(self, service, mailbox):
        with imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S) as client:
            client.login("alice", test_sieve.PASSWORD)
            if client.select(mailbox, readonly=True)[0] != "OK":
                return
            for item in client.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")[1]:
                if isinstance(item, tuple):
                    identity = re.search(rb"^Subject: (\S+)\r$", item[1], re.M).group(1).decode()
                    to = re.search(rb"^X-To: (\S+)\r$", item[1], re.M).group(1).decode()
                    yield imaplib.ParseFlags(item[0]), identity, item[1].endswith(text_of(identity, to))


class SharedSieved(test_sieve.Sieved):
    """As the user that Dovecot delivers as."""
    prefix = test_maildir_service.Shared.prefix

    def write_config(self, settings, uring="auto"):
        super().write_config(settings, uring)
        for name in glob.glob(os.path.join(self.folder, "**"), recursive=True):
            os.chown(name, test_maildir_service.VMAIL, test_maildir_service.VMAIL)


class BesideDovecot(PeerTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        own = os.path.join(self.folder, "own")
        os.makedirs(os.path.join(own, "mail"))
        port = free_port()
        self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{port}", "users=alice", f"set:mail_location = maildir:{own}/mail/%n")
        self.theirs = test_maildir_service.Server(self, port, "secret", ".")
        self.service = SharedSieved(own, store="maildir")
        self.addCleanup(self.end, self.service)
        self.ours = test_maildir_service.Server(self, self.service.imap, test_sieve.PASSWORD, "/")

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)
        return answer[1]

    def test_dovecot_shows_what_scripts_have_filed_while_it_changes_the_same_mailboxes(self):
        client = test_sieve.ManageSieve(self.service.sieve)
        self.addCleanup(client.close)
        self.assertEqual(client.login()[-1][:2], b"OK")
        self.assertEqual(client.put(b"main", FILING), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        works = [Filing(self.service, f"w{number}", 40) for number in range(3)]
        threads = run(works)
        dovecot = self.theirs.client()
        wait_until(lambda: dovecot.select('"Lists.c"')[0] == "OK", "the mailbox that the script makes")
        appended = 0
        while any(thread.is_alive() for thread in threads):
            self.ok(dovecot.append('"Lists.c"', "(theirs)", None, text_of(f"t-{appended}", "list")))
            appended += 1
            self.ok(dovecot.select('"Lists.c"'))
            self.ok(dovecot.store("1:*", "+FLAGS.SILENT", "(\\Answered theirs)"))
        for thread in threads:
            thread.join(PATIENCE_S)
        dovecot.logout()
        acknowledged = {identity: to for work in works for identity, to in work.acknowledged.items()}
        self.assertEqual(len(acknowledged), 120)
        counts = [list(acknowledged.values()).count(to) for to in ("list", "both")]
        wait_until(lambda: self.theirs.all() == self.ours.all(), "both servers to show the same", 30)
        found, _ = self.theirs.all()
        self.assertEqual(len(found["Lists/c"][2]), counts[0] + appended)
        self.assertEqual(len(found["Lists/d"][2]), counts[1])
        self.assertEqual(len(found["INBOX"][2]), 120 - counts[0])
        flags = [flags for flags, *_ in found["Lists/c"][2].values()]
        self.assertEqual(sum({"\\Flagged", "mine"} <= one for one in flags), counts[0])


class ManyBesideDovecot(PeerTest):
    """Messages to many, some by script or detail, while Dovecot and we move, flag and read what has come."""
    users = ["alice"] + [f"u{number}" for number in range(11)]
    mailboxes = ("INBOX", "A", "B")

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        own = os.path.join(self.folder, "own")
        os.makedirs(os.path.join(own, "mail"))
        self.port = free_port()
        self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{self.port}", f"users={','.join(self.users)}",
                        f"set:mail_location = maildir:{own}/mail/%n")
        self.service = SharedSieved(own, store="maildir")
        self.addCleanup(self.end, self.service)
        with open(os.path.join(own, "users"), "w") as f:
            f.writelines(f"{user}:{{PLAIN}}{test_sieve.PASSWORD}\n" for user in self.users)
        self.acknowledged, self.errors = [], []

    def imap(self, ours, user):
        client = imaplib.IMAP4("127.0.0.1", self.service.imap if ours else self.port, timeout=PATIENCE_S)
        client.login(user, test_sieve.PASSWORD if ours else "secret")
        return client

    def deliver(self, name):
        rng = random.Random(name)
        with self.service.connect() as peer:
            for number in range(25):
                identity, to = f"{name}-{number}", rng.choice(("list", "both", "none"))
                users = rng.sample(self.users, rng.choice((1, 3, 12)))
                places = [user if user == "alice" else user + rng.choice(("", "+A", "+B")) for user in users]
                codes = peer.deliver(places, text_of(identity, to))
                self.assertEqual(set(codes), {250})
                self.acknowledged.extend((user, identity, to) for user in users)

    def judge(self, item):
        identity, to = (re.search(rb"^%s: (\S+)\r$" % name, item[1], re.M).group(1).decode() for name in (b"Subject", b"X-To"))
        self.assertTrue(item[1].endswith(text_of(identity, to)), identity)

    def change(self, ours, user, moves, over):
        """Only one of a user's moves: of two that move a message at once each may have it moved."""
        rng, client = random.Random(f"{ours} {user}"), self.imap(ours, user)
        while not over.is_set():
            mailbox = rng.choice(self.mailboxes)
            self.assertEqual(client.select(mailbox)[0], "OK")
            uids = (client.uid("SEARCH", "ALL")[1][0] or b"").split()
            some = b",".join(rng.sample(uids, min(len(uids), 3))).decode()
            if some and moves and rng.random() < 0.5:
                client.uid("MOVE", some, rng.choice([name for name in self.mailboxes if name != mailbox]))
            elif some:
                client.uid("STORE", some, rng.choice(("+FLAGS", "-FLAGS")), rng.choice(("(\\Seen)", "(mine)")))
            for item in client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]:
                if isinstance(item, tuple):
                    self.judge(item)
        client.logout()

    def guarded(self, work, *about):
        try:
            work(*about)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append((about, error))

    def held(self, ours, user):
        client, found = self.imap(ours, user), []
        names = [line.split()[-1].decode() for line in client.list()[1] if not re.search(rb"\\no(select|nexistent)|\\nonexistent", line, re.I)]
        for name in names:
            self.assertEqual(client.select(name)[0], "OK")
            found += [re.search(rb"Subject: (\S+)", item[1]).group(1).decode() for item in
                      client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1] if isinstance(item, tuple)]
        client.logout()
        return sorted(found)

    def test_each_has_each_message_once_whoever_moves_it(self):
        script = test_sieve.ManageSieve(self.service.sieve)
        self.addCleanup(script.close)
        self.assertEqual(script.login()[-1][:2], b"OK")
        self.assertEqual(script.put(b"main", FILING), [b"OK"])
        self.assertEqual(script.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        for user in self.users:
            client = self.imap(True, user)
            for name in self.mailboxes[1:]:
                self.assertEqual(client.create(name)[0], "OK")
            client.logout()
        over = threading.Event()
        changes = [(False, "alice", True), (True, "alice", False), (False, "u0", True), (True, "u0", False), (True, "u1", True),
                   (False, "u1", False)]
        others = [threading.Thread(target=self.guarded, args=(self.change, *one, over), daemon=True) for one in changes]
        posts = [threading.Thread(target=self.guarded, args=(self.deliver, name), daemon=True) for name in ("p", "q")]
        for thread in others + posts:
            thread.start()
        for thread in posts + others:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
            if not any(post.is_alive() for post in posts):
                over.set()
        self.assertEqual(self.errors, [])
        for user in self.users:
            wanted = sorted(identity for to_whom, identity, to in self.acknowledged if to_whom == user
                            for _ in range(2 if user == "alice" and to == "both" else 1))
            for ours in (True, False):
                wait_until(lambda: self.held(ours, user) == wanted, f"{user} to have what was answered", 30)


class WithoutImap(test_sieve.Sieved):
    def write_config(self, settings, uring="auto"):
        super().write_config(settings, uring)
        with open(self.config) as f:
            lines = [line for line in f if "protocol: imap" not in line]
        with open(self.config, "w") as f:
            f.writelines(lines)


class WithoutReaders(test_sieve.SystemTest):
    """Mail comes in, and others read it."""

    def test_details_are_folders_and_there_is_a_state_all_the_same(self):
        service = Mailboxd(self.folder)
        self.addCleanup(self.end, service)
        for part in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(service.mail, "alice", ".Lists", part))
        with service.connect() as peer:
            self.assertEqual(peer.deliver(["alice+Lists", "alice+none"], b"Subject: x\r\n\r\n"), [250, 250])
        self.assertEqual([len(glob.glob(os.path.join(service.mail, "alice", name, "new", "*"))) for name in (".Lists", "")], [1, 1])
        self.assertIn(".tubepost", os.listdir(service.mail))

    def test_scripts_run_for_who_never_reads_here(self):
        service = WithoutImap(self.folder, store="maildir")
        self.addCleanup(self.end, service)
        client = test_sieve.ManageSieve(service.sieve)
        self.assertEqual(client.login()[-1][:2], b"OK")
        self.assertEqual(client.put(b"main", FILING), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        client.close()
        Filing(service, "a", 10).work()
        self.assertEqual(service.stop(signal.SIGKILL), -signal.SIGKILL)
        service = WithoutImap(self.folder, store="maildir")
        self.addCleanup(self.end, service)
        work = Filing(service, "b", 10)
        work.work()
        self.assertEqual(work.codes, {250})
        filed = glob.glob(os.path.join(service.mail, "alice", ".Lists.c", "cur", "*:2,Fa"))
        texts = [pathlib.Path(name).read_bytes() for name in filed]
        for name, count in (("a", 10), ("b", 10)):
            wanted = [f"{name}-{number}" for number in range(count) if to_of(name, number) == "list"]
            self.assertTrue(wanted)
            for identity in wanted:
                self.assertEqual(sum(b"Subject: %s\n" % identity.encode() in text for text in texts), 1)


if __name__ == "__main__":
    unittest.main()
