"""What the system tests share: folders, ports, the relay, scripted peers.

Everything is on loopback or a unix socket in a temporary folder, is bounded in time, and is stopped by
the test that started it.
"""
import functools
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TUBEPOST_BUILD", os.path.join(TOP, "build"))
PATIENCE_S = 60
BLOCK_PORTS = 500

# Over our own TCP (lab_runs.py): the relay has an address of its own, and we are its peer.
PORT = os.environ.get("TUBEPOST_TEST_PORT")          # "net_af_packet0"; None: kernel sockets
PORT_EAL = os.environ.get("TUBEPOST_TEST_EAL", "")   # EAL arguments that make it
PORT_MORE = os.environ.get("TUBEPOST_TEST_PORT_MORE", "")  # further keys of the port: ", vlan: 7"
IPV6 = PORT is not None and os.environ.get("TUBEPOST_TEST_IPV6") == "1"
RELAY = ("fd00::1" if IPV6 else "192.0.2.1") if PORT else "127.0.0.1"   # where clients find the relay
PEER = ("fd00::2" if IPV6 else "192.0.2.2") if PORT else "127.0.0.1"    # where the relay finds a sink


# Where shards begin, when several files of tests run side by side: not all on the first processor.
CPU = os.environ.get("TUBEPOST_TEST_CPU")


def at(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@functools.cache
def block_of_ports():
    """Those of this process, below what the kernel gives to sockets that ask for none: what a test has found free stays so.

    A name among the abstract unix sockets stands for each block. It is of the network's namespace as ports are, and goes with us.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range") as f:
        end = int(f.read().split()[0])
    for first in range(20000, end - BLOCK_PORTS + 1, BLOCK_PORTS):
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0tubepost-test-ports-{first}")
            return claim, itertools.cycle(range(first, first + BLOCK_PORTS))
        except OSError:
            claim.close()
    raise AssertionError("other tests have all the ports")


def free_port():
    _, ports = block_of_ports()
    for port in itertools.islice(ports, BLOCK_PORTS):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise AssertionError("no port is free")


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Polls condition until it is true; raises with `what` when patience is over. Returns its value."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience_s} s in vain for: {what}")


class Process:
    """A program of ours, its output in a file, ended at the latest by the test's clean-up."""

    def __init__(self, arguments, log_path, **kwargs):
        self.log_path = log_path
        self.log = open(log_path, "ab")
        self.popen = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, **kwargs)

    def output(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def resident(self):
        with open(f"/proc/{self.popen.pid}/status") as f:
            return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.popen.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how=signal.SIGTERM, patience_s=PATIENCE_S):
        if self.popen.poll() is None:
            self.popen.send_signal(how)
            try:
                self.popen.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
                raise AssertionError("did not stop in time:\n" + self.output()[-3000:])
        self.log.close()
        return self.popen.returncode


