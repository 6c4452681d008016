"""The mailbox service on Maildirs, with several shards: all that it has of its own store, and what others do meanwhile."""
import glob
import os
import random
import re
import shutil
import signal
import socket
import threading
import time
import unittest

import test_mailbox_crash
import test_mailbox_shards
import test_mailbox_shards_lmtp
import test_mailbox_shards_moving
import test_mailbox_shards_sharing
import test_mailbox_tool_users
import test_maildir_service
import test_sieve
import test_sieve_maildir
from harness import PATIENCE_S, SystemTest, sanitizer_environment, wait_until
from test_imap import Bare
from test_mailbox_shards import USERS
from test_mailboxd_store import PASSWORD, Store, message

PLACED = "users: {placed: [{users: alice, shard: 0}, {users: \"*\", shard: 1}]}"


class AnyOrder(Store):
    """Files of one second are in any order."""

    def texts(self, user, mailbox="INBOX"):
        return sorted(super().texts(user, mailbox))


class Limited(AnyOrder):
    prefix = ("prlimit", "--nofile=1024:4000")


class Frugal(AnyOrder):
    """A sanitizer would keep back what has been freed."""
    prefix = ("env", f"ASAN_OPTIONS={sanitizer_environment()['ASAN_OPTIONS']}:quarantine_size_mb=1")


class ShardsOnMaildirs(test_mailbox_shards.ShardsTest):
    store, kind = "maildir", AnyOrder

    def test_who_does_not_read_holds_nobody_up_and_takes_little_memory(self):
        self.kind = Frugal
        super().test_who_does_not_read_holds_nobody_up_and_takes_little_memory()

    def test_who_is_on_two_shards_is_served_from_the_first_and_named(self):
        """His mail is where it was; of what Maildirs cannot hold the first's counts."""
        def move(source, target):
            for name in ("1", "index.1", "index.1-lock", "index.1.owner", "search.1", "tmp.1"):
                if os.path.exists(os.path.join(source, name)):
                    shutil.rmtree(os.path.join(target, name), ignore_errors=True)
                    os.rename(os.path.join(source, name), os.path.join(target, name))

        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}")
        client = service.login("alice")
        self.assertEqual(client.setacl("INBOX", "bob", "lr")[0], "OK")
        client.logout()
        self.deliver(service, ["alice"], message("second"))
        self.assertEqual(service.stop(), 0)
        state = self.state(service)
        move(state, self.folder)
        service = self.service("users: {placed: [{users: \"*\", shard: 0}]}")
        client = service.login("alice")
        self.assertEqual(client.setacl("INBOX", "u0", "lr")[0], "OK")
        client.logout()
        self.deliver(service, ["alice"], message("first"))
        self.assertEqual(service.stop(), 0)
        move(self.folder, state)
        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}")
        self.assertEqual(service.texts("alice"), [message("first"), message("second")])
        client = service.login("alice")
        [acl] = client.getacl("INBOX")[1]
        self.assertTrue(b"u0" in acl and b"bob" not in acl, acl)
        client.logout()
        self.assertEqual(service.stop(), 0)
        self.assertIn("store: alice has a state on the shards 0 and 1: only that on 0 is seen", service.output())

    def test_a_state_of_one_shard_goes_on_with_two_and_its_users_stay(self):
        service = self.service(shards=1)
        for user in ("alice", "bob", "u0"):
            client = service.login(user)
            client.create("Team")
            self.assertEqual(client.setacl("Team", "u1", "lr")[0], "OK")
            client.logout()
        self.deliver(service, USERS, message("one"))
        self.assertEqual(service.stop(), 0)
        state = self.state(service)
        self.assertEqual([name for name in os.listdir(state) if name.endswith(".1") or name == "1"], [])
        self.assertFalse(os.path.exists(os.path.join(service.mail, ".staging.1")))
        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}")
        self.deliver(service, USERS, message("two"))
        for user in ("alice", "bob", "u0"):
            client = service.login(user)
            self.assertIn(b"u1", client.getacl("Team")[1][0])
            client.logout()
        for user in USERS:
            self.assertEqual(service.texts(user), [message("one"), message("two")])
        service.stop(signal.SIGKILL)
        self.assertTrue(glob.glob(os.path.join(state, "1", "*.segment")) and os.path.exists(os.path.join(state, "tmp.1")))
        service = self.service()
        self.assertEqual([service.texts(user) for user in USERS], [[message("one"), message("two")]] * len(USERS))
        self.assertEqual(service.stop(), 0)

    def test_it_may_have_as_many_files_open_as_it_is_let(self):
        """Each shard has some of each of 64 users open; the usual soft limit is 1,024."""
        self.kind = Limited
        service = self.service()
        with open(f"/proc/{service.popen.pid}/limits", encoding="ascii") as f:
            [line] = [line for line in f if line.startswith("Max open files")]
        self.assertEqual(line.split()[3:5], ["4000", "4000"])
        self.assertEqual(service.stop(), 0)

    def test_a_state_that_was_lost_is_made_again(self):
        service = self.service()
        self.deliver(service, USERS, message("one"))
        before = {user: self.uids(service, user) for user in USERS}
        self.assertEqual(service.stop(), 0)
        shutil.rmtree(self.state(service))
        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}", shards=4)
        self.assertEqual({user: self.uids(service, user) for user in USERS}, before)
        self.assertEqual(service.stop(), 0)

    def uids(self, service, user):
        client = service.login(user)
        client.select(readonly=True)
        validity, found = client.response("UIDVALIDITY"), client.uid("SEARCH", "ALL")
        client.logout()
        return validity, found

    def test_what_a_crash_has_left_of_messages_goes_on_each_shard(self):
        service = self.service()
        self.deliver(service, USERS, message("one"))
        service.stop(signal.SIGKILL)
        left = [os.path.join(service.mail, *names, "1.left") for names in
                ((".staging",), (".staging.1",), (".tubepost", "tmp"), (".tubepost", "tmp.1"))]
        for path in left:
            with open(path, "w"):
                pass
        service = self.service()
        self.assertEqual([path for path in left if os.path.exists(path)], [])
        self.deliver(service, USERS, message("two"))
        self.assertEqual(service.stop(), 0)

    def test_a_folder_of_the_other_kind_is_refused_and_left_as_it_is(self):
        service = self.service()
        self.assertEqual(service.stop(), 0)
        service.store = "log"
        self.assertIn("holds Maildirs, expected store.format: maildir", self.service_fails(service, 2))
        shutil.rmtree(service.mail)
        service = Store(self.folder, shards=2, store="log")
        self.addCleanup(self.end, service)
        self.assertEqual(service.stop(), 0)
        before = sorted(os.listdir(service.mail))
        service.store = "maildir"
        self.assertIn("holds a log, expected store.format: log", self.service_fails(service, 2))
        self.assertEqual(sorted(os.listdir(service.mail)), before)


