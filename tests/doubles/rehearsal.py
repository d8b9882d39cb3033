"""A whole worker in memory, its real client, and where mail ends: what an explanation is compared with.

Files are real, below a directory of the test; time, names, connections and scripts are not.
"""

from __future__ import annotations

import base64
import os
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.testing import MemoryReactorClock

from mta.auth.verifier import make_scram_verifier
from mta.mail.tlsinfo import TlsInfo
from mta.policy.script_child import QUESTIONS, _verdicts, facts
from mta.service import outgoing, policies, worker
from mta.service.seat import Seat
from mta.service.sockets import Listening
from mta.settings.reader import load
from mta.spool.port import State
from mta.tls.certificate import make_self_signed
from tests.doubles.dns import ZoneResolver
from tests.doubles.etc import write_etc
from tests.doubles.journal import RecordingJournal
from tests.doubles.network import Network, SmtpPeer
from tests.doubles.processes import Child
from tests.doubles.service import inline_pools
from tests.doubles.sync import result

PASSWORD = "correct horse"
BASE = """\
hostname = "mx.example.test"
state = "{root}/state"
mail = "{root}/mail"
[tls]
certificate = "cert.pem"
key = "key.pem"
[dns]
nameservers = ["127.0.0.1"]
"""
"""What every configuration begins with; ``format`` puts a directory in place of ``root``."""
USERS = f"alice:{make_scram_verifier(PASSWORD, 4096, b'salt')}::::::\nbob:!::::::\ncarol:!::::::\n"
CERTIFICATE, KEY = make_self_signed(["mx.example.test"], 1_700_000_000, 30)
PATIENCE = 200
"""Seconds, or turns of the reactor, in which everything comes to its end."""


class Sink(SmtpPeer):
    """A server elsewhere, that takes everything; `address` is its own."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def took(self) -> Iterator[tuple[str, str]]:
        """What was sent to it, a report or other mail, and to whom, in order; all of it was taken."""
        number = -1
        for command in self.commands:
            if command.startswith("MAIL"):
                number += 1
            elif command.startswith("RCPT"):
                what = "report" if b"multipart/report" in self.messages[number] else "remote"
                yield what, command.partition("<")[2].partition(">")[0]


class _Child(Child):
    """A process that runs a script in this one, and answers in the next turn of the reactor."""

    def __init__(self, protocol: Any, clock: Any) -> None:
        super().__init__(protocol, 1000)
        self._clock = clock
        self._module: dict[str, Any] = {}

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """Take a question."""
        before = len(self.questions)
        super().writeToChild(descriptor, data)
        for question in self.questions[before:]:
            self._clock.callLater(0, self._answer, question)

    def _answer(self, question: Any) -> None:
        if "text" in question:
            exec(compile(question["text"], question["path"], "exec"), self._module)
            self.answer()
        else:
            name = question["function"]
            self.answer(verdicts=list(_verdicts(name, self._module[name](facts(question["facts"])))))

    def closeChildFD(self, descriptor: int) -> None:
        """End with the questions."""
        super().closeChildFD(descriptor)
        if descriptor == QUESTIONS and not self.exited:
            self.exited = True
            self._clock.callLater(0, self._end)

    def _end(self) -> None:
        self.exit()
        self.drain()


class _Processes:
    """See `mta.policy.script_process.Processes`."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def spawn(self, protocol: Any) -> Any:
        """Start one."""
        child = _Child(protocol, self._clock)
        protocol.makeConnection(child)
        return child

    def kill_group(self, pid: int) -> None:
        """Nothing."""


class _Tls:
    """TLS that is believed."""

    def context(self) -> None:
        """Nothing."""

    def describe(self, transport: object) -> TlsInfo:
        """As a modern client."""
        return TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


class _Transport:
    """The server's end of the client's connection."""

    def __init__(self) -> None:
        self.octets = b""
        self.closed = False
        self.tls = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.octets += data

    def startTLS(self, context: object) -> None:
        """Note it."""
        self.tls = True

    def loseConnection(self) -> None:
        """Note it."""
        self.closed = True

    abortConnection = loseConnection  # noqa: N815

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name == "writeSomeData":
            raise AttributeError(name)
        return lambda *_: None


@contextmanager
def directory() -> Iterator[Path]:
    """A directory in memory where there is one: syncs cost time on a disk."""
    below = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mta-", dir=below) as path:
        yield Path(path)


