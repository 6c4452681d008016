"""The same IMAP commands over the same mail to the mailbox service and to Dovecot 2.3: the answers must say the same."""
import os
import re
import socket
import unittest

from harness import PATIENCE_S, free_port
from imap_client import Deflated
from imap_corpus import CORPUS
from test_mail_clients import PASSWORD, USER, Rig as ClientRig


class Reader:
    """An answer's words: lists, b"atoms", ("s", octets) for a string however it was sent."""

    def __init__(self, octets):
        self.octets, self.at = octets, 0

    def words(self, end=None):
        found = []
        while self.at < len(self.octets):
            octet = self.octets[self.at:self.at + 1]
            if octet == end:
                self.at += 1
                return found
            if octet == b" ":
                self.at += 1
            elif octet == b"(":
                self.at += 1
                found.append(self.words(b")"))
            elif octet == b'"':
                found.append(self.quoted())
            elif literal := re.compile(rb"~?\{(\d+)\}\r\n").match(self.octets, self.at):
                self.at = literal.end() + int(literal[1])
                found.append(("s", self.octets[literal.end():self.at]))
            else:
                found.append(self.atom())
        assert end is None, self.octets
        return found

    def quoted(self):
        match = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.S).match(self.octets, self.at)
        assert match, self.octets
        self.at = match.end()
        return "s", re.sub(rb"\\(.)", rb"\1", match[1])

    def atom(self):
        """With what is in brackets: BODY[HEADER.FIELDS (A B)]<0>."""
        begin, depth = self.at, 0
        while self.at < len(self.octets):
            octet = self.octets[self.at:self.at + 1]
            depth += (octet == b"[") - (octet == b"]")
            if depth <= 0 and octet in (b" ", b"(", b")"):
                break
            self.at += 1
        assert self.at > begin, (self.octets, self.at)
        return self.octets[begin:self.at]


class Session:
    def __init__(self, port):
        self.port, self.number = port, 0
        self.open()

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self.file = self.socket.makefile("rb")
        self.file.readline()
        self.ask(f"LOGIN {USER} {PASSWORD}".encode())

    def one(self):
        """One response, literals inside."""
        whole = b""
        while True:
            try:
                line = self.file.readline()
            except ConnectionResetError:
                line = b""
            if not line:
                return b"* CLOSED"
            whole += line
            literal = re.search(rb"\{(\d+)\}\r\n$", line)
            if not literal:
                return whole[:-2]
            whole += self.file.read(int(literal[1]))

    def ask(self, *pieces):
        """The responses to a command; between pieces it waits to be asked on."""
        self.number += 1
        tag = b"t%d " % self.number
        pieces = list(pieces)
        self.socket.sendall(tag + pieces.pop(0) + b"\r\n")
        found = []
        while True:
            response = self.one()
            if response == b"* CLOSED":
                self.open()
                return [*found, response]
            if response.startswith(b"+"):
                if not pieces:
                    found.append(b"+")
                    self.socket.sendall(b"\r\n")
                    continue
                self.socket.sendall(pieces.pop(0) + b"\r\n")
                continue
            found.append(response.replace(tag, b"TAG ", 1) if response.startswith(tag) else response)
            if response.startswith(tag):
                return found

    def close(self):
        self.file.close()
        self.socket.close()


class DeflatedSession(Session):
    def open(self):
        super().open()
        assert self.ask(b"COMPRESS DEFLATE")[-1].startswith(b"TAG OK")
        self.file.close()
        self.socket = self.file = Deflated(self.socket)


NUMBERS_OF_THEIR_OWN = (b"UIDVALIDITY", b"HIGHESTMODSEQ", b"MODSEQ", b"MAILBOXID")


def masked(words):
    """Without what each server chooses itself."""
    found, mask = [], False
    for word in words:
        if mask:
            word, mask = b"N", False
        elif isinstance(word, list):
            word = masked(word)
        elif isinstance(word, bytes):
            word = word.upper()
            mask = word in NUMBERS_OF_THEIR_OWN
        found.append(word)
    return found


def code_of(text):
    """The response code, its words; what follows is for people."""
    match = re.match(rb"\[([A-Z-]+)([^\]]*)\]", text)
    if not match:
        return ()
    words = masked([match[1], *Reader(match[2]).words()])
    if match[1] in (b"COPYUID", b"APPENDUID"):
        words[1] = b"N"
    if match[1] == b"PERMANENTFLAGS":
        words[1] = sorted(words[1])
    return tuple(words)


def lowered(structure):
    """A body structure: of types, parameter names and encodings the case says nothing."""
    if isinstance(structure, list):
        return [lowered(part) for part in structure]
    return (structure[0], structure[1].lower()) if isinstance(structure, tuple) else structure


def fetched(words):
    items = {}
    for name, value in zip(words[::2], words[1::2]):
        name = re.sub(rb'"', b"", name.upper())
        if name == b"FLAGS":
            value = sorted(flag for flag in value if flag != b"\\Recent")  # RFC 9051 has it no more
        elif name.startswith((b"BODY[", b"BINARY[")) and value == b"NIL":
            value = "s", b""  # a part that is not there: neither RFC says which
        elif name in (b"BODY", b"BODYSTRUCTURE"):
            value = lowered(value)
        elif name == b"MODSEQ":
            value = b"N"
        elif name == b"INTERNALDATE":
            value = "s", re.sub(rb"^0", b" ", value[1])  # either is a day
        elif isinstance(value, bytes):
            value = value.upper()
        items[name] = value
    return sorted(items.items())


