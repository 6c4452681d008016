"""The operator's tool against a scripted control socket: what it asks, what it prints, how it exits."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(os.environ.get("TUBEPOST_BUILD", os.path.join(TOP, "build")), "tubepost")


class ControlSocket:
    """Answers each request line with the next scripted answer."""

    def __init__(self, path, answers):
        self.answers = list(answers)
        self.requests = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                self.requests.append(line.rstrip("\n"))
                answers = self.answers_to(self.requests[-1])
                if answers is None:
                    return
                for answer in answers:
                    stream.write((answer if isinstance(answer, str) else json.dumps(answer)) + "\n")
                stream.flush()

    def answers_to(self, request):
        return self.answers.pop(0) if self.answers else None

    def close(self):
        self.listener.close()
        self.thread.join(10)


class EndlessJob(ControlSocket):
    """A job that runs until it is cancelled; `interrupts`: when it is asked about for the second time, before it answers."""

    def __init__(self, path, interrupts=False):
        super().__init__(path, [])
        self.interrupts = interrupts
        self.asked = threading.Event()  # for the second time
        self.interrupted = threading.Event()

    def answers_to(self, request):
        if request == "queue delete all=":
            return [{"end": "ok", "job": 3}]
        if self.requests.count("queue job job=3") == 2 and not self.asked.is_set():
            self.asked.set()
            if self.interrupts:
                self.interrupted.wait(60)
        state = "cancelled" if request == "queue cancel job=3" else "running"
        return [{"job": 3, "state": state, "done": 1}, {"end": "ok"}]


class Tool(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "control")
        self.config = os.path.join(folder.name, "relay.yaml")
        with open(self.config, "w") as f:
            f.write(f"control: {{path: {self.path}}}\n")

    def ask(self, arguments, *answers):
        server = ControlSocket(self.path, answers)
        self.addCleanup(server.close)
        result = self.tool("-c", self.config, *arguments)
        self.requests = server.requests
        return result

    def tool(self, *arguments):
        return subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, TZ="UTC"))

    def test_a_long_queue_is_asked_for_page_by_page(self):
        first = {"id": "A", "bytes": 1, "arrival": 7, "sender": "a@x", "recipients": [{"address": "c@x"}]}
        second = {"id": "B", "bytes": 2, "arrival": 0, "sender": "b@x", "recipients": [{"address": "d@x"}]}
        result = self.ask(["queue", "list"], [first, {"end": "ok", "next": "1.7"}], [second, {"end": "ok"}])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.requests, ["queue list page=200", "queue list page=200 cursor=1.7"])
        self.assertLess(result.stdout.index("b@x"), result.stdout.index("a@x"), "in the order of arrival")
        self.assertTrue(result.stdout.endswith("-- 0 Kbytes in 2 Requests.\n"), result.stdout)

    def test_json_is_printed_as_it_comes(self):
        message = {"id": "A", "sender": "\u00fc\u001b[2J"}
        result = self.ask(["--json", "queue", "show", "A"], [message, {"end": "ok"}])
        self.assertEqual(self.requests, ["queue show id=A from=0"])
        self.assertEqual(json.loads(result.stdout), message)

    def test_rates_come_from_two_samples(self):
        status = {"hostname": "mx", "pid": 1, "uptime_s": 5, "counters": {"in": 100}, "gauges": {"open": 3}}
        later = dict(status, counters={"in": 100000})
        result = self.ask(["status", "0.1"], [status, {"end": "ok"}], [later, {"end": "ok"}])
        self.assertEqual(self.requests, ["status", "status"])
        line = [l for l in result.stdout.splitlines() if l.split()[:1] == ["in"]][0]
        self.assertEqual(line.split()[1], "100000")
        self.assertGreater(float(line.split()[2].rstrip("/s")), 1000)
        self.assertRegex(result.stdout, r"open +3\n")

    def test_counters_are_told_for_prometheus(self):
        status = {"uptime_s": 5, "counters": {"tls": {"not-offered": 7}}, "gauges": {"gap_us_max": 3}}
        result = self.ask(["status", "--prometheus"], [status, {"end": "ok"}])
        self.assertEqual(self.requests, ["status"])
        self.assertEqual(result.stdout.splitlines(), [
            "# TYPE tubepost_tls_not_offered_total counter", "tubepost_tls_not_offered_total 7",
            "# TYPE tubepost_gap_us_max gauge", "tubepost_gap_us_max 3",
            "# TYPE tubepost_uptime_seconds gauge", "tubepost_uptime_seconds 5"])

    def test_a_job_is_followed_until_it_is_over(self):
        begun, job = {"end": "ok", "job": 3}, {"job": 3, "state": "running", "looked": 5, "matched": 2, "done": 1, "busy": 0}
        over = dict(job, state="done", done=2, busy=1)
        result = self.ask(["queue", "delete", "--sender", "a b%", "--younger", "2h"], [begun], [job, {"end": "ok"}],
                          [over, {"end": "ok"}])
        self.assertEqual(self.requests, ["queue delete sender=a%20b%25 younger=2h", "queue job job=3", "queue job job=3"])
        self.assertEqual((result.returncode, result.stdout), (
            0, "2 recipients deleted\n1 more is being delivered or returned right now, and left alone\n"))

    def test_a_job_in_the_background_is_only_begun(self):
        result = self.ask(["queue", "flush", "--background"], [{"end": "ok", "job": 3}])
        self.assertEqual((result.stdout, self.requests), ("job 3 has begun: see tubepost queue jobs\n", ["queue flush"]))

    def interrupt_of_a_job(self, while_it_asks):
        server = EndlessJob(self.path, interrupts=while_it_asks)
        self.addCleanup(server.close)
        tool = subprocess.Popen([TOOL, "-c", self.config, "queue", "delete", "--all"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        self.addCleanup(tool.kill)
        self.assertTrue(server.asked.wait(60))
        tool.send_signal(signal.SIGINT)
        server.interrupted.set()
        out, err = tool.communicate(timeout=60)
        self.assertEqual(server.requests.count("queue cancel job=3"), 1, (tool.returncode, out, err))
        self.assertEqual((tool.returncode, out, err),
                         (75, "1 recipient deleted\n", "tubepost: the job was cancelled before its end\n"))

    def test_an_interrupt_cancels_the_job(self):
        self.interrupt_of_a_job(while_it_asks=False)

    def test_an_interrupt_while_the_tool_waits_for_an_answer_cancels_it_too(self):
        self.interrupt_of_a_job(while_it_asks=True)

    def test_a_list_of_the_stack_is_narrowed_and_followed_through_the_shards(self):
        first = {"state": "LISTEN", "local": "192.0.2.1:25", "shard": 0}
        second = dict(first, shard=1)
        result = self.ask(["net", "connections", "local", ":25"], [first, {"end": "ok", "next": "1.0.0"}], [second, {"end": "ok"}])
        self.assertEqual(self.requests, ["net connections 500 0.0.0 local :25", "net connections 500 1.0.0 local :25"])
        self.assertEqual([line.split() for line in result.stdout.splitlines()[1:]],
                         [["LISTEN", "0", "0", "192.0.2.1:25", "*", "0"], ["LISTEN", "0", "0", "192.0.2.1:25", "*", "1"]])

    def test_a_relay_without_a_stack_of_its_own_says_so(self):
        answer = {"end": "error", "code": "unavailable", "text": "its transport is kernel"}
        result = self.ask(["net", "counters"], [answer])
        self.assertEqual((result.returncode, result.stderr), (69, "tubepost: its transport is kernel\n"))

    def test_ids_that_are_not_there_are_told(self):
        result = self.ask(["queue", "delete", "A", "B"], [{"end": "ok", "job": 3}],
                          [{"job": 3, "state": "done", "looked": 1, "matched": 1, "done": 1}, {"end": "ok"}])
        self.assertEqual(self.requests[0], "queue delete id=A,B")
        self.assertEqual((result.returncode, result.stdout, result.stderr),
                         (65, "1 recipient deleted\n", "tubepost: 1 of these messages is not in the queue\n"))

    def test_more_ids_than_a_request_takes_are_several_requests(self):
        done = {"job": 3, "state": "done", "looked": 32, "matched": 32, "done": 32}
        result = self.ask(["queue", "hold", *map(str, range(40))], [{"end": "ok", "job": 3}], [done, {"end": "ok"}],
                          [{"end": "ok", "job": 4}], [dict(done, looked=8), {"end": "ok"}])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual([r for r in self.requests if "hold" in r], [
            "queue hold id=" + ",".join(map(str, range(32))), "queue hold id=" + ",".join(map(str, range(32, 40)))])

    def test_exit_codes_tell_what_went_wrong(self):
        self.assertEqual(self.tool("-c", self.config, "status").returncode, 69)
        self.assertEqual(self.tool("frobnicate").returncode, 64)
        self.assertEqual(self.tool("status", "now").returncode, 64)
        self.assertEqual(self.tool("--help").returncode, 0)
        for answer, code in (("nonsense", 76), ({"end": "error", "code": "busy", "text": "x"}, 75),
                             ({"end": "error", "code": "failed", "text": "x"}, 70)):
            with self.subTest(answer=answer):
                self.assertEqual(self.ask(["status", "0"], [answer]).returncode, code)
                os.unlink(self.path)

    def test_a_socket_that_closes_is_told(self):
        result = self.ask(["status"])
        self.assertEqual(result.returncode, 69)
        self.assertIn("closed the connection", result.stderr)

    def test_config_check_prints_the_mistakes(self):
        self.assertEqual(self.tool("-c", self.config, "config", "check").stdout, f"{self.config}: good\n")
        with open(self.config, "a") as f:
            f.write("shards: many\n")
        result = self.tool("-c", self.config, "config", "check")
        self.assertEqual(result.returncode, 78)
        self.assertIn(f"{self.config}:2:1: shards: 'many' will not do, expected a whole number, from 1 to 64\n", result.stderr)


if __name__ == "__main__":
    unittest.main()
