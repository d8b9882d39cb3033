"""Conversations of our milter client with scripted filters, good and hostile, on a network and a clock in memory."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import defer, error, task

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.result import Iprev, IprevResult
from mta.policy.chain import Chain, Ruling
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.milter.client import LINGER
from mta.policy.milter.conversation import Identity
from mta.policy.milter.packet import Packet
from mta.policy.milter.policy import UNASKED, Milter
from mta.policy.milter.session import CHUNK
from mta.policy.port import KeepsSessions, Stops
from mta.policy.verdict import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Defer,
    Discard,
    Hold,
    Opinion,
    Reject,
    RemoveRecipient,
    ReplaceBody,
    Tag,
)
from mta.settings.milter import InetSocket, MilterAddress, MilterDeadlines, MilterSettings
from mta.settings.values import Endpoint
from mta.smtp.address import Mailbox
from tests.doubles.milter import ACCEPT, CONTINUE, PROGRESS, REJECT, TEMPFAIL, FakeMilter, options, says
from tests.doubles.network import CLOSE, SILENCE, Network
from tests.doubles.sync import inline, result

HEAD = b"From: a@client.test\r\nSubject: one\r\n two\r\n"
ALICE, BOB, CAROL = Mailbox("alice", "client.test"), Mailbox("bob", "example.test"), Mailbox("carol", "example.test")
STAGES = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.HEADERS, Stage.MESSAGE)
ALL_SILENT = 0xFF080
REFUSED = error.ConnectionRefusedError()
BAD_LENGTH = b"\x40\0\0\0c"

Server = FakeMilter | Exception | None


class World:
    """One filter, that is met by the servers given, one connection after the other."""

    def __init__(
        self,
        *servers: Server,
        message_maximum: int = 1 << 20,
        run: RunInThread = inline,
        after: float = 0.0,
        **settings: Any,
    ) -> None:
        self.network = Network()
        self.clock = task.Clock()
        self.filters = [server for server in servers if isinstance(server, FakeMilter)]
        met: list[Any] = [_given(each) if isinstance(each, FakeMilter) else each for each in servers]
        self.network.listen("filter", *(met or [REFUSED]))
        address = InetSocket(Endpoint("127.0.0.1", 8891))
        self.asked: list[MilterAddress] = []
        self.after = after
        self.milter = Milter(
            MilterSettings("filter", address, source="mta.toml:9", **settings),
            Identity("mx.example.test", "mta 1"),
            self._endpoint,
            self.clock,
            run,
            message_maximum,
        )

    def _endpoint(self, address: MilterAddress) -> Any:
        self.asked.append(address)
        return _Slow(self) if self.after else self.network.endpoint("filter", 0)

    def start(self, facts: Facts) -> defer.Deferred[Opinion]:
        """Ask, and move what moves."""
        waiting = self.milter.ask(facts)
        self.network.move()
        return waiting if isinstance(waiting, defer.Deferred) else defer.succeed(waiting)

    def ask(self, stage: Stage, **more: Any) -> Any:
        """Ask at one stage, as a chain does; it must be answered."""
        if stage not in self.milter.stages:
            return None
        return result(self.start(facts(stage, **more)))

    def ask_all(self, until: Stage = Stage.MESSAGE, **more: Any) -> list[Any]:
        """Ask at each stage, up to one."""
        return [self.ask(stage, **more) for stage in STAGES[: STAGES.index(until) + 1]]


class _Slow:
    """An endpoint that takes its time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        world = self._world
        return task.deferLater(world.clock, world.after, world.network.endpoint("filter", 0).connect, factory)


def _given(server: FakeMilter) -> Callable[[], FakeMilter]:
    return lambda: server


def facts(stage: Stage, **more: Any) -> Facts:
    """What is known at a stage of a session from 192.0.2.7."""
    number = STAGES.index(stage)
    known: dict[str, Any] = {"session": "s1", "address": "192.0.2.7", "port": 40000, "helo": "client"}
    if number >= STAGES.index(Stage.MAIL):
        known |= {"sender": ALICE, "size": 100}
    if stage is Stage.RCPT:
        known |= {"recipient": BOB}
    if number > STAGES.index(Stage.RCPT):
        known |= {"recipients": (BOB,), "queue_id": "q1"}
    if number >= STAGES.index(Stage.HEADERS):
        known |= {"head": HEAD}
    if stage is Stage.MESSAGE:
        known |= {"body": MemoryBody(b"Hello.\r\n")}
    if stage is Stage.CONNECT:
        del known["helo"]
    return Facts(stage, **(known | more))


