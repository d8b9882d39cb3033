"""``mta init``: a configuration to start with."""

from __future__ import annotations

from pathlib import Path

import click

from mta.cli.daemon import EX_CANTCREAT, fail
from mta.cli.demo import Ports, describe_demo, write_demo
from mta.settings.values import parse_host_name


@click.command(epilog="Example: mta init --demo var/demo")
@click.option(
    "--demo",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Write a demonstration on loopback below this directory.",
)
@click.option("--domain", default="example.test", show_default=True, help="Its domain.")
@click.option("--mx-port", type=click.IntRange(1, 65535), default=2525, show_default=True)
@click.option("--smtpd-port", type=click.IntRange(1, 65535), default=2587, show_default=True, help="STARTTLS.")
@click.option("--smtps-port", type=click.IntRange(1, 65535), default=2465, show_default=True, help="Implicit TLS.")
def init(directory: Path, domain: str, mx_port: int, smtpd_port: int, smtps_port: int) -> None:
    """Write a configuration: users alice and bob with new passwords, a certificate, directories.

    What is there already stays as it is.
    """
    try:
        domain = parse_host_name(domain)
    except ValueError:
        raise click.BadParameter(f"{domain} is no domain name", param_hint="--domain") from None
    try:
        write_demo(directory, domain, Ports(mx_port, smtpd_port, smtps_port))
    except OSError as error:
        fail(f"cannot write {error.filename or directory}: {error.strerror}", EX_CANTCREAT)
    click.echo(describe_demo(directory))
