"""Tests of `mta.message.report`: what is written is read back with Python's `email` package."""

from __future__ import annotations

import email
import email.policy
import random
import re
from email.message import Message
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail.envelope import Envelope, Recipient
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.message.report import HEAD_MAXIMUM, About, Report, write_report
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.status import Status

ALICE = Mailbox("alice", "example.org")
BOB = Recipient(Mailbox("bob", "example.net"))
MX = "mx.example.net [192.0.2.1]:25"
REFUSED = Failed(Reason("refused", "remote reply"), status.BAD_MAILBOX, MX, "550 5.1.1 who?")
CONTENT = b"From: alice@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: hello\r\n\r\nsecret body\r\n"


def write(*about: About, content: bytes = CONTENT, seed: int = 1, **envelope: Any) -> bytes:
    """The octets of a report about these recipients."""
    of = Envelope(envelope.pop("reverse_path", ALICE), (), **envelope)
    now, accepted, until = 1763842500.0, 1763842400.0, 1764274400.0
    report = Report("0report", "mx.example.org", now, "0original", of, accepted, until, about, content)
    return write_report(report, random.Random(seed))


def read(octets: bytes) -> tuple[Message, str, list[Message], bytes]:
    """Take a report apart: the whole, the human text, the groups of the machine part, the returned header."""
    whole = email.message_from_bytes(octets)
    human, machine, original = whole.get_payload()
    text = human.get_payload(decode=True).decode()
    groups = machine.get_payload() if machine.get_content_type() == "message/delivery-status" else []
    return whole, text, groups, original.get_payload(decode=True)


def test_a_failure_is_told_to_people_and_programs() -> None:
    """A failure names recipient, reason, remote reply and what to do; the machine part says the same in its fields."""
    octets = write(About(BOB, REFUSED), envid="env1")
    whole, text, (message, recipient), original = read(octets)
    assert "you sent on Sat, 22 Nov 2025 20:13:20 +0000 (queue id 0original); its header" in " ".join(text.split())
    assert dict(whole.items()) | {"Content-Type": ""} == {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example.org>",
        "To": "<alice@example.org>",
        "Subject": "Your message could not be delivered",
        "Date": "Sat, 22 Nov 2025 20:15:00 +0000",
        "Message-ID": "<0report@mx.example.org>",
        "In-Reply-To": "<1@example.org>",
        "References": "<1@example.org>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": "",
        "Content-Transfer-Encoding": "7bit",
    }
    assert (whole.get_content_type(), whole.get_param("report-type")) == ("multipart/report", "delivery-status")
    for wanted in (
        "the mail system at mx.example.org",
        "<bob@example.net>\r\n  5.1.1: refused [remote reply]\r\n",
        "  mx.example.net [192.0.2.1]:25 said:\r\n    550 5.1.1 who?\r\n  Look for a misspelt address",
        "write to postmaster@mx.example.org",
    ):
        assert wanted in text
    assert dict(message.items()) == {
        "Reporting-MTA": "dns; mx.example.org",
        "Arrival-Date": "Sat, 22 Nov 2025 20:13:20 +0000",
        "Original-Envelope-Id": "env1",
    }
    assert dict(recipient.items()) == {
        "Final-Recipient": "rfc822; bob@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 who?",
        "Last-Attempt-Date": "Sat, 22 Nov 2025 20:15:00 +0000",
    }
    assert original == CONTENT.partition(b"\r\nsecret")[0]
    assert b"secret" not in octets


def test_a_delay_names_its_end() -> None:
    """A delay says until when it is tried, and that nothing need be done."""
    delayed = Deferred(Reason("no host answers", "DNS"), status.NO_ANSWER)
    whole, text, (_, recipient), _ = read(write(About(BOB, delayed)))
    assert whole["Subject"] == "Your message is delayed"
    assert "until Thu, 27 Nov\r\n2025 20:13:20 +0000" in text
    assert (recipient["Action"], recipient["Status"]) == ("delayed", "4.4.1")
    assert recipient["Will-Retry-Until"] == "Thu, 27 Nov 2025 20:13:20 +0000"
    assert recipient["Diagnostic-Code"] == "x-mta; no host answers [DNS]"
    assert "Remote-MTA" not in recipient


@pytest.mark.parametrize(("remote", "action"), [("", "delivered"), ("mx.example.net [192.0.2.1]:25", "relayed")])
def test_success_is_delivered_or_relayed(remote: str, action: str) -> None:
    """What is in a mailbox of ours is delivered, what another host took is relayed; neither needs a diagnosis."""
    whole, text, (_, recipient), _ = read(write(About(BOB, Delivered(Reason("done"), remote=remote))))
    assert recipient["Action"] == action
    assert "Diagnostic-Code" not in recipient
    assert "postmaster" not in text
    assert whole["Subject"].startswith("Your message was ")


