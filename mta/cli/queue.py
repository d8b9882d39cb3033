"""``mta queue``: what waits and why, and the operator's hand on it (docs/queue.md).

With the daemon running it is asked, over its control socket; where it is stopped the same is done here, on its files.

Exit status: 0 all is well; 65 there is no such message; 66 there is no queue; 74 the disk; 75 something could not be
changed now, try again; 77 not allowed; 78 the configuration cannot be used.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from mta.cli import queue_text as text
from mta.cli.daemon import CONFIG, EX_DATAERR, EX_TEMPFAIL, examples, fail
from mta.cli.queue_desk import Desk, desk
from mta.service.operator.queue import end_of, joined
from mta.settings.units import parse_seconds

F = TypeVar("F", bound=Callable[..., Any])

_SPARE = 20
"""Destinations asked for beyond those shown: what is large among the mail of all workers may be less so at each."""
_IDS_TOGETHER = 1000
"""Queue ids in one request; one may have 64 KiB."""

_BAR_FROM = 1000
"""Messages from which a bar shows how far it is."""

_OF = {"retry": "waiting", "release": "held"}
"""What is meant where no state is named."""
_DONE = {
    "retry": "due now",
    "hold": "held: mta queue release lets them go",
    "release": "released, and due now",
    "bounce": "returned to the sender",
    "delete": "deleted",
}
_ASKED = {
    "retry": "Try {} again now?",
    "hold": "Hold {}?",
    "release": "Release {}?",
    "bounce": "Return {} to the sender?",
    "delete": "Delete {}, and tell nobody?",
}
_NOTHING = {
    "retry": "nothing to try sooner: what is held waits for `mta queue release`",
    "hold": "nothing to hold",
    "release": "nothing was held",
    "bounce": "nothing to return",
    "delete": "nothing to delete",
}


def _age(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_seconds(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no length of time: 30m, 12h, 5d or 1d12h") from None


_FILTERS = (
    click.option("--sender", default="", metavar="ADDRESS", help="Mail from this address; `<>` for reports."),
    click.option("--recipient", default="", metavar="ADDRESS", help="Recipients with this address."),
    click.option("--destination", default="", metavar="DOMAIN", help="Recipients whose mail goes to this domain."),
    click.option("--login", default="", metavar="LOGIN", help="Mail that was submitted with this login."),
    click.option("--error", default="", metavar="TEXT", help="Recipients with this text in their last error."),
    click.option("--state", type=click.Choice(["waiting", "active", "held"]), help="Recipients in this state."),
    click.option("--older", metavar="AGE", callback=_age, help="Messages accepted longer ago than this: 30m, 12h, 5d."),
    click.option("--younger", metavar="AGE", callback=_age, help="Messages accepted less long ago than this."),
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


def _filters(command: F) -> F:
    """Add the filters; the command gets them as one mapping, `wanted`."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _wanted(options: Mapping[str, Any], queue_ids: tuple[str, ...] = ()) -> dict[str, Any]:
    """Make what the daemon understands of options; ages become times."""
    now = time.time()
    wanted = {key: value for key, value in options.items() if value and key not in ("older", "younger")}
    if options["older"] is not None:
        wanted["accepted_until"] = now - options["older"]
    if options["younger"] is not None:
        wanted["accepted_from"] = now - options["younger"]
    if queue_ids:
        wanted["queue_ids"] = list(queue_ids)
    return wanted


