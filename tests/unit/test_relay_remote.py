"""Delivery to the hosts of a route, against scripted servers on a network in memory."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, error, task

from mta.mail.envelope import Envelope, Recipient
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.mail.route import Host, Login, Route, TlsLevel
from mta.observe.event import Kind
from mta.relay.remote import AttemptLimits, RemoteDelivery
from mta.settings.sections import RelaySettings
from mta.smtp.address import Mailbox
from mta.smtp.status import Status
from mta.spool.port import Content, Origin, QueuedMessage, QueuedRecipient, State, StoredContent
from mta.tls.context import ClientContexts
from tests.doubles.disk import SimulatedDisk
from tests.doubles.journal import RecordingJournal
from tests.doubles.network import CLOSE, SILENCE, BrokenContext, Network, ServerContext, SmtpPeer
from tests.doubles.sync import result

A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::3"
CONTENT = b"Subject: hello\r\n\r\n.dot\r\n"
REFUSED = error.ConnectionRefusedError("refused")
US, ALICE, BOB = Mailbox("us", "example.org"), Mailbox("alice", "example.net"), Mailbox("bob", "example.net")


def message(
    *mailboxes: Mailbox,
    sender: Mailbox | None = US,
    eight_bit: bool = False,
    smtputf8: bool = False,
) -> QueuedMessage:
    """A message in the queue; the recipients are numbered from 10."""
    recipients = tuple(Recipient(mailbox) for mailbox in mailboxes)
    queued = tuple(
        QueuedRecipient(10 + number, recipient, "example.net", State.ACTIVE, 0.0, 0, 0, None, False)
        for number, recipient in enumerate(recipients)
    )
    envelope = Envelope(sender, recipients, smtputf8=smtputf8)
    return QueuedMessage("id", 0.0, envelope, len(CONTENT), eight_bit, Origin("smtpd"), queued)


class World:
    """A `RemoteDelivery`, its network, and one route for everything."""

    def __init__(
        self,
        *hosts: Host,
        settings: RelaySettings | None = None,
        limits: AttemptLimits | None = None,
        authorities: str = "",
    ) -> None:
        self.network = Network()
        self.clock = task.Clock()
        self.journal = RecordingJournal()
        self.settings = settings or RelaySettings()
        self.hosts = hosts or (Host("mx.example.net", (A,)),)
        self.decision: Route | Deferred | Failed = Route(self.hosts, Reason("MX of example.net", "DNS"))
        self.delivery = RemoteDelivery(
            self.route,
            self.network.endpoint,
            ClientContexts(authorities),
            "us.example",
            lambda: self.settings,
            self.journal,
            self.clock,
            limits,
        )

    async def route(self, destination: str) -> Route | Deferred | Failed:
        """The route."""
        assert destination == "example.net"
        return self.decision

    def listen(self, address: str, *peers: SmtpPeer | Exception) -> None:
        """Say who answers at an address, one after the other."""
        self.network.listen(
            address, *(peer if isinstance(peer, Exception) else (lambda peer=peer: peer) for peer in peers)
        )

    def start(self, queued: QueuedMessage, content: Content = CONTENT) -> defer.Deferred[Mapping[int, Outcome]]:
        """Begin to deliver, move octets until nothing moves."""
        waiting = defer.ensureDeferred(self.delivery.deliver(queued, content, queued.recipients))
        self.network.move()
        return waiting

    def deliver(self, queued: QueuedMessage | None = None, content: Content = CONTENT) -> Sequence[Any]:
        """Deliver; gives the outcomes in the order of the recipients."""
        queued = queued or message(ALICE)
        outcomes = result(self.start(queued, content))
        assert sorted(outcomes) == [recipient.number for recipient in queued.recipients]
        return [outcomes[recipient.number] for recipient in queued.recipients]

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.network.move()

    def end(self) -> None:
        """Stop; nothing is left: no connection, no delayed call."""
        stopping = self.delivery.stop()
        self.network.move()
        result(stopping)
        assert not any(wire.connected for wire in self.network.wires)
        assert self.clock.getDelayedCalls() == []


def world(peer: SmtpPeer, **host: Any) -> World:
    """A world of one host at one address."""
    made = World(Host("mx.example.net", (A,), **host))
    made.listen(A, peer)
    return made


# The plain case


def test_a_message_is_delivered() -> None:
    """One transaction for all recipients; the outcome names host, reply, status and what protected it."""
    peer = SmtpPeer(script={"content": b"250 2.6.0 queued as 1a2b\r\n"})
    here = world(peer)
    outcomes = here.deliver(message(ALICE, BOB))
    assert (
        outcomes
        == [
            Delivered(
                Reason(
                    "taken, in clear text (no STARTTLS offered)",
                    "mx.example.net [192.0.2.1]:25 said: 250 2.6.0 queued as 1a2b",
                ),
                Status(2, 6, 0),
                "mx.example.net [192.0.2.1]:25",
                "250 2.6.0 queued as 1a2b",
            )
        ]
        * 2
    )
    assert peer.messages == [b"Subject: hello\r\n\r\n..dot\r\n"]
    assert peer.commands == [
        "EHLO us.example",
        "MAIL FROM:<us@example.org> SIZE=24",
        "RCPT TO:<alice@example.net>",
        "RCPT TO:<bob@example.net>",
        "DATA",
    ]
    assert len(here.network.wires[0].writes) == 3
    (event,) = here.journal.of(Kind.ROUTE_FOUND)
    assert event.reason == here.decision.reason
    assert event.queue_id == "id"
    here.end()
    assert peer.commands[-1] == "QUIT"


def test_each_recipient_has_its_outcome() -> None:
    """Refused and deferred recipients have theirs, with the reply as it came; the rest get the message."""
    script = {
        "RCPT TO:<bob@example.net>": b"550-5.1.1 no\r\n550 5.1.1 such \x1b[31muser\r\n",
        "RCPT TO:<carol@example.net>": b"450 greylisted\r\n",
    }
    here = world(SmtpPeer(script=script))
    alice, bob, carol = here.deliver(message(ALICE, BOB, Mailbox("carol", "example.net")))
    assert isinstance(alice, Delivered)
    assert isinstance(bob, Failed)
    assert bob.status == Status(5, 1, 1)
    assert bob.reply == r"550 5.1.1 no 5.1.1 such \x1b[31muser"
    assert bob.reason.text == "refused at RCPT TO, in clear text (no STARTTLS offered)"
    assert isinstance(carol, Deferred)
    assert carol.status == Status(4, 0, 0)
    assert not carol.local
    here.end()


@pytest.mark.parametrize("stage", ["MAIL", "DATA", "content"])
@pytest.mark.parametrize(("code", "kind"), [(b"451", Deferred), (b"554", Failed)])
def test_refusals_of_all(stage: str, code: bytes, kind: type) -> None:
    """4yz defers and 5yz fails, whatever the command; the connection is kept and the next message goes through it."""
    peer = SmtpPeer(script={stage: [code + b" no\r\n"]})
    here = world(peer)
    outcomes = here.deliver(message(ALICE, BOB))
    assert [type(outcome) for outcome in outcomes] == [kind, kind]
    assert outcomes[0].status == Status(int(code[:1]), 0, 0)
    assert isinstance(here.deliver()[0], Delivered)
    assert len(here.network.wires) == 1
    here.end()


def test_a_long_reply_is_cut() -> None:
    """Of a reply 500 octets are kept."""
    here = world(SmtpPeer(script={"content": (b"550-" + b"x" * 400 + b"\r\n") * 100 + b"550 x\r\n"}))
    assert len(here.deliver()[0].reply) == 500


# Routes


@pytest.mark.parametrize("kind", [Deferred, Failed])
def test_no_route(kind: type) -> None:
    """What routing decides against is each recipient's outcome."""
    here = World()
    here.decision = kind(Reason("null MX", "DNS"), Status(5, 1, 10))
    assert here.deliver(message(ALICE, BOB)) == [here.decision] * 2
    assert here.network.tried == []


