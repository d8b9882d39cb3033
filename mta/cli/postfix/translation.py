"""A whole configuration of Postfix, translated and tried: what is written can be loaded, or it is told why not.

The result is loaded as the server would. An alias that is refused then (a circle) becomes a comment, and is told.
"""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mta.cli.postfix.lines import Place
from mta.cli.postfix.main_cf import MainCf
from mta.cli.postfix.names import LOCAL_ALIASES, Names
from mta.cli.postfix.outcome import NewFile, Note, Outcome
from mta.cli.postfix.server import Server
from mta.cli.postfix.tables import ReadFile
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load

_ROUNDS = 20
"""How often the result is tried."""
_FIRST_PERSON, _LAST_PERSON = 1000, 59999
"""Uids of people (Debian Policy §9.2.2)."""


def read_file(path: str) -> str:
    """Read a file of Postfix's, in whatever encoding its comments are. Raises OSError."""
    return Path(path).read_text("utf-8", "surrogateescape")


def people() -> list[str]:
    """The users of this machine who are people."""
    return [entry.pw_name for entry in pwd.getpwall() if _FIRST_PERSON <= entry.pw_uid <= _LAST_PERSON]


def host_name() -> str:
    """The name that Postfix takes for ``myhostname`` where none is written."""
    name = socket.gethostname()
    return name if "." in name else f"{name}.localdomain"


def translate(
    directory: str, read: ReadFile = read_file, persons: Sequence[str] | None = None
) -> tuple[Outcome, Sequence[Problem]]:
    """Translate the configuration in `directory`; what is left to mend are problems. Raises OSError."""
    file = os.path.join(directory, "main.cf")
    text = read(file)
    name = host_name()
    probe = MainCf(text, file, {"myhostname": name, "config_directory": directory})
    name = probe.value("myhostname")
    defaults = {"myhostname": name, "mydomain": name.partition(".")[2] or name, "config_directory": directory}
    main = MainCf(text, file, defaults)
    outcome = Outcome(main)
    names = Names(main, outcome, read, people() if persons is None else persons)
    names.translate()
    copied = LOCAL_ALIASES in outcome.files
    Server(outcome, read).translate(LOCAL_ALIASES if copied else names.aliases_file, bool(names.domains))
    _tell_of_master(directory, outcome)
    return outcome, _try(outcome, names.aliases_file, read)


def _tell_of_master(directory: str, outcome: Outcome) -> None:
    place = Place(os.path.join(directory, "master.cf"), 0)
    text = "is not read: mx listens at 25, smtpd at 587 and 465, unless mta.toml says otherwise"
    outcome.left.append(Note(place, text))


def _try(outcome: Outcome, aliases_file: str, read: ReadFile) -> Sequence[Problem]:
    """Load the result until what is wrong with it stands in no file of aliases; return what is left."""
    problems: Sequence[Problem] = ()
    for _ in range(_ROUNDS):
        with tempfile.TemporaryDirectory(prefix="mta-import-") as place:
            write(outcome, Path(place))
            try:
                load(os.path.join(place, "mta.toml"))
            except SettingsRefused as refused:
                problems = refused.problems
            else:
                return ()
            changed = [_without(outcome, each, place, aliases_file, read) for each in problems]
            if not any(changed):
                return [_told(each, place) for each in problems]
    return problems


def _told(problem: Problem, place: str) -> Problem:
    """A problem, with the path of a file below ``etc``."""
    file, expected, found = (
        text.replace(place + os.sep, "") for text in (problem.file, problem.expected, problem.found)
    )
    return Problem(file, problem.line, expected, found, problem.key)


def _without(outcome: Outcome, problem: Problem, place: str, aliases_file: str, read: ReadFile) -> bool:
    """Make a comment of the alias that a problem is about; False where it is about none."""
    if problem.file == aliases_file and problem.line and LOCAL_ALIASES not in outcome.files:
        # Only now is a copy needed: the file itself is left as it is.
        outcome.files[LOCAL_ALIASES] = NewFile(read(aliases_file))
        toml = outcome.files["mta.toml"]
        line = f'aliases = "{aliases_file}"'
        outcome.files["mta.toml"] = NewFile(toml.text.replace(line, f'aliases = "{LOCAL_ALIASES}"'), toml.mode)
        return True
    file = os.path.relpath(problem.file, place)
    if os.path.basename(file) not in ("aliases", LOCAL_ALIASES) or not problem.line or file not in outcome.files:
        return False
    old = outcome.files[file]
    text = _commented(old.text, problem.line)
    if text == old.text:
        return False
    outcome.files[file] = NewFile(text, old.mode)
    origin = aliases_file if file == LOCAL_ALIASES else file
    outcome.left.append(Note(Place(origin, problem.line), f"{problem.found}: the line is a comment now"))
    return True


def _commented(text: str, number: int) -> str:
    """Make comments of a line and of those that go on with it."""
    lines = text.split("\n")
    at = number - 1
    if lines[at].startswith("#"):
        return text
    lines[at] = f"# {lines[at]}"
    while at + 1 < len(lines) and lines[at + 1][:1] in (" ", "\t") and lines[at + 1].strip():
        at += 1
        lines[at] = f"#{lines[at]}"
    return "\n".join(lines)


def write(outcome: Outcome, directory: Path, group: int = -1) -> None:
    """Write the files below `directory`, for a group to read; one that is there is an error. Raises OSError."""
    for name, new in outcome.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, new.mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, new.mode)  # whatever the umask
            os.fchown(descriptor, -1, group)
            file.write(new.text.encode("utf-8", "surrogateescape"))
