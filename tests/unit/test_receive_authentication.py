"""Whose mail it is, at a session: results in front of what is accepted, refusals, folders, and our own signatures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mta.mail.reason import Reason
from mta.mailauth.dmarc_row import decode
from mta.mailauth.keypair import record_text
from mta.mailauth.verification import Verifier
from mta.observe.event import Kind, Value
from mta.policy.chain import Chain
from mta.policy.facts import Stage
from mta.policy.verdict import AddHeader, ReplaceBody
from mta.receive.staging import MEMORY_MAXIMUM
from mta.settings.directory import Directory
from mta.settings.dkim import DkimKey, read_keys
from mta.settings.mailauth import MailauthDeadlines, MailauthSettings
from mta.settings.sections import Settings
from mta.spool.port import StagedContent
from tests.doubles.dkim_keys import ed25519_pem, rsa_pem
from tests.doubles.dns import ZoneResolver
from tests.doubles.reception import PASSWORD, Post, Talk, etc
from tests.doubles.spool import whole
from tests.unit.test_receive_policies import Rule

ZONE = """
    7.2.0.192.in-addr.arpa       PTR   client.example.org
    client.example.org           A     192.0.2.7
    example.org                  TXT   "v=spf1 ip4:192.0.2.7 -all"
    _dmarc.example.org           TXT   "v=DMARC1; p=reject"
    spoofed.example              TXT   "v=spf1 -all"
    _dmarc.spoofed.example       TXT   "v=DMARC1; p=reject"
    _dmarc.careful.example       TXT   "v=DMARC1; p=quarantine"
    silent.example               TXT   !SILENT
    _dmarc.silent.example        TXT   !SILENT
