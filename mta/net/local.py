"""The local socket: connections of which the kernel tells which user of this machine made them (SO_PEERCRED, unix(7)).

The credentials are those at the time of connect(2), so a program that changes its user later stays who it was. To
everything that counts or judges by address the peer is 127.0.0.1, as local mail is for Postfix's milters; connections
are counted for each user.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import protocol, tcp, unix

from mta.net.server import SMTPServerFactory

LOOPBACK = "127.0.0.1"

_UCRED = struct.Struct("3i")
"""``struct ucred``: pid, uid, gid."""


def peer_uid(connection: socket.socket) -> int:
    """The user who made a connection to a UNIX socket of ours. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    uid: int = _UCRED.unpack(credentials)[1]
    return uid


class LocalServerFactory(SMTPServerFactory):
    """Makes sessions of users of this machine."""

    def buildProtocol(self, addr: Any) -> protocol.Protocol:
        """Take a connection; who made it is known when there is a transport."""
        return _Unknown(self)


class _Unknown(protocol.Protocol):
    """A connection whose user is not known yet; gives way to a session, or to a word and the end."""

    def __init__(self, factory: LocalServerFactory) -> None:
        self._sessions = factory

    def makeConnection(self, transport: Any) -> None:
        """Ask the kernel."""
        known = self._sessions.session(LOOPBACK, 0, peer_uid(transport.socket))
        transport.protocol = known
        known.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted has not annotated it


class LocalPort(unix.Port):
    """A listening UNIX socket that several processes have: none of them removes its name."""

    def connectionLost(self, reason: Any) -> None:
        """Close it, as a TCP port is closed."""
        tcp.Port.connectionLost(self, reason)  # type: ignore[no-untyped-call]  # Twisted has not annotated it


def adopt(reactor: Any, listening: socket.socket, factory: LocalServerFactory) -> LocalPort:
    """Accept connections on a socket that was made elsewhere, as ``adoptStreamPort`` does."""
    port: LocalPort = LocalPort._fromListeningDescriptor(reactor, listening.fileno(), factory)  # type: ignore[no-untyped-call]
    port.startListening()  # type: ignore[no-untyped-call]
    return port
