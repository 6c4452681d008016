"""Who logs in elsewhere: programs that ask the mailbox service by the protocol of Dovecot's authentication service."""
import base64
import hashlib
import os
import signal
import smtplib
import socket
import ssl
import unittest

from harness import PATIENCE_S, TOP, Process, SystemTest, free_port, wait_until
from real_peers import MESSAGE, PEERS, PeerTest, peers
from test_mailboxd import Mailboxd
from tls_peers import certificate


class Authd(Mailboxd):
    def __init__(self, folder, auth="", users="static:tim:{PLAIN}secret"):
        self.socket, self.auth, self.users = os.path.join(folder, "auth"), auth, users
        super().__init__(folder)

    def write_config(self, settings, uring="auto"):
        with open(self.config, "w") as f:
            f.write(f"hostname: mail.test\n"
                    f"listen:\n  - {{name: l, address: [\"unix:{self.path}\", \"127.0.0.1:{self.port}\"]}}\n"
                    f"  - {{name: a, address: [\"unix:{self.socket}\"], protocol: auth, unix_mode: 666}}\n"
                    f"store: {{path: {self.mail}}}\n"
                    f"auth: {{backends: [\"{self.users}\"], {self.auth}}}\n"
                    f"shutdown: {{grace: 300ms}}\nio: {{uring: {uring}}}\n{settings}\n")


class Program:
    """Asks as Postfix does."""

    def __init__(self, path, begin=b"VERSION\t1\t0\nCPID\t99\n"):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(PATIENCE_S)
        self.stream.connect(path)
        self.lines = self.stream.makefile("rb")
        self.say(begin)
        self.greeting = []
        while self.greeting[-1:] != [b"DONE"]:
            self.greeting.append(self.lines.readline().rstrip(b"\n"))

    def say(self, octets):
        self.stream.sendall(octets)

    def ask(self, number, mechanism, response=None, more=b"\tsecured\trip=192.0.2.7"):
        octets = b"" if response is None else b"\tresp=" + base64.b64encode(response)
        self.say(b"AUTH\t%d\t%s\tservice=smtp%s%s\n" % (number, mechanism, more, octets))

    def answer(self):
        return self.lines.readline().rstrip(b"\n").split(b"\t")

    def close(self):
        self.lines.close()
        self.stream.close()