def content_filter(*changes: bytes, decision: bytes = CONTINUE, **more: Any) -> FakeMilter:
    """A filter that changes each message."""
    return FakeMilter({b"E": b"".join(changes) + decision}, **more)


# What is told


def test_a_whole_session() -> None:
    """The filter is told each step once, in order, the content at the end; two messages, one connection, one QUIT."""
    world = World(FakeMilter())
    assert world.ask_all() == [None] * 7
    world.milter.reset("s1")
    for stage in STAGES[2:]:
        world.ask(stage)
    world.milter.closed("s1")
    world.network.move()
    [told] = world.filters
    assert told.commands() == "OCHMRTLLNBEMRTLLNBEQ"
    assert told.data(b"C") == [b"[192.0.2.7]\x004\x9c\x40192.0.2.7\0"]
    assert told.data(b"H") == [b"client\0"]
    assert told.data(b"M")[0] == b"<alice@client.test>\0SIZE=100\0"
    assert told.data(b"R")[0] == b"<bob@example.test>\0"
    assert told.data(b"L")[:2] == [b"From\0a@client.test\0", b"Subject\0one\n two\0"]
    assert told.data(b"B")[0] == b"Hello.\r\n"
    assert told.lost
    assert world.clock.getDelayedCalls() == []
    assert world.asked == [InetSocket(Endpoint("127.0.0.1", 8891))]


def test_macros() -> None:
    """Macros stand before their steps: client, TLS, login, addresses, the queue id once there is one."""
    world = World(FakeMilter(), daemon_name="ORIGINATING")
    iprev = Iprev(IprevResult.PASS, Reason("so"), "host.client.test")
    world.ask_all(
        iprev=iprev, tls=TlsInfo("TLSv1.3", "AES", 256), login="alice", mechanism="PLAIN", smtputf8=True, size=0
    )
    [told] = world.filters
    assert told.macros(b"C") == {
        "j": "mx.example.test",
        "v": "mta 1",
        "{daemon_name}": "ORIGINATING",
        "_": "host.client.test [192.0.2.7]",
        "{client_addr}": "192.0.2.7",
        "{client_name}": "host.client.test",
        "{client_ptr}": "host.client.test",
        "{client_port}": "40000",
    }
    assert told.macros(b"H") == {"{tls_version}": "TLSv1.3", "{cipher}": "AES", "{cipher_bits}": "256"}
    assert told.macros(b"M") == {
        "{auth_authen}": "alice",
        "{auth_type}": "PLAIN",
        "{mail_addr}": "alice@client.test",
    }
    assert told.macros(b"R") == {"{rcpt_addr}": "bob@example.test"}
    assert told.macros(b"T") == told.macros(b"N") == told.macros(b"E") == {"i": "q1"}
    assert told.data(b"C")[0].startswith(b"host.client.test\0")
    assert told.data(b"M") == [b"<alice@client.test>\0SMTPUTF8\0"]


def test_a_name_that_is_not_confirmed_is_not_told() -> None:
    """Without a confirmed name the client is its address in brackets, "unknown" in macros."""
    for iprev in (None, Iprev(IprevResult.FAIL, Reason("no"), "liar.test")):
        world = World(FakeMilter())
        world.ask(Stage.CONNECT, iprev=iprev, address="2001:db8::1")
        [told] = world.filters
        assert told.data(b"C") == [b"[2001:db8::1]\x006\x9c\x402001:db8::1\0"]
        assert told.macros(b"C")["_"] == "[2001:db8::1]"
        assert told.macros(b"C")["{client_name}"] == "unknown"


def test_macros_that_have_no_value_are_not_told() -> None:
    """Without login, TLS and queue id their macros are not there."""
    world = World(FakeMilter())
    world.ask_all(queue_id="")
    [told] = world.filters
    assert told.macros(b"M") == {"{mail_addr}": "alice@client.test"}
    assert told.macros(b"H") == told.macros(b"T") == told.macros(b"E") == {}


def test_a_late_beginning_is_caught_up() -> None:
    """A filter that is first asked in the middle of a session hears what came before, each recipient once."""
    world = World(FakeMilter())
    assert world.ask(Stage.MESSAGE, recipients=(BOB, CAROL), sender=None) is None
    [told] = world.filters
    assert told.commands() == "OCHMRRTLLNBE"
    assert told.data(b"M") == [b"<>\0SIZE=100\0"]
    assert told.data(b"R") == [b"<bob@example.test>\0", b"<carol@example.test>\0"]


def test_a_second_helo_is_told() -> None:
    """After STARTTLS the client greets again, and the filter hears it, an open message forgotten."""
    world = World(FakeMilter())
    world.ask_all(until=Stage.RCPT)
    world.ask(Stage.HELO, tls=TlsInfo("TLSv1.3", "AES", 256))
    world.ask(Stage.MAIL)
    [told] = world.filters
    assert told.commands() == "OCHMRAHM"


