"""The rest of ``main.cf``: what becomes ``mta.toml``, and what each other parameter means here, or why not."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence

from mta.cli.postfix.main_cf import divided
from mta.cli.postfix.outcome import NewFile, Note, Outcome
from mta.cli.postfix.tables import CannotRead, ReadFile, read_table
from mta.sendmail.place import SOCKET

PASSWORD_FILE = "relay-password"

_TIMES = {
    "maximal_queue_lifetime": ("queue", "lifetime", "d"),
    "delay_warning_time": ("queue", "warn_after", "h"),
    "minimal_backoff_time": ("queue", "first_retry", "s"),
    "maximal_backoff_time": ("queue", "longest_retry", "s"),
}
"""Times: their place here, and their unit where none is written (postconf(5))."""
_NUMBERS = {
    "smtpd_recipient_limit": ("limits", "recipients"),
    "smtpd_hard_error_limit": ("limits", "errors"),
    "default_destination_concurrency_limit": ("relay", "connections_per_destination"),
}
_TLS_LEVELS = {"": "none", "none": "none", "may": "may", "encrypt": "must", "verify": "must", "secure": "must"}

_BUILT_IN = {
    "permit_mynetworks": "",
    "permit_sasl_authenticated": "",
    "reject_unauth_destination": "",
    "defer_unauth_destination": "",
    "reject_unlisted_recipient": "",
    "reject_unknown_recipient_domain": "",
    "reject_non_fqdn_recipient": "",
    "reject_unauth_pipelining": "",
    "permit": "",
}
"""Restrictions that hold here without being written."""
_HINTS = (
    (re.compile(r"reject_rbl_client|reject_rhsbl|permit_dnswl"), "DNS lists are policies: [policy], docs/policies.md"),
    (re.compile(r"check_policy_service"), "greylisting and rates are policies: [policy], docs/policies.md"),
    (re.compile(r"check_\w+_access"), "lists are policies: [policy], docs/policies.md"),
    (re.compile(r"helo|unknown_(client|reverse)"), "checks of names are policies: [policy], docs/policies.md"),
)
_RESTRICTIONS = re.compile(r"smtpd_(client|helo|sender|relay|recipient|data|end_of_data)_restrictions")
_WITHOUT_MEANING = re.compile(
    r"""biff | append_dot_mydomain | compatibility_level | mydomain | myorigin | mail_owner | setgid_group
      | default_privs | mail_name | \w+_directory | \w+_path | debug\w+ | default_database_type | inet_protocols
      | \w+_limit_\w+ | mailbox_size_limit | virtual_mailbox_limit | virtual_(uid|gid)_maps | virtual_minimum_uid
      | local_recipient_maps | unknown_local_recipient_reject_code | smtpd?_tls_session_cache_database
      | smtpd?_tls_loglevel | smtpd?_use_tls
      | smtp_tls_(CApath|CAfile|note_starttls_offer) | smtpd_tls_(received_header|auth_only|security_level)
      | smtpd_banner | disable_vrfy_command | smtpd_helo_required | strict_rfc821_envelopes | broken_sasl_auth_clients
      | smtp_sasl(_tls)?_security_options | smtpd_sasl_(security_options|local_domain)""",
    re.VERBOSE,
)
"""Parameters that name parts of Postfix, or what is so here anyway."""


class Server:
    """Translates what is no name; `read` reads files of Postfix."""

    def __init__(self, outcome: Outcome, read: ReadFile) -> None:
        self._outcome = outcome
        self._main = outcome.main
        self._read = read
        self._toml: dict[str, dict[str, object]] = {}
        self._lists: list[tuple[str, Mapping[str, object]]] = []

    def translate(self, aliases_file: str, domains: bool) -> None:
        """Make ``mta.toml``, and tell of all other parameters; `domains`: whether there are any of ours."""
        self._outcome.take("myhostname", "hostname")
        if not domains:
            self._set("mx", "enabled", False)
            self._outcome.differ("mydestination", "no domain is ours, so no mail comes in: [mx] enabled = false")
        self._listen()
        self._tls()
        self._limits()
        self._relay()
        self._transport()
        self._networks()
        self._local(aliases_file)
        self._restrictions()
        self._others()
        hostname = self._main.value("myhostname").lower()
        text = f"# taken from {self._main.file} by mta import postfix; docs/settings.md describes every key\n"
        text += f"hostname = {_value(hostname)}\n"
        for table, keys in self._toml.items():
            text += f"\n[{table}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in keys.items())
        for table, each in self._lists:
            text += f"\n[[{table}]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in each.items())
        self._outcome.files["mta.toml"] = NewFile(text)

    def _set(self, table: str, key: str, value: object) -> None:
        self._toml.setdefault(table, {})[key] = value

    def _listen(self) -> None:
        found = self._outcome.take("inet_interfaces")
        if found is None or found.strip() == "all":
            return
        hosts = ["127.0.0.1", "[::1]"] if found.strip() == "loopback-only" else divided(found)
        self._set("mx", "listen", [f"{host}:25" for host in hosts])
        self._set("smtpd", "submission", [f"{host}:587" for host in hosts])
        self._set("smtpd", "submissions", [f"{host}:465" for host in hosts])
        self._outcome.take("inet_interfaces", "[mx] listen, [smtpd] submission and submissions")

    def _tls(self) -> None:
        main, outcome = self._main, self._outcome
        chain = divided(outcome.take("smtpd_tls_chain_files") or "")
        certificate = chain[0] if chain else outcome.take("smtpd_tls_cert_file", "[tls] certificate") or ""
        key = outcome.take("smtpd_tls_key_file", "[tls] key") or ""
        if chain:
            outcome.differ("smtpd_tls_chain_files", f"{chain[0]} is taken; ours has one certificate, RSA or ECDSA")
        if certificate in ("", "none"):
            self._set("smtpd", "enabled", False)
            outcome.differ("smtpd_tls_cert_file", "no certificate, so nobody can log in: [smtpd] enabled = false")
            return
        self._set("tls", "certificate", certificate)
        if key and key != certificate:
            self._set("tls", "key", main.expand(key))

    def _limits(self) -> None:
        outcome = self._outcome
        size = self._main.value("message_size_limit")
        outcome.take("message_size_limit", "[limits] message_size")
        if size.isdecimal() and int(size):
            self._set("limits", "message_size", int(size))
        else:
            outcome.differ("message_size_limit", "no limit is not known here; the default is 50M")
        for name, (table, key) in _NUMBERS.items():
            found = outcome.take(name, f"[{table}] {key}")
            if found is not None and found.isdecimal() and int(found):
                self._set(table, key, int(found))
        for name, (table, key, unit) in _TIMES.items():
            found = outcome.take(name)
            if found is None:
                continue
            time = re.fullmatch(r"(\d+)([smhdw]?)", found)
            if time is None or not int(time[1]):
                outcome.leave(name, f"{name} = {found} is not known here")
                continue
            count, unit = int(time[1]), time[2] or unit
            outcome.take(name, f"[{table}] {key}")
            self._set(table, key, f"{count * 7}d" if unit == "w" else f"{count}{unit}")

    def _relay(self) -> None:
        outcome = self._outcome
        host = (outcome.take("relayhost", "[relay.smart_host]") or "").strip()
        outcome.used |= {"smtp_sasl_auth_enable", "smtp_sasl_password_maps", "smtp_tls_security_level"}
        if not host:
            return
        name, port, bracketed = next_hop(host)
        self._set("relay.smart_host", "host", name)
        if port:
            self._set("relay.smart_host", "port", port)
        if not bracketed:
            outcome.differ("relayhost", f"{name} itself is connected to, not the MX hosts of its domain")
        login = self._login(host) if self._main.value("smtp_sasl_auth_enable") == "yes" else None
        level = self._main.value("smtp_tls_security_level")
        self._set("relay.smart_host", "tls", _TLS_LEVELS.get(level, "may"))
        if level not in _TLS_LEVELS:
            outcome.differ("smtp_tls_security_level", f"{level} is not known here: tls is may")
        elif level == "encrypt":
            outcome.differ("smtp_tls_security_level", "the certificate is checked too: tls is must")
        if login is not None:
            user, _, password = login.partition(":")
            self._set("relay.smart_host", "login", user)
            self._set("relay.smart_host", "password_file", PASSWORD_FILE)
            outcome.files[PASSWORD_FILE] = NewFile(password + "\n", 0o640)
            if _TLS_LEVELS.get(level) != "must":
                self._set("relay.smart_host", "tls", "must")
                outcome.differ("smtp_tls_security_level", "the password needs TLS with a certificate: tls is must")

    def _login(self, host: str) -> str | None:
        for table in self._main.words("smtp_sasl_password_maps"):
            try:
                found = read_table(table, self._read).lookup(host)
            except CannotRead as why:
                self._outcome.leave("smtp_sasl_password_maps", f"{table}: {why}")
                continue
            if found is not None:
                self._outcome.take("smtp_sasl_password_maps", f"login and {PASSWORD_FILE}")
                return found
        self._outcome.leave("smtp_sasl_password_maps", f"no password for {host} is there")
        return None

    def _transport(self) -> None:
        self._outcome.used.add("transport_maps")
        seen: set[str] = set()
        for table in self._main.words("transport_maps"):
            try:
                entries = read_table(table, self._read).entries
            except CannotRead as why:
                self._outcome.leave("transport_maps", f"{table}: {why}")
                continue
            for entry in entries:
                transport, _, hop = entry.value.partition(":")
                if "@" in entry.key or transport not in ("smtp", "relay") or not hop or entry.key in seen:
                    text = f"{entry.key} {entry.value}: only a domain that goes to a host is a route here"
                    self._outcome.left.append(Note(entry.place, text))
                    continue
                seen.add(entry.key)
                host, port, bracketed = next_hop(hop)
                route: dict[str, object] = {"domain": entry.key, "host": host}
                if port:
                    route["port"] = port
                self._lists.append(("relay.route", route))
                self._outcome.taken.append(Note(entry.place, f"{entry.key}: [[relay.route]] to {host}"))
                if not bracketed:
                    text = f"{entry.key}: {host} itself is connected to, not the MX hosts of its domain"
                    self._outcome.differs.append(Note(entry.place, text))

    def _networks(self) -> None:
        value = self._outcome.take("mynetworks")
        networks, wrong = [], []
        for word in divided(value or ""):
            try:
                network = ipaddress.ip_network(word.replace("[", "").replace("]", ""), strict=False)
            except ValueError:
                wrong.append(word)
                continue
            if not _loopback(network):
                networks.append(str(network))
        if wrong:
            self._outcome.leave("mynetworks", f"{', '.join(wrong)}: no network as it is written here")
        if networks:
            keys = {"name": "mynetworks", "addresses": networks, "submit_without_login": True, "senders": ["*"]}
            self._lists.append(("smtpd.network", keys))
            text = f"{', '.join(networks)} may send without a login, at port 587, not 25, and 100 messages an hour"
            self._outcome.differ("mynetworks", text)

    def _local(self, aliases_file: str) -> None:
        self._set("local", "socket", SOCKET)
        if aliases_file:
            self._set("local", "aliases", aliases_file)
        text = 'users of this machine send as themselves; a web server may need [local.senders] www-data = ["…"]'
        self._outcome.differs.append(Note(self._main.place("mydestination"), text))

    def _restrictions(self) -> None:
        for name in self._main.parameters:
            if not _RESTRICTIONS.fullmatch(name):
                continue
            self._outcome.used.add(name)
            for word in self._main.words(name):
                hint = next((hint for pattern, hint in _HINTS if pattern.search(word)), "")
                if word not in _BUILT_IN and (hint or word.startswith(("reject", "defer", "check", "warn", "permit"))):
                    self._outcome.leave(name, f"{word}: {hint or 'see docs/policies.md'}")

    def _others(self) -> None:
        """Tell of every parameter of which nothing was said."""
        for name in self._main.parameters:
            if name in self._outcome.used or _WITHOUT_MEANING.fullmatch(name):
                continue
            if "milter" in name:
                text = "milters are policies: [[policy.milter]], docs/policies.md"
            elif name == "relay_domains":
                text = "mx takes mail for domains of ours alone"
            elif name.startswith("smtpd_sasl"):
                text = "logins are the users in etc/domains; mta user passwd sets their passwords"
            elif name == "recipient_delimiter":
                self._outcome.take(name, "separator of each domain")
                continue
            else:
                text = "has no counterpart that this command knows; docs/settings.md has all settings"
            self._outcome.leave(name, f"{name} = {self._main.value(name)}: {text}")


def _loopback(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return network.is_loopback or (mapped is not None and mapped.is_loopback)


def next_hop(text: str) -> tuple[str, int | None, bool]:
    """Host, port and whether the host is in brackets, which asks for no MX records: ``[mail.example.org]:587``."""
    found = re.fullmatch(r"\[(?P<in>[^\]]+)\](?::(?P<p>\w+))?|(?P<out>[^:\[\]]+)(?::(?P<q>\w+))?", text.strip())
    if found is None:
        return text, None, True
    named = {"submission": 587, "submissions": 465, "smtps": 465, "smtp": 25}
    port = found["p"] or found["q"] or ""
    number = int(port) if port.isdecimal() else named.get(port)
    host = found["in"] or found["out"]
    literal = host.removeprefix("IPv6:").removeprefix("ipv6:")
    try:
        address = ipaddress.ip_address(literal)
    except ValueError:
        return host, number, found["in"] is not None
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]", number, True


def _value(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
