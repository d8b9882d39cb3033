"""``mta import``: a configuration of another server, as a beginning of ours.

Exit status: 0 it is written, or told; 66 the configuration of the other server cannot be read; 73 ours is there
already, or cannot be written.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from mta.cli.daemon import EX_CANTCREAT, EX_NOINPUT, examples, fail

_GROUP = "mta"
"""The group of the server, where a package has made it."""
_TITLES = {
    "taken": "Taken",
    "differs": "Taken, but not the same here",
    "left": "Not taken",
}


@click.group("import")
def import_() -> None:
    """Begin with the configuration of another server."""


@import_.command(epilog=examples("mta import postfix --dry-run", "mta import postfix --output /etc/mta"))
@click.option(
    "--config-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="/etc/postfix",
    show_default=True,
    help="The directory of main.cf.",
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Write etc/ here; it has no mta.toml.")
@click.option("--dry-run", is_flag=True, help="Write nothing, only tell.")
@click.option("--json", "as_json", is_flag=True, help="Tell it as JSON, one object a line.")
def postfix(config_dir: Path, output: Path | None, dry_run: bool, as_json: bool) -> None:
    """Write a configuration from main.cf and its tables.

    Settings, domains, users and aliases are written. Postfix's files are not changed, and nothing that is there already
    is overwritten. Type it as root, who may read passwords of relay hosts.
    """
    from mta.cli.postfix.outcome import Note
    from mta.cli.postfix.translation import translate, write

    if output is None and not dry_run:
        raise click.UsageError("say where to write, --output DIR, or --dry-run")
    if output is not None and (output / "mta.toml").exists():
        fail(f"{output / 'mta.toml'} is there already; nothing was written", EX_CANTCREAT)
    try:
        outcome, problems = translate(str(config_dir.absolute()))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", EX_NOINPUT)
    groups: dict[str, Sequence[Note]] = {
        "taken": outcome.taken,
        "differs": outcome.differs,
        "left": outcome.left,
    }
    for kind, notes in groups.items():
        if notes and not as_json:
            click.secho(f"\n{_TITLES[kind]}", bold=True)
        for note in sorted(set(notes), key=lambda each: each.place):
            if as_json:
                click.echo(json.dumps({"kind": kind, **note.place._asdict(), "text": note.text}))
            else:
                click.echo(f"  {_shown(str(note))}")
    if output is not None and not dry_run:
        try:
            write(outcome, output, _servers_group())
        except OSError as error:
            fail(f"cannot write {error.filename}: {error.strerror}", EX_CANTCREAT)
    if as_json:
        for problem in problems:
            click.echo(json.dumps({"kind": "mend", "file": problem.file, "line": problem.line, "text": str(problem)}))
        return
    if problems:
        click.secho("\nTo mend before the server starts", bold=True)
        for problem in problems:
            click.echo(f"  {problem}")
    if dry_run or output is None:
        click.echo("\nNothing was written.")
        return
    click.echo(f"\nWritten to {output}: {', '.join(sorted(outcome.files))}.")
    click.echo(f"What is next:\n  mta check --config {output}/mta.toml")


def _servers_group() -> int:
    """The group that the server reads its files by; -1 where there is none, or where it may not be given to."""
    with contextlib.suppress(KeyError):
        return grp.getgrnam(_GROUP).gr_gid if os.geteuid() == 0 else -1
    return -1


def _shown(text: str) -> str:
    """Text of a file, harmless on a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)
