"""Pages of docs/ whose outputs are real: each command of a ``console`` block is typed, what it prints stands below it.

A command begins with ``$ `` and goes on in lines that begin with ``> ``. What a page has to prepare without showing it
stands in a comment, ``<!-- type: … -->``, one command a line. A block of any other kind is not touched.

What differs from run to run (times, ids, keys, measured figures) is the same to `alike`, and stays in the page as an
earlier run had it, so that a page changes only when something is said differently.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 200
"""Characters of a line of output; the rest is not shown."""

_PART = re.compile(r"^```console\n(?P<block>.*?)^```$|^<!-- type:(?P<hidden>.*?)-->$", re.MULTILINE | re.DOTALL)
_VOLATILE = (
    (re.compile(r"<\d+\.\d+\.\d+@"), "<NUMBER@"),
    (re.compile(r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?)?"), "DATE"),
    (re.compile(r"\b\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "DATE"),
    (re.compile(r"\b\d{4}-\d\d-(rsa|ed)\b"), r"SELECTOR-\1"),
    (re.compile(r"\b\d\d:\d\d(:\d\d(\.\d+)?)?\b"), "TIME"),
    (re.compile(r"\b(?=[0-9a-z]*\d)(?=[0-9a-z]*[a-z])[0-9a-z]{18}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "HEX"),
    (re.compile(r"[A-Za-z0-9+/]{40,}=*"), "BASE64"),
    (re.compile(r"(?<=password  )\S{16,}"), "PASSWORD"),
    (re.compile(r"\b(plausible|only storage whose cache survives).* no software can know"), "JUDGEMENT"),
    (re.compile(r"\b\d[\d,.]* ?(?:ms|s|µs|m|min|h)\b(?: \d+ (?:ms|s|min)\b)*"), "DURATION"),
    (re.compile(r"\b\d[\d,.]*(?= ?(?:GiB|MiB|KiB|octets|bytes|B|%|days?|inodes)\b|/s)"), "N"),
    (re.compile(r"(?<=right password) again|, alone(?=:)|,? batch of \d+"), ""),
    (re.compile(r"(?<=ttl )\d+|(?<=, )\d+(?= now)|(?<=MESSAGES )\d+"), "N"),
    (re.compile(r"(?<=\]:)\d+|(?<=127\.0\.0\.1:)\d{5}|(?<=port )\d{5}"), "PORT"),
    (re.compile(r"(?<=size=)\d+|(?<=delay=)[\d.]+|(?<=pid=)\d+|(?<=PID: )\d+"), "N"),
    (re.compile(r"(?<=database \.\.\. )\d+|(?<=[UG]ID )\d+|(?<=octets, )\d+|(?<=client port )\d+"), "N"),
    (re.compile(r"\bMaildir/new/\d+\."), "Maildir/new/N."),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{1,2} \w{3} \d{4}"), "DATE"),
    (re.compile(r"[a-z0-9]{5}(-[a-z0-9]{5}){4}"), "PASSWORD"),
    (re.compile(r"[ \t]+"), " "),
)
"""Patterns of what no two runs have in common, and what stands for it. Columns may move with it."""


def alike(text: str) -> list[str]:
    """The lines of a text without what differs from run to run; their order too, as two workers write the history."""
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return sorted(text.strip().splitlines())


def commands_of(block: str) -> list[tuple[str, str]]:
    """The commands of a block as the shell gets them, each with what stands below it."""
    found = []
    for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = piece.splitlines(keepends=True)
        more = 1
        while more < len(lines) and lines[more].startswith("> "):
            more += 1
        typed = lines[0] + "".join(line[2:] for line in lines[1:more])
        found.append((typed.rstrip("\n"), "".join(lines[more:])))
    return found


def shown(printed: str) -> str:
    """What a page shows of an output: no colours, no line longer than `WIDTH`, no blank lines at the end."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\n]*\r(?!\n)", "", printed.replace("\r\n", "\n"))
    lines = [line.rstrip() if len(line) <= WIDTH else line[:WIDTH].rstrip() + "…" for line in text.split("\n")]
    return "\n".join(lines).strip("\n") + "\n" if text.strip() else ""


def renewed(page: str, run: Callable[[str], str], differences: list[str] | None = None) -> str:
    """Type all commands of a page, and put what they print below them where it is not alike what is there.

    What each of these differs in is added to `differences`.
    """

    def part(found: re.Match[str]) -> str:
        if found["hidden"] is not None:
            for command in filter(None, map(str.strip, found["hidden"].splitlines())):
                run(command)
            return found[0]
        out = ["```console\n"]
        for typed, before in commands_of(found["block"]):
            out.append("$ " + typed.replace("\n", "\n> ") + "\n")
            now = shown(run(typed))
            differs = list(difflib.unified_diff(alike(before), alike(now), typed, "now", n=0, lineterm=""))
            if differences is not None:
                differences.extend(differs)
            out.append(now if differs else before)
        return "".join(out) + "```"

    return _PART.sub(part, page)


def compare(path: Path, run: Callable[[str], str], write: bool = False) -> str:
    """Type the commands of a page; return how what they print differs from the page, or write it there."""
    differences: list[str] = []
    now = renewed(path.read_text(), run, differences)
    if write:
        path.write_text(now)
        return ""
    return "\n".join(differences)
