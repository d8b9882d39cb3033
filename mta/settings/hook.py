"""The settings of policies that answer over HTTP: ``[[policy.hook]]``, and what must hold of them beyond types."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from cryptography.x509 import load_pem_x509_certificates

from mta.settings.problem import Problem, quoted
from mta.settings.values import Count, Derived, Kind, Octets, Path, Seconds, Unfit, Within, parse_next_hop

if TYPE_CHECKING:
    from mta.settings.table import Reading

Place = tuple[str | int, ...]
ReadText = Callable[[str, list[Problem]], str | None]
StageName = Literal["connect", "helo", "auth", "mail", "rcpt", "data", "headers", "message", "route", "attempt"]

SECRET_MINIMUM = 16
"""Octets of a shared secret: fewer can be guessed (RFC 2104 §3 wants as many as the hash has, 32)."""

_UNWELCOME = re.compile(r"[^\x21-\x7e]")


def parse_url(text: str) -> str:
    """Read an ``http`` or ``https`` URL. Raises `Unfit`."""
    if _UNWELCOME.search(text):
        raise Unfit("printable ASCII without blanks is asked for")
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise Unfit(str(error)) from None
    if parts.scheme not in ("http", "https") or port == 0:
        raise Unfit("the scheme is http or https, the port 1 to 65535")
    if parts.username is not None or parts.fragment:
        raise Unfit("a login or a fragment does not belong here")
    try:
        parse_next_hop(_literal(host or ""))
    except ValueError:
        raise Unfit(f"{host or 'nothing'} is neither a host name nor an address") from None
    return text


def _literal(host: str) -> str:
    """The form in which `parse_next_hop` takes an address."""
    return f"[IPv6:{host}]" if ":" in host else host


@dataclass(frozen=True, slots=True)
class HookSettings:
    """A policy that answers over HTTP: a program of yours is sent what is known, as JSON, and sends back what is to be
    done, see policies.md. Several are asked in the order of the file.
    """

    name: str
    """What logs and reasons call it, and ``[policy] order``. Required."""
    url: Annotated[str, Kind('a URL, "http://127.0.0.1:8080/mta" or "https://…"', parse_url)]
    """Where it listens. An address is connected to as it is; a host name is looked up as the machine does it
    (``/etc/hosts`` too). Redirects are not followed. Required."""
    stages: tuple[StageName, ...] = ("message",)
    """When it is asked."""
    services: tuple[Literal["mx", "smtpd"], ...] = ("mx", "smtpd")
    """The services whose sessions it is asked about."""
    secret_file: Path = ""
    """File with a shared secret of 16 octets or more in its first line; each question is signed with it
    (``X-Mta-Signature``). Not given: nothing is signed."""
    authority: Path = ""
    """PEM file of the authority that signed the certificate of an ``https`` URL; not given: those that the system
    trusts."""
    deadline: Annotated[Seconds, Within(0.05, 120)] = 5.0
    """For the answer, connecting included."""
    failure: Literal["defer", "accept"] = "defer"
    """What is said where it cannot be reached, does not answer in time, or gives an answer that makes no sense:
    ``"defer"``: 451 4.7.1; ``"accept"``: nothing, but a tag ``NAME-failed``."""
    questions: Count = 50
    """Questions under way at once, each over a connection of its own; more count as a failure."""
    body_maximum: Annotated[Octets, Within(0, 4 << 20)] = 64 << 10
    """How much of a body it is sent: the beginning."""
    secret: Derived = field(default="", repr=False)
    """The secret."""
    certificates: Derived = field(default="", repr=False)
    """What stands in `authority`."""
    source: Derived = ""
    """File and line of the table."""


def completed(
    hooks: Sequence[HookSettings],
    path: tuple[str, ...],
    reading: Reading,
    read_text: ReadText,
) -> tuple[HookSettings, ...]:
    """Check hooks that were read from the list of tables at `path`, and read their secrets (`domains.read_text`)."""
    out: list[HookSettings] = []
    for number, hook in enumerate(hooks):
        place: Place = (*path, number)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", hook.name):
            reading.mismatch((*place, "name"), "a name of letters, digits, - and _, at most 40", quoted(hook.name))
        if hook.name in (other.name for other in out):
            reading.mismatch((*place, "name"), "each name once", quoted(hook.name))
        if not hook.stages:
            reading.mismatch((*place, "stages"), "a stage at least", "none")
        if hook.authority and not hook.url.startswith("https:"):
            reading.mismatch((*place, "authority"), "an https URL with it", quoted(hook.url))
        if hook.authority:
            hook = replace(hook, certificates=_certificates(reading, (*place, "authority"), hook.authority, read_text))
        if hook.secret_file:
            hook = replace(hook, secret=_secret(reading, (*place, "secret_file"), hook.secret_file, read_text))
        out.append(hook)
    return tuple(out)


def _certificates(reading: Reading, place: Place, file: str, read_text: ReadText) -> str:
    text = read_text(file, reading.problems)
    if text is None:
        return ""
    try:
        load_pem_x509_certificates(text.encode())
    except ValueError:
        reading.mismatch(place, "a PEM file with a certificate", quoted(file))
    return text


def _secret(reading: Reading, place: Place, file: str, read_text: ReadText) -> str:
    text = read_text(file, reading.problems)
    if text is None:
        return ""
    secret = text.partition("\n")[0].removesuffix("\r")
    if len(secret.encode()) < SECRET_MINIMUM:
        reading.mismatch(place, f"a first line of {SECRET_MINIMUM} octets or more in {file}", f"{len(secret.encode())}")
    return secret
