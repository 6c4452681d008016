"""What the documents say of the tests: docs/cases.md names those that prove each row."""
import os
import re
import unittest

from harness import TOP

TESTS = os.path.join(TOP, "tests")


def named_tests():
    """(file, test or None) for each `folder/file: test, test` in docs/cases.md."""
    with open(os.path.join(TOP, "docs/cases.md"), encoding="utf-8") as f:
        text = f.read()
    for file, tests in re.findall(r"`((?:unit|system|sim|wire|fuzz)/[\w.]+)(?:: ([\w, ]+))?`", text):
        for test in re.split(", *", tests) if tests else [None]:
            yield file, test


class Cases(unittest.TestCase):
    def test_every_test_that_is_named_exists_and_is_run(self):
        count = 0
        for file, test in named_tests():
            with self.subTest(file=file, test=test), open(os.path.join(TESTS, file), encoding="utf-8") as f:
                text = f.read()
                if test and file.endswith(".c"):
                    self.assertRegex(text, rf"void\s+{test}\(\s*void \*\*state\)")
                    self.assertRegex(text, rf"\(\s*{test}[),]")  # in the list of the file's tests
                elif test:
                    self.assertRegex(text, rf"def {test}\(self")
            count += 1
        self.assertGreater(count, 60)

    def test_each_row_stands_once(self):
        with open(os.path.join(TOP, "docs/cases.md"), encoding="utf-8") as f:
            rows = [int(number) for number in re.findall(r"(?m)^\| (\d+) \|", f.read())]
        self.assertEqual(rows, sorted(set(rows)))
        self.assertEqual(rows, list(range(1, 47)))


if __name__ == "__main__":
    unittest.main()
