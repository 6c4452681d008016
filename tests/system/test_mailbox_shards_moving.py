"""COPY and MOVE between mailboxes of two shards: alice is of the first, bob of the second."""
import random
import re
import threading
import time
import unittest

import test_mailbox_shards_sharing as sharing
from harness import PATIENCE_S, SystemTest
from test_imap import Bare
from test_mailboxd_store import Store

PLACED = "users: {placed: [{users: alice, shard: 0}, {users: bob, shard: 1}]}"


class MovedBetweenShards(SystemTest):
    store, settings, many = "log", PLACED, 7000
    ok, bare, append = (getattr(sharing.SharedBetweenShards, name) for name in ("ok", "bare", "append"))

    def service(self):
        service = Store(self.folder, self.settings, shards=2, store=self.store)
        self.addCleanup(self.end, service)
        return service

    def shared(self, service):
        alice, bob = self.bare(service, "alice"), self.bare(service, "bob")
        self.ok(alice, "a CREATE Team")
        self.ok(alice, "a SETACL Team bob lrswipkxte")
        return alice, bob

    def fill(self, client, mailbox, count):
        """Letters, each of them several times."""
        for i in range(3):
            self.append(client, mailbox, sharing.letter(i))
        self.ok(client, f"s SELECT {mailbox}")
        while (there := self.messages(client, mailbox)) < count:
            self.ok(client, f"c COPY 1:{min(there, count - there)} {mailbox}")

    def messages(self, client, mailbox):
        return int(re.search(rb"MESSAGES (\d+)", self.ok(client, f"s STATUS {mailbox} (MESSAGES)"))[1])

    def until_rested(self, clients, count):
        """Where they are, when nobody moves them any more: all in the same mailbox."""
        (alice, team), (bob, inbox) = clients
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            there = (self.messages(alice, team), self.messages(bob, inbox))
            if there in ((count, 0), (0, count)):
                return there
        self.fail(f"{there} of {count}")

    def test_thousands_are_moved_by_one_of_those_who_want_them(self):
        count = self.many
        service = self.service()
        alice, bob = self.shared(service)
        second = self.bare(service, "bob")
        self.fill(alice, "Team", count)
        self.ok(alice, "a CREATE Other")
        for client in (bob, second):
            self.ok(client, "s SELECT shared/alice/Team")
        self.ok(alice, "n NOOP")
        for client, mailbox in ((bob, "INBOX"), (second, "INBOX"), (alice, "Other")):
            client.say(f"m MOVE 1:* {mailbox}\r\n".encode())
        for client in (bob, second, alice):
            self.assertTrue(client.until(b"m ")[-1].startswith(b"m OK"))
        self.assertEqual(self.messages(alice, "Team"), 0)
        self.assertEqual(self.messages(alice, "Other") + self.messages(bob, "INBOX"), count)
        self.assertEqual(service.stop(), 0)

    def test_thousands_go_there_and_back_all_of_them_with_their_uids(self):
        count = self.many
        service = self.service()
        alice, bob = self.shared(service)
        self.fill(bob, "INBOX", count)
        before = self.ok(bob, "f UID FETCH 1:* (INTERNALDATE RFC822.SIZE)")
        moved = self.ok(bob, "m MOVE 1:* shared/alice/Team")
        self.assertRegex(moved, rb"\[COPYUID \d+ 1:%d 1:%d\] Moved" % (count, count))
        self.assertEqual(self.messages(alice, "Team"), count)
        self.ok(bob, "s SELECT shared/alice/Team")
        copied = self.ok(bob, "m UID COPY 1:* INBOX")
        self.assertRegex(copied, rb"m OK \[COPYUID \d+ 1:%d %d:%d\]" % (count, count + 1, 2 * count))
        self.ok(bob, "s SELECT INBOX")
        after = self.ok(bob, "f UID FETCH 1:* (INTERNALDATE RFC822.SIZE)")
        dates = re.compile(rb"INTERNALDATE \"[^\"]*\" RFC822.SIZE \d+")
        self.assertTrue(dates.findall(before) == dates.findall(after))
        self.assertEqual(service.stop(), 0)

    def test_a_move_goes_on_when_its_client_has_gone(self):
        count = 300
        service = self.service()
        alice, bob = self.shared(service)
        self.fill(bob, "INBOX", count)
        places = ((alice, "Team"), (bob, "INBOX"))
        for i in range(30):
            at_home = self.until_rested(places, count)[1] == count
            client = Bare(service.imap).login("bob")
            source, target = ("INBOX", "shared/alice/Team") if at_home else ("shared/alice/Team", "INBOX")
            client.say(f"s SELECT {source}\r\nm UID MOVE 1:* {target}\r\n".encode())
            client.until(((b"* FLAGS", b"s OK", b"* OK [COPYUID", b"* 1 EXPUNGE")[i % 4], b"m "))  # the one before may have taken all
            client.close()
        self.until_rested(places, count)
        self.assertEqual(service.stop(), 0)

    def test_a_stop_in_the_middle_of_moves_leaves_them_in_one_mailbox(self):
        count = 2000
        for i in range(3):
            service = self.service()
            alice, bob = self.shared(service) if i == 0 else (self.bare(service, "alice"), self.bare(service, "bob"))
            if i == 0:
                self.fill(bob, "INBOX", count)
            source, target = ("INBOX", "shared/alice/Team") if self.messages(bob, "INBOX") else ("shared/alice/Team", "INBOX")
            self.ok(bob, f"s SELECT {source}")
            bob.say(f"m MOVE 1:* {target}\r\n".encode())
            self.assertEqual(service.stop(), 0)
        service = self.service()
        self.until_rested(((self.bare(service, "alice"), "Team"), (self.bare(service, "bob"), "INBOX")), count)

    def killed_while(self, service, bob, wait_s):
        """The service ends without a word, so long behind the MOVE's beginning or when it was answered."""
        answered = threading.Event()

        def hear():
            try:
                bob.until(b"m ")
            except (OSError, EOFError):
                pass
            answered.set()

        bob.say(b"m MOVE 1:* shared/alice/Team\r\n")
        thread = threading.Thread(target=hear)
        thread.start()
        answered.wait(wait_s)
        service.popen.kill()
        service.popen.wait()
        thread.join()

    def test_kill_9_in_the_middle_loses_nothing_and_copies_all_or_nothing(self):
        count, chance = 1500, random.Random(7)
        service = self.service()
        alice, bob = self.shared(service)
        self.fill(bob, "INBOX", count)
        for _ in range(8):
            self.killed_while(service, bob, chance.random() * 0.12)
            service = self.service()
            alice, bob = self.bare(service, "alice"), self.bare(service, "bob")
            team, inbox = self.messages(alice, "Team"), self.messages(bob, "INBOX")
            self.assertIn((team, inbox), ((0, count), (count, 0), (count, count)))
            if inbox == 0:
                self.ok(bob, "s SELECT shared/alice/Team")
                self.ok(bob, "m MOVE 1:* INBOX")
            elif team:
                self.ok(alice, "s SELECT Team")
                self.ok(alice, "x STORE 1:* +FLAGS.SILENT (\\Deleted)")
                self.ok(alice, "x EXPUNGE")
            self.ok(bob, "s SELECT INBOX")
        self.assertEqual(self.messages(bob, "INBOX"), count)
        self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
