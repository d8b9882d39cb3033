"""The names of this machine as addresses: root, cron's users, and what a file of aliases(5) says of them.

They stand at the host name (and at ``localhost``), which need not be a domain of ours: ``root@mail.example.org``.

==================================  ===================================================================================
a name                              leads to
==================================  ===================================================================================
in ``users`` or ``aliases`` of      what these say, where the host name is a domain of ours
the host name's own domain
in the file ``[local] aliases``     what the file says
``root`` in neither                 ``[local] root``, or else the postmaster of the primary domain: `last_resort`
``postmaster`` in neither           root
a user of this machine in neither   root
==================================  ===================================================================================

A target without a domain is a name of this machine, or else a user or alias of the primary domain: ``root: alice`` does
what is meant. An alias that names itself means the next of these too. A user of this machine who has neither alias nor
mailbox has no mail spool here: as a target it is `last_resort`.

Knowingly not here: ``:include:``, programs and files as targets; mail spools in ``/var/mail``.
"""

from __future__ import annotations

import pwd
from collections.abc import Callable, Collection, Iterable, Mapping

from mta.settings.local import LocalSettings
from mta.smtp.address import POSTMASTER, Mailbox

ROOT = "root"
LOCALHOST = ("localhost", "localhost.localdomain")
"""Names by which programs mean this machine."""

Targets = tuple[Mailbox, ...]


def system_users() -> list[str]:
    """The names of the users of this machine, as far as they can be listed (passwd(5), NSS)."""
    return [entry.pw_name for entry in pwd.getpwall()]


def last_resort(local: LocalSettings, primary: str) -> Mailbox | None:
    """Who gets mail that no alias names a target for; None where there is nobody."""
    if local.root is not None:
        return local.root
    return Mailbox(POSTMASTER.local_part, primary) if primary else None


def retargeted(
    name: str,
    targets: Targets,
    host: str,
    known: Collection[str],
    users: Collection[str],
    in_primary: Callable[[str], Mailbox | None],
    resort: Mailbox | None,
) -> Targets:
    """What an alias `name` of the file leads to, once targets that are no names at `host` are found elsewhere.

    `known` are the names there, `in_primary` finds one in the primary domain. What is found nowhere stays, and is a
    problem of whoever follows it.
    """
    out = []
    for target in targets:
        if target.domain == host and (target.local_part not in known or target.local_part == name):
            elsewhere = in_primary(target.local_part)
            if elsewhere is None and target.local_part in users:
                elsewhere = resort
            target = elsewhere or target
        out.append(target)
    return tuple(out)


def implied(known: Collection[str], users: Iterable[str], host: str, resort: Mailbox | None) -> Mapping[str, Mailbox]:
    """The aliases that nobody wrote: root, postmaster, and every other user of this machine."""
    found: dict[str, Mailbox] = {}
    if ROOT not in known:
        if resort is None:
            return found
        found[ROOT] = resort
    for name in (POSTMASTER.local_part, *users):
        if name not in known:
            found.setdefault(name, Mailbox(ROOT, host))
    return found
