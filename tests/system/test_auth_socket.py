"""Who logs in elsewhere: programs that ask the mailbox service by the protocol of Dovecot's authentication service."""
import base64
import os
import signal
import smtplib
import socket
import ssl
import unittest

from harness import PATIENCE_S, SystemTest, free_port, wait_until
from real_peers import MESSAGE, PeerTest
from test_mailboxd import Mailboxd
from tls_peers import certificate


class Authd(Mailboxd):
    def __init__(self, folder, auth=""):
        self.socket, self.auth = os.path.join(folder, "auth"), auth
        super().__init__(folder)

    def write_config(self, settings, uring="auto"):
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"  - {{name: a, address: [\"unix:{self.socket}\"], protocol: auth, unix_mode: 666}}\n"
                    f"store: {{path: {self.mail}}}\n"
                    f"auth: {{backends: [\"static:tim:{{PLAIN}}secret\"], {self.auth}}}\n"
                    f"shutdown: {{grace: 300ms}}\nio: {{uring: {uring}}}\n{settings}\n")


class Program:
    """Asks as Postfix does."""

    def __init__(self, path, begin=b"VERSION\t1\t0\nCPID\t99\n"):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(PATIENCE_S)
        self.stream.connect(path)
        self.lines = self.stream.makefile("rb")
        self.say(begin)
        self.greeting = []
        while self.greeting[-1:] != [b"DONE"]:
            self.greeting.append(self.lines.readline().rstrip(b"\n"))

    def say(self, octets):
        self.stream.sendall(octets)

    def ask(self, number, mechanism, response=None, more=b"\tsecured\trip=192.0.2.7"):
        octets = b"" if response is None else b"\tresp=" + base64.b64encode(response)
        self.say(b"AUTH\t%d\t%s\tservice=smtp%s%s\n" % (number, mechanism, more, octets))

    def answer(self):
        return self.lines.readline().rstrip(b"\n").split(b"\t")

    def close(self):
        self.lines.close()
        self.stream.close()


