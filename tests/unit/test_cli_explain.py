"""`mta explain`: what docs/explain.md shows is what the command prints, and an operator's mistakes are told.

``python -m tests.unit.test_cli_explain`` writes the examples of the page anew.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mta.cli import explain as command
from mta.cli import main
from tests.doubles.rehearsal import BASE, USERS, World, directory

FILE = Path(__file__).parents[2] / "docs/explain.md"
PAGE = FILE.read_text()
TOML = BASE.replace("mx.example.test", "mx.example.org")
ZONE = """\
7.2.0.192.in-addr.arpa  PTR   mail.example.net
mail.example.net        A     192.0.2.7
example.net             MX    10 mx1.example.net
example.net             MX    20 mx2.example.net
example.net             TXT   "v=spf1 a:mail.example.net -all"
_dmarc.example.net      TXT   "v=DMARC1; p=reject"
mx1.example.net         A     198.51.100.10
mx2.example.net         A     198.51.100.11
nomail.example          MX    0 .
"""


_ID = re.compile("queued as [0-9a-z]{18}")


def blocks(language: str) -> list[str]:
    """The blocks of the page in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@contextmanager
def shown() -> Iterator[World]:
    """A worker with the files that the page shows, asked by the command."""
    with pytest.MonkeyPatch.context() as monkeypatch, directory() as root:
        (toml,), (aliases,) = blocks("toml"), blocks("aliases")
        domains = {"example.org": {"users": USERS, "aliases": aliases}}
        world = World(root, monkeypatch, TOML.format(root=root) + toml, domains, ZONE, [], {})

        def ask(config: Path, name: str, **arguments: Any) -> Any:
            return world.wait(world.worker.commands[name](arguments))

        monkeypatch.setattr(command, "ask_daemon", ask)
        yield world
        world.stop()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """See `shown`."""
    with shown() as world:
        yield world


def run(world: World, line: str) -> str:
    """Run a command line; gives what it prints, with the paths of a real server."""
    result = CliRunner().invoke(main, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    text = result.output.replace(f"{world.root}/etc", "/etc/mta").replace(f"{world.root}/mail", "/var/mail/mta")
    lengths = [len(each) for each in TOML.splitlines()]
    return re.sub(r"(?<=mta\.toml:)\d+", lambda found: str(int(found[0]) - len(lengths)), text)


SHOWN = [block.partition("\n")[::2] for block in blocks("console")]


@pytest.mark.parametrize(("line", "shown"), SHOWN, ids=[line for line, _ in SHOWN])
def test_the_page_shows_what_is_printed(world: World, line: str, shown: str) -> None:
    """Each example of the page, word for word; lines of mta.toml are those of the part that is shown."""
    printed = run(world, line.removeprefix("$ "))
    assert _ID.sub("queued as …", printed) == _ID.sub("queued as …", shown)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 2, "say --to, at least once, or a queue id"),
        (["--to", "a@example.org"], 2, "say --from or --login"),
        (["--from", "a@example.net"], 2, "say --to"),
        (["--from", "a@example.net", "--to", "b@example.org", "/nowhere/letter"], 66, "No such file or directory"),
    ],
)
def test_mistakes(world: World, arguments: list[str], status: int, told: str) -> None:
    """They end the command in words, with a status of sysexits(3)."""
    result = CliRunner().invoke(main, ["explain", *arguments])
    assert result.exit_code == status
    assert told in result.output


def test_a_letter_that_is_too_large(world: World, tmp_path: Path) -> None:
    """It is not sent to the daemon."""
    (tmp_path / "letter").write_bytes(bytes(command.CONTENT_MAXIMUM + 1))
    arguments = ["explain", "--from", "a@example.net", "--to", "b@example.org", str(tmp_path / "letter")]
    assert CliRunner().invoke(main, arguments).exit_code == 65


def test_what_peers_write_moves_no_cursor(world: World) -> None:
    """A letter is printed as harmless text."""
    out = run(world, "mta explain --from 'a@ex\u202eample.net' --to alice@example.org")
    assert "\u202e" not in out


def write_page() -> None:
    """Write the examples anew."""
    with shown() as world:

        def printed(found: re.Match[str]) -> str:
            line = found[1].partition("\n")[0]
            return f"```console\n{line}\n{run(world, line.removeprefix('$ '))}```"

        FILE.write_text(re.sub(r"```console\n(.*?)```", printed, PAGE, flags=re.DOTALL))


if __name__ == "__main__":
    write_page()


def test_who_would_be_left_out_is_said(world: World) -> None:
    """A message that some recipients are refused is not simply accepted."""
    told = run(world, "mta explain --login alice@example.org --to bob@example.org --to nobody@example.org")
    assert "The message would be accepted, but not for nobody@example.org: see RCPT above." in told
    told = run(world, "mta explain --login alice@example.org --to bob@example.org")
    assert "but not for" not in told
