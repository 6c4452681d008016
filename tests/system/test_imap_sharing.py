"""Rights, others' mailboxes and metadata over IMAP: with Python's imaplib, over kill -9, and beside Dovecot 2.3."""
import imaplib
import os
import re
import socket
import unittest

from harness import free_port
from test_imap_against_dovecot import Reader, Session, meaning, show
from test_mail_clients import PASSWORD, Rig as ClientRig, letter

imaplib.Commands.setdefault("GETMETADATA", ("AUTH", "SELECTED"))
imaplib.Commands.setdefault("SETMETADATA", ("AUTH", "SELECTED"))
imaplib.Commands.setdefault("NOTIFY", ("AUTH", "SELECTED"))


class SharingRig(ClientRig):
    users = ("alice", "bob", "carol")

    def client(self, user):
        connection = imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=60)
        connection.login(user, PASSWORD)
        self.addCleanup(connection.sock.close)
        return connection

    def good(self, answer):
        self.assertEqual(answer[0], "OK", answer)
        return answer[1]

    def refused(self, answer, code):
        self.assertEqual(answer[0], "NO", answer)
        self.assertIn(code, answer[1][0])

    def told(self, connection, beginning):
        """What comes unasked, up to a line that begins so."""
        lines = []
        while not lines or not lines[-1].startswith(beginning):
            line = connection.readline().rstrip(b"\r\n")
            self.assertTrue(line.startswith(b"* "), line)
            lines.append(line)
        return lines


