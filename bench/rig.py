"""rig: what the benches share: a relay for the time of a block, what it is asked and takes, a load, a made-up DNS."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(TOP, "scripts/peers")
LISTEN, SINK, NOBODY = 2600, 2601, 2602


def fail(text):
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)
    sys.exit(1)


def end_in_order():
    """To be asked to end is an exception, as Ctrl-C is: what was begun is ended and removed on the way out."""
    def ended(number, _frame):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)


def start(words, **more):
    """A program that does not outlive us, however we end."""
    return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *words], **more)


def ports_need(*ports):
    """Before anything is begun: they are free."""
    for port in ports:
        with contextlib.closing(socket.socket()) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
            except OSError as error:
                fail(f"port {port}: {error.strerror}: is another bench running?")


def wait_for_port(port, process, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            fail(f"the server ended with code {process.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    fail(f"nobody listens on port {port} after {seconds} s")


def stop(process, seconds=20):
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    if process.poll() is None:
        process.kill()
        process.wait()


def two_cores():
    return (os.cpu_count() or 1) > 1


class Relay:
    """tubepostd on the first processor, its spool and all else below `folder`, which is made and stays."""

    def __init__(self, build, folder, settings):
        self.build, self.folder = build, folder
        os.makedirs(os.path.join(folder, "spool"), exist_ok=True)
        self.path, self.log = os.path.join(folder, "tubepost.yaml"), os.path.join(folder, "log")
        everything = {
            "hostname": "relay.bench.example",
            "listen": [{"name": "mx", "address": [f"127.0.0.1:{LISTEN}"]}],
            "relay_networks": ["127.0.0.0/8"],
            "control": {"path": f"{folder}/control"},
            "log": {"level": "warning"},
            "cpu": {"pin": two_cores(), "first_cpu": 0},
            **settings,
        }
        everything["spool"] = {"path": f"{folder}/spool", **settings.get("spool", {})}
        with open(self.path, "w") as file:
            json.dump(everything, file, indent=1)  # JSON is YAML

    @contextlib.contextmanager
    def running(self, patience_s=120):
        """Until it listens; what it says goes to the file `log`."""
        with open(self.log, "w") as log:
            self.process = start([os.path.join(self.build, "tubepostd"), "-c", self.path], stdout=log, stderr=log)
        try:
            wait_for_port(LISTEN, self.process, patience_s)
            yield self
        finally:
            stop(self.process, 60)

    def ask(self, *words, seconds=600):
        """What `tubepost ...` says, and how long it took."""
        begun = time.monotonic()
        result = subprocess.run([os.path.join(self.build, "tubepost"), "-c", self.path, *words], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
        took_s = time.monotonic() - begun
        if result.returncode != 0:
            fail(f"tubepost {' '.join(words)}: {result.stdout}")
        return result.stdout, took_s

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0


def load(build, part, *words, seconds=600):
    """What the generator reports; it runs on the second processor."""
    command = [os.path.join(build, "tubepost-bench"), part, "--json", *words, *(["--cpu", "1"] if two_cores() else [])]
    with start(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    if not said.startswith("{"):
        fail(f"no result from {' '.join(command)}")
    return json.loads(said)


class Names:
    """NSD with the zone bench.example: domains d0000000, d0000001, ..., dealt out to so many sites, each of one MX host with
    an address of its own in 127.1.0.0/16. It answers at SERVER, port 53: the resolver of libc knows no other."""

    SERVER = "127.53.53.53"

    def __init__(self, folder, domains, sites):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/zone", "w") as file:
            file.write("$ORIGIN bench.example.\n$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\n"
                       f"ns A {self.SERVER}\n")
            for site in range(sites):
                file.write(f"mx{site} A 127.1.{site // 250}.{site % 250 + 1}\n")
            for domain in range(domains):
                file.write(f"d{domain:07} MX 10 mx{domain % sites}\n")
        with open(f"{folder}/nsd.conf", "w") as file:
            file.write(f"server:\n  ip-address: {self.SERVER}@53\n  username: \"\"\n  zonesdir: {folder}\n  pidfile: \"\"\n"
                       f"  database: \"\"\n  xfrdir: {folder}\n  xfrdfile: \"\"\n  zonelistfile: {folder}/list\n"
                       "  minimal-responses: yes\nremote-control:\n  control-enable: no\n"
                       f"zone:\n  name: bench.example.\n  zonefile: {folder}/zone\n")

    @contextlib.contextmanager
    def running(self):
        subprocess.run([PEERS, "fetch", "nsd"], check=True)
        with open(f"{self.folder}/log", "w") as log:
            process = start([PEERS, "run", "nsd", "/usr/sbin/nsd", "-d", "-c", f"{self.folder}/nsd.conf"], stdout=log, stderr=log)
        try:
            self.wait(process)
            yield
        finally:
            stop(process)

    def wait(self, process):
        question = bytes.fromhex("123401000001000000000000") + b"\5bench\7example\0" + bytes.fromhex("00060001")
        end = time.monotonic() + 30
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.3)
            while time.monotonic() < end and process.poll() is None:
                with contextlib.suppress(OSError):
                    asker.sendto(question, (self.SERVER, 53))
                    if asker.recv(4096)[:2] == question[:2]:
                        return
        fail(f"NSD does not answer; see {self.folder}/log")


def fresh(build, name):
    """An empty folder below the build."""
    folder = os.path.join(build, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder
