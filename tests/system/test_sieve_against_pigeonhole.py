"""The same scripts on the same messages: where our service puts them and what it sends, against Pigeonhole's sieve-test."""
import imaplib
import os
import re
import subprocess
import unittest

from harness import PATIENCE_S, RELAY, at, free_port, wait_until
from real_peers import PEERS, peers
from test_sieve import PASSWORD, WithService

# Its settings come from the environment: no file of configuration is read.
SIEVE_TEST = [PEERS, "run", "pigeonhole", "env", "DOVECONF_ENV=1", "LOG_PATH=/dev/stderr", "SSL=no", "USER=vmail", "MAIL_UID=vmail", "MAIL_GID=vmail",
              "FIRST_VALID_UID=1"]
PLAIN = b"From: a@x.test\r\nTo: alice@y.test\r\nSubject: =?utf-8?q?caf=C3=A9?= one\r\nX-N: 1\r\nX-N: 20\r\n\r\nbody text\r\n"
MIME = (b"From: a@x.test\r\nTo: alice@y.test\r\nSubject: parts\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\nbefore\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=E9 text\r\n--b\r\nContent-Type: application/x\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nc2VjcmV0\r\n--b--\r\nbehind\r\n")

# (script, message). Behind `require` of all that is used.
SCENES = [
    ("keep;", PLAIN), ("discard;", PLAIN), ("", PLAIN), ("stop;", PLAIN),
    ('fileinto "A";', PLAIN), ('fileinto "A"; fileinto "B";', PLAIN), ('fileinto :copy "A";', PLAIN),
    ('fileinto "A"; keep;', PLAIN), ('fileinto "A"; discard;', PLAIN),
    ('redirect "b@z.test";', PLAIN), ('redirect :copy "b@z.test";', PLAIN), ('redirect "b@z.test"; redirect "b@z.test";', PLAIN),
    ('redirect "b@z.test"; redirect "c@z.test"; keep;', PLAIN), ('reject "no";', PLAIN), # Debian 12's sieve-test has no ereject
    ('if header :contains "subject" "caf\u00e9" { fileinto "A"; }', PLAIN), ('if header :is "subject" "x" { discard; }', PLAIN),
    ('if header :value "gt" :comparator "i;ascii-numeric" "x-n" "10" { fileinto "A"; }', PLAIN),
    ('if header :count "eq" :comparator "i;ascii-numeric" "x-n" "2" { fileinto "A"; }', PLAIN),
    ('if header :matches "subject" "* one" { set "s" "${1}"; } if string "${s}" "caf\u00e9" { fileinto "A"; }', PLAIN),
    ('if address :domain "from" "x.test" { fileinto "A"; }', PLAIN), ('if envelope "from" "a@x.test" { fileinto "A"; }', PLAIN),
    ('if size :over 1K { discard; }', PLAIN), ('if header :index 2 "x-n" "20" { fileinto "A"; }', PLAIN),
    ('if header :index 1 :last "x-n" "1" { fileinto "A"; }', PLAIN),
    ('if body :contains "body" { fileinto "A"; }', PLAIN), ('if body :raw :contains "X-N" { fileinto "A"; }', PLAIN),
    ('if body :text :contains "caf\u00e9" { fileinto "A"; }', MIME), ('if body :text :contains "secret" { fileinto "A"; }', MIME),
    ('if body :content "application/x" :contains "secret" { fileinto "A"; }', MIME),
    ('if body :content "text" :contains "text" { fileinto "A"; }', MIME), ('if body :raw :contains "c2Vj" { fileinto "A"; }', MIME),
    ('addheader "X-A" "1"; if header "x-a" "1" { fileinto "A"; }', PLAIN),
    ('deleteheader "x-n"; if exists "x-n" { fileinto "A"; }', PLAIN),
    ('deleteheader :index 1 "x-n"; if header "x-n" "1" { fileinto "A"; } if header "x-n" "20" { fileinto "B"; }', PLAIN),
    ('deleteheader :is "x-n" "20"; if header :count "eq" :comparator "i;ascii-numeric" "x-n" "1" { fileinto "A"; }', PLAIN),
    ('if duplicate { discard; }', PLAIN), ('vacation "away";', PLAIN), ('vacation "away"; discard;', PLAIN),
    ('if header :regex "subject" "o(n)e$" { fileinto "A"; }', PLAIN), ('redirect "b@z.test"; vacation "away"; fileinto "A";', PLAIN),
]
REQUIRE = ["fileinto", "copy", "reject", "relational", "comparator-i;ascii-numeric", "variables", "envelope", "index", "body", "editheader",
           "duplicate", "vacation", "regex"]


