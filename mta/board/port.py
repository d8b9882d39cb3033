"""Shares and tables as ports: what limits see of them, however many workers there are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

Values = tuple[float, ...]
"""The numbers that a table holds of one name: as many as the table has fields."""


class Shares(Protocol):
    """How much each worker has of something, by name. Each writes its own part; what a dead one had is taken off."""

    def put(self, name: str, own: int) -> None:
        """Say how much of `name` this worker has now."""
        ...

    def others(self, name: str) -> Sequence[int]:
        """How much the other workers have of it; those that have nothing may be left out."""
        ...


class Table(Protocol):
    """A few numbers by name, the same for all workers, in bounded memory: whose name was quiet the longest goes."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep the other workers off while something is read and written back; for microseconds."""
        ...

    def get(self, name: str) -> Values | None:
        """The numbers of a name; None: nothing is known of it."""
        ...

    def put(self, name: str, values: Values) -> None:
        """Keep the numbers of a name."""
        ...

    def forget(self, name: str) -> None:
        """Forget a name, known or not."""
        ...


class Board(Protocol):
    """Hands out shares and tables by their own names; the same name gives the same one in every worker."""

    def shares(self, name: str) -> Shares:
        """The shares of that name."""
        ...

    def table(self, name: str) -> Table:
        """The table of that name."""
        ...
