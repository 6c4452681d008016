"""Inputs that have broken mail servers, against the whole relay over kernel sockets.

test_dpdk_hostile.py runs the same over our own TCP.
"""
import collections
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from harness import BUILD, PATIENCE_S, PEER, RELAY, Client, SystemTest, at, dialogue, free_port, wait_until

ENVELOPE = b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@example.org>\r\n"
SECOND = b"MAIL FROM:<smuggled@c.test>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"


def codes(reply):
    return [line[:3] for line in reply.decode("utf-8", "replace").split("\r\n") if re.match(r"\d{3} ", line)]


def flood(client, piece, count):
    """Until the other side has had enough."""
    try:
        for _ in range(count):
            client.send(piece)
    except OSError:
        pass


class Cases(SystemTest):
    def setUp(self):
        super().setUp()
        self.lmtp = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        self.server = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{self.lmtp.to}\"]}}", settings=self.settings())
        self.port = self.server.port

    def settings(self):
        return "limits: {message_bytes: 1M}"

    def alive(self):
        """The relay still serves others, and says how many messages had come before."""
        before = len(self.lmtp.messages)
        with Client(self.port) as client:
            client.command("EHLO alive.test")
            client.command("MAIL FROM:<alive@c.test>")
            client.command("RCPT TO:<b@example.org>")
            client.command("DATA")
            self.assertTrue(client.command(b"Subject: alive\r\n\r\nx\r\n.\r\n").startswith("250"))
        wait_until(lambda: len(self.lmtp.messages) > before and self.lmtp.messages[-1][0] == "alive@c.test", "the message")

    def test_smuggling_sequences_never_end_a_message(self):
        for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n"):
            with self.subTest(end=end):
                reply = dialogue(self.port, ENVELOPE + b"DATA\r\n", b"Subject: x\r\n\r\none" + end + SECOND
                                 + b"Subject: smuggled\r\n\r\ntwo\r\n.\r\n", b"QUIT\r\n")
                self.assertEqual(len(self.lmtp.messages), 0, reply)
                self.assertEqual(codes(reply)[:5], ["220", "250", "250", "250", "354"])
                self.assertIn(b"\r\n550 5.6.0", reply)
                self.assertEqual(codes(reply)[-1], "221")
                self.assertEqual(len(codes(reply)), 7, reply)
        self.alive()

    def test_the_end_of_data_is_found_when_cut_at_every_byte(self):
        for cut in range(1, 5):
            end = b"\r\n.\r\n"
            with Client(self.port) as client:
                for line in ENVELOPE.split(b"\r\n")[:-1]:
                    client.command(line + b"\r\n")
                client.command("DATA")
                client.send(b"Subject: cut\r\n\r\nbody" + end[:cut])
                time.sleep(0.05)
                self.assertTrue(client.command(end[cut:]).startswith("250"))
        wait_until(lambda: len(self.lmtp.messages) == 4, "four messages")
        for _, _, body in self.lmtp.messages:
            self.assertTrue(body.endswith(b"Subject: cut\r\n\r\nbody\r\n"))

    def test_dots_are_kept(self):
        with Client(self.port) as client:
            for line in ENVELOPE.split(b"\r\n")[:-1]:
                client.command(line + b"\r\n")
            client.command("DATA")
            self.assertTrue(client.command(b"H: x\r\n\r\n..\r\n...\r\n.. a\r\n.\r\n").startswith("250"))
        wait_until(lambda: self.lmtp.messages, "the message")
        self.assertTrue(self.lmtp.messages[0][2].endswith(b"H: x\r\n\r\n.\r\n..\r\n. a\r\n"))

    def test_bdat_chunks_are_joined_stuffed_and_in_sync(self):
        with Client(self.port) as client:
            client.command("EHLO c.test")
            self.assertTrue(client.command(b"BDAT 5\r\nMAIL ").startswith("503"))
            client.command("MAIL FROM:<a@c.test>")
            client.command("RCPT TO:<b@example.org>")
            self.assertTrue(client.command(b"BDAT 11\r\nH: x\r\n\r\n.do").startswith("250"))
            self.assertTrue(client.command(b"BDAT 3 LAST\r\nt\r\n").startswith("250"))
            self.assertTrue(client.command("NOOP").startswith("250"))
        wait_until(lambda: self.lmtp.messages, "the message")
        self.assertTrue(self.lmtp.messages[0][2].endswith(b"H: x\r\n\r\n.dot\r\n"))

    def test_a_chunk_of_unknown_size_ends_the_session(self):
        for wrong in ("BDAT", "BDAT -1", "BDAT x", "BDAT 18446744073709551616"):
            with Client(self.port) as client:
                for line in ENVELOPE.split(b"\r\n")[:-1]:
                    client.command(line + b"\r\n")
                self.assertTrue(client.command(wrong).startswith("501 5.5.4"), wrong)
                self.assertTrue(client.reply().startswith("421 4.7.0"), wrong)
                self.assertEqual(client.file.read(), b"")

    def test_a_chunk_above_the_size_limit_is_consumed_and_refused(self):
        with Client(self.port) as client:
            for line in ENVELOPE.split(b"\r\n")[:-1]:
                client.command(line + b"\r\n")
            size = 2 * 1024 * 1024
            client.send(b"BDAT %d LAST\r\n" % size)
            client.send(b"H: x\r\n\r\n".ljust(64, b"x") + (b"x" * 62 + b"\r\n") * (size // 64 - 1))
            self.assertTrue(client.reply().startswith("552 5.3.4"))
            self.assertTrue(client.command("NOOP").startswith("250"))

    def test_sizes(self):
        with Client(self.port) as client:
            client.command("EHLO c.test")
            self.assertTrue(client.command("MAIL FROM:<a@c.test> SIZE=99999999").startswith("552 5.3.4"))
            self.assertRegex(client.command("MAIL FROM:<a@c.test> SIZE=-1"), "^501")
            self.assertRegex(client.command("MAIL FROM:<a@c.test> SIZE=99999999999999999999999"), "^5(01|52)")
            self.assertTrue(client.command("MAIL FROM:<a@c.test> FOO=BAR").startswith("555"))
            self.assertTrue(client.command("MAIL FROM:<a@c.test> SIZE=10").startswith("250"))
            client.command("RCPT TO:<b@example.org>")
            client.command("DATA")
            client.send(b"H: x\r\n\r\n" + (b"y" * 998 + b"\r\n") * 1200)
            self.assertTrue(client.command(b".\r\n").startswith("552 5.3.4"))
            self.assertTrue(client.command("NOOP").startswith("250"))
        self.assertEqual(self.lmtp.messages, [])

    def test_long_lines_cost_bounded_memory(self):
        self.assertRegex(dialogue(self.port, b"EHLO " + b"x" * 4096 + b"\r\nQUIT\r\n"), rb"\r\n500 5\.5\.[26].*\r\n(.|\r\n)*221 |500")
        before = self.server.resident()
        reply = dialogue(self.port, b"x" * (1 << 20) + b"\r\n", b"QUIT\r\n")
        self.assertIn(b"500", reply)
        self.assertLess(self.server.resident() - before, 4 << 20)
        self.alive()

    def test_odd_octets_are_refused(self):
        with Client(self.port) as client:
            client.command("EHLO c.test")
            for sender in (b"MAIL FROM:<a\0@c.test>\r\n", b"MAIL FROM:<\xff@c.test>\r\n", b"MAIL FROM:<a\x01@c.test>\r\n",
                           "MAIL FROM:<ä@c.test>\r\n".encode()):
                self.assertRegex(client.command(sender), "^5(01|00|53|55)")
            self.assertTrue(client.command("MAIL FROM:<ä@c.test> SMTPUTF8\r\n".encode()).startswith("250"))

    def test_pipelined_envelopes_and_quit_behind_the_dot(self):
        reply = dialogue(self.port, ENVELOPE + b"DATA\r\n", b"Subject: p\r\n\r\nRCPT TO:<x@example.org>\r\n.\r\n"
                         + ENVELOPE[len(b"EHLO c.test\r\n"):] + b"DATA\r\nSubject: q\r\n\r\nq\r\n.\r\nQUIT\r\n")
        self.assertEqual(codes(reply), ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"])
        wait_until(lambda: len(self.lmtp.messages) == 2, "two messages")

    def test_other_protocols_get_one_answer(self):
        for hello in (b"GET / HTTP/1.1\r\nHost: x\r\nMAIL FROM:<a@b>\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n",
                      b"CONNECT x:25 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500):
            with self.subTest(hello=hello[:8]):
                self.assertEqual(codes(dialogue(self.port, hello)), ["220", "554"])
        self.alive()

    def test_nobody_is_believed_who_speaks_for_another(self):
        for hello, answers in ((b"PROXY TCP4 10.0.0.1 10.0.0.2 1 25\r\nEHLO c.test\r\n", ["220", "554"]),
                               (b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x0a\0\0\x01\x0a\0\0\x02\0\x01\0\x19EHLO c.test\r\n", ["220", "500", "500", "554"])):
            self.assertEqual(codes(dialogue(self.port, hello)), answers)
        with Client(self.port) as client:
            client.command("EHLO c.test")
            self.assertTrue(client.command("XCLIENT ADDR=10.0.0.1 NAME=forged.test").startswith("550 5.7.0"))
            client.command("MAIL FROM:<a@c.test>")
            client.command("RCPT TO:<b@example.org>")
            client.command("DATA")
            self.assertTrue(client.command(b"S: x\r\n\r\nx\r\n.\r\n").startswith("250"))
        wait_until(lambda: self.lmtp.messages, "the message")
        self.assertNotRegex(self.lmtp.messages[0][2], rb"10\.0\.0\.1|forged")

    def test_an_address_is_only_ever_an_address(self):
        senders = ["`id`@c.test", "${run{id}}@c.test", "|/bin/sh@c.test", "\"; touch x;\"@c.test", "\"$(id)\"@c.test", "%s%n@c.test"]
        for sender in senders:
            with Client(self.port) as client:
                client.command("EHLO c.test")
                self.assertTrue(client.command(f"MAIL FROM:<{sender}>").startswith("250"), sender)
                client.command("RCPT TO:<b@example.org>")
                client.command("DATA")
                self.assertTrue(client.command(b"S: x\r\n\r\nx\r\n.\r\n").startswith("250"))
        wait_until(lambda: len(self.lmtp.messages) == len(senders), "the messages")
        self.assertEqual(sorted(message[0] for message in self.lmtp.messages), sorted(senders))
        with Client(self.port) as client:
            client.command("EHLO c.test")
            for sender in (b"<;id;>", b"<\"a\nb\"@c.test>", b"<\"a\r\nb\"@c.test>"):
                client.send(b"MAIL FROM:" + sender + b"\r\nNOOP\r\n")
                answers = [client.reply()[:3]]
                while answers[-1] != "250":
                    answers.append(client.reply()[:3])
                self.assertRegex(" ".join(answers), "^(50[01] )+250$")

    def test_a_hundred_thousand_of_anything_meet_a_limit_and_memory_stays_flat(self):
        self.alive()
        before = self.server.resident()
        for start, line, last in ((b"", b"NOOP\r\n", "421"), (b"", b"WRONG\r\n", "421"), (b"", b"EHLO c.test\r\n", "421"),
                                  (b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\n", b"RCPT TO:<b@example.org>\r\n", "452")):
            with self.subTest(line=line):
                client = Client(self.port)
                client.send(start)
                answers = collections.Counter()
                sender = threading.Thread(target=flood, args=(client, line * 1000, 100))
                sender.start()
                for reply in client.file:
                    if reply[3:4] == b" ":
                        answers[reply[:3].decode()] += 1
                        final = reply[:3].decode()
                    if answers.total() == start.count(b"\n") + 100_000:
                        break
                sender.join()
                client.close()
                self.assertEqual(final, last)
                if last == "452":
                    self.assertEqual(answers, {"250": 2 + 1000, "452": 99_000})
                else:
                    self.assertLess(answers.total(), 300)
        self.assertLess(self.server.resident() - before, 4 << 20)
        self.alive()

    def test_a_header_section_without_end_is_refused_and_in_sync(self):
        line = b"X-Some-Name: 0123456789\r\n"
        self.alive()
        before = self.server.resident()
        for header in (line * 100_000, b"Subject: x\r\n" + b" 0123456789 0123456789\r\n" * 450_000, b"Subject: " + b"x" * (10 << 20) + b"\r\n"):
            with Client(self.port) as client:
                for command in ENVELOPE.split(b"\r\n")[:-1]:
                    client.command(command + b"\r\n")
                client.command("DATA")
                client.send(header)
                self.assertTrue(client.command(b"\r\nx\r\n.\r\n").startswith("552 5.6.0"))
                self.assertTrue(client.command("NOOP").startswith("250"))
        self.assertLess(self.server.resident() - before, 8 << 20)  # less than one of them
        self.alive()
        self.assertEqual([message[0] for message in self.lmtp.messages], ["alive@c.test"] * 2)

    def test_limits_on_recipients_and_errors(self):
        with Client(self.port) as client:
            client.command("EHLO c.test")
            client.command("MAIL FROM:<a@c.test>")
            client.send(b"".join(b"RCPT TO:<r%d@example.org>\r\n" % n for n in range(1002)))
            replies = [client.reply()[:3] for _ in range(1002)]
            self.assertEqual(replies[:1000], ["250"] * 1000)
            self.assertEqual(replies[1000:], ["452", "452"])
        reply = dialogue(self.port, b"EHLO c.test\r\n" + b"WRONG\r\n" * 2000)
        self.assertEqual(codes(reply)[-1], "421")
        self.assertLess(len(codes(reply)), 50)
        with Client(self.port) as client:
            client.command("EHLO c.test")
            self.assertTrue(client.command("RCPT TO:<b@example.org>").startswith("503"))
            client.command("MAIL FROM:<a@c.test>")
            self.assertTrue(client.command("MAIL FROM:<b@c.test>").startswith("503"))
            self.assertTrue(client.command("DATA").startswith("5"))
            self.assertTrue(client.command("VRFY b").startswith("252"))
            self.assertTrue(client.command("EXPN b").startswith("502"))

    def test_a_loop_is_cut(self):
        body = b"Received: by x\r\n" * 100 + b"\r\nloop\r\n.\r\n"
        with Client(self.port) as client:
            for line in ENVELOPE.split(b"\r\n")[:-1]:
                client.command(line + b"\r\n")
            client.command("DATA")
            self.assertTrue(client.command(body).startswith("554 5.4.6"))

    def test_a_transaction_ends_whole(self):
        with Client(self.port) as client:
            for line in ENVELOPE.split(b"\r\n")[:-1]:
                client.command(line + b"\r\n")
            client.command("EHLO again.test")
            self.assertTrue(client.command("RCPT TO:<b@example.org>").startswith("503"))
            self.assertTrue(client.command("DATA").startswith("503"))
            client.command("MAIL FROM:<a@c.test>")
            client.command("RCPT TO:<b@example.org>")
            client.command("RSET")
            self.assertTrue(client.command("RCPT TO:<b@example.org>").startswith("503"))
            for body in (b"DATA\r\n", b"BDAT 3 LAST\r\nx\ny"):
                client.command("MAIL FROM:<old@c.test>")
                client.command("RCPT TO:<b@example.org>")
                if client.command(body).startswith("354"):
                    self.assertTrue(client.command(b"x\ny\r\n.\r\n").startswith("550"))
                self.assertTrue(client.command("RCPT TO:<b@example.org>").startswith("503"))
        self.alive()
        self.assertEqual([message[0] for message in self.lmtp.messages], ["alive@c.test"])

    def test_a_torn_message_leaves_nothing(self):
        for torn in (b"DATA\r\nSubject: torn\r\n\r\nhalf", b"BDAT 100 LAST\r\nhalf"):
            with Client(self.port) as client:
                for line in ENVELOPE.split(b"\r\n")[:-1]:
                    client.command(line + b"\r\n")
                client.send(torn)
        self.alive()
        self.assertEqual([m[0] for m in self.lmtp.messages], ["alive@c.test"])

    def test_text_of_peers_cannot_forge_lines(self):
        with Client(self.port) as client:
            client.command(b"EHLO x\x1b[31m%s%n\r\n")
            client.command("EHLO c.test")
            client.command("MAIL FROM:<a@c.test>")
            client.command("RCPT TO:<b@example.org>")
            client.command("DATA")
            self.assertTrue(client.command(b"S: x\r\n\r\nx\r\n.\r\n").startswith("250"))
        wait_until(lambda: self.lmtp.messages, "the message")
        self.assertNotIn(b"\x1b", self.lmtp.messages[0][2])
        self.assertNotIn("\x1b", self.server.output())

    def test_a_thousand_slow_clients_leave_others_unharmed(self):
        slow = []
        for _ in range(1000):
            s = socket.create_connection((RELAY, self.port), 30)
            slow.append(s)
        stop = threading.Event()

        def drip():
            text = b"EHLO slow.test\r\nMAIL FROM:<a@c.test>\r\n" * 10
            for byte in text:
                if stop.wait(0.5):
                    return
                for s in slow:
                    s.send(bytes([byte]))
        dripper = threading.Thread(target=drip)
        dripper.start()
        try:
            started = time.monotonic()
            for _ in range(5):
                self.alive()
            self.assertLess(time.monotonic() - started, 20)
        finally:
            stop.set()
            dripper.join()
            for s in slow:
                s.close()


class Normalize(SystemTest):
    def test_bare_newlines_become_lines_and_never_a_second_message(self):
        lmtp = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{lmtp.to}\"]}}",
                           settings="smtp: {bare_newline: normalize}")
        ends = (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n")
        for end in ends:
            reply = dialogue(relay.port, ENVELOPE + b"DATA\r\n", b"Subject: x\r\n\r\none" + end + SECOND + b"two\r\n.\r\nQUIT\r\n")
            self.assertEqual(codes(reply), ["220", "250", "250", "250", "354", "250", "221"])
        wait_until(lambda: len(lmtp.messages) >= len(ends), "the messages")
        self.assertEqual([message[0] for message in lmtp.messages], ["a@c.test"] * len(ends))
        for _, _, body in lmtp.messages:
            self.assertNotRegex(body, rb"(^|[^\r])\n")
            self.assertTrue(body.endswith(SECOND + b"two\r\n"))


class Greeting(SystemTest):
    """Clients that speak before they are greeted, as Postfix's postscreen treats them."""

    def start(self, action):
        self.slow = free_port()
        self.server = self.relay("  - {match: example.org, via: discard, accept_from: anyone}", settings="relay_networks: [10.0.0.0/8]",
                                 listen=(self.listener(action),))

    def listener(self, action):
        return f'{{name: slow, address: ["{at(RELAY, self.slow)}"], greet_wait: 3s, greet_action: {action}}}'

    def early(self):
        return json.loads(self.server.ctl("--json", "status").stdout)["counters"]["relay"]["connections_pregreet"]

    def test_who_waits_is_greeted_and_who_does_not_is_dropped_and_counted(self):
        self.start("drop")
        began = time.monotonic()
        with Client(self.slow) as client:
            self.assertGreater(time.monotonic() - began, 2.5)
            self.assertTrue(client.greeting.startswith("220 "))
            self.assertTrue(client.command("EHLO c.test").startswith("250"))
        self.assertEqual(self.early(), 0)
        self.assertEqual(dialogue(self.slow, ENVELOPE), b"521 5.5.1 Protocol error\r\n")
        self.assertEqual(self.early(), 1)
        self.assertRegex(self.server.output(), rf"smtp: PREGREET {len(ENVELOPE)} after \d\.\d\d from \[{re.escape(PEER)}\]:\d+: EHLO c")

    def test_a_reload_decides_what_becomes_of_those_who_do_not_wait(self):
        self.start("drop")
        with open(self.server.config) as f:
            text = f.read()
        with open(self.server.config, "w") as f:
            f.write(text.replace("greet_action: drop", "greet_action: enforce"))
        self.server.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: codes(dialogue(self.slow, ENVELOPE + b"QUIT\r\n")) == ["220", "250", "250", "550", "221"], "the new action")
        self.assertIn("reject: RCPT: 550 5.5.1 Protocol error", self.server.output())


class Impatient(SystemTest):
    def test_a_body_that_does_not_wait_for_the_refusal_of_its_data_is_never_run(self):
        path = os.path.join(self.folder, "in")
        self.relay("  - {match: example.org, via: discard}", listen=(f'{{name: unix, address: ["unix:{path}"]}}',))
        for waits in (False, True):
            with self.subTest(waits=waits), socket.socket(socket.AF_UNIX) as s:
                s.settimeout(PATIENCE_S)
                s.connect(path)
                s.sendall(b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@nowhere.test>\r\nDATA\r\n")
                wait_until(lambda s=s: len(codes(s.recv(65536, socket.MSG_PEEK))) == 5, "the refusal")
                said = s.recv(65536) if waits else b""
                s.sendall(b"RSET\r\n" + SECOND)
                if not waits:  # nor reads what has come
                    wait_until(lambda s=s: len(codes(s.recv(65536, socket.MSG_PEEK))) > 5, "an answer")
                while codes(said)[-1:] not in (["421"], ["354"]):
                    said += s.recv(65536)
                self.assertEqual(codes(said)[3:], ["554", "554", "250", "250", "250", "354"] if waits else ["554", "554", "421"])


class Drip(SystemTest):
    def test_a_message_that_drips_ends_and_one_at_the_least_rate_is_taken(self):
        relay = self.relay("  - {match: example.org, via: discard}", settings="timeouts: {data: 5s}\nlimits: {data_rate_min: 1000}")
        with Client(relay.port) as slow, Client(relay.port) as steady:
            for client in (slow, steady):
                for command in ("EHLO c.test", "MAIL FROM:<a@c.test>", "RCPT TO:<b@example.org>", "DATA"):
                    self.assertRegex(client.command(command), "^[23]")
            slow.socket.settimeout(0.25)
            said = b""
            for _ in range(4 * PATIENCE_S):
                steady.send(b"x" * 498 + b"\r\n")
                try:
                    slow.send(b"x")
                    said = slow.socket.recv(1000)
                    break
                except TimeoutError:
                    pass
            self.assertTrue(said.startswith(b"421 4.4.2"), said)
            self.assertTrue(steady.command(b".\r\n").startswith("250"))
        self.assertIn("smtp: timeout after DATA from ", relay.output())


class NoOpenRelay(SystemTest):
    def test_strangers_reach_only_our_destinations_by_any_address_form(self):
        sink = self.sink()
        relay = self.relay(f"  - {{match: example.org, via: smtp, to: [\"{sink.to}\"]}}\n"
                           f"  - {{match: \"*\", via: smtp, to: [\"{sink.to}\"]}}", settings="relay_networks: [10.0.0.0/8]")
        with Client(relay.port) as client:
            client.command("EHLO stranger.test")
            client.command("MAIL FROM:<a@stranger.test>")
            for path in ("user@victim.test", "user%victim.test@example.org", "@a,@b:user@victim.test",
                         "@example.org:user@victim.test", "victim.test!user", "victim.test!user@example.org",
                         "\"user@victim.test\"@example.org", "user@victim.test@example.org", "user@[127.0.0.1]",
                         "\"user\"@victim.test", "user", "", "@example.org"):
                reply = client.command(f"RCPT TO:<{path}>")
                self.assertRegex(reply, "^5", path)
                if reply.startswith("421"):
                    break
                client.command("NOOP")
            self.assertTrue(client.command("RCPT TO:<user@EXAMPLE.org>").startswith("250"))


class NoShell(unittest.TestCase):
    def test_the_services_cannot_start_a_program(self):
        for program in ("tubepostd", "tubepost-mailboxd"):
            names = subprocess.run(["nm", "-D", "--undefined-only", os.path.join(BUILD, program)], check=True, capture_output=True, text=True).stdout
            self.assertIn(" write", names)
            self.assertNotRegex(names, r" (system|popen|wordexp|v?fork|exec[a-z]+|posix_spawnp?)(@|\n)")


if __name__ == "__main__":
    unittest.main()
