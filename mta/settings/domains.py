"""``etc/domains``: a directory is a domain, with ``users``, ``app-passwords``, ``aliases``, ``domain.toml``, ``dkim``.

All of them are optional.

``users`` has lines of Dovecot's passwd-file, ``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra``, so that Dovecot
serves IMAP from the same file. User and password are used, and of the extra fields ``nologin``, which disables the
account (`mta.settings.passwd_file`); the rest is not. A user name becomes a directory name and Dovecot looks it up in
lower case, so it is refused unless it is a plain Dot-string in lower case that starts with a letter, a digit or ``_``,
without ``/`` and ``|``, of at most 64 octets (RFC 5321 §4.5.3.1.1; robustness row 78).

``app-passwords`` has further passwords of users, see `mta.settings.app_passwords`.

``aliases`` has lines ``name: target, target``. A name is a local-part of the domain, or ``*`` for all that are not
there otherwise. A target is an address, or a local-part of the same domain. A line that starts with a blank goes on
with the line before; ``#`` starts a comment. An alias beside a user of the same name takes that user's mail; it keeps
a copy by naming the user again: ``alice: alice, bob``. Programs (``|command``) and files are not run or written.

``dkim`` is a directory of private keys, ``SELECTOR.pem``, with which mail of the domain is signed; docs/dkim.md tells
how they are made, published and changed.

Refused: an alias that leads back to itself, or to a mailbox of ours that is not there; one that leads to more than
``[aliases]`` allows; a domain whose postmaster does not lead to a user (RFC 5321 §4.5.1), by name, not by ``*``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mta.mail.reason import Reason
from mta.settings import app_passwords
from mta.settings.alias_file import AliasLine, alias_lines
from mta.settings.caps import ALL_USERS, UserCaps
from mta.settings.directory import Account, Branch, Directory, Domain, Local
from mta.settings.dkim import DIRECTORY as DKIM
from mta.settings.dkim import DkimKey, read_keys
from mta.settings.lines import numbered
from mta.settings.locate import locate
from mta.settings.passwd_file import why_disabled
from mta.settings.problem import Problem, quoted
from mta.settings.sections import AliasSettings, DomainSettings, Settings
from mta.settings.system import LOCALHOST, implied, last_resort, retargeted, system_users
from mta.settings.table import Reading
from mta.settings.values import fold_local_part, parse_address, parse_host_name
from mta.settings.verifier import ScramVerifier, parse_verifier
from mta.smtp.address import POSTMASTER, Mailbox
from mta.smtp.grammar import DOT_STRING

CATCH_ALL = "*"

_USER_START = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class _Alias:
    """One line of ``aliases``."""

    name: str
    targets: tuple[Mailbox, ...]
    file: str
    line: int

    @property
    def source(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class _Draft:
    """A domain as its files say it, before its aliases are followed."""

    name: str
    path: str
    settings: DomainSettings
    users: dict[str, Account] = field(default_factory=dict)
    aliases: dict[str, _Alias] = field(default_factory=dict)
    dkim: tuple[DkimKey, ...] = ()
    unread: bool = False
    """Whether there is a file of users that could not be read."""


def read_text(path: str, problems: list[Problem]) -> str | None:
    """Read a file as UTF-8; None, and a problem, where that cannot be done."""
    try:
        with open(path, "rb") as file:
            octets = file.read()
        return octets.decode()
    except OSError as error:
        hint = ": it is for root, or the user of the server" if isinstance(error, PermissionError) else ""
        problems.append(Problem(path, 0, "a file that can be read", f"{error.strerror}{hint}"))
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        problems.append(Problem(path, line, "UTF-8", quoted(octets[error.start : error.end])))
    return None


def read_toml(path: str, problems: list[Problem]) -> tuple[Mapping[str, object], Reading] | None:
    """Read a TOML file; None, and a problem, where it is none."""
    if not os.path.lexists(path):
        expected = "a configuration (`mta init` makes one, --config names another)"
        problems.append(Problem(path, 0, expected, "no such file"))
        return None
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Python 3.11 tells the place in words: "… (at line 3, column 5)", "… (at end of document)"
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        line = int(found[2]) if found and found[2] else text.count("\n") + 1
        problems.append(Problem(path, line, "TOML", found[1] if found else str(error)))
        return None
    return table, Reading(path, locate(text), problems)


def read_directory(
    path: str,
    settings: Settings,
    problems: list[Problem],
    users: Callable[[], Collection[str]] = system_users,
) -> Directory:
    """Read all domains below `path`. `settings` gives bounds and the place of the Maildirs, `users` this machine's."""
    drafts = {
        name: _read_domain(name, directory, settings, problems)
        for name, directory in domain_directories(path, problems).items()
    }
    ours = list(drafts)
    primary = primary_of(ours, settings)
    if settings.local.on:
        _add_system(drafts, primary, settings, users(), problems)
    if any(draft.unread for draft in drafts.values()):
        problems = []  # of aliases that lead to nobody: who is there is not known
    following = _Following(drafts, settings.aliases, problems)
    domains = {name: following.domain(draft) for name, draft in drafts.items()}
    for name in ours:
        _check_postmaster(drafts[name], domains[name], problems)
    machine = domains.get(settings.hostname) if settings.local.on else None
    names = (settings.hostname, *LOCALHOST) if machine is not None else ()
    system = {name: machine for name in names if machine is not None and name not in ours}
    return Directory([domains[name] for name in ours], primary, path, system)


