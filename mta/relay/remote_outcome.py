"""What a host's answers and faults mean for a recipient (RFC 5321 §4.2.5, §4.5.4.1; RFC 3463) – pure.

==============================================  ======================================================================
what came                                       outcome
==============================================  ======================================================================
2yz to the end of data                          `Delivered`
4yz, also 421 at any stage                      `Deferred`
552 to RCPT, not said to be about the mailbox   `Deferred`: too many recipients (RFC 5321 §4.5.3.1.10)
530 or 538 to MAIL after TLS had failed         `Deferred`: the clear text is our way out, not the message's fault
5yz                                             `Failed`
no answer to a whole content                    `Deferred`, and final for this attempt: the host may have the message
the content must not be sent                    `Failed`, whatever the host
any other fault                                 `Deferred`; with `local` where its cause is ours
==============================================  ======================================================================

An outcome has a `reply` where the host answered what was asked, and a status 4.4.1 of ours only where it never greeted.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.smtp.client import Fault, Stage
from mta.smtp.exchange import RecipientResult
from mta.smtp.reply_reader import ServerReply
from mta.smtp.status import BAD_CONNECTION, BARE_LINE_END, NO_ANSWER, TOO_MANY_RECIPIENTS


@dataclass(frozen=True, slots=True)
class Way:
    """By what way a host was spoken to; every reason names it."""

    remote: str
    """``mx.example.net [192.0.2.1]:25``."""
    protection: str
    """``over TLSv1.3 …``, or ``in clear text`` and why."""
    tls_failed: bool = False
    """Whether it is clear text because a handshake failed."""


def said(remote: str, reply: ServerReply) -> str:
    """Name a remote reply as the source of a reason."""
    return f"{remote} said: {reply}"


def too_many(result: RecipientResult) -> bool:
    """Whether the host wants this recipient in a transaction of its own (RFC 5321 §4.5.3.1.10)."""
    answer = result.answer
    if result.stage is not Stage.RCPT or not isinstance(answer, ServerReply) or answer.code not in (452, 552):
        return False
    # A host that says more says whether it is about this mailbox (X.2.2, full) or about their number
    return answer.status[1:] in ((0, 0), TOO_MANY_RECIPIENTS[1:])


def disconnected(result: RecipientResult) -> bool:
    """Whether the session ended before this recipient was decided."""
    return not isinstance(result.answer, ServerReply) or result.answer.code == 421


def unsendable(text: str) -> Failed:
    """Content that must not leave (see `mta.smtp.writer`): no host is to blame, and no other would get it."""
    return Failed(Reason(text, "RFC 5321 §2.3.8"), BARE_LINE_END)


def broken(fault: Fault, stage: str, way: Way) -> Deferred:
    """Map the end of a session before its answer."""
    # RFC 3463 §3.5: a connection that was there and came to nothing, by a time-out too, is X.4.2
    greeted = fault.stage is not Stage.GREETING
    status = BAD_CONNECTION if greeted and fault.status == NO_ANSWER else fault.status
    reason = Reason(f"{fault.text}, at {stage}, {way.protection}", way.remote)
    return Deferred(reason, status, way.remote, local=fault.local)


def outcome_of(result: RecipientResult, way: Way) -> Outcome:
    """Map what a host said, or did not say, by the table above."""
    stage, answer = result.stage.value, result.answer
    if not isinstance(answer, ServerReply):
        if answer.status == BARE_LINE_END:
            return unsendable(answer.text)
        if result.unknown:
            doubt = "the host may have the message, a duplicate is possible"
            reason = Reason(f"{answer.text}, after the whole content: {doubt}; {way.protection}", way.remote)
            return Deferred(reason, BAD_CONNECTION, way.remote, local=answer.local)
        return broken(answer, stage, way)
    reply = answer.text()
    source = said(way.remote, answer)
    if result.taken:
        return Delivered(Reason(f"taken, {way.protection}", source), answer.status, way.remote, reply)
    reason = Reason(f"refused at {stage}, {way.protection}", source)
    unsecured = way.tls_failed and result.stage is Stage.MAIL and answer.code in (530, 538)
    if answer.transient or unsecured or too_many(result):
        return Deferred(reason, answer.status.transient(), way.remote, reply)
    return Failed(reason, answer.status, way.remote, reply)