def test_a_host_without_addresses() -> None:
    """A route that leads nowhere defers."""
    here = World(Host("mx.example.net", ()))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 4, 4)


def test_hosts_and_addresses_in_order() -> None:
    """Hosts come in the order of the route, with the addresses of each; the reason tells what was tried before."""
    here = World(Host("one.example.net", (A, B)), Host("two.example.net", (C,), port=2525))
    here.listen(A, REFUSED)
    here.listen(B, SmtpPeer(script={"greeting": b"421 4.3.2 busy\r\n"}))
    here.listen(C, SmtpPeer())
    (outcome,) = here.deliver()
    assert isinstance(outcome, Delivered)
    assert outcome.remote == "two.example.net [2001:db8::3]:2525"
    assert here.network.tried == [(A, 25), (B, 25), (C, 2525)]
    assert outcome.reason.text == (
        "taken, in clear text (no STARTTLS offered); before: "
        "Connection was refused by other side: refused [one.example.net [192.0.2.1]:25]; "
        "refused at greeting or EHLO, in clear text [one.example.net [192.0.2.2]:25 said: 421 4.3.2 busy]"
    )
    here.end()


def test_nobody_answers() -> None:
    """Where no address answers, the mail is deferred with 4.4.1, not counted against anybody."""
    here = World(Host("one.example.net", (A, B)))
    here.listen(A, REFUSED)
    here.listen(B, REFUSED)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 4, 1)
    assert outcome.remote == "one.example.net [192.0.2.2]:25"
    assert outcome.reply == ""
    assert "besides: " in outcome.reason.text


def test_a_host_that_is_an_address_is_named_once() -> None:
    """A route to an address literal: neither name nor brackets are doubled."""
    here = World(Host(f"[{A}]", (A,)))
    here.listen(A, REFUSED)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.remote == f"[{A}] port 25"


@pytest.mark.parametrize("order", [1, -1])
def test_whoever_answered_was_reached(order: int) -> None:
    """Where one host answered and another did not, the outcome has that answer, whatever their order."""
    here = World(*[Host("one.example.net", (A,)), Host("two.example.net", (B,))][::order])
    here.listen(A, SmtpPeer(script={"greeting": b"421 4.4.1 busy\r\n"}))
    here.listen(B, REFUSED)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.reply == "421 4.4.1 busy"
    assert outcome.remote == "one.example.net [192.0.2.1]:25"
    assert "refused at greeting" in outcome.reason.text
    assert "Connection was refused" in outcome.reason.text


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ({"greeting": SILENCE}, Status(4, 4, 1)),
        ({"EHLO": SILENCE}, Status(4, 4, 2)),
        ({"MAIL": SILENCE, "RCPT": SILENCE, "DATA": SILENCE}, Status(4, 4, 2)),
        ({"DATA": SILENCE}, Status(4, 4, 2)),
    ],
)
def test_a_host_that_falls_silent_was_there(script: dict[str, Any], status: Status) -> None:
    """4.4.1 of ours says that nobody was there; a host that greeted and then says no more is 4.4.2 (RFC 3463 §3.5)."""
    here = world(SmtpPeer(script=script))
    waiting = here.start(message(ALICE))
    here.wait(301)
    outcome = result(waiting)[10]
    assert isinstance(outcome, Deferred)
    assert outcome.status == status
    assert outcome.reply == ""


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES])
@pytest.mark.parametrize("order", [1, -1])
def test_a_shortage_of_ours_counts_for_nobody(number: int, order: int) -> None:
    """No descriptor left, a firewall of ours: deferred with `local`, also where another address did not answer."""
    here = World(Host("one.example.net", (A, B)[::order]))
    here.listen(A, error.ConnectError(number, "injected"))
    here.listen(B, REFUSED)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.local
    assert "injected" in outcome.reason.text


def test_a_prohibition_by_their_router_is_not_ours() -> None:
    """EACCES from an IPv6 address is no cause of ours: the other side could keep mail here without end."""
    here = World(Host("one.example.net", (C,)))
    here.listen(C, error.ConnectError(errno.EACCES, "injected"))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert not outcome.local
    assert outcome.status == Status(4, 4, 1)


def test_silent_address() -> None:
    """An address that does not answer is left after 30 s for the next."""
    here = World(Host("one.example.net", (A, B)))
    here.network.listen(A, None)
    here.listen(B, SmtpPeer())
    waiting = here.start(message(ALICE))
    assert here.network.tried == [(A, 25)]
    here.wait(31)
    assert isinstance(result(waiting)[10], Delivered)
    here.end()


@pytest.mark.parametrize("stage", ["greeting", "EHLO"])
def test_a_host_that_refuses_us(stage: str) -> None:
    """5yz in place of a greeting is the host's word for itself: the next one gets the mail."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={stage: b"554 no\r\n", "HELO": b"554 no\r\n"}))
    here.listen(B, SmtpPeer())
    assert isinstance(here.deliver()[0], Delivered)
    here.end()


def test_all_hosts_refuse_us() -> None:
    """Where every address of every host greets with 5yz, the mail fails."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={"greeting": b"521 5.3.2 no mail here\r\n"}))
    here.listen(B, SmtpPeer(script={"greeting": b"554 5.7.1 nor here\r\n"}))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Failed)
    assert outcome.status == Status(5, 7, 1)
    assert outcome.reply == "554 5.7.1 nor here"
    assert "521 5.3.2 no mail here" in outcome.reason.text
    here.end()


