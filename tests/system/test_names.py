"""The names that other programs call: sendmail with its options, mailq, postqueue, postsuper, newaliases."""
import email
import email.policy
import json
import os
import subprocess
import unittest

from harness import BUILD, TOP, SystemTest, sanitizer_environment, wait_until

SLOW = "retry: {first: 1h, limit: 1h, expire: 5d, jitter_pct: 0}\n"


class Names(SystemTest):
    def start(self, reply=None, settings=""):
        self.sunk = self.sink(reply=reply, extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN"))
        self.server = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.sunk.to}\"]}}", settings=SLOW + settings)

    def call(self, name, *words, given="", environment=None):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            os.symlink(os.path.join(BUILD, "tubepost"), path)
        given = given if isinstance(given, bytes) else given.encode()
        return subprocess.run([path, *words], input=given, capture_output=True, timeout=60,
                              env={**sanitizer_environment(), "TUBEPOST_CONFIG": self.server.config, **(environment or {})})

    def sent(self, *words, given):
        self.sunk.messages.clear()
        result = self.call("sendmail", *words, given=given)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        wait_until(lambda: self.sunk.messages, "the message")
        (sender, recipients, body), = self.sunk.messages
        return sender, recipients, body, email.message_from_bytes(body, policy=email.policy.default)

    def test_sendmail_makes_a_whole_message_of_what_it_is_given(self):
        self.start()
        sender, recipients, body, message = self.sent("-i", "-f", "me@home.test", "-F", "Me Myself", "you@away.test", "root",
                                                      given="Subject: hi\n\n.\n..two\nlast without end")
        self.assertEqual((sender, sorted(recipients)), ("me@home.test", ["root@relay.test", "you@away.test"]))
        self.assertEqual(message["From"], "Me Myself <me@home.test>")
        self.assertTrue(message["Date"] and message["Message-ID"].endswith("@relay.test>"))
        self.assertTrue(body.endswith(b"\r\n\r\n.\r\n..two\r\nlast without end\r\n"), body)

    def test_recipients_are_found_in_the_message_and_bcc_is_not_sent(self):
        self.start()
        given = ("From: Boss <boss@home.test>\nTo: Ann <ann@a.test>,\n bob@b.test (Bob)\nBcc: eve@c.test,\n zoe\nCC: team: x@d.test;\n"
                 "Date: Mon, 23 Nov 2026 12:00:00 +0000\nMessage-Id: <1@home.test>\n\nhello\n")
        _, recipients, body, message = self.sent("-t", "-oi", "more@e.test", given=given)
        self.assertEqual(sorted(recipients), ["ann@a.test", "bob@b.test", "eve@c.test", "more@e.test", "x@d.test", "zoe@relay.test"])
        self.assertNotIn(b"eve", body)
        self.assertNotIn(b"zoe", body)
        self.assertEqual(message["From"], "Boss <boss@home.test>")
        self.assertEqual(len(message.get_all("Date")), 1)
        self.assertEqual(message["Message-ID"], "<1@home.test>")

    def test_a_field_that_goes_on_belongs_to_bcc_when_that_comes_first(self):
        self.start()
        _, recipients, body, message = self.sent("-t", "-f", "me@home.test",
                                                 given="Bcc: eve@c.test,\n zoe@c.test\nTo: ann@[IPv6:2001:db8::1]\nSubject: hi\n\nhello\n")
        self.assertEqual(sorted(recipients), ["ann@[IPv6:2001:db8::1]", "eve@c.test", "zoe@c.test"])
        self.assertNotIn(b"zoe", body)
        self.assertEqual((message["Subject"], message.get_payload()), ("hi", "hello\r\n"))

    def test_nothing_in_a_message_is_taken_for_its_end_or_for_a_command(self):
        self.start()
        given = b"Subject: hi\n\nbefore\n\r.\r\nMAIL FROM:<evil@c.test>\nRCPT TO:<victim@c.test>\n\r\r.dot\n"
        sender, recipients, body, _ = self.sent("-i", "-f", "me@home.test", "you@away.test", given=given)
        self.assertEqual((sender, recipients), ("me@home.test", ["you@away.test"]))
        self.assertTrue(body.endswith(b"\r\nbefore\r\n.\r\nMAIL FROM:<evil@c.test>\r\nRCPT TO:<victim@c.test>\r\n.dot\r\n"), body)

    def test_a_name_is_a_name_whatever_it_holds(self):
        self.start()
        _, _, body, message = self.sent("-F", "Doe, \"J\"\r\nBcc: evil@c.test\n\nx", "-f", "me@home.test", "you@away.test",
                                        given="Subject: hi\n\nhello\n")
        self.assertEqual([a.addr_spec for a in message["From"].addresses], ["me@home.test"])
        self.assertEqual(message["From"].addresses[0].display_name, "Doe, \"J\"  Bcc: evil@c.test  x")
        self.assertNotIn("Bcc", message)

    def test_a_dot_ends_it_unless_told_otherwise_and_a_body_needs_no_header(self):
        self.start()
        sender, _, body, message = self.sent("-f", "<>", "you@away.test", given="just text: no, two words\n.\nbehind\n")
        self.assertEqual((sender, message["From"]), ("", "Mail Delivery System <MAILER-DAEMON@relay.test>"))
        self.assertTrue(body.endswith(b"\r\n\r\njust text: no, two words\r\n"), body)

    def test_eight_bit_text_and_wishes_about_reports_go_with_it(self):
        said = []
        self.start(reply=lambda command, argument: said.append((command, argument)))
        self.sent("-N", "success,delay", "-R", "hdrs", "-V", "QQ+3D1", "-f", "me@home.test", "you@away.test",
                  given="Subject: x\n\nhällo\n")
        mail = next(argument for command, argument in said if command == "MAIL")
        self.assertIn(" BODY=8BITMIME", mail)
        self.assertIn(" RET=HDRS ENVID=QQ+3D1", mail)
        self.assertEqual(self.call("sendmail", "-N", "always", "you@away.test").returncode, 64)

    def test_what_cannot_be_sent_is_said(self):
        self.start(settings="limits: {message_bytes: 2K}\n")
        self.assertEqual(self.call("sendmail", given="x\n").returncode, 64)
        self.assertEqual(self.call("sendmail", "-t", given="To: (no end\n\nx\n").returncode, 65)
        result = self.call("sendmail", "you@away.test", given="Subject: x\n\n" + 100 * (70 * "x" + "\n"))
        self.assertEqual(result.returncode, 69)
        self.assertIn(b"sendmail: <you@away.test>: ", result.stderr)
        result = self.call("sendmail", "a b@away.test", given="Subject: x\n\nx\n")
        self.assertNotEqual(result.returncode, 0)
        self.server.stop()
        self.assertEqual(self.call("sendmail", "you@away.test", given="x\n").returncode, 75)
        self.assertEqual(self.sunk.messages, [])

    def test_the_queue_under_the_names_that_postfix_gave_it(self):
        refuses = [True]
        self.start(reply=lambda command, _: "450 4.2.0 later" if command == "RCPT" and refuses[0] else None)
        for number in range(6):
            self.assertEqual(self.call("sendmail", "-f", "a@home.test", f"u@d{number}.test", given="Subject: x\n\nx\n").returncode, 0)
        wait_until(lambda: len([1 for line in self.call("postqueue", "-j").stdout.splitlines()
                                if json.loads(line)["queue_name"] == "deferred"]) == 6, "six deferred")
        ids = {json.loads(line)["recipients"][0]["address"]: json.loads(line)["queue_id"]
               for line in self.call("postqueue", "-j").stdout.splitlines()}
        self.assertIn(b"in 6 Requests", self.call("postqueue", "-p").stdout)
        self.assertEqual(self.call("mailq").stdout, self.call("sendmail", "-bp").stdout)
        self.assertEqual(self.call("postsuper", "-h", ids["u@d0.test"], "-d", ids["u@d1.test"]).returncode, 0)
        self.assertEqual(self.call("postsuper", "-d", "-", given=f"{ids['u@d2.test']}\n{ids['u@d3.test']} rest\n").returncode, 0)
        refuses[0] = False
        self.assertEqual(self.call("postqueue", "-s", "d4.test").returncode, 0)
        wait_until(lambda: [m[1] for m in self.sunk.messages] == [["u@d4.test"]], "that of one domain")
        self.assertEqual(self.call("postqueue", "-i", ids["u@d5.test"]).returncode, 0)
        self.assertEqual(self.call("postsuper", "-H", "ALL").returncode, 0)
        self.assertEqual(self.call("postqueue", "-f").returncode, 0)
        wait_until(lambda: sorted(m[1][0] for m in self.sunk.messages) == ["u@d0.test", "u@d4.test", "u@d5.test"], "the three that were kept")
        wait_until(lambda: self.call("mailq").stdout == b"Mail queue is empty\n", "an empty queue")
        for name, *words in (("postsuper",), ("postqueue",), ("postsuper", "-x"), ("mailq", "-z")):
            self.assertEqual(self.call(name, *words).returncode, 64)
        for name, *words in (("newaliases",), ("sendmail", "-bi")):
            self.assertEqual(self.call(name, *words).returncode, 0)

    def test_install_puts_the_names_aside_from_those_of_another_system(self):
        build = os.path.relpath(BUILD, TOP)
        subprocess.run(["make", "--no-print-directory", "-s", "-o", "all", "install", f"B={build}", f"DESTDIR={self.folder}/root", "PREFIX=/usr/local"],
                       cwd=TOP, check=True, timeout=120)
        folder = f"{self.folder}/root/usr/local/lib/tubepost/bin"
        self.assertEqual(sorted(os.listdir(folder)), ["mailq", "newaliases", "postqueue", "postsuper", "sendmail"])
        self.assertEqual(subprocess.run([f"{folder}/newaliases"], env=sanitizer_environment(), timeout=60).returncode, 0)


if __name__ == "__main__":
    unittest.main()
