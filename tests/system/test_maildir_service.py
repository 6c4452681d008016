"""The mailbox service and a real Dovecot on the same Maildirs: by turns, at once, and one in the place of the other."""
import calendar
import hashlib
import imaplib
import os
import random
import re
import shutil
import signal
import subprocess
import threading

from harness import BUILD, PATIENCE_S, free_port, sanitizer_environment, wait_until
from real_peers import PeerTest
from test_mailboxd_store import PASSWORD, Store

VMAIL = 61005
USER = "alice"
STEPS = int(os.environ.get("TUBEPOST_MAILDIR_STEPS", "60"))
WORDS = ("\\Seen", "\\Flagged", "\\Answered", "\\Draft", "$Forwarded", "mine", "yours")


class Shared(Store):
    """As the user that Dovecot delivers as."""
    prefix = ("setpriv", "--reuid", str(VMAIL), "--regid", str(VMAIL), "--clear-groups")

    def __init__(self, folder, **settings):
        super().__init__(folder, store="maildir", **settings)


def text_of(identity):
    return f"From: a@client.test\r\nSubject: {identity}\r\nMessage-ID: <{identity}@client.test>\r\n\r\n".encode() + \
        b"line %s\r\n" % identity.encode() * random.Random(identity).choice((0, 1, 7, 300))


class Server:
    """One of the two, as its clients see it. Mailboxes are named with '/' between their levels."""

    def __init__(self, test, port, password, separator, user=USER):
        self.test, self.port, self.password, self.separator, self.user = test, port, password, separator, user

    def client(self):
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=PATIENCE_S)
        client.login(self.user, self.password)
        return client

    def name(self, mailbox):
        return '"%s"' % mailbox.replace("/", self.separator)

    def listed(self, client, lsub=False):
        names = set()
        for line in self.test.ok(client.lsub() if lsub else client.list()):
            found = re.match(rb'\(([^)]*)\) "(.)" "?([^"]*)"?$', line) if line else None
            if found and not re.search(rb"\\no(select|nexistent)|\\nonexistent", found.group(1), re.I):
                names.add(found.group(3).decode().replace(self.separator, "/"))
        return names

    def box(self, client, mailbox):
        self.test.ok(client.select(self.name(mailbox), readonly=True))
        validity, following = (int(client.response(word)[1][0]) for word in ("UIDVALIDITY", "UIDNEXT"))
        messages = {}
        for answer in self.test.ok(client.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE INTERNALDATE BODY.PEEK[])")):
            if not isinstance(answer, tuple):
                continue
            uid = int(re.search(rb"UID (\d+)", answer[0]).group(1))
            flags = frozenset(re.search(rb"FLAGS \(([^)]*)\)", answer[0]).group(1).decode().split()) - {"\\Recent"}
            size = int(re.search(rb"RFC822.SIZE (\d+)", answer[0]).group(1))
            date = calendar.timegm(imaplib.Internaldate2tuple(answer[0]))
            messages[uid] = (flags, size, date, hashlib.sha256(answer[1]).hexdigest())
        return validity, following, messages

    def all(self):
        client = self.client()
        try:
            found = {name: self.box(client, name) for name in self.listed(client)}
            return found, self.listed(client, lsub=True)
        finally:
            client.logout()