def required(script):
    """Only what is used: reject may not be with vacation, and what is not used might hide a mistake."""
    words = {"relational": (":value", ":count"), "comparator-i;ascii-numeric": ("numeric",), "variables": ("${",), "index": (":index",),
             "editheader": ("addheader", "deleteheader"), "copy": (":copy",), "regex": (":regex",)}
    used = [name for name in REQUIRE if any(re.search(r"(^|\W)" + re.escape(w.strip(":$")) if w == name else re.escape(w), script)
                                            for w in words.get(name, (name,)))]
    return "require [" + ", ".join(f'"{name}"' for name in used) + "];\r\n" + script if used else script


@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class AgainstPigeonhole(WithService):
    def theirs(self, script, message):
        base = os.path.join(self.folder, "pigeonhole")
        os.makedirs(base, exist_ok=True)
        os.chmod(self.folder, 0o755)
        os.chmod(base, 0o777)
        with open(os.path.join(base, "s.sieve"), "w") as f:
            f.write(required(script))
        with open(os.path.join(base, "m"), "wb") as f:
            f.write(message)
        out = subprocess.run([*SIEVE_TEST, f"HOME={base}", f"BASE_DIR={base}", f"MAIL_LOCATION=maildir:{base}/Maildir", "sieve-test", "-C", "-x", "+editheader +vacation-seconds", "-f", "a@x.test", "-a", "alice@y.test",
                              os.path.join(base, "s.sieve"), os.path.join(base, "m")], capture_output=True, text=True, timeout=PATIENCE_S)
        if "final result: success" not in out.stderr + out.stdout:
            return out.stderr + out.stdout
        found = {f"store {name}" for name in re.findall(r"store message in folder: (.*)", out.stdout)}
        found |= {f"redirect {name}" for name in re.findall(r"redirect message to: <(.*)>", out.stdout)}
        found |= {"vacation"} if "send vacation message" in out.stdout else set()
        return found | ({"reject"} if "reject message" in out.stdout else set())

    def counts(self, client):
        return {name: int(re.search(rb"MESSAGES (\d+)", client.status(name, "(MESSAGES)")[1][0]).group(1)) for name in ("INBOX", "A", "B")}

    def test_scripts_come_to_the_same(self):
        peers("fetch", "pigeonhole")
        world, port = self.sink(), free_port()
        service = self.service(f"sieve: {{relay: \"{at(RELAY, port)}\", vacation_min: 0}}")
        self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{world.to}\"]}}", port=port)
        upload = self.client(service)
        client = imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S)
        self.addCleanup(client.shutdown)
        client.login("alice", PASSWORD)
        for name in ("A", "B"):
            client.create(name)
        different, expected_sent = [], 0
        for number, (script, message) in enumerate(SCENES):
            message = b"Message-ID: <%d@x.test>\r\n" % number + message
            theirs = self.theirs(script, message)
            text = required(script.replace("vacation ", f"vacation :handle \"{number}\" ")).encode()
            self.assertEqual(upload.put(b"main", text or b"keep;"), [b"OK"], text)
            self.assertEqual(upload.say(b'SETACTIVE "main"\r\n'), [b"OK"])
            before, sent = self.counts(client), len(world.messages)
            with service.connect() as peer:
                code, = peer.deliver(["alice"], message)
            after = self.counts(client)
            ours = {f"store {name}" for name in after if after[name] > before[name]} | ({"reject"} if code == 550 else set())
            if isinstance(theirs, set):
                expected_sent = sent + sum(1 for action in theirs if action == "vacation" or action.startswith("redirect"))
                wait_until(lambda: len(world.messages) >= expected_sent, f"what {script} sends")
            ours |= {"vacation" if m[0] == "" else f"redirect {m[1][0]}" for m in world.messages[sent:]}
            if ours != theirs:
                different.append((script, ours, theirs))
        self.assertEqual(different, [])


class AgainstPigeonholeOnMaildirs(AgainstPigeonhole):
    store = "maildir"


if __name__ == "__main__":
    unittest.main()
