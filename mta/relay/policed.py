"""A delivery that policies are asked about: before the attempt whether it is made, after it what they think of it.

======================  =========================================================================================
said at ``route``       what becomes of the recipients of this attempt
======================  =========================================================================================
`Reject`                failed with that reply: the sender is told
`Defer`                 tried again by schedule
`Hold`                  not tried until the operator releases them
`Discard`               ended, recorded; nobody is told
anything else           delivered as if nobody had been asked
======================  =========================================================================================

What is said at ``attempt``, once for each recipient, is noted and changes nothing: the attempt has been made. A bug in
a policy is a bug of the attempt: its mail waits, and does not expire for it (`mta.relay.queue`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet import defer

from mta.mail.outcome import Deferred, Discarded, Failed, Held, Outcome
from mta.observe.journal import Journal
from mta.policy.chain import Chain, Ruling
from mta.policy.facts import Facts, Stage
from mta.relay.port import Delivery
from mta.smtp import status
from mta.spool.port import Content, QueuedMessage, QueuedRecipient


class PolicedDelivery:
    """`delivery`, with the policies of `chain` before and behind it."""

    def __init__(self, delivery: Delivery, chain: Callable[[], Chain], journal: Journal) -> None:
        self._delivery = delivery
        self._chain = chain
        self._journal = journal

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> Mapping[int, Outcome]:
        """See `Delivery`."""
        chain = self._chain()
        outcome = await self.judge(chain, message, recipients)
        if outcome is not None:
            return {queued.number: outcome for queued in recipients}
        outcomes = await self._delivery.deliver(message, content, recipients)
        if chain.wants(Stage.ATTEMPT):
            for queued in recipients:
                await self._tell(chain, message, queued, outcomes.get(queued.number))
        return outcomes

    async def judge(
        self, chain: Chain, message: QueuedMessage, recipients: Sequence[QueuedRecipient]
    ) -> Outcome | None:
        """Ask whether an attempt is made; an outcome where it is not."""
        if not chain.wants(Stage.ROUTE):
            return None
        return _outcome(await self._ask(chain, _facts(Stage.ROUTE, message, recipients)))

    async def _tell(
        self, chain: Chain, message: QueuedMessage, queued: QueuedRecipient, outcome: Outcome | None
    ) -> None:
        """Tell of an outcome; a policy that fails now must not undo it."""
        if outcome is None:
            return
        said = outcome.reply or str(outcome.reason)
        facts = _facts(Stage.ATTEMPT, message, [queued], outcome=type(outcome).__name__.lower(), reply=said)
        try:
            await self._ask(chain, facts)
        except Exception as error:
            self._journal.fault("policy after an attempt", error, queue_id=message.queue_id)

    async def _ask(self, chain: Chain, facts: Facts) -> Ruling:
        asked = chain.ask(facts)
        ruling = await asked if isinstance(asked, defer.Deferred) else asked
        ruling.note(self._journal, facts.stage, queue_id=facts.queue_id)
        return ruling


def _outcome(ruling: Ruling) -> Outcome | None:
    refusal = ruling.refusal
    if refusal is not None:
        kind = Failed if refusal.reply.permanent else Deferred
        return kind(refusal.reason, refusal.reply.status or status.OTHER, reply=str(refusal.reply))
    if ruling.discard is not None:
        return Discarded(ruling.discard.reason)
    if ruling.hold is not None:
        return Held(ruling.hold.reason)
    return None


def _facts(
    stage: Stage, message: QueuedMessage, recipients: Sequence[QueuedRecipient], outcome: str = "", reply: str = ""
) -> Facts:
    origin = message.origin
    mailboxes = tuple(queued.recipient.mailbox for queued in recipients)
    return Facts(
        stage,
        service="relay",
        session=origin.session,
        address=origin.address,
        login=origin.login,
        sender=message.envelope.reverse_path,
        size=message.size,
        smtputf8=message.envelope.smtputf8,
        recipient=mailboxes[0] if stage is Stage.ATTEMPT else None,
        recipients=mailboxes,
        queue_id=message.queue_id,
        destination=recipients[0].destination,
        outcome=outcome,
        reply=reply,
    )
