"""The mailbox service as a whole program: LMTP over unix and TCP sockets into Maildirs, stops, reloads, crashes."""
import glob
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import threading
import unittest

from harness import BUILD, PATIENCE_S, Process, SystemTest, free_port, sanitizer_environment, wait_until

CRASH_ROUNDS = int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50")) // 5


class Lmtp:
    """A plain dialogue; smtplib's LMTP reads one reply for a message however many recipients it has."""

    def __init__(self, place):
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(place)
        self.file = self.socket.makefile("rb")
        self.greeting = self.reply()
        self.command("LHLO client.test")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def reply(self):
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("closed")
            if line[3:4] == b" ":
                return int(line[:3])

    def send(self, data):
        self.socket.sendall(data)

    def command(self, line):
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, users):
        """Up to the 354; the codes for each recipient."""
        codes = [self.command("MAIL FROM:<a@x.test>")] + [self.command(f"RCPT TO:<{user}@y.test>") for user in users]
        assert self.command("DATA") == 354
        return codes[1:]

    def deliver(self, users, text):
        """The code of each recipient: of RCPT where that was refused, else of the end of data."""
        codes = self.envelope(users)
        stuffed = b"\r\n" + text if isinstance(text, bytes) else b"\r\n" + text.encode()
        self.send(stuffed.replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        return [self.reply() if code == 250 else code for code in codes]


class Mailboxd(Process):
    prefix = ()  # of the command

    def __init__(self, folder, settings="", uring="auto"):
        self.folder = folder
        self.path = os.path.join(folder, "lmtp")
        self.control = os.path.join(folder, "control")
        self.mail = os.path.join(folder, "mail")
        self.port = free_port()
        self.config = os.path.join(folder, "mailboxd.yaml")
        self.write_config(settings, uring)
        super().__init__([*self.prefix, os.path.join(BUILD, "tubepost-mailboxd"), "-c", self.config],
                         os.path.join(folder, "mailboxd.log"), env=sanitizer_environment())
        wait_until(self.ready, "the service's greeting")

    def write_config(self, settings, uring="auto"):
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"control: {{path: {self.control}}}\n"
                    f"store: {{path: {self.mail}}}\nio: {{uring: {uring}}}\n{settings}\n")

    def ready(self):
        if self.popen.poll() is not None:
            raise AssertionError("the service ended at start:\n" + self.output()[-3000:])
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def connect(self, over="unix"):
        return Lmtp(self.path if over == "unix" else ("127.0.0.1", self.port))

    def files(self, user):
        return sorted(glob.glob(os.path.join(self.mail, user, "new", "*")))

    def text(self, path):
        """The message without what the service puts in front."""
        with open(path, "rb") as f:
            whole = f.read()
        return whole.split(b"\nSubject:", 1)[1]

    def resident_kib(self):
        with open(f"/proc/{self.popen.pid}/status") as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


