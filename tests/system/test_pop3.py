"""POP3 as users have it: Python's poplib against the mailbox service as a whole program."""
import hashlib
import os
import poplib
import signal
import socket
import ssl
import unittest

from harness import PATIENCE_S, SystemTest, free_port, wait_until
from test_mailboxd import Mailboxd
from tls_peers import certificate

PASSWORD = "apricot"


class Pop3d(Mailboxd):
    """`port` is LMTP's; pop3: STARTTLS, pop3s: TLS from the beginning."""

    def __init__(self, folder, settings="", auth="clear_on_loopback: true"):
        self.pop3, self.pop3s, self.auth = free_port(), free_port(), auth
        self.certificate = certificate(folder, "mail.test")
        with open(os.path.join(folder, "users"), "w") as f:
            f.writelines(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in ("alice", "bob"))
        super().__init__(folder, settings)

    def write_config(self, settings, uring="auto"):
        base = os.path.join(self.folder, "mail.test")
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"  - {{name: p, address: [\"127.0.0.1:{self.pop3}\"], protocol: pop3}}\n"
                    f"  - {{name: ps, address: [\"127.0.0.1:{self.pop3s}\"], protocol: pop3, tls: implicit}}\n"
                    f"tls: {{certificates: [{{certificate: {base}.pem, key: {base}.key}}]}}\n"
                    f"store: {{path: {self.mail}, format: log, segment_bytes: 4M, memory_bytes: 8M, free_min: 0}}\n"
                    f"auth: {{backends: [\"passwd-file:{self.folder}/users\"], {self.auth}}}\n"
                    f"io: {{uring: {uring}}}\n{settings}\n")

    def client(self):
        return poplib.POP3("127.0.0.1", self.pop3, timeout=PATIENCE_S)

    def login(self, user="alice"):
        client = self.client()
        client.user(user)
        client.pass_(PASSWORD)
        return client


