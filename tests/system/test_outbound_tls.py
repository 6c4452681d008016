"""TLS to next hops: what each level takes and refuses, and what comes of it."""
import json
import re
import signal
import smtplib
import ssl
import unittest

from harness import RELAY, SystemTest, wait_until
from tls_peers import TlsSink, certificate, run_openssl, server_context

QUICK = "retry: {first: 300ms, limit: 1s, expire: 120s, jitter_pct: 0}\n"
WAITS, CLEAR, TLS = "waits", "in the clear", "by TLS"
# What a next hop does, and what each level makes of it.
MATRIX = {
    #               none   opportunistic  required  verified
    "hidden":      (CLEAR, CLEAR,         WAITS,    WAITS),
    "refusing":    (CLEAR, CLEAR,         WAITS,    WAITS),
    "garbage":     (CLEAR, CLEAR,         WAITS,    WAITS),
    "other-name":  (CLEAR, TLS,           TLS,      WAITS),
    "expired":     (CLEAR, TLS,           TLS,      WAITS),
    "self-signed": (CLEAR, TLS,           TLS,      WAITS),
    "good":        (CLEAR, TLS,           TLS,      TLS),
}
LEVELS = ("none", "opportunistic", "required", "verified")
REASONS = {
    "hidden": "4.7.4 TLS is required, but was not offered",
    "refusing": "4.7.4 TLS is required, but was refused: 454 4.7.0 not today",
    "garbage": "4.7.5 Cannot start TLS: ",
    "other-name": "4.7.5 Server certificate not verified: hostname mismatch",
    "expired": "4.7.5 Server certificate not verified: certificate has expired",
    "self-signed": "4.7.5 Server certificate not verified: self-signed certificate",
}


