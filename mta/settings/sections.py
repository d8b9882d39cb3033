"""Every setting of ``etc/mta.toml``: one class for each table, one field for each key.

The text below a field is its documentation: ``docs/settings.md`` is made from it (`mta.settings.reference`), so it
says what the key means, and where its default comes from. Names in ``mta.toml`` are the names here; a list of tables
has the name in the singular (``[[smtpd.network]]`` fills `SmtpdSettings.networks`).

These are values: no reading, no checking (that is `reader`), and everything has a default but the host name: a test
makes just what it needs, ``Settings(hostname="mx.example.test")``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from mta.mail.route import TlsLevel
from mta.settings.caps import CapsSettings, UserCaps
from mta.settings.directory import Directory
from mta.settings.dkim import DkimSettings
from mta.settings.local import LocalSettings
from mta.settings.mailauth import MailauthSettings
from mta.settings.metrics import MetricsSettings
from mta.settings.policy import PolicySettings
from mta.settings.values import (
    AT_START,
    Count,
    Derived,
    Endpoint,
    HostName,
    Listening,
    Mode,
    Nameserver,
    NetworkBlock,
    NextHop,
    Octets,
    Path,
    Port,
    Seconds,
    SecondsOrNone,
    Senders,
    Separator,
    Share,
    Within,
    within,
)
from mta.smtp.limits import DEFAULT, Limits

_LIMITS_IN_OCTETS = ("command_line", "auth_line", "message_size", "local_part", "domain", "path")
LIMIT_KINDS = {
    limit.name: Seconds
    if limit.type == "float"
    else Annotated[Octets, Within(1)]
    if limit.name in _LIMITS_IN_OCTETS
    else Count
    for limit in fields(Limits)
}
"""The annotations of `Limits`, which is of a pure module and names its units in words alone."""


@dataclass(frozen=True, slots=True)
class MxSettings:
    """Acceptance of mail from other servers for our domains (RFC 5321)."""

    enabled: bool = field(default=True, metadata=AT_START)
    """Whether this service runs."""
    listen: tuple[Listening, ...] = field(
        default=(Endpoint("0.0.0.0", 25), Endpoint("::", 25)),  # noqa: S104  # mail comes from anywhere
        metadata=AT_START,
    )
    """Where it listens: ``"address:port"``, ``"[address]:port"``, or ``"systemd:name"`` for a socket that systemd
    hands over. Port 25: RFC 5321 §4.5.4.2."""
    lenient_line_ends: tuple[NetworkBlock, ...] = ()
    """Networks of old devices whose bare CR or LF in a message is taken as a line end and stored as CRLF. Everybody
    else gets 550 5.6.11 (RFC 5321 §2.3.8)."""

    def lenient(self, address: str) -> bool:
        """Whether bare line ends of a peer at `address` are taken for CRLF."""
        return within(address, self.lenient_line_ends)


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """A network with rights of its own at submission: printers, scripts, old devices."""

    name: str = ""
    """What logs and reasons call it."""
    addresses: tuple[NetworkBlock, ...] = ()
    """Its addresses: ``["192.0.2.0/28", "2001:db8::/64"]``. The first network in the file that holds an address
    counts."""
    submit_without_login: bool = False
    """Whether mail is taken from it without AUTH. It needs `senders` then."""
    senders: tuple[Senders, ...] = ()
    """Whom it may send as without a login: ``"scanner@example.org"``, ``"*@example.org"`` or ``"*"``."""
    auth_without_tls: bool = False
    """Whether AUTH is offered to it in clear text; nobody else gets that (RFC 8314 §3.3, RFC 4954 §4)."""
    lenient_line_ends: bool = False
    """Whether its bare CR or LF is taken as a line end and stored as CRLF (RFC 5321 §2.3.8 forbids them)."""
    messages_per_hour: Count = 100
    """Messages taken from it without a login in any hour, all its addresses together; then 450 4.7.0."""
    recipients: Count = 100
    """Recipients of one message sent without a login (RFC 5321 §4.5.3.1.8: at least 100); then 452 4.5.3."""
    source: Derived = ""
    """File and line of the table."""


@dataclass(frozen=True, slots=True)
class SmtpdSettings:
    """Submission by people and programs that log in (RFC 6409)."""

    enabled: bool = field(default=True, metadata=AT_START)
    """Whether this service runs."""
    submission: tuple[Listening, ...] = field(
        default=(Endpoint("0.0.0.0", 587), Endpoint("::", 587)),  # noqa: S104  # people come from anywhere
        metadata=AT_START,
    )
    """Where it listens for clear text and STARTTLS (port 587: RFC 6409 §3.1)."""
    submissions: tuple[Listening, ...] = field(
        default=(Endpoint("0.0.0.0", 465), Endpoint("::", 465)),  # noqa: S104  # people come from anywhere
        metadata=AT_START,
    )
    """Where it listens for TLS from the first octet (port 465: RFC 8314 §3.3)."""
    networks: tuple[NetworkSettings, ...] = field(default=(), metadata={"key": "network"})
    """Networks with rights of their own."""
    caps: CapsSettings = CapsSettings()
    """How much one login may send in a day."""

    def network(self, address: str) -> NetworkSettings | None:
        """Return the first network that holds `address`."""
        for network in self.networks:
            if within(address, network.addresses):
                return network
        return None


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Our certificate, for both services and for the relay's TLS."""

    certificate: Path = ""
    """PEM file: our certificate, then those that lead to a known authority. Without one STARTTLS is not offered. New
    files are used within a minute, without a reload."""
    key: Path = ""
    """PEM file of its private key; not given: it is in the certificate's file."""
    minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """Oldest version that is spoken (RFC 9325 §3.1.1; RFC 8996 ends 1.0 and 1.1)."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How many connections may be open to us at once, both services together."""

    total: Count = 800
    """Open connections; more get 421 4.7.0. The default leaves room for the relay and files below the usual 1,024
    file descriptors."""
    smtpd_share: Share = 0.25
    """The share of `total` that mx leaves to smtpd where both run; then it says 421 4.7.0. A crowd at port 25 must not
    keep people from sending; 200 of 800 are twice what one network may have."""
    per_network: Count = 100
    """Open connections from one network, IPv4 /24 or IPv6 /64; more get 421 4.7.0. (Postfix's
    ``smtpd_client_connection_count_limit`` is 50 for one address.)"""
    backlog: Count = field(default=1024, metadata=AT_START)
    """Connections that wait in the kernel to be accepted (listen(2); cut to ``net.core.somaxconn``)."""


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """A host that takes the mail of a domain instead of its MX hosts."""

    domain: str = ""
    """``"example.net"`` for that domain, ``".example.net"`` for all below it, ``"*"`` for every domain. The longest
    match counts. Not written for the smart host."""
    host: NextHop = ""
    """Its name, or an address in brackets (``"[192.0.2.1]"``). No MX record is asked for."""
    port: Port | None = None
    """Its port; not given: `relay.port`."""
    tls: TlsLevel = TlsLevel.MAY
    """``"none"``: clear text; ``"may"``: TLS where it works (RFC 7435); ``"must"``: TLS with a certificate that names
    the host, or no delivery."""
    login: str = ""
    """User name for AUTH at that host (RFC 4954); empty: no AUTH. With a login `tls` is ``"must"`` unless written
    otherwise."""
    password: str = field(default="", repr=False)
    """Its password; better kept in `password_file`."""
    password_file: Path = ""
    """File that holds the password in its first line."""
    source: Derived = ""
    """File and line of the table."""


