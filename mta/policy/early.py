"""A pause before the greeting, for who talks first: a client waits for the greeting (RFC 5321 §3.1), spam programs
often do not.

An unknown network is greeted later; one that waited once is known for a while (`Acquaintances`) and greeted at once.
Loopback, exempt networks and smtpd are greeted at once in any case, and so is whom an allow list lets in before.

=========  =====================================================================================================
stage      verdict
=========  =====================================================================================================
connect    `Delay` for an unknown network, as long as there are places
helo       ``facts.early``: `Tag` ``early``, or `Reject` 554; otherwise who was made to wait is known
=========  =====================================================================================================
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mta.mail.reason import Reason
from mta.net.peer import network_of
from mta.policy.delaying import Places
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt
from mta.policy.verdict import Delay, Reject, Tag
from mta.settings.policy import EarlySettings
from mta.smtp import status
from mta.smtp.reply import reply

NETWORKS_MAXIMUM = 20_000
"""Networks known at once: some 4 MB; the one that waited the longest ago goes first."""

_EARLY = reply(554, status.REFUSED, "You talked before you were greeted")


class Acquaintances:
    """Networks that waited, and sessions that are waiting; outlives a reload. `seconds` is monotonic time."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._known: OrderedDict[str, float] = OrderedDict()
        """When each network came to be known."""
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def knows(self, network: str, remember: float) -> bool:
        """Whether a network waited within the last `remember` seconds."""
        since = self._known.get(network)
        return since is not None and self._seconds() - since < remember

    def waits(self, session: str) -> None:
        """Note that a session is made to wait."""
        self._waiting[session] = None
        if len(self._waiting) > NETWORKS_MAXIMUM:
            self._waiting.popitem(last=False)

    def waited(self, session: str, network: str) -> None:
        """Note that a session did not talk early: its network is known, if it was made to wait."""
        if session in self._waiting:
            del self._waiting[session]
            self._known[network] = self._seconds()
            self._known.move_to_end(network)
            if len(self._known) > NETWORKS_MAXIMUM:
                self._known.popitem(last=False)

    def gone(self, session: str) -> None:
        """Forget a session."""
        self._waiting.pop(session, None)


class Early:
    """The policy."""

    name = "early"

    def __init__(self, settings: EarlySettings, acquaintances: Acquaintances, places: Places, exempt: Exempt) -> None:
        self._settings = settings
        self._acquaintances = acquaintances
        self._places = places
        self._exempt = exempt
        self.stages = frozenset({Stage.CONNECT, Stage.HELO} if settings.pause else {Stage.HELO})

    def ask(self, facts: Facts) -> Delay | Tag | Reject | None:
        """Make a stranger wait, and judge who did not."""
        if facts.service != "mx" or facts.address in self._exempt:
            return None
        if facts.stage is Stage.CONNECT:
            return self._pause(facts)
        if not facts.early:
            if not facts.rehearsal:
                self._acquaintances.waited(facts.session, network_of(facts.address))
            return None
        self._acquaintances.gone(facts.session)
        why = Reason("talked before the greeting", "RFC 5321 §3.1")
        if self._settings.action == "tag":
            return Tag(why, "early")
        return Reject(why, _EARLY)

    def _pause(self, facts: Facts) -> Delay | None:
        network = network_of(facts.address)
        if self._acquaintances.knows(network, self._settings.remember):
            return None
        why = Reason(f"nobody in the network of {facts.address} has waited before", "[policy.early] pause")
        delay = self._places.delay(self._settings.pause, self._settings.sessions, why, facts.rehearsal)
        if delay is not None and not facts.rehearsal:
            self._acquaintances.waits(facts.session)
        return delay

    def reset(self, session: str) -> None:
        """Nothing hangs on a transaction."""

    def closed(self, session: str) -> None:
        """Forget a session that went away while it was to wait."""
        self._acquaintances.gone(session)
