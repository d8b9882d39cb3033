"""A queue on a real shard below a directory of the test, with what the operator's commands need, all in one thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mta.disk.posix import PosixDisk
from mta.mail.envelope import Envelope, Recipient
from mta.mail.queueid import new_queue_id
from mta.mail.reason import Reason
from mta.service.operator.queue import QueueCommands
from mta.service.operator.queue_acts import QueueActs
from mta.smtp.address import Mailbox
from mta.spool.port import QueuedMessage, QueuedRecipient, Retry, State
from mta.spool.spools import Spools
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import NOW, message
from tests.doubles.sync import inline, result


class Counted:
    """Chance that counts, so that ids of one moment are different and sort."""

    def __init__(self) -> None:
        self.count = 0

    def getrandbits(self, k: int, /) -> int:
        """Return the next number."""
        self.count += 1
        return self.count


class RecordingRelay:
    """What the operator's acts ask of a relay; `busy` are recipients that are being tried."""

    def __init__(self) -> None:
        self.busy: frozenset[int] = frozenset()
        self.log: list[tuple[object, ...]] = []

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        """Leave a message to the operator."""
        self.log.append(("withdrawn", message.queue_id))
        return self.busy

    def give_back(self, queue_id: str) -> None:
        """Take it back."""
        self.log.append(("given back", queue_id))

    def rouse(self, destination: str) -> None:
        """End a rest."""
        self.log.append(("roused", destination))

    async def give_up(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], reason: Reason) -> None:
        """End recipients."""
        numbers = tuple(queued.number for queued in recipients)
        self.log.append(("given up", message.queue_id, numbers, str(reason)))


class Queue:
    """A spool, the commands over it, and mail to put into it."""

    def __init__(self, root: Path, now: float = NOW) -> None:
        self.now = now
        self.journal = RecordingJournal(lambda: self.now)
        self.root = str(root / "spool")
        self.relay = RecordingRelay()
        self.chance = Counted()
        self.open()

    def open(self) -> None:
        """Open it, as a start does."""
        self.spool = Spools(self.root, PosixDisk(), inline, self.journal, lambda: 0.0, 4 * 3600.0)
        self.spool.open()
        self.journal.events.clear()
        self.commands = QueueCommands(self.spool, inline)
        self.acts = QueueActs(self.spool, self.relay, self.journal, inline)

    def add(
        self,
        *names: str,
        sender: str = "alice@example.test",
        age: float = 60.0,
        login: str = "",
        reason: str = "",
        held: str = "",
        due: float = 600.0,
        took: float = 0.0,
        active: bool = False,
        content: bytes = b"Subject: x\r\n\r\nbody\r\n",
    ) -> str:
        """Put a message into the queue; with a `reason` it was tried once and waits, `due` seconds from now.

        Its id was made `took` seconds before it was accepted.
        """
        accepted = self.now - age
        queue_id = new_queue_id(accepted - took, 0, self.chance)
        plain = message(queue_id, *names, accepted=accepted, active=active, content=content)
        reverse_path = Mailbox(*sender.split("@")) if sender else None
        made = replace(
            plain,
            envelope=Envelope(
                reverse_path, tuple(map(Recipient, (each.mailbox for each in plain.envelope.recipients)))
            ),
            origin=replace(plain.origin, login=login),
            held=Reason(held, "policy") if held else None,
        )
        result(self.spool.insert(made))
        if reason:
            changes = [Retry(number, self.now + due, Reason(reason, "mx")) for number in range(len(made.destinations))]
            result(self.spool.record(queue_id, changes))
        return queue_id

    def states(self, queue_id: str) -> dict[str, State]:
        """The state of each recipient of a message."""
        found = self.spool.get(queue_id)
        return {str(each.recipient.mailbox): each.state for each in found.recipients} if found else {}

    def act(self, act: str, **request: Any) -> dict[str, Any]:
        """Have the commands act."""
        done: dict[str, Any] = result(self.acts.act({"act": act, "operator": "root", **request}))
        return done

    def close(self) -> None:
        """Stop."""
        result(self.spool.close())