def _add_system(
    drafts: dict[str, _Draft], primary: str, settings: Settings, users: Collection[str], problems: list[Problem]
) -> None:
    """Add the names of this machine to the domain of the host name, and to that of ``[local] domain``."""
    local, host = settings.local, settings.hostname
    file = _Draft(host, settings.path, DomainSettings())
    if local.aliases and os.path.lexists(local.aliases):
        _read_aliases(file, read_text(local.aliases, problems) or "", local.aliases, problems)
    draft = drafts.get(host) or _Draft(host, settings.path, DomainSettings())
    users = [user for user in users if is_user_name(user)]
    resort = last_resort(local, primary)
    known = {*draft.users, *draft.aliases, *file.aliases}

    def in_primary(name: str) -> Mailbox | None:
        there = drafts.get(primary) if primary != host else None
        found = there is not None and (name in there.users or name in there.aliases)
        return Mailbox(name, primary) if found else None

    added = {
        name: replace(alias, targets=retargeted(name, alias.targets, host, known, users, in_primary, resort))
        for name, alias in file.aliases.items()
    }
    for name, target in implied(known, users, host, resort).items():
        added[name] = _Alias(name, (target,), f"{settings.path} [local]", 0)
    draft.aliases |= {name: alias for name, alias in added.items() if name not in draft.users | draft.aliases}
    if added:
        drafts[host] = draft
    other = drafts.get(local.domain) if local.domain != host else None
    if other is not None:
        for name, alias in added.items():
            if name not in other.users and name not in other.aliases:
                other.aliases[name] = replace(alias, targets=(Mailbox(name, host),))


def primary_of(names: Iterable[str], settings: Settings) -> str:
    """Choose the domain that answers for ``<Postmaster>``; empty where there is none."""
    ordered = sorted(names)
    if settings.primary_domain:
        return settings.primary_domain
    name = settings.hostname
    while name:
        if name in ordered:
            return name
        name = name.partition(".")[2]
    return ordered[0] if ordered else ""


def domain_directories(path: str, problems: list[Problem]) -> dict[str, str]:
    """Find the directory of each domain (folded) below `path`, in the order of their names."""
    try:
        entries = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(Problem(path, 0, "a directory that can be read", f"{error.strerror}"))
        return {}
    directories: dict[str, str] = {}
    for entry in entries:
        if entry.startswith("."):
            continue
        directory = os.path.join(path, entry)
        try:
            name = parse_host_name(entry)
        except ValueError:
            problems.append(Problem(directory, 0, "a directory with the name of a domain", quoted(entry)))
            continue
        if name in directories:
            problems.append(Problem(directory, 0, f"one directory for {name}", f"another one, {directories[name]}"))
            continue
        directories[name] = directory
    return directories


def _read_domain(name: str, path: str, settings: Settings, problems: list[Problem]) -> _Draft:
    draft = _Draft(name, path, DomainSettings())
    permissions = os.path.join(path, "domain.toml")
    reading = None
    if os.path.lexists(permissions):
        found = read_toml(permissions, problems)
        if found is not None:
            table, reading = found
            draft.settings = reading.table(DomainSettings, table)
    users = os.path.join(path, "users")
    if os.path.lexists(users):
        text = read_text(users, problems)
        draft.unread = text is None
        _read_users(draft, text or "", users, settings, problems)
    _read_app_passwords(draft, settings, problems)
    aliases = os.path.join(path, "aliases")
    if os.path.lexists(aliases):
        _read_aliases(draft, read_text(aliases, problems) or "", aliases, problems)
    draft.dkim = read_keys(os.path.join(path, DKIM), name, problems)
    if reading is not None:
        for user in draft.settings.senders:
            if user not in draft.users:
                reading.problem(("senders", user), f"a user of {name}", quoted(user))
        for user in draft.settings.caps:
            if user not in draft.users and user != ALL_USERS:
                reading.problem(("caps", user), f'a user of {name}, or "*" for all', quoted(user))
    return draft


