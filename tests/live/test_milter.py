"""Real mail filters, asked by our milter client: rspamd, ClamAV, OpenDKIM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.peers.milters import EICAR, GTUBE, Key, Message, ask, clamav, rspamd, signer, verifier
from tests.live.peers.name_server import NameServer
from tests.live.peers.process import free_ports

pytestmark = pytest.mark.live

HEAD = (
    b"From: Alice <alice@client.test>\r\nTo:bob@example.test\r\nCc:\tcarol@example.test\r\n"
    b"Subject: folded\r\n  with spaces,\r\n\twith a tab, and a space at the end \r\n"
    b"Date: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
)
"""A head that only who keeps every octet can sign and verify with "simple" canonicalization (RFC 6376 §3.4.1)."""
BODY = b"Hello.\r\n..dots\r\n \r\n8 bits \xfc\r\n\r\n\r\n" * 8000
"""Longer than one piece of a body."""


@pytest.fixture(scope="module")
def key() -> Key:
    """The key of client.test."""
    return Key("client.test")


@pytest.fixture(scope="module")
def spam_filter(place: Path, key: Key) -> Iterator[str]:
    """An rspamd that finds the key in DNS."""
    port = free_ports(1)[0]
    public = key.record.partition("p=")[2]
    name_server = NameServer(
        place / "dns", port, {"client.test": "192.0.2.7"}, [f'{key.name} TXT "p={public[:200]}" "{public[200:]}"']
    )
    try:
        with rspamd(place / "rspamd", port) as address:
            yield address
    finally:
        name_server.stop()


@pytest.fixture(scope="module")
def virus_filter(place: Path) -> Iterator[str]:
    """A clamav-milter that refuses viruses."""
    with clamav(place / "clamav") as address:
        yield address


@pytest.fixture(scope="module")
def signing(place: Path, key: Key) -> Iterator[str]:
    """An OpenDKIM that signs for client.test."""
    with signer(place / "signer", key) as address:
        yield address


@pytest.fixture(scope="module")
def verifying(place: Path, key: Key) -> Iterator[str]:
    """An OpenDKIM that verifies."""
    with verifier(place / "verifier", key) as address:
        yield address


def milter(name: str, address: str, **more: object) -> dict[str, object]:
    """Settings of a filter."""
    return {"name": name, "address": address, "source": "etc/mta.toml:1", **more}


def test_rspamd_changes_fields(spam_filter: str) -> None:
    """Rspamd's fields are added, those that it removes are gone, all of them, message after message of a session."""
    content = b"X-Spam: forged\r\n" + HEAD + b"X-Spam: again\r\n\r\nHello.\r\n"
    message = Message(content, name="client.test", new_session=False)
    for number, outcome in enumerate(ask([milter("rspamd", spam_filter)], message, message)):
        assert outcome.reply.startswith("250")
        assert outcome.content.startswith(HEAD)
        assert b"X-Spam:" not in outcome.content
        assert b"\r\nX-Spamd-Result: default" in outcome.content
        assert b"\r\nX-Rspamd-Queue-Id: queue%d\r\n" % number in outcome.content
        assert outcome.content.endswith(b"\r\n\r\nHello.\r\n")


def test_rspamd_refuses_gtube(spam_filter: str) -> None:
    """What rspamd takes for spam is refused with its reply, and the reason names the filter and the settings."""
    [outcome] = ask([milter("rspamd", spam_filter)], Message(HEAD + b"\r\n" + GTUBE + b"\r\n"))
    assert outcome.reply == "554 5.7.1 Gtube pattern"
    assert outcome.said == [["rspamd", "Reject", "rspamd says 554 5.7.1 Gtube pattern [etc/mta.toml:1]"]]


def test_rspamd_verifies_what_opendkim_signs(spam_filter: str, signing: str) -> None:
    """A signature over folded fields, made by the filter in front, holds for rspamd: it gets every octet.

    rspamd writes each field anew with one space behind the colon, so the fields that have another are left out here.
    """
    head = HEAD.replace(b"To:bob", b"To: bob").replace(b"Cc:\t", b"Cc: ")
    [outcome] = ask([milter("opendkim", signing), milter("rspamd", spam_filter)], Message(head + b"\r\n" + BODY))
    assert outcome.content.startswith(b"DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=client.test; s=sel;")
    assert b"R_DKIM_ALLOW" in outcome.content