@dataclass(frozen=True, slots=True)
class RelayDeadlines:
    """How long our client waits for a peer (RFC 5321 §4.5.3.2; the defaults are that section's minimums)."""

    connect: Seconds = 30.0
    """For a TCP connection to one address (RFC 1123 §5.3.1.1 asks for patience, a retry gives it)."""
    greeting: Seconds = 300.0
    """For the 220 of a new connection (§4.5.3.2.1)."""
    tls: Seconds = 60.0
    """For a TLS handshake."""
    command: Seconds = 300.0
    """For the reply to EHLO, STARTTLS, AUTH, MAIL and RCPT, and for RSET (§4.5.3.2.2 and .3)."""
    data: Seconds = 120.0
    """For the 354 (§4.5.3.2.4)."""
    block: Seconds = 180.0
    """For the peer to take more of the content (§4.5.3.2.5)."""
    final_dot: Seconds = 600.0
    """For the reply to the final dot (§4.5.3.2.6)."""
    quit: Seconds = 5.0
    """For the reply to QUIT; nothing depends on it."""


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Delivery to other servers."""

    port: Port = 25
    """The port of MX hosts (RFC 5321 §4.5.4.2). Another one is for tests and closed networks."""
    smart_host: RouteSettings | None = None
    """The host that takes all mail that no route takes. Its `domain` is not written."""
    routes: tuple[RouteSettings, ...] = field(default=(), metadata={"key": "route"})
    """Hosts for single domains, instead of MX lookup."""
    connections_per_destination: Count = field(default=10, metadata=AT_START)
    """Connections to one destination at once (Postfix's ``default_destination_concurrency_limit`` is 20)."""
    messages_per_connection: Count = 100
    """Messages sent over one connection before it is closed."""
    idle_seconds: SecondsOrNone = 5.0
    """How long a connection is kept for the next message to the same host."""
    deadlines: RelayDeadlines = RelayDeadlines()
    """How long our client waits."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """When mail that waits is tried again, and when that ends (RFC 5321 §4.5.4.1)."""

    first_retry: Seconds = 300.0
    """From the first failed attempt to the second; each later interval is twice as long."""
    longest_retry: Seconds = 14400.0
    """The longest interval. (RFC 5321 §4.5.4.1: at least 30 minutes in general, more often at first.)"""
    lifetime: Seconds = 432000.0
    """After this time a message that cannot be delivered is returned (§4.5.4.1: at least 4 to 5 days)."""
    warn_after: Seconds = 14400.0
    """After this time the sender is told once that a message is delayed (RFC 3461 §4.1 DELAY)."""
    jitter: Share = 0.1
    """By what share an interval is made longer or shorter by chance, so that retries do not come in step."""
    rest: Seconds = 60.0
    """How long a destination that no connection reached is left alone; then one attempt tries it. (Postfix, likewise,
    keeps a dead destination out of its active queue for ``minimal_backoff_time``.)"""
    memory_messages: Count = 20000
    """Messages known in the memory of each worker; the others wait in the database (Postfix's
    ``qmgr_message_active_limit``)."""
    concurrency: Count = field(default=100, metadata=AT_START)
    """Deliveries under way at once in each worker, all destinations together (Postfix's ``default_process_limit``)."""


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Who is asked for names (RFC 1035, RFC 5321 §5.1)."""

    nameservers: tuple[Nameserver, ...] = field(default=(), metadata=AT_START)
    """Recursive resolvers, ``"address"`` or ``"address:port"``; empty: those of ``/etc/resolv.conf``."""
    timeout: Seconds = field(default=5.0, metadata=AT_START)
    """For one answer of one server (RFC 1035 §7.2 speaks of 5 to 10 s; resolv.conf(5): 5 s)."""
    tries: Count = field(default=3, metadata=AT_START)
    """How often each server is asked before the lookup fails for now."""
    cache_names: Count = field(default=10000, metadata=AT_START)
    """Answers kept in memory, none longer than its TTL."""
    allow_loopback: bool = False
    """Whether an MX host with a loopback address (127.0.0.0/8, ::1) may get mail. For tests."""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """The durable queue below the state directory."""

    inline_maximum: Octets = 64 * 1024
    """Content up to this size stands in the database, larger content in a file of its own."""
    reserve: Octets = 100 * 1024 * 1024
    """Free space kept on the volume for reports and history; a message that would need it gets 452 4.3.1."""
    reserve_inodes: Count = 1000
    """Free inodes kept on the volume, likewise."""


@dataclass(frozen=True, slots=True)
class MaildirSettings:
    """Whose the Maildirs are. Another server (Dovecot) usually reads them."""

    owner: str = ""
    """User that a Maildir must belong to; empty: the one the server runs as."""
    group: str = ""
    """Group that new files and directories are given to; empty: left as the kernel gives it."""
    mode: Annotated[Mode, Within(0o400, 0o777)] = 0o600
    """Mode of a message file, in octal."""
    directory_mode: Annotated[Mode, Within(0o700, 0o7777)] = 0o700
    """Mode of a directory that we make, in octal."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """One event, one line."""

    format: Literal["keyvalue", "json"] = "keyvalue"
    """``"keyvalue"`` for ``key=value`` lines, ``"json"`` for one JSON object a line."""
    file: Path = ""
    """File to append to; empty: standard error, or ``mta.log`` in the state directory where twistd runs without
    ``-n``."""


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """What became of each session and message, for ``mta trace``, ``mta log`` and ``mta explain`` (docs/trace.md)."""

    enabled: bool = field(default=True, metadata=AT_START)
    """Whether it is written. It is a twentieth of the work for a message."""
    keep: Seconds = field(default=14 * 86400.0, metadata=AT_START)
    """How long events stay."""
    size: Octets = field(default=1024 * 1024 * 1024, metadata=AT_START)
    """How large the files of each worker may grow, at some 470 octets for an event; the oldest events go first."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How passwords are checked, and how guessing is slowed (RFC 4954 §9)."""

    iterations: Annotated[int, Within(4096)] = 300_000
    """PBKDF2 iterations of new passwords: 0.1 s of work on one core, which RFC 7677 §4 asks for. (OWASP's password
    storage cheat sheet asks for 600,000, which doubles what a guess costs the server too.)"""
    iterations_minimum: Annotated[int, Within(1)] = 4096
    """A ``{SCRAM-SHA-256}`` line with fewer PBKDF2 iterations is refused at load (RFC 7677 §4; what
    ``doveadm pw`` makes has just these)."""
    user_maximum: Annotated[Octets, Within(1)] = 255
    """Longest user name taken from a client (RFC 4616 §2)."""
    password_maximum: Annotated[Octets, Within(1)] = 255
    """Longest password taken from a client (RFC 4616 §2)."""
    pool_threads: Annotated[int, Within(1, 64)] = field(default=2, metadata=AT_START)
    """Verifications at once. Each takes a core while it lasts."""
    pool_waiting: Count = 200
    """Verifications that may wait, all networks together; more get 454 4.7.0 (RFC 4954 §6)."""
    pool_waiting_per_network: Count = 20
    """Verifications that may wait from one network, IPv4 /24 or IPv6 /64."""
    cache_seconds: SecondsOrNone = 300.0
    """How long a password that was right is known without work. Only a keyed hash of it is kept; a reload forgets
    it. ``"0s"``: not at all."""
    cache_logins: Count = 10000
    """Logins known that way."""
    free_failures: Annotated[int, Within(0)] = 3
    """Wrong passwords for one account from one network before the next answer is delayed."""
    free_failures_per_network: Annotated[int, Within(0)] = 20
    """Wrong passwords from one network, whatever the account, before the next answer is delayed."""
    failures_per_session: Count = 10
    """Wrong passwords in one session; the last gets 421 4.7.0. (Postfix's ``smtpd_hard_error_limit``, which counts
    them too, is 20.)"""
    first_delay: Seconds = 1.0
    """The first delay; each further wrong password doubles it."""
    longest_delay: Seconds = 30.0
    """The longest delay: well below a client's patience. What would wait longer gets 454 4.7.0 unchecked."""
    forget_failures: Seconds = 3600.0
    """How long wrong passwords are remembered after the last one."""


@dataclass(frozen=True, slots=True)
class AliasSettings:
    """Bounds on what an address in ``aliases`` may lead to; more is refused at load."""

    targets: Count = 1000
    """Mailboxes and outside addresses that one address may lead to, all levels together."""
    levels: Annotated[int, Within(1, 100)] = 20
    """Aliases of aliases."""


@dataclass(frozen=True, slots=True)
class DomainSettings:
    """``domain.toml`` in the directory of a domain; all of it optional."""

    separator: Separator = "+"
    """What divides a user name from a subaddress, ``alice+list`` (RFC 5233 §1.1); ``""``: nothing does."""
    message_size: Annotated[Octets, Within(1)] | None = None
    """Largest message for its mailboxes, ``"10M"``, below that of ``[limits]``; more gets 552 5.3.4 (RFC 1870 §6)."""
    senders: Mapping[str, tuple[Senders, ...]] = field(default_factory=dict)
    """Addresses a user may send as beside those that lead to it:
    ``alice = ["news@example.net", "*@example.org"]``."""
    caps: Mapping[str, UserCaps] = field(default_factory=dict)
    """How much users may send in a day, in place of what ``[smtpd.caps]`` says: ``[caps.news]``, or ``[caps."*"]`` for
    all users of the domain."""


WORKERS_MAXIMUM = 64
"""Worker processes: each has a share of 1,024 spool shards, and a column on the board."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything in ``etc/``, as one value."""

    hostname: HostName = field(metadata=AT_START)
    """Our name, as greeting, EHLO and trace fields say it: fully qualified, with an address record (RFC 5321
    §2.3.5, §4.1.1.1). Required."""
    path: Derived = ""
    """The path of ``mta.toml``."""
    primary_domain: HostName = ""
    """The domain whose postmaster gets mail for ``<Postmaster>`` without a domain (RFC 5321 §4.5.1). Not given: the
    host name's, or the first above it that is ours, else the first of ours in the order of the alphabet."""
    workers: Annotated[int, Within(0, WORKERS_MAXIMUM)] = field(default=0, metadata=AT_START)
    """Worker processes, each with both services, the relay and a part of the queue; ``0``: as many as there are
    processor cores. With ``1`` all is one process. When there are fewer after a restart, they take over the queue of
    those that are no more. Bounds on connections and rates hold for all of them together."""
    state: Path = field(default="/var/lib/mta", metadata=AT_START)
    """Directory of spool, history and control socket. Only the server writes there."""
    mail: Path = "/var/mail/mta"
    """Directory of the Maildirs: ``{mail}/{domain}/{user}/Maildir``."""
    mx: MxSettings = MxSettings()
    """Mail from other servers."""
    smtpd: SmtpdSettings = SmtpdSettings()
    """Mail from people."""
    local: LocalSettings = LocalSettings()
    """Mail of this machine."""
    tls: TlsSettings = TlsSettings()
    """Certificate and versions."""
    limits: Limits = DEFAULT
    """What a peer may send (RFC 5321 §4.5.3)."""
    connections: ConnectionSettings = ConnectionSettings()
    """Open connections."""
    relay: RelaySettings = RelaySettings()
    """Delivery to other servers."""
    queue: QueueSettings = QueueSettings()
    """Retries."""
    dns: DnsSettings = DnsSettings()
    """Name servers."""
    spool: SpoolSettings = field(default=SpoolSettings(), metadata=AT_START)
    """The queue on disk."""
    maildir: MaildirSettings = field(default=MaildirSettings(), metadata=AT_START)
    """Owner and modes of mailboxes."""
    log: LogSettings = LogSettings()
    """Log lines."""
    history: HistorySettings = field(default=HistorySettings(), metadata=AT_START)
    """What became of each message."""
    metrics: MetricsSettings = MetricsSettings()
    """Numbers for those who watch."""
    mailauth: MailauthSettings = MailauthSettings()
    """Whose mail it is."""
    dkim: DkimSettings = DkimSettings()
    """Signatures on mail that leaves."""
    policy: PolicySettings = PolicySettings()
    """What else is refused, delayed or marked."""
    auth: AuthSettings = AuthSettings()
    """Passwords."""
    aliases: AliasSettings = AliasSettings()
    """Bounds of aliases."""
    directory: Directory = field(default_factory=Directory, metadata={"key": ""})
    """Domains, accounts and aliases, read from the directory ``domains`` beside ``mta.toml``."""