def test_a_filter_that_wants_little() -> None:
    """What a filter does not want it is not told, and what it does not answer nobody waits for."""
    world = World(FakeMilter(flow=0x1 | 0x2 | 0x20 | 0x40 | 0x10 | ALL_SILENT))
    body = Pieces(b"x" * 1000, 10)
    assert world.ask_all(body=body) == [None] * 7
    assert world.filters[0].commands() == "OMRTE"
    assert body.read == 0


def test_what_begins_with_no_field_is_body() -> None:
    """From the first line of a head that is no field on, all is told as body: nothing is hidden from the filter."""
    world = World(FakeMilter())
    world.ask_all(head=b"A: 1\r\nno field\r\nB: 2\r\n")
    [told] = world.filters
    assert told.data(b"L") == [b"A\x001\0"]
    assert told.data(b"B") == [b"no field\r\nB: 2\r\n\r\nHello.\r\n"]


def test_the_body_is_told_in_pieces() -> None:
    """A long body comes in pieces of 65,535 octets, the last one smaller, however the disk gives it; none if empty."""
    body = b"0123456789abcdef" * 10_000
    world = World(FakeMilter())
    world.ask_all(body=Pieces(body, 999))
    [told] = world.filters
    assert [len(piece) for piece in told.data(b"B")] == [CHUNK, CHUNK, len(body) - 2 * CHUNK]
    assert b"".join(told.data(b"B")) == body
    world = World(FakeMilter())
    world.ask_all(body=MemoryBody(b""))
    assert world.filters[0].commands() == "OCHMRTLLNE"


@dataclasses.dataclass
class Pieces:
    """A body in small pieces; `read` counts the octets that were asked for."""

    octets: bytes
    length: int
    read: int = 0

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.octets)

    def pieces(self) -> Iterator[bytes]:
        """Give them."""
        for start in range(0, len(self.octets), self.length):
            self.read += self.length
            yield self.octets[start : start + self.length]


def test_a_filter_has_enough() -> None:
    """After "skip" no more of the body is told, or read from the disk; the end is."""
    world = World(FakeMilter({b"B": says(b"s")}))
    body = Pieces(b"x" * 500_000, 1000)
    assert world.ask_all(body=body)[-1] is None
    assert world.filters[0].commands() == "OCHMRTLLNBE"
    assert body.read == 66_000


@pytest.mark.parametrize(
    ("maximum", "told"), [(0, 0), (10, 10), (CHUNK, CHUNK), (CHUNK + 1, CHUNK + 1), (200_000, 150_000)]
)
def test_only_so_much_of_a_body(maximum: int, told: int) -> None:
    """`body_maximum` bounds what is told; another body in place of one told in part is a fault."""
    world = World(content_filter(says(b"b", b"new")), body_maximum=maximum)
    opinion = world.ask_all(body=MemoryBody(b"x" * 150_000))[-1]
    assert sum(map(len, world.filters[0].data(b"B"))) == told
    if told < 150_000:
        assert isinstance(opinion, Defer)
        assert "not told whole" in opinion.reason.text
    else:
        assert isinstance(opinion[0], ReplaceBody)


# What it says


def test_changes_become_verdicts() -> None:
    """Each change is a verdict with its reason, in order; a quarantine is the last."""
    world = World(
        content_filter(
            says(b"q", b"virus"),
            says(b"h", b"X-Last", b"a\n b"),
            says(b"i", 0, b"X-Top", b"\xff"),
            says(b"i", 1, b"X-First", b"v"),
            says(b"i", 3, b"X-Third", b"v"),
            says(b"m", 2, b"Subject", b"new"),
            says(b"m", 1, b"X-Gone", b""),
            says(b"+", b"<carol@example.test>"),
            says(b"2", b"<carol@example.test>", b"NOTIFY=NEVER"),
            says(b"-", b"<bob@example.test>"),
            says(b"e", b"<>"),
            says(b"b", b"one\r\ntwo\nthree"),
        )
    )
    said = world.ask_all()[-1]
    source = "mta.toml:9"
    assert said == [
        AddHeader(Reason("filter adds X-Last", source), "X-Last", "a\n b", -1),
        AddHeader(Reason("filter adds X-Top", source), "X-Top", "\udcff", 0),
        AddHeader(Reason("filter adds X-First", source), "X-First", "v", 0),
        AddHeader(Reason("filter adds X-Third", source), "X-Third", "v", 2),
        ChangeHeader(Reason("filter changes Subject", source), "Subject", 2, "new"),
        ChangeHeader(Reason("filter removes X-Gone", source), "X-Gone", 1, ""),
        AddRecipient(Reason("filter adds carol@example.test", source), CAROL),
        AddRecipient(Reason("filter adds carol@example.test", source), CAROL),
        RemoveRecipient(Reason("filter removes bob@example.test", source), BOB),
        ChangeSender(Reason("filter changes the sender to <>", source), None),
        ReplaceBody(Reason("filter replaces the body", source), b"one\r\ntwo\r\nthree\0\r\n"),
        Hold(Reason("filter: virus", source)),
    ]


