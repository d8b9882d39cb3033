"""Mail of this machine itself: the socket that ``sendmail`` hands it to, whom its users may write as, where it goes.

How ``[local] aliases`` and the names of system users become addresses stands in `mta.settings.system`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from mta.settings.caps import UserCaps
from mta.settings.values import HostName, Kind, Path, Senders, parse_address
from mta.smtp.address import Mailbox


def _parse_target(text: str) -> Mailbox | None:
    return parse_address(text) if text else None


Target = Annotated[
    Mailbox | None, Kind('an address, "admin@example.org"', _parse_target, lambda mailbox: str(mailbox or ""))
]


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Mail of the users and programs of this machine: ``sendmail``, cron, PHP. docs/local-mail.md tells more."""

    socket: Path = field(default="", metadata={"at_start": True})
    """The socket that ``sendmail`` submits to, ``"/run/mta/submit.sock"``; its directory is made with mode 0755 where
    there is none, and must be one that every user can enter. Empty: nobody submits that way."""
    domain: HostName = ""
    """What is put behind a name without a domain: ``root`` becomes ``root@`` this. Not given: the host name. It may
    be a domain of ours: then the mail is signed with its keys, and its own users and aliases come first."""
    aliases: Path = ""
    """A file of aliases(5), usually ``"/etc/aliases"``; read where it is there. Programs (``|command``), files and
    ``:include:`` are refused."""
    root: Target = None
    """Who gets mail for ``root``, and for the users of this machine that have no alias. An alias for root comes first;
    without either it is the postmaster of the primary domain."""
    senders: Mapping[str, tuple[Senders, ...]] = field(default_factory=dict)
    """Addresses that a user of this machine may send as beside its own name at `domain` and at the host name:
    ``www-data = ["shop@example.org", "*@example.net"]``; ``["*"]`` for any. root and the user that the server runs as
    may send as anybody."""
    caps: Mapping[str, UserCaps] = field(default_factory=dict)
    """How much a user of this machine may send in a day, in place of what ``[smtpd.caps]`` says:
    ``[local.caps.www-data]``, or ``[local.caps."*"]`` for all. root and the user that the server runs as have no
    cap."""

    @property
    def on(self) -> bool:
        """Whether names of this machine are addresses."""
        return bool(self.socket or self.aliases or self.root)
