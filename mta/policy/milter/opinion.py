"""What a milter says, as verdicts of a policy.

=========================  ============================================================================================
reply                      verdict
=========================  ============================================================================================
continue, accept, skip     what it changes, in its order; a quarantine is `Hold`, at the end
reject                     `Reject`, 550 5.7.1
tempfail                   `Defer`, 451 4.7.1
reply code                 `Reject` or `Defer` with that reply
discard                    `Discard`
shutdown                   `Defer`, 421 4.7.1
=========================  ============================================================================================

Before the greeting a refusal is 554, a delay 421: no other codes may stand there (RFC 5321 §4.3.2). What is refused or
discarded is not changed.

**Where fields go.** libmilter says "0 makes it the topmost header"; what filters rely on is what Sendmail and Postfix
do: fields are inserted into the message as it will be delivered, where the MTA's own Received field is the first, so
OpenDKIM and rspamd insert at 1 to come right below it. Ours is put in front when all policies are done: 0 and 1 are
both the front of what we have, n comes behind the field n-1. Fields are changed in the message as it came: the n-th
of a name, without our own. A number beyond the last one adds a field at the end. A field that was removed no longer
counts (as in Postfix; in Sendmail it does: filters remove from the last to the first, which is right with both).

**Values.** A fold comes as LF and white space. One space behind the colon belongs to how fields are written, so it is
taken away where the filter sends it (`Flow.LEADING_SPACE`). Octets that are no UTF-8 are kept by surrogates.
"""

from __future__ import annotations

import re

from mta.mail.reason import Reason
from mta.policy import verdict
from mta.policy.facts import Stage
from mta.policy.milter import reply as said
from mta.policy.milter.option import Flow
from mta.policy.milter.reply import Decision, ReplyCode
from mta.policy.milter.session import Reply as Answer
from mta.policy.verdict import REJECTED, Defer, Discard, Reject, Verdict
from mta.smtp import status
from mta.smtp.reply import Reply, reply

UNAVAILABLE = reply(451, status.REFUSED.transient(), "Service unavailable; try again later")
BROKEN = reply(550, status.REFUSED, "Service unavailable")
CLOSING = reply(421, status.REFUSED.transient(), "Service unavailable; try again later")

_BARE = re.compile(rb"\r\n|\r|\n")


def refusal(answer: Reply, stage: Stage, reason: Reason) -> Reject | Defer:
    """Refuse with a reply whose code may stand at this stage."""
    if stage is Stage.CONNECT:
        answer = Reply(554 if answer.permanent else 421, answer.status, answer.lines)
    return Reject(reason, answer) if answer.permanent else Defer(reason, answer)


def decision(answer: Answer, stage: Stage, name: str, source: str) -> Reject | Defer | Discard | None:
    """Return what the filter called `name` decides; None where the mail goes on."""
    match answer.decision:
        case ReplyCode(given):
            return refusal(given, stage, Reason(f"{name} says {given}", source))
        case Decision.REJECT:
            return refusal(REJECTED, stage, Reason(f"{name} rejects it", source))
        case Decision.TEMPFAIL:
            return refusal(UNAVAILABLE, stage, Reason(f"{name} defers it", source))
        case Decision.SHUTDOWN | Decision.CONNECTION_FAILURE:
            return refusal(CLOSING, stage, Reason(f"{name} ends the session", source))
        case Decision.DISCARD:
            return Discard(Reason(f"{name} discards it", source))
    return None


def changes(answer: Answer, flow: Flow, name: str, source: str) -> list[Verdict]:
    """Return what the filter called `name` changes."""
    found: list[Verdict] = []
    held: list[Verdict] = []
    for change in answer.changes:
        if isinstance(change, said.Quarantine):
            held.append(verdict.Hold(Reason(f"{name}: {change.reason}", source)))
        else:
            found.append(_verdict(change, flow, name, source))
    return found + held


def _verdict(change: said.Change, flow: Flow, name: str, source: str) -> Verdict:
    match change:
        case said.AddField():
            why = Reason(f"{name} adds {change.name}", source)
            return verdict.AddHeader(why, change.name, _text(change.value, flow), -1)
        case said.InsertField():
            why = Reason(f"{name} adds {change.name}", source)
            return verdict.AddHeader(why, change.name, _text(change.value, flow), max(0, change.index - 1))
        case said.ChangeField():
            why = Reason(f"{name} {'changes' if change.value else 'removes'} {change.name}", source)
            return verdict.ChangeHeader(why, change.name, change.index, _text(change.value, flow))
        case said.ReplaceBody():
            return verdict.ReplaceBody(Reason(f"{name} replaces the body", source), canonical(change.octets))
        case said.AddRecipient():
            return verdict.AddRecipient(Reason(f"{name} adds {change.mailbox}", source), change.mailbox)
        case said.RemoveRecipient():
            return verdict.RemoveRecipient(Reason(f"{name} removes {change.mailbox}", source), change.mailbox)
        case said.ChangeSender():
            why = Reason(f"{name} changes the sender to {change.sender or '<>'}", source)
            return verdict.ChangeSender(why, change.sender)
    raise AssertionError(change)


def canonical(body: bytes) -> bytes:
    """Return a body whose lines all end with CRLF: a bare CR or LF is taken for one, and none may be left open."""
    whole = body.count(b"\r\n")
    if body.count(b"\n") != whole or body.count(b"\r") != whole:
        body = _BARE.sub(b"\r\n", body)
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


def _text(value: bytes, flow: Flow) -> str:
    if flow & Flow.LEADING_SPACE:
        value = value.removeprefix(b" ")
    return value.decode("utf-8", "surrogateescape")