@pytest.mark.parametrize("first", [REFUSED, b"421 busy\r\n"])
@pytest.mark.parametrize("order", [1, -1])
def test_not_all_hosts_refuse_us(first: Exception | bytes, order: int) -> None:
    """One host that may come to itself keeps the mail waiting, whatever the others say."""
    here = World(*[Host("one.example.net", (A,)), Host("two.example.net", (B,))][::order])
    here.listen(A, first if isinstance(first, Exception) else SmtpPeer(script={"greeting": first}))
    here.listen(B, SmtpPeer(script={"greeting": b"554 5.7.1 no\r\n"}))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status.class_ == 4
    here.end()


def test_an_address_not_tried_may_come_to_itself() -> None:
    """Refusals from as many addresses as one attempt tries do not speak for the rest."""
    here = World(Host("one.example.net", (A, B)), limits=AttemptLimits(addresses=1))
    here.listen(A, SmtpPeer(script={"greeting": b"554 no\r\n"}))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert here.network.tried == [(A, 25)]


def test_what_one_host_defers_the_next_may_take() -> None:
    """A recipient deferred by one host is offered to the next; one that is done is not."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={"RCPT TO:<bob@example.net>": b"450 later\r\n"}))
    second = SmtpPeer()
    here.listen(B, second)
    alice, bob = here.deliver(message(ALICE, BOB))
    assert alice.remote.startswith("one.")
    assert bob.remote.startswith("two.")
    assert "RCPT TO:<alice@example.net>" not in second.commands
    here.end()


def test_a_reply_says_more_than_a_dead_host() -> None:
    """A recipient deferred with a reply keeps it when the next host does not answer."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={"RCPT": b"450 4.7.1 greylisted\r\n"}))
    here.listen(B, REFUSED)
    assert here.deliver()[0].reply == "450 4.7.1 greylisted"
    here.end()


def test_sessions_are_bounded() -> None:
    """No more than two hosts are asked to take a message in one attempt."""
    addresses = (A, B, C)
    here = World(Host("one.example.net", addresses))
    for address in addresses:
        here.listen(address, SmtpPeer(script={"MAIL": b"451 later\r\n"}))
    assert isinstance(here.deliver()[0], Deferred)
    assert here.network.tried == [(A, 25), (B, 25)]
    here.end()


# Hosts that fail in the middle


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", [CLOSE, b"421 4.3.2 bye\r\n", b"what?\r\n", b"250 ok\n"])
def test_a_session_that_ends_early(stage: str, answer: bytes) -> None:
    """Row 71: 421, a closed connection or nonsense before the content: the next host gets the mail."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={stage: answer}))
    here.listen(B, SmtpPeer())
    (outcome,) = here.deliver()
    assert isinstance(outcome, Delivered)
    assert outcome.remote.startswith("two.")
    assert "before: " in outcome.reason.text
    here.end()


@pytest.mark.parametrize("answer", [CLOSE, SILENCE, b"what?\r\n", b"354 more\r\n"])
def test_lost_after_the_final_dot(answer: bytes) -> None:
    """Row 71: no answer to the whole content: deferred, the doubt is named, and no other host gets it now."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={"content": answer}))
    waiting = here.start(message(ALICE))
    if answer == SILENCE:
        here.wait(601)
    outcome = result(waiting)[10]
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 4, 2)
    assert "a duplicate is possible" in outcome.reason.text
    assert here.network.tried == [(A, 25)]
    here.end()


def test_421_to_the_content() -> None:
    """421 to the content is an answer: it was not taken."""
    here = world(SmtpPeer(script={"content": b"421 4.3.0 cannot\r\n"}))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 3, 0)
    assert "duplicate" not in outcome.reason.text


def test_a_server_that_cannot_pipeline_is_remembered() -> None:
    """Row 72: a host that loses step in a group is spoken to in lock-step from then on; the memory is bounded."""
    first = SmtpPeer(script={"MAIL": [b"250 ok\r\n250 ok\r\n"]})
    second, third = SmtpPeer(), SmtpPeer()
    here = World(limits=AttemptLimits(lock_step=1))
    here.listen(A, first, second, third)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 5, 0)
    assert isinstance(here.deliver()[0], Delivered)
    assert b"MAIL FROM:<us@example.org> SIZE=24\r\n" in second.bursts
    here.wait(6)
    here.decision = Route((Host("other.example.net", (B,)),), Reason("x"))
    here.listen(B, SmtpPeer(script={"MAIL": [SILENCE], "RCPT": [SILENCE], "DATA": [SILENCE]}))
    waiting = here.start(message(ALICE))
    here.wait(301)
    assert isinstance(result(waiting)[10], Deferred)
    here.decision = Route(here.hosts, Reason("x"))
    assert isinstance(here.deliver()[0], Delivered)
    assert any(burst.count(b"\r\n") == 3 for burst in third.bursts)
    here.end()


def test_nonsense_outside_of_a_group_is_no_proof_against_pipelining() -> None:
    """A host that answers a single command with nonsense is still spoken to in groups."""
    second = SmtpPeer()
    here = World()
    here.listen(A, SmtpPeer(script={"content": b"what?\r\n"}), second)
    here.deliver()
    here.deliver()
    assert any(burst.count(b"\r\n") == 3 for burst in second.bursts)
    here.end()


def test_a_lost_connection_is_no_proof_against_pipelining() -> None:
    """A connection that was lost within a group does not put the host into lock-step."""
    second = SmtpPeer()
    here = World()
    here.listen(A, SmtpPeer(script={"MAIL": CLOSE}), second)
    here.deliver()
    here.deliver()
    assert any(burst.count(b"\r\n") == 3 for burst in second.bursts)
    here.end()


# Many recipients


def many(count: int) -> QueuedMessage:
    """A message for so many."""
    return message(*(Mailbox(f"r{number}", "example.net") for number in range(count)))


@pytest.mark.parametrize("reply", [b"452 4.5.3 too many\r\n", b"452 too many\r\n", b"552 too many\r\n"])
def test_too_many_recipients(reply: bytes) -> None:
    """452, or 552, to RCPT beyond what the host takes: those go in the next transaction, on the same connection."""
    peer = SmtpPeer(script={"RCPT": [b"250 ok\r\n"] * 3 + [reply] * 2})
    here = world(peer)
    outcomes = here.deliver(many(5))
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 5
    assert len(peer.messages) == 2
    assert len(here.network.wires) == 1
    assert peer.commands.count("RCPT TO:<r3@example.net>") == 2
    here.end()


