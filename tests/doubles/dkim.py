"""DKIM signatures with any tags: what our signer never writes, and what others do."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import defer

from mta.mailauth.algorithm import PrivateKey, algorithm_of, sign
from mta.mailauth.canonical import BodyHashes, Canonicalization, SignedFields, signed_octets
from mta.mailauth.dkim_verify import DkimCheck
from mta.mailauth.keypair import record_text
from mta.mailauth.result import Dkim
from mta.mailauth.tags import append_base64, write_base64
from mta.message.header import Field, fields
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import result

DOMAIN = "example.org"
WALL = 1_800_000_000.0


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key, the same for all tests of a run."""
    return rsa.generate_private_key(65537, 1024)


ED25519_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def pem(key: PrivateKey) -> bytes:
    """A key as PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def record(key: PrivateKey, **tags: str) -> str:
    """The record of a key, with more tags."""
    return "; ".join([record_text(pem(key)), *(f"{name}={value}" for name, value in tags.items())])


def zone(*records: tuple[str, str]) -> ZoneResolver:
    """A resolver that knows key records by selector, of `DOMAIN`; ``rsa`` and ``ed`` are there always."""
    known = Zone()
    for selector, text in (("rsa", record(rsa_key())), ("ed", record(ED25519_KEY)), *records):
        known.add(f"{selector}._domainkey.{DOMAIN}", "TXT", text)
    return ZoneResolver(known)


def signed(head: bytes, body: bytes, key: PrivateKey = ED25519_KEY, drop: Sequence[str] = (), **tags: str) -> bytes:
    """Sign: the DKIM-Signature field, with `tags` instead of or beside those that stand to reason, without `drop`."""
    forms = (tags.get("c", "simple/simple") + "/simple").split("/")
    limit = int(tags["l"]) if tags.get("l", "").isdigit() else None
    hashes = BodyHashes()
    digest = hashes.want(Canonicalization(forms[1]), limit)
    hashes.update(body)
    hashes.finish()
    all_tags = {
        "v": "1",
        "a": algorithm_of(key).value,
        "d": DOMAIN,
        "s": "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ed",
        "h": "from",
        "bh": write_base64(digest.digest),
        **tags,
    }
    text = ";\r\n ".join(f"{name}={value}" for name, value in all_tags.items() if name not in drop)
    field = f"DKIM-Signature: {text}; b=".encode()
    names = [name.strip().lower().encode() for name in all_tags["h"].split(":")]
    chosen = SignedFields(fields(head)).select(names)
    octets = signed_octets(chosen, Field(b"dkim-signature", field), Canonicalization(forms[0]))
    return append_base64(field, sign(key, octets))


def verified(
    head: bytes, body: bytes | Iterable[bytes], resolver: ZoneResolver | None = None, wall: float = WALL
) -> tuple[Dkim, ...]:
    """Verify a message whose keys are all answered at once."""
    check = DkimCheck(resolver or zone(), head, wall)
    for chunk in [body] if isinstance(body, bytes) else body:
        check.body(chunk)
    return result(defer.Deferred.fromCoroutine(check.finish()))


def digest(octets: bytes) -> str:
    """A body hash as bh= has it."""
    return write_base64(hashlib.sha256(octets).digest())
