"""Reports about what could not be delivered, or not yet (RFC 3461 §5, RFC 5321 §4.5.5, §6.1).

A report goes from ``<>`` to the reverse-path. There is none about mail from ``<>`` (no report about a report), none
that the sender asked not to have (NOTIFY), and none to a sender of ours that does not exist any more: these
recipients end, or wait, with that reason recorded. This module decides, `mta.message.report` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mta.mail.envelope import Envelope, Notify
from mta.mail.queueid import Chance, new_queue_id
from mta.mail.reason import Reason
from mta.message.report import About, Report, write_report
from mta.relay.schedule import Fail, Step, Wait
from mta.settings.expansion import Addressed
from mta.spool.port import Message, Origin, QueuedMessage, QueuedRecipient

Address = Callable[..., tuple[Addressed, ...]]
"""Gives recipients and destinations for a mailbox; nothing where it is one of ours that does not exist."""


@dataclass(frozen=True, slots=True)
class Bouncer:
    """What a report needs of the world: our name, the shard it is stored in, chance, and where its reader is."""

    hostname: str
    shard: Callable[[], int]
    chance: Chance
    address: Address
    lifetime: Callable[[], float]
    """Seconds that a message is tried."""

    def reports(
        self,
        message: QueuedMessage,
        head: bytes,
        steps: Sequence[tuple[QueuedRecipient, Step]],
        now: float,
        active: Callable[[Sequence[str]], bool],
    ) -> tuple[tuple[Message, ...], Mapping[int, Reason]]:
        """Make the reports that `steps` ask for, which quote `head`: one of failures, one of delays.

        The mapping says for each recipient (by number) that nothing is reported about, why not.
        """
        failed = [(queued, step) for queued, step in steps if isinstance(step, Fail)]
        delayed = [(queued, step) for queued, step in steps if isinstance(step, Wait) and step.told]
        reasons: dict[int, Reason] = {}
        reports = []
        for about, wish in ((failed, Notify.FAILURE), (delayed, Notify.DELAY)):
            wanted = [(queued, step) for queued, step in about if queued.recipient.notify & wish]
            reasons.update(
                (queued.number, Reason("the sender asked for no report", "RFC 3461 §4.1 NOTIFY"))
                for queued, step in about
                if not queued.recipient.notify & wish
            )
            if not wanted:
                continue
            to = self._reader(message)
            if isinstance(to, Reason):
                reasons.update((queued.number, to) for queued, _ in wanted)
            else:
                reports.append(self._report(message, head, wanted, to, now, active))
        return tuple(reports), reasons

    def _reader(self, message: QueuedMessage) -> tuple[Addressed, ...] | Reason:
        sender = message.envelope.reverse_path
        if sender is None:
            return Reason("mail from <> gets no report", "RFC 5321 §4.5.5")
        return self.address(sender) or Reason(f"the sender {sender} does not exist here any more", "etc/domains")

    def _report(
        self,
        message: QueuedMessage,
        head: bytes,
        about: Sequence[tuple[QueuedRecipient, Step]],
        to: tuple[Addressed, ...],
        now: float,
        active: Callable[[Sequence[str]], bool],
    ) -> Message:
        shard = self.shard()
        queue_id = new_queue_id(now, shard, self.chance)
        octets = write_report(
            Report(
                queue_id=queue_id,
                hostname=self.hostname,
                now=now,
                original_id=message.queue_id,
                envelope=message.envelope,
                accepted=message.accepted,
                until=message.accepted + self.lifetime(),
                about=tuple(About(queued.recipient, step.outcome) for queued, step in about),
                content=head,
            ),
            self.chance,
        )
        destinations = [addressed.destination for addressed in to]
        envelope = Envelope(
            None,
            tuple(addressed.recipient for addressed in to),
            smtputf8=not all(addressed.recipient.mailbox.ascii for addressed in to),
        )
        return Message(
            queue_id,
            now,
            envelope,
            octets,
            len(octets),
            not octets.isascii(),
            Origin("bounce"),
            destinations,
            active(destinations),
        )
