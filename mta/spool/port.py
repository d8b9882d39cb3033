"""The queue as a port: what receive and relay see of it, whatever stores it.

State table of a queued recipient (after qmail's INTERNALS). One line is one durable step; a crash leaves the line
above.

====================  ==========================================================================================
state                 what holds
====================  ==========================================================================================
absent                never accepted, or finished: its end was recorded in the same transaction that removed it
WAITING               tried again at `due` (wall time)
ACTIVE                an attempt was marked; found at start-up it is WAITING again, with `crashes` one higher
HELD                  not tried until released: set aside after `CRASHES_MAXIMUM` crashes, or by the operator
====================  ==========================================================================================

A message is there as long as one recipient is. Its content is there before its row and goes after it. `insert`,
`record` and `mark` are durable when their Deferred fires, in the order in which they were called (one with content
that is staged, or too large for the database, has its place in it once that is synced); each call is atomic. A report
is inserted by the same `record` that ends the recipients it speaks of, so no failure is forgotten and none is reported
twice.
"""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet import defer

from mta.disk.port import Disk, File
from mta.mail.envelope import Envelope, Recipient
from mta.mail.reason import Reason
from mta.message.header import HEAD_MAXIMUM, Head, find_head

CRASHES_MAXIMUM = 2
"""A message whose attempts ended in the death of its worker this many times in a row is set aside."""
PIECE = 64 * 1024
"""Octets of content in a file that are in memory at a time: read from the page cache in 10 to 20 µs."""


class State(enum.IntEnum):
    """Of one recipient in the queue; stored, so the numbers stay."""

    WAITING = 0
    ACTIVE = 1
    HELD = 2


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from; for limits, lists and reports."""

    service: str
    """``mx``, ``smtpd``, ``bounce``."""
    session: str = ""
    login: str = ""
    address: str = ""
    label: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SyncedContent:
    """A file whose content is on stable storage; its name is not. Nothing else is taken into the spool."""

    path: str
    head: bytes = b""
    """What stands before the octets of the file; it goes into the database."""


@dataclass(frozen=True, slots=True)
class StagedContent:
    """A large message: its head in memory, the rest in a file on the volume of the spool.

    So fields can be put in front, and taken out, when all of the file is written. The descriptor that wrote it alone
    tells of every write error (see `mta.disk.posix`), so it stays open until `sync`.
    """

    path: str
    file: File
    head: bytes = b""

    def sync(self) -> SyncedContent:
        """Put the content on stable storage and close the file. Blocks. What it raises, the message is refused for."""
        try:
            self.file.sync()
        finally:
            self.file.close()
        return SyncedContent(self.path, self.head)


def taken_out(content: StagedContent, size: int, disk: Disk) -> Iterator[bytes]:
    """Give staged content of `size` octets in pieces, once; with the last one its file is gone.

    For a copy that is made durable elsewhere. Blocks. Raises OSError as `StoredContent` does, and where the kernel met
    a write error before that: then what was read is perhaps not what was written. The file is left to the caller then.
    """
    yield from StoredContent(content.head, content.path, size, disk)
    content.file.check()
    content.file.close()
    with contextlib.suppress(OSError):  # then the next start removes it
        disk.unlink(content.path)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """Content of the queue that is in a file: never whole in memory.

    Its length is that of all of it. Iterate over it for its octets in pieces of at most `PIECE`, as often as there are
    copies to make. That reads the file, and raises OSError as the disk does: EIO before the first octet where the file
    has another size than it must, for what is torn is not sent, and EIO at the end where it gave other than that.
    """

    head: bytes
    """What stands before the octets of the file. Nothing, or all of the head (see `head_of`)."""
    path: str
    size: int
    """Octets of all of it."""
    disk: Disk = field(repr=False, compare=False)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        self.check()
        left = self.size
        for octets in (self.head[at : at + PIECE] for at in range(0, len(self.head), PIECE)):
            left -= len(octets)
            yield octets
        for octets in self.disk.read_pieces(self.path, PIECE):
            left -= len(octets)
            yield octets
        if left:
            raise OSError(errno.EIO, f"torn while it was read: {self.size - left} octets of {self.size}", self.path)

    def check(self) -> None:
        """Raise EIO unless the file has the size that it must have."""
        found, wanted = self.disk.size(self.path), self.size - len(self.head)
        if found != wanted:
            raise OSError(errno.EIO, f"torn: {found} octets of {wanted}", self.path)


Content = bytes | StoredContent
"""What a message in the queue holds: in memory where it is small, else where it is."""


def pieces_of(content: Content) -> Iterable[bytes]:
    """Give content in pieces, again and again; a tuple where it is in memory."""
    return (content,) if isinstance(content, bytes) else content


def head_of(content: Content) -> Head:
    """Find the head of content. Reads no more of a file than that takes, most often one piece."""
    if isinstance(content, bytes):
        return find_head(content)
    beginning = bytearray()
    for piece in content:
        seen = max(0, len(beginning) - 3)
        beginning += piece
        if beginning.find(b"\r\n\r\n", seen) >= 0 or len(beginning) > HEAD_MAXIMUM + 2:
            break
    return find_head(bytes(beginning))


@dataclass(frozen=True, slots=True)
class Message:
    """What `insert` is given. `content` has CRLF line ends; `insert` makes it durable, whatever it is."""

    queue_id: str
    accepted: float
    """Wall time, seconds since 1970."""
    envelope: Envelope
    content: bytes | StagedContent
    size: int
    """Octets of the content: what is found shorter after a crash is torn."""
    eight_bit: bool
    """Whether the content holds octets above 127."""
    origin: Origin
    destinations: Sequence[str]
    """One for each recipient of the envelope: the key of its next hop, a domain or ``local:``."""
    active: bool = True
    """Whether the relay takes it at once: it is stored as ACTIVE, so a crash in the first attempt counts."""
    held: Reason | None = None
    """Why it is stored as HELD instead."""


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """A recipient in the queue."""

    number: int
    """Its place in the envelope, from 0: with the queue id its name."""
    recipient: Recipient
    destination: str
    state: State
    due: float
    """Wall time of the next attempt."""
    attempts: int
    crashes: int
    """Attempts in a row that ended in the death of the worker; 0 again after one that counted."""
    reason: Reason | None
    """Of the last delay."""
    warned: bool
    """Whether a report of the delay was sent."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as read from the queue: with all its recipients, or those of one destination that are due."""

    queue_id: str
    accepted: float
    envelope: Envelope
    """With *all* recipients of the original envelope that are still in the queue."""
    size: int
    eight_bit: bool
    origin: Origin
    recipients: tuple[QueuedRecipient, ...]
    replay: bool = True
    """Whether it was read from the queue, so that an earlier attempt may have delivered it. False for a message that
    was handed over when it was committed."""


