"""Programs that people read mail with, each scripted, against the mailbox service; and a way from Dovecot to it and back."""
import email
import glob
import hashlib
import imaplib
import mailbox
import os
import poplib
import pty
import select
import shutil
import subprocess
import time
import unittest

from harness import BUILD, Process, free_port, sanitizer_environment, wait_until
from real_peers import PeerTest

USER, PASSWORD = "reader", "secret"


def letter(number, more=""):
    return (f"From: Sender {number} <s{number}@client.test>\r\nTo: {USER}@mailbox.test\r\nSubject: letter {number} gr=?utf-8?q?=C3=BC?=n\r\n"
            f"Date: Mon, 23 Nov 2026 12:{number % 60:02}:00 +0000\r\nMessage-ID: <{number}@client.test>\r\n"
            f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n.dot\r\nline {number} {more}\r\n.\r\n\r\n").encode()


def key(message):
    """What a client must bring over whole: the Message-ID and a digest of the body, whatever ends its lines."""
    header, _, body = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    return email.message_from_bytes(header)["Message-ID"], hashlib.sha256(body.rstrip(b"\n")).hexdigest()


def keys(messages):
    return sorted(map(key, messages))


class Rig(PeerTest):
    """The service at imap_port and pop3_port, with a user who has no mail."""
    more = ""  # of the configuration
    users = (USER,)

    def setUp(self):
        super().setUp()
        self.imap_port, self.pop3_port = free_port(), free_port()
        users = self.write("users", "".join(f"{user}:{{PLAIN}}{PASSWORD}\n" for user in self.users))
        os.makedirs(os.path.join(self.folder, "store"))
        self.settings = self.write("mailboxd.yaml", f"""
hostname: mailbox.test
listen:
  - {{name: imap, protocol: imap, address: ["127.0.0.1:{self.imap_port}"]}}
  - {{name: pop3, protocol: pop3, address: ["127.0.0.1:{self.pop3_port}"]}}
store: {{format: log, path: "{self.folder}/store", max_bytes: 2G}}
auth: {{backends: ["passwd-file:{users}"], clear_on_loopback: true}}
{self.more}""")
        self.start_service()

    def start_service(self):
        log = os.path.join(self.folder, "mailboxd.log")
        before = os.path.getsize(log) if os.path.exists(log) else 0
        self.service = Process([os.path.join(BUILD, "tubepost-mailboxd"), "-c", self.settings], log, env=sanitizer_environment())
        self.addCleanup(self.service.stop)
        wait_until(lambda: "is ready" in self.service.output()[before:] or self.service.popen.poll() is not None, "the service")

    def imap(self, port=None):
        connection = imaplib.IMAP4("127.0.0.1", port or self.imap_port, timeout=60)
        connection.login(USER, PASSWORD)
        self.addCleanup(connection.sock.close)
        return connection

    def fill(self, count, mailbox_name="INBOX", begin=0):
        connection = self.imap()
        for number in range(begin, begin + count):
            self.assertEqual(connection.append(mailbox_name, None, None, letter(number))[0], "OK")
        connection.logout()
        return [letter(number) for number in range(begin, begin + count)]

    def on_server(self, mailbox_name="INBOX", port=None):
        """{Message-ID: (digest, flags)}"""
        connection = self.imap(port)
        self.assertEqual(connection.select(mailbox_name, readonly=True)[0], "OK")
        found = {}
        for part in connection.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")[1]:
            if isinstance(part, tuple):
                name, digest = key(part[1])
                flags = {flag.decode() for flag in imaplib.ParseFlags(part[0])} - {"\\Recent"}
                self.assertNotIn(name, found, "it is there twice")
                found[name] = digest, flags
        connection.logout()
        return found

    def client(self, *words, code=0, seconds=120, **more):
        environment = dict(os.environ, HOME=self.folder, LC_ALL="C.UTF-8")
        result = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=seconds, env=environment,
                                stdin=subprocess.DEVNULL, check=False, **more)
        self.assertEqual(result.returncode, code, f"{words}: {result.stdout[-2000:]}{result.stderr[-2000:]}")
        return result.stdout

    def write(self, name, text, mode=0o600):
        path = os.path.join(self.folder, name)
        with open(path, "w", newline="") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

