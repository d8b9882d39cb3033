"""``mta reload``: the running server reads its configuration anew."""

from __future__ import annotations

from pathlib import Path

import click

from mta.cli.daemon import CONFIG, EX_CONFIG, EX_UNAVAILABLE, examples, fail, state_directory, unanswered
from mta.service.asking import CommandRefused, ask, socket_path
from mta.settings.problem import SettingsRefused


@click.command(epilog=examples("mta reload --config var/demo/etc/mta.toml"))
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
        fail(f"{unanswered(path, error, config)}{hint}", EX_UNAVAILABLE)
    click.echo(answer["message"])
