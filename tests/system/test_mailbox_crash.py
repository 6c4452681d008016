"""kill -9 while clients deliver, append, copy, move, flag, expunge, and make, rename and delete mailboxes.

After each restart: what was acknowledged is there, whole; whose expunge was acknowledged is not; a uid of a mailbox is
the same message for ever, UIDVALIDITY stays, mod-sequences do not go back. What was under way has one of its two
outcomes. Every few rounds the index is deleted from a copy, which must then show the same.
TUBEPOST_MAILBOX_CRASH_ROUNDS makes more rounds.
"""
import collections
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import unittest

from harness import BUILD, PATIENCE_S, SystemTest, sanitizer_environment
from imap_client import ImapClient, copied, fetched
from test_mailboxd_store import Store

ROUNDS = int(os.environ.get("TUBEPOST_MAILBOX_CRASH_ROUNDS", "8"))
SEED = int(os.environ.get("TUBEPOST_MAILBOX_CRASH_SEED", "20260702"))
USERS = ("u0", "u1")
WORDS = (b"\\Seen", b"\\Flagged", b"\\Answered", b"$Work", b"$Later", b"old-1")


def text_of(identity):
    """A function of its identity, so that what comes out can be held against what went in."""
    rng = random.Random(identity)
    lines = b"".join(b"%s %d\r\n" % (identity.encode(), i) for i in range(rng.choice((1, 3, 10, 10, 200, 900))))
    return b"Subject: %s\r\n\r\n%send\r\n" % (identity.encode(), lines)


class Message:
    """As a mailbox has it: which one, with which flags, and its mod-sequence where that is known."""

    def __init__(self, identity, flags=frozenset(), modseq=None):
        self.identity, self.flags, self.modseq = identity, frozenset(flags), modseq