def test_leading_space_is_ours_in_both_directions() -> None:
    """Where leading space was agreed on, fields go with it and come with it, and it is not doubled in the message."""
    world = World(content_filter(says(b"h", b"X-A", b"  v"), says(b"m", 1, b"X-B", b"w"), flow=0x100000))
    [added, changed] = world.ask_all()[-1]
    assert world.filters[0].data(b"L")[0] == b"From\0 a@client.test\0"
    assert (added.value, changed.value) == (" v", "w")


@pytest.mark.parametrize(
    ("octets", "kind", "code"),
    [
        (REJECT, Reject, "550 5.7.1"),
        (TEMPFAIL, Defer, "451 4.7.1"),
        (says(b"y", b"552 5.2.2 full"), Reject, "552 5.2.2"),
        (says(b"y", b"450 4.2.0 grey"), Defer, "450 4.2.0"),
        (says(b"4"), Defer, "421 4.7.1"),
        (says(b"f"), Defer, "421 4.7.1"),
    ],
)
@pytest.mark.parametrize("letter", "CHMRTLNBE")
def test_refusals(letter: str, octets: bytes, kind: type[Reject | Defer], code: str) -> None:
    """A refusal is the verdict at its stage, with the filter's reply; before the greeting it is 554 or 421."""
    stage = dict(zip("CHMRTLNBE", (*STAGES[:5], *[Stage.MESSAGE] * 4), strict=True))[letter]
    world = World(FakeMilter({letter.encode(): octets}))
    said = world.ask_all(until=stage)
    assert said[:-1] == [None] * (len(said) - 1)
    assert isinstance(said[-1], kind)
    if letter == "C":
        code = ("554" if kind is Reject else "421") + code[3:]
    assert str(said[-1].reply).startswith(code)
    assert said[-1].reason.source == "mta.toml:9"


def test_a_refusal_leaves_no_changes() -> None:
    """What is refused or discarded is not changed."""
    change = says(b"h", b"X-A", b"v")
    assert isinstance(World(content_filter(change, decision=REJECT)).ask_all()[-1], Reject)
    assert isinstance(World(content_filter(change, decision=says(b"d"))).ask_all()[-1], Discard)


def test_refused_at_connect_or_helo_is_refused_for_good() -> None:
    """The verdict stays to the end of the session, and the connection is not kept for it."""
    for letter, stage in ((b"C", Stage.CONNECT), (b"H", Stage.HELO)):
        world = World(FakeMilter({letter: REJECT}))
        refused = world.ask_all(until=stage)[-1]
        assert [world.ask(later) for later in STAGES[1:] if later is not Stage.HEADERS] == [refused] * 5
        world.network.move()
        assert world.filters[0].commands().endswith(letter.decode() + "Q")
        assert world.filters[0].lost


def test_a_refused_recipient_is_one_recipient() -> None:
    """A refusal at RCPT is that recipient's; the message goes on with the others."""
    world = World(FakeMilter({b"R": [REJECT, CONTINUE]}))
    world.ask_all(until=Stage.MAIL)
    assert isinstance(world.ask(Stage.RCPT), Reject)
    assert world.ask(Stage.RCPT, recipient=CAROL) is None
    assert world.ask(Stage.DATA, recipients=(CAROL,)) is None
    assert world.filters[0].commands() == "OCHMRRT"


def test_refused_later_is_refused_to_the_end_of_the_message() -> None:
    """After a refusal at DATA the filter hears no more of the message; the next one begins with an abort."""
    world = World(FakeMilter({b"T": [TEMPFAIL]}))
    refused = world.ask_all(until=Stage.DATA)[-1]
    assert world.ask(Stage.MESSAGE) == refused
    assert world.ask(Stage.MAIL) is None
    assert world.ask(Stage.RCPT) is None
    assert world.filters[0].commands() == "OCHMRTAMR"


def test_accept_at_connect_or_helo_is_for_the_session() -> None:
    """A filter that accepts a session is told QUIT and nothing more, and no connection is kept."""
    for letter in (b"C", b"H"):
        world = World(FakeMilter({letter: ACCEPT}))
        assert world.ask_all() == [None] * 7
        assert world.filters[0].commands() == "OCQ" if letter == b"C" else "OCHQ"
        assert world.filters[0].lost
        assert len(world.network.tried) == 1


