"""Real servers and clients on the other end: Dovecot's LMTP, Postfix as next hop and as client.

The peers are fetched as packages and run from build/peers; nothing is installed.
"""
import glob
import os
import smtplib
import unittest

from harness import free_port, wait_until
from real_peers import MESSAGE, PeerTest, peers

QUICK = "retry: {first: 300ms, limit: 1s, expire: 60s, jitter_pct: 0}"


class Peers(PeerTest):
    def mail_of(self, folder, user):
        found = []
        for path in glob.glob(os.path.join(folder, "mail", user, "Maildir/new/*")):
            with open(path, "rb") as f:
                found.append(f.read())
        return found

    def dovecot_delivers(self, transport):
        port = free_port()
        folder = self.start_peer("dovecot", "dovecot", f"lmtp=127.0.0.1:{port}", "users=ann@example.org,bob@example.org,full@example.org",
                            "quota:full@example.org=1K")
        to = f"unix:{folder}/lmtp" if transport == "unix" else f"127.0.0.1:{port}"
        home = self.sink(path=os.path.join(self.folder, "home"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{to}\"]}}\n"
                           f"  - {{match: home.test, via: lmtp, to: [\"{home.to}\"]}}", settings=QUICK)
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=60) as client:
            client.sendmail("a@home.test", [f"{n}@example.org" for n in ("ann", "nobody", "bob")], MESSAGE)
        wait_until(lambda: self.mail_of(folder, "ann@example.org") and self.mail_of(folder, "bob@example.org"), "mail for two")
        for user in ("ann@example.org", "bob@example.org"):
            text, = self.mail_of(folder, user)
            self.assertTrue(text.replace(b"\r\n", b"\n").endswith(MESSAGE.replace(b"\r\n", b"\n")), text)
        wait_until(lambda: home.messages, "the report on the unknown user")
        self.assertEqual(home.messages[0][0], "")
        self.assertIn(b"nobody@example.org", home.messages[0][2])
        self.assertNotIn(b"rfc822; ann@example.org", home.messages[0][2])

    def test_dovecot_takes_mail_by_lmtp_over_a_unix_socket_with_mixed_results(self):
        self.dovecot_delivers("unix")

    def test_dovecot_takes_mail_by_lmtp_over_tcp_with_mixed_results(self):
        self.dovecot_delivers("tcp")

    def test_postfix_is_the_next_hop(self):
        sink = self.sink()
        port = free_port()
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay={sink.to}", "mode=relay")
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"127.0.0.1:{port}\"]}}", settings=QUICK)
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=60) as client:
            for number in range(20):
                client.sendmail("a@client.test", [f"b{number}@elsewhere.test"], MESSAGE)
        wait_until(lambda: len(sink.messages) == 20, "twenty messages behind Postfix")
        for _, _, body in sink.messages:
            self.assertTrue(body.endswith(MESSAGE), body)

    def test_postfix_is_the_client(self):
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{sink.to}\"]}}")
        port = free_port()
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay=127.0.0.1:{relay.port}", "mode=relay")
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            for number in range(20):
                client.sendmail("a@client.test", [f"b{number}@example.org"], MESSAGE)
        wait_until(lambda: len(sink.messages) == 20, "twenty messages by way of Postfix")
        for _, _, body in sink.messages:
            self.assertTrue(body.endswith(MESSAGE), body)

    def test_smtp_source_is_a_client(self):
        peers("fetch", "postfix")
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{sink.to}\"]}}")
        peers("run", "postfix", "smtp-source", "-s", "10", "-m", "200", "-l", "4096", "-f", "a@client.test", "-t", "b@example.org",
              f"127.0.0.1:{relay.port}")
        wait_until(lambda: len(sink.messages) == 200, "200 messages")


if __name__ == "__main__":
    unittest.main()
