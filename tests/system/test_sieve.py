"""Sieve as users have it: a script put there by ManageSieve, mail by LMTP, read by IMAP, against the whole service."""
import base64
import imaplib
import os
import signal
import socket
import ssl
import unittest

from harness import PATIENCE_S, RELAY, SystemTest, at, free_port, wait_until
from test_mailboxd import Mailboxd
from tls_peers import certificate

PASSWORD = "apricot"
SHARDS = int(os.environ.get("TUBEPOST_MAILBOX_SHARDS", "1"))


class Sieved(Mailboxd):
    shards = SHARDS

    def __init__(self, folder, settings="", store="log"):
        self.store = store
        self.imap, self.sieve = free_port(), free_port()
        certificate(folder, "mail.test")
        with open(os.path.join(folder, "users"), "w") as f:
            f.write(f"alice:{{PLAIN}}{PASSWORD}\n")
        super().__init__(folder, settings)

    def write_config(self, settings, uring="auto"):
        base = os.path.join(self.folder, "mail.test")
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\nshards: {self.shards}\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"  - {{name: i, address: [\"127.0.0.1:{self.imap}\"], protocol: imap}}\n"
                    f"  - {{name: s, address: [\"127.0.0.1:{self.sieve}\"], protocol: sieve}}\n"
                    f"tls: {{certificates: [{{certificate: {base}.pem, key: {base}.key}}]}}\n"
                    f"store: {{path: {self.mail}, format: {self.store}, segment_bytes: 4M, memory_bytes: 8M, free_min: 0}}\n"
                    f"auth: {{backends: [\"passwd-file:{self.folder}/users\"], clear_on_loopback: true}}\n"
                    f"io: {{uring: {uring}}}\n{settings}\n")


