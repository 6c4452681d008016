"""mailbox_rig: the mailbox service and Dovecot for the time of a block, a client, and what memory they take."""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import resource
import shutil
import socket
import subprocess
import time
import typing

from rig import PEERS, fail, start, stop, wait_for_port

LMTP, IMAP, IMAPS = 2610, 2611, 2612
PASSWORD = "secret"


def user(number):
    return f"u{number:07}"


def files_raise():
    """As many descriptors as may be, for us and those we start: a client has one for each session."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if os.geteuid() == 0:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (65536, max(65536, hard)))
            return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def stored(scheme):
    """The password as both servers store it. One salt for all users: a client of SCRAM keeps what it has derived."""
    if scheme == "PLAIN":
        return "{PLAIN}" + PASSWORD
    if scheme == "SHA512-CRYPT":
        made = subprocess.run(["openssl", "passwd", "-6", "-salt", "tubepostbench", PASSWORD], check=True, stdout=subprocess.PIPE, text=True)
        return "{SHA512-CRYPT}" + made.stdout.strip()
    salt = b"tubepost-bench-1"
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 4096)
    client = hmac.digest(salted, b"Client Key", "sha256")
    keys = (salt, hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256"))
    return "{SCRAM-SHA-256}4096," + ",".join(base64.b64encode(key).decode() for key in keys)


def certificate_make(folder):
    """P-256, with its key beside it in .key."""
    path = os.path.join(folder, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=mailbox.bench.example", "-keyout", path + ".key", "-out", path], check=True, stderr=subprocess.DEVNULL)
    return path


class Client:
    """IMAP, as plain as can be: what is measured is the server."""

    def __init__(self, name=None):
        self.socket = socket.create_connection(("127.0.0.1", IMAP), 30)
        self.socket.settimeout(300)
        self.count = 0
        self.read_to(b"\r\n")
        if name is not None:
            self.ask(f"LOGIN {name} {PASSWORD}")

    def read_to(self, end):
        """The number of bytes read, and the last of them, which contain `end`."""
        tail, size = b"", 0
        while end not in tail:
            piece = self.socket.recv(1 << 20)
            if not piece:
                fail(f"the server has closed the connection: {tail[-200:]!r}")
            size += len(piece)
            tail = (tail + piece)[-max(len(piece) + 64, 128):]
        return size, tail

    def ask(self, command):
        """To its tagged OK; the number of bytes that came."""
        self.count += 1
        tag = f"\r\na{self.count} ".encode()
        self.socket.sendall(tag[2:] + (command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        tail, size = b"\r\n", 0
        while not (tag in tail and tail.endswith(b"\r\n")):
            piece = self.socket.recv(1 << 20)
            if not piece:
                fail(f"the server has closed the connection during {command[:200]}")
            size += len(piece)
            tail = tail[-256:] + piece
        answer = tail[tail.rindex(tag) + len(tag):]
        if not answer.startswith(b"OK"):
            fail(f"{command[:200]}: {answer.decode(errors='replace')}")
        return size

    def close(self):
        self.socket.close()


class Needs(typing.NamedTuple):
    """What a test wants of a server beyond mail over LMTP and IMAP in the clear."""
    store: str = "log"        # ours: log or maildir
    scheme: str = "PLAIN"     # of passwords
    mechanism: str = "PLAIN"  # of SASL
    secure: bool = False      # IMAPS, too
    index: bool = False       # of texts; ours has one, and tells when it is whole


class Dovecot:
    name = "dovecot"

    def __init__(self, folder, needs):
        self.folder, self.needs = os.path.join(folder, "dovecot"), needs

    def secure(self):
        """As its manual advises for many logins: processes that stay, as many of them as the load wants; results remembered, as ours are."""
        certificate = certificate_make(self.folder)
        return ["ssl = yes", f"ssl_cert = <{certificate}", f"ssl_key = <{certificate}.key", f"auth_mechanisms = {self.needs.mechanism.lower()}",
                "auth_cache_size = 64M", "auth_cache_ttl = 1h", "auth_cache_negative_ttl = 1m",
                f"service imap-login {{\n  service_count = 0\n  process_min_avail = {os.cpu_count()}\n  process_limit = {os.cpu_count()}\n"
                f"  inet_listener imaps {{\n    address = 127.0.0.1\n    port = {IMAPS}\n    ssl = yes\n  }}\n}}",
                "service imap {\n  service_count = 0\n  process_min_avail = 50\n}"]

    @contextlib.contextmanager
    def running(self, users):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        words = [f"lmtp=127.0.0.1:{LMTP}", f"imap=127.0.0.1:{IMAP}", f"users={','.join(map(user, range(users)))}",
                 f"stored={stored(self.needs.scheme)}"]
        limits = ["auth_username_format = %Ln", "default_client_limit = 25000", "default_process_limit = 12000", "mail_max_userip_connections = 20000"]
        words += [f"set:{line}" for line in limits + (self.secure() if self.needs.secure else [])]
        subprocess.run([PEERS, "start", "dovecot", self.folder, *words], check=True)
        try:
            yield self
        finally:
            subprocess.run([PEERS, "stop", self.folder], check=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def leftover_stop(self):
        """Of a run that was killed: its processes are nobody's children."""
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "run/master.pid")) as file:
            with open(f"/proc/{int(file.read())}/comm") as name:
                if name.read().startswith("dovecot"):
                    subprocess.run([PEERS, "stop", self.folder], check=True)

    def settle(self, messages):
        """It has no index of texts."""

    def processes(self):
        with open(os.path.join(self.folder, "run/master.pid")) as file:
            return descendants(int(file.read()))


