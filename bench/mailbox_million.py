"""mailbox_million: one mailbox of a million small messages over IMAP: the time of each command, the memory that the service takes, and
how long others wait meanwhile.

`bench/mailbox million [--messages 1000000] [--size 512] [--json FILE] [--build build]`, ours alone. It fills by APPENDs of many messages
each, and has some 2 GiB below build/mailbox-bench, which it removes. A second process has a session of another user's, on the same shard,
and says NOOP again and again: the longest of them is what others wait. "Longest turn" is what the service itself says (poll_gap_us_max).
"""
import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import time

from mailbox_rig import IMAP, LMTP, Client, Needs, Tubepost, user
from rig import TOP, fail, fresh, ports_need

BATCH = 500  # messages of one APPEND
WORDS = ("amber basin cedar delta ember fjord grove haven inlet jetty knoll ledge marsh north ocean plain quarry ridge shoal tundra "
         "upland valley willow yonder zenith").split()
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
RARE = "tubepostrare"  # in one text of RARE_EACH
RARE_EACH = 10000


def letter(number, size, rng):
    """Of a correspondence of 5,000 people: two of three answer one of the last 1,000 messages. Not one text is another's."""
    answers = number - rng.randrange(1, 1000) if rng.random() < 0.66 else 0
    begun = 1577836800 + number * 97 + rng.randrange(86400)
    date = time.gmtime(begun)
    subject = f"{'Re: ' if answers > 0 else ''}{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randrange(20000)}"
    head = (f"Date: {date.tm_mday} {MONTHS[date.tm_mon - 1]} {date.tm_year} {date.tm_hour:02}:{date.tm_min:02}:{date.tm_sec:02} +0000\r\n"
            f"From: {rng.choice(WORDS).title()} <p{rng.randrange(5000):04}@bench.example>\r\nTo: {user(0)}@bench.example\r\n"
            f"Subject: {subject}\r\nMessage-ID: <{number}@bench.example>\r\n")
    if answers > 0:
        head += f"In-Reply-To: <{answers}@bench.example>\r\nReferences: <{answers}@bench.example>\r\n"
    body = RARE + " " if number % RARE_EACH == RARE_EACH // 2 else ""
    while len(head) + len(body) + 10 < size:
        body += rng.choice(WORDS) + (" " if len(body) % 70 < 62 else "\r\n")
    return f"{head}\r\n{body}\r\n".encode(), begun


def fill(arguments):
    client, rng = Client(user(0)), random.Random(2026)
    for first in range(1, arguments.messages + 1, BATCH):
        pieces = []
        for number in range(first, min(first + BATCH, arguments.messages + 1)):
            text, begun = letter(number, arguments.size, rng)
            date = time.gmtime(begun + rng.randrange(600))
            flags = "\\Seen" if number % 10 else ""
            pieces.append(f' ({flags}) "{date.tm_mday:2}-{MONTHS[date.tm_mon - 1]}-{date.tm_year} {date.tm_hour:02}:{date.tm_min:02}:'
                          f'{date.tm_sec:02} +0000" {{{len(text)}+}}\r\n'.encode() + text)
        client.ask(b"APPEND INBOX" + b"".join(pieces))
    client.close()


def others(pipe):
    """The session that says NOOP; for each word of the pipe the longest wait since the last one, in seconds, and how many there were."""
    client = Client(user(1))
    client.ask("SELECT INBOX")
    longest, count = 0, 0
    while True:
        begun = time.monotonic()
        client.ask("NOOP")
        longest, count = max(longest, time.monotonic() - begun), count + 1
        if pipe.poll(0.0005):
            if pipe.recv() == "end":
                return
            pipe.send((longest, count))
            longest, count = 0, 0


def resident(process, what):
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f"{what}:"))


def peak_forget(process):
    with open(f"/proc/{process.pid}/clear_refs", "w") as file:
        file.write("5")


def longest_turn_s(server):
    """Of the shard since its start."""
    said = subprocess.run([os.path.join(server.build, "tubepost"), "mailbox", "stats", "-c", server.path, "--json", "0"], check=True,
                          stdout=subprocess.PIPE, text=True)
    return int(said.stdout.split('"poll_gap_us_max":')[1].split(",")[0].strip(" }\n")) / 1e6


