"""[policy] in mta.toml: what is read, and what is refused with file and line."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.settings import policy, reference
from mta.settings.action import Action
from mta.settings.entry import Entry
from mta.settings.policy import PolicySettings
from mta.settings.policy_reading import ENTRIES_MAXIMUM, PROBLEMS_MAXIMUM
from mta.settings.return_code import ReturnCode
from mta.settings.values import Unfit
from mta.smtp.address import Mailbox
from tests.doubles.policy import policy_settings, read_policy


def problems(toml: str) -> list[tuple[int, str, str, str]]:
    """Line, key, expected and found of each problem."""
    return [(p.line, p.key, p.expected, p.found) for p in read_policy(toml)[1]]


def test_nothing_is_in_force_without_its_table() -> None:
    """No table, no policy; an empty table has all defaults."""
    assert policy_settings("") == PolicySettings()
    assert all(getattr(PolicySettings(), name) is None for name in ("lists", "rates", "helo", "greylist", "dnsbl"))
    assert policy_settings("[policy.helo]\n").helo == policy.HeloSettings()


def test_every_field_is_described() -> None:
    """No settings class of policies has a field without a text below it, but for what is no key."""
    classes = [each for each in vars(policy).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    own = [each for each in classes if each.__module__ == policy.__name__]
    assert len(own) >= 15
    for cls in own:
        described = reference._descriptions(cls)
        assert [f.name for f in dataclasses.fields(cls) if not described.get(f.name)] == [], cls
    assert "`[[policy.dnsbl.list]]`" in reference.render()


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("reject", Action("reject")),
        ("reject No programs, please", Action("reject", "No programs, please")),
        ("defer Come later", Action("defer", "Come later")),
        ("discard", Action("discard")),
        ("hold", Action("hold")),
        ("tag spam.maybe", Action("tag", "spam.maybe")),
        ("add_header X-Spam:  yes", Action("add_header", "yes", "X-Spam")),
        ("file Junk", Action("file", "Junk")),
        ("redirect Bob@Example.org", Action("redirect", mailbox=Mailbox("Bob", "example.org"))),
    ],
)
def test_actions(text: str, action: Action) -> None:
    """Each action has a text form, which reads back to the same action."""
    assert Action.parse(text) == action
    assert Action.parse(str(action)) == action


@pytest.mark.parametrize(
    "text",
    [
        "",
        "refuse",
        "discard it",
        "hold on",
        "tag",
        "tag two words",
        "tag " + "x" * 61,
        "add_header",
        "add_header X-Spam",
        "add_header X Spam: yes",
        "add_header X: a\r\nBcc: b",
        "file",
        "file ../x",
        "file a/b",
        "file .hidden",
        "redirect",
        "redirect alice",
        "reject a\nb",
        "reject " + "x" * 401,
    ],
)
def test_what_is_no_action(text: str) -> None:
    """What is none is refused, and nothing with a line end, a path, or endless text is one."""
    with pytest.raises(Unfit):
        Action.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.0/24", ("network", 4, 24, 0xC00002)),
        ("192.0.2.1", ("network", 4, 32, 0xC0000201)),
        ("0.0.0.0/0", ("network", 4, 0, 0)),
        ("2001:DB8::/32", ("network", 6, 32, 0x20010DB8)),
        ("::1", ("network", 6, 128, 1)),
        ("Example.ORG", ("domain", "example.org")),
        ("bücher.example", ("domain", "xn--bcher-kva.example")),
        ("org", ("domain", "org")),
        ("Alice@Example.org", ("mailbox", "alice", "example.org")),
        ("Postmaster@", ("local-part", "postmaster")),
        ("<>", ("null",)),
        ("*", ("any",)),
    ],
)
def test_entries(text: str, key: tuple[object, ...]) -> None:
    """Each form of entry has its key, folded."""
    entry = Entry.parse(text)
    assert (entry.key, entry.text, str(entry)) == (key, text, text)


@pytest.mark.parametrize(
    "text", ["", "192.0.2.1/24", "1.2.3", "1.2.3.4.5", "a b", "@example.org", "a@b@c", "-x", "::/129"]
)
def test_what_is_no_entry(text: str) -> None:
    """A network with host bits set, half an address and the like are refused."""
    with pytest.raises(ValueError):
        Entry.parse(text)


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("127.0.0.2", [(127, 0, 0, 2)], [(127, 0, 0, 3), (127, 0, 1, 2)]),
        ("127.0.0.4-7", [(127, 0, 0, 4), (127, 0, 0, 7)], [(127, 0, 0, 3), (127, 0, 0, 8)]),
        ("127.0.*.1", [(127, 0, 0, 1), (127, 0, 255, 1)], [(127, 1, 0, 1)]),
    ],
)
def test_return_codes(text: str, matching: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> None:
    """A code is four numbers, ranges or stars."""
    code = ReturnCode.parse(text)
    assert all(map(code.matches, matching))
    assert not any(map(code.matches, other))


@pytest.mark.parametrize(
    "text",
    [
        *["", "127.0.0", "127.0.0.0.1", "10.0.0.1", "*.0.0.1", "126-127.0.0.1", "127.255.255.254", "127.*.*.*"],
        *[f"127.0.0.{last}" for last in ("256", "7-4", "x", "-1")],
    ],
)
def test_what_is_no_return_code(text: str) -> None:
    """Outside 127.0.0.0/8, and in 127.255.255.0/24, which is for errors, there is no code."""
    with pytest.raises(Unfit):
        ReturnCode.parse(text)


@given(st.text())
def test_values_never_fail_but_as_values(text: str) -> None:
    """Whatever text stands in the file, it is read or refused with ValueError."""
    for parse in (Action.parse, Entry.parse, ReturnCode.parse):
        with suppress(ValueError):
            parse(text)


def test_a_list_is_read_with_its_file(tmp_path: Path) -> None:
    """Entries of the table and of the file come with reason and line; a note in the file goes before the table's."""
    (tmp_path / "deny").write_text(
        "# of ours\n192.0.2.0/24 ; SBL1\n\n  evil.example  sends spam # since May\r\nbad.example\n"
    )
    toml = '[[policy.lists.deny]]\nentries = ["*"]\nfile = "deny"\nreason = "why not"\naction = "defer"\n'
    lists = policy_settings(toml, str(tmp_path / "mta.toml")).lists
    assert lists is not None
    (deny,) = lists.denies
    assert deny.action == "defer"
    assert [(each.text, each.note, each.source) for each in deny.read] == [
        ("*", "why not", f"{tmp_path}/mta.toml:2"),
        ("192.0.2.0/24", "why not", f"{tmp_path}/deny:2"),
        ("evil.example", "sends spam", f"{tmp_path}/deny:4"),
        ("bad.example", "why not", f"{tmp_path}/deny:5"),
    ]


