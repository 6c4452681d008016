"""Transport maps: where mail goes, what RCPT is answered, maps that change; and a real Postfix with the same file."""
import os
import signal
import smtplib
import time
import unittest

from harness import RELAY, free_port, wait_until
from real_peers import MESSAGE, PeerTest


class Transport(PeerTest):
    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self, maps, settings="", routes=None):
        """A relay whose mail goes to self.usual, unless the maps say otherwise."""
        self.usual = self.sink()
        self.relay_process = self.relay(routes or f"  - {{match: \"*\", via: smtp, to: [\"{self.usual.to}\"]}}",
                                        settings=f"transport_maps: {maps}\n{settings}")

    def send(self, port, *recipients, host=RELAY):
        """What each RCPT is answered; a message goes to those who are taken."""
        answers = []
        with smtplib.SMTP(host, port, timeout=20) as client:
            client.ehlo("client.test")
            client.mail("sender@client.test")
            for recipient in recipients:
                code, text = client.rcpt(recipient)
                answers.append((code, text.decode().split()[0]))
            if any(code == 250 for code, _ in answers):
                self.assertEqual(client.data(MESSAGE)[0], 250)
        return answers

    def who(self, sink):
        with sink.lock:
            return sorted(to for _, recipients, _ in sink.messages for to in recipients)

    def test_mail_goes_the_way_of_its_row_and_is_refused_by_it(self):
        first, box = self.sink(), self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        rows = self.write("transport", f"x.test smtp:[{first.to.rsplit(':', 1)[0]}]:{first.to.rsplit(':', 1)[1]}\n"
                          f".x.test lmtp:{box.to}\nvip@x.test near:\ngone.test error:5.1.1 Gone for good\n"
                          "later.test retry:4.3.2 At night\nnull.test discard:\nodd.test uucp:somewhere\nsame.test :\n")
        near = self.sink()
        self.start(f"[\"texthash:{rows}\"]")
        self.relay_process.stop()
        self.relay_process = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.usual.to}\"]}}\n"
                                        f"  - {{name: near, via: smtp, to: [\"{near.to}\"]}}",
                                        settings=f"transport_maps: [\"texthash:{rows}\"]\n")
        answers = self.send(self.relay_process.port, "a@x.test", "b@deep.x.test", "vip@x.test", "c@gone.test", "d@later.test",
                            "e@null.test", "f@odd.test", "g@same.test", "h@other.test")
        taken = (250, "2.1.5")
        self.assertEqual(answers, [taken, taken, taken, (550, "5.1.1"), taken, taken, (451, "4.3.5"), taken, taken])
        wait_until(lambda: len(self.who(self.usual)) == 2 and self.who(first) and self.who(box) and self.who(near), "mail at all four")
        self.assertEqual(self.who(self.usual), ["g@same.test", "h@other.test"])
        self.assertEqual((self.who(first), self.who(box), self.who(near)), (["a@x.test"], ["b@deep.x.test"], ["vip@x.test"]))
        wait_until(lambda: "status=deferred (At night)" in self.relay_process.output(), "the one that is put off")
        self.assertIn("to=<e@null.test>, relay=none, dsn=2.0.0, status=sent (discarded)", self.relay_process.output())
        self.assertIn("a map gives no transport: uucp:somewhere", self.relay_process.output())
        self.assertIn("d@later.test", self.relay_process.ctl("queue", "list").stdout)

    def test_a_map_gives_a_stranger_no_permission(self):
        first = self.sink()
        rows = self.write("transport", f"x.test smtp:[127.0.0.1]:{first.to.rsplit(':', 1)[1]}\nours.test smtp:[127.0.0.1]:{first.to.rsplit(':', 1)[1]}\n")
        self.usual = self.sink()
        self.relay_process = self.relay(f"  - {{match: \"*\", via: smtp, to: [\"{self.usual.to}\"]}}\n"
                                        f"  - {{match: ours.test, via: smtp, to: [\"{self.usual.to}\"]}}",
                                        settings=f"transport_maps: [\"texthash:{rows}\"]\nrelay_networks: [198.51.100.0/24]\n")
        self.assertEqual(self.send(self.relay_process.port, "a@x.test", "b@ours.test"), [(554, "5.7.1"), (250, "2.1.5")])
        wait_until(lambda: self.who(first) == ["b@ours.test"], "mail for the domain that is ours")

    def test_a_database_that_is_away_makes_senders_wait_and_what_is_queued_too(self):
        conf = self.write("pg.cf", "hosts = 127.0.0.1:1\nuser = u\npassword = p\ndbname = d\nquery = select way from t where name = '%s'\n")
        rows = self.write("transport", "x.test retry:4.3.2 At night\n")
        self.start(f"[\"texthash:{rows}\"]", settings="retry: {first: 1s, limit: 1s}\n")
        self.assertEqual(self.send(self.relay_process.port, "a@x.test"), [(250, "2.1.5")])
        config = os.path.join(self.folder, "relay.yaml")
        with open(config) as file:
            text = file.read()
        with open(config, "w") as file:
            file.write(text.replace(f"texthash:{rows}", f"pgsql:{conf}"))
        self.relay_process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: "The transport map does not answer" in self.relay_process.output(), "what is queued to be put off")
        self.assertEqual(self.send(self.relay_process.port, "b@x.test"), [(451, "4.3.0")])
        self.assertNotIn("status=bounced", self.relay_process.output())
        with open(config, "w") as file:
            file.write(text.replace(f"[\"texthash:{rows}\"]", "[]"))
        self.relay_process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: self.who(self.usual) == ["a@x.test"], "what is queued to go by the routes")

    def test_queued_mail_follows_a_file_that_changes(self):
        dead, first = free_port(), self.sink()
        rows = self.write("transport", f"x.test smtp:[127.0.0.1]:{dead}\n")
        self.start(f"[\"texthash:{rows}\"]", settings="retry: {first: 1s, limit: 1s}\n")
        self.send(self.relay_process.port, "a@x.test")
        wait_until(lambda: "status=deferred" in self.relay_process.output(), "the first attempt")
        time.sleep(1.1)  # files are looked at once a second
        self.write("transport", f"x.test smtp:[127.0.0.1]:{first.to.rsplit(':', 1)[1]}\n# changed\n")
        self.send(self.relay_process.port, "b@new.test")  # not asked for before: it is by this that the change is noticed
        wait_until(lambda: self.who(first) == ["a@x.test"], "the mail at the other next hop")

    def test_a_postfix_with_the_same_file_sends_the_same_mail_to_the_same_hops(self):
        hops = {name: self.sink() for name in ("domain", "user", "tag", "below", "deep", "any", "literal")}
        ports = {name: hop.to.rsplit(":", 1)[1] for name, hop in hops.items()}
        rows = "".join(f"{key} smtp:[127.0.0.1]:{ports[name]}\n" for key, name in (
            ("x.test", "domain"), ("jo@x.test", "user"), ("jo+tag@x.test", "tag"), (".x.test", "below"), (".deep.x.test", "deep"),
            ("*", "any"), ("X2.Test", "domain"), ("al@x3.test", "user")))
        rows += "gone.test error:5.1.1 Gone for good\nnull.test discard:\nhost.test relay:[127.0.0.1]:%s\n" % ports["literal"]
        path = self.write("transport", rows)
        recipients = ["al@x.test", "jo@x.test", "Jim@X.Test", "jo+tag@x.test", "jo+other@x.test", "al@a.x.test", "al@a.b.x.test", "al@deep.x.test",
                      "al@a.deep.x.test", "al@x2.test", "al@x3.test", "al+tag@x3.test", "jo@x3.test", "al@host.test", "al@other.test", "al@null.test"]
        port = free_port()
        self.start_peer("postfix", "postfix", f"listen=127.0.0.1:{port}", f"relay={self.sink().to}", "mode=relay",
                        f"set:transport_maps = texthash:{path}", "set:recipient_delimiter = +")
        self.start(f"[\"texthash:{path}\"]", settings="rewrite: {extension: \"+\"}\n")
        found = []
        for server in (port, self.relay_process.port):
            answers = self.send(server, *recipients)
            self.assertEqual([code for code, _ in answers], [250] * len(recipients))
            wait_until(lambda: sum(len(self.who(hop)) for hop in hops.values()) >= len(recipients) - 1, "all mail", 30)
            found.append({name: self.who(hop) for name, hop in hops.items()})
            for hop in hops.values():
                hop.messages.clear()
        self.assertEqual(found[0], found[1])
        self.assertEqual(self.send(self.relay_process.port, "al@gone.test"), [(550, "5.1.1")])


if __name__ == "__main__":
    unittest.main(verbosity=2)
