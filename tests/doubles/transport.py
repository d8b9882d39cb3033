"""A server's transport in memory: what was written, and what was done to the connection, in order."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport


class ServerTransport(StringTransport):
    """Records writes one by one in `writes`; `calls` names everything else that happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.calls: list[str] = []
        self.paused = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.writes.append(data)
        super().write(data)

    def take(self) -> bytes:
        """Return what was written since the last time."""
        written = self.value()
        self.clear()
        return written

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note it."""
        self.calls.append("nodelay")

    def startTLS(self, context: Any) -> None:
        """Note it."""
        self.calls.append("starttls")

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Read again."""
        self.paused = False

    def loseConnection(self) -> None:
        """Note it."""
        self.calls.append("lose")
        super().loseConnection()

    def abortConnection(self) -> None:
        """Note it."""
        self.calls.append("abort")


class SocketTransport(ServerTransport):
    """A transport whose socket takes only `space` octets directly, as Twisted's own tells by `writeSomeData`."""

    def __init__(self, space: int = 1 << 20) -> None:
        super().__init__()
        self.space = space
        self.direct = b""
        self.gone = False

    def writeSomeData(self, data: bytes) -> int | Exception:
        """Take what there is space for."""
        if self.gone:
            return ConnectionLost()
        taken = data[: self.space]
        self.space -= len(taken)
        self.direct += taken
        return len(taken)
