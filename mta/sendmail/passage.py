"""``sendmail -bs``: a program speaks SMTP itself, over standard input and output.

Octets pass as they are. Were an LF made CRLF here, text that a program only passes on could end the data phase and
begin commands of its own. From a terminal, where a person types, each line gets its CRLF.
"""

from __future__ import annotations

import os
import select
import socket

from mta.sendmail.exits import EX_OK, EX_TEMPFAIL, Ended

_CHUNK = 64 * 1024


def pass_through(path: str, reading: int = 0, writing: int = 1) -> int:
    """Connect two descriptors with the server until it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise Ended(f"no mail server answers at {path} ({error.strerror or error})", EX_TEMPFAIL) from None
        typed, open_for = os.isatty(reading), [reading, connection.fileno()]
        while True:
            for ready in select.select(open_for, [], [])[0]:
                if ready == reading:
                    octets = os.read(reading, _CHUNK)
                    if not octets:
                        open_for.remove(reading)
                        connection.shutdown(socket.SHUT_WR)
                    elif not _sent(connection, octets.replace(b"\n", b"\r\n") if typed else octets):
                        open_for.remove(reading)
                else:
                    octets = connection.recv(_CHUNK)
                    if not octets:
                        return EX_OK
                    while octets:
                        octets = octets[os.write(writing, octets) :]


def _sent(connection: socket.socket, octets: bytes) -> bool:
    """Send octets; False where the server has hung up, whose last words are still to be read."""
    try:
        connection.sendall(octets)
    except BrokenPipeError:
        return False
    return True