class Sharing(SharingRig):
    def metadata(self, connection, mailbox, entries):
        kind, _ = connection._simple_command("GETMETADATA", mailbox, entries)  # imaplib has no name for it
        self.assertEqual(kind, "OK")
        return connection._untagged_response(kind, [None], "METADATA")[1]

    def test_imaplib_gives_uses_and_takes_rights(self):
        alice, bob, carol = map(self.client, self.users)
        self.good(alice.create("work"))
        self.good(alice.append("work", None, None, letter(1)))
        self.assertIn(b"ACL", b" ".join(self.good(alice.capability())).split())
        self.assertIn(b"RIGHTS=texk", b" ".join(self.good(alice.capability())).split())
        self.assertEqual(self.good(alice.getacl("work")), [b"work alice lrwstipekxacd"])
        self.refused(bob.select("shared/alice/work"), b"[NONEXISTENT]")
        self.good(alice.setacl("work", "bob", "lrsi"))
        self.assertEqual(self.good(bob.myrights("shared/alice/work")), [b"shared/alice/work lrsi"])
        self.assertEqual(self.good(bob.namespace()), [b'(("" "/")) (("shared/" "/")) NIL'])
        listed = b"\n".join(self.good(bob.list()))
        self.assertIn(b'"/" shared/alice/work', listed)
        self.assertNotIn(b"alice", b"\n".join(self.good(carol.list())))
        self.refused(bob.getacl("shared/alice/work"), b"[NOPERM]")
        self.refused(carol.getacl("shared/alice/work"), b"[NONEXISTENT]")
        self.refused(carol.getacl("shared/alice/none"), b"[NONEXISTENT]")
        self.assertEqual(self.good(bob.select("shared/alice/work")), [b"1"])
        self.good(bob.store("1", "+FLAGS", "(\\Seen \\Flagged)"))
        self.assertEqual(imaplib.ParseFlags(self.good(bob.fetch("1", "(FLAGS)"))[0]), (b"\\Seen",))
        self.refused(bob.store("1", "+FLAGS", "\\Flagged"), b"[NOPERM]")
        self.good(bob.append("shared/alice/work", "\\Flagged", None, letter(2)))
        self.good(bob.subscribe("shared/alice/work"))
        self.assertIn(b"shared/alice/work", self.good(bob.lsub())[0])
        self.good(alice.select("work"))
        self.assertEqual(self.good(alice.search(None, "UNFLAGGED")), [b"1 2"])
        self.assertIn(letter(2), self.good(alice.fetch("2", "(BODY.PEEK[])"))[0])
        self.good(alice.deleteacl("work", "bob"))
        with self.assertRaises(imaplib.IMAP4.abort) as told:
            bob.noop()
            bob.noop()
        self.assertIn("NOPERM", str(told.exception))
        self.assertNotIn(b"alice", b"\n".join(self.good(self.client("bob").list())))

    def test_imaplib_keeps_notes(self):
        alice, bob = self.client("alice"), self.client("bob")
        self.good(alice.create("work"))
        self.good(alice.setacl("work", "bob", "lr"))
        self.assertEqual(alice._simple_command("SETMETADATA", "work", '(/private/comment "mine" /shared/comment "ours")')[0], "OK")
        self.assertEqual(self.metadata(alice, "work", "(/private/comment /shared/comment)"), [b'work (/private/comment "mine" /shared/comment "ours")'])
        self.assertEqual(self.metadata(bob, "shared/alice/work", "(/private/comment /shared/comment)"),
                         [b'shared/alice/work (/private/comment NIL /shared/comment "ours")'])
        self.good(alice.rename("work", "play"))
        self.assertEqual(self.metadata(bob, "shared/alice/play", "/shared/comment"), [b'shared/alice/play (/shared/comment "ours")'])

    def test_notify_tells_of_the_mailboxes_of_others(self):
        alice, bob = self.client("alice"), self.client("bob")
        self.good(alice.create("work"))
        self.good(bob._simple_command("NOTIFY", "SET", "(subtree shared (MessageNew MessageExpunge MailboxName))"))
        self.good(alice.append("work", None, None, letter(1)))
        self.good(alice.setacl("work", "bob", "lr"))
        self.assertIn(b'* LIST (\\HasNoChildren) "/" shared/alice/work', self.told(bob, b"* STATUS shared/alice/work (MESSAGES 1 "))
        self.good(alice.append("INBOX", None, None, letter(2)))
        self.good(alice.append("work", None, None, letter(2)))
        self.assertNotIn(b"INBOX", b"".join(self.told(bob, b"* STATUS shared/alice/work (MESSAGES 2 ")))
        self.good(alice.setacl("work", "bob", '""'))
        self.told(bob, b'* LIST (\\NonExistent \\HasNoChildren) "/" shared/alice/work')
        self.good(alice.append("work", None, None, letter(3)))
        self.good(alice.rename("work", "play"))
        self.good(alice.setacl("play", "bob", "lr"))
        after = self.told(bob, b"* STATUS shared/alice/play (MESSAGES 3 ")
        self.assertNotIn(b"shared/alice/work", b"".join(after))

    def test_what_was_answered_is_there_after_kill_9_with_and_without_the_index(self):
        alice = self.client("alice")
        self.good(alice.create("work"))
        self.good(alice.append("work", None, None, letter(1)))
        store = os.path.join(self.folder, "store")
        for index_is_kept in (True, False):
            number = int(index_is_kept)
            self.good(alice.setacl("work", "bob", "lr"))
            self.good(alice.setacl("work", "carol", "lrs"))
            self.good(alice.deleteacl("work", "carol"))
            self.assertEqual(alice._simple_command("SETMETADATA", "work", f'(/shared/n "{number}" /private/x "{number}")')[0], "OK")
            self.assertEqual(alice._simple_command("SETMETADATA", '""', f'(/private/y "{number}")')[0], "OK")
            self.service.popen.kill()
            self.service.popen.wait()
            if not index_is_kept:
                index = [name for name in os.listdir(store) if name.startswith("index")]
                self.assertTrue(index)
                for name in index:
                    os.unlink(os.path.join(store, name))
            self.start_service()
            alice, bob, carol = map(self.client, self.users)
            self.assertEqual(self.good(alice.getacl("work")), [b"work bob lr alice lrwstipekxacd"])
            self.assertEqual(self.good(bob.select("shared/alice/work", readonly=True)), [b"1"])
            self.assertIn(b"shared/alice/work", b"\n".join(self.good(bob.list())))
            self.refused(carol.select("shared/alice/work"), b"[NONEXISTENT]")
            self.assertEqual(self.metadata(alice, "work", "(/shared/n /private/x)"), [b'work (/shared/n "%d" /private/x "%d")' % (number, number)])
            self.assertEqual(self.metadata(alice, '""', "/private/y"), [b'"" (/private/y "%d")' % number])


