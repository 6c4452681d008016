"""`tubepost mailbox ...` for all users, or for those that a mask means, whichever shard has their mail."""
import glob
import mailbox
import os
import unittest

from harness import wait_until
from test_mailbox_tool import MailboxTool, message


class AllUsers(MailboxTool):
    """alice has one message, u0 to u3 have two each, in Archive too; bob has none at all."""
    shards = {}  # as the service is

    def setUp(self):
        super().setUp()
        self.start("users: {quota_bytes: 1M}", space="segment_bytes: 4M, keep_expunged: 1h", **self.shards)
        for user in ("alice", "u0", "u1", "u2", "u3"):
            client = self.client(user)
            client.append("INBOX", None, None, message("first"))
            if user != "alice":
                client.append("INBOX", None, None, message("second", "y" * 3000 + "\r\n"))
                client.create("Archive")
                client.append("Archive", None, None, message("old"))
            client.logout()

    def test_lines_begin_with_their_user(self):
        self.assertEqual(self.tool("list", "-A"), "alice INBOX\n" + "".join(f"u{i} INBOX\nu{i} Archive\n" for i in range(4)))
        self.assertEqual(self.tool("list", "-A", "I%"), "alice INBOX\n" + "".join(f"u{i} INBOX\n" for i in range(4)))
        self.assertEqual(self.lines("list", "-u", "*L?ce"),
                         [{"username": "alice", "mailbox": "INBOX"}])
        self.assertEqual(self.tool("status", "-u", "u*", "messages", "INBOX"), "".join(f"u{i} INBOX messages=2\n" for i in range(4)))
        self.assertEqual(self.tool("status", "-A", "-t", "messages", "*"),
                         "alice total messages=1\n" + "".join(f"u{i} total messages=3\n" for i in range(4)))
        rows = self.lines("status", "-u", "u?", "messages", "Archive")
        self.assertEqual(rows, [{"username": f"u{i}", "mailbox": "Archive", "messages": 1} for i in range(4)])

    def test_quota_is_a_column_more(self):
        lines = [line.split() for line in self.tool("quota", "-A").splitlines()]
        self.assertEqual(lines[0], ["username", "type", "value", "limit", "%"])
        self.assertEqual([line[:3] for line in lines[1:] if line[1] == "MESSAGE"],
                         [["alice", "MESSAGE", "1"]] + [[f"u{i}", "MESSAGE", "3"] for i in range(4)])
        self.assertEqual(len(lines), 16)
        self.assertEqual([(row["username"], row["messages"]) for row in self.lines("quota", "-u", "u*")],
                         [(f"u{i}", 3) for i in range(4)])

    def test_messages_are_found_fetched_expunged_and_had_back(self):
        rows = self.lines("search", "-A", "mailbox", "INBOX", "subject", "second")
        self.assertEqual([(row["username"], row["uid"]) for row in rows], [(f"u{i}", 2) for i in range(4)])
        self.assertRegex(self.tool("search", "-u", "u*", "subject", "old"), r"^(u\d F[0-9a-f]{16} 1\n){4}$")
        self.assertEqual(self.tool("fetch", "-A", "hdr.subject", "subject", "second").split("\f\n")[1],
                         "username: u1\nhdr.subject:\nSubject: second\r\n\r\n")
        rows = self.lines("fetch", "-u", "*", "uid user", "mailbox", "INBOX", "larger", "2K")
        self.assertEqual(rows, [{"username": f"u{i}", "uid": "2", "user": f"u{i}"} for i in range(4)])
        self.assertEqual(self.tool("expunge", "-A", "mailbox", "INBOX", "subject", "second"),
                         "".join(f"u{i} INBOX: 1 expunged\n" for i in range(4)))
        kept = self.tool("undelete", "-u", "u*", "--list", "INBOX").splitlines()
        self.assertEqual([line.split()[:2] for line in kept], [["username", "uid"]] + [[f"u{i}", "2"] for i in range(4)])
        self.assertEqual(self.tool("undelete", "-u", "u*", "INBOX"), "".join(f"u{i} 1 message restored\n" for i in range(4)))
        self.assertIn("expected a mailbox", self.tool("expunge", "-A", "mailbox", "INBOX", code=64))

    def test_each_is_exported_to_a_place_of_his_own(self):
        place = os.path.join(self.folder, "out")
        os.mkdir(place)
        self.assertEqual(self.tool("export", "-A", f"maildir:{place}/%u", "*"),
                         "alice 1 exported\n" + "".join(f"u{i} 3 exported\n" for i in range(4)))
        self.assertEqual(sorted(os.listdir(place)), ["alice", "u0", "u1", "u2", "u3"])
        self.assertEqual(sorted(m["Subject"] for m in mailbox.Maildir(f"{place}/u3", create=False)), ["first", "second"])
        self.assertEqual(self.lines("export", "-u", "u*", f"mbox:{place}/%u-%u.mbox"),
                         [{"username": f"u{i}", "exported": 2} for i in range(4)])
        self.assertTrue(os.path.exists(f"{place}/u2-u2.mbox"))
        self.assertIn("expected %u in the name of the file", self.tool("export", "-A", f"mbox:{place}/all", code=64))
        self.assertEqual(self.tool("export", "-u", "alice", f"mbox:{place}/100%u"), "1 exported\n")  # one user: as it stands
        self.assertTrue(os.path.exists(f"{place}/100%u"))

    def test_who_was_exported_before_does_not_keep_the_others_from_it(self):
        place = os.path.join(self.folder, "out")
        os.makedirs(f"{place}/alice")
        errors = self.tool("export", "-A", f"maildir:{place}/%u", code=73)
        self.assertEqual(errors, f"tubepost: alice: {place}/alice: File exists\n")
        self.assertEqual(self.output, "".join(f"u{i} 2 exported\n" for i in range(4)))

    def test_what_is_wrong_with_one_does_not_keep_it_from_the_others(self):
        errors = self.tool("list", "-A", "Archive", code=65)
        self.assertEqual(errors, "tubepost: alice: Archive: no such mailbox\n")
        self.assertEqual(self.output, "".join(f"u{i} Archive\n" for i in range(4)))
        for words, code, problem in (
                (["list", "-A", "-u", "alice"], 64, "expected -u USER or -A"), (["list", "-u", "x*"], 65, "nobody who has mail is called x*"),
                (["import", "-A", "mbox:x"], 64, "Usage: "), (["who", "-A"], 64, "Usage: "), (["check", "-A"], 64, "Usage: "),
                (["search", "-A", "weather"], 64, "'weather' is no key"), (["list", "-u", "*" * 300], 64, "malformed")):
            with self.subTest(words=words):
                self.assertIn(problem, self.tool(*words, code=code))
        self.assertEqual(self.service.stop(), 0)
        self.assertEqual(self.tool("list", "-A", code=69).count("does tubepost-mailboxd run?"), 1)


