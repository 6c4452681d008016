"""Next hops that break clients, against the whole relay: over kernel sockets here, over our own TCP by test_dpdk_hostile.py."""
import os
import re
import smtplib
import socket
import time
import unittest

from harness import RELAY, Client, Sink, SystemTest, wait_until

MESSAGE = b"Subject: hello\r\n\r\nline\r\n"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 62 + b"\r\n") * (8 << 14)
SLOW = "retry: {first: 1h, limit: 1h, jitter_pct: 0}\n"
QUICK = "retry: {first: 300ms, limit: 1s, jitter_pct: 0}\n"
IMPATIENT = ("timeouts: {greeting: 1s, reply: 1s, data_start: 1s, data_block: 1s, data_end: 1s, quit: 200ms}\n"
             "limits: {message_bytes: 32M}\n")


class Hop(Sink):
    """A sink of which one answer is made by `act`: it is given the connection and the file, and says what is said there.

    at: the command ("connect", "EHLO", ..., "." for the end of data), or "body": in place of reading the message.
    """

    def __init__(self, at, act, **kwargs):
        self.at, self.act = at, act
        self.commands, self.ended = [], 0
        super().__init__(**kwargs)

    def serve(self, connection):
        connection.settimeout(30)
        try:
            with connection, connection.makefile("rwb") as f:
                f.peer = connection
                self.dialogue(f)
        except (OSError, ValueError):
            pass
        self.ended += 1

    def answer(self, f, command, argument, usual):
        self.commands.append(command)
        if command == self.at:
            f.flush()
            self.act(f.peer, f)
            raise OSError("that was all")
        return super().answer(f, command, argument, usual)

    def read_body(self, f):
        if self.at == "body":
            self.act(f.peer, f)
            raise OSError("that was all")
        return super().read_body(f)


def says(text):
    def act(peer, f):
        peer.sendall(text)
        peer.recv(1)  # what the relay makes of it: it closes
    return act


def endless(peer, f):
    while True:
        peer.sendall(b"250-more\r\n" * 1000)


def silence(peer, f):
    while peer.recv(65536):
        pass


def closed_window(peer, f):
    while peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1:  # ESTABLISHED
        time.sleep(0.1)


def drips(peer, f):
    for byte in b"250 2.0.0 " + b"o" * 200:
        time.sleep(0.2)
        peer.sendall(bytes([byte]))


def sips(peer, f):
    # Of a receive buffer of 8 KiB: less at a time would not open the window at all.
    for _ in range(100):
        time.sleep(0.3)
        if not peer.recv(1500):
            return