class AuthSocket(SystemTest):
    def start(self, **kwargs):
        self.service = Authd(self.folder, **kwargs)
        self.addCleanup(self.end, self.service)

    def program(self, **kwargs):
        program = Program(self.service.socket, **kwargs)
        self.addCleanup(program.close)
        return program

    def test_it_says_what_it_can_and_who_may_log_in(self):
        self.start(auth="mechanisms: [PLAIN, LOGIN, SCRAM-SHA-256]")
        program = self.program()
        self.assertEqual(program.greeting[0].split(b"\t")[:2], [b"VERSION", b"1"])
        self.assertEqual([line for line in program.greeting if line.startswith(b"MECH")],
                         [b"MECH\tSCRAM-SHA-256", b"MECH\tPLAIN\tplaintext", b"MECH\tLOGIN\tplaintext"])
        program.ask(1, b"PLAIN", b"\0tim\0secret")
        self.assertEqual(program.answer(), [b"OK", b"1", b"user=tim"])
        program.ask(2, b"LOGIN")
        self.assertEqual(program.answer(), [b"CONT", b"2", base64.b64encode(b"User Name")])
        program.say(b"CONT\t2\t" + base64.b64encode(b"tim") + b"\n")
        self.assertEqual(program.answer()[:2], [b"CONT", b"2"])
        program.say(b"CONT\t2\t" + base64.b64encode(b"secret") + b"\n")
        self.assertEqual(program.answer(), [b"OK", b"2", b"user=tim"])

    def first_of(self, program, number, name):
        """What the server says first to a client of SCRAM: the salt, and the count."""
        program.ask(number, b"SCRAM-SHA-256", b"n,,n=" + name + b",r=fyko")
        answer = program.answer()
        self.assertEqual(answer[:2], [b"CONT", b"%d" % number])
        program.say(b"CANCEL\t%d\n" % number)
        fields = dict(field.split(b"=", 1) for field in base64.b64decode(answer[2]).split(b","))
        return base64.b64decode(fields[b"s"]), int(fields[b"i"])

    def test_a_name_that_is_nobodys_is_told_of_as_somebodys_and_the_same_after_a_start(self):
        """Two kinds of keys, and names that cannot be told from those who have them."""
        users = os.path.join(self.folder, "users")
        with open(users, "w") as file:
            for number in range(40):
                count, salt = (4096, b"s" * 16) if number % 2 else (10000, b"l" * 40)
                keys = ",".join(base64.b64encode(part).decode() for part in (salt, b"k" * 32, b"k" * 32))
                file.write(f"user{number}:{{SCRAM-SHA-256}}{count},{keys}\n")
        said = []
        for _ in range(2):
            self.start(auth=f"mechanisms: [SCRAM-SHA-256], secret: {self.folder}/secret", users=f"passwd-file:{users}")
            program = self.program()
            self.assertEqual(self.first_of(program, 1, b"user0"), (b"l" * 40, 10000))
            said.append([self.first_of(program, 2 + number, b"nobody%d" % number) for number in range(40)])
            self.assertEqual({(len(salt), count) for salt, count in said[-1]}, {(16, 4096), (40, 10000)})
            self.assertEqual(len({salt for salt, _ in said[-1]}), 40)
            self.assertEqual(self.first_of(program, 50, b"NOBODY7"), said[-1][7])
            self.assertEqual(self.service.stop(signal.SIGTERM), 0)
        self.assertEqual(said[0], said[1])

    def test_failures_are_the_clients_own_and_others_do_not_wait_for_them(self):
        self.start()
        program = self.program()
        program.ask(1, b"PLAIN", b"\0tim\0bad")
        program.ask(2, b"PLAIN", b"\0tim\0secret", more=b"\tsecured\trip=192.0.2.8")
        self.assertEqual(program.answer()[:2], [b"OK", b"2"])
        self.assertEqual(program.answer()[:2], [b"FAIL", b"1"])
        self.assertIn("auth: failed: user=<tim>, method=PLAIN, rip=192.0.2.7, service=smtp, ", self.service.output())

    def test_passwords_that_came_in_the_clear_are_not_looked_at(self):
        self.start()
        program = self.program()
        for more in (b"\trip=192.0.2.7", b"\trip=127.0.0.1", b""):
            program.ask(1, b"PLAIN", b"\0tim\0secret", more=more)
            self.assertEqual(program.answer()[:2], [b"FAIL", b"1"])
        self.assertNotIn("auth: failed", self.service.output())

    def test_who_breaks_the_protocol_is_cut_off(self):
        self.start()
        for words in (b"VERSION\t2\t0\n", b"CPID\t1\n", b"VERSION\t1\t0\nCPID\t9\nCONT\t4\tAAAA\n",
                      b"VERSION\t1\t0\nCPID\t9\n" + b"AUTH\t1\tPLAIN\tservice=smtp\tsecured\n" * 2):
            program = self.program(begin=words)
            while program.answer() != [b""]:
                pass
        self.program().ask(1, b"PLAIN", b"\0tim\0secret")

    def test_more_exchanges_than_fit_are_to_come_again(self):
        self.start()
        program = self.program()
        for number in range(100):
            program.ask(number, b"LOGIN")
        answers = [program.answer() for _ in range(100)]
        self.assertEqual(sum(answer[0] == b"CONT" for answer in answers), 64)
        self.assertEqual({tuple(answer[2:]) for answer in answers if answer[0] == b"FAIL"}, {(b"temp", b"code=temp_fail")})
        for answer in answers:
            if answer[0] == b"CONT":
                program.say(b"CANCEL\t" + answer[1] + b"\n")
        program.ask(200, b"PLAIN", b"\0tim\0secret")
        self.assertEqual(program.answer()[:2], [b"OK", b"200"])

    def test_the_service_ends_while_somebody_is_judged(self):
        self.start()
        waiting, idle, gone = self.program(), self.program(), self.program()
        gone.ask(1, b"PLAIN", b"\0tim\0bad")
        gone.close()
        waiting.ask(1, b"LOGIN")
        waiting.answer()
        waiting.ask(2, b"PLAIN", b"\0tom\0bad")
        wait_until(lambda: self.service.output().count("auth: failed") == 2, "two failures")
        self.assertEqual(self.service.stop(signal.SIGTERM), 0)
        self.assertEqual(idle.answer(), [b""])


