"""One Maildir, two servers: a real Dovecot and our backend work on the same files, by turns and at once."""
import glob
import imaplib
import os
import re
import subprocess
import threading
import time

from harness import BUILD, free_port
from real_peers import PeerTest

PROBE = os.path.join(BUILD, "tests/system/maildir_probe")
VMAIL = 61005
USER = "ann@example.org"
FLAGS = {"D": "\\Draft", "F": "\\Flagged", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}

def text_of(number):
    return f"From: a@client.test\r\nSubject: {number}\r\nMessage-ID: <{number}@client.test>\r\n\r\n".encode() + b"line\r\n" * number

class Maildir(PeerTest):
    def setUp(self):
        super().setUp()
        self.port = free_port()
        self.peer = self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{self.port}", f"users={USER}")
        self.maildir = os.path.join(self.peer, "mail", USER, "Maildir")

    def imap(self):
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=60)
        self.addCleanup(self.leave, client)
        client.login(USER, "secret")
        return client

    @staticmethod
    def leave(client):
        try:
            client.logout()
        except (OSError, imaplib.IMAP4.error):
            pass

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)
        return answer[1]

    def probe(self, *arguments, folder=""):
        done = subprocess.run([PROBE, os.path.join(self.maildir, folder), *arguments], capture_output=True, text=True, timeout=300,
                              user=VMAIL, group=VMAIL, extra_groups=[], umask=0o077)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def ours(self, folder=""):
        """uidvalidity, uidnext, {uid: (flags, keywords, size, internal date)}"""
        first, *lines = self.probe("scan", folder=folder).splitlines()
        validity, following, _ = first.split("\t")
        found = {}
        for line in lines:
            uid, flags, _, size, date, _, *keywords = line.split("\t")
            found[int(uid)] = ({FLAGS[letter] for letter in flags if letter in FLAGS} | set(keywords), int(size), int(date))
        return int(validity), int(following), found

    def theirs(self, mailbox="INBOX"):
        client = self.imap()
        self.ok(client.select(mailbox))
        validity = int(client.response("UIDVALIDITY")[1][0])
        following = int(client.response("UIDNEXT")[1][0])
        found = {}
        for answer in self.ok(client.uid("FETCH", "1:*", "(FLAGS RFC822.SIZE INTERNALDATE)")):
            if answer is None:
                continue
            line = answer if isinstance(answer, bytes) else answer[0]
            uid = int(re.search(rb"UID (\d+)", line).group(1))
            flags = set(re.search(rb"FLAGS \(([^)]*)\)", line).group(1).decode().split()) - {"\\Recent"}
            date = imaplib.Internaldate2tuple(line)
            size = int(re.search(rb"RFC822.SIZE (\d+)", line).group(1))

            found[uid] = (flags, size, int(time.mktime(date)))
        self.leave(client)
        return validity, following, found

    def drop(self, number, folder=""):
        """As any delivery agent does, without a lock."""
        name = f"1700000{number:03d}.M{number}P9.drop.test"
        at = os.path.join(self.maildir, folder)
        with open(os.path.join(at, "tmp", name), "wb") as file:
            file.write(text_of(number).replace(b"\r\n", b"\n"))
        os.chown(os.path.join(at, "tmp", name), VMAIL, VMAIL)
        os.rename(os.path.join(at, "tmp", name), os.path.join(at, "new", name))

    def make_folders(self):
        path = self.maildir
        os.makedirs(path, exist_ok=True)
        for name in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(path, name), exist_ok=True)
        for path in (os.path.dirname(self.maildir), self.maildir, *glob.glob(self.maildir + "/*")):
            os.chown(path, VMAIL, VMAIL)

    def test_dovecot_sees_our_uids_flags_keywords_and_dates(self):
        self.make_folders()
        for number in (3, 1, 2, 5, 4):
            self.drop(number)
        self.probe("scan")
        self.probe("set", "2", "FS", "$Junk", "mine")
        self.probe("set", "4", "DRT")
        self.probe("set", "5", "-", "mine")
        self.probe("expunge", "3")
        ours = self.ours()
        self.assertEqual({uid: flags for uid, (flags, _, _) in ours[2].items()},
                         {1: set(), 2: {"\\Flagged", "\\Seen", "$Junk", "mine"}, 4: {"\\Draft", "\\Answered", "\\Deleted"}, 5: {"mine"}})
        self.assertEqual(self.theirs(), ours)
        self.assertEqual(self.ours(), ours)

    def test_we_see_what_dovecot_has_appended_flagged_copied_and_expunged(self):
        client = self.imap()
        self.ok(client.create("Sent"))
        for number in range(1, 9):
            self.ok(client.append("INBOX", "(\\Seen)" if number % 2 else None, f'"{number:02d}-Jan-2020 10:00:00 +0000"', text_of(number)))
        self.ok(client.select("INBOX"))
        self.ok(client.uid("STORE", "2,3", "+FLAGS", "($Forwarded \\Flagged)"))
        self.ok(client.uid("STORE", "5", "+FLAGS", "(\\Deleted \\Answered)"))
        self.ok(client.uid("COPY", "2:4", "Sent"))
        self.ok(client.uid("STORE", "1,7", "+FLAGS.SILENT", "(\\Deleted)"))
        self.ok(client.uid("EXPUNGE", "1,7"))
        self.ok(client.close())
        self.leave(client)
        theirs = self.theirs()
        self.assertEqual(sorted(theirs[2]), [2, 3, 4, 6, 8])
        self.assertEqual(self.ours(), theirs)
        self.assertEqual(self.ours(".Sent"), self.theirs("Sent"))
        self.assertEqual(len(self.ours(".Sent")[2]), 3)

    def test_the_servers_take_turns_and_no_uid_changes(self):
        self.make_folders()
        self.drop(1)
        seen = {}
        for turn in range(1, 6):
            self.drop(turn * 10)
            ours = self.ours()
            client = self.imap()
            self.ok(client.append("INBOX", None, None, text_of(turn)))
            self.ok(client.select("INBOX"))
            self.ok(client.uid("STORE", str(turn), "+FLAGS", f"(theirs{turn})"))
            self.leave(client)
            self.probe("set", str(turn + 1), "S", f"ours{turn}")
            theirs = self.theirs()
            self.assertEqual(theirs, self.ours())
            self.assertEqual(theirs[0], ours[0])
            self.assertLessEqual(set(ours[2]), set(theirs[2]))
            seen[turn] = theirs
        self.assertEqual(sorted(seen[5][2]), list(range(1, 12)))

    def test_both_at_once_give_no_uid_twice(self):
        self.make_folders()
        self.drop(0)
        validity = self.ours()[0]
        rounds, failed = [], []

        def ours_assigns():
            try:
                rounds.extend(self.probe("rounds", "200").splitlines())
            except Exception as error:  # pylint: disable=broad-except
                failed.append(error)

        worker = threading.Thread(target=ours_assigns)
        worker.start()
        client = self.imap()
        number = 0
        while worker.is_alive() and number < 400:
            number += 1
            self.drop(number)
            self.ok(client.append("INBOX", None, None, text_of(number % 7 + 1)))
            self.ok(client.select("INBOX"))
            self.ok(client.uid("STORE", "1:*", "+FLAGS" if number % 2 else "-FLAGS", "(\\Seen)"))
            if number % 5 == 0:
                self.ok(client.uid("STORE", str(number), "+FLAGS", "(\\Deleted)"))
                self.ok(client.uid("EXPUNGE", str(number)))
        worker.join()
        self.leave(client)
        self.assertEqual(failed, [])
        self.assertEqual(len(rounds), 200)
        self.assertGreater(number, 5)
        uid_of, base_of = {}, {}
        for line in rounds:
            first, *pairs = line.split(" ")
            self.assertEqual(int(first), validity)
            for pair in pairs:
                uid, base = pair.split("=", 1)
                self.assertEqual(uid_of.setdefault(base, uid), uid)
                self.assertEqual(base_of.setdefault(uid, base), base)
        self.assertGreater(len(base_of), number)
        theirs = self.theirs()
        self.assertEqual(theirs[0], validity)
        self.assertEqual(self.ours(), theirs)
        with open(os.path.join(self.peer, "log"), encoding="utf-8", errors="replace") as log:
            for line in log:
                self.assertNotRegex(line, "(?i)duplicate|broken|corrupt|lowered|overridden|reappeared")