class Tubepost:
    name = "tubepost"

    def __init__(self, folder, build, needs):
        self.folder, self.build, self.needs = os.path.join(folder, "tubepost"), build, needs

    def settings(self, users):
        path = os.path.join(self.folder, "users")
        with open(path, "w") as file:
            password = stored(self.needs.scheme)
            file.writelines(f"{user(number)}:{password}\n" for number in range(users))
        settings = {
            "hostname": "mailbox.bench.example",
            "listen": [{"name": "lmtp", "protocol": "lmtp", "address": [f"127.0.0.1:{LMTP}"]}],
            "store": {"path": os.path.join(self.folder, "mail"), "durability": "commit"},
            "log": {"level": "debug" if self.needs.index else "warning"},
            "control": {"path": os.path.join(self.folder, "control")},
            "limits": {"connections": 25000, "user_address_connections": 20000},
        }
        if self.needs.store == "log":
            settings["store"].update({"format": "log", "max_bytes": "16G"})
            settings["listen"].append({"name": "imap", "protocol": "imap", "address": [f"127.0.0.1:{IMAP}"]})
            settings["auth"] = {"backends": [f"passwd-file:{path}"], "clear_on_loopback": True, "cache_right": "1h"}
        if self.needs.secure:
            certificate = certificate_make(self.folder)
            settings["tls"] = {"certificates": [{"certificate": certificate, "key": certificate + ".key"}]}
            settings["listen"].append({"name": "imaps", "protocol": "imap", "address": [f"127.0.0.1:{IMAPS}"], "tls": "implicit"})
            settings["auth"]["mechanisms"] = [self.needs.mechanism]
        return settings

    @contextlib.contextmanager
    def running(self, users):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(os.path.join(self.folder, "mail"))
        path = self.path = os.path.join(self.folder, "mailboxd.yaml")
        with open(path, "w") as file:
            json.dump(self.settings(users), file, indent=1)  # JSON is YAML
        with open(os.path.join(self.folder, "log"), "w") as log:
            self.process = start([os.path.join(self.build, "tubepost-mailboxd"), "-c", path], stdout=log, stderr=log)
        try:
            wait_for_port(LMTP, self.process)
            yield self
        finally:
            stop(self.process)
            shutil.rmtree(self.folder, ignore_errors=True)

    def settle(self, messages):
        """Waits until the index, which the first search begins, has them all; it says so at level debug."""
        begun = time.monotonic()
        while self.needs.index:
            with open(os.path.join(self.folder, "log")) as log:
                if f"has {messages} texts" in log.read():
                    return
            if time.monotonic() - begun > 60 + messages / 20:
                fail(f"{messages} messages were not indexed in {time.monotonic() - begun:.0f} s")
            time.sleep(0.1)

    def processes(self):
        return [self.process.pid]


def descendants(pid):
    found, begin = [], [pid]
    while begin:
        found.append(begin[0])
        with contextlib.suppress(OSError), open(f"/proc/{begin[0]}/task/{begin[0]}/children") as file:
            begin += map(int, file.read().split())
        begin = begin[1:]
    return found


def memory(server):
    """PSS in bytes of all its processes."""
    total = 0
    for pid in server.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return total


def processor_s(server):
    """Seconds of a processor that its processes have had, those that have ended included."""
    total = 0
    for pid in server.processes():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            total += sum(map(int, file.read().rsplit(")", 1)[1].split()[11:15]))
    return total / os.sysconf("SC_CLK_TCK")
