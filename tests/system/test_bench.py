"""tubepost-bench as a program, against itself and against Postfix's smtp-source and smtp-sink.

The generator judges the relay, so it is judged first, by tools that others wrote.
"""
import contextlib
import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BUILD, TOP, SystemTest, free_port, wait_until
from test_mailboxd_store import Store
from tls_peers import certificate

BENCH = os.path.join(BUILD, "tubepost-bench")
PEERS = os.path.join(TOP, "scripts/peers")


def wait_for_port(port, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def sink(port, *options):
    process = subprocess.Popen([BENCH, "sink", "--listen", f"127.0.0.1:{port}", "--seconds", "60", "--json", *options],
                               stdout=subprocess.PIPE, text=True)
    try:
        wait_for_port(port)
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def finished(process):
    """The sink's report, after it was asked to stop."""
    process.send_signal(signal.SIGTERM)
    return json.loads(process.stdout.readline())


def source(port, *options):
    result = subprocess.run([BENCH, "source", "--to", f"127.0.0.1:{port}", "--json", *options],
                            stdout=subprocess.PIPE, text=True, timeout=60)
    return result.returncode, json.loads(result.stdout)


class BenchAgainstItself(unittest.TestCase):
    def test_every_letter_is_proven_and_both_files_agree(self):
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            acked, received = os.path.join(folder, "acked"), os.path.join(folder, "received")
            with sink(port, "--received", received) as process:
                code, sent = source(port, "--count", "500", "--connections", "7", "--recipients", "3", "--pace", "group",
                                    "--acked", acked)
                taken = finished(process)
            self.assertEqual((code, sent["acknowledged"], taken["proven"], taken["deliveries"]), (0, 500, 500, 1500))
            self.assertEqual((taken["deliveries_missing"], taken["deliveries_repeated"], taken["damaged"]), (0, 0, 0))
            with open(acked) as file:
                promised = {tuple(line.split()[:4]) for line in file}
            with open(received) as file:
                arrived = {tuple(line.split()[:4]) for line in file if line.split()[4] == "ok"}
            self.assertEqual(len(promised), 500)
            self.assertEqual(promised, arrived)

    def test_sink_tells_a_damaged_and_a_repeated_letter(self):
        port, front = free_port(), free_port()
        with sink(port) as process, socket.create_server(("127.0.0.1", front)) as server:
            sender = subprocess.Popen([BENCH, "source", "--to", f"127.0.0.1:{front}", "--count", "1", "--connections", "1",
                                       "--size", "2000", "--json"], stdout=subprocess.PIPE)
            message = self.take_one(server)
            sender.communicate(timeout=30)
            body_at = message.index(b"\r\n\r\n") + 4
            flipped = bytes([message[body_at + 10] ^ 1])
            damaged = message[:body_at + 10] + flipped + message[body_at + 11:]
            for content in (message, message, damaged):
                self.give_one(port, content)
            report = finished(process)
        self.assertEqual((report["proven"], report["deliveries"], report["deliveries_repeated"], report["damaged"]),
                         (2, 1, 1, 1))

    def test_recipients_are_spread_over_domains_and_users_at_every_pace(self):
        for spread, form in (("--domains", "r{0}@d000000{1}.x.example"), ("--users", "u000000{1}@x.example")):
            for pace in ("command", "group", "deep", "bdat"):
                with socket.create_server(("127.0.0.1", 0)) as server:
                    sender = subprocess.Popen([BENCH, "source", "--to", f"127.0.0.1:{server.getsockname()[1]}", "--count", "3",
                                               "--connections", "1", "--recipients", "2", spread, "4", "--pace", pace,
                                               "--domain", "x.example"], stdout=subprocess.DEVNULL)
                    recipients = self.take_recipients(server)
                    self.assertEqual(sender.wait(30), 0)
                self.assertEqual(recipients, [form.format(number % 2, number % 4) for number in range(6)], (spread, pace))

    def take_recipients(self, server):
        recipients = []
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 test\r\n")
            for line in lines:
                word = line[:4].upper()
                if word == b"RCPT":
                    recipients.append(line.decode().split("<")[1].split(">")[0])
                elif word == b"DATA":
                    connection.sendall(b"354 go\r\n")
                    while lines.readline() != b".\r\n":
                        pass
                elif word == b"BDAT":
                    lines.read(int(line.split()[1]))
                connection.sendall(b"250 ok\r\n" if word != b"QUIT" else b"221 bye\r\n")
                if word == b"QUIT":
                    break
        return recipients

    def take_one(self, server):
        """A letter in wire form, without the end, from the source that connects."""
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 test\r\n")
            message = b""
            for line in lines:
                word = line[:4].upper()
                if word == b"DATA":
                    connection.sendall(b"354 go\r\n")
                    while (text := lines.readline()) != b".\r\n":
                        message += text
                connection.sendall(b"250 ok\r\n" if word != b"QUIT" else b"221 bye\r\n")
                if word == b"QUIT":
                    return message
        return message

    def give_one(self, port, content):
        with socket.create_connection(("127.0.0.1", port), 10) as connection, connection.makefile("rb") as lines:
            lines.readline()
            for command in (b"MAIL FROM:<a@b.example>", b"RCPT TO:<r0@bench.example>", b"DATA"):
                connection.sendall(command + b"\r\n")
                self.assertIn(lines.readline()[:1], b"23")
            connection.sendall(content + b".\r\n")
            self.assertEqual(lines.readline()[:3], b"250")

    def test_source_survives_a_server_that_is_killed_and_comes_back(self):
        port = free_port()
        sender = subprocess.Popen([BENCH, "source", "--to", f"127.0.0.1:{port}", "--seconds", "3", "--connections", "5",
                                   "--json"], stdout=subprocess.PIPE, text=True)
        for _ in range(3):
            with sink(port):
                time.sleep(0.4)
        with sink(port):
            report = json.loads(sender.communicate(timeout=60)[0])
        self.assertGreater(report["connections_lost"], 0)
        self.assertGreater(report["acknowledged"], 100)
        self.assertEqual(report["issued"], report["acknowledged"] + report["unanswered"])

    def test_python_speaks_to_the_sink(self):
        port = free_port()
        with sink(port) as process:
            with smtplib.SMTP("127.0.0.1", port) as client:
                client.sendmail("a@b.example", ["c@d.example", "e@f.example"], "Subject: x\r\n\r\nhello\r\n.dot\r\n")
            report = finished(process)
        self.assertEqual((report["taken"], report["foreign"], report["commands_refused"]), (1, 1, 0))

    def test_nobody_there_is_a_failure(self):
        code, report = source(free_port(), "--seconds", "0.3")
        self.assertEqual((code, report["acknowledged"]), (1, 0))
        self.assertIn("refused", report["first_trouble"])


@unittest.skipUnless(os.geteuid() == 0, "unpacking and running Postfix's tools takes root")
class BenchAgainstPostfixTools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run([PEERS, "fetch", "postfix"], check=True, stdout=subprocess.DEVNULL)

    def test_smtp_source_is_taken_whole(self):
        for lmtp in (False, True):
            port = free_port()
            with self.subTest(lmtp=lmtp), sink(port, *(["--lmtp"] if lmtp else [])) as process:
                subprocess.run([PEERS, "run", "postfix", "smtp-source", "-s", "5", "-m", "200", "-l", "4096", "-N",
                                *(["-L"] if lmtp else []), f"127.0.0.1:{port}"], check=True, timeout=60)
                report = finished(process)
                self.assertEqual((report["taken"], report["torn"], report["bare_lf"], report["commands_refused"]),
                                 (200, 0, 0, 0))

    def test_smtp_sink_takes_every_pace(self):
        for lmtp in (False, True):
            port = free_port()
            peer = subprocess.Popen([PEERS, "run", "postfix", "smtp-sink", "-u", "nobody", *(["-L"] if lmtp else []), f"127.0.0.1:{port}", "100"],
                                    stderr=subprocess.DEVNULL)
            try:
                wait_for_port(port)
                for pace in ("command", "group", "deep"):
                    with self.subTest(lmtp=lmtp, pace=pace):
                        code, report = source(port, "--count", "200", "--connections", "4", "--pace", pace,
                                              *(["--lmtp"] if lmtp else []))
                        self.assertEqual((code, report["acknowledged"], report.get("first_trouble")), (0, 200, None))
            finally:
                peer.terminate()
                peer.wait()


class Logins(SystemTest):
    def logins(self, *words):
        run = subprocess.run([BENCH, "logins", "--json", "--connections", "4", "--seconds", "1.5", *words], capture_output=True, text=True, timeout=60)
        return run.returncode, json.loads(run.stdout)

    def test_logins_are_counted_and_sessions_are_resumed(self):
        service = Store(self.folder, certificates=[certificate(self.folder, "mail.test")],
                        auth="clear_on_loopback: true, mechanisms: [PLAIN, SCRAM-SHA-256]")
        self.addCleanup(self.end, service)
        with open(os.path.join(self.folder, "users"), "a") as file:
            file.writelines(f"u000000{number}:{{PLAIN}}secret\n" for number in range(3))
        for mechanism in ("plain", "scram-sha-256"):
            with self.subTest(mechanism=mechanism):
                code, report = self.logins("--to", f"127.0.0.1:{service.imaps}", "--tls", "--mechanism", mechanism, "--users", "3")
                self.assertEqual((code, report["refused"], report["lost"], report["tls_failed"]), (0, 0, 0, 0), report)
                self.assertGreater(report["logins"], 0)
                self.assertLessEqual(report["tls_handshakes"] - report["tls_resumed"], 4)  # the first of each connection
        code, report = self.logins("--to", f"127.0.0.1:{service.imap}")
        self.assertEqual((code, "tls_handshakes" in report), (0, False))
        code, report = self.logins("--to", f"127.0.0.1:{service.imaps}", "--tls", "--mechanism", "scram-sha-256", "--password", "wrong")
        self.assertEqual((code, report["logins"]), (1, 0))  # the answers wait longer than it does


class Queue(unittest.TestCase):
    def test_every_recipient_that_was_queued_is_there_after_the_restart(self):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([BENCH, "queue", "--folder", folder, "--count", "3000", "--size", "600", "--json"],
                                 capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)
        figures = json.loads(run.stdout)
        self.assertEqual((figures["recipients"], figures["recovered"]), (3000, 3000))
        self.assertGreater(figures["spool_bytes_each"], 100)
        self.assertLess(figures["restart_s"], 30)


RUNNING = """
import sys, time
sys.path.insert(0, {bench!r})
import mailbox_rig, rig
rig.end_in_order()
mailbox_rig.LMTP, mailbox_rig.IMAP = {ports}
rig.ports_need(*{ports})
server = mailbox_rig.Tubepost({folder!r}, {build!r}, mailbox_rig.Needs())
with server.running(1):
    print(server.process.pid, flush=True)
    time.sleep(120)
"""


class End(SystemTest):
    """Of a bench that is ended early nothing is left: the next one has its ports."""

    def begin(self, ports):
        code = RUNNING.format(bench=os.path.join(TOP, "bench"), ports=ports, folder=self.folder, build=BUILD)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end_check(self, how, code):
        ports = (free_port(), free_port())
        with self.begin(ports) as bench:
            self.addCleanup(bench.kill)
            server = int(bench.stdout.readline())
            bench.send_signal(how)
            self.assertEqual(bench.wait(60), code)
        wait_until(lambda: not os.path.exists(f"/proc/{server}"), "the end of the server")
        with self.begin(ports) as again:
            self.addCleanup(again.kill)
            self.assertGreater(int(again.stdout.readline()), 0)
            again.send_signal(signal.SIGTERM)

    def test_the_servers_of_one_that_is_asked_to_end_end_with_it(self):
        self.end_check(signal.SIGTERM, 128 + signal.SIGTERM)
        self.assertEqual(os.listdir(self.folder), [])

    def test_the_servers_of_one_that_is_killed_end_with_it(self):
        self.end_check(signal.SIGKILL, -signal.SIGKILL)

    def test_ports_that_are_taken_are_told_before_anything_is_begun(self):
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as other:
            port = other.getsockname()[1]
            with self.begin((port, free_port())) as bench:
                _, said = bench.communicate(timeout=60)
        self.assertEqual(bench.returncode, 1)
        self.assertIn(f"port {port}: Address already in use", said)
        self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    unittest.main()
