"""The file ``app-passwords`` of a domain: further passwords of its users, ``user:name:{SCHEME}hash``.

Each has a name, and goes without the others. They are for submission alone: Dovecot does not read this file.
"""

from __future__ import annotations

from collections.abc import Collection

from mta.settings.directory import AppPassword
from mta.settings.passwd_file import entries, is_app_name
from mta.settings.problem import Problem, quoted
from mta.settings.verifier import ScramVerifier, parse_verifier

FILE = "app-passwords"

PER_USER = 50
"""App passwords of one user: each wrong password is compared with all of them."""


def read_app_passwords(
    file: str, text: str, users: Collection[str], iterations_minimum: int, problems: list[Problem]
) -> dict[str, tuple[AppPassword, ...]]:
    """Read the file: the passwords of each user, in its order."""
    found: dict[str, dict[str, AppPassword]] = {}
    for line in entries(text):
        fields = line.content.split(":", 2)
        expected, wrong = "", ""
        if len(fields) < 3:
            expected, wrong = "user:name:{SCHEME}hash", "fewer fields"
        elif line.user not in users:
            expected, wrong = "a user of this domain", quoted(line.user)
        elif not is_app_name(fields[1]):
            expected, wrong = "a name of letters, digits and . _ -, 64 at most", quoted(fields[1])
        elif fields[1] in found.get(line.user, ()):
            expected, wrong = "each name once", f"{fields[1]} again, see {found[line.user][fields[1]].source}"
        elif len(found.get(line.user, ())) >= PER_USER:
            expected, wrong = f"{PER_USER} app passwords of a user or fewer", "more"
        else:
            expected, wrong = _judge(fields[2], iterations_minimum)
        if expected:
            problems.append(Problem(file, line.number, expected, wrong))
        else:
            password = AppPassword(fields[1], fields[2], f"{file}:{line.number}")
            found.setdefault(line.user, {})[password.name] = password
    return {user: tuple(passwords.values()) for user, passwords in found.items()}


def _judge(text: str, minimum: int) -> tuple[str, str]:
    """What is wrong with a verifier: what was expected, what was found; nothing where it is one."""
    try:
        verifier = parse_verifier(text)
    except ValueError as error:
        return str(error), "something else"  # not shown: it may be a password in clear text
    if isinstance(verifier, ScramVerifier) and verifier.iterations < minimum:
        return f"{minimum} iterations or more ([auth] iterations_minimum)", str(verifier.iterations)
    return "", ""