class SharingMaildirs(SharingRig):
    def start_service(self):
        with open(self.settings) as file:
            settings = file.read()
        self.write("mailboxd.yaml", settings.replace("format: log", "format: maildir"))
        super().start_service()

    def test_notify_follows_the_maildir_of_who_is_not_there(self):
        alice, bob = self.client("alice"), self.client("bob")
        self.good(alice.create("work"))
        self.good(alice.setacl("work", "bob", "lr"))
        alice.logout()
        self.good(bob._simple_command("NOTIFY", "SET", "(mailboxes shared/alice/work (MessageNew MessageExpunge))"))
        folder, name = os.path.join(self.folder, "store", "alice", ".work"), "1700000000.M1P1.client.test"
        with open(os.path.join(folder, "tmp", name), "wb") as file:  # another program delivers
            file.write(letter(1))
        os.rename(os.path.join(folder, "tmp", name), os.path.join(folder, "new", name))
        self.told(bob, b"* STATUS shared/alice/work (MESSAGES 1 ")


# ---- Beside Dovecot ----

class UserSession(Session):
    def __init__(self, port, user):
        self.user = user
        super().__init__(port)

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.ask(f"LOGIN {self.user} {PASSWORD}".encode())


def text_of(word):
    return word[1] if isinstance(word, tuple) else word


def sharing_meaning(responses):
    """As meaning(); of rights the order says nothing, nor does a line without any; entries may come in several responses."""
    rest, said = [], []
    for response in responses:
        match = re.match(rb"\* (ACL|MYRIGHTS|LISTRIGHTS|METADATA) ", response)
        if not match:
            rest.append(response)
            continue
        words = Reader(response[2:]).words()
        if words[0] == b"ACL":
            pairs = zip(words[2::2], words[3::2])
            said.append((b"ACL", text_of(words[1]), sorted((text_of(who), bytes(sorted(text_of(letters)))) for who, letters in pairs if text_of(letters))))
        elif words[0] == b"MYRIGHTS":
            said.append((b"MYRIGHTS", text_of(words[1]), bytes(sorted(text_of(words[2])))))
        elif words[0] == b"LISTRIGHTS":
            said.append((b"LISTRIGHTS", text_of(words[1]), text_of(words[2]), sorted(b"".join(map(text_of, words[3:])))))
        else:
            said.extend((b"METADATA", text_of(words[1]), text_of(name), text_of(value)) for name, value in zip(words[2][::2], words[2][1::2]))
    return sorted([*meaning(rest), *map(repr, said)])


NOTES = r"""a GETMETADATA INBOX /private/comment|a SETMETADATA INBOX (/private/comment "x" /shared/comment "y")|a GETMETADATA INBOX (/private/comment /shared/comment /private/none)
a GETMETADATA (DEPTH infinity) INBOX /private|a GETMETADATA (DEPTH 1) INBOX (/private/comment)|a SETMETADATA INBOX (/private/a/b "xy" /private/a/c/d "z")|a GETMETADATA (DEPTH 1) INBOX /private/a
a GETMETADATA (DEPTH infinity MAXSIZE 1) INBOX /private/a|a GETMETADATA (MAXSIZE 1) INBOX /private/a/b|a GETMETADATA (MAXSIZE 2) INBOX /private/a/b|a GETMETADATA INBOX (DEPTH 1) /private/a|a GETMETADATA INBOX /PRIVATE/Comment
a GETMETADATA INBOX /other/x|a SETMETADATA INBOX (/other/x "a")|a SETMETADATA INBOX (/private/comment NIL)|a GETMETADATA INBOX /private/comment|a GETMETADATA nowhere /private/comment|a SETMETADATA nowhere (/private/comment "x")
a SETMETADATA "" (/private/comment "srv")|a GETMETADATA "" /private/comment|a SETMETADATA "" (/shared/comment "srv")|a GETMETADATA "" (/shared/comment /shared/admin)|a SETMETADATA INBOX (/private/comment "")|a GETMETADATA INBOX /private/comment
a GETMETADATA INBOX /private|a GETMETADATA INBOX /private/a/|a GETMETADATA INBOX /private//a|a GETMETADATA INBOX ()|a SETMETADATA INBOX ()|a GETMETADATA "" (/private/vendor/x)|a SETMETADATA INBOX (/shared/vendor/x/y "q")|a GETMETADATA INBOX (/shared/vendor/x/y)
a GETMETADATA INBOX|a GETMETADATA|a SETMETADATA INBOX|a SETMETADATA INBOX (/private/x)|a GETMETADATA (MAXSIZE x) INBOX /private/x|a GETMETADATA (DEPTH 2) INBOX /private/x|a GETMETADATA INBOX "/private/*"|a SETMETADATA INBOX (/private/comment {3+}~two)
a GETMETADATA INBOX /private/comment|a CREATE box|a SETMETADATA box (/private/comment "b")|a RENAME box case|a GETMETADATA case /private/comment|a DELETE case|a CREATE case|a GETMETADATA case /private/comment""".replace("\n", "|").split("|")