class OutboundTls(SystemTest):
    def setUp(self):
        super().setUp()
        self.authority = certificate(self.folder, "authority.test")
        self.hop = certificate(self.folder, "hop.test", self.authority)

    def tls_sink(self, base=None, authority=None, **kwargs):
        sink = TlsSink(server_context(base or self.hop, authority), **kwargs)
        self.addCleanup(sink.close)
        return sink

    def start(self, routes, settings="", **kwargs):
        lines = [f"  - {{match: {match}, to: [\"{sink.to}\"], {more}}}" for match, sink, more in routes]
        self.running = self.relay("\n".join(lines), settings=QUICK + settings, **kwargs)
        return self.running

    def trusting(self, more=""):
        return f"tls: {{authorities: {self.authority}.pem{more}}}\n"

    def send(self, *domains, body=b"Subject: tls\r\n\r\nx\r\n"):
        with smtplib.SMTP(RELAY, self.running.port, timeout=60) as smtp:
            for domain in domains:
                smtp.sendmail("a@client.test", [f"b@{domain}"], body)

    def connect_lines(self, sink):
        return [line for line in self.running.output().splitlines() if f"connect to {sink.to}: " in line]

    def recipient_is_told_of(self, recipient, sink, reason):
        """In the log, as Postfix has it, and in the queue."""
        dsn, words = reason.split(" ", 1)
        said = wait_until(lambda: re.search(rf"smtp: (\S+): to=<{recipient}>, relay={sink.to}, dsn={dsn}, status=deferred \({words}",
                                            self.running.output()), f"the line of {recipient}")
        shown = self.running.ctl("queue", "show", said[1]).stdout
        self.assertRegex(shown, rf"deferred +{recipient}\n.*\n +\({reason}")

    def test_every_level_with_every_fault(self):
        bases = {"other-name": certificate(self.folder, "other.test", self.authority),
                 "expired": certificate(self.folder, "hop.test", self.authority, days=-1, file="expired"),
                 "self-signed": certificate(self.folder, "hop.test", file="alone")}
        answers = {"hidden": "hidden", "refusing": "454 4.7.0 not today", "garbage": "garbage"}
        sinks, routes = {}, []
        for fault in MATRIX:
            for level in LEVELS:
                sink = sinks[fault, level] = self.tls_sink(bases.get(fault), starttls=answers.get(fault))
                routes.append((f"{level}.{fault}.test", sink, f"tls: {level}, tls_names: [hop.test]"))
        self.start(routes, self.trusting())
        self.send(*(match for match, _, _ in routes))
        for (fault, level), sink in sinks.items():
            with self.subTest(fault=fault, level=level):
                expected = MATRIX[fault][LEVELS.index(level)]
                if expected == WAITS:
                    line = wait_until(lambda: self.connect_lines(sink), f"the complaint about {fault} at {level}")[0]
                    self.assertIn(REASONS[fault], line)
                    self.recipient_is_told_of(f"b@{level}.{fault}.test", sink, REASONS[fault])
                else:
                    wait_until(lambda: sink.messages, f"mail by {level} to {fault}")
                    self.assertEqual(sink.secured, 1 if expected == TLS else 0)
                    self.assertEqual(self.connect_lines(sink), [])
        for (fault, level), sink in sinks.items():
            if MATRIX[fault][LEVELS.index(level)] == WAITS:
                self.assertEqual(sink.messages, [], f"{level} must not send to {fault}")
        report = {line["domain"]: line for line in map(json.loads, self.running.ctl("--json", "tls", "report").stdout.splitlines())}
        self.assertEqual(report["required.good.test"]["results"], {"success": 1})
        self.assertEqual(report["opportunistic.hidden.test"]["results"], {"starttls-not-supported": 1})
        self.assertEqual(set(report["verified.expired.test"]["results"]), {"certificate-expired"})
        self.assertEqual(set(report["verified.other-name.test"]["results"]), {"certificate-host-mismatch"})
        self.assertEqual(set(report["verified.self-signed.test"]["results"]), {"certificate-not-trusted"})
        self.assertNotIn("none.good.test", report)
        printed = self.running.ctl("tls", "report").stdout
        self.assertRegex(printed, r"required\.good\.test +no-policy-found +1 +0\n")
        status = json.loads(self.running.ctl("--json", "status").stdout)["counters"]["tls_to_next_hops"]
        self.assertEqual(status["success"], sum(row.count(TLS) for row in MATRIX.values()))
        log = self.running.output()
        for (fault, level), word in {("good", "verified"): "Verified", ("good", "opportunistic"): "Trusted",
                                     ("self-signed", "required"): "Untrusted"}.items():
            self.assertRegex(log, f"{word} TLS connection established to {sinks[fault, level].to}: TLSv1.3 with cipher TLS_\\S+ ")

    def test_a_failed_handshake_is_remembered_for_the_address_but_not_for_stricter_levels(self):
        sink = self.tls_sink(starttls="garbage")
        self.start([("may.test", sink, "tls: opportunistic, messages_per_connection: 1"),
                    ("must.test", sink, "tls: required")], self.trusting())
        self.send("may.test")
        wait_until(lambda: sink.messages, "mail in the clear")
        self.assertEqual(self.running.output().count("no handshake"), 1)
        self.assertIn(f"going on in the clear with {sink.to}", self.running.output())
        self.send("may.test")
        wait_until(lambda: len(sink.messages) == 2, "more mail in the clear")
        self.assertEqual(self.running.output().count("no handshake"), 1)  # it is not tried again
        self.send("must.test")
        wait_until(lambda: self.connect_lines(sink), "the complaint")
        self.assertEqual(len(sink.messages), 2)

    def test_an_offer_that_comes_and_goes_weakens_nobody(self):
        sink = self.tls_sink()
        offering = sink.extensions
        without = tuple(word for word in offering if word != "STARTTLS")
        self.start([("may.test", sink, "tls: opportunistic, messages_per_connection: 1"),
                    ("must.test", sink, "tls: verified, tls_names: [hop.test], messages_per_connection: 1")], self.trusting())
        for round_number in range(3):
            sink.extensions = without
            complaints = len(self.connect_lines(sink))
            self.send("may.test", "must.test")
            wait_until(lambda: len(sink.messages) == 3 * round_number + 1, "mail in the clear, where that is allowed")
            wait_until(lambda: len(self.connect_lines(sink)) > complaints, "the complaint")
            self.assertEqual(sink.secured, 2 * round_number)
            sink.extensions = offering
            wait_until(lambda: len(sink.messages) == 3 * round_number + 2, "mail that has waited for TLS")
            self.assertEqual((sink.messages[-1][1], sink.secured), (["b@must.test"], 2 * round_number + 1))
            self.send("may.test")
            wait_until(lambda: len(sink.messages) == 3 * round_number + 3, "mail by TLS again")
            self.assertEqual(sink.secured, 2 * round_number + 2)

    def test_plaintext_behind_the_220_is_never_used(self):
        sink = self.tls_sink(starttls="injected")
        self.start([("x.test", sink, "tls: required")], self.trusting())
        self.send("x.test")
        line = wait_until(lambda: self.connect_lines(sink), "the complaint")[0]
        self.assertIn("plaintext behind the answer to STARTTLS", line)
        self.assertEqual((sink.messages, sink.secured), ([], 0))

    def test_tls_from_the_first_byte(self):
        good, clear = self.tls_sink(implicit=True), self.sink()
        self.start([("good.test", good, "tls_implicit: true, tls: verified, tls_names: [hop.test]"),
                    ("clear.test", clear, "tls_implicit: true")], self.trusting())
        self.send("good.test", "clear.test")
        wait_until(lambda: good.messages, "mail by implicit TLS")
        self.assertEqual(good.facts[0][:2], ("TLSv1.3", "hop.test"))
        wait_until(lambda: self.connect_lines(clear), "the complaint about a next hop in the clear")
        self.assertEqual(clear.messages, [])

    def test_large_messages_and_many_of_them(self):
        sink = self.tls_sink()
        self.start([("x.test", sink, "tls: verified, tls_names: [hop.test], messages_per_connection: 10")], self.trusting())
        large = b"Subject: large\r\n\r\n" + b"".join(b"%074d\r\n" % i for i in range(100000))
        self.send("x.test", body=large)
        wait_until(lambda: sink.messages, "the large one")
        self.assertTrue(sink.messages[0][2].endswith(large))
        self.send(*["x.test"] * 50)
        wait_until(lambda: len(sink.messages) == 51, "all of them")

    def test_sessions_are_resumed_by_the_same_route_only(self):
        sink = self.tls_sink()
        once = "messages_per_connection: 1, connections: 1"
        self.start([("a.test", sink, f"tls: verified, tls_names: [hop.test], {once}"),
                    ("b.test", sink, f"tls: verified, tls_names: [sub.hop.test], {once}")], self.trusting())
        for domain, resumed in (("a.test", False), ("a.test", True), ("b.test", False), ("b.test", True), ("a.test", True)):
            count = len(sink.messages)
            self.send(domain)
            wait_until(lambda: len(sink.messages) > count, "the message")
            self.assertEqual(sink.facts[-1][2], resumed, domain)
        self.assertEqual({name for _, name, _, _ in sink.facts}, {"hop.test", "sub.hop.test"})
        self.assertEqual(json.loads(self.running.ctl("--json", "status").stdout)["counters"]["tls"]["resumed"], 3)

    def test_our_certificate_is_shown_to_those_who_ask(self):
        common = certificate(self.folder, "relay.test", self.authority)
        own = certificate(self.folder, "special.test", self.authority)
        asking = [self.tls_sink(authority=self.authority) for _ in range(2)]
        self.start([("common.test", asking[0], "tls: required"),
                    ("own.test", asking[1], f"tls: required, tls_certificate: {own}.pem, tls_key: {own}.key")],
                   self.trusting(f", client_certificate: {common}.pem, client_key: {common}.key"))
        self.send("common.test", "own.test")
        for sink, base in zip(asking, (common, own)):
            wait_until(lambda: sink.messages, "the message")
            with open(f"{base}.der", "wb+") as file:
                run_openssl("x509", "-in", f"{base}.pem", "-outform", "der", "-out", file.name)
                self.assertEqual(sink.facts[0][3], file.read())

    def test_a_server_that_wants_a_certificate_which_we_do_not_have(self):
        sinks = [self.tls_sink(authority=self.authority) for _ in range(2)]
        for sink in sinks:
            sink.context.verify_mode = ssl.CERT_REQUIRED
        self.start([("may.test", sinks[0], "tls: opportunistic"), ("must.test", sinks[1], "tls: required")], self.trusting())
        self.send("may.test", "must.test")
        wait_until(lambda: sinks[0].messages, "mail in the clear")
        line = wait_until(lambda: self.connect_lines(sinks[1]), "the complaint")[0]
        self.assertIn("4.7.5 Cannot start TLS: ", line)  # an alert, or the reset that overtakes it
        self.assertEqual((sinks[0].secured, sinks[1].messages), (0, []))

    def test_a_reload_that_asks_for_more_is_obeyed_by_the_next_message(self):
        sink = self.tls_sink(starttls="hidden")
        relay = self.start([("x.test", sink, "tls: opportunistic")], self.trusting())
        self.send("x.test")
        wait_until(lambda: sink.messages, "mail in the clear")
        with open(relay.config) as file:
            text = file.read()
        with open(relay.config, "w") as file:
            file.write(text.replace("tls: opportunistic", "tls: required"))
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in relay.output(), "the reload")
        self.send("x.test")
        wait_until(lambda: self.connect_lines(sink), "the complaint")
        self.assertEqual(len(sink.messages), 1)


if __name__ == "__main__":
    unittest.main()
