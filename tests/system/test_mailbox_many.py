"""Many clients at the same few mailboxes: what each is told, put together, is what the server has.

TUBEPOST_MANY_CLIENTS and TUBEPOST_MANY_SECONDS make it larger.
"""
import os
import random
import re
import select
import threading
import time
import unittest

from harness import PATIENCE_S, SystemTest
from imap_client import ImapClient, Refused, copied, fetched
from test_mailboxd_store import Store

CLIENTS = int(os.environ.get("TUBEPOST_MANY_CLIENTS", "30"))
SECONDS = int(os.environ.get("TUBEPOST_MANY_SECONDS", "8"))
SEED = int(os.environ.get("TUBEPOST_MANY_SEED", "20260615"))
BOXES = (b"INBOX", b"One", b"Two")
FLAGS = (b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Draft", b"$Work", b"$Later")
MESSAGES = 40  # about so many a mailbox


class Shared:
    """What is known of the mailboxes by all: which message a uid is; it never is another."""

    def __init__(self):
        self.lock = threading.Lock()
        self.subjects, self.given, self.failures, self.commands = {}, set(), [], 0
        self.stop = threading.Event()

    def is_message(self, key, subject):
        with self.lock:
            assert self.subjects.setdefault(key, subject) == subject, (key, subject, self.subjects[key])

    def gives(self, validity, uids):
        with self.lock:
            for uid in uids:
                assert (validity, uid) not in self.given, f"uid {uid} of {validity} is given twice"
                self.given.add((validity, uid))


class View:
    """One client and what it believes: per sequence number the uid and the flags, None where it has not been told."""

    def __init__(self, service, shared, number):
        self.shared, self.number, self.rng = shared, number, random.Random(SEED * 1000 + number)
        self.uids, self.flags, self.validity, self.box, self.made = [], [], 0, b"", 0
        self.trail = []  # what was said last, for the report of a failure
        self.client = ImapClient(service.imap, "alice", self.told, PATIENCE_S * 5)
        if number % 3 == 0:
            self.client.ask(b"ENABLE CONDSTORE")
        if number % 4 == 0:
            self.client.deflate()

    # ---- What the server says ----

    def told(self, client, line):
        self.trail = self.trail[-60:] + [line[:200]]
        found = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)", line)
        if found is None:
            return
        number, what = int(found.group(1)), found.group(2)
        if what == b"EXISTS":
            assert number >= len(self.uids), "EXISTS takes messages away"
            more = number - len(self.uids)
            self.uids += [None] * more
            self.flags += [None] * more
        elif what == b"EXPUNGE":
            assert not re.match(rb"FETCH|STORE|SEARCH", client.command), "EXPUNGE where it must not be"
            assert 1 <= number <= len(self.uids), "EXPUNGE of none"
            del self.uids[number - 1]
            del self.flags[number - 1]
        else:
            assert 1 <= number <= len(self.uids), "FETCH of none"
            self.message(number - 1, fetched([line])[0][1])

    def message(self, at, items):
        if b"UID" in items:
            uid = int(items[b"UID"])
            assert self.uids[at] in (None, uid), f"number {at + 1} is {uid}, was {self.uids[at]}"
            self.uids[at] = uid
            known = [u for u in self.uids if u is not None]
            assert known == sorted(set(known)), "uids do not ascend"
        if b"FLAGS" in items:
            self.flags[at] = frozenset(items[b"FLAGS"])

    # ---- What it does ----

    def ask(self, command):
        self.shared.commands += 1
        self.trail = self.trail[-60:] + [b"> " + command[:120]]
        try:
            answer, lines = self.client.ask(command)
        except Refused as refused:
            self.trail.append(b"refused " + refused.args[1])
            # Others may have expunged what we still see (RFC 2180 §4); nothing else is refused here.
            assert refused.args[1].startswith(b"NO [EXPUNGEISSUED]"), refused
            return None, []
        return answer, lines

    def select(self):
        self.uids, self.flags = [], []
        self.box = self.rng.choice(BOXES)
        _, lines = self.client.ask(b"SELECT " + self.box)
        self.validity = int(re.search(rb"UIDVALIDITY (\d+)", b"".join(lines)).group(1))

    def some(self):
        """Numbers of a few messages; None: there are none."""
        if not self.uids:
            return None
        return sorted(self.rng.sample(range(1, len(self.uids) + 1), min(len(self.uids), self.rng.choice((1, 1, 2, 5)))))

    def set_of(self):
        """FETCH-like command's prefix and set, by number or, of those that are known, by uid."""
        some = self.some()
        if some is None:
            return None
        uids = [self.uids[n - 1] for n in some]
        if None not in uids and self.rng.random() < 0.5:
            return b"UID ", b",".join(b"%d" % u for u in uids)
        return b"", b",".join(b"%d" % n for n in some)

    def fetch(self):
        named = self.set_of()
        if named is None:
            return
        _, lines = self.ask(b"%sFETCH %s (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])" % named)
        for _, items in fetched(lines):
            subject = items.get(b"BODY[HEADER.FIELDS (SUBJECT)]")
            if subject:
                self.shared.is_message((self.validity, int(items[b"UID"])), subject)

    def store(self):
        named = self.set_of()
        if named is None:
            return
        op = self.rng.choice((b"+", b"-", b"", b"+"))
        flags = self.rng.sample(FLAGS, self.rng.choice((1, 2)))
        if op == b"+" and self.rng.random() < len(self.uids) / (MESSAGES * 6):
            flags.append(b"\\Deleted")
        self.ask(b"%sSTORE %s %sFLAGS (%s)" % (*named, op, b" ".join(flags)))

    def store_silently(self):
        """By number: the client then goes by what it knew, changed by what it asked for (RFC 9051 §6.4.6)."""
        some = self.some()
        if some is None:
            return
        at, flag, plus = some[0] - 1, self.rng.choice(FLAGS), self.rng.random() < 0.6
        before = self.flags[at]
        if before is not None:
            # Applied first: what is told of the message meanwhile is later than that.
            self.flags[at] = before | {flag} if plus else before - {flag}
        self.ask(b"STORE %d %sFLAGS.SILENT (%s)" % (at + 1, b"+" if plus else b"-", flag))

    def copy(self):
        named = self.set_of()
        if named is None:
            return
        verb = self.rng.choice((b"COPY", b"MOVE")) if len(self.uids) < MESSAGES else b"MOVE"
        validity, pairs = copied(*self.part(b"%s%s %s %s" % (named[0], verb, named[1], self.rng.choice(BOXES))))
        self.shared.gives(validity, [target for _, target in pairs])

    def part(self, command):
        answer, lines = self.ask(command)
        return answer or b"", lines

    def append(self):
        if len(self.uids) > MESSAGES:
            return
        self.made += 1
        box = self.rng.choice((self.box, *BOXES))
        subject = b"%d-%d" % (self.number, self.made)
        self.trail = self.trail[-60:] + [b"> APPEND " + box]
        validity, uid = self.client.append(box, b"Subject: %s\r\n\r\ntext %s\r\n" % (subject, subject),
                                           self.rng.choice(FLAGS))
        self.shared.gives(validity, [uid])
        self.shared.is_message((validity, uid), b"Subject: %s\r\n\r\n" % subject)

    def replace(self):
        some = self.some()
        if some is None:
            return
        self.made += 1
        number, subject = some[0], b"%d-%d" % (self.number, self.made)
        text = b"Subject: %s\r\n\r\ntext %s\r\n" % (subject, subject)
        uid = self.uids[number - 1] if self.rng.random() < 0.5 else None
        named = b"REPLACE %d" % number if uid is None else b"UID REPLACE %d" % uid
        answer, lines = self.ask(b"%s %s (%s) {%d+}\r\n%s" % (named, self.rng.choice((self.box, *BOXES)), self.rng.choice(FLAGS), len(text), text))
        if answer is None:  # somebody else has expunged it, or replaced it
            return
        validity, new = map(int, re.search(rb"\[APPENDUID (\d+) (\d+)\]", b"".join(lines)).groups())
        assert uid is None or uid not in self.uids, "what was replaced is still there"
        self.shared.gives(validity, [new])
        self.shared.is_message((validity, new), b"Subject: %s\r\n\r\n" % subject)

    def search(self):
        count = len(self.uids)
        _, lines = self.ask(b"SEARCH " + self.rng.choice((b"ALL", b"UNSEEN", b"KEYWORD $Work", b"DELETED")))
        for line in lines:
            if line.startswith(b"* SEARCH"):
                found = [int(n) for n in line.split()[2:] if n.isdigit()]
                assert not found or max(found) <= max(count, len(self.uids)), "SEARCH finds what is not there"

    def search_uids(self):
        self.ask(b"UID SEARCH ALL")

    def compare(self):
        self.ask(b"FETCH 1:* (UID)" if self.uids else b"NOOP")

    def idle(self):
        self.client.begin(b"IDLE")
        line = self.client.response()
        while not line.startswith(b"+"):
            self.told(self.client, line)
            line = self.client.response()
        select.select([self.client.socket], [], [], self.rng.uniform(0, 0.2))
        self.client.socket.sendall(b"DONE\r\n")
        self.client.end()

    def noop(self):
        self.ask(b"NOOP")

    def expunge(self):
        if self.rng.random() < 0.7 or None in self.uids or not self.uids:
            self.ask(b"EXPUNGE")
        else:
            self.ask(b"UID EXPUNGE %d:%d" % (self.uids[0], self.uids[-1]))

    def step(self):
        deeds = (self.fetch, self.store, self.store, self.store_silently, self.copy, self.append, self.append, self.replace, self.search,
                 self.search_uids, self.compare, self.idle, self.noop, self.expunge)
        if self.rng.random() < 0.03:
            self.select()
        else:
            self.rng.choice(deeds)()

    def work(self):
        try:
            self.select()
            while not self.shared.stop.is_set():
                self.step()
        except Exception as error:  # told by the main thread
            self.shared.failures.append((self.number, self.box, repr(error), self.trail[-25:]))
            self.shared.stop.set()


