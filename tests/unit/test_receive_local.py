"""The rules of the local socket: who a user of this machine may be, and what is added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mta.board.alone import OwnTable
from mta.disk.owner import user_name
from mta.observe.event import Kind
from mta.policy.caps import Caps, CapsMemory
from mta.receive.local import Local
from mta.settings.caps import CapsSettings, UserCaps
from tests.doubles.reception import TOML, Post, Talk, etc
from tests.doubles.sync import inline

LOCAL = """
[local]
socket = "submit.sock"
[local.senders]
carol = ["shop@example.net", "*@example.test"]
"""
UIDS = {0: "root", 7: "mta", 1000: "alice", 1001: "carol"}
OWN = 7


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make a reception for mx.example.test with rights for carol."""
    return Post(etc(tmp_path, TOML + LOCAL))


def talk(post: Post, uid: int) -> Talk:
    """Open a session of a user of this machine."""
    rules = Local(post.reception, lambda number: UIDS.get(number, str(number)), OWN)
    return Talk(post, rules, False, "127.0.0.1", True, uid)


def submit(session: Talk, sender: str, head: bytes = b"", recipient: str = "bob@example.test") -> list[str]:
    """Submit a message; return the replies."""
    opening = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    return session.codes(opening + head + b"Subject: x\r\n\r\nbody\r\n.\r\n")


TAKEN = ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
REFUSED = ["553 5.7.1", "503 5.5.1", "503 5.5.1"]


@pytest.mark.parametrize(
    ("uid", "sender", "taken"),
    [
        (1000, "alice@mx.example.test", True),
        (1000, "ALICE@MX.example.test", True),
        (1000, "", True),
        (1000, "alice@example.test", False),  # a mailbox of that name is somebody else's
        (1000, "root@mx.example.test", False),
        (1000, "alice@example.net", False),
        (1001, "shop@example.net", True),
        (1001, "alice@example.test", True),
        (1001, "news@example.net", False),
        (1234, "1234@mx.example.test", True),
        (1234, "alice@mx.example.test", False),
        (0, "anybody@example.org", True),
        (OWN, "anybody@example.org", True),
    ],
)
def test_who_may_send_as_whom(post: Post, uid: int, sender: str, taken: bool) -> None:
    """A user is itself and what [local.senders] says; root and the server's user are anybody; nobody else is."""
    replies = submit(talk(post, uid), sender)
    assert replies == TAKEN if taken else replies[0] == "553 5.7.1"


def test_from_is_judged_as_the_sender_is(post: Post) -> None:
    """Every address of From must be the user's own; the refusal names address and setting."""
    session = talk(post, 1000)
    assert submit(session, "alice@mx.example.test", b"From: bob@example.test\r\n")[-1] == "550 5.7.1"
    refused = post.journal.of(Kind.MESSAGE_REFUSED)[0]
    assert "[local.senders]" in refused.fields["reply"]
    assert str(refused.reason) == "bob@example.test does not belong to unix:alice [[local]]"
    assert submit(session, "alice@mx.example.test", b"From: Alice <alice@mx.example.test>\r\n")[-1] == "250 2.0.0"
    assert submit(session, "alice@mx.example.test", b"From: root (Cron)\r\n")[-1] == "550 5.7.1"


@pytest.mark.parametrize(
    ("head", "taken", "kept"),
    [
        (b"", True, b"Sender: alice@mx.example.test\n"),
        (b"Sender: alice@mx.example.test\r\n", True, b"Sender: alice@mx.example.test\n"),
        (b"Sender: bob@mx.example.test\r\n", False, b""),
        (b"Sender: alice@mx.example.test\r\nSender: x@y.example\r\n", False, b""),
        (b"Sender: nonsense\r\n", False, b""),
    ],
)
def test_cron_writes_as_root(post: Post, head: bytes, taken: bool, kept: bytes) -> None:
    """From may name root of this machine, as cron has it for every user's job; Sender says who it was, once."""
    replies = submit(
        talk(post, 1000), "alice@mx.example.test", b"From: root@mx.example.test (Cron Daemon)\r\n" + head
    )
    assert (replies == TAKEN) == taken
    assert [each.count(b"Sender: ") for each in post.maildir("bob")] == ([1] if taken else [])
    assert all(kept in each for each in post.maildir("bob"))


def test_root_may_stand_in_from_alone(post: Post) -> None:
    """The envelope sender stays the user, and what is root's elsewhere is not this machine's."""
    assert submit(talk(post, 1000), "root@mx.example.test")[0] == "553 5.7.1"
    assert submit(talk(post, 1000), "alice@mx.example.test", b"From: root@example.test\r\n")[-1] == "550 5.7.1"


