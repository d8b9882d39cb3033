"""The heads of all parts."""

from __future__ import annotations

import email.message
import email.mime.multipart
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.file_name import file_names
from mta.message.mime import HEAD_MAXIMUM, LINE_MAXIMUM, PARTS_MAXIMUM, MimeParts

MIXED = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n"


def heads(head: bytes, body: bytes, size: int = 65536) -> tuple[list[bytes], str]:
    """The heads behind that of the message, and the fault; the body comes in pieces of `size`."""
    parts = MimeParts()
    found = parts.begin(head)
    assert found == [head]
    for at in range(0, len(body), size):
        found += parts.feed(body[at : at + size])
    found += parts.finish()
    return found[1:], parts.fault


def part(number: int = 0, body: str = "text\r\n") -> bytes:
    """One part with a name."""
    return f"--b\r\nContent-Disposition: attachment; filename={number}.exe\r\n\r\n{body}".encode()


def names(head: bytes, body: bytes) -> list[str]:
    """The names in all heads."""
    return [name for each in heads(head, body)[0] for name in file_names(each)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"preamble\r\n" + part(1) + part(2) + b"--b--\r\nepilogue", ["1.exe", "2.exe"]),
        (part(1), ["1.exe"]),
        (part(1).removesuffix(b"text\r\n"), ["1.exe"]),
        (part(1).removesuffix(b"\r\n\r\ntext\r\n"), ["1.exe"]),
        (b"--b \t\r\n" + part(1)[5:], ["1.exe"]),
        (b"--bb\r\n" + part(1)[5:], []),
        (b"x--b\r\n" + part(1)[5:], []),
        (b"--b\r\n\r\nno head\r\n" + part(1), ["1.exe"]),
        (b"--b\r\nno head and no empty line\r\n" + part(1), ["1.exe"]),
        (b"--b--\r\n" + part(1), ["1.exe"]),
        (b"\r\n--b--\r\nContent-Disposition: attachment; filename=a.exe\r\n\r\n", []),
        (b"", []),
        (b"--b", []),
        (b"no parts", []),
    ],
)
def test_parts_of_one_multipart(body: bytes, expected: list[str]) -> None:
    """Parts begin at delimiters, right or not quite, and end where they may; a close delimiter begins none."""
    assert names(MIXED, body) == expected


def test_heads_are_given_octet_for_octet() -> None:
    """All fields, each with its CRLF, without the empty line; where the message ends first, with CRLF all the same."""
    head = b"Content-Type: a/b;\r\n\tname=x\r\nX: y\r\n"
    assert heads(MIXED, b"--b\r\n" + head + b"\r\ntext\r\n--b\r\n" + head.removesuffix(b"\r\n")) == ([head, head], "")
    assert heads(MIXED, b"--b\r\n\r\ntext\r\n--b\r\n") == ([b"", b""], "")


def test_every_split_finds_the_same() -> None:
    """Pieces of any size, down to one octet, give the same heads."""
    inner = (
        b'--b\r\nContent-Type: multipart/alternative;\r\n boundary="in ner"\r\n\r\n--in ner\r\n\r\nx\r\n--in ner--\r\n'
    )
    message = b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\nContent-Type: x/y; name=m.exe\r\n\r\nz\r\n"
    body = b"pre\r\n--\r\n--c\r\n" + part(1) + inner + message + part(2, "--b\r\r\n-\r\n") + b"--b--\r\n"
    whole = heads(MIXED, body)
    assert len(whole[0]) == 6
    for size in range(1, len(body)):
        assert heads(MIXED, body, size) == whole


def test_a_message_inside_has_a_head_of_its_own() -> None:
    """message/rfc822 as a part, inside another, and as the message itself."""
    inside = (
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: message/global\r\n\r\nContent-Type: a/b; name=deep.exe\r\n"
    )
    assert names(MIXED, b"--b\r\n" + inside + b"\r\nx\r\n" + part(1)) == ["deep.exe", "1.exe"]
    assert names(b"Content-Type: message/rfc822\r\n", b"Content-Type: a/b; name=a.exe\r\n\r\n") == ["a.exe"]
    assert names(MIXED, b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + part(1)) == ["1.exe"]


def test_what_readers_disagree_about_is_found() -> None:
    """Parts behind the close delimiter of an outer multipart, and of a second boundary, are found too."""
    nested = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--b--\r\n" + part(3).replace(b"--b", b"--c")
    assert names(MIXED, nested) == ["3.exe"]
    two = b"Content-Type: multipart/mixed; boundary=x\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    assert names(two, part(1) + part(2).replace(b"--b", b"--x")) == ["1.exe", "2.exe"]
    assert names(b"Content-Type: text/plain; boundary=b\r\n", part(1)) == ["1.exe"]