def test_accept_later_is_for_the_message() -> None:
    """A filter that accepts a message is not asked about it any more, but about the next one."""
    world = World(FakeMilter({b"R": [ACCEPT]}))
    assert world.ask_all() == [None] * 7
    assert world.filters[0].commands() == "OCHMR"
    assert world.ask(Stage.MAIL) is None
    assert world.ask(Stage.MESSAGE) is None
    assert world.filters[0].commands() == "OCHMRAMRTLLNBE"


def test_accept_at_the_end_takes_the_changes() -> None:
    """Accept at the end of a message is like "continue" there."""
    world = World(content_filter(says(b"h", b"X-A", b"v"), decision=ACCEPT))
    [added] = world.ask_all()[-1]
    assert added.name == "X-A"


def test_discard_stays_to_the_end_of_the_message() -> None:
    """Discarded at MAIL, the message is discarded whenever it is asked for."""
    world = World(FakeMilter({b"M": [says(b"d")]}))
    discarded = world.ask_all(until=Stage.MAIL)[-1]
    assert isinstance(discarded, Discard)
    assert world.ask(Stage.RCPT) == world.ask(Stage.MESSAGE) == discarded
    assert world.ask(Stage.MAIL) is None


def test_421_ends_the_session() -> None:
    """A filter that closes the session at RCPT closes it for good."""
    world = World(FakeMilter({b"R": says(b"y", b"421 4.7.0 go away")}))
    closing = world.ask_all(until=Stage.RCPT)[-1]
    assert closing.reply.closing
    assert world.ask(Stage.MAIL) == closing


# What goes wrong

HOSTILE = {
    "a length of 0": b"\0\0\0\0",
    "a length of 1 GB": BAD_LENGTH,
    "an unknown reply": says(b"x"),
    "data behind a decision": says(b"c", b"x"),
    "a change before the end": says(b"h", b"X-A", b"v"),
    "a reply code with line ends": says(b"y", b"550 5.7.1 a\r\n250 2.0.0 b"),
    "a positive reply code": says(b"y", b"250 2.0.0 fine"),
    "skip": says(b"s"),
    "closing": CLOSE,
}


@pytest.mark.parametrize("failure", ["tempfail", "accept", "reject"])
@pytest.mark.parametrize("what", HOSTILE)
def test_what_breaks_the_protocol(what: str, failure: str) -> None:
    """Anything malformed or misplaced ends the connection, and what is said is the administrator's choice."""
    world = World(FakeMilter({b"R": HOSTILE[what]}), FakeMilter(), failure=failure)
    said = world.ask_all(until=Stage.RCPT)[-1]
    world.network.move()
    assert world.filters[0].lost
    assert said.reason.text.startswith("filter at inet:127.0.0.1:8891: ")
    assert said.reason.source == "mta.toml:9"
    later = [world.ask(stage) for stage in (Stage.DATA, Stage.MESSAGE)]
    if failure == "accept":
        assert said == Tag(said.reason, "filter-failed")
        assert later == [None, None]
        assert [world.ask(stage) for stage in (Stage.MAIL, Stage.RCPT)] == [said, None], "noted with each message"
        assert len(world.network.tried) == 1
    else:
        assert str(said.reply).startswith("451 4.7.1" if failure == "tempfail" else "550 5.7.1")
        assert later == [said, said]
        assert [world.ask(stage) for stage in (Stage.MAIL, Stage.RCPT)] == [None, None], "the next one is tried anew"
        assert world.filters[1].commands() == "OCHMR"
    assert world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("octets", [BAD_LENGTH, CONTINUE, options(version=7), options(actions=1 << 20), CLOSE])
def test_a_negotiation_that_fails(octets: bytes) -> None:
    """A wrong answer to the options is a failure at connect: 421."""
    world = World(FakeMilter({b"O": octets}))
    said = world.ask(Stage.CONNECT)
    assert str(said.reply).startswith("421 4.7.1")
    world.network.move()
    assert world.filters[0].lost


def test_a_filter_that_is_not_there() -> None:
    """A refused connection is a failure; a filter that is there later is asked from the next message on."""
    world = World(REFUSED, REFUSED, FakeMilter())
    assert str(world.ask(Stage.CONNECT).reply).startswith("421 4.7.1")
    assert str(world.ask(Stage.MAIL).reply).startswith("451 4.7.1")
    assert isinstance(world.ask(Stage.RCPT), Defer)
    assert world.ask(Stage.MAIL) is None
    assert world.filters[0].commands() == "OCHM"


