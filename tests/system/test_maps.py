"""The operator's maps: aliases, canonical names, who exists; files that change, and databases."""
import os
import signal
import smtplib
import socket
import subprocess
import time
import unittest

from harness import BUILD, RELAY, Client, SystemTest, free_port, sanitizer_environment, wait_until

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "peers")
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Maps(SystemTest):
    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self, rewrite, route="", **kwargs):
        self.received = self.sink()
        keys = "".join(f"  {line}\n" for line in rewrite)
        self.relay_process = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.received.to}\"]{route}}}",
                                        settings=f"rewrite:\n{keys}" if keys else "", **kwargs)

    def send(self, recipient, sender="sender@client.test", count=1):
        """What RCPT is answered; a message goes there when it is taken."""
        with smtplib.SMTP(RELAY, self.relay_process.port, timeout=20) as client:
            client.ehlo("client.test")
            code, text = client.mail(sender)
            if code == 250:
                code, text = client.rcpt(recipient)
            if code == 250:
                self.assertEqual(client.data(b"Subject: x\r\n\r\nhello\r\n")[0], 250)
        return code, text.decode()

    def envelopes(self, count):
        wait_until(lambda: sum(len(to) for _, to, _ in self.received.messages) >= count, f"{count} recipients")
        found = sorted((sender, to) for sender, recipients, _ in self.received.messages for to in recipients)
        self.received.messages.clear()
        return found

    def test_aliases_of_every_kind_and_who_exists(self):
        virtual = self.write("virtual", "info@shop.test  one@in.test, two@in.test\n@old.test @in.test\n")
        aliases = self.write("aliases", "postmaster: root\nroot: admin@in.test\nlist: :include:%s\npipe: \"|/bin/true\"\n"
                             % self.write("members", "# members\na@in.test\nb@in.test, a@in.test\n"))
        canonical = self.write("canonical", r"/^(.*)@inner\.(.*)$/ $1@$2" + "\n")
        users = self.write("users", "one@in.test x\ntwo@in.test x\nadmin@in.test x\na@in.test x\nb@in.test x\njo@in.test x\n")
        self.start([f"virtual_aliases: [\"texthash:{virtual}\"]", f"aliases: [\"aliases:{aliases}\"]",
                    f"sender_canonical: [\"pcre:{canonical}\"]", "local_domains: [here.test]", "extension: \"+\""],
                   route=f", recipients: [\"texthash:{users}\"]")
        self.assertEqual(self.send("info@shop.test", "boss@inner.shop.test")[0], 250)
        self.assertEqual(self.envelopes(2), [("boss@shop.test", "one@in.test"), ("boss@shop.test", "two@in.test")])
        self.assertEqual(self.send("jo+tag@old.test")[0], 250)
        self.assertEqual(self.envelopes(1), [("sender@client.test", "jo+tag@in.test")])
        self.assertEqual(self.send("Postmaster@here.test")[0], 250)
        self.assertEqual(self.envelopes(1), [("sender@client.test", "admin@in.test")])
        self.assertEqual(self.send("list@here.test")[0], 250)
        self.assertEqual([to for _, to in self.envelopes(2)], ["a@in.test", "b@in.test"])
        code, text = self.send("nobody@in.test")
        self.assertEqual((code, text[:5]), (550, "5.1.1"))
        code, text = self.send("pipe@here.test")
        self.assertEqual((code, text[:5]), (451, "4.3.5"))
        self.assertIn("may not name a command", self.relay_process.output())

    def test_a_million_addresses_by_many_recipients_are_a_hundred_thousand_at_most(self):
        members = ", ".join(f"$1-{i}@in.test" for i in range(900))
        # What AddressSanitizer keeps of freed memory is not the relay's.
        options = f"ASAN_OPTIONS={sanitizer_environment()['ASAN_OPTIONS']}:quarantine_size_mb=1"
        self.start([f"virtual_aliases: [\"pcre:{self.write('many', f'/^list-([0-9]+)@in.test$/ {members}')}\"]"],
                   prefix=("env", options))
        before = self.relay_process.resident()
        with Client(self.relay_process.port) as client:
            client.command("EHLO c.test")
            client.command("MAIL FROM:<a@c.test>")
            replies = [client.command(f"RCPT TO:<list-{n}@in.test>") for n in range(115)]
            self.assertEqual([reply[:9] for reply in replies], ["250 2.1.5"] * 111 + ["452 4.5.3"] * 4)
            self.assertLess(self.relay_process.resident() - before, 64 << 20)
            client.command("RSET")
        self.assertEqual(self.send("one@in.test")[0], 250)
        self.assertEqual(self.envelopes(1), [("sender@client.test", "one@in.test")])

    def test_an_alias_with_an_owner_is_a_mailing_list(self):
        aliases = self.write("aliases", "team: :include:%s\nowner-team: boss@in.test\n" % self.write("members", "a@in.test\ngone@in.test\n"))
        self.start([f"aliases: [\"aliases:{aliases}\"]"])
        self.assertEqual(self.send("team@relay.test")[0], 250)
        self.assertEqual(self.envelopes(2), [("owner-team@relay.test", "a@in.test"), ("owner-team@relay.test", "gone@in.test")])
        self.relay_process.stop()
        self.received = self.sink(reply=lambda command, argument: "550 5.1.1 no such user" if command == "RCPT" and "gone" in argument else None)
        self.relay_process = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.received.to}\"]}}",
                                        settings=f"rewrite:\n  aliases: [\"aliases:{aliases}\"]\n")
        self.assertEqual(self.send("team@relay.test")[0], 250)
        self.assertEqual(self.envelopes(2), [("", "boss@in.test"), ("owner-team@relay.test", "a@in.test")])

    def test_no_pattern_makes_a_relay_for_strangers(self):
        tags = self.write("tags", r"/^(.*)\+.*@(.*)$/ $1@$2" + "\n" + r"/^(.*)@inner\.(.*)$/ $1@$2" + "\n")
        shop = self.write("shop", "info@shop.test far@elsewhere.test\n")
        for key in ("recipient_canonical", "virtual_aliases"):
            with self.subTest(key=key):
                maps = f"[\"texthash:{shop}\", \"pcre:{tags}\"]"
                self.start([f"{key}: {maps}\nrelay_networks: [198.51.100.0/24]"])
                for recipient in ("user+tag@victim.test", "user@inner.victim.test", "user@victim.test"):
                    self.assertEqual(self.send(recipient)[0], 554, recipient)
                self.assertEqual(self.send("info@shop.test")[0], 250)  # its owner has named it
                self.assertEqual(self.envelopes(1)[0][1], "far@elsewhere.test")
                self.relay_process.stop()

    def test_a_file_that_changes_is_noticed_and_so_is_a_reload(self):
        virtual = self.write("virtual", "a@x.test first@in.test\n")
        self.start([f"virtual_aliases: [\"texthash:{virtual}\"]"])
        self.send("a@x.test")
        self.assertEqual(self.envelopes(1)[0][1], "first@in.test")
        time.sleep(1.1)  # files are looked at once a second
        self.write("virtual", "a@x.test second@in.test\nb@x.test third@in.test\n")
        self.send("b@x.test")  # not asked for before: it is by this that the change is noticed
        self.send("a@x.test")
        self.assertEqual([to for _, to in self.envelopes(2)], ["second@in.test", "third@in.test"])

    def test_a_map_that_cannot_be_read_is_told_at_the_start(self):
        path = self.write("broken", "one\n")
        text = f"rewrite: {{virtual_aliases: [\"texthash:{path}\"]}}\n"
        conf = self.write("broken.yaml", text)
        result = subprocess.run([os.path.join(BUILD, "tubepostd"), "-c", conf, "--check"], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 78)
        self.assertIn("broken:1:", result.stderr)

    def test_a_database_that_is_away_makes_mail_wait_and_nothing_else(self):
        conf = self.write("pg.cf", "hosts = 127.0.0.1:1\nuser = u\npassword = p\ndbname = d\nquery = select to_ from v where a = '%s'\n")
        self.start([f"virtual_aliases: [\"pgsql:{conf}\"]"])
        code, text = self.send("a@x.test")
        self.assertEqual((code, text[:5]), (451, "4.3.0"))

    def test_who_waits_for_a_database_that_hangs_is_answered_by_a_reload_and_may_go(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never says a word
            conf = self.write("pg.cf", f"hosts = 127.0.0.1:{silent.getsockname()[1]}\nuser = u\npassword = p\ndbname = d\n"
                                       "query = select to_ from v where a = '%s'\n")
            self.start([f"virtual_aliases: [\"pgsql:{conf}\"]"])
            leaver = smtplib.SMTP(RELAY, self.relay_process.port, timeout=20)
            stayer = smtplib.SMTP(RELAY, self.relay_process.port, timeout=20)
            for client in (leaver, stayer):
                client.ehlo("client.test")
                client.mail("a@b.test")
                client.putcmd("RCPT", f"TO:<{'x' if client is leaver else 'y'}@x.test>")
            time.sleep(0.3)
            leaver.sock.close()
            self.relay_process.popen.send_signal(signal.SIGHUP)
            code, text = stayer.getreply()
            self.assertEqual((code, text[:5]), (451, b"4.3.0"))
            self.assertEqual(stayer.noop()[0], 250)  # in step
            stayer.close()

    @unittest.skipUnless(os.geteuid() == 0, "unpacking and running a database takes root")
    def test_postgresql_answers(self):
        subprocess.run([PEERS, "fetch", "postgresql"], check=True, stdout=subprocess.DEVNULL)
        bin_folder = "/usr/lib/postgresql/15/bin"
        data, port = os.path.join(self.folder, "pg"), free_port()
        os.mkdir(data)
        os.chown(data, 65534, 65534)
        os.chmod(self.folder, 0o755)
        run = [PEERS, "run", "postgresql", *NOBODY]
        subprocess.run([*run, f"{bin_folder}/initdb", "-D", data, "-U", "tube", "-A", "trust", "--no-sync"], check=True,
                       stdout=subprocess.DEVNULL)
        server = subprocess.Popen([*run, f"{bin_folder}/postgres", "-D", data, "-k", data, "-h", "127.0.0.1", "-p", str(port)],
                                  stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            sql = "create table v (a text, goes text); insert into v values ('info@x.test','one@in.test'), ('info@x.test','two@in.test'), ('o''neill@x.test','three@in.test')"
            wait_until(lambda: subprocess.run([*run, f"{bin_folder}/psql", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "tube",
                                               "-d", "postgres", "-c", sql], capture_output=True, check=False).returncode == 0, "PostgreSQL", 30)
            conf = self.write("pg.cf", f"hosts = 127.0.0.1:{port}\nuser = tube\npassword = x\ndbname = postgres\n"
                                       "query = select goes from v where a = '%s' order by 1\n")
            self.start([f"virtual_aliases: [\"pgsql:{conf}\"]"])
            for recipient in ("info@x.test", "o'neill@x.test", "x'or'1'='1@x.test"):
                self.assertEqual(self.send(recipient)[0], 250, recipient)
            self.assertEqual([to for _, to in self.envelopes(4)], ["one@in.test", "three@in.test", "two@in.test", "x'or'1'='1@x.test"])
        finally:
            server.send_signal(signal.SIGINT)  # without waiting for those who are connected
            server.wait(20)

    @unittest.skipUnless(os.geteuid() == 0, "unpacking and running a directory takes root")
    def test_ldap_answers(self):
        subprocess.run([PEERS, "fetch", "slapd"], check=True, stdout=subprocess.DEVNULL)
        data, port = os.path.join(self.folder, "ldap"), free_port()
        os.mkdir(data)
        conf = self.write("slapd.conf", f"""include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {data}/pid
database mdb
suffix dc=test
rootdn cn=admin,dc=test
rootpw secret
directory {data}
""")
        ldif = self.write("all.ldif", """dn: dc=test
objectClass: dcObject
objectClass: organization
o: test
dc: test

dn: cn=info,dc=test
objectClass: person
cn: info
sn: info@x.test
description: one@in.test
description: two@in.test

""")
        root = os.path.join(os.environ.get("TUBEPOST_PEERS", os.path.join(os.path.dirname(PEERS), "..", "build", "peers")), "slapd", "root")
        text = open(conf).read().replace("/etc/ldap", f"{root}/etc/ldap")
        self.write("slapd.conf", text)
        run = [PEERS, "run", "slapd"]
        subprocess.run([*run, "/usr/sbin/slapadd", "-f", conf, "-l", ldif], check=True, capture_output=True)
        server = subprocess.Popen([*run, "/usr/sbin/slapd", "-d", "0", "-f", conf, "-h", f"ldap://127.0.0.1:{port}"],
                                  stderr=subprocess.DEVNULL)
        try:
            cf = self.write("ldap.cf", f"server_host = ldap://127.0.0.1:{port}\nsearch_base = dc=test\nquery_filter = (sn=%s)\n"
                                       "result_attribute = description\nbind_dn = cn=admin,dc=test\nbind_pw = secret\n")
            self.start([f"virtual_aliases: [\"ldap:{cf}\"]"])
            wait_until(lambda: self.send("info@x.test")[0] == 250, "LDAP", 30)
            self.assertEqual([to for _, to in self.envelopes(2)], ["one@in.test", "two@in.test"])
            self.assertEqual(self.send("*@x.test")[0], 250)  # no filter, an address
            self.assertEqual([to for _, to in self.envelopes(1)], ["*@x.test"])
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    unittest.main()
