"""DKIM keys of a domain, in the directory ``dkim`` beside its ``users``; the section ``[dkim]`` (RFC 6376, 8301, 8463).

``dkim/SELECTOR.pem`` is a private key, RSA or Ed25519, and its state, in one file: text before the first boundary of a
PEM file is no part of the key (RFC 7468 §2), and OpenSSL and everybody else step over it::

    # example.org, made by mta dkim keygen
    next: 2026-11-25T10:00:00Z
    signing: 2026-11-27T10:00:00Z
    replaces: 2026-05-rsa
    -----BEGIN PRIVATE KEY-----
    …

    head     = *( change / replaces / comment / blank )
    change   = state ":" [WSP] time             ; the last one is the state of the key
    state    = "next" / "signing" / "retired"
    time     = date or date-time of ISO 8601; UTC where it does not say otherwise
    replaces = "replaces:" [WSP] selector *( "," [WSP] selector )
    comment  = "#" …

=========  ===========================================================  ==============================================
state      in DNS                                                       signs
=========  ===========================================================  ==============================================
next       soon: nothing is signed before every name server shows it    no
signing    yes                                                          yes
retired    a while longer, for what it signed is still on its way       no, and it is removed after `keep_retired`
=========  ===========================================================  ==============================================

A file without a head signs: an administrator who puts a key there means it. Key and state cannot part, whatever a crash
or a copy leaves, and each file is whole by itself: no list has to fit the files beside it.

A file may be a symbolic link, as credentials of systemd and secrets of Kubernetes are. It is followed and read; our
commands never change or replace it, so a rotation leaves such a key alone. Names that start with a dot or do not end
in ``.pem`` are passed over.

Knowingly not here: proof that an RSA key is sound, which takes 35 ms a key; ``mta dkim check`` does that.
"""

from __future__ import annotations

import datetime
import enum
import errno
import os
import re
import stat
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mta.settings.problem import Problem, quoted
from mta.settings.values import Seconds, SecondsOrNone, Within

DIRECTORY = "dkim"
"""The directory of the keys, in the directory of a domain."""
SUFFIX = ".pem"

RSA_BITS_MINIMUM = 1024
"""RFC 8301 §3.2: signers MUST NOT use less."""
RSA_BITS_MAXIMUM = 4096
"""RFC 8301 §3.2: verifiers need not take more."""
ED25519_BITS = 256

_OCTETS_MAXIMUM = 16 * 1024
"""Octets of a file; RSA-4096 takes 3.3 KiB."""
_NAME_MAXIMUM = 253
"""Octets of a domain name as text (RFC 1035 §2.3.4)."""

_DAY = 86400.0
_LATEST = 253402300799.0
"""The last second that four digits of a year can tell."""

# RFC 6376 §3.1: selector = sub-domain *( "." sub-domain ), sub-domain = Let-dig [Ldh-str] (RFC 5321 §4.1.2); in lower
# case, since names in the DNS have no case and those of files have one. Labels as RFC 1035 §2.3.4 bounds them.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LINE = re.compile(r"(?P<key>[a-z]+):[ \t]*(?P<value>.*?)[ \t]*")
_BOUNDARY = re.compile(rb"^-----BEGIN ", re.MULTILINE)

Algorithm = Literal["rsa", "ed25519"]
"""``k=`` of a key record (RFC 6376 §3.6.1, RFC 8463 §4)."""


class KeyState(enum.Enum):
    """What a key is there for; the value is its word in the file."""

    NEXT = "next"
    SIGNING = "signing"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Change:
    """A key came into `state` at wall time `time`, in seconds since 1970."""

    state: KeyState
    time: float


@dataclass(frozen=True, slots=True)
class DkimKey:
    """One file of a directory ``dkim``."""

    domain: str
    """``d=``: A-labels in lower case."""
    selector: str
    """``s=``: in lower case."""
    algorithm: Algorithm
    bits: int
    """Of the modulus; `ED25519_BITS`."""
    pem: bytes = field(repr=False)
    """The octets of the file, its head included."""
    file: str
    """Its path."""
    changes: tuple[Change, ...] = ()
    """What the head says, in the order of the file."""
    replaces: tuple[str, ...] = ()
    """Selectors of the keys in whose place it signs."""
    linked: bool = False
    """Whether the file is a symbolic link."""
    line: int = 0
    """The line of the last change; 0 where there is none."""

    @property
    def state(self) -> KeyState:
        """What it is there for."""
        return self.changes[-1].state if self.changes else KeyState.SIGNING

    @property
    def since(self) -> float:
        """When it came into its state; 0.0 where the file does not say."""
        return self.changes[-1].time if self.changes else 0.0

    @property
    def source(self) -> str:
        """What says its state: file and line."""
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def name(self) -> str:
        """Where its record stands (RFC 6376 §3.6.2.1)."""
        return record_name(self.selector, self.domain)


