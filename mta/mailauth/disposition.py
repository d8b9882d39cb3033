"""What is done with a message, by its DMARC result and the settings: accept, quarantine, reject or defer; pure.

The decisions are made in this order; each may change what the one before it said, and each leaves its reason:

==================================  ===================================================================================
what decides                        what it says
==================================  ===================================================================================
the result (`mta.mailauth.dmarc`)   fail: what the domain asks for. temperror: accept, or defer (`defer_on_temperror`).
                                    From unreadable: `unreadable_from`. Else: accept, and nothing below is looked at
`apply_dmarc`                       ``quarantine``: no reject; ``report``: accept. Of a fail alone
`arc_sealers`                       accept, see below. Of a fail alone
`[[mailauth.override]]`             what the first that fits says; not of a temperror
==================================  ===================================================================================

A chain of ARC seals is believed (RFC 8617 §7.2.1) if it validates, and was sealed by a domain of `arc_sealers` at its
end and at all instances down to the one whose results say ``dmarc=pass`` for this author domain. Whoever sealed later
may have changed the message and From: an earlier seal of a domain we trust says nothing of what an unknown one made of
it.

RFC 9989 §7.4 wants no mail rejected for ``p=reject`` alone. The default here does reject, as most large receivers do,
unless one of the decisions below knows better; ``apply_dmarc = "quarantine"`` is the letter of that section.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mta.dns.answer import normal
from mta.mail.reason import Reason
from mta.mailauth.authres_reader import read_results
from mta.mailauth.result import Arc, ArcResult, Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult
from mta.settings.mailauth import MailauthSettings
from mta.settings.values import fold_domain
from mta.smtp import status
from mta.smtp.reply import Reply, reply


class Action(enum.Enum):
    """What is done with a message."""

    ACCEPT = "accept"
    QUARANTINE = "quarantine"
    REJECT = "reject"
    DEFER = "defer"


class OverrideKind(enum.Enum):
    """Why something else was done than the domain asked for (RFC 9990, "Policy Override Reason")."""

    LOCAL_POLICY = "local_policy"
    POLICY_TEST_MODE = "policy_test_mode"
    TRUSTED_FORWARDER = "trusted_forwarder"


@dataclass(frozen=True, slots=True)
class Override:
    """One such reason, as a report tells it to the domain."""

    kind: OverrideKind
    comment: str


@dataclass(frozen=True, slots=True)
class Disposition:
    """What is done, and how it was decided."""

    action: Action
    decisions: tuple[Reason, ...]
    """In order; the last one holds."""
    overrides: tuple[Override, ...] = ()
    folder: str = ""
    """For quarantine: the folder of the Maildir; empty: the inbox."""

    @property
    def reason(self) -> Reason:
        """The decision that holds."""
        return self.decisions[-1]


_ASKED = {
    DmarcPolicy.NONE: Action.ACCEPT,
    DmarcPolicy.QUARANTINE: Action.QUARANTINE,
    DmarcPolicy.REJECT: Action.REJECT,
}


def decide(authentication: Authentication, settings: MailauthSettings, address: str) -> Disposition:
    """Decide about a message from a peer at the IP address `address`, all checks done."""
    dmarc = authentication.dmarc
    if dmarc is None:
        return Disposition(Action.ACCEPT, (Reason("DMARC was not checked"),))
    if dmarc.result is DmarcResult.TEMPERROR:
        return _without_answer(dmarc, settings)
    if dmarc.result is DmarcResult.FAIL:
        found = _failed(dmarc, authentication.arc, settings)
    elif dmarc.result is DmarcResult.PERMERROR and not dmarc.domain:
        found = _decided(Disposition(Action(settings.unreadable_from), (dmarc.reason,)), "unreadable_from", settings)
    else:
        return Disposition(Action.ACCEPT, (dmarc.reason,))
    found = _overridden(found, dmarc, settings, address)
    return replace(found, folder=settings.quarantine_folder) if found.action is Action.QUARANTINE else found


def refusal(disposition: Disposition, dmarc: Dmarc | None) -> Reply:
    """Make the reply to the end of a message that is rejected or deferred (RFC 9989 §7.2, with its word DMARC)."""
    if disposition.action is Action.DEFER:
        return reply(451, status.DIRECTORY_FAILURE.transient(), "DMARC cannot be checked now; try again later")
    if dmarc and dmarc.domain:
        return reply(550, status.REFUSED, f"Rejected per DMARC policy for {dmarc.domain}: {dmarc.reason.text}")
    text = dmarc.reason.text if dmarc else disposition.reason.text
    return reply(550, status.REFUSED, f"Rejected: DMARC needs one author domain: {text}")


def treat_body_length(signatures: Iterable[Dkim], settings: MailauthSettings) -> tuple[Dkim, ...]:
    """Give good signatures that leave octets of the body unsigned the result that `body_length` says.

    To be done before DMARC looks at them.
    """
    if settings.body_length == "pass":
        return tuple(signatures)
    return tuple(
        replace(each, result=DkimResult.POLICY, reason=_unsigned(each))
        if each.result is DkimResult.PASS and each.unsigned_octets
        else each
        for each in signatures
    )


def _unsigned(signature: Dkim) -> Reason:
    return Reason(f"l= leaves {signature.unsigned_octets} octets unsigned", "[mailauth] body_length, RFC 6376 §8.2")


def _without_answer(dmarc: Dmarc, settings: MailauthSettings) -> Disposition:
    action = Action.DEFER if settings.defer_on_temperror else Action.ACCEPT
    return _decided(Disposition(action, (dmarc.reason,)), "defer_on_temperror", settings)


def _decided(found: Disposition, key: str, settings: MailauthSettings) -> Disposition:
    """Note that one setting turned a result into an action."""
    written = str(getattr(settings, key)).lower()
    decision = Reason(f"{key} is {written}: {found.action.value}", f"[mailauth] {key}")
    return replace(found, decisions=(*found.decisions, decision))


def _failed(dmarc: Dmarc, arc: Arc | None, settings: MailauthSettings) -> Disposition:
    text = f"{dmarc.domain} fails DMARC and asks for {dmarc.policy.value}: {dmarc.reason.text}"
    found = Disposition(_ASKED[dmarc.policy], (Reason(text, dmarc.reason.source),))
    if dmarc.tested:
        found = replace(found, overrides=(Override(OverrideKind.POLICY_TEST_MODE, "t=y: one step below"),))
    action = _applied(found.action, settings.apply_dmarc)
    if action is not found.action:
        reason = Reason(f"DMARC policies lead to {action.value} here", "[mailauth] apply_dmarc")
        found = _changed(found, dmarc, action, reason, Override(OverrideKind.LOCAL_POLICY, reason.text))
    vouched = _vouched_by_arc(dmarc, arc, settings) if found.action is not Action.ACCEPT else None
    if arc and vouched:
        # The form of RFC 8617 §7.2.2
        seals = "".join(f" as[{instance}].d={arc.sealers[instance - 1]}" for instance in range(len(arc.sealers), 0, -1))
        found = _changed(
            found, dmarc, Action.ACCEPT, vouched, Override(OverrideKind.LOCAL_POLICY, f"arc={arc.result.value}{seals}")
        )
    return found


def _applied(action: Action, applied: str) -> Action:
    if applied == "report":
        return Action.ACCEPT
    return Action.QUARANTINE if applied == "quarantine" and action is Action.REJECT else action


def _vouched_by_arc(dmarc: Dmarc, arc: Arc | None, settings: MailauthSettings) -> Reason | None:
    """Say which trusted sealer saw DMARC pass for the author domain; None: none did."""
    if arc is None or arc.result is not ArcResult.PASS:
        return None
    sealed = list(zip(arc.sealers, arc.results, strict=True))
    for instance, (sealer, text) in reversed(list(enumerate(sealed, 1))):
        if normal(fold_domain(sealer)) not in settings.arc_sealers:
            return None
        read = read_results(text)
        for result in read.results if read else ():
            if result.method == "dmarc" and result.result == "pass":
                author = normal(fold_domain(result.value("header.from")))
                if author == dmarc.domain:
                    said = f"{sealer} saw DMARC pass for {author} (ARC instance {instance})"
                    return Reason(said, "[mailauth] arc_sealers")
    return None


def _overridden(found: Disposition, dmarc: Dmarc, settings: MailauthSettings, address: str) -> Disposition:
    for setting in settings.overrides:
        if setting.fits(dmarc.domain, address):
            action = Action(setting.disposition)
            reason = Reason(f"an override says {action.value}: {setting.reason or 'no reason given'}", setting.source)
            forwarder = action is Action.ACCEPT and bool(setting.networks)
            kind = OverrideKind.TRUSTED_FORWARDER if forwarder else OverrideKind.LOCAL_POLICY
            return _changed(found, dmarc, action, reason, Override(kind, setting.reason))
    return found


def _changed(found: Disposition, dmarc: Dmarc, action: Action, reason: Reason, override: Override) -> Disposition:
    """Decide anew. What is reported is why the domain's wish was not followed, if it is not."""
    tests = tuple(each for each in found.overrides if each.kind is OverrideKind.POLICY_TEST_MODE)
    overrides = tests if action is _ASKED[dmarc.policy] else (*tests, override)
    return replace(found, action=action, decisions=(*found.decisions, reason), overrides=overrides)