def _read_app_passwords(draft: _Draft, settings: Settings, problems: list[Problem]) -> None:
    file = os.path.join(draft.path, app_passwords.FILE)
    text = read_text(file, problems) if os.path.lexists(file) else None
    if text:
        minimum = settings.auth.iterations_minimum
        read = app_passwords.read_app_passwords(file, text, draft.users, minimum, problems)
        for user, passwords in read.items():
            draft.users[user] = replace(draft.users[user], app_passwords=passwords)


def is_user_name(text: str) -> bool:
    """Whether `text` may be a user and a directory name."""
    return (
        DOT_STRING.fullmatch(text) is not None
        and _USER_START.match(text) is not None
        and not set("/|") & set(text)
        and len(text.encode()) <= 64
        and fold_local_part(text) == text
    )


def _read_users(draft: _Draft, text: str, file: str, settings: Settings, problems: list[Problem]) -> None:
    caps = draft.settings.caps
    for line, content in numbered(text):
        if not content.strip() or content.startswith("#"):
            continue
        user, colon, rest = content.partition(":")
        if not colon:
            problems.append(Problem(file, line, "user:{SCHEME}hash", quoted(content)))
            continue
        password = rest.partition(":")[0]
        if not is_user_name(user):
            expected = "a user name: letters, digits and . _ + - in lower case, starting with a letter or digit"
            problems.append(Problem(file, line, expected, quoted(user)))
            continue
        if user in draft.users:
            problems.append(Problem(file, line, "each user once", f"{user} again, see {draft.users[user].source}"))
            continue
        try:
            verifier = parse_verifier(password)
        except ValueError as error:
            # not shown: it may be a password in clear text
            shown = quoted(password.partition("}")[0] + "}…") if password.startswith("{") else "something else"
            problems.append(Problem(file, line, str(error), shown if password else "nothing"))
        else:
            minimum = settings.auth.iterations_minimum
            if isinstance(verifier, ScramVerifier) and verifier.iterations < minimum:
                expected = f"{minimum} iterations or more ([auth] iterations_minimum)"
                problems.append(Problem(file, line, expected, str(verifier.iterations)))
        draft.users[user] = Account(
            Mailbox(user, draft.name),
            password,
            os.path.join(settings.mail, draft.name, user, "Maildir"),
            f"{file}:{line}",
            draft.settings.senders.get(user, ()),
            why_disabled(content),
            (),
            caps.get(user, UserCaps()).over(caps.get(ALL_USERS, UserCaps())),
        )


def _read_aliases(draft: _Draft, text: str, file: str, problems: list[Problem]) -> None:
    for line in alias_lines(text):
        alias = _read_alias(draft, file, line, problems)
        if alias is None:
            continue
        if alias.name in draft.aliases:
            found = f"{alias.name} again, see {draft.aliases[alias.name].source}"
            problems.append(Problem(file, line.number, "each name once", found))
        else:
            draft.aliases[alias.name] = alias


def _read_alias(draft: _Draft, file: str, line: AliasLine, problems: list[Problem]) -> _Alias | None:
    written = line.name
    if written is None:
        problems.append(Problem(file, line.number, "name: target, target", quoted(line.content)))
        return None
    try:
        name = fold_local_part(parse_address(written + "@" + draft.name).local_part)
    except ValueError:
        problems.append(Problem(file, line.number, f"a local-part of {draft.name}, or *", quoted(written)))
        return None
    targets = []
    for text in line.targets:
        try:
            targets.append(parse_target(text, draft.name))
        except ValueError:
            expected = "an address, or a local-part of this domain (commands and files are not enabled)"
            problems.append(Problem(file, line.number, expected, quoted(text)))
    return _Alias(name, tuple(targets), file, line.number)


def parse_target(text: str, domain: str) -> Mailbox:
    """Read a target of an alias of `domain`. Raises ValueError."""
    if text.lstrip('"').startswith(("|", "/", ":include:")):
        raise ValueError(text)
    target = parse_address(text, domain)
    if target.local_part == CATCH_ALL:
        raise ValueError(text)
    return target


