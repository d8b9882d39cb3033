"""The queue of a server that is stopped, to be looked at: nothing is recovered, locked or written.

Shards are read as the last process left them. One that a daemon opens meanwhile can be read on, or fails with
sqlite3.Error once: a command that only looks is typed again.
"""

from __future__ import annotations

from mta.disk.port import Disk
from mta.spool.content import Contents
from mta.spool.port import Content, QueuedMessage
from mta.spool.reading import Reader
from mta.spool.schema import MIGRATIONS
from mta.spool.search import connect_reading
from mta.spool.shard import SHARDS


class SchemaOlder(Exception):
    """The last daemon that wrote the spool was an older version: the next start brings it up to date."""


def shard_paths(root: str, disk: Disk) -> list[str]:
    """The directories of the shards below `root` that have a database, in the order of their numbers."""
    if not disk.exists(root):
        return []
    numbers = [int(name) for name in disk.list(root) if name.isascii() and name.isdigit() and int(name) < SHARDS]
    return [f"{root}/{number}" for number in sorted(numbers) if disk.exists(f"{root}/{number}/queue.db")]


class View:
    """All shards below `root`. Raises `SchemaOlder`, sqlite3.Error."""

    def __init__(self, root: str, disk: Disk) -> None:
        self._readers: dict[str, Reader] = {}
        self._root = root
        for path in shard_paths(root, disk):
            connection = connect_reading(path)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != len(MIGRATIONS):
                connection.close()
                self.close()
                raise SchemaOlder(
                    f"{path} has schema version {version}, this program works on version {len(MIGRATIONS)}: "
                    "start the daemon once, which brings it up to date"
                )
            self._readers[path] = Reader(connection, Contents(disk, path))

    @property
    def paths(self) -> tuple[str, ...]:
        """The directories of the shards."""
        return tuple(self._readers)

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `mta.spool.port.Spool`."""
        return next((found for reader in self._readers.values() if (found := reader.get(queue_id))), None)

    def content(self, queue_id: str) -> Content:
        """See `mta.spool.port.Spool`."""
        for reader in self._readers.values():
            if queue_id in reader:
                return reader.content(queue_id)
        raise KeyError(queue_id)

    def close(self) -> None:
        """Close the connections."""
        for reader in self._readers.values():
            reader.close()
