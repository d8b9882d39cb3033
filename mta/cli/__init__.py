"""The `mta` command: what an operator types.

A fault of the operator's is told in one line with a sensible exit status (sysexits(3)), never with a traceback.
"""

from __future__ import annotations

from pathlib import Path

import click

from mta import __version__
from mta.cli.daemon import CONFIG, EX_CANTCREAT, EX_CONFIG, EX_UNAVAILABLE, fail, state_directory
from mta.cli.demo import Ports, describe_demo, write_demo
from mta.cli.dkim import dkim
from mta.cli.policy import policy
from mta.cli.queue import queue
from mta.service.control import CommandRefused, ask, socket_path
from mta.settings.problem import SettingsRefused
from mta.settings.values import parse_host_name


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mta")
def main() -> None:
    """Operate the mail server. The daemon itself is started with `twistd mta --config FILE`."""


@main.command(epilog="Example: mta init --demo var/demo")
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


@main.command(epilog="Example: mta reload --config var/demo/etc/mta.toml")
@CONFIG
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Its state directory, where `state` has been changed since it was started.",
)
def reload(config: Path, state: Path | None) -> None:
    """Have the daemon read its configuration anew; says what is wrong if it cannot be used.

    Sessions go on. A configuration with an error changes nothing. The log file is opened anew.
    """
    try:
        path = socket_path(str(state) if state else state_directory(str(config.absolute())))
        answer = ask(path, "reload")
    except (SettingsRefused, CommandRefused) as refused:
        fail(f"not reloaded, the running configuration stays:\n{refused}", EX_CONFIG)
    except ValueError as error:
        fail(str(error), EX_CONFIG)
    except OSError as error:
        hint = "" if state else "; if `state` was changed, name the old directory with --state"
        fail(f"no daemon answers at {path}: {error.strerror or error}{hint}", EX_UNAVAILABLE)
    click.echo(answer["message"])


main.add_command(dkim)
main.add_command(policy)
main.add_command(queue)
