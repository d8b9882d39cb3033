"""Ports: whether our daemon holds them, whether they could be had, and whether port 25 of others can be reached.

These checks connect and bind; they are for who types a command, not for the daemon.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from mta.service.check.finding import Finding, error, note, warning
from mta.service.check.server import start_line
from mta.service.sockets import wanted
from mta.settings.sections import Settings
from mta.settings.values import Endpoint, SystemdSocket

PORTS = "ports"
OUTGOING = "outgoing"
PATIENCE = 5.0
"""Seconds for a connection."""
_GREETING_PATIENCE = 15.0
"""Seconds for a greeting, which a server may keep back for a while to see who talks too early."""
_GREETING_MAXIMUM = 512
"""Octets of a reply line (RFC 5321 §4.5.3.1.5)."""

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what is listened on, and where it is reached from here


class Greeting(Protocol):
    """Connects and reads a greeting, after TLS where it is implicit."""

    def __call__(self, host: str, port: int, implicit_tls: bool, /) -> str:
        """Give its first line. Raises OSError."""
        ...


Bind = Callable[[str, int], None]
"""Binds a TCP port and releases it. Raises OSError."""


def check_ports(settings: Settings, running: bool | None, greeting: Greeting, bind: Bind) -> list[Finding]:
    """Look at each place that the settings have us listen at.

    `running` is whether our daemon answers at the control socket; None: who asks may not open that.
    """
    if running is None:
        why = "only root and the user that the server runs as may ask it"
        return [note(PORTS, "whether the server runs is not known", why, f"{settings.state}/control.sock")]
    found = [] if running else [_not_running(settings)]
    for service, implicit_tls, listen in wanted(settings):
        if isinstance(listen, SystemdSocket):
            if not running:
                why = "systemd opens it; what listens there is not looked at"
                mend = f"systemctl status mta-{listen.name}.socket"
                found.append(note(PORTS, f"{service} gets {listen} from systemd", why, settings.path, mend))
            continue
        if running:
            found += _held(settings, service, implicit_tls, listen, greeting)
        else:
            found += _could_be_had(settings, service, listen, bind)
    for listen in () if running else settings.metrics.listen:
        found += _could_be_had(settings, "metrics", listen, bind)
    return found


def _not_running(settings: Settings) -> Finding:
    mend = f"systemctl start mta, or {start_line(settings.path, settings.state)}"
    return error(PORTS, "the server does not run", "nobody answers", f"{settings.state}/control.sock", mend)


def _held(
    settings: Settings, service: str, implicit_tls: bool, listen: Endpoint, greeting: Greeting
) -> Iterator[Finding]:
    host = _ANY.get(listen.host, listen.host)
    try:
        line = greeting(host, listen.port, implicit_tls)
    except OSError as problem:
        why = f"{_text(problem)}; were the ports changed after its start?"
        mend = "restart the server: ports are taken at the start"
        yield error(PORTS, f"the server runs, and {service} does not answer at {listen}", why, settings.path, mend)
        return
    if not line.startswith(f"220 {settings.hostname} "):
        why = f'it says "{line}"'
        mend = _who(listen)
        yield error(PORTS, f"at {listen} somebody else answers than {service}", why, settings.path, mend)


def _could_be_had(settings: Settings, service: str, listen: Endpoint, bind: Bind) -> Iterator[Finding]:
    try:
        bind(listen.host, listen.port)
    except OSError as problem:
        mend = {
            errno.EADDRINUSE: f"see who has it, and stop that: {_who(listen)}",
            errno.EACCES: "take the ports from systemd (systemd/), or start with CAP_NET_BIND_SERVICE",
            errno.EADDRNOTAVAIL: "this machine has no such address: write one that it has",
            errno.EAFNOSUPPORT: 'this machine has no IPv6: write "0.0.0.0" alone',
        }.get(problem.errno or 0, f"write another place for {service}")
        yield error(PORTS, f"{service} cannot listen on {listen}", _text(problem), settings.path, mend)


def _who(listen: Endpoint) -> str:
    return f"ss -ltnp sport = :{listen.port}"


def _text(problem: OSError) -> str:
    return problem.strerror or str(problem) or type(problem).__name__


def read_greeting(host: str, port: int, implicit_tls: bool) -> str:
    """Connect and read the greeting of a server, whose certificate is not looked at. Raises OSError."""
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((host, port), PATIENCE))
        if implicit_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = stack.enter_context(context.wrap_socket(connection))
        connection.settimeout(_GREETING_PATIENCE)
        octets = b""
        while b"\n" not in octets and len(octets) < _GREETING_MAXIMUM:
            more = connection.recv(_GREETING_MAXIMUM)
            if not more:
                break
            octets += more
        connection.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            connection.sendall(b"QUIT\r\n")
            connection.recv(_GREETING_MAXIMUM)
    line = octets.partition(b"\n")[0].decode("ascii", "replace").rstrip("\r")
    return "".join(character if character.isprintable() else "?" for character in line)


def try_bind(host: str, port: int) -> None:
    """Bind as the server does, and release it. Raises OSError."""
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
            probe.listen(1)


# Outgoing


def check_outgoing(settings: Settings, addresses: Sequence[str], greeting: Greeting) -> list[Finding]:
    """Connect to one of `addresses`: of the smart host, or else of the MX hosts of a domain that surely has some."""
    smart = settings.relay.smart_host
    port = (smart.port if smart is not None else None) or settings.relay.port
    if not addresses:
        whom = smart.host if smart is not None else "the MX hosts of a well-known domain"
        return [note(OUTGOING, "whether mail can leave is not known", f"{whom} could not be found", "DNS")]
    faults = []
    for host in addresses:
        try:
            line = greeting(host, port, False)
        except OSError as problem:
            faults.append(f"{host}: {_text(problem)}")
            continue
        if line.startswith("220"):
            return []
        faults.append(f'{host} says "{line}"')
    if smart is not None:
        what = f"the smart host, {smart.host}, does not answer at port {port}"
        return [error(OUTGOING, what, "; ".join(faults), settings.path, "see [relay.smart_host], and ask who runs it")]
    if any("says" in fault for fault in faults):
        why = "; ".join(faults)
        mend = "look the address of this machine up in the lists of their operators"
        return [warning(OUTGOING, f"port {port} of others can be reached, but they refuse us", why, addresses[0], mend)]
    what = f"port {port} of others cannot be reached"
    mend = "ask your provider to open it (many close it for new customers), or use a smart host: [relay.smart_host]"
    return [error(OUTGOING, what, f"mail cannot leave: {'; '.join(faults)}", addresses[0], mend)]
