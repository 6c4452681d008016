"""A delivery report, read by a parser that we did not write."""
import email
import email.policy
import os
import subprocess
import unittest

BUILD = os.environ.get("TUBEPOST_BUILD", "build")


class Report(unittest.TestCase):
    def setUp(self):
        wire = subprocess.run([os.path.join(BUILD, "tests/unit/test_dsn"), "--print"], check=True,
                              stdout=subprocess.PIPE).stdout
        self.message = email.message_from_bytes(wire.replace(b"\r\n..", b"\r\n."), policy=email.policy.default)

    def test_no_part_has_a_defect(self):
        for part in self.message.walk():
            self.assertEqual(part.defects, [], part.get_content_type())

    def test_it_is_a_report_of_three_parts(self):
        self.assertEqual(self.message.get_content_type(), "multipart/report")
        self.assertEqual(self.message.get_param("report-type"), "delivery-status")
        self.assertEqual(self.message["Auto-Submitted"], "auto-replied")
        self.assertEqual([part.get_content_type() for part in self.message.iter_parts()],
                         ["text/plain", "message/delivery-status", "text/rfc822-headers"])

    def test_each_recipient_can_be_read_by_machines(self):
        _, status, _ = self.message.iter_parts()
        of_message, first, second = status.get_payload()
        self.assertEqual(of_message["Reporting-MTA"], "dns; relay.test")
        self.assertEqual(first["Final-Recipient"], "rfc822; nobody@b.test")
        self.assertEqual((first["Action"], first["Status"]), ("failed", "5.1.1"))
        self.assertEqual(second["Final-Recipient"], "utf-8; j\\x{F6}rg@b.test")

    def test_people_can_read_it_in_their_letters(self):
        text, _, original = self.message.iter_parts()
        self.assertIn("<jörg@b.test>: host mx.b.test said: 550 5.1.1 unbekannt: Jörg", text.get_content())
        self.assertEqual(original.get_payload(decode=True),
                         "From: a@a.test\r\nSubject: grün\r\n.dot: 1\r\n".encode())


if __name__ == "__main__":
    unittest.main()