class ManageSieve:
    """RFC 5804, so much of it as the tests say."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.file = self.socket.makefile("rb")
        self.capabilities = self.answer()

    def answer(self):
        lines = []
        while not lines or not lines[-1].startswith((b"OK", b"NO", b"BYE")):
            line = self.file.readline()
            if not line:
                raise EOFError
            lines.append(line.rstrip(b"\r\n"))
            if line.startswith(b"{"):
                lines[-1] = self.file.read(int(line[1:line.index(b"}")]))
                self.file.readline()
        return lines

    def say(self, text):
        self.socket.sendall(text)
        return self.answer()

    def starttls(self):
        answer = self.say(b"STARTTLS\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)
        self.file = self.socket.makefile("rb")
        self.capabilities = self.answer()
        return answer

    def login(self, password=PASSWORD):
        plain = base64.b64encode(f"\0alice\0{password}".encode())
        return self.say(b'AUTHENTICATE "PLAIN" "' + plain + b'"\r\n')

    def put(self, name, script):
        return self.say(b'PUTSCRIPT "%s" {%d+}\r\n%s\r\n' % (name, len(script), script))

    def close(self):
        self.file.close()
        self.socket.close()


class WithService(SystemTest):
    store, kind = "log", Sieved

    def service(self, settings=""):
        service = self.kind(self.folder, settings, self.store)
        self.addCleanup(self.end, service)
        return service

    def client(self, service, **kwargs):
        client = ManageSieve(service.sieve)
        self.addCleanup(client.close)
        self.assertEqual(client.login(**kwargs)[-1][:2], b"OK")
        return client

    def subjects(self, service, mailbox):
        with imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S) as client:
            client.login("alice", PASSWORD)
            status, _ = client.select(mailbox, readonly=True)
            if status != "OK":
                return None
            found = client.uid("FETCH", "1:*", "(FLAGS BODY[HEADER.FIELDS (SUBJECT)])")[1]
            return [(imaplib.ParseFlags(item[0]), item[1].strip()) for item in found if isinstance(item, tuple)]


class SieveTest(WithService):
    def test_a_script_that_was_uploaded_files_mail_that_comes_in_also_over_a_crash(self):
        service = self.service()
        client = self.client(service)
        script = (b'require ["fileinto", "mailbox", "imap4flags", "reject"];\r\n'
                  b'if header :is "subject" "list" { fileinto :create :flags "\\\\Seen" "Lists/c"; }\r\n'
                  b'elsif header :is "subject" "spam" { discard; }\r\n'
                  b'elsif header :is "subject" "no" { reject "Not here"; }\r\n')
        self.assertEqual(client.put(b"main", script), [b"OK"])
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b'"main"', b"OK"])
        with service.connect() as peer:
            self.assertEqual(peer.deliver(["alice"], b"Subject: spam\r\n\r\n"), [250])
        self.assertEqual([s for _, s in self.subjects(service, "INBOX")], [b"Subject: spam"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b'"main" ACTIVE', b"OK"])
        self.assertEqual(client.say(b'GETSCRIPT "main"\r\n'), [script, b"OK"])
        service.stop(signal.SIGKILL)
        service = self.service()
        with service.connect() as peer:
            for subject, code in ((b"list", 250), (b"spam", 250), (b"no", 550), (b"other", 250)):
                self.assertEqual(peer.deliver(["alice"], b"Subject: " + subject + b"\r\n\r\n"), [code])
        self.assertEqual([s for _, s in self.subjects(service, "INBOX")], [b"Subject: spam", b"Subject: other"])
        (flags, subject), = self.subjects(service, "Lists/c")
        self.assertIn(b"\\Seen", flags)
        self.assertEqual(subject, b"Subject: list")

    def test_scripts_are_checked_renamed_and_deleted(self):
        client = self.client(self.service())
        self.assertTrue(client.put(b"bad", b"keep")[0].startswith(b'NO "line 1'))
        self.assertTrue(client.say(b'CHECKSCRIPT "discard"\r\n')[0].startswith(b"NO"))
        self.assertEqual(client.say(b'CHECKSCRIPT "discard;"\r\n'), [b"OK"])
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b"OK"])
        self.assertEqual(client.put(b"a", b"keep;"), [b"OK"])
        self.assertEqual(client.put(b"b", b"discard;"), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "a"\r\n'), [b"OK"])
        self.assertTrue(client.say(b'RENAMESCRIPT "a" "b"\r\n')[0].startswith(b"NO (ALREADYEXISTS)"))
        self.assertEqual(client.say(b'RENAMESCRIPT "a" "c"\r\n'), [b"OK"])
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b'"b"', b'"c" ACTIVE', b"OK"])
        self.assertTrue(client.say(b'DELETESCRIPT "c"\r\n')[0].startswith(b"NO (ACTIVE)"))
        self.assertTrue(client.say(b'DELETESCRIPT "a"\r\n')[0].startswith(b"NO (NONEXISTENT)"))
        self.assertTrue(client.say(b'GETSCRIPT "a"\r\n')[0].startswith(b"NO (NONEXISTENT)"))
        self.assertTrue(client.say(b'SETACTIVE "a"\r\n')[0].startswith(b"NO (NONEXISTENT)"))
        self.assertEqual(client.say(b'SETACTIVE ""\r\n'), [b"OK"])
        self.assertEqual(client.say(b'DELETESCRIPT "c"\r\n'), [b"OK"])
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b'"b"', b"OK"])
        self.assertEqual(client.say(b'HAVESPACE "d" 1000\r\n'), [b"OK"])
        self.assertTrue(client.say(b'HAVESPACE "d" 1000000\r\n')[0].startswith(b"NO (QUOTA/MAXSIZE)"))
        for number in range(63):
            self.assertEqual(client.put(b"n%d" % number, b"keep;"), [b"OK"])
        self.assertTrue(client.put(b"d", b"keep;")[0].startswith(b"NO (QUOTA/MAXSCRIPTS)"))
        self.assertEqual(len(client.say(b"LISTSCRIPTS\r\n")), 65)
        self.assertTrue(client.say(b"LOGOUT\r\n")[0].startswith(b"OK"))

    def test_a_client_logs_in_behind_starttls_and_not_with_a_wrong_password(self):
        service = self.service()
        client = ManageSieve(service.sieve)
        self.addCleanup(client.close)
        self.assertIn(b'"STARTTLS"', client.capabilities)
        self.assertEqual(client.starttls()[-1][:2], b"OK")
        self.assertNotIn(b'"STARTTLS"', client.capabilities)
        self.assertTrue(client.login("wrong")[0].startswith(b"NO"))
        self.assertTrue(client.say(b"LISTSCRIPTS\r\n")[0].startswith(b"NO"))
        self.assertTrue(client.login()[0].startswith(b"OK"))
        self.assertEqual(client.say(b"LISTSCRIPTS\r\n"), [b"OK"])


class Sending(WithService):
    """What scripts send, by a real relay to a sink that stands for the rest of the world."""

    def setUp(self):
        super().setUp()
        self.world = self.sink()
        self.port = free_port()

    def relay_up(self):
        return self.relay(f"  - {{match: mail.test, via: lmtp, to: [\"unix:{self.folder}/lmtp\"]}}\n"
                          f"  - {{match: \"*\", via: smtp, to: [\"{self.world.to}\"]}}", port=self.port)

    def sending_service(self):
        return self.service(f"sieve: {{relay: \"{at(RELAY, self.port)}\"}}")

    def activate(self, service, script):
        client = self.client(service)
        self.assertEqual(client.put(b"main", script), [b"OK"])
        self.assertEqual(client.say(b'SETACTIVE "main"\r\n'), [b"OK"])

    def deliver(self, service, text, code=250):
        with service.connect() as peer:
            self.assertEqual(peer.deliver(["alice"], text), [code])

    def sent(self, count):
        wait_until(lambda: len(self.world.messages) >= count, f"{count} messages in the world")
        self.assertEqual(len(self.world.messages), count)
        return self.world.messages

    def test_a_message_is_redirected_and_its_sender_answered_once(self):
        service = self.sending_service()
        self.relay_up()
        self.activate(service, b'require ["vacation", "copy"]; vacation "Away"; redirect :copy "bob@far.test";')
        body = b"From: a@x.test\r\nTo: alice@y.test\r\nSubject: one\r\n\r\n.dot\r\n"
        self.deliver(service, body)
        by_target = {m[1][0]: m for m in self.sent(2)}
        sender, _, text = by_target["bob@far.test"]
        self.assertEqual(sender, "a@x.test")
        self.assertIn(b"X-Sieve-Redirected-From: alice@y.test\r\n", text)
        self.assertNotIn(b"Return-Path:", text)
        self.assertTrue(text.endswith(body))
        sender, _, text = by_target["a@x.test"]
        self.assertEqual(sender, "")
        self.assertIn(b"\r\nAuto-Submitted: auto-replied", text)
        self.assertIn(b"\r\nSubject: Auto: one\r\n", text)
        self.assertTrue(text.endswith(b"\r\nAway\r\n"))
        self.deliver(service, body)
        self.assertEqual([m[1] for m in self.sent(3)].count(["a@x.test"]), 1)
        self.assertEqual(len(self.subjects(service, "INBOX")), 2)

    def test_a_redirect_that_was_acknowledged_is_sent_after_kill_9(self):
        service = self.sending_service()
        self.activate(service, b'redirect "bob@far.test";')
        texts = [b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(20)]
        for text in texts:
            self.deliver(service, text)
        service.stop(signal.SIGKILL)
        service = self.sending_service()
        self.relay_up()
        sent = [m[2].split(b"Subject:", 1)[1] for m in self.sent(20)]
        self.assertEqual(sorted(sent), sorted(t.split(b"Subject:", 1)[1] for t in texts))
        self.assertEqual(self.subjects(service, "INBOX"), [])
        wait_until(lambda: service.output().count("status=sent") == 20, "20 letters sent")
        service.stop()
        service = self.sending_service()
        self.deliver(service, b"Subject: last\r\n\r\n")
        self.assertIn(b"Subject: last", self.sent(21)[-1][2])

    def test_kill_9_while_redirects_are_under_way_loses_none(self):
        service = self.sending_service()
        relay = self.relay_up()
        self.activate(service, b'redirect "bob@far.test";')
        acknowledged = []
        for number in range(int(os.environ.get("TUBEPOST_CRASH_ROUNDS", "50")) // 10):
            for part in range(10):
                text = b"%d.%d" % (number, part)
                self.deliver(service, b"Subject: " + text + b"\r\n\r\n")
                acknowledged.append(text)
            if number % 2:
                relay.stop(signal.SIGKILL)
            service.stop(signal.SIGKILL)
            service = self.sending_service()
            if number % 2:
                relay.restart()

        def all_there():
            with self.world.lock:
                there = [m[2].split(b"Subject: ", 1)[1].split(b"\r\n")[0] for m in self.world.messages]
            return set(acknowledged) <= set(there)
        wait_until(all_there, "all redirected messages")
        self.assertEqual(self.subjects(service, "INBOX"), [])

    def test_what_the_relay_refuses_comes_back(self):
        service = self.sending_service()
        self.activate(service, b'redirect "bob@far.test";')
        self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.world.to}\"]}}", port=self.port,
                   settings="limits: {message_bytes: 4K}")
        self.deliver(service, b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y" * 60 * 100 + b"\r\n")
        wait_until(lambda: self.subjects(service, "INBOX"), "the message in the INBOX")
        self.assertIn("status=kept", service.output())

    def test_two_that_redirect_to_each_other_keep_what_goes_round(self):
        service = self.sending_service()
        self.relay_up()
        self.activate(service, b'redirect "alice@mail.test";')
        with service.connect() as peer:
            peer.command("MAIL FROM:<a@x.test>")
            peer.command("RCPT TO:<alice@mail.test>")
            peer.command("DATA")
            peer.send(b"Subject: round\r\n\r\n.\r\n")
            self.assertEqual(peer.reply(), 250)
        wait_until(lambda: self.subjects(service, "INBOX"), "the message in the INBOX")
        self.assertIn("was redirected from here before", service.output())


if __name__ == "__main__":
    unittest.main()
