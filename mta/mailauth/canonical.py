r"""What a signature is computed over: fields and body in their canonical forms (RFC 6376 §3.4, §3.7, §5.4.2). Pure.

=========  ==================================================  ========================================================
form       a field                                             the body
=========  ==================================================  ========================================================
simple     as it is                                            empty lines at its end become one CRLF; empty: CRLF
relaxed    name in lower case, unfolded, runs of WSP are one   WSP before CRLF goes, other runs of WSP are one space;
           space, none around the colon nor at the end         then as simple, but an empty body stays empty
=========  ==================================================  ========================================================

Only CRLF ends a line, only SP and HTAB are white space: bare CR and LF, NUL and octets over 127 are octets like any
other. A last line without CRLF gets one, in both forms; under relaxed the white space at its end goes first.

A body comes in chunks of any size. What the next chunk may change is held back: empty lines (as a number), a space, a
CR. All work is done on whole chunks by searches that take time linear in them; a run of n spaces costs log n searches.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.message.header import Field

_BLANK_LINES = 1 << 15
"""Empty lines that are passed on as one chunk, so that many of them take no memory."""

# The value is all that stands between "=" and ";": the white space around it is deleted with it (RFC 6376 §3.7).
_SIGNATURE = re.compile(rb"(?:\A|;)[ \t\r\n]*b[ \t\r\n]*=([^;]*)")


class Canonicalization(enum.Enum):
    """RFC 6376 §3.4."""

    SIMPLE = "simple"
    RELAXED = "relaxed"


def canonical_field(field: Field, form: Canonicalization) -> bytes:
    """Return the canonical octets of a field, with CRLF."""
    if form is Canonicalization.SIMPLE:
        return field.raw if field.raw.endswith(b"\r\n") else field.raw + b"\r\n"
    value = field.raw.partition(b":")[2].replace(b"\r\n", b"")
    return field.name + b":" + _one_space(value).strip(b" ") + b"\r\n"


def canonical_signature(field: Field, form: Canonicalization) -> bytes:
    """Return the canonical octets of a signature field with its ``b=`` emptied, without CRLF (RFC 6376 §3.7).

    It goes behind the signed fields. For ARC-Message-Signature and ARC-Seal it is the same (RFC 8617 §4.1.2, §4.1.3).
    """
    name, colon, value = field.raw.partition(b":")
    found = _SIGNATURE.search(value)
    if found:
        value = value[: found.start(1)] + value[found.end(1) :]
    return canonical_field(Field(field.name, name + colon + value), form)[:-2]


class SignedFields:
    """The fields of a message by name, for the choice that ``h=`` makes among them.

    The canonical forms are kept: however many signatures cover a field, it is brought into each once.
    """

    def __init__(self, fields: Iterable[Field]) -> None:
        self._by_name: dict[bytes, list[Field]] = {}
        self._canonical: dict[tuple[int, Canonicalization], bytes] = {}
        for field in fields:
            self._by_name.setdefault(field.name, []).append(field)

    def count(self, name: bytes) -> int:
        """How many fields of this name (lower case) there are."""
        return len(self._by_name.get(name, ()))

    def forged(self, names: Sequence[bytes]) -> Reason | None:
        """Say why a signature of these names (``h=``) vouches for nothing though it holds; None: it does.

        Readers show one From field or another, so one that covers only some of them covers none. And a line that is no
        field, which none can cover, is to many readers the first of the body: anybody can put words there.
        """
        there, covered = self.count(b"from"), names.count(b"from")
        if there > covered:
            return Reason(f"there are {there} From fields, and h= covers {covered}", "RFC 6376 §8.15")
        if self.count(b""):
            return Reason("the head has a line that is no field", "RFC 6376 §3.8")
        return None

    def select(self, names: Iterable[bytes], besides: Field | None = None) -> list[Field]:
        """Choose a field for each name (lower case): the last one, the next time the one before (RFC 6376 §5.4.2).

        A name for which there is none, or none more, gives nothing. `besides` is the signature itself, which is never
        among them (RFC 6376 §3.5, ``h=``).
        """
        left: dict[bytes, int] = {}
        chosen = []
        for name in names:
            candidates: Sequence[Field] = self._by_name.get(name, ())
            at = left.get(name, len(candidates)) - 1
            if at >= 0 and candidates[at] is besides:
                at -= 1
            left[name] = max(at, 0)
            if at >= 0:
                chosen.append(candidates[at])
        return chosen

    def octets(self, names: Iterable[bytes], signature: Field, form: Canonicalization) -> bytes:
        """Return what `signature` is computed over if it covers `names`, as `signed_octets` does."""
        covered = [self._octets_of(field, form) for field in self.select(names, besides=signature)]
        return b"".join(covered) + canonical_signature(signature, form)

    def _octets_of(self, field: Field, form: Canonicalization) -> bytes:
        # by identity, which a field keeps as long as it is in `_by_name`
        key = id(field), form
        found = self._canonical.get(key)
        if found is None:
            found = self._canonical[key] = canonical_field(field, form)
        return found


def signed_octets(signed: Iterable[Field], signature: Field, form: Canonicalization) -> bytes:
    """Return what a signature is computed over: the fields it chose, then itself (RFC 6376 §3.7, `data-hash`)."""
    return b"".join([canonical_field(field, form) for field in signed]) + canonical_signature(signature, form)


class CanonicalBody:
    """Brings a body into canonical form as it comes, and passes it on to `sink` in pieces of any size."""

    def __init__(self, form: Canonicalization, sink: Callable[[bytes], object]) -> None:
        self._relaxed = form is Canonicalization.RELAXED
        self._sink = sink
        self._empty = True
        self._blank = 0
        """CRLFs held back: empty lines, and the one that ends the line before them."""
        self._rest = b""
        """The end of what came, held back: ``CR``, and under relaxed ``SP`` and ``SP CR``."""

    def update(self, chunk: bytes) -> None:
        """Take the next octets."""
        if self._rest:
            chunk = self._rest + chunk
        if self._relaxed:
            chunk = _one_space(chunk).replace(b" \r\n", b"\r\n")
        end = len(chunk)
        if chunk.endswith(b"\r"):
            end -= 1
        if self._relaxed and chunk.endswith(b" ", 0, end):
            end -= 1
        self._rest = chunk[end:]
        self._pass(chunk, end)

    def finish(self) -> None:
        """Take note that this was all."""
        rest = self._rest
        if rest.endswith(b"\r"):
            self._pass(rest, len(rest))
        if not self._empty or not self._relaxed:
            self._sink(b"\r\n")

    def _pass(self, chunk: bytes, end: int) -> None:
        """Pass on ``chunk[:end]``, but for the CRLFs at its end. A CR there is not the first half of one."""
        text = _before_blank_lines(chunk, end) if chunk.endswith(b"\r\n", 0, end) else end
        if text:
            self._empty = False
            while self._blank:
                blank = min(self._blank, _BLANK_LINES)
                self._sink(b"\r\n" * blank)
                self._blank -= blank
            self._sink(chunk if text == len(chunk) else chunk[:text])
        self._blank += (end - text) // 2


@dataclass(slots=True)
class BodyHash:
    """SHA-256 over the canonical body as far as ``l=`` goes, and what came behind that."""

    limit: int | None
    """``l=``: octets that are covered; None: all of them."""
    digest: bytes = b""
    """Empty until the body has ended."""
    length: int = 0
    """Octets of the whole canonical body."""

    @property
    def uncovered(self) -> int:
        """Octets behind the limit. Negative: the body has fewer octets than the limit says."""
        return 0 if self.limit is None else self.length - self.limit


class BodyHashes:
    """All the hashes that are wanted of one body, taken while it streams once.

    Whoever signs or verifies says beforehand what it wants; equal wishes share one hash, and each form is made once.
    """

    def __init__(self) -> None:
        self._streams: dict[Canonicalization, _Stream] = {}
        self._finished = False

    def want(self, form: Canonicalization, limit: int | None = None) -> BodyHash:
        """Ask for a hash, before the first `update`. Its digest is there after `finish`."""
        stream = self._streams.get(form)
        if stream is None:
            stream = self._streams[form] = _Stream(form)
        return stream.want(limit)

    def update(self, chunk: bytes) -> None:
        """Take the next octets of the body: what follows the empty line behind the head."""
        assert not self._finished
        for stream in self._streams.values():
            stream.body.update(chunk)

    def finish(self) -> None:
        """Take note that this was all; more often than once does no harm."""
        if not self._finished:
            self._finished = True
            for stream in self._streams.values():
                stream.finish()


class _Stream:
    """One canonical form of the body, and the hashes of it by limit."""

    def __init__(self, form: Canonicalization) -> None:
        self.body = CanonicalBody(form, self._take)
        self._hashes: dict[int | None, hashlib._Hash] = {}
        self._wanted: dict[int | None, BodyHash] = {}
        self._length = 0

    def want(self, limit: int | None) -> BodyHash:
        if limit not in self._wanted:
            self._wanted[limit] = BodyHash(limit)
            self._hashes[limit] = hashlib.sha256()
        return self._wanted[limit]

    def finish(self) -> None:
        self.body.finish()
        for limit, wanted in self._wanted.items():
            wanted.digest, wanted.length = self._hashes[limit].digest(), self._length

    def _take(self, octets: bytes) -> None:
        for limit, digest in self._hashes.items():
            if limit is None or self._length + len(octets) <= limit:
                digest.update(octets)
            elif self._length < limit:
                digest.update(octets[: limit - self._length])
        self._length += len(octets)


def _one_space(octets: bytes) -> bytes:
    """Make each run of SP and HTAB one SP."""
    octets = octets.replace(b"\t", b" ")
    while b"  " in octets:
        # By halves: a run of n is one after log n rounds, and a text without long runs after one or two.
        octets = octets.replace(b"  ", b" ")
    return octets


def _before_blank_lines(chunk: bytes, end: int) -> int:
    """Return where the CRLFs begin that end ``chunk[:end]``; there is one at least."""
    if not chunk.endswith(b"\n\r\n", 0, end):
        return end - 2
    start = len(chunk[:end].rstrip(b"\r\n"))
    # From start on there are only CR and LF: they alternate behind the last two that are equal.
    start = max(start, chunk.rfind(b"\r\r", start, end) + 1, chunk.rfind(b"\n\n", start, end) + 1)
    return start + chunk.startswith(b"\n", start)
