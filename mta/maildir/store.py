"""Delivery into Maildirs (https://cr.yp.to/proto/maildir.html), durable when its Deferred fires.

A small message is written on the reactor thread as it comes: that is a copy into memory, and a thread would pay more
for taking the interpreter lock back after each call. From then on `Volume` has it: one sync with all that wait, a name,
one sync of the names, which is the first of those that came after it. What may take long has a thread before that, by
`run_large`: a large message, the first use of a Maildir, the search for what an earlier attempt may have left.

Trusted is nothing about a Maildir: its directories must be directories, no links, and belong to the owner that the
settings name. No name in it is made of anything that a peer sends.

Knowingly not here: quota, folders, and removal of what crashes leave in ``tmp`` (readers do that after 36 hours).
"""

from __future__ import annotations

import contextlib
import errno
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.disk.port import Disk, RunInThread
from mta.maildir.content import with_local_line_ends
from mta.maildir.name import CUR, NEW, TMP, is_message, message_name
from mta.maildir.volume import Volume, Written
from mta.observe.journal import Journal
from mta.observe.timed import Timed, untimed


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for one Maildir, whose directory is `maildir`."""

    maildir: str
    queue_id: str
    chunks: Iterable[bytes]
    """The content with trace fields in front and CRLF line ends. A tuple is in memory; anything else may block, and is
    asked for on a thread, chunk by chunk as it is written."""
    replay: bool = False
    """Whether an earlier attempt may have delivered it already: then it is looked for first."""

    @property
    def path(self) -> str:
        """The file that it becomes, until a reader moves it."""
        return f"{self.maildir}/{NEW}/{message_name(self.queue_id)}"


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose Maildirs are, and what new files and directories get."""

    uid: int
    """Owner that a Maildir must have; one that we make is given to him."""
    gid: int = -1
    """Group of new files and directories; -1 leaves what the kernel sets."""
    mode: int = 0o600
    """Of a message."""
    directory_mode: int = 0o700
    """Of each directory that we make."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Bounds of batches; the numbers are measured choices of ours, no RFC has them."""

    large: int = 256 * 1024
    """Octets of content in memory from which on a message is written and synced in a thread before it joins a batch."""
    copies: int = 2
    """Large messages written at once. Each takes the interpreter from the reactor for every piece: with four of them
    other sessions wait longer (27 ms at the 99th percentile, not 18), and two keep the disk busy."""
    batch: int = 256
    """Messages that share a sync of their contents, and then one of their names."""
    waiting: int = 1000
    """Messages that may wait for it, each with an open file; more are refused with `LaneFull`."""


