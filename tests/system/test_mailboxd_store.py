"""The mailbox service on its own store: LMTP in, IMAP and POP3 out, over restarts, crashes, reloads and stops."""
import glob
import imaplib
import os
import poplib
import random
import signal
import socket
import ssl
import subprocess
import threading
import unittest

from harness import BUILD, PATIENCE_S, SystemTest, free_port, sanitizer_environment, wait_until
from test_mailboxd import Mailboxd
from tls_peers import certificate

CRASH_ROUNDS = int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50")) // 10
SHARDS = int(os.environ.get("TUBEPOST_MAILBOX_SHARDS", "1"))  # to run all of these tests, and those that build on them, on several
PASSWORD = "apricot"


class Store(Mailboxd):
    """`port` is LMTP's; imap, pop3: in the clear or STARTTLS; imaps, pop3s: implicit TLS, where there is a certificate."""

    def __init__(self, folder, settings="", uring="auto", certificates=(), auth="clear_on_loopback: true",
                 space="segment_bytes: 4M", shards=SHARDS, store="log"):
        self.certificates, self.auth, self.space, self.shards, self.store = certificates, auth, space, shards, store
        self.imap, self.pop3, self.imaps, self.pop3s = (free_port() for _ in range(4))
        with open(os.path.join(folder, "users"), "w") as f:
            f.writelines(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in ("alice", "bob", "full", "u0", "u1", "u2", "u3"))
        super().__init__(folder, settings, uring)

    def write_config(self, settings, uring="auto"):
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\nshards: {self.shards}\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"  - {{name: i, address: [\"127.0.0.1:{self.imap}\"], protocol: imap}}\n"
                    f"  - {{name: p, address: [\"127.0.0.1:{self.pop3}\"], protocol: pop3}}\n")
            if self.certificates:
                f.write(f"  - {{name: is, address: [\"127.0.0.1:{self.imaps}\"], protocol: imap, tls: implicit}}\n"
                        f"  - {{name: ps, address: [\"127.0.0.1:{self.pop3s}\"], protocol: pop3, tls: implicit}}\n"
                        "tls:\n  certificates:\n" +
                        "".join(f"    - {{certificate: {base}.pem, key: {base}.key}}\n" for base in self.certificates))
            f.write(f"store: {{path: {self.mail}, format: {self.store}, {self.space}, memory_bytes: 8M, free_min: 0}}\n"
                    f"auth: {{backends: [\"passwd-file:{self.folder}/users\"], {self.auth}}}\n"
                    f"control: {{path: {self.control}}}\nio: {{uring: {uring}}}\n{settings}\n")

    def login(self, user):
        client = imaplib.IMAP4("127.0.0.1", self.imap, timeout=PATIENCE_S)
        client.login(user, PASSWORD)
        return client

    def texts(self, user, mailbox="INBOX"):
        """Every message of a mailbox, whole, without the fields that the service puts in front."""
        client = self.login(user)
        try:
            answer, counts = client.select(mailbox, readonly=True)
            if answer != "OK" or counts == [b"0"]:
                return []
            _, parts = client.fetch("1:*", "(BODY.PEEK[])")
            return [b"Subject:" + part[1].split(b"\r\nSubject:", 1)[1] for part in parts if isinstance(part, tuple)]
        finally:
            client.logout()


def message(subject, body="text\r\n"):
    return f"Subject: {subject}\r\n\r\n{body}".encode()