RIGHTS = r"""a CREATE work|a CREATE work/sub|a GETACL work|a MYRIGHTS work|a LISTRIGHTS work bob|a LISTRIGHTS work anyone|a SETACL work bob lrQ|a SETACL work bob lrq|a SETACL work bob lr|a GETACL work|a SETACL work bob +s|a SETACL work bob -r|a SETACL work bob +c
a SETACL work bob +d|a GETACL work|a SETACL work -bob s|a GETACL work|a SETACL work bob lr|a DELETEACL work -bob|a SETACL work stranger lr|a GETACL work|a DELETEACL work stranger|a DELETEACL work stranger|a SETACL work "" lr|a SETACL work alice lr|a GETACL work
a MYRIGHTS work|a DELETEACL work alice|a GETACL work|a SETACL nowhere bob lr|a GETACL nowhere|a MYRIGHTS nowhere|a DELETEACL nowhere bob|a SETACL work bob ""|a GETACL work|a SETACL work bob lr|a SETACL work bob|a SETACL work|a GETACL|a LISTRIGHTS work
B LIST "" *|b LIST "" %|b LIST "" shared/%|b LIST "" shared/alice/%|b LSUB "" *|b NAMESPACE|b MYRIGHTS shared/alice/work|b GETACL shared/alice/work|b SETACL shared/alice/work bob lrswipkxtea|b DELETEACL shared/alice/work bob|b MYRIGHTS shared/alice/secret
b GETACL shared/alice/secret|b SETACL shared/alice/secret bob lr|b MYRIGHTS shared/nobody/x|b SELECT shared/alice/work|b STATUS shared/alice/work (MESSAGES)|b SELECT shared/alice/INBOX|b SELECT shared/nobody/INBOX|b CREATE shared/alice/work/new|b CREATE shared/alice/new
b DELETE shared/alice/work|b DELETE shared/alice/secret|b RENAME shared/alice/work shared/alice/mine|b RENAME shared/alice/work mine|b APPEND shared/alice/work {1+}~x|b APPEND shared/alice/secret {1+}~x|b CREATE shared/x|b SUBSCRIBE shared/alice/work|b LSUB "" *
b LIST (SUBSCRIBED) "" *|b UNSUBSCRIBE shared/alice/work|a APPEND work (\Flagged) {1+}~x|a APPEND work {1+}~y|a SETACL work bob lrs|B SELECT shared/alice/work|b FETCH 1 BODY[]|b STORE 1 +FLAGS (\Seen)|b STORE 1 FLAGS (\Flagged \Seen)|b STORE 1 FLAGS ()
b STORE 1 +FLAGS (\Flagged \Seen)|b STORE 1 +FLAGS (\Deleted)|b EXPUNGE|b COPY 1 shared/alice/work|b MOVE 1 INBOX|b FETCH 1 FLAGS|b CLOSE|a SETACL work bob lri|B SELECT shared/alice/work|b APPEND shared/alice/work (\Seen \Flagged \Deleted) {1+}~z|b FETCH 2 BODY[]
b COPY 1 shared/alice/work|b FETCH 1:* FLAGS|b CLOSE|a SETACL work bob lriwst|B SELECT shared/alice/work|b APPEND shared/alice/work (\Seen \Flagged \Deleted) {1+}~z|b FETCH 1:* FLAGS|b STORE 1 FLAGS (\Deleted)|b CLOSE|a SETACL work bob lrte|B SELECT shared/alice/work
b EXPUNGE|b STORE 1 +FLAGS (\Deleted)|b EXPUNGE|b MOVE 1 INBOX|b CLOSE|a SETACL work bob l|B SELECT shared/alice/work|b MYRIGHTS shared/alice/work|b STATUS shared/alice/work (MESSAGES)|b APPEND shared/alice/work {1+}~x|b DELETE shared/alice/work|b LIST "" *
a SETACL work bob lrk|B CREATE shared/alice/work/bobs|b MYRIGHTS shared/alice/work/bobs|a GETACL work/bobs|b DELETE shared/alice/work/bobs|a SETACL work/bobs bob +x|B DELETE shared/alice/work/bobs|b MYRIGHTS shared/alice/work/bobs|a DELETEACL work bob|B LIST "" *
b SELECT shared/alice/work|b MYRIGHTS shared/alice/work|b STATUS shared/alice/work (MESSAGES)""".replace("\n", "|").split("|")

