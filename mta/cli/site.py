"""As much of a configuration as the commands for keys need: ``[dns]``, ``[dkim]``, and the keys of each domain.

The rest is the daemon's to judge: keys can be made before it is right, and by somebody who may not read all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import NoReturn, TypeVar

import click

from mta.cli.daemon import EX_CANTCREAT, EX_CONFIG, EX_DATAERR, EX_TEMPFAIL, fail
from mta.disk.posix import PosixDisk
from mta.mailauth.dkim_store import KeyChanged, KeysBusy, KeyStore
from mta.mailauth.keypair import generate_private_key
from mta.settings.dkim import DIRECTORY, DkimKey, DkimSettings, OsFiles
from mta.settings.domains import domain_directories, read_toml
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import DOMAINS
from mta.settings.sections import DnsSettings
from mta.settings.table import Reading
from mta.settings.values import parse_host_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """As much of a configuration as keys need."""

    config: Path
    dns: DnsSettings
    settings: DkimSettings
    directories: Mapping[str, str]
    """The directory of each domain, by its folded name."""
    store: KeyStore

    def keys_in(self, domain: str) -> str:
        """The directory of the keys of a domain."""
        return os.path.join(self.directories[domain], DIRECTORY)

    def keys(self, domain: str) -> tuple[DkimKey, ...]:
        """Read the keys of a domain, or end the command."""
        with told():
            return self.store.read(self.keys_in(domain), domain)

    def chosen(self, domain: str | None) -> list[str]:
        """Fold the name of a domain that was typed, or end the command; all that have keys where none was typed."""
        if domain is None:
            return [name for name in self.directories if self.keys(name)]
        try:
            name = parse_host_name(domain)
        except ValueError:
            raise click.BadParameter(f"{domain} is no domain name", param_hint="DOMAIN") from None
        if name not in self.directories:
            place = self.config.parent / DOMAINS
            fail(f"{domain} is no domain of ours: there is no directory {place / domain}", EX_DATAERR)
        return [name]


def read_site(config: Path) -> Site:
    """Read it; what is wrong with it ends the command."""
    config = config.absolute()
    problems: list[Problem] = []
    found = read_toml(str(config), problems)
    if found is None:
        _refused(problems)
    table, reading = found
    dns, settings = _section(reading, table, "dns", DnsSettings), _section(reading, table, "dkim", DkimSettings)
    directories = domain_directories(str(config.parent / DOMAINS), problems)
    if problems:
        _refused(problems)
    store = KeyStore(PosixDisk(), OsFiles(), generate_private_key, SystemRandom())
    return Site(config, dns, settings, directories, store)


def _section(reading: Reading, table: Mapping[str, object], key: str, kind: type[T]) -> T:
    section = table.get(key, {})
    if not isinstance(section, Mapping):
        reading.problem((key,), "a table", repr(section))
        section = {}
    return reading.table(kind, section, (key,))


def _refused(problems: list[Problem]) -> NoReturn:
    fail(str(SettingsRefused(problems)), EX_CONFIG)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell what an operator can mend in one line, with a status, instead of a traceback."""
    try:
        yield
    except SettingsRefused as refused:
        fail(str(refused), EX_CONFIG)
    except KeysBusy as busy:
        fail(str(busy), EX_TEMPFAIL)
    except KeyChanged as changed:
        fail(f"{changed}; nothing was done with it", EX_TEMPFAIL)
    except OSError as error:
        fail(f"{error.filename or 'the keys'}: {error.strerror or error}", EX_CANTCREAT)
