"""What the documentation names exists: pages and headings behind links, commands with their options, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mta.cli import main
from mta.settings.domains import read_toml
from mta.settings.problem import Problem
from mta.settings.reference import tables
from mta.settings.sections import DomainSettings, Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEXTS = {page: page.read_text() for page in PAGES}
HISTORY = ROOT / "CHANGELOG.md"
"""Speaks of what was, too."""

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^\n|\A)((?:(?: {4,7}|\t)\S.*\n|\n)+)", re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
_KEY = re.compile(r"\[+([a-z_]+(?:\.[a-z_]+)*)\]+ ([a-z_]+)\b")
_TABLE = re.compile(r"\[+([a-z_]+(?:\.[a-z_]+)*)\]+$")


def ids(pages: list[Path]) -> list[str]:
    """Names of pages in the output of pytest."""
    return [page.name for page in pages]


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    titles = re.findall(r"^#+ (.*)", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link finds its file, and its heading there."""
    for link in _LINK.findall(_FENCE.sub("", TEXTS[page])):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page.name}: {link}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: str(page.name))
def test_each_page_is_in_the_index(page: Path) -> None:
    """docs/README.md leads to every page."""
    index = ROOT / "docs/README.md"
    assert page == index or f"]({page.name})" in TEXTS[index]


# Commands


def typed(text: str) -> Iterator[str]:
    """Each piece of code that may be a command line."""
    for _, kind, block in _FENCE.findall(text):
        lines = re.sub(r"\\\n\s*(> )?", " ", block).splitlines()
        for line in lines:
            if kind == "console":
                if line.startswith("$ "):
                    yield line[2:]
            elif kind in ("", "sh"):
                yield line
    rest = _FENCE.sub("", text)
    for block in _INDENTED.findall(rest):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    for code in _INLINE.findall(rest):
        yield " ".join(code.split())


def mta_commands(line: str) -> Iterator[list[str]]:
    """The words behind `mta` of each call of it in a line."""
    line = re.sub(r"\s#.*$", "", line.strip())
    for piece in re.split(r"\|\|?|&&|;|\$\(|\)|`", line):
        piece = re.sub(r"\s\d?>+\s*\S+|\s<\s*\S+", "", piece).strip()
        found = re.match(r"(?:sudo )?(?:\S*/bin/)?mta (?=[a-z-])(.*)", piece)
        if found and "…" not in piece and "[" not in piece:
            try:
                yield shlex.split(found[1])
            except ValueError:
                continue


def check_command(words: list[str]) -> None:
    """Parse a command line against the real commands, without running anything. Raises click.UsageError."""
    command: click.Command = main
    context = click.Context(main, info_name="mta")
    while isinstance(command, click.Group):
        if not words or words[0] in ("--help", "--version", "-h"):
            return
        inner = command.get_command(context, words[0])
        if inner is None:
            if command.invoke_without_command:
                break
            raise click.UsageError(f"no such command: {words[0]}")
        context = click.Context(inner, info_name=words[0], parent=context)
        command, words = inner, words[1:]
    options, left, _ = command.make_parser(context).parse_args(list(words))
    if left:
        raise click.UsageError(f"too many arguments: {left}")
    for parameter in command.params:
        value = options.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: str(page.name))
def test_commands_can_be_typed(page: Path) -> None:
    """Each command line of a page has a command, options and arguments that there are."""
    for line in typed(TEXTS[page]):
        for words in mta_commands(line):
            try:
                check_command(words)
            except click.BadOptionUsage:
                pass  # an option that prose speaks of, without its argument
            except click.UsageError as error:
                pytest.fail(f"{page.name}: mta {' '.join(words)}: {error.format_message()}")


def test_commands_are_found() -> None:
    """The search above finds commands in every kind of code, and judges them."""
    text = "a `mta queue list\n--state held` b\n\n    mta dkim show  # x\n\n```sh\nx | mta reload --config y >z\n```\n"
    found = [words for line in typed(text) for words in mta_commands(line)]
    assert found == [["reload", "--config", "y"], ["dkim", "show"], ["queue", "list", "--state", "held"]]
    for words in found:
        check_command(words)
    for words in (["nothing"], ["reload", "--nothing"], ["reload", "more"], ["queue", "list", "--state", "nothing"]):
        with pytest.raises(click.UsageError):
            check_command(words)


# Settings


def known() -> dict[str, set[str]]:
    """The keys of each table, without its brackets; those below a table are keys of it."""
    found: dict[str, set[str]] = {}
    for table in (*tables(Settings), *tables(DomainSettings)):
        name = table.heading.strip("[]")
        found.setdefault(name, set()).update(key.name for key in table.keys)
        above, _, last = name.rpartition(".")
        found.setdefault(above, set()).add(last)
    return found


KNOWN = known()
FREE = ("caps", "local.senders")
"""Tables whose keys are names of somebody."""


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: str(page.name))
def test_settings_exist(page: Path) -> None:
    """Each `[table] key` of a page is one of the settings."""
    for code in _INLINE.findall(_FENCE.sub("", TEXTS[page])):
        key = _KEY.match(code)
        if key:
            assert key[1] in KNOWN, f"{page.name}: {code}"
            assert key[2] in KNOWN[key[1]], f"{page.name}: {code}"
        table = _TABLE.match(code)
        if table:
            assert table[1] in KNOWN or table[1].startswith(FREE), f"{page.name}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_settings_are_taken(page: Path, tmp_path: Path) -> None:
    """Each block of TOML is what mta.toml or domain.toml may say."""
    for _, kind, block in _FENCE.findall(TEXTS[page]):
        if kind != "toml":
            continue
        file = tmp_path / "mta.toml"
        file.write_text(re.sub(r"^   ", "", block, flags=re.MULTILINE) if block.startswith("   ") else block)
        assert any(not complaints(file, cls) for cls in (Settings, DomainSettings)), complaints(file, Settings)


def complaints(file: Path, cls: type) -> list[Problem]:
    """What is wrong with a file, apart from what is not there."""
    problems: list[Problem] = []
    found = read_toml(str(file), problems)
    if found is not None:
        table, reading = found
        reading.table(cls, table)
    return [problem for problem in problems if problem.found != "nothing"]
