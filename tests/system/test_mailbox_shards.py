"""The mailbox service on several shards: whoever a client is, and wherever the kernel puts his connection, his mail is there."""
import contextlib
import glob
import imaplib
import json
import os
import poplib
import random
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import unittest

from harness import BUILD, PATIENCE_S, SystemTest, sanitizer_environment, wait_until
from test_imap import Bare
from test_mailboxd_store import PASSWORD, Store, message
from tls_peers import certificate

USERS = ("alice", "bob", "u0", "u1", "u2", "u3")
TOOL = os.path.join(BUILD, "tubepost")
TRIES = 8  # connections of one client: with two shards, all on the same one once in 128 times


class ShardsTest(SystemTest):
    uring, store, kind = "auto", "log", Store

    def service(self, settings="", shards=2, **kwargs):
        service = self.kind(self.folder, settings, self.uring, shards=shards, store=self.store, **kwargs)
        self.addCleanup(self.end, service)
        return service

    def state(self, service):
        """Where the logs of the shards are."""
        return service.mail if self.store == "log" else os.path.join(service.mail, ".tubepost")

    def deliver(self, service, users, text, over="tcp"):
        with service.connect(over) as client:
            self.assertEqual(client.deliver(list(users), text), [250] * len(users))

    def test_everybody_finds_his_mail_over_every_connection(self):
        service = self.service()
        texts = [message(f"number {i}", "line\r\n" * 300 * i) for i in range(TRIES)]
        for i, text in enumerate(texts):
            self.deliver(service, USERS, text, over=("tcp", "unix")[i % 2])
        for user in USERS:
            for _ in range(3):
                self.assertTrue(service.texts(user) == texts, user)
        folders = [glob.glob(os.path.join(self.state(service), str(i), "*.segment")) for i in range(2)]
        self.assertTrue(all(folders), folders)
        self.assertEqual(service.stop(), 0)

    def test_what_is_sent_behind_a_login_is_done_after_it(self):
        service = self.service()
        for user in USERS[:2]:
            self.deliver(service, [user], message("one"))
            for _ in range(TRIES):
                client = Bare(service.imap)
                client.say(f"a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\nc UID FETCH 1 BODY.PEEK[TEXT]\r\nd LOGOUT\r\n"
                           .encode())
                heard = b"".join(client.until(b"d "))
                self.assertIn(b"BODY[TEXT] {6}\r\ntext\r\n", heard)
                self.assertEqual(client.file.read(), b"")
                client.close()

    def test_what_is_sent_behind_a_login_is_done_after_it_when_the_client_has_said_all(self):
        service = self.service()
        for user in USERS[:2]:
            self.deliver(service, [user], message("one"))
            for port, words, wanted in (
                    (service.imap, f"a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\nc NOOP\r\n", b"\r\nc OK"),
                    (service.pop3, f"USER {user}\r\nPASS {PASSWORD}\r\nSTAT\r\nUIDL 1\r\nRETR 1\r\n", b"\r\ntext\r\n.\r\n")):
                for _ in range(TRIES):
                    client = Bare(port)
                    client.say(words.encode())
                    client.socket.shutdown(socket.SHUT_WR)
                    self.assertIn(wanted, client.file.read())
                    client.close()
        self.assertEqual(service.stop(), 0)

    def test_who_logs_in_again_and_again_on_other_shards_connects_anew_in_time(self):
        service = self.service()
        client = Bare(service.imap)

        def login(i):
            return client.ask(f"l LOGIN {USERS[i % 2]} {PASSWORD}".encode())[-1]

        served = 0
        while (answer := login(served)).startswith(b"l OK"):
            served += 1
            self.assertLess(served, 30)
            self.assertTrue(client.ask(b"u UNAUTHENTICATE")[-1].startswith(b"u OK"))
        self.assertTrue(answer.startswith(b"l NO [UNAVAILABLE] Too many users"), answer)
        self.assertGreaterEqual(served, 16)
        self.assertTrue(login(served - 1).startswith(b"l OK"))  # he is on this shard
        self.assertTrue(client.ask(b"s SELECT INBOX")[-1].startswith(b"s OK"))
        self.assertEqual(service.stop(), 0)
        client.until(b"* BYE")
        client.close()

    def test_large_things_go_both_ways_and_changes_are_seen_at_once(self):
        service = self.service()
        body = os.urandom(3 << 20).hex().encode()
        letter = b"Subject: large\r\n\r\n" + b"".join(body[i:i + 70] + b"\r\n" for i in range(0, len(body), 70))
        for user in USERS[:2]:
            watchers = [Bare(service.imap).login(user) for _ in range(TRIES)]
            for watcher in watchers:
                watcher.ask(b"s SELECT INBOX")
                watcher.say(b"i IDLE\r\n")
                watcher.until(b"+")
            client = service.login(user)
            self.assertEqual(client.append("INBOX", None, None, letter)[0], "OK")
            for watcher in watchers:
                watcher.until(b"* 1 EXISTS")
                watcher.say(b"DONE\r\n")
                watcher.until(b"i OK")
            for watcher in watchers[:3]:
                watcher.say(b"f FETCH 1 BODY.PEEK[]\r\n")
                self.assertEqual(watcher.file.readline(), f"* 1 FETCH (BODY[] {{{len(letter)}}}\r\n".encode())
                self.assertTrue(watcher.file.read(len(letter)) == letter)
                watcher.until(b"f OK")
            for watcher in watchers:
                watcher.close()
            client.logout()

    def test_who_does_not_read_holds_nobody_up_and_takes_little_memory(self):
        service = self.service()
        letter = message("heavy", ("0123456789" * 7 + "\r\n") * 30000)
        for user in USERS[:2]:
            for _ in range(10):
                self.deliver(service, [user], letter)
        before = service.resident_kib()
        deaf = []
        for i in range(2 * TRIES):
            client = Bare(service.imap).login(USERS[i % 2])
            client.ask(b"s SELECT INBOX")
            client.say(b"f FETCH 1:* BODY.PEEK[]\r\n" * 3)
            deaf.append(client)
        for user in USERS[:2]:
            self.assertEqual(len(service.texts(user)), 10)
        # 600 MiB are owed to them.
        self.assertLess(service.resident_kib() - before, 96 << 10)
        self.assertEqual(sum(line.startswith(b"f OK") for line in deaf[0].until(b"f OK")), 1)
        for client in deaf:
            client.close()
        self.assertEqual(service.stop(), 0)

    def test_tls_stays_where_it_was_made(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base], auth="clear_on_loopback: false")
        trusted = ssl.create_default_context(cafile=f"{base}.pem")
        trusted.check_hostname = False
        for user in USERS[:2]:
            self.deliver(service, [user], message("secret"))
            for _ in range(TRIES):
                client = imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S)
                self.assertRaises(imaplib.IMAP4.error, client.login, user, PASSWORD)
                client.starttls(trusted)
                client.login(user, PASSWORD)
                self.assertEqual(client.select(), ("OK", [b"1"]))
                client.logout()
                with imaplib.IMAP4_SSL("127.0.0.1", service.imaps, ssl_context=trusted, timeout=PATIENCE_S) as client:
                    self.assertRaises(imaplib.IMAP4.error, client.login, user, "wrong")
                    client.login(user, PASSWORD)
                    self.assertEqual(client.select(), ("OK", [b"1"]))
                pop3 = poplib.POP3_SSL("127.0.0.1", service.pop3s, context=trusted, timeout=PATIENCE_S)
                pop3.user(user)
                pop3.pass_(PASSWORD)
                self.assertEqual(pop3.stat()[0], 1)
                pop3.quit()
        self.assertEqual(service.stop(), 0)

    def test_tls_may_begin_on_another_shard_than_the_connection(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base])
        trusted = ssl.create_default_context(cafile=f"{base}.pem")
        trusted.check_hostname = False
        letter = message("large", "0123456789\r\n" * 100000)
        self.deliver(service, USERS[:2], letter)
        for i in range(4 * TRIES):
            client = Bare(service.imap).login(USERS[i % 2])
            self.assertTrue(client.ask(b"u UNAUTHENTICATE")[-1].startswith(b"u OK"))
            self.assertTrue(client.ask(b"t STARTTLS")[-1].startswith(b"t OK"))
            client.socket = trusted.wrap_socket(client.socket)
            client.file = client.socket.makefile("rb")
            for turn in range(1, 5):
                client.login(USERS[(i + turn) % 2]).ask(b"s SELECT INBOX")
                self.assertEqual(len(b"".join(client.ask(b"f FETCH 1 BODY.PEEK[TEXT]")[1:-2])), 1200000)
                client.ask(b"u UNAUTHENTICATE")
            client.close()
        self.assertEqual(service.stop(), 0)

    def test_a_tls_session_is_resumed_on_any_shard(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base])
        context = ssl.create_default_context(cafile=f"{base}.pem")
        context.check_hostname = False
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # there the ticket comes with the handshake
        session = None
        for i in range(2 * TRIES):
            with socket.create_connection(("127.0.0.1", service.imaps), PATIENCE_S) as plain:
                with context.wrap_socket(plain, session=session) as stream:
                    self.assertTrue(stream.recv(10).startswith(b"* OK"))
                    self.assertEqual(stream.session_reused, i > 0)
                    session = session or stream.session

    def test_pop3_deletes_what_it_was_told(self):
        service = self.service()
        for user in USERS[:2]:
            for i in range(TRIES):
                self.deliver(service, [user], message(f"number {i}"))
            for left in range(TRIES, 0, -1):
                client = poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S)
                client.user(user)
                client.pass_(PASSWORD)
                self.assertEqual(client.stat()[0], left)
                client.dele(1)
                client.quit()
            self.assertEqual(service.texts(user), [])

    def test_mailboxes_are_shared_whoever_is_where(self):
        service = self.service("users: {placed: [{users: \"u?\", shard: 1}]}")
        client = Bare(service.imap).login("u0")
        self.addCleanup(client.close)
        client.ask(b"c CREATE Team")
        for user in ("alice", "u1"):
            self.assertTrue(client.ask(f"y SETACL Team {user} lr".encode())[-1].startswith(b"y OK"))
            other = Bare(service.imap).login(user)
            self.addCleanup(other.close)
            self.assertTrue(other.ask(b"s SELECT shared/u0/Team")[-1].startswith(b"s OK"))
        stranger = Bare(service.imap).login("bob")
        self.addCleanup(stranger.close)
        self.assertTrue(stranger.ask(b"s SELECT shared/u0/Team")[-1].startswith(b"s NO"))

    def test_an_address_has_its_connections_on_all_shards_together(self):
        service = self.service("limits: {address_connections: 6}")
        clients = [Bare(service.imap) for _ in range(6)]
        for client in clients:
            self.assertTrue(client.greeting.startswith(b"* OK"))
        for _ in range(6):
            late = Bare(service.imap)
            self.assertTrue(late.greeting.startswith(b"* BYE"), late.greeting)
            late.close()
        clients[0].login("bob").ask(b"x LOGOUT")
        clients[1].login("alice").ask(b"x LOGOUT")
        for client in clients:
            client.close()

        def is_served():
            client = Bare(service.imap)
            client.close()
            return client.greeting.startswith(b"* OK")

        wait_until(is_served, "a free place")

    def test_the_service_has_so_many_connections_on_all_shards_together(self):
        service = self.service("limits: {connections: 5}")
        clients = [Bare(service.imap) for _ in range(5)]
        for client in clients:
            self.assertTrue(client.greeting.startswith(b"* OK"))
        for _ in range(TRIES):
            late = Bare(service.imap)
            self.assertTrue(late.greeting.startswith(b"* BYE"), late.greeting)
            late.close()
        for client in clients:
            client.close()

    def test_connections_of_a_path_are_dealt_out_to_the_shards(self):
        service = self.service(shards=3)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(service.connect("unix")) for _ in range(9)]
            run = subprocess.run([TOOL, "-c", service.config, "mailbox", "who", "--json"], capture_output=True, check=True,
                                 timeout=PATIENCE_S, env=sanitizer_environment())
            rows = [json.loads(line) for line in run.stdout.splitlines()]
            self.assertEqual({(row["protocol"], row["address"]) for row in rows}, {("lmtp", "local")})
            # A session's number is of its shard, modulo the number of them.
            self.assertEqual(sorted(row["session"] % 3 for row in rows), [0, 0, 0, 1, 1, 1, 2, 2, 2])
            for i, client in enumerate(clients):
                self.assertEqual(client.deliver(list(USERS), message(f"dealt {i}")), [250] * len(USERS))
        for user in USERS:
            self.assertEqual(len(service.texts(user)), 9)
        self.assertEqual(service.stop(), 0)

    def test_a_stop_ends_sessions_on_every_shard(self):
        service = self.service()
        readers = [service.login(USERS[i % 6]) for i in range(12)]
        with service.connect("tcp") as client:
            client.envelope(["alice", "bob"])
            service.popen.send_signal(signal.SIGTERM)
            for reader in readers:
                self.assertTrue(reader.readline().startswith(b"* BYE"))
            client.send(b"Subject: x\r\n\r\nunder way\r\n.\r\n")
            self.assertEqual([client.reply(), client.reply()], [250, 250])
            self.assertEqual(service.popen.wait(PATIENCE_S), 0)
        for reader in readers:
            reader.shutdown()
        service = self.service()
        for user in ("alice", "bob"):
            self.assertEqual(service.texts(user), [b"Subject: x\r\n\r\nunder way\r\n"])

    def test_a_stop_in_the_middle_of_everything_is_clean(self):
        service = self.service("shutdown: {grace: 500ms}")
        letter = message("heavy", ("0123456789" * 7 + "\r\n") * 30000)
        for user in USERS[:2]:
            for _ in range(5):
                self.deliver(service, [user], letter)
        sockets = []
        for i in range(12):
            client = Bare(service.imap).login(USERS[i % 2])
            client.say(b"s SELECT INBOX\r\n" + b"f FETCH 1:* BODY.PEEK[]\r\n" * 3)
            sockets.append(client)
        lmtp = [service.connect("tcp") for _ in range(4)]
        for client in lmtp:
            client.envelope(["alice", "bob"])
            client.send(b"Subject: cut\r\n\r\n" + b"x" * 70000 + b"\r\n")
        self.assertEqual(service.stop(), 0)
        for client in sockets + lmtp:
            client.close()

    def test_a_store_may_get_more_shards_and_not_fewer(self):
        service = self.service(shards=1)
        self.deliver(service, USERS, message("one"))
        self.assertEqual(service.stop(), 0)
        service = self.service(shards=3)
        self.deliver(service, USERS + ("new1", "new2", "new3", "new4"), message("two"))
        for user in USERS:
            self.assertEqual(service.texts(user), [message("one"), message("two")])
        self.assertEqual(service.stop(), 0)
        state = self.state(service)
        before = sorted(os.listdir(state))
        fewer = self.service_fails(service, 1)
        self.assertIn(f"store: {state} holds the mail of 3 shards, expected shards: 3 or more", fewer)
        self.assertEqual(sorted(os.listdir(state)), before)
        service = self.service(shards=4)
        for user in USERS:
            self.assertEqual(service.texts(user), [message("one"), message("two")])
        self.assertEqual(service.stop(), 0)

    def test_who_is_on_two_shards_is_served_from_the_first_and_named(self):
        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}")
        self.deliver(service, ["alice", "u0"], message("second"))
        self.assertEqual(service.stop(), 0)
        for name in ("1", "index.1", "index.1-lock", "search.1"):  # away, as a disk that was not mounted
            if os.path.exists(os.path.join(service.mail, name)):
                os.rename(os.path.join(service.mail, name), os.path.join(self.folder, name))
        service = self.service()
        self.deliver(service, ["alice"], message("first"))
        self.assertEqual(service.stop(), 0)
        for name in ("1", "index.1", "index.1-lock", "search.1"):
            if os.path.exists(os.path.join(self.folder, name)):
                shutil.rmtree(os.path.join(service.mail, name), ignore_errors=True)
                os.rename(os.path.join(self.folder, name), os.path.join(service.mail, name))
        service = self.service("users: {placed: [{users: \"*\", shard: 1}]}")
        self.assertEqual(service.texts("alice"), [message("first")])
        self.assertEqual(service.texts("u0"), [message("second")])
        self.assertEqual(service.stop(), 0)
        self.assertIn("store: alice has mail on the shards 0 and 1: only that on 0 is seen", service.output())

    def test_a_shard_that_cannot_start_ends_all_whatever_is_signalled(self):
        service = self.service()
        self.assertEqual(service.stop(), 0)
        shutil.rmtree(os.path.join(self.state(service), "1"))
        with open(os.path.join(self.state(service), "1"), "w"):  # no folder
            pass

        def signalled():  # it waits, over the exec, for who asks
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            os.kill(os.getpid(), signal.SIGINT)

        for before in (None, signalled):
            self.assertIn("could not start", self.service_fails(service, 2, preexec_fn=before))
        os.unlink(os.path.join(self.state(service), "1"))
        service = self.service()
        self.deliver(service, USERS, message("after"))
        self.assertEqual(service.stop(), 0)

    def service_fails(self, service, shards, **how):
        service.shards = shards
        service.write_config("")
        ended = subprocess.run([os.path.join(BUILD, "tubepost-mailboxd"), "-c", service.config], capture_output=True,
                               text=True, env=sanitizer_environment(), timeout=PATIENCE_S, **how)
        self.assertEqual(ended.returncode, 71, ended.stderr)
        return ended.stderr

    def test_two_services_do_not_share_a_store(self):
        service = self.service()
        self.assertIn("another process has it", self.service_fails(service, 4))
        self.assertFalse(os.path.exists(os.path.join(self.state(service), "2")))
        self.assertEqual(service.stop(), 0)

    def test_what_was_acknowledged_survives_kill_9(self):
        rng = random.Random(7)
        acknowledged = {}
        for number in range(3):
            service = Store(self.folder, uring=self.uring, shards=2, store=self.store)
            stop = threading.Event()

            def load(seed):
                draw = random.Random(seed)
                while not stop.is_set():
                    identity = f"{seed}-{draw.getrandbits(60):x}"
                    users = draw.sample(USERS, draw.randint(1, 4))
                    try:
                        with service.connect("tcp") as client:
                            codes = client.deliver(users, message(identity, "x\r\n" * draw.choice((1, 3000))))
                    except OSError:
                        return
                    for user, code in zip(users, codes):
                        if code == 250:
                            acknowledged.setdefault(user, set()).add(identity)

            threads = [threading.Thread(target=load, args=(number * 10 + i,)) for i in range(6)]
            for thread in threads:
                thread.start()
            threads[0].join(rng.uniform(0.2, 0.6))
            service.stop(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join(PATIENCE_S)
        service = self.service()
        self.assertEqual(set(acknowledged), set(USERS))
        for user in USERS:
            found = [text.split(b"\r\n", 1)[0].split(b": ")[1].decode() for text in service.texts(user)]
            self.assertEqual(len(found), len(set(found)))
            self.assertLessEqual(acknowledged[user], set(found))


class ShardsWithoutUring(SystemTest):
    """The same sockets by epoll, in short."""
    service, deliver, state, store, uring = ShardsTest.service, ShardsTest.deliver, ShardsTest.state, "log", "off"
    kind = Store
    test_everybody_finds_his_mail_over_every_connection = ShardsTest.test_everybody_finds_his_mail_over_every_connection
    test_a_stop_ends_sessions_on_every_shard = ShardsTest.test_a_stop_ends_sessions_on_every_shard


if __name__ == "__main__":
    unittest.main()
