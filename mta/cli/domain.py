"""``mta domain``: the domains whose mail is taken (docs/accounts.md).

Exit status: 0 done; 65 it cannot be done so; 66 no password was given; 73 a file cannot be written; 75 somebody else is
changing the same; 78 the configuration cannot be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from mta.cli import complete
from mta.cli.daemon import CONFIG, examples
from mta.cli.password import password_options


@click.group()
def domain() -> None:
    """Add, remove and list domains whose mail is taken."""


@domain.command(epilog=examples("mta domain add example.net --postmaster alice@example.org"))
@click.argument("domain")
@click.option(
    "--postmaster",
    shell_complete=complete.users,
    help="Who gets its postmaster's mail: an address of ours, or a name, which becomes its first user. "
    "The default is the postmaster of the first domain.",
)
@password_options
@CONFIG
def add(domain: str, postmaster: str | None, password_file: TextIO | None, generate: bool, config: Path) -> None:
    """Take mail for DOMAIN from now on.

    It has a postmaster and abuse address, and no users unless --postmaster is a name. Then its password is asked for.
    """
    from mta.cli import domain_change

    domain_change.add(config, domain, postmaster, password_file, generate)


@domain.command(epilog=examples("mta domain remove example.net"))
@click.argument("domain", shell_complete=complete.domains)
@click.option("--force", is_flag=True, help="Also if it has users, or aliases of other domains lead to it.")
@CONFIG
def remove(domain: str, force: bool, config: Path) -> None:
    """Take no mail for DOMAIN any more.

    Its mail stays where it is. Its directory, with keys, users and aliases, is put aside and can be put back.
    """
    from mta.cli import domain_change

    domain_change.remove(config, domain, force)


@domain.command("list", epilog=examples("mta domain list --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@CONFIG
def list_(as_json: bool, config: Path) -> None:
    """List the domains, with what they have."""
    from mta.cli import listing

    listing.domains(config, as_json)
