"""How much one login may send in a day: ``[smtpd.caps]``, and what ``domain.toml`` says for its users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mta.settings.values import Seconds, Within

Cap = Annotated[int, Within(0)]

ALL_USERS = "*"
"""The name in ``[caps]`` of a ``domain.toml`` that stands for every user of the domain."""


@dataclass(frozen=True, slots=True)
class CapsSettings:
    """How much one login may send in a day: what a stolen password can do before somebody looks.

    A day is the 24 hours from the first message on. Past a cap mail gets 450 4.7.1, with the time at which the day is
    over; the log says so at 80 % and at 100 %. Other numbers for single users: ``[caps]`` in ``domain.toml``.
    """

    messages: Cap = 2000
    """Messages of one login; 0: no cap. (A person sends some dozens; mox has 1,000, Google Workspace 2,000.)"""
    first_time_recipients: Cap = 500
    """Recipients elsewhere that the login has not written to before; 0: no cap. A message to many counts each of them.
    (mox has 200, Google Workspace 3,000 recipients elsewhere, new or not.)"""
    remember: Seconds = 90 * 86400.0
    """How long after the last message a recipient is known to a login."""


@dataclass(frozen=True, slots=True)
class UserCaps:
    """Numbers for one user in place of those of ``[smtpd.caps]``, or for all users of the domain under ``"*"``."""

    messages: Cap | None = None
    """As there."""
    first_time_recipients: Cap | None = None
    """As there."""

    def over(self, other: UserCaps) -> UserCaps:
        """These, and what they leave out as `other` has it."""
        return UserCaps(
            other.messages if self.messages is None else self.messages,
            other.first_time_recipients if self.first_time_recipients is None else self.first_time_recipients,
        )
