"""Slow replies for who was marked by others: each of his commands takes some seconds more.

It costs a spam program time, and us a connection: the number of sessions that wait is bounded
(``[policy] delayed_sessions``), further ones are answered at once.
"""

from __future__ import annotations

from mta.mail.reason import Reason
from mta.policy.delaying import Places
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Delay
from mta.settings.policy import TarpitSettings


class Tarpit:
    """The policy. At most `sessions` wait at once, in `places` that other policies share."""

    name = "tarpit"

    def __init__(self, settings: TarpitSettings, places: Places, sessions: int) -> None:
        self._tags = frozenset(settings.tags)
        self._delay = settings.delay
        self._places = places
        self._sessions = sessions
        self.stages = frozenset({Stage.MAIL, Stage.RCPT, Stage.DATA} if self._tags else ())

    def ask(self, facts: Facts) -> Delay | None:
        """Delay who has one of the tags."""
        tags = self._tags & facts.tags
        if not tags or facts.service != "mx" or facts.login:
            return None
        why = Reason(f"tagged {', '.join(sorted(tags))}", "[policy.tarpit] tags")
        return self._places.delay(self._delay, self._sessions, why, facts.rehearsal)