def test_too_many_recipients_and_no_end() -> None:
    """A host that takes none in a transaction gets no further one: they are deferred, 552 included."""
    peer = SmtpPeer(script={"RCPT": b"552 too many\r\n"})
    here = world(peer)
    outcomes = here.deliver(many(3))
    assert [type(outcome) for outcome in outcomes] == [Deferred] * 3
    assert outcomes[0].status == Status(4, 0, 0)
    assert sum(command.startswith("MAIL") for command in peer.commands) == 1
    here.end()


def test_a_full_mailbox_is_not_too_many() -> None:
    """552 5.2.2 is about the mailbox, and fails it."""
    here = world(SmtpPeer(script={"RCPT TO:<r1@example.net>": b"552 5.2.2 mailbox full\r\n"}))
    outcomes = here.deliver(many(2))
    assert isinstance(outcomes[0], Delivered)
    assert isinstance(outcomes[1], Failed)
    here.end()


def test_recipients_of_one_transaction_are_bounded() -> None:
    """More than 100 recipients go in transactions of 100, one after the other."""
    peer = SmtpPeer()
    here = world(peer)
    outcomes = here.deliver(many(250))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(peer.messages) == 3
    here.end()


def test_the_host_closes_between_transactions() -> None:
    """Recipients whose turn did not come, because the host closed, are deferred with that reason."""
    peer = SmtpPeer(script={"content": b"250 ok\r\n421 enough\r\n"})
    here = World(limits=AttemptLimits(recipients=2))
    here.listen(A, peer)
    outcomes = here.deliver(many(4))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Delivered, Deferred, Deferred]
    assert outcomes[2].reason.text.startswith("the host closed, ")


# What a message needs


def test_parameters_of_mail() -> None:
    """SIZE, BODY and SMTPUTF8 are said where they are offered and needed."""
    peer = SmtpPeer(offers=["SIZE", "8BITMIME", "SMTPUTF8"])
    here = world(peer)
    here.deliver(message(Mailbox("älice", "exämple.net"), eight_bit=True, sender=None))
    assert peer.commands[1:3] == ["MAIL FROM:<> SIZE=24 BODY=8BITMIME SMTPUTF8", "RCPT TO:<älice@exämple.net>"]
    here.deliver(message(ALICE, smtputf8=True))
    assert peer.commands[4] == "MAIL FROM:<us@example.org> SIZE=24 SMTPUTF8"
    here.deliver(message(ALICE, sender=Mailbox("ü", "example.org")))
    assert peer.commands[7] == "MAIL FROM:<ü@example.org> SIZE=24 SMTPUTF8"
    here.end()


def test_parameters_are_not_said_unasked() -> None:
    """A server that offers nothing is told nothing."""
    peer = SmtpPeer(offers=[])
    here = world(peer)
    here.deliver()
    assert peer.commands[1] == "MAIL FROM:<us@example.org>"
    here.end()


UTF8 = message(ALICE, BOB, smtputf8=True, eight_bit=True)


@pytest.mark.parametrize(
    ("offers", "queued", "content", "status"),
    [
        (["SIZE 23"], message(ALICE, BOB), CONTENT, Status(5, 3, 4)),
        (["SMTPUTF8"], message(ALICE, BOB, eight_bit=True), b"\r\n\xff\r\n", Status(5, 6, 3)),
        (["8BITMIME"], UTF8, b"Subject: \xc3\xbc\r\n\r\nx\r\n", Status(5, 6, 7)),
        (["8BITMIME"], UTF8, b"Subject: \xc3\xbc\r\n", Status(5, 6, 7)),
        ([], message(ALICE, BOB, sender=Mailbox("ü", "example.org")), CONTENT, Status(5, 6, 7)),
    ],
)
def test_a_message_the_host_cannot_take(
    offers: list[str], queued: QueuedMessage, content: bytes, status: Status
) -> None:
    """Row 41, 51: a message that needs what the host does not offer fails, and is not damaged: no MAIL is said."""
    peer = SmtpPeer(offers=offers)
    here = world(peer)
    outcomes = here.deliver(queued, content)
    assert [(type(outcome), outcome.status) for outcome in outcomes] == [(Failed, status)] * 2
    assert outcomes[0].remote == "mx.example.net [192.0.2.1]:25"
    assert peer.commands == ["EHLO us.example"]
    here.end()


CANNOT = (
    (["SIZE 23"], message(ALICE), CONTENT),
    (["SMTPUTF8"], message(ALICE, eight_bit=True), b"\r\n\xff\r\n"),
    ([], message(Mailbox("älice", "example.net")), CONTENT),
)


@pytest.mark.parametrize(("offers", "queued", "content"), CANNOT)
def test_what_one_host_lacks_the_next_may_have(offers: list[str], queued: QueuedMessage, content: bytes) -> None:
    """A host that does not offer what the message needs speaks for itself only: the next one gets it."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    first, second = SmtpPeer(offers=offers), SmtpPeer(offers=["SIZE", "8BITMIME", "SMTPUTF8"])
    here.listen(A, first)
    here.listen(B, second)
    (outcome,) = here.deliver(queued, content)
    assert isinstance(outcome, Delivered)
    assert outcome.remote.startswith("two.")
    assert first.commands == ["EHLO us.example"]
    assert len(second.messages) == 1
    here.end()


def test_ehlo_refused_once_does_not_bounce() -> None:
    """A host that answers EHLO with 5yz offers nothing then; 8-bit content goes to the next host."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    here.listen(A, SmtpPeer(script={"EHLO": [b"500 5.5.1 not now\r\n"]}))
    here.listen(B, SmtpPeer())
    (outcome,) = here.deliver(message(ALICE, eight_bit=True))
    assert isinstance(outcome, Delivered)
    assert outcome.remote.startswith("two.")
    here.end()


@pytest.mark.parametrize("other", [REFUSED, b"421 4.3.2 busy\r\n", CLOSE])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("offers", "queued", "content"), CANNOT)
def test_what_another_host_may_have_is_waited_for(
    other: Any, order: int, offers: list[str], queued: QueuedMessage, content: bytes
) -> None:
    """As long as one host of the route said nothing of it, what the others lack defers, and both are named."""
    here = World(*[Host("one.example.net", (A,)), Host("two.example.net", (B,))][::order])
    here.listen(A, SmtpPeer(offers=offers))
    here.listen(B, other if isinstance(other, Exception) else SmtpPeer(script={"greeting": other}))
    (outcome,) = here.deliver(queued, content)
    assert isinstance(outcome, Deferred)
    assert outcome.status.class_ == 4
    assert outcome.status != Status(4, 4, 1)
    assert not outcome.local
    assert "two.example.net" in str(outcome.reason)
    assert "one.example.net" in str(outcome.reason)
    here.end()


