"""``mta dkim``: keys of domains made, shown, checked and changed by hand (docs/dkim.md).

The commands read ``[dns]``, ``[dkim]`` and the keys, nothing else of the configuration: they work before the rest is
right. What they print of keys is a piece of a zone file, with everything else in comments.

Exit status: 0 all is well; 65 a record is wrong, or there is nothing to work on; 73 a file cannot be written; 75 try
again (a name server did not answer, another process changes the keys); 78 the configuration cannot be used.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from twisted.internet import defer

from mta.cli.daemon import (
    CONFIG,
    EX_CANTCREAT,
    EX_CONFIG,
    EX_DATAERR,
    EX_TEMPFAIL,
    examples,
    fail,
    state_directory,
    take_effect,
)
from mta.cli.names import finish, resolvers
from mta.cli.site import Site, read_site, told
from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.mailauth.dkim_published import Published, Resolvers, Sight, look
from mta.mailauth.dkim_rotation import Make, Rotation, Turn, Wait
from mta.mailauth.keypair import is_sound, record_text
from mta.observe.event import Event, Kind
from mta.observe.journal import Journal
from mta.service.published import zone_text
from mta.settings.dkim import Algorithm, DkimKey, KeyState, is_selector, time_text

_RSA_BITS_WANTED = 2048
"""RFC 8301 §3.2."""
_GROUP_WRITES = 0o770

_ALGORITHMS: Mapping[str, tuple[Algorithm, ...]] = {
    "rsa": ("rsa",),
    "ed25519": ("ed25519",),
    "both": ("rsa", "ed25519"),
}
_OFFLINE = click.option("--offline", is_flag=True, help="Ask no name server.")


@click.group()
def dkim() -> None:
    """Make, show, check and change the keys that mail is signed with."""


# What is printed


def _describe(key: DkimKey, now: float) -> str:
    since = f" since {time_text(key.since)} ({_days(now - key.since)})" if key.since else ""
    return f"{key.selector}: {key.state.value}{since}, {key.algorithm} {key.bits}, {key.file}"


def _days(seconds: float) -> str:
    days = int(max(seconds, 0) // 86400)
    return "today" if not days else "1 day" if days == 1 else f"{days} days"


def _comment(text: str) -> None:
    click.echo("\n".join(f"; {line}" for line in text.split("\n")))


# Commands


@dkim.command(epilog=examples("mta dkim keygen example.org --algorithm both"))
@click.argument("domain")
@click.option("--algorithm", type=click.Choice(list(_ALGORITHMS)), help="The default is [dkim] algorithms.")
@click.option("--selector", help="The default is the month and the algorithm; for two keys, -rsa and -ed are added.")
@click.option("--signing", is_flag=True, help="Sign with it at once, published or not.")
@CONFIG
def keygen(domain: str, algorithm: str | None, selector: str | None, signing: bool, config: Path) -> None:
    """Make keys for DOMAIN and print the records to publish.

    They do not sign before `mta dkim rotate DOMAIN` finds their records in the DNS. Nothing is ever overwritten.
    """
    site = read_site(config)
    (name,) = site.chosen(domain)
    algorithms = _ALGORITHMS[algorithm] if algorithm else tuple(dict.fromkeys(site.settings.algorithms))
    if not algorithms:
        fail("[dkim] algorithms names none: say which with --algorithm", EX_CONFIG)
    chosen = {each: _selector(selector, each, len(algorithms), name) for each in algorithms}
    state = KeyState.SIGNING if signing else KeyState.NEXT
    with told():
        directory = _make_directory(site, name)
        taken = {key.selector for key in site.store.read(directory, name)} & set(chosen.values())
        if taken:
            fail(f"{', '.join(sorted(taken))} is there already, and keys are never overwritten", EX_CANTCREAT)
        keys = [site.store.make(directory, name, each, state, time.time(), chosen[each]) for each in chosen]
    _comment(f"Made {', '.join(key.file for key in keys)}. Publish in the zone of {name}:")
    for key in keys:
        click.echo(zone_text(key.name, record_text(key.pem)))
    if signing:
        _tell_daemon(site)
        _comment(f"Then see that they are right: mta dkim check {name}")
    else:
        _comment(f"Then sign with what is published: mta dkim rotate {name}")


def _selector(typed: str | None, algorithm: Algorithm, count: int, domain: str) -> str:
    if typed is None:
        return ""
    selector = typed.lower() if count == 1 else f"{typed.lower()}-{'rsa' if algorithm == 'rsa' else 'ed'}"
    if not is_selector(selector, domain):
        raise click.BadParameter(f"{selector} is no selector (RFC 6376 §3.1)", param_hint="--selector")
    return selector


def _make_directory(site: Site, domain: str) -> str:
    """Make the directory of the keys where it is missing, for the group of the daemon: the one that `state` has."""
    directory = site.keys_in(domain)
    if os.path.isdir(directory):
        return directory
    above = os.stat(site.directories[domain])
    try:
        server = os.stat(state_directory(str(site.config)))
    except OSError:
        server = above
    if os.geteuid() == 0:
        owner, group = above.st_uid, server.st_gid
    else:
        owner, group = -1, server.st_gid if server.st_gid in os.getgroups() else -1
    mode = 0o700 if server.st_uid == above.st_uid else _GROUP_WRITES if site.settings.rotate_every else 0o750
    PosixDisk().make_directories(directory, mode, owner, group)
    return directory


@dkim.command(epilog=examples("mta dkim show example.org"))
@click.argument("domain", required=False)
@_OFFLINE
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each key.")
@CONFIG
def show(domain: str | None, offline: bool, as_json: bool, config: Path) -> None:
    """Show the keys of DOMAIN, or of all, with their records.

    Beside each stands what the name servers have of it.
    """
    site = read_site(config)
    names = {} if offline else resolvers(site.dns)
    now = time.time()
    for name in site.chosen(domain):
        keys = site.keys(name)
        if not as_json:
            _comment(name if keys else f"{name} has no keys, and its mail is not signed: mta dkim keygen {name}")
        for key in keys:
            sights = finish(look(names, key))
            if as_json:
                click.echo(json.dumps(_as_json(key, names, sights)))
                continue
            _comment(f"  {_describe(key, now)}")
            for sight in sights:
                _comment(f"    {sight.reason.source}: {sight.published.value}: {sight.reason.text}")
            if offline:
                _comment("    DNS: not asked")
            click.echo(zone_text(key.name, record_text(key.pem)))


def _as_json(key: DkimKey, names: Resolvers, sights: tuple[Sight, ...]) -> dict[str, Any]:
    return {
        "domain": key.domain,
        "selector": key.selector,
        "state": key.state.value,
        "since": time_text(key.since) if key.since else None,
        "algorithm": key.algorithm,
        "bits": key.bits,
        "file": key.file,
        "name": key.name,
        "record": record_text(key.pem),
        "published": [
            {"server": server, "state": sight.published.value, "text": sight.reason.text}
            for server, sight in zip(names, sights, strict=True)
        ],
    }


@dkim.command(epilog=examples("mta dkim check || echo 'look after the DKIM records'"))
@click.argument("domain", required=False)
@CONFIG
def check(domain: str | None, config: Path) -> None:
    """Compare the DNS with the keys of DOMAIN, or of all.

    Every name server is asked. Status 65 where mail is signed with a key that others do not find, or find wrong:
    missing, different, revoked, unusable. Status 75 where a name server did not tell. Keys that do not sign are told
    of, and change no status.
    """
    site = read_site(config)
    names = resolvers(site.dns)
    worst = 0
    for name in site.chosen(domain):
        keys = site.keys(name)
        if not any(key.state is KeyState.SIGNING for key in keys):
            click.echo(f"{name}: no key signs")
        for key in keys:
            status, text = _checked(key, finish(look(names, key)))
            click.echo(f"{name} {key.selector} ({key.state.value}): {text}")
            if key.state is KeyState.SIGNING and worst != EX_DATAERR:
                worst = status or worst
    raise SystemExit(worst)


def _checked(key: DkimKey, sights: tuple[Sight, ...]) -> tuple[int, str]:
    """The status that a key calls for, and what there is to say of it."""
    if not is_sound(key.pem):
        return EX_DATAERR, f"the numbers of the key in {key.file} do not fit together"
    wrong = [sight for sight in sights if sight.published is not Published.RIGHT]
    if wrong:
        unknown = all(sight.published is Published.UNKNOWN for sight in wrong)
        return EX_TEMPFAIL if unknown else EX_DATAERR, "; ".join(f"{s.published.value}: {s.reason}" for s in wrong)
    short = key.algorithm == "rsa" and key.bits < _RSA_BITS_WANTED
    return 0, f"{sights[0].reason}" + (f"; {key.bits} bits are few (RFC 8301 §3.2)" if short else "")


@dkim.command(
    epilog=examples(
        "mta dkim rotate example.org      begin with the next keys",
        "mta dkim rotate                  once a day, for what is due everywhere",
    )
)
@click.argument("domain", required=False)
@CONFIG
def rotate(domain: str | None, config: Path) -> None:
    """Take the next step of each key: next, signing, retired, removed.

    For DOMAIN a rotation begins unless one is under way: the next key is made, and its record printed. It signs as soon
    as every name server shows its record; the old key is retired then, and removed after [dkim] keep_retired. Without
    DOMAIN the same is done for all domains, but a rotation begins only where [dkim] rotate_every says so. Type it again
    whenever you like: it does what is due, says what comes next, and changes nothing else.
    """
    site = read_site(config)
    names = resolvers(site.dns)
    journal = Journal(time.time, [_print_step])
    rotation = Rotation(site.store, names, defer.execute, journal, time.time, site.settings)
    changed, problem = False, None
    for name in site.chosen(domain):
        if domain is not None and not site.keys(name):
            fail(f"{name} has no keys: mta dkim keygen {name}", EX_DATAERR)
        turn: Turn = finish(rotation.rotate(site.keys_in(name), name, begin=domain is not None))
        changed = changed or any(not isinstance(step, Make) for step in turn.done)
        problem = problem or turn.problem
        for wait in turn.waits:
            if wait.key.state is not KeyState.NEXT:
                _comment(_waiting(wait))
    if changed:
        _tell_daemon(site)
    if problem is not None:
        with told():
            raise problem


def _waiting(wait: Wait) -> str:
    when = f", on {time_text(wait.until)}" if wait.until is not None else ""
    return f"{wait.key.name}: {wait.reason.text}{when}"


def _print_step(event: Event) -> None:
    """Print what a rotation does: the events that the daemon would log."""
    fields = event.fields
    name, reason = fields.get("name"), event.reason or Reason("")
    match event.kind:
        case Kind.DKIM_KEY_MADE:
            _comment(f"{name}: made as {fields['file']}: {reason.text}")
        case Kind.DKIM_KEY_SIGNS:
            instead = f" instead of {fields['replaces']}" if fields["replaces"] else ""
            _comment(f"{name}: signs from now on{instead}: {reason}")
        case Kind.DKIM_KEY_RETIRED:
            _comment(f"{name}: retired, {reason.text}. Leave its record in the DNS until {fields['until']}.")
        case Kind.DKIM_KEY_REMOVED:
            _comment(f"{name}: removed, {reason.text}. Its record may go now.")
        case Kind.DKIM_KEY_WAITS:
            _comment(f"{name}: waits for its record: {reason}. Publish:")
            click.echo(zone_text(str(name), str(fields["record"])))


@dkim.command(epilog=examples("mta dkim retire example.org 2026-05-rsa"))
@click.argument("domain")
@click.argument("selector")
@CONFIG
def retire(domain: str, selector: str, config: Path) -> None:
    """Sign with one key of DOMAIN no more.

    Whether another takes its place or not.
    """
    site = read_site(config)
    (name,) = site.chosen(domain)
    keys = site.keys(name)
    key = next((key for key in keys if key.selector == selector.lower()), None)
    if key is None or key.state is KeyState.RETIRED:
        fail(f"{domain} has no key {selector} that is not retired", EX_DATAERR)
    if key.linked:
        fail(f"{key.file} is a symbolic link: whoever made it changes it", EX_DATAERR)
    now = time.time()
    with told():
        site.store.change(key, KeyState.RETIRED, now)
    until = time_text(now + site.settings.keep_retired)
    click.echo(f"{key.name} is retired. Leave its record in the DNS until {until}.")
    if not any(other.state is KeyState.SIGNING for other in keys if other is not key):
        click.echo(f"No key of {name} signs now.")
    _tell_daemon(site)


def _tell_daemon(site: Site) -> None:
    """Have a daemon that runs use the keys as they are now."""
    _comment(take_effect(site.config).text)