def trusting_nobody():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Pop3Test(SystemTest):
    def service(self, settings="", **kwargs):
        service = Pop3d(self.folder, settings, **kwargs)
        self.addCleanup(self.end, service)
        return service

    def deliver(self, service, *texts, user="alice"):
        with service.connect() as client:
            for text in texts:
                self.assertEqual(client.deliver([user], text), [250])

    def refused(self, code, call, *arguments):
        with self.assertRaises(poplib.error_proto) as caught:
            call(*arguments)
        self.assertIn(code, str(caught.exception))

    def login_unless_in_use(self, service):
        """None: the service may not have seen yet that the other is gone."""
        client = service.client()
        client.user("alice")
        try:
            client.pass_(PASSWORD)
            return client
        except poplib.error_proto as error:
            self.assertIn("[IN-USE]", str(error))
            client.close()
            return None

    def test_a_mailbox_is_read_and_emptied(self):
        service = self.service()
        bodies = [b"one\r\n", b".dot\r\n..dots\r\n.\r\nend\r\n", b"line\r\n" * 1000]
        self.deliver(service, *[b"Subject: x\r\n\r\n" + body for body in bodies])
        client = service.login()
        self.assertEqual(client.getwelcome(), b"+OK mail.test POP3 ready")
        count, total = client.stat()
        sizes = [int(line.split()[1]) for line in client.list()[1]]
        self.assertEqual((count, len(sizes), sum(sizes)), (3, 3, total))
        names = [line.split()[1] for line in client.uidl()[1]]
        self.assertEqual(len(set(names)), 3)
        for number, body in enumerate(bodies, 1):
            text = b"\r\n".join(client.retr(number)[1]) + b"\r\n"
            self.assertEqual(len(text), sizes[number - 1])
            self.assertTrue(text.startswith(b"Return-Path: <a@x.test>\r\n"))
            self.assertEqual(text.split(b"\r\nSubject: x\r\n\r\n")[1], body)
        self.assertEqual(client.top(3, 2)[1][-3:], [b"", b"line", b"line"])
        client.dele(1)
        client.dele(3)
        self.assertEqual(client.stat(), (1, sizes[1]))
        client.quit()
        client = service.login()
        self.assertEqual(client.uidl()[1], [b"1 " + names[1]])
        client.quit()

    def test_what_quit_has_removed_stays_so_over_a_crash_and_names_stay_too(self):
        service = self.service()
        self.deliver(service, b"Subject: 1\r\n\r\n", b"Subject: 2\r\n\r\n")
        client = service.login()
        name = client.uidl(2).split()[2]
        client.dele(1)
        client.quit()
        service.stop(signal.SIGKILL)
        service = self.service()
        client = service.login()
        self.assertEqual(client.uidl()[1], [b"1 " + name])
        self.assertIn(b"Subject: 2", client.retr(1)[1])  # from the disk
        client.quit()

    def test_who_breaks_off_has_removed_nothing(self):
        service = self.service()
        self.deliver(service, b"Subject: 1\r\n\r\n")
        client = service.login()
        client.dele(1)
        client.close()
        client = wait_until(lambda: self.login_unless_in_use(service), "the maildrop to be free again")
        self.assertEqual(client.stat()[0], 1)
        client.quit()

    def test_refusals_have_their_codes(self):
        service = self.service()
        self.deliver(service, b"Subject: 1\r\n\r\n")
        client = service.client()
        client.user("alice")
        self.refused("[AUTH]", client.pass_, "wrong")
        client.close()
        first = service.login()
        second = service.client()
        second.user("alice")
        self.refused("[IN-USE]", second.pass_, PASSWORD)
        second.close()
        self.refused("No such message", first.retr, 2)
        first.quit()

    def test_a_shared_maildrop_is_open_to_many(self):
        service = self.service("pop3: {shared: true}")
        self.deliver(service, b"Subject: 1\r\n\r\n")
        first, second = service.login(), service.login()
        first.dele(1)
        first.quit()
        self.refused("Another session has removed the message", second.retr, 1)
        second.quit()

    def test_passwords_need_tls_which_both_ways_give(self):
        service = self.service(auth="clear_on_loopback: false")
        self.deliver(service, b"Subject: secret\r\n\r\n")
        client = service.client()
        capabilities = client.capa()
        self.assertIn("STLS", capabilities)
        self.assertNotIn("USER", capabilities)
        self.refused("Not without encryption", client.user, "alice")
        client.stls(trusting_nobody())
        self.assertNotIn("STLS", client.capa())
        self.assertIn("PLAIN", client.capa()["SASL"])
        client.user("alice")
        client.pass_(PASSWORD)
        self.assertIn(b"Subject: secret", client.retr(1)[1])
        client.quit()
        client = poplib.POP3_SSL("127.0.0.1", service.pop3s, timeout=PATIENCE_S, context=trusting_nobody())
        client.user("alice")
        client.pass_(PASSWORD)
        self.assertEqual(client.stat()[0], 1)
        client.quit()

    def test_a_client_that_says_all_at_once_is_answered_in_order(self):
        service = self.service()
        text = b"Subject: large\r\n\r\n" + b"".join(b"%06d .\r\n" % i for i in range(400000))
        self.deliver(service, text)
        with socket.create_connection(("127.0.0.1", service.pop3), timeout=PATIENCE_S) as client:
            client.sendall(b"USER alice\r\nPASS %s\r\nNOOP\r\n" % PASSWORD.encode() +
                           b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
            client.shutdown(socket.SHUT_WR)
            heard = b"".join(iter(lambda: client.recv(65536), b""))
        self.assertTrue(heard.endswith(b"\r\n.\r\n+OK Marked\r\n+OK Bye\r\n"), heard[-100:])
        sent = heard.split(b"\r\nSubject: large\r\n\r\n")[1].split(b"\r\n.\r\n")[0] + b"\r\n"
        self.assertEqual(hashlib.sha256(sent).digest(), hashlib.sha256(text.split(b"\r\n\r\n", 1)[1]).digest())
        client = service.login()
        self.assertEqual(client.stat()[0], 0)
        client.quit()

    def test_a_stop_tells_who_is_idle(self):
        service = self.service()
        client = service.login()
        self.assertEqual(service.stop(), 0)
        self.assertEqual(client.file.readline(), b"-ERR [SYS/TEMP] Service is ending\r\n")
        self.assertEqual(client.file.readline(), b"")
        client.close()


if __name__ == "__main__":
    unittest.main()