@pytest.mark.parametrize("order", [1, -1])
def test_a_deferral_is_not_forgotten_for_what_another_host_lacks(order: int) -> None:
    """4yz to the recipient by one host stands, whatever the other lacks."""
    here = World(*[Host("one.example.net", (A,)), Host("two.example.net", (B,))][::order])
    here.listen(A, SmtpPeer(offers=["SIZE 23"]))
    here.listen(B, SmtpPeer(script={"RCPT": b"450 4.7.1 greylisted\r\n"}))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.reply == "450 4.7.1 greylisted"
    here.end()


def test_no_host_has_what_the_message_needs() -> None:
    """Where every host of the route lacks it, or refuses us, the message fails; those hosts count as addresses only."""
    here = World(
        Host("one.example.net", (A, C)),
        Host("two.example.net", (B,)),
        limits=AttemptLimits(sessions=1),
    )
    here.listen(A, SmtpPeer(offers=["SIZE 23"]))
    here.listen(C, SmtpPeer(script={"greeting": b"554 no\r\n"}))
    here.listen(B, SmtpPeer(offers=["SIZE 22"]))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Failed)
    assert outcome.status == Status(5, 3, 4)
    assert [address for address, _ in here.network.tried] == [A, C, B]
    here.end()


def test_an_address_not_tried_may_offer_it() -> None:
    """What the addresses of one attempt lack does not speak for those that were not tried."""
    here = World(Host("one.example.net", (A, B)), limits=AttemptLimits(addresses=1))
    here.listen(A, SmtpPeer(offers=["SIZE 23"]))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 3, 4)
    here.end()


@pytest.mark.parametrize("offers", [["SIZE 24"], ["SIZE 0"], ["SIZE"], []])
def test_a_message_that_just_fits(offers: list[str]) -> None:
    """A message of exactly the size offered goes, and any where there is no limit."""
    here = world(SmtpPeer(offers=offers))
    assert isinstance(here.deliver()[0], Delivered)
    here.end()


def test_utf8_declared_but_not_needed() -> None:
    """A message submitted with SMTPUTF8 that is all ASCII goes to a host without it (RFC 6531 §3.6)."""
    peer = SmtpPeer(offers=["8BITMIME"])
    here = world(peer)
    queued = message(ALICE, smtputf8=True, eight_bit=True)
    assert isinstance(here.deliver(queued, "Subject: x\r\n\r\nü\r\n".encode())[0], Delivered)
    here.end()


def test_one_recipient_needs_smtputf8() -> None:
    """A recipient that cannot be written without SMTPUTF8 fails alone."""
    peer = SmtpPeer(offers=[])
    here = world(peer)
    failed, delivered = here.deliver(message(Mailbox("älice", "example.net"), BOB))
    assert isinstance(failed, Failed)
    assert failed.status == Status(5, 6, 7)
    assert isinstance(delivered, Delivered)
    here.end()


def test_domains_become_a_labels() -> None:
    """Row 41: where only domains are not ASCII, a host without SMTPUTF8 gets A-labels; what is no domain fails."""
    peer = SmtpPeer(offers=[])
    here = world(peer)
    queued = message(Mailbox("alice", "exämple.net"), Mailbox("bob", "☃..net"), sender=Mailbox("us", "bücher.example"))
    alice, bob = here.deliver(queued)
    assert isinstance(alice, Delivered)
    assert isinstance(bob, Failed)
    assert peer.commands[1:3] == ["MAIL FROM:<us@xn--bcher-kva.example>", "RCPT TO:<alice@xn--exmple-cua.net>"]
    here.end()


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n"])
def test_a_bare_line_end_never_leaves(content: bytes) -> None:
    """Law 3: content with a bare CR or LF fails here, before any host is asked."""
    here = World()
    here.listen(A, SmtpPeer())
    (outcome,) = here.deliver(content=content)
    assert isinstance(outcome, Failed)
    assert outcome.status == Status(5, 6, 11)
    assert here.network.tried == []


@pytest.mark.parametrize("content", [b"x" * 70_000 + b"\n", b"\r" + b"x" * 70_000, b"x" * 140_000 + b"\r\n.\n"])
def test_a_bare_line_end_in_large_content_has_no_end(content: bytes) -> None:
    """Law 3: in large content it shows while that is sent: no end of data, no other host, all fail with 5.6.11."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)), limits=AttemptLimits(recipients=2))
    peer = SmtpPeer(script={"RCPT TO:<r1@example.net>": b"450 later\r\n"})
    here.listen(A, peer)
    outcomes = here.deliver(many(5), content)
    assert [(type(outcome), outcome.status) for outcome in outcomes] == [(Failed, Status(5, 6, 11))] * 5
    assert [outcome.remote for outcome in outcomes] == [""] * 5
    assert here.network.tried == [(A, 25)]
    assert peer.messages == []
    assert peer.lost
    here.end()


def test_large_content_is_delivered() -> None:
    """Content of many chunks arrives whole, and the connection is used again."""
    peer = SmtpPeer(offers=["SIZE"])
    here = world(peer)
    content = b"Subject: x\r\n\r\n" + b".23456\r\n" * 30_000
    assert isinstance(here.deliver(content=content)[0], Delivered)
    assert isinstance(here.deliver()[0], Delivered)
    assert peer.messages[0] == content.replace(b"\n.", b"\n..")
    assert len(here.network.wires) == 1
    here.end()


def stored(head: bytes, rest: bytes) -> StoredContent:
    """Content in a file."""
    disk = SimulatedDisk(["/spool"])
    disk.write_new("/spool/0a", [rest]).close()
    return StoredContent(head, "/spool/0a", len(head) + len(rest), disk)


@pytest.mark.parametrize("at", [0, 12])
def test_content_in_a_file_is_delivered(at: int) -> None:
    """To each host that is tried from its beginning, and with its size."""
    content = b"Subject: x\r\n\r\n" + b".23456\r\n" * 30_000
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)))
    busy, free = SmtpPeer(script={"content": b"451 later\r\n"}), SmtpPeer(offers=["SIZE"])
    here.listen(A, busy)
    here.listen(B, free)
    assert isinstance(here.deliver(content=stored(content[:at], content[at:]))[0], Delivered)
    assert busy.messages == free.messages == [content.replace(b"\n.", b"\n..")]
    assert f"MAIL FROM:<us@example.org> SIZE={len(content)}" in free.commands
    here.end()


def test_content_that_is_too_large_is_not_read() -> None:
    """What the host says of its SIZE is held against the size, without a look at the octets."""
    here = world(SmtpPeer(offers=["SIZE 1000"]))
    content = stored(b"A: b\r\n", b"\r\n" + b"x" * 1000)
    content.disk.unlink(content.path)
    (outcome,) = here.deliver(content=content)
    assert isinstance(outcome, Failed)
    assert outcome.status == Status(5, 3, 4)
    here.end()


@pytest.mark.parametrize("at", [0, 100_000])
def test_a_bare_line_end_in_a_file_has_no_end(at: int) -> None:
    """Law 3 holds for pieces of a file: no end of data, 5.6.11."""
    peer = SmtpPeer()
    here = world(peer)
    octets = bytearray(b"1234567\r\n" * 20_000)
    octets[at : at + 1] = b"\n"
    (outcome,) = here.deliver(content=stored(b"A: b\r\n", bytes(octets)))
    assert isinstance(outcome, Failed)
    assert outcome.status == Status(5, 6, 11)
    assert peer.messages == []
    here.end()


@pytest.mark.parametrize("fault", ["torn", "gone"])
def test_a_file_that_cannot_be_read_any_more_defers(fault: str) -> None:
    """It is a cause of ours: no host gets an end of data, and nobody a bounce."""
    peer = SmtpPeer()
    here = world(peer)
    content = stored(b"A: b\r\n", b"\r\n" + b"1234567\r\n" * 20_000)
    content.disk.unlink(content.path)
    if fault == "torn":
        content.disk.write_new(content.path, [b"\r\n" + b"1234567\r\n" * 19_000]).close()
    (outcome,) = here.deliver(content=content)
    assert isinstance(outcome, Deferred)
    assert outcome.local
    assert "the content cannot be read" in outcome.reason.text
    assert peer.messages == []
    here.end()


# TLS


@pytest.fixture(scope="module")
def server() -> ServerContext:
    """A server's certificate."""
    return ServerContext()


