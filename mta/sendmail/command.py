"""The command ``sendmail``, which is ``mailq`` and ``newaliases`` too where it is called so.

Who sends is known to the server by the socket; without ``-f`` the envelope sender is the calling user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Callable
from typing import BinaryIO

from mta.sendmail.content import canonical, read_message
from mta.sendmail.exits import EX_DATAERR, EX_OK, EX_USAGE, Ended
from mta.sendmail.fields import addresses, author, completed, divide, local_part, name_of, recipients
from mta.sendmail.options import Options, read_options
from mta.sendmail.place import config_file, socket_path
from mta.sendmail.submission import Submission

Other = Callable[[Options, str], int]
"""Carries out what is not sending, with a configuration that was named or none."""


def run(program: str, arguments: list[str], other: Other) -> int:
    """Carry out a command line; return the exit status."""
    name = os.path.basename(program)
    try:
        options = read_options(name, arguments)
        if options.role == "send":
            return _send(options, sys.stdin.buffer)
        if options.role == "smtp":
            from mta.sendmail.passage import pass_through

            return pass_through(socket_path(config_file(options.config, os.environ)))
        return other(options, config_file(options.config, os.environ))
    except Ended as ended:
        print(f"{name}: {ended}", file=sys.stderr)
        return ended.status
    except KeyboardInterrupt:
        return 130


def _send(options: Options, stream: BinaryIO) -> int:
    if not options.recipients and not options.from_header:
        raise Ended("no recipients: name them, or say -t to take them from the message", EX_USAGE)
    named = [each for word in options.recipients for each in _addresses(word)]
    header = divide(read_message(stream, options.dot_is_data))
    if options.from_header:
        named += recipients(header.fields)
    if not named:
        raise Ended("no recipients in To, Cc or Bcc", EX_USAGE)
    path = socket_path(config_file(options.config, os.environ))
    submission = Submission(path, _show if options.verbose else lambda line: None)
    domain = submission.domain
    user = pwd.getpwuid(os.getuid()) if _known(os.getuid()) else None
    login = local_part(user.pw_name) if user else str(os.getuid())
    fields = completed(header.fields, domain)
    if not any(name_of(field) == b"from" for field in fields):
        full_name = options.full_name or os.environ.get("NAME", "") or (_full_name(user) if user else "")
        fields.append(author(_whole(login, domain), full_name))
    sender = login if options.sender is None else "".join(_addresses(options.sender)[:1])
    submission.send(
        _whole(sender, domain) if sender else "",
        list(dict.fromkeys(_whole(each, domain) for each in named)),
        b"".join(fields) + b"\r\n" + canonical(header.body),
    )
    submission.close()
    return EX_OK


def _show(line: str) -> None:
    """Print a line for people; that nobody reads it any more is no reason not to send."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode("utf-8", "replace") + b"\n")


def _known(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _full_name(user: pwd.struct_passwd) -> str:
    """The full name in GECOS, whose ``&`` stands for the user name."""
    return user.pw_gecos.partition(",")[0].replace("&", user.pw_name.capitalize())


def _addresses(word: str) -> list[str]:
    """The addresses of one word of the command line."""
    if any(ord(each) < 32 or ord(each) == 127 for each in word):
        raise Ended("an address on the command line has a control character", EX_USAGE)
    try:
        return [each.text for each in addresses(word) if each.text]
    except ValueError as fault:
        raise Ended(f"{word}: {fault}", EX_DATAERR) from None


def _whole(address: str, domain: str) -> str:
    bare = any(each.bare for each in addresses(address))
    return f"{address}@{domain}" if bare else address
