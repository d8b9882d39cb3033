"""Connections to the local socket, and who made them."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from twisted.internet import task

from mta.board.alone import Alone
from mta.net.admission import Admission, Bounds
from mta.net.local import LocalServerFactory, peer_uid
from mta.net.peer import Peer
from mta.net.rules import Answer
from mta.observe.event import Kind
from mta.smtp.event import Event
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import reply
from mta.smtp.server import ServerSession
from tests.doubles.journal import RecordingJournal
from tests.doubles.transport import ServerTransport

UID = 4711


class Greets:
    """Rules that greet."""

    def answer(self, event: Event) -> Answer:
        """Say hello to everything."""
        return reply(220, None, "hello")

    def secured(self, tls: object, reason: object) -> None:
        """Never told."""

    def lost(self, reason: object) -> None:
        """Told of the end."""


class Credentials:
    """A socket whose other end belongs to `UID`."""

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        """Tell pid, uid and gid."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_PEERCRED)
        return struct.pack("3i", 1, UID, 2)


class Local:
    """A factory, and connections to it from this process."""

    def __init__(self, per_user: int) -> None:
        self.clock = task.Clock()
        self.journal = RecordingJournal(self.clock.seconds)
        self.peers: list[Peer] = []
        admission = Admission(lambda service: Bounds(10, 10, per_user), Alone())

        def opened(peer: Peer, session: ServerSession) -> Greets:
            self.peers.append(peer)
            return Greets()

        self.factory = LocalServerFactory(
            "local",
            self.clock,
            self.journal,
            admission,
            lambda: ServerSession("mx.example.test", Offer(), Limits()),
            lambda: "session1",
            opened,
            None,  # type: ignore[arg-type]  # never asked
        )

    def connect(self) -> ServerTransport:
        """Make a connection as Twisted does."""
        transport = ServerTransport()
        transport.socket = Credentials()  # type: ignore[attr-defined]  # as that of Twisted's UNIX server
        self.factory.buildProtocol(None).makeConnection(transport)
        return transport


def test_the_kernel_tells_who_calls(tmp_path: Path) -> None:
    """The uid of a connection to a named socket is that of the process that connected."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(path)
            accepted, _ = listening.accept()
            with accepted:
                assert peer_uid(accepted) == os.getuid()


def test_a_session_knows_its_user() -> None:
    """The session of a connection has the user's uid and the address 127.0.0.1, and takes the transport over."""
    local = Local(per_user=10)
    transport = local.connect()
    assert transport.take() == b"220 hello\r\n"
    assert [(peer.uid, peer.address, peer.counted_as) for peer in local.peers] == [
        (UID, "127.0.0.1", f"unix:{UID}")
    ]
    assert transport.protocol in local.factory.sessions  # type: ignore[attr-defined]


def test_connections_are_counted_for_each_user() -> None:
    """A user with too many connections gets 421, is noted, and may come again when one has ended."""
    local = Local(per_user=1)
    first = local.connect()
    assert local.connect().take().startswith(b"421 4.7.0")
    assert f"unix:{UID}" in str(local.journal.of(Kind.SESSION_REFUSED)[0].reason)
    first.protocol.connectionLost()  # type: ignore[attr-defined]
    assert local.connect().take() == b"220 hello\r\n"
