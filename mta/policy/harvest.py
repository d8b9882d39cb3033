"""Who tries out names to find mailboxes: the recipients that do not exist are counted by network.

The session says of each one that the service has refused it (`Harvest.refused`). Past a first bound in an hour replies
to that network come later, past a second it is turned away for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy

from mta.board.alone import Draft
from mta.board.port import Board, Table
from mta.mail.reason import Reason
from mta.net.peer import network_of
from mta.policy import refusal
from mta.policy.delaying import Places
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt
from mta.policy.rate import Tally
from mta.policy.rehearsal import Kept
from mta.policy.verdict import Defer, Delay
from mta.settings.policy import HarvestSettings


class UnknownRecipients:
    """What was counted so far; outlives a reload. `seconds` is monotonic time."""

    TABLES: Mapping[str, int] = {"harvest.unknown": Tally.FIELDS, "harvest.refused": 1}
    """The tables it asks the board for, with the number of their fields."""

    def __init__(self, board: Board, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.tally = Tally(board.table("harvest.unknown"), seconds)
        self._refused_until: Table = board.table("harvest.refused")

    def copy(self) -> UnknownRecipients:
        """See `mta.policy.rehearsal`."""
        copied = copy(self)
        copied.tally, copied._refused_until = self.tally.copy(), Draft(self._refused_until)
        return copied

    def refuse(self, network: str, until: float) -> None:
        """Turn a network away until then."""
        self._refused_until.put(network, (until,))

    def refused_for(self, network: str) -> float:
        """For how many seconds it is turned away; 0 or less: it is not."""
        (until,) = self._refused_until.get(network) or (0.0,)
        return until - self.seconds()


class Harvest:
    """The policy. At most `sessions` wait at once, in `places` that other policies share."""

    name = "harvest"
    stages = frozenset({Stage.CONNECT, Stage.MAIL, Stage.RCPT})

    def __init__(
        self, settings: HarvestSettings, known: UnknownRecipients, places: Places, sessions: int, exempt: Exempt
    ) -> None:
        self._settings = settings
        self._known = Kept(known)
        self._places = places
        self._sessions = sessions
        self._exempt = exempt

    def refused(self, facts: Facts, reason: Reason) -> None:
        """Count a recipient that does not exist."""
        if self._spared(facts):
            return
        settings, known, network = self._settings, self._known.of(facts), network_of(facts.address)
        known.tally.add(network)
        if known.tally.count(network) >= settings.refuse_after:
            known.refuse(network, known.seconds() + settings.refuse_for)

    def ask(self, facts: Facts) -> Delay | Defer | None:
        """Delay or turn away who has tried too many names."""
        if self._spared(facts):
            return None
        known, network = self._known.of(facts), network_of(facts.address)
        left = known.refused_for(network)
        if left > 0:
            text = f"Too many unknown recipients from the network of {facts.address}, {refusal.in_seconds(left)}"
            return refusal.hang_up(text, Reason(text, "[policy.harvest] refuse_after"))
        count = known.tally.count(network)
        if count < self._settings.delay_after:
            return None
        text = f"{count:.0f} unknown recipients within an hour from the network of {facts.address}"
        why = Reason(text, "[policy.harvest] delay_after")
        return self._places.delay(self._settings.delay, self._sessions, why, facts.rehearsal)

    def reset(self, session: str) -> None:
        """Nothing hangs on a transaction."""

    def closed(self, session: str) -> None:
        """Forget what a rehearsal counted."""
        self._known.closed(session)

    def _spared(self, facts: Facts) -> bool:
        return facts.service != "mx" or bool(facts.login) or facts.address in self._exempt