class Relay(Process):
    """tubepostd with a configuration made here. `port` is its listener on RELAY."""

    def __init__(self, folder, routes, port=None, settings="", spool="", prefix=(), log_name="relay.log",
                 addresses=("192.0.2.1/24", "fd00::1/64"), listen=()):
        self.folder = folder
        self.port = port or free_port()
        self.spool = spool or os.path.join(folder, "spool")
        self.control = os.path.join(folder, "control")
        os.makedirs(self.spool, exist_ok=True)
        self.config = os.path.join(folder, "relay.yaml")
        with open(self.config, "w") as f:
            f.write(f"hostname: relay.test\n"
                    f"listen:\n  - {{name: mx, address: [\"{at(RELAY, self.port)}\"]}}\n"
                    + "".join(f"  - {further}\n" for further in listen) +
                    f"control: {{path: {self.control}}}\n"
                    f"routes:\n{routes}\n{settings}\n")
            if CPU and "cpu:" not in settings:
                f.write(f"cpu: {{first_cpu: {CPU}}}\n")
            if PORT:
                f.write(f"transport: dpdk\ndpdk:\n  eal: [{PORT_EAL}]\n  ports:\n"
                        f"    - {{name: {PORT}, addresses: {list(addresses)}{PORT_MORE}}}\n")
                if "relay_networks:" not in settings:
                    f.write("relay_networks: [192.0.2.0/24, 127.0.0.0/8, \"fd00::/64\"]\n")
            if "spool:" not in settings:
                f.write(f"spool: {{path: {self.spool}, segment_bytes: 16M, memory_bytes: 32M}}\n")
        super().__init__([*prefix, os.path.join(BUILD, "tubepostd"), "-c", self.config],
                         os.path.join(folder, log_name), env=sanitizer_environment())
        self.wait_ready()

    def wait_ready(self):
        def check_runs():
            if self.popen.poll() is not None:
                raise AssertionError("the relay ended at start:\n" + self.output()[-3000:])

        # Over a wire the first SYN is lost when nobody is there yet, and the kernel takes seconds to send it again.
        patience = itertools.chain([0.25] * 12 if PORT else [], itertools.repeat(5))

        def greets():
            check_runs()
            try:
                with socket.create_connection((RELAY, self.port), next(patience)) as s:
                    s.settimeout(5)
                    return s.recv(4) == b"220 "
            except OSError:
                return False

        def answers():
            # It listens to its operator a moment after it has greeted its first client.
            check_runs()
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(5)
                    s.connect(self.control)
                    s.sendall(b"status\n")
                    with s.makefile("rb") as lines:
                        return any(json.loads(line).get("end") == "ok" for line in lines)
            except (OSError, ValueError):
                return False
        wait_until(greets, "the relay's greeting")
        wait_until(answers, "the relay's control socket")

    def restart(self):
        """After it has ended: the same configuration again."""
        self.log.close()
        self.log = open(self.log_path, "ab")
        self.popen = subprocess.Popen([os.path.join(BUILD, "tubepostd"), "-c", self.config], stdin=subprocess.DEVNULL,
                                      stdout=self.log, stderr=self.log, env=sanitizer_environment())
        self.wait_ready()

    def ctl(self, *arguments):
        return subprocess.run([os.path.join(BUILD, "tubepost"), "-c", self.config, *arguments], text=True,
                              capture_output=True, timeout=PATIENCE_S, env=sanitizer_environment())


def sanitizer_environment():
    # libxdp 1.3 forgets what it keeps about a umem when the last socket goes.
    leaks_of_others = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lsan.supp")
    return dict(os.environ, ASAN_OPTIONS="abort_on_error=1:detect_leaks=1", UBSAN_OPTIONS="print_stacktrace=1",
                LSAN_OPTIONS=f"suppressions={leaks_of_others}:print_suppressions=0")


