"""Mail of this machine: whether somebody reads what is sent to root, and whether its users can send."""

from __future__ import annotations

import os
import stat

from mta.service.check.finding import Finding, error, note, warning
from mta.settings.directory import Local
from mta.settings.sections import Settings
from mta.settings.system import ROOT, last_resort
from mta.smtp.address import Mailbox

LOCAL = "local"

_REACHED = 0o755
"""What the directory of the socket lets everybody do: enter."""


def check_local(settings: Settings, running: bool | None = None) -> list[Finding]:
    """Look at ``[local]``: root's mail, the file of aliases, the socket; `running` is whether our daemon answers."""
    local = settings.local
    if not local.on:
        return [_no_sendmail(settings)]
    return [*_root(settings), *_aliases(settings), *_missing(settings, bool(running)), *_socket(settings)]


def _no_sendmail(settings: Settings) -> Finding:
    why = "cron, PHP and other programs of this machine cannot send mail by sendmail"
    mend = '[local] socket = "/run/mta/submit.sock", aliases = "/etc/aliases"'
    return note(LOCAL, "programs of this machine do not send by this server", why, f"{settings.path}: [local]", mend)


def _root(settings: Settings) -> list[Finding]:
    root = Mailbox(ROOT, settings.hostname)
    found = settings.directory.resolve(root)
    file = settings.local.aliases or "/etc/aliases"
    mend = f'root: you@example.org in {file}, then newaliases; or [local] root = "you@example.org"'
    if not isinstance(found, Local):
        why = "what cron jobs print, and warnings of this machine, reach nobody"
        return [warning(LOCAL, f"nobody gets mail for {root}", why, str(found.reason), mend)]
    resort = last_resort(settings.local, settings.directory.primary)
    written = settings.local.root is not None or any(
        reason.text.startswith(f"{root} ") and "[local]" not in reason.source for reason in found.reasons
    )
    if written or resort is None:
        return []
    why = f"no alias and no setting names who gets it, so it goes to {resort}"
    return [warning(LOCAL, f"it was not said who gets mail for {root}", why, f"{settings.path}: [local]", mend)]


def _aliases(settings: Settings) -> list[Finding]:
    file = settings.local.aliases
    if not file or os.path.exists(file):
        return []
    return [note(LOCAL, f"{file} is not there", "aliases of this machine are read from it", file)]


def _missing(settings: Settings, running: bool) -> list[Finding]:
    path = settings.local.socket
    if not running or not path or os.path.lexists(path):
        return []
    what = "the server runs, and its socket for sendmail is not there"
    why = "it is opened at the start, and sendmail fails without it"
    return [error(LOCAL, what, why, path, "restart the server")]


def _socket(settings: Settings) -> list[Finding]:
    """Find directories that keep users from the socket, and those where users could put another in its place.

    The sticky bit keeps them from that above the directory of the socket, but not in it: before a start there is none.
    """
    path = settings.local.socket
    if not path:
        return []
    closed, open_to_all = [], []
    above = os.path.dirname(path)
    while True:
        try:
            mode = os.stat(above).st_mode
        except OSError:
            mode = _REACHED
        if not mode & stat.S_IXOTH:
            closed.append(above)
        if mode & stat.S_IWOTH and (above == os.path.dirname(path) or not mode & stat.S_ISVTX):
            open_to_all.append(above)
        if above == os.path.dirname(above):
            break
        above = os.path.dirname(above)
    why = "other users than root cannot reach the socket, and their sendmail fails"
    found = [error(LOCAL, f"{each} is closed to users", why, path, f"chmod o+x {each}") for each in closed]
    return [*found, *(_open_to_all(each, path) for each in open_to_all)]


def _open_to_all(directory: str, path: str) -> Finding:
    why = "any user can put a socket of theirs in place of ours, and get what programs of this machine send"
    mend = f'chmod o-w {directory}, or another [local] socket: "/run/mta/submit.sock"'
    return error(LOCAL, f"every user may write in {directory}", why, path, mend)
