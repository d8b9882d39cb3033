"""The whole way of mail under power cuts: whoever got a 250 finds the message, and each mailbox gets it once.

Production code runs on a disk in memory that loses what was not synced and on the model of the spool. A power cut is
tried before every operation of disk and spool, in every state that the disk may be left in; then a new server starts on
what is left and empties the queue.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet import defer

from mta.board.alone import Alone
from mta.mail.outcome import Delivered, Outcome
from mta.mail.reason import Reason
from mta.maildir.store import MaildirStore, Ownership
from mta.observe.event import Kind
from mta.receive.commit import Commit, Committed
from mta.relay.bounce import Bouncer
from mta.relay.local import LocalDelivery
from mta.relay.queue import RelayQueue
from mta.settings.expansion import look_up
from mta.settings.sections import Settings
from mta.spool.content import Contents
from mta.spool.port import Content, Message, QueuedMessage, QueuedRecipient, StagedContent, SyncedContent
from tests.doubles.disk import Operation, SimulatedDisk
from tests.doubles.reception import SPOOL, Post, etc
from tests.doubles.spool import ModelSpool, whole
from tests.doubles.sync import inline

Watch = Callable[[], None]


class WatchedSpool(ModelSpool):
    """Tells before each change."""

    watch: Watch = staticmethod(lambda: None)

    def _call(self, *args: object, **kwargs: object) -> defer.Deferred[int]:
        self.watch()
        return super()._call(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came


class Outside:
    """The rest of the world: takes everything, and remembers what it took."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[bytes, str]] = Counter()

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Outcome]:
        """Take it."""
        for queued in recipients:
            self.taken[subject(whole(content)), str(queued.recipient.mailbox)] += 1
        return {queued.number: Delivered(Reason("taken"), remote="mx") for queued in recipients}


class Server:
    """Reception, Maildirs, spool and relay of one server, on a disk and a spool that a crash may have left."""

    def __init__(self, settings: Settings, outside: Outside, disk: SimulatedDisk, spool: ModelSpool) -> None:
        self.post = post = Post(settings, disk)
        self.disk = disk
        self.spool = post.spool = spool
        self.store = self.make_store()
        address = lambda mailbox: look_up(settings.directory, mailbox, lambda m: m.domain)[1]
        self.relay = RelayQueue(
            spool,
            LocalDelivery(self.store, lambda: settings.directory),
            outside,
            Bouncer("mx.example.test", lambda: 0, random.Random(1), address, lambda: 1e6),
            lambda: settings.queue,
            5,
            post.journal,
            post.clock,
            random.Random(2),
            Alone(),
        )
        post.reception.commit = self.make_commit()

    def make_store(self) -> MaildirStore:
        """Make the Maildirs."""
        return MaildirStore(
            self.disk,
            Ownership(self.disk.uid),
            run_in_thread=inline,
            clock=self.post.clock,
            journal=self.post.journal,
        )

    def make_commit(self) -> Commit:
        """Make the commit."""
        return Commit(self.store, self.spool, self.disk, self.relay.starts_at_once, self.hand_over, self.post.journal)

    def hand_over(self, message: Message) -> None:
        """Give a committed message to the relay when the reply is out."""
        self.post.clock.callLater(0.001, self.relay.hand_over, message)

    def run(self) -> None:
        """Start the relay and let it work for a while."""
        self.relay.start()
        for _ in range(5):
            self.post.clock.advance(1)


def subject(content: bytes) -> bytes:
    """The word that tells messages apart."""
    return content.partition(b"Subject: ")[2].split()[0]


MESSAGES = [
    ("one", ["bob@example.test"], 10),
    ("two", ["alice@example.test", "bob@example.test"], 10),
    ("three", ["bob@example.test"], 300_000),
    ("four", ["somebody@example.net"], 10),
    ("five", ["both@example.test", "alice@example.test"], 10),
    ("six", ["alice@example.test", "bob@example.test"], 300_000),
]
LOCAL = {
    b"one": ["bob"],
    b"two": ["alice", "bob"],
    b"three": ["bob"],
    b"four": [],
    b"five": ["bob", "alice"],
    b"six": ["alice", "bob"],
}
ELSEWHERE = {b"four": ["somebody@example.net"], b"five": ["someone@example.net"]}


