"""Mail to many domains, which go where a real DNS says: NSD with a signed tree, sinks on several addresses of loopback."""
import os
import shutil
import smtplib
import tempfile
import unittest

from dns_tree import Liar, Tree
from harness import PORT, RELAY, Client, SystemTest, free_port, wait_until

MESSAGE = b"From: a@back.test\r\nSubject: hello\r\n\r\nline\r\n"
QUICK = "retry: {first: 300ms, limit: 1s, expire: 30s, jitter_pct: 0}"


def send(port, recipients, options=()):
    with smtplib.SMTP(RELAY, port, timeout=60) as client:
        return client.sendmail("a@back.test", recipients, MESSAGE, mail_options=options)


@unittest.skipIf(PORT, "loopback stays with the kernel")
@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class Exchangers(SystemTest):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp(prefix="tubepost-dns-")
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.tree = Tree(folder, cls.addClassCleanup)

    def setUp(self):
        super().setUp()
        self.port = free_port()
        self.back = self.sink()
        self.sinks = [self.sink(host=f"127.0.1.{i}", port=self.port) for i in (1, 2, 3)]

    def start(self, more="", server=None):
        dns = f"dns: {{servers: [\"{server or self.tree.server}\"], trust_anchor: {self.tree.anchor}, mta_sts: off, timeout: 2s}}"
        return self.relay(f"  - {{match: back.test, via: smtp, to: [\"{self.back.to}\"]}}\n{more}"
                          f"  - {{match: \"*\", via: mx, port: {self.port}}}", settings=f"{QUICK}\n{dns}")

    def taken(self, sink):
        return sorted(recipient for message in sink.messages for recipient in message[1])

    def wait_taken(self, *expected):
        wait_until(lambda: [self.taken(sink) for sink in self.sinks] == list(expected), "what each sink must have")

    def test_each_domain_goes_to_its_own_hosts(self):
        relay = self.start()
        send(relay.port, ["u@pair.example", "u@tenant1.example", "v@tenant2.example", "u@lone.example", "w@PAIR.example"])
        self.wait_taken(["u@pair.example", "w@PAIR.example"], ["u@tenant1.example", "v@tenant2.example"], ["u@lone.example"])
        self.assertEqual(len(self.sinks[0].messages), 1)  # one transaction for those of a domain
        self.assertEqual(len(self.sinks[1].messages), 2)

    def test_domains_on_the_same_hosts_share_connections(self):
        relay = self.start()
        for number in range(10):
            send(relay.port, [f"u{number}@tenant{1 + number % 2}.example"])
            wait_until(lambda: len(self.sinks[1].messages) == number + 1, "one more")
        self.assertEqual(self.sinks[1].connections, 1)

    def test_the_next_host_takes_what_the_best_does_not(self):
        relay = self.start()
        send(relay.port, ["u@deadfirst.example"])
        self.wait_taken(["u@deadfirst.example"], [], [])

    def test_an_internationalised_domain_is_looked_up_by_its_a_labels(self):
        self.sinks[0].extensions = ("SMTPUTF8", "8BITMIME")
        relay = self.start()
        with Client(relay.port) as client:
            client.command("EHLO c.test")
            client.command("MAIL FROM:<a@back.test> SMTPUTF8")
            self.assertEqual(client.command("RCPT TO:<u@b\u00fccher.example>")[:3], "250")
            client.command("DATA")
            self.assertEqual(client.command(MESSAGE + b".\r\n")[:3], "250")
        self.wait_taken(["u@b\u00fccher.example"], [], [])

    def test_what_cannot_be_delivered_is_returned_with_its_reason(self):
        relay = self.start()
        send(relay.port, [f"u@{name}.example" for name in ("null", "noaddress", "nothere")])
        wait_until(lambda: len(self.back.messages) == 3, "a report for each")
        reports = b"".join(message[2] for message in self.back.messages).decode()
        for status in ("5.1.10", "5.4.4", "5.1.2"):
            self.assertIn(f"Status: {status}", reports)

    def test_mail_waits_while_the_dns_says_nothing_or_what_is_not_valid(self):
        silent = Liar(lambda question: [], self.addCleanup)
        relay = self.start(server=silent.server)
        send(relay.port, ["u@pair.example"])
        wait_until(lambda: "to=<u@pair.example>, relay=none, dsn=4.4.3, status=deferred" in relay.output(), "it is put off", 30)
        self.assertEqual(self.back.messages, [])
        relay.stop()
        relay = self.start()
        send(relay.port, ["u@bogus.example"])
        wait_until(lambda: "to=<u@bogus.example>, relay=none, dsn=4.7.0, status=deferred" in relay.output(), "it is put off")
        # What waited for the DNS of before goes now.
        self.wait_taken(["u@pair.example"], [], [])

    def test_discard_and_error(self):
        relay = self.start("  - {match: void.test, via: discard}\n"
                           "  - {match: \"/^spam/\", via: error, reply: \"550 5.7.1 Not here\"}\n"
                           "  - {match: gone@back.test, via: error, reply: \"551 5.1.6 They have moved\"}\n")
        with Client(relay.port) as client:
            client.command("EHLO c.test")
            client.command("MAIL FROM:<a@back.test>")
            self.assertEqual(client.command("RCPT TO:<gone@back.test>"), "551 5.1.6 They have moved")
            self.assertEqual(client.command("RCPT TO:<spammer@pair.example>"), "550 5.7.1 Not here")
            self.assertEqual(client.command("RCPT TO:<u@void.test>")[:3], "250")
            self.assertEqual(client.command("RCPT TO:<u@lone.example>")[:3], "250")
            client.command("DATA")
            self.assertEqual(client.command(MESSAGE + b".\r\n")[:3], "250")
        self.wait_taken([], [], ["u@lone.example"])
        wait_until(lambda: "to=<u@void.test>, relay=none, dsn=2.0.0, status=sent (discarded)" in relay.output(), "it is gone")


if __name__ == "__main__":
    unittest.main()
