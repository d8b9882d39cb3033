"""How a command gets a new password: typed twice, read from a file or pipe, or made. Never as a word of the command."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from mta.cli.daemon import EX_DATAERR, EX_NOINPUT, fail

F = TypeVar("F", bound=Callable[..., Any])

MINIMUM = 8
"""Characters of a password that people choose (NIST SP 800-63B §5.1.1.2)."""
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Those that nobody takes for another one."""
_GROUPS, _GROUP = 5, 5
"""25 letters of 31: 123 bits."""


def password_options(command: F) -> F:
    """Add the options that say where a password comes from."""
    file = click.option(
        "--password-file",
        type=click.File("r", encoding="utf-8"),
        help="Holds the password in its first line; - is standard input.",
    )
    generate = click.option("--generate", is_flag=True, help="Make a password, and show it once.")
    return file(generate(command))


def choose(whose: str, file: TextIO | None, generate: bool, longest: int) -> str:
    """Get a password of at most `longest` octets; one that cannot be used ends the command."""
    if generate and file is not None:
        raise click.UsageError("--generate and --password-file are two ways: choose one")
    if generate:
        return make()
    if file is not None:
        password = first_line(file)
    elif sys.stdin.isatty():
        password = click.prompt(f"Password of {whose}", hide_input=True, confirmation_prompt="Again", err=True)
    else:
        fail("nobody is there to type a password: say --generate, or --password-file -", EX_NOINPUT)
    return sound(password, longest)


def first_line(file: TextIO) -> str:
    """Read the first line of a file, without its end; what is no text ends the command."""
    try:
        return file.readline().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        fail(f"{file.name} holds no text in UTF-8; nothing was changed", EX_DATAERR)


def sound(password: str, longest: int) -> str:
    """Give a password that can be used, of at most `longest` octets; another one ends the command."""
    if len(password) < MINIMUM:
        fail(f"a password has {MINIMUM} characters or more; nothing was changed", EX_DATAERR)
    if len(password.encode()) > longest or not password.isprintable():
        fail(f"a password is {longest} octets or fewer, all of which can be typed; nothing was changed", EX_DATAERR)
    return password


def make() -> str:
    """Make a password that nobody guesses, and that can be typed on a telephone."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
