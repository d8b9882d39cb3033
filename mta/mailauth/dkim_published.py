"""Whether the DNS shows the public half of a key of ours, as somebody who verifies would read it (RFC 6376 §6.1.2).

=============  ==================================================================================================
right          a verifier gets this very key, and may use it for mail
missing        no such name, no TXT record
different      a good key, another one
revoked        ``p=`` is empty (RFC 6376 §3.6.1)
unusable       no verifier would use it: malformed, of another type, several that differ, not for mail
unknown        the name server did not say
=============  ==================================================================================================
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mta.dns.answer import Answer, Failure, Found, RecordType
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.algorithm import algorithm_of
from mta.mailauth.key import KeyFault, read_keys
from mta.mailauth.keypair import load_private_key
from mta.mailauth.tags import read_tags
from mta.settings.dkim import DkimKey


class Published(enum.Enum):
    """What a name server has of a key; the table above."""

    RIGHT = "right"
    MISSING = "missing"
    DIFFERENT = "different"
    REVOKED = "revoked"
    UNUSABLE = "unusable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Sight:
    """What one name server shows; the source of the reason is that server."""

    published: Published
    reason: Reason


Resolvers = Mapping[str, Resolver]
"""One resolver for each name server, by the name that people know it by."""


async def look(resolvers: Resolvers, key: DkimKey) -> tuple[Sight, ...]:
    """Ask each name server for the record of a key, one after the other."""
    return tuple([judge(await resolver.query(key.name, RecordType.TXT), key, s) for s, resolver in resolvers.items()])


def judge(answer: Answer, key: DkimKey, server: str) -> Sight:
    """Compare an answer with a key."""

    def seen(published: Published, text: str) -> Sight:
        return Sight(published, Reason(text, server))

    if isinstance(answer, Failure):
        return seen(Published.UNKNOWN, answer.text)
    if not isinstance(answer, Found):
        return seen(Published.MISSING, f"there is no record at {key.name}")
    records = [record for record in answer.records if isinstance(record, bytes)]
    private = load_private_key(key.pem)
    found = read_keys(records, algorithm_of(private), f"TXT {key.name}")
    if isinstance(found, KeyFault):
        return seen(Published.REVOKED if _revoked(records) else Published.UNUSABLE, f"{found.reason.text} ({key.name})")
    if found.public != private.public_key():
        return seen(Published.DIFFERENT, f"the record at {key.name} holds another key than {key.file}")
    if found.testing:
        return seen(Published.RIGHT, f"the record at {key.name} is right, but t=y asks others to treat it as a test")
    return seen(Published.RIGHT, f"the record at {key.name} is right")


def _revoked(records: Iterable[bytes]) -> bool:
    tags = [read_tags(record) for record in records]
    return any(not isinstance(each, Reason) and each.get("p") == "" for each in tags)