def test_depth_costs_nothing() -> None:
    """A thousand levels of multiparts, and as many messages inside messages, are read to the end."""
    body = b"".join(
        b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (level, level + 1) for level in range(1000)
    )
    body += b"--b1000\r\nContent-Type: a/b; name=deep.exe\r\n\r\n"
    body += b"".join(b"--b%d--\r\n" % level for level in range(1000, -1, -1))
    assert names(MIXED.replace(b"=b", b"=b0"), body) == ["deep.exe"]
    nested = b"Content-Type: message/rfc822\r\n\r\n" * 1000 + b"Content-Type: a/b; name=deep.exe\r\n\r\n"
    assert names(b"Content-Type: message/rfc822\r\n", nested) == ["deep.exe"]


def test_parts_are_bounded() -> None:
    """Ten thousand parts are read; with one more nothing further is, and that is said."""
    found, fault = heads(MIXED, b"--b\r\n\r\n" * (PARTS_MAXIMUM - 1))
    assert (len(found), fault) == (PARTS_MAXIMUM - 1, "")
    found, fault = heads(MIXED, b"--b\r\n\r\n" * (PARTS_MAXIMUM + 50) + part(1))
    assert (len(found), fault) == (PARTS_MAXIMUM - 1, "more than 10000 parts")
    parts = MimeParts()
    parts.begin(MIXED)
    parts.feed(b"--b\r\n\r\n" * (PARTS_MAXIMUM + 50))
    assert parts.ended
    assert parts.feed(part(1)) == parts.finish() == []


def test_heads_are_bounded() -> None:
    """A head of the greatest length is read, one octet more is a fault; what is behind it is found all the same."""
    line = b"X: " + b"x" * 995 + b"\r\n"
    rest = HEAD_MAXIMUM - HEAD_MAXIMUM // 1000 * 1000
    longest = line * (HEAD_MAXIMUM // 1000) + b"Y: " + b"y" * (rest - 5) + b"\r\n"
    assert len(longest) == HEAD_MAXIMUM
    found, fault = heads(MIXED, b"--b\r\n" + longest + b"\r\n\r\n" + part(1))
    assert ([len(each) for each in found], fault) == ([HEAD_MAXIMUM, len(part(1)) - 13], "")
    found, fault = heads(MIXED, b"--b\r\nZ" + longest + b"\r\n\r\n" + part(1))
    assert fault == "a part has a header of more than 262144 octets"
    assert file_names(found[-1]) == ["1.exe"]


def test_a_part_without_a_head_is_no_fault() -> None:
    """Text that stands where a head should, however long, is passed over; delimiters in it are not."""
    found, fault = heads(MIXED, b"--b\r\n" + b"just text\r\n" * 50_000 + part(1))
    assert fault == ""
    assert file_names(found[-1]) == ["1.exe"]


def test_long_lines_are_no_delimiters() -> None:
    """A boundary that no line may have is not looked for; lines of any length are passed."""
    long = b"c" * (LINE_MAXIMUM + 1)
    head = b"Content-Type: multipart/mixed; boundary=" + long + b"; boundary=b\r\n"
    found, fault = heads(head, b"--" + long + b"\r\n\r\n--" + b"d" * 100_000 + b"\r\n" + part(1))
    assert (len(found), fault) == (1, "")


@pytest.mark.parametrize(
    "line", [b"\r\n--", b"--b\r\n", b"--\r\n", b"\r\n", b"--b", b"A" * 76 + b"\r\n", b"\r\n--" + b"x" * 600]
)
def test_hostile_bodies_take_linear_time(line: bytes) -> None:
    """Four megabytes of beginnings of delimiters are read in passing."""
    heads(MIXED, line * (4_000_000 // len(line)))


@given(st.lists(st.sampled_from([b"\r\n", b"--b", b"--", b"--c", b"A: b", b"\r", b"\n", b"x", b"Content-Type: ", b";",
                                 b"message/rfc822", b"multipart/x; boundary=c", b" ", b"\0"]), max_size=40),
       st.integers(1, 20))  # fmt: skip
def test_any_octets_in_any_pieces(pieces: list[bytes], size: int) -> None:
    """Whatever comes, nothing fails, and pieces make no difference."""
    body = b"".join(pieces)
    assert heads(MIXED, body, size) == heads(MIXED, body)


@given(st.recursive(st.integers(0, 99), lambda children: st.lists(children, min_size=1, max_size=4), max_leaves=20))
def test_what_others_write_is_read(tree: object) -> None:
    """Every attachment of a message made by the standard library, nested any way, is found in order."""
    expected: list[str] = []

    def make(node: object) -> email.message.Message:
        if isinstance(node, list):
            made = email.mime.multipart.MIMEMultipart()
            for child in node:
                made.attach(make(child))
            return made
        expected.append(f"{node}.exe")
        leaf = email.message.Message()
        leaf["Content-Type"] = "application/octet-stream"
        leaf.add_header("Content-Disposition", "attachment", filename=f"{node}.exe")
        leaf.set_payload("text")
        return leaf

    message = make([tree]).as_bytes(policy=email.policy.SMTP)
    head, _, body = message.partition(b"\r\n\r\n")
    assert names(head + b"\r\n", body) == expected
