"""As whom the server runs, and what that user may do with a file (path_resolution(7))."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from mta.disk.owner import user_name

READ, WRITE, ENTER = 4, 2, 1

Stat = Callable[[str], os.stat_result]


@dataclass(frozen=True, slots=True)
class Server:
    """The user that the server runs as."""

    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """Its name, or its number where it has none."""
        return user_name(self.uid)

    def may(self, status: os.stat_result, wish: int) -> bool:
        """Whether it may do to a file what `wish` says: `READ`, `WRITE`, `ENTER` or a sum of them."""
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            granted = status.st_mode >> 6
        elif status.st_gid in self.groups:
            granted = status.st_mode >> 3
        else:
            granted = status.st_mode
        return granted & wish == wish

    def barred(self, path: str, stat: Stat = os.stat) -> str:
        """The first directory above `path` that it cannot enter; empty where there is none."""
        above = os.path.dirname(path)
        chain = [above]
        while above != os.path.dirname(above):
            above = os.path.dirname(above)
            chain.append(above)
        for directory in reversed(chain):
            try:
                if not self.may(stat(directory), ENTER):
                    return directory
            except OSError:
                return ""
        return ""


def server_of(state: str, stat: Stat = os.stat) -> Server:
    """Tell it: root asks about the owner of the state directory, everybody else about themselves."""
    if os.geteuid() == 0:
        try:
            status = stat(state)
        except OSError:
            return Server(0, frozenset((0,)))
        try:
            groups = os.getgrouplist(pwd.getpwuid(status.st_uid).pw_name, status.st_gid)
        except KeyError:
            groups = [status.st_gid]
        return Server(status.st_uid, frozenset(groups))
    return Server(os.geteuid(), frozenset((os.getegid(), *os.getgroups())))


def start_line(config: str, state: str, stat: Stat = os.stat) -> str:
    """The command that starts the server without systemd: for root, as the owner of the state directory."""
    server = server_of(state, stat)
    if os.geteuid() != 0 or server.uid == 0:
        return started_as("", -1, config)
    try:
        return started_as(server.name, pwd.getpwuid(server.uid).pw_gid, config)
    except KeyError:
        return started_as(server.name, server.uid, config)


def started_as(user: str, gid: int, config: str) -> str:
    """The command that starts the server as `user`, with ports below 1024; "" is whoever types it."""
    twistd = f"twistd --nodaemon --pidfile= mta --config {config}"
    ports = "--inh-caps +net_bind_service --ambient-caps +net_bind_service"
    return f"setpriv --reuid {user} --regid {gid} --init-groups {ports} {twistd}" if user else twistd
