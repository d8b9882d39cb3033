"""What ``mta domain|user|alias list`` and ``app-password list`` print: what stands in the files, judged or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from mta.cli.change import ALIASES, USERS, directories, read_settings
from mta.cli.daemon import EX_CONFIG, fail
from mta.cli.place import chosen, counted, line_of, place_of
from mta.cli.user_change import app_names
from mta.settings.alias_file import alias_lines
from mta.settings.app_passwords import FILE as APP_PASSWORDS
from mta.settings.dkim import DIRECTORY, KeyState, read_keys
from mta.settings.passwd_file import entries, why_disabled
from mta.settings.problem import Problem
from mta.settings.verifier import DISABLED


def domains(config: Path, as_json: bool) -> None:
    """List domains."""
    rows = []
    for name, directory in directories(config).items():
        users, aliases = entries(_text(directory, USERS)), alias_lines(_text(directory, ALIASES))
        problems: list[Problem] = []
        keys = read_keys(os.path.join(directory, DIRECTORY), name, problems)
        signing = [key.selector for key in keys if key.state is KeyState.SIGNING]
        if as_json:
            _print_json(
                {
                    "domain": name,
                    "directory": directory,
                    "users": len(users),
                    "aliases": len(aliases),
                    "signing_with": signing,
                }
            )
        signed = f"signed with {', '.join(signing)}" if signing else "not signed"
        rows.append((name, counted(len(users), "user"), counted(len(aliases), "alias", "es"), signed))
    if not as_json:
        _print(rows, f"There are no domains: mta domain add NAME (in {config.absolute().parent / 'domains'})")


def users(config: Path, domain: str | None, as_json: bool) -> None:
    """List users."""
    all_domains, settings = directories(config), read_settings(config)
    rows = []
    for name in chosen(domain, all_domains):
        directory = all_domains[name]
        apps = _text(directory, APP_PASSWORDS)
        for line in entries(_text(directory, USERS)):
            address, why = f"{line.user}@{name}", why_disabled(line.content)
            has_password = line.content.partition(":")[2].partition(":")[0] != DISABLED
            names = app_names(apps, line.user)
            if as_json:
                _print_json(
                    {
                        "address": address,
                        "password": has_password,
                        "app_passwords": names,
                        "disabled": why,
                        "maildir": os.path.join(settings.mail, name, line.user, "Maildir"),
                        "source": f"{os.path.join(directory, USERS)}:{line.number}",
                    }
                )
            said = [] if why is None else [f"disabled since {why}" if why else "disabled"]
            said += [] if has_password else ["no password"]
            said += [f"app passwords: {', '.join(names)}"] if names else []
            rows.append((address, "; ".join(said)))
    if not as_json:
        _print(rows, "There are no users: mta user add NAME@DOMAIN")


def aliases(config: Path, domain: str | None, as_json: bool) -> None:
    """List aliases."""
    all_domains = directories(config)
    rows = []
    for name in chosen(domain, all_domains):
        for line in alias_lines(_text(all_domains[name], ALIASES)):
            if line.name is None:
                continue
            if as_json:
                source = f"{os.path.join(all_domains[name], ALIASES)}:{line.number}"
                _print_json({"address": f"{line.name}@{name}", "targets": line.targets, "source": source})
            rows.append((f"{line.name}@{name}", ", ".join(line.targets)))
    if not as_json:
        _print(rows, "There are no aliases: mta alias add NAME@DOMAIN TARGET")


def app_passwords(config: Path, user: str, as_json: bool) -> None:
    """List app passwords."""
    all_domains = directories(config)
    place = place_of(user, all_domains, "USER")
    directory = all_domains[place.domain]
    line_of(place, _text(directory, USERS))
    names = app_names(_text(directory, APP_PASSWORDS), place.name)
    for name in names:
        click.echo(json.dumps({"user": str(place), "name": name}) if as_json else name)
    if not names and not as_json:
        click.echo(f"{place} has no app passwords: mta user app-password add {place} NAME")


def _text(directory: str, file: str) -> str:
    try:
        with open(os.path.join(directory, file), encoding="utf-8", errors="replace", newline="") as opened:
            return opened.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        fail(f"{os.path.join(directory, file)} cannot be read: {error.strerror}", EX_CONFIG)


def _print_json(value: Mapping[str, object]) -> None:
    click.echo(json.dumps(value))


def _print(rows: Iterable[tuple[str, ...]], nothing: str) -> None:
    """Print a table whose columns are as wide as they need; `nothing` where there are no rows."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if not rows:
        click.echo(nothing, err=True)
