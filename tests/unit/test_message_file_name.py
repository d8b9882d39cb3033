"""Names of attachments, in every reading."""

from __future__ import annotations

import email.message
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.file_name import NAME_MAXIMUM, OCCURRENCES_MAXIMUM, boundaries, file_names


def names(value: str, field: str = "Content-Disposition") -> list[str]:
    """The names in one field, whose parameters are given."""
    kind = "attachment" if field == "Content-Disposition" else "application/octet-stream"
    return file_names(f"X: y\r\n{field}: {kind}; {value}\r\n".encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("filename=a.exe", ["a.exe"]),
        ("FileName = a.exe", ["a.exe"]),
        ('filename="a b.exe"; size=5', ["a b.exe"]),
        ('size=5;filename="a;b.exe"', ["a;b.exe"]),
        ("filename=a b.exe; size=5", ["a b.exe", "a"]),
        ("filename=a.exe (a comment)", ["a.exe (a comment)", "a.exe"]),
        ("(comment) filename=a.exe", ["a.exe"]),
        ('filename="a.exe', ["a.exe"]),
        ('filename="a.exe\\', ["a.exe"]),
        ('filename=""', []),
        ('filename="', []),
        ("filename=", []),
        ('filename="a.txt"; filename="b.exe"', ["a.txt", "b.exe"]),
        ('x="filename=a.exe"', ['a.exe"']),
        ("name=a.exe", ["a.exe"]),
        ("xname=a.exe", []),
        ("filenames=a.exe", []),
        ("username=a.exe", []),
        # RFC 2231 §4
        ("filename*=utf-8''%e2%82%ac%20rates.exe", ["€ rates.exe", "utf-8''%e2%82%ac%20rates.exe"]),
        ("filename*=iso-8859-1'en'%A3.exe", ["£.exe", "iso-8859-1'en'%A3.exe"]),
        ("filename*=''a%2Eexe", ["a.exe", "''a%2Eexe"]),
        ("filename*=a%2Eexe", ["a.exe", "a%2Eexe"]),
        ("filename=utf-8''a%2Eexe", ["a.exe", "utf-8''a%2Eexe"]),
        # RFC 2231 §3, §4.1
        ('filename*0="ev"; filename*1=il.exe', ["evil.exe"]),
        ('filename*1="il.exe"; filename*0="ev"', ["evil.exe"]),
        ("filename*0*=utf-8''ev%20; filename*1*=il%2E; filename*2=exe", ["ev il.exe"]),
        ("filename*0=a.; filename*2=exe", ["a.exe", "a"]),
        ("filename*1=a.exe", ["a.exe"]),
        ("filename*0=a'b'c; filename*1=.exe", ["a'b'c.exe"]),
        ('filename*0="=?utf-8?Q?a=2E"; filename*1="exe?="', ["=?utf-8?Q?a=2Eexe?=", "a.exe"]),
        # RFC 2047 where it is forbidden
        ('filename="=?utf-8?B?YS5leGU=?="', ["a.exe", "=?utf-8?B?YS5leGU=?="]),
        ('filename="=?utf-8?Q?a=2E?= =?utf-8?Q?exe?="', ["a.exe", "=?utf-8?Q?a=2E?= =?utf-8?Q?exe?="]),
        ("filename==?utf-8?Q?a=2Eexe?=", ["a.exe", "=?utf-8?Q?a=2Eexe?="]),
        # Paths, and what hides an extension
        ('filename="/tmp/a.exe"', ["a.exe"]),
        ('filename="C:\\\\new\\\\a.exe"', ["a.exe"]),
        ('filename="C:\\new\\a.exe"', ["C:newa.exe", "a.exe"]),
        ('filename="a.exe/"', ["a.exe"]),
        ('filename="a.exe. . "', ["a.exe"]),
        ('filename=" a.exe "', ["a.exe"]),
        ('filename="a\u202eexe.txt"', ["aexe.txt"]),
        ('filename="a.e\u200bxe\x00"', ["a.exe"]),
        ('filename="a.e\udcffxe"', ["a.exe"]),
        ('filename="bu\u0308cher.exe"', ["bücher.exe"]),
    ],
)
def test_readings(value: str, expected: list[str]) -> None:
    """Each form that a name may have, right or wrong, and each way to read it."""
    assert sorted(names(value)) == sorted(expected)
    assert sorted(names(value, "Content-Type")) == sorted(expected)


def test_both_fields_count_and_folds_do_not() -> None:
    """Names stand in either field, however often; a fold may stand anywhere between parameters."""
    head = b'Content-Type: text/plain;\r\n\tname="a.txt"\r\nContent-Disposition: attachment;\r\n filename*0=b;\r\n'
    head += b"\tfilename*1=.exe\r\ncontent-disposition : x; filename=c.exe\r\nSubject: filename=d.exe\r\n"
    assert sorted(file_names(head)) == ["a.txt", "b.exe", "c.exe"]


def test_lengths_are_bounded() -> None:
    """Of a long name the end counts, and of many only the first are read."""
    (name,) = names(f"filename={'x' * 5000}.exe")
    assert len(name) == NAME_MAXIMUM
    assert name.endswith(".exe")
    assert len(names("; ".join(f"filename={number}.exe" for number in range(500)))) == OCCURRENCES_MAXIMUM


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"], exclude_characters='/\\"'), min_size=1))
def test_what_others_write_is_read(name: str) -> None:
    """The name that the standard library gives an attachment, in RFC 2231, is among the readings."""
    name = name.strip().rstrip(". ") or "x"
    part = email.message.Message()
    part.add_header("Content-Disposition", "attachment", filename=("utf-8", "", name))
    head = part.as_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    normal = unicodedata.normalize("NFC", name)[-NAME_MAXIMUM:]
    assert normal in file_names(head)


@given(st.binary())
def test_nothing_fails(value: bytes) -> None:
    """Whatever stands in the field, it is read, and no name has a path, a control character or an end that hides."""
    value = value.replace(b"\r\n", b"")
    for name in file_names(b"Content-Disposition: attachment; filename=" + value + b"\r\n"):
        assert name
        assert not {unicodedata.category(each) for each in name} & {"Cc", "Cf", "Cs"}
        assert "/" not in name
        assert not name.endswith((".", " "))


@pytest.mark.parametrize(
    "piece", ['filename="', "filename=", "filename*1=a;", '"\\', "filename ", "filename*=a'b'%41;"]
)
def test_hostile_fields_take_linear_time(piece: str) -> None:
    """A field of a megabyte is read in passing."""
    assert len(names(piece * (1_000_000 // len(piece)))) <= 5 * OCCURRENCES_MAXIMUM


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"multipart/mixed; boundary=abc", [b"abc"]),
        (b'multipart/mixed; boundary="a b c "', [b"a b c"]),
        (b"multipart/mixed; boundary=a b", [b"a b", b"a"]),
        (b"text/plain; charset=utf-8; boundary=x", [b"x"]),
        (b"multipart/mixed; boundary*0=ab; boundary*1=c", [b"abc"]),
        (b"multipart/mixed; boundary=a; BOUNDARY=b", [b"a", b"b"]),
        (b"multipart/mixed; boundary=\xff\xfe", [b"\xff\xfe"]),
        (b'multipart/mixed; boundary=""', []),
        (b"multipart/mixed", []),
    ],
)
def test_boundaries(value: bytes, expected: list[bytes]) -> None:
    """A boundary is read as names are, octet for octet."""
    assert boundaries(value) == expected
