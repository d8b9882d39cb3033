"""What ``mta user`` does: changes of ``users`` and ``app-passwords``, and what the daemon is told of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from mta.auth.verifier import make_scram_verifier
from mta.cli.alias_change import leading_to, remove_leading
from mta.cli.change import ALIASES, USERS, Change, changing, directories, read_settings
from mta.cli.daemon import EX_DATAERR, also, ask_daemon, fail, take_effect
from mta.cli.password import choose, make
from mta.cli.place import Place, counted, line_of, place_of
from mta.settings.alias_file import alias_lines
from mta.settings.app_passwords import FILE as APP_PASSWORDS
from mta.settings.app_passwords import PER_USER
from mta.settings.domains import is_user_name
from mta.settings.lines import appended, removed, replaced
from mta.settings.passwd_file import disabled, enabled, entries, is_app_name, why_disabled, with_password
from mta.settings.values import fold_local_part
from mta.settings.verifier import DISABLED

APP_ITERATIONS = 4096
"""PBKDF2 iterations for a password of 123 bits of chance, which nobody guesses: so it costs the server little to try
several (RFC 7677 §4 asks for so many at least)."""


def add(config: Path, user: str, file: TextIO | None, generate: bool, no_password: bool) -> None:
    """Add a user."""
    place, auth = place_of(user, directories(config), "USER"), read_settings(config).auth
    name_fits(place)
    password = "" if no_password else choose(str(place), file, generate, auth.password_maximum)
    with changing(config) as change:
        put_user(change, place, password)
        change.commit()
        maildir = _maildir(change, place)
        names = [line for line in alias_lines(change.text(place.domain, ALIASES)) if _named(line.name, place)]
        path = change.path(place.domain, ALIASES)
    click.echo(f"{place} is a user now{shown(password, generate)}.")
    click.echo(f"Mail for it goes to {maildir}, which the first message makes.")
    for line in names:
        click.echo(f"Beware: {path}:{line.number} is an alias of the same name, and takes its mail.")
    if no_password:
        click.echo(f"For programs that send: mta user app-password add {place} NAME")
    click.echo(take_effect(config).text)


def put_user(change: Change, place: Place, password: str) -> None:
    """Put a line for a new user behind all others; nobody logs in without a password."""
    text = change.text(place.domain, USERS)
    if any(line.user == place.name for line in entries(text)):
        fail(f"{place} is a user already: mta user passwd changes its password", EX_DATAERR)
    verifier = make_scram_verifier(password, change.settings.auth.iterations) if password else DISABLED
    change.write(place.domain, USERS, appended(text, f"{place.name}:{verifier}::::::"))


def name_fits(place: Place) -> None:
    """End the command where a name is no user's."""
    if not is_user_name(place.name):
        words = "letters, digits and . _ + -, starting with a letter or digit"
        fail(f"{place.written} is no user name: {words}", EX_DATAERR)


def shown(password: str, generated: bool) -> str:
    """The words that show a password that was made."""
    return f", with the password  {password}  (it is shown this once)" if generated else ""


def remove(config: Path, user: str, force: bool) -> None:
    """Remove a user; its Maildir stays."""
    with changing(config) as change:
        place = place_of(user, change.domains, "USER")
        line = line_of(place, change.text(place.domain, USERS))
        leading = leading_to(change, place)
        if leading and not force:
            listed = "".join(f"\n  {each.where}: {each.alias}" for each in leading)
            fail(
                f"aliases lead to {place}:{listed}\n"
                "Have them lead elsewhere (mta alias add, mta alias remove), or take it out of them with --force.",
                EX_DATAERR,
            )
        gone = remove_leading(change, leading)
        apps = change.text(place.domain, APP_PASSWORDS)
        own = [each.number for each in entries(apps) if each.user == place.name]
        if own:
            change.write(place.domain, APP_PASSWORDS, removed(apps, own))
        change.write(place.domain, USERS, removed(change.text(place.domain, USERS), [line.number]))
        change.commit()
        maildir = _maildir(change, place)
    click.echo(f"{place} is no user any more.")
    for each in leading:
        click.echo(f"{each.alias} {'is gone' if each in gone else 'leads to it no more'}.")
    if os.path.isdir(maildir):
        click.echo(f"Its mail stays in {maildir}: remove that by hand when nobody needs it.")
    click.echo(take_effect(config).text)


def passwd(config: Path, user: str, file: TextIO | None, generate: bool) -> None:
    """Change a password."""
    place, auth = place_of(user, directories(config), "USER"), read_settings(config).auth
    with changing(config) as change:  # who types a password has a user to give it to
        line_of(place, change.text(place.domain, USERS))
    password = choose(str(place), file, generate, auth.password_maximum)
    verifier = make_scram_verifier(password, auth.iterations)
    with changing(config) as change:
        _change_line(change, place, lambda content: with_password(content, verifier))
        change.commit()
    told = f":  {password}  (it is shown this once)" if generate else ""
    click.echo(f"{place} has a new password{told}.")
    click.echo(take_effect(config).text)


