"""``mta send``: a test message through the real path, and what becomes of it.

It is sent as a mail program would, by SMTP, to a listener that the configuration names, on this machine; then its
events are followed in the history until every recipient has had its first outcome. The certificate is not checked: it
is that of the server itself, for a name that is seldom the one of loopback; `mta check` judges it.

Exit status: 0 delivered to everybody; 66 the service does not run; 69 refused or failed for somebody, or nobody
listens; 75 somebody's copy waits, is held, or had no outcome in time; 77 the login was refused; 78 the configuration
cannot be used.
"""

from __future__ import annotations

import smtplib
import ssl
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime, make_msgid
from pathlib import Path
from typing import IO, NoReturn

import click

from mta.cli.daemon import CONFIG, EX_CONFIG, EX_NOINPUT, EX_NOPERM, EX_TEMPFAIL, EX_UNAVAILABLE, fail
from mta.cli.history import Past
from mta.cli.page import Page, columns
from mta.observe.event import Event
from mta.observe.log import harmless
from mta.observe.search import Wanted
from mta.observe.story import REFUSALS, State, Story
from mta.observe.telling import Mood
from mta.service.sockets import wanted
from mta.settings.domains import read_toml
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.sections import Settings
from mta.settings.values import Endpoint

PATIENCE = 60.0
"""Seconds that one reply may take: policies may delay it, and tarpits do."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where it listens, not where we do
_PORTS = {("mx", False): 25, ("smtpd", False): 587, ("smtpd", True): 465}
"""Of sockets that systemd hands over, whose port stands in its units alone."""

_EPILOG = """\b
Examples:
  mta send --from carol@example.net --to bob@example.org
  mta send --login alice@example.org --to someone@example.net --password-file pw
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the server listens."""

    service: str
    implicit_tls: bool
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.service} at {Endpoint(self.host, self.port)}"


@dataclass(slots=True)
class Sent:
    """What the dialogue came to; `queue_id` is empty where the message was refused."""

    queue_id: str = ""
    refused: list[int] = field(default_factory=list)
    """The codes of the replies that refused something."""
    login_refused: bool = False


@click.command(epilog=_EPILOG)
@CONFIG
@click.option("--from", "sender", help="The sender; '' for <>. The login, if that is given.")
@click.option("--to", "recipients", multiple=True, required=True, help="A recipient; may be given more than once.")
@click.option("--login", help="Log in with this name, and submit; without it, send as another server would.")
@click.option("--password-file", type=click.File(), help="Its first line is the password; - for standard input.")
@click.option("--subject", default="Test message from mta send", show_default=True)
@click.option("--body", default="This is a test.", show_default=True, help="The text of the message.")
@click.option("--via", type=click.Choice(["mx", "smtpd"]), help="The service; smtpd with a login, mx without.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds to follow it.")
def send(
    config: Path,
    sender: str | None,
    recipients: tuple[str, ...],
    login: str | None,
    password_file: IO[str] | None,
    subject: str,
    body: str,
    via: str | None,
    timeout: float,
) -> None:
    """Send a test message through the running server, and follow what becomes of it.

    It ends with 0 where everybody has it, with 69 where it was refused or failed for somebody, with 75 where it waits,
    is held or had no outcome in time, and with 77 where the login was refused.
    """
    if sender is None and login is None:
        raise click.UsageError("--from or --login: somebody has to send it")
    sender = login if sender is None else sender
    assert sender is not None
    for address in (*recipients, sender):
        _check(address)
    settings = _settings(config)
    listener = _listener(settings, via or ("smtpd" if login else "mx"))
    password = _password(login, password_file)
    page, past, began = Page(time.time, columns()), Past(config), time.time()
    try:
        sent = _dialogue(page, listener, _Mail(sender, recipients, subject, body), login, password)
    except (OSError, smtplib.SMTPException) as error:
        why = getattr(error, "strerror", None) or error
        hint = "; does the server run? mta check" if isinstance(error, ConnectionRefusedError) else ""
        fail(f"{listener}: {why}{hint}", EX_UNAVAILABLE)
    if not settings.history.enabled:
        page.line("", "[history] enabled is false: what becomes of the message cannot be followed")
        sys.exit(_status(sent, None))
    click.echo()
    if sent.queue_id:
        story = _follow(page, past, sent.queue_id, began, timeout)
        click.echo()
        page.line("", f"{sent.queue_id}: {story.outcome(page.zone)}", story.mood)
        sys.exit(_status(sent, story))
    past.flush()
    page.events([each for each in _refusals(past, sender, recipients, began) if each.kind in REFUSALS])
    sys.exit(_status(sent, None))


@dataclass(frozen=True, slots=True)
class _Mail:
    sender: str
    recipients: Sequence[str]
    subject: str
    body: str

    def octets(self) -> bytes:
        message = EmailMessage(policy=SMTP.clone(utf8=self.beyond_ascii))
        message["From"] = self.sender or self.recipients[0]
        message["To"] = ", ".join(self.recipients)
        message["Subject"] = self.subject
        message["Date"] = format_datetime(localtime())
        message["Message-ID"] = make_msgid(domain=(self.sender or self.recipients[0]).rpartition("@")[2])
        message.set_content(self.body, cte="7bit" if self.body.isascii() else "quoted-printable")
        return message.as_bytes()

    @property
    def beyond_ascii(self) -> bool:
        return not "".join([self.sender, *self.recipients]).isascii()


def _dialogue(page: Page, listener: Listener, mail: _Mail, login: str | None, password: str) -> Sent:
    """Send it, and say what the server said. Raises OSError and SMTPException where there is no dialogue."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sent = Sent()
    name = f"[IPv6:{listener.host}]" if ":" in listener.host else f"[{listener.host}]"

    def say(what: str, reply: tuple[int, bytes]) -> bool:
        code, text = reply
        words = harmless(text.decode("utf-8", "replace").replace("\n", " "))
        taken = 200 <= code < 400
        page.line(f"{what}: ", f"{code} {words}", Mood.PLAIN if taken else Mood.BAD)
        if not taken:
            sent.refused.append(code)
        return taken

    try:
        client = _connected(listener, name, context)
    except smtplib.SMTPConnectError as error:
        say(str(listener), (error.smtp_code, _octets(error.smtp_error)))
        return sent
    with client:
        page.line(f"{listener}: ", "connected")
        client.ehlo()
        if client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
        page.line("TLS: ", _protection(client))
        if login is not None:
            try:
                say(f"login {login}", log_in(client, login, password))
            except smtplib.SMTPAuthenticationError as error:
                sent.login_refused = not say(f"login {login}", (error.smtp_code, _octets(error.smtp_error)))
                return sent
        options = ["SMTPUTF8", "BODY=8BITMIME"] if mail.beyond_ascii else []
        if not say(f"MAIL FROM:<{mail.sender}>", client.mail(mail.sender, options)):
            return sent
        taken = [say(f"RCPT TO:<{recipient}>", client.rcpt(recipient)) for recipient in mail.recipients]
        if not any(taken):
            return sent
        code, text = client.data(mail.octets())
        if say("message", (code, text)):
            sent.queue_id = text.decode("utf-8", "replace").rpartition(" ")[2]
    return sent