def test_missing_fields_are_added(post: Post) -> None:
    """From, Date and Message-ID are added where they are missing, and Received names the uid, no address."""
    submit(talk(post, 1000), "alice@mx.example.test")
    stored = post.maildir("bob")[0]
    assert b"\nFrom: alice@mx.example.test\n" in stored
    assert b"\nDate: " in stored
    assert b"\nMessage-ID: <" in stored
    assert b"Received: by mx.example.test (mta, from userid 1000)\n\tid " in stored
    assert b"127.0.0.1" not in stored
    submit(talk(post, 1000), "alice@mx.example.test", b"From: alice@mx.example.test\r\n")
    assert all(each.count(b"From:") == 1 for each in post.maildir("bob"))


def test_the_login_is_the_user(post: Post) -> None:
    """Log and queue know the message as unix:alice's: limits and questions go by that."""
    submit(talk(post, 1000), "alice@mx.example.test", recipient="someone@example.net")
    assert post.handed[0].origin.login == "unix:alice"
    assert post.handed[0].origin.service == "smtpd"
    accepted = post.journal.of(Kind.MESSAGE_ACCEPTED)[0]
    assert accepted.fields["login"] == "unix:alice"
    assert accepted.fields["allowed"] == "unix:alice may send as alice@mx.example.test [[local]]"


def test_the_domain_of_names_is_told(post: Post, tmp_path: Path) -> None:
    """EHLO tells what to put behind a name: the host name, or [local] domain, as which a user may send then."""
    assert b"250 XORIGIN mx.example.test\r\n" in talk(post, 1000).send(b"EHLO x\r\n")
    post.settings = replace(post.settings, local=replace(post.settings.local, domain="example.test"))
    session = talk(post, 1000)
    assert b"250 XORIGIN example.test\r\n" in session.send(b"EHLO x\r\n")
    assert submit(session, "alice@example.test") == TAKEN
    assert submit(session, "alice@mx.example.test") == TAKEN


def test_no_login_is_offered(post: Post) -> None:
    """There is no AUTH and no STARTTLS: the kernel has told who it is."""
    session = talk(post, 1000)
    hello = session.send(b"EHLO x\r\n")
    assert b"AUTH" not in hello
    assert b"STARTTLS" not in hello
    assert session.codes(b"AUTH PLAIN AAA=\r\n")[0].startswith("50")


def test_unknown_mailboxes_of_ours_are_refused(post: Post) -> None:
    """A recipient of ours that is not there is refused at once, as for everybody."""
    assert submit(talk(post, 1000), "alice@mx.example.test", recipient="nosuch@example.test")[1] == "550 5.1.1"


def test_rights_are_those_of_now(post: Post) -> None:
    """A reload counts for the next message of an open session."""
    session = talk(post, 1000)
    assert submit(session, "x@example.net")[0] == "553 5.7.1"
    senders = {"alice": post.settings.local.senders["carol"]}
    post.settings = replace(post.settings, local=replace(post.settings.local, senders=senders))
    assert session.codes(b"RSET\r\n") == ["250 2.0.0"]
    assert submit(session, "shop@example.net") == TAKEN


def test_a_user_has_a_cap_and_root_has_none(post: Post, tmp_path: Path) -> None:
    """What a user of this machine may send in a day is bounded, by [smtpd.caps] or its own number; root is not."""
    memory = CapsMemory(str(tmp_path), 0, post.clock, inline, post.journal)
    memory.start()
    counts = memory.counts, memory.correspondents
    post.reception.caps = Caps(lambda: CapsSettings(messages=1), *counts, post.clock, post.journal, OwnTable())
    post.settings = replace(post.settings, local=replace(post.settings.local, caps={"carol": UserCaps(messages=2)}))
    for uid, sender, most in ((1000, "alice", 1), (1001, "carol", 2), (0, "root", 3)):
        session = talk(post, uid)
        taken = [submit(session, f"{sender}@mx.example.test")[1] for _ in range(3)]
        assert taken == ["250 2.1.5"] * most + ["450 4.7.1"] * (3 - most)


def test_a_name_is_asked_for_once(post: Post) -> None:
    """Names may come from far away: a session asks for its own at its beginning, and never again."""
    asked: list[int] = []

    def name_of(uid: int) -> str:
        asked.append(uid)
        return UIDS[uid]

    session = Talk(post, Local(post.reception, name_of, OWN), False, "127.0.0.1", True, 1000)
    assert submit(session, "alice@mx.example.test") == TAKEN
    assert asked == [1000]


def test_a_uid_without_a_name_is_its_number() -> None:
    """A user whom passwd does not know is called by its number."""
    assert user_name(0) == "root"
    assert user_name(3_999_999_999) == "3999999999"
