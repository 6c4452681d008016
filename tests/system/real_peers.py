"""Real servers and clients on the other end, fetched as packages and run from build/peers; nothing is installed."""
import os
import subprocess
import unittest

from harness import TOP, SystemTest

PEERS = os.path.join(TOP, "scripts/peers")
# Complete: what lacks a Date or a Message-ID, Postfix would add.
MESSAGE = (b"From: a@client.test\r\nSubject: peer\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
           b"Message-ID: <1@client.test>\r\n\r\n.dot\r\n..\r\nlast line\r\n")


def peers(*arguments, patience_s=240, **kwargs):
    result = subprocess.run([PEERS, *arguments], capture_output=True, text=True, timeout=patience_s, **kwargs)
    if result.returncode != 0:
        raise AssertionError(f"scripts/peers {' '.join(arguments)}: {result.stdout}{result.stderr}")
    return result.stdout


@unittest.skipUnless(os.geteuid() == 0, "the peers need root for a mount namespace of their own")
class PeerTest(SystemTest):
    def start_peer(self, peer, name, *settings):
        peers("fetch", peer)
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        os.chmod(self.folder, 0o755)
        self.addCleanup(peers, "stop", folder)
        peers("start", peer, folder, *settings)
        return folder
