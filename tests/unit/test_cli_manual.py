"""The manual pages: complete, sound to their readers' programs, and made of what the commands and settings say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mta.cli import COMMANDS, daemon, main, manual, mdoc
from mta.settings.reference import tables
from mta.settings.sections import DomainSettings, Settings
from tests.live.peers.process import program


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages, dated the first of March 2026."""
    place = tmp_path_factory.mktemp("man")
    manual.write(place, 1772323200)
    return place


def plain(page: Path) -> str:
    """A page without bold and underlined letters."""
    return re.sub(r"(.)\x08", "", subprocess.run(
        [program("mandoc"), "-T", "utf8", "-O", "width=1000", str(page)], check=True, capture_output=True, text=True
    ).stdout)  # fmt: skip


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command that is no group, with what is typed for it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            if not inner.hidden:
                yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


def test_each_command_has_a_page(directory: Path) -> None:
    """There is a page for each command, for the whole, for the file and for the daemon, and none else."""
    expected = {f"mta-{name}.1" for name in COMMANDS} | {"mta.1", "mta.8", "mta.toml.5"}
    assert {page.name for page in directory.iterdir()} == expected
    for name in COMMANDS:
        assert f".It Xr mta-{name} 1" in (directory / "mta.1").read_text()


def test_programs_for_pages_find_no_fault(directory: Path) -> None:
    """`mandoc -T lint` has nothing to say but that pages are not installed yet, and groff warns of nothing."""
    pages = sorted(map(str, directory.iterdir()))
    lint = subprocess.run([program("mandoc"), "-T", "lint", *pages], check=False, capture_output=True, text=True)
    faults = [line for line in lint.stdout.splitlines() if "referenced manual not found" not in line]
    assert faults == []
    for page in pages:
        groff = subprocess.run(
            [program("groff"), "-mandoc", "-ww", "-K", "utf8", "-T", "utf8", page],
            check=True,
            capture_output=True,
            text=True,
        )
        assert groff.stderr == "", page


def test_each_option_is_told(directory: Path) -> None:
    """Each option of each command stands on its page, with its whole help."""
    for path, command in leaves(main, "mta"):
        text = " ".join(plain(directory / f"mta-{path.split()[1]}.1").split())
        assert path in text
        for option in command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert all(name in text for name in option.opts), f"{path} {option.opts}"
                words = " ".join(re.sub(r"\[(default|required)[^][]*\]|`", "", option.help or "").split())
                assert words.replace("'", "’") in text.replace("'", "’"), f"{path} {option.opts}: {words}"


def test_each_setting_is_told(directory: Path) -> None:
    """Each table and key of the configuration stands in mta.toml(5)."""
    text = plain(directory / "mta.toml.5")
    for table in (*tables(Settings), *tables(DomainSettings)):
        assert table.heading in text
        for key in table.keys:
            assert re.search(rf"^\s+{key.name}\b", text, re.MULTILINE), f"{table.heading} {key.name}"


def test_each_exit_status_has_a_meaning() -> None:
    """Whatever status a command can name is described."""
    statuses = {value for name, value in vars(daemon).items() if name.startswith("EX_")}
    assert statuses <= set(manual.STATUSES)


def test_statuses_of_a_command(directory: Path) -> None:
    """What a module says of its statuses is told; else those that it names, with those of asking the daemon."""
    policy = plain(directory / "mta-policy.1")
    assert re.search(r"70\s+A function raised, took too long, or said what makes no sense\.", policy)
    top = plain(directory / "mta-top.1")
    section = top.partition("EXIT STATUS")[2].partition("EXAMPLES")[0]
    assert {int(number) for number in re.findall(r"^\s+(\d+)\s", section, re.MULTILINE)} >= {0, 2, 65, 69, 78}


def test_examples_are_those_of_the_help(directory: Path) -> None:
    """Each page shows the examples of its command, whatever form the epilog has."""
    assert "mta queue list --state held" in plain(directory / "mta-queue.1").partition("EXAMPLES")[2]
    assert manual._examples("Example: mta a") == ["mta a"]
    assert manual._examples("Examples: mta a; mta b, for all") == ["mta a", "mta b, for all"]
    assert manual._examples("\b\nExamples:\n  mta a\n  mta b | sort; date") == ["mta a", "mta b | sort; date"]


def test_the_same_day_gives_the_same_pages(directory: Path, tmp_path: Path) -> None:
    """Made again they are the same octet for octet; a page of a command that is gone goes."""
    tmp_path.joinpath("mta-gone.1").write_text("")
    manual.write(tmp_path, 1772323200 + 3600)
    assert {page.name: page.read_text() for page in tmp_path.iterdir()} == {
        page.name: page.read_text() for page in directory.iterdir()
    }
    assert (tmp_path / "mta.1").read_text().startswith(".Dd March 1, 2026\n.Dt MTA 1\n")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("One. Two `--x y`.", ["One.", "Two \\fB\\-\\-x y\\fR."]),
        (".Sh is no request\n\n'nor this", ["\\&.Sh is no request", ".Pp", "\\&'nor this"]),
        ("a \\ b § – …", ["a \\e b \\(sc \\(en \\&..."]),
        ("(One.) Two", ["(One.)", "Two"]),
        ("ü", ["\\[u00FC]"]),
    ],
)
def test_text(text: str, lines: list[str]) -> None:
    """Nothing in a text is taken for a request; a sentence begins a line."""
    assert list(mdoc.prose(text)) == lines


def test_arguments() -> None:
    """No word of a line is taken for a macro, and none comes apart."""
    assert mdoc.arguments("No", "a b", "x", "[mx]", "") == '\\&No "a b" x [mx]\\& ""'
