"""Inputs that have broken mail servers, where TLS is in play. test_dpdk_hostile.py runs the same over our own TCP."""
import json
import os
import re
import socket
import ssl
import struct
import unittest

from harness import RELAY, SystemTest, at, dialogue, free_port, wait_until
from tls_peers import certificate

ENVELOPE = (b"EHLO c.test\r\n", b"MAIL FROM:<a@c.test>\r\n", b"RCPT TO:<b@example.org>\r\n", b"DATA\r\n")


def reply(connection):
    """The code of one whole reply."""
    data = b""
    while not re.search(rb"(?m)^\d{3} .*\r\n$", data):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionError(f"closed after {data!r}")
        data += piece
    return data.decode().splitlines()[-1][:3]


def say(connection, text):
    connection.sendall(text)
    return reply(connection)


class CasesTls(SystemTest):
    def setUp(self):
        super().setUp()
        base = certificate(self.folder, "mx.test")
        self.context = ssl.create_default_context(cafile=f"{base}.pem")
        self.lmtp = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        self.required, self.implicit = free_port(), free_port()
        self.server = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{self.lmtp.to}\"]}}",
                                 settings=f"tls: {{certificates: [{{certificate: {base}.pem, key: {base}.key}}]}}\n"
                                          "timeouts: {command: 2s, data: 2s}",
                                 listen=[f"{{name: required, address: [\"{at(RELAY, self.required)}\"], tls: required}}",
                                         f"{{name: implicit, address: [\"{at(RELAY, self.implicit)}\"], tls: implicit}}"])

    def connect(self, port=None):
        connection = socket.create_connection((RELAY, port or self.server.port), 20)
        self.addCleanup(connection.close)
        return connection

    def wrap(self, connection):
        secure = self.context.wrap_socket(connection, server_hostname="mx.test", suppress_ragged_eofs=False)
        self.addCleanup(secure.close)
        return secure

    def secured(self, said_before=(b"EHLO before.test\r\n",)):
        connection = self.connect()
        self.assertEqual(reply(connection), "220")
        for line in said_before:
            self.assertEqual(say(connection, line), "250", line)
        self.assertEqual(say(connection, b"STARTTLS\r\n"), "220")
        return self.wrap(connection)

    def nobody_is_left(self):
        wait_until(lambda: json.loads(self.server.ctl("--json", "status").stdout)["gauges"]["sessions_in"] == 0, "the sessions' end")

    def test_what_was_said_in_the_clear_is_forgotten(self):
        for after in (b"RCPT TO:<b@example.org>\r\n", b"DATA\r\n", b"MAIL FROM:<a@c.test>\r\n", b"BDAT 0 LAST\r\n"):
            secure = self.secured(ENVELOPE[:3])
            self.assertEqual(say(secure, after), "503", after)
        secure = self.secured((b"EHLO before.test\r\n", b"MAIL FROM:<before@c.test>\r\n", b"RCPT TO:<before@example.org>\r\n"))
        self.assertEqual([say(secure, line) for line in ENVELOPE], ["250", "250", "250", "354"])
        self.assertEqual(say(secure, b"S: x\r\n\r\nx\r\n.\r\n"), "250")
        wait_until(lambda: self.lmtp.messages, "the message")
        sender, recipients, body = self.lmtp.messages[0]
        self.assertEqual((sender, recipients), ("a@c.test", ["b@example.org"]))
        self.assertNotIn(b"before", body)

    def test_a_stream_that_is_cut_without_close_notify_ends_no_message(self):
        for begun in (b"S: x\r\n\r\nhalf", b"S: x\r\n\r\nwhole lines\r\n", b"S: x\r\n\r\nx\r\n.", b"S: x\r\n\r\nx\r\n.\r"):
            for reset in (False, True):
                secure = self.secured()
                self.assertEqual([say(secure, line) for line in ENVELOPE][-1], "354")
                secure.sendall(begun)
                if reset:
                    secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(secure.detach())  # no close_notify
        secure = self.secured()
        self.assertEqual([say(secure, line) for line in ENVELOPE][-1], "354")
        secure.sendall(b"S: x\r\n\r\nBDAT 5 LAST\r\nx\r\n.\r\nNOOP\r\n")
        self.assertEqual(reply(secure), "250")
        os.close(secure.detach())
        wait_until(lambda: self.lmtp.messages, "the message that was whole")
        self.nobody_is_left()
        self.assertEqual([body.split(b"\r\n\r\n")[-1] for _, _, body in self.lmtp.messages], [b"BDAT 5 LAST\r\nx\r\n"])

    def test_credentials_in_the_clear_are_refused_unseen(self):
        connection = self.connect(self.required)
        self.assertEqual(reply(connection), "220")
        self.assertEqual(say(connection, b"EHLO c.test\r\n"), "250")
        self.assertEqual(say(connection, b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"), "530")
        self.assertEqual(say(connection, b"AUTH LOGIN\r\n"), "530")
        connection.sendall(b"STARTTLS\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n")
        self.assertEqual(reply(connection), "220")
        secure = self.wrap(connection)
        self.assertEqual(say(secure, b"NOOP\r\n"), "250")
        self.assertNotRegex(self.server.output(), "AHVzZXIAc2VjcmV0|secret")

    def test_a_handshake_that_does_not_come_holds_nothing_for_long(self):
        silent, begun = self.connect(self.implicit), self.connect(self.implicit)
        begun.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        started = self.connect()
        reply(started)
        say(started, b"EHLO c.test\r\n")
        say(started, b"STARTTLS\r\n")
        for connection in (silent, begun, started):
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        self.nobody_is_left()

    def test_plain_words_where_tls_comes_first_are_no_commands(self):
        for words in (b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\n", b"GET / HTTP/1.1\r\n\r\n"):
            self.assertNotRegex(dialogue(self.implicit, words, patience_s=20), rb"\d{3}[ -]")
        self.nobody_is_left()


if __name__ == "__main__":
    unittest.main()
