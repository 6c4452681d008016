"""Mailboxes that are shared between users of different shards: alice is of the first, bob of the second, u0 of the third."""
import os
import random
import re
import subprocess
import threading
import unittest

from harness import BUILD, PATIENCE_S, SystemTest, sanitizer_environment
from test_imap import Bare
from test_mailboxd_store import Store, message

PLACED = "users: {placed: [{users: alice, shard: 0}, {users: bob, shard: 1}, {users: \"u*\", shard: 2}]}"
CHAOS_COMMANDS = int(os.environ.get("TUBEPOST_CHAOS_COMMANDS", "150"))


def letter(number, size=100):
    return message(f"number {number}", f"{number}\r\n" + "line\r\n" * (size // 6))


class SharedBetweenShards(SystemTest):
    store, shown = "log", b'INTERNALDATE " 1-Feb-2003 04:05:06 +0200"'

    def service(self, shards=3, settings=PLACED):
        service = Store(self.folder, settings, shards=shards, store=self.store)
        self.addCleanup(self.end, service)
        return service

    def bare(self, service, user):
        client = Bare(service.imap).login(user)
        self.addCleanup(client.close)
        return client

    def ok(self, client, command, wanted=b"OK"):
        lines = client.ask(command.encode() if isinstance(command, str) else command)
        self.assertEqual(lines[-1].split()[1], wanted, lines)
        return b"".join(lines)

    def append(self, client, mailbox, text, flags=""):
        return self.ok(client, f"ap APPEND {mailbox} ({flags}) {{{len(text)}+}}\r\n".encode() + text)

    def shared(self, service, rights="lrswipkxte", count=3):
        """alice has `Team` with messages, and bob and u0 may do that with it."""
        alice, bob, other = (self.bare(service, user) for user in ("alice", "bob", "u0"))
        self.ok(alice, "a CREATE Team")
        for i in range(count):
            self.append(alice, "Team", letter(i))
        for user in ("bob", "u0"):
            self.ok(alice, f"a SETACL Team {user} {rights}")
        return alice, bob, other

    def test_it_is_seen_read_and_changed_from_everywhere(self):
        service = self.service()
        alice, bob, other = self.shared(service)
        self.assertIn(b'"/" shared/alice/Team\r\n', self.ok(bob, 'a LIST "" *'))
        self.assertEqual(self.ok(bob, 'a LIST "" shared/%'), b'* LIST (\\Noselect \\HasChildren) "/" shared/alice\r\na OK Completed\r\n')
        listed = self.ok(bob, 'a LIST "" shared/* RETURN (STATUS (MESSAGES UNSEEN) MYRIGHTS CHILDREN)')
        self.assertIn(b"* STATUS shared/alice/Team (MESSAGES 3 UNSEEN 3)\r\n* MYRIGHTS shared/alice/Team lrwstipekxcd\r\n", listed)
        self.ok(bob, "a SUBSCRIBE shared/alice/Team")
        self.assertIn(b"* LSUB () \"/\" shared/alice/Team\r\n", self.ok(bob, 'a LSUB "" *'))
        self.assertIn(b"\\Subscribed", self.ok(bob, 'a LIST (SUBSCRIBED) "" *'))
        self.ok(alice, "a SELECT Team")
        alice.say(b"i IDLE\r\n")
        alice.until(b"+")
        self.assertIn(b"* 3 EXISTS\r\n", self.ok(bob, "a SELECT shared/alice/Team"))
        self.ok(bob, "a STORE 2 +FLAGS (\\Seen $Word)")
        self.assertIn(b"$Word", alice.until(b"* 2 FETCH")[-1])
        other.ask(b"a EXAMINE shared/alice/Team")
        self.assertIn(b"$Word", self.ok(other, "b FETCH 2 FLAGS"))
        self.assertIn(letter(1), self.ok(other, "b FETCH 2 BODY.PEEK[]"))
        self.assertIn(b"* SEARCH 2\r\n", self.ok(bob, "a SEARCH KEYWORD $Word"))
        self.assertIn(b"* SEARCH 3\r\n", self.ok(bob, 'a UID SEARCH SUBJECT "number 2"'))
        self.assertIn(b"* SEARCH 3\r\n", self.ok(bob, b'a SEARCH SUBJECT {8}\r\nnumber 2'))
        self.assertIn(b"* SORT 3 2 1\r\n", self.ok(bob, "a SORT (REVERSE SUBJECT) UTF-8 ALL"))
        self.assertIn(b"* THREAD ", self.ok(bob, "a THREAD REFERENCES UTF-8 ALL"))
        self.assertIn(b"* ESEARCH", self.ok(bob, "a SEARCH RETURN (SAVE COUNT) 1:2"))
        self.assertEqual(self.ok(bob, "a FETCH $ UID").count(b"* "), 2)
        self.ok(bob, "a STORE 1 +FLAGS (\\Deleted)")
        self.assertIn(b"* 1 EXPUNGE\r\n", self.ok(bob, "a EXPUNGE"))
        alice.until(b"* 1 EXPUNGE")
        bob.say(b"i IDLE\r\n")
        bob.until(b"+")
        self.append(other, "shared/alice/Team", letter(9))
        bob.until(b"* 3 EXISTS")
        alice.until(b"* 3 EXISTS")
        bob.say(b"DONE\r\n")
        self.assertTrue(bob.until(b"i ")[-1].startswith(b"i OK"))
        self.assertIn(b"shared/alice/Team", self.ok(bob, "a GETQUOTAROOT shared/alice/Team"))
        self.ok(bob, "a CREATE shared/alice/Team/of-bob")
        self.assertIn(b"Team/of-bob", self.ok(other, 'a LIST "" *'))
        self.ok(bob, "a RENAME shared/alice/Team/of-bob shared/alice/Team/renamed")
        self.ok(bob, "a RENAME shared/alice/Team/renamed mine", b"NO")
        self.ok(bob, "a DELETE shared/alice/Team/renamed")
        self.ok(bob, "a SETACL shared/alice/Team u0 lr", b"NO")
        self.ok(bob, "a GETACL shared/alice/Team", b"NO")
        self.ok(bob, "a CLOSE")
        self.assertEqual(service.stop(), 0)

    def test_anyone_is_everybody_on_every_shard(self):
        service = self.service(settings=PLACED + "\nimap: {acl_anyone: true}")
        alice, bob, other = (self.bare(service, user) for user in ("alice", "bob", "u0"))
        self.ok(alice, "a CREATE All")
        self.assertNotIn(b"shared", self.ok(bob, 'a LIST "" *'))
        self.ok(alice, "a SETACL All anyone lr")
        for client in (bob, other):
            self.assertIn(b"shared/alice/All\r\n", self.ok(client, 'a LIST "" *'))
            self.ok(client, "a SELECT shared/alice/All")
        self.ok(alice, "a SETACL All -bob lr")
        bob.until(b"* BYE [NOPERM]")
        self.ok(other, "a NOOP")
        self.assertEqual(service.stop(), 0)
        service = self.service(settings=PLACED + "\nimap: {acl_anyone: true}")
        bob, other = self.bare(service, "bob"), self.bare(service, "u0")
        self.assertNotIn(b"shared", self.ok(bob, 'a LIST "" *'))
        self.assertIn(b"shared/alice/All\r\n", self.ok(other, 'a LIST "" *'))

    def test_much_is_appended_fetched_copied_and_moved(self):
        service = self.service()
        alice, bob, other = self.shared(service, count=0)
        texts = [letter(0, 3 << 20), letter(1), letter(2, 200000)]
        command = b"m APPEND shared/alice/Team"
        for text in texts:
            command += b" (\\Flagged) \" 1-Feb-2003 04:05:06 +0200\" {%d}\r\n" % len(text)
            bob.say(command)
            self.assertTrue(bob.file.readline().startswith(b"+"))
            bob.say(text)
            command = b""
        bob.say(b"\r\n")
        self.assertRegex(bob.until(b"m ")[-1], rb"m OK \[APPENDUID \d+ 1:3\]")
        self.ok(bob, "s SELECT shared/alice/Team")
        got = self.ok(bob, "f FETCH 1:3 (INTERNALDATE BODY.PEEK[])")
        for text in texts:
            self.assertTrue(text in got)
        self.assertEqual(got.count(self.shown), 3)
        self.assertRegex(self.ok(bob, "c UID COPY 1:3 INBOX"), rb"\[COPYUID \d+ 1:3 1:3\]")
        self.ok(bob, "s SELECT INBOX")
        self.assertTrue(texts[0] in self.ok(bob, "f FETCH 1 (FLAGS BODY.PEEK[])"))
        self.assertRegex(self.ok(bob, "c COPY 2:3 shared/alice/Team"), rb"\[COPYUID \d+ 2:3 4:5\]")
        moved = self.ok(bob, "c MOVE 1 shared/alice/Team")
        self.assertRegex(moved, rb"\* OK \[COPYUID \d+ 1 6\] Moved\r\n(.*\r\n)*\* 1 EXPUNGE\r\n")
        self.ok(bob, "s SELECT shared/alice/Team")
        self.ok(bob, "c MOVE 2:3 INBOX")
        self.assertIn(b"MESSAGES 4", self.ok(alice, "s STATUS Team (MESSAGES)"))
        self.assertIn(b"MESSAGES 4", self.ok(bob, "s STATUS INBOX (MESSAGES)"))
        # From one owner's to another's, neither of which is his.
        self.ok(other, "a CREATE Place")
        self.ok(other, "a SETACL Place bob lri")
        self.assertRegex(self.ok(bob, "c COPY 1:* shared/u0/Place"), rb"\[COPYUID \d+ [0-9:,]+ 1:4\]")
        self.ok(other, "s SELECT Place")
        got = self.ok(other, "f FETCH 1:* (INTERNALDATE BODY.PEEK[])")
        self.assertTrue(texts[0] in got and texts[2] in got)
        self.assertEqual(got.count(self.shown), 4)
        self.assertEqual(service.stop(), 0)

    def test_hundreds_are_moved_and_are_there_after_kill_9(self):
        service = self.service()
        alice, bob, _ = self.shared(service, count=0)
        text = letter(0)
        bob.say(b"m APPEND INBOX" + b"".join(b" {%d+}\r\n" % len(letter(i)) + letter(i) for i in range(600)) + b"\r\n")
        self.assertTrue(bob.until(b"m ")[-1].startswith(b"m OK"), text)
        self.ok(bob, "s SELECT INBOX")
        self.assertEqual(self.ok(bob, "m MOVE 51:550 shared/alice/Team").count(b"EXPUNGE"), 500)
        service.popen.kill()
        service.popen.wait()
        service = self.service()
        for user, mailbox, numbers in (("alice", "Team", range(50, 550)), ("bob", "INBOX", (*range(50), *range(550, 600)))):
            client = service.login(user)
            client.select(mailbox)
            self.assertTrue([part[1] for part in client.fetch("1:*", "(BODY.PEEK[])")[1] if isinstance(part, tuple)] == [letter(i) for i in numbers], user)
            client.logout()

    def test_what_is_taken_away_ends_the_session_that_has_it(self):
        service = self.service()
        alice, bob, other = self.shared(service)
        for client in (bob, other):
            self.ok(client, "s SELECT shared/alice/Team")
        other.say(b"i IDLE\r\n")
        other.until(b"+")
        self.ok(alice, "a SETACL Team u0 l")
        other.until(b"* BYE [NOPERM]")
        self.assertEqual(other.file.read(), b"")
        self.ok(alice, "a SETACL Team bob l")
        bob.until(b"* BYE [NOPERM]")
        bob = self.bare(service, "bob")
        self.ok(bob, "s SELECT shared/alice/Team", b"NO")
        self.ok(alice, "a SETACL Team bob lr")
        self.ok(bob, "s SELECT shared/alice/Team")
        self.ok(alice, "a DELETE Team")
        self.assertIn(b"* NO [NONEXISTENT]", self.ok(bob, "n NOOP"))
        self.ok(bob, "s SELECT INBOX")
        self.assertNotIn(b"alice", self.ok(bob, 'l LIST "" *'))

    def test_who_goes_in_the_middle_leaves_nothing_behind(self):
        service = self.service(settings=PLACED + "\nlimits: {user_address_connections: 0}")  # some end later than the next begin
        alice, bob, _ = self.shared(service, count=0)
        big = letter(0, 2 << 20)
        self.append(alice, "Team", big)
        self.append(bob, "INBOX", big)
        commands = (b"s SELECT shared/alice/Team\r\nf FETCH 1 BODY[]\r\n", b"s SELECT shared/alice/Team\r\nc COPY 1 INBOX\r\n",
                    b"s SELECT INBOX\r\nc COPY 1 shared/alice/Team\r\n", b"a APPEND shared/alice/Team {3000000+}\r\n" + big,
                    b"s SELECT shared/alice/Team\r\ni IDLE\r\n", b'l LIST "" *\r\n', b"s SELECT shared/alice/Team\r\no LOGOUT\r\n")
        for i in range(28):
            client = Bare(service.imap).login("bob")
            client.say(commands[i % 7])
            if i % 2 and i % 7 != 3:
                client.file.readline()
            client.close()
        client = self.bare(service, "bob")
        client.say(b"s SELECT shared/alice/Team\r\nf FETCH 1 BODY.PEEK[]\r\no LOGOUT\r\n")
        self.assertTrue(big in b"".join(client.until(b"o OK")))
        self.assertEqual(service.stop(), 0)

    def tool(self, service, *words):
        done = subprocess.run([os.path.join(BUILD, "tubepost"), "-c", service.config, "mailbox", *words], capture_output=True, text=True, timeout=PATIENCE_S, env=sanitizer_environment())
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def test_an_agent_is_nobody_s_session_and_ends_with_who_is_kicked(self):
        service = self.service(settings=PLACED + "\nlimits: {user_connections: 2, user_address_connections: 2}")
        alice, bob, other = self.shared(service)
        second = self.bare(service, "bob")
        for client in (bob, second, other):
            self.ok(client, "s SELECT shared/alice/Team")
        bob.say(b"i IDLE\r\n")
        bob.until(b"+")
        rows = self.tool(service, "who").splitlines()
        self.assertEqual([row.split()[:2] for row in rows[1:]], [["alice", "1"], ["bob", "2"], ["u0", "1"]])
        self.assertEqual(self.tool(service, "kick", "bob"), "2 sessions kicked\n")
        for client in (bob, second):
            client.until(b"* BYE")
        self.ok(other, "n NOOP")
        self.assertEqual(service.stop(), 0)

    def test_the_service_stops_with_agents_at_work(self):
        service = self.service()
        self.shared(service)
        clients = [self.bare(service, user) for user in ("bob", "u0") * 3]
        for i, client in enumerate(clients):
            self.ok(client, "s SELECT shared/alice/Team")
            client.say((b"i IDLE\r\n", b"a APPEND shared/alice/Team {1000}\r\n", b"f FETCH 1:* BODY[]\r\n")[i % 3])
            client.file.readline()
        self.assertEqual(service.stop(), 0)

    def listening(self, service, user, events):
        client = self.bare(service, user)
        client.answered = self.ok(client, f"n NOTIFY SET {events}")
        return client

    def test_notify_tells_of_all_shards(self):
        service = self.service()
        alice, bob, other = self.shared(service)
        listener = self.listening(service, "bob", "STATUS (subtree shared (MessageNew MessageExpunge FlagChange MailboxName MailboxMetadataChange))")
        self.assertIn(b"* STATUS shared/alice/Team (MESSAGES 3 UIDNEXT 4 ", listener.answered)
        self.append(alice, "Team", letter(3))
        listener.until(b"* STATUS shared/alice/Team (MESSAGES 4 UIDNEXT 5 ")
        self.append(other, "shared/alice/Team", letter(4))
        listener.until(b"* STATUS shared/alice/Team (MESSAGES 5 ")
        self.ok(alice, "s SELECT Team")
        self.ok(alice, "s STORE 1 +FLAGS (\\Seen \\Deleted)")
        listener.until(b"* STATUS shared/alice/Team (UIDVALIDITY ")
        self.ok(alice, "e EXPUNGE")
        listener.until(b"* STATUS shared/alice/Team (MESSAGES 4 ")
        self.ok(other, "m SETMETADATA shared/alice/Team (/shared/comment \"ours\")")
        listener.until(b"* METADATA shared/alice/Team /shared/comment\r\n")
        self.ok(other, "c CREATE Later")  # who has shared nothing before
        self.append(other, "Later", letter(5))
        self.ok(other, "a SETACL Later bob lr")
        listener.until(b'* LIST (\\HasNoChildren) "/" shared/u0/Later\r\n')
        listener.until(b"* STATUS shared/u0/Later (MESSAGES 1 ")
        self.ok(other, "r RENAME Later Soon")
        listener.until(b'* LIST (\\HasNoChildren) "/" shared/u0/Soon ("OLDNAME" (shared/u0/Later))\r\n')
        self.ok(alice, "a SETACL Team bob l")
        listener.until(b'* LIST (\\NoAccess \\HasNoChildren) "/" shared/alice/Team\r\n')
        self.ok(alice, "a DELETEACL Team bob")
        listener.until(b'* LIST (\\NonExistent \\HasNoChildren) "/" shared/alice/Team\r\n')
        self.ok(listener, "n NOTIFY NONE")
        self.append(other, "Soon", letter(6))
        self.assertEqual(self.ok(listener, "n NOOP"), b"n OK Completed\r\n")
        self.assertEqual(service.stop(), 0)

    def test_notify_tells_of_what_is_selected_and_subscribed_elsewhere(self):
        service = self.service()
        alice, bob, _ = self.shared(service)
        self.ok(bob, "s SUBSCRIBE shared/alice/Team")
        listener = self.listening(service, "bob", "(selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge)) (subscribed (MessageNew MessageExpunge))")
        self.append(alice, "Team", letter(3))
        listener.until(b"* STATUS shared/alice/Team (MESSAGES 4 ")
        self.ok(listener, "s SELECT shared/alice/Team")
        self.append(alice, "Team", letter(4))
        lines = b"".join(listener.until(b" UID 5)"))
        self.assertRegex(lines, rb"^\* 5 EXISTS\r\n\* 0 RECENT\r\n\* 5 FETCH \(BODY\[HEADER.FIELDS \(SUBJECT\)\] {\d+}\r\nSubject: number 4\r\n\r\n UID 5\)\r\n$")
        self.ok(alice, "s SELECT Team")
        self.ok(alice, "s STORE 2 +FLAGS (\\Flagged \\Deleted)")  # of flags he has not asked to hear
        self.ok(alice, "e EXPUNGE")
        self.assertEqual(listener.until(b"* 2 EXPUNGE"), [b"* 2 EXPUNGE\r\n"])
        self.ok(listener, "u UNSELECT")
        self.append(alice, "Team", letter(5))
        listener.until(b"* STATUS shared/alice/Team (MESSAGES 5 ")
        self.assertEqual(service.stop(), 0)

    def test_who_listens_to_all_shards_is_kicked_and_the_service_stops(self):
        service = self.service()
        alice, bob, other = self.shared(service)
        listeners = [self.listening(service, user, "(selected (MessageNew MessageExpunge)) (subtree shared (MessageNew MessageExpunge))") for user in ("bob", "u0", "alice") * 2]
        self.assertEqual([row.split()[:2] for row in self.tool(service, "who").splitlines()[1:]], [["alice", "3"], ["bob", "3"], ["u0", "3"]])
        self.assertEqual(self.tool(service, "kick", "bob"), "3 sessions kicked\n")
        for client in (bob, listeners[0], listeners[3]):
            client.until(b"* BYE")
        listeners[1].close()
        self.append(other, "shared/alice/Team", letter(3))
        listeners[4].until(b"* STATUS shared/alice/Team (MESSAGES 4 ")
        self.assertEqual(service.stop(), 0)

    def chaos(self, service, user, mailbox, seed, failures):
        """Random commands; none may be answered with BAD, and all are answered."""
        chance = random.Random(seed)
        other = {"Team": "INBOX"}.get(mailbox, "INBOX")
        try:
            client = Bare(service.imap).login(user)
            if seed % 2:
                client.ask(b"n NOTIFY SET (selected (MessageNew (UID BODY.PEEK[]) MessageExpunge FlagChange)) (subtree shared (MessageNew MessageExpunge FlagChange MailboxName))")
            client.ask(f"s SELECT {mailbox}".encode())
            for i in range(CHAOS_COMMANDS):
                text = letter(i, chance.choice((10, 1000, 50000)))
                uid = chance.randint(1, 60)
                command = chance.choice((
                    f"UID FETCH {uid}:* (FLAGS)", f"UID FETCH {uid} BODY.PEEK[]", f"UID STORE {uid} +FLAGS (\\Seen)", f"UID STORE {uid} FLAGS (\\Deleted $k{uid % 5})",
                    "EXPUNGE", "NOOP", f"UID COPY {uid}:{uid + 3} {other}", f"UID MOVE {uid} {other}", f"UID COPY {uid} {mailbox}", "UID SEARCH ALL", f"SELECT {mailbox}",
                    f"SELECT {other}", f"STATUS {mailbox} (MESSAGES UIDNEXT)", 'LIST "" * RETURN (STATUS (MESSAGES))', f"MYRIGHTS {mailbox}", "IDLE"))
                if chance.random() < 0.2:
                    command = f"APPEND {chance.choice((mailbox, other))} {{{len(text)}+}}\r\n{text.decode()}"
                if command == "IDLE":
                    client.say(b"t IDLE\r\n")
                    client.until(b"+")
                    client.say(b"DONE\r\n")
                    lines = client.until(b"t ")
                else:
                    lines = client.ask(f"t {command}".encode())
                if lines[-1].split()[1] not in (b"OK", b"NO") or lines[-1].startswith(b"t NO [SERVERBUG]"):
                    failures.append((command[:100], lines[-1]))
            client.ask(b"o LOGOUT")
            client.close()
        except Exception as error:  # pylint: disable=broad-except
            failures.append((user, repr(error)[:500]))

    def test_chaos(self):
        service = self.service()
        alice, bob, _ = self.shared(service)
        failures = []
        threads = [threading.Thread(target=self.chaos, args=(service, user, mailbox, seed, failures))
                   for seed, (user, mailbox) in enumerate((("alice", "Team"), ("bob", "shared/alice/Team"), ("u0", "shared/alice/Team"), ("bob", "shared/alice/Team")))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

        def seen(client, mailbox):
            self.ok(client, f"s SELECT {mailbox}")
            return sorted(re.findall(rb"UID (\d+) FLAGS \(([^)]*)\)", self.ok(client, "f UID FETCH 1:* (UID FLAGS)")))

        self.assertEqual(seen(alice, "Team"), seen(bob, "shared/alice/Team"))
        self.assertEqual(service.stop(), 0)


if __name__ == "__main__":
    unittest.main()