def test_opportunistic_tls(server: ServerContext) -> None:
    """TLS is used where it is offered, whoever vouches for the certificate; the reason names version and cipher."""
    peer = SmtpPeer(context=server)
    here = world(peer)
    (outcome,) = here.deliver()
    assert outcome.reason.text.startswith("taken, over TLSv1.3 TLS_")
    assert peer.commands[:3] == ["EHLO us.example", "STARTTLS", "EHLO us.example"]
    here.end()


def test_none_means_none(server: ServerContext) -> None:
    """Where the route says NONE, an offer of STARTTLS is not taken."""
    peer = SmtpPeer(context=server)
    here = world(peer, tls=TlsLevel.NONE)
    assert here.deliver()[0].reason.text == "taken, in clear text, as the route says"
    assert "STARTTLS" not in peer.commands
    here.end()


def test_a_failed_handshake_falls_back_once() -> None:
    """A handshake that fails leads to clear text, once, on a new connection to the same address; a note tells it."""
    broken = SmtpPeer(context=BrokenContext())
    plain = SmtpPeer(context=BrokenContext())
    here = World()
    here.listen(A, broken, plain)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Delivered)
    assert "in clear text after a failed handshake (connection lost: " in outcome.reason.text
    assert plain.commands[1].startswith("MAIL")
    assert here.network.tried == [(A, 25), (A, 25)]
    (event,) = here.journal.of(Kind.TLS_FAILED)
    assert event.fields["address"] == A
    here.end()


def test_clear_text_that_the_host_refuses_is_not_the_messages_fault() -> None:
    """530 to the MAIL of a fallback defers: the handshake may work next time."""
    here = World()
    refusing = SmtpPeer(script={"MAIL": b"530 5.7.0 Must issue a STARTTLS command first\r\n"})
    here.listen(A, SmtpPeer(context=BrokenContext()), refusing)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 7, 0)
    here.end()


def test_clear_text_refused_without_a_fallback() -> None:
    """530 to MAIL fails the mail where clear text was no way out of ours."""
    here = world(SmtpPeer(script={"MAIL": b"530 5.7.0 Authentication required\r\n"}))
    assert isinstance(here.deliver()[0], Failed)
    here.end()


def test_a_host_that_closes_in_the_handshake() -> None:
    """A connection that ends before the handshake does is a failed handshake."""
    first, second = SmtpPeer(offers=["STARTTLS"]), SmtpPeer()
    here = World()
    here.listen(A, first, second)
    waiting = here.start(message(ALICE))
    first.transport.loseConnection()
    here.network.move()
    assert isinstance(result(waiting)[10], Delivered)
    assert len(second.messages) == 1
    here.end()


def test_must_does_not_fall_back() -> None:
    """Where the route says MUST, a failed handshake defers with 4.7.5."""
    here = World(Host("mx.example.net", (A,), tls=TlsLevel.MUST))
    here.listen(A, SmtpPeer(context=BrokenContext()))
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.status == Status(4, 7, 5)
    assert here.network.tried == [(A, 25)]


def test_must_with_the_right_certificate(server: ServerContext, tmp_path: Path) -> None:
    """MUST delivers to a host whose certificate is the one it should be."""
    pem = tmp_path / "ca.pem"
    pem.write_bytes(server.pem)
    here = World(Host("mx.example.net", (A,), tls=TlsLevel.MUST), authorities=str(pem))
    here.listen(A, SmtpPeer(context=server))
    assert isinstance(here.deliver()[0], Delivered)
    here.end()


@pytest.mark.parametrize(
    ("offers", "script", "status"),
    [
        ([], {}, Status(4, 7, 4)),
        (["STARTTLS"], {"STARTTLS": b"454 4.7.0 no certificate\r\n"}, Status(4, 7, 5)),
    ],
)
@pytest.mark.parametrize("level", [TlsLevel.MUST, TlsLevel.MAY])
def test_no_tls_to_be_had(offers: list[str], script: dict[str, Any], status: Status, level: TlsLevel) -> None:
    """STARTTLS refused, or not offered: MUST defers, MAY goes on in clear text on the same connection."""
    here = world(SmtpPeer(offers=offers, script=script), tls=level)
    (outcome,) = here.deliver()
    if level is TlsLevel.MAY:
        assert isinstance(outcome, Delivered)
        assert "in clear text (" in outcome.reason.text
    else:
        assert isinstance(outcome, Deferred)
        assert outcome.status == status
        assert outcome.reply == ("454 4.7.0 no certificate" if script else "")
    here.end()


@pytest.mark.parametrize("answer", [b"220 go\r\n250 ok\r\n", CLOSE, b"421 bye\r\n", b"nonsense\r\n"])
def test_an_attack_on_starttls_never_leads_to_clear_text(answer: bytes) -> None:
    """Row 15: octets behind the 220, or an end at STARTTLS: deferred, nothing of the message leaves in clear text."""
    peer = SmtpPeer(offers=["STARTTLS"], script={"STARTTLS": answer})
    here = world(peer)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert here.network.tried == [(A, 25)]
    assert peer.commands == ["EHLO us.example", "STARTTLS"]
    assert not outcome.local
    assert outcome.reply == ("421 bye" if answer.startswith(b"421") else "")


