"""Mail to many domains, which go where a real DNS says: NSD with a signed tree, sinks on several addresses of loopback."""
import os
import shutil
import signal
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

    def reload(self, relay, *changes):
        """The file with other words, read again; what the log says of it."""
        path = os.path.join(self.folder, "relay.yaml")
        with open(path) as file:
            text = file.read()
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        with open(path, "w") as file:
            file.write(text)
        before = len(relay.output())
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in relay.output()[before:], "the answer to the signal")
        return relay.output()[before:]

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

    def test_a_reload_takes_other_servers_and_mail_that_waits_for_the_former_goes(self):
        silent = Liar(lambda question: [], self.addCleanup)
        relay = self.start(server=silent.server)
        self.reload(relay, ("timeout: 2s", "timeout: 300s"))
        send(relay.port, ["u@pair.example", "u@lone.example"])
        wait_until(lambda: silent.asked > 1, "questions to the silent server")
        self.assertIn("INFO reloaded", self.reload(relay, (silent.server, self.tree.server)))
        self.wait_taken(["u@pair.example"], [], ["u@lone.example"])  # 300 s before the former servers would have been given up
        asked = silent.asked
        send(relay.port, ["u@tenant1.example"])
        self.wait_taken(["u@pair.example"], ["u@tenant1.example"], ["u@lone.example"])
        self.assertEqual(silent.asked, asked)

    def test_a_wrong_dns_section_leaves_the_former_one_in_force(self):
        rubbish, missing = os.path.join(self.folder, "rubbish.key"), os.path.join(self.folder, "missing.key")
        with open(rubbish, "w") as file:
            file.write("this is no key\n")
        relay = self.start()
        for number, (new, said) in enumerate((
                ((self.tree.server, "a.server"), r"relay[.]yaml:\d+:\d+: dns[.]servers\[0\]: 'a.server' will not do"),
                (("a.server", self.tree.server), "INFO reloaded"),
                ((self.tree.anchor, missing), rf"relay[.]yaml:\d+:\d+: dns[.]trust_anchor: '{missing}' cannot be read: No such file"),
                ((missing, rubbish), rf"resolve: libunbound: .*{rubbish}"),
                ((rubbish, self.tree.anchor), "INFO reloaded"))):
            self.assertRegex(self.reload(relay, new), said)
            send(relay.port, [f"u{number}@lone.example"])
            wait_until(lambda: len(self.taken(self.sinks[2])) == number + 1, f"mail after {new}")

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
