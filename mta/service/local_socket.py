"""The socket that ``sendmail`` submits to: made once by the parent, with a name that every user can reach.

The name stays when the server stops: who calls then is refused by the kernel, and the next start replaces it. A name
that another process listens on is left to it.

Modes come from the umask alone: a chmod(2) by name would change whatever somebody put there meanwhile, where the
directory is one that others write to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator

_SOCKET_UMASK = 0o111
"""Mode 0666: everybody may connect, who it is stands in the credentials of the connection."""
_DIRECTORY_UMASK = 0o022
"""Mode 0755."""


def open_local_socket(path: str, backlog: int) -> socket.socket:
    """Listen at `path`. Raises OSError."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        with _umask(_DIRECTORY_UMASK):
            os.mkdir(directory)
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _umask(_SOCKET_UMASK):
            made.bind(path)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _umask(umask: int) -> Iterator[None]:
    """Have another umask: one thread runs at the start."""
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. What is no socket is not ours: bind(2) says so."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, "another process listens there")
