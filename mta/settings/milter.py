"""The settings of mail filters that speak the milter protocol: ``[[policy.milter]]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mta.settings.values import Derived, Endpoint, Kind, NetworkBlock, Octets, Seconds, Within, within


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket of the file system, by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class InetSocket:
    """A TCP port of a host."""

    endpoint: Endpoint

    def __str__(self) -> str:
        return f"inet:{self.endpoint}"


def parse_milter_address(text: str) -> UnixSocket | InetSocket:
    """Read ``inet:host:port`` or ``unix:/path``, the forms of Postfix. Raises ValueError."""
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest.startswith("/") and "\0" not in rest:
        return UnixSocket(rest)
    if kind == "inet":
        return InetSocket(Endpoint.parse(rest))
    raise ValueError(text)


MilterAddress = UnixSocket | InetSocket
_MilterAddress = Annotated[
    UnixSocket | InetSocket, Kind('"inet:host:port" or "unix:/path/of/socket"', parse_milter_address)
]


@dataclass(frozen=True, slots=True)
class MilterDeadlines:
    """How long a filter is waited for.

    `limits.answer_seconds` ends each wait of ours with 451, so only what is shorter can let mail through.
    """

    connect: Seconds = 30.0
    """For a connection and the negotiation on it (Postfix's ``milter_connect_timeout``)."""
    command: Seconds = 30.0
    """For the answer to connect, helo, mail, rcpt, data and to each field (Postfix's ``milter_command_timeout``)."""
    body: Seconds = 30.0
    """For the answer to each piece of the body, and for the filter to read it."""
    end: Seconds = 200.0
    """For the answer to the end of the message. (Postfix's ``milter_content_timeout`` is 300 s.)"""
    longest: Seconds = 220.0
    """For one answer in all: a filter that says that it is still at work is waited for anew, but no longer than
    this."""


@dataclass(frozen=True, slots=True)
class MilterSettings:
    """A mail filter that speaks Sendmail's milter protocol: rspamd, OpenDKIM, clamav-milter.

    Several are asked in their order; later ones see what earlier ones have changed.
    """

    name: str
    """What logs and reasons call it, and ``[policy] order``. Required."""
    address: _MilterAddress
    """Where it listens: ``"inet:127.0.0.1:11332"`` or ``"unix:/run/opendkim/opendkim.sock"``. Required."""
    services: tuple[Literal["mx", "smtpd"], ...] = ("mx", "smtpd")
    """The services whose mail it sees."""
    failure: Literal["tempfail", "accept", "reject"] = "tempfail"
    """What is said where it cannot be reached, does not answer in time, or does not keep to the protocol:
    ``"tempfail"``: 451 4.7.1, until it can be asked again; ``"accept"``: it is left out for the rest of the session,
    and the session and its messages get the tag ``NAME-failed``; ``"reject"``: 550 5.7.1. (Postfix's
    ``milter_default_action``.)"""
    deadlines: MilterDeadlines = MilterDeadlines()
    """How long it is waited for."""
    body_maximum: Annotated[Octets, Within(0)] | None = None
    """Octets of the body that it is told at most; not given: all. A filter that signs must see all."""
    exempt: tuple[NetworkBlock, ...] = ()
    """Networks whose mail it does not see: ``["127.0.0.0/8", "::1/128"]``."""
    daemon_name: str = ""
    """What the macro ``{daemon_name}`` says, by which OpenDKIM (``MTA``) can choose what it signs; empty: our host
    name. (Postfix's ``milter_macro_daemon_name``.)"""
    source: Derived = ""
    """File and line of the table."""

    def sees(self, service: str, address: str) -> bool:
        """Whether it is asked about mail of a service from an address."""
        return service in self.services and not (address and within(address, self.exempt))