def test_a_connection_that_never_comes() -> None:
    """A connection has its deadline, from the start of it to the end of the negotiation."""
    world = World(None)
    waiting = world.start(facts(Stage.CONNECT))
    world.clock.advance(29.9)
    assert not waiting.called
    world.clock.advance(0.2)
    assert "no connection within 30 s" in result(waiting).reason.text  # type: ignore[union-attr]
    world = World(FakeMilter({b"O": SILENCE}), after=20.0)
    waiting = world.start(facts(Stage.CONNECT))
    world.clock.advance(20)
    world.network.move()
    world.clock.advance(9.9)
    assert not waiting.called
    world.clock.advance(0.1)
    assert "no answer to OPTIONS in 10 s" in result(waiting).reason.text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("letter", "seconds"), [("C", 1), ("H", 1), ("M", 1), ("R", 1), ("T", 1), ("L", 1), ("N", 1), ("B", 2), ("E", 3)]
)
@pytest.mark.parametrize("said", [SILENCE, CONTINUE[:4], says(b"y", b"550 5.7.1 no")[:9]])
def test_silence_has_its_deadline(letter: str, seconds: int, said: bytes) -> None:
    """Each step waits as long as its deadline and no longer, for a filter that is silent or stops in a packet."""
    deadlines = MilterDeadlines(command=1, body=2, end=3, longest=100)
    world = World(FakeMilter({letter.encode(): said}), deadlines=deadlines)
    stages = [stage for stage in STAGES if stage is not Stage.HEADERS]
    last = next(stage for stage in stages if stage is Stage.MESSAGE or letter == "CHMRT"[stages.index(stage)])
    for stage in stages[: stages.index(last)]:
        world.ask(stage)
    waiting = world.start(facts(last))
    world.clock.advance(seconds - 0.1)
    assert not waiting.called
    world.clock.advance(0.2)
    opinion: Any = result(waiting)
    assert f"in {seconds} s" in opinion.reason.text
    world.network.move()
    assert world.filters[0].lost
    assert world.clock.getDelayedCalls() == []


def test_single_octets_move_no_deadline() -> None:
    """A filter that sends an octet of a packet now and then is as silent as one that sends nothing."""
    world = World(FakeMilter({b"C": SILENCE}), deadlines=MilterDeadlines(command=10))
    waiting = world.start(facts(Stage.CONNECT))
    for octet in says(b"y", b"550 5.7.1 no")[:9]:
        world.clock.advance(1)
        world.filters[0].say(bytes([octet]))
        world.network.move()
    assert not waiting.called
    world.clock.advance(1)
    assert waiting.called


def test_progress_is_waited_for_but_not_for_ever() -> None:
    """A sign of life begins the deadline anew, up to the longest; then the filter has failed, whatever it says."""
    deadlines = MilterDeadlines(end=10, longest=35)
    world = World(FakeMilter({b"E": SILENCE}), deadlines=deadlines)
    world.ask_all(until=Stage.DATA)
    waiting = world.start(facts(Stage.MESSAGE))
    for _ in range(3):
        world.clock.advance(9)
        world.filters[0].say(PROGRESS)
        world.network.move()
    assert not waiting.called, "27 s with a deadline of 10 s"
    world.clock.advance(8)
    opinion: Any = result(waiting)
    assert opinion.reason.text.endswith("not done in 35 s")
    world = World(FakeMilter({b"E": PROGRESS + CONTINUE}), deadlines=deadlines)
    assert world.ask_all()[-1] is None


def test_what_is_not_read_is_not_written() -> None:
    """A filter that does not read gets what the transport's buffer holds and one piece more; then its deadline."""
    world = World(FakeMilter(flow=0x80000), deadlines=MilterDeadlines(body=5))
    world.ask_all(until=Stage.DATA)
    wire = world.network.wires[0]
    wire.room = 1000
    body = Pieces(b"x" * 1_000_000, 65536)
    answer = world.milter.ask(facts(Stage.MESSAGE, body=body, head=b""))
    assert isinstance(answer, defer.Deferred)
    world.network.wires[0].other.move()  # what the filter has said; not what it was told
    wire.move()
    wire.other.move()
    assert 1000 < len(wire.waiting) < 1000 + CHUNK + 100
    assert body.read < 300_000
    world.clock.advance(5)
    opinion: Any = result(answer)
    assert "nothing read in 5 s" in opinion.reason.text


