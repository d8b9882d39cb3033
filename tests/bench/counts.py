"""Counts what the core does for a message, so that a slow-down is seen without a clock (`make bench-check`).

Counted are calls: of our functions, and of built-in ones from our functions. They are the same on every machine, and
differ between versions of Python alone, so each has numbers of its own in `counts.json`. More than `TOLERANCE` above
them fails; who makes it faster, or has a reason to make it slower, writes them anew with ``--write``.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.internet import task

from mta.disk.posix import PosixDisk
from mta.observe.history import History, Keep
from mta.observe.journal import Journal
from mta.observe.log import Log, key_value
from mta.smtp.command import parse_mail
from mta.smtp.event import NEED_DATA, Connected, Data, EndOfData, Hello, Mail, Rcpt
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reader import DataReader
from mta.smtp.reply import Reply
from mta.smtp.server import ServerSession
from mta.spool.shard import open_spool
from tests.doubles.reception import Post, etc
from tests.doubles.spool import message
from tests.doubles.sync import inline, result

TOLERANCE = 0.03
STORED = Path(__file__).with_name("counts.json")
_OURS = str(Path(__file__).resolve().parents[2] / "mta")

LINES = (b"x" * 72 + b"\r\n") * 55
MESSAGE = (
    b"From: <sender@client.test>\r\nTo: <list@client.test>\r\nSubject: benchmark message\r\n"
    b"Date: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <benchmark@client.test>\r\n\r\n" + LINES
)
DIALOGUE = (
    b"MAIL FROM:<sender@client.test>\r\n",
    b"RCPT TO:<alice@example.test>\r\n",
    b"DATA\r\n",
    MESSAGE + b".\r\n",
)


def calls(work: Callable[[], object], times: int) -> float:
    """Count the calls of one time, after a first that does not count."""
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(_OURS):
            count += 1

    work()
    sys.setprofile(profile)
    try:
        for _ in range(times):
            work()
    finally:
        sys.setprofile(None)
    return round(count / times, 1)


def data_reader() -> Callable[[], object]:
    """The content of a message, in reads of 4 KiB."""
    octets = LINES * 16 + b".\r\n"

    def work() -> None:
        reader = DataReader(1 << 30, False)
        for start in range(0, len(octets), 4096):
            reader.receive(octets[start : start + 4096])

    return work


def command() -> Callable[[], object]:
    """A MAIL command with parameters."""
    offer, limits = Offer(), Limits()
    return lambda: parse_mail(b"FROM:<sender@client.test> SIZE=4096 BODY=8BITMIME", offer, limits)


def dialogue() -> Callable[[], object]:
    """The protocol alone: one message in a session, every event accepted."""
    session = ServerSession("mx.example.test", Offer(), Limits())
    fine, start = Reply(250, None, ("fine",)), Reply(354, None, ("go on",))

    def work() -> None:
        for octets in (b"EHLO client.test\r\n", *DIALOGUE):
            session.receive(octets)
            while (event := session.next_event()) is not NEED_DATA:
                if isinstance(event, Connected | Hello | Mail | Rcpt | EndOfData):
                    session.reply(fine)
                elif isinstance(event, Data):
                    session.reply(start)
            session.output()

    return work


def received(root: Path, stack: ExitStack) -> Callable[[], object]:
    """The whole of mx for one message: protocol, rules, staging, Maildir, log and history."""
    clock = task.Clock()
    post = Post(etc(root))
    journal = Journal(lambda: 1.7e9, [])
    history = History(str(root / "history"), "0", clock, journal, Keep(1e6, 1 << 30))
    stack.callback(history.close)
    post.journal.sinks[:] = [Log(io.BytesIO(), lambda function: None, key_value), history]
    talk = post.session()

    def work() -> None:
        for octets in DIALOGUE:
            talk.send(octets)

    return work


def spool(root: Path, stack: ExitStack) -> Callable[[], object]:
    """The commit of a message for the queue."""
    opened, _ = open_spool(str(root / "spool"), 0, PosixDisk(), inline, lambda *_: None, 0.0, 1e6)
    stack.callback(opened.close)
    number = iter(range(1 << 30))

    def work() -> None:
        result(opened.insert(message(f"{next(number):018}")))

    return work


def counted() -> dict[str, float]:
    """Count everything."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        root = Path(place)
        return {
            "data reader, 64 KiB": calls(data_reader(), 20),
            "command parser, MAIL": calls(command(), 100),
            "session, one message": calls(dialogue(), 50),
            "mx, one message": calls(received(root, stack), 50),
            "spool, one insert": calls(spool(root, stack), 50),
        }


def judge(found: dict[str, float], stored: dict[str, float]) -> list[str]:
    """Say what has become slower; empty: nothing has."""
    return [
        f"{name}: {count:g} calls, {stored[name]:g} are stored"
        for name, count in found.items()
        if name in stored and count > stored[name] * (1 + TOLERANCE)
    ]


def main() -> None:
    """Compare with what is stored, or store."""
    parser = argparse.ArgumentParser(prog="make bench-check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="store what is counted now")
    options = parser.parse_args()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stored: dict[str, dict[str, float]] = json.loads(STORED.read_text()) if STORED.exists() else {}
    found = counted()
    for name, count in found.items():
        before = stored.get(version, {}).get(name)
        print(f"{name:24} {count:8.1f} calls{'' if before is None else f', {count / before - 1:+.1%}'}")
    if options.write:
        STORED.write_text(json.dumps(stored | {version: found}, indent=1) + "\n")
        return
    slower = judge(found, stored.get(version, {}))
    if slower:
        sys.exit("slower than before:\n" + "\n".join(slower))


if __name__ == "__main__":
    main()
