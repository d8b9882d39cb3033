"""Who tries out names to find mailboxes: the recipients that do not exist are counted by network.

The session says of each one that the service has refused it (`Harvest.refused`). Past a first bound in an hour replies
to that network come later, past a second it is turned away for a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mta.mail.reason import Reason
from mta.net.peer import network_of
from mta.policy import refusal
from mta.policy.delaying import Places
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt
from mta.policy.rate import NAMES_MAXIMUM, Tally
from mta.policy.verdict import Defer, Delay
from mta.settings.policy import HarvestSettings


class UnknownRecipients:
    """What was counted so far; outlives a reload. `seconds` is monotonic time."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.tally = Tally(seconds)
        self.refused_until: OrderedDict[str, float] = OrderedDict()

    def refuse(self, network: str, until: float) -> None:
        """Turn a network away until then."""
        self.refused_until[network] = until
        self.refused_until.move_to_end(network)
        if len(self.refused_until) > NAMES_MAXIMUM:
            self.refused_until.popitem(last=False)


class Harvest:
    """The policy. At most `sessions` wait at once, in `places` that other policies share."""

    name = "harvest"
    stages = frozenset({Stage.CONNECT, Stage.MAIL, Stage.RCPT})

    def __init__(
        self, settings: HarvestSettings, known: UnknownRecipients, places: Places, sessions: int, exempt: Exempt
    ) -> None:
        self._settings = settings
        self._known = known
        self._places = places
        self._sessions = sessions
        self._exempt = exempt

    def refused(self, facts: Facts, reason: Reason) -> None:
        """Count a recipient that does not exist."""
        if facts.rehearsal or self._spared(facts):
            return
        settings, network = self._settings, network_of(facts.address)
        self._known.tally.add(network)
        if self._known.tally.count(network) >= settings.refuse_after:
            self._known.refuse(network, self._known.seconds() + settings.refuse_for)

    def ask(self, facts: Facts) -> Delay | Defer | None:
        """Delay or turn away who has tried too many names."""
        if self._spared(facts):
            return None
        network = network_of(facts.address)
        left = self._known.refused_until.get(network, 0.0) - self._known.seconds()
        if left > 0:
            text = f"Too many unknown recipients from the network of {facts.address}, {refusal.in_seconds(left)}"
            return refusal.hang_up(text, Reason(text, "[policy.harvest] refuse_after"))
        count = self._known.tally.count(network)
        if count < self._settings.delay_after:
            return None
        text = f"{count:.0f} unknown recipients within an hour from the network of {facts.address}"
        why = Reason(text, "[policy.harvest] delay_after")
        return self._places.delay(self._settings.delay, self._sessions, why, facts.rehearsal)

    def _spared(self, facts: Facts) -> bool:
        return facts.service != "mx" or bool(facts.login) or facts.address in self._exempt
