"""The settings of the built-in policies: ``[policy]`` and its tables.

A policy is in force when its table stands in the file, with the defaults of this page for what the table does not say;
an empty table, ``[policy.helo]``, will do. Without any of them nothing is asked, counted or refused.

What cannot be read from one key alone (files of lists, codes of DNS lists) is checked in `mta.settings.policy_reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from mta.settings.action import Doing
from mta.settings.entry import Entry, Listed
from mta.settings.hook import HookSettings
from mta.settings.milter import MilterSettings
from mta.settings.pattern import Expression
from mta.settings.script import ScriptSettings
from mta.settings.values import (
    Count,
    Derived,
    HostName,
    NetworkBlock,
    Path,
    Seconds,
    SecondsOrNone,
    Within,
)

Subject = Literal["peer", "helo", "sender", "recipient"]
Rule = Literal["off", "tag", "defer", "reject"]
CountOrNone = Annotated[int, Within(0)]


@dataclass(frozen=True, slots=True)
class AllowSettings:
    """Who comes in without further questions, up to the content: no DNS list, greylisting or rate is asked then.

    Rules of fields and attachments, and what a milter says of the content, hold all the same; so do the rules of the
    service (no relaying, recipients that exist). To who has logged in an allow means nothing.
    """

    of: Subject = "peer"
    """What the entries are compared with: the peer's address and confirmed name (iprev), what it said in EHLO or HELO,
    the reverse-path, or a forward-path. Mind that everybody may write any HELO name and any reverse-path."""
    entries: tuple[Listed, ...] = ()
    """Networks and addresses (``"192.0.2.0/24"``), domains with all below them (``"example.org"``), mailboxes
    (``"alice@example.org"``), local-parts (``"postmaster@"``), ``"<>"`` and ``"*"``."""
    file: Path = ""
    """File of more entries, one a line; what follows an entry on its line is the reason for it. ``#`` and ``;`` begin
    a comment. Read at each reload; at most 16 MiB, and 100,000 entries in all lists together."""
    reason: str = ""
    """Why, for whoever reads the log."""
    source: Derived = ""
    """File and line of the table."""
    read: tuple[Entry, ...] = field(default=(), repr=False, metadata={"key": ""})
    """All entries, those of the file too, each with reason and line."""


@dataclass(frozen=True, slots=True)
class DenySettings:
    """Who is refused."""

    of: Subject = "peer"
    """What the entries are compared with, as for `allow`."""
    entries: tuple[Listed, ...] = ()
    """As for `allow`."""
    file: Path = ""
    """As for `allow`."""
    reason: str = ""
    """Why; the peer is told, too."""
    action: Literal["reject", "defer"] = "reject"
    """Whether it is told to give up (5xx) or to try again (4xx)."""
    source: Derived = ""
    """File and line of the table."""
    read: tuple[Entry, ...] = field(default=(), repr=False, metadata={"key": ""})
    """All entries, those of the file too, each with reason and line."""


@dataclass(frozen=True, slots=True)
class ListsSettings:
    """Lists of who is allowed and who is denied.

    Of the entries that cover one thing (an address, a name, a mailbox) the most exact decides: a small network before
    a large one, a mailbox before a local-part before a domain, a longer domain before a shorter one, ``"*"`` last.
    Among different things, an allowed recipient of a denied peer for one, an allow wins.
    """

    at_once: bool = False
    """Whether a denial is said as soon as the denied thing is known, at connect, EHLO or MAIL. Otherwise mx says it at
    RCPT, so that an allowed sender or recipient (``"postmaster@"``) still gets through, and the log says whose mail it
    was (Postfix: ``smtpd_delay_reject``). smtpd always refuses at once, before a password can be tried."""
    allows: tuple[AllowSettings, ...] = field(default=(), metadata={"key": "allow"})
    """Who is allowed."""
    denies: tuple[DenySettings, ...] = field(default=(), metadata={"key": "deny"})
    """Who is denied."""


@dataclass(frozen=True, slots=True)
class DnsListSettings:
    """One list that is asked over DNS (RFC 5782), of those who send spam, or with a negative weight of those who do
    not.

    Well-known lists, as their pages describe them (look there for terms of use and for what has changed):
    `zen.spamhaus.org` of addresses: 127.0.0.2 and .3 sends spam, .4 is taken over, .9 is hijacked, .10 and .11 should
    not send mail itself (policy of the provider). `dbl.spamhaus.org` of domains: 127.0.1.2 to .6 spam, phishing,
    malware, botnet, 127.0.1.102 to .106 the same on abused domains. `bl.spamcop.net`, `b.barracudacentral.org` and
    `psbl.surriel.com` of addresses: 127.0.0.2. `list.dnswl.org` of addresses that are known to be good: 127.0.*.0 to
    127.0.*.3, the last number telling how good; 127.0.0.255 says that too much was asked, so list the others alone:
    `"127.0.2-20.1-3"`. Big public resolvers are refused by most of them (127.255.255.254): ask through your own.
    """

    zone: HostName
    """The zone: ``"zen.spamhaus.org"``. Required."""
    codes: Mapping[str, str]
    """What the list answers and what that means, ``{"127.0.0.2" = "sends spam"}``; each number of a code may be a
    range, ``"127.0.0.4-7"``, or ``"*"``. The meaning is told to the peer. Any other answer, and all of 127.255.255.0/24
    (errors: too many questions, asked through a public resolver), is an error of the list and never a listing.
    Required."""
    weight: float = 1.0
    """What a listing adds to the score; negative for a list of good senders. A list counts once, with the heaviest of
    its answers."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Other weights for single codes, written as in `codes`."""
    of: tuple[Literal["address", "helo", "sender", "name"], ...] = ("address",)
    """What it is asked about: the peer's address (RFC 5782 §2.1, §2.4), or the domain of its EHLO or HELO, of the
    reverse-path, or the confirmed name of its address (RFC 5782 §2.2)."""
    name: str = ""
    """What peers and the log are told instead of the zone, where that holds a key of yours."""
    source: Derived = ""
    """File and line of the table."""


