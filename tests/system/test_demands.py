"""What domains demand of TLS, by a real DNS: DANE with a signed tree, MTA-STS with a web server. Over kernel sockets, and by test_dpdk_tls.py over our own TCP."""
import http.server
import json
import os
import shutil
import smtplib
import ssl
import tempfile
import threading
import unittest

from dns_tree import Tree
from harness import PORT, RELAY, SystemTest, at, free_port, wait_until
from tls_peers import TlsSink, certificate, run_openssl, server_context

QUICK = "retry: {first: 300ms, limit: 1s, expire: 60s, jitter_pct: 0}"


def digest_of(base, what):
    """SHA-256 of a certificate ("x509") or of its public key ("pubkey")."""
    der = f"{base}.der"
    if what == "pubkey":
        run_openssl("pkey", "-in", f"{base}.key", "-pubout", "-outform", "der", "-out", der)
    else:
        run_openssl("x509", "-in", f"{base}.pem", "-outform", "der", "-out", der)
    return run_openssl("dgst", "-sha256", "-r", der).split()[0]


def with_chain(base, authority):
    """DANE-TA: the server must send the trust anchor's certificate too (RFC 7672 section 3.1.2)."""
    with open(f"{base}.pem", "a") as file, open(f"{authority}.pem") as issuer:
        file.write(issuer.read())


