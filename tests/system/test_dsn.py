"""What senders ask of reports (RFC 3461), and get: read by a parser that we did not write, and beside Postfix."""
import email
import email.policy
import os
import smtplib
import unittest

from harness import RELAY, free_port, wait_until
from real_peers import MESSAGE, PeerTest

QUICK = "retry: {first: 300ms, limit: 1s, expire: 30s, jitter_pct: 0}\n"
ASKED = {"mail_options": ["RET=HDRS", "ENVID=QQ+3D1"], "rcpt_options": ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;first+2Bx@home.test"]}


class Dsn(PeerTest):
    def home(self):
        """Where reports go."""
        return self.sink(path=os.path.join(self.folder, "home"), lmtp=True)

    def routes(self, home, *more):
        return "".join(f"  - {route}\n" for route in more) + f"  - {{match: home.test, via: lmtp, to: [\"{home.to}\"]}}\n"

    def send(self, port, recipients, message=MESSAGE, sender="a@home.test", host=RELAY, **kwargs):
        with smtplib.SMTP(host, port, timeout=60) as client:
            client.ehlo("client.test")
            return client.sendmail(sender, recipients, message, **kwargs)

    def reports(self, home, count=1):
        """What has come for the sender, as (fields of the message, fields of each recipient, the last part)."""
        wait_until(lambda: len([1 for m in home.messages if m[0] == ""]) >= count, f"{count} reports")
        found = []
        for sender, _, body in home.messages:
            if sender != "":
                continue
            report = email.message_from_bytes(body, policy=email.policy.default)
            for part in report.walk():
                self.assertEqual(part.defects, [], part.get_content_type())
            self.assertEqual((report.get_content_type(), report.get_param("report-type")), ("multipart/report", "delivery-status"))
            _, status, original = report.iter_parts()
            of_message, *of_recipients = status.get_payload()
            found.append((of_message, of_recipients, original, report))
        self.assertEqual(len(found), count)
        return found

    def test_success_is_reported_by_whoever_is_the_last_to_know(self):
        home, away, box = self.home(), self.sink(), self.sink(path=os.path.join(self.folder, "box"), lmtp=True)
        knows = self.sink(extensions=("PIPELINING", "DSN", "8BITMIME"))
        relay = self.relay(self.routes(home, f"{{match: away.test, via: smtp, to: [\"{away.to}\"]}}",
                                       f"{{match: box.test, via: lmtp, to: [\"{box.to}\"]}}",
                                       f"{{match: knows.test, via: smtp, to: [\"{knows.to}\"]}}"), settings=QUICK)
        self.send(relay.port, ["u@away.test"], **ASKED)
        (of_message, (of_recipient,), original, report), = self.reports(home)
        self.assertEqual(report["Subject"], "Successful Mail Delivery Report")
        self.assertEqual(of_message["Original-Envelope-Id"], "QQ=1")
        self.assertEqual(of_recipient["Original-Recipient"], "rfc822; first+x@home.test")
        self.assertEqual(of_recipient["Final-Recipient"], "rfc822; u@away.test")
        self.assertEqual((of_recipient["Action"], of_recipient["Status"]), ("relayed", "2.0.0"))
        self.assertEqual(original.get_content_type(), "text/rfc822-headers")
        home.messages.clear()
        self.send(relay.port, ["u@box.test"], rcpt_options=["NOTIFY=SUCCESS"])
        (_, (of_recipient,), _, _), = self.reports(home)
        self.assertEqual(of_recipient["Action"], "delivered")
        self.assertNotIn("Original-Recipient", of_recipient)
        home.messages.clear()
        self.send(relay.port, ["u@knows.test"], **ASKED)
        self.send(relay.port, ["u@away.test"], rcpt_options=["NOTIFY=NEVER"])
        self.send(relay.port, ["u@away.test"], sender="", rcpt_options=["NOTIFY=SUCCESS"])
        wait_until(lambda: len(knows.messages) == 1 and len(away.messages) == 3, "the mail")
        wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")
        self.assertEqual(home.messages, [])

    def test_an_alias_of_several_is_expanded_and_its_members_say_nothing_of_success(self):
        home, away = self.home(), self.sink()
        relay = self.relay(self.routes(home, f"{{match: away.test, via: smtp, to: [\"{away.to}\"]}}"),
                           settings=QUICK + "rewrite:\n  virtual_aliases: [\"inline:{all@away.test=one@away.test two@away.test, "
                                            "one.alias@away.test=one@away.test}\"]\n")
        self.send(relay.port, ["all@away.test"], rcpt_options=["NOTIFY=SUCCESS"])
        (_, (of_recipient,), _, _), = self.reports(home)
        self.assertEqual((of_recipient["Action"], of_recipient["Final-Recipient"]), ("expanded", "rfc822; all@away.test"))
        wait_until(lambda: sorted(sum((m[1] for m in away.messages), [])) == ["one@away.test", "two@away.test"], "both")
        home.messages.clear()
        self.send(relay.port, ["one.alias@away.test"], rcpt_options=["NOTIFY=SUCCESS"])
        (_, (of_recipient,), _, _), = self.reports(home)
        self.assertEqual((of_recipient["Action"], of_recipient["Final-Recipient"], of_recipient["Original-Recipient"]),
                         ("relayed", "rfc822; one@away.test", "rfc822; one.alias@away.test"))

    def test_a_delay_is_told_of_while_the_mail_waits(self):
        home = self.home()
        busy = self.sink(reply=lambda command, _: "450 4.2.0 Mailbox busy" if command == "RCPT" else None)
        relay = self.relay(self.routes(home, f"{{match: busy.test, via: smtp, to: [\"{busy.to}\"]}}"),
                           settings=QUICK + "bounce: {delay_warning: 1s}\n")
        self.send(relay.port, ["u@busy.test"], rcpt_options=["NOTIFY=DELAY"])
        self.send(relay.port, ["v@busy.test"], rcpt_options=["NOTIFY=FAILURE"])
        (_, (of_recipient,), _, report), = self.reports(home)
        self.assertEqual(report["Subject"], "Delayed Mail (still being retried)")
        self.assertEqual((of_recipient["Action"], of_recipient["Final-Recipient"]), ("delayed", "rfc822; u@busy.test"))
        self.assertIn("Will-Retry-Until", of_recipient)
        self.assertIn("status=deferred", relay.output())

    def test_text_of_eight_bits_comes_back_whole_where_the_way_back_takes_it(self):
        takes, lacks = self.sink(extensions=("PIPELINING", "8BITMIME")), self.sink(extensions=("PIPELINING",))
        refuses = self.sink(reply=lambda command, _: "550 5.1.1 none" if command == "RCPT" else None)
        relay = self.relay("".join(f"  - {{match: {domain}, via: smtp, to: [\"{sink.to}\"]}}\n" for domain, sink in
                                   (("away.test", refuses), ("takes.test", takes), ("lacks.test", lacks))), settings=QUICK)
        message = "From: a@home.test\r\nSubject: hello\r\n\r\nGrüße\r\n".encode("latin-1")
        for home, sender in (takes, "a@takes.test"), (lacks, "a@lacks.test"):
            self.send(relay.port, ["u@away.test"], message, sender=sender)
            (_, (of_recipient,), original, _), = self.reports(home)
            self.assertEqual((of_recipient["Action"], of_recipient["Final-Recipient"]), ("failed", "rfc822; u@away.test"))
            (_, to, body), = home.messages
            self.assertEqual(to, [sender])
            if home is takes:
                self.assertEqual((original.get_content_type(), original["Content-Transfer-Encoding"]), ("message/rfc822", "8bit"))
                self.assertIn(b"\r\n" + message + b"\r\n--", body)
            else:
                self.assertEqual(original.get_content_type(), "text/rfc822-headers")
                self.assertEqual(original.get_content().splitlines()[-2:], ["From: a@home.test", "Subject: hello"])
                self.assertTrue(body.isascii())
                self.assertIn(": sent again without the message, as 8-bit text is not taken: ", relay.output())
            wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")

    def test_internationalised_mail_is_reported_in_the_form_that_its_sender_reads(self):
        home = self.home()
        home.extensions = ("PIPELINING", "8BITMIME", "SMTPUTF8")
        refuses = self.sink(reply=lambda command, _: "550 5.1.1 none" if command == "RCPT" else None,
                            extensions=("8BITMIME", "SMTPUTF8"))
        relay = self.relay(self.routes(home, f"{{match: away.test, via: smtp, to: [\"{refuses.to}\"]}}"), settings=QUICK)
        message = "From: a@home.test\r\nSubject: grün\r\n\r\nhällo\r\n".encode()
        for sender in ("a@home.test", "jörg@home.test"):
            self.send(relay.port, ["büro@away.test"], message, sender=sender, mail_options=["SMTPUTF8", "BODY=8BITMIME", "RET=FULL"],
                      rcpt_options=["ORCPT=utf-8;b\\x{FC}ro@away.test"])
            wait_until(lambda: home.messages, "a report")
            (_, to, body), = home.messages
            self.assertEqual(to, [sender])
            report = email.message_from_bytes(body, policy=email.policy.SMTPUTF8)
            kinds = [part.get_content_type() for part in report.iter_parts()]
            if sender == "a@home.test":
                self.assertEqual(kinds, ["text/plain", "message/delivery-status", "message/global-headers"])
                self.assertTrue(body.isascii())
                self.assertIn(b"\r\nFinal-Recipient: utf-8; b\\x{FC}ro@away.test\r\n", body)
            else:
                self.assertEqual(kinds, ["text/plain", "message/global-delivery-status", "message/global"])
                self.assertIn("\r\nFinal-Recipient: utf-8; büro@away.test\r\n".encode(), body)
                self.assertIn("\r\n\r\nhällo\r\n".encode(), body)
            self.assertIn(b"\r\nOriginal-Recipient: utf-8; b\\x{FC}ro@away.test\r\n", body)
            home.messages.clear()

    def test_postfix_gets_the_wishes_and_makes_the_report(self):
        behind, port = self.sink(), free_port()
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay={behind.to}", "mode=relay")
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"127.0.0.1:{port}\"]}}", settings=QUICK)
        self.send(relay.port, ["u@away.test"], **ASKED)
        (of_message, (of_recipient,), _, _), = self.reports(behind)
        self.assertIn("Postfix", of_message.as_string())
        self.assertEqual(of_message["Original-Envelope-Id"], "QQ=1")
        self.assertEqual(of_recipient["Original-Recipient"].replace(" ", ""), "rfc822;first+x@home.test")
        self.assertEqual(of_recipient["Action"], "relayed")
        wait_until(lambda: len(behind.messages) == 2, "the mail")

    # RFC 3461 §5.2.2.
    def test_a_postfix_that_hides_dsn_gets_no_wishes_and_we_report(self):
        behind, home, port = self.sink(), self.home(), free_port()
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay={behind.to}", "mode=relay",
                        "set:smtpd_discard_ehlo_keywords = dsn")
        relay = self.relay(self.routes(home, f"{{match: away.test, via: smtp, to: [\"127.0.0.1:{port}\"]}}"), settings=QUICK)
        self.send(relay.port, ["u@away.test"], **ASKED)
        (of_message, (of_recipient,), _, _), = self.reports(home)
        self.assertEqual(of_message["Reporting-MTA"], "dns; relay.test")
        self.assertEqual((of_recipient["Original-Recipient"], of_recipient["Action"]), ("rfc822; first+x@home.test", "relayed"))
        wait_until(lambda: len(behind.messages) == 1, "the mail")
        self.assertEqual([m[0] for m in behind.messages], ["a@home.test"])

    def test_postfix_hands_its_wishes_to_us(self):
        behind, port = self.sink(), free_port()
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{behind.to}\"]}}", settings=QUICK)
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay=127.0.0.1:{relay.port}", "mode=relay")
        self.send(port, ["u@away.test"], host="127.0.0.1", **ASKED)
        (of_message, (of_recipient,), _, _), = self.reports(behind)
        self.assertEqual(of_message["Reporting-MTA"], "dns; relay.test")
        self.assertEqual(of_message["Original-Envelope-Id"], "QQ=1")
        self.assertEqual((of_recipient["Original-Recipient"], of_recipient["Action"]), ("rfc822; first+x@home.test", "relayed"))

    def test_what_is_wrong_is_said(self):
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.sink().to}\"]}}")
        with smtplib.SMTP(RELAY, relay.port, timeout=60) as client:
            client.ehlo("client.test")
            self.assertTrue(client.has_extn("dsn"))
            self.assertEqual(client.mail("a@home.test", ["RET=SOME"]), (501, b"5.5.4 RET is FULL or HDRS"))
            self.assertEqual(client.mail("a@home.test", ["ENVID=" + 101 * "x"])[0], 501)
            self.assertEqual(client.mail("a@home.test", ["ENVID=" + 100 * "x"])[0], 250)
            self.assertEqual(client.rcpt("b@away.test", ["NOTIFY=NEVER,SUCCESS"])[0], 501)
            self.assertEqual(client.rcpt("b@away.test", ["ORCPT=rfc822;" + 494 * "x"])[0], 501)
            self.assertEqual(client.rcpt("b@away.test", ["ORCPT=rfc822;" + 493 * "x"])[0], 250)


if __name__ == "__main__":
    unittest.main()
