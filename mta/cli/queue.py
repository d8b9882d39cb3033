"""``mta queue``: what waits in the queue of the running server, and the operator's hand on held mail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mta.cli.daemon import CONFIG, ask_daemon

_STATES = ("waiting", "active", "held")


@click.group()
def queue() -> None:
    """Look at the queue; release or delete held mail."""


@queue.command("list", epilog="Example: mta queue list --state held")
@CONFIG
@click.option("--state", type=click.Choice(_STATES), help="Only messages with a recipient in this state.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_(config: Path, state: str | None, as_json: bool) -> None:
    """List messages in the order of acceptance, with the reason of waiting and the next attempt."""
    for message in _messages(config):
        recipients = [each for each in message["recipients"] if state in (None, each["state"])]
        if not recipients:
            continue
        if as_json:
            click.echo(json.dumps(message))
            continue
        click.echo(f"{message['queue_id']}  {_when(message['accepted'])}  {message['size']}  <{message['sender']}>")
        for each in recipients:
            due = f", next attempt {_when(each['due'])}" if each["state"] == "waiting" else ""
            why = f": {each['reason']}" if each["reason"] else ""
            click.echo(f"    {each['state']:7}  {each['mailbox']}{due}{why}")


@queue.command(epilog="Example: mta queue release 0abcdefgh00jkmnpqr")
@CONFIG
@click.argument("queue_ids", nargs=-1, required=True)
def release(config: Path, queue_ids: tuple[str, ...]) -> None:
    """Deliver held messages after all."""
    for queue_id in queue_ids:
        click.echo(ask_daemon(config, "queue-release", queue_id=queue_id)["message"])


@queue.command(epilog="Example: mta queue delete 0abcdefgh00jkmnpqr")
@CONFIG
@click.argument("queue_ids", nargs=-1, required=True)
def delete(config: Path, queue_ids: tuple[str, ...]) -> None:
    """End messages without delivery and without a report."""
    for queue_id in queue_ids:
        click.echo(ask_daemon(config, "queue-delete", queue_id=queue_id)["message"])


def _messages(config: Path) -> Iterator[dict[str, Any]]:
    after, more = "", True
    while more:
        answer = ask_daemon(config, "queue-list", after=after)
        yield from answer["messages"]
        more = answer["more"]
        after = answer["messages"][-1]["queue_id"] if more else ""


def _when(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