def test_what_is_read_again_is_written_on() -> None:
    """Once the filter reads again, the rest of the body follows, whole."""
    world = World(FakeMilter(flow=0x80000))
    world.ask_all(until=Stage.DATA)
    world.network.wires[0].room = 1000
    body = bytes(range(256)) * 4000
    assert world.ask(Stage.MESSAGE, body=MemoryBody(body)) is None
    assert b"".join(world.filters[0].data(b"B")) == body


def test_a_reply_after_an_abort_is_a_fault() -> None:
    """Who answers an abort has broken the protocol; the next message meets a new connection."""
    world = World(FakeMilter({b"A": CONTINUE}), FakeMilter())
    world.ask_all(until=Stage.RCPT)
    world.milter.reset("s1")
    world.network.move()
    assert world.filters[0].lost
    assert world.ask(Stage.MAIL) is None
    assert world.filters[1].commands() == "OCHM"


def test_a_connection_lost_between_messages_is_made_anew() -> None:
    """A filter that was started again in the middle of a session costs no message."""
    world = World(FakeMilter(), FakeMilter())
    world.ask_all()
    world.filters[0].transport.loseConnection()
    world.network.move()
    assert [world.ask(stage) for stage in STAGES[2:]] == [None] * 5
    assert world.filters[1].commands() == "OCHMRTLLNBE"


def test_a_connection_lost_in_a_message_fails_it() -> None:
    """A filter that forgets half a message cannot judge the other half."""
    world = World(FakeMilter(), FakeMilter())
    world.ask_all(until=Stage.RCPT)
    world.filters[0].transport.loseConnection()
    world.network.move()
    said = world.ask(Stage.DATA)
    assert isinstance(said, Defer)
    assert "connection lost" in said.reason.text


def test_another_body_is_bounded() -> None:
    """Another body may be as long as a message, and not longer."""
    piece = says(b"b", b"x" * 999)
    assert isinstance(World(content_filter(piece * 3), message_maximum=3000).ask_all()[-1][0], ReplaceBody)
    said = World(content_filter(piece * 4), message_maximum=3000).ask_all()[-1]
    assert isinstance(said, Defer)
    assert "3,000 octets" in said.reason.text


# The end of things


def test_closing_while_an_answer_is_due() -> None:
    """A session that is lost while its filter thinks: the connection is cut, and who waits hears nothing."""
    for script in ({b"C": SILENCE}, {b"O": SILENCE}):
        world = World(FakeMilter(script))
        waiting = world.start(facts(Stage.CONNECT))
        world.milter.closed("s1")
        assert result(waiting) is None
        world.network.move()
        assert world.filters[0].lost
        assert world.clock.getDelayedCalls() == []
    for script in ({b"O": SILENCE}, {b"M": SILENCE}):
        world = World(FakeMilter(script))
        waiting = world.start(facts(Stage.MAIL))
        waiting.cancel()
        said: Any = result(waiting)
        assert "given up" in said.reason.text, "given up, but not closed: the next question is another"
    world = World(None)
    waiting = world.start(facts(Stage.CONNECT))
    waiting.cancel()
    said = result(waiting)
    assert "given up" in said.reason.text
    world = World(None)
    waiting = world.start(facts(Stage.CONNECT))
    world.milter.closed("s1")
    assert result(waiting) is None
    assert world.clock.getDelayedCalls() == []


def test_giving_up_cuts_the_connection() -> None:
    """A question that its asker cancels leaves nothing behind, and the next message is a new connection."""
    world = World(FakeMilter({b"T": SILENCE}), FakeMilter())
    world.ask_all(until=Stage.RCPT)
    waiting = world.start(facts(Stage.DATA))
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    world.network.move()
    assert world.filters[0].lost
    assert world.clock.getDelayedCalls() == []
    assert world.ask(Stage.MAIL) is None


def test_quit_is_not_waited_for_for_ever() -> None:
    """A filter that does not read QUIT is cut off."""
    world = World(FakeMilter())
    world.ask(Stage.CONNECT)
    world.milter.closed("s1")
    assert "abort" not in world.network.wires[0].calls
    world.clock.advance(LINGER)
    assert world.network.wires[0].calls[-1] == "abort"
    world.network.move()
    assert world.clock.getDelayedCalls() == []


def test_stop_ends_all_conversations() -> None:
    """When the settings are another's, or the server stops, each filter is told QUIT."""
    world = World(FakeMilter(), FakeMilter())
    world.ask(Stage.CONNECT)
    world.ask(Stage.CONNECT, session="s2")
    world.milter.stop()
    world.network.move()
    assert [each.commands() for each in world.filters] == ["OCQ", "OCQ"]
    world.milter.closed("s1")
    world.milter.reset("s2")


