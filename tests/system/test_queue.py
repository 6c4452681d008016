"""`tubepost queue` against a relay that has mail waiting, and other mail going through it meanwhile."""
import json
import os
import pwd
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import BUILD, Client, SystemTest, free_port, wait_until

WAITS = "retry: {first: 1h, limit: 1h, expire: 5d}\nlog: {level: info}\n"


class Traffic:
    """Mail to a next hop that works, all the time; `stop` says how many messages were accepted."""

    def __init__(self, port):
        self.port, self.sent, self.over, self.failure, self.longest_s = port, 0, False, None, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with Client(self.port) as client:
                client.command("EHLO traffic.test")
                while not self.over:
                    begun = time.monotonic()
                    for line in ("MAIL FROM:<t@traffic.test>", "RCPT TO:<t@works.test>", "DATA"):
                        client.command(line)
                    assert client.command("Subject: t\r\n\r\nt\r\n.").startswith("250"), "not accepted"
                    self.sent += 1
                    self.longest_s = max(self.longest_s, time.monotonic() - begun)
        except Exception as error:
            self.failure = error

    def stop(self):
        self.over = True
        self.thread.join(30)
        assert self.failure is None, self.failure
        return self.sent


class Queue(SystemTest):
    def start(self, shards=2):
        self.works = self.sink()
        self.back = self.sink()
        self.down = free_port()
        self.server = self.relay(f"  - {{match: works.test, via: smtp, to: [\"{self.works.to}\"]}}\n"
                                 f"  - {{match: sender.test, via: smtp, to: [\"{self.back.to}\"]}}\n"
                                 f"  - {{match: .slow.test, via: smtp, to: [\"127.0.0.1:{self.down}\"]}}\n"
                                 "  - {match: \"*\", via: smtp, to: [\"127.0.0.1:1\"]}",
                                 settings=WAITS + f"shards: {shards}")

    def post(self, client, sender, recipients, text="Subject: x\r\n\r\nx\r\n"):
        client.command("EHLO x")
        client.command(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            self.assertTrue(client.command(f"RCPT TO:<{recipient}>").startswith("250"))
        client.command("DATA")
        reply = client.command(text + ".")
        self.assertTrue(reply.startswith("250"), reply)
        return reply.split()[-1]

    def post_some(self, count=40):
        """Each message to one recipient at a.slow.test and one at other.test. Returns the ids."""
        ids = []
        for _ in range(2):  # two connections: the kernel deals them to the shards
            with Client(self.server.port) as client:
                for n in range(count // 2):
                    ids.append(self.post(client, f"alice{len(ids)}@sender.test",
                                         [f"bob{len(ids)}@a.slow.test", "carol@other.test"]))
        return ids

    def queue(self, *arguments, code=0):
        result = self.server.ctl("queue", *arguments)
        self.assertEqual(result.returncode, code, (arguments, result.stdout, result.stderr))
        return result.stdout if code == 0 else result.stderr

    def listed(self, *arguments):
        """The entries, but for traffic that was just accepted."""
        entries = [json.loads(line) for line in self.queue("list", "--json", *arguments).splitlines()]
        return [e for e in entries if e["sender"] != "t@traffic.test"]

    def recipients(self, *arguments):
        return sorted(r["address"] for entry in self.listed(*arguments) for r in entry["recipients"])

    def deferred(self, count):
        wait_until(lambda: len(self.recipients("--deferred")) == count, f"{count} deferred recipients")

    def test_lists_show_and_summaries_tell_what_waits_while_traffic_flows(self):
        self.start()
        ids = self.post_some()
        self.deferred(80)
        traffic = Traffic(self.server.port)
        entries = self.listed()
        self.assertEqual(sorted(e["queue_id"] for e in entries), sorted(ids))
        for entry in entries:
            self.assertEqual(set(entry), {"queue_name", "queue_id", "arrival_time", "message_size", "forced_expire",
                                          "sender", "recipients"})
            self.assertEqual(entry["queue_name"], "deferred")
            self.assertLess(abs(entry["arrival_time"] - time.time()), 60)
            self.assertIn("refused", entry["recipients"][0]["delay_reason"])
        self.assertEqual(self.recipients("--domain", "OTHER.test"), ["carol@other.test"] * 40)
        self.assertEqual(self.recipients("--domain", ".slow.test", "--sender", "alice3@sender.test"), ["bob3@a.slow.test"])
        self.assertEqual(len(self.recipients("--site", f"127.0.0.1:{self.down}")), 40)
        self.assertEqual(self.recipients("--pattern", "^bob1?7@"), ["bob17@a.slow.test", "bob7@a.slow.test"])
        self.assertEqual(self.recipients("--older", "1h"), [])
        self.assertEqual(len(self.recipients("--younger", "1h", "--sender", "sender.test", "--limit", "7")), 7)
        self.assertEqual(self.recipients("--id", ids[5]), ["bob5@a.slow.test", "carol@other.test"])
        text = self.queue("list", "--sender", "sender.test")
        self.assertRegex(text, rf"(?m)^{ids[0]} +\d+ +\w{{3}} \w{{3}} +\d+ [\d:]+ alice0@sender.test$")
        self.assertRegex(text.splitlines()[-1], r"^-- \d+ Kbytes in 40 Requests\.$")
        self.assertLessEqual(max(map(len, text.splitlines())), 80)
        shown = self.queue("show", ids[5])
        self.assertRegex(shown, rf"bob5@a.slow.test\n +site 127.0.0.1:{self.down}, \d+ attempts?, the next in \d+m\n +\(.*refused")
        rows = [json.loads(line) for line in self.queue("summary", "--sender", "sender.test", "--json").splitlines()]
        self.assertEqual([(r["name"], r["count"]) for r in rows], [("TOTAL", 80), ("a.slow.test", 40), ("other.test", 40)])
        self.assertEqual(rows[0]["ages"], [80] + [0] * 9)
        rows = self.queue("summary", "--by", "sender", "--top", "3", "--deferred").splitlines()
        self.assertEqual((len(rows), rows[0].split()[0], rows[-1].split()[:2]), (9, "sender", ["OTHERS", "74"]))
        self.assertLessEqual(max(map(len, rows)), 79)
        sent = traffic.stop()
        self.assertGreater(sent, 2)
        wait_until(lambda: len(self.works.messages) == sent, "all of the traffic")

    def test_the_text_of_a_message_is_shown_as_it_was_sent(self):
        self.start()
        body = "".join(f"{'.' * (n % 3)}line {n}\r\n" for n in range(20000))
        stuffed = "".join(("." if line.startswith(".") else "") + line + "\r\n" for line in body.split("\r\n")[:-1])
        with Client(self.server.port) as client:
            id = self.post(client, "a@sender.test", ["b@other.test"], "Subject: dots\r\nX: y\r\n\r\n" + stuffed)
        self.assertEqual(self.queue("show", "--body", id), body.replace("\r\n", "\n"))
        headers = self.queue("show", "--headers", id)
        self.assertTrue(headers.startswith("Received: ") and headers.endswith("Subject: dots\nX: y\n\n"), headers)
        self.assertEqual(self.queue("show", "--headers", "--body", id), headers + body.replace("\r\n", "\n"))
        self.assertIn("no message", self.queue("show", "--body", "0000000000001", code=65))

    def test_held_mail_stays_over_a_kill_and_goes_when_released(self):
        self.start()
        ids = self.post_some()
        self.deferred(80)
        traffic = Traffic(self.server.port)
        self.assertIn("the whole queue", self.queue("hold", code=64))
        self.assertEqual(self.queue("hold", "--sender", "sender.test", "--pattern", "^bob\\d@"), "20 recipients held\n")
        traffic.stop()
        self.server.popen.send_signal(signal.SIGKILL)
        self.server.popen.wait()
        self.server.restart()
        held = self.listed("--held")
        self.assertEqual(sorted(e["queue_id"] for e in held), sorted(ids[:10]))
        self.assertEqual({e["queue_name"] for e in held}, {"hold"})
        self.assertIn(f"{ids[3]}! ", self.queue("list"))
        self.assertEqual(len(self.listed("--ready")), 30)
        traffic = Traffic(self.server.port)
        self.server_up = self.sink(port=self.down)
        self.queue("flush")
        wait_until(lambda: len(self.server_up.messages) == 30, "what is not held")
        time.sleep(0.2)
        self.assertEqual(len(self.server_up.messages), 30)
        self.assertEqual(self.queue("release", "--id", ids[0]), "2 recipients released\n")
        wait_until(lambda: len(self.server_up.messages) == 31, "the released one")
        self.assertEqual(self.queue("release"), "18 recipients released\n")
        wait_until(lambda: len(self.server_up.messages) == 40, "all")
        self.assertEqual(self.listed("--held"), [])
        self.assertEqual(self.recipients("--domain", "other.test"), ["carol@other.test"] * 40)
        traffic.stop()

    def test_deleted_mail_is_gone_for_good_and_nobody_is_told(self):
        self.start()
        ids = self.post_some()
        self.deferred(80)
        traffic = Traffic(self.server.port)
        self.assertIn("the whole queue", self.queue("delete", code=64))
        self.assertIn("missing closing parenthesis", self.queue("delete", "--pattern", "(", code=64))
        self.assertEqual(self.queue("delete", "--domain", "other.test"), "40 recipients deleted\n")
        self.assertEqual(len(self.recipients()), 40)
        self.assertIn("1 of these messages is not", self.queue("delete", ids[0], "0000000000001", code=65))
        traffic.stop()
        self.server.popen.send_signal(signal.SIGKILL)
        self.server.popen.wait()
        self.server.restart()
        self.assertEqual(self.recipients(), sorted(f"bob{n}@a.slow.test" for n in range(1, 40)))
        self.deferred(39)
        wait_until(lambda: "t@" not in self.queue("list"), "the traffic's rest")
        self.assertEqual(self.queue("delete", "--all", "--limit", "9"), "9 recipients deleted\n")
        self.assertEqual(len(self.recipients()), 30)
        self.queue("delete", "--all", "--background")
        wait_until(lambda: not self.listed(), "an empty queue")
        wait_until(lambda: "running" not in self.queue("jobs"), "the job's end")
        job = [json.loads(line) for line in self.queue("jobs", "--json").splitlines()][-1]
        self.assertEqual((job["verb"], job["words"], job["state"], job["done"]), ("delete", "all", "done", 30))
        self.assertRegex(self.queue("jobs").splitlines()[-1], r"done +\d+ +30 +30 +0s  delete all$")
        self.assertEqual(self.back.messages, [])
        log = self.server.output()
        self.assertIn(f"INFO queue: {ids[0]}: removed\n", log)
        self.assertIn(f"INFO queue: {ids[1]}: removed 1 of 2 recipients\n", log)
        self.assertRegex(log, rf"INFO queue: job 1: delete domain=other.test: uid={os.getuid()}, recipients=40, busy=0, .*status=done")

    def test_bounced_mail_comes_back_with_the_operators_words(self):
        self.start()
        self.post_some()
        self.deferred(80)
        traffic = Traffic(self.server.port)
        self.queue("hold", "--sender", "alice0@sender.test")
        self.assertEqual(self.queue("bounce", "--domain", "a.slow.test", "--text", "slow.test is closed"),
                         "40 recipients returned\n")
        wait_until(lambda: len(self.back.messages) == 40, "forty reports")
        self.assertEqual({m[0] for m in self.back.messages}, {""})
        self.assertEqual({m[1][0] for m in self.back.messages}, {f"alice{n}@sender.test" for n in range(40)})
        self.assertTrue(all(b"slow.test is closed" in m[2] and b"Status: 5.7.0" in m[2] for m in self.back.messages))
        wait_until(lambda: self.recipients() == ["carol@other.test"] * 40, "the others")
        self.assertEqual(len(self.listed("--held")), 1)
        self.assertIn("status=bounced (slow.test is closed)", self.server.output())
        traffic.stop()

    def test_a_flush_tries_what_is_meant_and_nothing_else(self):
        self.start()
        busy = threading.Event()
        busy.set()
        up = self.sink(port=self.down, reply=lambda command, argument: "451 4.3.0 later"
                       if command == "RCPT" and busy.is_set() else None)
        self.post_some()
        self.deferred(80)
        busy.clear()
        traffic = Traffic(self.server.port)
        self.assertEqual(self.queue("flush", "--recipient", "bob7@a.slow.test"), "1 recipient is tried now\n")
        wait_until(lambda: len(up.messages) == 1, "one")
        time.sleep(0.2)
        self.assertEqual([m[1] for m in up.messages], [["bob7@a.slow.test"]])
        self.queue("flush", "--site", f"127.0.0.1:{self.down}")
        wait_until(lambda: len(up.messages) == 40, "all of the site")
        traffic.stop()

    def test_mail_that_is_being_delivered_is_left_alone(self):
        self.start()
        release = threading.Event()

        def slowly(command, argument):
            if command == ".":
                release.wait(30)
        self.sink(port=self.down, reply=slowly)
        with Client(self.server.port) as client:
            id = self.post(client, "a@sender.test", ["b@a.slow.test"])
        wait_until(lambda: f"{id}* " in self.queue("list"), "the mark of a delivery")
        for verb in ("delete", "bounce"):
            self.assertEqual(self.server.ctl("queue", verb, id).stdout.splitlines()[1],
                             "1 more is being delivered or returned right now, and left alone")
        release.set()
        wait_until(lambda: not self.listed(), "the delivery")
        self.assertEqual(self.back.messages, [])

    def test_rerouted_mail_goes_to_another_next_hop(self):
        self.start()
        self.post_some()
        self.deferred(80)
        traffic = Traffic(self.server.port)
        self.assertIn("expected an address", self.queue("reroute", "--all", "--to", "mx.test:25", code=64))
        self.assertIn("the whole queue", self.queue("reroute", "--to", self.back.to, code=64))
        self.assertIn("we listen there", self.queue("reroute", "--all", "--to", f"127.0.0.1:{self.server.port}", code=64))
        self.queue("hold", "--sender", "alice0@sender.test")
        self.assertEqual(self.queue("reroute", "--domain", "a.slow.test", "--to", self.back.to), "40 recipients rerouted\n")
        wait_until(lambda: len(self.back.messages) == 39, "the mail at the other next hop")
        self.assertEqual({m[1][0] for m in self.back.messages}, {f"bob{n}@a.slow.test" for n in range(1, 40)})
        self.queue("release")
        wait_until(lambda: len(self.back.messages) == 40, "the one that was held")
        self.assertEqual(self.recipients(), ["carol@other.test"] * 40)
        traffic.stop()

    def test_rerouted_mail_goes_to_a_next_hop_that_no_route_names_also_after_a_crash(self):
        self.start()
        self.post_some()
        self.deferred(80)
        other = self.sink(port=free_port())
        to = "smtp:[127.0.0.1]:" + other.to.split(":")[1]
        self.queue("hold", "--sender", "alice0@sender.test")
        time.sleep(1.1)  # what comes later is not meant, by the second
        self.assertEqual(self.queue("reroute", "--domain", "a.slow.test", "--to", to), "40 recipients rerouted\n")
        wait_until(lambda: len(other.messages) == 39, "the mail at the other next hop")
        self.assertEqual(self.recipients("--site", other.to), ["bob0@a.slow.test"])
        time.sleep(1.1)  # nor what comes later than this
        self.queue("suspend", "--site", other.to, "--for", "1h")
        self.queue("release")
        self.assertRegex(self.queue("suspensions").splitlines()[1],
                         rf"^reroute   domain=a.slow.test to {re.escape(to)}; since .* by ")
        self.server.stop(signal.SIGKILL)
        self.server.restart()
        self.assertEqual(self.recipients("--site", other.to), ["bob0@a.slow.test"])
        with Client(self.server.port) as client:
            self.post(client, "new@sender.test", ["new@a.slow.test"])
        self.queue("resume", "--site", other.to)
        wait_until(lambda: len(other.messages) == 40, "the one that waited over the crash")
        wait_until(lambda: "new@a.slow.test" in self.recipients("--deferred"), "new mail on its own way")
        # Given back: once more where the route leads, and the reroute is forgotten for good.
        nobody = f"127.0.0.1:{free_port()}"
        self.assertEqual(self.queue("reroute", "--recipient", "new@a.slow.test", "--to", nobody), "1 recipient rerouted\n")
        self.assertEqual(self.recipients("--site", nobody), ["new@a.slow.test"])
        self.assertIn("not with limit", self.queue("reroute", "--deferred", "--to", "routes", code=64))
        self.assertEqual(self.queue("reroute", "--recipient", "new@a.slow.test", "--to", "routes"),
                         "1 recipient rerouted\n")
        self.assertEqual(self.recipients("--site", f"127.0.0.1:{self.down}"), ["new@a.slow.test"])
        self.server.stop(signal.SIGKILL)
        self.server.restart()
        self.assertEqual(self.recipients("--site", f"127.0.0.1:{self.down}"), ["new@a.slow.test"])

    def test_a_suspension_ends_when_it_says_so_and_holds_for_new_mail(self):
        self.start()
        traffic = Traffic(self.server.port)
        self.assertEqual(self.queue("suspend", "--site", self.back.to, "--for", "1h", "--text", "ticket 7"), "suspended\n")
        self.assertEqual(self.queue("suspend", "--sender", "Late.test", "--for", "4s"), "suspended\n")
        begun = time.monotonic()
        with Client(self.server.port) as client:
            self.post(client, "a@x.test", ["b@sender.test"])
            self.post(client, "a@late.test", ["b@works.test"])
        said = self.queue("suspensions").splitlines()
        moment = r"[A-Z][a-z]{2} [ 1-3][0-9] [0-9:]{8}"
        user = f"by {pwd.getpwuid(os.getuid()).pw_name}"
        self.assertRegex(said[0], rf"^site      {self.back.to} for another (1h00m|59m), until {moment}; since {moment} {user} "
                                  r"\(ticket 7\)$")
        self.assertRegex(said[1], rf"^sender    Late.test for another [1-4]s, until {moment}; since {moment} {user}$")
        self.assertEqual(self.queue("suspend", "--list").splitlines()[0].split(" until ")[1], said[0].split(" until ")[1])
        late = lambda: [m for m in self.works.messages if m[0] == "a@late.test"]
        while time.monotonic() - begun < 3:
            self.assertEqual((late(), self.back.messages), ([], []))
            time.sleep(0.2)
        wait_until(late, "the end of the sender's suspension", 10)
        self.assertGreater(time.monotonic() - begun, 3.5)
        self.assertEqual(len(self.queue("suspensions").splitlines()), 1)
        self.queue("flush")  # ends no suspension
        time.sleep(0.3)
        self.assertEqual(self.back.messages, [])
        self.assertEqual(self.queue("resume", "--site", self.back.to), "resumed: 1\n")
        wait_until(lambda: len(self.back.messages) == 1, "the delivery")
        self.assertIn("nothing of this is suspended", self.queue("resume", "--all", code=65))
        self.assertIn("expected one of", self.queue("suspend", "--domain", "x.test", "--older", "1h", code=64))
        self.assertIn(f"queue: suspend sender=Late.test: uid={os.getuid()}, for=4 s\n", self.server.output())
        traffic.stop()

    def test_only_the_suspended_domain_of_a_next_hop_waits_and_does_so_over_a_crash(self):
        self.start()
        with Client(self.server.port) as client:
            self.post(client, "known@x.test", ["b@works.test"])
            wait_until(lambda: len(self.works.messages) == 1, "the way")
            self.assertEqual(self.queue("suspend", "--recipient", "Late@works.test", "--for", "1h"), "suspended\n")
            self.assertEqual(self.queue("suspend", "--pattern", "^vip[0-9]@", "--for", "1h", "--text", "7"), "suspended\n")
            self.assertEqual(self.queue("suspend", "--domain", ".sender.test", "--for", "9s"), "suspended\n")
            begun = time.monotonic()
            for n in range(20):
                self.post(client, "a@x.test", ["late@works.test", f"b{n}@works.test"])
            self.post(client, "vip3@x.test", ["c@works.test"])
            self.post(client, "a@x.test", ["d@below.sender.test"])
        wait_until(lambda: len(self.works.messages) == 21, "those that are not suspended")
        wait = ["c@works.test", "d@below.sender.test"] + ["late@works.test"] * 20
        self.assertEqual(self.recipients(), wait)
        for line in self.queue("show", self.listed()[0]["queue_id"], "--json").splitlines():
            waiting = [r for r in json.loads(line)["recipients"] if r["state"] == "suspended"]
            self.assertEqual([(r["site"], r["attempts"]) for r in waiting], [("suspended", 0)])
            self.assertGreater(waiting[0]["due_s"], 3500)
        self.server.stop(signal.SIGKILL)
        self.server.restart()
        self.assertEqual([line.split()[:2] for line in self.queue("suspensions").splitlines()][:2],
                         [["recipient", "Late@works.test"], ["pattern", "^vip[0-9]@"]])
        self.queue("flush")
        with Client(self.server.port) as client:
            self.post(client, "vip4@x.test", ["e@works.test"])
            self.post(client, "a@x.test", ["f@works.test"])
        wait_until(lambda: len(self.works.messages) == 22, "new mail that is not suspended")
        # The domain's route by "*" leads nowhere: when its suspension is over it is tried, and deferred.
        wait_until(lambda: "d@below.sender.test" in self.recipients("--deferred"), "the end of the domain's suspension")
        self.assertGreater(time.monotonic() - begun, 8.5)
        # After a restart the suspension ends up to a second later than was said.
        wait_until(lambda: len(self.queue("suspensions").splitlines()) == 2, "the end of the suspension in the list")
        self.assertEqual(self.queue("resume", "--recipient", "late@works.test"), "resumed: 1\n")
        wait_until(lambda: len(self.works.messages) == 42, "what was suspended by recipient")
        self.assertEqual(self.queue("resume", "--all"), "resumed: 1\n")
        wait_until(lambda: len(self.works.messages) == 44, "the rest")
        self.server.stop(signal.SIGKILL)
        self.server.restart()
        self.assertEqual(self.queue("suspensions"), "")  # a resume lasts too

    def test_a_damaged_file_of_suspensions_is_said_with_its_line_and_not_passed_over(self):
        self.start()
        self.queue("suspend", "--domain", "a.test", "--for", "1h")
        self.queue("suspend", "--domain", "b.test", "--for", "1h")
        path = os.path.join(self.server.spool, "operator.json")
        self.server.stop(signal.SIGKILL)
        with open(path) as file:
            lines = file.read().splitlines()
        self.assertEqual(len(lines), 3)
        with open(path, "w") as file:
            file.write("\n".join([lines[0], lines[1], lines[2].replace('"until":', '"unti')]) + "\n")
        self.server.popen = subprocess.Popen([os.path.join(BUILD, "tubepostd"), "-c", self.server.config],
                                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        said = self.server.popen.communicate(timeout=60)[1]
        self.assertEqual(self.server.popen.returncode, 71)
        self.assertIn(f"{path}:3: column ", said)
        with open(path, "w") as file:  # mended
            file.write("\n".join(lines) + "\n")
        self.server.restart()
        self.assertEqual(len(self.queue("suspensions").splitlines()), 2)

    def test_what_cannot_be_written_is_not_suspended(self):
        self.start()
        os.mkdir(os.path.join(self.server.spool, "operator.json.next"))  # in the way
        self.assertIn("nothing was changed", self.queue("suspend", "--domain", "a.test", code=70))
        self.assertEqual(self.queue("suspensions"), "")
        self.assertIn("operator.json cannot be written", self.server.output())
        os.rmdir(os.path.join(self.server.spool, "operator.json.next"))
        self.queue("suspend", "--domain", "a.test")
        self.assertEqual(len(self.queue("suspensions").splitlines()), 1)

    def test_a_large_queue_is_worked_on_while_traffic_flows(self):
        self.start()
        with Client(self.server.port) as client:
            client.command("EHLO x")
            for n in range(60):
                client.send("MAIL FROM:<big@sender.test>\r\n" +
                            "".join(f"RCPT TO:<u{i}@d{i % 7}.slow.test>\r\n" for i in range(500)) + "DATA\r\n")
                for _ in range(502):
                    client.reply()
                self.assertTrue(client.command("Subject: x\r\n\r\nx\r\n.").startswith("250"))
        traffic = Traffic(self.server.port)
        rows = [json.loads(line) for line in self.queue("summary", "--sender", "sender.test", "--json").splitlines()]
        self.assertEqual((rows[0]["count"], len(rows)), (30000, 8))
        self.assertEqual(len(self.recipients()), 30000)
        deleted = [0]

        def purged():  # again while some are being delivered
            said = self.server.ctl("queue", "delete", "--domain", "d3.slow.test").stdout
            deleted[0] += int(said.split()[0])
            return "left alone" not in said
        wait_until(purged, "the purge")
        self.assertEqual(deleted[0], next(r["count"] for r in rows if r["name"] == "d3.slow.test"))
        self.assertEqual(len(self.recipients()), 30000 - deleted[0])
        self.queue("delete", "--sender", "sender.test", "--background")  # of the traffic nothing may go
        sent = traffic.stop()
        self.assertGreater(sent, 2)
        self.assertLess(traffic.longest_s, 2)
        wait_until(lambda: len(self.works.messages) == sent, "all of the traffic")

    def test_other_programs_names(self):
        self.start()
        self.post_some(4)
        for name, words in (("mailq", []), ("sendmail", ["-bp"])):
            path = os.path.join(self.folder, name)
            os.symlink(os.path.join(BUILD, "tubepost"), path)
            result = subprocess.run([path, "-c", self.server.config, *words], capture_output=True, text=True, timeout=60)
            self.assertRegex(result.stdout, r"^-Queue ID-(.|\n)*-- \d Kbytes in 4 Requests\.\n$")
        up = self.sink(port=self.down)
        self.assertEqual(subprocess.run([path, "-c", self.server.config, "-q"], timeout=60, stdout=subprocess.DEVNULL).returncode, 0)
        wait_until(lambda: len(up.messages) == 4, "four")
        self.assertEqual(subprocess.run([path, "-c", self.server.config, "-bs"], timeout=60,
                                        capture_output=True).returncode, 64)


if __name__ == "__main__":
    unittest.main()
