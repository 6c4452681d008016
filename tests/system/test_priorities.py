"""Mail of a better listener, or client, before bulk that has come earlier, where a site takes little at a time."""
import json
import smtplib
import unittest

from harness import RELAY, SystemTest, at, free_port, wait_until

MESSAGE = "Subject: hello\r\n\r\nHello.\r\n"


class Priorities(SystemTest):
    def setUp(self):
        super().setUp()
        self.there = self.sink()
        self.bulk, self.quick = free_port(), free_port()
        self.routes = f"  - {{match: \"*\", via: smtp, to: [\"{self.there.to}\"], connections: 1, message_rate: 20/s}}"

    def start(self, bulk="low", quick="high", settings=""):
        self.server = self.relay(self.routes, settings=settings,
                                 listen=(f"{{name: bulk, address: [\"{at(RELAY, self.bulk)}\"], priority: {bulk}}}",
                                         f"{{name: quick, address: [\"{at(RELAY, self.quick)}\"], priority: {quick}}}"))

    def queue(self, *words):
        answer = self.server.ctl("queue", *words)
        self.assertEqual(answer.returncode, 0, answer.stderr)
        return answer.stdout

    def send(self, port, sender, count, **kwargs):
        with smtplib.SMTP(RELAY, port, timeout=60, **kwargs) as client:
            client.ehlo("client.test")
            for _ in range(count):
                client.sendmail(sender, "u@there.test", MESSAGE)

    def senders(self, count):
        wait_until(lambda: len(self.there.messages) >= count, f"{count} messages")
        self.assertEqual(len(self.there.messages), count)
        return [message[0].split("@")[0] for message in self.there.messages]

    def test_what_comes_in_at_a_better_listener_goes_first_also_after_a_restart(self):
        self.start()
        self.queue("suspend", "--site", self.there.to, "--for", "1h")
        self.send(self.bulk, "bulk@client.test", 30)
        self.send(self.server.port, "other@client.test", 5)
        self.send(self.quick, "quick@client.test", 5)
        self.server.stop()
        self.start(bulk="urgent", quick="low")  # which is for what comes from now on
        self.send(self.bulk, "late@client.test", 5)
        self.queue("resume", "--all")
        order = self.senders(45)
        self.assertEqual(order[:10].count("late") + order[:10].count("quick"), 10, order)
        self.assertEqual(order[:5], ["late"] * 5)
        self.assertGreaterEqual(order[10:17].count("other"), 4, order)

    @unittest.skipUnless(RELAY == "127.0.0.1", "by an address of the loopback that is the client's alone")
    def test_a_clients_network_counts_before_the_listener_and_a_sender_before_both(self):
        self.start(settings="priorities:\n  - {client: [127.0.0.9], priority: urgent}\n  - {sender: slow@client.test, priority: low}\n")
        self.queue("suspend", "--site", self.there.to, "--for", "1h")
        self.send(self.quick, "slow@client.test", 20)
        self.send(self.quick, "quick@client.test", 5)
        self.send(self.bulk, "alarm@client.test", 5, source_address=("127.0.0.9", 0))
        self.queue("resume", "--all")
        order = self.senders(30)
        self.assertEqual(order[:5], ["alarm"] * 5, order)
        self.assertEqual(order[5:10], ["quick"] * 5, order)

    def test_the_tool_shows_what_a_message_has_come_with(self):
        self.start()
        self.queue("suspend", "--site", self.there.to, "--for", "1h")
        self.send(self.quick, "quick@client.test", 1)
        self.send(self.bulk, "bulk@client.test", 1)
        waiting = [json.loads(line) for line in self.queue("list", "--json").splitlines()]
        shown = {entry["sender"]: self.queue("show", entry["queue_id"]) for entry in waiting}
        for sender, priority in ("quick@client.test", "high"), ("bulk@client.test", "low"):
            self.assertIn(f"priority:   {priority}\n", shown[sender])
        self.queue("resume", "--all")
        self.assertEqual(sorted(self.senders(2)), ["bulk", "quick"])


if __name__ == "__main__":
    unittest.main()
