"""What an address of ours is: the domains, accounts and aliases of ``etc/domains``, ready to be looked up.

Everything is worked out at load (`mta.settings.domains`), levels of aliases too, so `Directory.resolve` is two dict
lookups in the common case and keeps no memory of what it was asked. An address is looked up, never made into a path:
`Account.maildir` was made from the ``users`` file (robustness row 78).

How addresses compare: a domain by its A-label form (RFC 5890 §2.3.2.1), so ``bücher.example`` and
``xn--bcher-kva.example`` are one; a local-part of our domains without regard to case (RFC 5321 §2.4 leaves that to
us) and in Unicode's form NFC (RFC 6532 §3.1). The local-part as a whole is looked up first; then, where the domain
has a subaddress separator, what stands before the first one (RFC 5233 §1.1); then the catch-all ``*``.

Who owns an address: the account it leads to, by name, subaddress, alias or catch-all, alone or among others; and who
is given it by ``[senders]`` in ``domain.toml``. Whoever gets the mail for an address may answer under it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mta.mail.reason import Reason
from mta.settings.caps import UserCaps
from mta.settings.dkim import DkimKey
from mta.settings.values import SenderPattern, fold_domain, fold_local_part
from mta.smtp.address import Mailbox

POSTMASTER = "postmaster"


@dataclass(frozen=True, slots=True)
class AppPassword:
    """One line of an ``app-passwords`` file: a further password of a user."""

    name: str
    verifier: str = field(repr=False)
    source: str
    """``etc/domains/example.org/app-passwords:2``."""


@dataclass(frozen=True, slots=True)
class Account:
    """One line of a ``users`` file: a mailbox and a login."""

    mailbox: Mailbox
    """Folded: user name and domain as they stand in paths."""
    verifier: str = field(repr=False)
    """What a password is checked against: ``{SCRAM-SHA-256}…``; ``!`` where nobody logs in."""
    maildir: str
    """The path of its Maildir."""
    source: str
    """``etc/domains/example.org/users:3``."""
    may_send_as: tuple[SenderPattern, ...] = ()
    """What ``[senders]`` of its domain adds to the addresses that lead to it."""
    disabled: str | None = None
    """Why nobody logs in and nothing is sent for now, perhaps an empty text; None: it is not disabled."""
    app_passwords: tuple[AppPassword, ...] = ()
    """Its other passwords."""
    caps: UserCaps = UserCaps()
    """What its domain says of how much it may send."""

    @property
    def login(self) -> str:
        """The name it logs in with: its address."""
        return f"{self.mailbox.local_part}@{self.mailbox.domain}"


@dataclass(frozen=True, slots=True)
class Branch:
    """How an address was expanded: a tree whose leaves are users and addresses elsewhere."""

    name: str
    source: str
    """The line that makes it a user or an alias; of an address elsewhere, the line that names it."""
    below: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """An address of ours: the accounts and outside addresses it leads to, each once, and by which lines."""

    accounts: tuple[Account, ...]
    outside: tuple[Mailbox, ...]
    reasons: tuple[Reason, ...]
    tree: Branch | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class NotLocal:
    """The domain is not ours."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Unknown:
    """The domain is ours, the mailbox is not there."""

    reason: Reason


Resolution = Local | NotLocal | Unknown


@dataclass(frozen=True, slots=True)
class Domain:
    """One directory below ``etc/domains``."""

    name: str
    """Folded: A-labels in lower case."""
    source: str
    """The path of its directory."""
    addresses: Mapping[str, Local]
    """What each folded local-part leads to, users and aliases alike."""
    accounts: tuple[Account, ...] = ()
    """Its users, in the order of the file."""
    catch_all: Local | None = None
    """What every other local-part leads to, where ``aliases`` has a ``*``."""
    separator: str = "+"
    """What divides a user name from a subaddress (RFC 5233 §1.1); empty: nothing does."""
    message_size: int | None = None
    """Octets of the largest message for its mailboxes; None: what ``[limits]`` says."""
    dkim: tuple[DkimKey, ...] = ()
    """Its DKIM keys in every state, in the order of their selectors."""

    def resolve(self, local_part: str) -> Local | None:
        """Look a local-part up, as it is, without its subaddress, or as one for the catch-all."""
        folded = fold_local_part(local_part)
        found = self.addresses.get(folded)
        if found is not None:
            return found
        if self.separator:
            name = folded.partition(self.separator)[0]
            found = self.addresses.get(name)
            if found is not None:
                why = Reason(f"{local_part} is a subaddress of {name}", self.source)
                return Local(found.accounts, found.outside, (why, *found.reasons), found.tree)
        return self.catch_all


class Directory:
    """All domains of ours. `primary` names the one whose postmaster gets mail for ``<Postmaster>`` alone."""

    def __init__(
        self,
        domains: Iterable[Domain] = (),
        primary: str = "",
        source: str = "",
        system: Mapping[str, Domain] = MappingProxyType({}),
    ) -> None:
        self.domains: Mapping[str, Domain] = {domain.name: domain for domain in domains}
        self.accounts: Mapping[str, Account] = {
            account.login: account for domain in self.domains.values() for account in domain.accounts
        }
        self.primary = primary
        self.source = source
        self.system = system
        """The names of this machine, where they are no domains of ours, and what is there (`mta.settings.system`)."""

    def resolve(self, mailbox: Mailbox) -> Resolution:
        """Say what a mailbox is: ours and where it leads, not ours, or unknown in a domain of ours."""
        domain = self.domains.get(mailbox.domain) or self._domain(mailbox)
        if domain is None:
            if not mailbox.domain:
                return Unknown(Reason("only postmaster needs no domain", "RFC 5321 §4.5.1"))
            return NotLocal(Reason(f"{mailbox.domain} is not a domain of ours", self.source))
        found = domain.resolve(mailbox.local_part)
        if found is None:
            return Unknown(Reason(f"{domain.name} has no such mailbox", domain.source))
        return found

    def _domain(self, mailbox: Mailbox) -> Domain | None:
        """Find the domain of a mailbox that is not written as we keep it: in U-labels, or none at all."""
        if not mailbox.domain and mailbox.local_part.lower() == POSTMASTER:
            return self.domains.get(self.primary)
        folded = fold_domain(mailbox.domain)
        return self.domains.get(folded) or self.system.get(folded)

    def account(self, login: str) -> Account | None:
        """Find the account that logs in as `login`, a whole address in any case: no alias, no subaddress."""
        found = self.accounts.get(login)
        if found is None:
            local_part, at, domain = login.rpartition("@")
            found = self.accounts.get(fold_local_part(local_part) + at + fold_domain(domain))
        return found

    def withheld(self, login: str) -> Reason | None:
        """Say why mail that `login` has submitted is not delivered for now; None where it is."""
        account = self.accounts.get(login)
        if account is None or account.disabled is None:
            return None
        return Reason(disabled_text(account.login), account.source)

    def owns(self, login: str, mailbox: Mailbox) -> Reason | None:
        """Say why `login` may send as `mailbox`; None where it may not."""
        account = self.account(login)
        if account is None:
            return None
        resolved = self.resolve(mailbox)
        if isinstance(resolved, Local) and any(owner is account for owner in resolved.accounts):
            return Reason(f"{mailbox} leads to {account.login}", resolved.reasons[0].source)
        for pattern in account.may_send_as:
            if pattern.matches(mailbox):
                return Reason(f"{account.login} may send as {pattern}", pattern.source)
        return None


def disabled_text(login: str) -> str:
    """Why mail that `login` has submitted is held: the same words at each time, so that it is found again."""
    return f"{login} is disabled"
