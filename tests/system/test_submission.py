"""Submission: who logs in by AUTH may relay; with smtplib, swaks and curl, over TLS and in the clear."""
import base64
import hashlib
import hmac
import json
import os
import signal
import smtplib
import socket
import subprocess
import time
import unittest

from harness import Client, SystemTest, free_port, wait_until
from tls_peers import certificate, run_openssl

USERS = "auth: {backends: [\"static:tim:{PLAIN}secret\", \"static:una:{PLAIN}unas\"], %s}\n"
STRANGERS = "relay_networks: [192.0.2.250/32]\n"
MESSAGE = "From: tim@home.test\r\nTo: b@far.test\r\nSubject: submitted\r\n\r\nhello\r\n"


def b64(octets):
    return base64.b64encode(octets)


def plain(user, password):
    return b64(b"\0" + user + b"\0" + password)


def b64url(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


class Issuer:
    """Signs tokens with openssl; its public key is in `path`."""

    def __init__(self, folder, name="issuer"):
        self.key, self.path = os.path.join(folder, name + ".key"), os.path.join(folder, name + ".pub")
        run_openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.key)
        run_openssl("pkey", "-in", self.key, "-pubout", "-out", self.path)

    def token(self, user, **claims):
        claims = {"iss": "https://id.test", "aud": "mail.test", "exp": int(time.time()) + 3600, "sub": user, **claims}
        text = b64url(b'{"alg":"RS256"}') + b"." + b64url(json.dumps(claims).encode())
        made = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text, capture_output=True, check=True)
        return text + b"." + b64url(made.stdout)