def test_sessions_do_not_meet() -> None:
    """Each session has a connection of its own; the end of one is nothing to the other."""
    world = World(FakeMilter(), FakeMilter())
    world.ask_all(until=Stage.MAIL)
    world.ask_all(until=Stage.MAIL, session="s2")
    world.milter.closed("s1")
    world.network.move()
    assert world.ask(Stage.RCPT, session="s2") is None
    assert [each.commands() for each in world.filters] == ["OCHMQ", "OCHMR"]


def test_an_error_of_ours_is_an_exception() -> None:
    """A body that cannot be read from the disk is our fault: it is raised, and the filter is dropped."""

    class Broken(Pieces):
        def pieces(self) -> Iterator[bytes]:
            raise OSError("the disk is gone")

    world = World(FakeMilter(), FakeMilter())
    world.ask_all(until=Stage.DATA)
    with pytest.raises(OSError, match="the disk is gone"):
        world.ask(Stage.MESSAGE, body=Broken(b"x" * 10, 1))
    world.network.move()
    assert world.filters[0].lost
    assert world.ask(Stage.MAIL) is None


@pytest.mark.parametrize("given_up", [False, True])
def test_a_connection_lost_while_the_disk_is_read(given_up: bool) -> None:
    """What happens while a piece of the body is read in a thread is noticed after it, and nothing is left behind."""
    reading: list[defer.Deferred[Any]] = []
    read: list[Callable[[], Any]] = []

    def run(function: Any, /, *args: object) -> defer.Deferred[Any]:
        read.append(lambda: function(*args))
        reading.append(defer.Deferred())
        return reading[-1]

    world = World(FakeMilter(), FakeMilter(), run=run)
    world.ask_all(until=Stage.DATA)
    waiting = world.start(facts(Stage.MESSAGE, body=Pieces(b"x" * 100_000, 1000)))
    if given_up:
        waiting.addErrback(lambda _: None)
        waiting.cancel()
    else:
        world.filters[0].transport.loseConnection()
    world.network.move()
    reading[0].callback(read[0]())
    opinion: Any = result(waiting)
    assert given_up or "connection lost" in opinion.reason.text
    assert len(reading) == 1
    world.network.move()
    assert world.filters[0].lost
    assert world.clock.getDelayedCalls() == []
    assert world.ask(Stage.MAIL) is None


# Who is asked


def test_whose_mail_it_sees() -> None:
    """Another service, an exempt network, a rehearsal, which is told so: no opinion, and no connection."""
    world = World(FakeMilter(), services=("smtpd",), exempt=(ipaddress.ip_network("192.0.2.0/24"),))
    assert world.ask_all(service="mx", address="203.0.113.1") == [None] * 7
    assert world.ask_all(service="smtpd") == [None] * 7
    assert world.ask_all(service="smtpd", address="203.0.113.1", rehearsal=True) == [*[UNASKED] * 5, None, UNASKED]
    assert world.network.tried == []
    world.ask(Stage.CONNECT, service="smtpd", address="203.0.113.1")
    assert len(world.network.tried) == 1


def test_a_policy_by_its_name() -> None:
    """The policy has the name of its settings, and is asked at all stages that a filter knows, but at headers."""
    milter = World().milter
    assert milter.name == "filter"
    assert milter.stages == set(STAGES) - {Stage.HEADERS}
    assert isinstance(milter, KeepsSessions)
    assert isinstance(milter, Stops)


# Several


def test_later_filters_see_the_changes_of_earlier_ones() -> None:
    """Three filters in a chain: the second sees field and body of the first, the third what the second removed."""
    body = Packet(b"b", b"new\r\n").octets
    first = World(content_filter(says(b"i", 1, b"X-A", b"one"), says(b"h", b"X-A", b"two"), body))
    second = World(content_filter(says(b"m", 1, b"X-A", b""), says(b"m", 5, b"X-B", b"added")))
    third = World(FakeMilter())
    chain = Chain([first.milter, second.milter, third.milter])
    ruling: Ruling | None = None
    for stage in STAGES:
        waiting = chain.ask(facts(stage))
        for _ in range(20):
            for world in (first, second, third):
                world.network.move()
        ruling = result(waiting) if isinstance(waiting, defer.Deferred) else waiting
    assert second.filters[0].data(b"L") == [
        b"X-A\0one\0",
        b"From\0a@client.test\0",
        b"Subject\0one\n two\0",
        b"X-A\0two\0",
    ]
    assert second.filters[0].data(b"B") == [b"new\r\n"]
    assert [data.partition(b"\0")[0] for data in third.filters[0].data(b"L")] == [b"From", b"Subject", b"X-A", b"X-B"]
    assert ruling is not None
    assert ruling.facts is not None
    assert ruling.facts.head == HEAD + b"X-A: two\r\nX-B: added\r\n"
