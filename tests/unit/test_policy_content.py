"""Rules of fields and of attachments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet import defer

from mta.policy.attachments import INLINE_MAXIMUM, NAMES_MAXIMUM, Attachments, names_of
from mta.policy.changes import MemoryBody
from mta.policy.facts import Stage
from mta.policy.headers import OCTETS_MAXIMUM, Headers
from mta.policy.verdict import AddHeader, Defer, Discard, File, Hold, Redirect, Reject, Tag, Verdict
from mta.settings.pattern import TEXT_MAXIMUM
from mta.smtp.address import Mailbox
from tests.doubles.policy import facts, message, policy_settings, said
from tests.doubles.sync import inline, result
from tests.doubles.threads import HeldThreads

HEAD = (
    b"From: a@example.org\r\nSubject: =?utf-8?Q?Buy_pills?=\r\n now\r\nX-Spam: yes\r\n"
    b"Received: by one\r\nReceived: by two\r\n"
)


def headers(toml: str) -> Headers:
    """The policy of rules whose tables are called ``[[rule]]``."""
    settings = policy_settings("[policy.headers]\n" + toml.replace("[[rule]]", "[[policy.headers.rule]]")).headers
    assert settings is not None
    return Headers(settings)


def field_rule(*lines: str, action: str = "hold") -> str:
    """One rule."""
    return "\n".join(["[[rule]]", *lines, f'action = "{action}"', ""])


def fits(*lines: str, head: bytes = HEAD, **known: Any) -> list[str]:
    """The reasons of one rule."""
    found = headers(field_rule(*lines)).ask(facts(Stage.HEADERS, head=head, **known))
    return [each.reason.text for each in found]


# Fields


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (['field = "subject"', 'pattern = "pills now$"'], 'subject "Buy pills now" matches pills now$'),
        (['field = "Subject"', 'pattern = "(?i)BUY"'], 'Subject "Buy pills now" matches (?i)BUY'),
        (['field = "Subject"', 'pattern = "BUY"'], None),
        (['field = "Subject"', 'pattern = "^=.utf-8"', "decoded = false"],
         'Subject "=?utf-8?Q?Buy_pills?= now" matches ^=.utf-8'),
        (['field = "Subject"', 'pattern = "Buy p"', "decoded = false"], None),
        (['field = "Received"', 'pattern = "two"'], 'Received "by two" matches two'),
        (['field = "X-Spam"'], "there is a X-Spam"),
        (['field = "X-Other"'], None),
        (['field = "Date"', "absent = true"], "there is no Date"),
        (['field = "From"', "absent = true"], None),
        (['field = "*"', 'pattern = "^X-Spam: yes$"'], '* "X-Spam: yes" matches ^X-Spam: yes$'),
        (['field = "X"', 'pattern = ""'], None),
    ],
)  # fmt: skip
def test_what_a_rule_of_fields_fits(lines: list[str], reason: str | None) -> None:
    """Every occurrence counts, unfolded and decoded or not; presence and absence are rules too."""
    assert fits(*lines) == ([reason] if reason else [])


@pytest.mark.parametrize(
    ("action", "kind", "value"),
    [
        ("reject No pills here", Reject, "550 5.7.1 No pills here"),
        ("reject", Reject, "550 5.7.1 Refused by policy"),
        ("defer", Defer, "450 4.7.1 Not now; try again later"),
        ("discard", Discard, None),
        ("hold", Hold, None),
        ("tag pills", Tag, "pills"),
        ("add_header X-Pills: yes", AddHeader, ("X-Pills", "yes")),
        ("file Junk", File, "Junk"),
        ("redirect bob@example.org", Redirect, Mailbox("bob", "example.org")),
    ],
)
def test_each_action_is_its_verdict(action: str, kind: type[Any], value: object) -> None:
    """The verdict has the file and line of the rule."""
    policy = headers(field_rule('field = "Subject"', action=action))
    (verdict,) = policy.ask(facts(Stage.HEADERS, head=HEAD))
    assert isinstance(verdict, kind)
    assert said(verdict)[1:] == ("there is a Subject", "mta.toml:2")
    match verdict:
        case Reject() | Defer():
            assert str(verdict.reply) == value
        case Tag():
            assert verdict.name == value
        case AddHeader():
            assert (verdict.name, verdict.value) == value
        case File():
            assert verdict.folder == value
        case Redirect():
            assert verdict.mailbox == value


def test_a_rule_that_refuses_is_the_last() -> None:
    """All rules that fit speak, in order, up to the first that refuses or discards."""
    rules = [field_rule('field = "From"', action=action) for action in ("tag a", "hold", "discard", "reject")]
    policy = headers("".join(rules))
    assert policy.stages == {Stage.HEADERS}
    verdicts = policy.ask(facts(Stage.HEADERS, head=HEAD))
    assert [type(each) for each in verdicts] == [Tag, Hold, Discard]
    assert [each.reason.source for each in verdicts] == ["mta.toml:2", "mta.toml:5", "mta.toml:8"]
    assert headers("").stages == frozenset()


def test_rules_are_for_their_services() -> None:
    """A rule is for mx alone, unless it says otherwise."""
    assert fits('field = "From"', service="smtpd") == []
    assert fits('field = "From"', 'services = ["mx", "smtpd"]', service="smtpd") == ["there is a From"]


def test_what_is_looked_at_is_bounded() -> None:
    """Of a value the beginning is looked at, of a field so many octets; that there was more is a tag."""
    rule = field_rule('field = "X"', 'pattern = "bad"')

    def verdicts(head: bytes) -> list[str]:
        found: list[Verdict] = list(headers(rule).ask(facts(Stage.HEADERS, head=head)))
        return [each.name if isinstance(each, Tag) else type(each).__name__ for each in found]

    assert verdicts(b"X: " + b"x" * (TEXT_MAXIMUM - 3) + b"bad\r\n") == ["Hold"]
    assert verdicts(b"X: " + b"x" * (TEXT_MAXIMUM - 2) + b"bad\r\n") == ["headers.cut"]
    dummies = (b"X: " + b"x" * 10_000 + b"\r\n") * (OCTETS_MAXIMUM // 10_000)
    assert verdicts(dummies + b"X: bad\r\n") == ["Hold"]
    assert verdicts(dummies * 2 + b"X: bad\r\n") == ["headers.cut"]
    assert verdicts(b"X: bad\r\n" + dummies * 2) == ["headers.cut", "Hold"], "what does not decide comes first"
    assert verdicts(b"Y: " + b"x" * 100_000 + b"\r\nX: bad\r\n") == ["Hold"]
    (tag,) = headers(rule).ask(facts(Stage.HEADERS, head=dummies * 2))
    assert said(tag) == ("Tag", "more than 262144 octets of x: the rest was not looked at", "mta.policy.headers")


def test_hostile_fields_are_looked_at_in_passing() -> None:
    """A megabyte of encoded words, for a pattern that a backtracking engine would not survive."""
    head = b"X: " + b"=?utf-8?Q?aaaaaaaaaaaa?= " * 40_000 + b"\r\n"
    assert fits('field = "X"', 'pattern = "(a*)*(a|aa)+b$"', head=head) == [
        "more than 262144 octets of x: the rest was not looked at"
    ]


def test_octets_that_are_no_utf8_do_not_hide_a_word() -> None:
    """A pattern meets U+FFFD where they stand; the reason can be printed."""
    (reason,) = fits('field = "X"', 'pattern = "bad.$"', head=b"X: so bad\xff\r\n")
    assert reason == 'X "so bad\ufffd" matches bad.$'


# Attachments


def attachments(toml: str, run: Any = inline) -> Attachments:
    """The policy of rules whose tables are called ``[[rule]]``."""
    toml = "[policy.attachments]\n" + toml.replace("[[rule]]", "[[policy.attachments.rule]]")
    settings = policy_settings(toml).attachments
    assert settings is not None
    return Attachments(settings, run)


def with_names(*names: str, body: str = "") -> bytes:
    """A message with attachments of these names."""
    parts = "".join(f'--b\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\n{body}\r\n' for name in names)
    return f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n".encode()


def reasons(policy: Attachments, content: bytes, **known: Any) -> list[str]:
    """The reasons of all verdicts."""
    answer = policy.ask(message(content, **known))
    found = result(answer) if isinstance(answer, defer.Deferred) else answer
    return [each.reason.text for each in found or ()]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("lines", "fitting", "others"),
    [
        (['extensions = ["exe", "JS"]'],
         ["a.exe", "A.EXE", "a.b.js", ".exe", "a. exe", "a.exe ."], ["exe", "a.exe.txt", "aexe"]),
        (['extensions = ["exe"]', 'where = "double"'],
         ["a.pdf.exe", "a.b.c.exe", "a.pdf .exe"], ["a.exe", ".exe", "a..exe"]),
        (['extensions = ["exe"]', 'where = "anywhere"'], ["a.exe", "a.exe.txt", "a.exe .txt.gz"], ["exe.txt", "a.txt"]),
        (['pattern = "^invoice.*[0-9]$"'], ["Invoice 7", "INVOICE-x7"], ["invoice", "an invoice 7"]),
        (['pattern = "^a"', 'extensions = ["exe"]'], ["a.exe"], ["b.exe", "a.txt"]),
        (['pattern = "ü"'], ["Grüße", "GRÜSSE"], ["gru"]),
    ],
)  # fmt: skip
def test_which_names_a_rule_fits(lines: list[str], fitting: list[str], others: list[str]) -> None:
    """By extension, at the end, behind another, or anywhere; by pattern; by both."""
    policy = attachments(field_rule(*lines))
    for name in fitting:
        assert len(reasons(policy, with_names("other", name))) == 1, name
    assert reasons(policy, with_names(*others)) == []


def test_reasons_and_actions_of_attachments() -> None:
    """Rules speak in order, up to the first that refuses, with the name, what fits it, and the line."""
    policy = attachments(
        field_rule('extensions = ["zip"]', action="tag archive")
        + field_rule('extensions = ["exe"]', 'where = "double"', 'pattern = "pdf"', action="reject No programs")
        + field_rule('extensions = ["exe"]', action="discard")
    )
    assert policy.stages == {Stage.MESSAGE}
    answer = policy.ask(message(with_names("X.ZIP", "invoice.pdf.exe")))
    assert isinstance(answer, list)
    assert [said(each) for each in answer] == [
        ("Tag", 'attachment "x.zip" has an extension of this rule', "mta.toml:2"),
        (
            "550 5.7.1 No programs",
            'attachment "invoice.pdf.exe" has, behind another one, an extension of this rule and matches pdf',
            "mta.toml:5",
        ),
    ]
    assert reasons(policy, with_names("a.txt")) == []
    assert reasons(policy, b"Content-Type: a/b; name=a.zip\r\n\r\nthe message itself") != []
    cut = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: a/b; name=a.zip"
    assert reasons(policy, cut) != []
    assert attachments("").stages == frozenset()


def test_attachment_rules_are_for_their_services() -> None:
    """A rule is for mx alone, unless it says otherwise."""
    both = field_rule('extensions = ["exe"]') + field_rule('extensions = ["exe"]', 'services = ["smtpd"]')
    content = with_names("a.exe")
    assert len(reasons(attachments(both), content)) == 1
    assert len(reasons(attachments(both), content, service="smtpd")) == 1
    assert attachments(field_rule('extensions = ["exe"]')).ask(message(content, service="smtpd")) is None


def test_large_messages_are_read_on_a_thread() -> None:
    """Small ones are judged at once; a large one needs a thread, and is judged there."""
    threads = HeldThreads()
    policy = attachments(field_rule('extensions = ["exe"]'), threads)
    small = with_names("a.exe")
    assert not isinstance(policy.ask(message(small)), defer.Deferred)
    large = with_names("a.txt", "a.exe", body="x" * INLINE_MAXIMUM)
    answer = policy.ask(message(large))
    assert isinstance(answer, defer.Deferred)
    threads.run_all()
    (verdict,) = result(answer)  # type: ignore[misc]
    assert isinstance(verdict, Hold)
    assert policy.ask(facts(Stage.MESSAGE, head=b"Content-Type: a/b; name=x.exe\r\n")) != []


@pytest.mark.parametrize(
    ("unreadable", "reply"),
    [
        ("reject", "550 5.7.1 This message cannot be read: more than 10000 parts"),
        ("defer", "450 4.7.1 This message cannot be read: more than 10000 parts"),
        ("tag", "Tag"),
        ("off", None),
    ],
)
def test_what_cannot_be_read_is_refused(unreadable: str, reply: str | None) -> None:
    """Ten thousand parts and one are refused with a reason, or what the setting says."""
    policy = attachments(f'unreadable = "{unreadable}"\n' + field_rule('extensions = ["exe"]'))
    answer = policy.ask(message(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 10_001))
    found = result(answer) if isinstance(answer, defer.Deferred) else answer
    assert [said(each) for each in found or ()] == (  # type: ignore[union-attr]
        [(reply, "not all names of attachments can be read: more than 10000 parts", "[policy.attachments] unreadable")]
        if reply
        else []
    )


@dataclass
class CountedBody:
    """A body that counts what is read of it."""

    piece: bytes
    pieces_left: int
    size: int = 10**9

    def pieces(self) -> Iterator[bytes]:
        """Give the same piece again and again."""
        while self.pieces_left:
            self.pieces_left -= 1
            yield self.piece


def test_reading_ends_where_nothing_more_is_found() -> None:
    """Neither a message with too many parts nor one with too many names is read to its end."""
    body = CountedBody(b"--b\r\n\r\n" * 8192, 1000)
    head = b"Content-Type: multipart/mixed; boundary=b\r\n"
    assert names_of(head, body).fault == "more than 10000 parts"
    assert body.pieces_left > 990
    part = b"--b\r\nContent-Type: a/b; " + b"".join(b"name=%d;" % number for number in range(90)) + b"\r\n\r\n"
    many = b"".join(part.replace(b"=", b"=%d." % number) for number in range(300)).replace(b"--b", b"\r\n--b")
    names = names_of(head, MemoryBody(many))
    assert names.fault == f"more than {NAMES_MAXIMUM} names"
    assert len(names.names) < 2 * NAMES_MAXIMUM
