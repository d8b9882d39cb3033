"""One volume with Maildirs on it: a conveyor that makes written files durable and names them, and watches its health.

It moves in turns, and each turn is one sync with two loads: the contents of the files that were written meanwhile, and
the names that the turn before gave. The way of a message (https://cr.yp.to/proto/maildir.html, with the syncs that a
power cut asks for; ``docs/reliability.md``):

=================================  ===========================================================================
step                               what a crash leaves
=================================  ===========================================================================
1 written to ``tmp``               nothing, or a file in ``tmp``, whole or not
2 content synced by turn k         the same
3 named in ``new``                 a file in ``tmp``, in ``new``, or both names of it; in ``new`` it is whole
4 name synced by turn k + 1        COMMIT INSTANT (`Volume._make_durable` returns): whole, in ``new``
=================================  ===========================================================================

A turn begins as soon as the one before has ended and there is anything to do: nothing waits for a timer, and a message
that is alone has two syncs in a row.

A reader may see a message between 3 and 4. If step 4 fails it is unlinked again; where that comes too late or fails
too, the sender gets 451 and sends again: a duplicate, never a loss.

After a failed sync nothing that was written before it is believed: the kernel may have dropped the octets and calls
the next sync a success. Every message of the turn, with either load, and every one that waits is removed, the volume
is *suspect*, and whatever comes fails at once with `VolumeSuspect` until a new file of ours went through write and
sync. That is tried after 1, 2, 4 … 60 seconds.
"""

from __future__ import annotations

import contextlib
import errno
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.disk.lane import LaneFull
from mta.disk.port import Disk, File, RunInThread
from mta.disk.sync import SyncChoice, Way
from mta.mail.reason import Reason
from mta.maildir.name import NEW, TMP
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.observe.timed import Timed, untimed

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_PROBE_NAME = "probe.mta"

# The directory could not be opened: its owner took it away, or descriptors are short. No sync has failed.
_NOT_OPENED = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


class VolumeSuspect(Exception):
    """A sync failed there, and none has passed since: nothing is taken. Becomes 451 4.3.0."""


@dataclass(eq=False, slots=True)
class Written:
    """A message in ``tmp`` of its Maildir, not yet durable, its file still open."""

    file: File
    maildir: str
    name: str
    generation: int
    """The generation of the volume when its writing began."""
    synced: bool = False
    """Whether its content is on stable storage already."""
    path: str = field(init=False)
    """Where it is now."""
    committed: defer.Deferred[int] = field(init=False, default_factory=defer.Deferred)
    """What `Volume.commit` answers."""

    def __post_init__(self) -> None:
        self.path = f"{self.maildir}/{TMP}/{self.name}"

    @property
    def directory(self) -> str:
        """Where it is named."""
        return f"{self.maildir}/{NEW}"


_End = tuple[Written, int | Exception]
"""How a message ended: with the number of those that one sync committed, or with its own error."""


