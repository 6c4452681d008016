"""The mailbox service on Maildirs, with several shards: all that it has of its own store, and what others do meanwhile."""
import glob
import os
import random
import shutil
import signal
import threading
import unittest

import test_mailbox_crash
import test_mailbox_shards
import test_mailbox_shards_lmtp
import test_mailbox_tool_users
import test_maildir_service
import test_sieve
import test_sieve_maildir
from harness import PATIENCE_S, SystemTest, sanitizer_environment, wait_until
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