class World:
    """A worker with the configuration of one test, and sinks at `addresses`."""

    def __init__(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        toml: str,
        domains: Mapping[str, Mapping[str, str]],
        zone: str,
        addresses: Sequence[str],
        scripts: Mapping[str, str],
    ) -> None:
        self.root = root
        (root / "etc").mkdir()
        (root / "etc/cert.pem").write_bytes(CERTIFICATE)
        (root / "etc/key.pem").write_bytes(KEY)
        file = write_etc(root / "etc", toml, domains)
        (root / "etc/policy").mkdir()
        for name, text in scripts.items():
            (root / f"etc/policy/{name}.py").write_text(text)
        self.clock: Any = MemoryReactorClock()
        self.clock.advance(1_700_000_000)
        self.journal = RecordingJournal(self.clock.seconds)
        self.network = Network()
        for address in addresses:
            self.network.listen(address, lambda address=address: Sink(address))
        resolver = ZoneResolver(zone)
        monkeypatch.setattr(outgoing, "StubResolver", lambda transport, cache: resolver)
        monkeypatch.setattr(outgoing.Outgoing, "endpoint", staticmethod(self.network.endpoint))
        monkeypatch.setattr(policies, "SystemProcesses", _Processes)
        self.worker: Any = worker.Worker(Seat(), load(file), self.clock, self.journal, inline_pools())
        self.worker._listeners.tls = _Tls()
        self._sockets = {name: socket.socket() for name in ("mx", "smtpd")}
        self.worker.start([Listening(name, False, each, name) for name, each in self._sockets.items()])
        self.settle()

    def stop(self) -> None:
        """End it, and find no fault in what it noted."""
        stopped = defer.ensureDeferred(self.worker.stop())
        self.wait(stopped, 1.0)
        for each in self._sockets.values():
            each.close()
        faults = [event.fields["traceback"] for event in self.journal.events if event.kind.value == "fault"]
        assert not faults, faults[0]

    # Time

    def wait(self, waiting: defer.Deferred[Any], seconds: float = 0.0) -> Any:
        """Let turns of the reactor pass, `seconds` each, until a Deferred has fired; give what it brought."""
        for _ in range(PATIENCE):
            if waiting.called:
                break
            self.clock.advance(seconds)
            self.network.move()
        return result(waiting)

    def settle(self) -> None:
        """Let everything happen that happens at once."""
        for _ in range(10):
            self.clock.advance(0)
            self.network.move()

    # The two sides

    def explain(self, **letter: Any) -> dict[str, Any]:
        """Ask for an explanation. No time passes in it."""
        request = {**letter, "content": base64.b64encode(letter["content"]).decode()}
        before = self.clock.seconds()
        answer = self.wait(self.worker.commands["explain"](request))
        assert self.clock.seconds() == before
        (explanation,) = answer["explanations"]
        return dict(explanation)

    def ahead(self) -> Counter[tuple[str, ...]]:
        """Count the places that explanations of all messages in the queue give."""
        found: Counter[tuple[str, ...]] = Counter()
        for message in self.worker._spool.page():
            answer = self.wait(self.worker.commands["explain"]({"queue_id": message.queue_id}))
            found += expected(answer["explanations"][0])
        return found

    def bring(
        self,
        *,
        service: str,
        address: str,
        helo: str,
        sender: str,
        recipients: Sequence[str],
        content: bytes,
        login: str = "",
        tls: bool | None = None,
        sized: bool = True,
    ) -> list[str]:
        """Send a letter as a client does, one command after the other; gives all replies."""
        (factory,) = [each[2] for each in self.clock.adoptedPorts if each[2].name == service]
        server, transport, replies = factory.buildProtocol(IPv4Address("TCP", address, 4321)), _Transport(), []

        def reply() -> int:
            for seconds in [0] * 10 + [1] * PATIENCE:
                last = transport.octets.removesuffix(b"\r\n").rpartition(b"\r\n")[2]
                if transport.closed or (transport.octets.endswith(b"\r\n") and last[3:4] == b" "):
                    break
                self.clock.advance(seconds)
            said, transport.octets = transport.octets.decode(), b""
            replies.append(said)
            return int(said[:3] or 999)

        def say(octets: bytes) -> bool:
            if transport.closed:
                return False
            server.dataReceived(octets + b"\r\n")
            return reply() < 400

        def talk() -> None:
            server.makeConnection(transport)
            if reply() >= 400 or not say(b"EHLO " + helo.encode()):
                return
            if tls is not False and ("STARTTLS" in replies[-1] or tls) and say(b"STARTTLS"):
                server.handshakeCompleted()
                if not say(b"EHLO " + helo.encode()):
                    return
            offered = replies[-1] if "250" in replies[-1][:3] else replies[1]
            if login and not say(b"AUTH PLAIN " + base64.b64encode(f"\0{login}\0{PASSWORD}".encode())):
                return
            parameters = f" SIZE={len(content)}" if sized else ""
            parameters += "" if content.isascii() else " BODY=8BITMIME"
            utf8 = not all(each.isascii() for each in (sender, *recipients)) and "SMTPUTF8" in offered
            if not say(f"MAIL FROM:<{sender}>{parameters}{' SMTPUTF8' if utf8 else ''}".encode()):
                return
            accepted = [say(f"RCPT TO:<{each}>".encode()) for each in recipients]
            if any(accepted) and say(b"DATA"):
                lines = content.split(b"\r\n")
                say(b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".")

        talk()
        server.connectionLost()
        self.settle()
        return replies

    # Where mail is

    def landed(self) -> Counter[tuple[str, ...]]:
        """Count where mail is now: in Maildirs, at sinks, in the queue."""
        found: Counter[tuple[str, ...]] = Counter()
        for path in (self.root / "mail").glob("**/new/*"):
            what = "report" if b"multipart/report" in path.read_bytes() else "maildir"
            found[what, str(path.parent)] += 1
        for peer in self.network.peers:
            found.update((what, peer.address, to) for what, to in peer.took())
        for message in self.worker._spool.page():
            for queued in message.recipients:
                state = "held" if queued.state is State.HELD else "waits"
                found[state, str(queued.recipient.mailbox)] += 1
        return found


def expected(explanation: Mapping[str, Any]) -> Counter[tuple[str, ...]]:
    """Where an explanation says that mail will be. A message has one report, however many recipients failed."""
    found: Counter[tuple[str, ...]] = Counter()
    reported: dict[tuple[str, ...], None] = {}
    for place in explanation["recipients"]:
        if place["place"] == "report":
            ends = [each for each in place["report"] if each["place"] != "ended"]
            reported.update(dict.fromkeys(_where(each, "report") for each in ends))
        elif place["place"] != "ended":
            found[_where(place, place["place"])] += 1
    found.update(list(reported))
    return found


def _where(place: Mapping[str, Any], word: str) -> tuple[str, ...]:
    match place["place"]:
        case "maildir":
            return ("report" if word == "report" else "maildir", place["path"])
        case "remote":
            return ("report" if word == "report" else "remote", place["route"][0]["addresses"][0], place["recipient"])
    return (place["place"], place["recipient"])
