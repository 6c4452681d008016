"""A made-up DNS on loopback for tests: NSD serves a signed root and what is below it; servers that lie or say nothing.

NSD and the signing tools are fetched as packages and run from build/peers; nothing is installed.
"""
import os
import socket
import subprocess
import threading

from harness import TOP, Process, free_port, wait_until

PEERS = os.path.join(TOP, "scripts/peers")
HEAD = "$ORIGIN {origin}\n$TTL 300\n@ SOA ns.example. hostmaster.example. 1 3600 600 86400 {negative}\n@ NS ns.example.\n"

# Each zone: is it signed, and what is in it. "@DS:child.@" becomes the DS records of a signed child.
ZONES = {
    ".": (True, "example. NS ns.example.\n@DS:example.@\n"),
    "example.": (True, """
ns A 127.0.0.1
unsigned NS ns
bogus NS ns
@DS:bogus.example.@
mx MX 20 c
mx MX 10 a
mx MX 10 b
a A 192.0.2.1
a AAAA 2001:db8::1
b A 192.0.2.2
c A 192.0.2.3
c A 192.0.2.33
null MX 0 .
implicit A 192.0.2.4
noaddress MX 10 nowhere
noaddress A 192.0.2.66
alias CNAME mx
loop CNAME pool
pool CNAME loop
tolooped MX 10 loop
chain CNAME link1
link40 CNAME mx
local MX 10 localhost
localhost A 127.0.0.53
nobody MX 10 nobodyhost
nobodyhost A 0.0.0.0
nobodyhost AAAA ::
dane MX 10 danehost
danehost A 192.0.2.5
_25._tcp.danehost TLSA 3 1 1 {digest}
_25._tcp.danehost TLSA 0 0 1 {digest}
unusable MX 10 unusablehost
unusablehost A 192.0.2.6
_25._tcp.unusablehost TLSA 1 1 1 {digest}
aliased MX 10 aliasedhost
aliasedhost CNAME danehost
leaving MX 10 leavinghost
leavinghost CNAME host.unsigned
_25._tcp.leavinghost TLSA 3 1 1 {digest}
outside MX 10 host.unsigned
tobogus MX 10 host.bogus
tobogus MX 20 a
self MX 10 selfhost
self MX 20 a
selfhost A 127.0.0.1
pair MX 10 s1
pair MX 20 s2
tenant1 MX 10 s2
tenant2 MX 10 S2
lone A 127.0.1.3
deadfirst MX 10 s9
deadfirst MX 20 s1
s1 A 127.0.1.1
s2 A 127.0.1.2
s9 A 127.0.1.9
xn--bcher-kva MX 10 s1
sts MX 10 a
sts MX 20 b
_mta-sts.sts TXT "v=STSv1; id=20261126;"
mta-sts.sts A 127.0.0.1
""".replace("{digest}", "ab" * 32) + "".join(f"many MX {i} m{i}\nm{i} A 192.0.3.{i % 250 + 1}\n" for i in range(500))
                 + "".join(f"link{i} CNAME link{i + 1}\n" for i in range(1, 40))),
    "unsigned.example.": (False, """
@ MX 10 host
host A 192.0.2.7
_25._tcp.host TLSA 3 1 1 {digest}
""".replace("{digest}", "ab" * 32)),
    "bogus.example.": (True, "@ MX 10 host\nhost A 192.0.2.8\n"),
}


def run(folder, *command):
    result = subprocess.run([PEERS, "run", "nsd", *command], cwd=folder, capture_output=True, text=True, timeout=240)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout


class Tree:
    """NSD with the zones above. `server` is where it answers, `anchor` the file with the root's key.

    more: further records, by zone.
    """

    def __init__(self, folder, cleanup, more=None):
        self.more = more or {}
        self.folder = os.path.join(folder, "dns")
        os.makedirs(self.folder)
        subprocess.run([PEERS, "fetch", "nsd"], check=True, timeout=300)
        for zone in ("bogus.example.", "unsigned.example.", "example.", "."):
            self.make(zone)
        port = free_port()
        self.server = f"127.0.0.1:{port}"
        config = os.path.join(self.folder, "nsd.conf")
        with open(config, "w") as f:
            f.write(f"server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: {self.folder}\n  pidfile: \"\"\n"
                    f"  database: \"\"\n  xfrdir: {self.folder}\n  xfrdfile: \"\"\n  zonelistfile: {self.folder}/list\n"
                    f"  tcp-count: 20\n  minimal-responses: yes\nremote-control:\n  control-enable: no\n")
            for zone in ZONES:
                f.write(f"zone:\n  name: {zone}\n  zonefile: {self.file(zone)}\n")
        self.nsd = Process([PEERS, "run", "nsd", "/usr/sbin/nsd", "-d", "-c", config], os.path.join(self.folder, "log"))
        cleanup(self.nsd.stop)
        wait_until(self.answers, "NSD's first answer")

    def file(self, zone):
        return os.path.join(self.folder, (zone.rstrip(".") or "root") + ".zone")

    def make(self, zone):
        signed, text = ZONES[zone]
        text += self.more.get(zone, "")
        plain = self.file(zone)
        for child in ZONES:
            if f"@DS:{child}@" in text:
                with open(os.path.join(self.folder, child + "ds")) as f:
                    text = text.replace(f"@DS:{child}@", f.read())
        with open(plain, "w") as f:
            f.write(HEAD.format(origin=zone, negative=120) + text)
        if not signed:
            return
        keys = [run(self.folder, "ldns-keygen", "-a", "ECDSAP256SHA256", *kind, zone).strip() for kind in (["-k"], [])]
        when = ["-i", "20200101000000", "-e", "20200201000000"] if zone.startswith("bogus") else []
        run(self.folder, "ldns-signzone", "-f", plain + ".signed", *when, plain, *keys)
        os.replace(plain + ".signed", plain)
        with open(os.path.join(self.folder, keys[0] + ".ds")) as f:
            record = f.read()
        with open(os.path.join(self.folder, zone + "ds"), "w") as f:
            f.write(record)
        self.anchor = os.path.join(self.folder, zone + "ds")

    def answers(self):
        # A question for the root's SOA.
        question = bytes.fromhex("123401000001000000000000" "00" "00060001")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.5)
            host, port = self.server.split(":")
            s.sendto(question, (host, int(port)))
            try:
                return s.recv(4096)[:2] == question[:2]
            except OSError:
                return False


class Liar:
    """A server of UDP that answers each question with what lie(question) returns: a list of datagrams."""

    def __init__(self, lie, cleanup):
        self.lie, self.asked = lie, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.server = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # another port than the one that was asked
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        cleanup(self.close)

    def serve(self):
        while True:
            question, client = self.socket.recvfrom(4096)
            if not question:
                return
            self.asked += 1
            for via, answer in self.lie(question):
                (self.other if via == "other" else self.socket).sendto(answer, client)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            host, port = self.server.split(":")
            s.sendto(b"", (host, int(port)))
        self.thread.join(10)
        self.socket.close()
        self.other.close()
