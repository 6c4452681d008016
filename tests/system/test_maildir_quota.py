"""Quotas of the mailbox service on Maildirs: by size and by number, with rules, whoever has put the mail there."""
import glob
import os
import shutil
import signal
import socket
import threading
import unittest

from harness import PATIENCE_S, wait_until
from test_mailboxd import Mailboxd
from test_mailbox_tool import MailboxTool
from test_mailboxd_store import message


class LmtpAlone(Mailboxd):
    """Nobody reads here."""


class MaildirQuota(MailboxTool):
    def begin(self, users, **kwargs):
        self.start(f"users: {users}", store="maildir", **kwargs)

    def put(self, name, text, user="alice"):
        """As another program does."""
        path = os.path.join(self.service.mail, user, name)
        for part in ("cur", "new", "tmp"):
            os.makedirs(os.path.join(os.path.dirname(os.path.dirname(path)), part), exist_ok=True)
        with open(path, "wb") as f:
            f.write(text)
        return path

    def deliver(self, users, text=None):
        with self.service.connect() as client:
            return client.deliver(users, text or message("one"))

    def count(self, user="alice"):
        return len(glob.glob(os.path.join(self.service.mail, user, "**", "[cn][ue][rw]", "*"), recursive=True, include_hidden=True))

    def test_lmtp_counts_what_others_have_put_there_also_of_who_has_never_been_here(self):
        self.begin("{any: false, known: [alice, bob], quota_messages: 4}")
        self.put("new/1.a.x", b"Subject: a\n\na\n")
        self.put("cur/2.b.x:2,S", b"Subject: b\n\nb\n")
        there = self.put(".Archive.2024/cur/3.c.x:2,S", b"Subject: c\n\nc\n")
        self.assertEqual(self.deliver(["alice", "bob"]), [250, 250])
        self.assertEqual(self.deliver(["alice", "bob", "alice"]), [452, 250, 452])
        self.assertEqual(self.count(), 4)
        os.unlink(there)
        self.assertEqual(self.deliver(["alice", "alice"]), [250, 250])  # it is one message to her
        self.assertEqual(self.deliver(["alice"]), [452])
        self.assertEqual(self.count(), 4)
        counters = self.lines("stats", "0")[0]["counters"]
        self.assertEqual(counters["maildir"]["deliveries"], 4)

    def test_what_was_delivered_counts_after_a_kill_before_anybody_has_looked(self):
        self.begin("{quota_bytes: 6000}")
        self.assertEqual(self.deliver(["alice"], message("one", "x" * 2000 + "\r\n")), [250])
        self.assertEqual(self.deliver(["alice"], message("two", "x" * 2000 + "\r\n")), [250])
        self.service.stop(signal.SIGKILL)
        self.begin("{quota_bytes: 6000}")
        self.assertEqual(self.deliver(["alice"], message("three", "x" * 2000 + "\r\n")), [452])
        self.assertEqual(self.deliver(["alice"], message("four", "x" * 500 + "\r\n")), [250])
        [row] = self.lines("quota", "-u", "alice")
        self.assertEqual((row["messages"], row["mailboxes"]), (3, 1))
        self.assertTrue(4500 < row["bytes"] < 6000, row)

    def test_many_at_once_at_the_edge(self):
        self.begin("{quota_messages: 30}")
        codes = []

        def work():
            with self.service.connect() as client:
                for _ in range(10):
                    codes.extend(client.deliver(["alice", "bob"], message("x")))

        threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        self.assertEqual(sorted(set(codes)), [250, 452])
        self.assertEqual((len(codes), codes.count(250)), (160, 60))
        self.assertEqual((self.count("alice"), self.count("bob")), (30, 30))

    def test_both_ways_of_delivery_count_for_one_quota(self):
        self.begin("{quota_messages: 6}")
        client = self.client()
        client.create("Box")
        client.logout()  # so that nobody looks for his own sake
        codes = [self.deliver([user])[0] for user in ("alice", "alice+Box", "alice", "alice+Box", "alice+Box", "alice", "alice",
                                                      "alice+Box", "alice")]
        self.assertEqual(codes, [250] * 6 + [452] * 3)
        self.assertEqual(self.count(), 6)
        os.unlink(glob.glob(os.path.join(self.service.mail, "alice", "[cn][ue][rw]", "*"))[0])
        self.assertEqual([self.deliver([user])[0] for user in ("alice+Box", "alice")], [250, 452])
        self.assertEqual(self.count(), 6)

    def test_what_goes_straight_and_what_is_filed_have_one_room(self):
        self.begin("{quota_messages: 30}")
        codes = []

        def work(name):
            with self.service.connect() as client:
                for _ in range(10):
                    codes.extend(client.deliver([name], message("x")))

        threads = [threading.Thread(target=work, args=("alice+x" if n % 2 else "alice",), daemon=True) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        self.assertEqual(sorted(set(codes)), [250, 452])
        self.assertEqual((len(codes), codes.count(250)), (80, 30))
        self.assertEqual(self.count("alice"), 30)

    def test_what_is_appended_and_copied_while_mail_comes_is_never_over_the_quota(self):
        self.begin("{quota_messages: 30}")
        self.client().append("INBOX", None, None, message("first"))
        stored = []

        def deliver(name):
            with self.service.connect() as client:
                for _ in range(10):
                    stored.append(client.deliver([name], message("x")) == [250])

        def append(_):
            client = self.client()
            for _ in range(10):
                answer, text = client.append("INBOX", None, None, message("x"))
                self.assertTrue(answer == "OK" or text[0].startswith(b"[OVERQUOTA]"), text)
                stored.append(answer == "OK")

        def copy(_):
            client = self.client()
            client.select()
            for _ in range(10):
                answer, text = client.copy("1", "INBOX")
                self.assertTrue(answer == "OK" or text[0].startswith(b"[OVERQUOTA]"), text)
                stored.append(answer == "OK")

        works = [(deliver, "alice"), (deliver, "alice+x"), (append, None), (copy, None)] * 2
        threads = [threading.Thread(target=work, args=(name,), daemon=True) for work, name in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        self.assertEqual(len(stored), 80)
        self.assertEqual(self.count("alice"), 1 + stored.count(True))
        self.assertLessEqual(self.count("alice"), 30)
        client = self.client()
        while self.count("alice") < 30:  # whoever had to hurry may have been refused the last room
            self.assertEqual(client.append("INBOX", None, None, message("x"))[0], "OK")
        self.assertEqual(client.append("INBOX", None, None, message("x"))[0], "NO")

    def test_imap_is_answered_as_on_the_own_store_and_rules_hold(self):
        self.begin("{quota_bytes: 1M, quota_messages: 4, quota_rules: [{mailbox: Trash, more_messages: 2}, "
                   "{mailbox: \"Spam*\", counted: false}]}")
        client = self.client()
        for name in ("Trash", "Spam"):
            client.create(name)
        for n in range(3):
            self.assertEqual(client.append("INBOX", None, None, message(f"{n}", "y" * 700 + "\r\n"))[0], "OK")
        client.select()
        self.assertEqual(client.copy("1", "INBOX")[0], "OK")
        answer, text = client.append("INBOX", None, None, message("more"))
        self.assertEqual((answer, text[0][:11]), ("NO", b"[OVERQUOTA]"))
        answer, text = client.copy("1:2", "INBOX")
        self.assertEqual((answer, text[0][:11]), ("NO", b"[OVERQUOTA]"))
        self.assertEqual(self.deliver(["alice"]), [452])
        self.assertEqual(client.copy("1:2", "Trash")[0], "OK")  # so many more get in there
        self.assertEqual(client.copy("1", "Trash")[0], "NO")
        for _ in range(3):
            self.assertEqual(client.copy("1:2", "Spam")[0], "OK")
        self.assertEqual(client.append("Spam", None, None, message("more"))[0], "OK")
        self.assertEqual(client._simple_command("MOVE", "2", "Trash")[0], "OK")  # not more than he has
        answer, found = client.getquotaroot("INBOX")
        self.assertEqual(answer, "OK")
        self.assertRegex(b" ".join(found[1]), rb"STORAGE \d+ 1024 MESSAGE 6 4")
        self.assertRegex(client.getquota('""')[1][0], rb"STORAGE [56] 1024 MESSAGE 6 4")
        client.store("1:2", "+FLAGS", "(\\Deleted)")
        self.assertRegex(client.status("INBOX", "(MESSAGES DELETED DELETED-STORAGE)")[1][0],
                         rb"MESSAGES 3 DELETED 2 DELETED-STORAGE 14\d\d")
        [row] = self.lines("quota", "-u", "alice")
        self.assertEqual((row["messages"], row["messages_max"], row["mailboxes"]), (6, 4, 3))
        client.expunge()
        self.assertEqual(client.append("INBOX", None, None, message("more"))[0], "NO")
        client.select("Trash")
        client.store("1:*", "+FLAGS", "(\\Deleted)")
        client.expunge()
        self.assertEqual(client.append("INBOX", None, None, message("more"))[0], "OK")
        self.assertEqual(self.deliver(["alice"]), [250])

    def send(self, client, users):
        """A message whose replies are not read yet."""
        self.assertEqual(client.envelope(users), [250] * len(users))
        client.send(message("one") + b".\r\n")

    def lock(self, user):
        """As of a program that lives as long as the machine."""
        os.makedirs(os.path.join(self.service.mail, user), exist_ok=True)
        with open(os.path.join(self.service.mail, user, "dovecot-uidlist.lock"), "w") as f:
            f.write(f"1:{socket.gethostname()}")

    def test_who_cannot_be_looked_at_is_judged_by_what_is_known_and_holds_up_nobody(self):
        self.begin("{quota_messages: 1}")
        self.lock("alice")
        with self.service.connect() as slow, self.service.connect() as fast:
            self.send(slow, ["alice", "bob"])
            self.assertEqual(fast.deliver(["u0"], message("two")), [250])
            self.assertEqual(fast.deliver(["u0"], message("two")), [452])
            self.assertEqual([slow.reply(), slow.reply()], [250, 250])
        os.unlink(os.path.join(self.service.mail, "alice", "dovecot-uidlist.lock"))
        self.assertEqual(self.deliver(["alice", "bob"]), [452, 452])

    def test_a_message_that_waits_for_a_look_is_answered_before_the_end_or_not_taken(self):
        for gone in (False, True):
            self.begin("{quota_messages: 1}")
            self.lock("alice")
            client = self.service.connect()
            self.send(client, ["alice", "bob"])
            if gone:
                client.close()
            self.assertEqual(self.service.stop(patience_s=10 + PATIENCE_S), 0)
            if not gone:
                self.assertEqual([client.reply(), client.reply()], [250, 250])
                client.close()
            self.assertLessEqual(self.count("bob"), 1)
            shutil.rmtree(self.service.mail)

    def test_a_message_that_waits_for_a_look_does_not_hold_up_a_second_signal(self):
        self.begin("{quota_messages: 1}")
        self.lock("alice")
        client = self.service.connect()
        self.send(client, ["alice", "bob"])
        self.service.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: "finishing what is in flight" in self.service.output(), "the first signal to be heard")
        self.service.popen.send_signal(signal.SIGTERM)
        self.assertIn(self.service.popen.wait(PATIENCE_S), (0, 75))  # 0: it was answered before, on a slow machine
        client.close()

    def test_what_is_kept_after_expunge_counts_for_nothing(self):
        self.begin("{quota_messages: 2}", space="segment_bytes: 4M, keep_expunged: 1h")
        self.assertEqual([self.deliver(["alice"])[0] for _ in range(3)], [250, 250, 452])
        client = self.client()
        client.select()
        client.store("1:2", "+FLAGS", "(\\Deleted)")
        client.expunge()
        self.assertEqual([self.deliver(["alice"])[0] for _ in range(3)], [250, 250, 452])
        self.assertEqual(self.tool("undelete", "-u", "alice", "INBOX"), "2 messages restored\n")
        client.noop()
        self.assertRegex(client.getquota('""')[1][0], rb"MESSAGE 4 2")

    def test_where_nobody_reads_messages_are_counted_all_the_same(self):
        self.service = LmtpAlone(self.folder, "users: {any: false, known: [alice], quota_messages: 2}")
        self.addCleanup(self.end, self.service)
        self.assertEqual([self.deliver(["alice"])[0] for _ in range(3)], [250, 250, 452])


if __name__ == "__main__":
    unittest.main()
