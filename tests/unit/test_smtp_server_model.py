"""mta.smtp.server: properties that hold for any input, any rules and any cut."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mta.smtp.event import NEED_DATA, Content, Data, EndOfData, Event, Hello, Mail, Rcpt, Refused, Reset
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import Reply
from mta.smtp.server import Phase
from tests.doubles.dialogue import LATER, POLICY, Dialogue, accept, codes

LIMITS = Limits(recipients=3, errors=10_000, idle_commands=10_000, transactions=10_000)
OFFER = Offer(starttls=True, mechanisms=("PLAIN", "LOGIN"), auth_without_tls=True)

octets = st.lists(
    st.sampled_from(
        [
            b"EHLO a\r\n",
            b"HELO\r\n",
            b"MAIL FROM:<a@b> SIZE=5\r\n",
            b"MAIL FROM:<> FOO\r\n",
            b"RCPT TO:<a@b>\r\n",
            b"RCPT TO:<a@b\r\n",
            b"DATA\r\n",
            b"text\r\n",
            b"..\r\n",
            b".\r\n",
            b"\r",
            b"\n",
            b"\0\xff",
            b"RSET\r\n",
            b"NOOP\r\n",
            b"AUTH PLAIN AGEAYg==\r\n",
            b"AUTH LOGIN\r\n",
            b"YQ==\r\n",
            b"*\r\n",
            b"VRFY x\r\n",
            b"STARTTLS\r\n",
            b"x" * 3000,
            b"QUIT\r\n",
        ]
    )
).map(b"".join)


class Fickle:
    """Rules that refuse by a list of chances, in the order of the events."""

    def __init__(self, chances: list[bool]) -> None:
        self.chances = iter(chances)

    def __call__(self, event: Event) -> Reply | None:
        """Refuse, or not."""
        good = accept(event)
        return POLICY if good is not None and next(self.chances, False) else good


@given(octets, st.lists(st.booleans(), max_size=30), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=150)
def test_a_session_does_not_depend_on_the_reads(stream: bytes, chances: list[bool], places: list[int]) -> None:
    """Whole, octet by octet or cut anywhere: the same octets out, the same events."""
    # until STARTTLS, where what is dropped depends on what had come
    stream = stream.partition(b"STARTTLS")[0]
    marks = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    cuts = [[stream], [bytes([o]) for o in stream], [stream[a:b] for a, b in pairwise(marks)]]
    seen = []
    for pieces in cuts:
        dialogue = Dialogue(Fickle(chances), OFFER, LIMITS)
        out = b"".join(map(dialogue.send, pieces))
        # of content that is refused, how much was given out before depends on the reads
        events = [event for event in dialogue.events if not isinstance(event, Content)]
        seen.append((out, events, dialogue.session.phase, dialogue.session.closing))
    assert seen[0] == seen[1] == seen[2]


@given(st.lists(st.binary(max_size=40) | octets))
def test_any_octets_get_replies(pieces: list[bytes]) -> None:
    """Whatever comes, nothing raises, and what goes out are well-formed replies."""
    dialogue = Dialogue(offer=OFFER)
    for piece in pieces:
        out = dialogue.send(piece)
        assert re.fullmatch(rb"(?:[2345][0-9]{2}[ -][ -~]*\r\n)*", out)
        assert dialogue.session.buffered < 12288


class OneReplyForEachCommand(RuleBasedStateMachine):
    """A client that pipelines, rules that are slow and moody, and a plain model of the transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.dialogue = Dialogue(offer=Offer(), limits=LIMITS)
        self.session = self.dialogue.session
        self.commands: list[bytes] = []
        self.replies = b""
        self.owed: Event | None = None
        self.expected: list[str] = []
        self.phase = Phase.READY
        self.recipients = 0
        self.tried = False
        self.reset_by_hello = False

    @rule(
        command=st.sampled_from(
            [
                b"MAIL FROM:<a@b>",
                b"RCPT TO:<c@d>",
                b"DATA",
                b"RSET",
                b"NOOP",
                b"EHLO x",
                b"BOGUS",
                b"MAIL FROM:<a",
                b"HELP",
            ]
        ),
        count=st.integers(1, 4),
    )
    def send(self, command: bytes, count: int) -> None:
        """Pipeline a command, some times over."""
        self.commands += [command] * count
        self.session.receive((command + b"\r\n") * count)

    @precondition(lambda self: self.owed is None)
    @rule()
    def step(self) -> None:
        """Take one event, and let the model take all commands up to it."""
        event = self.session.next_event()
        if isinstance(event, Content):
            return
        if self.reset_by_hello:
            assert isinstance(event, Reset)
            self.reset_by_hello = False
            return
        self.model(event)
        if isinstance(event, Mail | Rcpt | Data | Hello | EndOfData):
            self.owed = event

    @precondition(lambda self: self.owed is not None)
    @rule(good=st.booleans())
    def answer(self, good: bool) -> None:
        """Answer the event that waits."""
        assert self.owed is not None
        event, self.owed = self.owed, None
        reply = (accept(event) or POLICY) if good else LATER
        self.session.reply(reply)
        self.expected.append(f"{reply.code}")
        if isinstance(event, EndOfData) or (good and isinstance(event, Hello)):
            self.reset_by_hello = self.phase in (Phase.MAIL, Phase.RCPT)
            self.phase, self.recipients, self.tried = Phase.READY, 0, False
        elif isinstance(event, Mail) and good:
            self.phase = Phase.MAIL
        elif isinstance(event, Rcpt):
            self.tried = True
            self.recipients += good
            if good:
                self.phase = Phase.RCPT
        elif isinstance(event, Data) and good:
            self.phase = Phase.DATA
            # the commands pipelined so far are content now: end it, with their octets in front
            self.commands = [b"content"]
            self.session.receive(b".\r\n")

    def model(self, event: object) -> None:
        """Say what the session must have answered by itself until it gave `event`."""
        while self.commands or event is not NEED_DATA:
            command = self.commands.pop(0)
            if command == b"content":
                assert isinstance(event, EndOfData)
                return
            verb = command[:4]
            open_ = self.phase in (Phase.MAIL, Phase.RCPT)
            if command == b"EHLO x":
                assert isinstance(event, Hello)
                return
            if verb == b"NOOP":
                self.expected.append("250")
            elif verb == b"HELP":
                self.expected.append("214")
            elif verb == b"RSET":
                self.expected.append("250")
                self.phase, self.recipients, self.tried = Phase.READY, 0, False
                if open_:
                    assert isinstance(event, Reset)
                    return
            elif command == b"MAIL FROM:<a@b>" and not open_:
                assert isinstance(event, Mail)
                return
            elif verb == b"RCPT" and open_ and self.recipients < 3:
                assert isinstance(event, Rcpt)
                return
            elif verb == b"DATA" and self.phase is Phase.RCPT:
                assert isinstance(event, Data)
                return
            else:
                assert isinstance(event, Refused)
                self.expected.append(self.refusal(verb, open_))
                return

    def refusal(self, verb: bytes, open_: bool) -> str:
        """The code by which the session itself refuses."""
        if verb == b"BOGU":
            return "500"
        if verb == b"MAIL" and not open_:
            return "501"
        if verb == b"RCPT" and open_:
            return "452"
        if verb == b"DATA" and self.tried:
            return "554"
        return "503"

    @invariant()
    def replies_are_those_expected(self) -> None:
        """One reply for each command that was looked at, in order."""
        self.replies += self.session.output()
        said = [code.split()[0] for code in codes(self.replies)]
        assert said == self.expected
        assert self.session.phase is self.phase


OneReplyForEachCommand.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_one_reply_for_each_command = OneReplyForEachCommand.TestCase
