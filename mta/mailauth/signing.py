"""Which keys sign a message of ours, and its signatures while it streams (RFC 6376 §5, RFC 8617 §5.1).

Mail is signed for its author domain, that of From, so that DMARC finds it aligned: by the keys of that domain that
sign, or of the next domain above it that is ours and has some. A message whose From does not tell of one domain, or
that is of somebody else's, is not signed.

Mail that an alias of ours sends on is sealed with ARC, by a key of the domain that sends it on: DMARC fails behind a
forwarder, since SPF speaks of us then, and what we found when it came can still be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mta.mailauth.algorithm import Algorithm, PrivateKey, algorithm_of
from mta.mailauth.arc_sign import seal_message
from mta.mailauth.canonical import BodyHashes
from mta.mailauth.dkim_sign import Signer, sign_message, want_body
from mta.mailauth.dmarc import author_domain
from mta.mailauth.keypair import load_private_key
from mta.mailauth.result import Arc
from mta.observe.journal import Wall
from mta.settings.directory import Directory
from mta.settings.dkim import DkimKey, DkimSettings, KeyState


class Signers:
    """The keys in force. `directory` and `settings` are asked at each message, so a reload counts."""

    def __init__(self, directory: Callable[[], Directory], settings: Callable[[], DkimSettings], wall: Wall) -> None:
        self._directory = directory
        self._settings = settings
        self._wall = wall
        self._loaded: dict[bytes, PrivateKey] = {}

    def begin(self, head: bytes) -> Signing | None:
        """Begin to sign a message by its head; None where no key is for it."""
        if not self._settings().sign:
            return None
        author = author_domain(head)
        if not isinstance(author, str):
            return None
        signers = self.of(author)
        return Signing(signers, self._wall) if signers else None

    def of(self, domain: str) -> tuple[Signer, ...]:
        """Return the keys that sign for a domain (A-labels in lower case)."""
        domains = self._directory().domains
        while domain:
            found = domains.get(domain)
            if found is not None:
                keys = [key for key in found.dkim if key.state is KeyState.SIGNING]
                if keys:
                    return tuple(map(self._signer, keys))
            domain = domain.partition(".")[2]
        return ()

    def sealing(self, domain: str) -> Sealing | None:
        """Begin to seal a message that a domain of ours sends on; None where it has no key."""
        signers = self.of(domain) if self._settings().sign else ()
        rsa = [signer for signer in signers if algorithm_of(signer.key) is Algorithm.RSA_SHA256]
        return Sealing((rsa or signers)[0], self._wall) if signers else None

    def _signer(self, key: DkimKey) -> Signer:
        private = self._loaded.get(key.pem)
        if private is None:
            private = self._loaded[key.pem] = load_private_key(key.pem)
        expire = self._settings().expire
        return Signer(key.domain, key.selector, private, int(expire) if expire else None)


class _Streamed:
    """The hash of a body that comes in pieces."""

    def __init__(self) -> None:
        self._bodies = BodyHashes()
        self._body = want_body(self._bodies)

    def body(self, chunk: bytes) -> None:
        """Take octets of the body."""
        self._bodies.update(chunk)

    def replaced(self, pieces: Iterable[bytes]) -> None:
        """Begin anew: the body was replaced."""
        self._bodies = BodyHashes()
        self._body = want_body(self._bodies)
        for piece in pieces:
            self._bodies.update(piece)


class Sealing(_Streamed):
    """The ARC set of one message that we send on."""

    def __init__(self, signer: Signer, wall: Wall) -> None:
        super().__init__()
        self._signer = signer
        self._wall = wall

    def seal(self, head: bytes, results: str, arc: Arc) -> bytes:
        """Return the set that goes in front of `head`; nothing where the chain is past sealing. See `seal_message`."""
        self._bodies.finish()
        sealed = seal_message(head, self._body, self._signer, results, arc, self._wall())
        return sealed if isinstance(sealed, bytes) else b""


class Signing(_Streamed):
    """The signatures of one message: its body is taken as it comes, its head when it will not change any more."""

    def __init__(self, signers: Sequence[Signer], wall: Wall) -> None:
        super().__init__()
        self._signers = signers
        self._wall = wall

    def sign(self, head: bytes) -> bytes:
        """Return the fields that go in front of `head`, one for each key. All of the body has come."""
        self._bodies.finish()
        return sign_message(head, self._body, self._signers, self._wall())
