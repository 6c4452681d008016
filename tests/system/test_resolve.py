"""Where mail goes, asked of a real DNS: NSD with a signed tree, servers that lie, web servers with MTA-STS policies."""
import http.server
import json
import os
import shutil
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

from dns_tree import Liar, Tree
from harness import BUILD, PORT, SystemTest, free_port, sanitizer_environment
from tls_peers import certificate

PROBE = os.path.join(BUILD, "tests/system/resolve_probe")
DIGEST = "ab" * 32


def probe(*arguments, patience_s=60):
    result = subprocess.run([PROBE, *arguments], capture_output=True, text=True, timeout=patience_s, env=sanitizer_environment())
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def hosts(destination):
    return [(host["preference"], host["name"], sorted(host["addresses"])) for host in destination["hosts"]]


class Policies(http.server.BaseHTTPRequestHandler):
    """What the web server says is the server's `answer`: (code, headers, body)."""

    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        code, headers, body = self.server.answer
        if code is None:
            time.sleep(30)
            return
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class Resolve(SystemTest):
    @classmethod
    def setUpClass(cls):
        cls.tree_folder = tempfile.mkdtemp(prefix="tubepost-dns-")
        cls.addClassCleanup(shutil.rmtree, cls.tree_folder)
        cls.made = Tree(cls.tree_folder, cls.addClassCleanup)

    def tree(self):
        return [f"server={self.made.server}", f"anchor={self.made.anchor}"]

    def test_a_signed_tree(self):
        dns = self.tree()
        names = ["mx", "null", "implicit", "noaddress", "nothere", "alias", "loop", "dane", "unusable", "aliased", "leaving",
                 "outside", "unsigned", "bogus", "tobogus", "self", "many", "tolooped", "chain", "local", "nobody"]
        answers = probe(*dns, "own=127.0.0.1:25", *(f"{name}.example" for name in names))
        found = dict(zip(names, answers))

        self.assertEqual(hosts(found["mx"]), [(10, "a.example", ["192.0.2.1:25", "[2001:db8::1]:25"]),
                                              (10, "b.example", ["192.0.2.2:25"]),
                                              (20, "c.example", ["192.0.2.33:25", "192.0.2.3:25"])])
        self.assertTrue(found["mx"]["mx_secure"] and all(host["secure"] for host in found["mx"]["hosts"]))
        # The TTL of the denials (there are no AAAA records) is the SOA's, less than that of the records.
        self.assertLessEqual(found["mx"]["expires_s"], 120)
        self.assertGreater(found["mx"]["expires_s"], 100)
        self.assertEqual([found["null"][key] for key in ("status", "code", "enhanced")], ["null-mx", 556, "5.1.10"])
        self.assertEqual(hosts(found["implicit"]), [(0, "implicit.example", ["192.0.2.4:25"])])
        self.assertEqual(found["noaddress"]["status"], "no-address")
        self.assertEqual([found["nothere"][key] for key in ("status", "enhanced")], ["no-domain", "5.1.2"])
        self.assertEqual(hosts(found["alias"]), hosts(found["mx"]))
        self.assertEqual(found["alias"]["site"], found["mx"]["site"])
        for name in ("loop", "tolooped", "chain"):
            self.assertIn(found[name]["status"], ("temporary", "no-address"), name)
        self.assertEqual([found["local"][key] for key in ("status", "enhanced")], ["loop", "5.4.6"])
        self.assertEqual([found["nobody"][key] for key in ("status", "enhanced")], ["no-address", "5.4.4"])

        [host] = found["dane"]["hosts"]
        self.assertEqual((host["tlsa"], host["tlsa_base"], host["tlsa_records"]), ("usable", "danehost.example", [f"3 1 1 {DIGEST}"]))
        self.assertEqual(found["unusable"]["hosts"][0]["tlsa"], "unusable")
        [host] = found["aliased"]["hosts"]
        self.assertEqual((host["name"], host["tlsa"], host["tlsa_base"]), ("aliasedhost.example", "usable", "danehost.example"))
        # The alias is validated, the addresses that it leads to are not: RFC 7672 §2.2.2.
        [host] = found["leaving"]["hosts"]
        self.assertEqual((host["secure"], host["tlsa"], host["tlsa_base"]), (False, "usable", "leavinghost.example"))
        [host] = found["outside"]["hosts"]
        self.assertEqual((host["secure"], host["tlsa"]), (False, "none"))
        self.assertTrue(found["outside"]["mx_secure"])
        self.assertFalse(found["unsigned"]["mx_secure"])
        self.assertEqual(hosts(found["unsigned"]), [(10, "host.unsigned.example", ["192.0.2.7:25"])])
        self.assertEqual(found["unsigned"]["hosts"][0]["tlsa"], "none")

        self.assertEqual([found["bogus"][key] for key in ("status", "enhanced")], ["bogus", "4.7.0"])
        self.assertEqual([host.get("lookup_failed", False) for host in found["tobogus"]["hosts"]], [True, False])
        self.assertEqual(found["self"]["status"], "loop")
        # It does not fit a datagram, so it came by TCP; the hundred best are kept.
        self.assertEqual([host["preference"] for host in found["many"]["hosts"]], list(range(100)))

    def test_without_validation_nothing_is_secure_and_nothing_bogus(self):
        dane, bogus = probe(*self.tree(), "dnssec=0", "dane.example", "bogus.example")
        self.assertEqual((dane["mx_secure"], dane["hosts"][0]["tlsa"]), (False, "none"))
        self.assertEqual(bogus["status"], "ok")

    def test_with_another_root_key_everything_is_bogus(self):
        anchor = os.path.join(self.folder, "anchor")
        with open(anchor, "w") as f:
            f.write(". IN DS 20326 8 2 e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d\n")
        dns = self.tree()
        [answer] = probe(dns[0], f"anchor={anchor}", "mx.example")
        self.assertEqual(answer["status"], "bogus")

    @unittest.skipIf(PORT, "loopback stays with the kernel")
    def test_the_tool_says_where_mail_goes(self):
        server, anchor = (argument.partition("=")[2] for argument in self.tree())
        sink = self.sink()
        relay = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{sink.to}\"]}}",
                           settings=f"dns: {{servers: [\"{server}\"], trust_anchor: {anchor}, timeout: 2s, mta_sts: off}}\n")
        found = relay.ctl("resolve", "dane.example")
        self.assertEqual((found.returncode, found.stderr), (0, ""))
        lines = found.stdout.splitlines()
        self.assertRegex(lines[0], r"^dane.example: ok, site [0-9a-f]{16}, MX records \(validated\), known for \d+ s$")
        self.assertEqual(lines[1:], ["     10  danehost.example, validated, TLSA records at danehost.example: usable",
                                     "         192.0.2.5:25", f"         TLSA 3 1 1 {DIGEST}"])
        refused = relay.ctl("resolve", "null.example")
        self.assertEqual((refused.returncode, refused.stdout),
                         (68, "null.example: null-mx, 556 5.1.10 Domain null.example does not accept mail (nullMX)\n"))
        bogus = relay.ctl("--json", "resolve", "bogus.example")
        self.assertEqual((bogus.returncode, json.loads(bogus.stdout)["status"]), (75, "bogus"))
        self.assertEqual(relay.ctl("resolve").returncode, 64)
        counted = json.loads(relay.ctl("--json", "status", "0").stdout)["counters"]["dns"]
        self.assertEqual([counted[key] for key in ("queries", "hits", "bogus", "failures")], [3, 0, 1, 0])

    # ---- Servers that say nothing, or lie ----

    def ask_liar(self, lie):
        liar = Liar(lie, self.addCleanup)
        begin = time.monotonic()
        [answer] = probe(f"server={liar.server}", "dnssec=0", "timeout=2000", "victim.example")
        self.assertGreater(liar.asked, 0)
        self.assertLess(time.monotonic() - begin, 20)
        return answer

    def test_a_silent_server_makes_mail_wait(self):
        answer = self.ask_liar(lambda question: [])
        self.assertEqual([answer[key] for key in ("status", "code", "enhanced")], ["temporary", 451, "4.4.3"])

    def test_ending_while_questions_are_under_way_leaves_nothing_behind(self):
        dns = self.tree()
        names = [f"m{i}.example" for i in range(150)] + ["mx.example", "sts.example", "many.example"]
        self.assertEqual(probe(*dns, "abandon=1", *names), [])
        silent = Liar(lambda question: [], self.addCleanup)
        self.assertEqual(probe(f"server={silent.server}", "dnssec=0", "abandon=1", *names), [])

    def test_an_answer_with_another_id_or_from_another_port_is_not_believed(self):
        def reply(question, change=0):
            rdata = {15: bytes.fromhex("000a046576696cc00c"), 1: bytes([192, 0, 2, 66])}
            name_end = question.index(b"\0", 12) + 5
            kind = question[name_end - 3]
            head = struct.pack("!HHHHHH", struct.unpack("!H", question[:2])[0] ^ change, 0x8580, 1, kind in rdata, 0, 0)
            answer = b"\xc0\x0c\0" + bytes([kind]) + bytes.fromhex("00010000012c00") + bytes([len(rdata.get(kind, b""))])
            return head + question[12:name_end] + (answer + rdata[kind] if kind in rdata else b"")
        self.assertEqual(self.ask_liar(lambda q: [("same", reply(q))])["status"], "ok")  # else this proves nothing
        self.assertEqual(self.ask_liar(lambda q: [("same", reply(q, 1)), ("same", reply(q, 0x8000))])["status"], "temporary")
        self.assertEqual(self.ask_liar(lambda q: [("other", reply(q))])["status"], "temporary")

    def test_garbage_and_refusals_make_mail_wait(self):
        def with_flags(question, flags):
            return question[:2] + struct.pack("!H", flags) + question[4:]

        def end_of_name(question):
            return question.index(b"\0", 12) + 5

        def with_answer(question, answer):
            return question[:2] + bytes.fromhex("85800001000100000000") + question[12:end_of_name(question)] + bytes.fromhex(answer)

        def pointer(question, behind):  # to so many octets behind the question
            return f"c0{end_of_name(question) + behind:02x}"
        lies = {
            "cut short": lambda q: [("same", q[:7])],
            "a pointer to itself": lambda q: [("same", q[:2] + bytes.fromhex("858000010001000000000000") + bytes.fromhex("c00c000f0001")
                                               + bytes.fromhex("c012000f00010000012c0002c01e"))],
            "rdata that ends behind the answer": lambda q: [("same", with_answer(q, "c00c000f00010000012c00ff000a046576"))],
            "a name of pointers in a circle": lambda q: [("same", with_answer(
                q, f"c00c000f00010000012c0006000a{pointer(q, 16)}{pointer(q, 14)}"))],
            "SERVFAIL": lambda q: [("same", with_flags(q, 0x8182))],
            "REFUSED": lambda q: [("same", with_flags(q, 0x8185))],
        }
        for what, lie in lies.items():
            with self.subTest(what):
                self.assertEqual(self.ask_liar(lie)["status"], "temporary")

    def test_a_server_that_is_not_there_makes_mail_wait(self):
        [answer] = probe(f"server=127.0.0.1:{free_port()}", "dnssec=0", "timeout=2000", "victim.example")
        self.assertEqual(answer["status"], "temporary")

    # ---- MTA-STS ----

    def web(self, name="mta-sts.sts.example", days=2):
        authority = certificate(self.folder, "authority.test")
        base = certificate(self.folder, name, issuer=authority, days=days)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Policies)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{base}.pem", f"{base}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.addCleanup(thread.join, 10)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        server.handle_error = lambda *_: None
        return server, [f"sts_port={server.server_address[1]}", f"sts_ca={authority}.pem"]

    PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
    POLICY = b"version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 86400\n"

    def test_a_policy_is_fetched_and_excludes_hosts(self):
        dns = self.tree()
        server, web = self.web()
        server.answer = (200, self.PLAIN, self.POLICY)
        first, again = probe(*dns, *web, "twice=1", "sts.example")
        for answer in first, again:
            self.assertEqual(answer["mta_sts"], {"mode": "enforce", "id": "20261126", "mx": ["a.example"], "max_age_s": 86400})
            self.assertEqual([host.get("excluded", False) for host in answer["hosts"]], [False, True])
        port = web[0].split("=")[1]
        self.assertEqual(server.asked, [(f"mta-sts.sts.example:{port}", "/.well-known/mta-sts.txt")])

    def test_a_policy_outlives_the_process_and_the_loss_of_its_web_server(self):
        dns = self.tree()
        server, web = self.web()
        server.answer = (200, self.PLAIN, self.POLICY)
        kept = f"sts_file={self.folder}/mta-sts.cache"
        [first] = probe(*dns, *web, kept, "sts.example")
        self.assertEqual(first["mta_sts"]["mode"], "enforce")
        self.assertEqual(os.listdir(self.folder).count("mta-sts.cache"), 1)
        server.answer = (404, self.PLAIN, b"")
        [again] = probe(*dns, *web, kept, "sts.example")
        self.assertEqual(again["mta_sts"], first["mta_sts"])
        self.assertEqual(len(server.asked), 1)
        with open(f"{self.folder}/mta-sts.cache", "r+b") as f:
            f.seek(30)
            f.write(b"\xff")
        [damaged] = probe(*dns, *web, kept, "sts.example")
        self.assertEqual(damaged["mta_sts"], {"mode": "none", "failure": "sts-policy-fetch-error"})

    def test_what_is_no_policy_is_not_taken(self):
        dns = self.tree()
        server, web = self.web()
        elsewhere = {"Location": "https://mta-sts.sts.example/other", **self.PLAIN}
        cases = {
            "another code": ((404, self.PLAIN, self.POLICY), "sts-policy-fetch-error"),
            "a redirection": ((301, elsewhere, self.POLICY), "sts-policy-fetch-error"),
            "another type": ((200, {"Content-Type": "text/html"}, self.POLICY), "sts-policy-fetch-error"),
            "no type": ((200, {}, self.POLICY), "sts-policy-fetch-error"),
            "too long": ((200, self.PLAIN, self.POLICY + b"a: b\n" * 14000), "sts-policy-fetch-error"),
            "no policy": ((200, self.PLAIN, b"hello\n"), "sts-policy-invalid"),
        }
        for what, (answer, failure) in cases.items():
            with self.subTest(what):
                server.answer = answer
                [found] = probe(*dns, *web, "sts.example")
                self.assertEqual(found["mta_sts"], {"mode": "none", "failure": failure})
                self.assertEqual(len(found["hosts"]), 2)

    def test_a_certificate_that_is_not_valid_is_not_trusted(self):
        dns = self.tree()
        for what, name, days in (("of another host", "other.example", 2), ("expired", "mta-sts.sts.example", -1)):
            with self.subTest(what):
                server, web = self.web(name, days)
                server.answer = (200, self.PLAIN, self.POLICY)
                [found] = probe(*dns, *web, "sts.example")
                self.assertEqual(found["mta_sts"], {"mode": "none", "failure": "sts-webpki-invalid"})
        server, web = self.web()
        server.answer = (200, self.PLAIN, self.POLICY)
        [found] = probe(*dns, web[0], "sts.example")  # by nobody whom the system knows
        self.assertEqual(found["mta_sts"], {"mode": "none", "failure": "sts-webpki-invalid"})


if __name__ == "__main__":
    unittest.main()