class AuthSocket(SystemTest):
    def start(self, **kwargs):
        self.service = Authd(self.folder, **kwargs)
        self.addCleanup(self.end, self.service)

    def program(self, **kwargs):
        program = Program(self.service.socket, **kwargs)
        self.addCleanup(program.close)
        return program

    def test_it_says_what_it_can_and_who_may_log_in(self):
        self.start(auth="mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256]")
        program = self.program()
        self.assertEqual(program.greeting[0].split(b"\t")[:2], [b"VERSION", b"1"])
        self.assertEqual([line for line in program.greeting if line.startswith(b"MECH")],
                         [b"MECH\tSCRAM-SHA-256", b"MECH\tPLAIN\tplaintext", b"MECH\tLOGIN\tplaintext"])
        program.ask(1, b"PLAIN", b"\0tim\0secret")
        self.assertEqual(program.answer(), [b"OK", b"1", b"user=tim"])
        program.ask(2, b"LOGIN")
        self.assertEqual(program.answer(), [b"CONT", b"2", base64.b64encode(b"User Name")])
        program.say(b"CONT\t2\t" + base64.b64encode(b"tim") + b"\n")
        self.assertEqual(program.answer()[:2], [b"CONT", b"2"])
        program.say(b"CONT\t2\t" + base64.b64encode(b"secret") + b"\n")
        self.assertEqual(program.answer(), [b"OK", b"2", b"user=tim"])

    def test_failures_are_the_clients_own_and_others_do_not_wait_for_them(self):
        self.start()
        program = self.program()
        program.ask(1, b"PLAIN", b"\0tim\0bad")
        program.ask(2, b"PLAIN", b"\0tim\0secret", more=b"\tsecured\trip=192.0.2.8")
        self.assertEqual(program.answer()[:2], [b"OK", b"2"])
        self.assertEqual(program.answer()[:2], [b"FAIL", b"1"])
        self.assertIn("auth: failed: user=<tim>, method=PLAIN, rip=192.0.2.7, service=smtp, ", self.service.output())

    def test_passwords_that_came_in_the_clear_are_not_looked_at(self):
        self.start()
        program = self.program()
        for more in (b"\trip=192.0.2.7", b"\trip=127.0.0.1", b""):
            program.ask(1, b"PLAIN", b"\0tim\0secret", more=more)
            self.assertEqual(program.answer()[:2], [b"FAIL", b"1"])
        self.assertNotIn("auth: failed", self.service.output())

    def test_who_breaks_the_protocol_is_cut_off(self):
        self.start()
        for words in (b"VERSION\t2\t0\n", b"CPID\t1\n", b"VERSION\t1\t0\nCPID\t9\nCONT\t4\tAAAA\n",
                      b"VERSION\t1\t0\nCPID\t9\n" + b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\n" * 2):
            program = self.program(begin=words)
            while program.answer() != [b""]:
                pass
        self.program().ask(1, b"PLAIN", b"\0tim\0secret")

    def test_more_exchanges_than_fit_are_to_come_again(self):
        self.start()
        program = self.program()
        for number in range(100):
            program.ask(number, b"LOGIN")
        answers = [program.answer() for _ in range(100)]
        self.assertEqual(sum(answer[0] == b"CONT" for answer in answers), 64)
        self.assertEqual({tuple(answer[2:]) for answer in answers if answer[0] == b"FAIL"}, {(b"temp", b"code=temp_fail")})
        for answer in answers:
            if answer[0] == b"CONT":
                program.say(b"CANCEL\t" + answer[1] + b"\n")
        program.ask(200, b"PLAIN", b"\0tim\0secret")
        self.assertEqual(program.answer()[:2], [b"OK", b"200"])

    def test_the_service_ends_while_somebody_is_judged(self):
        self.start()
        waiting, idle, gone = self.program(), self.program(), self.program()
        gone.ask(1, b"PLAIN", b"\0tim\0bad")
        gone.close()
        waiting.ask(1, b"LOGIN")
        waiting.answer()
        waiting.ask(2, b"PLAIN", b"\0tom\0bad")
        wait_until(lambda: self.service.output().count("auth: failed") == 2, "two failures")
        self.assertEqual(self.service.stop(signal.SIGTERM), 0)
        self.assertEqual(idle.answer(), [b""])


class Postfix(PeerTest):
    def start(self, auth=""):
        self.service = Authd(self.folder, auth)
        self.addCleanup(self.end, self.service)
        self.sink_process = self.sink()
        self.port = free_port()
        base = certificate(self.folder, "postfix.test")
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{self.port}", f"relay={self.sink_process.to}", "networks=192.0.2.250/32",
                        "set:smtpd_sasl_auth_enable=yes", "set:smtpd_sasl_type=dovecot", f"set:smtpd_sasl_path={self.service.socket}",
                        "set:smtpd_sasl_security_options=noanonymous", "set:smtpd_relay_restrictions=permit_sasl_authenticated, reject",
                        "set:smtpd_tls_security_level=may", f"set:smtpd_tls_cert_file={base}.pem", f"set:smtpd_tls_key_file={base}.key",
                        "set:smtpd_sasl_authenticated_header=yes")

    def client(self):
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_S)
        self.addCleanup(client.close)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.ehlo()
        return client

    def test_postfix_asks_who_its_clients_are(self):
        self.start(auth="mechanisms: [PLAIN, LOGIN, CRAM-MD5]")
        for count, mechanism in enumerate(("PLAIN", "LOGIN", "CRAM-MD5"), 1):
            client = self.client()
            self.assertIn(mechanism, client.esmtp_features["auth"].split())
            client.user, client.password = "tim", "secret"
            self.assertEqual(client.auth(mechanism, getattr(client, "auth_" + mechanism.lower().replace("-", "_")))[0], 235)
            client.sendmail("tim@client.test", ["b@elsewhere.test"], MESSAGE)
            wait_until(lambda: len(self.sink_process.messages) == count, "the message behind Postfix")
            self.assertIn(b"(Authenticated sender: tim)", self.sink_process.messages[-1][2])
        stranger = self.client()
        stranger.user, stranger.password = "tim", "bad"
        with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
            stranger.auth("PLAIN", stranger.auth_plain)
        self.assertEqual(refused.exception.smtp_code, 535)
        stranger.mail("tim@client.test")
        self.assertEqual(stranger.rcpt("b@elsewhere.test")[0], 554)
        self.assertRegex(self.service.output(), r"auth: failed: user=<tim>, method=PLAIN, rip=127\.0\.0\.1, service=smtp")


if __name__ == "__main__":
    unittest.main()