@dataclass(frozen=True, slots=True)
class DnsListsSettings:
    """Lists that are asked over DNS, and the score from which they count. mx asks at the first RCPT of a message.

    Loopback, private and other addresses that no public list can know are never asked about, nor are peers who have
    logged in. A list that does not answer is left out; one that did not answer five times in a row rests for a minute.
    """

    lists: tuple[DnsListSettings, ...] = field(default=(), metadata={"key": "list"})
    """The lists."""
    reject: float = 1.0
    """Score from which a recipient is refused with 550 5.7.1, and what the list says in its TXT record."""
    tag: float = 1.0
    """Score from which the message is tagged ``dnsbl``."""
    deadline: Seconds = 5.0
    """For all questions of one message together; what has not answered by then is left out (`dns.timeout` is as
    long)."""


@dataclass(frozen=True, slots=True)
class GreylistSettings:
    """Greylisting (RFC 6647): who is new is asked to come again after a while, which spam programs rarely do.

    What counts as one is the network (IPv4 /24, IPv6 /64), the reverse-path and the recipient. Where SPF says pass, the
    domain stands in place of the network: large senders try again from another address.
    """

    delay: Seconds = 300.0
    """How long mail is deferred at first (RFC 6647 §5: configurable, a minute to 24 hours)."""
    window: Seconds = 2 * 86400.0
    """How long after its first attempt a retry counts; later it is new again."""
    remember: Seconds = 36 * 86400.0
    """How long who has passed is known after its last mail: more than a month, so that monthly mail is not delayed
    again (Postgrey's ``--max-age`` is 35 days)."""
    network_passes: Count = 5
    """After so many have passed from a network, nothing from it is delayed (Postgrey:
    ``--auto-whitelist-clients=5``)."""
    domain_passes: Count = 1
    """After so many have passed with an SPF pass of a domain (or DKIM, see `at`), nothing that passes SPF for it is
    delayed."""
    at: Literal["rcpt", "message"] = "rcpt"
    """When the delay is said: at RCPT, or at the end of the message, where a DKIM pass of a known domain counts too;
    that costs the transfer of every message that is deferred. Mail from ``<>`` is deferred at DATA or later in any
    case: some servers try an address with MAIL FROM:<> and RCPT before they take its mail."""
    exempt: tuple[NetworkBlock, ...] = ()
    """Networks whose mail is not delayed, beside those of ``[policy] exempt``."""


@dataclass(frozen=True, slots=True)
class RateSettings:
    """How much is accepted in any hour; more gets 450 4.7.0."""

    messages_per_hour: CountOrNone = 0
    """Messages; 0: no limit."""
    recipients_per_hour: CountOrNone = 0
    """Recipients; 0: no limit."""


