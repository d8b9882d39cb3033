"""What a shell offers behind TAB: the domains, users and aliases of ``etc/``.

Files are looked through as they are, without judging them, and nothing heavy is imported: a shell does not wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from mta.settings.alias_file import alias_lines
from mta.settings.passwd_file import entries

_DEFAULT = "/etc/mta/mta.toml"


def domains(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer domains."""
    return _offered([name for name, _ in _domains(ctx)], incomplete)


def users(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the addresses of users."""
    return _offered(_users(ctx), incomplete)


def aliases(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the addresses of aliases."""
    return _offered(_aliases(ctx), incomplete)


def targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer what an alias may lead to: users and aliases."""
    return _offered([*_users(ctx), *_aliases(ctx)], incomplete)


def app_passwords(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of the app passwords of the user that stands before."""
    user, _, domain = str(ctx.params.get("user") or "").partition("@")
    found = []
    for name, directory in _domains(ctx):
        if name == domain or not domain:
            lines = entries(_text(directory, "app-passwords"))
            found += [line.content.split(":")[1] for line in lines if line.user == user and ":" in line.content]
    return _offered(found, incomplete)


def _users(ctx: click.Context) -> Iterator[str]:
    for name, directory in _domains(ctx):
        for line in entries(_text(directory, "users")):
            yield f"{line.user}@{name}"


def _aliases(ctx: click.Context) -> Iterator[str]:
    for name, directory in _domains(ctx):
        for alias in alias_lines(_text(directory, "aliases")):
            if alias.name is not None:
                yield f"{alias.name}@{name}"


def _domains(ctx: click.Context) -> list[tuple[str, str]]:
    place = Path(ctx.params.get("config") or _DEFAULT).absolute().parent / "domains"
    try:
        return sorted((e.name, e.path) for e in os.scandir(place) if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _text(directory: str, file: str) -> str:
    try:
        with open(os.path.join(directory, file), encoding="utf-8", errors="replace") as opened:
            return opened.read()
    except OSError:
        return ""


def _offered(words: list[str] | Iterator[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]