def meaning(responses):
    """A command's answer in a form in which two that say the same are equal."""
    said, expunged, flags = [], [], {}
    for response in responses:
        who, _, rest = response.partition(b" ")
        kind, _, text = rest.partition(b" ")
        if kind.upper() in (b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"):
            code = code_of(text)
            if code[:1] in ((b"MAILBOXID",), (b"CANNOT",)):
                code = ()  # RFC 8474, and RFC 5530 where Dovecot has none
            if code[:1] == (b"BADCHARSET",):
                code = code[:1]  # with a list or without
            if who == b"TAG" or code:
                said.append((who, kind.upper(), code))
            continue
        words = Reader(rest).words()
        if len(words) > 1 and words[1] == b"EXPUNGE":
            expunged.append(words[0])
        elif len(words) > 1 and words[1] == b"FETCH":
            flags.setdefault(words[0], []).extend(fetched(words[2]))
        elif words and words[0] in (b"LIST", b"LSUB"):
            name = words[3][1] if isinstance(words[3], tuple) else words[3]
            # Whether a mailbox is "unmarked" Dovecot knows of those that it has looked at a second ago or longer.
            attributes = sorted(flag.lower() for flag in words[1] if flag.lower() != b"\\unmarked")
            said.append((words[0], attributes, words[2], name, *masked(words[4:])))
        elif words and words[0] == b"STATUS":
            name = words[1][1] if isinstance(words[1], tuple) else words[1]
            values = masked(words[2])
            said.append((b"STATUS", name, sorted(zip(values[::2], values[1::2]))))
        elif words and words[0] == b"FLAGS":
            said.append((b"FLAGS", sorted(words[1])))
        elif words and words[0] == b"ESEARCH":
            said.append((b"ESEARCH", *masked(words[2:])))
        elif words and words[0] == b"SEARCH":
            # In any order, RFC 3501 7.2.5.
            said.append((b"SEARCH", sorted(map(repr, masked(words[1:])))))
        elif words[1:] != [b"RECENT"]:
            said.append(tuple(masked(words)))
    said.extend((b"FETCH", number, items) for number, items in flags.items())
    if expunged:
        said.append((b"EXPUNGE", *expunged))
    return sorted(map(repr, said))


ALL = b"1:%d" % len(CORPUS)
PARTS = [b"1", b"2", b"3", b"1.1", b"1.2", b"2.1", b"2.2", b"1.1.1", b"1.1.2", b"1.2.1", b"2.1.1", b"9"]


def fetches():
    for item in (b"(ENVELOPE)", b"(BODY)", b"(BODYSTRUCTURE)", b"(RFC822.SIZE)", b"(UID FLAGS)", b"RFC822.HEADER", b"BODY.PEEK[]", b"BODY.PEEK[HEADER]", b"BODY.PEEK[TEXT]",
                 b"BODY.PEEK[HEADER.FIELDS (Subject FROM x-twice)]", b"BODY.PEEK[HEADER.FIELDS.NOT (Subject FROM To X-Long)]", b"BODY.PEEK[HEADER.FIELDS (nothing)]",
                 b"BODY.PEEK[]<0.10>", b"BODY.PEEK[]<5.1000000>", b"BODY.PEEK[]<1000000.5>", b"BODY.PEEK[TEXT]<3.7>", b"BODY.PEEK[HEADER]<10.20>"):
        yield item
    for part in PARTS:
        for what in (b"", b".MIME", b".HEADER", b".TEXT"):
            yield b"BODY.PEEK[" + part + what + b"]"
        yield b"BODY.PEEK[" + part + b".HEADER.FIELDS (Subject)]"
        yield b"BODY.PEEK[" + part + b"]<2.9>"


def binary_fetches():
    for part in (b"1", b"2", b"1.1", b"9"):
        yield b"BINARY.PEEK[" + part + b"]"
        yield b"BINARY.SIZE[" + part + b"]"
    yield b"BINARY.PEEK[1]<1.4>"
    yield b"BINARY.SIZE[]"


def fetch_cases():
    for item in fetches():
        yield item.decode(), [b"FETCH %s %s" % (ALL, item)]
    undecodable = 1 + [name for name, _ in CORPUS].index("worse type")
    others = b"1:%d,%d:%d" % (undecodable - 1, undecodable + 1, len(CORPUS))
    for item in binary_fetches():
        yield item.decode(), [b"FETCH %s %s" % (others, item)]
        yield item.decode() + " of worse type", [b"FETCH %d %s" % (undecodable, item)]  # a NO may end a command


KEYS = """ALL|ANSWERED|DELETED|DRAFT|FLAGGED|NEW|OLD|RECENT|SEEN|UNANSWERED|UNDELETED|UNDRAFT|UNFLAGGED|UNSEEN|KEYWORD work|UNKEYWORD WORK|KEYWORD none
BEFORE 3-Jan-2020|ON 3-Jan-2020|SINCE 3-Jan-2020|SENTBEFORE 24-Nov-2026|SENTON 25-Nov-2026|SENTSINCE 24-Nov-2026|SENTON 26-Nov-2026|SENTSINCE 1-Jan-2027
LARGER 500|SMALLER 500|LARGER 0|SMALLER 4294967295|FROM ann|FROM j@example.test|FROM J\u00fcrgen|TO bob|TO undisclosed|CC friends|CC "b@example.test"|BCC d@example.test|SUBJECT plain|SUBJECT PLAIN
SUBJECT ""|SUBJECT "odd addresses folded"|SUBJECT "second"|HEADER Subject first|HEADER X-Twice ""|HEADER X-Twice 2|HEADER X-None ""|HEADER Message-ID <plain@example.test>
HEADER References "<r10@example.test>"|HEADER Content-Type alternative|BODY hello|BODY "rich words"|BODY second|BODY boundary|BODY "body one"|BODY inner|BODY text/html|TEXT inner|TEXT "from: inner"
BODY epilogue|BODY preamble|BODY "soft break"|TEXT ann|TEXT nowhere|BODY ""|TEXT ""|NOT SUBJECT plain|OR SUBJECT plain FROM inner|OR OR SUBJECT plain SUBJECT nested NOT (SEEN OR FLAGGED ANSWERED)
NOT NOT SEEN|(SEEN FLAGGED)|(OR (SEEN) (DELETED)) 1:10|1:5,7|*|5:*|*:5|UID 1:4|UID 100:200|UID *|NOT 1:3|1:3 NOT 2|YOUNGER 600|OLDER 600|YOUNGER 1|MODSEQ 1|MODSEQ 999999999
SUBJECT {7+}~GRüßE|HEADER {2+}~to bob|BODY {4+}~last|SENTON "25-Nov-2026"|ON " 3-Jan-2020"|ON "03-Jan-2020"|SUBJECT "[list]"|CC zed|BODY =20|BODY "PGI"|BODY "<p>sec"|FROM "Quoted"|FROM "odd local"|TO "Group"|HEADER From "comment"
HEADER Subject "=?utf-8"|SUBJECT "grüße aus köln end"|SUBJECT "Köln"|BODY "Köln"|TEXT "GRÜSSE"|BODY "grüße aus"|BODY "привет"|SUBJECT "köder"|FROM "jürgen"|HEADER X-Raw ""|TEXT "ä"|TEXT text/html|TEXT "a picture"|TEXT "rich words"|FROM ""|FROM "Ann Example"|FROM "ann@example.test"|FROM "<ann@"|TO "Y Z"|CC B""".replace("\n", "|").split("|")


def search_cases():
    for key in KEYS:
        key = key.encode().replace(b"~", b"\r\n")
        key = re.sub(rb"\{\d+\+\}\r\n(\S+)", lambda match: b"{%d+}\r\n%s" % (len(match[1]), match[1]), key)
        charset = b"CHARSET utf-8 " if any(octet > 127 for octet in key) else b""
        yield f"SEARCH {key.decode()}", [b"SEARCH " + charset + key]
    for latin in ("SUBJECT grüße", "BODY köln", "FROM Jürgen"):
        yield f"SEARCH latin1 {latin}", [b"SEARCH CHARSET iso-8859-1 " + re.sub(rb" (.*)", lambda m: b" {%d+}\r\n%s" % (len(m[1]), m[1]), latin.encode("latin1"))]
    for what in ("SEARCH CHARSET us-ascii SUBJECT plain", "SEARCH CHARSET strange-1 SUBJECT plain", "UID SEARCH SUBJECT plain",
                 "SEARCH RETURN () SUBJECT plain", "SEARCH RETURN (ALL) 1:20", "SEARCH RETURN (MIN MAX COUNT) SUBJECT plain", "SEARCH RETURN (MIN MAX COUNT ALL) SUBJECT nowhere",
                 "UID SEARCH RETURN (COUNT) ALL", "UID SEARCH RETURN (MIN) SEEN", "SEARCH RETURN (SAVE) SUBJECT plain", "FETCH $ (UID)", "SEARCH RETURN (SAVE MIN) 3:9", "SEARCH RETURN (COUNT) $",
                 "SEARCH RETURN (PARTIAL 1:3) ALL", "SEARCH RETURN (MAX) MODSEQ 1", "SEARCH RETURN (ALL) NOT $", "UID SEARCH UID $", "SORT (SUBJECT) UTF-8", "SEARCH", "SEARCH NONSENSE", "SEARCH OR SEEN",
                 "SEARCH NOT", "SEARCH BEFORE 32-Jan-2020", "SEARCH BEFORE x", "SEARCH LARGER -1", "SEARCH (SEEN", "SEARCH HEADER X", "SEARCH 0", "SEARCH RETURN (NONSENSE) ALL", "SEARCH 100", "SEARCH 100:200",
                 "SEARCH UID 1:*", "SEARCH UID 0", "SEARCH ()"):
        yield what, [what.encode()]
    for key in ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "REVERSE ARRIVAL", "REVERSE SUBJECT", "REVERSE DATE FROM", "SUBJECT REVERSE DATE", "SIZE", "DISPLAYFROM", "DISPLAYTO", "REVERSE", "NONSENSE", ""):
        yield f"SORT ({key})", [f"SORT ({key}) UTF-8 ALL".encode()]
    for what in ("UID SORT (REVERSE SIZE) US-ASCII LARGER 400", "SORT RETURN (MIN MAX COUNT) (SIZE) UTF-8 ALL", "SORT RETURN (ALL) (SUBJECT) UTF-8 1:5", "SORT (SIZE) strange-1 ALL", "SORT (SIZE) UTF-8 SUBJECT nowhere",
                 "THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "UID THREAD REFERENCES UTF-8 SUBJECT plain", "THREAD NONSENSE UTF-8 ALL", "THREAD REFERENCES UTF-8 SUBJECT nowhere",
                 "THREAD REFERENCES UTF-8"):
        yield what, [what.encode()]


