"""The board of a worker that is alone: nobody else has anything, and tables are in its own memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from mta.board.port import Table, Values

NAMES_MAXIMUM = 2**14
"""Names in one table: some 3 MB."""


class Alone:
    """See `mta.board.port.Board`."""

    def __init__(self) -> None:
        self._tables: dict[str, OwnTable] = {}

    def shares(self, name: str) -> NoOthers:
        """See `Board`."""
        return NoOthers()

    def table(self, name: str) -> OwnTable:
        """See `Board`."""
        return self._tables.setdefault(name, OwnTable())


class NoOthers:
    """See `mta.board.port.Shares`."""

    def put(self, name: str, own: int) -> None:
        """Nobody wants to know."""

    def others(self, name: str) -> Sequence[int]:
        """There are none."""
        return ()


class OwnTable:
    """See `mta.board.port.Table`."""

    def __init__(self, maximum: int = NAMES_MAXIMUM) -> None:
        self._maximum = maximum
        self._known: OrderedDict[str, Values] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def hold(self) -> AbstractContextManager[None]:
        """See `Table`: there is nobody to keep off."""
        return nullcontext()

    def get(self, name: str) -> Values | None:
        """See `Table`."""
        return self._known.get(name)

    def put(self, name: str, values: Values) -> None:
        """See `Table`."""
        self._known[name] = values
        self._known.move_to_end(name)
        if len(self._known) > self._maximum:
            self._known.popitem(last=False)

    def forget(self, name: str) -> None:
        """See `Table`."""
        self._known.pop(name, None)


class Draft:
    """A `Table` that begins with what another one holds, and changes nothing there: for rehearsals."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._written: dict[str, Values | None] = {}

    def hold(self) -> AbstractContextManager[None]:
        """See `Table`: what is written is nobody else's."""
        return nullcontext()

    def get(self, name: str) -> Values | None:
        """See `Table`."""
        return self._written[name] if name in self._written else self._table.get(name)

    def put(self, name: str, values: Values) -> None:
        """See `Table`."""
        self._written[name] = values

    def forget(self, name: str) -> None:
        """See `Table`."""
        self._written[name] = None
