"""Tokens for those who read mail: OAUTHBEARER and XOAUTH2 by IMAP and POP3, with one issuer for the relay and the service."""
import base64
import imaplib
import json
import socket
import time
import unittest

import test_mailboxd_store  # not its names, nor test_submission's: their tests would run here too
import test_submission
from harness import PATIENCE_S, SystemTest


class Tokens(SystemTest):
    def setUp(self):
        super().setUp()
        self.issuer = test_submission.Issuer(self.folder)
        self.service = test_mailboxd_store.Store(self.folder, auth=(
            f"clear_on_loopback: true, mechanisms: [OAUTHBEARER, XOAUTH2], token_keys: {self.issuer.path}, "
            "token_issuer: \"https://id.test\", token_audiences: [mail.test], token_user: email"))
        self.addCleanup(self.end, self.service)

    def token(self, user, **claims):
        return self.issuer.token("7f3a", email=user, **claims)

    def bearer(self, user, token):
        return b"n,a=" + user + b",\1host=mail.test\1auth=Bearer " + token + b"\1\1"

    def imap(self):
        client = imaplib.IMAP4("127.0.0.1", self.service.imap, timeout=PATIENCE_S)
        self.addCleanup(client.shutdown)
        return client

    def test_imap_takes_a_token_and_says_why_not(self):
        client = self.imap()
        self.assertIn("AUTH=OAUTHBEARER", client.capabilities)
        self.assertEqual(client.authenticate("OAUTHBEARER", lambda _: self.bearer(b"alice", self.token("alice")))[0], "OK")
        self.assertEqual(client.select()[0], "OK")
        client = self.imap()
        said = []

        def answer(challenge):
            said.append(challenge)
            return self.bearer(b"alice", self.token("alice", exp=int(time.time()) - 60)) if len(said) == 1 else b"\1"
        with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHENTICATIONFAILED"):
            client.authenticate("OAUTHBEARER", answer)
        self.assertEqual(json.loads(said[1]), {"status": "invalid_token"})
        self.assertIn("auth: failed: user=<alice>, method=OAUTHBEARER, rip=127.0.0.1, service=imap, the token is expired", self.service.output())

    def test_who_has_a_token_needs_no_password_here(self):
        client = self.imap()
        words = b"user=Zoe\1auth=Bearer " + self.token("zoe") + b"\1\1"
        self.assertEqual(client.authenticate("XOAUTH2", lambda _: words)[0], "OK")
        self.assertEqual(client.select()[0], "OK")

    def test_pop3_takes_a_token(self):
        with socket.create_connection(("127.0.0.1", self.service.pop3), PATIENCE_S) as s, s.makefile("rb") as lines:
            self.assertEqual(lines.readline()[:3], b"+OK")
            s.sendall(b"AUTH OAUTHBEARER\r\n")
            self.assertEqual(lines.readline(), b"+ \r\n")
            s.sendall(base64.b64encode(self.bearer(b"bob", self.token("bob"))) + b"\r\nSTAT\r\n")
            self.assertEqual(lines.readline()[:3], b"+OK")
            self.assertEqual(lines.readline(), b"+OK 0 0\r\n")


if __name__ == "__main__":
    unittest.main()