MAILBOXES = """CREATE a|CREATE a|CREATE a/b/c|CREATE INBOX|CREATE inbox|CREATE ""|CREATE "x y"|CREATE "Entw&APw-rfe"|CREATE slash/|CREATE /lead|CREATE a//b|CREATE "bad&name"
LIST "" *|LIST "" %|LIST "" "a*"|LIST "" a/%|LIST "" %/%|LIST a/ %|LIST "a" "/%"|LIST "" ""|LIST "" inbox|LIST "" INBOX|LIST "" iNb*|LIST "" nowhere|LIST "" "x y"|LIST "" *c|LIST "" "%b*"|LIST "a/" ""|LIST "" %c
LIST "" (a "x*")|LIST "" (a "x*") RETURN (CHILDREN)|LIST (SUBSCRIBED) "" * RETURN (CHILDREN)|LIST "" * RETURN (SUBSCRIBED CHILDREN)|LIST "" % RETURN (CHILDREN)|LIST (RECURSIVEMATCH SUBSCRIBED) "" % RETURN (CHILDREN)|LIST (RECURSIVEMATCH) "" *|LIST "" a RETURN (CHILDREN STATUS (MESSAGES UIDNEXT))|LIST (NONSENSE) "" *
SUBSCRIBE a/b/c|SUBSCRIBE "x y"|SUBSCRIBE nowhere|UNSUBSCRIBE nowhere|UNSUBSCRIBE nowhere|SUBSCRIBE inbox|LSUB "" *|LSUB "" %|LSUB "" a/%|LSUB "" %/%|LIST (SUBSCRIBED) "" * RETURN (CHILDREN)|LIST (SUBSCRIBED) "" % RETURN (CHILDREN)|LIST (RECURSIVEMATCH SUBSCRIBED) "" % RETURN (CHILDREN)
LIST "" * RETURN (SUBSCRIBED CHILDREN)|STATUS a (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)|STATUS INBOX (MESSAGES UNSEEN)|STATUS inbox (MESSAGES)|STATUS nowhere (MESSAGES)|STATUS a ()|STATUS a (NONSENSE)|STATUS a|STATUS a (HIGHESTMODSEQ)|STATUS "x y" (MESSAGES)|STATUS a MESSAGES
STATUS a/b (MESSAGES)|SELECT a/b|RENAME a/b/c d/c|LIST "" *|LSUB "" *|RENAME nowhere e|RENAME a "x y"|RENAME d/c d/c|RENAME a a/under|RENAME "x y" deep/er/name|LIST "" *|LSUB "" *|DELETE nowhere|DELETE INBOX|DELETE inbox|DELETE d/c|DELETE d|DELETE a|LIST "" *|DELETE deep|LIST "" deep*|CREATE deep|LIST "" deep*|DELETE deep|LIST "" deep*
APPEND nowhere {3+}~a~|APPEND nowhere (\\Seen) {3}^xyz|APPEND INBOX {3+}~a~|APPEND INBOX (\\Nonsense) {3+}~x~|APPEND INBOX (\\Recent) {3+}~x~|APPEND INBOX () "nonsense" {3+}~x~|APPEND INBOX () "01-Jan-2020 00:00:00 +0000"|APPEND INBOX|APPEND
APPEND INBOX {0}^|APPEND INBOX {0+}~|APPEND INBOX (key \\Seen) " 1-Jan-2020 00:00:00 +0000" {3+}~x~|APPEND INBOX (\\Seen {3+}~x~|CREATE up/down|RENAME up other|CREATE "st*r"|CREATE p%c
LIST "" o*|LIST "" up*|CREATE n/o/p|RENAME n m|LIST "" m*|LIST "" n*|CREATE q/r|RENAME m q/m|LIST "" q*|RENAME q/m q/m/n|RENAME n q|SELECT q|STATUS q (MESSAGES)|LIST "" q% RETURN (CHILDREN)|LIST "" (q q/m) RETURN (CHILDREN)
APPEND q {3+}~x~|CREATE q|LIST "" q*|DELETE q|LIST "" q/m|DELETE q/m|RENAME q/m/o q2|LIST "" q*|SUBSCRIBE q2/p|RENAME q2 q3|LSUB "" q*|LIST (SUBSCRIBED) "" q*|CREATE z|RENAME q3 z""".replace("\n", "|").split("|")

