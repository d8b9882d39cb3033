"""Listening sockets: made once by the parent, or handed over by systemd, before anything else is done.

A socket from systemd is found by its name (``FileDescriptorName=``, sd_listen_fds(3)); ours are made with
SO_REUSEADDR, and IPv6 ones take no IPv4, so that ``0.0.0.0`` and ``::`` stand side by side.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mta.service.local_socket import open_local_socket
from mta.settings.sections import Settings
from mta.settings.values import Listen, SystemdSocket

_LISTEN_FDS_START = 3
"""The first descriptor that systemd hands over (sd_listen_fds(3))."""


class CannotListen(Exception):
    """A socket could not be had; the text says which, why, and what to do. The daemon does not start."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens for one service. `implicit_tls`: TLS comes before the greeting."""

    service: str
    implicit_tls: bool
    socket: socket.socket
    name: str
    """``127.0.0.1:25`` or ``systemd:mx``."""


def wanted(settings: Settings) -> list[tuple[str, bool, Listen]]:
    """Say what listens where: service, implicit TLS, address."""
    mx, smtpd = settings.mx, settings.smtpd
    out: list[tuple[str, bool, Listen]] = []
    if mx.enabled:
        out += [("mx", False, listen) for listen in mx.listen]
    if smtpd.enabled:
        out += [("smtpd", False, listen) for listen in smtpd.submission]
        out += [("smtpd", True, listen) for listen in smtpd.submissions]
    return out


def listens(descriptor: int) -> bool:
    """Whether a descriptor is a socket that listens."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def inherited(
    environment: Mapping[str, str], process: int, is_socket: Callable[[int], bool] = listens
) -> dict[str, list[int]]:
    """Return the sockets that systemd handed over to `process`, by name (sd_listen_fds_with_names(3)).

    A name may have several: one unit with IPv4 and IPv6 gives both the same. Twisted's endpoints, once imported, take
    process and number out of the environment, and twistd imports them before us where it cannot keep a cache of its
    plugins: then the names alone tell, if there is a socket that listens for each.
    """
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    taken = "LISTEN_PID" not in environment and "LISTEN_FDS" not in environment and names != [""]
    if environment.get("LISTEN_PID") != str(process) and not taken:
        return {}
    count = len(names) if taken else int(environment.get("LISTEN_FDS", "0"))
    descriptors = range(_LISTEN_FDS_START, _LISTEN_FDS_START + count)
    if taken and not all(map(is_socket, descriptors)):
        return {}
    found: dict[str, list[int]] = {}
    for descriptor, name in zip(descriptors, names, strict=False):
        found.setdefault(name, []).append(descriptor)
    return found


_HINTS = {
    errno.EACCES: "; give the process CAP_NET_BIND_SERVICE or use systemd sockets",
    errno.EADDRINUSE: "; `ss -ltnp` says by whom, and the settings may name another port",
}


def open_sockets(settings: Settings, inherited: Mapping[str, Sequence[int]]) -> list[Listening]:
    """Open every socket that is wanted; `inherited` has systemd's descriptors by name. Raises CannotListen."""
    problems: list[str] = []
    opened: list[Listening] = []
    for service, implicit_tls, listen in wanted(settings):
        try:
            made = _sockets(listen, inherited, settings.connections.backlog)
            opened += [Listening(service, implicit_tls, each, str(listen)) for each in made]
        except OSError as error:
            hint = _HINTS.get(error.errno or 0, "")
            problems.append(f"{service} cannot listen on {listen}: {error.strerror or error}{hint}")
    path = settings.local.socket
    if path:
        try:
            opened.append(Listening("local", False, open_local_socket(path, settings.connections.backlog), path))
        except OSError as error:
            problems.append(f"[local] socket: cannot listen on {path}: {error.strerror or error}")
    if problems:
        close(opened)
        raise CannotListen("\n".join(problems))
    return opened


def close(opened: Iterable[Listening]) -> None:
    """Close sockets."""
    for listening in opened:
        listening.socket.close()


def _sockets(listen: Listen, inherited: Mapping[str, Sequence[int]], backlog: int) -> list[socket.socket]:
    if isinstance(listen, SystemdSocket):
        if listen.name not in inherited:
            raise OSError(f"systemd handed over no socket of that name (it has: {', '.join(inherited) or 'none'})")
        return [socket.socket(fileno=descriptor) for descriptor in inherited[listen.name]]
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in found:
            made.append(socket.socket(family, kind, protocol))
            made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made[-1].bind(address)
            made[-1].listen(backlog)
    except OSError:
        for each in made:
            each.close()
        raise
    return made