def test_clear_text_offers_are_forgotten(server: ServerContext) -> None:
    """Row 16: what only the clear text EHLO offered is not used under TLS."""
    script = {"EHLO": [b"250-mx\r\n250-SIZE 5\r\n250-PIPELINING\r\n250 STARTTLS\r\n", b"250 mx\r\n"]}
    peer = SmtpPeer(context=server, script=script)
    here = world(peer)
    assert isinstance(here.deliver()[0], Delivered)
    assert "MAIL FROM:<us@example.org>" in peer.commands
    here.end()


def test_ehlo_refused_under_tls(server: ServerContext) -> None:
    """A host that has no word for us under TLS is like one that refuses the greeting."""
    peer = SmtpPeer(context=server, script={"EHLO": [b"250-mx\r\n250 STARTTLS\r\n", b"421 4.7.0 busy\r\n"]})
    here = world(peer)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.reason.text.startswith("refused at EHLO under TLS, over TLSv1.3")


def test_a_session_lost_under_tls_is_no_reason_for_clear_text(server: ServerContext) -> None:
    """A connection lost after a good handshake does not lead to clear text."""
    peer = SmtpPeer(context=server, script={"EHLO": [b"250-mx\r\n250 STARTTLS\r\n", CLOSE]})
    here = world(peer)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert here.network.tried == [(A, 25)]


# Logging in


LOGIN = Login("us", "secret")


def test_login(server: ServerContext) -> None:
    """A route with a login logs in under TLS, then sends."""
    peer = SmtpPeer(offers=["AUTH PLAIN LOGIN"], context=server)
    here = world(peer, login=LOGIN)
    assert isinstance(here.deliver()[0], Delivered)
    assert peer.commands[3] == "AUTH PLAIN AHVzAHNlY3JldA=="
    here.end()


def test_no_login_in_clear_text() -> None:
    """Without TLS the password does not leave; the cause is ours: no message pays for it."""
    peer = SmtpPeer(offers=["AUTH PLAIN"])
    here = world(peer, login=LOGIN)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.local
    assert outcome.status == Status(4, 7, 11)
    assert peer.commands == ["EHLO us.example", "QUIT"]


def test_login_in_clear_text_on_the_administrators_word() -> None:
    """Where the route says NONE, the login goes in clear text."""
    peer = SmtpPeer(offers=["AUTH LOGIN"], script={"AUTH": b"334 \r\n", "dXM=": b"334 \r\n", "c2VjcmV0": b"235 ok\r\n"})
    here = world(peer, login=LOGIN, tls=TlsLevel.NONE)
    assert isinstance(here.deliver()[0], Delivered)
    here.end()


@pytest.mark.parametrize(
    ("offers", "script", "local"),
    [
        (["AUTH CRAM-MD5"], {}, True),
        ([], {}, True),
        (["AUTH PLAIN"], {"AUTH": b"535 5.7.8 wrong\r\n"}, True),
        (["AUTH PLAIN"], {"AUTH": b"454 4.7.0 later\r\n"}, False),
        (["AUTH PLAIN"], {"AUTH": CLOSE}, False),
    ],
)
def test_login_fails(offers: list[str], script: dict[str, Any], local: bool) -> None:
    """A login that is refused defers, never bounces; a wrong password is a cause on our side, an ill server is not."""
    here = world(SmtpPeer(offers=offers, script=script), login=LOGIN, tls=TlsLevel.NONE)
    (outcome,) = here.deliver()
    assert isinstance(outcome, Deferred)
    assert outcome.local is local
    assert outcome.status.class_ == 4
    assert "secret" not in repr(outcome)
    here.end()


# Reuse


def test_a_connection_is_used_again() -> None:
    """A second message to the host within five seconds goes over the same connection; no RSET, no second EHLO."""
    peer = SmtpPeer()
    here = World(Host("mx.example.net", (A, B)))
    here.listen(A, peer)
    here.deliver()
    here.wait(4)
    here.decision = Route((Host("mx.example.net", (B, A)),), Reason("the other way round"))
    assert isinstance(here.deliver()[0], Delivered)
    assert [command.split()[0] for command in peer.commands] == ["EHLO", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA"]
    here.wait(5)
    assert peer.commands[-1] == "QUIT"
    here.end()


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other.example.net"},
        {"port": 26},
        {"tls": TlsLevel.NONE},
        {"tls": TlsLevel.NONE, "login": LOGIN},
    ],
)
def test_a_connection_is_not_used_for_another_way(other: dict[str, Any]) -> None:
    """Another name, port, TLS level or login needs a connection of its own."""
    here = World()
    here.listen(A, SmtpPeer(), SmtpPeer(offers=["AUTH PLAIN"]))
    here.deliver()
    here.decision = Route((dataclasses.replace(here.hosts[0], **other),), Reason("x"))
    assert isinstance(here.deliver()[0], Delivered)
    assert len(here.network.wires) == 2
    here.end()


def test_messages_of_a_connection_are_bounded() -> None:
    """After as many messages as the settings say a connection is closed."""
    here = World(settings=RelaySettings(messages_per_connection=2))
    peers = [SmtpPeer(), SmtpPeer()]
    here.listen(A, *peers)
    for _ in range(3):
        assert isinstance(here.deliver()[0], Delivered)
    assert [len(peer.messages) for peer in peers] == [2, 1]
    here.network.move()
    assert peers[0].lost
    here.end()


def test_idle_connections_are_bounded() -> None:
    """One connection too many at rest closes the one that has waited longest."""
    here = World(limits=AttemptLimits(idle=1))
    first, second = SmtpPeer(), SmtpPeer()
    here.listen(A, first)
    here.listen(B, second)
    here.deliver()
    here.decision = Route((Host("other.example.net", (B,)),), Reason("x"))
    here.deliver()
    assert first.lost
    assert not second.lost
    here.end()


@pytest.mark.parametrize("how", ["421 to MAIL", "closed", "said something", "closed at MAIL"])
def test_an_idle_connection_that_turns_out_dead(how: str) -> None:
    """A host that closes an idle connection is not a host that refuses mail: a new one is made to the same address."""
    first, second = SmtpPeer(), SmtpPeer()
    here = World(limits=AttemptLimits(addresses=1, sessions=1))
    here.listen(A, first, second)
    here.deliver()
    if how == "421 to MAIL":
        first._script["MAIL"] = b"421 4.4.2 too long\r\n"
    elif how == "closed at MAIL":
        first._script["MAIL"] = CLOSE
    elif how == "closed":
        first.transport.loseConnection()
        here.network.move()
    else:
        first.transport.write(b"421 4.4.2 idle\r\n")
        here.network.move()
    (outcome,) = here.deliver()
    assert isinstance(outcome, Delivered)
    assert "before" not in outcome.reason.text
    assert len(second.messages) == 1
    here.end()