COMMANDS = """NOOP|NONSENSE|noop|NOOP x|CHECK|LOGIN a b|SELECT|SELECT nowhere|EXAMINE nowhere|FETCH 1 FLAGS|CLOSE|UNSELECT|EXPUNGE|SEARCH ALL|STORE 1 FLAGS ()|COPY 1 INBOX|UID|UID NONSENSE|UID FETCH 1 FLAGS
ENABLE CONDSTORE|ENABLE NONSENSE|ENABLE|NAMESPACE|NAMESPACE x|AUTHENTICATE PLAIN|STARTTLS|IDLE x|DONE|LIST|LIST ""|LIST "" * x|SELECT work|CREATE|DELETE|RENAME a|SUBSCRIBE|SELECT nowhere|FETCH 1 FLAGS
SELECT work (CONDSTORE)|EXAMINE work|STORE 1 +FLAGS (\\Seen)|EXPUNGE|SELECT work|FETCH|FETCH 1|FETCH x FLAGS|FETCH 0 FLAGS|FETCH 1:x FLAGS|FETCH 1 NONSENSE|FETCH 1 (FLAGS|FETCH 1 FLAGS)|EXPUNGE x|SELECT work|SELECT work
FETCH 100 FLAGS|FETCH 1:100 UID|FETCH *:100 UID|FETCH 100:* UID|UID FETCH 100 FLAGS|UID FETCH 100:* FLAGS|UID FETCH 1:2 FLAGS|FETCH 1,2,1 FLAGS|FETCH 2:1 UID|FETCH 1 ()|FETCH 1 BODY[|FETCH 1 BODY[NONSENSE]|FETCH 1 BODY[MIME]|FETCH 1 BODY.PEEK[0]|FETCH 1 BODY.PEEK[]<0.0>|FETCH 1 BODY.PEEK[]<x.1>|FETCH 1 BODY.PEEK[]<1>
FETCH 1 BODY[HEADER.FIELDS]|FETCH 1 BODY[HEADER.FIELDS ()]|FETCH 1 ALL|FETCH 1 (ALL)|FETCH 1 FAST|FETCH 1 FULL|FETCH 1 (FAST FLAGS)|FETCH 1 (FLAGS UID FLAGS)|FETCH 1 INTERNALDATE|FETCH 1 MODSEQ|FETCH 1:3 (FLAGS) (CHANGEDSINCE 1)|FETCH 1:3 (FLAGS) (CHANGEDSINCE 99999)|UID FETCH 1:3 (FLAGS) (CHANGEDSINCE 1 VANISHED)
STORE 1 FLAGS (\\Seen)|STORE 1 +FLAGS \\Flagged|STORE 1 -FLAGS (\\Flagged)|STORE 1 +FLAGS (key Key KEY)|STORE 2 +FLAGS.SILENT (\\Deleted)|STORE 100 FLAGS ()|STORE x FLAGS ()|STORE 1 NONSENSE ()|STORE 1 +FLAGS (\\Nonsense)|STORE 1 +FLAGS (\\Recent)|STORE 1 FLAGS ()|STORE 1|STORE 1 FLAGS|STORE 1 FLAGS () x
STORE 1:2 +FLAGS (\\Seen \\Answered)|STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)|STORE 1 (UNCHANGEDSINCE 99999999) +FLAGS (\\Draft)|STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Flagged)|UID STORE 1 FLAGS (a b)|UID STORE 100 FLAGS (a)|UID STORE 1:2 FLAGS.SILENT ()|FETCH 1:3 FLAGS
FETCH 3 BODY[TEXT]|FETCH 3 BODY[TEXT]|FETCH 5 RFC822|FETCH 7 RFC822.TEXT|FETCH 9 BINARY[1]|FETCH 11 BODY[HEADER]|COPY 1 nowhere|COPY 1:2 other|UID COPY 3 other|COPY 100 other|UID COPY 100 other|COPY x other|COPY 1|MOVE 1 nowhere|MOVE 5:6 other|UID MOVE 7 other|UID MOVE 100 other|MOVE 100 other|FETCH 1:* UID
STORE 1,3 +FLAGS.SILENT (\\Deleted)|EXPUNGE|EXPUNGE|STORE 1:3 +FLAGS.SILENT (\\Deleted)|UID EXPUNGE 2|UID EXPUNGE 8:9|UID EXPUNGE|UID EXPUNGE x|FETCH 1:* (UID FLAGS)|STORE 1:* -FLAGS.SILENT (\\Deleted)|COPY 1 work|MOVE 1 work|NOOP|CHECK|CLOSE|CLOSE|STATUS work (MESSAGES UNSEEN UIDNEXT)|STATUS other (MESSAGES UNSEEN UIDNEXT)
SELECT other|FETCH 1:* (UID FLAGS)|UNSELECT|EXAMINE other|FETCH 1:* FLAGS|COPY 1 work|STORE 1 FLAGS ()|CLOSE|UNSELECT|SELECT work (NONSENSE)|ENABLE QRESYNC|SELECT work|SELECT work|SELECT work (QRESYNC (1 1))|STORE 1 +FLAGS (\\Deleted)|EXPUNGE|STORE 1:2 +FLAGS.SILENT (\\Deleted)|UID EXPUNGE 1:1000
UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 1 VANISHED)|UID FETCH 1:* FLAGS (VANISHED)|FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)|MOVE 1 INBOX|IDLE|FETCH 1 {3}^abc|STORE 1 FLAGS {3}^abc|LIST {0}^ {1}^*|LIST {0+}~ {1+}~*|SELECT {4}^work|SELECT {4+}~work|SELECT "wo\\"rk"|SELECT "work\\x"|SELECT "work|STATUS {5+}~INBOX (MESSAGES)|  NOOP|NOOP |FETCH  1 FLAGS
FETCH 100:200 UID|FETCH 1,100 UID|FETCH 2:3,100:* UID|FETCH 4294967295:* UID|STORE 100:* FLAGS ()|STORE 1:100 +FLAGS (a)|COPY 100:* other|MOVE 100:* other|SEARCH 1:100|SEARCH 100:200|SEARCH NOT 100|UID SEARCH 100:200|UID COPY 100:* other|UID FETCH 100:200 UID
CREATE nothing|SELECT nothing|FETCH 1:* UID|FETCH * UID|FETCH 1 UID|STORE 1:* FLAGS ()|COPY 1:* other|MOVE * other|UID FETCH 1:* UID|UID STORE 1:* FLAGS ()|UID COPY 1:* other|SEARCH 1:*|SEARCH *|SEARCH ALL|EXPUNGE|SELECT work
CAPABILITY x|DELETE nowhere|UNSELECT|SELECT work (QRESYNC 1)|SELECT work (QRESYNC (0 1))|SELECT inbox x|LOGOUT x""".replace("\n", "|").split("|")