def transactions() -> Iterator[bytes]:
    """The octets of each message; it is the submission service, so that one goes outside."""
    for name, recipients, size in MESSAGES:
        rcpt = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients)
        content = (
            f"From: scanner@example.test\r\nSubject: {name}\r\n\r\n" + "x" * 70 + "\r\n" + "line\r\n" * (size // 6)
        )
        yield f"MAIL FROM:<scanner@example.test>\r\n{rcpt}DATA\r\n{content}.\r\n".encode()


NETWORK = """
hostname = "mx.example.test"
state = "/state"
mail = "/mail"
[tls]
certificate = "certificate.pem"
[[smtpd.network]]
name = "scanners"
addresses = ["192.0.2.0/24"]
submit_without_login = true
senders = ["scanner@example.test"]
"""


class Cuts:
    """Tries a power cut at each point, and counts how many were tried."""

    def __init__(self, settings: Settings, server_class: type[Server] = Server) -> None:
        self.settings = settings
        self.server_class = server_class
        self.tried = 0
        self.outside = Outside()
        disk = SimulatedDisk(["/state/staging", "/mail"])
        self.spool = WatchedSpool(contents=Contents(disk, SPOOL))
        self.server = server_class(settings, self.outside, disk, self.spool)
        self.acknowledged: set[bytes] = set()
        self.busy = False

    def run(self) -> None:
        """Send all messages, with a cut before each operation."""
        self.server.disk.watch = lambda operation: self.cut(operation)
        self.spool.watch = self.cut  # type: ignore[method-assign]  # the test's own
        talk = self.server.post.session("smtpd")
        for (name, _, _), octets in zip(MESSAGES, transactions(), strict=True):
            assert talk.codes(octets)[-1] == "250 2.0.0"
            self.acknowledged.add(name.encode())
            self.cut()
            self.server.run()
            self.cut()
        assert self.spool.counts().messages == 0

    def cut(self, operation: Operation | None = None) -> None:
        """Cut the power now, in every state that may be left, and see that a new server makes it good."""
        if self.busy:
            return
        self.busy = True
        for label, disk in self.server.disk.crash_states(range(2)):
            self.tried += 1
            outside = Outside()
            outside.taken.update(self.outside.taken)
            left = self.spool.crash(self.server.post.clock.seconds(), power_cut=True, contents=Contents(disk, SPOOL))
            after = Server(self.settings, outside, disk, left)
            after.post.clock.advance(self.server.post.clock.seconds() - after.post.clock.seconds())
            after.run()
            where = f"{label}, before {operation}"
            assert left.counts().messages == 0, where
            for name in self.acknowledged:
                for user in LOCAL[name]:
                    copies = [subject(octets) for octets in after.post.maildir(user)].count(name)
                    assert copies == 1, f"{copies} copies of {name!r} for {user}: {where}"
                for mailbox in ELSEWHERE.get(name, ()):
                    assert outside.taken[name, mailbox] >= 1, f"{name!r} for {mailbox}: {where}"
            for user in ("alice", "bob"):
                stored = after.post.maildir(user)
                assert all(octets.endswith(b"\n") and b"Subject: " in octets for octets in stored), where
                assert max(Counter(map(subject, stored)).values(), default=1) == 1, where
        self.busy = False


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Load the configuration."""
    return etc(tmp_path, NETWORK)


def test_no_acknowledged_message_is_lost_or_doubled_by_a_power_cut(settings: Settings) -> None:
    """At every operation, in every state of the disk: each 250 is found once in each mailbox, and sent on."""
    cuts = Cuts(settings)
    cuts.run()
    assert cuts.tried > 300
    assert len(cuts.server.post.journal.of(Kind.MESSAGE_ACCEPTED)) == len(MESSAGES)


def test_the_simulation_sees_a_reply_before_the_commit(settings: Settings) -> None:
    """A commit that answers before the spool has the message is caught: the simulation can see."""

    class Hasty(Commit):
        def commit(self, accepted: object) -> defer.Deferred[object]:  # type: ignore[override]  # broken on purpose
            hasty.spool.at_once = False
            super().commit(accepted)  # type: ignore[arg-type]
            return defer.succeed(Committed("spool", 1, Reason("hasty")))

    class HastyServer(Server):
        def make_commit(self) -> Commit:
            return Hasty(
                self.store, self.spool, self.disk, lambda destinations: True, self.hand_over, self.post.journal
            )

    hasty = Cuts(settings, HastyServer)
    with pytest.raises(AssertionError, match="0 copies"):
        hasty.run()


def test_the_simulation_sees_content_that_is_not_synced(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large message that is taken into the spool without a sync of its file is caught."""

    def not_synced(content: StagedContent) -> SyncedContent:
        content.file.close()
        return SyncedContent(content.path)

    monkeypatch.setattr(StagedContent, "sync", not_synced)
    with pytest.raises(AssertionError, match="nothing unsynced kept"):
        Cuts(settings).run()


def test_the_simulation_sees_names_that_are_not_synced(settings: Settings) -> None:
    """A Maildir whose directory is never synced is caught."""

    class ForgetfulServer(Server):
        def make_store(self) -> MaildirStore:
            self.disk.volume_sync = False
            self.disk.sync_directory = lambda path: None  # type: ignore[method-assign]  # broken on purpose
            return super().make_store()

    with pytest.raises(AssertionError, match="0 copies"):
        Cuts(settings, ForgetfulServer).run()
