"""``mta init``: a configuration to start with, the records to publish for it, and what to type next.

What is there already stays as it is, and is said; a second run adds what is missing, and prints the records again.
What no option tells is asked for on a terminal.

Exit status: 0; 2 something was not told; 65 a password or domain that cannot be used; 66 there is nothing to print; 67
there is no such system user; 73 a file cannot be written; 78 what is there already cannot be read.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
import sys
from pathlib import Path
from typing import TextIO

import click

from mta.cli.daemon import EX_CANTCREAT, EX_CONFIG, EX_DATAERR, EX_NOINPUT, EX_NOUSER, fail
from mta.cli.demo import Ports, describe_demo, write_demo
from mta.cli.founding import KERNEL, Access
from mta.cli.password import choose, make, sound
from mta.cli.setup import Present, Wanted, first_user, look, next_steps, records_text, write_setup
from mta.service.addresses import own_addresses
from mta.service.published import Address
from mta.settings.domains import is_user_name
from mta.settings.problem import SettingsRefused
from mta.settings.reader import DOMAINS
from mta.settings.sections import AuthSettings, Settings
from mta.settings.values import fold_local_part, parse_host_name

_EXAMPLES = """\b
Examples:
  mta init
  mta init --hostname mail.example.org --domain example.org --user alice --systemd
  mta init --records > example.org.zone
  mta init --demo var/demo
