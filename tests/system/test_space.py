"""Space that runs out: the marks at which mail is put off in time, what they leave, and that all comes back."""
import json
import os
import subprocess
import unittest

from harness import Client, SystemTest, wait_until

QUICK = "retry: {first: 300ms, limit: 1s, expire: 1h, jitter_pct: 0}"
MIB = 1 << 20


def body_of(number, bytes_wanted):
    line = b"%08d " % number * 7 + b"\r\n"
    return b"X-Number: %d\r\n\r\n" % number + line * (bytes_wanted // len(line))


def send_one(client, number, bytes_wanted, parameters=""):
    """(the last command, its reply): 250 at the end, or the first refusal."""
    for command in (f"MAIL FROM:<a@client.test>{parameters}", "RCPT TO:<b@example.org>", "DATA"):
        reply = client.command(command)
        if reply[0] not in "23":
            client.command("RSET")
            return command, reply
    return ".", client.command(body_of(number, bytes_wanted) + b".\r\n")


class Space(SystemTest):
    def small_disk(self, megabytes, *options):
        image, at = os.path.join(self.folder, "image"), os.path.join(self.folder, "disk")
        with open(image, "wb") as f:
            f.truncate(megabytes * MIB)
        os.makedirs(at)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", *options, image], check=True)
        subprocess.run(["mount", "-o", "loop", image, at], check=True)
        self.addCleanup(subprocess.run, ["umount", at], check=True)
        return at

    def start(self, settings):
        """A relay whose next hop is not there yet."""
        self.path = os.path.join(self.folder, "lmtp")
        return self.relay(f"  - {{match: example.org, via: lmtp, to: [\"unix:{self.path}\"]}}",
                          settings=f"{QUICK}\n{settings}")

    def fill(self, relay, bytes_wanted, first=0):
        """Until it is refused, which must be at MAIL."""
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            for number in range(first, first + 20000):
                command, reply = send_one(client, number, bytes_wanted)
                if not reply.startswith("250"):
                    self.assertRegex(reply, r"^452 4\.3\.1 ")
                    self.assertTrue(command.startswith("MAIL"), command)
                    return number - first
        raise AssertionError("it was never full")

    def gauges(self, relay):
        return json.loads(relay.ctl("--json", "status").stdout)["gauges"]

    def serves(self, relay, number, bytes_wanted=1000):
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            return send_one(client, number, bytes_wanted)[1].startswith("250")

    def drained(self, relay, count):
        sink = self.sink(path=self.path, lmtp=True)
        relay.ctl("queue", "flush")  # the site was given a rest
        wait_until(lambda: len(sink.messages) >= count, f"{count} messages", 120)
        wait_until(lambda: self.gauges(relay)["messages_queued"] == 0, "an empty queue")
        return sink


@unittest.skipUnless(os.geteuid() == 0, "a file system of its own takes root")
class Disk(Space):
    def test_mail_is_put_off_at_mail_before_the_disk_is_full_and_the_queue_drains_to_empty(self):
        disk = self.small_disk(128)
        spool = os.path.join(disk, "spool")
        relay = self.start(f"spool: {{path: {spool}, segment_bytes: 4M, memory_bytes: 16M, free_min: 24M}}")
        count = self.fill(relay, 50_000)
        self.assertGreater(count, 500)
        facts = os.statvfs(disk)
        self.assertGreaterEqual(facts.f_bavail * facts.f_frsize, 24 * MIB)
        with Client(relay.port) as client:  # the session goes on, and others get the same
            client.command("EHLO client.test")
            self.assertRegex(client.command("MAIL FROM:<>"), r"^452 4\.3\.1 ")
            self.assertTrue(client.command("NOOP").startswith("250"))
        gauges = self.gauges(relay)
        self.assertEqual(gauges["shards_full"], 1)
        self.assertGreater(gauges["spool_bytes"], gauges["spool_bytes_max"] * 9 // 10)
        self.assertEqual(relay.output().count("not enough space in the mail queue"), 1)
        relay.stop()
        relay.restart()
        count += self.fill(relay, 50_000, 10_000)  # the mark is where it was, or nearly
        self.assertEqual(self.gauges(relay)["shards_full"], 1)
        sink = self.drained(relay, count)
        self.assertEqual(len(sink.messages), count)
        wait_until(lambda: self.serves(relay, 9999), "service")
        self.assertEqual(relay.output().count("mail is taken again"), 1)
        self.assertEqual(self.gauges(relay)["shards_full"], 0)

    def test_a_message_that_would_not_fit_is_refused_by_its_announced_size(self):
        disk = self.small_disk(128)
        spool = os.path.join(disk, "spool")
        relay = self.start(f"spool: {{path: {spool}, segment_bytes: 4M, memory_bytes: 16M, free_min: 64M}}")
        with Client(relay.port) as client:
            client.command("EHLO client.test")
            command, reply = send_one(client, 1, 1000, " SIZE=60000000")
            self.assertRegex(reply, r"^452 4\.3\.1 ")
            self.assertTrue(command.startswith("MAIL"))
            self.assertTrue(send_one(client, 1, 1000, " SIZE=1100")[1].startswith("250"))

    def test_no_file_can_be_made_and_mail_goes_on_in_those_that_are_there(self):
        disk = self.small_disk(128, "-N", "256")
        spool = os.path.join(disk, "spool")
        relay = self.start(f"spool: {{path: {spool}, segment_bytes: 4M, memory_bytes: 16M, free_min: 4M}}")
        ballast = os.path.join(disk, "ballast")
        os.makedirs(ballast)
        made = 0
        while os.statvfs(disk).f_favail > 0:
            open(os.path.join(ballast, str(made)), "w").close()
            made += 1
        wait_until(lambda: self.gauges(relay)["spool_bytes_max"] < 16 * MIB, "the mark of files")
        count = self.fill(relay, 50_000)
        for name in os.listdir(ballast):
            os.remove(os.path.join(ballast, name))
        wait_until(lambda: self.serves(relay, 5000, 50_000), "service when files can be made")
        self.drained(relay, count + 1)


class Memory(Space):
    def test_a_queue_that_takes_its_memory_puts_mail_off_until_it_drains(self):
        relay = self.start("memory: {queue_max: 1M}")
        count = self.fill(relay, 100)
        self.assertGreater(count, 500)
        gauges = self.gauges(relay)
        self.assertLessEqual(gauges["queue_memory_bytes"], MIB + 65536)
        self.assertEqual(gauges["queue_memory_bytes_max"], MIB)
        self.assertEqual(relay.output().count("not enough for more mail"), 1)
        self.drained(relay, count)
        wait_until(lambda: self.serves(relay, 9999), "service")
        self.assertEqual(relay.output().count("mail is taken again"), 1)


if __name__ == "__main__":
    unittest.main()
