"""``mta alias``: other names for users, lists of several, a catch-all (docs/accounts.md).

Exit status: 0 done; 65 it cannot be done so; 73 a file cannot be written; 75 somebody else is
changing the same; 78 the configuration cannot be used.
"""

from __future__ import annotations

from pathlib import Path

import click

from mta.cli import complete
from mta.cli.daemon import CONFIG, examples


@click.group()
def alias() -> None:
    """Add, remove and list aliases: other names for users, lists, a catch-all."""


@alias.command(
    epilog=examples("mta alias add sales@example.org alice bob@example.net", "mta alias add '*@example.org' alice")
)
@click.argument("alias", shell_complete=complete.aliases)
@click.argument("targets", nargs=-1, required=True, shell_complete=complete.targets)
@CONFIG
def add(alias: str, targets: tuple[str, ...], config: Path) -> None:
    """Have mail for ALIAS go to TARGETS.

    These are addresses, or users of the same domain by their names. Where the alias is there already, they are added to
    it. '*@example.org' stands for every name of example.org that is not there otherwise.
    """
    from mta.cli import alias_change

    alias_change.add(config, alias, targets)


@alias.command(
    epilog=examples("mta alias remove sales@example.org bob@example.net", "mta alias remove sales@example.org")
)
@click.argument("alias", shell_complete=complete.aliases)
@click.argument("targets", nargs=-1, shell_complete=complete.targets)
@CONFIG
def remove(alias: str, targets: tuple[str, ...], config: Path) -> None:
    """Take TARGETS out of ALIAS, or remove it as a whole."""
    from mta.cli import alias_change

    alias_change.remove(config, alias, targets)


@alias.command("list", epilog=examples("mta alias list example.org"))
@click.argument("domain", required=False, shell_complete=complete.domains)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@CONFIG
def list_(domain: str | None, as_json: bool, config: Path) -> None:
    """List the aliases of DOMAIN, or of all."""
    from mta.cli import listing

    listing.aliases(config, domain, as_json)
