"""IMAP against the whole service, with Python's imaplib and with bare sockets where that is too polite."""
import base64
import imaplib
import random
import re
import socket
import ssl
import threading
import unittest

import test_mailboxd_store  # not its names: its tests would run here too
from harness import PATIENCE_S, SystemTest
from imap_client import Deflated
from test_mailboxd_store import PASSWORD
from tls_peers import certificate

LETTER = (b"Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nFrom: Fred Foobar <foobar@blurdybloop.example>\r\n"
          b"Subject: afternoon meeting\r\nTo: mooch@owatagu.example\r\nMessage-Id: <1@x.example>\r\n"
          b"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n"
          b"--b\r\nContent-Type: text/plain\r\n\r\nHello Joe\r\n"
          b"--b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+\r\n--b--\r\n")


class Bare:
    """A client that says exactly what it is told to."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")
        self.greeting = self.file.readline()

    def say(self, data):
        self.socket.sendall(data)

    def until(self, beginning):
        """The lines up to the one that begins so, that one too."""
        lines = []
        while not lines or not lines[-1].startswith(beginning):
            line = self.file.readline()
            if not line:
                raise EOFError(b"".join(lines))
            lines.append(line)
        return lines

    def ask(self, command):
        self.say(command + b"\r\n")
        return self.until(command.split()[0] + b" ")

    def login(self, user="alice"):
        self.ask(f"l LOGIN {user} {PASSWORD}".encode())
        return self

    def close(self):
        self.file.close()
        self.socket.close()


class ImapTest(SystemTest):
    uring = "auto"
    service = test_mailboxd_store.StoreTest.service

    def answer(self, got, wanted="OK"):
        self.assertEqual(got[0], wanted, got)
        return got[1]

    def filled(self, service, count=1, user="alice"):
        client = service.login(user)
        self.addCleanup(client.shutdown)
        for _ in range(count):
            self.answer(client.append("INBOX", None, None, LETTER))
        self.assertEqual(self.answer(client.select()), [str(count).encode()])
        return client

    def test_every_item_of_a_message_is_fetched(self):
        client = self.filled(self.service())
        self.assertEqual(self.answer(client.fetch("1", "(UID FLAGS RFC822.SIZE)")),
                         [f"1 (UID 1 FLAGS () RFC822.SIZE {len(LETTER)})".encode()])
        envelope = self.answer(client.fetch("1", "ENVELOPE"))[0]
        self.assertIn(b'"afternoon meeting" (("Fred Foobar" NIL "foobar" "blurdybloop.example"))', envelope)
        structure = self.answer(client.fetch("1", "BODYSTRUCTURE"))[0]
        self.assertIn(b'("text" "html" ("charset" "us-ascii") NIL NIL "base64" 4 0', structure)
        self.assertIn(b'"alternative" ("boundary" "b")', structure)
        self.assertEqual(self.answer(client.fetch("1", "ENVELOPE"))[0], envelope)  # from the cache
        head, _, body = LETTER.partition(b"\r\n\r\n")
        for item, text in (("BODY.PEEK[]", LETTER), ("BODY.PEEK[HEADER]", head + b"\r\n\r\n"), ("BODY.PEEK[TEXT]", body),
                           ("BODY.PEEK[1]", b"Hello Joe"), ("BODY.PEEK[2]", b"PGI+"), ("BINARY.PEEK[2]", b"<b>"),
                           ("BODY.PEEK[1.MIME]", b"Content-Type: text/plain\r\n\r\n"),
                           ("BODY.PEEK[HEADER.FIELDS (SUBJECT)]", b"Subject: afternoon meeting\r\n\r\n"),
                           ("BODY.PEEK[]<6.3>", LETTER[6:9]), ("RFC822.HEADER", head + b"\r\n\r\n")):
            with self.subTest(item=item):
                self.assertEqual(self.answer(client.fetch("1", item))[0][1], text)
        self.assertRegex(self.answer(client.fetch("1", "INTERNALDATE"))[0], rb'"[ \d]\d-\w{3}-\d{4} [\d:]{8} \+0000"')
        self.assertEqual(self.answer(client.fetch("1", "FLAGS"))[0], b"1 (FLAGS ())")
        self.assertEqual(self.answer(client.fetch("1", "RFC822"))[0][1], LETTER)
        self.assertEqual(self.answer(client.fetch("1", "FLAGS"))[0], b"1 (FLAGS (\\Seen))")

    def test_messages_are_flagged_copied_moved_and_expunged(self):
        client = self.filled(self.service(), 4)
        self.answer(client.create("Other"))
        self.assertEqual(self.answer(client.store("1:2", "+FLAGS", r"(\Flagged $Work)")),
                         [b"1 (FLAGS (\\Flagged $Work))", b"2 (FLAGS (\\Flagged $Work))"])
        self.answer(client.copy("1,3", "Other"))
        self.assertIn(b" 1,3 1:2", client.response("COPYUID")[1][0])
        self.answer(client.uid("MOVE", "2", "Other"))
        self.answer(client.store("1", "+FLAGS.SILENT", r"(\Deleted)"))
        self.answer(client.expunge())
        self.assertEqual(self.answer(client.search(None, "ALL")), [b"1 2"])
        self.assertEqual(self.answer(client.uid("SEARCH", "ALL")), [b"3 4"])
        self.answer(client.close())
        self.assertEqual(self.answer(client.status("Other", "(MESSAGES UIDNEXT)"))[0], b"Other (MESSAGES 3 UIDNEXT 4)")
        self.answer(client.select("Other"))
        self.assertEqual(self.answer(client.search(None, "KEYWORD", "$Work")), [b"1 3"])

    def test_a_draft_is_replaced_until_it_is_sent(self):
        service = self.service()
        client = Bare(service.imap).login()
        self.addCleanup(client.close)
        self.assertIn(b" REPLACE ", b"".join(client.ask(b"a CAPABILITY")))
        client.ask(b"b CREATE Sent")
        client.ask(b"c APPEND INBOX (\\Draft) {5+}\r\nfirst")
        client.ask(b"d SELECT INBOX")
        client.say(b"e REPLACE 1 INBOX (\\Draft) {6}\r\n")
        self.assertTrue(client.until(b"+")[-1].startswith(b"+"))
        client.say(b"second\r\n")
        lines = client.until(b"e ")
        self.assertRegex(lines[0], rb"^\* OK \[APPENDUID \d+ 2\] ")
        self.assertEqual(sorted(lines[1:-1]), [b"* 0 RECENT\r\n", b"* 1 EXISTS\r\n", b"* 1 EXPUNGE\r\n"])
        self.assertRegex(lines[-1], rb"^e OK ")
        self.assertRegex(client.ask(b"f UID REPLACE 2 Sent (\\Seen) {5+}\r\nthird")[-1], rb"^f OK ")
        self.assertRegex(client.ask(b"g UID REPLACE 2 Sent {5}")[-1], rb"^g NO \[EXPUNGEISSUED\]")
        client.close()
        self.assertEqual(service.stop(), 0)
        client = Bare(self.service().imap).login()
        self.addCleanup(client.close)
        self.assertIn(b"* STATUS INBOX (MESSAGES 0 UIDNEXT 3)\r\n", client.ask(b"a STATUS INBOX (MESSAGES UIDNEXT)"))
        client.ask(b"b SELECT Sent")
        self.assertIn(b"* 1 FETCH (FLAGS (\\Seen) BODY[] {5}\r\n", client.ask(b"c FETCH 1:* (FLAGS BODY.PEEK[])"))

    def test_a_message_is_forwarded_without_being_fetched(self):
        service = self.service()
        client = Bare(service.imap).login()
        self.addCleanup(client.close)
        large = base64.b64encode(random.Random(3).randbytes(6_000_000))
        mail = b"Subject: large\r\n\r\n" + large
        client.ask(b"a APPEND INBOX {%d+}\r\n%s" % (len(mail), mail))
        client.ask(b"b SELECT INBOX")
        validity = int(re.search(rb"UIDVALIDITY (\d+)", b"".join(client.ask(b"c STATUS INBOX (UIDVALIDITY)")))[1])
        client.say(b'd APPEND INBOX (\\Seen) CATENATE (TEXT {22+}\r\nSubject: forwarded\r\n\r\n URL "/INBOX;UIDVALIDITY=%d/;UID=1/;SECTION=TEXT" TEXT {5}\r\n'
                   % validity)
        self.assertTrue(client.until(b"+")[-1].startswith(b"+"))
        client.say(b"\r\nend)\r\n")
        self.assertRegex(client.until(b"d ")[-1], rb"^d OK \[APPENDUID \d+ 2\]")
        client.say(b"e FETCH 2 BODY.PEEK[]\r\n")
        self.assertIn(b"{%d}\r\n" % (22 + len(large) + 5), client.until(b"* 2 FETCH")[-1])
        self.assertEqual(client.file.read(22 + len(large) + 5), b"Subject: forwarded\r\n\r\n" + large + b"\r\nend")
        client.until(b"e OK ")
        self.assertRegex(client.ask(b'f APPEND INBOX CATENATE (URL "/INBOX;UIDVALIDITY=%d/;UID=1")' % (validity + 1))[-1],
                         rb"^f NO \[BADURL /INBOX;UIDVALIDITY=\d+/;UID=1\]")

    def test_mailboxes_come_and_go_and_stay_over_a_restart(self):
        service = self.service()
        client = service.login("alice")
        for name in ("a/b/c", "Sent"):
            self.answer(client.create(name))
        self.answer(client.subscribe("a/b/c"))
        self.answer(client.rename("a/b/c", "a/x"))
        self.answer(client.append("a/x", r"(\Seen)", '" 1-Jan-2020 10:00:00 +0100"', LETTER))
        self.answer(client.delete("Sent"))
        self.answer(client.delete("Sent"), "NO")
        client.logout()
        self.assertEqual(service.stop(), 0)
        service = self.service()
        client = service.login("alice")
        self.assertEqual(sorted(self.answer(client.list())),
                         [b'(\\HasNoChildren) "/" INBOX', b'(\\HasNoChildren) "/" a/x', b'(\\Noselect \\HasChildren) "/" a'])
        self.assertEqual(self.answer(client.lsub()), [b'() "/" a/b/c'])
        self.answer(client.select("a/x"))
        self.assertEqual(self.answer(client.fetch("1", "(FLAGS INTERNALDATE)")),
                         [b'1 (FLAGS (\\Seen) INTERNALDATE " 1-Jan-2020 10:00:00 +0100")'])
        client.logout()

    def test_idle_hears_of_mail_from_elsewhere(self):
        service = self.service()
        self.filled(service, 1)
        bare = Bare(service.imap).login()
        self.addCleanup(bare.close)
        bare.ask(b"s SELECT INBOX")
        bare.say(b"i IDLE\r\n")
        bare.until(b"+ ")
        with service.connect() as client:
            self.assertEqual(client.deliver(["alice"], b"Subject: new\r\n\r\nx\r\n"), [250])
        bare.until(b"* 2 EXISTS")
        other = service.login("alice")
        other.select()
        other.store("1", "+FLAGS", r"(\Deleted)")
        bare.until(b"* 1 FETCH (FLAGS (\\Deleted))")
        other.expunge()
        bare.until(b"* 1 EXPUNGE")
        bare.say(b"DONE\r\n")
        self.assertIn(b"i OK", bare.until(b"i ")[-1])
        other.logout()

    def test_a_thousand_messages_are_listed_searched_and_sorted(self):
        service = self.service()
        bare = Bare(service.imap).login()
        self.addCleanup(bare.close)
        for batch in range(10):
            text = b"a APPEND INBOX"
            for i in range(batch * 100, batch * 100 + 100):
                letter = b"Subject: %03d\r\nFrom: u%d@x.example\r\n\r\nword%d end\r\n" % (999 - i, i % 7, i)
                text += b" {%d+}\r\n%s" % (len(letter), letter)
            bare.say(text + b"\r\n")
            self.assertRegex(bare.until(b"a ")[-1], rb"a OK \[APPENDUID \d+ %d:%d\]" % (batch * 100 + 1, batch * 100 + 100))
        self.assertIn(b"* 1000 EXISTS\r\n", bare.ask(b"s SELECT INBOX"))
        lines = bare.ask(b"f FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE)")
        self.assertEqual(len(lines), 1001)
        self.assertEqual([int(line.split()[1]) for line in lines[:-1]], list(range(1, 1001)))
        self.assertIn(b" INPROGRESS ", bare.ask(b"p CAPABILITY")[0])
        for command, answer in ((b"q SEARCH BODY word77", b"* SEARCH 78 " + b" ".join(b"%d" % n for n in range(771, 781)) + b"\r\n"),
                                (b"r SORT (SUBJECT) UTF-8 1:20", b"* SORT " + b" ".join(b"%d" % n for n in range(20, 0, -1)) + b"\r\n")):
            lines = bare.ask(command)
            self.assertEqual(lines[-2], answer)
            for line in lines[:-2]:  # on a loaded machine
                self.assertRegex(line, rb'^\* OK \[INPROGRESS \("%c" \d+ 1000\)\] ' % command[0])
        self.assertIn(b"v OK", bare.ask(b"v STORE 1:* +FLAGS.SILENT (\\Deleted)")[-1])
        lines = bare.ask(b"x EXPUNGE")
        self.assertEqual(len(lines), 1001)
        self.assertIn(b"(MESSAGES 0)", bare.ask(b"t STATUS INBOX (MESSAGES)")[0])

    def test_large_messages_come_and_go_whole(self):
        service = self.service()
        client = self.filled(service, 0)
        text = b"Subject: large\r\n\r\n" + b"".join(b"%07d %s\r\n" % (i, b"x" * 60) for i in range(200000))
        self.answer(client.append("INBOX", None, None, text))
        self.assertTrue(self.answer(client.fetch("1", "BODY[]"))[0][1] == text)
        self.assertEqual(self.answer(client.search(None, "BODY", '"0199999 x"')), [b"1"])
        self.assertEqual(self.answer(client.search(None, "BODY", '"0200000 x"')), [b""])

    def test_pipelined_commands_are_answered_in_order(self):
        service = self.service()
        self.filled(service, 3)
        bare = Bare(service.imap)
        self.addCleanup(bare.close)
        count = 500
        bare.say(b"l LOGIN alice %s\r\ns SELECT INBOX\r\n" % PASSWORD.encode() +
                 b"".join(b"t%d FETCH 1:3 FLAGS\r\n" % i for i in range(count)) + b"z LOGOUT\r\n")
        lines = bare.until(b"z ")
        tagged = [line.split()[0] for line in lines if re.match(rb"t\d+ OK", line)]
        self.assertEqual(tagged, [b"t%d" % i for i in range(count)])
        self.assertEqual(bare.file.read(), b"")

    def test_malformed_input_is_answered_or_ended(self):
        service = self.service()
        seeds = random.Random(7)
        pieces = [b"a FETCH 1 BODY[", b"{10}", b"{99999999999}\r\n", b"(", b")", b'"', b"\r\n", b"\n", b"\0", b" ", b"\xff\xfe",
                  b"x SEARCH OR OR", b"y STORE 1 +FLAGS (", b"\\Seen", b"z APPEND INBOX {5+}\r\n", b"* OK", b"l SELECT INBOX\r\n",
                  b"m UID FETCH 1:* (UID BODY[])\r\n", b"n IDLE\r\n", b"DONE\r\n", b"o NOOP\r\n"]
        for _ in range(60):
            bare = Bare(service.imap).login()
            bare.socket.settimeout(0.05)
            try:
                bare.say(b"".join(seeds.choice(pieces) for _ in range(40)))
                bare.socket.shutdown(socket.SHUT_WR)
                bare.socket.settimeout(PATIENCE_S)
                bare.file.read()
            except (ConnectionError, TimeoutError):
                pass
            bare.close()
        client = self.filled(service, 1, "bob")
        self.answer(client.noop())

    def test_starttls_and_implicit_tls(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base], auth="clear_on_loopback: false")
        client = imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S)
        self.assertIn("LOGINDISABLED", client.capabilities)
        context = ssl._create_unverified_context()
        client.starttls(context)
        client.login("alice", PASSWORD)
        self.answer(client.append("INBOX", None, None, LETTER))
        client.logout()
        client = imaplib.IMAP4_SSL("127.0.0.1", service.imaps, ssl_context=context, timeout=PATIENCE_S)
        client.login("alice", PASSWORD)
        self.assertEqual(self.answer(client.select()), [b"1"])
        self.assertEqual(self.answer(client.fetch("1", "BODY[]"))[0][1], LETTER)
        client.logout()

    def test_deflated_within_tls(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base])
        bare = Bare(service.imap)
        self.addCleanup(bare.close)
        self.assertRegex(bare.ask(b"a COMPRESS DEFLATE")[-1], rb"^a BAD ")
        self.assertRegex(bare.ask(b"b STARTTLS")[-1], rb"^b OK ")
        bare.file.close()
        bare.socket = ssl._create_unverified_context().wrap_socket(bare.socket)
        bare.file = bare.socket.makefile("rb")
        self.assertIn(b" COMPRESS=DEFLATE ", bare.login().ask(b"c CAPABILITY")[0])
        self.assertRegex(bare.ask(b"d COMPRESS DEFLATE")[-1], rb"^d OK ")
        bare.file.close()
        bare.socket = bare.file = Deflated(bare.socket)
        letter = base64.b64encode(random.Random(5).randbytes(1_500_000))
        self.assertNotIn(b"COMPRESS", bare.ask(b"e CAPABILITY")[0])
        self.assertRegex(bare.ask(b"f APPEND INBOX {%d+}\r\n%s" % (len(letter), letter))[-1], rb"^f OK ")
        bare.ask(b"g SELECT INBOX")
        bare.say(b"h FETCH 1 BODY.PEEK[]\r\n" * 8)
        for _ in range(8):
            self.assertIn(b"{%d}\r\n" % len(letter), bare.until(b"* 1 FETCH")[-1])
            self.assertEqual(bare.file.read(len(letter)), letter)
            bare.until(b"h OK ")
        self.assertRegex(bare.ask(b"i COMPRESS DEFLATE")[-1], rb"^i NO \[COMPRESSIONACTIVE\]")

    def test_inflated_bombs_and_what_is_no_deflated_octet(self):
        service = self.service()
        for octets, answer in ((b"a SEARCH " + b"x" * (64 << 20), b"* BYE "), (b"a FETCH 1 " + b"(" * (2 << 20), b"* BYE "),
                               (b"a APPEND INBOX {999999999+}\r\n" + b"x" * (64 << 20), None), (None, b"* BYE ")):
            bare = Bare(service.imap).login()
            bare.ask(b"c COMPRESS DEFLATE")
            raw, bare.socket = bare.socket, Deflated(bare.socket)
            bare.file.close()
            bare.file = bare.socket
            if octets is None:
                raw.sendall(b"\xff" * 100)
            else:
                bare.say(octets)
            if answer:
                self.assertTrue(bare.file.read().startswith(answer))
            bare.close()
        client = self.filled(service, 1, "bob")
        self.answer(client.noop())

    def test_what_is_sent_in_the_clear_behind_starttls_is_never_read(self):
        base = certificate(self.folder, "mail.test")
        service = self.service(certificates=[base])
        bare = Bare(service.imap)
        self.addCleanup(bare.close)
        bare.say(b"a STARTTLS\r\nb NOOP\r\n")
        self.assertIn(b"a OK", bare.until(b"a ")[-1])
        bare.socket.settimeout(1)
        try:
            self.assertNotIn(b"b OK", bare.socket.recv(4096))
        except (TimeoutError, ConnectionError):
            pass

    def test_a_client_that_asks_much_and_reads_nothing_does_not_starve_another(self):
        service = self.service()
        first = self.filled(service, 200)
        slow = Bare(service.imap).login()
        self.addCleanup(slow.close)
        slow.ask(b"s SELECT INBOX")
        slow.say(b"".join(b"t%d FETCH 1:* (FLAGS BODY.PEEK[])\r\n" % i for i in range(200)))  # and reads nothing
        for _ in range(20):
            self.answer(first.noop())
        self.assertEqual(len(self.answer(first.fetch("1:*", "FLAGS"))), 200)
        self.assertIn(b"t199 OK", slow.until(b"t199 ")[-1])

    def test_many_clients_at_once_each_have_their_own_mailboxes(self):
        service = self.service()
        failures = []

        def work(user):
            try:
                client = service.login(user)
                client.select()
                for i in range(30):
                    client.append("INBOX", None, None, b"Subject: %s %d\r\n\r\nx\r\n" % (user.encode(), i))
                client.noop()
                found = client.search(None, "SUBJECT", user)[1][0].split()
                if len(found) != 30:
                    failures.append((user, found))
                client.logout()
            except Exception as error:  # told by the main thread
                failures.append((user, error))

        threads = [threading.Thread(target=work, args=(f"u{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
