"""How large a message may be for a domain."""

from __future__ import annotations

from mta.policy.facts import Stage
from mta.policy.size import DomainSize
from mta.policy.verdict import Reject
from mta.smtp.address import Mailbox
from tests.doubles.policy import ALICE, facts, said

SMALL = Mailbox("bob", "small.example")
POLICY = DomainSize(lambda mailbox: {"small.example": 1000}.get(mailbox.domain))


def test_a_declared_size_is_refused_at_rcpt() -> None:
    """Each recipient is judged by his own domain; a size that was not declared is not known yet."""
    verdict = POLICY.ask(facts(Stage.RCPT, recipient=SMALL, size=1001))
    assert isinstance(verdict, Reject)
    assert said(verdict) == (
        "552 5.3.4 <bob@small.example>: the message is too large, 1000 octets are taken",
        "1001 octets, and small.example takes 1000",
        "domain.toml message_size",
    )
    assert POLICY.ask(facts(Stage.RCPT, recipient=SMALL, size=1000)) is None
    assert POLICY.ask(facts(Stage.RCPT, recipient=ALICE, size=10**9)) is None
    assert POLICY.ask(facts(Stage.RCPT, recipient=SMALL, recipients=(SMALL,), size=0)) is None


def test_the_whole_message_is_refused_at_its_end() -> None:
    """What it has is compared for every recipient, and the reply names him."""
    verdict = POLICY.ask(facts(Stage.MESSAGE, recipients=(ALICE, SMALL), size=2000))
    assert said(verdict)[0].startswith("552 5.3.4 <bob@small.example>")
    assert POLICY.ask(facts(Stage.MESSAGE, recipients=(ALICE,), size=2000)) is None
