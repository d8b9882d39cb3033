"""Keys of a domain as files: what is read, with which state, and what is refused with file and line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from mta.settings.dkim import (
    Change,
    DkimKey,
    KeyState,
    changed,
    is_selector,
    parse_key,
    parse_time,
    read_keys,
    time_text,
)
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load
from tests.doubles.dkim_keys import ed25519_pem, pem, rsa_pem
from tests.doubles.etc import write_etc

NOON = 1795694400.0
"""2026-11-26T12:00:00Z."""


def read(directory: Path, **files: bytes) -> tuple[tuple[DkimKey, ...], list[tuple[str, int, str, str]]]:
    """Write files, with ``__`` for a dot, and read the keys of example.org; problems without the directory."""
    for name, octets in files.items():
        path = directory / name.replace("__", ".")
        path.write_bytes(octets)
        path.chmod(0o600)
    problems: list[Problem] = []
    keys = read_keys(str(directory), "example.org", problems)
    return keys, [(os.path.basename(p.file), p.line, p.expected, p.found) for p in problems]


def parsed(head: str, body: bytes | None = None) -> tuple[DkimKey | None, list[Problem]]:
    """Read the content of a file with a head."""
    problems: list[Problem] = []
    octets = head.encode() + (ed25519_pem() if body is None else body)
    return parse_key(octets, "s", "example.org", "/k/s.pem", problems), problems


def test_keys_without_a_head_sign(tmp_path: Path) -> None:
    """PEM files that an administrator puts there sign, RSA and Ed25519 side by side, in the order of selectors."""
    keys, problems = read(tmp_path, old__pem=rsa_pem(), s2__mail__pem=ed25519_pem(), README=b"x", __hidden__pem=b"x")
    assert problems == []
    assert [(key.selector, key.algorithm, key.bits, key.state, key.since) for key in keys] == [
        ("old", "rsa", 2048, KeyState.SIGNING, 0.0),
        ("s2.mail", "ed25519", 256, KeyState.SIGNING, 0.0),
    ]
    assert keys[1].name == "s2.mail._domainkey.example.org"
    assert keys[1].source == keys[1].file == str(tmp_path / "s2.mail.pem")
    assert "PRIVATE" not in repr(keys)


def test_no_directory_no_keys(tmp_path: Path) -> None:
    """A domain without the directory has no key, and that is no problem; a file in its place is one."""
    problems: list[Problem] = []
    assert read_keys(str(tmp_path / "dkim"), "example.org", problems) == ()
    assert problems == []
    (tmp_path / "dkim").touch()
    assert read_keys(str(tmp_path / "dkim"), "example.org", problems) == ()
    assert [problem.found for problem in problems] == ["Not a directory"]


def test_the_last_change_is_the_state() -> None:
    """Each change is read with its time; the last line counts, whatever the times say; comments do not."""
    key, problems = parsed("# mine: yours\n\nnext: 2026-11-26\r\nsigning: 2026-11-26T12:00:00Z\nreplaces: a, b.c\n")
    assert problems == []
    assert key is not None
    assert key.changes == (Change(KeyState.NEXT, NOON - 43200), Change(KeyState.SIGNING, NOON))
    assert (key.state, key.since, key.replaces, key.source) == (KeyState.SIGNING, NOON, ("a", "b.c"), "/k/s.pem:4")
    retired, _ = parsed("signing: 2026-11-26\nretired: 2020-01-01T01:00:00+01:00\n")
    assert retired is not None
    assert (retired.state, retired.since) == (KeyState.RETIRED, 1577836800.0)


@pytest.mark.parametrize(
    ("head", "line", "found"),
    [
        ("retierd: 2026-11-26\n", 1, '"retierd: 2026-11-26"'),
        ("\n# x\nBag Attributes\n", 3, '"Bag Attributes"'),
        ("signing:\n", 1, '""'),
        ("signing: tomorrow\n", 1, '"tomorrow"'),
        ("signing: 0001-01-01T00:00:00+23:59\n", 1, '"0001-01-01T00:00:00+23:59"'),
        ("signing: 9999-12-31T23:59:59-23:59\n", 1, '"9999-12-31T23:59:59-23:59"'),
        ("next: 2026-11-26\nretired: 2026-13-01\n", 2, '"2026-13-01"'),
        ("signing: 2026-11-26 \x1b[2J\n", 1, "'2026-11-26 \\x1b[2J'"),
    ],
)
def test_a_head_that_is_misspelt_is_refused(head: str, line: int, found: str) -> None:
    """A line that would be passed over in silence could leave a key signing: each is refused with its number."""
    key, problems = parsed(head)
    assert key is None
    assert [(problem.line, problem.found) for problem in problems] == [(line, found)]


def test_no_part_of_a_secret_is_shown() -> None:
    """Where the PEM text is spoilt, the problem shows nothing of it."""
    secret = ed25519_pem().split(b"\n")[1]
    for spoilt in (secret, b"signing: x\n" + secret, ed25519_pem().replace(b"-----END", b"")):
        key, problems = parsed("", spoilt)
        assert key is None
        assert [problem.found for problem in problems] == ["none that can be read"]


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"", "nothing"),
        (b" \n", "nothing"),
        (b"-----BEGIN PRIVATE KEY-----\n", "none that can be read"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "a key of another kind"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"x"), "one with a passphrase"),
        (b"#" * 20000 + b"\n" + ed25519_pem(), "more than 16,384 octets"),
        (rsa_pem(bits=4160), "one of 4,160"),
    ],
)
def test_what_is_no_usable_key_is_refused(tmp_path: Path, octets: bytes, found: str) -> None:
    """Nothing, junk, another kind, a passphrase, too much, too long: each is a problem of that file, no traceback."""
    keys, problems = read(tmp_path, bad__pem=octets, good__pem=ed25519_pem())
    assert [key.selector for key in keys] == ["good"]
    assert [(file, line, what) for file, line, _, what in problems] == [("bad.pem", 0, found)]


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """RFC 8301 §3.2: less than 1,024 bits is never signed with; 1,024 still is."""
    short = subprocess.run(["openssl", "genrsa", "512"], check=True, capture_output=True).stdout
    keys, problems = read(tmp_path, short__pem=short, old__pem=rsa_pem(bits=1024))
    assert [(key.selector, key.bits) for key in keys] == [("old", 1024)]
    assert [what for *_, what in problems] == ["one of 512"]


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a..b", ".a", "ä", "a b", "x" * 64, "a." * 120 + "a"])
def test_names_that_are_no_selectors(tmp_path: Path, name: str) -> None:
    """A file name that can be no selector is refused; one that begins with a dot is passed over."""
    assert not is_selector(name, "example.org")
    if len(name) < 100:
        _, problems = read(tmp_path, **{f"{name}.pem": ed25519_pem()})
        assert len(problems) == (0 if name.startswith(".") else 1)


def test_what_others_can_read_is_refused(tmp_path: Path) -> None:
    """A private key that everybody can read is no secret; group readable is fine."""
    read(tmp_path, k__pem=ed25519_pem())
    problems: list[Problem] = []
    for mode, wrong in ((0o640, False), (0o644, True), (0o602, True)):
        (tmp_path / "k.pem").chmod(mode)
        problems.clear()
        read_keys(str(tmp_path), "example.org", problems)
        assert [problem.found for problem in problems] == ([f"{mode:04o}"] if wrong else [])


def test_links_are_followed_and_told(tmp_path: Path) -> None:
    """A link to a key is a key; a broken one, a directory and a FIFO are problems, and nobody waits."""
    (tmp_path / "secret").write_bytes(ed25519_pem())
    (tmp_path / "secret").chmod(0o600)
    directory = tmp_path / "dkim"
    directory.mkdir()
    (directory / "a.pem").symlink_to("../secret")
    (directory / "b.pem").symlink_to("../nothing")
    (directory / "c.pem").mkdir()
    os.mkfifo(directory / "d.pem", 0o600)
    keys, problems = read(directory)
    assert [(key.selector, key.linked) for key in keys] == [("a", True)]
    assert [(file, what) for file, _, _, what in problems] == [
        ("b.pem", "No such file or directory"),
        ("c.pem", "not a regular file"),
        ("d.pem", "not a regular file"),
    ]


def test_settings_hold_the_keys_of_each_domain(tmp_path: Path) -> None:
    """`load` gives a domain its keys, under its folded name, and refuses the whole for a bad one."""
    path = write_etc(tmp_path, domains={"bücher.example": {"users": "a:!\n", "aliases": "postmaster: a\n"}})
    directory = tmp_path / "domains/bücher.example/dkim"
    directory.mkdir()
    read(directory, one__pem=ed25519_pem())
    domain = load(path).directory.domains["xn--bcher-kva.example"]
    assert [key.name for key in domain.dkim] == ["one._domainkey.xn--bcher-kva.example"]
    read(directory, two__pem=b"signing: never\n" + ed25519_pem())
    with pytest.raises(SettingsRefused) as info:
        load(path)
    assert f"{directory}/two.pem:1: signing: expected a time" in str(info.value)


def test_a_change_keeps_everything_else(tmp_path: Path) -> None:
    """One change more: comments and key stay, octet for octet, and the new line is the state."""
    key, _ = parsed("# a comment of mine\nnext: 2026-11-26\n")
    assert key is not None
    octets = changed(key, KeyState.SIGNING, NOON + 0.9, ("a", "b"))
    assert octets == (
        b"# a comment of mine\nnext: 2026-11-26\nsigning: 2026-11-26T12:00:00Z\nreplaces: a, b\n" + ed25519_pem()
    )
    again, problems = parsed("", octets)
    assert problems == []
    assert again is not None
    assert (again.state, again.since, again.replaces) == (KeyState.SIGNING, NOON, ("a", "b"))


def test_openssl_reads_the_file(tmp_path: Path) -> None:
    """The head is no part of the key for others either (RFC 7468 §2)."""
    key, _ = parsed("# x\n", rsa_pem())
    assert key is not None
    file = tmp_path / "k.pem"
    file.write_bytes(changed(key, KeyState.NEXT, NOON))
    argv = ["openssl", "pkey", "-in", str(file)]
    assert subprocess.run(argv, check=True, capture_output=True).stdout == rsa_pem()
    load_pem_private_key(file.read_bytes(), None)


@given(st.integers(0, 253402300799))
def test_times_read_back(seconds: int) -> None:
    """What is written as a time is read as the same second."""
    assert parse_time(time_text(seconds)) == seconds


@given(st.binary(max_size=300))
def test_any_head_is_read_or_refused(head: bytes) -> None:
    """Whatever stands before the key: a key with a state, or problems; never an exception."""
    problems: list[Problem] = []
    key = parse_key(head + b"\n" + ed25519_pem(), "s", "example.org", "f", problems)
    assert (key is None) == bool(problems)