def disable(config: Path, user: str, reason: str) -> None:
    """Disable an account."""
    why = ", ".join(filter(None, [time.strftime("%Y-%m-%d", time.gmtime()), reason]))
    with changing(config) as change:
        place = place_of(user, change.domains, "USER")
        _change_line(change, place, lambda content: disabled(content, why))
        change.commit()
    click.echo(f"{place} is disabled: nobody logs in with it. Mail to it is delivered as before.")
    done = _have_done(config, "account-disable", place)
    if done is not None:
        held = f"{counted(done['messages'], 'message')} to {counted(done['recipients'], 'recipient')}"
        click.echo(f"Ended: {counted(done['sessions'], 'session')}. Held in the queue: {held}.")
        if done["messages"]:
            click.echo(f"To look at these: mta queue list{also(config)} --login {place}")
    click.echo(f"To undo this: mta user enable{also(config)} {place}")


def enable(config: Path, user: str) -> None:
    """Enable an account again."""
    with changing(config) as change:
        place = place_of(user, change.domains, "USER")
        if why_disabled(line_of(place, change.text(place.domain, USERS)).content) is None:
            fail(f"{place} is not disabled", EX_DATAERR)
        _change_line(change, place, enabled)
        change.commit()
    click.echo(f"{place} is enabled again.")
    done = _have_done(config, "account-enable", place)
    if done is not None:
        released = f"{counted(done['messages'], 'message')} to {counted(done['recipients'], 'recipient')}"
        click.echo(f"Released in the queue: {released}.")


def add_app_password(config: Path, user: str, name: str) -> None:
    """Make an app password."""
    if not is_app_name(name):
        fail(f"{name} is no name for an app password: letters, digits and . _ -, 64 at most", EX_DATAERR)
    with changing(config) as change:
        place = place_of(user, change.domains, "USER")
        line = line_of(place, change.text(place.domain, USERS))
        text = change.text(place.domain, APP_PASSWORDS)
        names = app_names(text, place.name)
        if name in names:
            fail(f"{place} has an app password {name} already: remove it first, or choose another name", EX_DATAERR)
        if len(names) >= PER_USER:
            fail(f"{place} has {PER_USER} app passwords, and more are not allowed", EX_DATAERR)
        password = make()
        verifier = make_scram_verifier(password, max(APP_ITERATIONS, change.settings.auth.iterations_minimum))
        text = text or "# user:name:{SCRAM-SHA-256}verifier  (mta user app-password add)\n"
        change.write(place.domain, APP_PASSWORDS, appended(text, f"{place.name}:{name}:{verifier}"))
        change.commit()
    click.echo(f"{place} has the app password {name}:  {password}  (it is shown this once).")
    if why_disabled(line.content) is not None:
        click.echo(f"Beware: {place} is disabled, and nobody logs in with it.")
    click.echo(take_effect(config).text)


def remove_app_password(config: Path, user: str, name: str) -> None:
    """Revoke an app password."""
    with changing(config) as change:
        place = place_of(user, change.domains, "USER")
        line_of(place, change.text(place.domain, USERS))
        text = change.text(place.domain, APP_PASSWORDS)
        prefix = f"{place.name}:{name}:"
        numbers = [line.number for line in entries(text) if line.content.startswith(prefix)]
        if not numbers:
            known = ", ".join(app_names(text, place.name)) or "none"
            fail(f"{place} has no app password {name}, but {known}", EX_DATAERR)
        change.write(place.domain, APP_PASSWORDS, removed(text, numbers))
        change.commit()
    click.echo(f"The app password {name} of {place} is revoked.")
    click.echo(take_effect(config).text)


def app_names(text: str, user: str) -> list[str]:
    """The names of the app passwords of a user."""
    return [line.content.split(":", 2)[1] for line in entries(text) if line.user == user and ":" in line.content]


def _change_line(change: Change, place: Place, made: Callable[[str], str]) -> None:
    """Have `made` of a user's line stand in its place."""
    text = change.text(place.domain, USERS)
    line = line_of(place, text)
    change.write(place.domain, USERS, replaced(text, line.number, made(line.content)))


def _have_done(config: Path, command: str, place: Place) -> dict[str, int] | None:
    """Have the daemon use the change and do what goes with it; None where it cannot be asked."""
    effect = take_effect(config)
    click.echo(effect.text)
    return ask_daemon(config, command, login=str(place)) if effect.taken else None


def _maildir(change: Change, place: Place) -> str:
    return os.path.join(change.settings.mail, place.domain, place.name, "Maildir")


def _named(name: str | None, place: Place) -> bool:
    return name is not None and fold_local_part(name.strip('"')) == place.name