class Seen:
    """A mailbox as the service shows it."""

    def __init__(self, client, name):
        _, lines = client.ask(b"EXAMINE %s (CONDSTORE)" % name)
        head = b"".join(lines)
        self.validity, self.uidnext, self.modseq = (
            int(re.search(word + rb" (\d+)", head).group(1)) for word in (b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ"))
        self.messages = {}
        for _, items in fetched(client.ask(b"UID FETCH 1:* (UID FLAGS MODSEQ INTERNALDATE BODY.PEEK[])")[1]):
            text = items[b"BODY[]"]
            identity = re.search(rb"^Subject: (\S+)\r$", text, re.M).group(1).decode()
            assert text.endswith(text_of(identity)), f"{identity} is not whole: {text[:300]!r}"
            self.messages[int(items[b"UID"])] = Message(identity, items[b"FLAGS"], int(items[b"MODSEQ"][0]))

    def all(self):
        return (self.validity, self.uidnext, self.modseq,
                {uid: (m.identity, m.flags, m.modseq) for uid, m in self.messages.items()})


def shown(service):
    """{user: {name: Seen}}"""
    found = {}
    for user in USERS:
        client = ImapClient(service.imap, user)
        names = [re.match(rb'\* LIST \(([^)]*)\) "/" (\S+)', line).groups() for line in client.ask(b'LIST "" "*"')[1]]
        found[user] = {name: Seen(client, name) for flags, name in names if b"Noselect" not in flags}
        client.close()
    return found


class Mailboxes:
    """What one client has had acknowledged, of its own messages and its own mailboxes; INBOX and Shared it shares."""

    def __init__(self, user, number):
        self.user, self.number, self.made = user, number, 0
        self.names = {}     # own: name -> uidvalidity
        self.messages = {}  # (uidvalidity, uid) -> Message
        self.gone = set()   # (uidvalidity, uid), expunged
        self.kept = {}      # of them those that can be had back: (uidvalidity, uid) -> Message
        self.pending = None  # what the service was asked for and has not answered: (kind, facts)

    def identity(self):
        self.made += 1
        return f"c{self.number}-{self.made}"


class Client:
    """Does things to its mailboxes until the service dies under it."""

    def __init__(self, service, mine, validities, seed):
        self.service, self.mine, self.validities, self.rng = service, mine, validities, random.Random(seed)
        self.error, self.selected, self.done = None, None, 0

    def names(self):
        return {**self.validities, **self.mine.names}

    def work(self):
        try:
            self.client = ImapClient(self.service.imap, self.mine.user)
            while True:
                self.rng.choice((self.append, self.append, self.append, self.copy, self.move, self.store, self.store,
                                 self.expunge, self.create, self.rename, self.delete))()
                self.done += 1
        except OSError:
            pass
        except Exception as error:  # told by the main thread
            self.error = error

    def ask(self, kind, facts, command):
        self.mine.pending = (kind, facts)
        return self.client.ask(command)

    def acknowledged(self):
        self.mine.pending = None

    def some(self):
        """Selects a mailbox; some of the client's own messages there."""
        names = self.names()
        name = self.rng.choice(sorted(names))
        if self.selected != name:
            self.client.ask(b"SELECT " + name)
            self.selected = name
        uids = sorted(uid for validity, uid in self.mine.messages if validity == names[name])
        return names[name], sorted(self.rng.sample(uids, min(len(uids), self.rng.choice((1, 2, 6)))))

    def append(self):
        name, identity = self.rng.choice(sorted(self.names())), self.mine.identity()
        flags = frozenset(self.rng.sample(WORDS, self.rng.choice((0, 1, 2))))
        validity = self.names()[name]
        self.mine.pending = ("append", (validity, identity, flags))
        got, uid = self.client.append(name, text_of(identity), b" ".join(flags))
        assert got == validity, (name, got, validity)
        self.mine.messages[validity, uid] = Message(identity, flags)
        self.acknowledged()

    def transfer(self, kind):
        validity, uids = self.some()
        target = self.rng.choice(sorted(self.names()))
        to = self.names()[target]
        if not uids or (kind == "move" and to == validity):
            return
        messages = self.mine.messages
        answer, lines = self.ask(kind, (validity, uids, to), b"UID %s %s %s" % (
            kind.upper().encode(), b",".join(b"%d" % uid for uid in uids), target))
        got, pairs = copied(answer, lines)
        assert (got, [source for source, _ in pairs]) == (to, uids), (got, to, pairs, uids)
        for source, into in pairs:
            messages[to, into] = Message(messages[validity, source].identity, messages[validity, source].flags)
            if kind == "move":
                del messages[validity, source]
                self.mine.gone.add((validity, source))
        self.acknowledged()

    def copy(self):
        self.transfer("copy")

    def move(self):
        self.transfer("move")

    def store(self):
        validity, uids = self.some()
        if not uids:
            return
        flags, sign = frozenset(self.rng.sample(WORDS, self.rng.choice((1, 2)))), self.rng.choice("+-")
        self.flag(validity, uids, flags, sign)

    def flag(self, validity, uids, flags, sign):
        messages = self.mine.messages
        after = {uid: messages[validity, uid].flags | flags if sign == "+" else messages[validity, uid].flags - flags
                 for uid in uids}
        self.ask("store", (validity, after), b"UID STORE %s %sFLAGS.SILENT (%s)" % (
            b",".join(b"%d" % uid for uid in uids), sign.encode(), b" ".join(flags)))
        for uid, now in after.items():
            if messages[validity, uid].flags != now:
                messages[validity, uid] = Message(messages[validity, uid].identity, now)
        self.acknowledged()

    def expunge(self):
        validity, uids = self.some()
        if not uids:
            return
        self.flag(validity, uids, frozenset([b"\\Deleted"]), "+")
        self.ask("expunge", (validity, uids), b"UID EXPUNGE " + b",".join(b"%d" % uid for uid in uids))
        for uid in uids:
            self.mine.kept[validity, uid] = self.mine.messages.pop((validity, uid))
            self.mine.gone.add((validity, uid))
        self.acknowledged()

    def create(self):
        if len(self.mine.names) >= 4:
            return
        name = self.mine.identity().encode()
        self.ask("create", name, b"CREATE " + name)
        _, lines = self.client.ask(b"STATUS %s (UIDVALIDITY)" % name)
        self.mine.names[name] = int(re.search(rb"UIDVALIDITY (\d+)", lines[0]).group(1))
        self.acknowledged()

    def rename(self):
        if not self.mine.names:
            return
        name, to = self.rng.choice(sorted(self.mine.names)), self.mine.identity().encode()
        self.ask("rename", (name, to), b"RENAME %s %s" % (name, to))
        self.mine.names[to] = self.mine.names.pop(name)
        self.selected = None
        self.acknowledged()

    def delete(self):
        if not self.mine.names or self.rng.random() < 0.5:
            return
        name = self.rng.choice(sorted(self.mine.names))
        if self.selected == name:
            self.client.ask(b"UNSELECT")
            self.selected = None
        self.ask("delete", name, b"DELETE " + name)
        forget(self.mine, self.mine.names.pop(name))
        self.acknowledged()


def forget(mine, validity):
    """The mailbox and all that was in it have been deleted."""
    for key in [key for key in mine.messages if key[0] == validity]:
        del mine.messages[key]
        mine.gone.add(key)
    for key in [key for key in mine.kept if key[0] == validity]:
        del mine.kept[key]


class Judge:
    """Holds what the service shows after a restart against what each client has had acknowledged."""

    def __init__(self, test):
        self.test = test
        self.ever = {}     # (user, uidvalidity, uid) -> identity
        self.validities = {}  # (user, uidvalidity) -> (uidnext, modseq), as last seen

    def history(self, user, boxes):
        """Uids are never another message's, and nothing goes back."""
        for name, box in boxes.items():
            uidnext, modseq = self.validities.get((user, box.validity), (1, 0))
            self.test.assertGreaterEqual(box.uidnext, uidnext, (user, name))
            self.test.assertGreaterEqual(box.modseq, modseq, (user, name))
            self.validities[user, box.validity] = (box.uidnext, box.modseq)
            for uid, message in box.messages.items():
                self.test.assertLess(uid, box.uidnext)
                self.test.assertLessEqual(message.modseq, box.modseq)
                self.test.assertEqual(self.ever.setdefault((user, box.validity, uid), message.identity), message.identity)
        self.test.assertEqual(len({box.validity for box in boxes.values()}), len(boxes))

    def outcome(self, mine, boxes):
        """The one of its two that the command under way has had; the client's facts are as it left them then."""
        (kind, facts), mine.pending = mine.pending, None
        there = {(box.validity, uid): message for box in boxes.values() for uid, message in box.messages.items()}
        fresh = {key: message for key, message in there.items()
                 if key not in mine.messages and message.identity.startswith(f"c{mine.number}-")}
        if kind == "append":
            validity, identity, flags = facts
            self.arrived(mine, fresh, validity, [(identity, flags)])
        elif kind in ("copy", "move"):
            validity, uids, target = facts
            wanted = [(mine.messages[validity, uid].identity, mine.messages[validity, uid].flags) for uid in uids]
            moved = self.arrived(mine, fresh, target, wanted)
            if not self.test.all_or_none:
                moved = all((validity, uid) not in there for uid in uids)
            if kind == "move" and moved:
                self.leave(mine, [(validity, uid) for uid in uids])
        elif kind == "store":
            validity, after = facts
            changed = {uid: now for uid, now in after.items() if now != mine.messages[validity, uid].flags}
            took = [uid for uid, now in changed.items() if there[validity, uid].flags == now]
            self.test.assertIn(len(took), (0, len(changed)), "half a STORE")
            for uid in took:
                mine.messages[validity, uid] = Message(mine.messages[validity, uid].identity, changed[uid])
        elif kind == "expunge":
            validity, uids = facts
            left = [(validity, uid) for uid in uids if (validity, uid) not in there]
            self.test.assertIn(len(left), (0, len(uids)), "half an EXPUNGE")
            mine.kept.update((key, mine.messages[key]) for key in left)
            self.leave(mine, left)
        elif kind == "create":
            if facts in boxes:
                mine.names[facts] = boxes[facts].validity
        elif kind == "rename":
            if facts[1] in boxes:
                mine.names[facts[1]] = mine.names.pop(facts[0])
        elif kind == "delete" and facts not in boxes:
            forget(mine, mine.names.pop(facts))

    def arrived(self, mine, fresh, validity, wanted):
        found = sorted(key for key in fresh if key[0] == validity)
        came = [(fresh[key].identity, fresh[key].flags) for key in found]
        if self.test.all_or_none:
            self.test.assertIn(came, ([], wanted))
        else:
            self.test.assertEqual(came, wanted[:len(came)])
        for key in found:
            mine.messages[key] = Message(fresh[key].identity, fresh[key].flags)
        return bool(found)

    def leave(self, mine, keys):
        for key in keys:
            del mine.messages[key]
            mine.gone.add(key)

    def client(self, mine, boxes, shared):
        if mine.pending is not None:
            self.outcome(mine, boxes)
        own = {name: box.validity for name, box in boxes.items() if name.startswith(b"c%d-" % mine.number)}
        self.test.assertEqual(own, mine.names)
        for name, validity in shared.items():
            self.test.assertEqual(boxes[name].validity, validity)
        there = {(box.validity, uid): message for box in boxes.values() for uid, message in box.messages.items()
                 if message.identity.startswith(f"c{mine.number}-")}
        self.test.assertEqual(set(there) - set(mine.messages), set(), "there, and nobody put it there")
        self.test.assertEqual(set(mine.messages) - set(there), set(), "acknowledged, and lost")
        self.test.assertEqual(set(there) & mine.gone, set(), "expunged, and back")
        for key, message in there.items():
            known = mine.messages[key]
            self.test.assertEqual((message.identity, message.flags), (known.identity, known.flags), key)
            if known.modseq is not None:
                self.test.assertEqual(message.modseq, known.modseq, (key, message.identity))
            known.modseq = message.modseq


class Deliveries:
    """LMTP, into INBOX and by a detail into Shared: of each message who has acknowledged it."""

    def __init__(self):
        self.acknowledged, self.sent = {user: set() for user in USERS}, set()
        self.kept = {(user, name): [] for user in USERS for name in (b"INBOX", b"Shared")}

    def work(self, service, number):
        count = 0
        while True:
            identity = f"d{number}-{count}"
            detail = "+Shared" if count % 2 else ""
            count += 1
            self.sent.add(identity)
            try:
                with service.connect() as client:
                    codes = client.deliver([user + detail for user in USERS], text_of(identity))
            except OSError:
                return
            for user, code in zip(USERS, codes):
                if code == 250:
                    self.acknowledged[user].add(identity)

    def judge(self, test, service, found):
        """Then they are expunged, and must not be seen again."""
        for user in USERS:
            here = {(name, uid): m.identity for name in (b"INBOX", b"Shared")
                    for uid, m in found[user][name].messages.items() if m.identity.startswith("d")}
            test.assertEqual(len(set(here.values())), len(here), "delivered twice")
            test.assertLessEqual(self.acknowledged[user], set(here.values()), "acknowledged, and lost")
            test.assertLessEqual(set(here.values()), self.sent, "expunged, and back")
            for (name, _), identity in here.items():
                test.assertEqual(name, b"Shared" if int(identity.split("-")[1]) % 2 else b"INBOX")
            self.acknowledged[user] = set()
            client = ImapClient(service.imap, user)
            for name in {name for name, _ in here}:
                uids = b",".join(b"%d" % uid for where, uid in here if where == name)
                client.ask(b"SELECT " + name)
                client.ask(b"UID STORE %s +FLAGS.SILENT (\\Deleted)" % uids)
                client.ask(b"UID EXPUNGE " + uids)
            client.close()
            for (name, _), identity in here.items():
                self.kept[user, name].append((identity, frozenset()))
        self.sent = set()


class MailboxCrash(SystemTest):
    format, all_or_none, keeps, how = "log", True, "", {}

    def start(self):
        service = Store(self.folder, uring=self.rng.choice(("auto", "off")), store=self.format,
                        space="segment_bytes: 4M" + self.keeps, **self.how)
        self.addCleanup(self.end, service)
        return service

    @staticmethod
    def state(box):
        return box.all()

    def without_index(self):
        """What the same mail shows when its index has been deleted. The copy is thrown away, or used from now on."""
        mail, copy = os.path.join(self.folder, "mail"), os.path.join(self.folder, "copy")
        subprocess.run(["cp", "-a", "--reflink=auto", mail, copy], check=True, timeout=PATIENCE_S)
        service = self.start()
        found = shown(service)
        service.stop(signal.SIGKILL)
        os.rename(mail, os.path.join(self.folder, "kept"))
        os.rename(copy, mail)
        index = glob.glob(os.path.join(mail, "**", "index*"), recursive=True, include_hidden=True)
        self.assertTrue(any(os.path.isfile(path) for path in index), os.listdir(mail))
        for path in index:
            if os.path.isfile(path):
                os.unlink(path)
        service = self.start()
        rebuilt = shown(service)
        for user in USERS:
            self.assertEqual({name: self.state(box) for name, box in rebuilt[user].items()},
                             {name: self.state(box) for name, box in found[user].items()})
        if self.rng.random() < 0.5:
            shutil.rmtree(os.path.join(self.folder, "kept"))
            return service, rebuilt
        service.stop(signal.SIGKILL)
        shutil.rmtree(mail)
        os.rename(os.path.join(self.folder, "kept"), mail)
        service = self.start()
        return service, shown(service)

    def load(self, service, number):
        clients = [Client(service, mine, self.shared[mine.user], SEED + number * 100 + mine.number) for mine in self.clients]
        threads = [threading.Thread(target=client.work, daemon=True) for client in clients]
        threads += [threading.Thread(target=self.deliveries.work, args=(service, number * 10 + i), daemon=True) for i in range(2)]
        for thread in threads:
            thread.start()
        threads[0].join(self.rng.uniform(0.2, 1.2))
        service.stop(signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        for client in clients:
            if client.error is not None:
                raise client.error
        return sum(client.done for client in clients)

    def test_what_was_acknowledged_survives_kill_9_and_the_loss_of_the_index(self):
        self.rng = random.Random(SEED)
        self.clients = [Mailboxes(USERS[number % 2], number) for number in range(6)]
        self.deliveries, self.shared, judge, done = Deliveries(), {}, Judge(self), 0
        service = self.start()
        for user in USERS:
            client = ImapClient(service.imap, user)
            client.ask(b"CREATE Shared")
            client.close()
        for user, boxes in shown(service).items():
            self.shared[user] = {name: boxes[name].validity for name in (b"INBOX", b"Shared")}
        for number in range(ROUNDS):
            done += self.load(service, number)
            if number % 3 == 2:
                service, found = self.without_index()
            else:
                service = self.start()
                found = shown(service)
            for user in USERS:
                judge.history(user, found[user])
            for mine in self.clients:
                with self.subTest(round=number, client=mine.number, pending=mine.pending):
                    judge.client(mine, found[mine.user], self.shared[mine.user])
            self.deliveries.judge(self, service, found)
        self.assertGreater(done, ROUNDS * 6)
        self.restored(service)

    def restored(self, service):
        """Nothing was to be kept."""


class MaildirCrash(MailboxCrash):
    """The same on Maildirs. What the kill has left there for the next start to take in has the mod-sequences of that start.
    A COPY of several messages that was not answered may have brought some of them, in their order, and a MOVE may have
    left them where they were besides: files come one by one."""
    format, all_or_none = "maildir", False

    @staticmethod
    def state(box):
        return box.validity, box.uidnext, {uid: (m.identity, m.flags) for uid, m in box.messages.items()}


class Kept:
    """What was expunged can be had back after all of that, with its flags, whole and once; and stays after one kill more."""
    keeps = ", keep_expunged: 1h"

    def undelete(self, service, user, name):
        tool = [os.path.join(BUILD, "tubepost"), "-c", service.config, "mailbox", "undelete", "-u", user, name.decode()]
        run = subprocess.run(tool, capture_output=True, timeout=PATIENCE_S, env=sanitizer_environment())
        if run.returncode == 65 and b"nothing of it is kept" in run.stderr:
            return 0
        self.assertEqual(run.returncode, 0, run.stderr)
        return int(run.stdout.split()[0])

    def expected(self, user, name, box):
        kept = [(m.identity, m.flags - {b"\\Deleted"}) for mine in self.clients if mine.user == user
                for (validity, _), m in mine.kept.items() if validity == box.validity]
        return collections.Counter(kept + self.deliveries.kept.get((user, name), []))

    def restored(self, service):
        before = shown(service)
        expected = {(user, name): self.expected(user, name, box) for user in USERS for name, box in before[user].items()}
        self.assertGreater(sum(wanted.total() for wanted in expected.values()), 0)
        for (user, name), wanted in expected.items():
            self.assertEqual(self.undelete(service, user, name), wanted.total(), (user, name))
        service.stop(signal.SIGKILL)
        service = self.start()
        after = shown(service)
        for (user, name), wanted in expected.items():
            box, was = after[user][name], before[user][name]
            back = {uid: m for uid, m in box.messages.items() if uid not in was.messages}
            self.assertEqual(collections.Counter((m.identity, m.flags) for m in back.values()), wanted, (user, name))
            self.assertTrue(all(uid >= was.uidnext for uid in back), (user, name))
            self.assertEqual(self.undelete(service, user, name), 0, (user, name))


class KeptCrash(Kept, MailboxCrash):
    pass


class MaildirKeptCrash(Kept, MaildirCrash):
    pass


if __name__ == "__main__":
    unittest.main()
