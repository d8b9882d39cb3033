"""``mta explain``: what would become of a letter and why, or what was decided of a message and what lies ahead of it.

The daemon that runs is asked, and answers by the code that would do it (`mta.service.rehearsal`); what was decided of a
message that is here already stands in the history.

Exit status: 0 explained, whatever the outcome; 65 the daemon takes no such letter; 66 the file cannot be read, or
nobody knows the queue id; 69 no daemon runs; 78 the configuration cannot be read.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import click

from mta.cli.daemon import CONFIG, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, ask_daemon, fail

CONTENT_MAXIMUM = 5 * 1024 * 1024
"""Octets of a file: what is larger does not go over the control socket."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_EPILOG = """\b
Examples:
  mta explain --from ann@example.net --to bob@example.org --ip 192.0.2.7
  mta explain --login bob@example.org --to ann@example.net --to eve@example.com
  mta explain --from ann@example.net --to bob@example.org --ip 192.0.2.7 letter.eml
  mta explain 0c5xk2abcdefghjkmn        a message that is here already
"""


@click.command(epilog=_EPILOG)
@CONFIG
@click.argument("what", required=False, metavar="[FILE | QUEUE-ID]")
@click.option("--from", "sender", help="The reverse-path; '<>' for none. The login, where it is not given.")
@click.option("--to", "recipients", multiple=True, help="A recipient; may be repeated.")
@click.option("--login", default="", help="Who has logged in; makes it a submission. No password is asked for.")
@click.option("--ip", "address", default="192.0.2.1", show_default=True, help="The client's address.")
@click.option("--helo", help="What the client calls itself; its address in brackets, where it is not given.")
@click.option("--service", type=click.Choice(("mx", "smtpd")), help="Who is asked; mx, or smtpd with --login.")
@click.option(
    "--tls/--no-tls", "tls", default=None, help="Whether the client uses TLS; where it is offered, by default."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def explain(
    config: Path,
    what: str | None,
    sender: str | None,
    recipients: tuple[str, ...],
    login: str,
    address: str,
    helo: str | None,
    service: str | None,
    tls: bool | None,
    as_json: bool,
) -> None:
    """Tell what would become of a letter, which rule decides it and where that stands; nothing is sent.

    FILE is the letter as it would come, any line ends will do; without one a short sample is judged. With a QUEUE-ID
    and no --to: what was decided of that message, and what lies ahead of it.
    """
    if not recipients:
        if what is None or sender is not None or login:
            raise click.UsageError("say --to, at least once, or a queue id")
        _queued(config, what, as_json)
        return
    if sender is None and not login:
        raise click.UsageError("say --from or --login")
    path = login if sender is None else "" if sender == "<>" else sender.removeprefix("<").removesuffix(">")
    content = _sample(path, recipients) if what is None else _content(what)
    answer = ask_daemon(
        config,
        "explain",
        service=service or ("smtpd" if login else "mx"),
        address=address,
        helo=helo if helo is not None else f"[IPv6:{address}]" if ":" in address else f"[{address}]",
        sender=path,
        recipients=list(recipients),
        content=base64.b64encode(content).decode(),
        login=login,
        tls=tls,
    )
    explained = answer["explanations"][0] | {"sample": what is None}
    if as_json:
        click.echo(json.dumps(explained))
        return
    from mta.cli.explain_text import Text

    Text().letter(explained)


def _content(file: str) -> bytes:
    try:
        octets = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}", EX_NOINPUT)
    content = _LINE_END.sub(b"\r\n", octets)
    if len(content) > CONTENT_MAXIMUM:
        fail(f"{file} has {len(content)} octets; {CONTENT_MAXIMUM} is the most that is judged here", EX_DATAERR)
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def _sample(sender: str, recipients: tuple[str, ...]) -> bytes:
    """A short letter without a signature."""
    lines = [
        f"From: <{sender}>" if sender else "From: postmaster@[192.0.2.1]",
        f"To: {', '.join(f'<{each}>' for each in recipients)}",
        "Subject: A sample",
        f"Date: {formatdate(time.time())}",
        "",
        "A sample.",
        "",
    ]
    return "\r\n".join(lines).encode()


# A message that is here already


def _queued(config: Path, queue_id: str, as_json: bool) -> None:
    from mta.cli.history import Past
    from mta.observe.event import Event, Kind
    from mta.observe.log import harmless, json_line
    from mta.observe.search import Wanted

    past = Past(config)
    past.flush()
    events: list[Event] = past.in_order(Wanted(queue_id=queue_id.lower()))
    ahead, why = _ahead(config, queue_id.lower())
    if not events and ahead is None:
        known = f"; {why}" if isinstance(why, OSError) else ""
        fail(f"nobody knows a message {harmless(queue_id)}{known}", EX_UNAVAILABLE if known else EX_NOINPUT)
    if as_json:
        click.echo(json.dumps({"decided": [json.loads(json_line(each)) for each in events], "ahead": ahead}))
    else:
        from mta.cli.explain_text import Text

        sessions = {event.session for event in events if event.kind is Kind.MESSAGE_ACCEPTED and event.session}
        of_session = [event for each in sessions for event in past.in_order(Wanted(session=each))]
        text = Text()
        text.decided(queue_id.lower(), events, of_session)
        if ahead is not None:
            text.ahead(ahead)
        elif not isinstance(why, OSError):
            text.ended(queue_id.lower(), events)
    if isinstance(why, OSError):
        fail(f"no daemon runs, so what lies ahead cannot be told: {why.strerror or why}", EX_UNAVAILABLE)


def _ahead(config: Path, queue_id: str) -> tuple[dict[str, Any] | None, Exception | None]:
    """What lies ahead, or why that is not known."""
    from mta.cli.daemon import state_directory
    from mta.service.asking import CommandRefused, ask, socket_path

    try:
        answer = ask(socket_path(state_directory(str(config.absolute()))), "explain", queue_id=queue_id)
    except (CommandRefused, OSError) as error:
        return None, error
    explained: dict[str, Any] = answer["explanations"][0]
    return explained, None
