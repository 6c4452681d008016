"""From a client to a next hop: bodies exact, each recipient its own fate, retries, bounces, restarts."""
import contextlib
import email
import email.policy
import os
import smtplib
import socket
import subprocess
import threading
import unittest

from harness import PEER, RELAY, Client, SystemTest, at, wait_until

MESSAGE = b"From: a@test\r\nSubject: hello\r\n\r\n.\r\n..\r\nline\r\n.dot\r\n\r\n"
QUICK = "retry: {first: 300ms, limit: 1s, expire: 30s, jitter_pct: 0}"


def send(port, sender, recipients, body=MESSAGE):
    with smtplib.SMTP(RELAY, port, timeout=60) as client:
        return client.sendmail(sender, recipients, body)


def ask_until_it_ends(path):
    with socket.socket(socket.AF_UNIX) as control, contextlib.suppress(OSError):
        control.settimeout(60)
        control.connect(path)
        answers = control.makefile()
        line = "begin"
        while line:
            control.sendall(b"status\n" * 20)
            for _ in range(20):
                line = answers.readline()


class Delivery(SystemTest):
    def lmtp_route(self, sink, match="example.org"):
        return f"  - {{match: {match}, via: lmtp, to: [\"{sink.to}\"]}}"

    def smtp_route(self, sink, match="\"*\""):
        return f"  - {{match: {match}, via: smtp, to: [\"{sink.to}\"]}}"

    def wait_messages(self, sink, count):
        wait_until(lambda: len(sink.messages) >= count, f"{count} messages at the sink")
        return sink.messages

    def test_a_message_arrives_by_lmtp_over_a_unix_socket_byte_for_byte(self):
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(self.lmtp_route(sink))
        send(relay.port, "a@test", ["b@example.org"])
        (sender, recipients, body), = self.wait_messages(sink, 1)
        self.assertEqual((sender, recipients), ("a@test", ["b@example.org"]))
        self.assertTrue(body.endswith(MESSAGE))
        trace = email.message_from_bytes(body, policy=email.policy.default)["Received"]
        self.assertIn("by relay.test", trace)
        self.assertIn(PEER, trace)

    def test_a_relay_of_several_shards_ends_while_its_operator_asks(self):
        """What he asks goes from the first shard to the others, which may have nothing else to do any more."""
        for _ in range(5):
            relay = self.relay(self.smtp_route(self.sink()), settings="shards: 2")
            askers = [threading.Thread(target=ask_until_it_ends, args=(os.path.join(self.folder, "control"),)) for _ in range(8)]
            for asker in askers:
                asker.start()
            self.assertEqual(relay.stop(), 0, relay.output()[-3000:])
            for asker in askers:
                asker.join()

    def test_a_message_arrives_by_smtp_over_tcp_and_the_connection_is_used_again(self):
        sink = self.sink()
        relay = self.relay(self.smtp_route(sink))
        with smtplib.SMTP(RELAY, relay.port, timeout=60) as client:
            for number in range(20):
                client.sendmail("a@test", [f"b{number}@elsewhere.test"], MESSAGE)
                self.wait_messages(sink, number + 1)
        self.assertEqual(sink.connections, 1)

    def test_each_recipient_has_its_own_fate(self):
        tries = {}

        def reply(command, argument):
            if command == "RCPT":
                tries[argument] = tries.get(argument, 0) + 1
                if argument.startswith("unknown"):
                    return "550 5.1.1 no such user"
                if argument.startswith("later") and tries[argument] < 3:
                    return "451 4.3.0 come again"
            if command == "." and argument.startswith("full") and tries[argument] < 2:
                return "452 4.2.2 over quota"
            return None
        sink = self.sink(port=None, lmtp=True, reply=reply)
        home = self.sink(path=os.path.join(self.folder, "home"), lmtp=True)
        relay = self.relay(self.lmtp_route(sink) + "\n" + self.lmtp_route(home, "home.test"), settings=QUICK)
        send(relay.port, "a@home.test", [f"{n}@example.org" for n in ("good", "unknown", "later", "full")])
        wait_until(lambda: sorted(r for m in sink.messages for r in m[1])
                   == ["full@example.org", "good@example.org", "later@example.org"], "three recipients served")
        (sender, recipients, body), = self.wait_messages(home, 1)
        self.assertEqual((sender, recipients), ("", ["a@home.test"]))
        report = email.message_from_bytes(body, policy=email.policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        parts = list(report.iter_parts())
        self.assertEqual([p.get_content_type() for p in parts][:2], ["text/plain", "message/delivery-status"])
        status = parts[1].get_payload()
        self.assertEqual(status[1]["Final-Recipient"], "rfc822; unknown@example.org")
        self.assertEqual(status[1]["Action"], "failed")
        self.assertEqual(status[1]["Status"], "5.1.1")
        self.assertIn("no such user", status[1]["Diagnostic-Code"])
        self.assertEqual(len(status), 2, "only the refused recipient is reported")
        wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")

    def test_a_bounce_is_never_bounced(self):
        sink = self.sink(lmtp=True, reply=lambda c, a: "550 5.1.1 no" if c == "RCPT" else None)
        relay = self.relay(self.lmtp_route(sink, "\"*\""), settings=QUICK)
        send(relay.port, "", ["b@example.org"])
        send(relay.port, "a@example.org", ["b@example.org"])
        # One bounce is tried for the second message, refused, and dropped; none for the first.
        wait_until(lambda: "double bounce" in relay.output().lower(), "the log line of the double bounce")
        wait_until(lambda: "queue_id" not in relay.ctl("--json", "queue", "list").stdout, "an empty queue")
        self.assertEqual(sink.messages, [])

    def test_expired_mail_is_returned(self):
        home = self.sink(path=os.path.join(self.folder, "home"), lmtp=True)
        relay = self.relay("  - {match: dead.test, via: smtp, to: [\"127.0.0.1:1\"]}\n" + self.lmtp_route(home, "home.test"),
                           settings="retry: {first: 200ms, limit: 400ms, expire: 2s, jitter_pct: 0}")
        send(relay.port, "a@home.test", ["b@dead.test"])
        (sender, _, body), = self.wait_messages(home, 1)
        self.assertEqual(sender, "")
        self.assertIn(b"Status: 4.4.7", body)

    def test_the_second_address_is_used_when_the_first_is_down(self):
        sink = self.sink()
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"127.0.0.1:1\", \"{sink.to}\"]}}", settings=QUICK)
        send(relay.port, "a@test", ["b@elsewhere.test"])
        self.wait_messages(sink, 1)

    def test_mail_waits_for_a_next_hop_that_is_down_also_over_a_restart(self):
        path = os.path.join(self.folder, "lmtp")
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"unix:{path}\"]}}", settings=QUICK)
        for number in range(5):
            send(relay.port, "a@test", [f"b{number}@example.org"])
        listed = relay.ctl("queue", "list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertIn("b3@example.org", listed.stdout)
        self.assertEqual(relay.stop(), 0, relay.output())
        relay.restart()
        sink = self.sink(path=path, lmtp=True)
        messages = self.wait_messages(sink, 5)
        self.assertEqual(sorted(m[1][0] for m in messages), [f"b{n}@example.org" for n in range(5)])

    def test_a_changed_shard_count_finds_all_mail(self):
        path = os.path.join(self.folder, "lmtp")
        route = f"  - {{match: example.org, via: lmtp, to: [\"unix:{path}\"]}}"
        relay = self.relay(route, settings=QUICK + "\nshards: 2")
        for number in range(20):
            send(relay.port, "a@test", [f"b{number}@example.org"])
        self.assertEqual(relay.stop(), 0, relay.output())
        sink = self.sink(path=path, lmtp=True)
        again = self.relay(route, settings=QUICK + "\nshards: 1", port=relay.port)
        wait_until(lambda: len(sink.messages) >= 20, "twenty messages")
        self.assertEqual(len({m[1][0] for m in sink.messages}), 20)
        self.assertEqual(again.stop(), 0)

    def test_queue_show_flush_and_delete(self):
        path = os.path.join(self.folder, "lmtp")
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"unix:{path}\"]}}",
                           settings="retry: {first: 1h, limit: 1h, expire: 5d}")
        send(relay.port, "a@test", ["keep@example.org"])
        send(relay.port, "a@test", ["delete@example.org"])
        import json
        ids = {}

        def listed():
            for line in relay.ctl("--json", "queue", "list").stdout.splitlines():
                entry = json.loads(line)
                ids[entry["recipients"][0]["address"]] = entry["queue_id"]
            return len(ids) == 2
        wait_until(listed, "two messages in the queue")
        self.assertIn("keep@example.org", relay.ctl("queue", "show", ids["keep@example.org"]).stdout)
        self.assertEqual(relay.ctl("queue", "delete", ids["delete@example.org"]).returncode, 0)
        sink = self.sink(path=path, lmtp=True)
        self.assertEqual(relay.ctl("queue", "flush").returncode, 0)
        self.assertEqual(self.wait_messages(sink, 1)[0][1], ["keep@example.org"])
        self.assertEqual(relay.ctl("queue", "show", "0000000000000").returncode != 0, True)

    def test_a_64_mib_message_leaves_resident_memory_flat(self):
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(self.lmtp_route(sink), settings="limits: {message_bytes: 80M}")
        send(relay.port, "a@test", ["warm@example.org"], MESSAGE)
        self.wait_messages(sink, 1)

        def resident_peak():
            with open(f"/proc/{relay.popen.pid}/status") as f:
                return int(next(l for l in f if l.startswith("VmHWM")).split()[1]) * 1024
        before = resident_peak()
        line = b"0123456789" * 7 + b"\r\n"
        body = b"Subject: large\r\n\r\n" + line * (64 * 1024 * 1024 // len(line))
        send(relay.port, "a@test", ["large@example.org"], body)
        self.assertTrue(self.wait_messages(sink, 2)[1][2].endswith(body))
        # The log's own memory (32 MiB here) may become resident; a message in memory would be twice that.
        self.assertLess(resident_peak() - before, 44 * 1024 * 1024)

    def test_sighup_takes_new_routes_and_keeps_the_old_when_they_are_wrong(self):
        import signal
        first, second = self.sink(), self.sink()
        relay = self.relay(self.smtp_route(first))
        send(relay.port, "a@test", ["b@elsewhere.test"])
        self.wait_messages(first, 1)
        with open(relay.config) as f:
            good = f.read()
        with open(relay.config, "w") as f:
            f.write(good.replace(first.to, second.to))
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded" in relay.output(), "the log line of the reload")
        send(relay.port, "a@test", ["c@elsewhere.test"])
        self.wait_messages(second, 1)
        with open(relay.config, "w") as f:
            f.write(good + "\nnonsense: 1\n")
        relay.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "nonsense" in relay.output(), "the complaint")
        send(relay.port, "a@test", ["d@elsewhere.test"])
        self.wait_messages(second, 2)

    def test_sigterm_finishes_the_transaction_in_flight(self):
        import signal
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(self.lmtp_route(sink), settings="shutdown: {grace: 20s}")
        with Client(relay.port) as client:
            client.command("EHLO x.test")
            client.command("MAIL FROM:<a@test>")
            client.command("RCPT TO:<b@example.org>")
            client.command("DATA")
            relay.popen.send_signal(signal.SIGTERM)
            client.send(MESSAGE.replace(b"\r\n.", b"\r\n.."))
            self.assertTrue(client.command(b".\r\n").startswith("250 "))
        self.assertEqual(relay.popen.wait(30), 0)


class RealClients(SystemTest):
    def test_swaks_delivers(self):
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{sink.to}\"]}}")
        result = subprocess.run(["swaks", "--server", at(RELAY, relay.port), "--from", "a@test", "--to", "b@example.org"],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stdout)
        wait_until(lambda: sink.messages, "the message")

    def test_many_smtplib_clients_at_once(self):
        sink = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{sink.to}\"]}}")
        errors = []

        def client(number):
            try:
                with smtplib.SMTP(RELAY, relay.port, timeout=60) as smtp:
                    for i in range(10):
                        smtp.sendmail("a@test", [f"b{number}.{i}@example.org"], MESSAGE)
            except (OSError, smtplib.SMTPException) as error:
                errors.append(error)
        threads = [threading.Thread(target=client, args=(n,)) for n in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(errors, [])
        wait_until(lambda: len(sink.messages) == 200, "200 messages")
        self.assertEqual(len({m[1][0] for m in sink.messages}), 200)


if __name__ == "__main__":
    unittest.main()