class Sink:
    """A scripted SMTP or LMTP server: keeps what it gets; `reply` decides, per command, what to answer.

    reply(command, argument) returns a full reply text ("451 4.3.0 later"), None for the usual one, or
    "close" to cut the connection. The end of data comes as command "." with the message as argument, and for
    LMTP once for each accepted recipient, with the recipient as argument.
    """

    def __init__(self, path=None, port=None, lmtp=False, reply=None, host=None, extensions=("PIPELINING", "8BITMIME", "SIZE 100000000")):
        self.lmtp, self.reply, self.extensions = lmtp, reply or (lambda command, argument: None), extensions
        self.messages = []  # (reverse-path, [forward-paths], bytes)
        self.connections = 0
        self.lock = threading.Lock()
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(path)
            self.to = f"unix:{path}"
        else:
            self.socket = socket.socket(socket.AF_INET6 if IPV6 else socket.AF_INET)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((host or PEER, port or 0))
            self.to = at(*self.socket.getsockname()[:2])
        self.socket.listen(64)
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                self.open.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        with self.lock:
            for connection in self.open:
                connection.close()

    def serve(self, connection):
        try:
            connection.settimeout(PATIENCE_S)
            with connection, connection.makefile("rwb") as f:
                self.dialogue(f)
        except (OSError, ValueError):
            pass

    def answer(self, f, command, argument, usual):
        text = self.reply(command, argument) or usual
        if text == "close":
            raise OSError("cut as the script says")
        f.write(text.encode("utf-8", "surrogateescape") + b"\r\n")
        f.flush()
        return text[0] == "2" or text[0] == "3"

    def dialogue(self, f):
        self.answer(f, "connect", "", "220 sink.test ready")
        sender, recipients = None, []
        while True:
            line = f.readline(100000)
            if not line:
                return
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            command = text[:4].upper()
            argument = text[5:]
            if command in ("EHLO", "LHLO"):
                lines = ["sink.test", *self.extensions]
                usual = "\r\n".join("250" + ("-" if i + 1 < len(lines) else " ") + l for i, l in enumerate(lines))
                self.answer(f, command, argument, usual)
            elif command == "MAIL":
                if self.answer(f, command, argument, "250 2.1.0 ok"):
                    sender, recipients = re.search(r"<(.*?)>", argument).group(1), []
            elif command == "RCPT":
                recipient = re.search(r"<(.*)>", argument).group(1)
                if self.answer(f, command, recipient, "250 2.1.5 ok"):
                    recipients.append(recipient)
            elif command == "DATA":
                if not recipients:
                    self.answer(f, command, "", "503 5.5.1 no recipients")
                elif self.answer(f, command, "", "354 go on"):
                    body = self.read_body(f)
                    self.end_of_data(f, sender, recipients, body)
                sender, recipients = None, []
            elif command == "QUIT":
                self.answer(f, command, "", "221 2.0.0 bye")
                return
            else:
                if command == "RSET":
                    sender, recipients = None, []
                self.answer(f, command, argument, "250 2.0.0 ok")

    def read_body(self, f):
        lines = []
        while True:
            line = f.readline()
            if not line:
                raise OSError("cut in the body")
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)

    def end_of_data(self, f, sender, recipients, body):
        if self.lmtp:
            taken = [r for r in recipients if self.answer(f, ".", r, "250 2.0.0 ok")]
        else:
            taken = recipients if self.answer(f, ".", body, "250 2.0.0 ok") else []
        if taken:
            with self.lock:
                self.messages.append((sender, taken, body))


class SystemTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="tubepost-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def sink(self, **kwargs):
        sink = Sink(**kwargs)
        self.addCleanup(sink.close)
        return sink

    def relay(self, routes, **kwargs):
        relay = Relay(self.folder, routes, **kwargs)
        self.addCleanup(self.end, relay)
        return relay

    def end(self, process):
        if process.popen.poll() is None:
            code = process.stop()
            self.assertEqual(code, 0, process.output()[-5000:])


def dialogue(port, *pieces, read_to_end=True, patience_s=PATIENCE_S):
    """Sends the pieces as they are and returns everything that the server says until it closes."""
    with socket.create_connection((RELAY, port), patience_s) as s:
        for piece in pieces:
            s.sendall(piece)
        received = b""
        while True:
            try:
                more = s.recv(65536)
            except ConnectionResetError:
                return received
            if not more:
                return received
            received += more


class Client:
    """A plain SMTP dialogue: one command, one reply."""

    def __init__(self, port, host=RELAY, patience_s=PATIENCE_S):
        self.socket = socket.create_connection((host, port), patience_s)
        self.file = self.socket.makefile("rb")
        self.greeting = self.reply()

    def reply(self):
        lines = []
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("closed; so far: %r" % lines)
            lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
            if line[3:4] != b"-":
                return "\n".join(lines)

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))

    def command(self, line):
        self.send(line if isinstance(line, bytes) else line + "\r\n")
        return self.reply()

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
