"""Search with full-text indexes: the same answers before there is one, with it, and when it is lost, spoilt or behind."""
import glob
import os
import random
import unittest

import test_mailboxd_store  # not its names: its tests would run here too
from harness import SystemTest, wait_until

WORDS = "meeting Straße grüße needle hay report Ünïcödé 2026 budget пример 你好 invoice".split()
QUERIES = ['BODY "needle"', 'TEXT "EEDLE ha"', 'SUBJECT "budget"', 'FROM "x.test"', 'NOT BODY "report"', 'BODY "re"', 'BODY "nowhere"',
           'OR SUBJECT "invoice" BODY "2026 budget"', 'HEADER Subject "meet"', 'TO "bob"', 'SUBJECT "STRASSE"', 'BODY "grüsse"',
           'TEXT "ПРИМЕР"', 'BODY "你好"']


def letter(source):
    subject, body = (" ".join(source.choices(WORDS, k=count)) for count in (3, 30))
    return (f"Subject: {subject}\r\nFrom: {source.choice(WORDS[:1])}@x.test\r\nTo: bob@y.test\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n").encode()


class SearchTest(SystemTest):
    uring = "auto"
    service_of_store = test_mailboxd_store.StoreTest.service

    def service(self, settings="log: {level: debug}"):
        return self.service_of_store(settings)

    def deliver(self, service, count, seed=1):
        source = random.Random(seed)
        with service.connect() as client:
            for _ in range(count):
                self.assertEqual(client.deliver(["alice"], letter(source)), [250])

    def answers(self, service):
        """What all queries find."""
        client = service.login("alice")
        client.select()
        found = []
        for query in QUERIES:
            key, _, word = query.rpartition(" \"")
            client.literal = word.rstrip("\"").encode()
            answer, data = client._simple_command("SEARCH", "CHARSET", "UTF-8", key)
            self.assertEqual(answer, "OK", (query, data))
            found.append(client._untagged_response(answer, data, "SEARCH")[1])
        client.logout()
        return found

    def indexed(self, service, count):
        wait_until(lambda: f"the index of alice has {count} texts" in service.output(), "the index")

    def files(self, service):
        return [path for path in glob.glob(os.path.join(service.mail, "search", "*")) if not path.endswith("stamp")]

    def scanned(self, service):
        """What is found by a service that has no index; it has ended."""
        service.stop()
        service = self.service("search: {index: false}")
        found = self.answers(service)
        self.assertEqual(service.stop(), 0)
        return found

    def test_answers_are_the_same_with_an_index_without_and_with_a_spoilt_one(self):
        service = self.service()
        self.deliver(service, 60)
        first = self.answers(service)
        self.assertTrue(any(found != [b""] for found in first), first)
        self.indexed(service, 60)
        self.assertEqual(self.answers(service), first)
        self.assertEqual(self.scanned(service), first)
        for spoil in (os.unlink, self.fill_with_rubbish, self.clip, self.flip_bits):
            with self.subTest(spoil=spoil.__name__):
                service = self.service()
                self.assertEqual(self.answers(service), first)
                self.indexed(service, 60)
                self.assertEqual(self.answers(service), first)
                service.stop()
                files = self.files(service)
                self.assertTrue(files)
                for path in files:
                    spoil(path)
        service = self.service()
        self.assertEqual(self.answers(service), first)
        self.indexed(service, 60)

    def fill_with_rubbish(self, path):
        with open(path, "r+b") as file:
            file.write(os.urandom(os.path.getsize(path)))

    def clip(self, path):
        os.truncate(path, os.path.getsize(path) // 2)

    def flip_bits(self, path):
        source = random.Random(path)
        with open(path, "r+b") as file:
            content = bytearray(file.read())
            for _ in range(len(content) // 500):
                content[source.randrange(len(content))] ^= 1 << source.randrange(8)
            file.seek(0)
            file.write(content)

    def test_what_comes_and_goes_is_followed_and_a_kill_harms_nothing(self):
        service = self.service()
        self.deliver(service, 30)
        self.answers(service)
        for turn in range(3):  # killed while it is being indexed, or just after
            self.deliver(service, 20, seed=turn + 2)
            found = self.answers(service)
            service.popen.kill()
            service.popen.wait()
            service = self.service()
            self.assertEqual(self.answers(service), found)
        self.indexed(service, 90)
        client = service.login("alice")
        client.select()
        client.store("1:45", "+FLAGS.SILENT", "(\\Deleted)")
        client.expunge()
        client.logout()
        self.indexed(service, 45)
        found = self.answers(service)
        self.assertEqual(self.scanned(service), found)

    def test_without_the_switch_there_is_no_index(self):
        service = self.service("search: {index: false}")
        self.deliver(service, 5)
        self.answers(service)
        self.assertEqual(service.stop(), 0)
        self.assertFalse(os.path.exists(os.path.join(service.mail, "search")))


class SearchByEpollTest(SearchTest):
    uring = "off"


if __name__ == "__main__":
    unittest.main()
