"""``mta check``: what is wrong with this server, and how to mend it, the gravest first (docs/check.md).

Exit status, for monitoring: 0 nothing, or notes alone; 1 warnings; 2 errors, also where the configuration cannot be
read. A mistake in the command line is 2 too, as everywhere, and is told on standard error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from mta.cli.daemon import CONFIG, EX_NOINPUT, fail
from mta.cli.init import addresses_told
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings

if TYPE_CHECKING:
    from mta.dns.resolver import Resolver
    from mta.service.check.finding import Finding
    from mta.service.published import Address

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_WELL_KNOWN = "gmail.com"
"""Whose MX hosts are connected to, to see whether port 25 is open."""
_MX_HOSTS = 2
_PATIENCE = {"names": 180.0, "ports": 120.0}
"""Seconds for the checks that ask many, one after the other; for others see `mta.service.check.checks`."""

_EXAMPLES = """\b
Examples:
  mta check
  mta check --offline
  mta check --json | jq -r 'select(.severity == "error") | .what'
"""


@click.command(epilog=_EXAMPLES)
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each finding.")
@click.option("--offline", is_flag=True, help="Ask no name server, and connect to nobody outside.")
@click.option(
    "--outgoing", default=_WELL_KNOWN, show_default=True, help="See whether the MX hosts of this domain answer."
)
@click.option("--only", multiple=True, help="Only these checks: --only disk --only spool.")
@click.option("--ipv4", multiple=True, help="A public address of this machine, where it cannot know it: behind NAT.")
@click.option("--ipv6", multiple=True, help="Likewise.")
def check(
    config: Path,
    as_json: bool,
    offline: bool,
    outgoing: str,
    only: tuple[str, ...],
    ipv4: tuple[str, ...],
    ipv6: tuple[str, ...],
) -> None:
    """Look at everything that has to be right, and say what is wrong and how to mend it.

    Settings, files and owners, ports, certificate, the DNS of host and domains, the clock, the disk, Maildirs, spool
    and history. Type it as root, who may look at all of it.

    Exit status: 0 nothing is wrong, 1 there are warnings, 2 there are errors.
    """
    from mta.service.check.checks import refused
    from mta.service.check.finding import ranked, status_of

    own = addresses_told(ipv4, ipv6)
    config = config.absolute()
    if not config.exists():
        fail(f"there is no {config}: mta init makes it", EX_NOINPUT)
    try:
        settings = load(str(config))
    except SettingsRefused as problem:
        found = refused(problem)
    else:
        found = _run(_checks(settings, own, offline, outgoing), only)
    found = ranked(found)
    for finding in found:
        if as_json:
            click.echo(json.dumps(_as_json(finding)))
        else:
            _print(finding)
    if not as_json:
        click.echo(_summary(found))
    raise SystemExit(status_of(found))


# Running them


def _checks(
    settings: Settings, own: tuple[Address, ...], offline: bool, outgoing: str
) -> Mapping[str, Callable[[], list[Finding]]]:
    """All checks by name, in the order in which they are told."""
    from mta.cli.names import finish
    from mta.service.addresses import own_addresses
    from mta.service.check.checks import blocking_checks, name_checks
    from mta.service.check.local import LOCAL, check_local
    from mta.service.check.names import NAMES, is_private, private_note
    from mta.service.check.ports import OUTGOING, PORTS, check_outgoing, check_ports, read_greeting, try_bind
    from mta.service.check.server import server_of

    checks = dict(blocking_checks(settings, server_of(settings.state), time.time))
    checks[LOCAL] = lambda: check_local(settings, _runs(settings))
    checks[PORTS] = lambda: check_ports(settings, _runs(settings), read_greeting, try_bind)
    if not offline and not is_private(settings):
        resolver = _resolver(settings)
        checks[NAMES] = lambda: finish(name_checks(resolver, settings, own or own_addresses()))
        checks[OUTGOING] = lambda: check_outgoing(settings, _addresses(resolver, settings, outgoing), read_greeting)
    elif is_private(settings):
        checks[NAMES] = lambda: private_note(settings)
    return checks


def _run(checks: Mapping[str, Callable[[], list[Finding]]], only: tuple[str, ...]) -> list[Finding]:
    unknown = [name for name in only if name not in checks]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(sorted(checks))}", param_hint="--only")
    chosen = {name: run for name, run in checks.items() if not only or name in only}
    found: list[Finding] = []
    with _progress(list(chosen)) as names:
        for name in names:
            found += bounded(name, chosen[name])
    return found


def _progress(names: list[str]) -> AbstractContextManager[Iterable[str]]:
    """Show on a terminal what is being looked at."""
    if not sys.stderr.isatty():
        return nullcontext(names)
    return click.progressbar(names, label="Looking at", item_show_func=lambda name: name, file=sys.stderr)


def bounded(name: str, run: Callable[[], list[Finding]], patience: float = 0.0) -> list[Finding]:
    """Run one check; what does not end in time is left behind, and said. A bug of ours costs this check alone."""
    from mta.service.check.checks import PATIENCE_SECONDS, unfinished

    patience = patience or _PATIENCE.get(name, PATIENCE_SECONDS)
    out: list[Finding] = []
    bugs: list[Exception] = []

    def work() -> None:
        try:
            out.extend(run())
        except Exception as bug:
            bugs.append(bug)

    thread = Thread(target=work, daemon=True, name=name)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        return [unfinished(name, f"not within {patience:g} s: something it looks at does not answer")]
    if bugs:
        return [*out, unfinished(name, f"a bug: {type(bugs[0]).__name__}: {bugs[0]}")]
    return out


def _runs(settings: Settings) -> bool | None:
    """Whether our daemon answers; None where we may not ask."""
    from mta.service.asking import CommandRefused, ask, socket_path

    try:
        ask(socket_path(settings.state), "ping")
    except PermissionError:
        return None
    except (OSError, ValueError):
        return False
    except CommandRefused:
        return True
    return True


def _resolver(settings: Settings) -> Resolver:
    """A resolver that asks the name servers one after the other, as the daemon does."""
    from mta.cli.names import InTurn, resolvers

    return InTurn(resolvers(settings.dns).values())


def _addresses(resolver: Resolver, settings: Settings, domain: str) -> list[str]:
    """The addresses of the smart host, or of the first MX hosts of a domain, asked for as the daemon does."""
    from mta.cli.names import finish
    from mta.dns.answer import Found, Mx, RecordType
    from mta.smtp.grammar import ADDRESS_LITERAL

    async def ask() -> list[str]:
        smart = settings.relay.smart_host
        if smart is None:
            answer = await resolver.query(domain, RecordType.MX)
            records = answer.records if isinstance(answer, Found) else ()
            hosts = [each.exchange for each in sorted(each for each in records if isinstance(each, Mx))][:_MX_HOSTS]
        elif literal := ADDRESS_LITERAL.fullmatch(smart.host):
            return [literal["address"]]
        else:
            hosts = [smart.host]
        found = [await resolver.query(host, kind) for host in hosts for kind in (RecordType.A, RecordType.AAAA)]
        return [str(answer.records[0]) for answer in found if isinstance(answer, Found)]

    return finish(ask())


# Printing


def _print(finding: Finding) -> None:
    severity = finding.severity.value
    click.echo(
        f"{click.style(f'{severity:7}', fg=_COLOURS[severity], bold=True)}  {finding.check}: {_plain(finding.what)}"
    )
    click.echo(f"    why:   {_plain(finding.reason.text)}  [{_plain(finding.reason.source)}]")
    for number, line in enumerate(finding.mend.splitlines()):
        click.echo(f"    {'mend:  ' if number == 0 else '       '}{_plain(line)}")


def _plain(text: str) -> str:
    """Make text harmless that may have come from a name server or a file."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def _summary(found: list[Finding]) -> str:
    counts = {each: sum(finding.severity.value == each for finding in found) for each in _COLOURS}
    said = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)
    if counts["error"] or counts["warning"]:
        return said
    return f"All is well{f' ({said})' if said else ''}."


def _as_json(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "check": finding.check,
        "what": finding.what,
        "why": finding.reason.text,
        "source": finding.reason.source,
        "mend": finding.mend,
    }
