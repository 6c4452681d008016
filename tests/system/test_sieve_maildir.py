"""The same as test_sieve, of users whose mail lies in Maildirs; and what only Maildirs have."""
import unittest

import test_sieve


class SieveOnMaildirs(test_sieve.SieveTest):
    store = "maildir"


class SendingOnMaildirs(test_sieve.Sending):
    store = "maildir"


if __name__ == "__main__":
    unittest.main()
