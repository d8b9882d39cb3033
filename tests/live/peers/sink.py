"""A small SMTP server that keeps what it is given: the far end of a relay, in a thread."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass

OFFERS = (b"PIPELINING", b"8BITMIME", b"SIZE 100000000", b"ENHANCEDSTATUSCODES")


@dataclass(frozen=True, slots=True)
class Received:
    """A mail object as it came: reverse-path and forward-paths without brackets, content without its dots."""

    reverse_path: bytes
    forward_paths: tuple[bytes, ...]
    content: bytes


class _Session(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        with self.server.counting:
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)
        try:
            self._converse()
        finally:
            with self.server.counting:
                self.server.open -= 1

    def _converse(self) -> None:
        reverse_path, forward_paths = b"", []
        self._say(b"220 sink.test ESMTP")
        while line := self.rfile.readline():
            verb, argument = line[:4].upper(), line.rstrip(b"\r\n")
            if verb == b"EHLO":
                self._say(*(b"250-" + text for text in (b"sink.test", *OFFERS)), b"250 HELP")
            elif verb == b"MAIL":
                reverse_path, forward_paths = _path(argument), []
                self._say(b"250 2.1.0 sender")
            elif verb == b"RCPT":
                refusal = self.server.refusals.get(_path(argument))
                if refusal is None:
                    forward_paths.append(_path(argument))
                self._say(refusal or b"250 2.1.5 recipient")
            elif verb == b"DATA" and forward_paths:
                self._say(b"354 go on")
                content = self._content()
                if content is None:
                    return
                self.server.gate.wait(60)
                self.server.received.append(Received(reverse_path, tuple(forward_paths), content))
                self._say(b"250 2.0.0 kept")
            elif verb == b"QUIT":
                self._say(b"221 2.0.0 bye")
                return
            else:
                self._say(b"503 5.5.1 no" if verb == b"DATA" else b"250 2.0.0 fine")

    def _say(self, *lines: bytes) -> None:
        self.wfile.write(b"".join(line + b"\r\n" for line in lines))

    def _content(self) -> bytes | None:
        lines: list[bytes] = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None  # gone before the end of data: nothing was received
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)


class Sink(socketserver.ThreadingTCPServer):
    """Listens on 127.0.0.1 from construction on, on a free port unless one is given; `with` ends it.

    `refusals` maps a forward-path to the reply that it gets instead of 250. While `gate` is not set, the end of data is
    not answered. `most` connections were open at once.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, refusals: Mapping[bytes, bytes] | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Session)
        self.port: int = self.server_address[1]
        self.refusals = dict(refusals or {})
        self.received: list[Received] = []
        self.gate = threading.Event()
        self.gate.set()
        self.counting = threading.Lock()
        self.open = self.most = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_close(self) -> None:
        """Stop the loop, then close the socket."""
        self.shutdown()
        super().server_close()


def _path(argument: bytes) -> bytes:
    return argument.partition(b"<")[2].partition(b">")[0]
