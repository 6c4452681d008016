"""An IMAP client for proofs: bare, exact about what came when, and it hands every untagged response on."""
import re
import socket
import zlib

from harness import PATIENCE_S
from test_mailboxd_store import PASSWORD

TOKEN = re.compile(rb' *(\(|\)|"[^"]*"|\{\d+\}\r\n|[A-Z0-9.]+\[[^\]]*\](?:<\d+>)?|[^ ()\r\n]+)')


class Refused(Exception):
    """The answer was NO."""


def items_of(text):
    """{b"UID": b"7", b"FLAGS": [...], b"BODY[]": bytes} of what stands in the parentheses of a FETCH response."""
    stack, at = [[]], 0
    while True:
        found = TOKEN.match(text, at)
        if found is None:
            break
        word, at = found.group(1), found.end()
        if word == b"(":
            stack.append([])
        elif word == b")":
            done = stack.pop()
            stack[-1].append(done)
        elif word.startswith(b"{"):
            size = int(word[1:-3])
            stack[-1].append(text[at:at + size])
            at += size
        else:
            stack[-1].append(word)
    flat = stack[0][0]
    return dict(zip(flat[::2], flat[1::2]))


class ImapClient:
    """told(client, line) is called for each untagged response, literals in it, before ask() returns."""

    def __init__(self, port, user, told=None, patience_s=PATIENCE_S):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self.file = self.socket.makefile("rb")
        self.told, self.count, self.command = told or (lambda client, line: None), 0, b""
        self.response()
        self.ask(b"LOGIN %s %s" % (user.encode(), PASSWORD.encode()))

    def response(self):
        text = b""
        while True:
            line = self.file.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError(f"closed in {text + line!r}")
            text += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if literal is None:
                return text
            body = self.file.read(int(literal.group(1)))
            if len(body) < int(literal.group(1)):
                raise ConnectionError("closed in a literal")
            text += body

    def begin(self, command):
        self.count += 1
        self.command = command
        self.socket.sendall(b"t%d %s\r\n" % (self.count, command))

    def end(self):
        """(the text behind OK, the untagged responses); Refused when it is NO."""
        tag, lines = b"t%d " % self.count, []
        while True:
            line = self.response()
            if line.startswith(tag):
                answer = line[len(tag):]
                break
            if line.startswith(b"* BYE") and not self.command.startswith(b"LOGOUT"):
                raise ConnectionError(line)
            if line.startswith(b"* "):
                lines.append(line)
                self.told(self, line)
        if answer.startswith(b"NO"):
            raise Refused(self.command[:200], answer)
        if not answer.startswith(b"OK"):
            raise AssertionError((self.command[:200], answer))
        return answer, lines

    def ask(self, command):
        self.begin(command)
        return self.end()

    def deflate(self):
        self.ask(b"COMPRESS DEFLATE")
        self.file.close()
        self.socket = self.file = Deflated(self.socket)

    def append(self, mailbox, text, flags=b""):
        """(uidvalidity, uid)"""
        answer, _ = self.ask(b"APPEND %s (%s) {%d+}\r\n%s" % (mailbox, flags, len(text), text))
        return tuple(int(n) for n in re.search(rb"APPENDUID (\d+) (\d+)\]", answer).groups())

    def close(self):
        self.file.close()
        self.socket.close()


class Deflated:
    """A socket and its file in one, whose octets are deflated both ways (RFC 4978)."""

    def __init__(self, below):
        self.below, self.plain = below, b""
        self.out, self.into = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)

    def sendall(self, octets, flush=zlib.Z_SYNC_FLUSH):
        self.below.sendall(self.out.compress(octets) + self.out.flush(flush))

    def fill(self):
        octets = self.below.recv(65536)
        self.plain += self.into.decompress(octets)
        return octets != b""

    def readline(self):
        while b"\n" not in self.plain and self.fill():
            pass
        return self.take(self.plain.find(b"\n") + 1 or len(self.plain))

    def read(self, size=None):
        while (size is None or len(self.plain) < size) and self.fill():
            pass
        return self.take(len(self.plain) if size is None else size)

    def take(self, size):
        taken, self.plain = self.plain[:size], self.plain[size:]
        return taken

    def fileno(self):
        return self.below.fileno()

    def close(self):
        self.below.close()


def copied(answer, lines):
    """(uidvalidity of the target, [(uid in the source, uid in the target)]) of COPY's or MOVE's answer."""
    found = next((f for f in (re.search(rb"COPYUID (\d+) (\S+) (\S+)\]", line) for line in [answer, *lines]) if f), None)
    if found is None:
        return 0, []
    sources, targets = (numbers(text) for text in found.groups()[1:])
    assert len(sources) == len(targets), found.group(0)
    return int(found.group(1)), list(zip(sources, targets))


def numbers(text):
    wide = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        wide.extend(range(int(first), int(last or first) + 1))
    return wide


def fetched(lines):
    """The items of each FETCH response among the lines."""
    found = [(line, re.match(rb"\* (\d+) FETCH ", line)) for line in lines]
    return [(int(match.group(1)), items_of(line[match.end():])) for line, match in found if match]
