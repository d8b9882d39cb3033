"""What the journal is told of a message on its way in: who brings it, where it ends, by which lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.policy.chain import Ruling, Said
from mta.policy.facts import Stage
from mta.policy.verdict import Accept, AddHeader, ChangeSender, Delay, File, Redirect, Tag
from mta.smtp.address import Mailbox
from tests.doubles.journal import RecordingJournal
from tests.doubles.reception import TOML, Post, etc
from tests.unit.test_receive_smtpd import alice, submit

ALIASES = "postmaster: alice\nabuse: alice\nteam: alice, bob, dave@example.net\n"


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make a reception with an alias of three."""
    return Post(etc(tmp_path, TOML, ALIASES))


def test_a_message_says_who_brings_it_and_where_it_is(post: Post) -> None:
    """Service, address, name, TLS, login, the file in the Maildir, and to how many: all in its one event."""
    assert submit(alice(post))[-1] == "250 2.0.0"
    (event,) = post.journal.of(Kind.MESSAGE_ACCEPTED)
    told = {name: event.fields[name] for name in ("service", "address", "helo", "login", "place", "batch", "copies")}
    assert told == {
        "service": "smtpd",
        "address": "192.0.2.7",
        "helo": "client.example.org",
        "login": "alice@example.test",
        "place": "maildir",
        "batch": 1,
        "copies": 1,
    }
    assert str(event.fields["tls"]).startswith("TLSv1.3 ")
    (name,) = post.simulated.files("/mail/example.test/bob/Maildir/new")
    assert str(event.fields["path"]).rpartition("/")[2] == name.rpartition("/")[2]
    assert "expanded" not in event.fields


def test_a_message_says_where_aliases_lead_and_by_which_lines(post: Post) -> None:
    """The recipients after aliases, and the line of the alias."""
    assert submit(alice(post), recipient="team@example.test")[-1] == "250 2.0.0"
    (event,) = post.journal.of(Kind.MESSAGE_ACCEPTED)
    assert event.fields["recipients"] == "team@example.test"
    assert event.fields["expanded"] == "alice@example.test bob@example.test dave@example.net"
    assert event.fields["copies"] == 3
    assert "example.test/aliases:3" in str(event.fields["aliases"])
    assert "path" not in event.fields


def test_a_message_that_is_refused_at_its_end_has_its_id(post: Post) -> None:
    """What was said of a message and its refusal are found by one queue id, and by its Message-ID."""
    content = b"From: eve@example.org\r\nMessage-ID: <42@x>\r\n\r\nbody\r\n"
    assert submit(alice(post), content)[-1].startswith("550")
    (event,) = post.journal.of(Kind.MESSAGE_REFUSED)
    assert len(event.queue_id) == 18
    assert event.session == "session1"


def test_the_end_of_a_session_says_the_port_of_the_peer(post: Post) -> None:
    """Whoever complains at the peer's provider needs address, port and time (RFC 6302)."""
    talk = post.session()
    talk.session.lost(Reason("the connection was closed"))
    (event,) = post.journal.of(Kind.SESSION_CLOSED)
    assert (event.fields["address"], event.fields["port"]) == ("192.0.2.7", 4321)


def test_a_verdict_says_what_it_names() -> None:
    """The tag, the field, the folder, the seconds, the mailbox: beside the reason."""
    why = Reason("why", "etc/policy/x.py:3")
    verdicts = {
        Tag(why, "junk"): "junk",
        AddHeader(why, "X-Spam", "yes"): "X-Spam",
        File(why, "Junk"): "Junk",
        Delay(why, 2.5): "2.5 s",
        Redirect(why, Mailbox("bob", "x")): "bob@x",
        ChangeSender(why, None): "<>",
        Accept(why): None,
    }
    journal = RecordingJournal()
    Ruling(tuple(Said("x", verdict) for verdict in verdicts)).note(journal, Stage.MESSAGE)
    assert [event.fields.get("what") for event in journal.events] == list(verdicts.values())
