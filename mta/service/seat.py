"""Which of the workers a worker is, and how it reaches the others."""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.board.alone import Alone
from mta.board.port import Board
from mta.policy.memory import Spread, to_nobody


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one worker among all. Without anything said it is the only one."""

    number: int = 0
    workers: int = 1
    board: Board = field(default_factory=Alone)
    """What limits of all of them are counted on."""
    spread: Spread = to_nobody
    """Tells the others what policies remember."""