class Many(SystemTest):
    def quiet(self, service, views):
        """Nobody does anything any more: after a NOOP, each view is what a newcomer sees."""
        for view in views:
            view.client.ask(b"NOOP")
        truth = {}
        newcomer = ImapClient(service.imap, "alice")
        for box in BOXES:
            newcomer.ask(b"SELECT " + box)
            _, lines = newcomer.ask(b"UID FETCH 1:* (UID FLAGS)")
            truth[box] = [(int(items[b"UID"]), frozenset(items[b"FLAGS"])) for _, items in fetched(lines)]
        newcomer.close()
        for view in views:
            with self.subTest(client=view.number, box=view.box):
                self.assertEqual(len(view.uids), len(truth[view.box]))
                for number, (uid, flags) in enumerate(truth[view.box], 1):
                    self.assertIn(view.uids[number - 1], (None, uid), f"number {number}")
                    self.assertIn(view.flags[number - 1], (None, flags), f"number {number}, uid {uid}")

    def test_what_each_of_many_clients_is_told_adds_up_to_what_there_is(self):
        service = Store(self.folder, "limits: {user_address_connections: 0}")
        self.addCleanup(self.end, service)
        shared = Shared()
        maker = ImapClient(service.imap, "alice")
        for box in BOXES[1:]:
            maker.ask(b"CREATE " + box)
        maker.close()
        views = [View(service, shared, number) for number in range(CLIENTS)]
        for view in views:
            self.addCleanup(view.client.close)
        threads = [threading.Thread(target=view.work, daemon=True) for view in views]
        for thread in threads:
            thread.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and not shared.stop.wait(0.2):
            pass
        shared.stop.set()
        for thread in threads:
            thread.join(PATIENCE_S * 5)
            self.assertFalse(thread.is_alive())
        self.assertEqual(shared.failures, [])
        self.assertGreater(shared.commands, CLIENTS * 3)
        self.quiet(service, views)


if __name__ == "__main__":
    unittest.main()
