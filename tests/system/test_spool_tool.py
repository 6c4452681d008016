"""tubepost spool: looking at the spool of a relay that was killed."""
import glob
import hashlib
import json
import os
import re
import signal
import subprocess
import unittest

from harness import BUILD, Client, SystemTest, sanitizer_environment, wait_until

LINES = 400
LARGE = 40000  # of many records, of which one will be damaged


def wire(number, lines=LINES):
    return (f"Subject: number {number}\r\n\r\n..stuffed twice\r\n..\r\n" + f"text of the message {number:06}\r\n" * lines).encode()


def text_of(number, lines=LINES):
    return f"Subject: number {number}\n\n.stuffed twice\n.\n" + f"text of the message {number:06}\n" * lines


def tool(*arguments):
    return subprocess.run([os.path.join(BUILD, "tubepost"), *arguments], text=True, capture_output=True, timeout=60,
                          env=sanitizer_environment())


class SpoolTool(SystemTest):
    def killed(self, count=24, large=None):
        """A relay that has accepted so much, and is killed: for a domain where nobody listens. Returns {number: id}."""
        self.hop = os.path.join(self.folder, "lmtp")
        self.killed_relay = relay = self.relay(
            f"  - {{match: \"*\", via: lmtp, to: [\"unix:{self.hop}\"]}}",
            settings="shards: 2\nretry: {first: 300ms, limit: 1s, expire: 1h, jitter_pct: 0}\n"
                     "spool: {path: %s, segment_bytes: 4M, memory_bytes: 16M}" % os.path.join(self.folder, "spool"))
        wait_until(lambda: relay.output().count("messages wait; ") == 2, "both shards")
        ids = {}
        for number in range(count):
            with Client(relay.port) as client:
                client.command("EHLO client.test")
                for command in (f"MAIL FROM:<from{number}@client.test>", f"RCPT TO:<to{number}@example{number % 3}.org>",
                                "RCPT TO:<second@example.net>", "DATA"):
                    self.assertIn(client.command(command)[0], "23")
                reply = client.command(wire(number, LARGE if number == large else LINES) + b".\r\n")
                self.assertTrue(reply.startswith("250"), reply)
                ids[number] = reply.split()[-1]
        return ids

    def digest(self):
        digests = {}
        for path in sorted(glob.glob(os.path.join(self.folder, "spool", "*", "*"))):
            with open(path, "rb") as f:
                digests[path] = hashlib.sha256(f.read()).hexdigest()
        return digests

    def shard_digest(self, shard):
        return {path: digest for path, digest in self.digest().items()
                if os.path.basename(os.path.dirname(path)) == str(shard)}

    def exported(self, folder, ident):
        with open(os.path.join(folder, ident + ".eml"), newline="") as f:
            return f.read()

    def test_a_killed_relays_spool_is_checked_counted_and_exported_and_not_changed(self):
        ids = self.killed()
        relay, spool, out = self.killed_relay, os.path.join(self.folder, "spool"), os.path.join(self.folder, "out")
        busy = tool("spool", "check", spool)
        self.assertEqual(busy.returncode, 75)
        self.assertIn("a relay works on this spool", busy.stderr)
        relay.stop(signal.SIGKILL)
        before = self.digest()

        checked = tool("spool", "check", spool)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        self.assertEqual(len(checked.stdout.splitlines()), 2, checked.stdout)  # a line a shard

        stat = json.loads(tool("--json", "spool", "stat", spool).stdout)
        self.assertEqual((stat["messages"], stat["recipients_waiting"], stat["damaged_bytes"]), (24, 48, 0))
        self.assertEqual(stat["recipients_by_domain"],
                         {"example.net": 24, "example0.org": 8, "example1.org": 8, "example2.org": 8})
        self.assertEqual(stat["messages_by_age"]["below 1 hour"], 24)
        self.assertIn("recipients by domain", tool("-c", relay.config, "spool", "stat").stdout)

        run = tool("spool", "export", "--to", out, spool)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(sorted(os.listdir(out)), sorted(ident + ".eml" for ident in ids.values()))
        for number, ident in ids.items():
            text = self.exported(out, ident)
            self.assertTrue(text.startswith(f"X-Envelope-From: <from{number}@client.test>\n"
                                            f"X-Envelope-To: <to{number}@example{number % 3}.org>\n"
                                            f"X-Envelope-To: <second@example.net>\nReceived: "), text[:300])
            self.assertTrue(text.endswith(text_of(number)), number)

        one = os.path.join(self.folder, "one")
        run = tool("spool", "export", "--to", one, "--id", ids[5], "--envelope", "json", spool)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(sorted(os.listdir(one)), [ids[5] + ".eml", ids[5] + ".json"])
        with open(os.path.join(one, ids[5] + ".json")) as f:
            envelope = json.load(f)
        self.assertEqual(envelope["sender"], "from5@client.test")
        self.assertEqual([(r["address"], r["state"]) for r in envelope["recipients"]],
                         [("to5@example2.org", "waiting"), ("second@example.net", "waiting")])
        self.assertTrue(self.exported(one, ids[5]).startswith("Received: "))
        self.assertEqual(tool("spool", "export", "--to", one, "--id", "0000000000000", spool).returncode, 65)
        self.assertEqual(tool("spool", "export", "--to", one, "--id", "no-id", spool).returncode, 64)
        self.assertEqual(tool("spool", "check", self.folder).returncode, 66)

        self.assertEqual(self.digest(), before)
        sink = self.sink(path=self.hop, lmtp=True)
        relay.restart()
        wait_until(lambda: len(sink.messages) >= 24, "all messages after the restart")

    def test_damage_is_found_in_the_message_that_has_it_and_what_is_whole_of_the_message_is_exported(self):
        ids = self.killed(6, large=3)
        spool, out = os.path.join(self.folder, "spool"), os.path.join(self.folder, "out")
        self.killed_relay.stop(signal.SIGKILL)
        hurt = []
        for path in glob.glob(os.path.join(spool, "*", "*.segment")):
            with open(path, "r+b") as f:
                at = f.read().find(b"text of the message 000003")
                if at >= 0:
                    f.seek(at + 2000)
                    f.write(b"\xff")
                    hurt.append(os.path.relpath(path, spool))
        self.assertEqual(len(hurt), 1)
        checked = tool("spool", "check", spool)
        self.assertEqual(checked.returncode, 65, checked.stdout)
        self.assertRegex(checked.stdout, ids[3] + r": \d+ of \d{7} bytes of the message are lost")
        self.assertEqual(sum(map(int, re.findall(r"(\d+) messages for", checked.stdout))), 6)
        run = tool("spool", "export", "--to", out, spool)
        self.assertEqual(run.returncode, 65)
        self.assertEqual(len(os.listdir(out)), 6)
        self.assertTrue(self.exported(out, ids[3]).startswith("X-Tubepost-Damaged: yes\nX-Envelope-From: <from3@"))
        self.assertIn("bytes of this message are lost", self.exported(out, ids[3]))
        self.assertTrue(self.exported(out, ids[4]).endswith(text_of(4)))

    def test_a_file_that_cannot_be_used_is_named_and_nothing_is_freed(self):
        ids = self.killed(6)
        relay, spool = self.killed_relay, os.path.join(self.folder, "spool")
        relay.stop(signal.SIGKILL)
        before = self.shard_digest(0)
        bad = os.path.join(spool, "0", "00000777.segment")
        os.mkdir(bad)  # it opens for reading alone, and every read of it fails

        checked = tool("spool", "check", spool)
        self.assertEqual(checked.returncode, 65, checked.stdout + checked.stderr)
        self.assertRegex(checked.stdout, r"0/00000777\.segment: .*unreadable: Is a directory")
        with self.assertRaises(Exception):
            relay.restart()
        wait_until(lambda: "0/00000777.segment cannot be opened: Is a directory" in relay.output(), "the file's name")
        os.rmdir(bad)
        self.assertEqual(self.shard_digest(0), before)

        sink = self.sink(path=self.hop, lmtp=True)
        relay.restart()
        wait_until(lambda: len(sink.messages) >= len(ids), "all messages after the restart")


if __name__ == "__main__":
    unittest.main()