class MailboxdTest(SystemTest):
    uring = "auto"

    def service(self, settings=""):
        service = Mailboxd(self.folder, settings, self.uring)
        self.addCleanup(self.end, service)
        return service

    def test_messages_are_stored_as_they_were_sent(self):
        service = self.service()
        body = "Subject: dots\r\n\r\n.one\r\n..two\r\n\r\n" + "x" * 5000 + "\r\n.\r\nlast\r\n"
        for over in ("unix", "tcp"):
            with service.connect(over) as client:
                self.assertEqual(client.deliver(["Alice+tag", "bob"], body), [250, 250])
        for user in ("alice", "bob"):
            files = service.files(user)
            self.assertEqual(len(files), 2)
            for path in files:
                self.assertEqual(b"Subject:" + service.text(path), body.replace("\r\n", "\n").encode())
                size = os.path.getsize(path)
                with open(path, "rb") as f:
                    lines = f.read().count(b"\n")
                self.assertTrue(path.endswith(f",S={size},W={size + lines}"), path)
        self.assertEqual(service.stop(), 0)

    def test_each_recipient_gets_a_reply_of_his_own(self):
        service = self.service("users: {any: false, known: [alice, full], quota_bytes: 1000}")
        with service.connect() as client:
            text = "Subject: x\r\n\r\n" + "x" * 600 + "\r\n"
            self.assertEqual(client.deliver(["full"], text), [250])
            self.assertEqual(client.deliver(["alice", "nobody", "full"], text), [250, 550, 452])
            self.assertEqual(len(service.files("alice")), 1)
            self.assertEqual(len(service.files("full")), 1)

    def test_mail_comes_in_for_whom_the_backends_of_auth_know(self):
        users, broken = os.path.join(self.folder, "users"), os.path.join(self.folder, "broken.cf")
        with open(users, "w") as f:
            f.write("alice:{PLAIN}x\nbob@y.test:{PLAIN}x\n")
        with open(broken, "w") as f:
            f.write(f"dbpath = {self.folder}/nowhere/users.db\nquery = SELECT '%s'\n")
        service = self.service(f"users: {{any: false, known: [carol]}}\nauth: {{backends: [\"passwd-file:{users}\"]}}")
        with service.connect() as client:
            client.send(b"MAIL FROM:<>\r\n" + b"".join(
                b"RCPT TO:<%s>\r\n" % name for name in
                (b"alice@y.test", b"Alice+tag@other.test", b"bob@Y.test", b"bob@other.test", b"carol@y.test", b"dave@y.test")))
            self.assertEqual([client.reply() for _ in range(7)], [250, 250, 250, 250, 550, 250, 550])
            client.command("RSET")
            self.assertEqual(client.deliver(["alice", "dave", "bob"], "Subject: x\r\n\r\n"), [250, 550, 250])
        self.assertEqual(sorted(os.listdir(service.mail)), [".staging", ".tubepost", "alice", "bob"])
        with socket.socket(socket.AF_UNIX) as gone: # while the backends are being asked
            gone.connect(service.path)
            gone.sendall(b"LHLO c\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<alice@y.test>\r\n" * 200)
        self.end(service)
        service = self.service(f"users: {{any: false}}\nauth: {{backends: [\"passwd-file:{users}\", \"sqlite:{broken}\"]}}")
        with service.connect() as client:
            self.assertEqual(client.deliver(["alice", "dave"], "Subject: x\r\n\r\n"), [250, 451])

    def test_names_never_lead_out_of_the_store(self):
        service = self.service()
        os.symlink("/tmp", os.path.join(service.mail, "link"))
        with service.connect() as client:
            client.command("MAIL FROM:<>")
            for name in ("..", ".", "../x", "a/../b", "/etc/passwd", ".staging", "\"../../x\"", "\"a\\/b\"", "a\\b"):
                self.assertEqual(client.command(f"RCPT TO:<{name}@y.test>") // 100, 5, name)
            client.command("RSET")
            self.assertEqual(client.deliver(["link"], "Subject: x\r\n"), [451])
        self.assertEqual(sorted(os.listdir(service.mail)), [".staging", ".tubepost", "link"])
        self.assertEqual(glob.glob("/tmp/new/*mail.test*"), [])

    def test_a_message_of_64_mib_needs_little_memory(self):
        service = self.service()
        with service.connect() as client:
            client.deliver(["alice"], "Subject: small\r\n\r\nx\r\n")
        before = service.resident_kib()
        line = b"0123456789" * 7 + b"\r\n"
        body = b"Subject: large\r\n\r\n" + line * ((64 << 20) // len(line))
        with service.connect() as client:
            self.assertEqual(client.deliver(["alice"], body), [250])
        digests = {hashlib.sha256(service.text(path)).digest() for path in service.files("alice")}
        expected = hashlib.sha256(body.replace(b"\r\n", b"\n").split(b"Subject:", 1)[1]).digest()
        self.assertIn(expected, digests)
        # The store's memory for text that waits (32 MiB), and as much again for what a sanitizer keeps back.
        self.assertLess(service.resident_kib() - before, 72 << 10)

    def test_a_stop_finishes_what_is_under_way(self):
        service = self.service()
        with service.connect() as client, service.connect() as idle:
            client.envelope(["alice"])
            service.popen.send_signal(signal.SIGTERM)
            self.assertEqual(idle.reply(), 421)
            client.send(b"Subject: x\r\n\r\nunder way\r\n.\r\n")
            self.assertEqual(client.reply(), 250)
            self.assertEqual(service.popen.wait(PATIENCE_S), 0)
        self.assertEqual(len(service.files("alice")), 1)

    def test_a_second_signal_stops_now(self):
        service = self.service()
        with service.connect() as client:
            client.command("MAIL FROM:<a@x>")
            service.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: "finishing what is in flight" in service.output(), "the first signal to be heard")
            service.popen.send_signal(signal.SIGTERM)
            self.assertEqual(service.popen.wait(PATIENCE_S), 75)

    def test_reload_takes_a_good_file_and_leaves_a_bad_one(self):
        service = self.service("users: {any: false, known: [alice]}")

        def answer(name):
            with service.connect() as client:
                client.command("MAIL FROM:<a@x>")
                return client.command(f"RCPT TO:<{name}@y>")

        self.assertEqual((answer("alice"), answer("bob")), (250, 550))
        service.write_config("users: {any: false, known: [bob]}")
        service.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in service.output(), "the reload")
        self.assertEqual((answer("alice"), answer("bob")), (550, 250))
        service.write_config("users: {ny: true}")
        service.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "was not reloaded" in service.output(), "the refusal")
        self.assertIn("users.ny: unknown key", service.output())
        self.assertEqual((answer("alice"), answer("bob")), (550, 250))

    def test_check_tells_good_from_bad(self):
        program = os.path.join(BUILD, "tubepost-mailboxd")
        path = os.path.join(self.folder, "x.yaml")
        for text, code in (("", 0), ("users: {any: maybe}\n", 78)):
            with open(path, "w") as f:
                f.write(text)
            result = subprocess.run([program, "-c", path, "--check"], capture_output=True, text=True,
                                    env=sanitizer_environment(), timeout=PATIENCE_S)
            self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stderr, f"{path}:1:9: users.any: 'maybe' will not do, expected true, false, on or off\n")

    def test_a_second_service_on_the_same_store_is_refused(self):
        service = self.service()
        other = os.path.join(self.folder, "other.yaml")
        with open(other, "w") as f:
            f.write(f"listen: [{{name: l, address: [\"127.0.0.1:{free_port()}\"]}}]\nstore: {{path: {service.mail}}}\n")
        result = subprocess.run([os.path.join(BUILD, "tubepost-mailboxd"), "-c", other], capture_output=True, text=True,
                                env=sanitizer_environment(), timeout=PATIENCE_S)
        self.assertEqual(result.returncode, 71, result.stderr)
        self.assertIn("another process has it", result.stderr)


