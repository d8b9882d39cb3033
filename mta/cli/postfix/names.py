"""Domains and addresses: which domains are ours, who has a mailbox, where aliases lead.

==================================  ===================================================================================
Postfix                             here
==================================  ===================================================================================
``virtual_mailbox_domains``         a domain, with a user for each line of ``virtual_mailbox_maps``
``virtual_alias_domains``           a domain without users
``mydestination``: the host name    the names of this machine (``[local]``), with ``alias_maps``; without another domain
and ``localhost``                   the host name is one, with a user for each person of this machine
``mydestination``: other domains    a domain, with a user for each person of this machine, and ``alias_maps``
``virtual_alias_maps``              ``aliases`` of the domain; ``@domain`` is ``*``, or all names of the other domain
==================================  ===================================================================================

Passwords cannot be taken: users begin with ``!``, which lets nobody log in. A target that leads to nobody is left out,
and told; Postfix takes such mail and returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from mta.cli.postfix.lines import Place
from mta.cli.postfix.main_cf import MainCf, divided
from mta.cli.postfix.outcome import NewFile, Note, Outcome
from mta.cli.postfix.tables import Alias, CannotRead, Entry, ReadFile, Table, aliases_of, read_aliases, read_table
from mta.observe.telling import count
from mta.settings.alias_file import AliasLine, alias_lines, without_alias, without_targets
from mta.settings.domains import CATCH_ALL, is_user_name, primary_of
from mta.settings.sections import Settings
from mta.settings.system import LOCALHOST, system_users
from mta.settings.values import parse_address, parse_host_name

POSTMASTER = "postmaster"
LOCAL_ALIASES = "local-aliases"
"""A copy of the file of aliases(5), where ours cannot take all of it."""


@dataclass(slots=True)
class _Domain:
    users: dict[str, Place] = field(default_factory=dict)
    aliases: dict[str, tuple[list[str], Place]] = field(default_factory=dict)


class Names:
    """Translates domains and addresses. `people` are the users of this machine that have a mailbox."""

    def __init__(
        self,
        main: MainCf,
        outcome: Outcome,
        read: ReadFile,
        people: Sequence[str],
        users: Callable[[], Collection[str]] = system_users,
    ) -> None:
        self._main = main
        self._outcome = outcome
        self._read = read
        self._people = people
        self._users = users
        self._tables: dict[str, Table] = {}
        self._domains: dict[str, _Domain] = {}
        self.host = main.value("myhostname").lower()
        self.machine = {self.host, f"localhost.{main.value('mydomain')}", *LOCALHOST}
        self.aliases_file = ""
        """The file of aliases(5); empty: none."""
        self._aliases_text = ""
        self._local: list[str] = []
        """Domains of mydestination that are no names of this machine."""
        self._known_here: set[str] = set()

    def translate(self) -> None:
        """Find them, and make the files of the domains."""
        mailbox = self._listed("virtual_mailbox_domains")
        alias = self._listed("virtual_alias_domains")
        destination = self._listed("mydestination")
        local = [name for name in destination if name not in self.machine]
        for name in dict.fromkeys((*mailbox, *alias, *local)):
            self._domains[name] = _Domain()
        if not local and self.host in destination and self._people:
            place = self._main.place("mydestination")
            self._domains[self.host] = _Domain({user: place for user in self._people if is_user_name(user)})
        self._mailboxes(set(mailbox))
        system = self._system_aliases()
        self._local = local
        self._known_here = {*self._people, *(each.name for each in system)}
        for name in local:
            place = self._main.place("mydestination")
            self._domains[name].users |= {user: place for user in self._people if is_user_name(user)}
            self._add_system(name, system)
        if local and self._people:
            some = self._people[0]
            text = f"mail for {some}@{self.host} goes to root, as for all people here, unless the file of aliases says"
            self._outcome.differ("mydestination", f"{text} {some}: {some}@{local[0]}")
        self._virtual_aliases(set(local) or {self.host} & self._domains.keys())
        self._clean({each.name for each in system})
        self._clean_system()
        for name, domain in self._domains.items():
            self._postmaster(name, domain)
            self._write(name, domain)

    @property
    def domains(self) -> Collection[str]:
        """The domains that are ours."""
        return self._domains.keys()

    # Lists

    def _listed(self, name: str) -> list[str]:
        """The domains of a list, which may name files and tables."""
        self._outcome.used.add(name)
        found: list[str] = []
        for word, place in self._words(self._main.words(name), self._main.place(name)):
            try:
                found.append(parse_host_name(word))
            except ValueError:
                self._outcome.left.append(Note(place, f"{name}: {word} is no domain name"))
        found = list(dict.fromkeys(found))
        if found and name in self._main:
            self._outcome.taken.append(Note(self._main.place(name), f"{name}: {', '.join(found)}"))
        return found

    def _words(self, words: Sequence[str], place: Place) -> Iterator[tuple[str, Place]]:
        for word in words:
            if word.startswith("!"):
                self._outcome.left.append(Note(place, f"{word}: exceptions are not known here"))
            elif word.startswith("/"):
                try:
                    yield from self._words(divided(self._read(word)), Place(word, 0))
                except OSError as error:
                    self._outcome.left.append(Note(place, f"{word}: {error.strerror or error}"))
            elif ":" in word:
                for entry in self._entries(word, place):
                    if "@" not in entry.key and "." in entry.key:
                        yield entry.key, entry.place
            else:
                yield word, place

    def _entries(self, table: str, place: Place) -> Sequence[Entry]:
        """The entries of a table; none where it cannot be read, which is told once."""
        if table not in self._tables:
            try:
                found = read_table(table, self._read)
            except CannotRead as why:
                self._outcome.left.append(Note(place, f"{table}: {why}"))
                found = Table(table, ())
            for wrong in found.wrong:
                self._outcome.left.append(Note(wrong, "not a key and a value"))
            self._tables[table] = found
        return self._tables[table].entries

    def _table_entries(self, name: str) -> Iterator[Entry]:
        """The entries of all tables of a parameter; of a key in several the first counts."""
        self._outcome.used.add(name)
        seen: set[str] = set()
        for word in self._main.words(name):
            for entry in self._entries(word, self._main.place(name)):
                if entry.key not in seen:
                    seen.add(entry.key)
                    yield entry

    # Mailboxes

    def _mailboxes(self, ours: set[str]) -> None:
        """Make a user of each mailbox; a second name of the same Maildir is an alias."""
        owners: dict[str, str] = {}
        for entry in self._table_entries("virtual_mailbox_maps"):
            user, at, domain = entry.key.rpartition("@")
            if not at:
                continue
            if domain not in ours:
                self._outcome.left.append(Note(entry.place, f"{entry.key}: {domain} is not in virtual_mailbox_domains"))
            elif entry.value in owners:
                name = user or CATCH_ALL
                self._domains[domain].aliases[name] = ([owners[entry.value]], entry.place)
                self._outcome.taken.append(Note(entry.place, f"{entry.key}: an alias of {owners[entry.value]}"))
            elif not is_user_name(user):
                text = f"{entry.key}: a mailbox with such a name cannot be had here; make a user and an alias"
                self._outcome.left.append(Note(entry.place, text))
            else:
                owners[entry.value] = entry.key
                self._domains[domain].users[user] = entry.place
        if owners:
            text = f"{len(owners)} mailboxes are users without a password: mta user passwd ADDRESS sets one"
            self._outcome.differ("virtual_mailbox_maps", text)
            where = "mail that is there stays where it is; new mail goes to {mail}/DOMAIN/USER/Maildir"
            self._outcome.differ("virtual_mailbox_base", where)

    # Aliases

    def _system_aliases(self) -> list[Alias]:
        self._outcome.used |= {"alias_maps", "alias_database"}
        for word in self._main.words("alias_maps"):
            if self.aliases_file:
                self._outcome.leave("alias_maps", f"{word}: only the first file of aliases is read")
                continue
            try:
                self.aliases_file, self._aliases_text = read_aliases(word, self._read)
            except CannotRead as why:
                self._outcome.leave("alias_maps", f"{word}: {why}")
                continue
            found = aliases_of(self._aliases_text, self.aliases_file)
            self._outcome.taken.append(
                Note(self._main.place("alias_maps"), f"{word}: [local] aliases, {count(len(found), 'name')}")
            )
            return found
        return []

    def _add_system(self, name: str, system: Sequence[Alias]) -> None:
        """The names of aliases(5) are names of every domain in mydestination."""
        domain = self._domains[name]
        known = {*domain.users, *(each.name for each in system)}
        for alias in system:
            targets = [each for each in alias.targets if _is_address(each)]
            if len(targets) < len(alias.targets):
                text = f"{alias.name}@{name}: programs, files and :include: are not delivered to"
                self._outcome.left.append(Note(alias.place, text))
            if not targets:
                continue
            targets = [f"{each}@{name}" if each.lower() in known else self._whole(each) for each in targets]
            domain.aliases[alias.name] = (targets, alias.place)

    def _virtual_aliases(self, local: set[str]) -> None:
        """Take virtual(5), in the order of its own precedence: an address, a name, a whole domain."""
        last: list[Entry] = []
        for entry in self._table_entries("virtual_alias_maps"):
            user, at, domain = entry.key.rpartition("@")
            targets = [self._whole(each) for each in divided(entry.value)]
            if not at:
                if "." not in entry.key or entry.key not in self._domains:
                    self._named(entry, targets, local)
            elif domain in self.machine and domain not in self._domains:
                text = f"{entry.key}: names of this machine stand in {self.aliases_file or '[local] aliases'}"
                self._outcome.left.append(Note(entry.place, f"{text}: write there {user}: {', '.join(targets)}"))
            elif domain not in self._domains:
                self._outcome.left.append(Note(entry.place, f"{entry.key}: an address of others is not changed here"))
            elif user:
                self._domains[domain].aliases[user] = (targets, entry.place)
            else:
                last.append(entry)
        for entry in last:
            self._whole_domain(entry)

    def _named(self, entry: Entry, targets: list[str], local: set[str]) -> None:
        """A name without a domain stands for that name in myorigin and in mydestination."""
        for name in sorted(local):
            self._domains[name].aliases.setdefault(entry.key, (targets, entry.place))
        if not local:
            text = f"{entry.key}: a name of this machine; write in {self.aliases_file or '[local] aliases'}"
            self._outcome.left.append(Note(entry.place, f"{text} {entry.key}: {', '.join(targets)}"))

    def _whole_domain(self, entry: Entry) -> None:
        domain = self._domains[entry.key[1:]]
        targets = divided(entry.value)
        if not any(target.startswith("@") for target in targets):
            domain.aliases[CATCH_ALL] = ([self._whole(each) for each in targets], entry.place)
            if domain.users:
                text = f"{entry.key}: users come before the catch-all here, and after it in Postfix"
                self._outcome.differs.append(Note(entry.place, text))
            return
        other = self._domains.get(targets[0][1:].lower()) if len(targets) == 1 else None
        if other is None:
            text = f"{entry.key}: a whole domain can only be another one that is ours"
            self._outcome.left.append(Note(entry.place, text))
            return
        names = {*other.users, *other.aliases} - {CATCH_ALL}
        for name in sorted(names - {*domain.users, *domain.aliases}):
            domain.aliases[name] = ([f"{name}{targets[0]}"], entry.place)
        if CATCH_ALL in other.aliases:
            domain.aliases[CATCH_ALL] = (list(other.aliases[CATCH_ALL][0]), entry.place)
        text = f"{entry.key}: an alias for each of the {len(names)} names of {targets[0][1:]}; new ones need one too"
        self._outcome.differs.append(Note(entry.place, text))

    def _whole(self, target: str) -> str:
        """An address with its domain; a name alone is in myorigin. A name of this machine has its mailbox elsewhere."""
        user, at, domain = target.rpartition("@")
        if not at:
            user, domain = target, self._origin()
        if domain.lower() in self.machine and self._local and user.lower() in self._known_here:
            domain = self._local[0]
        return f"{user}@{domain}"

    def _origin(self) -> str:
        """The domain of names without one; in Debian's Postfix it may stand in the first line of a file."""
        value = self._main.value("myorigin")
        if value.startswith("/"):
            try:
                value = self._read(value).partition("\n")[0]
            except OSError:
                value = self.host
        return value.strip().lower()

    # What leads nowhere

    def _clean(self, system: set[str]) -> None:
        """Leave out targets that lead to nobody, until there are none."""
        delimiter = self._main.value("recipient_delimiter")[:1]
        changed = True
        while changed:
            changed = False
            for name, domain in self._domains.items():
                for alias, (targets, place) in list(domain.aliases.items()):
                    kept = [each for each in targets if self._leads(f"{alias}@{name}", each, delimiter, system)]
                    if kept == targets:
                        continue
                    changed = True
                    gone = ", ".join(each for each in targets if each not in kept)
                    self._outcome.left.append(Note(place, f"{alias}@{name}: {gone} leads to nobody"))
                    if kept:
                        domain.aliases[alias] = (kept, place)
                    else:
                        del domain.aliases[alias]
                        if CATCH_ALL in domain.aliases:
                            text = f"{alias}@{name} leads to nobody, and so to the catch-all of {name}"
                            self._outcome.differs.append(Note(place, text))

    def _leads(self, alias: str, target: str, delimiter: str, system: set[str]) -> bool:
        try:
            mailbox = parse_address(target)
        except ValueError:
            return False
        user = mailbox.local_part.lower()
        names = {user, user.partition(delimiter)[0] if delimiter else user}
        domain = self._domains.get(mailbox.domain)
        if mailbox.domain in self.machine:
            there = {*domain.users, *domain.aliases} if domain is not None and target.lower() != alias else set()
            return not names.isdisjoint({*system, *self._people, *there, "root", POSTMASTER})
        if domain is None:
            return True
        if target.lower() == alias:
            return user in domain.users
        return not names.isdisjoint({*domain.users, *domain.aliases}) or CATCH_ALL in domain.aliases

    def _clean_system(self) -> None:
        """Make a copy of the file of aliases(5) without targets that ours cannot have, if there are any."""
        primary = self._domains.get(primary_of(self._domains, Settings(self.host)))
        reached = {*self._users(), *(primary.users if primary else ()), *(primary.aliases if primary else ())}
        text = self._aliases_text
        while True:
            lines = [line for line in alias_lines(text) if line.name is not None]
            known = {*reached, *(str(line.name).strip('"').lower() for line in lines)}
            bad = {line: [at for at, each in enumerate(line.targets) if not self._taken(each, known)] for line in lines}
            line = next((line for line, places in bad.items() if places), None)
            if line is None:
                break
            gone = ", ".join(line.targets[at] for at in bad[line])
            note = f"{line.name}: {gone} leads to nobody" if _is_address(gone) else f"{line.name}: {gone} is no address"
            self._outcome.left.append(Note(Place(self.aliases_file, self._line(line)), note))
            whole = len(bad[line]) == len(line.targets)
            text = without_alias(text, line) if whole else without_targets(text, line, bad[line])
        if text != self._aliases_text:
            self._outcome.files[LOCAL_ALIASES] = NewFile(text)
            copied = f"[local] aliases is {LOCAL_ALIASES}, a copy of {self.aliases_file} without what is not taken"
            self._outcome.differ("alias_maps", copied)

    def _line(self, alias: AliasLine) -> int:
        """The line of an alias in the file as it is."""
        return next((each.number for each in alias_lines(self._aliases_text) if each.name == alias.name), 0)

    def _taken(self, target: str, known: Collection[str]) -> bool:
        """Whether a target can stand in our file of aliases(5)."""
        if not _is_address(target):
            return False
        try:
            mailbox = parse_address(target, self.host)
        except ValueError:
            return False
        if mailbox.domain == self.host:
            return mailbox.local_part.lower() in known
        return self._leads("", target, self._main.value("recipient_delimiter")[:1], set(known))

    # Files

    def _postmaster(self, name: str, domain: _Domain) -> None:
        """Every domain has a postmaster who reads mail here (RFC 5321 §4.5.1)."""
        if POSTMASTER in domain.users or self._reads(name, POSTMASTER, ()):
            return
        place = Place(f"domains/{name}/aliases", 0)
        if domain.users and POSTMASTER not in domain.aliases:
            first = next(iter(domain.users))
            domain.aliases[POSTMASTER] = ([f"{first}@{name}"], place)
            self._outcome.differs.append(Note(place, f"postmaster@{name} is {first}, the first user; choose who it is"))
            return
        domain.users[POSTMASTER] = place
        if POSTMASTER in domain.aliases:
            targets, at = domain.aliases[POSTMASTER]
            domain.aliases[POSTMASTER] = ([*targets, f"{POSTMASTER}@{name}"], at)
        self._outcome.differs.append(
            Note(place, f"postmaster@{name} has a mailbox of its own now, as every domain needs one of ours")
        )

    def _reads(self, name: str, user: str, above: tuple[str, ...]) -> bool:
        """Whether an alias leads to a user of ours."""
        domain = self._domains.get(name)
        if domain is None or f"{user}@{name}" in above:
            return False
        if user not in domain.aliases:
            return user in domain.users
        return any(
            (target == f"{user}@{name}" and user in domain.users)
            or self._reads(target.rpartition("@")[2], target.rpartition("@")[0], (*above, f"{user}@{name}"))
            for target in domain.aliases[user][0]
        )

    def _write(self, name: str, domain: _Domain) -> None:
        directory = f"domains/{name}"
        users = "".join(f"{user}:!::::::\n" for user in domain.users)
        aliases = "".join(
            f"{_quoted(alias)}: {', '.join(_short(each, name) for each in targets)}\n"
            for alias, (targets, _) in domain.aliases.items()
        )
        source = f"# taken from {self._main.file} by mta import postfix\n"
        self._outcome.files[f"{directory}/users"] = NewFile(source + users, 0o640)
        self._outcome.files[f"{directory}/aliases"] = NewFile(source + aliases)
        delimiter = self._main.value("recipient_delimiter")
        if delimiter[:1] != "+":
            self._outcome.files[f"{directory}/domain.toml"] = NewFile(f'separator = "{delimiter[:1]}"\n')


def _is_address(target: str) -> bool:
    return not target.lstrip('"').startswith(("|", "/", ":include:"))


def _quoted(name: str) -> str:
    return f'"{name}"' if any(each in name for each in ' ":') else name


def _short(target: str, domain: str) -> str:
    """A target of the same domain without it."""
    user, _, of = target.rpartition("@")
    return user if of.lower() == domain else target
