"""`tubepost mailbox ...` against a running mailbox service, and what its users see of it."""
import calendar
import concurrent.futures
import glob
import json
import mailbox
import os
import poplib
import re
import shutil
import signal
import subprocess
import threading
import time
import unittest

import test_mailboxd_store
from harness import BUILD, PATIENCE_S, SystemTest, sanitizer_environment, wait_until
from test_mailboxd import Mailboxd
from test_mailboxd_store import PASSWORD, message

TOOL = os.path.join(BUILD, "tubepost")


class MailboxTool(SystemTest):
    uring = "auto"
    new_service = test_mailboxd_store.StoreTest.service

    def setUp(self):
        super().setUp()
        self.service = None

    def start(self, settings="", **kwargs):
        self.service = self.new_service(settings, **kwargs)
        return self.service

    def tool(self, *words, code=0, data=None):
        """What the tool prints: stdout, or where it fails, stderr."""
        run = subprocess.run([TOOL, "-c", self.service.config, "mailbox", *words], capture_output=True, timeout=PATIENCE_S,
                             env=dict(sanitizer_environment(), TZ="UTC"), input=data)
        self.assertEqual(run.returncode, code, (words, run.stdout[-2000:], run.stderr[-2000:]))
        self.output, self.errors = run.stdout.decode(), run.stderr.decode()
        return self.output if code == 0 else self.errors

    def lines(self, *words):
        return [json.loads(line) for line in self.tool(words[0], "--json", *words[1:]).splitlines()]

    def client(self, user="alice"):
        client = self.service.login(user)
        self.addCleanup(client.sock.close)
        return client

    def filled(self, user="alice"):
        """INBOX: one seen, two flagged and with a keyword, three; Archive/2026: one message."""
        client = self.client(user)
        for subject, flags, date in (("one hello", r"(\Seen)", '" 1-Jan-2020 10:00:00 +0100"'),
                                     ("two", r"(\Flagged $Work)", '"15-Jun-2021 00:00:00 +0000"'),
                                     ("three hello", "()", '"31-Dec-2022 23:59:59 -0500"')):
            self.assertEqual(client.append("INBOX", flags, date, message(subject, f"From {subject}\r\n>From x\r\n.\r\n"))[0], "OK")
        client.create("Archive/2026")
        client.append("Archive/2026", None, None, message("old", "y" * 3000 + "\r\n"))
        client.subscribe("Archive/2026")
        return client


class Deliverer(Mailboxd):
    """LMTP alone, into a log."""

    def write_config(self, settings, uring="auto"):
        super().write_config(settings, uring)
        with open(self.config) as f:
            text = f.read()
        with open(self.config, "w") as f:
            f.write(text.replace(f"{self.mail}}}", f"{self.mail}, format: log, segment_bytes: 4M, memory_bytes: 8M, free_min: 0}}"))


class Sessions(MailboxTool):
    def test_who_is_there_and_is_kicked_sees_it(self):
        service = self.start()
        first, second, other = self.client(), self.client(), self.client("bob")
        pop3 = poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S)
        self.addCleanup(pop3.close)
        pop3.user("bob")
        pop3.pass_(PASSWORD)
        self.assertEqual([line.split() for line in self.tool("who").splitlines()[1:]],
                         [["alice", "2", "imap", "(127.0.0.1)"], ["bob", "1", "imap", "(127.0.0.1)"],
                          ["bob", "1", "pop3", "(127.0.0.1)"]])
        self.assertEqual([line.split()[:2] for line in self.tool("who", "-1", "b*").splitlines()[1:]],
                         [["bob", "imap"], ["bob", "pop3"]])
        self.assertEqual(self.lines("who", "10.0.0.0/8"), [])
        rows = self.lines("who", "alice", "127.0.0.0/8")
        self.assertEqual([(row["user"], row["protocol"], row["tls"], row["operator"]) for row in rows],
                         [("alice", "imap", False, False)] * 2)
        self.assertEqual(rows[0]["port"], first.sock.getsockname()[1])

        self.assertEqual(self.tool("kick", "--session", str(rows[0]["session"])), "1 session kicked\n")
        self.assertEqual(first.readline(), b"* BYE [UNAVAILABLE] Disconnected by the operator\r\n")
        self.assertEqual(first.sock.recv(10), b"")
        self.assertEqual(second.noop()[0], "OK")
        second.select()
        second.send(b"x IDLE\r\n")
        self.assertEqual(second.readline()[:1], b"+")
        self.assertEqual(self.tool("kick", "alice"), "1 session kicked\n")
        self.assertEqual(second.readline(), b"* BYE [UNAVAILABLE] Disconnected by the operator\r\n")
        self.assertEqual(self.tool("kick", "bob", "127.0.0.1"), "2 sessions kicked\n")
        self.assertEqual(pop3.file.readline(), b"-ERR [SYS/TEMP] Disconnected by the operator\r\n")
        self.assertTrue(other.readline().startswith(b"* BYE"))
        self.assertIn("there is no such session", self.tool("kick", "alice", code=65))
        wait_until(lambda: len(self.tool("who").splitlines()) == 1, "an empty list")

    def test_one_that_takes_nothing_is_cut(self):
        self.start()
        client = self.client()
        client.append("INBOX", None, None, message("large", ("x" * 70 + "\r\n") * 60000))
        client.select()
        client.send(b"".join(b"f%d FETCH 1 BODY.PEEK[]\r\n" % i for i in range(50)))  # and reads nothing
        self.assertEqual(self.tool("kick", "alice"), "1 session kicked\n")
        wait_until(lambda: len(self.tool("who").splitlines()) == 1, "the session's end")

    def test_counters_are_told_in_the_manner_of_the_relay(self):
        service = self.start(shards=1)  # several: test_mailbox_tool_users.py
        client = self.filled()
        self.assertRaises(client.error, self.service.login, "nobody")
        with service.connect() as lmtp:
            lmtp.deliver(["alice", "bob"], message("x"))
        [status] = self.lines("stats", "0")
        counters = status["counters"]
        self.assertEqual((counters["imap"]["logins"], counters["imap"]["logins_failed"]), (1, 1))
        self.assertEqual((counters["mailbox"]["deliveries"], counters["mailbox"]["messages"]), (2, 1))
        self.assertEqual((status["gauges"]["sessions_imap"], status["gauges"]["sessions_pop3"]), (1, 0))
        self.assertGreater(counters["imap"]["bytes_in"], 3000)
        self.assertGreater(counters["imap"]["bytes_out"], 1000)
        self.assertGreater(counters["lmtp"]["bytes_in"], 100)
        self.assertGreaterEqual(counters["imap"]["commands"], 6)
        self.assertEqual(counters["store"]["texts_committed"], 5)
        self.assertGreater(counters["log"]["records"], 5)
        self.assertIn("writes", counters["index"])
        self.assertRegex(self.tool("stats", "0.1"), r"imap\.logins +1 ")
        metrics = self.tool("stats", "--prometheus")
        self.assertIn("# TYPE tubepost_mailboxd_imap_logins_total counter\ntubepost_mailboxd_imap_logins_total 1\n", metrics)
        self.assertIn("# TYPE tubepost_mailboxd_sessions_imap gauge\ntubepost_mailboxd_sessions_imap 1\n", metrics)
        self.assertIn("tubepost-mailboxd's socket", subprocess.run(
            [TOOL, "-s", service.control, "queue", "list"], capture_output=True, text=True, timeout=PATIENCE_S,
            env=sanitizer_environment()).stderr)