class MaildirStore:
    """All Maildirs of this server. One for a process."""

    def __init__(
        self,
        disk: Disk,
        ownership: Ownership,
        *,
        run_in_thread: RunInThread,
        clock: interfaces.IReactorTime,
        journal: Journal,
        limits: StoreLimits | None = None,
        run_large: RunInThread | None = None,
        timed: Timed = untimed,
    ) -> None:
        self._disk = disk
        self._ownership = ownership
        self._run_in_thread = run_in_thread
        self._run_large = run_large or run_in_thread
        self._clock = clock
        self._journal = journal
        self._limits = limits or StoreLimits()
        self._copies = defer.DeferredSemaphore(self._limits.copies)
        self._timed = timed
        self._volumes: dict[int, Volume] = {}
        self._made: set[str] = set()
        self._under_way: dict[tuple[str, str], list[defer.Deferred[int]]] = {}
        self._idle_waiters: list[defer.Deferred[None]] = []

    def deliver(self, delivery: Delivery) -> defer.Deferred[int]:
        """Put one copy of a message into a Maildir; made with its parents if it is not there.

        Fires once it is on stable storage, with the number of messages that shared the sync; with 0 if a replay found
        it there. Fails with OSError, `VolumeSuspect` or `LaneFull`, all for causes of ours (451, 452); nothing of it
        is kept then, but see `mta.maildir.volume`. Cancelling gives up the answer, not the delivery. The same message
        for the same Maildir while the first is under way becomes one copy.
        """
        name = message_name(delivery.queue_id)
        place = delivery.maildir, name
        done: defer.Deferred[int] = defer.Deferred()
        if place in self._under_way:
            self._under_way[place].append(done)
        else:
            self._under_way[place] = [done]
            self._begin(delivery, name).addBoth(self._ended, place)
        return done

    def idle(self) -> defer.Deferred[None]:
        """Fires when no delivery is under way."""
        done: defer.Deferred[None] = defer.Deferred()
        self._idle_waiters.append(done)
        self._tell_idle()
        return done

    def _begin(self, delivery: Delivery, name: str) -> defer.Deferred[int]:
        try:
            if not delivery.replay and delivery.maildir in self._made and not self._is_large(delivery):
                volume = self._volume(delivery.maildir)
                return volume.commit(self._write(delivery, name, volume.begin()))
        except FileNotFoundError:
            pass  # somebody removed the Maildir: made again below
        except Exception:
            return defer.fail()
        return defer.ensureDeferred(self._deliver_slowly(delivery, name))

    async def _deliver_slowly(self, delivery: Delivery, name: str) -> int:
        volume = await self._ready(delivery)
        if delivery.replay:
            found = await self._run_large(self._find, delivery.maildir, name)
            if found:
                await volume.sync_directory(found)
                return 0
        if self._is_large(delivery):
            async with self._copies:
                written = await self._run_large(self._write, delivery, name, volume.begin())
            await volume.sync_alone(written)
        else:
            written = self._write(delivery, name, volume.begin())
        return await volume.commit(written)

    async def _ready(self, delivery: Delivery) -> Volume:
        """Return the volume of a Maildir that is there, or made again: one that is known costs no sync."""
        if delivery.maildir in self._made and not delivery.replay:
            with contextlib.suppress(FileNotFoundError):
                return self._volume(delivery.maildir)
        await self._run_large(self._make, delivery.maildir)
        self._made.add(delivery.maildir)
        return self._volume(delivery.maildir)

    def _ended(self, result: int | Failure, place: tuple[str, str]) -> None:
        for done in self._under_way.pop(place):
            done.callback(result)
        self._tell_idle()

    def _tell_idle(self) -> None:
        if not self._under_way:
            waiting, self._idle_waiters = self._idle_waiters, []
            for done in waiting:
                done.callback(None)

    def _is_large(self, delivery: Delivery) -> bool:
        chunks = delivery.chunks
        return not isinstance(chunks, tuple) or sum(map(len, chunks)) > self._limits.large

    def _write(self, delivery: Delivery, name: str, generation: int) -> Written:
        chunks = with_local_line_ends(delivery.chunks)
        path = f"{delivery.maildir}/{TMP}/{name}"
        file = self._disk.write_new(path, chunks, self._ownership.mode, self._ownership.gid)
        return Written(file, delivery.maildir, name, generation)

    def _volume(self, maildir: str) -> Volume:
        """Look at a Maildir before anything is written there, and return the volume it is on."""
        for path in (maildir, f"{maildir}/{TMP}", f"{maildir}/{NEW}"):
            directory = self._disk.directory(path)
            if directory.uid != self._ownership.uid:
                why = f"belongs to user {directory.uid}, not to {self._ownership.uid}"
                raise PermissionError(errno.EPERM, why, path)
        volume = self._volumes.get(directory.volume)
        if volume is None:
            volume = self._volumes[directory.volume] = Volume(
                self._disk,
                directory.volume,
                run_in_thread=self._run_in_thread,
                run_large=self._run_large,
                clock=self._clock,
                journal=self._journal,
                batch_maximum=self._limits.batch,
                waiting_maximum=self._limits.waiting,
                timed=self._timed,
            )
        volume.path = maildir
        return volume

    def _make(self, maildir: str) -> None:
        """Make what is missing. What is there may be of a process that died before it had synced it."""
        for path in (TMP, NEW, CUR):
            self._disk.make_directories(
                f"{maildir}/{path}", self._ownership.directory_mode, self._ownership.uid, self._ownership.gid
            )
        self._disk.sync_directory(maildir)
        # a directory that we may not read is none of ours
        with contextlib.suppress(PermissionError):
            self._disk.sync_directory(posixpath.dirname(maildir))

    def _find(self, maildir: str, name: str) -> str:
        """Return the directory that holds the message; where none does, remove what an attempt left in ``tmp``."""
        new, cur = f"{maildir}/{NEW}", f"{maildir}/{CUR}"
        # in this order: a reader moves it from new to cur, never back
        if self._disk.exists(f"{new}/{name}"):
            return new
        if any(is_message(entry, name) for entry in self._disk.list(cur)):
            return cur
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(f"{maildir}/{TMP}/{name}")
        return ""
