"""The queue of a server that is stopped, opened to be changed by the operator.

The shards are locked as by a daemon, so none can start meanwhile. But nothing is recovered: an attempt that the death
of the server interrupted counts at its next start, and not at what the operator does before.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet import defer

from mta.disk.port import Disk, RunInThread
from mta.spool.port import Change, Content, Message, QueuedMessage
from mta.spool.shard import open_spool
from mta.spool.sqlite import SqliteSpool
from mta.spool.view import shard_paths


class StoppedSpool:
    """All shards below `root`. Raises what `open_spool` does, and then holds none of them."""

    def __init__(self, root: str, disk: Disk, run_in_thread: RunInThread) -> None:
        self._shards: list[SqliteSpool] = []
        try:
            for path in shard_paths(root, disk):
                number = int(path.rpartition("/")[2])
                opened, _ = open_spool(
                    root, number, disk, run_in_thread, lambda spool, reason: None, 0.0, 0.0, recovering=False
                )
                self._shards.append(opened)
        except Exception:
            self.close()
            raise

    @property
    def paths(self) -> list[str]:
        """The directories of the shards."""
        return [spool.path for spool in self._shards]

    def shard_of(self, queue_id: str) -> int:
        """The number of the shard that has a message, or of the first."""
        return (self._that_has(queue_id) or self._shards[0]).shard

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `mta.spool.port.Spool`."""
        spool = self._that_has(queue_id)
        return None if spool is None else spool.get(queue_id)

    def content(self, queue_id: str) -> Content:
        """See `mta.spool.port.Spool`."""
        spool = self._that_has(queue_id)
        if spool is None:
            raise KeyError(queue_id)
        return spool.content(queue_id)

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """See `mta.spool.port.Spool`."""
        return (self._that_has(queue_id) or self._shards[0]).record(queue_id, changes, reports)

    def close(self) -> defer.Deferred[None]:
        """See `mta.spool.port.Spool`."""
        return defer.DeferredList([spool.close() for spool in self._shards]).addCallback(lambda _: None)

    def _that_has(self, queue_id: str) -> SqliteSpool | None:
        return next((spool for spool in self._shards if queue_id in spool), None)
