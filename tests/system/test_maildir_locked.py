"""The mailbox service on Maildirs, of which another program has one locked."""
import os
import socket

from harness import PATIENCE_S, SystemTest
from test_mailboxd_store import Store, message

DRAIN_S = 10  # the service's, for who is at work


class Locked(SystemTest):
    def test_a_lock_of_another_does_not_hold_up_the_end(self):
        service = Store(self.folder, store="maildir")
        self.addCleanup(self.end, service)
        with service.connect() as lmtp:
            self.assertEqual(lmtp.deliver(["alice"], message("one")), [250])
        client = service.login("alice")
        self.assertEqual(client.select(), ("OK", [b"1"]))
        with open(os.path.join(service.mail, "alice", "dovecot-uidlist.lock"), "w") as f:
            f.write(f"1:{socket.gethostname()}")  # lives as long as the machine
        with service.connect() as lmtp:
            self.assertEqual(lmtp.deliver(["alice"], message("two")), [250])
        client.send(b"a NOOP\r\n")
        self.assertEqual(service.stop(patience_s=DRAIN_S + PATIENCE_S), 0)
        client.shutdown()
