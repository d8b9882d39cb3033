"""Lines of ``users`` and ``app-passwords``: what stands in them, and what a change makes of one.

``users`` has the lines of Dovecot's passwd-file, ``user:{SCHEME}hash:uid:gid:gecos:home:shell:extra``. Extra fields
are divided by spaces; of these ``nologin`` is Dovecot's own, and means the same here: the account is disabled. Beside
it stands when and why, for people: ``disabled=2026-11-25,sent%20spam``, which Dovecot passes over.

``app-passwords`` has lines ``user:name:{SCHEME}hash``: further passwords of a user, each with a name, that can be
revoked one by one. They stand in a file of their own since a passwd-file has one password for each user.

Pure: text in, text out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from mta.settings.lines import numbered

_EXTRA = 7
"""The place of the extra fields, from 0; what follows belongs to them, colons and all."""
_NOLOGIN = "nologin"
_DISABLED = "disabled="
_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is neither empty nor a comment: where it is, and what stands before its first colon."""

    number: int
    user: str
    content: str


def entries(text: str) -> list[Line]:
    """The lines of ``users`` or ``app-passwords`` that speak of a user."""
    return [
        Line(number, content.partition(":")[0], content)
        for number, content in numbered(text)
        if content.strip() and not content.startswith("#")
    ]


def is_app_name(text: str) -> bool:
    """Whether an app password may have this name: letters, digits and ``. _ -``, 64 at most."""
    return _APP_NAME.fullmatch(text) is not None


def why_disabled(content: str) -> str | None:
    """Why a line of ``users`` says that its account is disabled, perhaps nothing; None where it does not say so."""
    found = None
    for field in _extra(content):
        if field.partition("=")[0] == _NOLOGIN:
            found = found or ""
    if found is None:
        return None
    return next((unquote(field[len(_DISABLED) :]) for field in _extra(content) if field.startswith(_DISABLED)), "")


def with_password(content: str, verifier: str) -> str:
    """Give a line of ``users`` another verifier."""
    user, _, rest = content.partition(":")
    _, colon, rest = rest.partition(":")
    return f"{user}:{verifier}{colon}{rest}"


def disabled(content: str, why: str) -> str:
    """Have a line of ``users`` say that its account is disabled. `why` is for people, with the day in front."""
    kept = _without_mark(content)
    return _with_extra(content, [*kept, _NOLOGIN, _DISABLED + quote(why, safe=",;()@/+!'")])


def enabled(content: str) -> str:
    """Take that back; without extra fields a line has none, and the colons stay."""
    return _with_extra(content, _without_mark(content))


def _extra(content: str) -> list[str]:
    fields = content.split(":", _EXTRA)
    return fields[_EXTRA].split() if len(fields) > _EXTRA else []


def _without_mark(content: str) -> list[str]:
    return [each for each in _extra(content) if each.partition("=")[0] != _NOLOGIN and not each.startswith(_DISABLED)]


def _with_extra(content: str, extra: list[str]) -> str:
    fields = content.split(":", _EXTRA)[:_EXTRA]
    fields += [""] * (_EXTRA - len(fields))
    return ":".join([*fields, " ".join(extra)])
