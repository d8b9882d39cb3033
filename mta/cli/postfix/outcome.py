"""What came of a translation: files, and what was taken, what differs, what was left."""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.cli.postfix.lines import Place
from mta.cli.postfix.main_cf import MainCf


@dataclass(frozen=True, slots=True)
class Note:
    """One thing to tell, and where it stood in Postfix's files."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write."""

    text: str
    mode: int = 0o644


@dataclass(slots=True)
class Outcome:
    """It grows while the parts of a configuration are translated."""

    main: MainCf
    files: dict[str, NewFile] = field(default_factory=dict)
    """By their path below ``etc``."""
    taken: list[Note] = field(default_factory=list)
    differs: list[Note] = field(default_factory=list)
    left: list[Note] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    """Parameters that something was said of."""

    def take(self, name: str, text: str = "") -> str | None:
        """The value of a parameter that the file has; None where it has its default. `text` tells what became of it."""
        self.used.add(name)
        if name not in self.main:
            return None
        value = self.main.value(name)
        if text and value:
            self.taken.append(Note(self.main.place(name), f"{name} = {value}: {text}"))
        return value

    def differ(self, name: str, text: str) -> None:
        """Tell in what a parameter's counterpart is not the same."""
        self.used.add(name)
        self.differs.append(Note(self.main.place(name), text))

    def leave(self, name: str, text: str) -> None:
        """Tell why a parameter is not taken."""
        self.used.add(name)
        self.left.append(Note(self.main.place(name), text))
