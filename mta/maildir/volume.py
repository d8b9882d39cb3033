"""One volume with Maildirs on it: batches of written files are made durable and named, and its health is watched.

A batch (https://cr.yp.to/proto/maildir.html, with the syncs that a power cut asks for; ``docs/reliability.md``):

=====================  =========================================================================================
step                   what a crash leaves
=====================  =========================================================================================
1 written to ``tmp``   nothing, or a file in ``tmp``, whole or not
2 content synced       the same
3 named in ``new``     a file in ``tmp``, in ``new``, or both names of it; in ``new`` it is whole
4 names synced         COMMIT INSTANT (`Volume._sync_names` returns): whole, in ``new``
=====================  =========================================================================================

A reader may see a message between 3 and 4. If step 4 fails it is unlinked again; where that comes too late or fails
too, the sender gets 451 and sends again: a duplicate, never a loss.

After a failed sync nothing that was written before it is believed: the kernel may have dropped the octets and calls
the next sync a success. Every file of the batch and every one that waits is removed, the volume is *suspect*, and
whatever comes fails at once with `VolumeSuspect` until a new file of ours went through write and sync. That is tried
after 1, 2, 4 … 60 seconds.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.disk.lane import Lane
from mta.disk.port import Disk, File, RunInThread
from mta.disk.sync import SyncChoice, Way
from mta.mail.reason import Reason
from mta.maildir.name import NEW, TMP
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal

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

    def __post_init__(self) -> None:
        self.path = f"{self.maildir}/{TMP}/{self.name}"

    @property
    def directory(self) -> str:
        """Where it is named."""
        return f"{self.maildir}/{NEW}"


class Volume:
    """One volume, by the number that `Disk.directory` told, with a lane of its own."""

    def __init__(
        self,
        disk: Disk,
        number: int,
        *,
        run_in_thread: RunInThread,
        clock: interfaces.IReactorTime,
        journal: Journal,
        batch_maximum: int,
        waiting_maximum: int,
    ) -> None:
        self.path = ""
        """The Maildir on it that was used last: named in events, probed in."""
        self._disk = disk
        self._number = number
        self._run_in_thread = run_in_thread
        self._clock = clock
        self._journal = journal
        self._choice = SyncChoice(clock.seconds, disk.volume_sync)
        self._lane = Lane(self._run, batch_maximum, waiting_maximum)
        self._generation = 0  # counts failed syncs: what an earlier one wrote may be lost
        self._suspect = ""
        self._pause = _FIRST_PAUSE

    def begin(self) -> int:
        """Return the generation of what is written from now on. Raises `VolumeSuspect` if nothing is taken."""
        if self._suspect:
            raise VolumeSuspect(self._suspect)
        return self._generation

    def commit(self, written: Written) -> defer.Deferred[int]:
        """Name it in ``new``, durably; fires with the number of messages that shared the sync.

        Fails with OSError, `VolumeSuspect` or `LaneFull`; the file is gone then.
        """
        return self._lane.submit(written).addErrback(self._dropped, written)

    async def sync_alone(self, written: Written) -> None:
        """Sync the content of one file ahead of its batch: a large one, so that the others need not wait for it."""
        try:
            await self._sync(written.file.sync)
        except BaseException:
            self._drop(written)
            raise
        written.synced = True

    async def sync_directory(self, path: str) -> None:
        """Make durable what is found in a directory already."""
        self.begin()
        failures = await self._sync(self._sync_directories, [path])
        if failures:
            raise failures[path]

    def _run(self, batch: Sequence[Written]) -> defer.Deferred[dict[int, Exception] | None]:
        return defer.ensureDeferred(self._commit(batch))

    async def _commit(self, batch: Sequence[Written]) -> dict[int, Exception]:
        failures: dict[int, Exception] = {}
        for number, written in enumerate(batch):
            if written.generation != self._generation:
                failures[number] = VolumeSuspect(f"{written.path}: a sync failed since it was written")
        live = [written for number, written in enumerate(batch) if number not in failures]
        if not live:
            return failures
        way = self._choice.choose(len(live))
        generation, started = self._generation, self._clock.seconds()
        await self._sync(self._sync_contents, way, live)
        if generation != self._generation:
            raise VolumeSuspect(f"{self.path}: another sync failed meanwhile")
        unnamed = self._name(live)
        directories = {written.directory for written in live}
        syncing = defer.ensureDeferred(self._sync(self._sync_names, way, directories))
        for written in live:
            # synced: there is nothing left that closing could lose
            with contextlib.suppress(OSError):
                written.file.close()
        unsynced = await syncing
        self._choice.measured(way, len(live), self._clock.seconds() - started)
        for number, written in enumerate(batch):
            error = unnamed.get(written) or unsynced.get(written.directory)
            if error is not None:
                failures.setdefault(number, error)
        return failures

    def _sync_contents(self, way: Way, batch: Sequence[Written]) -> None:
        unsynced = [written for written in batch if not written.synced]
        if way is Way.EACH:
            for written in unsynced:
                written.file.sync()
        elif unsynced:
            self._disk.sync_volume(self._number)

    def _name(self, batch: Sequence[Written]) -> dict[Written, OSError]:
        failures = {}
        for written in batch:
            new = f"{written.directory}/{written.name}"
            try:
                self._disk.rename(written.path, new)
            except OSError as error:
                failures[written] = error
            else:
                written.path = new
        return failures

    def _sync_names(self, way: Way, directories: Collection[str]) -> dict[str, OSError]:
        """Make the names in ``new`` durable. The commit instant of the batch is the return of this function.

        Returned are directories that could not be opened, and why: what is in them is not committed.
        """
        if way is Way.EACH:
            return self._sync_directories(directories)
        self._disk.sync_volume(self._number)
        return {}

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

    async def _sync(self, function: Callable[..., Any], *args: object) -> Any:
        try:
            return await self._run_in_thread(function, *args)
        except OSError as error:
            self._failed(error)
            raise VolumeSuspect(self._suspect) from error

    def _dropped(self, failure: Failure, written: Written) -> Failure:
        self._drop(written)
        return failure

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