def test_several_recipients_are_grouped_by_what_became_of_them() -> None:
    """Failures are told first and give the subject; the machine part keeps the order it was given."""
    carol = Recipient(Mailbox("carol", "example.net"))
    about = (About(BOB, Delivered(Reason("done"))), About(carol, REFUSED))
    whole, text, (_, first, second), _ = read(write(*about))
    assert whole["Subject"] == "Your message could not be delivered"
    assert text.index("carol@example.net") < text.index("It was delivered") < text.index("bob@example.net")
    assert (first["Action"], second["Action"]) == ("delivered", "failed")


@pytest.mark.parametrize(
    ("recipient", "original"),
    [
        (Recipient(BOB.mailbox, orcpt="rfc822;b@example.com"), "rfc822;b@example.com"),
        (Recipient(BOB.mailbox, Mailbox("list", "example.org")), "rfc822; list@example.org"),
        (BOB, None),
    ],
)
def test_the_original_recipient_is_what_the_sender_named(recipient: Recipient, original: str | None) -> None:
    """ORCPT stands as it was given; without it, the address that an alias changed."""
    _, text, (_, fields), _ = read(write(About(recipient, REFUSED)))
    assert fields["Original-Recipient"] == original
    assert f"<{recipient.named}>" in text


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (status.MAILBOX_FULL, "is full"),
        (status.MAILBOX_DISABLED, "cannot be used"),
        (status.EXPIRED, "lies with the mail systems"),
        (status.LOOP, "in a circle"),
        (status.REFUSED, "refused by a rule"),
    ],
)
def test_advice_fits_the_status(code: Status, advice: str) -> None:
    """What to do follows from the enhanced status: its own line, its subject's, or that of all others."""
    _, text, _, _ = read(write(About(BOB, Failed(Reason("x"), code))))
    assert advice in " ".join(text.split())


def test_nobody_is_told_about_a_bounce() -> None:
    """There is no report about mail from ``<>`` (row 61)."""
    with pytest.raises(ValueError, match="no reports"):
        write(About(BOB, REFUSED), reverse_path=None)


def test_a_malformed_message_id_is_not_repeated() -> None:
    """A Message-ID that is none makes no In-Reply-To."""
    whole, *_ = read(write(About(BOB, REFUSED), content=b"Message-ID: <a b\r\n\r\n"))
    assert "In-Reply-To" not in whole
    assert "References" not in whole


def test_a_hostile_reply_stays_in_its_field() -> None:
    """A reply with CR, LF, ESC, 8-bit, encoded words, a boundary and 64 KB is one line, cut, in both parts (row 62)."""
    boundary = re.search(rb'boundary="(.*)"', write(About(BOB, REFUSED)))
    assert boundary
    reply = f"550 no\r\nX-Evil: 1\r\n\r\n--{boundary[1].decode()}\r\n=?utf-8?q?x?= \x1b\u202e ü " + "x" * 65536
    octets = write(About(BOB, Failed(Reason("no\r\nX-Evil: 2"), status.REFUSED, "evil\r\nX-Evil: 3", reply)))
    whole, text, (_, recipient), _ = read(octets)
    assert len(whole.get_payload()) == 3
    assert not re.search(rb"^X-Evil", octets, re.MULTILINE)
    assert octets.isascii()
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert recipient["Remote-MTA"] == "dns; evil"
    assert "smtp; 550 no X-Evil: 1 --" in re.sub(r"\s+", " ", recipient["Diagnostic-Code"])
    assert "?? ?\r\n\txxx" in recipient["Diagnostic-Code"]
    assert "ü" in text
    assert len(octets) < 6000


def test_the_boundary_cannot_be_guessed() -> None:
    """The boundary differs with chance alone, by 128 bits."""
    pattern = rb'boundary="=_0report_([0-9a-f]{32})"'
    one, other = (re.findall(pattern, write(About(BOB, REFUSED), seed=seed)) for seed in (1, 2))
    assert len(one) == len(other) == 1
    assert one != other


def test_envid_is_made_printable() -> None:
    """Octets of ENVID that are no printable ASCII stand as xtext, so that none ends the field."""
    _, _, (message, _), _ = read(write(About(BOB, REFUSED), envid="a b\r\nX: ü"))
    assert message["Original-Envelope-Id"] == "a+20b+0D+0AX:+20+C3+BC"