"""
_SERVER = "mta"
_DEMO_PORTS = Ports(2525, 2587, 2465)
_DEFAULTS = Settings(hostname="localhost")
_PORT = click.IntRange(1, 65535)


@click.command(epilog=_EXAMPLES)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default="/etc/mta/mta.toml",
    show_default=True,
    help="The file to write; domains, keys and certificate come beside it.",
)
@click.option("--hostname", help="The name of this machine, with an address in the DNS: mail.example.org.")
@click.option("--domain", help="The first domain that mail is for: example.org.")
@click.option("--user", help="Its first user, and postmaster: alice.")
@click.option(
    "--password-file",
    type=click.File("r"),
    help="Holds the user's password in its first line (- is standard input). Without it one is asked for or made.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where queue and history are.  [default: {_DEFAULTS.state}]",
)
@click.option(
    "--mail",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Where the Maildirs are.  [default: {_DEFAULTS.mail}]",
)
@click.option("--systemd", is_flag=True, help="Take the ports from systemd, with the units of systemd/.")
@click.option("--run-as", help=f"The system user of the server, if root types this.  [default: {_SERVER}]")
@click.option("--ipv4", multiple=True, help="A public address of this machine, where it cannot know it: behind NAT.")
@click.option("--ipv6", multiple=True, help="Likewise.")
@click.option(
    "--records", is_flag=True, help="Print the records for the DNS, of all domains or of --domain, and make nothing."
)
@click.option(
    "--demo",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a demonstration on loopback below this directory instead: no root, no DNS, no network.",
)
@click.option("--mx-port", type=_PORT, help=f"With --demo.  [default: {_DEMO_PORTS.mx}]")
@click.option("--smtpd-port", type=_PORT, help=f"With --demo: STARTTLS.  [default: {_DEMO_PORTS.smtpd}]")
@click.option("--smtps-port", type=_PORT, help=f"With --demo: implicit TLS.  [default: {_DEMO_PORTS.smtps}]")
def init(
    config: Path,
    hostname: str | None,
    domain: str | None,
    user: str | None,
    password_file: TextIO | None,
    state: Path | None,
    mail: Path | None,
    systemd: bool,
    run_as: str | None,
    ipv4: tuple[str, ...],
    ipv6: tuple[str, ...],
    records: bool,
    demo: Path | None,
    mx_port: int | None,
    smtpd_port: int | None,
    smtps_port: int | None,
) -> None:
    """Set the server up: settings, a domain with its first user, DKIM keys, a certificate, directories.

    Prints every record to publish in the DNS as a piece of a zone file, and what to type next. What is there already
    stays as it is: a second run adds what is missing.
    """
    if demo is not None:
        ports = Ports(mx_port or _DEMO_PORTS.mx, smtpd_port or _DEMO_PORTS.smtpd, smtps_port or _DEMO_PORTS.smtps)
        _demonstrate(demo, _domain(domain or "example.test"), ports)
        return
    if mx_port or smtpd_port or smtps_port:
        raise click.UsageError("--mx-port, --smtpd-port and --smtps-port are for --demo; see [mx] and [smtpd]")
    addresses = addresses_told(ipv4, ipv6) or own_addresses()
    config = config.absolute()
    try:
        present = look(config)
        if not records:
            server = _server(run_as)
            wanted = _wanted(present, config, hostname, domain, user, state, mail, systemd, server)
            _write(wanted, password_file)
            present = look(config)
        elif not present.hostname:
            fail(f"there is no {config}: mta init makes it", EX_NOINPUT)
        text = records_text(
            present.hostname, present.domains or {}, addresses, _printed(present, domain if records else None)
        )
    except SettingsRefused as refused:
        fail(str(refused), EX_CONFIG)
    except OSError as error:
        hint = "; root may, or name a place of yours with --config, --state and --mail" if error.errno == 13 else ""
        fail(f"cannot write {error.filename or config.parent}: {error.strerror}{hint}", EX_CANTCREAT)
    if records:
        click.echo(text, nl=False)
        return
    click.echo(f"\nPublish in the DNS (this is a piece of a zone file):\n\n{text}\n{next_steps(wanted)}", nl=False)


def _printed(present: Present, domain: str | None) -> list[str]:
    """The domains whose records are printed: all, or the one that was named."""
    domains = list(present.domains or {})
    if domain is None:
        return domains
    name = _domain(domain)
    if name not in domains:
        fail(f"{domain} is no domain of ours: mta domain list", EX_DATAERR)
    return [name]


def _demonstrate(directory: Path, domain: str, ports: Ports) -> None:
    try:
        write_demo(directory, domain, ports)
    except OSError as error:
        fail(f"cannot write {error.filename or directory}: {error.strerror}", EX_CANTCREAT)
    except SettingsRefused as refused:
        fail(str(refused), EX_CONFIG)
    click.echo(describe_demo(directory))


# What is wanted


def _wanted(
    present: Present,
    config: Path,
    hostname: str | None,
    domain: str | None,
    user: str | None,
    state: Path | None,
    mail: Path | None,
    systemd: bool,
    server: pwd.struct_passwd | None,
) -> Wanted:
    """Put together what was told, what is there, and what is asked for. What is there goes before what is told."""
    host = present.hostname or _host(hostname or _ask("hostname", "Name of this machine, in full", _own_name()))
    if hostname and _host(hostname) != host:
        _note(f"{config} says that the host name is {host}, and stays: change it there")
    name = _domain(domain) if domain else present.domain or _domain(_ask("domain", "Domain of the mail", _above(host)))
    user = first_user(config.parent / DOMAINS / name / "users") or user
    user = user or _ask("user", f"First user of {name}, who is postmaster too", "")
    login = fold_local_part(user.removesuffix(f"@{name}"))
    if not is_user_name(login):
        raise click.BadParameter(
            f"{user}: letters, digits and . _ + - in lower case, starting with a letter or digit", param_hint="--user"
        )
    for path, there, key in ((state, present.state, "state"), (mail, present.mail, "mail")):
        if path and there and str(path.absolute()) != there:
            _note(f"{config} says that {key} is {there}, and stays: change it there")
    if systemd and present.hostname and not present.systemd:
        _note(f"{config} does not take its ports from systemd, and stays: change [mx] and [smtpd] there")
    return Wanted(
        config,
        host,
        name,
        login,
        Path(present.state or (state or Path(_DEFAULTS.state)).absolute()),
        Path(present.mail or (mail or Path(_DEFAULTS.mail)).absolute()),
        present.tls,
        present.systemd if present.hostname else systemd,
        server.pw_name if server else "",
        Access(server.pw_uid, server.pw_gid) if server else KERNEL,
    )


def _host(text: str) -> str:
    name = _name(text, "--hostname")
    if "." not in name:
        raise click.BadParameter(f"{text} is not a whole name, as mail.example.org is", param_hint="--hostname")
    return name


def _domain(text: str) -> str:
    return _name(text, "--domain")


def _name(text: str, option: str) -> str:
    try:
        return parse_host_name(text)
    except ValueError:
        raise click.BadParameter(f"{text} is no domain name", param_hint=option) from None


def _ask(option: str, text: str, default: str) -> str:
    """Ask on a terminal; without one, an option must tell it."""
    if not interactive():
        raise click.UsageError(f"say it with --{option}: {text[0].lower()}{text[1:]}")
    answer: str = click.prompt(text, default=default or None, err=True)
    return answer


def interactive() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()


def _own_name() -> str:
    name = os.uname().nodename
    return name if "." in name else ""


def _above(hostname: str) -> str:
    """The domain that a host name is most likely for."""
    above = hostname.partition(".")[2]
    return above if "." in above else hostname


def addresses_told(ipv4: tuple[str, ...], ipv6: tuple[str, ...]) -> tuple[Address, ...]:
    """Read the options --ipv4 and --ipv6."""
    found: list[Address] = []
    for option, texts, kind in (("--ipv4", ipv4, ipaddress.IPv4Address), ("--ipv6", ipv6, ipaddress.IPv6Address)):
        for text in texts:
            try:
                found.append(kind(text))
            except ValueError:
                raise click.BadParameter(f"{text} is no address of that family", param_hint=option) from None
    return tuple(found)


def _server(run_as: str | None) -> pwd.struct_passwd | None:
    """The system user of the server where root runs this; None: who types is the server."""
    if os.geteuid() != 0:
        if run_as:
            raise click.UsageError("--run-as needs root, who may give files away")
        return None
    name = run_as or _SERVER
    try:
        return pwd.getpwnam(name)
    except KeyError:
        make = f"useradd --system --user-group --home-dir /var/lib/mta --shell /usr/sbin/nologin {name}"
        fail(f"there is no system user {name} that the server could run as; make one:\n    {make}", EX_NOUSER)


# What is written


def _write(wanted: Wanted, password_file: TextIO | None) -> None:
    password = write_setup(wanted, lambda: _password(wanted, password_file))
    if password and password_file is None:
        click.echo(f"\n{wanted.user}@{wanted.domain} logs in with the password  {password}  (it is shown this once)")
    elif not password:
        click.echo(f"\nUsers of {wanted.domain} were there already, and stay: mta user changes them.")


def _password(wanted: Wanted, file: TextIO | None) -> str:
    whose, longest = f"{wanted.user}@{wanted.domain}", AuthSettings().password_maximum
    if file is not None:
        return choose(whose, file, False, longest)
    if not interactive():
        return make()
    while True:
        typed = _hidden(f"Password of {whose} (nothing: one is made)")
        if not typed:
            return make()
        if sound(typed, longest) == _hidden("Again"):
            return typed
        _note("these were two; again from the beginning")


def _hidden(text: str) -> str:
    typed: str = click.prompt(text, default="", show_default=False, hide_input=True, err=True)
    return typed


def _note(text: str) -> None:
    click.echo(f"note: {text}", err=True)
