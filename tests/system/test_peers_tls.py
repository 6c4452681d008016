"""TLS with real servers and clients: Postfix (OpenSSL), Exim (GnuTLS), openssl; as next hop and as client, at each level.

Over kernel sockets, and by test_dpdk_tls.py over our own TCP.
"""
import json
import os
import re
import smtplib
import subprocess
import unittest

from harness import PEER, RELAY, at, free_port, wait_until
from real_peers import MESSAGE, PeerTest
from tls_peers import certificate, run_openssl

NETWORKS = ("127.0.0.0/8", "192.0.2.0/24")
QUICK = "retry: {first: 300ms, limit: 1s, expire: 120s, jitter_pct: 0}\n"


class PeersWithTls(PeerTest):
    def setUp(self):
        super().setUp()
        self.authority = certificate(self.folder, "authority.test")
        self.mx = certificate(self.folder, "mx.test", self.authority)
        for name in os.listdir(self.folder):
            os.chmod(os.path.join(self.folder, name), 0o644)  # Exim reads them as its own user

    def send(self, host, port, *domains):
        with smtplib.SMTP(host, port, timeout=60) as client:
            for domain in domains:
                client.sendmail("a@client.test", [f"b@{domain}"], MESSAGE)

    def relay_to(self, port, more="", extra=""):
        levels = {"none": "none", "may": "opportunistic", "must": "required", "named": "verified, tls_names: [mx.test]",
                  "misnamed": "verified, tls_names: [other.test]", "again": "required, messages_per_connection: 1, connections: 1"}
        routes = "\n".join(f"  - {{match: {name}.test, to: [\"{PEER}:{port}\"], tls: {level}{more}}}"
                           for name, level in levels.items() if level != "none" or "implicit" not in more)
        return self.relay(routes, settings=f"{QUICK}tls: {{authorities: {self.authority}.pem{extra}}}\n")

    def tls_counters(self, relay):
        return json.loads(relay.ctl("--json", "status").stdout)["counters"]["tls"]

    def next_hop(self, port, sink, word, resumed):
        """`word`: how the peer's trace speaks of TLS. `resumed`: of three connections, one after the other."""
        relay = self.relay_to(port)
        self.send(RELAY, relay.port, "none.test", "may.test", "must.test", "named.test", "misnamed.test")
        wait_until(lambda: len(sink.messages) == 4, "four messages behind the peer")
        for _, recipients, body in sink.messages:
            self.assertEqual(word in body.split(b"\r\n\r\n")[0], recipients != ["b@none.test"], recipients)
            self.assertTrue(body.endswith(MESSAGE), body)
        self.assertEqual({r for _, rs, _ in sink.messages for r in rs}, {f"b@{n}.test" for n in ("none", "may", "must", "named")})
        wait_until(lambda: f"to=<b@misnamed.test>, relay={PEER}:{port}, dsn=4.7.5, status=deferred "
                           "(Server certificate not verified: hostname mismatch)" in relay.output(), "the complaint")
        self.assertRegex(relay.output(), f"Verified TLS connection established to {PEER}:{port}: TLSv1.3 ")
        for number in range(3):
            self.send(RELAY, relay.port, "again.test")
            wait_until(lambda: len(sink.messages) == 5 + number, "one more by a connection of its own")
        self.assertEqual(self.tls_counters(relay)["resumed"], resumed)

    def postfix(self, sink, *settings):
        port = free_port()
        self.start_peer("postfix", f"postfix{port}", f"listen={PEER}:{port}", f"relay={sink.to}", "mode=relay", f"networks={' '.join(NETWORKS)}",
                        f"set:smtpd_tls_cert_file={self.mx}.pem", f"set:smtpd_tls_key_file={self.mx}.key",
                        "set:smtpd_tls_received_header=yes", *settings)
        return port

    def exim(self, sink, *settings):
        port = free_port()
        self.start_peer("exim", f"exim{port}", f"listen={PEER}:{port}", f"relay={sink.to}", f"networks={' : '.join(NETWORKS)}",
                        f"set:tls_certificate={self.mx}.pem", f"set:tls_privatekey={self.mx}.key", *settings)
        return port

    def test_postfix_is_the_next_hop(self):
        sink = self.sink()
        port = self.postfix(sink, "set:smtpd_tls_security_level=may")
        # It gives no ticket where one was used, and we use each once (RFC 8446 appendix C.4).
        self.next_hop(port, sink, b"(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384", resumed=1)

    def test_exim_is_the_next_hop(self):
        sink = self.sink()
        port = self.exim(sink, "set:tls_resumption_hosts=*")
        self.next_hop(port, sink, b"(TLS1.3)", resumed=2)

    def test_a_peer_without_tls_gets_only_what_may_go_in_the_clear(self):
        sink = self.sink()
        port = self.exim(sink, "set:tls_advertise_hosts=")
        relay = self.relay_to(port)
        self.send(RELAY, relay.port, "may.test", "must.test", "named.test")
        wait_until(lambda: relay.output().count("4.7.4 TLS is required, but was not offered") >= 2, "two complaints")
        wait_until(lambda: sink.messages, "the message")
        self.assertEqual([rs for _, rs, _ in sink.messages], [["b@may.test"]])

    def test_implicit_tls_and_our_certificate_at_postfix(self):
        own = certificate(self.folder, "relay.test", self.authority)
        sink = self.sink()
        port = self.postfix(sink, "set:smtpd_tls_wrappermode=yes", "set:smtpd_tls_security_level=encrypt",
                            "set:smtpd_tls_ask_ccert=yes", f"set:smtpd_tls_CAfile={self.authority}.pem")
        relay = self.relay_to(port, ", tls_implicit: true", f", client_certificate: {own}.pem, client_key: {own}.key")
        self.send(RELAY, relay.port, "named.test")
        wait_until(lambda: sink.messages, "the message")
        self.assertIn(b'(Client CN "relay.test", Issuer "authority.test" (verified OK))', sink.messages[0][2])

    def listening(self, sink, more=""):
        settings = f"tls:\n  certificates: [{{certificate: {self.mx}.pem, key: {self.mx}.key}}]\n{more}"
        return self.relay(f"  - {{match: \"*\", to: [\"{sink.to}\"]}}", settings=settings,
                          listen=[f"{{name: asking, address: [\"{at(RELAY, self.asking)}\"], tls: required, client_certificate: ask}}"])

    def client(self, peer, name, *settings):
        """It relays to us with a certificate that may, from an address that may not."""
        own = certificate(self.folder, name)
        os.chmod(f"{own}.key", 0o644)
        print_of = run_openssl("x509", "-in", f"{own}.pem", "-noout", "-fingerprint", "-sha256").split("=")[1].strip()
        sink = self.sink()
        self.asking = free_port()
        relay = self.listening(sink, f"relay_networks: [192.0.2.99/32]\nrelay_clients: [\"{print_of}\"]\n")
        port = free_port()
        self.start_peer(peer, peer, f"listen={PEER}:{port}", f"relay={RELAY}:{self.asking}",
                        f"networks={(' : ' if peer == 'exim' else ' ').join(NETWORKS)}",
                        *(setting.format(own=own, authority=self.authority) for setting in settings))
        self.send(PEER, port, *(f"{number}.elsewhere.test" for number in range(10)))
        wait_until(lambda: len(sink.messages) == 10, "ten messages by way of the peer")
        self.send(PEER, port, "again.elsewhere.test")
        wait_until(lambda: len(sink.messages) == 11, "one more message by way of the peer")
        self.assertGreater(self.tls_counters(relay)["resumed"], 0)
        for _, _, body in sink.messages:
            self.assertTrue(body.endswith(MESSAGE), body)
            self.assertIn(f'(Client CN "{name}" (not verified))'.encode(), body)

    def test_postfix_is_a_client_known_by_its_certificate(self):
        self.client("postfix", "postfix.test", "mode=relay", "set:smtp_tls_security_level=secure", "set:smtp_tls_CAfile={authority}.pem",
                    "set:smtp_tls_secure_cert_match=mx.test", "set:smtp_tls_cert_file={own}.pem", "set:smtp_tls_key_file={own}.key",
                    "set:smtp_tls_session_cache_database=btree:${{data_directory}}/sessions", "set:smtp_tls_connection_reuse=no")

    def test_exim_is_a_client_known_by_its_certificate(self):
        self.client("exim", "exim.test", "smtp:hosts_require_tls = *", "smtp:tls_certificate = {own}.pem",
                    "smtp:tls_privatekey = {own}.key", "smtp:tls_verify_certificates = {authority}.pem", "smtp:tls_resumption_hosts = *")

    def test_postfix_is_a_client_at_each_level(self):
        levels = {"none": "none", "may": "may", "must": "encrypt", "named": "secure match=mx.test", "misnamed": "secure match=other.test"}
        ports = {name: free_port() for name in levels}
        sink = self.sink()
        relay = self.relay(f"  - {{match: \"*\", to: [\"{sink.to}\"]}}",
                           settings=f"tls:\n  certificates: [{{certificate: {self.mx}.pem, key: {self.mx}.key}}]\n",
                           listen=[f"{{name: {name}, address: [\"{at(RELAY, port)}\"]}}" for name, port in ports.items()])
        inline = {"transport_maps": {f"{name}.test": f"smtp:[{RELAY}]:{port}" for name, port in ports.items()},
                  "smtp_tls_policy_maps": {f"[{RELAY}]:{port}": levels[name] for name, port in ports.items()}}
        peer = self.postfix(sink, f"set:smtp_tls_CAfile={self.authority}.pem",
                            *(f"set:{name}=inline:{{{','.join(f'{{{key}={value}}}' for key, value in map_.items())}}}" for name, map_ in inline.items()))
        self.send(PEER, peer, *(f"{name}.test" for name in levels))
        wait_until(lambda: len(sink.messages) == 4, "four messages by way of Postfix")
        for _, recipients, body in sink.messages:
            secure = recipients != ["b@none.test"]
            self.assertEqual(b"(using TLSv1.3 with cipher" in body.split(b"\r\n\r\n")[0], secure, recipients)
        self.assertNotIn("b@misnamed.test", [r for _, rs, _ in sink.messages for r in rs])
        wait_until(lambda: self.tls_counters(relay)["accepted"] >= 4, "Postfix's look at the certificate that it does not take")

    def test_openssl_resumes_a_session_of_each_version(self):
        relay = self.relay("  []", settings=f"tls:\n  certificates: [{{certificate: {self.mx}.pem, key: {self.mx}.key}}]\n")
        kept = os.path.join(self.folder, "session")
        for version in ("-tls1_2", "-tls1_3"):
            said = []
            for more in (["-sess_out", kept], ["-sess_in", kept]):
                client = subprocess.run(["openssl", "s_client", "-connect", at(RELAY, relay.port), "-starttls", "smtp", "-servername", "mx.test",
                                         "-CAfile", f"{self.authority}.pem", "-verify_return_error", "-ign_eof", version, *more],
                                        input="quit\r\n",  # a Q is a command to openssl
                                        capture_output=True, text=True, timeout=60)
                self.assertIn("Verify return code: 0 (ok)", client.stdout, client.stderr)
                said.append(re.search(r"^(New|Reused), TLSv1\.\d", client.stdout, re.M)[1])
            self.assertEqual(said, ["New", "Reused"], version)
        self.assertEqual(self.tls_counters(relay)["resumed"], 2)


if __name__ == "__main__":
    unittest.main()
