"""Fixtures of the live tests: our daemon and real peers, each in directories of its own, on free loopback ports."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.live.peers import package
from tests.live.peers.daemon import DOMAIN, Daemon
from tests.live.peers.dovecot import Dovecot
from tests.live.peers.postfix import Postfix
from tests.live.peers.process import free_ports, unavailable


@pytest.fixture(scope="session")
def debian_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our Debian package, built once for all who install it."""
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that other users can enter: pytest's own are closed to the users that peers become."""
    directory = Path(tempfile.mkdtemp(prefix="mta-live-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


class StartDaemon(Protocol):
    """Makes a demonstration, starts it, and stops it when the module's tests are done."""

    def __call__(self, settings: dict[str, Any] | None = None, domain: str = DOMAIN) -> Daemon:
        """As `Daemon` takes them."""
        ...


@pytest.fixture(scope="module")
def start_daemon(place: Path) -> Iterator[StartDaemon]:
    """Start daemons with settings of the test's own."""
    with ExitStack() as stack:
        count = 0

        def start(settings: dict[str, Any] | None = None, domain: str = DOMAIN) -> Daemon:
            nonlocal count
            count += 1
            daemon = Daemon(place / f"daemon{count}", settings, domain)
            stack.callback(daemon.stop)
            daemon.start()
            return daemon

        yield start


@pytest.fixture(scope="module")
def daemon(start_daemon: StartDaemon) -> Daemon:
    """Our server as `mta init --demo` makes it, one for all tests of a module."""
    return start_daemon()


@pytest.fixture(scope="module")
def postfix(place: Path) -> Iterator[Postfix]:
    """A Postfix that accepts mail for carol@postfix.test."""
    peer = Postfix(place / "postfix", free_ports(1)[0], "postfix.test", ["carol"])
    yield peer
    peer.stop()


@pytest.fixture
def dovecot(daemon: Daemon, place: Path) -> Iterator[Dovecot]:
    """Dovecot beside the daemon: its accounts, its Maildirs."""
    mail = daemon.directory / "var/mail"
    if mail.stat().st_uid == 0:
        unavailable("a Python that nobody can run (Dovecot serves no mail of root's)")
    peer = Dovecot(place / "dovecot", free_ports(1)[0], daemon.directory / "etc", mail)
    yield peer
    peer.stop()