class Work:
    """Does random things to the mailboxes by way of one server. What it has put somewhere and nobody has expunged is there."""

    def __init__(self, server, name, rng):
        self.server, self.name, self.rng, self.made, self.error = server, name, rng, 0, None
        self.client = server.client()
        self.mailbox = None
        self.kept = set()  # digests of what was appended and answered

    def ok(self, answer):
        self.server.test.ok(answer)
        return answer

    def select(self, mailbox):
        self.ok(self.client.select(self.server.name(mailbox)))
        self.mailbox = mailbox
        found = self.client.uid("SEARCH", "ALL")[1][0]
        return [int(uid) for uid in found.split()] if found else []

    def some(self):
        uids = self.select(self.rng.choice(("INBOX", "Sent", "Archive/2024")))
        return ",".join(str(uid) for uid in self.rng.sample(uids, min(len(uids), self.rng.choice((1, 2, 5)))))

    def append(self):
        self.made += 1
        flags = " ".join(self.rng.sample(WORDS, self.rng.choice((0, 1, 3))))
        date = f'"{self.rng.randrange(10, 28)}-Feb-2021 10:00:00 +0100"'
        mailbox, text = self.rng.choice(("INBOX", "Sent", "Archive/2024")), text_of(f"{self.name}-{self.made}")
        self.ok(self.client.append(self.server.name(mailbox), f"({flags})", date, text))
        self.kept.add(hashlib.sha256(text).hexdigest())

    def store(self):
        uids = self.some()
        if uids:
            words = " ".join(self.rng.sample(WORDS, self.rng.choice((1, 2))))
            self.ok(self.client.uid("STORE", uids, self.rng.choice(("+FLAGS", "-FLAGS")), f"({words})"))

    def copy(self):
        uids = self.some()
        if uids:
            self.ok(self.client.uid("COPY", uids, self.server.name(self.rng.choice(("INBOX", "Sent", "Archive/2024")))))

    def move(self):
        uids = self.some()
        target = self.rng.choice([name for name in ("INBOX", "Sent", "Archive/2024") if name != self.mailbox])
        if uids:
            self.ok(self.client.uid("MOVE", uids, self.server.name(target)))

    def expunge(self):
        uids = self.some()
        if uids:
            self.ok(self.client.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)"))
            self.ok(self.client.uid("EXPUNGE", uids))

    def folders(self):
        self.made += 1
        name = self.server.name(f"box{self.name}{self.made}")
        self.ok(self.client.create(name))
        self.ok(self.client.append(name, None, None, text_of(f"{self.name}-{self.made}")))
        self.ok(self.client.subscribe(name))
        if self.rng.random() < 0.5:
            to = self.server.name(f"Archive/moved{self.name}{self.made}")
            self.ok(self.client.rename(name, to))
            if self.rng.random() < 0.5:
                self.ok(self.client.delete(to))

    def step(self):
        self.rng.choice((self.append, self.append, self.append, self.store, self.store, self.copy, self.move, self.expunge,
                         self.folders))()

    def many(self, steps):
        try:
            for _ in range(steps):
                self.step()
        except Exception as error:  # told by the main thread
            self.error = error


