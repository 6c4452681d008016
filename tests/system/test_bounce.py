"""What a sender is told when mail fails, read by a parser that we did not write, and where the telling ends."""
import email
import email.policy
import json
import os
import re
import smtplib
import unittest

from harness import PORT, RELAY, Relay, SystemTest, free_port, wait_until

MESSAGE = b"From: a@home.test\r\nSubject: hello\r\n\r\nsecret\r\n"
QUICK = "retry: {first: 300ms, limit: 1s, expire: 30s, jitter_pct: 0}"


def lmtp(sink, match):
    return f"  - {{match: {match}, via: lmtp, to: [\"{sink.to}\"]}}\n"


class Bounce(SystemTest):
    def refusing(self):
        return self.sink(lmtp=True, reply=lambda c, a: "550 5.1.1 no such user" if c == "RCPT" else None)

    def home(self):
        return self.sink(path=os.path.join(self.folder, "home"), lmtp=True)

    def send(self, relay, sender, recipient):
        with smtplib.SMTP(RELAY, relay.port, timeout=60) as client:
            client.sendmail(sender, [recipient], MESSAGE)

    def report(self, sink):
        wait_until(lambda: len(sink.messages) >= 1, "a report")
        (sender, recipients, body), = sink.messages
        self.assertEqual(sender, "")
        return recipients, email.message_from_bytes(body, policy=email.policy.default)

    def wait_empty(self, relay):
        wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")

    def test_a_refusal_is_reported_with_the_servers_words_and_the_mail(self):
        home = self.home()
        relay = self.relay(lmtp(self.refusing(), "away.test") + lmtp(home, "home.test"), settings=QUICK)
        self.send(relay, "a@home.test", "b@away.test")
        recipients, report = self.report(home)
        self.assertEqual(recipients, ["a@home.test"])
        for part in report.walk():
            self.assertEqual(part.defects, [], part.get_content_type())
        self.assertEqual((report.get_content_type(), report.get_param("report-type")),
                         ("multipart/report", "delivery-status"))
        text, status, original = report.iter_parts()
        self.assertEqual([text.get_content_type(), status.get_content_type(), original.get_content_type()],
                         ["text/plain", "message/delivery-status", "message/rfc822"])
        self.assertRegex(text.get_content(), r"(?s)<b@away\.test>.*550 5\.1\.1 no such user")
        of_message, of_recipient = status.get_payload()
        self.assertEqual(of_message["Reporting-MTA"], "dns; relay.test")
        self.assertEqual((of_recipient["Action"], of_recipient["Status"]), ("failed", "5.1.1"))
        self.assertEqual(of_recipient["Diagnostic-Code"], "smtp; 550 5.1.1 no such user")
        returned, = original.get_payload()
        self.assertEqual((returned["Subject"], returned.get_content()), ("hello", "secret\r\n"))

    def test_a_report_that_is_refused_reaches_the_postmaster_and_ends_there(self):
        home = self.home()
        relay = self.relay(lmtp(self.refusing(), "away.test") + lmtp(home, "home.test"),
                           settings=QUICK + "\nbounce: {double: postmaster, postmaster: chief@home.test}")
        self.send(relay, "a@away.test", "b@away.test")
        recipients, report = self.report(home)
        self.assertEqual(recipients, ["chief@home.test"])
        _, status, _ = report.iter_parts()
        self.assertEqual(status.get_payload()[1]["Final-Recipient"], "rfc822; a@away.test")
        self.wait_empty(relay)
        self.assertEqual(len(home.messages), 1)

    def test_a_report_to_a_postmaster_who_does_not_exist_is_dropped(self):
        sink = self.refusing()
        relay = self.relay(lmtp(sink, "away.test"),
                           settings=QUICK + "\nbounce: {double: postmaster, postmaster: chief@away.test}")
        self.send(relay, "a@away.test", "b@away.test")
        wait_until(lambda: "double bounce, dropped: to=<chief@away.test>" in relay.output(), "the end in the log")
        self.wait_empty(relay)
        self.assertEqual(sink.messages, [])


@unittest.skipIf(PORT, "two relays would need two ports")
class Loops(SystemTest):
    def test_two_relays_that_point_at_each_other_come_to_an_end(self):
        ports, relays = [free_port(), free_port()], []
        for number, port in enumerate(ports):
            folder = os.path.join(self.folder, str(number))
            os.makedirs(folder)
            relays.append(Relay(folder, f"  - {{match: \"*\", via: smtp, to: [\"127.0.0.1:{ports[1 - number]}\"]}}", port=port,
                                settings=f"{QUICK}\nbounce: {{double: postmaster, postmaster: chief@home.test}}"))
            self.addCleanup(self.end, relays[-1])

        def came():
            return sum(json.loads(relay.ctl("--json", "status").stdout)["counters"]["relay"]["messages_in"] for relay in relays)
        before = came()
        with smtplib.SMTP(RELAY, ports[0], timeout=60) as client:
            client.sendmail("a@home.test", ["b@away.test"], MESSAGE)
        # The message goes round until it has more than 50 trace lines; then its report does, which nobody reports on.
        wait_until(lambda: any("double bounce, dropped: to=<a@home.test>" in relay.output() for relay in relays), "the end")
        for relay in relays:
            wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")
        self.assertIn(came() - before, range(2 * 50, 2 * 51 + 1))
        log = relays[0].output() + relays[1].output()
        self.assertEqual(len(re.findall(r"to=<b@away\.test>.* dsn=5\.4\.6, status=bounced", log)), 1)


if __name__ == "__main__":
    unittest.main()
