"""What stands on the board that several workers share: the shares and tables of all who count something."""

from __future__ import annotations

from mta.auth.checker import Checker
from mta.board.shared import Layout
from mta.net.admission import Admission
from mta.policy.built_in import Remembered
from mta.policy.caps import Caps
from mta.policy.rate import Rate
from mta.relay.queue import RelayQueue


def layout(workers: int) -> Layout:
    """The board for so many workers."""
    tables = {**Checker.TABLES, **Remembered.TABLES, **Caps.TABLES, "networks": Rate.FIELDS}
    return Layout(workers, (*Admission.SHARES, *RelayQueue.SHARES), tables)