def test_clamav_refuses_a_virus(virus_filter: str) -> None:
    """A body with EICAR is refused, and so is one that hides behind a line of the head that is no field."""
    hidden = HEAD + b"no field\r\n" + EICAR + b"\r\n\r\nbody\r\n"
    outcomes = ask(
        [milter("clamav", virus_filter)],
        Message(HEAD + b"\r\n" + EICAR + b"\r\n"),
        Message(hidden),
        Message(HEAD + b"\r\n" + BODY, new_session=False),
    )
    assert [outcome.reply for outcome in outcomes[:2]] == ["550 5.7.1 infected by Eicar-Test.UNOFFICIAL"] * 2
    assert outcomes[2].reply.startswith("250"), "after a refusal the session goes on"
    assert b"\r\nX-Virus-Status: Clean\r\n" in outcomes[2].content
    assert outcomes[2].content.endswith(BODY)


def test_a_field_that_is_longer_than_libmilter_takes(virus_filter: str) -> None:
    """A field of 100,000 octets is told cut, which libmilter bears, and stored whole."""
    content = b"To: " + b"x" * 100_000 + b"\r\n" + HEAD + b"\r\nHello.\r\n"
    [outcome] = ask([milter("clamav", virus_filter)], Message(content))
    assert outcome.reply.startswith("250")
    assert outcome.content.startswith(b"To: " + b"x" * 100_000 + b"\r\n" + HEAD)


@pytest.mark.parametrize(
    ("on_infected", "kind"), [("Quarantine", "Hold"), ("Blackhole", "Discard"), ("Defer", "Defer")]
)
def test_clamav_holds_or_discards_a_virus(place: Path, on_infected: str, kind: str) -> None:
    """Quarantine holds a message, with a reason; blackhole discards it; defer is 451."""
    with clamav(place / f"clamav-{on_infected}", on_infected) as address:
        [outcome] = ask([milter("clamav", address)], Message(HEAD + b"\r\n" + EICAR + b"\r\n"))
    assert outcome.said[-1][1] == kind
    assert outcome.reply.startswith("451 4.7.1" if kind == "Defer" else "250")
    assert outcome.held == ("clamav: quarantined by clamav-milter [etc/mta.toml:1]" if kind == "Hold" else "")


def test_opendkim_signs_and_verifies(signing: str, verifying: str) -> None:
    """What one OpenDKIM signs another one verifies, "simple" over odd fields and a long body; one octet more is bad."""
    [signed] = ask([milter("signer", signing)], Message(HEAD + b"\r\n" + BODY))
    name, _, rest = signed.content.partition(b": ")
    assert name == b"DKIM-Signature", "a field that is inserted at 1 comes in front: our own Received is not there yet"
    assert rest.endswith(HEAD + b"\r\n" + BODY)
    good, bad, worse = ask(
        [milter("verifier", verifying)],
        Message(signed.content),
        Message(signed.content.replace(b"To:bob", b"To: bob")),
        Message(signed.content + b"x\r\n"),
    )
    assert good.content.startswith(b"Authentication-Results: mx.example.test;\r\n\tdkim=pass")
    assert [bad.reply[:9], worse.reply[:9]] == ["550 5.7.0"] * 2


def test_a_later_filter_sees_what_an_earlier_one_did(signing: str, verifying: str, virus_filter: str) -> None:
    """The verifier finds the signature that the signer added, and a scanner between them takes nothing from it."""
    filters = [milter("signer", signing), milter("clamav", virus_filter), milter("verifier", verifying)]
    [outcome] = ask(filters, Message(HEAD + b"\r\n" + BODY))
    assert outcome.content.startswith(b"Authentication-Results: mx.example.test;\r\n\tdkim=pass")
    assert [said[0] for said in outcome.said if said[1] == "AddHeader"] == ["signer", "clamav", "clamav", "verifier"]


def test_opendkim_signs_after_a_login(signing: str) -> None:
    """OpenDKIM signs for who has logged in, wherever from: the macro {auth_authen} arrives. Nobody else is signed."""
    message = Message(HEAD + b"\r\nHello.\r\n", address="203.0.113.9")
    plain, logged_in = ask(
        [milter("signer", signing)], message, Message(message.content, address="203.0.113.9", login="alice@client.test")
    )
    assert plain.content == message.content
    assert logged_in.content.startswith(b"DKIM-Signature: ")


@pytest.mark.parametrize(
    ("failure", "reply"), [("tempfail", "421 4.7.1"), ("reject", "554 5.7.1"), ("accept", "250 2.0.0")]
)
def test_a_filter_that_is_not_there(place: Path, failure: str, reply: str) -> None:
    """A socket that nobody listens on is a fault at connect, and what comes of it is the administrator's choice."""
    gone = f"unix:{place}/nobody.sock"
    [outcome] = ask([milter("gone", gone, failure=failure)], Message(HEAD + b"\r\nHello.\r\n"))
    assert outcome.reply.startswith(reply)
    assert f"gone at {gone}: no connection: " in outcome.said[0][2]
