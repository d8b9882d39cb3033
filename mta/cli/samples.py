"""``mta samples``: where the files lie that came with the program and that no command writes.

They are what ``etc/`` and ``systemd/`` of the source hold: an example of a configuration, units, and the like. In a
checkout they are those of the checkout; else the record of the installation knows them, wherever pip, pipx or a
package of the system put them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from mta.cli.daemon import EX_DATAERR, examples, fail

_DIRECTORIES = ("etc", "systemd")
_SHARE = ("share", "mta")
_HIDDEN = (".", "__")


def find_samples(checkout: Path | None = None) -> Iterator[Path]:
    """Yield each file, in the order of the alphabet; `checkout` is where to look first, our own place if not given."""
    root = checkout or Path(__file__).resolve().parents[2]
    if (root / "setup.cfg").exists():
        found = [path for name in _DIRECTORIES for path in (root / name).rglob("*") if path.is_file()]
    else:
        recorded = metadata.files("mta") or []
        found = [Path(str(each.locate())).resolve() for each in recorded if _is_shared(each.parts)]
    yield from sorted(path for path in found if not path.name.startswith(_HIDDEN))


def _is_shared(parts: tuple[str, ...]) -> bool:
    return any(parts[at : at + 2] == _SHARE for at in range(len(parts)))


@click.command(epilog=examples("mta samples", "less $(mta samples mta.toml)"))
@click.argument("names", nargs=-1)
def samples(names: tuple[str, ...]) -> None:
    """Say where the samples lie: an example of etc/, units of systemd, and the like.

    With NAMES only the files of these names.
    """
    found = [path for path in find_samples() if not names or path.name in names]
    missing = sorted(set(names) - {path.name for path in found})
    if missing or not found:
        fail(f"no sample is called {', '.join(missing)}" if missing else "this installation has no samples", EX_DATAERR)
    for path in found:
        click.echo(path)