@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class Demands(SystemTest):
    # Where the hosts are: on loopback, or on the other end of the lab's wire.
    ADDRESSES = [f"192.0.2.{last}" for last in range(2, 9)] if PORT else [f"127.0.2.{last}" for last in range(1, 8)]
    # Each host, and what its zone says of its certificate: filled in by setUpClass.
    HOSTS = ("right", "wrong", "anchor", "misnamed", "unusable", "clear", "plain")

    @classmethod
    def setUpClass(cls):
        cls.tls_folder = tempfile.mkdtemp(prefix="tubepost-demands-")
        cls.addClassCleanup(shutil.rmtree, cls.tls_folder)
        cls.port = free_port()
        cls.authority = certificate(cls.tls_folder, "authority.test")
        cls.bases = {host: certificate(cls.tls_folder, f"h-{host}.example") for host in ("right", "wrong", "unusable", "clear")}
        cls.bases["plain"] = certificate(cls.tls_folder, "h-plain.example", cls.authority)
        cls.bases["anchor"] = certificate(cls.tls_folder, "h-anchor.example", cls.authority)
        cls.bases["misnamed"] = certificate(cls.tls_folder, "somebody.else", cls.authority, file="misnamed")
        for host in ("anchor", "misnamed"):
            with_chain(cls.bases[host], cls.authority)
        anchor = f"2 0 1 {digest_of(cls.authority, 'x509')}"
        records = {"right": f"3 1 1 {digest_of(cls.bases['right'], 'pubkey')}", "wrong": f"3 1 1 {'ab' * 32}",
                   "anchor": anchor, "misnamed": anchor, "unusable": f"1 1 1 {'ab' * 32}",
                   "clear": f"3 1 1 {digest_of(cls.bases['clear'], 'pubkey')}"}
        zone, unsigned = "", ""
        for host, address in zip(cls.HOSTS, cls.ADDRESSES):
            zone += f"d-{host} MX 10 h-{host}\nh-{host} A {address}\n"
            unsigned += f"d-{host} MX 10 h-{host}.example.\n"
            if host in records:
                zone += f"_{cls.port}._tcp.h-{host} TLSA {records[host]}\n"
        # MTA-STS: the hosts' zone is signed, so that these are hosts without TLSA records.
        for domain in ("keen", "elsewhere", "trying"):
            zone += f"{domain} MX 10 h-plain\n_mta-sts.{domain} TXT \"v=STSv1; id=1;\"\nmta-sts.{domain} A 127.0.0.1\n"
        cls.tree = Tree(cls.tls_folder, cls.addClassCleanup, {"example.": zone, "unsigned.example.": unsigned})

    def setUp(self):
        super().setUp()
        self.sinks = {}
        for host, address in zip(self.HOSTS, self.ADDRESSES):
            sink = TlsSink(server_context(self.bases[host]), "hidden" if host == "clear" else None, host=address, port=self.port)
            self.addCleanup(sink.close)
            self.sinks[host] = sink

    def start(self, route="tls: opportunistic", dns="mta_sts: off"):
        self.running = self.relay(f"  - {{match: \"*\", via: mx, port: {self.port}, {route}}}",
                                  settings=f"{QUICK}\ntls: {{authorities: {self.authority}.pem}}\n"
                                           f"dns: {{servers: [\"{self.tree.server}\"], trust_anchor: {self.tree.anchor}, timeout: 5s, {dns}}}\n")
        return self.running

    def send(self, *domains):
        with smtplib.SMTP(RELAY, self.running.port, timeout=60) as client:
            for domain in domains:
                client.sendmail("a@client.test", [f"u@{domain}"], b"Subject: x\r\n\r\nx\r\n")

    def got(self, host):
        return [recipient for _, recipients, _ in self.sinks[host].messages for recipient in recipients]

    def wait_said(self, words):
        wait_until(lambda: words in self.running.output(), words)

    def test_dane_and_what_it_refuses(self):
        self.start()
        self.send(*(f"d-{host}.example" for host in self.HOSTS))
        for host, word in (("right", "Verified"), ("anchor", "Verified"), ("unusable", "Untrusted"), ("plain", "Trusted")):
            wait_until(lambda: self.got(host), f"mail for {host}")
            self.assertEqual(self.sinks[host].facts[0][1], f"h-{host}.example")  # SNI
            self.assertIn(f"{word} TLS connection established to h-{host}.example[", self.running.output())
        for host, reason in (("wrong", "4.7.5 Server certificate not verified: "), ("misnamed", "4.7.5 Server certificate not verified: "),
                             ("clear", "4.7.4 TLS is required, but was not offered")):
            address = at(self.ADDRESSES[self.HOSTS.index(host)], self.port)
            self.wait_said(f"connect to {address}: {reason}")
            dsn, words = reason.split(" ", 1)
            self.wait_said(f"to=<u@d-{host}.example>, relay={address}, dsn={dsn}, status=deferred ({words}")
            self.assertEqual(self.got(host), [])
        report = {line["domain"]: line for line in map(json.loads, self.running.ctl("--json", "tls", "report").stdout.splitlines())}
        self.assertEqual((report["d-right.example"]["policy"], report["d-right.example"]["results"]), ("tlsa", {"success": 1}))
        self.assertEqual(set(report["d-clear.example"]["results"]), {"starttls-not-supported"})
        self.assertEqual(report["d-unusable.example"]["results"], {"tlsa-invalid": 1, "success": 1})

    def test_a_broken_record_holds_up_only_mail_that_it_is_for(self):
        """Domains on the same hosts whose MX records are not signed: DANE is not for them."""
        self.start()
        self.send("d-wrong.example", "d-wrong.unsigned.example", "d-clear.example", "d-clear.unsigned.example")
        wait_until(lambda: self.got("wrong") and self.got("clear"), "mail of the neighbours")
        self.wait_said("4.7.5 Server certificate not verified: ")
        self.wait_said("4.7.4 TLS is required, but was not offered")
        self.assertEqual((self.got("wrong"), self.got("clear")), (["u@d-wrong.unsigned.example"], ["u@d-clear.unsigned.example"]))

    def test_a_route_that_requires_dane(self):
        self.start("tls: dane")
        self.send("d-right.example", "d-plain.example", "d-right.unsigned.example")
        wait_until(lambda: self.got("right"), "mail for the right host")
        for domain in ("d-plain.example", "d-right.unsigned.example"):
            self.wait_said(f"to=<u@{domain}>, relay=none, dsn=4.7.5, status=deferred (the host has no TLSA records, which the route requires)")
        self.assertEqual((self.got("right"), self.got("plain")), (["u@d-right.example"], []))

    def policies(self):
        """A web server for mta-sts.*: each domain's policy."""
        texts = {"keen": ("enforce", "h-plain.example"), "elsewhere": ("enforce", "h-other.example"), "trying": ("testing", "h-other.example")}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mode, host = texts[self.headers["Host"].split(".")[1]]
                body = f"version: STSv1\r\nmode: {mode}\r\nmx: {host}\r\nmax_age: 86400\r\n".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        base = os.path.join(self.folder, "web")
        names = ",".join(f"DNS:mta-sts.{name}.example" for name in texts)
        run_openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=web",
                    "-addext", f"subjectAltName={names}", "-keyout", f"{base}.key", "-out", f"{base}.pem",
                    "-CA", f"{self.authority}.pem", "-CAkey", f"{self.authority}.key")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{base}.pem", f"{base}.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f"mta_sts: on, mta_sts_port: {server.server_address[1]}, mta_sts_authorities: {self.authority}.pem"

    def test_mta_sts_and_only_who_breaks_it_waits(self):
        self.start(dns=self.policies())
        self.send("keen.example", "elsewhere.example", "trying.example", "d-plain.example")
        wait_until(lambda: len(self.got("plain")) == 3, "mail of three domains")
        self.assertEqual(sorted(self.got("plain")), ["u@d-plain.example", "u@keen.example", "u@trying.example"])
        self.wait_said("to=<u@elsewhere.example>, relay=none, dsn=4.7.5, status=deferred (the domain's MTA-STS policy does not name this host)")
        self.assertIn("Verified TLS connection established to h-plain.example[", self.running.output())
        report = {line["domain"]: line for line in map(json.loads, self.running.ctl("--json", "tls", "report").stdout.splitlines())}
        self.assertEqual((report["keen.example"]["policy"], report["keen.example"]["results"]), ("sts", {"success": 1}))


if __name__ == "__main__":
    unittest.main()
