"""An address of ours as it is typed, and as it stands in the files of its domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click

from mta.cli.daemon import EX_DATAERR, EX_NOUSER, fail
from mta.settings.passwd_file import Line, entries
from mta.settings.values import fold_local_part, parse_address, parse_host_name
from mta.smtp.address import Mailbox


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a domain of ours; both folded."""

    name: str
    domain: str

    def __str__(self) -> str:
        return str(Mailbox(self.name, self.domain))

    @property
    def written(self) -> str:
        """The name as ``aliases`` has it: in quotes where it needs them."""
        return str(self).rpartition("@")[0]


def place_of(text: str, domains: Mapping[str, str], what: str) -> Place:
    """Read ``alice@example.org``, or ``alice`` where there is one domain alone; what is none ends the command."""
    only = next(iter(domains)) if len(domains) == 1 else ""
    if "@" not in text and not only:
        example = next(iter(domains), "example.org")
        raise click.BadParameter(f"{text} needs its domain: {text}@{example}", param_hint=what)
    try:
        found = parse_address(text, only)
    except ValueError:
        every = f": *{text} stands for every name" if text.startswith("@") and what == "ALIAS" else ""
        raise click.BadParameter(f"{text} is no address{every}", param_hint=what) from None
    if found.domain not in domains:
        fail(f"{found.domain} is no domain of ours: mta domain list", EX_DATAERR)
    return Place(fold_local_part(found.local_part), found.domain)


def domain_of(text: str, domains: Mapping[str, str]) -> str:
    """Read the name of a domain of ours; what is none ends the command."""
    try:
        name = parse_host_name(text)
    except ValueError:
        raise click.BadParameter(f"{text} is no domain name", param_hint="DOMAIN") from None
    if name not in domains:
        fail(f"{text} is no domain of ours: mta domain list", EX_DATAERR)
    return name


def chosen(text: str | None, domains: Mapping[str, str]) -> list[str]:
    """The domain that was typed, or all of ours."""
    return sorted(domains) if text is None else [domain_of(text, domains)]


def line_of(user: Place, text: str) -> Line:
    """Find the line of a user in ``users``; where there is none, or more than one, the command ends."""
    lines = [line for line in entries(text) if line.user == user.name]
    if not lines:
        fail(f"{user} is no user: mta user list {user.domain}", EX_NOUSER)
    if len(lines) > 1:
        numbers = ", ".join(str(line.number) for line in lines)
        fail(f"{user} stands on several lines of its file ({numbers}): take all but one out by hand", EX_DATAERR)
    return lines[0]


def counted(number: int, what: str, plural: str = "s") -> str:
    """Say how many: ``1 user``, ``2 users``."""
    return f"{number} {what}{'' if number == 1 else plural}"