SLAPD = """modulepath /usr/lib/ldap
moduleload back_mdb
include {root}/etc/ldap/schema/core.schema
include {root}/etc/ldap/schema/cosine.schema
include {root}/etc/ldap/schema/inetorgperson.schema
pidfile {data}/pid
database mdb
suffix dc=test
rootdn cn=admin,dc=test
rootpw boss
directory {data}
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=reader,dc=test" read by * none
"""
PEOPLE = """dn: dc=test
objectClass: dcObject
objectClass: organization
o: test
dc: test

dn: cn=reader,dc=test
objectClass: person
cn: reader
sn: reader
userPassword: read

dn: uid=tim,dc=test
objectClass: inetOrgPerson
uid: tim
cn: tim
sn: tim
mail: tim@home.test
mail: both@home.test
userPassword: {password}

dn: uid=una\\2cx,dc=test
objectClass: inetOrgPerson
uid: una,x
cn: una
sn: una
mail: both@home.test
userPassword: unas

dn: uid=locked,dc=test
objectClass: inetOrgPerson
uid: locked
cn: locked
sn: locked

"""


class Ldap(PeerTest):
    """Passwords that only the directory knows."""

    def setUp(self):
        super().setUp()
        peers("fetch", "slapd")
        self.data, self.ldap = os.path.join(self.folder, "ldap"), free_port()
        os.mkdir(self.data)
        root = os.path.join(os.environ.get("TUBEPOST_PEERS", os.path.join(TOP, "build", "peers")), "slapd", "root")
        hashed = "{SSHA}" + base64.b64encode(hashlib.sha1(b"secret" + b"salt").digest() + b"salt").decode()
        conf = self.write("slapd.conf", SLAPD.format(root=root, data=self.data))
        ldif = self.write("people.ldif", PEOPLE.format(password=hashed))
        peers("run", "slapd", "/usr/sbin/slapadd", "-f", conf, "-l", ldif)
        self.slapd = Process([PEERS, "run", "slapd", "/usr/sbin/slapd", "-d", "0", "-f", conf, "-h", f"ldap://127.0.0.1:{self.ldap}"],
                             os.path.join(self.folder, "slapd.log"))
        self.addCleanup(self.slapd.stop)

        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.ldap)) == 0
        wait_until(answers, "slapd")

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def program(self, who):
        cf = self.write("users.cf", f"server_host = ldap://127.0.0.1:{self.ldap}\n{who}")
        self.service = Authd(self.folder, users=f"ldap-bind:{cf}", auth="cache_right: 0, cache_wrong: 0")
        self.addCleanup(self.end, self.service)
        program = Program(self.service.socket)
        self.addCleanup(program.close)
        return program

    def comes_in(self, program, *pairs):
        """Each from an address of its own: nobody waits for another's delay."""
        for number, (user, password) in enumerate(pairs, self.asked + 1):
            program.ask(number, b"PLAIN", b"\0" + user + b"\0" + password, more=b"\tsecured\trip=192.0.2.%d" % number)
        answers = sorted((program.answer() for _ in pairs), key=lambda answer: int(answer[1]))
        self.asked += len(pairs)
        return [answer[0] + b" ".join(answer[2:]) for answer in answers]

    asked = 0

    def test_who_can_bind_is_in(self):
        program = self.program("user_dn = uid=%s,dc=test\n")
        self.assertEqual(self.comes_in(program, (b"tim", b"secret"), (b"una,x", b"unas"), (b"tim", b"bad"), (b"nobody", b"secret"),
                                       (b"locked", b"secret"), (b"tim,dc=test", b"secret"), (b"*", b"secret")),
                         [b"OKuser=tim", b"OKuser=una,x"] + [b"FAIL"] * 5)

    def test_who_is_found_and_can_bind_is_in(self):
        program = self.program("search_base = dc=test\nquery_filter = (mail=%s)\nbind_dn = cn=reader,dc=test\nbind_pw = read\n")
        self.assertEqual(self.comes_in(program, (b"tim@home.test", b"secret"), (b"tim@home.test", b"bad"), (b"both@home.test", b"secret"),
                                       (b"nobody@home.test", b"secret"), (b"t*@home.test", b"secret"), (b"tim@home.test", b"secret")),
                         [b"OKuser=tim@home.test"] + [b"FAIL"] * 4 + [b"OKuser=tim@home.test"])

    def test_a_directory_that_is_gone_refuses_nobody_for_good(self):
        program = self.program("search_base = dc=test\nquery_filter = (uid=%s)\nbind_dn = cn=reader,dc=test\nbind_pw = wrong\n")
        self.assertEqual(self.comes_in(program, (b"tim", b"secret")), [b"FAILtemp code=temp_fail"])
        self.slapd.stop()
        self.assertEqual(self.comes_in(program, (b"tim", b"secret")), [b"FAILtemp code=temp_fail"])
        self.assertNotIn("auth: failed", self.service.output())


