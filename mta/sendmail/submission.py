"""The client's side of the local socket: a message for all its recipients, or for none.

A recipient that is refused keeps the whole message from being sent: the program is told at once, and there is no
bounce and no half of a message that it would send again.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mta.sendmail.exits import (
    EX_DATAERR,
    EX_NOHOST,
    EX_NOPERM,
    EX_NOUSER,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    Ended,
)
from mta.smtp.writer import Stuffed

_SECONDS = 300.0
"""For a reply (RFC 5321 §4.5.3.2)."""
_SECONDS_AT_END = 600.0
"""For the reply to the end of the data."""
_SECONDS_TO_PART = 5.0
"""For the reply to QUIT."""
_TOGETHER = 100
"""RCPT commands sent before their replies are read: both fit into the kernel's buffers."""

_STATUSES = {
    "1.1": EX_NOUSER,
    "1.2": EX_NOHOST,
    "1.3": EX_USAGE,
    "1.7": EX_USAGE,
    "1.10": EX_NOHOST,
    "6": EX_DATAERR,
    "7.1": EX_NOPERM,
}
"""Of an enhanced status code (RFC 3463), without its class: how the command ends."""


class Answer(NamedTuple):
    """A reply: its code, and the text of its lines."""

    code: int
    lines: list[str]

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 2034); empty where there is none."""
        first = self.lines[0].partition(" ")[0]
        return first if first[:2] in ("2.", "4.", "5.") else ""

    @property
    def text(self) -> str:
        """One line for people, without codes."""
        words = " ".join(line.removeprefix(f"{self.status} ") for line in self.lines)
        return "".join(each if each.isprintable() else "?" for each in words)


class Submission:
    """One connection. Every method raises Ended where it does not go on."""

    def __init__(self, path: str, show: Callable[[str], None] = lambda line: None) -> None:
        self._show = show
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(path)
        except OSError as error:
            why = error.strerror or error
            raise Ended(f"no mail server answers at {path} ({why}); nothing was sent", EX_TEMPFAIL) from None
        self._replies = self._socket.makefile("rb")
        self._expect(self._read(), "")
        hello = self._expect(self._command("EHLO localhost"), "")
        words = dict(line.partition(" ")[::2] for line in hello.lines[1:])
        self.domain = words.get("XORIGIN") or hello.lines[0].partition(" ")[0]
        """What is put behind a name without a domain."""

    def send(self, sender: str, recipients: Sequence[str], content: bytes) -> str:
        """Send a message with CRLF at its line ends; return what the server says of it."""
        parameters = f" SIZE={len(content)}"
        if not content.isascii():
            parameters += " BODY=8BITMIME"
        if not all(map(str.isascii, (sender, *recipients))):
            parameters += " SMTPUTF8"
        self._expect(self._command(f"MAIL FROM:<{sender}>{parameters}"), sender)
        for start in range(0, len(recipients), _TOGETHER):
            some = recipients[start : start + _TOGETHER]
            for each in some:
                self._write(f"RCPT TO:<{each}>")
            answers = [self._read() for _ in some]
            for each, answer in zip(some, answers, strict=True):
                self._expect(answer, each)
        self._expect(self._command("DATA"), "", 354)
        try:
            for octets in Stuffed(content):
                self._socket.sendall(octets)
        except OSError as error:
            raise _lost(error) from None
        self._socket.settimeout(_SECONDS_AT_END)
        return self._expect(self._read(), "").text

    def close(self) -> None:
        """Say goodbye, and wait for the answer a moment; nothing depends on it."""
        self._socket.settimeout(_SECONDS_TO_PART)
        try:
            self._socket.sendall(b"QUIT\r\n")
            self._replies.read()
        except OSError:
            return
        finally:
            self._socket.close()

    def _command(self, line: str) -> Answer:
        self._write(line)
        return self._read()

    def _write(self, line: str) -> None:
        self._show(f">>> {line}")
        try:
            self._socket.sendall(line.encode("utf-8", "surrogateescape") + b"\r\n")
        except OSError as error:
            raise _lost(error) from None

    def _read(self) -> Answer:
        lines = []
        while True:
            try:
                line = self._replies.readline(4096).decode("utf-8", "replace").rstrip()
            except OSError as error:
                raise _lost(error) from None
            if not line[:3].isdecimal() or len(line) < 3:
                raise Ended("the mail server hung up; nothing was sent", EX_TEMPFAIL)
            self._show(f"<<< {line}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Answer(int(line[:3]), lines)

    def _expect(self, answer: Answer, about: str, wanted: int = 2) -> Answer:
        if answer.code == wanted or answer.code // 100 == wanted:
            return answer
        self.close()
        about = f"<{about}>: " if about and f"<{about}>" not in answer.text else ""
        codes = f"{answer.code} {answer.status}".rstrip()
        raise Ended(f"{about}{answer.text} ({codes}); nothing was sent", _exit_status(answer))


def _exit_status(answer: Answer) -> int:
    if answer.code < 500:
        return EX_TEMPFAIL
    subject = answer.status.partition(".")[2]
    return _STATUSES.get(subject) or _STATUSES.get(subject.partition(".")[0]) or EX_UNAVAILABLE


def _lost(error: OSError) -> Ended:
    return Ended(f"the connection to the mail server was lost: {error.strerror or error}", EX_TEMPFAIL)
