"""TLS with real servers and clients: Postfix (OpenSSL) and Exim (GnuTLS), as next hop and as client, at each level."""
import os
import smtplib
import unittest

from harness import free_port, wait_until
from real_peers import MESSAGE, PeerTest
from tls_peers import certificate, run_openssl

QUICK = "retry: {first: 300ms, limit: 1s, expire: 120s, jitter_pct: 0}\n"


class PeersWithTls(PeerTest):
    def setUp(self):
        super().setUp()
        self.authority = certificate(self.folder, "authority.test")
        self.mx = certificate(self.folder, "mx.test", self.authority)
        for name in os.listdir(self.folder):
            os.chmod(os.path.join(self.folder, name), 0o644)  # Exim reads them as its own user

    def send(self, port, *domains):
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            for domain in domains:
                client.sendmail("a@client.test", [f"b@{domain}"], MESSAGE)

    def relay_to(self, port, more="", extra=""):
        levels = {"may": "opportunistic", "must": "required", "named": "verified, tls_names: [mx.test]",
                  "misnamed": "verified, tls_names: [other.test]"}
        routes = "\n".join(f"  - {{match: {name}.test, to: [\"127.0.0.1:{port}\"], tls: {level}{more}}}"
                           for name, level in levels.items())
        return self.relay(routes, settings=f"{QUICK}tls: {{authorities: {self.authority}.pem{extra}}}\n")

    def next_hop(self, port, sink, word):
        """`word`: how the peer's trace speaks of TLS."""
        relay = self.relay_to(port)
        self.send(relay.port, "may.test", "must.test", "named.test", "misnamed.test")
        wait_until(lambda: len(sink.messages) == 3, "three messages behind the peer")
        for _, recipients, body in sink.messages:
            self.assertIn(word, body.split(b"\r\n\r\n")[0], recipients)
            self.assertTrue(body.endswith(MESSAGE), body)
        self.assertEqual({r for _, rs, _ in sink.messages for r in rs}, {f"b@{n}.test" for n in ("may", "must", "named")})
        wait_until(lambda: "4.7.5 Server certificate not verified: hostname mismatch" in relay.output(), "the complaint")
        self.assertRegex(relay.output(), f"Verified TLS connection established to 127.0.0.1:{port}: TLSv1.3 ")

    def postfix(self, sink, *settings):
        port = free_port()
        self.start_peer("postfix", f"postfix{port}", f"listen=127.0.0.1:{port}", f"relay={sink.to}", "mode=relay",
                        f"set:smtpd_tls_cert_file={self.mx}.pem", f"set:smtpd_tls_key_file={self.mx}.key",
                        "set:smtpd_tls_received_header=yes", *settings)
        return port

    def exim(self, sink, *settings):
        port = free_port()
        self.start_peer("exim", f"exim{port}", f"listen=127.0.0.1:{port}", f"relay={sink.to}",
                        f"set:tls_certificate={self.mx}.pem", f"set:tls_privatekey={self.mx}.key", *settings)
        return port

    def test_postfix_is_the_next_hop(self):
        sink = self.sink()
        port = self.postfix(sink, "set:smtpd_tls_security_level=encrypt")
        self.next_hop(port, sink, b"(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384")

    def test_exim_is_the_next_hop(self):
        sink = self.sink()
        port = self.exim(sink)
        self.next_hop(port, sink, b"(TLS1.3)")

    def test_a_peer_without_tls_gets_only_what_may_go_in_the_clear(self):
        sink = self.sink()
        port = self.exim(sink, "set:tls_advertise_hosts=")
        relay = self.relay_to(port)
        self.send(relay.port, "may.test", "must.test", "named.test")
        wait_until(lambda: relay.output().count("4.7.4 TLS is required, but was not offered") >= 2, "two complaints")
        wait_until(lambda: sink.messages, "the message")
        self.assertEqual([rs for _, rs, _ in sink.messages], [["b@may.test"]])

    def test_implicit_tls_and_our_certificate_at_postfix(self):
        own = certificate(self.folder, "relay.test", self.authority)
        sink = self.sink()
        port = self.postfix(sink, "set:smtpd_tls_wrappermode=yes", "set:smtpd_tls_security_level=encrypt",
                            "set:smtpd_tls_ask_ccert=yes", f"set:smtpd_tls_CAfile={self.authority}.pem")
        relay = self.relay_to(port, ", tls_implicit: true", f", client_certificate: {own}.pem, client_key: {own}.key")
        self.send(relay.port, "named.test")
        wait_until(lambda: sink.messages, "the message")
        self.assertIn(b'(Client CN "relay.test", Issuer "authority.test" (verified OK))', sink.messages[0][2])

    def listening(self, sink, more=""):
        settings = f"tls:\n  certificates: [{{certificate: {self.mx}.pem, key: {self.mx}.key}}]\n{more}"
        return self.relay(f"  - {{match: \"*\", to: [\"{sink.to}\"]}}", settings=settings,
                          listen=[f"{{name: asking, address: [\"127.0.0.1:{self.asking}\"], tls: required, client_certificate: ask}}"])

    def client(self, peer, name, *settings):
        """It relays to us with a certificate that may, from an address that may not."""
        own = certificate(self.folder, name)
        os.chmod(f"{own}.key", 0o644)
        print_of = run_openssl("x509", "-in", f"{own}.pem", "-noout", "-fingerprint", "-sha256").split("=")[1].strip()
        sink = self.sink()
        self.asking = free_port()
        self.listening(sink, f"relay_networks: [192.0.2.99/32]\nrelay_clients: [\"{print_of}\"]\n")
        port = free_port()
        self.start_peer(peer, peer, f"listen=127.0.0.1:{port}", f"relay=127.0.0.1:{self.asking}",
                        *(setting.format(own=own, authority=self.authority) for setting in settings))
        self.send(port, *(f"{number}.elsewhere.test" for number in range(10)))
        wait_until(lambda: len(sink.messages) == 10, "ten messages by way of the peer")
        for _, _, body in sink.messages:
            self.assertTrue(body.endswith(MESSAGE), body)
            self.assertIn(f'(Client CN "{name}" (not verified))'.encode(), body)

    def test_postfix_is_a_client_known_by_its_certificate(self):
        self.client("postfix", "postfix.test", "mode=relay", "set:smtp_tls_security_level=secure", "set:smtp_tls_CAfile={authority}.pem",
                    "set:smtp_tls_secure_cert_match=mx.test", "set:smtp_tls_cert_file={own}.pem", "set:smtp_tls_key_file={own}.key")

    def test_exim_is_a_client_known_by_its_certificate(self):
        self.client("exim", "exim.test", "smtp:hosts_require_tls = *", "smtp:tls_certificate = {own}.pem",
                    "smtp:tls_privatekey = {own}.key", "smtp:tls_verify_certificates = {authority}.pem")


if __name__ == "__main__":
    unittest.main()
