"""The command's side of the local socket, against a server that says what it is told to."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from mta.sendmail.exits import Ended
from mta.sendmail.submission import Submission

HELLO = ["220 mx.example.org ESMTP", "250-mx.example.org\r\n250 XORIGIN example.org"]
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"


class Server:
    """Says its lines, one for each line that comes; content counts as one."""

    def __init__(self, path: str, replies: list[str]) -> None:
        self.heard: list[bytes] = []
        self._replies = replies
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection, connection.makefile("rb") as lines:
            for reply in self._replies:
                connection.sendall(reply.encode() + b"\r\n")
                while (line := lines.readline()) not in (b".\r\n", b"") and reply.startswith("354"):
                    self.heard.append(line)
                self.heard.append(line)

    def end(self) -> None:
        """Wait for the end."""
        self._thread.join(30)
        self._listening.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The path of a socket."""
    return str(tmp_path / "s")


def submitted(
    path: str, replies: list[str], recipients: list[str], content: bytes = CONTENT
) -> tuple[str, list[bytes]]:
    """Submit to a server with these replies; what it said at the end, and what it heard."""
    server = Server(path, [*HELLO, *replies])
    try:
        submission = Submission(path)
        assert submission.domain == "example.org"
        said = submission.send("a@example.org", recipients, content)
        submission.close()
    finally:
        server.end()
    return said, server.heard


def test_a_message_is_handed_over(path: str) -> None:
    """Sender, recipients and content come as SMTP has them, dots stuffed."""
    said, heard = submitted(path, ["250 ok", "250 ok", "250 ok", "354 go", "250 2.0.0 queued as 1"], ["b@x", "c@x"])
    assert said == "queued as 1"
    assert heard == [
        b"EHLO localhost\r\n",
        b"MAIL FROM:<a@example.org> SIZE=20\r\n",
        b"RCPT TO:<b@x>\r\n",
        b"RCPT TO:<c@x>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n",
        b"\r\n",
        b"..dot\r\n",
        b".\r\n",
        b"QUIT\r\n",
    ]


def test_what_is_not_ascii_is_announced(path: str) -> None:
    """8-bit content and addresses beyond ASCII are asked for with their parameters."""
    replies = ["250 ok", "250 ok", "354 go", "250 2.0.0 ok"]
    heard = submitted(path, replies, ["ü@x"], "Subject: ü\r\n".encode())[1]
    assert heard[1:3] == [b"MAIL FROM:<a@example.org> SIZE=13 BODY=8BITMIME SMTPUTF8\r\n", "RCPT TO:<ü@x>\r\n".encode()]


@pytest.mark.parametrize(
    ("replies", "status", "word"),
    [
        (["451 4.3.0 Later"], 75, "<a@example.org>: Later (451 4.3.0); nothing was sent"),
        (["553 5.7.1 <a@example.org>: not yours"], 77, "<a@example.org>: not yours (553 5.7.1)"),
        (["250 ok", "550 5.1.1 <b@x>: no such mailbox"], 67, "<b@x>: no such mailbox (550 5.1.1)"),
        (["250 ok", "550 5.1.2 No such domain"], 68, "<b@x>: No such domain"),
        (["250 ok", "250 ok", "354 go", "550 5.6.11 Bare CR"], 65, "Bare CR (550 5.6.11)"),
        (["250 ok", "250 ok", "354 go", "552 5.3.4 Too large"], 69, "Too large"),
        (["250 ok", "250 ok", "354 go", "452 4.3.1 Full"], 75, "Full"),
        (["552 no code \x1b[2J"], 69, "no code ?[2J (552)"),
        ([], 75, "hung up"),
    ],
)
def test_refusals_have_their_status(path: str, replies: list[str], status: int, word: str) -> None:
    """Each refusal ends with the status that sysexits has for it, and the server's words, made harmless."""
    with pytest.raises(Ended) as ended:
        submitted(path, replies, ["b@x"])
    assert word in str(ended.value)
    assert ended.value.status == status


def test_nobody_answers(path: str) -> None:
    """Without a server it is to be tried again."""
    with pytest.raises(Ended, match=r"no mail server answers at .*No such file.*nothing was sent") as ended:
        Submission(path)
    assert ended.value.status == 75