@pytest.mark.parametrize(
    "head",
    [
        b"Subject: \xff\x00\x1b\r\n",
        b"X: bare\rCR and\nLF \r\n",
        b"X: " + b"y" * 2000 + b"\r\n",
        b"X: trailing space \r\n\t=3D\r\n",
        b"X: no line end",
        b"X: long " + b"\xfc" * 500 + b" \r\nY: z\r\n",
    ],
)
def test_any_header_comes_back_whole_in_7_bits(head: bytes) -> None:
    """8-bit octets, bare CR and LF, and long lines of the original header travel in quoted-printable and come back."""
    octets = write(About(BOB, REFUSED), content=head + b"\r\n\r\nbody" if head.endswith(b"\n") else head)
    *_, original = read(octets)
    assert original == head
    assert octets.isascii()
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))


def test_a_long_header_is_cut_between_fields() -> None:
    """Of a long header come back the first fields that fit into 64 KiB."""
    field = b"X: " + b"y" * 995 + b"\r\n"
    *_, original = read(write(About(BOB, REFUSED), content=field * 100 + b"\r\n"))
    assert original == field * (HEAD_MAXIMUM // 1000)


def test_utf8_addresses_make_a_global_report() -> None:
    """With an address in UTF-8 the machine part is message/global-delivery-status in 8 bits (RFC 6533)."""
    jorg = Recipient(Mailbox("jörg", "example.net"), Mailbox("list", "example.org"))
    octets = write(About(jorg, REFUSED), reverse_path=Mailbox("älice", "example.org"))
    whole = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    human, machine, _ = whole.get_payload()  # type: ignore[misc]  # the parts of a multipart
    assert whole["Content-Transfer-Encoding"] == "8bit"
    assert machine.get_content_type() == "message/global-delivery-status"
    assert "Final-Recipient: utf-8; jörg@example.net\r\n".encode() in octets
    assert b"Original-Recipient: rfc822; list@example.org\r\n" in octets
    assert "To: <älice@example.org>\r\n".encode() in octets
    long = write(About(jorg, Failed(Reason("x"), status.REFUSED, "mx", "550 " + "ü" * 2000)))
    assert all(len(line) <= 998 for line in long.split(b"\r\n"))
    assert long.count("ü".encode()) == 1000 - len("550 ")
    assert "<jörg@example.net>" in human.get_payload(decode=True).decode()


HOSTILE = st.text(max_size=60) | st.lists(
    st.sampled_from(["\r\n", "\n", "\r\n\r\n", "--=_0report_", "X-Evil: 1", "\x1b", "ü", "\udcff", " ", "\x85"])
).map("".join)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Failed, st.builds(Reason, HOSTILE, HOSTILE), st.just(status.REFUSED), HOSTILE, HOSTILE),
    st.builds(Deferred, st.builds(Reason, HOSTILE, HOSTILE), st.just(status.NO_ANSWER), HOSTILE, HOSTILE),
    st.builds(Delivered, st.builds(Reason, HOSTILE), st.just(status.OK), HOSTILE, HOSTILE),
)
RECIPIENTS = st.builds(
    Recipient,
    st.builds(Mailbox, HOSTILE, st.just("example.net")),
    st.none() | st.just(ALICE),
    orcpt=HOSTILE,
)


@settings(max_examples=150)
@given(st.lists(st.builds(About, RECIPIENTS, OUTCOMES), min_size=1, max_size=3), HOSTILE, st.binary() | HOSTILE)
def test_hostile_texts_never_change_the_structure(about: list[About], envid: str, content: bytes | str) -> None:
    """Whatever comes from outside, the report has three parts, a group for each recipient, and no field of theirs."""
    octets = write(
        *about,
        envid=envid,
        content=content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"),
    )
    whole = email.message_from_bytes(octets)
    parts: Any = whole.get_payload()
    assert [part.get_content_maintype() for part in parts] == ["text", "message", "text"]
    status_part = re.search(rb"Delivery report\r\n.*?\r\n\r\n(.*?)\r\n--=_0report_", octets, re.DOTALL)
    assert status_part
    groups = [group for group in status_part[1].split(b"\r\n\r\n") if group]
    assert len(groups) == 1 + len(about)
    # In the text for people a line may begin with it: there it is text.
    assert not re.search(rb"^X-Evil", octets.partition(b"\r\n\r\n")[0] + status_part[1], re.MULTILINE)
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
    assert b"\n" not in octets.replace(b"\r\n", b"")