"""


def settings_with(root: Path, mailauth: MailauthSettings | None = None) -> Settings:
    """Load the configuration with checks as given."""
    return replace(etc(root), mailauth=mailauth or MailauthSettings())


class Checked(Post):
    """A reception that checks whose mail it is, against a zone."""

    def __init__(self, settings: Settings, zone: str = ZONE) -> None:
        super().__init__(settings)
        self.resolver = ZoneResolver(zone)
        verifier = Verifier(
            self.resolver, self.clock, self.journal.wall, "mx.example.test", lambda: self.settings.mailauth
        )
        self.checks = verifier.session

    def mail(
        self, sender: str, author: str, body: bytes = b"body\r\n", head: bytes = b"", talk: Talk | None = None
    ) -> bytes:
        """Send a message to bob from 192.0.2.7; return the last reply."""
        talk = talk or self.session()
        talk.send(f"MAIL FROM:<{sender}>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n".encode())
        return talk.send(head + f"From: {author}\r\nSubject: x\r\n\r\n".encode() + body + b".\r\n")

    def checked(self) -> Mapping[str, Value]:
        """The fields of the last check in the journal."""
        return [event for event in self.journal.events if event.kind is Kind.MESSAGE_CHECKED][-1].fields


def results(stored: bytes) -> str:
    """The Authentication-Results in front of a message, unfolded, without comments."""
    found = re.match(rb"(?:Return-Path|Delivered-To|X-Original-To):.*\n", stored)
    while found:
        stored = stored[found.end() :]
        found = re.match(rb"(?:Return-Path|Delivered-To|X-Original-To):.*\n", stored)
    field = re.match(rb"Authentication-Results:(.*\n(?:[ \t].*\n)*)", stored)
    assert field, stored
    return re.sub(r" \([^()]*\)", "", " ".join(field[1].decode().split()))


def test_mail_that_its_domain_vouches_for_says_so(tmp_path: Path) -> None:
    """The results stand in front of our Received field, and each check with its value is an event."""
    post = Checked(settings_with(tmp_path))
    assert post.mail("a@example.org", "a@example.org").startswith(b"250 ")
    [stored] = post.maildir("bob")
    said = results(stored)
    assert said.startswith("mx.example.test;")
    for each in ("iprev=pass", "spf=pass smtp.mailfrom=a@example.org", "dmarc=pass header.from=example.org"):
        assert each in said
    assert stored.index(b"Authentication-Results") < stored.index(b"Received:")
    checked = post.checked()
    assert (checked["disposition"], str(checked["spf"])[:16]) == ("accept", "pass example.org")
    assert str(checked["iprev"]).startswith("pass client.example.org: ")


def test_what_reports_are_made_of_is_kept(tmp_path: Path) -> None:
    """Each message with a DMARC result leaves a row for a report in the history, one that was refused too."""
    post = Checked(settings_with(tmp_path))
    post.mail("a@example.org", "a@example.org")
    post.mail("a@example.org", "ceo@spoofed.example")
    rows = [decode(str(event.fields["row"])) for event in post.journal.events if event.kind is Kind.DMARC_ROW]
    assert [(row.header_from, row.spf, row.disposition) for row in rows] == [
        ("example.org", "pass", "pass"),
        ("spoofed.example", "fail", "reject"),
    ]


def test_the_name_of_a_session_is_asked_about_once(tmp_path: Path) -> None:
    """SPF of HELO holds for all messages of a session that says it once."""
    post = Checked(settings_with(tmp_path))
    talk = post.session()
    for _ in range(3):
        assert post.mail("a@example.org", "a@example.org", talk=talk).startswith(b"250 ")
    assert [name for name, _ in post.resolver.asked].count("client.example.org") == 2, "its SPF record, and for iprev"


@pytest.mark.parametrize("checks", [True, False])
def test_mail_without_a_signature_says_so(tmp_path: Path, checks: bool) -> None:
    """Results and event tell an unsigned message from one whose signatures nobody has looked at."""
    post = Checked(settings_with(tmp_path, MailauthSettings(dkim=checks)))
    assert post.mail("a@example.org", "a@example.org").startswith(b"250 ")
    [stored] = post.maildir("bob")
    assert ("dkim=none;" in results(stored)) is checks
    said = "none: the message has no signature [RFC 8601 §2.7.1]" if checks else None
    assert post.checked().get("dkim") == said


def test_a_signature_that_cannot_be_read_is_named_by_its_reason_alone(tmp_path: Path) -> None:
    """An event names no key where the signature names no domain."""
    post = Checked(settings_with(tmp_path))
    assert post.mail("a@example.org", "a@example.org", head=b"DKIM-Signature: nonsense\r\n").startswith(b"250 ")
    said = str(post.checked()["dkim"])
    assert said.startswith("permerror: "), said
    assert "_domainkey" not in said


def test_a_spoof_of_a_domain_that_asks_for_it_is_refused(tmp_path: Path) -> None:
    """At the end of the data, with a reply that says why, and nothing is kept."""
    post = Checked(settings_with(tmp_path))
    answer = post.mail("a@example.org", "ceo@spoofed.example")
    assert answer.startswith(b"550 5.7.1 Rejected per DMARC policy for spoofed.example")
    assert b"neither SPF nor DKIM vouches for spoofed.example" in answer
    assert post.maildir("bob") == []
    [refused] = [event for event in post.journal.events if event.kind is Kind.MESSAGE_REFUSED]
    assert refused.reason is not None
    assert "_dmarc.spoofed.example" in refused.reason.source
    assert post.checked()["disposition"] == "reject"


def test_a_domain_may_ask_for_quarantine(tmp_path: Path) -> None:
    """What fails DMARC with p=quarantine goes into the folder, with its results."""
    post = Checked(settings_with(tmp_path))
    assert post.mail("a@example.org", "ceo@careful.example").startswith(b"250 ")
    [stored] = post.simulated.files("/mail/example.test/bob/Maildir/.Junk/new").values()
    assert "dmarc=fail header.from=careful.example policy.dmarc=quarantine" in results(stored)


@pytest.mark.parametrize(("defer_", "code"), [(False, b"250 "), (True, b"451 ")])
def test_a_name_server_that_does_not_answer_is_no_reason_to_refuse(tmp_path: Path, defer_: bool, code: bytes) -> None:
    """It is a temperror, and mail is put off only where the administrator wants that."""
    post = Checked(settings_with(tmp_path, MailauthSettings(defer_on_temperror=defer_)))
    talk = post.session()
    assert post.mail("a@silent.example", "a@silent.example", talk=talk).endswith(b"")
    for _ in range(10):
        post.clock.advance(10)
    assert talk.more().startswith(code)
    assert str(post.checked()["dmarc"]).startswith("temperror")
    assert not any(not each.called for each in post.resolver.silent), "no question is left behind"


def test_a_signature_of_a_silent_domain_does_not_save_a_spoof(tmp_path: Path) -> None:
    """At the deadline every signature keeps its own result: a key of somebody else that never comes changes nothing."""
    deadlines = MailauthDeadlines(message=5.0)
    zone = ZONE + "sel._domainkey.slow.example TXT !SILENT\n"
    post = Checked(settings_with(tmp_path, MailauthSettings(deadlines=deadlines)), zone)
    body = base64.b64encode(hashlib.sha256(b"body\r\n").digest())
    signature = b"DKIM-Signature: v=1; a=rsa-sha256; d=slow.example; s=sel; h=from; bh=" + body + b"; b=AAAA\r\n"
    talk = post.session()
    assert post.mail("a@example.org", "ceo@spoofed.example", head=signature, talk=talk) == b""
    post.clock.advance(5)
    assert talk.more().startswith(b"550 5.7.1 Rejected per DMARC policy for spoofed.example")
    assert str(post.checked()["dkim"]).startswith("temperror sel._domainkey.slow.example")


def test_mail_from_trusted_networks_is_not_checked(tmp_path: Path) -> None:
    """Nothing is asked, and no results are written."""
    post = Checked(settings_with(tmp_path))
    talk = post.session(address="127.0.0.1")
    assert post.mail("a@example.org", "ceo@spoofed.example", talk=talk).startswith(b"250 ")
    assert post.resolver.asked == []
    assert b"Authentication-Results" not in post.maildir("bob")[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7"])
@pytest.mark.parametrize("size", [10, MEMORY_MAXIMUM])
def test_results_in_our_name_that_others_wrote_are_removed(tmp_path: Path, address: str, size: int) -> None:
    """Whoever sends it, and however large it is; results in other names stay."""
    post = Checked(settings_with(tmp_path))
    forged = b"Authentication-Results: mx.example.test; dmarc=pass\r\nAuthentication-Results: other.example; none\r\n"
    talk = post.session(address=address)
    post.mail("a@example.org", "a@example.org", b"x" * size + b"\r\n", forged, talk)
    [stored] = post.maildir("bob")
    assert b"mx.example.test; dmarc=pass" not in stored
    assert b"Authentication-Results: other.example; none" in stored


def test_policies_learn_what_is_known(tmp_path: Path) -> None:
    """SPF is known from RCPT on, everything at the end; a policy is asked when it is known, not before."""
    post = Checked(settings_with(tmp_path))
    rule = Rule(lambda _: None, frozenset({Stage.HELO, Stage.RCPT, Stage.MESSAGE}))
    post.chain = Chain([rule])
    assert post.mail("a@example.org", "a@example.org").startswith(b"250 ")
    helo, rcpt, message = rule.asked
    assert helo.iprev is not None
    assert helo.iprev.name == "client.example.org"
    assert rcpt.spf is not None
    assert rcpt.spf.result.value == "pass"
    assert message.authentication.dmarc is not None
    assert message.authentication.dmarc.result.value == "pass"


def test_a_peer_that_goes_away_leaves_no_question_behind(tmp_path: Path) -> None:
    """What is asked for a message whose peer is gone is cancelled, and nothing of the message is kept."""
    post = Checked(settings_with(tmp_path))
    talk = post.session()
    post.mail("a@silent.example", "a@silent.example", b"x" * MEMORY_MAXIMUM + b"\r\n", talk=talk)
    ended: list[object] = []
    assert talk.waiting is not None
    talk.waiting.addBoth(ended.append)
    talk.session.lost(Reason("gone"))
    assert ended == [None], "that the questions end is no fault"
    post.clock.advance(100)
    assert all(each.called for each in post.resolver.silent)
    assert post.simulated.files("/state/staging") == {}
    assert post.spool.page() == []


def test_a_peer_that_goes_away_while_policies_wait_is_no_fault(tmp_path: Path) -> None:
    """A policy that waits for what is asked about the peer ends with the peer, and nobody calls that a bug."""
    post = Checked(settings_with(tmp_path))
    post.chain = Chain([Rule(lambda _: None, frozenset({Stage.RCPT}))])
    talk = post.session()
    talk.send(b"MAIL FROM:<a@silent.example>\r\n")
    assert talk.send(b"RCPT TO:<bob@example.test>\r\n") == b""
    ended: list[object] = []
    assert talk.waiting is not None
    talk.waiting.addBoth(ended.append)
    talk.session.lost(Reason("gone"))
    assert ended == [None]


# Ours


def keys(root: Path) -> tuple[DkimKey, ...]:
    """An RSA and an Ed25519 key of example.test."""
    directory = root / "dkim"
    directory.mkdir()
    (directory / "r1.pem").write_bytes(rsa_pem())
    (directory / "e1.pem").write_bytes(ed25519_pem(1))
    for file in directory.iterdir():
        file.chmod(0o600)
    return read_keys(str(directory), "example.test", [])


def ours(root: Path) -> tuple[Post, Checked]:
    """A reception that signs, and one elsewhere that finds the keys in the DNS."""
    settings = etc(root)
    made = keys(root)
    domain = settings.directory.domains["example.test"]
    directory = Directory([replace(domain, dkim=made)], "example.test", settings.directory.source)
    settings = replace(settings, directory=directory)
    post = Post(settings)
    records = [f'{key.selector}._domainkey.example.test TXT "{record_text(key.pem)}"' for key in made]
    elsewhere = Checked(
        settings_with(root), "\n".join([*records, '_dmarc.example.test TXT "v=DMARC1; p=reject; adkim=s"'])
    )
    return post, elsewhere


@pytest.mark.parametrize("size", [10, MEMORY_MAXIMUM])
def test_what_we_submit_leaves_signed_and_verifies_elsewhere(tmp_path: Path, size: int) -> None:
    """A message of alice's bears a signature of each key of her domain, and both verify at a server elsewhere."""
    post, elsewhere = ours(tmp_path)
    talk = post.session("smtpd", tls=True)
    word = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode())
    assert talk.codes(b"AUTH PLAIN " + word + b"\r\n") == ["235 2.7.0"]
    talk.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<x@example.net>\r\nDATA\r\n")
    body = b"  two  words \r\n.. dots\r\n" + b"x" * size + b"\r\n\r\n"
    assert talk.send(b"From: alice@example.test\r\nSubject: x\r\n\r\n" + body + b".\r\n").startswith(b"250 ")
    [message] = post.handed
    content = (
        whole(post.spool.content(message.queue_id)) if isinstance(message.content, StagedContent) else message.content
    )
    assert len(content) == message.size
    assert content.startswith(b"Received:"), "trace fields stand above signatures"
    assert content.count(b"\r\nDKIM-Signature:") == 2
    other = elsewhere.session(address="198.51.100.9")
    other.send(b"MAIL FROM:<bounce@example.net>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert other.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n").startswith(b"250 ")
    checked = elsewhere.checked()
    assert str(checked["dkim"]).count("pass ") == 2
    assert str(checked["dmarc"]).startswith("pass example.test")