class Measured:
    def __init__(self, server, pipe, client):
        self.server, self.pipe, self.client, self.rows = server, pipe, client, []

    def waits(self):
        self.pipe.send("say")
        return self.pipe.recv()

    def ask(self, name, *commands, rest_s=0):
        self.waits()
        process = self.server.process
        before = resident(process, "VmRSS")
        peak_forget(process)
        begun = time.monotonic()
        size = sum(self.client.ask(command) for command in commands)
        time.sleep(rest_s)
        took_s = time.monotonic() - begun
        waited_s, count = self.waits()
        row = {"name": name, "took_s": took_s, "bytes": size, "waited_s": waited_s, "noops": count, "rss_before": before,
               "rss_most": resident(process, "VmHWM"), "rss_after": resident(process, "VmRSS"), "turn_s": longest_turn_s(self.server)}
        self.rows.append(row)
        print(f"{name:32} {took_s:8.3f} s {size / 1e6:8.2f} MB   others wait {waited_s * 1e3:7.1f} ms ({count:6} NOOPs)   RSS "
              f"{before / 1048576:5.0f} {row['rss_most'] / 1048576:5.0f} {row['rss_after'] / 1048576:5.0f} MiB   longest turn so far "
              f"{row['turn_s'] * 1e3:6.1f} ms", flush=True)


def measure(measured, arguments):
    many = arguments.messages
    measured.ask("nothing, for 3 s", rest_s=3)
    measured.ask("SELECT", "SELECT INBOX")
    measured.ask("SELECT again", "SELECT INBOX")
    measured.ask("STATUS", "STATUS INBOX (MESSAGES UNSEEN SIZE UIDNEXT)")
    measured.ask("FETCH 1:* (FLAGS)", "FETCH 1:* (FLAGS)")
    measured.ask("UID FETCH of the last 50, envelopes", f"UID FETCH {max(1, many - 49)}:{many} (UID FLAGS ENVELOPE)")
    measured.ask("UID FETCH of 50 in the middle", f"UID FETCH {many // 2}:{many // 2 + 49} (UID FLAGS BODY.PEEK[])")
    measured.ask("SEARCH UNSEEN", "SEARCH UNSEEN")
    measured.ask("SEARCH ALL", "SEARCH ALL")
    measured.ask("SEARCH RETURN (SAVE) ALL", "SEARCH RETURN (SAVE) ALL")
    for again in ("", ", again"):
        measured.ask("SEARCH FROM" + again, "SEARCH FROM p0042@")
        measured.ask("SEARCH BODY" + again, f"SEARCH BODY {RARE}")
        measured.ask("SORT (DATE)" + again, "SORT (DATE) UTF-8 ALL")
        measured.ask("SORT (SUBJECT)" + again, "SORT (SUBJECT) UTF-8 ALL")
        measured.ask("SORT (REVERSE ARRIVAL)" + again, "SORT (REVERSE ARRIVAL) UTF-8 ALL")
        measured.ask("THREAD REFERENCES" + again, "THREAD REFERENCES UTF-8 ALL")
    if arguments.index:
        wait_for_index(measured.server, many)
        measured.ask("SEARCH FROM, index whole", "SEARCH FROM p0042@")
        measured.ask("SEARCH BODY, index whole", f"SEARCH BODY {RARE}")


def wait_for_index(server, messages):
    begun = time.monotonic()
    with open(os.path.join(server.folder, "log")) as log:
        said = ""
        while f"has {messages} texts" not in said:
            said = said[-200:] + log.read()
            if time.monotonic() - begun > 60 + messages / 20:
                fail(f"{messages} messages were not indexed in {time.monotonic() - begun:.0f} s")
            time.sleep(0.2)
    print(f"{'the index':32} {time.monotonic() - begun:8.1f} s", flush=True)


def main(words):
    parser = argparse.ArgumentParser(prog="bench/mailbox million", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1000000)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--index", action="store_true", help="wait for the index of texts, which takes an hour, and search once more")
    parser.add_argument("--json")
    parser.add_argument("--build", default="build")
    arguments = parser.parse_args(words)
    build = os.path.join(TOP, arguments.build)
    ports_need(LMTP, IMAP)
    folder = fresh(build, "mailbox-bench")
    server = Tubepost(folder, build, Needs(index=True))
    try:
        with server.running(2):
            begun, empty = time.monotonic(), resident(server.process, "VmRSS")
            fill(arguments)
            took_s, full = time.monotonic() - begun, resident(server.process, "VmRSS")
            print(f"filled with {arguments.messages} in {took_s:.1f} s, {arguments.messages / took_s:,.0f}/s; RSS {empty / 1048576:.0f}, then "
                  f"{full / 1048576:.0f} MiB", flush=True)
            ours, theirs = multiprocessing.Pipe()
            beside = multiprocessing.Process(target=others, args=(theirs,), daemon=True)
            beside.start()
            measured = Measured(server, ours, Client(user(0)))
            measure(measured, arguments)
            ours.send("end")
            beside.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(measured.rows, file, indent=1)