def as_queued(message: Message) -> QueuedMessage:
    """Make of a message that was just committed what would be read of it."""
    state = State.HELD if message.held is not None else State.ACTIVE if message.active else State.WAITING
    recipients = tuple(
        QueuedRecipient(number, recipient, destination, state, message.accepted, 0, 0, message.held, False)
        for number, (recipient, destination) in enumerate(
            zip(message.envelope.recipients, message.destinations, strict=True)
        )
    )
    return QueuedMessage(
        message.queue_id,
        message.accepted,
        message.envelope,
        message.size,
        message.eight_bit,
        message.origin,
        recipients,
        replay=False,
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """This recipient is done: delivered, reported as failed, or ended for `reason`."""

    number: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Retry:
    """This recipient waits until `due`."""

    number: int
    due: float
    reason: Reason
    counted: bool = True
    """Whether `attempts` goes up."""
    warned: bool = False
    """Whether a delay report about it is part of this record."""
    state: State = State.WAITING


Change = Ended | Retry


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in the queue."""

    messages: int
    recipients: Mapping[State, int]


class SpoolSuspect(Exception):
    """A sync of this shard failed: nothing more is written to it. Becomes 451 4.3.0."""


class Spool(Protocol):
    """One shard of the queue. Reads are plain: short, indexed, bounded by their limit."""

    @property
    def shard(self) -> int:
        """The number of the shard that takes new mail."""
        ...

    def insert(self, message: Message) -> defer.Deferred[int]:
        """Take a message; fires once it is on stable storage with the number of changes that shared the sync.

        Fails with OSError (ENOSPC and the like), `LaneFull` or `SpoolSuspect`; nothing of the message is kept then,
        but after `SpoolSuspect` it may be found at the next start. Staged content is synced and moved into the spool;
        after a failure the caller closes and unlinks what is left of it.
        """
        ...

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """Apply what an attempt gave, and insert the reports about it, in one transaction.

        Changes of recipients that are there no more are void; the reports are inserted all the same. Fails as `insert`.
        """
        ...

    def mark(self, queue_id: str, numbers: Sequence[int]) -> defer.Deferred[int]:
        """Mark an attempt: those of these recipients that are WAITING become ACTIVE.

        Survives the death of the process, perhaps not a power cut (needs no sync). Fails as `insert`.
        """
        ...

    def due(self, now: float, limit: int, after: tuple[float, str] = (0.0, "")) -> Sequence[QueuedMessage]:
        """Read up to `limit` messages that have WAITING recipients with ``due <= now``, earliest first.

        Each comes with just those recipients; a message with several destinations comes once for each, at the time at
        which the first of its recipients there is due. `after` is that time and the queue id of the last one of the
        page before. What shares both is never split: a page may be longer than `limit` by destinations of one message.
        """
        ...

    def next_due(self, after: float = 0.0) -> float | None:
        """The wall time, later than `after`, at which a WAITING recipient is due first; None when none is."""
        ...

    def get(self, queue_id: str) -> QueuedMessage | None:
        """Read one message with all its recipients."""
        ...

    def content(self, queue_id: str) -> Content:
        """Return the content of a message. Raises KeyError where there is no such message, OSError as the disk does.

        What is in a file stays there and is there for as long as the message is. Content of another size than its
        message has is EIO: what is torn is not sent.
        """
        ...

    def page(self, after: str = "", limit: int = 100) -> Sequence[QueuedMessage]:
        """Read messages in the order of their ids, for listings."""
        ...

    def counts(self) -> Counts:
        """Count what is in the queue."""
        ...

    def close(self) -> defer.Deferred[None]:
        """Finish what is under way and give up the shard. What is still ACTIVE is WAITING: a stop is no crash."""
        ...