class NextHops(SystemTest):
    def start(self, hops, settings, good=True):
        """A relay with a route to each hop by its name, and, for "good.test", to one that has no faults."""
        self.good = self.sink()
        routes = [f"  - {{match: {name}.test, via: smtp, to: [\"{hop.to}\"], connections: 1}}" for name, hop in hops.items()]
        routes.append(f"  - {{match: \"*\", via: smtp, to: [\"{self.good.to}\"]}}")
        self.running = self.relay("\n".join(routes), settings=settings)
        return self.running

    def hop(self, *args, **kwargs):
        hop = Hop(*args, **kwargs)
        self.addCleanup(hop.close)
        return hop

    def send(self, *domains, body=MESSAGE):
        with smtplib.SMTP(RELAY, self.running.port, timeout=60) as smtp:
            for domain in domains:
                smtp.sendmail("a@good.test", [f"u@{domain}.test"], body)

    def deferred(self, name):
        """Why the mail for it waits; None as long as nothing is known."""
        line = re.search(rf"to=<u@{name}\.test>, .*status=deferred \((?:conversation with \S+: )?(.*)\)", self.running.output())
        return line and line.group(1)

    def others_are_served(self):
        before = len(self.good.messages)
        self.send("good")
        wait_until(lambda: len(self.good.messages) > before, "mail for somebody else", 10)

    def test_replies_that_are_none_put_mail_off_and_cost_bounded_memory(self):
        texts = {"longline": b"250 " + b"x" * (1 << 20) + b"\r\n", "changes": b"250-one\r\n251 two\r\n", "letter": b"25x ok\r\n",
                 "blank": b"2 50 ok\r\n", "empty": b"\r\n", "high": b"999 ok\r\n", "bare": b"250-a\r\n\r\n250 b\r\n"}
        hops = {"endless-ehlo": self.hop("EHLO", endless), "endless-dot": self.hop(".", endless)}
        for name, text in texts.items():
            for at in ("connect", "EHLO", "MAIL", "."):
                hops[f"{name}-{at.replace('.', 'dot').lower()}"] = self.hop(at, says(text))
        self.start(hops, SLOW + IMPATIENT)
        self.others_are_served()
        before = self.running.resident()
        self.send(*hops)
        self.others_are_served()
        for name, hop in hops.items():
            with self.subTest(name):
                self.assertEqual(wait_until(lambda: self.deferred(name), "what became of it"), "malformed reply")
                wait_until(lambda: hop.ended, "the end of the connection")
                self.assertEqual(hop.messages, [])
        self.assertLess(self.running.resident() - before, 16 << 20)

    def test_silence_closed_windows_and_drips_end_with_the_time_limits(self):
        hops = {at.lower(): self.hop(at, silence) for at in ("connect", "EHLO", "MAIL", "RCPT", "DATA")}
        hops.update({"dot": self.hop(".", silence), "window": self.hop("body", closed_window),
                     "says": self.hop("EHLO", drips), "greets": self.hop("connect", drips),
                     "reads": self.hop("body", sips)})
        hops["reads"].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hops["window"].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.start(hops, QUICK + IMPATIENT)
        self.send(*(name for name in hops if name not in ("window", "reads")))
        self.send("window", "reads", body=LARGE)
        self.others_are_served()
        for name, hop in hops.items():
            with self.subTest(name):
                self.assertEqual(wait_until(lambda: self.deferred(name), "what became of it", 20), "timed out")
                wait_until(lambda: hop.connections > 1, "the one connection to be free for the next attempt", 20)
                self.assertEqual(hop.messages, [])

    def test_a_hop_that_does_not_bear_pipelining_is_served_without_it(self):
        class Forgetful(Hop):  # reads a command, and throws away what came with it
            def answer(self, f, command, argument, usual):
                f.peer.setblocking(False)
                forgotten = f.peek(1)  # what the file has read already
                f.read1(len(forgotten)) if forgotten else None
                f.peer.settimeout(30)
                return super().answer(f, command, argument, usual)

        class OutOfStep(Hop):  # answers DATA before RCPT when it has both
            def answer(self, f, command, argument, usual):
                f.peer.setblocking(False)
                both = command == "RCPT" and b"DATA" in (f.peek(1) or b"")
                f.peer.settimeout(30)
                if both:
                    f.write(b"354 go on\r\n")
                return super().answer(f, command, argument, usual)
        hops = {}
        for name, kind in (("forgetful", Forgetful), ("outofstep", OutOfStep)):
            hops[name] = kind(None, None)
            self.addCleanup(hops[name].close)
        self.start(hops, QUICK + IMPATIENT)
        self.send(*hops)
        for name, hop in hops.items():
            wait_until(lambda: hop.messages, f"mail for {name}")
            self.assertEqual([(sender, to) for sender, to, _ in hop.messages], [("a@good.test", [f"u@{name}.test"])])
        self.assertEqual(self.running.output().count("does not bear PIPELINING"), 2)
        self.send(*hops)
        for name, hop in hops.items():
            wait_until(lambda: len(hop.messages) == 2, f"more mail for {name}")
        self.assertEqual(self.running.output().count("status=deferred"), 2)  # it is remembered

    def test_what_a_hop_cannot_take_is_returned_without_a_try(self):
        hops = {"small": self.hop(None, None, extensions=("SIZE 1000",)), "seven": self.hop(None, None, extensions=("SIZE",)),
                "ascii": self.hop(None, None, extensions=("8BITMIME",))}
        self.start(hops, SLOW)
        self.send("small", body=MESSAGE + b"x" * 60 + b"\r\n" + (b"y" * 62 + b"\r\n") * 20)
        with Client(self.running.port) as client:
            client.command("EHLO c.test")
            for envelope in (("MAIL FROM:<a@good.test> BODY=8BITMIME", "RCPT TO:<u@seven.test>"),
                             ("MAIL FROM:<a@good.test> SMTPUTF8", "RCPT TO:<\u00fc@ascii.test>")):
                for command in (*envelope, "DATA"):
                    self.assertIn(client.command(command)[0], "23")
                self.assertTrue(client.command("Subject: x\r\n\r\n\u00fc\r\n.\r\n".encode()).startswith("250"))
        wait_until(lambda: len(self.good.messages) == 3, "three reports")
        reports = b"".join(body for _, _, body in self.good.messages)
        for status in (b"5.3.4", b"5.6.3", b"5.6.7"):
            self.assertIn(b"Status: " + status, reports)
        for hop in hops.values():
            self.assertNotIn("MAIL", hop.commands)

    def test_an_answer_that_is_lost_is_the_one_cause_of_a_second_copy(self):
        taken = []

        def reply(command, argument):
            if command == ".":
                taken.append(argument)
                return "close" if len(taken) == 1 else None
            return None
        hop = self.sink(reply=reply)
        self.start({"lost": hop}, QUICK)
        self.send("lost")
        wait_until(lambda: hop.messages, "the second copy")
        self.assertEqual(taken[0], taken[1])  # the same Received: and id: who looks can tell that it is one message
        wait_until(lambda: "queue_id" not in self.running.ctl("--json", "queue", "list").stdout, "an empty queue")
        self.assertEqual(len(taken), 2)


if __name__ == "__main__":
    unittest.main()
