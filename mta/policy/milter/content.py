"""Head and body as a milter is told them: fields one by one, the body in pieces of one size (pure).

A head may hold a line that is no field (`mta.message.header`). What begins there is told as body, as Sendmail and
Postfix read it: nothing is hidden from the filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mta.message.header import fields
from mta.policy.milter.session import CHUNK


def fields_and_rest(head: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return names, as they are written, and values, all that follows the colon without the last CRLF; and the rest.

    The rest is what the body begins with for a filter: empty where the head holds nothing but fields.
    """
    found: list[tuple[bytes, bytes]] = []
    end = 0
    for field in fields(head):
        if not field.name:
            return found, head[end:] + b"\r\n"
        name, _, value = field.raw.partition(b":")
        found.append((name.rstrip(b" \t"), value.removesuffix(b"\r\n")))
        end += len(field.raw)
    return found, b""


def chunks(pieces: Iterable[bytes], maximum: int) -> Iterator[bytes]:
    """Give the first `maximum` octets of `pieces` in pieces of `CHUNK` octets, the last one smaller."""
    waiting = b""
    for piece in pieces:
        waiting += piece[:maximum]
        maximum -= len(piece[:maximum])
        while len(waiting) >= CHUNK:
            yield waiting[:CHUNK]
            waiting = waiting[CHUNK:]
        if not maximum:
            break
    if waiting:
        yield waiting