def _connected(listener: Listener, name: str, context: ssl.SSLContext) -> smtplib.SMTP:
    if listener.implicit_tls:
        return smtplib.SMTP_SSL(listener.host, listener.port, name, timeout=PATIENCE, context=context)
    return smtplib.SMTP(listener.host, listener.port, name, PATIENCE)


def log_in(client: smtplib.SMTP, login: str, password: str) -> tuple[int, bytes]:
    """Log in once: smtplib alone tries a password that was refused by one mechanism with the next, which counts too."""
    if "PLAIN" in client.esmtp_features.get("auth", "").split():
        client.user, client.password = login, password
        return client.auth("PLAIN", client.auth_plain)
    return client.login(login, password)


def _follow(page: Page, past: Past, queue_id: str, began: float, timeout: float) -> Story:
    """Print the events of the message as they come; ends when each recipient has had an outcome, or with time."""
    story, ends = Story(queue_id), time.monotonic() + timeout
    try:
        for event in past.follow(began, lambda: not story.open or time.monotonic() > ends, LOOK_EVERY):
            if event.queue_id == queue_id:
                story.add(event)
                page.event(event)
                sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo()
    return story


LOOK_EVERY = 0.1
"""Seconds between two looks: somebody waits."""


def _refusals(past: Past, sender: str, recipients: Sequence[str], began: float) -> list[Event]:
    """The newest events since `began` about a refusal: by the recipients' address, or else the sender's."""
    for address in (*recipients, sender):
        found = past.in_order(Wanted(text=address, since=began)) if address else []
        if found:
            return found
    return []


def _status(sent: Sent, story: Story | None) -> int:
    if sent.login_refused:
        return EX_NOPERM
    counted = story.counted if story is not None else {}
    if any(code >= 500 for code in sent.refused) or {State.FAILED, State.ENDED} & counted.keys():
        return EX_UNAVAILABLE
    if sent.refused or (story is not None and counted.keys() != {State.DELIVERED}):
        return EX_TEMPFAIL
    return 0


def _protection(client: smtplib.SMTP) -> str:
    cipher = client.sock.cipher() if isinstance(client.sock, ssl.SSLSocket) else None
    return f"{cipher[1]} {cipher[0]}" if cipher else "none, the server offers no STARTTLS"


def _octets(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _check(address: str) -> None:
    if any(not character.isprintable() or character in "<> " for character in address):
        raise click.BadParameter(f"{address!r} is no mail address: say alice@example.org")


def _password(login: str | None, file: IO[str] | None) -> str:
    if login is None:
        return ""
    if file is not None:
        password = str(file.readline()).rstrip("\r\n")
        if not password:
            raise click.BadParameter(f"the first line of {file.name} is empty", param_hint="--password-file")
        return password
    if not sys.stdin.isatty():
        raise click.UsageError("--password-file: the password of the login is needed")
    return str(click.prompt(f"Password of {login}", hide_input=True, err=True))


def _settings(config: Path) -> Settings:
    """As much as is needed to find the server: where it listens, and whether it keeps a history."""
    problems: list[Problem] = []
    found = read_toml(str(config.absolute()), problems)
    if found is None:
        _refused(problems)
    table, reading = found
    settings: Settings = reading.table(Settings, table)
    mine = [problem for problem in problems if problem.key.strip("[]").startswith(("mx", "smtpd", "history", "state"))]
    if mine:
        _refused(mine)
    return settings


def _refused(problems: list[Problem]) -> NoReturn:
    fail(str(SettingsRefused(problems)), EX_CONFIG)


def _listener(settings: Settings, service: str) -> Listener:
    """The first place where a service listens, by STARTTLS rather than by TLS from the first octet."""
    for name, implicit, listen in wanted(settings):
        if name == service:
            if isinstance(listen, Endpoint):
                return Listener(name, implicit, _ANYWHERE.get(listen.host, listen.host), listen.port)
            return Listener(name, implicit, "127.0.0.1", _PORTS[name, implicit])
    fail(f"{settings.path}: the service {service} does not run: [{service}] enabled is false", EX_NOINPUT)