# ^ and ~ as in told.
CATENATES = """APPEND out CATENATE (URL "/INBOX/;UID=1")|APPEND out CATENATE (URL ";UID=2")|APPEND out CATENATE (URL "/INBOX;UIDVALIDITY=1/;UID=1")|APPEND out CATENATE (URL "/INBOX/;UID=99")|APPEND out CATENATE (URL "/none/;UID=1")
APPEND out CATENATE (URL "/INBOX/;UID=3/;SECTION=HEADER" TEXT {3+}~abc)|APPEND out CATENATE (TEXT {3+}~abc URL "/INBOX/;UID=3/;SECTION=TEXT" TEXT {3}^def)|APPEND out CATENATE (URL "/INBOX/;UID=3/;SECTION=1")|APPEND out CATENATE (URL "/INBOX/;UID=3/;SECTION=1.MIME")
APPEND out CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(Subject%20From)" TEXT {1+}~x)|APPEND out CATENATE (URL "/INBOX/;UID=1/;SECTION=TEXT/;PARTIAL=3.5")|APPEND out CATENATE (URL "/INBOX/;UID=1/;PARTIAL=10")
APPEND out CATENATE (URL "imap://localhost/INBOX/;UID=1")|APPEND out CATENATE (URL "/INBOX/;UID=0")|APPEND out CATENATE (URL "/INBOX")|APPEND out CATENATE (URL "nonsense")|APPEND out CATENATE (URL "")|APPEND out CATENATE ()|APPEND out CATENATE (TEXT {3+}~abc|APPEND out CATENATE (NONSENSE {3+}~abc)
APPEND none CATENATE (URL "/INBOX/;UID=1")|APPEND out CATENATE (URL "/none/;UID=1" TEXT {3+}~abc)|APPEND out CATENATE (TEXT {3+}~abc URL "/none/;UID=1" TEXT {3+}~abc)|APPEND out (\\Seen key) " 1-Jan-2020 00:00:00 +0000" CATENATE (TEXT {3+}~abc)
APPEND out CATENATE (TEXT {1+}~a) {1+}~b (\\Draft) CATENATE (URL "/INBOX/;UID=1/;SECTION=TEXT")|APPEND out {1+}~b CATENATE (URL "/none/;UID=1")|APPEND out CATENATE (TEXT {1+}~a TEXT {1+}~b)|STATUS out (MESSAGES UIDNEXT)|SELECT out|FETCH 1:* (UID FLAGS BODY.PEEK[])
APPEND out CATENATE (URL ";UID=1")|APPEND out CATENATE (URL "/out/;UID=2/;SECTION=TEXT")|FETCH 1:* RFC822.SIZE|UNSELECT|APPEND out CATENATE (URL ";UID=1")
APPEND out CATENATE (URL "/INBOX/;UID=1/;SECTION=99")""".replace("\n", "|").split("|")


