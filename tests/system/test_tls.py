"""TLS at the listeners: STARTTLS, required, from the first byte; certificates by name; reload; what goes wrong."""
import json
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import unittest

from harness import BUILD, PEER, RELAY, SystemTest, at, free_port, wait_until
from tls_peers import certificate, run_openssl


class Tls(SystemTest):
    def setUp(self):
        super().setUp()
        self.authority = certificate(self.folder, "authority.test")
        self.mx = certificate(self.folder, "mx.test", self.authority)
        self.other = certificate(self.folder, "other.test", self.authority)

    def start(self, more="", tls_more="", **kwargs):
        self.received = self.sink()
        pairs = ", ".join(f"{{certificate: {base}.pem, key: {base}.key}}" for base in (self.mx, self.other))
        self.relay_process = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.received.to}\"]}}",
                                        settings=f"tls:\n  certificates: [{pairs}]\n{tls_more}{more}", **kwargs)
        return self.relay_process

    def context(self, verify=True):
        made = ssl.create_default_context(cafile=f"{self.authority}.pem")
        if not verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    def client(self, name="mx.test", context=None):
        smtp = smtplib.SMTP(RELAY, self.relay_process.port, timeout=20)
        smtp._host = name  # what starttls asks for and verifies
        smtp.ehlo("client.test")
        smtp.starttls(context=context or self.context())
        return smtp

    def messages(self, count):
        wait_until(lambda: len(self.received.messages) >= count, f"{count} messages")
        return [body for _, _, body in self.received.messages]

    def counters(self):
        return json.loads(self.relay_process.ctl("--json", "status").stdout)

    def test_the_load_generator_speaks_tls_and_resumes_sessions(self):
        self.start()
        words = [os.path.join(BUILD, "tubepost-bench"), "source", "--to", f"{RELAY}:{self.relay_process.port}", "--json",
                 "--connections", "5", "--count", "200", "--starttls"]
        for more, handshakes in (([], 5), (["--per-connection", "1"], 200), (["--per-connection", "1", "--no-resumption"], 200)):
            report = json.loads(subprocess.run(words + more, check=True, capture_output=True, text=True, timeout=60).stdout)
            self.assertEqual((report["acknowledged"], report["tls_failed"]), (200, 0))
            self.assertIn(report["tls_handshakes"], range(handshakes, handshakes + 5))  # the last ones may find nothing left to send
            whole = 5 if more and "--no-resumption" not in more else report["tls_handshakes"]
            self.assertEqual(report["tls_handshakes"] - report["tls_resumed"], whole)  # the first of each connection
        self.assertEqual(len(self.messages(600)), 600)

    def test_starttls_carries_mail_and_the_trace_says_so(self):
        self.start()
        with self.client() as smtp:
            smtp.ehlo("client.test")
            self.assertNotIn("starttls", smtp.esmtp_features)
            smtp.sendmail("a@client.test", ["b@x.test"], b"Subject: hi\r\n\r\n" + b"x" * 70 + b"\r\n")
            version, (cipher, _, bits) = smtp.sock.version(), smtp.sock.cipher()
        trace = self.messages(1)[0].split(b"\r\n\r\n")[0].decode()
        self.assertIn(f"(using {version} with cipher {cipher} ({bits} bits))", trace)
        self.assertIn("with ESMTPS id", trace)
        self.assertEqual(self.counters()["counters"]["tls"]["accepted"], 1)

    def test_large_messages_both_versions_and_pipelining(self):
        self.start()
        body = b"Subject: large\r\n\r\n" + b"".join(b"%074d\r\n" % i for i in range(60000))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context()
            context.minimum_version = context.maximum_version = version
            with self.client(context=context) as smtp:
                smtp.ehlo("client.test")
                smtp.sendmail("a@client.test", ["b@x.test"], body)
        for message in self.messages(2):
            self.assertTrue(message.endswith(body))

    def test_the_name_chooses_the_certificate(self):
        self.start()
        for name in ("mx.test", "other.test", "sub.other.test"):
            with self.client(name) as smtp:  # verified against `name`
                smtp.noop()

    def test_plaintext_behind_starttls_is_never_executed(self):
        self.start()
        with socket.create_connection((RELAY, self.relay_process.port), 20) as connection:
            connection.recv(1000)
            connection.sendall(b"EHLO evil.test\r\n")
            wait_for(connection, b"250 8BITMIME\r\n")
            connection.sendall(b"STARTTLS\r\nMAIL FROM:<evil@client.test>\r\nRCPT TO:<b@x.test>\r\n")
            self.assertEqual(wait_for(connection, b"\r\n"), b"220 2.0.0 Ready to start TLS\r\n")
            with self.context().wrap_socket(connection, server_hostname="mx.test") as secure:
                secure.sendall(b"DATA\r\n")
                self.assertTrue(wait_for(secure, b"\r\n").startswith(b"503 5.5.1"))
                secure.sendall(b"MAIL FROM:<a@client.test>\r\n")
                self.assertEqual(wait_for(secure, b"\r\n"), b"503 5.5.1 Say hello first\r\n")

    def test_required_and_implicit(self):
        required, implicit = free_port(), free_port()
        self.start(listen=[f"{{name: required, address: [\"{at(RELAY, required)}\"], tls: required}}",
                                          f"{{name: smtps, address: [\"{at(RELAY, implicit)}\"], tls: implicit}}"])
        with smtplib.SMTP(RELAY, required, timeout=20) as smtp:
            smtp.ehlo("client.test")
            self.assertEqual(smtp.mail("a@client.test")[0], 530)
            smtp._host = "mx.test"
            smtp.starttls(context=self.context())
            smtp.sendmail("a@client.test", ["b@x.test"], b"Subject: required\r\n\r\nx\r\n")
        raw = socket.create_connection((RELAY, implicit), 20)
        with self.context().wrap_socket(raw, server_hostname="mx.test") as secure:
            self.assertTrue(wait_for(secure, b"\r\n").startswith(b"220 relay.test"))
            secure.sendall(b"EHLO client.test\r\n")
            self.assertNotIn(b"STARTTLS", wait_for(secure, b"250 8BITMIME\r\n"))
            secure.sendall(b"QUIT\r\n")
            self.assertTrue(wait_for(secure, b"\r\n").startswith(b"221"))
            self.assertEqual(secure.recv(100), b"")  # close_notify: an orderly end, else it raises
        self.messages(1)

    def test_swaks_and_openssl(self):
        self.start()
        swaks = subprocess.run(["swaks", "--server", f"{RELAY}:{self.relay_process.port}", "--from", "a@client.test",
                                "--to", "b@x.test", "--tls", "--tls-verify", "--tls-ca-path", f"{self.authority}.pem",
                                "--tls-sni", "mx.test", "--helo", "client.test"],
                               capture_output=True, text=True, timeout=60)
        self.assertEqual(swaks.returncode, 0, swaks.stdout + swaks.stderr)
        self.messages(1)
        shown = subprocess.run(["openssl", "s_client", "-connect", f"{RELAY}:{self.relay_process.port}", "-starttls", "smtp",
                                "-servername", "other.test", "-CAfile", f"{self.authority}.pem", "-verify_return_error",
                                "-reconnect", "-tls1_2"],
                               input="QUIT\r\n", capture_output=True, text=True, timeout=60)
        self.assertIn("Verify return code: 0 (ok)", shown.stdout)
        self.assertIn("subject=CN = other.test", shown.stdout)
        self.assertEqual(len(re.findall("Reused, TLSv1.2", shown.stdout)), 5)

    def test_a_reload_changes_certificates_and_a_broken_one_does_not(self):
        relay = self.start()
        with self.client() as before:
            before.ehlo("client.test")
            first = before.sock.getpeercert(True)
            self.assertTrue(first)
            certificate(self.folder, "mx.test", self.authority)  # the same files, another key
            relay.popen.send_signal(signal.SIGHUP)
            wait_until(lambda: "reloaded" in relay.output(), "the reload")
            with self.client() as after:
                self.assertNotEqual(after.sock.getpeercert(True), first)
            before.sendmail("a@client.test", ["b@x.test"], b"Subject: still here\r\n\r\nx\r\n")
        self.messages(1)
        with open(f"{self.mx}.pem", "w") as file:
            file.write("nonsense\n")
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "the old certificates stay" in relay.output(), "the complaint")
        self.assertIn(f"certificate {self.mx}.pem", relay.output())
        with self.client() as smtp:
            smtp.noop()

    def test_a_certificate_is_an_identity_that_may_relay(self):
        known, stranger = certificate(self.folder, "known.test"), certificate(self.folder, "stranger.test")
        pinned = certificate(self.folder, "pinned.test")
        print_of = run_openssl("x509", "-in", f"{known}.pem", "-noout", "-fingerprint", "-sha256").split("=")[1].strip()
        with open(f"{pinned}.der", "w+") as key:
            run_openssl("pkey", "-in", f"{pinned}.key", "-pubout", "-outform", "der", "-out", key.name)
            key_print = run_openssl("dgst", "-sha256", "-r", key.name).split()[0]
        asking = free_port()
        self.start(listen=[f"{{name: asking, address: [\"{at(RELAY, asking)}\"], client_certificate: ask}}"],
                   more=f"relay_networks: [192.0.2.99/32]\nrelay_clients: [\"{print_of}\", {key_print}]\n")
        for port, base, allowed in ((asking, known, True), (asking, pinned, True), (asking, stranger, False),
                                    (asking, None, False), (self.relay_process.port, known, False)):
            context = self.context()
            if base:
                context.load_cert_chain(f"{base}.pem", f"{base}.key")
            for _ in range(2):  # the second time in a session that is resumed, perhaps
                with smtplib.SMTP(RELAY, port, timeout=20) as smtp:
                    smtp._host = "mx.test"
                    smtp.ehlo("client.test")
                    smtp.mail("a@client.test")
                    self.assertEqual(smtp.rcpt("b@x.test")[0], 554)  # before it has shown anything
                    smtp.rset()
                    smtp.starttls(context=context)
                    smtp.ehlo("client.test")
                    smtp.mail("a@client.test")
                    self.assertEqual(smtp.rcpt("b@x.test")[0], 250 if allowed else 554, (port, base))
                    if allowed:
                        self.assertEqual(smtp.data(b"Subject: known\r\n\r\nx\r\n")[0], 250)
        traces = b"".join(self.messages(4))
        self.assertEqual(traces.count(b'(Client CN "known.test" (not verified))'), 2)
        self.assertEqual(traces.count(b'(Client CN "pinned.test" (not verified))'), 2)

    def test_a_listener_that_requires_certificates_takes_those_of_its_authorities(self):
        ours, stranger = certificate(self.folder, "ours.test", self.authority), certificate(self.folder, "stranger.test")
        requiring = free_port()
        self.start(listen=[f"{{name: requiring, address: [\"{at(RELAY, requiring)}\"], client_certificate: require}}"],
                   tls_more=f"  authorities: {self.authority}.pem\n")
        for base in (ours, stranger, None):
            context = self.context()
            if base:
                context.load_cert_chain(f"{base}.pem", f"{base}.key")
            with smtplib.SMTP(RELAY, requiring, timeout=20) as smtp:
                smtp._host = "mx.test"
                smtp.ehlo("client.test")
                if base == ours:
                    smtp.starttls(context=context)
                    smtp.sendmail("a@client.test", ["b@x.test"], b"Subject: ours\r\n\r\nx\r\n")
                    continue
                with self.assertRaises((ssl.SSLError, OSError, smtplib.SMTPServerDisconnected)):
                    smtp.starttls(context=context)  # TLS 1.3: the refusal comes with the next answer
                    smtp.ehlo("client.test")
                smtp.close()
        self.assertIn(b'(Client CN "ours.test" (verified OK))', self.messages(1)[0])

    def test_a_reload_that_removes_the_last_certificate_ends_the_offer_and_never_the_demand(self):
        required, implicit = free_port(), free_port()
        relay = self.start(listen=[f"{{name: required, address: [\"{at(RELAY, required)}\"], tls: required}}",
                                   f"{{name: smtps, address: [\"{at(RELAY, implicit)}\"], tls: implicit}}"])
        with open(relay.config) as file:
            whole = file.read()
        without = re.sub(r"tls:\n  certificates: .*\n", "", whole)
        without = re.sub(r"  - \{name: (required|smtps), .*\n", "", without)
        self.assertNotIn("required", without)
        with smtplib.SMTP(RELAY, relay.port, timeout=20) as before:
            before.ehlo("client.test")
            self.assertIn("starttls", before.esmtp_features)
            with open(relay.config, "w") as file:
                file.write(without)
            relay.popen.send_signal(signal.SIGHUP)
            wait_until(lambda: "no certificate is left" in relay.output(), "the reload")
            self.assertEqual(before.docmd("STARTTLS")[0], 502)
            before.sendmail("a@client.test", ["b@x.test"], b"Subject: offered no more\r\n\r\nx\r\n")
        with smtplib.SMTP(RELAY, relay.port, timeout=20) as smtp:
            smtp.ehlo("client.test")
            self.assertNotIn("starttls", smtp.esmtp_features)
            smtp.sendmail("a@client.test", ["b@x.test"], b"Subject: never offered\r\n\r\nx\r\n")
        self.messages(2)
        with smtplib.SMTP(RELAY, required, timeout=20) as smtp:
            smtp.ehlo("client.test")
            self.assertNotIn("starttls", smtp.esmtp_features)
            self.assertEqual(smtp.docmd("STARTTLS")[0], 454)
            self.assertEqual(smtp.mail("a@client.test")[0], 454)
        with self.assertRaises((ConnectionResetError, ssl.SSLError)):  # the reset may come while we still connect
            with socket.create_connection((RELAY, implicit), 20) as raw:
                self.context().wrap_socket(raw, server_hostname="mx.test")
        with open(relay.config, "w") as file:
            file.write(whole)
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: relay.output().count("reloaded") == 2, "the second reload")
        with self.client() as smtp:
            smtp.noop()

    def test_a_mistake_is_found_before_the_start(self):
        config = os.path.join(self.folder, "wrong.yaml")
        with open(config, "w") as file:
            file.write(f"tls:\n  certificates: [{{certificate: {self.mx}.pem, key: {self.other}.key}}]\n")
        done = subprocess.run([os.path.join(BUILD, "tubepostd"), "-c", config, "--check"],
                              capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 78)
        self.assertIn("tls.certificates:", done.stderr)
        self.assertIn("other.test.key", done.stderr)

    def test_a_client_that_trusts_nobody_or_is_torn_off_leaves_nothing(self):
        relay = self.start()
        for _ in range(5):
            with self.assertRaises(ssl.SSLError):
                self.client(context=ssl.create_default_context())
            with socket.create_connection((RELAY, relay.port), 20) as connection:
                connection.recv(1000)
                connection.sendall(b"EHLO c\r\nSTARTTLS\r\n")
                wait_for(connection, b"220 2.0.0 Ready to start TLS\r\n")
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a hello
        wait_until(lambda: self.counters()["gauges"]["sessions_in"] == 0, "the last session's end")
        self.assertIn(f"tls: no handshake with {PEER}", relay.output())

    def test_starttls_and_the_end_at_once_do_not_hold_a_session(self):
        self.start()
        with socket.create_connection((RELAY, self.relay_process.port), 20) as connection:
            wait_for(connection, b"\r\n")
            connection.sendall(b"EHLO c\r\n")
            wait_for(connection, b"250 8BITMIME\r\n")
            connection.sendall(b"STARTTLS\r\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass  # cut at once, not after timeouts.command
            wait_until(lambda: self.counters()["gauges"]["sessions_in"] == 0, "the session's end")


def wait_for(connection, end):
    data = b""
    while not data.endswith(end):
        piece = connection.recv(4096)
        if not piece:
            raise AssertionError(f"closed after {data!r}")
        data += piece
    return data


if __name__ == "__main__":
    unittest.main()