@dataclass(frozen=True, slots=True)
class RatesSettings:
    """How much one network, sender or login may send.

    A limit is a bucket that fills evenly: 60 an hour may come at once, then one a minute.
    """

    connections_per_minute: CountOrNone = 0
    """Connections from one network (IPv4 /24, IPv6 /64); more get 421 4.7.0. 0: no limit."""
    network: RateSettings = RateSettings()
    """For one network, without a login."""
    sender_domain: RateSettings = RateSettings()
    """For the domain of a reverse-path, without a login. Where SPF is checked and does not pass, the domain counts
    apart for each network, so that nobody uses up what belongs to another."""
    login: RateSettings = RateSettings()
    """For one login."""


@dataclass(frozen=True, slots=True)
class HeloSettings:
    """What a peer calls itself in EHLO or HELO; asked at mx.

    RFC 5321 §4.1.4 forbids to refuse mail because the name does not belong to the address; nothing here does that.
    Each rule is ``"off"``, ``"tag"`` (the session is tagged ``helo.`` and the rule), ``"defer"`` (450) or ``"reject"``
    (550).
    """

    own_name: Rule = "reject"
    """Our host name, or an address literal with an address of ours."""
    malformed: Rule = "tag"
    """Neither a domain name nor an address literal (RFC 5321 §4.1.1.1)."""
    bare_address: Rule = "tag"
    """An address without the brackets of RFC 5321 §4.1.3."""
    no_dot: Rule = "tag"
    """A name without a dot: not fully qualified (RFC 5321 §2.3.5)."""
    unresolvable: Rule = "tag"
    """A name that has neither address nor MX record (RFC 5321 §2.3.5). While the name server does not answer, the rule
    says nothing."""
    own_names: tuple[HostName, ...] = ()
    """More names of ours, beside `hostname`."""
    own_addresses: tuple[NetworkBlock, ...] = ()
    """More addresses of ours, beside those that mx listens on: the one in front of a NAT."""
    deadline: Seconds = 5.0
    """For the questions about the name (`dns.timeout` is as long)."""


@dataclass(frozen=True, slots=True)
class EarlySettings:
    """A pause before the greeting of mx, and who talks before it is greeted (RFC 5321 §3.1: the client waits)."""

    pause: SecondsOrNone = 6.0
    """How long an unknown network waits for the greeting (Postfix: ``postscreen_greet_wait``; a client waits five
    minutes, RFC 5321 §4.5.3.2.1). ``"0s"``: no pause."""
    sessions: Count = 200
    """Sessions that wait at once; further ones are greeted without a pause. A quarter of `connections.total`."""
    remember: Seconds = 86400.0
    """How long a network that waited is greeted at once (Postfix: ``postscreen_greet_ttl``)."""
    action: Literal["tag", "reject"] = "tag"
    """What becomes of who talked early: a tag ``early``, or 554 5.7.1 to its EHLO."""


@dataclass(frozen=True, slots=True)
class HarvestSettings:
    """Who tries out names at mx: counts recipients that do not exist, by network (IPv4 /24, IPv6 /64)."""

    delay_after: Count = 20
    """Unknown recipients in an hour from which on replies come later."""
    delay: Seconds = 5.0
    """By how much (Postfix: ``smtpd_error_sleep_time`` is 1 s, after 10 errors of a session)."""
    refuse_after: Count = 100
    """Unknown recipients in an hour from which on the network gets 421 4.7.0."""
    refuse_for: Seconds = 3600.0
    """For how long."""


@dataclass(frozen=True, slots=True)
class TarpitSettings:
    """Slow replies to MAIL, RCPT and DATA of mx, for sessions and messages that other policies have tagged."""

    tags: tuple[str, ...] = ()
    """The tags: ``["early", "dnsbl", "helo.own_name"]``."""
    delay: Seconds = 5.0
    """By how much each of these replies comes later; with that of other policies at most two minutes (a client waits
    five, RFC 5321 §4.5.3.2)."""


