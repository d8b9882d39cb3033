"""New certificate files are used by themselves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mta.observe.event import Event, Kind
from mta.observe.journal import Journal
from mta.service.certificates import LOOK_SECONDS, CertificateWatch
from mta.settings.sections import TlsSettings
from mta.tls.certificate import make_self_signed, read_identity
from tests.doubles.service import MemoryServer, demonstration
from tests.doubles.sync import result


class Watched:
    """Two files, the watch over them, and what was read of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = TlsSettings(str(root / "certificate.pem"), str(root / "key.pem"))
        self.write("first.example")
        self.clock = Clock()
        self.events: list[Event] = []
        self.used: list[str] = []
        journal = Journal(time.time, [self.events.append])
        self.watch = CertificateWatch(lambda: self.settings, self.reload, journal, self.clock)
        self.watch.start()

    def write(self, name: str) -> None:
        """Put new files in place, as a deploy hook does."""
        for path, octets in zip(("certificate.pem", "key.pem"), make_self_signed([name], time.time(), 9), strict=True):
            (self.root / f"{path}.new").write_bytes(octets)
            (self.root / f"{path}.new").rename(self.root / path)

    def reload(self, settings: TlsSettings) -> None:
        """What the worker does."""
        identity = read_identity(settings.certificate, settings.key)
        self.used.append(identity.certificates[0].subject.rfc4514_string())

    def look(self) -> list[Kind]:
        """Let a minute pass; gives what was noted."""
        before = len(self.events)
        self.clock.advance(LOOK_SECONDS)
        return [event.kind for event in self.events[before:]]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """A certificate for first.example."""
    return Watched(tmp_path)


def test_files_that_stay_are_not_read_again(watched: Watched) -> None:
    """Minutes pass and nothing happens: sessions are resumed by tickets, which a new context ends."""
    assert [watched.look(), watched.look()] == [[], []]
    assert watched.used == []


def test_new_files_are_used_and_said(watched: Watched) -> None:
    """Within a minute, once, with the file and the end of the certificate."""
    watched.write("second.example")
    assert watched.look() == [Kind.CERTIFICATE_LOADED]
    assert watched.used == ["CN=second.example"]
    assert watched.look() == []
    fields = watched.events[-1].fields
    assert fields["file"] == watched.settings.certificate
    end = read_identity(watched.settings.certificate, watched.settings.key).certificates[0].not_valid_after_utc
    assert fields["until"] == end.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_broken_files_keep_the_old_ones_and_are_said_once(watched: Watched) -> None:
    """What cannot be read is tried at each look, told once, and used when it is whole."""
    key = watched.root / "key.pem"
    old = key.read_bytes()
    key.write_text("half a key")
    assert watched.look() == [Kind.CERTIFICATE_REFUSED]
    assert watched.look() == []
    reason = watched.events[-1].reason
    assert reason is not None
    assert reason.text.startswith(f"the one in use stays: {key}: expected a private key")
    assert watched.used == []
    key.write_bytes(old)
    assert watched.look() == [Kind.CERTIFICATE_LOADED]


def test_a_certificate_whose_key_comes_later(watched: Watched) -> None:
    """Between the two they do not fit; then they do."""
    key = (watched.root / "key.pem").read_bytes()
    watched.write("second.example")
    new, _ = (watched.root / "key.pem").read_bytes(), (watched.root / "key.pem").write_bytes(key)
    assert watched.look() == [Kind.CERTIFICATE_REFUSED]
    (watched.root / "key.pem").write_bytes(new)
    assert watched.look() == [Kind.CERTIFICATE_LOADED]
    assert watched.used == ["CN=second.example"]


def test_a_link_is_followed(watched: Watched) -> None:
    """Certbot renews by pointing a link at another file."""
    for name in ("certificate.pem", "key.pem"):
        (watched.root / name).rename(watched.root / f"{name}.1")
        (watched.root / name).symlink_to(f"{name}.1")
    assert watched.look() == []
    for name, octets in zip(("certificate", "key"), make_self_signed(["third.example"], time.time(), 9), strict=True):
        (watched.root / f"{name}.pem.2").write_bytes(octets)
        (watched.root / f"{name}.pem").unlink()
        (watched.root / f"{name}.pem").symlink_to(f"{name}.pem.2")
    assert watched.look() == [Kind.CERTIFICATE_LOADED]
    assert watched.used == ["CN=third.example"]


def test_files_that_are_gone_change_nothing(watched: Watched) -> None:
    """The old certificate goes on; the loss is said."""
    (watched.root / "certificate.pem").unlink()
    assert watched.look() == [Kind.CERTIFICATE_REFUSED]


def test_other_files_after_a_reload_of_the_settings(watched: Watched) -> None:
    """The files that [tls] names now are those that are looked at; without any there is nothing to do."""
    watched.settings = TlsSettings()
    assert watched.look() == []


def test_it_stops(watched: Watched) -> None:
    """Nothing is left on the clock."""
    watched.watch.stop()
    assert watched.clock.getDelayedCalls() == []


def test_a_running_server_uses_new_files(tmp_path: Path) -> None:
    """Within a minute the worker makes its TLS connections from them; a stop ends the looking."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    before = server.parent._worker._listeners.tls.context()
    server.clock.advance(LOOK_SECONDS)
    assert server.parent._worker._listeners.tls.context() is before
    for name, octets in zip(("certificate", "key"), make_self_signed(["new.test"], time.time(), 9), strict=True):
        (tmp_path / f"etc/tls/{name}.pem").write_bytes(octets)
    server.clock.advance(LOOK_SECONDS)
    assert server.parent._worker._listeners.tls.context() is not before
    assert "certificate.loaded level=notice" in server.log()
    result(server.parent.stopService())