class Postfix(PeerTest):
    def start(self, auth=""):
        self.service = Authd(self.folder, auth)
        self.addCleanup(self.end, self.service)
        self.sink_process = self.sink()
        self.port = free_port()
        base = certificate(self.folder, "postfix.test")
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{self.port}", f"relay={self.sink_process.to}", "networks=192.0.2.250/32",
                        "set:smtpd_sasl_auth_enable=yes", "set:smtpd_sasl_type=dovecot", f"set:smtpd_sasl_path={self.service.socket}",
                        "set:smtpd_sasl_security_options=noanonymous", "set:smtpd_relay_restrictions=permit_sasl_authenticated, reject",
                        "set:smtpd_tls_security_level=may", f"set:smtpd_tls_cert_file={base}.pem", f"set:smtpd_tls_key_file={base}.key",
                        "set:smtpd_sasl_authenticated_header=yes")

    def client(self):
        client = smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_S)
        self.addCleanup(client.close)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.starttls(context=context)
        client.ehlo()
        return client

    def test_postfix_asks_who_its_clients_are(self):
        self.start(auth="mechanisms: [PLAIN, LOGIN, CRAM-MD5]")
        for count, mechanism in enumerate(("PLAIN", "LOGIN", "CRAM-MD5"), 1):
            client = self.client()
            self.assertIn(mechanism, client.esmtp_features["auth"].split())
            client.user, client.password = "tim", "secret"
            self.assertEqual(client.auth(mechanism, getattr(client, "auth_" + mechanism.lower().replace("-", "_")))[0], 235)
            client.sendmail("tim@client.test", ["b@elsewhere.test"], MESSAGE)
            wait_until(lambda: len(self.sink_process.messages) == count, "the message behind Postfix")
            self.assertIn(b"(Authenticated sender: tim)", self.sink_process.messages[-1][2])
        stranger = self.client()
        stranger.user, stranger.password = "tim", "bad"
        with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
            stranger.auth("PLAIN", stranger.auth_plain)
        self.assertEqual(refused.exception.smtp_code, 535)
        stranger.mail("tim@client.test")
        self.assertEqual(stranger.rcpt("b@elsewhere.test")[0], 554)
        self.assertRegex(self.service.output(), r"auth: failed: user=<tim>, method=PLAIN, rip=127\.0\.0\.1, service=smtp")


if __name__ == "__main__":
    unittest.main()