class Messages(MailboxTool):
    store, date = "log", " 1-Jan-2020 10:00:00 +0100"

    def setUp(self):
        super().setUp()
        self.start("users: {quota_bytes: 1M}", space="segment_bytes: 4M, keep_expunged: 1h", store=self.store)
        self.imap = self.filled()

    def search(self, *query):
        return [(row["mailbox"], row["uid"]) for row in self.lines("search", "-u", "alice", *query)]

    def test_mailboxes_are_listed(self):
        self.assertEqual(self.tool("list", "-u", "alice"), "INBOX\nArchive/2026\n")
        self.assertEqual(self.tool("list", "-u", "alice", "Arch*", "INBOX"), "Archive/2026\nINBOX\n")
        self.assertEqual(self.tool("list", "-u", "alice", "-s"), "Archive/2026\n")
        self.assertEqual(self.lines("list", "-u", "alice", "I%"), [{"mailbox": "INBOX"}])
        self.assertIn("Nope: no such mailbox", self.tool("list", "-u", "alice", "Nope", code=65))
        self.imap.create("&AOk-t&AOk-")
        self.assertEqual(self.tool("list", "-u", "alice", "été"), "été\n")

    def test_status_tells_what_is_asked(self):
        self.assertEqual(self.tool("status", "-u", "alice", "messages", "unseen", "INBOX"), "INBOX messages=3 unseen=2\n")
        self.assertEqual(self.tool("status", "-u", "alice", "messages uidnext", "*"),
                         "INBOX messages=3 uidnext=4\nArchive/2026 messages=1 uidnext=2\n")
        self.assertEqual(self.tool("status", "-u", "alice", "-t", "messages", "vsize", "*").split()[:2], ["total", "messages=4"])
        [row] = self.lines("status", "-u", "alice", "all", "INBOX")
        self.assertEqual((row["mailbox"], row["messages"], row["deleted"]), ("INBOX", 3, 0))
        self.assertRegex(row["guid"], "^F[0-9a-f]{16}$")
        self.assertIn("'weather' is no field", self.tool("status", "-u", "alice", "weather", "INBOX", code=64))

    def test_quota_tells_what_he_has_and_may_have(self):
        [row] = self.lines("quota", "-u", "alice")
        self.assertEqual((row["user"], row["messages"], row["mailboxes"], row["bytes_max"]), ("alice", 4, 2, 1 << 20))
        self.assertRegex(self.tool("quota", "-u", "alice"), r"STORAGE +4 +1024 +0\nMESSAGE +4 +- +-\nMAILBOX +2")

    def test_quota_leaves_out_what_does_not_count(self):
        self.service.stop()
        self.start("users: {quota_bytes: 1M, quota_messages: 50, quota_rules: [{mailbox: \"Archive*\", counted: false}]}", store=self.store)
        [row] = self.lines("quota", "-u", "alice")
        self.assertEqual((row["messages"], row["messages_max"]), (3, 50))
        self.assertRegex(self.tool("quota", "-u", "alice"), r"STORAGE +1 +1024 +0\nMESSAGE +3 +50 +6\nMAILBOX +2")

    def test_search_finds_by_the_words_of_doveadm(self):
        both, old = [("INBOX", 1), ("INBOX", 3)], [("Archive/2026", 1)]
        for query, found in (
                (["mailbox", "INBOX", "subject", "hello"], both),
                (["mailbox", "INBOX", "SUBJECT", "hello", "not", "seen"], both[1:]),
                (["subject", "hello"], both),
                (["all"], [("INBOX", 1), ("INBOX", 2), ("INBOX", 3), *old]),
                (["mailbox", "Arch*", "larger", "2K"], old),
                (["mailbox", "*", "smaller", "2K", "keyword", "$Work"], [("INBOX", 2)]),
                (["mailbox", "INBOX", "or", "flagged", "(", "seen", "from", "x", ")"], [("INBOX", 2)]),
                (["mailbox", "INBOX", "(", "or", "flagged", "seen", ")"], [("INBOX", 1), ("INBOX", 2)]),
                (["mailbox", "INBOX", "before", "2021-01-01"], both[:1]),
                (["mailbox", "INBOX", "since", "1-Jan-2022"], both[1:]),
                (["mailbox", "INBOX", "before", "52w"], [("INBOX", 1), ("INBOX", 2), ("INBOX", 3)]),
                (["mailbox", "INBOX", "savedbefore", "7d"], []),
                (["since", "1h"], old),
                (["mailbox", "INBOX", "uid", "2:*"], [("INBOX", 2), ("INBOX", 3)]),
                (["mailbox", "INBOX", "header", "Subject", "two"], [("INBOX", 2)]),
                (["mailbox", "INBOX", "body", "no (\"such\") words {3+}"], []),
                (["mailbox", "Archive/2026", "mailbox", "INBOX", "body", "yyyy"], old)):
            with self.subTest(query=query):
                self.assertEqual(self.search(*query), found)
        text = self.tool("search", "-u", "alice", "mailbox", "INBOX", "subject", "two")
        self.assertRegex(text, "^F[0-9a-f]{16} 2\n$")
        self.assertEqual(self.search("mailbox-guid", text.split()[0], "seen"), both[:1])
        for query, problem in ((["weather"], "'weather' is no key"), (["subject"], "expected something behind 'subject'"),
                               (["since", "soon"], "'soon' is no date"), (["larger", "x"], "'x' is no size"),
                               (["(", "seen"], "a ( has no )"), (["or", "seen"], "expected something"),
                               (["keyword", "a b"], "'a b' will not do"), (["uid", "x"], "")):
            with self.subTest(query=query):
                self.assertIn(problem, self.tool("search", "-u", "alice", *query, code=64))
        self.assertIn("Nope: no such mailbox", self.tool("search", "-u", "alice", "mailbox", "Nope", "all", code=65))
        self.assertEqual(self.imap.status("INBOX", "(UNSEEN)")[1], [b"INBOX (UNSEEN 2)"])  # nothing was touched

    def test_fetch_prints_fields(self):
        text = self.tool("fetch", "-u", "alice", "uid flags date.received hdr.subject", "mailbox", "INBOX", "seen")
        self.assertEqual(text, "uid: 1\nflags: \\Seen\ndate.received: " + self.date + "\n"
                               "hdr.subject:\nSubject: one hello\r\n\r\n")
        rows = self.lines("fetch", "-u", "alice", "user mailbox uid seq text body size.virtual modseq guid date.saved", "mailbox", "INBOX", "all")
        self.assertEqual([(row["user"], row["mailbox"], row["uid"], row["seq"]) for row in rows],
                         [("alice", "INBOX", str(n), str(n)) for n in (1, 2, 3)])
        self.assertEqual(rows[1]["text"].encode(), message("two", "From two\r\n>From x\r\n.\r\n"))
        self.assertEqual(rows[1]["body"], "From two\r\n>From x\r\n.\r\n")
        self.assertEqual(rows[1]["size.virtual"], str(len(rows[1]["text"])))
        [row] = self.lines("fetch", "-u", "alice", "imap.envelope imap.bodystructure body.1 hdr flags", "mailbox", "INBOX", "uid", "2")
        self.assertIn('"two"', row["imap.envelope"])
        self.assertIn('"text" "plain"', row["imap.bodystructure"])
        self.assertEqual(row["body.1"], "From two\r\n>From x\r\n.\r\n")
        self.assertEqual(sorted(row["flags"].split()), ["$Work", "\\Flagged"])
        self.assertIn("'weather' is no field", self.tool("fetch", "-u", "alice", "weather", "all", code=64))
        self.assertIn("is no field", self.tool("fetch", "-u", "alice", "body.1]\r\nx", "all", code=64))

    def test_expunged_mail_is_undeleted(self):
        watcher = self.client()
        watcher.select()
        self.assertIn("expected a mailbox", self.tool("expunge", "-u", "alice", "subject", "hello", code=64))
        self.assertIn("expected a mailbox", self.tool("expunge", "-u", "alice", "mailbox", "INBOX", code=64))
        self.imap.select()
        self.imap.store("2", "+FLAGS", r"(\Deleted)")  # which is not found, and stays
        self.assertEqual(self.tool("expunge", "-u", "alice", "mailbox", "INBOX", "subject", "hello"), "INBOX: 2 expunged\n")
        self.assertEqual(self.search("mailbox", "INBOX", "all"), [("INBOX", 2)])
        watcher.noop()
        self.assertEqual(watcher.response("EXPUNGE")[1], [b"3", b"1"])
        kept = self.lines("undelete", "-u", "alice", "--list", "INBOX")
        self.assertEqual([(row["uid"], row["date"]) for row in kept], [(1, 1577869200), (3, 1672549199)])
        self.assertLess(abs(kept[0]["expunged"] - time.time()), 600)
        self.assertIn("\\Seen", self.tool("undelete", "-u", "alice", "--list", "INBOX").splitlines()[1])
        self.assertEqual(self.tool("undelete", "-u", "alice", "--uid", "3", "INBOX"), "1 message restored\n")
        self.assertEqual(self.search("mailbox", "INBOX", "subject", "three"), [("INBOX", 4)])
        self.imap.noop()
        self.imap.expunge()  # the one that was \Deleted, over IMAP
        self.assertEqual(self.lines("undelete", "-u", "alice", "--since", "1h", "INBOX"), [{"restored": 2, "first": 5, "last": 6}])
        rows = self.lines("fetch", "-u", "alice", "uid flags date.received text", "mailbox", "INBOX", "all")
        self.assertEqual([row["text"].split("\r\n")[0] for row in rows], ["Subject: three hello", "Subject: one hello", "Subject: two"])
        self.assertIn("$Work", rows[2]["flags"])
        self.assertEqual(rows[1]["date.received"], self.date)
        watcher.noop()
        self.assertEqual(watcher.untagged_responses.get("EXISTS", [b""])[-1], b"3")
        self.assertIn("nothing of it is kept", self.tool("undelete", "-u", "alice", "INBOX", code=65))
        self.assertIn("expected uids", self.tool("undelete", "-u", "alice", "--uid", "3:1", "INBOX", code=64))
        self.assertIn("no such mailbox", self.tool("undelete", "-u", "alice", "Nope", code=65))

    def everything(self, user, box="INBOX"):
        client = self.client(user)
        client.select(box, readonly=True)
        found = []
        for parts in zip(*[iter(client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")[1])] * 2):
            head, text = parts[0]
            head += parts[1]
            date = re.search(rb'INTERNALDATE "([^"]+)"', head).group(1).decode()
            at = time.strptime(date[:-6].strip(), "%d-%b-%Y %H:%M:%S")
            zone = int(date[-5:-2]) * 3600 + int(date[-5] + date[-2:]) * 60
            flags = sorted(re.search(rb"FLAGS \(([^)]*)\)", head).group(1).split())
            found.append((flags, calendar.timegm(at) - zone, text))
        return found

    def test_what_is_exported_is_imported_with_flags_and_dates(self):
        self.imap.select()
        self.imap.store("3", "+FLAGS", r"(\Answered \Draft \Deleted other)")
        sent = self.everything("alice")
        self.assertEqual(len(sent), 3)
        mbox, maildir = (os.path.join(self.folder, name) for name in ("out.mbox", "out"))
        self.assertEqual(self.tool("export", "-u", "alice", f"mbox:{mbox}"), "3 exported\n")
        found = mailbox.mbox(mbox, create=False)
        self.assertEqual([m["Subject"] for m in found], ["one hello", "two", "three hello"])
        self.assertEqual([sorted(m.get_flags()) for m in found], [["O", "R"], ["F", "O"], ["A", "D", "O", "T"]])
        found.close()
        self.assertEqual(self.tool("import", "-u", "bob", f"mbox:{mbox}"), "3 imported\n")
        self.assertEqual(self.everything("bob"), sent)

        self.assertEqual(self.lines("export", "-u", "alice", f"maildir:{maildir}", "*"), [{"exported": 4}])
        found = mailbox.Maildir(maildir, create=False)
        self.assertEqual(sorted(found.list_folders()), ["Archive.2026"])
        flags = {m["Subject"]: re.sub("[a-z]", "", m.get_flags()) for m in found}
        self.assertEqual(flags, {"one hello": "S", "two": "F", "three hello": "DRT"})
        with open(os.path.join(maildir, "dovecot-keywords")) as f:
            self.assertEqual(sorted(line.split(" ", 1)[1] for line in f.read().splitlines()), ["$Work", "other"])
        self.assertEqual(self.lines("import", "-u", "u1", f"maildir:{maildir}"), [{"imported": 4}])
        self.assertEqual(self.everything("u1"), sent)
        self.assertEqual(self.everything("u1", "Archive/2026"), self.everything("alice", "Archive/2026"))
        self.assertEqual(self.tool("import", "-u", "u1", f"maildir:{maildir}", "From/alice"), "4 imported\n")
        self.assertEqual(self.everything("u1", "From/alice"), sent)
        self.assertEqual(self.tool("list", "-u", "u1", "From/*"), "From/alice\nFrom/alice/Archive/2026\n")

        stream = self.tool("export", "-u", "alice", "mbox:-", "INBOX")
        self.assertEqual(self.errors, "3 exported\n")
        self.assertEqual(self.tool("import", "-u", "u2", "mbox:-", "Copies", data=stream.encode()), "3 imported\n")
        self.assertEqual(self.everything("u2", "Copies"), sent)

        self.assertIn("File exists", self.tool("export", "-u", "alice", f"mbox:{mbox}", code=73))
        self.assertIn("File exists", self.tool("export", "-u", "alice", f"maildir:{maildir}", code=73))
        self.assertIn("an mbox file holds one", self.tool("export", "-u", "alice", f"mbox:{mbox}2", "*", code=64))
        self.assertIn("expected mbox:FILE", self.tool("export", "-u", "alice", mbox, code=64))
        self.assertIn("No such file", self.tool("import", "-u", "bob", "mbox:/nowhere", code=66))
        self.assertIn("no Maildir", self.tool("import", "-u", "bob", f"maildir:{self.folder}", code=66))
        self.assertIn("is no mbox", self.tool("import", "-u", "bob", f"mbox:{self.service.config}", code=65))

    def test_octets_that_no_line_should_have_survive(self):
        text = b"Subject: odd\r\n\r\na\0b\xff \r c\r\n"
        box = os.path.join(self.folder, "odd")
        for name in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(box, name))
        with open(os.path.join(box, "new", "1.x"), "wb") as f:
            f.write(text.replace(b"\r\n", b"\n"))
        self.assertEqual(self.tool("import", "-u", "bob", f"maildir:{box}"), "1 imported\n")
        shown = text.replace(b"\0", b"\x80")  # as BODY[] has it
        self.assertEqual([found[2] for found in self.everything("bob")], [shown])
        again = os.path.join(self.folder, "again.mbox")
        self.tool("export", "-u", "bob", f"mbox:{again}")
        self.assertEqual(self.tool("import", "-u", "u3", f"mbox:{again}"), "1 imported\n")
        with open(again, "rb") as f:
            self.assertIn(b"\n\na\0b\xff \r c\n", f.read())
        self.assertEqual([found[2] for found in self.everything("u3")], [shown])

    def test_encoded_texts_are_exported_as_they_are(self):
        texts = [b"Content-Transfer-Encoding: %s\r\n\r\nPGI+=3D\r\n" % name
                 for name in (b"base64", b"quoted-printable", b"x-unheard-of", b"8bit")]
        client = self.client("bob")
        for text in texts:
            client.append("INBOX", None, None, text)
        box = os.path.join(self.folder, "out")
        self.assertEqual(self.tool("export", "-u", "bob", f"maildir:{box}"), "4 exported\n")
        found = []
        for path in glob.glob(os.path.join(box, "cur", "*")):
            with open(path, "rb") as f:
                found.append(f.read().replace(b"\n", b"\r\n"))
        self.assertEqual(sorted(found), sorted(texts))

    def test_what_does_not_fit_is_not_imported(self):
        large = os.path.join(self.folder, "large.mbox")
        with open(large, "w") as f:
            for i in range(2):
                f.write("From a@x Thu Nov  9 22:33:52 2001\nSubject: x\n\n" + ("z" * 70 + "\n") * 10000 + "\n")
        text = self.tool("import", "-u", "bob", f"mbox:{large}", code=65)
        self.assertIn("message 2 is not imported, nor what follows it", text)
        self.assertEqual(len(self.everything("bob")), 1)

    def test_what_is_wrong_is_told(self):
        for words, code, problem in (
                ([], 64, "Usage: "), (["frobnicate"], 64, "Usage: "), (["list"], 64, "whose? Expected -u USER"),
                (["list", "-u", "nobody"], 65, "no mail is kept for such a user"), (["search", "-u", "nobody", "all"], 65, "no mail is kept"),
                (["quota", "-u", "nobody"], 65, "no mail is kept"), (["quota", "-u", "a b/c"], 64, "expected user=NAME"),
                (["undelete", "-u", "nobody", "INBOX"], 65, "no mail is kept"),
                (["undelete", "-u", "alice", "--since", "soon", "INBOX"], 64, "Usage: "),
                (["who", "--list"], 64, "Usage: "), (["who", "--prometheus"], 64, "Usage: "), (["who", "a", "b", "c"], 64, "Usage: "), (["kick"], 64, "expected user"),
                (["who", "x", "nowhere"], 64, "malformed"), (["stats", "now"], 64, "no number of seconds"),
                (["search", "-u", "x" * 4000, "all"], 64, "too long")):
            with self.subTest(words=words):
                self.assertIn(problem, self.tool(*words, code=code))
        self.assertIn("undelete -u USER", self.tool("help"))
        self.assertEqual(self.service.stop(), 0)
        self.assertIn("does tubepost-mailboxd run?", self.tool("who", code=69))
        self.assertIn("does tubepost-mailboxd run?", self.tool("list", "-u", "alice", code=69))


class Offline(MailboxTool):
    """check and rebuild, of a service that does not run, with one shard; several: test_mailbox_tool_users.py."""

    def stopped(self):
        self.start(shards=1)
        client = self.filled()
        client.select("Archive/2026")
        client.store("1", "+FLAGS", r"(\Seen)")
        client.logout()
        self.assertIn("tubepost-mailboxd works on this store; stop it", self.tool("check", self.service.mail, code=75))
        self.assertIn("tubepost-mailboxd works on this store; stop it", self.tool("rebuild", self.service.mail, code=75))
        self.assertEqual(self.service.stop(), 0)

    def read(self):
        """Flags and uids of all there is."""
        self.service = self.new_service(shards=1)
        client, found = self.client(), []
        for box in ("INBOX", "Archive/2026"):
            client.select(box)
            found.append(client.fetch("1:*", "(UID FLAGS RFC822.SIZE)")[1])
        client.logout()
        self.assertEqual(self.service.stop(), 0)
        return found

    def index(self):
        return [name for name in sorted(os.listdir(self.service.mail)) if name.startswith("index")]

    def test_an_index_is_as_the_log_says_and_built_from_it(self):
        self.stopped()
        files = self.index()
        self.assertIn("the index is as the log says\n", self.tool("check"))
        self.assertEqual(self.index(), files)
        before = self.read()
        [facts] = self.lines("check", self.service.mail)
        self.assertEqual((facts["users"], facts["damaged_bytes"], facts["differences"], facts["index_was_built"]), (1, 0, 0, False))
        self.assertRegex(self.tool("rebuild"), "the index was built from [1-9][0-9]* records, of 1 users\n")
        self.assertEqual(self.index(), files)
        self.assertEqual(self.read(), before)
        os.unlink(os.path.join(self.service.mail, "index"))
        self.assertIn("the index was missing or of no use: it has been built from the log\n", self.tool("check"))
        self.assertEqual(self.read(), before)

    def test_what_the_log_has_lost_is_told(self):
        self.stopped()
        before = self.read()
        for path in glob.glob(os.path.join(self.service.mail, "0", "*.segment")):
            with open(path, "r+b") as f:
                at = f.read().find(b"$Work")
                if at >= 0:
                    f.seek(at)
                    f.write(b"#")
        self.assertEqual(self.tool("check", code=65), "")
        self.assertRegex(self.output, r"messages [0-9a-f]+: something else in the index\n")
        self.assertRegex(self.output, r": 1 users, [0-9]+ bytes of log; [1-9][0-9]* bytes damaged")
        self.assertRegex(self.output, r"\n[1-9][0-9]* rows of the index are not as the log says\n$")
        self.assertEqual(self.read(), before)  # the index still knows

    def test_a_folder_without_a_store_is_told(self):
        self.stopped()
        self.assertIn("no mailbox store is in this folder", self.tool("check", self.folder, code=66))
        self.assertIn("No such file", self.tool("rebuild", "/nowhere", code=66))


class Online(MailboxTool):
    """check and rebuild, while the service runs and mail comes and goes."""

    def filled_up(self, mebibytes=40, **kwargs):
        """Mail of alice's and bob's, so that a check takes a while."""
        self.start(**kwargs)
        self.filled().logout()
        with self.service.connect() as lmtp:
            for number in range(mebibytes):
                self.assertEqual(lmtp.deliver(["alice", "bob"], message(f"large {number}", ("x" * 70 + "\r\n") * 14500)), [250, 250])

    def left(self):
        return [name for name in os.listdir(self.service.mail) if ".check" in name or name.endswith(".stale")]

    def begun(self, *words):
        """A check that is under way; None: it was over before that was seen."""
        check = subprocess.Popen([TOOL, "-c", self.service.config, "mailbox", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=sanitizer_environment())
        self.addCleanup(check.stdout.close)
        self.addCleanup(check.stderr.close)
        while not self.left():
            if check.poll() is not None:
                return None
        return check

    def told(self, *words):
        return subprocess.run([TOOL, "-c", self.service.config, "mailbox", *words], capture_output=True, timeout=PATIENCE_S,
                              env=sanitizer_environment())

    def caught(self, *words):
        for _ in range(100):
            check = self.begun(*words)
            if check is not None:
                return check
        self.fail("no check was ever seen under way")

    def deliver(self, stop, sent, number):
        with self.service.connect() as lmtp:
            while not stop.is_set():
                self.assertEqual(lmtp.deliver(["alice", "bob"], message(f"{number} {len(sent)}")), [250, 250])
                sent.append(number)

    def change(self, stop, user):
        client = self.client(user)
        client.create("Copies")
        while not stop.is_set():
            if int(client.select("INBOX")[1][0]) < 6:  # more will come
                continue
            client.store("1:5", "+FLAGS", r"(\Flagged $Seen)")
            client.copy("1:3", "Copies")
            client.store("1", "+FLAGS", r"(\Deleted)")
            client.expunge()
            client.store("1:5", "-FLAGS", r"(\Flagged)")
        client.logout()

    def spoilt(self):
        """The service is stopped, and its index says something else of a mailbox of alice's and of a subscription."""
        self.assertEqual(self.service.stop(), 0)
        path = os.path.join(self.service.mail, "index")
        with open(path, "rb") as f:
            index = f.read()
        self.assertIn(b"Archive/2026", index)
        with open(path, "wb") as f:
            f.write(index.replace(b"Archive/2026", b"Archive/2027"))
        self.service = self.new_service(shards=1)

    def boxes(self, user="alice"):
        return [line.split(" ")[-1] for line in self.tool("list", "-u", user).splitlines()]

    def test_an_index_is_checked_while_mail_comes_and_goes(self):
        self.filled_up(shards=2)
        stop, sent = threading.Event(), []
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            load = [pool.submit(self.deliver, stop, sent, number) for number in range(2)]
            load += [pool.submit(self.change, stop, user) for user in ("alice", "bob")]
            try:
                for _ in range(5):
                    before = len(sent)
                    output = self.tool("check")
                    for shard in (0, 1):
                        self.assertRegex(output, rf"{self.service.mail}/{shard}: \d users, [0-9]+ bytes of log; 0 bytes damaged, ")
                        self.assertIn(f"{self.service.mail}/{shard}: the index is as the log says\n", output)
                    wait_until(lambda: len(sent) > before, "mail that comes in meanwhile")
                facts = self.lines("check")
                self.assertEqual(sorted((row["shard"], row["differences"], row["marked"]) for row in facts),
                                 [(0, 0, False), (1, 0, False)])
                self.assertEqual(sum(row["users"] for row in facts), 2)
                self.assertEqual(len(self.lines("check", "-u", "alice")), 1)
                self.assertIn("it is left as it is", self.tool("rebuild"))
                self.assertIn("no mail is kept for such a user", self.tool("check", "-u", "nobody", code=65))
                self.tool("check", "-u", "a*", code=64)
            finally:
                stop.set()
            for one in load:
                one.result(PATIENCE_S)
        self.assertEqual(self.left(), [])

    def test_the_state_of_maildirs_is_checked_in_the_same_way(self):
        self.start(store="maildir", shards=1)
        state = os.path.join(self.service.mail, ".tubepost")
        self.filled().logout()
        self.client("bob").logout()
        stop, sent = threading.Event(), []
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            load = [pool.submit(self.deliver, stop, sent, 0)] + [pool.submit(self.change, stop, user) for user in ("alice", "bob")]
            try:
                for _ in range(10):
                    before = len(sent)
                    self.assertRegex(self.tool("check"), rf"{state}/0: 2 users, .*\nthe index is as the log says\n$")
                    wait_until(lambda: len(sent) > before, "mail that comes in meanwhile")
            finally:
                stop.set()
            for one in load:
                one.result(PATIENCE_S)
        self.assertEqual([name for name in os.listdir(state) if ".check" in name], [])

    def test_what_differs_is_told_and_built_by_the_next_start(self):
        self.filled_up(2, shards=1)
        self.spoilt()
        self.assertIn("Archive/2027", self.boxes())
        self.tool("check", code=65)
        self.assertRegex(self.output, r"(?m)^alice mailbox [0-9a-f]+: something else in the index$")
        self.assertRegex(self.output, r"(?m)^alice subscription [0-9a-f]+: missing in the index$")
        self.assertIn("\n3 rows of the index are not as the log says\n", self.output)
        self.assertIn("\nthe index is as the log says\n", self.tool("check", "-u", "bob"))
        self.assertEqual(self.left(), [])
        self.assertIn("the next start of tubepost-mailboxd builds the index from the log\n", self.tool("rebuild"))
        self.assertEqual(self.left(), ["index.stale"])
        with self.service.connect() as lmtp:
            self.assertEqual(lmtp.deliver(["alice"], message("behind the mark")), [250])
        self.assertEqual(self.service.stop(), 0)
        marked = os.path.join(self.folder, "marked")
        shutil.copytree(self.service.mail, marked)
        self.assertRegex(self.tool("rebuild", marked), "the index was built from")
        self.assertNotIn("index.stale", os.listdir(marked))
        self.service = self.new_service(shards=1)
        self.assertEqual(self.left(), [])
        self.assertIn("the index is as the log says\n", self.tool("check"))
        self.assertIn("Archive/2026", self.boxes())
        self.assertEqual(self.tool("status", "-u", "alice", "messages", "INBOX"), "INBOX messages=6\n")

    def log_damage(self):
        for path in glob.glob(os.path.join(self.service.mail, "0", "*.segment")):
            with open(path, "r+b") as f:
                at = f.read().find(b"$Work")
                if at >= 0:
                    f.seek(at)
                    f.write(b"#")

    def test_a_marked_index_whose_log_was_damaged_since_is_kept(self):
        self.filled_up(2, shards=1)
        self.spoilt()
        self.tool("rebuild")
        self.assertEqual(self.service.stop(), 0)
        self.assertEqual(self.left(), ["index.stale"])
        self.log_damage()
        start = subprocess.run([os.path.join(BUILD, "tubepost-mailboxd"), "-c", self.service.config], capture_output=True, text=True,
                               timeout=PATIENCE_S, env=sanitizer_environment())
        self.assertNotEqual(start.returncode, 0)
        self.assertRegex(start.stdout + start.stderr, "does not recover: its index was to be built anew from the log, which is damaged")
        self.assertEqual(self.left(), [])
        self.service = self.new_service(shards=1)
        self.assertIn("Archive/2027", self.boxes())

    def test_an_index_that_knows_more_than_a_damaged_log_is_left_as_it_is(self):
        self.filled_up(2, shards=1)
        self.assertEqual(self.service.stop(), 0)
        self.log_damage()
        self.service = self.new_service(shards=1)
        self.tool("rebuild", code=65)
        self.assertRegex(self.output, "; [1-9][0-9]* bytes damaged")
        self.assertIn("the index may know what is lost of it", self.output)
        self.assertEqual(self.left(), [])

    def test_a_check_that_is_interrupted_ends_and_one_is_done_at_a_time(self):
        self.filled_up(shards=1)
        for _ in range(100):
            check = self.caught("check")
            second = self.told("check")
            check.send_signal(signal.SIGINT)
            first = check.wait(PATIENCE_S)
            wait_until(lambda: self.told("check").returncode == 0, "the end of the one that was interrupted")
            self.assertEqual(self.left(), [])
            if first == -signal.SIGINT and second.returncode == 75:
                break
        self.assertIn(b"a check is under way", second.stderr)

    def test_nothing_is_left_of_a_check_by_kill_9_and_the_next_start(self):
        self.filled_up(shards=1)
        check = self.caught("check")
        self.service.stop(signal.SIGKILL)
        self.assertNotEqual(check.wait(PATIENCE_S), 0)
        self.service = self.new_service(shards=1)
        self.assertEqual(self.left(), [])
        self.assertIn("the index is as the log says\n", self.tool("check"))

    def test_a_service_that_ends_does_not_wait_for_it(self):
        self.filled_up(shards=1)
        check = self.caught("check")
        self.assertEqual(self.service.stop(), 0)
        self.assertIn(check.wait(PATIENCE_S), (0, 69, 70))
        self.assertEqual(self.left(), [])


class MaildirMessages(Messages):
    """The same of Maildirs, whose files know no time zone."""
    store, date = "maildir", " 1-Jan-2020 09:00:00 +0000"


class Deliveries(MailboxTool):
    def test_a_service_that_nobody_can_log_in_to_has_an_operator(self):
        service = self.service = Deliverer(self.folder)
        self.addCleanup(self.end, service)
        with service.connect() as lmtp:
            self.assertEqual(lmtp.deliver(["alice"], message("x")), [250])
        self.assertEqual(self.tool("status", "-u", "alice", "messages", "INBOX"), "INBOX messages=1\n")


class Maildirs(MailboxTool):
    """Of a Maildir that was only delivered into there is nothing to show yet."""

    def test_sessions_are_told_and_mail_is_not(self):
        self.service = Mailboxd(self.folder)
        self.addCleanup(self.end, self.service)
        self.assertIn("no mail is kept for such a user", self.tool("list", "-u", "alice", code=65))
        [status] = self.lines("stats", "0")
        self.assertEqual(status["counters"]["maildir"]["messages"], 0)

    def test_an_index_beside_maildirs_is_as_its_log_says_and_built_from_it(self):
        self.start(store="maildir", space="segment_bytes: 4M, keep_expunged: 1h")
        with self.service.connect() as client:
            for subject in ("one", "two", "three"):
                self.assertEqual(client.deliver(["alice"], message(subject)), [250])
        client = self.client()
        client.select()
        client.uid("STORE", "2", "+FLAGS", "(\\Deleted $Work)")
        client.expunge()
        client.create("Shared")
        self.assertEqual(client.setacl("Shared", "bob", "lr")[0], "OK")
        self.assertEqual(client.xatom("SETMETADATA", 'INBOX', '(/private/comment "mine")')[0], "OK")
        client.logout()
        self.assertEqual(self.tool("status", "-u", "alice", "messages", "INBOX"), "INBOX messages=2\n")
        state = os.path.join(self.service.mail, ".tubepost")
        self.assertIn("works on this store", self.tool("check", state, code=75))
        self.assertIn("the index is as the log says\n", self.tool("check"))  # the service is asked
        self.assertEqual(self.service.stop(), 0)
        files = sorted(glob.glob(os.path.join(self.service.mail, "alice", "**"), recursive=True, include_hidden=True))
        self.assertIn("the index is as the log says\n", self.tool("check"))
        [facts] = self.lines("check", state)
        self.assertEqual((facts["users"], facts["damaged_bytes"], facts["differences"]), (1, 0, 0))
        for name in ("index", "index-lock", "index.owner"):
            if os.path.exists(os.path.join(state, name)):
                os.unlink(os.path.join(state, name))
        self.assertRegex(self.tool("rebuild"), "the index was built from [1-9][0-9]* records, of 1 users\n")
        self.assertIn("the index is as the log says\n", self.tool("check"))
        self.assertEqual(sorted(glob.glob(os.path.join(self.service.mail, "alice", "**"), recursive=True, include_hidden=True)), files)
        self.start(store="maildir", space="segment_bytes: 4M, keep_expunged: 1h")
        client = self.client()
        self.assertRegex(client.getacl("Shared")[1][0], rb"bob.? .?lr")
        client.xatom("GETMETADATA", "INBOX", "/private/comment")
        self.assertIn(b"mine", client.untagged_responses["METADATA"][0])
        self.assertEqual(self.tool("undelete", "-u", "alice", "INBOX"), "1 message restored\n")
        rows = self.lines("fetch", "-u", "alice", "uid flags text", "mailbox", "INBOX", "all")
        self.assertEqual([(row["uid"], row["flags"]) for row in rows], [("1", ""), ("3", ""), ("4", "$Work")])
        self.assertIn("Subject: two", rows[2]["text"])


if __name__ == "__main__":
    unittest.main()