def told(line):
    """^ is where the server must ask for what follows, ~ a line's end."""
    return [piece.encode().replace(b"~", b"\r\n") for piece in line.split("^")]


def mailbox_cases():
    for line in MAILBOXES:
        yield line, told(line)


def command_cases():
    for line in COMMANDS:
        yield line, told(line)


def show(different):
    for label, (ours, theirs, said, their) in different.items():
        print("-----", label)
        if len(ours) == len(theirs):
            for one, two in zip(ours, theirs):
                at = max(len(os.path.commonprefix([one, two])) - 50, 0)
                print("   ours   ", one[:20], "...", one[at:at + 200])
                print("   dovecot", two[:20], "...", two[at:at + 200])
        else:
            print("   ours   ", [line[:150] for line in ours])
            print("   dovecot", [line[:150] for line in theirs])
        if ours and "TAG" in ours[-1]:
            print("   ", said, their)


# What may differ, and does: the command, and why. Ours is first where both are named.
FETCH_ACCEPTED = {
    # Unfolding takes line ends away and no blanks (RFC 5322 2.2.3); Dovecot makes one blank of each fold and none at the end.
    "(ENVELOPE)",
    # title*= is a whole value (RFC 2231 4); Dovecot numbers it as title*1*, though there is no title*0*.
    "(BODY)", "(BODYSTRUCTURE)",
    # A message that has no empty line gets none (RFC 9051 6.4.5); Dovecot leaves it out of some of the answers.
    "BODY.PEEK[HEADER.FIELDS (Subject FROM x-twice)]", "BODY.PEEK[HEADER.FIELDS (nothing)]",
    # The line end before a boundary belongs to it (RFC 2046 5.1.1), when what ends there is a multipart too.
    "BODY.PEEK[1]", "BODY.PEEK[1.1]", "BINARY.PEEK[1]", "BINARY.PEEK[1.1]",
    # Parts cut off in their headers are no MIME: is the line end theirs or the boundary's?
    "BODY.PEEK[2.MIME]", "BODY.PEEK[3.MIME]", "BODY.PEEK[2.1.MIME]",
    # NO [UNKNOWN-CTE] from both; what stands in the FETCH beside it says nothing.
    "BINARY.PEEK[1] of worse type", "BINARY.SIZE[1] of worse type", "BINARY.PEEK[1]<1.4> of worse type",
    # The same; and 18446744073709551362 bytes: soft line breaks take Dovecot below 0.
    "BINARY.SIZE[1]", "BINARY.SIZE[1.1]",
    # A message as a whole has no encoding to take off; Dovecot decodes its parts.
    "BINARY.SIZE[]", "BINARY.SIZE[] of worse type",
}
SEARCH_ACCEPTED = {
    # RFC 9051 has no \\Recent: nothing is new, all is old.
    "SEARCH NEW", "SEARCH OLD", "SEARCH RECENT",
    # Dovecot makes a keyword of what is only looked for.
    "SEARCH KEYWORD none",
    # The fold was in front of two blanks, and they stand (RFC 5322 2.2.3).
    'SEARCH SUBJECT "odd addresses folded"',
    # date-day has no blank, and January no 32nd (RFC 9051 9); Dovecot takes both.
    'SEARCH ON " 3-Jan-2020"', "SEARCH BEFORE 32-Jan-2020",
    # i;unicode-casemap need not know that \u00df is ss; full case folding does.
    'SEARCH TEXT "GR\u00dcSSE"',
    # US-ASCII and UTF-8 are all that must be (RFC 9051 6.4.4).
    "SEARCH latin1 SUBJECT gr\u00fc\u00dfe", "SEARCH latin1 BODY k\u00f6ln", "SEARCH latin1 FROM J\u00fcrgen",
}
MAILBOXES_ACCEPTED = {
    # The root MAY be the empty string (RFC 3501 6.3.8).
    'LIST "a/" ""',
    # Attributes about children MAY come unasked (RFC 5258 4).
    'LIST "" (a "x*")', 'LIST (SUBSCRIBED) "" q*',
    # Names that are no mailboxes can be subscribed to (RFC 9051 6.3.7); Dovecot MAY refuse.
    "SUBSCRIBE nowhere",
    # INBOX is one name however it is written.
    "STATUS inbox (MESSAGES)",
    # The code is of RFC 5530; Dovecot leaves it out here.
    "STATUS nowhere (MESSAGES)", "STATUS a/b (MESSAGES)", "SELECT a/b", "SELECT q", "STATUS q (MESSAGES)",
    # What was deleted and has others below it is \\Noselect (RFC 3501 6.3.4); here Dovecot does not say so.
    'LIST "" deep* (3)', 'LIST "" q* (3)',
    # There is a mailbox of the new name (RFC 9051 6.3.6); Dovecot moves those below the old one under it.
    "RENAME q3 z",
    # A new name with wildcards could not be listed (RFC 9051 5.1.2 advises against it).
    'CREATE "st*r"', "CREATE p%c",
}
COMMANDS_ACCEPTED = {
    # What follows a whole command, or is missing, makes it BAD (RFC 9051 9).
    "NOOP x", "NOOP ", "CAPABILITY x", "NAMESPACE x", "EXPUNGE x", "LOGOUT x", "IDLE x", "SELECT inbox x", "STORE 1 FLAGS () x", "STORE 1 FLAGS", "ENABLE",
    # Not in the grammar: part 0, no octets, a range without its length, an escaped letter, UIDVALIDITY 0.
    "FETCH 1 BODY.PEEK[0]", "FETCH 1 BODY.PEEK[]<0.0>", "FETCH 1 BODY.PEEK[]<1>", 'SELECT "work\\x"', "SELECT work (QRESYNC (0 1))",
    # The code is of RFC 5530; Dovecot leaves it out here.
    "SELECT nowhere", "SELECT nowhere (2)", "EXAMINE nowhere", 'SELECT "wo\\"rk"',
    # An empty ENABLED says that nothing was enabled (RFC 9051 7.2.1).
    "ENABLE NONSENSE",
    # A mailbox that is read-only: what would change it fails (RFC 9051 6.3.3); Dovecot does nothing and says OK.
    "STORE 1 +FLAGS (\\Seen)", "EXPUNGE (2)", "STORE 1 FLAGS () (3)",
    # The client learns what the message has become; it MAY (RFC 7162 3.1.3).
    "STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Seen)",
    # Every FETCH with a flag that changed has MODSEQ (RFC 7162 3.2); Dovecot sends it later or not with the old names.
    "FETCH 5 RFC822", "FETCH 7 RFC822.TEXT",
    # HIGHESTMODSEQ is asked for behind EXPUNGE and UID EXPUNGE (RFC 7162 3.2.7 to 3.2.8); Dovecot also has it here.
    "MOVE 1 INBOX",
}


