"""The socket that ``sendmail`` submits to: made once by the parent, with a name that every user can reach.

The name stays when the server stops: who calls then is refused by the kernel, and the next start replaces it. A name
that another process listens on is left to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

_MODE = 0o666
"""Everybody may connect: who it is stands in the credentials of the connection."""
_DIRECTORY_MODE = 0o755


def open_local_socket(path: str, backlog: int) -> socket.socket:
    """Listen at `path`. Raises OSError."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.mkdir(directory, _DIRECTORY_MODE)
        os.chmod(directory, _DIRECTORY_MODE)  # whatever the umask
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(path)
        os.chmod(path, _MODE)
        made.listen(backlog)
    except OSError:
        made.close()
        raise
    return made


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