class AllUsersOfShards(AllUsers):
    """The same where two shards have the mail: u0 and u2 the first, alice and the others the second."""
    shards = {"shards": 2}
    by_lmtp = 2  # texts of a message to two: on both
    placed = "placed: [{users: \"u[02]\"}, {users: \"*\", shard: 1}]"

    def start(self, settings="", **kwargs):
        return super().start(settings.replace("users: {", "users: {" + self.placed + ", "), **kwargs)

    def test_who_is_there_on_any_shard_and_is_kicked_sees_it(self):
        clients = {user: self.client(user) for user in ("alice", "u0", "u1", "u2")}
        rows = self.lines("who")
        self.assertEqual(sorted(row["user"] for row in rows), sorted(clients))
        self.assertEqual(len({row["session"] for row in rows}), 4)
        numbers = {row["user"]: str(row["session"]) for row in rows}
        self.assertEqual(self.tool("kick", "--session", numbers["alice"]), "1 session kicked\n")
        self.assertEqual(clients["alice"].readline(), b"* BYE [UNAVAILABLE] Disconnected by the operator\r\n")
        self.assertEqual(self.tool("kick", "u*", "127.0.0.0/8"), "3 sessions kicked\n")
        for user in ("u0", "u1", "u2"):
            self.assertEqual(clients[user].readline(), b"* BYE [UNAVAILABLE] Disconnected by the operator\r\n")
        wait_until(lambda: self.lines("who") == [], "an empty list")
        self.assertIn("there is no such session", self.tool("kick", "u*", code=65))

    def test_counters_are_of_all_shards(self):
        clients = [self.client(user) for user in ("alice", "u0")]
        clients[0].select()
        clients[0].search(None, "TEXT", "text")
        with self.service.connect() as lmtp:
            self.assertEqual(lmtp.deliver(["alice", "u0"], message("x")), [250, 250])
        [status] = self.lines("stats", "0")
        counters, gauges = status["counters"], status["gauges"]
        self.assertEqual(status["shards"], 2)
        self.assertEqual(counters["imap"]["logins"], 7)  # and those that filled it
        self.assertEqual(gauges["sessions_imap"], 2)
        self.assertEqual((counters["mailbox"]["messages"], counters["mailbox"]["deliveries"]), (1, 2))
        self.assertEqual(counters["store"]["texts_committed"], 13 + self.by_lmtp)
        self.assertEqual(counters["outgoing"], {"sent": 0, "deferred": 0, "returned": 0, "dropped": 0, "connections": 0})
        self.assertEqual((counters["search"]["questions"], gauges["search_users"], gauges["outgoing_waiting"]), (1, 1, 0))
        disk = os.statvfs(self.service.mail)
        self.assertLessEqual(gauges["disk_free_bytes"], disk.f_blocks * disk.f_frsize)
        self.assertLessEqual(gauges["capacity_bytes"], disk.f_blocks * disk.f_frsize)
        metrics = self.tool("stats", "--prometheus")
        self.assertIn("tubepost_mailboxd_imap_logins_total 7\n", metrics)
        self.assertIn("# TYPE tubepost_mailboxd_outgoing_sent_total counter\ntubepost_mailboxd_outgoing_sent_total 0\n", metrics)
        self.assertIn("tubepost_mailboxd_search_questions_total 1\n", metrics)
        self.assertIn("# TYPE tubepost_mailboxd_search_users gauge\ntubepost_mailboxd_search_users 1\n", metrics)

    def test_large_texts_cross_to_the_operator(self):
        body = ("x" * 70 + "\r\n") * 10000
        client = self.client()
        self.assertEqual(client.append("INBOX", None, None, message("large", body))[0], "OK")
        [row] = self.lines("fetch", "-u", "alice", "text", "mailbox", "INBOX", "subject", "large")
        self.assertEqual(row["text"], message("large", body).decode())

    def state(self):
        """Where the logs are."""
        return self.service.mail

    def test_every_shard_is_checked_and_built_anew(self):
        state = self.state()
        self.assertIn("tubepost-mailboxd works on this store; stop it", self.tool("check", state, code=75))
        self.assertEqual(self.service.stop(), 0)
        files = sorted(os.listdir(state))
        facts = self.lines("check")
        self.assertEqual([(row["shard"], row["users"], row["differences"], row["damaged_bytes"]) for row in facts], [(0, 2, 0, 0), (1, 3, 0, 0)])
        output = self.tool("check")
        for shard in (0, 1):
            self.assertIn(f"{state}/{shard}: the index is as the log says\n", output)
        self.assertRegex(self.tool("rebuild"), rf"{state}/0: the index was built from \d+ records, of 2 users\n{state}/1: .* of 3 users\n$")
        self.assertEqual(sorted(os.listdir(state)), files)
        os.unlink(os.path.join(state, "index.1"))
        self.assertIn(f"{state}/1: the index was missing or of no use: it has been built from the log\n", self.tool("check"))
        for path in glob.glob(os.path.join(state, "1", "*.segment")):
            with open(path, "r+b") as f:
                at = f.read().find(b"Archive")
                if at >= 0:
                    f.seek(at)
                    f.write(b"#")
        self.tool("check", code=65)
        self.assertIn(f"{state}/0: the index is as the log says\n", self.output)
        self.assertRegex(self.output, rf"{state}/1: \d+ rows of the index are not as the log says\n")
        os.rename(os.path.join(state, "0"), os.path.join(state, "lost"))
        self.assertIn(f"{state}/0: the log of this shard is missing", self.tool("check", code=66))


if __name__ == "__main__":
    unittest.main()
