"""The options of sendmail(1), as programs write them: ``-fuser@x``, ``-f user@x``, ``-it``, ``-oi``, ``-t --``.

=====================  ===============================================================================================
option                 meaning
=====================  ===============================================================================================
``-t``                 recipients from To, Cc and Bcc too
``-i``, ``-oi``        a line with a dot alone does not end the message
``-f``, ``-r``         the envelope sender
``-F``                 the full name in From, where the message has no From
``-B``                 ``8BITMIME`` or ``7BIT``
``-C``                 our configuration, the file or its directory
``-v``                 show the dialogue
``-bm``                send, the default
``-bs``                SMTP on standard input and output
``-bp``, ``-bi``       as ``mailq`` and ``newaliases``
``-q``                 retry what waits; ``-qI``, ``-qR`` and ``-qS`` with a part of id, recipient or sender
taken, nothing done    ``-A -G -h -L -m -n -N -o… -O -R -U -V -x -X -e -I(as -bi)``
refused                ``-bd -bD -bl`` (the daemon starts otherwise), ``-bv -bt -bH -bh``, ``-q`` with an interval
=====================  ===============================================================================================

Options may stand behind recipients, as getopt(3) of the C library has it; ``--`` ends them.
"""

from __future__ import annotations

from typing import NamedTuple

from mta.sendmail.exits import EX_UNAVAILABLE, EX_USAGE, Ended

_WITH_VALUE = "ABCFLNORVXbefhopqrx"
_WITHOUT = "GIUcimnstv"
_ROLES = {"m": "send", "s": "smtp", "p": "queue", "i": "aliases"}


class Options(NamedTuple):
    """What was asked for."""

    role: str = "send"
    """``send``, ``smtp``, ``queue``, ``aliases`` or ``retry``."""
    recipients: tuple[str, ...] = ()
    from_header: bool = False
    dot_is_data: bool = False
    sender: str | None = None
    full_name: str = ""
    eight_bit: bool = False
    config: str = ""
    verbose: bool = False
    filters: tuple[str, ...] = ()
    """What ``-q`` picks: ``I``, ``R`` or ``S``, and a text."""


def read_options(name: str, arguments: list[str]) -> Options:
    """Read a command line; `name` is that of the program, which may be ``mailq`` or ``newaliases``. Raises Ended."""
    role = {"mailq": "queue", "newaliases": "aliases"}.get(name.removeprefix("mta-"), "send")
    found: dict[str, object] = {"role": role}
    recipients: list[str] = []
    left = list(arguments)
    while left:
        word = left.pop(0)
        if word == "--":
            recipients += left
            break
        if word == "-" or not word.startswith("-"):
            recipients.append(word)
            continue
        at = 1
        while at < len(word):
            letter, rest = word[at], word[at + 1 :]
            at += 1
            if letter in _WITHOUT:
                _flag(letter, found)
            elif letter in _WITH_VALUE:
                # A bare -q is whole, and a bare -V too where nothing follows; all others take the next word.
                if not rest and letter != "q":
                    if not left:
                        raise Ended(f"option -{letter} needs a value", EX_USAGE)
                    rest = left.pop(0)
                _value(letter, rest, found)
                break
            else:
                raise Ended(f"there is no option -{letter}", EX_USAGE)
    return Options(recipients=tuple(recipients), **found)  # type: ignore[arg-type]  # each is of its field's type


def _flag(letter: str, found: dict[str, object]) -> None:
    if letter == "t":
        found["from_header"] = True
    elif letter == "i":
        found["dot_is_data"] = True
    elif letter == "v":
        found["verbose"] = True
    elif letter == "I":
        found["role"] = "aliases"
    elif letter == "s":
        raise Ended("there is no option -s; SMTP on standard input is -bs", EX_USAGE)


def _value(letter: str, value: str, found: dict[str, object]) -> None:
    if letter in "fr":
        found["sender"] = value
    elif letter == "F":
        found["full_name"] = value
    elif letter == "C":
        found["config"] = value
    elif letter == "B":
        found["eight_bit"] = value.upper() == "8BITMIME"
    elif letter == "o" and value.startswith("i"):
        found["dot_is_data"] = True
    elif letter == "b":
        if value not in _ROLES:
            raise Ended(_not_here(value), EX_UNAVAILABLE if value in ("d", "D", "l") else EX_USAGE)
        found["role"] = _ROLES[value]
    elif letter == "q":
        found["role"] = "retry"
        if value[:1] in ("I", "R", "S"):
            found["filters"] = (value[0], value[1:])
        elif value:
            raise Ended(f"-q{value}: the queue has its own times; -q alone retries all of it now", EX_USAGE)


def _not_here(mode: str) -> str:
    if mode in ("d", "D", "l"):
        return f"-b{mode}: the server is not started by sendmail; start it with systemctl start mta"
    return f"-b{mode} is not known here; -bm, -bs, -bp and -bi are"