@click.group(invoke_without_command=True, epilog=examples("mta queue", "mta queue list --destination example.net"))
@CONFIG
@click.option("--destinations", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many are named.")
@_JSON
@click.pass_context
def queue(ctx: click.Context, config: Path, destinations: int, as_json: bool) -> None:
    """Look at the queue, and act on it: try again, hold, release, return, delete.

    Without a command it is summed up: how much waits in which state, for the destinations with most mail why most of it
    waits, when it is tried next and how old the oldest is. Addresses and names in filters may have `*` for anything;
    several filters must all fit.
    """
    if ctx.invoked_subcommand is None:
        _sum_up(config, destinations, as_json)
    else:  # an option that stands before the command counts for it
        ctx.default_map = {ctx.invoked_subcommand: {"config": config}}


@queue.command(epilog=examples("mta queue summary --destinations 100"))
@CONFIG
@click.option("--destinations", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many are named.")
@_JSON
def summary(config: Path, destinations: int, as_json: bool) -> None:
    """Sum the queue up, by state and destination."""
    _sum_up(config, destinations, as_json)


def _sum_up(config: Path, destinations: int, as_json: bool) -> None:
    with desk(config) as asked:
        answer = asked.ask("queue-summary", destinations=min(1000, destinations + _SPARE))
        ordered = sorted(answer["largest"].items(), key=lambda item: (-item[1]["recipients"], item[0]))
        answer["largest"] = dict(ordered[:destinations])
        if not as_json:
            _print(asked, text.summary(answer, time.time()))
            return
        oldest, count = min(answer["oldest"], default=None), max(answer["destinations"], default=0)
        total = {"messages": answer["messages"], "states": answer["states"], "oldest": oldest, "destinations": count}
        click.echo(json.dumps(total))
        for name, each in answer["largest"].items():
            first = {"oldest": min(each["oldest"]), "next": min(each["next"], default=None)}
            click.echo(json.dumps({"destination": name, **each, **first}))


@queue.command("list", epilog=examples("mta queue list --state held --sender '*@example.org'"))
@CONFIG
@_filters
@click.option("--limit", type=click.IntRange(1), help="Not more messages than this.")
@_JSON
@click.argument("queue_ids", nargs=-1)
def list_(config: Path, limit: int | None, as_json: bool, queue_ids: tuple[str, ...], **filters: Any) -> None:
    """List messages in the order of acceptance.

    Each with its recipients, why they wait, and the next attempt.
    """
    with desk(config) as asked:
        shown = 0
        for message in _messages(asked, _wanted(filters, queue_ids), limit):
            shown += 1
            if as_json:
                click.echo(json.dumps(message))
            else:
                _print(asked, text.listed(message, time.time()))
        if not shown and not as_json:
            empty = not queue_ids and not any(filters.values())
            click.echo("The queue is empty." if empty else "Nothing in the queue fits.", err=True)


def _messages(asked: Desk, wanted: Mapping[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    left, after = limit, ""
    while left is None or left > 0:
        answer = asked.ask("queue-list", **wanted, after=after, limit=200 if left is None else min(200, left))
        page = joined(answer)[:left]
        yield from page
        after = end_of(answer)
        if not after:
            return
        left = None if left is None else left - len(page)


@queue.command(epilog=examples("mta queue show 0abcdefgh00jkmnpqr"))
@CONFIG
@_JSON
@click.argument("queue_id")
def show(config: Path, as_json: bool, queue_id: str) -> None:
    """Tell all that the queue knows of one message."""
    with desk(config) as asked:
        message = asked.ask("queue-show", queue_id=queue_id)
        if as_json:
            click.echo(json.dumps(message))
        else:
            _print(asked, text.shown(message, time.time()))


@queue.command(epilog=examples("mta queue content 0abcdefgh00jkmnpqr > message.eml"))
@CONFIG
@click.option("--head", is_flag=True, help="Only the head, without the empty line behind it.")
@click.argument("queue_id")
def content(config: Path, head: bool, queue_id: str) -> None:
    """Write a message to standard output, as it would be sent."""
    from mta.spool.port import head_of, pieces_of

    with desk(config) as asked:
        found = asked.content(queue_id)
        for octets in (head_of(found).octets,) if head else pieces_of(found):
            sys.stdout.buffer.write(octets)


# Acts


def _act(name: str, example: str) -> Callable[[F], click.Command]:
    """Make a command of an act: filters, ids, and what bulk acts need."""

    def decorate(function: F) -> click.Command:
        command: Any = click.argument("queue_ids", nargs=-1)(function)
        command = click.option("--json", "as_json", is_flag=True, help="One JSON object: what was done.")(command)
        command = click.option("--yes", is_flag=True, help="Do not ask.")(command)
        command = click.option("--all", "everything", is_flag=True, help="All that is in the queue.")(command)
        command = _filters(command)
        add: Any = queue.command(name, epilog=examples(example))
        made: click.Command = add(CONFIG(command))
        return made

    return decorate


_REASON = click.option("--reason", default="", metavar="TEXT", help="Why; goes to the history.")


@_act("retry", "mta queue retry --destination example.net")
def retry(config: Path, **options: Any) -> None:
    """Make waiting recipients due now."""
    _carry_out(config, "retry", options)


@_act("hold", "mta queue hold --login bob@example.org --reason 'password stolen?'")
@_REASON
def hold(config: Path, **options: Any) -> None:
    """Let waiting recipients rest until they are released."""
    _carry_out(config, "hold", options)


@_act("release", "mta queue release 0abcdefgh00jkmnpqr")
@_REASON
def release(config: Path, **options: Any) -> None:
    """Deliver held messages after all: they are due now."""
    _carry_out(config, "release", options)


@_act("bounce", "mta queue bounce --destination old.example --reason 'this domain is no more'")
@click.option("--reason", default="", metavar="TEXT", help="Why; the sender reads it, and it goes to the history.")
def bounce(config: Path, **options: Any) -> None:
    """Give messages up, and send their sender a report."""
    _carry_out(config, "bounce", options)


@_act("delete", "mta queue delete --sender '*@spammer.example' --state held")
@_REASON
def delete(config: Path, **options: Any) -> None:
    """End messages without delivery and without a report."""
    _carry_out(config, "delete", options)


def _carry_out(config: Path, act: str, options: dict[str, Any]) -> None:
    queue_ids = tuple(dict.fromkeys(options.pop("queue_ids")))
    everything, yes, as_json = options.pop("everything"), options.pop("yes"), options.pop("as_json")
    reason = options.pop("reason", "")
    filtered = any(value not in ("", None) for value in options.values())
    if not queue_ids and not filtered and not everything:
        raise click.UsageError(f"say what to {act}: queue ids, filters, or --all")
    if everything and (queue_ids or filtered):
        raise click.UsageError("--all is everything: it goes with neither queue ids nor filters")
    wanted = _wanted(options)
    # what comes while this runs is not meant
    wanted.setdefault("accepted_until", time.time())
    if not queue_ids and act in _OF:
        wanted.setdefault("state", _OF[act])
    with desk(config) as asked:
        total = len(queue_ids) or _counted(asked, wanted, act, yes)
        done, errors, known = _ask_all(asked, act, reason, _requests(wanted, queue_ids), total)
        unknown = [] if filtered else [queue_id for queue_id in queue_ids if queue_id not in known]
        if as_json or not unknown or known:
            _tell(asked, act, done, as_json)
    for queue_id in unknown:
        click.echo(f"mta: there is no message {queue_id} in the queue", err=True)
    if done["failed"]:
        fail(f"{text.amount(done['failed'], 'recipient')} could not be changed: {errors[0]}", EX_TEMPFAIL)
    if unknown:
        sys.exit(EX_DATAERR)


def _ask_all(
    asked: Desk, act: str, reason: str, requests: Iterator[dict[str, Any]], total: int
) -> tuple[dict[str, int], list[str], set[str]]:
    """Have an act done, request by request; returns the numbers, the errors, and the ids that were found."""
    done = dict.fromkeys(("acted", "recipients", "busy", "failed"), 0)
    errors: list[str] = []
    known: set[str] = set()
    hidden = total < _BAR_FROM or not sys.stderr.isatty()
    with click.progressbar(length=total, label=act, file=sys.stderr, hidden=hidden) as bar:
        for request in requests:
            after, more = "", True
            while more:
                answer = asked.ask("queue-act", act=act, reason=reason, after=after, **request)
                for key in done:
                    done[key] += answer[key]
                errors += answer["errors"]
                known.update(answer["known"])
                bar.update(answer["found"])
                after = end_of(answer)
                more = bool(after)
    return done, errors, known


def _requests(wanted: Mapping[str, Any], queue_ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if not queue_ids:
        yield dict(wanted)
    for at in range(0, len(queue_ids), _IDS_TOGETHER):
        yield {**wanted, "queue_ids": list(queue_ids[at : at + _IDS_TOGETHER])}


def on_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _counted(asked: Desk, wanted: Mapping[str, Any], act: str, yes: bool) -> int:
    """Count what a bulk act would concern, and ask on a terminal whether it is meant; returns the messages."""
    count = asked.ask("queue-count", **wanted)
    if count["messages"] and not yes and on_terminal():
        many = f"{text.amount(count['recipients'], 'recipient')} of {text.amount(count['messages'], 'message')}"
        click.confirm(_ASKED[act].format(many), abort=True)
    return int(count["messages"])


def _tell(asked: Desk, act: str, done: Mapping[str, int], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"act": act, **done}))
        return
    lines = []
    if done["acted"]:
        lines.append(
            f"{text.amount(done['acted'], 'message')}, {text.amount(done['recipients'], 'recipient')}: {_DONE[act]}"
        )
    elif not done["busy"] and not done["failed"]:
        lines.append(_NOTHING[act])
    if done["busy"]:
        lines.append(f"{text.amount(done['busy'], 'recipient')} left alone: an attempt is under way")
    _print(asked, lines)


def _print(asked: Desk, lines: Any) -> None:
    for line in lines:
        click.echo(line)
    if asked.stopped and not asked.told:
        asked.told = True
        click.echo("(the daemon is not running: this is what it left)", err=True)
