"""Tokens for those who read mail: OAUTHBEARER and XOAUTH2 by IMAP and POP3, with one issuer for the relay and the service."""
import base64
import http.server
import imaplib
import json
import os
import socket
import threading
import time
import unittest
import urllib.parse

import test_mailboxd_store  # not its names, nor test_submission's: their tests would run here too
import test_submission
from harness import PATIENCE_S, SystemTest


class Tokens(SystemTest):
    def setUp(self):
        super().setUp()
        self.issuer = test_submission.Issuer(self.folder)
        self.service = test_mailboxd_store.Store(self.folder, auth=(
            f"clear_on_loopback: true, mechanisms: [OAUTHBEARER, XOAUTH2], token_keys: {self.issuer.path}, "
            "token_issuer: \"https://id.test\", token_audiences: [mail.test], token_user: email, token_domains: [home.test]"))
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


class Issuer(http.server.BaseHTTPRequestHandler):
    """Says of each token what `known` has, to who is who he should be."""

    def do_POST(self):
        said = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if self.headers["Authorization"] != "Basic " + base64.b64encode(b"mail:hush").decode():
            self.send_response(401)
            self.end_headers()
            return
        text = json.dumps(self.server.known.get(said["token"][0], {"active": False})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Introspection(SystemTest):
    def setUp(self):
        super().setUp()
        self.issuer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
        self.issuer.known = {}
        self.addCleanup(self.issuer.server_close)
        thread = threading.Thread(target=self.issuer.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.issuer.shutdown)

    def start(self, secret="mail:hush"):
        with open(os.path.join(self.folder, "hush"), "w") as f:
            f.write(secret + "\n")
        self.service = test_mailboxd_store.Store(self.folder, auth=(
            "clear_on_loopback: true, mechanisms: [OAUTHBEARER, XOAUTH2], token_scope: mail, token_user: username, "
            f"token_introspection: \"http://127.0.0.1:{self.issuer.server_port}/ask\", token_credentials: {self.folder}/hush"))
        self.addCleanup(self.end, self.service)

    def refused(self, token):
        client = imaplib.IMAP4("127.0.0.1", self.service.imap, timeout=PATIENCE_S)
        self.addCleanup(client.shutdown)
        try:
            client.authenticate("XOAUTH2", lambda challenge: b"user=alice\1auth=Bearer " + token + b"\1\1" if not challenge else b"")
        except imaplib.IMAP4.error as error:
            return str(error)
        return None

    def test_the_issuer_is_asked(self):
        self.start()
        self.issuer.known = {"a+b/c==": {"active": True, "username": "alice", "scope": "mail other"},
                             "old": {"active": True, "username": "alice", "scope": "mail", "exp": int(time.time()) - 60}}
        self.assertIsNone(self.refused(b"a+b/c=="))
        self.assertIn("AUTHENTICATIONFAILED", self.refused(b"unknown"))
        self.assertIn("the token is not active", self.service.output())
        self.assertIn("AUTHENTICATIONFAILED", self.refused(b"old"))
        self.assertIn("the token is expired", self.service.output())

    def test_an_issuer_that_does_not_answer_is_no_verdict(self):
        self.start(secret="mail:wrong")
        self.assertIn("UNAVAILABLE", self.refused(b"token"))
        self.assertIn("HTTP 401", self.service.output())
        self.assertNotIn("auth: failed", self.service.output())


if __name__ == "__main__":
    unittest.main()