class LmtpOfShardsOnMaildirs(test_mailbox_shards_lmtp.LmtpOfShards):
    store = "maildir"


class ScriptsOfShardsOnMaildirs(SystemTest):
    """A message whose recipients have scripts, details, or neither, on each shard."""

    def test_each_shard_files_as_its_own_users_have_it(self):
        service = Store(self.folder, PLACED + "\nlmtp: {drop_duplicates: 1h}", shards=2, store="maildir")
        self.addCleanup(self.end, service)
        for user in ("alice", "bob"):
            client = service.login(user)
            client.create("Lists")
            client.logout()
        text = b"Message-ID: <1@x.test>\r\n" + message("one")
        with service.connect() as client:
            self.assertEqual(client.deliver(["alice+Lists", "bob+Lists", "u0+none", "u1"], text), [250] * 4)
            self.assertEqual(client.deliver(["alice+Lists", "bob+Lists", "u0+none", "u1"], text), [250] * 4)
        self.assertEqual([len(service.texts(*at)) for at in (("alice", "Lists"), ("bob", "Lists"), ("u0",), ("u1",))], [1] * 4)
        self.assertEqual(service.stop(), 0)


class OfSecondShard(test_sieve.Sieved):
    shards = 2

    def write_config(self, settings, uring="auto"):
        super().write_config(settings + "\nusers: {placed: [{users: \"*\", shard: 1}]}", uring)


class SendingOfSecondShard(test_sieve_maildir.SendingOnMaildirs):
    kind = OfSecondShard

    def test_what_waits_lies_with_the_shard_that_has_it(self):
        service = self.sending_service()
        self.activate(service, b'redirect "bob@far.test";')
        self.deliver(service, b"Subject: one\r\n\r\n")
        state = os.path.join(service.mail, ".tubepost")
        self.assertTrue(glob.glob(os.path.join(state, "1", ".outgoing", "[cn][ue][rw]", "*")))
        self.assertFalse(os.path.exists(os.path.join(state, ".outgoing")))
        self.assertEqual(service.stop(signal.SIGKILL), -signal.SIGKILL)
        self.sending_service()
        self.relay_up()
        self.sent(1)


class CrashOfSecondShard(test_sieve_maildir.CrashOnMaildirs):
    kind = OfSecondShard


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


class AllUsersOfShardsOnMaildirs(test_mailbox_tool_users.AllUsersOfShards):
    """A message that no script asks about is no text of the store's."""
    shards, by_lmtp = {"shards": 2, "store": "maildir"}, 0

    def state(self):
        return os.path.join(self.service.mail, ".tubepost")


class CrashOfShards(test_mailbox_crash.MaildirKeptCrash):
    how = {"shards": 2, "settings": "users: {placed: [{users: u0, shard: 0}, {users: u1, shard: 1}]}"}


class BesideDovecot(test_maildir_service.MaildirService):
    """alice is of the first shard, bob of the second."""
    users = ["alice", "bob"]

    def start(self, **settings):
        super().start(shards=2, settings=PLACED, **settings)

    def test_users_of_both_shards_at_once(self):
        self.start()
        steps, works, pairs = test_maildir_service.STEPS // 2, [], []
        for user in self.users:
            ours = test_maildir_service.Server(self, self.service.imap, PASSWORD, "/", user)
            theirs = test_maildir_service.Server(self, self.theirs.port, "secret", ".", user)
            self.make_mailboxes(ours)
            pairs.append((ours, theirs))
            works += [test_maildir_service.Work(server, f"{user}{i}", random.Random(user + str(i))) for i, server in enumerate((ours, theirs, ours))]
        for work in works:  # what has been expunged by another is passed over, and is no error
            work.expunge = work.append
            work.copy = work.move = work.store
        threads = [threading.Thread(target=work.many, args=(steps,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for number in range(steps):
            with self.service.connect() as lmtp:
                self.assertEqual(lmtp.deliver(self.users, test_maildir_service.text_of(f"l-{number}")), [250, 250])
        for thread in threads:
            thread.join(PATIENCE_S)
            self.assertFalse(thread.is_alive())
        for work in works:
            if work.error is not None:
                raise work.error
        for ours, theirs in pairs:
            wait_until(lambda ours=ours, theirs=theirs: theirs.all() == ours.all(), "both servers to show the same", 30)
            self.assertGreaterEqual(len(ours.all()[0]["INBOX"][2]), steps)
        self.assertEqual(self.service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