@dataclass(frozen=True, slots=True)
class DkimSettings:
    """Signatures on mail that leaves (RFC 6376), with the keys in the directory ``dkim`` of a domain."""

    sign: bool = True
    """Whether mail is signed for those domains of ours that have a key."""
    algorithms: tuple[Algorithm, ...] = ("rsa", "ed25519")
    """What `mta dkim keygen` and rotation make keys for. Everybody verifies RSA (of 2,048 bits, RFC 8301 §3.2); Ed25519
    (RFC 8463) is for those who know it, beside it."""
    rotate_every: SecondsOrNone = 0.0
    """How old a key becomes before the server makes the next one by itself, ``"180d"``: it signs as soon as every name
    server of ``[dns]`` shows its record, which the log asks for. ``"0s"``: keys are changed by `mta dkim rotate`."""
    keep_retired: Annotated[Seconds, Within(_DAY)] = 7 * _DAY
    """How long the file of a key that signs no more is kept, and so long its record has to stay: for mail that is still
    on its way. Two days more than our own queue keeps trying."""
    expire: SecondsOrNone = 0.0
    """How long a signature counts (``x=``, RFC 6376 §3.5); ``"0s"``: it does not expire."""


def record_name(selector: str, domain: str) -> str:
    """Give the name of a key record (RFC 6376 §3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def is_selector(text: str, domain: str) -> bool:
    """Whether `text` may be a selector of `domain`, and so the name of a file."""
    return _SELECTOR.fullmatch(text) is not None and len(record_name(text, domain)) <= _NAME_MAXIMUM


def parse_time(text: str) -> float:
    """Read a date or date-time of ISO 8601, 1970 to 9999, in UTC unless it says otherwise. Raises ValueError."""
    read = datetime.datetime.fromisoformat(text)
    seconds = (read if read.tzinfo else read.replace(tzinfo=datetime.UTC)).timestamp()
    if not 0 <= seconds <= _LATEST:
        raise ValueError(text)
    return seconds


def time_text(seconds: float) -> str:
    """Write a time as files and people have it: ``2026-11-25T10:00:00Z``."""
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def changed(key: DkimKey, state: KeyState, now: float, replaces: tuple[str, ...] = ()) -> bytes:
    """Give the content of its file with one change more; comments and all else stay as they are."""
    lines = f"{state.value}: {time_text(now)}\n"
    if replaces:
        lines += f"replaces: {', '.join(replaces)}\n"
    start = _boundary(key.pem)
    return key.pem[:start] + lines.encode() + key.pem[start:]


def _boundary(octets: bytes) -> int:
    """Where the PEM text begins; the end where there is none."""
    found = _BOUNDARY.search(octets)
    return found.start() if found else len(octets)


# Reading


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is found to be."""

    octets: bytes
    mode: int
    """Permissions, those of a link's target."""
    linked: bool


class Files(Protocol):
    """How a directory of keys is read; the operating system's is `OsFiles`."""

    def list(self, path: str) -> list[str]:
        """The names in a directory. Raises OSError."""
        ...

    def content(self, path: str) -> Content:
        """Read a regular file, links followed, `_OCTETS_MAXIMUM` and one octet of it at most. Raises OSError."""
        ...


class OsFiles:
    """The files of the operating system."""

    def list(self, path: str) -> list[str]:
        """See `Files`."""
        return os.listdir(path)

    def content(self, path: str) -> Content:
        """See `Files`."""
        # a FIFO is opened without waiting for its writer, then refused
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            with open(descriptor, "rb", closefd=False) as file:
                octets = file.read(_OCTETS_MAXIMUM + 1)
        finally:
            os.close(descriptor)
        return Content(octets, stat.S_IMODE(status.st_mode), os.path.islink(path))


