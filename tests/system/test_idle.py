"""What an idle relay costs."""
import os
import time
import unittest

from harness import Client, SystemTest, wait_until

ALONE = "measures a hundredth of a core, and the kernel counts in ticks: whoever else runs blurs it"


class Idle(SystemTest):
    def test_an_idle_relay_takes_less_than_a_hundredth_of_a_core(self):
        lmtp = self.sink(path=os.path.join(self.folder, "lmtp"), lmtp=True)
        relay = self.relay(f"  - {{match: example.org, via: lmtp, to: [\"{lmtp.to}\"]}}")
        with Client(relay.port) as client:
            for command in ("EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<b@example.org>", "DATA"):
                client.command(command)
            client.send(b"X: 1\r\n\r\n" + b"x" * 70 + b"\r\n")
            self.assertTrue(client.command(b".\r\n").startswith("250"))
            wait_until(lambda: lmtp.messages, "the message")
            time.sleep(1)  # what comes behind a delivery
            before, begun = relay.cpu_seconds(), time.monotonic()
            time.sleep(4)
            used, passed = relay.cpu_seconds() - before, time.monotonic() - begun
        self.assertLess(used, 0.01 * passed + 0.01)  # one tick of the account


if __name__ == "__main__":
    unittest.main()
