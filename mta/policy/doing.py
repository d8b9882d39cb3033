"""From the action of an administrator's rule to the verdict (pure)."""

from __future__ import annotations

from mta.mail.reason import Reason
from mta.policy import refusal
from mta.policy.facts import Stage
from mta.policy.verdict import AddHeader, Discard, File, Hold, Redirect, Tag, Verdict
from mta.settings.action import Action


def verdict(action: Action, stage: Stage, reason: Reason) -> Verdict:
    """Make the verdict that `action` stands for."""
    match action.word:
        case "reject":
            return refusal.reject(stage, action.text or "Refused by policy", reason)
        case "defer":
            return refusal.defer(stage, action.text or "Not now; try again later", reason)
        case "discard":
            return Discard(reason)
        case "hold":
            return Hold(reason)
        case "tag":
            return Tag(reason, action.text)
        case "add_header":
            return AddHeader(reason, action.field, action.text)
        case "file":
            return File(reason, action.text)
    assert action.mailbox is not None, "redirect is the last word"
    return Redirect(reason, action.mailbox)