NOTES_OF_ANOTHER = r"""a CREATE work|a SETMETADATA work (/shared/comment "hers")|b SETMETADATA shared/alice/work (/shared/comment "his")|a SETACL work bob lr|B GETMETADATA shared/alice/work (/shared/comment /private/comment)|b SETMETADATA shared/alice/work (/private/comment "mine")
b SETMETADATA shared/alice/work (/shared/comment "r")|a GETMETADATA work (/shared/comment /private/comment)|a SETACL work bob ls|B SETMETADATA shared/alice/work (/shared/comment "s")|a SETACL work bob lw|B SETMETADATA shared/alice/work (/shared/comment "w")
a SETACL work bob li|B SETMETADATA shared/alice/work (/shared/comment "i")|a SETACL work bob l|B SETMETADATA shared/alice/work (/private/comment "l")|b SETMETADATA shared/alice/work (/shared/comment "l")|b GETMETADATA shared/alice/work (/shared/comment)
a SETACL work bob rw|B SETMETADATA shared/alice/work (/private/comment "x")|b GETMETADATA shared/alice/work (/shared/comment)|a GETMETADATA work (/shared/comment)""".replace("\n", "|").split("|")

# What may differ, and does, and why.
NOTES_ACCEPTED = {
    # The examples of RFC 5464 4.2.1 have the options behind the mailbox; Dovecot takes the grammar's place only.
    "a GETMETADATA INBOX (DEPTH 1) /private/a",
    # A list has at least one entry (RFC 5464 5).
    "a GETMETADATA INBOX ()", "a SETMETADATA INBOX ()",
    # The codes are of RFC 5530; Dovecot leaves them out, or has CANNOT, here.
    "a GETMETADATA nowhere /private/comment", "a SETMETADATA nowhere (/private/comment \"x\")", "a SETMETADATA \"\" (/shared/comment \"srv\")",
}
NOTES_OF_ANOTHER_ACCEPTED = {
    # The code is of RFC 5530; Dovecot leaves it out here.
    "b SETMETADATA shared/alice/work (/shared/comment \"his\")", "B SETMETADATA shared/alice/work (/private/comment \"x\")", "b GETMETADATA shared/alice/work (/shared/comment) (2)",
}
RIGHTS_ACCEPTED = {
    # Of a mailbox that is not there nobody has rights; Dovecot says what he would have.
    "a MYRIGHTS nowhere", "b MYRIGHTS shared/alice/work/bobs (2)",
    # The code is of RFC 5530; Dovecot leaves it out here.
    "b SELECT shared/alice/INBOX", "b SELECT shared/nobody/INBOX", "b SELECT shared/alice/work (2)", "b STATUS shared/alice/work (MESSAGES) (3)",
    # HIGHESTMODSEQ is always told (RFC 7162 3.1.2.1); Dovecot does not where nothing can be stored.
    "b SELECT shared/alice/work", "B SELECT shared/alice/work", "B SELECT shared/alice/work (2)", "B SELECT shared/alice/work (3)", "B SELECT shared/alice/work (4)",
    # CLIENTBUG is told by no RFC to be.
    "b STATUS shared/alice/work (MESSAGES)",
    # The right to take it away is missing, and there is no other place for it either: Dovecot says the second.
    "b RENAME shared/alice/work mine",
    # Attributes about children MAY come unasked (RFC 5258 4).
    'b LIST (SUBSCRIBED) "" *',
    # The new value is told (RFC 9051 6.4.6), also when it is the old one.
    "b STORE 1 +FLAGS (\\Seen)", "b STORE 1 FLAGS (\\Flagged \\Seen)",
    # Of what STORE asks for nothing is allowed, and EXPUNGE is not (RFC 4314 4); Dovecot does nothing and says OK.
    "b STORE 1 +FLAGS (\\Deleted)", "b EXPUNGE",
    # Without the right s nothing is set; Dovecot tells \\Seen, and forgets it.
    "b FETCH 2 BODY[]",
}


