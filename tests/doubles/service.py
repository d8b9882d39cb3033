"""A whole server on a reactor in memory: real files below a directory of the test, no connections, no threads."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.testing import MemoryReactorClock

from mta.cli.demo import Ports, write_demo
from mta.service.parent import Parent
from mta.service.pools import Pools
from mta.settings.reader import load
from mta.settings.sections import Settings
from tests.doubles.sync import inline, result


def inline_pools(reactor: Any = None, passwords: int = 0) -> Pools:
    """Pools whose work is done at once."""
    return Pools(inline, inline, inline, lambda: defer.succeed(None))


def demonstration(root: Path, toml: str = "") -> Settings:
    """Write and load the demonstration, with `toml` added, logging to ``log``."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = Ports(*(probe.getsockname()[1] for probe in probes))
    write_demo(root, "example.test", ports)
    file = root / "etc/mta.toml"
    unchecked = '[mailauth]\ntrusted_networks = ["0.0.0.0/0", "::/0"]\n'  # there are no name servers
    file.write_text(file.read_text() + f'[log]\nfile = "{root}/log"\n' + unchecked + toml)
    return load(str(file))


class MemoryServer:
    """A `Parent` whose settings are a demonstration."""

    def __init__(self, root: Path, settings: Settings, pools: Callable[[Any, int], Pools] = inline_pools) -> None:
        self.root = root
        self.file = root / "etc/mta.toml"
        self.clock = MemoryReactorClock()
        self.parent: Any = Parent(str(self.file), settings, self.clock, pools)

    def start(self) -> None:
        """Start it. Its sockets are handed to a reactor that listens on none."""
        before = os.umask(0o077)
        try:
            self.parent.privilegedStartService()
            self.parent.startService()
        finally:
            os.umask(before)

    def change(self, old: str, new: str) -> None:
        """Change its file."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def reload(self) -> list[str]:
        """Reload it; gives what needs a restart."""
        changed: list[str] = result(self.parent.reload())
        return changed

    def log(self) -> str:
        """What it has logged."""
        self.clock.advance(0)
        return (self.root / "log").read_text()