@dataclass(frozen=True, slots=True)
class FieldRuleSettings:
    """What becomes of messages by one field of their header. A rule that refuses or discards is the last one."""

    field: str
    """The name of the field, ``"Subject"``, in any case; ``"*"`` for all fields, with name and colon. Required."""
    action: Doing
    """What becomes of the message: ``"reject TEXT"``, ``"defer TEXT"``, ``"discard"``, ``"hold"``, ``"tag WORD"``,
    ``"add_header NAME: VALUE"``, ``"file FOLDER"`` or ``"redirect ADDRESS"``. Required."""
    pattern: Expression | None = None
    """Regular expression (RE2 syntax) that some occurrence of the field matches somewhere; ``(?i)`` in front: in any
    case. Not given: that there is such a field will do."""
    absent: bool = False
    """Whether the rule is about messages without the field; then there is no pattern."""
    decoded: bool = True
    """Whether encoded words (RFC 2047) are decoded before."""
    services: tuple[Literal["mx", "smtpd"], ...] = ("mx",)
    """Whose messages it looks at."""
    source: Derived = ""
    """File and line of the table."""


@dataclass(frozen=True, slots=True)
class FieldRulesSettings:
    """Rules by the fields of the header, asked in their order."""

    rules: tuple[FieldRuleSettings, ...] = field(default=(), metadata={"key": "rule"})
    """The rules, at most 1,000."""


@dataclass(frozen=True, slots=True)
class AttachmentRuleSettings:
    """What becomes of messages by the file names of their MIME parts. A rule that refuses or discards is the last
    one.
    """

    action: Doing
    """What becomes of the message, as for a rule of fields. Required."""
    extensions: tuple[str, ...] = ()
    """Extensions without the dot, in any case: ``["exe", "scr", "js"]``."""
    where: Literal["last", "double", "anywhere"] = "last"
    """Where the extension stands: ``"last"``: at the end of the name; ``"double"``: at its end, behind another one
    (``invoice.pdf.html``); ``"anywhere"``: also before others (``setup.exe.txt``)."""
    pattern: Expression | None = None
    """Regular expression (RE2 syntax) that the name, in lower case, matches somewhere. With `extensions` too, both must
    fit."""
    services: tuple[Literal["mx", "smtpd"], ...] = ("mx",)
    """Whose messages it looks at."""
    source: Derived = ""
    """File and line of the table."""


@dataclass(frozen=True, slots=True)
class AttachmentRulesSettings:
    """Rules by the names of attachments, asked in their order. Names are read every way that a mail program reads
    them; what is inside archives and encoded messages is not looked at.
    """

    rules: tuple[AttachmentRuleSettings, ...] = field(default=(), metadata={"key": "rule"})
    """The rules, at most 1,000."""
    unreadable: Rule = "reject"
    """What becomes of a message with more than 10,000 parts, or a part with a header of more than 256 KiB: not all of
    its names can be read."""


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Policies: what else is refused, delayed or marked. Each is in force when its table is there, ``[policy.helo]``;
    an empty table has all defaults.
    """

    order: tuple[str, ...] = ()
    """Names of policies in the order in which they are asked: those of the tables below, of files in
    `scripts.directory`, of hooks and of milters. Those that are not named follow behind, cheap ones before dear ones,
    then scripts, hooks and milters."""
    exempt: tuple[NetworkBlock, ...] = ()
    """Networks that are left in peace: not asked about at DNS lists, not delayed or greylisted, not counted by network,
    not judged by their EHLO. Loopback always is."""
    delayed_sessions: Count = 100
    """Sessions whose replies `harvest` and `tarpit` delay at once; others are answered without delay."""
    lists: ListsSettings | None = None
    """Who is allowed and who is denied."""
    rates: RatesSettings | None = None
    """Limits by time."""
    early: EarlySettings | None = None
    """Who talks first."""
    harvest: HarvestSettings | None = None
    """Who tries out names."""
    tarpit: TarpitSettings | None = None
    """Slow replies."""
    helo: HeloSettings | None = None
    """EHLO and HELO."""
    greylist: GreylistSettings | None = None
    """Greylisting."""
    dnsbl: DnsListsSettings | None = None
    """Lists over DNS."""
    headers: FieldRulesSettings | None = None
    """Fields of the header."""
    attachments: AttachmentRulesSettings | None = None
    """Names of attachments."""
    scripts: ScriptSettings = ScriptSettings()
    """Policies in Python that you write."""
    hooks: tuple[HookSettings, ...] = field(default=(), metadata={"key": "hook"})
    """Policies that answer over HTTP."""
    milters: tuple[MilterSettings, ...] = field(default=(), metadata={"key": "milter"})
    """Filters that speak Sendmail's milter protocol."""