def test_an_idle_connection_lost_after_the_final_dot() -> None:
    """Also on a connection used again, no answer to the content is final for the attempt."""
    here = World()
    here.listen(A, SmtpPeer(script={"content": [b"250 ok\r\n", CLOSE]}), SmtpPeer())
    here.deliver()
    (outcome,) = here.deliver()
    assert "a duplicate is possible" in outcome.reason.text
    assert len(here.network.wires) == 1
    here.end()


def test_an_address_that_deferred_on_an_idle_connection_is_not_asked_again() -> None:
    """What a host says on a connection used again is its word; the next address is asked, not the same."""
    here = World(Host("mx.example.net", (A, B)))
    here.listen(A, SmtpPeer(script={"MAIL": [b"250 ok\r\n", b"451 later\r\n"]}))
    second = SmtpPeer()
    here.listen(B, second)
    here.deliver()
    assert isinstance(here.deliver()[0], Delivered)
    assert len(second.messages) == 1
    assert here.network.tried == [(A, 25), (B, 25)]
    here.end()


def test_stop() -> None:
    """Stop says QUIT on what is idle; a delivery under way goes on and leaves nothing open."""
    here = World()
    first, second = SmtpPeer(), SmtpPeer(script={"content": [SILENCE]})
    here.listen(A, first, second)
    here.deliver()
    here.decision = Route((Host("other.example.net", (A,)),), Reason("x"))
    waiting = here.start(message(ALICE))
    stopping = here.delivery.stop()
    here.network.move()
    assert result(stopping) is None
    assert first.lost
    assert not waiting.called
    second.transport.write(b"250 ok\r\n")
    here.network.move()
    assert isinstance(result(waiting)[10], Delivered)
    assert second.commands[-1] == "QUIT"
    here.end()


def stopped(here: World, waiting: defer.Deferred[Mapping[int, Outcome]]) -> Any:
    """Abort, and see that the delivery comes to its outcome at once and leaves nothing open."""
    here.delivery.abort()
    outcomes = result(waiting)
    here.network.move()
    assert [wire.connected for wire in here.network.wires] == [False] * len(here.network.wires)
    assert here.clock.getDelayedCalls() == []
    return outcomes


@pytest.mark.parametrize(
    "script",
    [
        {"greeting": SILENCE},
        {"EHLO": SILENCE},
        {"STARTTLS": SILENCE},
        {"MAIL": SILENCE, "RCPT": SILENCE, "DATA": SILENCE},
        {"DATA": SILENCE},
    ],
)
def test_abort(script: dict[str, Any]) -> None:
    """Abort ends a delivery at any stage: 4.3.2, a cause of ours, and no other address is tried."""
    here = World(Host("one.example.net", (A, B)))
    here.listen(A, SmtpPeer(offers=["STARTTLS"] if "STARTTLS" in script else ["PIPELINING"], script=script))
    outcome = stopped(here, here.start(message(ALICE)))[10]
    assert isinstance(outcome, Deferred)
    assert outcome.local
    assert outcome.status == Status(4, 3, 2)
    assert outcome.reason == Reason("we are stopping", "stop")
    assert here.network.tried == [(A, 25)]


def test_abort_in_a_handshake() -> None:
    """A handshake that abort ends is no failed one: nothing goes in clear text instead."""
    here = World()
    here.listen(A, SmtpPeer(offers=["STARTTLS"]))
    outcome = stopped(here, here.start(message(ALICE)))[10]
    assert outcome.local
    assert here.network.tried == [(A, 25)]
    assert here.journal.of(Kind.TLS_FAILED) == []


def test_abort_while_connecting() -> None:
    """A connection that is being made is given up."""
    here = World(Host("one.example.net", (A, B)))
    here.network.listen(A, None)
    outcome = stopped(here, here.start(message(ALICE)))[10]
    assert outcome.local
    assert here.network.tried == [(A, 25)]


@pytest.mark.parametrize("answer", [None, Deferred(Reason("no name server"), Status(4, 4, 3))])
def test_abort_while_the_route_is_looked_up(answer: Deferred | None) -> None:
    """So is a look-up, whether it raises or makes an outcome of its end."""
    here = World()
    looking: defer.Deferred[Any] = defer.Deferred(answer and (lambda looked: looked.callback(answer)))
    here.delivery._route = lambda _: looking
    outcome = stopped(here, here.start(message(ALICE)))[10]
    assert outcome == Deferred(Reason("we are stopping", "stop"), Status(4, 3, 2), local=True)


def test_a_cancelled_look_up_is_raised_without_abort() -> None:
    """Nobody but abort turns a cancellation into an outcome."""
    here = World()
    here.delivery._route = lambda _: defer.fail(defer.CancelledError())
    with pytest.raises(defer.CancelledError):
        here.deliver()


def test_abort_keeps_what_was_decided() -> None:
    """What was answered holds; also what an earlier host deferred does not count, for the others had no turn."""
    here = World(Host("one.example.net", (A,)), Host("two.example.net", (B,)), limits=AttemptLimits(recipients=3))
    script: dict[str, bytes | list[bytes]] = {
        "RCPT TO:<r1@example.net>": b"550 no\r\n",
        "RCPT TO:<r2@example.net>": b"450 later\r\n",
        "content": [b"250 ok\r\n", SILENCE],
    }
    here.listen(A, SmtpPeer(script=script))
    outcomes = stopped(here, here.start(many(4)))
    assert isinstance(outcomes[10], Delivered)
    assert isinstance(outcomes[11], Failed)
    assert outcomes[12].local
    assert outcomes[12].reply == ""
    assert outcomes[13].local
    assert "a duplicate is possible" in outcomes[13].reason.text


def test_nothing_begins_after_abort() -> None:
    """A delivery that comes after abort makes no connection, and takes no idle one."""
    here = World()
    peer = SmtpPeer()
    here.listen(A, peer)
    here.deliver()
    here.delivery.abort()
    (outcome,) = here.deliver()
    assert outcome.local
    assert len(peer.messages) == 1
    assert len(here.network.tried) == 1
    here.end()


# Bugs of ours


def test_a_bug_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of ours reaches the queue, which defers, and no connection stays open."""
    here = world(SmtpPeer())

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mta.relay.remote.fit", broken)
    with pytest.raises(ZeroDivisionError):
        here.deliver()
    here.end()
    monkeypatch.setattr("mta.relay.opening.Authentication", broken)
    here = world(SmtpPeer(), login=LOGIN, tls=TlsLevel.NONE)
    with pytest.raises(ZeroDivisionError):
        here.deliver()
    here.network.move()
    here.end()