class Clients(Rig):
    # ---- mbsync ----

    def mbsync_settings(self, local):
        return self.write("mbsyncrc", f"""
IMAPStore far
Host 127.0.0.1
Port {self.imap_port}
User {USER}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN

MaildirStore near
Path {local}/
Inbox {local}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
CopyArrivalDate yes
""")

    def in_maildir(self, path):
        found = {}
        for message in mailbox.Maildir(path, create=False):
            name, digest = key(message.as_bytes())
            self.assertNotIn(name, found, "it is there twice")
            found[name] = digest, set(message.get_flags())
        return found

    LETTERS = {"\\Seen": "S", "\\Answered": "R", "\\Flagged": "F", "\\Deleted": "T", "\\Draft": "D"}

    def assert_alike(self, local, mailbox_name):
        far = {name: (digest, {self.LETTERS[flag] for flag in flags})
               for name, (digest, flags) in self.on_server(mailbox_name).items()}
        self.assertEqual(self.in_maildir(os.path.join(local, mailbox_name)), far)
        return far

    def test_mbsync_both_ways_until_both_are_alike(self):
        local = os.path.join(self.folder, "near")
        os.makedirs(local)
        settings = self.mbsync_settings(local)
        self.fill(20)
        connection = self.imap()
        connection.create("Archive")
        connection.select("INBOX")
        connection.store("3,5", "+FLAGS", "(\\Seen \\Flagged)")
        connection.logout()
        self.client("mbsync", "-c", settings, "all")
        self.assertEqual(len(self.assert_alike(local, "INBOX")), 20)
        # Here: flags, one that goes, one that comes, and a mailbox that is new.
        near = mailbox.Maildir(os.path.join(local, "INBOX"), create=False)
        names = sorted(near.keys(), key=lambda name: int(near[name]["Message-ID"][1:].split("@")[0]))  # what goes there is another
        for name in names[:4]:
            message = near[name]
            message.set_flags("RS")
            message.set_subdir("cur")
            near[name] = message
        near.remove(names[5])
        near.add(letter(900).replace(b"\r\n", b"\n"))
        mailbox.Maildir(os.path.join(local, "Drafts"), create=True).add(letter(901).replace(b"\r\n", b"\n"))
        # There: the same.
        connection = self.imap()
        connection.select("INBOX")
        connection.store("10:12", "+FLAGS", "\\Answered")
        connection.store("20", "+FLAGS", "\\Deleted")
        connection.expunge()
        connection.copy("1:3", "Archive")
        connection.append("INBOX", "(\\Draft)", None, letter(902))
        connection.logout()
        self.client("mbsync", "-c", settings, "all")
        self.assertEqual(len(self.assert_alike(local, "INBOX")), 20)
        self.assertEqual(len(self.assert_alike(local, "Archive")), 3)
        self.assertEqual(len(self.assert_alike(local, "Drafts")), 1)
        before = {name: self.on_server(name) for name in ("INBOX", "Archive", "Drafts")}
        for _ in range(2):
            self.client("mbsync", "-c", settings, "all")
        self.assertEqual({name: self.on_server(name) for name in before}, before)

    # ---- others ----

    def test_offlineimap_brings_all_and_takes_flags_back(self):
        sent = self.fill(10)
        local = os.path.join(self.folder, "offline")
        settings = self.write("offlineimaprc", f"""[general]
accounts = test
maxsyncaccounts = 1
ui = basic
metadata = {self.folder}/offline-state
[Account test]
localrepository = here
remoterepository = there
[Repository here]
type = Maildir
localfolders = {local}
[Repository there]
type = IMAP
remotehost = 127.0.0.1
remoteport = {self.imap_port}
remoteuser = {USER}
remotepass = {PASSWORD}
ssl = no
starttls = no
auth_mechanisms = LOGIN
""")
        self.client("offlineimap", "-o", "-c", settings)
        here = mailbox.Maildir(os.path.join(local, "INBOX"), create=False)
        self.assertEqual(keys(message.as_bytes() for message in here), keys(sent))
        name = next(name for name, message in here.items() if message["Message-ID"] == "<4@client.test>")
        message = here[name]
        message.set_flags("FS")
        message.set_subdir("cur")
        here[name] = message
        self.client("offlineimap", "-o", "-c", settings)
        self.assertEqual(self.on_server()["<4@client.test>"][1], {"\\Seen", "\\Flagged"})
        self.assertEqual(len(self.on_server()), 10)

    def fetchmail(self, protocol, port):
        sent = self.fill(10)
        into = os.path.join(self.folder, f"fetched-{protocol}")
        script = self.write("take", f"#!/bin/sh\nmkdir -p {into} && exec cat >{into}/$$\n", 0o700)
        settings = self.write("fetchmailrc", f"poll 127.0.0.1 service {port} protocol {protocol} auth password user {USER} "
                                             f"password {PASSWORD} no rewrite sslproto '' mda {script}\n")
        self.client("fetchmail", "-f", settings, "--pidfile", os.path.join(self.folder, "fetchmail.pid"), "--nosyslog")
        taken = []
        for path in glob.glob(f"{into}/*"):
            with open(path, "rb") as file:
                taken.append(file.read())
        self.assertEqual(keys(taken), keys(sent))
        self.assertEqual(self.on_server(), {})

    def test_fetchmail_over_imap(self):
        self.fetchmail("imap", self.imap_port)

    def test_fetchmail_over_pop3(self):
        self.fetchmail("pop3", self.pop3_port)

    def getmail(self, retriever, port):
        sent = self.fill(10)
        into = os.path.join(self.folder, "got")
        mailbox.Maildir(into, create=True)
        owner = ""
        if os.geteuid() == 0:  # as whom it does not deliver
            os.chmod(self.folder, 0o755)
            for path in (into, *(f"{into}/{part}" for part in ("tmp", "new", "cur"))):
                shutil.chown(path, "nobody", "nogroup")
            owner = "user = nobody\n"
        settings = self.write("getmailrc", f"[retriever]\ntype = {retriever}\nserver = 127.0.0.1\nport = {port}\n"
                                           f"username = {USER}\npassword = {PASSWORD}\n"
                                           f"[destination]\ntype = Maildir\npath = {into}/\n{owner}"
                                           "[options]\nread_all = false\ndelete = false\ndelivered_to = false\nreceived = false\n")
        # getmail listens for the end of its children after it has begun them: one that is quick it waits for in vain.
        program = self.write("getmail.py", "import os, runpy\nfrom getmailcore.baseclasses import ForkingBase\n"
                                           "ForkingBase._prepare_child = lambda self: None\n"
                                           "ForkingBase._wait_for_child = lambda self, pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
                                           "runpy.run_path('/usr/bin/getmail', run_name='__main__')\n")
        words = ["/usr/bin/python3", program, "--getmaildir", self.folder, "--rcfile", settings]
        self.client(*words)
        self.assertEqual(keys(message.as_bytes() for message in mailbox.Maildir(into, create=False)), keys(sent))
        self.client(*words)  # it knows them again by their UIDs
        self.assertEqual(len(mailbox.Maildir(into, create=False)), 10)
        self.assertEqual(len(self.on_server()), 10)

    def test_getmail_over_imap_twice(self):
        self.getmail("SimpleIMAPRetriever", self.imap_port)

    def test_getmail_over_pop3_twice(self):
        self.getmail("SimplePOP3Retriever", self.pop3_port)

    def test_curl(self):
        sent = self.fill(3)
        base, login = f"imap://127.0.0.1:{self.imap_port}", ["-s", "-S", "--max-time", "60", "-u", f"{USER}:{PASSWORD}"]
        self.assertIn("INBOX", self.client("curl", *login, f"{base}/"))
        got = subprocess.run(["curl", *login, f"{base}/INBOX;UID=2"], capture_output=True, timeout=90, check=True).stdout
        self.assertEqual(key(got), key(sent[1]))
        self.assertRegex(self.client("curl", *login, f"{base}/INBOX?SUBJECT%20%22letter%202%22"), r"\* SEARCH 3\b")
        self.client("curl", *login, "-T", self.write("put.eml", letter(7).decode()), f"{base}/INBOX")
        self.assertIn("<7@client.test>", self.on_server())
        self.assertIn("EXISTS", self.client("curl", *login, base, "-X", "EXAMINE INBOX"))
        over_pop3 = subprocess.run(["curl", *login, f"pop3://127.0.0.1:{self.pop3_port}/1"], capture_output=True, timeout=90, check=True).stdout
        self.assertEqual(key(over_pop3), key(sent[0]))

    def test_poplib(self):
        sent = self.fill(5)
        session = poplib.POP3("127.0.0.1", self.pop3_port, timeout=60)
        session.user(USER)
        session.pass_(PASSWORD)
        self.assertEqual(session.stat()[0], 5)
        self.assertEqual([key(b"\r\n".join(session.retr(number)[1])) for number in range(1, 6)], list(map(key, sent)))
        names = [line.split()[1] for line in session.uidl()[1]]
        self.assertEqual(len(set(names)), 5)
        session.dele(2)
        session.quit()
        again = poplib.POP3("127.0.0.1", self.pop3_port, timeout=60)
        again.user(USER)
        again.pass_(PASSWORD)
        self.assertEqual([line.split()[1] for line in again.uidl()[1]], names[:1] + names[2:])
        again.quit()

    def test_mutt_reads_flags_and_moves(self):
        self.fill(5)
        self.imap().create("Kept")
        settings = self.write("muttrc", f"""
set folder="imap://{USER}@127.0.0.1:{self.imap_port}/" imap_user={USER} imap_pass={PASSWORD}
set spoolfile="+INBOX" ssl_starttls=no ssl_force_tls=no imap_authenticators="login"
set move=no confirmappend=no delete=yes quit=yes wait_key=no header_cache="" imap_keepalive=10 postponed="" record=""
set beep=no mail_check=1 timeout=1 sort=date-sent
""")
        keystrokes = ("<first-entry><flag-message><save-message>=Kept<enter><sync-mailbox>"
                      "<first-entry><clear-flag>N<last-entry><delete-message><sync-mailbox><quit>")
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="vt100", HOME=self.folder, LC_ALL="C.UTF-8")
            os.execvp("mutt", ["mutt", "-n", "-F", settings, "-e", f'push "{keystrokes}"'])
        screen, end, status = b"", time.monotonic() + 60, None
        while time.monotonic() < end:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    screen += os.read(terminal, 65536)
                except OSError:
                    pass  # it has closed its end
            gone, code = os.waitpid(pid, os.WNOHANG)
            if gone:
                status = code
                break
        if status is None:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        os.close(terminal)
        self.assertEqual(status, 0, screen[-3000:])
        left = self.on_server()
        self.assertEqual(sorted(left), ["<0@client.test>", "<2@client.test>", "<3@client.test>"])
        self.assertIn("\\Flagged", left["<0@client.test>"][1])
        self.assertEqual(list(self.on_server("Kept")), ["<1@client.test>"])


