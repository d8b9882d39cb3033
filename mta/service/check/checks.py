"""All checks together: those that block, by name, and those that ask for names.

A check that has a bug, or does not end, costs what it would have found, never the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from mta.dns.resolver import Resolver
from mta.service.check.certificate import CERTIFICATE, check_certificate
from mta.service.check.clock import CLOCK, check_clock
from mta.service.check.disk import DISK, check_disk
from mta.service.check.files import FILES, MAILDIRS, check_files, check_maildirs
from mta.service.check.finding import Finding, Severity, error, warning
from mta.service.check.local import LOCAL, check_local
from mta.service.check.names import check_names, check_resolver, is_private, private_note
from mta.service.check.server import Server
from mta.service.check.spool import HISTORY, SPOOL, check_history, check_spool, history_files
from mta.service.names import name_servers
from mta.service.published import Address
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings

CONFIGURATION = "configuration"
PATIENCE_SECONDS = 30.0
"""For one check. A spool of a million messages takes some seconds."""

Checking = Callable[[], list[Finding]]


def blocking_checks(settings: Settings, server: Server, wall: Callable[[], float]) -> Mapping[str, Checking]:
    """The checks that look at this machine, by name; each may block, and belongs on a thread."""
    seconds = time.monotonic
    within = PATIENCE_SECONDS * 0.8  # a database is told to end before it is given up
    return {
        FILES: lambda: check_files(settings, server),
        MAILDIRS: lambda: check_maildirs(settings, server),
        CERTIFICATE: lambda: check_certificate(settings, wall()),
        CLOCK: lambda: check_clock(wall(), [settings.path, *history_files(settings)]),
        DISK: lambda: check_disk(settings, seconds),
        SPOOL: lambda: check_spool(settings, seconds, within),
        HISTORY: lambda: check_history(settings, seconds, within),
        LOCAL: lambda: check_local(settings),
    }


async def name_checks(resolver: Resolver, settings: Settings, own: Sequence[Address]) -> list[Finding]:
    """The checks that ask name servers; where these do not answer at all, nothing more is asked."""
    if is_private(settings):
        return private_note(settings)
    found = await check_resolver(resolver, name_servers(settings.dns))
    if any(finding.severity is Severity.ERROR for finding in found):
        return found
    return found + await check_names(resolver, settings, own)


def check_configuration(path: str) -> list[Finding]:
    """See whether the configuration as it is on disk now could be used: the next start needs it."""
    try:
        load(path)
    except SettingsRefused as problem:
        return refused(problem)
    return []


def refused(problem: SettingsRefused) -> list[Finding]:
    """What is wrong with a configuration that cannot be read."""
    why = "the server does not start with it, and a reload keeps what ran before"
    return [
        error(
            CONFIGURATION,
            f"{each.key}: found {each.found}" if each.key else f"found {each.found}",
            why,
            f"{each.file}:{each.line}" if each.line else each.file,
            f"write {each.expected}",
        )
        for each in problem.problems
    ]


def unfinished(check: str, why: str) -> Finding:
    """What is told of a check that did not come to an end."""
    return warning(check, f"the check of {check} came to no end", why, f"mta.service.check.{check}", "look yourself")
