"""How many sessions the mailbox service lets a user and an address have, and what the next one is told."""
import imaplib
import poplib
import socket
import unittest

import test_mailboxd_store
from harness import PATIENCE_S, SystemTest, wait_until
from test_mailboxd import Lmtp
from test_mailboxd_store import PASSWORD


class Limits(SystemTest):
    uring = "auto"
    service = test_mailboxd_store.StoreTest.service

    def imap(self, service, user="alice"):
        client = imaplib.IMAP4("127.0.0.1", service.imap, timeout=PATIENCE_S)
        self.addCleanup(client.sock.close)
        return client, client.login, (user, PASSWORD)

    def test_an_eleventh_session_from_an_address_is_refused_until_one_has_gone(self):
        service = self.service()
        clients = []
        for _ in range(10):
            client, login, names = self.imap(service)
            login(*names)
            clients.append(client)
        refused, login, names = self.imap(service)
        with self.assertRaisesRegex(imaplib.IMAP4.error, r"\[LIMIT\] Too many sessions of this user"):
            login(*names)
        refused.login("bob", PASSWORD)  # and the connection is as good as before
        pop3 = poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S)  # each protocol has its own
        pop3.user("alice")
        pop3.pass_(PASSWORD)
        pop3.quit()
        clients.pop().logout()

        def enter():
            again, login_again, _ = self.imap(service)
            try:
                return login_again("alice", PASSWORD)
            except imaplib.IMAP4.error:
                return None
        wait_until(enter, "the place of the session that has gone")

    def test_a_user_has_so_many_sessions_of_all_protocols(self):
        service = self.service("limits: {user_connections: 2, user_address_connections: 0}\npop3: {shared: true}")
        _, login, names = self.imap(service)
        login(*names)
        first, second = (poplib.POP3("127.0.0.1", service.pop3, timeout=PATIENCE_S) for _ in range(2))
        for pop3 in (first, second):
            self.addCleanup(pop3.close)
            pop3.user("alice")
        first.pass_(PASSWORD)
        with self.assertRaisesRegex(poplib.error_proto, r"-ERR \[IN-USE\] Too many sessions of this user"):
            second.pass_(PASSWORD)
        _, login, names = self.imap(service)
        with self.assertRaisesRegex(imaplib.IMAP4.error, r"\[LIMIT\]"):
            login(*names)

    def test_an_address_has_so_many_connections_and_a_unix_socket_any(self):
        service = self.service("limits: {address_connections: 3}")

        def greeting(port):
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
            self.addCleanup(connection.close)
            return connection.recv(1000)

        with Lmtp(("127.0.0.1", service.port)):
            self.assertTrue(greeting(service.imap).startswith(b"* OK"))
            self.assertTrue(greeting(service.pop3).startswith(b"+OK"))
            self.assertEqual(greeting(service.imap), b"* BYE [UNAVAILABLE] Too many connections from your address\r\n")
            self.assertEqual(greeting(service.pop3), b"-ERR [SYS/TEMP] Too many connections from your address\r\n")
            self.assertEqual(greeting(service.port), b"421 4.3.2 Too many connections from your address\r\n")
            for _ in range(4):
                with service.connect() as local:
                    self.assertEqual(local.deliver(["alice"], b"Subject: x\r\n\r\nx\r\n"), [250])

    def test_the_service_has_so_many_connections_in_all(self):
        service = self.service("limits: {connections: 1}")

        def answers():
            with socket.create_connection(("127.0.0.1", service.imap), PATIENCE_S) as first:
                if not first.recv(1000).startswith(b"* OK"):
                    return None  # the connection that saw it start is not over yet
                with socket.create_connection(("127.0.0.1", service.pop3), PATIENCE_S) as second:
                    return second.recv(1000)
        self.assertEqual(wait_until(answers, "the first connection"), b"-ERR [SYS/TEMP] Too many connections\r\n")


if __name__ == "__main__":
    unittest.main()
