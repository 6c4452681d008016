"""Users of several shards share mailboxes, and move mail to each other, where it lies in Maildirs."""
import glob
import os
import re
import signal
import socket
import time
import unittest

import test_mailbox_shards_moving
import test_mailbox_shards_sharing
from harness import wait_until
from test_imap import Bare
from test_maildir_shards import PLACED


class SharedBetweenShardsOnMaildirs(test_mailbox_shards_sharing.SharedBetweenShards):
    """Files know no time zone."""
    store, shown = "maildir", b'INTERNALDATE " 1-Feb-2003 02:05:06 +0000"'

    def test_who_uses_a_mailbox_of_another_shard_has_no_state_there(self):
        service = self.service()
        alice, bob, other = self.shared(service)
        for client in (bob, other):
            for command in ("s SELECT shared/alice/Team", "f FETCH 1 BODY[]", "c COPY 1 INBOX", "c COPY 1 shared/alice/Team",
                            'l LIST "" *', "s STATUS shared/alice/Team (MESSAGES)", "n NOOP"):
                self.ok(client, command)
        self.assertEqual(service.stop(), 0)
        service = self.service()
        self.assertEqual(service.stop(), 0)
        self.assertNotIn("on the shards", service.output())


class MovedBetweenShardsOnMaildirs(test_mailbox_shards_moving.MovedBetweenShards):
    """What is on its way lies in the state of the target's shard, in a folder that no user has. Each is a file, which is synced."""
    store, many = "maildir", 700

    def carriages(self, service):
        """What each of them holds."""
        state = os.path.join(service.mail, ".tubepost")
        found = glob.glob(os.path.join(state, ".outgoing", ".carried.*")) + glob.glob(os.path.join(state, "1", ".outgoing", ".carried.*"))
        return [len(glob.glob(os.path.join(folder, "cur", "*"))) for folder in found]

    def waiting(self, service, count):
        """bob moves these many to Team, and waits with all carried: behind a change of alice's for a lock that another has."""
        text = test_mailbox_shards_sharing.letter(0)
        alice, bob = self.shared(service)
        self.fill(bob, "INBOX", count)
        lock = os.path.join(service.mail, "alice", ".Team", "dovecot-uidlist.lock")
        with open(lock, "w", encoding="ascii") as f:
            f.write(f"1:{socket.gethostname()}")  # lives as long as the machine
        alice.say(b"a APPEND Team {%d+}\r\n%s\r\n" % (len(text), text))
        client = Bare(service.imap).login("bob")
        self.addCleanup(client.close)
        client.say(b"s SELECT INBOX\r\nm MOVE 1:* shared/alice/Team\r\n")
        wait_until(lambda: self.carriages(service) == [count], "all to be carried")
        time.sleep(1)  # for the last to be answered
        return alice, client, lock

    def let_go(self, service, alice, lock):
        """How many there are then."""
        os.remove(lock)
        self.assertTrue(alice.until(b"a ")[-1].startswith(b"a OK"))
        wait_until(lambda: not self.carriages(service), "the carriage to go")
        self.assertEqual(service.stop(), 0)
        service = self.service()
        return self.messages(self.bare(service, "alice"), "Team"), self.messages(self.bare(service, "bob"), "INBOX")

    def test_a_move_waits_for_a_lock_when_its_client_has_gone_and_loses_nothing(self):
        service = self.service()
        alice, client, lock = self.waiting(service, 20)
        client.close()
        time.sleep(1)  # for what would go with him
        self.assertIn(self.let_go(service, alice, lock), ((21, 0), (1, 20)))

    def test_what_another_program_removes_from_a_carriage_is_not_moved_and_not_lost(self):
        service = self.service()
        alice, client, lock = self.waiting(service, 20)
        carried = glob.glob(os.path.join(service.mail, ".tubepost", ".outgoing", ".carried.*", "cur", "*"))
        self.assertEqual(len(carried), 20)
        os.remove(carried[7])
        self.assertEqual(self.let_go(service, alice, lock), (1, 20))
        with self.assertRaises(EOFError) as heard:
            client.until(b"m OK")
        self.assertIn(b"m NO", heard.exception.args[0])

    def test_kill_9_while_all_is_carried_leaves_it_where_it_was(self):
        service = self.service()
        _, _, lock = self.waiting(service, 20)
        self.assertEqual(service.stop(signal.SIGKILL), -signal.SIGKILL)
        os.remove(lock)
        service = self.service()
        self.assertEqual(self.messages(self.bare(service, "bob"), "INBOX"), 20)
        self.assertLessEqual(self.messages(self.bare(service, "alice"), "Team"), 1)
        wait_until(lambda: not self.carriages(service), "the carriage to go")
        self.assertEqual(service.stop(), 0)

    def test_what_other_programs_have_put_there_is_carried_whatever_its_size(self):
        """Larger than what may come in, or without a byte."""
        self.settings = PLACED + "\nlimits: {message_bytes: 4096}"
        service = self.service()
        alice, bob = self.shared(service)
        for i, size in enumerate((0, 9000, 100)):
            with open(os.path.join(service.mail, "bob", "cur", f"{i + 1}.M1P1.x:2,S"), "wb") as f:
                f.write(b"A: b\n\nline\n"[:size] + b"line\n" * (size // 5))
        self.ok(bob, "s SELECT INBOX")
        sizes = re.findall(rb"RFC822.SIZE (\d+)", self.ok(bob, "f FETCH 1:3 RFC822.SIZE"))
        self.ok(bob, "c COPY 1:3 shared/alice/Team")
        self.ok(bob, "m MOVE 1:3 shared/alice/Team")
        self.ok(alice, "s SELECT Team")
        sizes = [b"2" if size == b"0" else size for size in sizes]  # a line without a word
        self.assertEqual(re.findall(rb"RFC822.SIZE (\d+)", self.ok(alice, "f FETCH 1:* RFC822.SIZE")), sizes * 2)
        self.assertEqual((len(sizes), self.messages(bob, "INBOX")), (3, 0))
        self.assertEqual(service.stop(), 0)

    def test_what_a_crash_has_left_goes_at_the_next_start_and_is_no_user_s(self):
        """Also a folder of which the state has not heard."""
        service = self.service()
        alice, bob = self.shared(service)
        self.fill(bob, "INBOX", 3)
        self.ok(bob, "c COPY 1:* shared/alice/Team")
        self.ok(alice, "s SELECT Team")
        self.ok(alice, "c COPY 1:* INBOX")
        self.assertEqual(service.stop(signal.SIGKILL), -signal.SIGKILL)
        state = os.path.join(service.mail, ".tubepost")
        folder = os.path.join(state, ".outgoing", ".carried.0123456789abcdef-1-1")
        for part in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(folder, part))
        with open(os.path.join(folder, "cur", "1.M1P1.x:2,"), "wb") as f:
            f.write(b"A: b\r\n\r\n")
        service = self.service()
        wait_until(lambda: not self.carriages(service), "them to go")
        bob = self.bare(service, "bob")
        self.assertNotIn(b"carried", self.ok(bob, 'l LIST "" *'))
        names = set(os.listdir(service.mail)) - {"alice", "bob"}
        self.assertEqual([name for name in names if not name.startswith((".tubepost", ".staging"))], [])
        self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
