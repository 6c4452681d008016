"""`make run`: both programs from nothing, a first mail, a look at the queue, Ctrl-C."""
import imaplib
import os
import re
import signal
import smtplib
import subprocess
import unittest

from harness import BUILD, PATIENCE_S, TOP, Process, SystemTest, sanitizer_environment, wait_until


class Run(SystemTest):
    def setUp(self):
        super().setUp()
        environment = dict(sanitizer_environment(), BUILD=BUILD)
        environment.pop("PORT", None)
        self.process = Process([os.path.join(TOP, "scripts/run"), self.folder],
                               os.path.join(self.folder, "terminal.log"), env=environment, start_new_session=True)
        self.addCleanup(self.kill_group)
        wait_until(self.ready, "the text on the terminal")
        self.port = int(re.search(r"takes mail on 127\.0\.0\.1:(\d+)", self.process.output()).group(1))

    def ready(self):
        if self.process.popen.poll() is not None:
            raise AssertionError("ended at start:\n" + self.process.output()[-3000:])
        return "Ctrl-C stops both" in self.process.output()

    def kill_group(self):
        self.process.stop(signal.SIGINT)

    def pids(self):
        """Of the two programs: children of the script."""
        children = f"/proc/{self.process.popen.pid}/task/{self.process.popen.pid}/children"
        with open(children) as f:
            return [int(pid) for pid in f.read().split()]

    def test_a_first_mail_appears_where_the_terminal_says_and_ctrl_c_stops_both(self):
        terminal = self.process.output()
        with smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE_S) as client:
            client.sendmail("me@example.org", ["demo@example.org"], "Subject: first\r\n\r\nHello\r\n")
        password, port = re.search(r"curl -s -u demo:(\w+) 'imap://127\.0\.0\.1:(\d+)/INBOX;MAILINDEX=1'", terminal).groups()
        with imaplib.IMAP4("127.0.0.1", int(port), timeout=PATIENCE_S) as reader:
            reader.login("demo", password)
            wait_until(lambda: reader.select()[1] == [b"1"], "the mail in the inbox")
            text = reader.fetch("1", "(BODY[])")[1][0][1].decode()
        self.assertTrue(text.startswith("Return-Path: <me@example.org>\r\n"), text)
        self.assertTrue(text.endswith("\r\nSubject: first\r\n\r\nHello\r\n"), text)

        config = re.search(r"tubepost -c (\S+) status", terminal).group(1)
        config = config if config.startswith("/") else os.path.join(TOP, config)
        def listed():
            return subprocess.run([os.path.join(BUILD, "tubepost"), "-c", config, "queue", "list"], text=True,
                                  capture_output=True, env=sanitizer_environment(), timeout=PATIENCE_S)
        wait_until(lambda: listed().stdout == "Mail queue is empty\n", "an empty queue")
        self.assertEqual(listed().returncode, 0)

        words = re.search(r"tubepost -c (\S+mailboxd\.yaml) (mailbox .*)", terminal).groups()
        config = words[0] if words[0].startswith("/") else os.path.join(TOP, words[0])
        status = subprocess.run([os.path.join(BUILD, "tubepost"), "-c", config, *words[1].replace("'", "").split()], text=True,
                                capture_output=True, env=sanitizer_environment(), timeout=PATIENCE_S)
        self.assertEqual((status.returncode, status.stdout), (0, "INBOX messages=1 unseen=0\n"), status.stderr)

        pids = self.pids()
        self.assertEqual(len(pids), 2)
        self.process.popen.send_signal(signal.SIGINT)
        self.assertEqual(self.process.popen.wait(PATIENCE_S), 0, self.process.output())
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_when_one_of_them_dies_the_other_is_stopped_and_it_is_told(self):
        pids = self.pids()
        os.kill(pids[0], signal.SIGKILL)
        self.assertNotEqual(self.process.popen.wait(PATIENCE_S), 0)
        self.assertIn("has ended", self.process.output())
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"))


if __name__ == "__main__":
    unittest.main()