def test_problems_of_a_file_name_its_lines(tmp_path: Path) -> None:
    """Each bad line is named, octets that are no UTF-8 too, but of a file that is no list only the first ones."""
    (tmp_path / "a").write_bytes(b"192.0.2.0/24\n192.0.2.1/24\n\xff\xfe\n<>\n")
    (tmp_path / "b").write_bytes(b"this is, no list!\n@\n" * 1000)
    toml = '[[policy.lists.allow]]\nfile = "a"\n[[policy.lists.allow]]\nfile = "b"\n[[policy.lists.deny]]\nfile = "c"\n'
    found = read_policy(toml, str(tmp_path / "mta.toml"))[1]
    a = [(each.line, each.found) for each in found if each.file == f"{tmp_path}/a"]
    assert a == [(2, '"192.0.2.1/24"'), (3, '"\ufffd\ufffd"'), (4, '"<>"')]
    assert len([each for each in found if each.file == f"{tmp_path}/b"]) == PROBLEMS_MAXIMUM
    (c,) = [each for each in found if each.file == f"{tmp_path}/c"]
    assert (c.line, c.expected, c.found) == (0, "a file that can be read", "No such file or directory")
    assert "192.0.2.1/24 has host bits set" in next(each.expected for each in found if each.line == 2)


def test_lists_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries of all lists together are bounded, and so is the size of a file."""
    (tmp_path / "a").write_text("".join(f"{n}.example\n" for n in range(60)))
    (tmp_path / "b").write_text("x" * 2000)
    monkeypatch.setattr("mta.settings.policy_reading.ENTRIES_MAXIMUM", 100)
    monkeypatch.setattr("mta.settings.policy_reading.FILE_MAXIMUM", 1000)
    toml = '[[policy.lists.allow]]\nfile = "a"\n[[policy.lists.allow]]\nof = "helo"\nfile = "a"\n'
    toml += '[[policy.lists.deny]]\nfile = "b"\n'
    found = read_policy(toml, str(tmp_path / "mta.toml"))[1]
    assert [(each.file, each.line, each.expected, each.found) for each in found] == [
        (f"{tmp_path}/a", 41, "at most 100 entries in all lists", "more"),
        (f"{tmp_path}/b", 0, "at most 16 MiB", "more"),
    ]
    assert ENTRIES_MAXIMUM == 100_000


def test_what_contradicts_itself_in_lists_is_refused() -> None:
    """The same thing allowed and denied, an entry that cannot be about the subject, a table without any."""
    toml = """
