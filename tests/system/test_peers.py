"""Real servers and clients on the other end: Dovecot's LMTP, Postfix as next hop and as client.

The peers are fetched as packages and run from build/peers; nothing is installed.
"""
import glob
import os
import smtplib
import subprocess
import unittest

from harness import TOP, SystemTest, free_port, wait_until

PEERS = os.path.join(TOP, "scripts/peers")
# Complete: what lacks a Date or a Message-ID, Postfix would add.
MESSAGE = (b"From: a@client.test\r\nSubject: peer\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
           b"Message-ID: <1@client.test>\r\n\r\n.dot\r\n..\r\nlast line\r\n")
QUICK = "retry: {first: 300ms, limit: 1s, expire: 60s, jitter_pct: 0}"


def peers(*arguments, patience_s=240, **kwargs):
    result = subprocess.run([PEERS, *arguments], capture_output=True, text=True, timeout=patience_s, **kwargs)
    if result.returncode != 0:
        raise AssertionError(f"scripts/peers {' '.join(arguments)}: {result.stdout}{result.stderr}")
    return result.stdout


@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class Peers(SystemTest):
    def start(self, peer, name, *settings):
        peers("fetch", peer)
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        os.chmod(self.folder, 0o755)
        self.addCleanup(peers, "stop", folder)
        peers("start", peer, folder, *settings)
        return folder

    def mail_of(self, folder, user):
        found = []
        for path in glob.glob(os.path.join(folder, "mail", user, "Maildir/new/*")):
            with open(path, "rb") as f:
                found.append(f.read())
        return found

    def dovecot_delivers(self, transport):
        port = free_port()
        folder = self.start("dovecot", "dovecot", f"lmtp=127.0.0.1:{port}", "users=ann@example.org,bob@example.org,full@example.org",
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
        self.start("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay={sink.to}", "mode=relay")
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
        self.start("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay=127.0.0.1:{relay.port}", "mode=relay")
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