class Volume:
    """One volume, by the number that `Disk.directory` told, with a conveyor of its own."""

    def __init__(
        self,
        disk: Disk,
        number: int,
        *,
        run_in_thread: RunInThread,
        run_large: RunInThread,
        clock: interfaces.IReactorTime,
        journal: Journal,
        batch_maximum: int,
        waiting_maximum: int,
        timed: Timed = untimed,
    ) -> None:
        self.path = ""
        """The Maildir on it that was used last: named in events, probed in."""
        self._disk = disk
        self._number = number
        self._run_in_thread = run_in_thread
        self._run_large = run_large
        self._clock = clock
        self._journal = journal
        self._timed = timed
        self._choice = SyncChoice(clock.seconds, disk.volume_sync)
        self._batch_maximum = batch_maximum
        self._waiting_maximum = waiting_maximum
        self._waiting: deque[Written] = deque()
        self._moving = False
        self._generation = 0  # counts failed syncs: what an earlier one wrote may be lost
        self._suspect = ""
        self._pause = _FIRST_PAUSE

    def begin(self) -> int:
        """Return the generation of what is written from now on. Raises `VolumeSuspect` if nothing is taken."""
        if self._suspect:
            raise VolumeSuspect(self._suspect)
        return self._generation

    def commit(self, written: Written) -> defer.Deferred[int]:
        """Name it in ``new``, durably; fires with the number of messages whose names shared the sync.

        Fails with OSError, `VolumeSuspect` or `LaneFull`; the file is gone then.
        """
        if len(self._waiting) >= self._waiting_maximum:
            self._tell([(written, LaneFull(f"{len(self._waiting)} messages wait for a sync"))])
            return written.committed
        self._waiting.append(written)
        if not self._moving:
            self._moving = True
            defer.ensureDeferred(self._move())
        return written.committed

    async def sync_alone(self, written: Written) -> None:
        """Sync the content of one file ahead of its batch: a large one, so that the others need not wait for it."""
        try:
            await self._sync(self._run_large, written.file.sync)
        except BaseException:
            self._drop(written)
            raise
        written.synced = True

    async def sync_directory(self, path: str) -> None:
        """Make durable what is found in a directory already."""
        self.begin()
        failures = await self._sync(self._run_in_thread, self._sync_directories, [path])
        if failures:
            raise failures[path]

    async def _move(self) -> None:
        """Turn after turn, for as long as a message waits or has a name that is not durable."""
        named: list[Written] = []
        ended: list[_End] = []
        while True:
            written, stale = self._take()
            ended += stale
            if not written and not named:
                break
            turn = defer.ensureDeferred(self._turn(written, named))
            # The disk works again before files are closed and anybody is told: that costs time it can use.
            for message in named:
                # synced: there is nothing left that closing could lose
                with contextlib.suppress(OSError):
                    message.file.close()
            self._tell(ended)
            named, ended = await turn
        self._moving = False
        self._tell(ended)

    def _take(self) -> tuple[list[Written], list[_End]]:
        """Take from those that wait what the next turn syncs, and on the way what no turn may."""
        written: list[Written] = []
        stale: list[_End] = []
        while self._waiting and len(written) < self._batch_maximum:
            message = self._waiting.popleft()
            if message.generation == self._generation:
                written.append(message)
            else:
                stale.append((message, VolumeSuspect(f"{message.path}: a sync failed since it was written")))
        return written, stale

    async def _turn(self, written: Sequence[Written], named: Sequence[Written]) -> tuple[list[Written], list[_End]]:
        """Sync contents and names, then name what was written; return what has a name now, and what ended."""
        generation = self._generation
        files = [message.file for message in written if not message.synced]
        directories = {message.directory for message in named}
        unsynced: dict[str, OSError] = {}
        try:
            if files or directories:
                shared = len(written) + len(named)
                unsynced = await self._sync(self._run_in_thread, self._make_durable, files, directories, shared)
            if generation != self._generation:
                raise VolumeSuspect(f"{self.path}: another sync failed meanwhile")
        except Exception as error:
            # also a fault of ours: each is told, and the next turn follows
            return [], [(message, error) for message in (*written, *named)]
        renamed, unnamed = self._name(written)
        return renamed, unnamed + [(message, unsynced.get(message.directory, len(named))) for message in named]

    def _make_durable(
        self, files: Collection[File], directories: Collection[str], shared: int
    ) -> dict[str, OSError]:
        """Make contents durable, and names in ``new``. THE COMMIT INSTANT of those names is its return.

        Returned are directories that could not be opened, and why: what is in them is not committed.
        """
        # Chosen and measured in here, by one thread at a time: what the sync costs, not what the reactor did meanwhile.
        syncs = len(files) + len(directories)
        way, started = self._choice.choose(syncs), self._clock.seconds()
        unsynced: dict[str, OSError] = {}
        with self._timed(shared):
            if way is Way.VOLUME:
                self._disk.sync_volume(self._number)
            else:
                for file in files:
                    file.sync()
                unsynced = self._sync_directories(directories)
        self._choice.measured(way, syncs, self._clock.seconds() - started)
        return unsynced

    def _name(self, written: Iterable[Written]) -> tuple[list[Written], list[_End]]:
        named: list[Written] = []
        failed: list[_End] = []
        for message in written:
            new = f"{message.directory}/{message.name}"
            try:
                self._disk.rename(message.path, new)
            except Exception as error:
                failed.append((message, error))
            else:
                message.path = new
                named.append(message)
        return named, failed

    def _sync_directories(self, directories: Collection[str]) -> dict[str, OSError]:
        failures = {}
        for directory in directories:
            try:
                self._disk.sync_directory(directory)
            except OSError as error:
                if error.errno not in _NOT_OPENED:
                    raise
                failures[directory] = error
        return failures

    async def _sync(self, run: RunInThread, function: Callable[..., Any], *args: object) -> Any:
        try:
            return await run(function, *args)
        except OSError as error:
            self._failed(error)
            raise VolumeSuspect(self._suspect) from error

    def _tell(self, ended: Iterable[_End]) -> None:
        for message, end in ended:
            if isinstance(end, Exception):
                self._drop(message)
                message.committed.errback(end)
            else:
                message.committed.callback(end)

    def _drop(self, written: Written) -> None:
        with contextlib.suppress(OSError):
            written.file.close()
        # the rename has failed, or a reader has moved it, or it stays for the reader's 36 hours
        with contextlib.suppress(OSError):
            self._disk.unlink(written.path)

    def _failed(self, error: OSError) -> None:
        self._generation += 1
        if self._suspect:
            return
        self._suspect = f"{self.path}: {error}"
        self._journal.note(Kind.VOLUME_SUSPECT, Reason(str(error), "sync"), level=Level.ALERT, path=self.path)
        self._pause = _FIRST_PAUSE
        self._probe_later()

    def _probe_later(self) -> None:
        self._clock.callLater(self._pause, self._probe)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _probe(self) -> None:
        self._run_in_thread(self._round_trip, f"{self.path}/{TMP}/{_PROBE_NAME}").addBoth(
            self._probed, self._generation
        )

    def _round_trip(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(path)
        file = self._disk.write_new(path, [b"Can this volume be written and synced?\n"])
        try:
            file.sync()
            if self._disk.volume_sync:
                self._disk.sync_volume(self._number)
        finally:
            file.close()
            self._disk.unlink(path)

    def _probed(self, result: Failure | None, generation: int) -> None:
        if result is not None or generation != self._generation:
            self._probe_later()
            return
        self._suspect = ""
        reason = Reason("a file was written and synced", "probe")
        self._journal.note(Kind.VOLUME_RECOVERED, reason, level=Level.NOTICE, path=self.path)
