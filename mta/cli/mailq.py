"""What ``sendmail`` is by other names: ``mailq``, ``newaliases``, and ``sendmail -q``. They need the control socket.

``mailq`` prints what that of Postfix prints, since programs read it: a star behind the queue id of a message that is
being delivered, an exclamation mark behind that of one on hold; reasons in brackets, above the recipients that they
speak of.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mta.cli.daemon import EX_CONFIG, EX_DATAERR, ask_daemon, fail, state_directory
from mta.observe.log import harmless
from mta.sendmail.exits import EX_NOPERM, EX_OK
from mta.sendmail.options import Options
from mta.sendmail.place import CONFIG
from mta.service.asking import CommandRefused, ask, socket_path
from mta.service.operator.queue import end_of, joined
from mta.settings.alias_file import AliasLine, alias_lines
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load

_HEAD = f"{'-Queue ID-':19} {'--Size--':>8} {'----Arrival Time---':19} -Sender/Recipient-------"
_INDENT = " " * 49
_REASON_END = 76
"""Column at which a reason ends, if it is short enough."""
_MARKS = {"active": "*", "held": "!"}
_FILTERS = {"R": "recipient", "S": "sender"}


def carry_out(options: Options, config: str) -> int:
    """Carry out what is not sending; ends the process where it cannot."""
    file = Path(config or CONFIG)
    if options.role == "aliases":
        return newaliases(file)
    if options.role == "retry":
        return retry(file, options.filters)
    return mailq(file)


def mailq(config: Path) -> int:
    """Print the queue."""
    requests = octets = 0
    for message in _messages(config):
        if not requests:
            click.echo(_HEAD)
        for line in _lines(message):
            click.echo(line)
        click.echo()
        requests += 1
        octets += message["size"]
    if requests:
        click.echo(f"-- {octets // 1024} Kbytes in {requests} Request{'s' if requests > 1 else ''}.")
    else:
        click.echo("Mail queue is empty")
    return EX_OK


def _ask(config: Path, command: str, **arguments: object) -> dict[str, Any]:
    """Ask the daemon; most users may not, nor read the configuration."""
    with contextlib.suppress(SettingsRefused, ValueError, FileNotFoundError):
        try:
            config.open("rb").close()
            os.stat(socket_path(state_directory(str(config.absolute()))))
        except PermissionError:
            fail("only root and the user that the server runs as may look at the queue", EX_NOPERM)
    return ask_daemon(config, command, **arguments)


def _messages(config: Path) -> Iterator[Mapping[str, Any]]:
    after = ""
    while True:
        answer = _ask(config, "queue-list", after=after)
        yield from joined(answer)
        after = end_of(answer)
        if not after:
            return


def _lines(message: Mapping[str, Any]) -> Iterator[str]:
    states = {each["state"] for each in message["recipients"]}
    mark = next((_MARKS[state] for state in _MARKS if state in states), "")
    when = time.asctime(time.localtime(message["accepted"]))[:19]
    yield f"{message['queue_id'] + mark:19} {message['size']:8} {when} {harmless(message['sender']) or 'MAILER-DAEMON'}"
    reason = ""
    for each in sorted(message["recipients"], key=lambda recipient: str(recipient["reason"])):
        if each["reason"] != reason:
            reason = each["reason"]
            yield f"({harmless(reason)})".rjust(_REASON_END)
        yield f"{_INDENT}{harmless(each['mailbox'])}"


def retry(config: Path, filters: tuple[str, ...]) -> int:
    """Have what waits tried now."""
    request: dict[str, object] = {}
    if filters:
        letter, text = filters
        request = {"queue_ids": [text]} if letter == "I" else {_FILTERS[letter]: f"*{text}*"}
    after = ""
    while True:
        answer = _ask(config, "queue-act", act="retry", operator="sendmail -q", after=after, **request)
        after = end_of(answer)
        if not after:
            return EX_OK


def newaliases(config: Path) -> int:
    """Check the file of aliases, say how large it is, and have the server read it."""
    try:
        settings = load(str(config.absolute()))
        file = settings.local.aliases
        if not file:
            fail(f"{config}: [local] aliases is not set, so no file of aliases is read", EX_CONFIG)
        lines = alias_lines(Path(file).read_text()) if Path(file).exists() else []
        lengths = [_length(line) for line in lines]
        state = state_directory(str(config.absolute()))
    except SettingsRefused as refused:
        fail(f"nothing was changed:\n{refused}", EX_DATAERR)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", EX_CONFIG)
    click.echo(f"{file}: {len(lines)} aliases, longest {max(lengths, default=0)} bytes, {sum(lengths)} bytes total")
    try:
        ask(socket_path(state), "reload")
    except CommandRefused as refused:
        fail(str(refused), EX_DATAERR)
    except OSError:
        click.echo("mta: the server is not running; it reads them when it starts", err=True)
    return EX_OK


def _length(line: AliasLine) -> int:
    """Octets of the targets, as sendmail counts them."""
    return len(", ".join(line.targets).encode())
