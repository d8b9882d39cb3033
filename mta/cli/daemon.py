"""How a command reaches the running daemon, and how it ends when it cannot.

Every command imports this, and a shell imports the commands to complete what is typed: so nothing else is imported
before it is needed.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

# Exit statuses of sysexits(3)
EX_DATAERR = 65
EX_NOINPUT = 66
EX_NOUSER = 67
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CANTCREAT = 73
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78

DEFAULT_CONFIG = "/etc/mta/mta.toml"

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, readable=False),  # who cannot read it is told why further below
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration that the daemon was started with.",
)


def examples(*lines: str) -> str:
    """The end of a command's help: command lines, each on a line of its own, which nothing folds."""
    return "\b\n" + "\n".join([f"Example{'' if len(lines) == 1 else 's'}:", *(f"  {line}" for line in lines)])


def also(config: Path) -> str:
    """What a command line that is printed needs, so that it can be typed: the configuration, where it is another."""
    return "" if str(config) == DEFAULT_CONFIG else f" --config {shlex.quote(str(config))}"


def state_directory(config: str) -> str:
    """What the file says of `state`; all else in it is the daemon's to judge. Raises SettingsRefused."""
    from mta.settings.domains import read_toml
    from mta.settings.problem import Problem, SettingsRefused
    from mta.settings.sections import Settings

    problems: list[Problem] = []
    found = read_toml(config, problems)
    if found is not None:
        table, reading = found
        state = reading.table(Settings, table).state
        problems = [problem for problem in problems if problem.key == "state"]
    if problems or found is None:
        raise SettingsRefused(problems)
    return state


def ask_daemon(config: Path, command: str, **arguments: object) -> dict[str, Any]:
    """Ask the daemon of a configuration; what goes wrong is told in one line, and ends the command."""
    from mta.service.asking import CommandRefused, ask, socket_path
    from mta.settings.problem import SettingsRefused

    try:
        path = socket_path(state_directory(str(config.absolute())))
        return ask(path, command, **arguments)
    except CommandRefused as refused:
        fail(str(refused), EX_DATAERR)
    except (SettingsRefused, ValueError) as problem:
        fail(str(problem), EX_CONFIG)
    except OSError as error:
        fail(unanswered(path, error, config), EX_UNAVAILABLE)


def unanswered(path: str, error: OSError, config: Path) -> str:
    """Say why nobody answers at the control socket `path`, and what mends it."""
    why = error.strerror or str(error)
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        from mta.service.check.server import start_line

        why = f"it does not run; systemctl start mta, or {start_line(str(config), os.path.dirname(path))}"
    elif isinstance(error, PermissionError):
        why = f"{why}; this is for root, or the user of the server"
    return f"no daemon answers at {path}: {why}"


@dataclass(frozen=True, slots=True)
class Effect:
    """Whether a running daemon uses what was written, and what to tell of it."""

    taken: bool
    text: str


def take_effect(config: Path) -> Effect:
    """Have a daemon that runs use what was just written. A refusal ends the command."""
    from mta.service.asking import CommandRefused, ask, socket_path
    from mta.settings.problem import SettingsRefused

    try:
        answer = ask(socket_path(state_directory(str(config.absolute()))), "reload")
    except (CommandRefused, SettingsRefused, ValueError) as refused:
        fail(f"this is written, but the daemon goes on with what it had:\n{refused}", EX_CONFIG)
    except (FileNotFoundError, ConnectionRefusedError):
        return Effect(False, "No daemon runs here: it takes effect when one starts.")
    except OSError as error:
        why = error.strerror or error
        return Effect(False, f"The daemon could not be told ({why}): `mta reload` has it take effect.")
    return Effect(True, f"The daemon has {answer['message']}.")


def fail(text: str, status: int) -> NoReturn:
    """End the command with a word on standard error and a status of sysexits(3)."""
    click.echo(f"mta: {text}", err=True)
    sys.exit(status)
