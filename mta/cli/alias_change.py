"""What ``mta alias`` does: changes of ``aliases``, and which of them lead to a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mta.cli.change import ALIASES, USERS, Change, changing
from mta.cli.daemon import EX_DATAERR, fail, take_effect
from mta.cli.place import Place, place_of
from mta.settings.alias_file import AliasLine, alias_lines, with_alias, with_targets, without_alias, without_targets
from mta.settings.domains import CATCH_ALL, parse_target
from mta.settings.passwd_file import entries
from mta.settings.values import fold_local_part, parse_address


@dataclass(frozen=True, slots=True)
class Leading:
    """An alias that leads to somebody, by these of its targets."""

    domain: str
    line: AliasLine
    places: tuple[int, ...]
    alias: str
    where: str

    @property
    def alone(self) -> bool:
        """Whether it leads to nobody else."""
        return len(self.places) == len(self.line.targets)


def add(config: Path, alias: str, targets: Sequence[str]) -> None:
    """Add an alias, or targets to one."""
    with changing(config) as change:
        place = place_of(alias, change.domains, "ALIAS")
        wanted = {_read(target, place.domain): None for target in targets}
        text = change.text(place.domain, ALIASES)
        line = _find(text, place)
        known = {_of(target, place.domain) for target in line.targets} if line is not None else set()
        new = [target for target in wanted if target not in known]
        if not new:
            click.echo(f"{place} leads there already; nothing was changed.")
            return
        written = [_written(target, place.domain) for target in new]
        if line is None:
            change.write(place.domain, ALIASES, with_alias(text, place.written, written))
        else:
            change.write(place.domain, ALIASES, with_targets(text, line, written))
        users = {each.user for each in entries(change.text(place.domain, USERS))}
        change.commit()
    others = f", beside {len(known)} others" if len(known) > 1 else ", beside another one" if known else ""
    click.echo(f"{place} leads to {', '.join(map(str, new))} now{others}.")
    if place.name in users and place not in {*known, *wanted}:
        click.echo(
            f"Beware: {place} is a user too, whose mail goes there now; for a copy: mta alias add {place} {place}"
        )
    click.echo(take_effect(config).text)


def remove(config: Path, alias: str, targets: Sequence[str]) -> None:
    """Remove an alias, or targets of one."""
    with changing(config) as change:
        place = place_of(alias, change.domains, "ALIAS")
        text = change.text(place.domain, ALIASES)
        line = _find(text, place)
        if line is None:
            fail(f"{place} is no alias: mta alias list {place.domain}", EX_DATAERR)
        there = [_of(target, place.domain) for target in line.targets]
        unwanted = [_read(target, place.domain) for target in targets]
        for each in unwanted:
            if each not in there:
                fail(f"{place} does not lead to {each}, but to {', '.join(line.targets)}", EX_DATAERR)
        places = [number for number, target in enumerate(there) if target in unwanted]
        if not targets or len(places) == len(there):
            change.write(place.domain, ALIASES, without_alias(text, line))
            told = f"{place} is no alias any more."
        else:
            change.write(place.domain, ALIASES, without_targets(text, line, places))
            told = f"{place} leads to {', '.join(map(str, unwanted))} no more."
        change.commit()
    click.echo(told)
    click.echo(take_effect(config).text)


def leading_to(change: Change, place: Place) -> list[Leading]:
    """Find the aliases of all domains that name a user, with a subaddress or without."""
    found = []
    for domain in change.domains:
        for line in alias_lines(change.text(domain, ALIASES)):
            places = [number for number, target in enumerate(line.targets) if _names(_of(target, domain), place)]
            if places and not _is(line, domain, place):
                where = f"{change.path(domain, ALIASES)}:{line.number}"
                found.append(Leading(domain, line, tuple(places), f"{line.name}@{domain}", where))
    return found


def leading_into(change: Change, domain: str) -> list[Leading]:
    """Find the aliases of other domains that name an address of `domain`."""
    found = []
    for other in change.domains:
        for line in alias_lines(change.text(other, ALIASES)) if other != domain else ():
            places = [
                number
                for number, target in enumerate(line.targets)
                if getattr(_of(target, other), "domain", "") == domain
            ]
            if places:
                where = f"{change.path(other, ALIASES)}:{line.number}"
                found.append(Leading(other, line, tuple(places), f"{line.name}@{other}", where))
    return found


def remove_leading(change: Change, leading: Sequence[Leading]) -> list[Leading]:
    """Take targets out of aliases; gives those of them that led nowhere else, and are gone."""
    for domain in dict.fromkeys(each.domain for each in leading):
        text = change.text(domain, ALIASES)
        # From the last to the first: what goes moves no line that is still to be changed.
        for each in sorted((each for each in leading if each.domain == domain), key=lambda e: -e.line.number):
            text = without_alias(text, each.line) if each.alone else without_targets(text, each.line, each.places)
        change.write(domain, ALIASES, text)
    return [each for each in leading if each.alone]


def _find(text: str, place: Place) -> AliasLine | None:
    lines = [line for line in alias_lines(text) if _is(line, place.domain, place)]
    if len(lines) > 1:
        numbers = ", ".join(str(line.number) for line in lines)
        fail(f"{place} stands on several lines of its file ({numbers}): make one of them by hand", EX_DATAERR)
    return lines[0] if lines else None


def _is(line: AliasLine, domain: str, place: Place) -> bool:
    return line.name is not None and _of(line.name, domain) == place


def _names(target: Place | None, place: Place) -> bool:
    return target is not None and target.domain == place.domain and target.name.partition("+")[0] == place.name


def _of(text: str, domain: str) -> Place | None:
    """What a name or target of a file means; None where it means nothing."""
    try:
        found = parse_address(text, domain)
    except ValueError:
        return None
    return Place(fold_local_part(found.local_part), found.domain)


def _read(text: str, domain: str) -> Place:
    """Read a target that was typed; its local-part stays as it is where the domain is not ours to fold."""
    try:
        found = parse_target(text, domain)
    except ValueError:
        hint = "commands, files and * are no targets" if text.startswith(("|", "/", ":", CATCH_ALL)) else "no address"
        raise click.BadParameter(f"{text}: {hint}", param_hint="TARGETS") from None
    return Place(fold_local_part(found.local_part), found.domain)


def _written(target: Place, domain: str) -> str:
    return target.written if target.domain == domain else str(target)