CATENATES_ACCEPTED = {
    # What names no message is no URL that could be catenated: BADURL (RFC 4469 3). Dovecot has another error here, without a code.
    'APPEND out CATENATE (URL "/INBOX")', 'APPEND out CATENATE (URL "nonsense")', 'APPEND out CATENATE (URL "")',
    # HIGHESTMODSEQ is told whoever asks (RFC 7162 3.1.2.1).
    "SELECT out",
    # A part that is not there is no text to append (RFC 4469 3); Dovecot makes a message of no octets.
    'APPEND out CATENATE (URL "/INBOX/;UID=1/;SECTION=99")',
}
COMPRESSED_ACCEPTED = {
    # A mechanism that is not known is BAD (RFC 4978 3), whatever is active.
    "COMPRESS GZIP",
}


class AgainstDovecot(ClientRig):
    more = 'imap: {shared_namespace: "off"}\n'  # as Dovecot is where nobody has set up another one

    def setUp(self):
        super().setUp()
        port = free_port()
        self.start_peer("dovecot", "dovecot", f"imap=127.0.0.1:{port}", f"users={USER}", "set:mail_fsync = never", "set:namespace inbox {\n  inbox = yes\n  separator = /\n}",
                        "set:protocol imap {\n  mail_plugins = quota zlib imap_zlib\n}")
        self.both = [Session(self.imap_port), Session(port)]
        for session in self.both:
            self.addCleanup(session.close)

    def ask(self, *pieces):
        return [meaning(session.ask(*pieces)) for session in self.both]

    def fill(self, mailbox, messages):
        for number, (_, message) in enumerate(messages):
            flags = b" ".join(flag for bit, flag in enumerate((b"\\Seen", b"\\Flagged", b"\\Answered", b"\\Draft", b"Work")) if number >> bit & 1)
            for session in self.both:
                answer = session.ask(b'APPEND %s (%s) "%02d-Jan-2020 12:00:00 +0000" {%d}' % (mailbox, flags, number % 28 + 1, len(message)), message)
                self.assertIn(b"TAG OK", answer[-1])

    def compare(self, cases, accepted):
        different, seen = {}, {}
        for label, pieces in cases:
            seen[label] = seen.get(label, 0) + 1
            if seen[label] > 1:
                label += f" ({seen[label]})"
            raw = [session.ask(*pieces) for session in self.both]
            ours, theirs = map(meaning, raw)
            if ours != theirs:
                different[label] = [line for line in ours if line not in theirs], [line for line in theirs if line not in ours], raw[0][-1], raw[1][-1]
        surprises = {label: difference for label, difference in different.items() if label not in accepted}
        show(surprises)
        self.assertEqual(list(surprises), [], "the answers say different things")
        self.assertEqual(sorted(accepted - set(different)), [], "they say the same, and need not be accepted")

    def test_fetch_search_sort_and_thread(self):
        self.fill(b"INBOX", CORPUS)
        self.ask(b"SELECT INBOX")
        self.compare(fetch_cases(), FETCH_ACCEPTED)
        self.compare(search_cases(), SEARCH_ACCEPTED)

    def test_mailboxes(self):
        self.compare(mailbox_cases(), MAILBOXES_ACCEPTED)

    def test_commands(self):
        self.ask(b"CREATE work")
        self.ask(b"CREATE other")
        self.fill(b"work", CORPUS[:12])
        self.compare(command_cases(), COMMANDS_ACCEPTED)

    def test_catenate(self):
        self.fill(b"INBOX", CORPUS[:12])
        self.ask(b"CREATE out")
        self.ask(b"SELECT INBOX")
        self.compare([(line, told(line)) for line in CATENATES], CATENATES_ACCEPTED)

    def test_compressed(self):
        self.fill(b"INBOX", CORPUS)
        for session in self.both:
            session.close()
        self.both = [DeflatedSession(session.port) for session in self.both]
        for session in self.both:
            self.addCleanup(session.close)
        self.ask(b"SELECT INBOX")
        cases = [(line, told(line)) for line in (
            "COMPRESS DEFLATE", "COMPRESS", "COMPRESS GZIP", "NOOP", "FETCH 1:* BODY.PEEK[]", "UID FETCH 1:* (FLAGS RFC822.SIZE)", "APPEND INBOX {3}^xyz",
             "APPEND INBOX {3+}~abc", "SEARCH ALL", "IDLE", "FETCH 1 BODY.PEEK[TEXT]", "CREATE other", "COPY 1:3 other", "STATUS other (MESSAGES)")]
        self.compare(cases, COMPRESSED_ACCEPTED)
        for session in self.both:
            session.socket.below.sendall(b"this is no deflated octet")
        self.assertRegex(self.both[0].file.read(), rb"^\* BYE ")

    def test_idle(self):
        self.fill(b"INBOX", CORPUS[:3])
        told_by = []
        for session in self.both:
            session.ask(b"SELECT INBOX")
            session.socket.sendall(b"i IDLE\r\n")
            self.assertTrue(session.one().startswith(b"+"))
            other = Session(session.port)
            self.addCleanup(other.close)
            other.ask(b"SELECT INBOX")
            heard = []
            for change, end in (((b"APPEND INBOX {1}", b"x"), b" EXISTS"), ((b"STORE 2 +FLAGS (\\Deleted)",), b" FETCH "), ((b"EXPUNGE",), b" EXPUNGE")):
                other.ask(*change)
                heard.append(session.one())
                while end not in heard[-1]:
                    heard.append(session.one())
            session.socket.sendall(b"DONE\r\n")
            while not heard[-1].startswith(b"i "):
                heard.append(session.one())
            heard[-1] = heard[-1].replace(b"i ", b"TAG ", 1)
            told_by.append(meaning(line for line in heard if not line.startswith(b"* OK Still")))
        self.assertEqual(*told_by)


if __name__ == "__main__":
    unittest.main()