@dataclass(slots=True)
class _Found:
    """What an address leads to, in order and each once."""

    accounts: dict[Account, None] = field(default_factory=dict)
    outside: dict[Mailbox, None] = field(default_factory=dict)
    reasons: dict[Reason, None] = field(default_factory=dict)
    tree: Branch | None = None

    def add(self, other: _Found) -> None:
        self.accounts.update(other.accounts)
        self.outside.update(other.outside)
        self.reasons.update(other.reasons)

    def __len__(self) -> int:
        return len(self.accounts) + len(self.outside)

    def local(self) -> Local:
        return Local(tuple(self.accounts), tuple(self.outside), tuple(self.reasons), self.tree)


class _Following:
    """Follows aliases, each once, over all domains."""

    def __init__(self, drafts: Mapping[str, _Draft], bounds: AliasSettings, problems: list[Problem]) -> None:
        self._drafts = drafts
        self._bounds = bounds
        self._problems = problems
        self._done: dict[tuple[str, str], _Found] = {}

    def domain(self, draft: _Draft) -> Domain:
        """Make the domain that is looked up."""
        addresses = {name: self._user(account).local() for name, account in draft.users.items()}
        for name in draft.aliases:
            addresses[name] = self._alias(draft, name, ()).local()
        catch_all = addresses.pop(CATCH_ALL, None)
        accounts = tuple(draft.users.values())
        return Domain(
            draft.name,
            draft.path,
            addresses,
            accounts,
            catch_all,
            draft.settings.separator,
            draft.settings.message_size,
            draft.dkim,
        )

    def _user(self, account: Account) -> _Found:
        why = Reason(f"{account.login} is a user", account.source)
        return _Found({account: None}, {}, {why: None}, Branch(account.login, account.source))

    def _alias(self, draft: _Draft, name: str, above: tuple[tuple[str, str], ...]) -> _Found:
        here = (draft.name, name)
        if here in self._done:
            return self._done[here]
        alias = draft.aliases[name]
        found = self._done[here] = _Found()
        found.reasons[Reason(f"{name}@{draft.name} is an alias", alias.source)] = None
        below = []
        for target in alias.targets:
            followed = self._target(target, alias, (*above, here))
            found.add(followed)
            below += [followed.tree] if followed.tree else []
            if len(found) > self._bounds.targets:
                expected = f"an alias that leads to {self._bounds.targets} addresses or fewer ([aliases] targets)"
                self._problems.append(Problem(alias.file, alias.line, expected, "more"))
                break
        found.tree = Branch(f"{name}@{draft.name}", alias.source, tuple(below))
        return found

    def _target(self, target: Mailbox, alias: _Alias, above: tuple[tuple[str, str], ...]) -> _Found:
        draft = self._drafts.get(target.domain)
        if draft is None:
            return _Found({}, {target: None}, {}, Branch(str(target), alias.source))
        name = self._name(draft, fold_local_part(target.local_part))
        if name is None:
            self._problem(alias, f"a mailbox of {draft.name}", f"{target}, which is not there")
            return _Found()
        here = (draft.name, name)
        if name in draft.users and (name not in draft.aliases or here == above[-1]):
            return self._user(draft.users[name])
        if here in above:
            chain = " → ".join(f"{n}@{d}" for d, n in (*above[above.index(here) :], here))
            self._problem(alias, "aliases that do not lead back to themselves", chain)
            return _Found()
        if len(above) > self._bounds.levels:
            self._problem(alias, f"{self._bounds.levels} levels of aliases or fewer ([aliases] levels)", "more")
            return _Found()
        return self._alias(draft, name, above)

    def _name(self, draft: _Draft, folded: str) -> str | None:
        """The name that answers for a local-part: itself, without its subaddress, or the catch-all."""
        before = folded.partition(draft.settings.separator)[0] if draft.settings.separator else folded
        for name in (folded, before, CATCH_ALL):
            if name in draft.users or name in draft.aliases:
                return name
        return None

    def _problem(self, alias: _Alias, expected: str, found: str) -> None:
        self._problems.append(Problem(alias.file, alias.line, expected, found))


def _check_postmaster(draft: _Draft, domain: Domain, problems: list[Problem]) -> None:
    found = domain.addresses.get(POSTMASTER.local_part)
    if found is None or not found.accounts:
        file = os.path.join(draft.path, "aliases")
        alias = draft.aliases.get(POSTMASTER.local_part)
        expected = "postmaster: user (RFC 5321 §4.5.1: every domain has one)"
        problems.append(Problem(file, alias.line if alias else 0, expected, "none that leads to a user"))