class MaildirService(PeerTest):
    users = [USER]

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)
        self.own = os.path.join(self.folder, "own")
        self.mail = os.path.join(self.own, "mail")
        for path in (self.own, self.mail):
            os.makedirs(path)
            os.chown(path, VMAIL, VMAIL)
        port = free_port()
        self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{port}", f"users={','.join(self.users)}",
                        f"set:mail_location = maildir:{self.mail}/%n",
                        "set:mail_max_keyword_length = 100")
        self.theirs = Server(self, port, "secret", ".")

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)
        return answer[1]

    def start(self, **settings):
        self.service = Shared(self.own, **settings)
        self.addCleanup(self.end, self.service)
        self.ours = Server(self, self.service.imap, PASSWORD, "/")

    def make_mailboxes(self, server):
        client = server.client()
        for name in ("Sent", "Archive/2024"):
            self.ok(client.create(server.name(name)))
            self.ok(client.subscribe(server.name(name)))
        client.logout()

    def both(self):
        """Flags that we have changed are in the Maildir a moment after they were answered."""
        ours = self.ours.all()
        wait_until(lambda: self.theirs.all() == self.ours.all(), "both servers to show the same", 30)
        self.assertEqual(self.ours.all(), ours)
        return ours

    def test_each_shows_what_the_other_has_done_with_the_same_uids(self):
        self.start()
        self.make_mailboxes(self.theirs)
        rng = random.Random(20261128)
        works = [Work(self.ours, "o", rng), Work(self.theirs, "t", rng)]
        for step in range(STEPS):
            works[step // 3 % 2].step()
            with self.service.connect() as lmtp:
                self.assertEqual(lmtp.deliver([USER], text_of(f"l-{step}")), [250])
            if step % 15 == 14:
                self.both()
        found, subscribed = self.both()
        self.assertGreater(sum(len(messages) for _, _, messages in found.values()), STEPS // 2)
        self.assertIn("Sent", subscribed)

    def test_both_at_once(self):
        self.start()
        self.make_mailboxes(self.ours)
        works = [Work(self.ours, "o", random.Random(1)), Work(self.theirs, "t", random.Random(2)),
                 Work(self.ours, "p", random.Random(3))]
        for work in works:  # what has been expunged by another is passed over, and is no error
            work.expunge = work.append
            work.copy = work.store
            work.move = work.store
        threads = [threading.Thread(target=work.many, args=(STEPS // 2,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for number in range(STEPS // 2):
            with self.service.connect() as lmtp:
                self.assertEqual(lmtp.deliver([USER], text_of(f"l-{number}")), [250])
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        for work in works:
            if work.error is not None:
                raise work.error
        self.both()

    def keywords_beyond_the_letters(self, server, names):
        """What has become of them, message by message."""
        full, other, third = (server.name(name) for name in names)
        client = server.client()
        for mailbox in (full, other, third):
            self.ok(client.create(mailbox))
        letters = " ".join(f"k{number}" for number in range(26))
        for mailbox in (full, other):
            self.ok(client.append(mailbox, f"({letters})", None, text_of("a")))
        self.ok(client.append(full, "(k1 appended)", None, text_of("b")))
        self.ok(client.append(third, "(copied)", None, text_of("c")))
        self.ok(client.select(full))
        self.ok(client.uid("STORE", "2", "+FLAGS", "(stored)"))
        self.ok(client.select(third))
        self.ok(client.copy("1", other))
        self.ok(client._simple_command("MOVE", "1", other))
        self.ok(client.select(full))
        answer = client.response("PERMANENTFLAGS")[1][0]
        self.assertIn(b" appended", answer)
        self.assertTrue(answer.endswith(b"\\*)"), answer)
        client.logout()
        client = server.client()  # it is no session's alone
        found = [[flags for flags, *_ in self.messages_of(server, client, name)] for name in names]
        client.logout()
        return found

    def messages_of(self, server, client, name):
        messages = server.box(client, name)[2]
        return [messages[uid] for uid in sorted(messages)]

    def test_keywords_beyond_26_are_kept_as_dovecot_keeps_them(self):
        self.start()
        ours = self.keywords_beyond_the_letters(self.ours, ("A", "B", "C"))
        theirs = self.keywords_beyond_the_letters(self.theirs, ("D", "E", "F"))
        self.assertEqual(ours, theirs)
        self.assertEqual(ours[0][1], {"k1", "appended", "stored"})
        self.assertEqual(ours[1][1:], [{"copied"}, {"copied"}])
        self.service.stop(signal.SIGKILL)
        self.start()
        client = self.ours.client()
        self.assertEqual([flags for flags, *_ in self.messages_of(self.ours, client, "A")], ours[0])
        client.logout()

    def test_a_message_whose_file_has_just_gone_is_left_out_and_the_session_goes_on(self):
        self.start()
        client = self.ours.client()
        for name in "abc":
            self.ok(client.append("INBOX", None, None, text_of(name)))
        self.ok(client.select())
        for items in ("BODY.PEEK[]", "RFC822", "BODY.PEEK[TEXT]", "BODY.PEEK[]<0.10>", "BINARY.PEEK[]"):
            self.ok(client.append("INBOX", None, None, text_of("d")))
            self.ok(client.noop())
            uid = self.ok(client.uid("SEARCH", "ALL"))[0].split()[-1].decode()
            newest = max(os.scandir(os.path.join(self.mail, USER, "cur")), key=lambda entry: (entry.stat().st_ctime_ns, entry.name))
            os.unlink(newest.path)
            answer, found = client.uid("FETCH", f"1:{uid}", f"({items})")
            self.assertIn(answer, ("NO", "OK"), (items, found))  # OK: a look has come before it, and the client is told
            self.assertEqual(len([item for item in client.response("FETCH")[1] if isinstance(item, tuple)]), 3, items)
            wait_until(lambda: self.ok(client.noop()) and len(self.ok(client.uid("SEARCH", "ALL"))[0].split()) == 3, "it to be seen to go")
        client.logout()

    def test_kill_9_beside_dovecot_loses_nothing(self):
        self.start()
        self.make_mailboxes(self.ours)
        kept, rng = set(), random.Random(9)
        for turn in range(4):
            works = [Work(self.ours if name < 2 else self.theirs, f"k{turn}{name}", random.Random(turn * 10 + name))
                     for name in range(3)]
            for work in works:
                work.expunge = work.move = work.folders = work.append
                work.copy = work.store
            threads = [threading.Thread(target=work.many, args=(STEPS // 4 if work.server is self.theirs else 10000,), daemon=True)
                       for work in works]
            for thread in threads:
                thread.start()
            threads[2].join(rng.uniform(0.3, 1.5))
            self.service.stop(signal.SIGKILL)
            for thread in threads:
                thread.join(PATIENCE_S)
                self.assertFalse(thread.is_alive())
            for work in works:  # of those of ours the connection is gone
                if work.error is not None and (work.server is self.theirs or not isinstance(work.error, (OSError, imaplib.IMAP4.abort))):
                    raise work.error
                kept |= work.kept
            self.start()
            found, _ = self.both()
            there = [message[3] for _, _, messages in found.values() for message in messages.values()]
            self.assertLessEqual(kept, set(there), "acknowledged, and lost")
        self.assertGreater(len(kept), 20)

    def test_one_takes_the_others_place_and_back(self):
        self.make_mailboxes(self.theirs)
        Work(self.theirs, "t", random.Random(4)).many(STEPS // 2)
        before = self.theirs.all()
        self.start()
        self.assertEqual(self.ours.all(), before)
        self.assertEqual(self.theirs.all(), before)
        Work(self.ours, "o", random.Random(5)).many(STEPS // 2)
        after = self.both()
        self.assertEqual(self.service.stop(), 0)
        self.assertEqual(self.theirs.all(), after)
        Work(self.theirs, "u", random.Random(6)).many(STEPS // 2)
        last = self.theirs.all()
        self.start()
        self.assertEqual(self.ours.all(), last)
        self.assertEqual(self.service.stop(), 0)
        shutil.rmtree(os.path.join(self.mail, ".tubepost"))
        self.start()
        self.assertEqual(self.ours.all(), last)
        self.assertEqual(self.theirs.all(), last)

    def test_idle_tells_what_dovecot_does(self):
        self.start()
        self.make_mailboxes(self.theirs)
        client, other = self.ours.client(), self.theirs.client()
        self.ok(client.select("INBOX"))
        client.send(b"i IDLE\r\n")
        self.assertTrue(client.readline().startswith(b"+"))
        self.ok(other.append("INBOX", None, None, text_of("a")))
        self.assertEqual(client.readline(), b"* 1 EXISTS\r\n")
        self.ok(other.select("INBOX"))
        self.ok(other.store("1", "+FLAGS", "(\\Seen theirs)"))
        while True:
            line = client.readline()
            if b"FETCH" in line:
                self.assertRegex(line, rb"\* 1 FETCH .*FLAGS \(\\Seen theirs\)")
                break
        self.ok(other.store("1", "+FLAGS.SILENT", "(\\Deleted)"))
        self.ok(other.expunge())
        while b"EXPUNGE" not in line:
            line = client.readline()
        self.assertEqual(line, b"* 1 EXPUNGE\r\n")
        client.send(b"DONE\r\n")
        self.assertTrue(client.readline().startswith(b"i OK"))
        client.logout()
        other.logout()

    def test_inbox_renamed_is_empty_in_both(self):
        self.start()
        client = self.ours.client()
        for number in range(3):
            self.ok(client.append("INBOX", "(\\Flagged mine)", None, text_of(f"r-{number}")))
        validity, _, messages = self.theirs.box(self.theirs.client(), "INBOX")
        self.ok(client.rename("INBOX", "Archive/old"))
        self.ok(client.append("INBOX", None, None, text_of("r-new")))
        found, _ = self.both()
        self.assertEqual(sorted(message[3] for message in found["Archive/old"][2].values()),
                         sorted(message[3] for message in messages.values()))
        self.assertEqual({message[0] for message in found["Archive/old"][2].values()}, {frozenset(("\\Flagged", "mine"))})
        self.assertEqual((found["INBOX"][0], list(found["INBOX"][2])), (validity, [4]))

    def test_what_is_kept_after_expunge_is_no_mailbox_of_dovecot_and_comes_back(self):
        self.start(space="segment_bytes: 4M, keep_expunged: 1h")
        self.make_mailboxes(self.ours)
        Work(self.ours, "o", random.Random(7)).append()
        client, theirs = self.ours.client(), self.theirs.client()
        for number in range(4):
            self.ok(client.append("Sent", "(\\Answered yours)", '"12-Feb-2021 10:00:00 +0100"', text_of(f"k-{number}")))
        _, following, messages = self.theirs.box(theirs, "Sent")
        self.ok(client.select("Sent"))
        self.ok(client.store("2:3", "+FLAGS", "(\\Deleted)"))
        self.ok(client.expunge())
        self.both()
        self.assertEqual(self.theirs.listed(theirs), {"INBOX", "Sent", "Archive/2024"})
        self.ok(theirs.select("Sent"))
        self.ok(theirs.store("1", "+FLAGS", "(\\Deleted)"))
        self.ok(theirs.expunge())  # which keeps nothing
        tool = subprocess.run([os.path.join(BUILD, "tubepost"), "-c", self.service.config, "mailbox", "undelete", "-u", USER, "Sent"],
                              capture_output=True, text=True, timeout=PATIENCE_S, env=sanitizer_environment())
        self.assertEqual((tool.returncode, tool.stdout), (0, "2 messages restored\n"), tool.stderr)
        found, _ = self.both()
        expected = [messages[uid] for uid in sorted(messages)]
        self.assertEqual([found["Sent"][2][uid] for uid in sorted(found["Sent"][2])], [expected[3], expected[1], expected[2]])
        self.assertEqual(sorted(found["Sent"][2])[1:], [following, following + 1])
