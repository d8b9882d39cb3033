"""A user of this machine at the other end of the local socket: known by its uid, which the kernel tells (unix(7))."""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.settings.caps import ALL_USERS, UserCaps
from mta.settings.local import LocalSettings
from mta.settings.values import SenderPattern, fold_domain, fold_local_part
from mta.smtp.address import Mailbox

_ANYBODY = SenderPattern("*", "*")
_UNCAPPED = UserCaps(0, 0)


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Who it is, and whom it may write as."""

    name: str
    uid: int
    mailbox: Mailbox
    """What stands in From where a message has none."""
    may_send_as: tuple[SenderPattern, ...]
    caps: UserCaps = _UNCAPPED
    """How much it may send in a day."""
    source: str = "[local]"
    """Where its rights stand."""

    @property
    def login(self) -> str:
        """What logs, history and limits call it: no account has a colon."""
        return f"unix:{self.name}"

    def owns(self, mailbox: Mailbox) -> Reason | None:
        """Say why it may send as `mailbox`; None where it may not."""
        for pattern in self.may_send_as:
            if pattern.matches(mailbox):
                return Reason(f"{self.login} may send as {pattern}", pattern.source or self.source)
        return None


def system_user(uid: int, name: str, trusted: bool, local: LocalSettings, hostname: str) -> SystemUser:
    """Make the user `uid`, called `name`. Itself it is at ``[local] domain`` and at the host name."""
    domain = local.domain or hostname
    own = tuple(SenderPattern(fold_local_part(name), fold_domain(each)) for each in dict.fromkeys((domain, hostname)))
    given = (_ANYBODY,) if trusted else local.senders.get(name, ())
    caps = local.caps.get(name, UserCaps()).over(local.caps.get(ALL_USERS, UserCaps()))
    return SystemUser(name, uid, Mailbox(name, domain), (*own, *given), _UNCAPPED if trusted else caps)