def read_keys(directory: str, domain: str, problems: list[Problem], files: Files = OsFiles()) -> tuple[DkimKey, ...]:  # noqa: B008  # it has no state
    """Read the keys of `domain` (folded) in the order of their selectors; none where there is no directory.

    What cannot be used is noted in `problems` and left out.
    """
    try:
        names = sorted(files.list(directory))
    except FileNotFoundError:
        return ()
    except OSError as error:
        problems.append(Problem(directory, 0, "a directory that can be read", f"{error.strerror}"))
        return ()
    keys = []
    for name in names:
        if name.endswith(SUFFIX) and not name.startswith("."):
            key = _read(os.path.join(directory, name), name.removesuffix(SUFFIX), domain, problems, files)
            if key is not None:
                keys.append(key)
    return tuple(keys)


def _read(file: str, selector: str, domain: str, problems: list[Problem], files: Files) -> DkimKey | None:
    if not is_selector(selector, domain):
        expected = "SELECTOR.pem: letters in lower case, digits and -, in labels with a dot between (RFC 6376 §3.1)"
        problems.append(Problem(file, 0, expected, quoted(selector + SUFFIX)))
        return None
    try:
        content = files.content(file)
    except OSError as error:
        problems.append(Problem(file, 0, "a private key that can be read", f"{error.strerror}"))
        return None
    if content.mode & 0o007:
        problems.append(Problem(file, 0, "a private key that only owner and group can read", f"{content.mode:04o}"))
    return parse_key(content.octets, selector, domain, file, problems, content.linked)


def parse_key(
    octets: bytes, selector: str, domain: str, file: str, problems: list[Problem], linked: bool = False
) -> DkimKey | None:
    """Read the content of a file; None, and a problem, where it holds no key that can be used."""
    private = _private_key(octets, file, problems)
    if private is None:
        return None  # what stands above may be a part of the secret then: nothing of it is shown
    before = len(problems)
    changes, replaces, line = _read_head(octets[: _boundary(octets)], file, problems)
    if len(problems) > before:
        return None
    algorithm: Algorithm = "rsa" if isinstance(private, rsa.RSAPrivateKey) else "ed25519"
    bits = private.key_size if isinstance(private, rsa.RSAPrivateKey) else ED25519_BITS
    return DkimKey(domain, selector, algorithm, bits, octets, file, changes, replaces, linked, line)


def _private_key(
    octets: bytes, file: str, problems: list[Problem]
) -> rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | None:
    expected, found = "a private key in PEM", ""
    if len(octets) > _OCTETS_MAXIMUM:
        found = f"more than {_OCTETS_MAXIMUM:,} octets"
    else:
        try:
            private = load_pem_private_key(octets, None, unsafe_skip_rsa_key_validation=True)
        except TypeError:
            expected, found = "a private key without a passphrase", "one with a passphrase"
        except UnsupportedAlgorithm:
            expected, found = "an RSA or Ed25519 key", "a key of another kind"
        except ValueError:
            found = "none that can be read" if octets.strip() else "nothing"
        else:
            if isinstance(private, ed25519.Ed25519PrivateKey):
                return private
            if not isinstance(private, rsa.RSAPrivateKey):
                expected, found = "an RSA or Ed25519 key", "a key of another kind"
            elif not RSA_BITS_MINIMUM <= private.key_size <= RSA_BITS_MAXIMUM:
                expected = f"an RSA key of 2,048 bits, or {RSA_BITS_MINIMUM:,} to {RSA_BITS_MAXIMUM:,} (RFC 8301 §3.2)"
                found = f"one of {private.key_size:,}"
            else:
                return private
    problems.append(Problem(file, 0, expected, found))
    return None


def _read_head(octets: bytes, file: str, problems: list[Problem]) -> tuple[tuple[Change, ...], tuple[str, ...], int]:
    """Read what stands before the PEM text: changes, replaced selectors, and the line of the last change."""
    changes: list[Change] = []
    replaces: list[str] = []
    last = 0
    for number, line in enumerate(octets.decode(errors="replace").split("\n"), 1):
        text = line.removesuffix("\r")
        if not text.strip() or text.startswith("#"):
            continue
        found = _LINE.fullmatch(text)
        key, value = (found["key"], found["value"]) if found else ("", "")
        if key == "replaces":
            replaces += (selector.strip() for selector in value.split(",") if selector.strip())
            continue
        try:
            state = KeyState(key)
        except ValueError:
            problems.append(Problem(file, number, "next:, signing:, retired:, replaces: or # a comment", quoted(text)))
            continue
        try:
            changes.append(Change(state, parse_time(value)))
            last = number
        except ValueError:
            problems.append(Problem(file, number, 'a time, "2026-11-25T10:00:00Z" or "2026-11-25"', quoted(value), key))
    return tuple(changes), tuple(replaces), last