class Moving(Rig):
    def dovecot(self, name):
        port = free_port()
        self.start_peer("dovecot", name, f"imap=127.0.0.1:{port}", f"users={USER}", "set:namespace inbox {\n  inbox = yes\n  separator = /\n}")
        return port

    def mirror(self, name, far, near):
        """All that far has, to near."""
        stores = "".join(f"""
IMAPStore {store}
Host 127.0.0.1
Port {port}
User {USER}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN
""" for store, port in (("far", far), ("near", near)))
        settings = self.write(f"mbsyncrc-{name}", stores + f"""
Channel all
Far :far:
Near :near:
Patterns *
Sync Pull
Create Near
CopyArrivalDate yes
SyncState {self.folder}/state-{name}-
""")
        self.client("mbsync", "-c", settings, "all")

    def dates(self, port):
        connection = self.imap(port)
        connection.select("INBOX", readonly=True)
        dates = [imaplib.Internaldate2tuple(line) for line in connection.uid("FETCH", "1:*", "(INTERNALDATE)")[1]]
        connection.logout()
        return dates

    def test_from_dovecot_and_back_nothing_is_lost(self):
        old, new = self.dovecot("old"), self.dovecot("new")
        names = {"INBOX": 30, "Archive/2026": 10, "Entw&APw-rfe": 5}
        connection = self.imap(old)
        for name, count in names.items():
            self.assertTrue(name == "INBOX" or connection.create(name)[0] == "OK")
            for number in range(count):
                flags = "(" + " ".join(flag for bit, flag in enumerate(("\\Seen", "\\Flagged", "\\Answered", "\\Draft")) if number >> bit & 1) + ")"
                self.assertEqual(connection.append(name, flags, f'"{number + 1:02}-Nov-2026 10:00:{number:02} +0200"', letter(number, name))[0], "OK")
        connection.logout()
        self.mirror("out", old, self.imap_port)
        self.mirror("back", self.imap_port, new)
        for name, count in names.items():
            before = self.on_server(name, old)
            self.assertEqual(len(before), count)
            self.assertEqual(self.on_server(name), before)
            self.assertEqual(self.on_server(name, new), before)
        self.assertEqual(self.dates(self.imap_port), self.dates(old))
        self.assertEqual(self.dates(new), self.dates(old))


if __name__ == "__main__":
    unittest.main()