class Submission(SystemTest):
    """`self.port` takes mail of those who log in; `self.open` that of others, too, for home.test."""

    def start(self, auth="", more="", submission="tls: starttls"):
        authority = certificate(self.folder, "authority.test")
        mx = certificate(self.folder, "mx.test", authority)
        self.received = self.sink()
        self.port, self.open = free_port(), free_port()
        routes = (f"  - {{match: home.test, via: smtp, to: [\"{self.received.to}\"]}}\n"
                  f"  - {{match: \"*\", via: smtp, to: [\"{self.received.to}\"]}}")
        listen = [f"{{name: submission, address: [\"127.0.0.1:{self.port}\"], auth: required, {submission}}}",
                  f"{{name: open, address: [\"127.0.0.1:{self.open}\"], auth: offered}}"]
        self.process = self.relay(routes, listen=listen, settings=(
            f"tls: {{certificates: [{{certificate: {mx}.pem, key: {mx}.key}}]}}\n" + STRANGERS + USERS % auth + more))

    def smtp(self, port=None):
        client = smtplib.SMTP("127.0.0.1", port or self.port, local_hostname="client.test", timeout=60)
        self.addCleanup(client.close)
        client.ehlo()
        return client

    def secure(self, port=None):
        client = self.smtp(port)
        client.starttls()
        client.ehlo()
        return client

    def arrived(self, count=1):
        wait_until(lambda: len(self.received.messages) >= count, f"{count} messages")
        self.assertEqual(len(self.received.messages), count)
        return self.received.messages[-1][2].decode()

    def failures(self):
        return [line for line in self.process.output().splitlines() if "auth: failed: " in line]

    # ---- Real clients ----

    def test_smtplib_logs_in_by_each_mechanism_and_relays(self):
        self.start("mechanisms: [PLAIN, LOGIN, CRAM-MD5]")
        for count, mechanism in enumerate(("auth_plain", "auth_login", "auth_cram_md5"), 1):
            client = self.secure()
            self.assertEqual(client.esmtp_features["auth"].split(), ["CRAM-MD5", "PLAIN", "LOGIN"])
            client.user, client.password = "tim", "secret"
            name = mechanism[5:].upper().replace("_", "-")
            self.assertEqual(client.auth(name, getattr(client, mechanism))[0], 235)
            client.sendmail("tim@home.test", ["b@far.test"], MESSAGE)
            client.quit()
            self.assertRegex(self.arrived(count), r"(?s)^Received: from client\.test.*with ESMTPSA")
        self.assertIn("smtp: login: user=<tim>, rip=127.0.0.1, TLS", self.process.output())
        self.assertEqual(self.failures(), [])

    def test_swaks_and_curl_log_in(self):
        self.start("mechanisms: [PLAIN, LOGIN, CRAM-MD5]")
        where = ["--server", "127.0.0.1", "--port", str(self.port), "--helo", "client.test", "-tls"]
        for count, mechanism in enumerate(("PLAIN", "LOGIN", "CRAM-MD5"), 1):
            done = subprocess.run(["swaks", *where, "--auth", mechanism, "--auth-user", "tim", "--auth-password", "secret",
                                   "--from", "tim@home.test", "--to", "b@far.test"], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("ESMTPSA", self.arrived(count))
        wrong = subprocess.run(["swaks", *where, "--auth", "PLAIN", "--auth-user", "tim", "--auth-password", "bad",
                                "--from", "tim@home.test", "--to", "b@far.test"], capture_output=True, text=True, timeout=120)
        self.assertEqual(wrong.returncode, 28, wrong.stdout)
        self.assertIn("535 5.7.8", wrong.stdout)
        letter = os.path.join(self.folder, "letter")
        with open(letter, "w", newline="") as f:
            f.write(MESSAGE)
        subprocess.run(["curl", "-sS", "--ssl-reqd", "--insecure", f"smtp://127.0.0.1:{self.port}/client.test",
                        "--user", "una:unas", "--mail-from", "una@home.test", "--mail-rcpt", "b@far.test", "-T", letter],
                       check=True, timeout=120)
        self.assertIn("ESMTPSA", self.arrived(4))

    def test_scram_proves_the_password_without_sending_it(self):
        self.start("mechanisms: [SCRAM-SHA-256, PLAIN]")
        client = self.smtp(self.open)
        self.assertEqual(client.esmtp_features["auth"].split(), ["SCRAM-SHA-256"])  # the others are for TLS
        bare = b"n=tim,r=clientnonce"
        code, challenge = client.docmd("AUTH", "SCRAM-SHA-256 " + b64(b"n,," + bare).decode())
        self.assertEqual(code, 334)
        first = base64.b64decode(challenge)
        fields = dict(part.split(b"=", 1) for part in first.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", b"secret", base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        last = b"c=biws,r=" + fields[b"r"]
        signed = bare + b"," + first + b"," + last
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature))
        code, final = client.docmd(b64(last + b",p=" + b64(proof)).decode())
        self.assertEqual(code, 334)
        server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        self.assertEqual(base64.b64decode(final), b"v=" + b64(server))
        self.assertEqual(client.docmd("")[0], 235)
        client.sendmail("tim@home.test", ["b@far.test"], MESSAGE)
        self.assertRegex(self.arrived(), r"with ESMTPA\b")

    # ---- Tokens ----

    def with_tokens(self):
        issuer = Issuer(self.folder)
        self.keys = os.path.join(self.folder, "keys")
        os.symlink(issuer.path, self.keys)
        self.start(f"mechanisms: [OAUTHBEARER, XOAUTH2], token_keys: {self.keys}, token_issuer: \"https://id.test\", "
                   "token_audiences: [mail.test], token_configuration: \"https://id.test/.well-known/openid-configuration\"")
        return issuer

    def bearer(self, client, token, user=b"tim"):
        return client.docmd("AUTH", "OAUTHBEARER " + b64(b"n,a=" + user + b",\1auth=Bearer " + token + b"\1\1").decode())

    def test_who_has_a_token_logs_in(self):
        issuer = self.with_tokens()
        client = self.secure()
        self.assertEqual(client.esmtp_features["auth"].split(), ["OAUTHBEARER", "XOAUTH2"])
        self.assertEqual(self.bearer(client, issuer.token("tim"))[0], 235)
        client.sendmail("tim@home.test", ["b@far.test"], MESSAGE)
        self.assertIn("ESMTPSA", self.arrived())
        client = self.secure()
        words = b64(b"user=una\1auth=Bearer " + issuer.token("una", x="y" * 4000) + b"\1\1").decode()
        self.assertEqual(client.docmd("AUTH", "XOAUTH2 " + words)[0], 235)
        letter = os.path.join(self.folder, "letter")
        with open(letter, "w", newline="") as f:
            f.write(MESSAGE)
        subprocess.run(["curl", "-sS", "--ssl-reqd", "--insecure", f"smtp://127.0.0.1:{self.port}/client.test", "--user", "tim",
                        "--oauth2-bearer", issuer.token("tim").decode(), "--mail-from", "tim@home.test", "--mail-rcpt", "b@far.test",
                        "-T", letter], check=True, timeout=120)
        self.arrived(2)

    def test_a_token_that_is_not_good_is_told_why_not_and_then_refused(self):
        issuer = self.with_tokens()
        other = Issuer(self.folder, "other")
        client = self.secure()
        code, text = self.bearer(client, issuer.token("tim", exp=int(time.time()) - 60))
        self.assertEqual(code, 334)
        self.assertEqual(json.loads(base64.b64decode(text)), {
            "status": "invalid_token", "openid-configuration": "https://id.test/.well-known/openid-configuration"})
        self.assertEqual(client.docmd(b64(b"\1").decode()), (535, b"5.7.8 Authentication failed"))
        self.assertEqual(client.mail("tim@home.test")[0], 530)
        self.assertIn("auth: failed: user=<tim>, method=OAUTHBEARER, rip=127.0.0.1, service=smtp, the token is expired", self.process.output())
        for token, why in ((issuer.token("una"), "another user's"), (issuer.token("tim", aud="shop"), "for another service"),
                           (other.token("tim"), "not signed by a known key")):
            client = self.secure()
            client.putcmd("AUTH", "OAUTHBEARER " + b64(b"n,a=tim,\1auth=Bearer " + token + b"\1\1").decode())
            wait_until(lambda: "the token is " + why in self.process.output(), why)
            client.close()

    def test_another_key_is_taken_when_the_file_changes(self):
        self.with_tokens()
        later = Issuer(self.folder, "later")
        os.symlink(later.path, self.keys + ".new")
        os.rename(self.keys + ".new", self.keys)
        self.assertEqual(self.bearer(self.secure(), later.token("tim"))[0], 235)

    # ---- Who may what ----

    def test_who_has_not_logged_in_does_not_relay(self):
        self.start()
        client = self.secure(self.open)
        self.assertEqual(client.mail("tim@home.test")[0], 250)
        self.assertEqual(client.rcpt("b@far.test")[0], 554)
        self.assertEqual(client.rcpt("b@home.test")[0], 250)
        self.assertEqual(client.docmd("AUTH", "PLAIN " + plain(b"tim", b"secret").decode())[0], 503)
        client.rset()
        client.login("tim", "secret")
        client.mail("tim@home.test")
        self.assertEqual(client.rcpt("b@far.test")[0], 250)

    def test_where_it_is_required_nothing_is_taken_before(self):
        self.start()
        client = self.smtp()
        self.assertNotIn("auth", client.esmtp_features)  # PLAIN and LOGIN are for TLS
        self.assertEqual(client.docmd("AUTH", "PLAIN " + plain(b"tim", b"secret").decode()),
                         (538, b"5.7.11 Encryption is required for this mechanism"))
        self.assertEqual(client.docmd("AUTH", "NTLM")[0], 504)
        self.assertEqual(client.mail("tim@home.test"), (530, b"5.7.0 Authentication required"))
        client.starttls()
        client.ehlo()
        self.assertEqual(client.mail("tim@home.test")[0], 530)
        client.login("tim", "secret")
        self.assertEqual(client.mail("tim@home.test")[0], 250)

    def test_passwords_in_the_clear_are_taken_on_loopback_where_that_is_allowed(self):
        self.start("clear_on_loopback: true")
        client = self.smtp()
        client.login("tim", "secret")
        client.sendmail("tim@home.test", ["b@far.test"], MESSAGE)
        self.assertRegex(self.arrived(), r"with ESMTPA\b")

    def test_required_tls_comes_before_auth(self):
        self.start("clear_on_loopback: true", submission="tls: required")
        client = self.smtp()
        self.assertEqual(client.docmd("AUTH", "PLAIN " + plain(b"tim", b"secret").decode())[0], 530)
        client.starttls()
        client.ehlo()
        client.login("tim", "secret")

    def test_a_reverse_path_belongs_to_those_that_a_map_names(self):
        owners = os.path.join(self.folder, "owners")
        with open(owners, "w") as f:
            f.write("tim@home.test tim\nsales@home.test una, TIM\nhelp@home.test una\n@una.test una\n@b\u00fccher.test una\n")
        self.start(f"clear_on_loopback: true, sender_logins: [\"texthash:{owners}\"]", more="rewrite: {extension: \"+\"}\n")
        client = self.smtp()
        client.login("tim", "secret")
        for sender, code in (("tim@home.test", 250), ("Tim@Home.test", 250), ("tim+x@home.test", 250), ("sales@home.test", 250), ("", 250),
                             ("help@home.test", 553), ("a@una.test", 553), ("nobody@home.test", 553), ("tim@home.test.evil.test", 553)):
            self.assertEqual(client.mail(sender)[0], code, sender)
            client.rset()
        self.assertIn("5.7.1 Sender address is not owned by who has logged in; from=<help@home.test>; login=<tim>", self.process.output())
        client.sendmail("sales@home.test", ["b@far.test"], MESSAGE)
        self.arrived()
        other = self.smtp()
        other.login("una", "unas")
        self.assertEqual(other.mail("a@una.test")[0], 250)
        other.rset()
        self.assertEqual(other.mail("a@xn--bcher-kva.test")[0], 250)  # as the map has it, in its other spelling
        stranger = self.smtp(self.open)  # who has not logged in is not asked: mail of ours may come back to us
        self.assertEqual(stranger.mail("tim@home.test")[0], 250)

    # ---- Who fails ----

    def test_a_failure_is_one_answer_and_one_line_of_the_log(self):
        self.start("clear_on_loopback: true")
        for user in ("tim", "nobody"):
            client = self.smtp()
            answer = client.docmd("AUTH", "PLAIN " + plain(user.encode(), b"bad").decode())
            self.assertEqual(answer, (535, b"5.7.8 Authentication failed"))
            self.assertEqual(client.mail("tim@home.test")[0], 530)
        lines = self.failures()
        self.assertEqual(len(lines), 2, lines)
        for user, line in zip(("tim", "nobody"), lines):
            self.assertIn(f"auth: failed: user=<{user}>, method=PLAIN, rip=127.0.0.1, service=smtp, ", line)
        self.assertNotIn("bad", self.process.output())

    def test_a_client_that_goes_while_it_is_judged_has_failed_all_the_same(self):
        self.start("clear_on_loopback: true")
        with Client(self.port, host="127.0.0.1") as client:
            client.command("EHLO client.test")
            client.send(b"AUTH PLAIN " + plain(b"tim", b"bad") + b"\r\n")
        wait_until(self.failures, "the failure's line")
        self.smtp().login("tim", "secret")

    def test_the_relay_ends_while_somebody_is_judged(self):
        self.start("clear_on_loopback: true", more="shutdown: {grace: 300ms}\n")
        waiting = [Client(self.port, host="127.0.0.1") for _ in range(3)]
        for client in waiting:
            self.addCleanup(client.close)
            client.command("EHLO client.test")
        waiting[0].send(b"AUTH PLAIN " + plain(b"tim", b"bad") + b"\r\n")  # its answer is held back
        waiting[1].command("AUTH PLAIN")                                     # has a challenge
        waiting[2].send(b"AUTH PLAIN " + plain(b"nobody", b"x"))             # has not ended its line
        wait_until(self.failures, "the failure's line")
        self.assertEqual(self.process.stop(signal.SIGTERM), 0)

    def test_a_reload_keeps_who_may_log_in(self):
        self.start("clear_on_loopback: true")
        before = self.smtp()
        for _ in range(2):
            seen = self.process.output().count("reloaded;")
            self.process.popen.send_signal(signal.SIGHUP)
            wait_until(lambda: self.process.output().count("reloaded;") > seen, "the reload")
        before.login("tim", "secret")
        after = self.smtp()
        self.assertEqual(after.mail("tim@home.test")[0], 530)
        after.login("una", "unas")

    # ---- Bytes ----

    def test_what_follows_auth_without_waiting_ends_the_session(self):
        self.start("clear_on_loopback: true")
        with socket.create_connection(("127.0.0.1", self.port), 60) as s, s.makefile("rb") as lines:
            lines.readline()
            s.sendall(b"EHLO c\r\n")
            while lines.readline()[3:4] != b" ":
                pass
            s.sendall(b"AUTH PLAIN " + plain(b"tim", b"secret") + b"\r\nMAIL FROM:<tim@home.test>\r\n")
            self.assertEqual(lines.readline()[:3], b"235")
            self.assertEqual(lines.readline()[:3], b"421")
            self.assertEqual(lines.readline(), b"")

    def test_an_exchange_may_come_in_single_octets(self):
        self.start("clear_on_loopback: true")
        with socket.create_connection(("127.0.0.1", self.port), 60) as s, s.makefile("rb") as lines:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines.readline()
            for text in (b"EHLO c\r\n", b"AUTH LOGIN\r\n", b64(b"tim") + b"\r\n", b64(b"secret") + b"\r\n"):
                for octet in text:
                    s.sendall(bytes([octet]))
                answer = lines.readline()
                while answer[3:4] == b"-":
                    answer = lines.readline()
            self.assertEqual(answer, b"235 2.7.0 Authentication successful\r\n")

    def test_a_line_that_is_too_long_is_answered_so(self):
        self.start("clear_on_loopback: true")
        with Client(self.port, host="127.0.0.1") as client:
            client.command("EHLO client.test")
            self.assertTrue(client.command("AUTH PLAIN " + "A" * 12288).startswith("501 5.5.2"))
            client.command("AUTH PLAIN")
            self.assertTrue(client.command("A" * 13000).startswith("500 5.5.6"))
            self.assertTrue(client.command("AUTH PLAIN").startswith("334"))
            self.assertTrue(client.command("*").startswith("501 5.7.0"))
            self.assertTrue(client.command("AUTH PLAIN " + plain(b"tim", b"secret").decode()).startswith("235"))


if __name__ == "__main__":
    unittest.main()