def test_a_body_that_a_policy_replaced_is_signed_as_it_leaves(tmp_path: Path) -> None:
    """The signature covers what policies made of the message."""
    post, elsewhere = ours(tmp_path)
    why = Reason("because")
    changes = [ReplaceBody(why, b"new\r\n"), AddHeader(why, "Reply-To", "x@y.example")]
    post.chain = Chain([Rule(lambda _: changes, frozenset({Stage.MESSAGE}))])
    talk = post.session("smtpd", tls=True)
    talk.send(b"AUTH PLAIN " + base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()) + b"\r\n")
    talk.send(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<x@example.net>\r\nDATA\r\n")
    assert talk.send(b"From: alice@example.test\r\n\r\nold\r\n.\r\n").startswith(b"250 ")
    [message] = post.handed
    assert isinstance(message.content, bytes)
    assert message.content.endswith(b"\r\n\r\nnew\r\n")
    other = elsewhere.session(address="198.51.100.9")
    other.send(b"MAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    assert other.send(message.content + b".\r\n").startswith(b"250 ")
    assert str(elsewhere.checked()["dkim"]).count("pass ") == 2


def test_a_message_of_another_domain_is_not_signed(tmp_path: Path) -> None:
    """Nor is one whose From does not tell of one domain."""
    post, _ = ours(tmp_path)
    assert post.reception.signers.begin(b"From: a@example.net\r\n") is None
    assert post.reception.signers.begin(b"From: a@example.test\r\nFrom: b@example.test\r\n") is None
    assert post.reception.signers.begin(b"From: a@sub.example.test\r\n") is not None, "the domain above it is ours"


def test_what_an_alias_sends_on_is_sealed(tmp_path: Path) -> None:
    """Mail that leaves again bears an ARC set of the domain that sends it on; elsewhere it validates, and is believed
    if the sealer is trusted.
    """
    _, elsewhere = ours(tmp_path)
    forwarder = Checked(elsewhere.settings)
    directory = forwarder.settings.directory
    domain = replace(directory.domains["example.test"], dkim=read_keys(str(tmp_path / "dkim"), "example.test", []))
    forwarder.settings = replace(forwarder.settings, directory=Directory([domain], "example.test", directory.source))
    talk = forwarder.session()
    talk.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<outside@example.test>\r\nDATA\r\n")
    assert talk.send(b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n.\r\n").startswith(b"250 ")
    [message] = forwarder.handed
    assert isinstance(message.content, bytes)
    assert message.content.startswith(b"ARC-Seal: i=1;")
    elsewhere.resolver.zone.add("_dmarc.example.org", "TXT", '"v=DMARC1; p=reject"')

    def sent_on(to: Checked) -> bytes:
        other = to.session(address="198.51.100.9")
        other.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        assert isinstance(message.content, bytes)
        return other.send(message.content + b".\r\n")

    assert sent_on(elsewhere).startswith(b"550 5.7.1 Rejected per DMARC policy")
    assert str(elsewhere.checked()["arc"]).startswith("pass example.test: ")
    trusting = MailauthSettings(arc_sealers=("example.test",))
    elsewhere.settings = replace(elsewhere.settings, mailauth=trusting)
    assert sent_on(elsewhere).startswith(b"250 ")
