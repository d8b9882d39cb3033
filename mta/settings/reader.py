"""`load`: ``etc/mta.toml`` and the directory ``domains`` beside it, as one `Settings`, or everything that is wrong.

Paths in the file are relative to its own directory, wherever the server was started. Other files are read here as far
as the settings need them (passwords of routes); a certificate must only be there and readable, `mta.tls` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from mta.mail.route import TlsLevel
from mta.settings.domains import read_directory, read_text, read_toml
from mta.settings.hook import completed
from mta.settings.locate import Path
from mta.settings.policy import PolicySettings
from mta.settings.policy_reading import complete_policy
from mta.settings.problem import Problem, SettingsRefused, quoted
from mta.settings.sections import NetworkSettings, RelaySettings, RouteSettings, Settings
from mta.settings.table import Reading
from mta.settings.values import parse_host_name

DOMAINS = "domains"
"""The directory of the domains, beside ``mta.toml``."""


def load(path: str, domains: str | None = None) -> Settings:
    """Read everything. Raises SettingsRefused with all problems, in the order of files and lines.

    `domains` is another directory of the domains, for a trial.
    """
    problems: list[Problem] = []
    found = read_toml(path, problems)
    if found is None:
        raise SettingsRefused(problems)
    table, reading = found
    settings = replace(reading.table(Settings, table), path=path)
    settings = replace(settings, relay=_relay(reading, settings.relay, table))
    settings = replace(settings, policy=_policy(reading, settings.policy))
    directory = read_directory(domains or os.path.join(os.path.dirname(path), DOMAINS), settings, problems)
    settings = replace(settings, directory=directory, primary_domain=directory.primary)
    _check_services(reading, settings)
    _check_queue(reading, settings)
    if settings.local.domain not in ("", settings.hostname, *directory.domains):
        expected = f"the host name, or a directory in {directory.source}"
        reading.mismatch(("local", "domain"), expected, quoted(settings.local.domain))
    if directory.primary and directory.primary not in directory.domains:
        reading.mismatch(("primary_domain",), f"a directory in {directory.source}", quoted(directory.primary))
    if problems:
        raise SettingsRefused(problems)
    return settings


def _check_services(reading: Reading, settings: Settings) -> None:
    mx, smtpd, tls = settings.mx, settings.smtpd, settings.tls
    where: dict[object, Path] = {}
    for path, enabled, listen in (
        (("mx", "listen"), mx.enabled, mx.listen),
        (("smtpd", "submission"), smtpd.enabled, smtpd.submission),
        (("smtpd", "submissions"), smtpd.enabled, smtpd.submissions),
    ):
        for endpoint in listen if enabled else ():
            if endpoint in where:
                reading.mismatch(
                    path, "each place to listen at once", f"{endpoint}, see {'.'.join(map(str, where[endpoint]))}"
                )
            where[endpoint] = path
    if mx.enabled and not mx.listen:
        reading.mismatch(("mx", "listen"), "a place to listen at, or enabled = false", "none")
    if smtpd.enabled and not smtpd.submission and not smtpd.submissions:
        reading.mismatch(("smtpd", "submission"), "a place to listen at, or enabled = false", "none")
    if mx.enabled and not settings.directory.domains:
        reading.mismatch(("mx", "enabled"), f"a domain in {settings.directory.source}, or enabled = false", "none")
    for number, network in enumerate(smtpd.networks):
        _check_network(reading, number, network)
    names = [network.name for network in smtpd.networks]
    for number, name in enumerate(names):
        if name in names[:number]:
            reading.mismatch(("smtpd", "network", number, "name"), "each name once", quoted(name))
    without_tls = any(network.auth_without_tls or network.submit_without_login for network in smtpd.networks)
    if smtpd.enabled and not tls.certificate and (smtpd.submissions or not without_tls):
        reading.mismatch(("tls", "certificate"), "a certificate, as passwords need TLS at [smtpd]", "none")
    for key, file in (("certificate", tls.certificate), ("key", tls.key)):
        if file and not os.access(file, os.R_OK):
            reading.mismatch(("tls", key), "a file that can be read", quoted(file))


def _check_network(reading: Reading, number: int, network: NetworkSettings) -> None:
    path = ("smtpd", "network", number)
    if not network.name:
        reading.mismatch((*path, "name"), "a name", "none")
    if not network.addresses:
        reading.mismatch((*path, "addresses"), "a list of networks", "none")
    if network.submit_without_login and not network.senders:
        reading.mismatch((*path, "senders"), "a list of senders, as submit_without_login is set", "none")


def _check_queue(reading: Reading, settings: Settings) -> None:
    queue = settings.queue
    if queue.longest_retry < queue.first_retry:
        reading.mismatch(("queue", "longest_retry"), "first_retry or more", "less")
    if queue.lifetime < queue.first_retry:
        reading.mismatch(("queue", "lifetime"), "first_retry or more", "less")


def _policy(reading: Reading, policy: PolicySettings) -> PolicySettings:
    """Check the policies and read the files that they name."""
    policy = complete_policy(reading, policy)
    hooks = completed(policy.hooks, ("policy", "hook"), reading, read_text)
    names = [milter.name for milter in policy.milters]
    for number, name in enumerate(names):
        if not name or name in names[:number]:
            reading.mismatch(("policy", "milter", number, "name"), "a name, each once", quoted(name))
    return replace(policy, hooks=hooks)


def _relay(reading: Reading, relay: RelaySettings, table: Mapping[str, object]) -> RelaySettings:
    """Check routes and complete them: the folded domain, the password, TLS where a login would be seen."""
    raw = table.get("relay")
    if not isinstance(raw, Mapping):
        return relay
    routes: list[RouteSettings] = []
    for number, route in enumerate(relay.routes):
        path: Path = ("relay", "route", number)
        written = raw["route"][number] if len(raw["route"]) == len(relay.routes) else {}
        completed = _route(reading, path, route, written)
        try:
            completed = replace(completed, domain=_route_domain(route.domain))
        except ValueError:
            reading.mismatch((*path, "domain"), '"example.net", ".example.net" or "*"', quoted(route.domain))
        if completed.domain in (other.domain for other in routes):
            reading.mismatch((*path, "domain"), "each domain once", quoted(route.domain))
        routes.append(completed)
    smart_host = relay.smart_host
    if smart_host is not None:
        if smart_host.domain:
            reading.mismatch(("relay", "smart_host", "domain"), "no domain here", quoted(smart_host.domain))
        smart_host = replace(_route(reading, ("relay", "smart_host"), smart_host, raw["smart_host"]), domain="*")
    return replace(relay, routes=tuple(routes), smart_host=smart_host)


def _route_domain(text: str) -> str:
    if text == "*":
        return text
    if text.startswith("."):
        return "." + parse_host_name(text[1:])
    return parse_host_name(text)


def _route(reading: Reading, path: Path, route: RouteSettings, written: Mapping[str, object]) -> RouteSettings:
    if not route.host:
        reading.mismatch((*path, "host"), "a host", "none")
    if route.password and route.password_file:
        reading.mismatch((*path, "password"), "password or password_file", "both")
    elif route.password_file:
        text = read_text(route.password_file, reading.problems)
        route = replace(route, password=text.partition("\n")[0].removesuffix("\r") if text else "")
    if bool(route.login) != bool(route.password):
        missing = "password" if route.login else "login"
        reading.mismatch((*path, missing), "login and password together", "one of them")
    if route.login and "tls" not in written:
        route = replace(route, tls=TlsLevel.MUST)
    return route
