"""Tests of `mta.mailauth.tags`."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.mailauth.tags import (
    TAGS_MAXIMUM,
    append_base64,
    read_base64,
    read_colons,
    read_number,
    read_tags,
    write_tags,
)

NAME = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,5}", fullmatch=True)
VALUE = st.text(st.sampled_from("az09=:,@ \t{|é"), max_size=12).map(lambda text: text.strip(" \t"))
SPACE = st.sampled_from(["", " ", "\t", " \t "])


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        (b"v=1", {"v": "1"}),
        (b"v=1;", {"v": "1"}),
        (b"v=1; ", {"v": "1"}),
        (b" v = 1 ;\ta=b ", {"v": "1", "a": "b"}),
        (b"a=", {"a": ""}),
        (b"a=;b=", {"a": "", "b": ""}),
        (b"a==b=", {"a": "=b="}),
        (b"a=x  y", {"a": "x  y"}),
        (b"A=1;a=2", {"A": "1", "a": "2"}),
        (b"a_1=x", {"a_1": "x"}),
        ("i=ü@ö.example".encode(), {"i": "ü@ö.example"}),
    ],
)
def test_list_is_read(text: bytes, tags: dict[str, str]) -> None:
    """What the grammar allows is read, values without the white space around them."""
    assert read_tags(text) == tags


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", '"" is no tag'),
        (b" ", '"" is no tag'),
        (b";", '"" is no tag'),
        (b"v=1;;", '"" is no tag'),
        (b"v=1;;a=2", '"" is no tag'),
        (b";v=1", '"" is no tag'),
        (b"v=1; junk", '"junk" is no tag'),
        (b"=1", '"=1" is no tag'),
        (b"1v=1", '"1v=1" is no tag'),
        (b"v-1=1", '"v-1=1" is no tag'),
        (b"a b=1", '"a b=1" is no tag'),
        (b"\xff=1", '"\\xff=1" is no tag'),
        (b"v\0=1", '"v?=1" is no tag'),
        (b"v=1; a=2; v=1", "there are two v= tags"),
        (b"v=1\r", "v= has a control character"),
        (b"v=1\n2", "v= has a control character"),
        (b"v=\0", "v= has a control character"),
        (b"v=\x7f", "v= has a control character"),
        (b"v=\xff", "v= is not UTF-8"),
    ],
)
def test_fault_is_named(text: bytes, fault: str) -> None:
    """What the grammar does not allow, and what comes twice, is a fault that names the tag."""
    found = read_tags(text)
    assert isinstance(found, Reason)
    assert found.text == fault
    assert found.source.startswith("RFC ")


def test_long_list_is_not_read() -> None:
    """A list is read up to the maximum, not beyond."""
    assert read_tags(b"a=" + b"x" * (TAGS_MAXIMUM - 2)) == {"a": "x" * (TAGS_MAXIMUM - 2)}
    assert isinstance(read_tags(b"a=" + b"x" * (TAGS_MAXIMUM - 1)), Reason)


@given(st.dictionaries(NAME, VALUE, min_size=1), st.data())
def test_any_list_is_read_back(tags: dict[str, str], data: st.DataObject) -> None:
    """Whatever white space stands around names and values, the same tags in the same order are read."""
    text = ";".join(
        f"{data.draw(SPACE)}{name}{data.draw(SPACE)}={data.draw(SPACE)}{value}{data.draw(SPACE)}"
        for name, value in tags.items()
    )
    found = read_tags((text + data.draw(st.sampled_from(["", ";", "; "]))).encode())
    assert found == tags
    assert list(found) == list(tags)


@given(st.binary(max_size=60))
def test_junk_is_a_value(octets: bytes) -> None:
    """Octets of any kind come to tags or to a fault that can be printed."""
    found = read_tags(octets)
    assert isinstance(found, dict) or found.text.isprintable()


def test_colons() -> None:
    """A list with colons gives its words, empty ones too."""
    assert read_colons("from : to\t:cc::") == ("from", "to", "cc", "", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("123", 123), ("1234", None), ("", None), ("-1", None), ("1 2", None), ("٣", None)],
)
def test_number(text: str, number: int | None) -> None:
    """A number has one digit to as many as are allowed, ASCII digits alone."""
    assert read_number(text, 3) == number


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("YWJj", b"abc"),
        (" Y W\tJ j ", b"abc"),
        ("YWI=", b"ab"),
        ("YWI", b"ab"),
        ("YQ = =", b"a"),
        ("", b""),
        ("Y", None),
        ("YW=Jj", None),
        ("YW-_", None),
        ("YWJj!", None),
        ("YWJü", None),
        ("YQ===", None),
        ("YWJj====", None),
    ],
)
def test_base64(text: str, octets: bytes | None) -> None:
    """base64string may hold white space and leave out its padding; other characters are a fault."""
    assert read_base64(text) == octets


def test_written_list_is_folded() -> None:
    """Tags fold before their names, lists behind a colon, base64 anywhere; no line is over 78 characters."""
    words = ["from", "to", "subject", "content-transfer-encoding", "mime-version", "message-id"] * 3
    field = write_tags("DKIM-Signature", [("v", "1"), ("s", "sel"), ("h", words), ("bh", "x" * 44), ("b", "")])
    signature = bytes(range(256))
    whole = append_base64(field, signature)
    assert field.startswith(b"DKIM-Signature: v=1; s=sel; h=from:to:")
    assert field.endswith(b"=" + b"x" * 44 + b"; b=")
    assert whole.endswith(b"\r\n")
    lines = whole.removesuffix(b"\r\n").split(b"\r\n")
    assert all(line.startswith(b" ") for line in lines[1:])
    assert max(map(len, lines)) == 78
    tags = read_tags(whole.replace(b"\r\n", b"").partition(b":")[2])
    assert isinstance(tags, dict)
    assert list(tags) == ["v", "s", "h", "bh", "b"]
    assert read_colons(tags["h"]) == tuple(words)
    assert read_base64(tags["b"]) == signature


@pytest.mark.parametrize(("size", "lines"), [(55, 1), (56, 2)])
def test_lines_are_filled(size: int, lines: int) -> None:
    """A word goes on the next line only where the line would have more than 78 characters with it."""
    field = write_tags("DKIM-Signature", [("v", "1"), ("a", "x" * size)])
    assert len(field.split(b"\r\n")) == lines
    assert (len(field) == 78) == (lines == 1)


def test_base64_fills_its_lines() -> None:
    """The lines of a long value have 78 characters, that on which it begins too, be it the first or a later one."""
    for field in (b"X: a=1; b=", b"X: a=" + b"1" * 60 + b";\r\n b="):
        whole = append_base64(field, bytes(300))
        lines = whole[:-2].split(b"\r\n")
        assert {len(line) for line in lines[field.count(b"\n") : -1]} == {78}
        assert len(lines[-1]) <= 78


@given(st.binary(max_size=300), st.integers(0, 100))
def test_base64_is_appended(octets: bytes, room: int) -> None:
    """However long the line is already, the value reads back, and no line gets longer by more than it must."""
    field = append_base64(b"X: " + b"a" * room + b"=", octets)
    value = field.partition(b"=")[2].replace(b"\r\n", b"").decode()
    assert base64.b64decode(value.replace(" ", "")) == octets
    assert max(len(line) for line in field.split(b"\r\n")) <= max(78, room + 4)
