"""What tests of TLS share: certificates made by openssl, and a sink that speaks TLS, well or badly."""
import os
import ssl
import subprocess
import threading

from harness import Sink


def run_openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def certificate(folder, name, issuer=None, days=2, file=None):
    """Files NAME.pem and NAME.key, made by openssl; signed by `issuer`, or by itself. days -1: it has expired."""
    base = os.path.join(folder, file or name)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{base}.key"]
    names = f"subjectAltName=DNS:{name},DNS:*.{name}"
    if issuer and days < 0:
        run_openssl("req", *key, "-out", f"{base}.csr")
        with open(f"{base}.ext", "w") as file_of_extensions:
            file_of_extensions.write(names)
        run_openssl("x509", "-req", "-in", f"{base}.csr", "-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial",
                    "-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}.pem")
        return base
    signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    run_openssl("req", "-x509", "-days", str(days), *key, "-addext", names, "-out", f"{base}.pem", *signed)
    return base


def server_context(base, authority=None):
    """Shows that certificate; asks clients for one where there is an authority."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{base}.pem", f"{base}.key")
    if authority:
        made.load_verify_locations(f"{authority}.pem")
        made.verify_mode = ssl.CERT_OPTIONAL
    return made


class Upgrade(Exception):
    pass


class TlsSink(Sink):
    """A sink with STARTTLS, or implicit TLS.

    starttls: what it answers. None: it makes the handshake; "hidden": the word is not in EHLO's answer; "garbage": it says
    220 and then no TLS; "injected": more plaintext comes with the 220; another text is the reply. `secured` counts the
    connections with TLS, `facts` has (version, SNI, resumed, certificate of the client) of each.
    """

    def __init__(self, context, starttls=None, implicit=False, **kwargs):
        self.context, self.starttls, self.implicit = context, starttls, implicit
        self.facts, self.names = [], {}
        self.here = threading.local()
        context.sni_callback = self.asked
        offered = () if starttls == "hidden" or implicit else ("STARTTLS",)
        super().__init__(extensions=("PIPELINING", "8BITMIME", "SIZE 100000000", *offered), **kwargs)

    @property
    def secured(self):
        return len(self.facts)

    def asked(self, connection, name, _):
        self.names[connection] = name

    def serve(self, connection):
        self.here.secured = False
        try:
            with connection:
                connection.settimeout(60)
                if not self.implicit:
                    try:
                        with connection.makefile("rwb") as f:
                            self.dialogue(f)
                        return
                    except Upgrade:
                        pass
                if self.starttls == "garbage":
                    connection.recv(1)  # the hello: what comes before it would be plaintext behind the 220
                    connection.sendall(b"this is no TLS\r\n")
                    return
                with self.context.wrap_socket(connection, server_side=True) as secure:
                    self.here.secured = True
                    self.facts.append((secure.version(), self.names.get(secure), secure.session_reused, secure.getpeercert(True)))
                    with secure.makefile("rwb") as f:
                        if self.implicit:
                            self.here.secured = False
                        self.dialogue(f)
        except (OSError, ValueError):
            pass

    def answer(self, f, command, argument, usual):
        if command == "connect" and self.here.secured:
            return True  # the greeting is not said again
        if command == "STAR" and not self.here.secured:
            if self.starttls not in (None, "garbage", "injected"):
                return super().answer(f, command, argument, self.starttls)
            more = "\r\n250 2.0.0 from somebody else" if self.starttls == "injected" else ""
            super().answer(f, command, argument, f"220 2.0.0 go ahead{more}")
            raise Upgrade
        return super().answer(f, command, argument, usual)