class MailboxdWithoutUring(MailboxdTest):
    uring = "off"


class Crash(SystemTest):
    """kill -9 at a random moment under load: what was acknowledged is there, whole; nothing else is there in part."""

    def load(self, service, acknowledged, stop, number):
        rng = random.Random(number)
        while not stop.is_set():
            identity = f"{number}-{rng.getrandbits(60):x}"
            text = f"Subject: {identity}\r\n\r\n" + f"{identity}\r\n" * rng.choice((1, 50, 3000)) + "end\r\n"
            users = rng.sample(["u0", "u1", "u2", "u3"], rng.randint(1, 3))
            try:
                with service.connect() as client:
                    codes = client.deliver(users, text)
            except OSError:
                return
            if codes == [250] * len(users):
                acknowledged[identity] = (users, text)

    def test_what_was_acknowledged_survives_kill_9(self):
        rng = random.Random(20240601)
        acknowledged = {}
        for number in range(CRASH_ROUNDS):
            service = Mailboxd(self.folder)
            stop = threading.Event()
            threads = [threading.Thread(target=self.load, args=(service, acknowledged, stop, number * 10 + i))
                       for i in range(6)]
            for thread in threads:
                thread.start()
            threads[0].join(rng.uniform(0.05, 0.6))
            service.stop(signal.SIGKILL)
            stop.set()
            for thread in threads:
                thread.join(PATIENCE_S)
        service = Mailboxd(self.folder)
        self.addCleanup(self.end, service)
        stored = {}
        for path in glob.glob(os.path.join(service.mail, "*", "new", "*")):
            user = path.split(os.sep)[-3]
            text = service.text(path)
            self.assertTrue(text.endswith(b"\nend\n"), path)
            identity = text.split(b"\n", 1)[0].strip().decode()
            stored.setdefault(identity, {})[user] = text
        self.assertGreater(len(acknowledged), CRASH_ROUNDS)
        for identity, (users, text) in acknowledged.items():
            for user in users:
                self.assertEqual(stored[identity][user], text.replace("\r\n", "\n").encode().split(b"Subject:", 1)[1])
        self.assertEqual(os.listdir(os.path.join(service.mail, ".staging")), [])


if __name__ == "__main__":
    unittest.main()