class AgainstDovecot(SharingRig):
    def setUp(self):
        super().setUp()
        port, folder = free_port(), os.path.join(self.folder, "dovecot")
        self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{port}", "users=" + ",".join(self.users), "set:mail_fsync = never", "set:mail_plugins = quota acl",
                        "set:protocol imap {\n  mail_plugins = quota acl imap_acl\n  imap_metadata = yes\n}", f"set:mail_attribute_dict = file:{folder}/mail/%u/attributes",
                        "set:namespace inbox {\n  inbox = yes\n  separator = /\n}",
                        f"set:namespace {{\n  type = shared\n  separator = /\n  prefix = shared/%%u/\n  location = maildir:{folder}/mail/%%u/Maildir\n  subscriptions = no\n  list = children\n}}",
                        f"set:plugin {{\n  acl = vfile\n  acl_shared_dict = file:{folder}/mail/shared-mailboxes\n}}")
        self.ports = self.imap_port, port
        self.sessions = {}

    def session(self, server, who):
        """B: another session of bob, since Dovecot remembers rights for a while."""
        user = {"a": "alice", "b": "bob"}[who.lower()]
        if who.isupper() and (server, user) in self.sessions:
            self.sessions.pop((server, user)).close()
        if (server, user) not in self.sessions:
            self.sessions[server, user] = opened = UserSession(self.ports[server], user)
            self.addCleanup(opened.close)
        return self.sessions[server, user]

    def compare(self, lines, accepted):
        different, seen = {}, {}
        for line in lines:
            seen[line] = seen.get(line, 0) + 1
            label = line if seen[line] == 1 else f"{line} ({seen[line]})"
            who, _, command = line.partition(" ")
            raw = [self.session(server, who).ask(command.encode().replace(b"~", b"\r\n")) for server in (0, 1)]
            ours, theirs = map(sharing_meaning, raw)
            if ours != theirs:
                different[label] = [one for one in ours if one not in theirs], [one for one in theirs if one not in ours], raw[0][-1], raw[1][-1]
        surprises = {label: difference for label, difference in different.items() if label not in accepted}
        show(surprises)
        self.assertEqual(list(surprises), [], "the answers say different things")
        self.assertEqual(sorted(accepted - set(different)), [], "they say the same, and need not be accepted")

    def test_metadata(self):
        self.compare(NOTES, NOTES_ACCEPTED)

    def test_metadata_of_anothers_mailbox(self):
        self.compare(NOTES_OF_ANOTHER, NOTES_OF_ANOTHER_ACCEPTED)

    def test_rights_and_others_mailboxes(self):
        self.compare(RIGHTS, RIGHTS_ACCEPTED)


if __name__ == "__main__":
    unittest.main()