class StoreTest(SystemTest):
    uring = "auto"

    def service(self, settings="", **kwargs):
        service = Store(self.folder, settings, self.uring, **kwargs)
        self.addCleanup(self.end, service)
        return service

    def test_what_comes_in_by_lmtp_is_read_as_it_was_sent(self):
        service = self.service()
        body = "\r\n.one\r\n..two\r\n\r\n" + "x" * 1500 + "\r\n.\r\nlast\r\n"
        with service.connect() as client:
            self.assertEqual(client.deliver(["Alice", "bob", "alice"], message("dots", body)), [250, 250, 250])
        for user in ("alice", "bob"):  # who was named twice has it once
            self.assertEqual(service.texts(user), [message("dots", body)])
        client = service.login("bob")
        client.select()
        head = client.fetch("1", "(BODY[HEADER])")[1][0][1]
        self.assertTrue(head.startswith(b"Return-Path: <a@x.test>\r\nReceived: from client.test"), head)
        client.logout()
        pop3 = poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S)
        pop3.user("alice")
        pop3.pass_(PASSWORD)
        lines = pop3.retr(1)[1]
        self.assertTrue((b"\r\n".join(lines) + b"\r\n").endswith(message("dots", body)))
        pop3.quit()
        self.assertEqual(service.stop(), 0)

    def test_a_message_to_one_names_him(self):
        service = self.service()
        with service.connect() as client:
            client.deliver(["Alice+x"], message("one"))
        client = service.login("alice")
        client.select()
        head = client.fetch("1", "(BODY[HEADER])")[1][0][1]
        self.assertTrue(head.startswith(b"Return-Path: <a@x.test>\r\nDelivered-To: Alice+x@y.test\r\nReceived: "), head)
        client.logout()

    def test_behind_the_plus_is_the_mailbox_if_there_is_one(self):
        service = self.service()
        client = service.login("alice")
        client.create("Lists/rust")
        client.logout()
        with service.connect() as client:
            for name in ("alice+Lists/rust", "alice+lists/rust", "alice+//", "\"alice+\"", "alice"):
                self.assertEqual(client.deliver([name], message(name)), [250])
        self.assertEqual(service.texts("alice", "Lists/rust"), [message("alice+Lists/rust")])
        self.assertEqual(service.texts("alice"),
                         [message(name) for name in ("alice+lists/rust", "alice+//", "\"alice+\"", "alice")])

    def test_each_recipient_gets_a_reply_of_his_own(self):
        service = self.service("users: {any: false, known: [alice, full], quota_bytes: 2000}")
        with service.connect() as client:
            text = message("x", "x" * 70 + "\r\n" + "y" * 900 + "\r\n")
            self.assertEqual(client.deliver(["full"], text), [250])
            self.assertEqual(client.deliver(["alice", "nobody", "full"], text), [250, 550, 452])
        self.assertEqual((len(service.texts("alice")), len(service.texts("full"))), (1, 1))

    def test_a_large_message_goes_through_little_memory(self):
        service = self.service()
        with service.connect() as client:
            client.deliver(["bob"], message("small"))
        self.assertEqual(len(service.texts("bob")), 1)
        before = service.resident_kib()
        line = "0123456789" * 7 + "\r\n"
        text = message("large", line * ((48 << 20) // len(line)))
        with service.connect() as client:
            self.assertEqual(client.deliver(["alice"], text), [250])
        self.assertTrue(service.texts("alice") == [text])
        # The log's memory (8 MiB) and what is read back (16 MiB), and as much again for what a sanitizer keeps back.
        self.assertLess(service.resident_kib() - before, 56 << 10)

    def test_a_full_store_refuses_mail_until_some_is_deleted(self):
        service = self.service(space="segment_bytes: 2M, max_bytes: 12M")
        text = message("heavy", ("0123456789" * 7 + "\r\n") * 7000)

        def fill():
            with service.connect() as client:
                stored = 0
                while stored < 40:
                    [code] = client.deliver(["alice"], text)
                    if code != 250:
                        self.assertEqual(code, 452)
                        break
                    stored += 1
                return stored

        stored = fill()
        self.assertGreater(stored, 8)
        self.assertLess(stored, 24)
        self.assertEqual(service.texts("alice"), [text] * stored)
        client = service.login("alice")
        client.select()
        client.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()
        client.logout()
        wait_until(lambda: fill() > 0, "room for mail")
        self.assertEqual(service.stop(), 0)

    def test_a_restart_finds_all_also_without_the_index(self):
        service = self.service()
        sent = [message(f"number {i}", "text\r\n" * i) for i in range(40)]
        with service.connect() as client:
            for text in sent:
                self.assertEqual(client.deliver(["alice", "bob"], text), [250, 250])
        self.assertEqual(service.stop(), 0)
        service = self.service()
        self.assertIn("store: 2 users", service.output())
        self.assertEqual(service.texts("alice"), sent)
        self.assertEqual(service.stop(), 0)
        for path in glob.glob(os.path.join(service.mail, "index*")):
            os.unlink(path)
        service = self.service()
        self.assertEqual(service.texts("bob"), sent)

    def test_a_stop_finishes_what_is_under_way(self):
        service = self.service()
        reader = service.login("alice")
        pop3 = socket.create_connection(("127.0.0.1", service.pop3), PATIENCE_S)
        self.addCleanup(pop3.close)
        self.assertTrue(pop3.recv(100).startswith(b"+OK"))
        with service.connect() as client, service.connect() as idle:
            client.envelope(["alice"])
            service.popen.send_signal(signal.SIGTERM)
            self.assertEqual(idle.reply(), 421)
            self.assertTrue(reader.readline().startswith(b"* BYE"))
            self.assertTrue(pop3.recv(100).startswith(b"-ERR"))
            client.send(b"Subject: x\r\n\r\nunder way\r\n.\r\n")
            self.assertEqual(client.reply(), 250)
            self.assertEqual(service.popen.wait(PATIENCE_S), 0)
        reader.shutdown()
        service = self.service()
        self.assertEqual(service.texts("alice"), [b"Subject: x\r\n\r\nunder way\r\n"])

    def test_names_and_passwords_stay_off_the_clear(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base], auth="clear_on_loopback: false")
        trusted = ssl.create_default_context(cafile=f"{base}.pem")
        trusted.check_hostname = False
        client = imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S)
        self.assertIn("LOGINDISABLED", client.capabilities)
        self.assertNotIn("AUTH=PLAIN", client.capabilities)
        self.assertRaises(imaplib.IMAP4.error, client.login, "alice", PASSWORD)
        client.starttls(trusted)
        self.assertIn("AUTH=PLAIN", client.capabilities)
        self.assertRaises(imaplib.IMAP4.error, client.login, "alice", "wrong")
        client.login("alice", PASSWORD)
        client.logout()
        with imaplib.IMAP4_SSL("127.0.0.1", service.imaps, ssl_context=trusted, timeout=PATIENCE_S) as client:
            client.login("bob", PASSWORD)
        pop3 = poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S)
        self.assertRaises(poplib.error_proto, pop3.user, "alice")
        pop3.stls(trusted)
        pop3.user("alice")
        pop3.pass_(PASSWORD)
        pop3.quit()
        pop3 = poplib.POP3_SSL("127.0.0.1", service.pop3s, context=trusted, timeout=PATIENCE_S)
        pop3.user("alice")
        pop3.pass_(PASSWORD)
        pop3.quit()
        self.assertIn("auth: failed: user=<alice>", service.output())

    def shown(self, service):
        """The certificate on the implicit listener."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", service.imaps), PATIENCE_S) as plain:
            with context.wrap_socket(plain) as stream:
                return ssl.DER_cert_to_PEM_cert(stream.getpeercert(binary_form=True))

    def test_a_reload_takes_new_certificates_and_users_and_leaves_bad_ones(self):
        first, second = (certificate(self.folder, "mail.test", file=name) for name in ("first", "second"))
        service = self.service("users: {any: false, known: [carol]}", certificates=[first])
        with service.connect() as client:
            self.assertEqual(client.command("MAIL FROM:<a@x>"), 250)
            self.assertEqual((client.command("RCPT TO:<carol@y>"), client.command("RCPT TO:<dora@y>")), (250, 550))

        def pem(base):
            with open(f"{base}.pem") as f:
                return f.read()

        def reload(settings, said):
            seen = service.output().count(said)
            service.write_config(settings)
            service.popen.send_signal(signal.SIGHUP)
            wait_until(lambda: service.output().count(said) > seen, said)

        self.assertEqual(self.shown(service), pem(first))
        service.certificates = [second]
        reload("users: {any: false, known: [dora]}", "reloaded")
        self.assertEqual(self.shown(service), pem(second))
        with service.connect() as client:
            self.assertEqual(client.command("MAIL FROM:<a@x>"), 250)
            self.assertEqual((client.command("RCPT TO:<carol@y>"), client.command("RCPT TO:<dora@y>")), (550, 250))
            self.assertEqual(client.command("RCPT TO:<alice@y>"), 250)  # the backends of auth know her
        service.certificates = [os.path.join(self.folder, "nothing")]
        reload("", "the old certificates stay")
        self.assertEqual(self.shown(service), pem(second))
        self.assertEqual(service.texts("alice"), [])  # who may log in is as it was
        self.assertEqual(service.stop(), 0)


class StoreWithoutUring(StoreTest):
    uring = "off"


class Start(SystemTest):
    """What is wrong is said, and nothing is harmed."""

    def run_service(self, text, *arguments):
        path = os.path.join(self.folder, "x.yaml")
        with open(path, "w") as f:
            f.write(text)
        return subprocess.run([os.path.join(BUILD, "tubepost-mailboxd"), "-c", path, *arguments], capture_output=True,
                              text=True, env=sanitizer_environment(), timeout=PATIENCE_S)

    def test_a_folder_of_the_other_format_is_refused(self):
        store = Store(self.folder)
        self.addCleanup(self.end, store)
        listener = f"listen: [{{name: l, address: [\"127.0.0.1:{free_port()}\"]}}]\n"
        other = self.run_service(f"{listener}store: {{path: {store.mail}, format: log}}")
        self.assertEqual(other.returncode, 71, other.stderr)
        self.assertIn("another process has it", other.stderr)
        self.assertEqual(store.stop(), 0)
        other = self.run_service(f"{listener}store: {{path: {store.mail}}}")
        self.assertEqual(other.returncode, 71, other.stderr)
        self.assertIn(f"store: {store.mail} holds a log, expected store.format: log, or another folder", other.stderr)
        self.assertNotIn(".staging", os.listdir(store.mail))
        maildirs = os.path.join(self.folder, "maildirs")
        os.makedirs(os.path.join(maildirs, ".staging"))
        other = self.run_service(f"{listener}store: {{path: {maildirs}, format: log}}")
        self.assertEqual(other.returncode, 71, other.stderr)
        self.assertIn(f"store: {maildirs} holds Maildirs, expected store.format: maildir, or another folder", other.stderr)
        self.assertEqual(os.listdir(maildirs), [".staging"])

    def test_check_reads_what_the_configuration_names(self):
        text = ("listen: [{name: i, address: [\"127.0.0.1:1143\"], protocol: imap}]\n"
                "store: {format: log, path: " + self.folder + "/mail}\n"
                "auth: {backends: [\"passwd-file:" + self.folder + "/users\"]}\n")
        result = self.run_service(text, "--check")
        self.assertEqual(result.returncode, 78, result.stderr)
        self.assertIn("auth: ", result.stderr)
        self.assertIn("/users", result.stderr)
        with open(os.path.join(self.folder, "users"), "w") as f:
            f.write("alice:x\n")
        result = self.run_service(text, "--check")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.folder, "mail")))  # a check makes nothing
        result = self.run_service(text + "tls: {certificates: [{certificate: /none.pem, key: /none.key}]}\n", "--check")
        self.assertEqual(result.returncode, 78, result.stderr)
        self.assertIn("tls.certificates: certificate /none.pem", result.stderr)


class Crash(SystemTest):
    """kill -9 at a random moment under load: what was acknowledged is there, whole, once."""

    def load(self, service, acknowledged, sent, stop, number):
        rng = random.Random(number)
        while not stop.is_set():
            identity = f"{number}-{rng.getrandbits(60):x}"
            text = message(identity, f"{identity}\r\n" * rng.choice((1, 50, 3000)) + "end\r\n")
            users = rng.sample(["u0", "u1", "u2", "u3"], rng.randint(1, 3))
            sent[identity] = text
            try:
                with service.connect() as client:
                    codes = client.deliver(users, text)
            except OSError:
                return
            for user, code in zip(users, codes):
                if code == 250:
                    acknowledged.setdefault(user, set()).add(identity)

    def test_what_was_acknowledged_survives_kill_9(self):
        rng = random.Random(20260411)
        acknowledged, sent = {}, {}
        for number in range(CRASH_ROUNDS):
            service = Store(self.folder, uring=rng.choice(("auto", "off")))
            stop = threading.Event()
            threads = [threading.Thread(target=self.load, args=(service, acknowledged, sent, stop, number * 10 + i))
                       for i in range(6)]
            for thread in threads:
                thread.start()
            threads[0].join(rng.uniform(0.1, 0.6))
            service.stop(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join(PATIENCE_S)
        service = Store(self.folder)
        self.addCleanup(self.end, service)
        self.assertGreater(sum(len(identities) for identities in acknowledged.values()), CRASH_ROUNDS)
        for user in ("u0", "u1", "u2", "u3"):
            found = [text.split(b"\r\n", 1)[0].split(b": ")[1].decode() for text in service.texts(user)]
            self.assertEqual(len(found), len(set(found)))
            self.assertLessEqual(acknowledged.get(user, set()), set(found))
            for text, identity in zip(service.texts(user), found):
                self.assertEqual(text, sent[identity])


if __name__ == "__main__":
    unittest.main()
