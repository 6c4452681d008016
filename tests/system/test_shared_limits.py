"""The limits of a route, and that of all connections to next hops, hold for all shards together."""
import threading
import time
import unittest

from harness import PATIENCE_S, Client, Sink, SystemTest, wait_until

SHARDS = 4
CLIENTS = 16  # the kernel spreads them over the shards
MAILS = 5     # of each


class CountingSink(Sink):
    """Knows how many sessions there are at once, and when mail came.

    Answers come after a pause, and none before there have been so many sessions at once: a slow client makes them no fewer.
    """

    def __init__(self, pause_s, awaited=0):
        self.now = self.most = 0
        self.times = []
        self.pause_s, self.awaited, self.seen = pause_s, awaited, threading.Event()
        self.session = threading.local()
        super().__init__()

    def serve(self, connection):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.most >= self.awaited:
                self.seen.set()
        self.session.counts = True
        super().serve(connection)
        self.leave()

    def leave(self):
        if self.session.counts:
            self.session.counts = False
            with self.lock:
                self.now -= 1

    def answer(self, f, command, argument, usual):
        if command == "QUIT":  # with the answer the relay may open another, and be faster than this thread
            self.leave()
        return super().answer(f, command, argument, usual)

    def end_of_data(self, f, sender, recipients, body):
        with self.lock:
            self.times.append(time.monotonic())
        self.seen.wait(PATIENCE_S)
        time.sleep(self.pause_s)
        super().end_of_data(f, sender, recipients, body)


class SharedLimits(SystemTest):
    def start(self, sink, limits, settings=""):
        route = f"  - {{match: example.org, via: smtp, to: [\"{sink.to}\"], {limits}}}"
        return self.relay(route, settings=f"shards: {SHARDS}\ncpu: {{pin: false}}\n{settings}")

    def send(self, relay, clients=CLIENTS, mails=MAILS):
        def session(number):
            with Client(relay.port) as client:
                client.command("EHLO client.test")
                for mail in range(mails):
                    for command in (f"MAIL FROM:<{number}.{mail}@client.test>", "RCPT TO:<b@example.org>", "DATA"):
                        self.assertIn(client.command(command)[0], "23")
                    client.send(b"Subject: one\r\n\r\nof many\r\n")
                    self.assertEqual(client.command(b".\r\n")[:3], "250")

        threads = [threading.Thread(target=session, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def check_all_came_once(self, sink, clients=CLIENTS, mails=MAILS):
        wait_until(lambda: len(sink.messages) >= clients * mails, "all mail is there", patience_s=60)
        senders = [sender for sender, _, _ in sink.messages]
        self.assertEqual(sorted(senders), sorted(f"{n}.{m}@client.test" for n in range(clients) for m in range(mails)))

    def test_all_shards_together_have_so_many_connections(self):
        sink = CountingSink(pause_s=0.02, awaited=2)
        relay = self.start(sink, "connections: 2")
        self.send(relay)
        self.check_all_came_once(sink)
        self.assertEqual(sink.most, 2)
        sink.close()

    def test_one_connection_goes_round_the_shards(self):
        sink = CountingSink(pause_s=0.005)
        relay = self.start(sink, "connections: 1")
        self.send(relay)
        self.check_all_came_once(sink)
        self.assertEqual(sink.most, 1)
        sink.close()

    def queue(self, relay, *arguments):
        answer = relay.ctl("queue", *arguments)
        self.assertEqual(answer.returncode, 0, answer.stderr)

    def test_all_shards_together_send_at_the_rate(self):
        sink = CountingSink(pause_s=0)
        relay = self.start(sink, "message_rate: 40/s, message_burst: 4")
        # All of it lies in the queue when the first leaves: only the relay's own pace is measured, not the clients'.
        self.queue(relay, "suspend", "--site", sink.to, "--for", "1h")
        self.send(relay)
        self.assertEqual(sink.times, [])
        self.queue(relay, "resume", "--all")
        self.check_all_came_once(sink)
        times = sorted(sink.times)
        # The burst, what each shard may hold, and what comes in the time; no more, and hardly less.
        for last in range(len(times)):
            for first in range(last):
                self.assertLessEqual(last - first + 1, 4 + SHARDS + 2 + 40 * (times[last] - times[first]) * 1.1)
        self.assertLess(times[-1] - times[0], CLIENTS * MAILS / 40 * 1.5)
        sink.close()

    def check_connections_out(self, limit):
        sink = CountingSink(pause_s=0.02, awaited=limit)
        relay = self.start(sink, "connections: 20", f"limits: {{connections_out: {limit}}}")
        self.send(relay)
        self.check_all_came_once(sink)
        self.assertEqual(sink.most, limit)
        sink.close()

    def test_all_shards_together_have_no_more_connections_out_than_the_limit(self):
        self.check_connections_out(6)  # that no equal parts make

    def test_fewer_connections_out_than_shards_go_round(self):
        self.check_connections_out(2)

    def test_a_shard_has_the_connections_out_that_others_leave_idle(self):
        sink = CountingSink(pause_s=0.4, awaited=8)
        relay = self.start(sink, "connections: 20", "limits: {connections_out: 8}")
        self.send(relay, clients=1, mails=40)  # one session, so one shard
        self.check_all_came_once(sink, clients=1, mails=40)
        self.assertEqual(sink.most, 8)
        sink.close()


if __name__ == "__main__":
    unittest.main()