[[policy.lists.allow]]
of = "sender"
entries = ["example.org", "<>"]
[[policy.lists.deny]]
of = "sender"
entries = ["EXAMPLE.org"]
[[policy.lists.deny]]
of = "peer"
entries = ["example.org", "alice@example.org", "<>", "postmaster@"]
[[policy.lists.deny]]
of = "recipient"
entries = ["<>"]
[[policy.lists.allow]]
reason = "none"
"""
    peer = "an entry for a list of peer names or addresses"
    assert problems(toml) == [
        (
            7,
            "[[policy.lists.deny]]",
            "an entry that is allowed or denied",
            "EXAMPLE.org, which is in both, see mta.toml:4",
        ),
        (10, "[[policy.lists.deny]]", peer, '"<>"'),
        (10, "[[policy.lists.deny]]", peer, '"alice@example.org"'),
        (10, "[[policy.lists.deny]]", peer, '"postmaster@"'),
        (13, "[[policy.lists.deny]]", "an entry for a list of recipient names or addresses", '"<>"'),
        (14, "[[policy.lists.allow]]", "entries or a file", "neither"),
    ]


def test_dns_lists_need_codes() -> None:
    """Zone and codes are required; codes are codes, and weights are for them."""
    toml = """
[[policy.dnsbl.list]]
zone = "bl.example"
codes = {"127.0.0.2" = "spam", "127.255.255.254" = "error", "2" = "x"}
weights = {"127.0.0.3" = 2}
of = []
[[policy.dnsbl.list]]
zone = "not a zone"
codes = {}
[[policy.dnsbl.list]]
"""
    codes = 'a code, "127.0.0.2", "127.0.0.4-7" or "127.0.*.1"'
    assert problems(toml) == [
        (
            4,
            "[policy.dnsbl.list.codes] 127.255.255.254",
            f"{codes} (127.255.255.0/24 is for errors of the list)",
            '"127.255.255.254"',
        ),
        (4, "[policy.dnsbl.list.codes] 2", f"{codes} (a listing is an address in 127.0.0.0/8)", '"2"'),
        (5, "[policy.dnsbl.list.weights] 127.0.0.3", "one of the codes, written as there", '"127.0.0.3"'),
        (6, "[policy.dnsbl.list] of", "what it is asked about", "nothing"),
        (
            8,
            "[policy.dnsbl.list] zone",
            'a fully qualified host name, "mail.example.org"',
            '"not a zone"',
        ),
        (9, "[policy.dnsbl.list] codes", "the codes of the list", "none"),
        (10, "[policy.dnsbl.list] zone", 'a fully qualified host name, "mail.example.org"', "nothing"),
        (10, "[policy.dnsbl.list] codes", "a table of names, each with text in quotes", "nothing"),
    ]


def test_times_and_bounds_go_together() -> None:
    """A window below the delay, a memory below the window, a refusal before the delay."""
    toml = '[policy.greylist]\ndelay = "1h"\nwindow = "30m"\nremember = "10m"\n'
    toml += "[policy.harvest]\ndelay_after = 50\nrefuse_after = 20\n"
    assert problems(toml) == [
        (3, "[policy.greylist] window", "more than delay", "less"),
        (4, "[policy.greylist] remember", "window or more", "less"),
        (7, "[policy.harvest] refuse_after", "delay_after or more", "less"),
    ]


def test_rules_are_checked() -> None:
    """A rule names a field or what a name looks like; its pattern compiles; absence stands alone."""
    toml = """
[[policy.headers.rule]]
field = "Sub ject"
action = "reject"
[[policy.headers.rule]]
field = "Subject"
pattern = "(a"
action = "reject"
[[policy.headers.rule]]
field = "Date"
absent = true
pattern = "x"
action = "reject"
[[policy.headers.rule]]
field = "X"
[[policy.attachments.rule]]
action = "reject"
[[policy.attachments.rule]]
extensions = [".exe"]
action = "explode"
"""
    found = problems(toml)
    assert [(line, key) for line, key, _, _ in found] == [
        (3, "[policy.headers.rule] field"),
        (7, "[policy.headers.rule] pattern"),
        (11, "[policy.headers.rule] absent"),
        (14, "[policy.headers.rule] action"),
        (16, "[[policy.attachments.rule]]"),
        (19, "[policy.attachments.rule] extensions"),
        (20, "[policy.attachments.rule] action"),
    ]
    assert "missing )" in found[1][2]
    assert found[4][2] == "extensions or a pattern"
    assert '("explode" is none of these)' in found[6][2]


def test_the_number_of_rules_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rules than the bound are refused."""
    monkeypatch.setattr("mta.settings.policy_reading.RULES_MAXIMUM", 2)
    toml = '[[policy.headers.rule]]\nfield = "X"\naction = "hold"\n' * 3
    assert [(expected, found) for _, _, expected, found in problems(toml)] == [("at most 2 rules", "3")]
