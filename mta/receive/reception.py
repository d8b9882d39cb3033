"""What every session of a worker shares, and what one session and one transaction know.

`Reception.settings` reads what holds now: a reload counts at the next look. A session that is logged in goes on
when its account was removed, but every MAIL asks for the account again and is refused from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet import defer, interfaces

from mta.auth.checker import Answer
from mta.disk.port import Disk
from mta.mail.queueid import Chance, new_queue_id
from mta.mail.reason import Reason
from mta.mailauth.result import Authentication
from mta.mailauth.signing import Sealing, Signers, Signing
from mta.mailauth.verification import MessageCheck, SessionCheck
from mta.net.peer import Peer
from mta.observe.journal import Journal
from mta.policy.caps import Caps
from mta.policy.chain import Chain, Ruling
from mta.policy.rate import Rate
from mta.policy.verdict import Verdict
from mta.receive.commit import Accepted, Committed
from mta.receive.decision import Decision
from mta.receive.staging import Space, Staging
from mta.receive.system_user import SystemUser
from mta.settings.directory import Account
from mta.settings.expansion import Addressed, Destination, look_up
from mta.settings.sections import NetworkSettings, Settings
from mta.smtp.address import Mailbox
from mta.smtp.event import Authenticate, Mail, Rcpt
from mta.smtp.extension import Offer


class Logins(Protocol):
    """Who may submit; see `mta.auth.checker.Checker`."""

    async def authenticate(self, login: str, password: str, address: str) -> Answer:
        """Check a login."""
        ...


class Commits(Protocol):
    """What makes messages ours; see `mta.receive.commit.Commit`."""

    def commit(self, accepted: Accepted) -> defer.Deferred[Committed]:
        """Put a message on stable storage."""
        ...


@dataclass(slots=True)
class Reception:
    """What sessions share."""

    current: Callable[[], Settings]
    """The settings that hold now."""
    commit: Commits
    checker: Logins
    journal: Journal
    disk: Disk
    chance: Chance
    destination: Destination
    shard: Callable[[], int]
    space: Space
    rate: Rate
    staging: str
    """Directory for content that is too large for memory."""
    clock: interfaces.IReactorTime
    policies: Callable[[], Chain]
    """The policies that hold now; a session keeps those that it began with."""
    check: Callable[[str], SessionCheck | None]
    """Begins to check whose mail comes from an address; None where that is not done."""
    signers: Signers
    """The keys of our domains."""
    caps: Caps | None = None
    """How much logins have sent today; None: nobody counts."""

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self.current()

    def address(self, mailbox: Mailbox) -> tuple[Addressed, ...]:
        """Where mail for a mailbox goes; empty where it does not exist."""
        return look_up(self.settings.directory, mailbox, self.destination)[1]

    @property
    def tls_ready(self) -> bool:
        """Whether there is a certificate."""
        return bool(self.settings.tls.certificate)

    def new_id(self) -> str:
        """A new queue id, or a session's: the same form, so that both sort by time."""
        return new_queue_id(self.journal.wall(), self.shard(), self.chance)


@dataclass(slots=True)
class Conversation:
    """What one session has learnt."""

    peer: Peer
    helo: str = ""
    extended: bool = False
    early: bool = False
    """Whether the peer talked before it was greeted."""
    account: Account | SystemUser | None = None
    """Who logged in, or who on this machine calls."""
    mechanism: str = ""
    wrong_passwords: int = 0
    unknown_recipients: int = 0
    """How many mailboxes were named that do not exist."""
    tags: frozenset[str] = frozenset()
    """What policies said of the session."""
    network: NetworkSettings | None = None
    """The named network of a peer at submission."""
    accepted: int = 0
    refused: int = 0


@dataclass(slots=True)
class Transaction:
    """One mail transaction (RFC 5321 §3.3)."""

    reverse_path: Mailbox | None
    size: int
    """Octets, as declared (RFC 1870 §6); 0 where nothing was."""
    body: str
    smtputf8: bool
    why: Reason
    """Why MAIL was accepted: which rule, whose address."""
    named: list[Mailbox] = field(default_factory=list)
    """The forward-paths that were accepted, as RCPT said them."""
    addressed: list[Addressed] = field(default_factory=list)
    """Where they lead to, each once."""
    known: set[Mailbox] = field(default_factory=set)
    staging: Staging | None = None
    queue_id: str = ""
    at: float = 0.0
    refusal: Decision | None = None
    """What the head of the message was refused for."""
    message_id: str = ""
    fields: bytes = b""
    """What the rules of the service put in front."""
    said: list[Verdict] = field(default_factory=list)
    """What policies said of the message so far, in order."""
    tags: frozenset[str] = frozenset()
    check: MessageCheck | None = None
    signing: Signing | None = None
    sealing: Sealing | None = None
    authentication: Authentication = field(default_factory=Authentication)
    judging: defer.Deferred[Ruling] | None = None
    """The policies of the stage ``headers``, where they take time."""

    def hear(self, ruling: Ruling, besides: type[Verdict] | None = None) -> None:
        """Keep what policies say of the message; what was done already is left out."""
        if not ruling.said:
            return
        self.tags |= ruling.tags
        self.said += [each.verdict for each in ruling.said if besides is None or not isinstance(each.verdict, besides)]


class ServiceRules(Protocol):
    """In what mx and smtpd differ."""

    name: str
    checks: bool
    """Whether mail comes from anybody, and whose it is must be checked; else it is ours, and is signed."""

    def offer(self, conversation: Conversation) -> Offer:
        """What is offered to this peer now."""
        ...

    def mail(self, conversation: Conversation, event: Mail) -> Decision:
        """Judge MAIL."""
        ...

    def rcpt(
        self, conversation: Conversation, transaction: Transaction, event: Rcpt
    ) -> Decision | tuple[Addressed, ...]:
        """Judge RCPT: a refusal, or where the mailbox leads to."""
        ...

    def head(self, conversation: Conversation, transaction: Transaction, head: bytes) -> Decision | bytes:
        """Judge the head of the message: a refusal, or header fields to put in front (with CRLF)."""
        ...

    async def authenticate(self, conversation: Conversation, event: Authenticate) -> Decision:
        """Judge AUTH; on success the decision names the account."""
        ...
