"""``mta log``: the events of all workers from the history, in words, chosen and followed.

What the daemon prints (standard error, or ``[log] file``) has the same events, one for each line, for programs; this is
for people. Events of the level ``debug`` are in the history alone.

Exit status: 66 the history cannot be read; 77 it is not for who asks; 78 the configuration cannot be used.
"""

from __future__ import annotations

import fnmatch
import sys
import time
from pathlib import Path

import click

from mta.cli.daemon import CONFIG
from mta.cli.history import Moment, Past
from mta.cli.page import Page, columns
from mta.cli.trace import address_of, mentioned
from mta.observe.event import Event, Kind, Level
from mta.observe.history import key
from mta.observe.log import json_line
from mta.observe.search import FOREVER, Wanted

_EPILOG = """\b
Examples:
  mta log                               the latest events
  mta log -f --kind 'recipient.*'       deliveries as they happen
  mta log --level warning --since 1d    what went wrong since yesterday
  mta log --login alice@example.org     what alice did
"""


class Kinds(click.ParamType):  # type: ignore[type-arg]  # generic for the checker alone
    """Kinds of events, by name or by a pattern."""

    name = "kind"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Kind, ...]:
        """Find them."""
        found = tuple(kind for kind in Kind if fnmatch.fnmatchcase(kind.value, value.lower()))
        if not found:
            known = ", ".join(sorted({kind.value.partition(".")[0] for kind in Kind}))
            self.fail(f"no event is called {value!r}; they begin with: {known}", param, ctx)
        return found


@click.command(epilog=_EPILOG)
@CONFIG
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("-n", "--lines", type=click.IntRange(0), help="So many of the latest; 50, or all since --since.")
@click.option("--kind", "kinds", type=Kinds(), multiple=True, help="Of this kind: message.accepted, 'recipient.*'.")
@click.option(
    "--level",
    type=click.Choice([level.name.lower() for level in Level]),
    default="info",
    show_default=True,
    help="As grave as this, or graver.",
)
@click.option("--address", help="That mention this mail address, IP address or Message-ID.")
@click.option("--login", help="That mention this login.")
@click.option("--queue-id", help="Of this message.")
@click.option("--session", help="Of this session.")
@click.option("--since", type=Moment(), help="Nothing earlier: 2h, 3d, 14:00, yesterday, 2025-11-22.")
@click.option("--until", type=Moment(), help="Nothing later.")
@click.option("-v", "--verbose", is_flag=True, help="All that is known of each, below it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def log(
    config: Path,
    follow: bool,
    lines: int | None,
    kinds: tuple[tuple[Kind, ...], ...],
    level: str,
    address: str | None,
    login: str | None,
    queue_id: str | None,
    session: str | None,
    since: float | None,
    until: float | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Show what happened, from the history of all workers, and follow what happens."""
    if address and login:
        raise click.UsageError("--address and --login: one of them")
    past, page = Past(config), Page(time.time, columns())

    def show(event: Event) -> None:
        if as_json:
            click.echo(json_line(event))
        else:
            page.entry(event, detailed=verbose)
        sys.stdout.flush()

    wanted = Wanted(
        (queue_id or "").lower(),
        (session or "").lower(),
        address_of(address or login or ""),
        [kind for each in kinds for kind in each],
        Level[level.upper()],
        since or 0.0,
        until or FOREVER,
    )
    began = time.time()
    past.flush()
    found = past.in_order(wanted, lines if lines is not None else (None if since else 50))
    for event in found:
        show(event)
    if not found and not follow and lines != 0:
        click.echo("Nothing in the history fits.", err=True)
    if follow:
        try:
            for event in past.follow(began, lambda: False):
                if fits(event, wanted):
                    show(event)
        except KeyboardInterrupt:
            click.echo()


def fits(event: Event, wanted: Wanted) -> bool:
    """Whether an event that was not searched for is one that is wanted."""
    return (
        event.level <= wanted.level
        and wanted.since <= event.time <= wanted.until
        and wanted.queue_id in ("", event.queue_id)
        and wanted.session in ("", event.session)
        and (not wanted.kinds or event.kind in wanted.kinds)
        and (not wanted.text or key(wanted.text) in mentioned(event))
    )
