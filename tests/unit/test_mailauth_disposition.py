"""`mta.mailauth.disposition`: each line of its table, and what becomes of mail without an author (row 55)."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from mta.mail.reason import Reason
from mta.mailauth.disposition import (
    Action,
    Disposition,
    Override,
    OverrideKind,
    decide,
    refusal,
    treat_body_length,
)
from mta.mailauth.result import (
    Arc,
    ArcResult,
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcPolicy,
    DmarcResult,
)
from mta.settings.mailauth import MailauthSettings, OverrideSettings

WHY = Reason("because", "a record")
PEER = "192.0.2.1"


def dmarc(result: DmarcResult = DmarcResult.FAIL, policy: DmarcPolicy = DmarcPolicy.REJECT, **more: Any) -> Dmarc:
    """A check of mail from example.net."""
    return Dmarc(result, WHY, **{"domain": "example.net", "policy_domain": "example.net", "policy": policy} | more)


def arc(*seals: tuple[str, str], result: ArcResult = ArcResult.PASS) -> Arc:
    """A chain, of sealer and results for each instance."""
    sealers, results = zip(*seals, strict=True)
    return Arc(result, WHY, len(seals), sealers, results=results)


def decided(check: Dmarc | None, chain: Arc | None = None, address: str = PEER, **settings: Any) -> Disposition:
    """Decide about a message."""
    return decide(Authentication(dmarc=check, arc=chain), MailauthSettings(**settings), address)


UNREADABLE = Dmarc(DmarcResult.PERMERROR, Reason("there are several From fields"))


@pytest.mark.parametrize(
    ("policy", "action"),
    [
        (DmarcPolicy.NONE, Action.ACCEPT),
        (DmarcPolicy.QUARANTINE, Action.QUARANTINE),
        (DmarcPolicy.REJECT, Action.REJECT),
    ],
)
def test_policy_is_applied(policy: DmarcPolicy, action: Action) -> None:
    """Mail that fails gets what its domain asks for; there is nothing to excuse in a report."""
    found = decided(dmarc(policy=policy))
    assert (found.action, found.overrides) == (action, ())
    assert found.reason == Reason(f"example.net fails DMARC and asks for {policy.value}: because", "a record")
    assert found.decisions == (found.reason,)
    assert found.folder == ("Junk" if action is Action.QUARANTINE else "")


@pytest.mark.parametrize("result", [DmarcResult.PASS, DmarcResult.NONE, DmarcResult.PERMERROR])
def test_accepted(result: DmarcResult) -> None:
    """Mail that passes, has no policy, or whose record is not valid is accepted, whatever overrides say."""
    found = decided(dmarc(result), overrides=(OverrideSettings(disposition="reject"),))
    assert found == Disposition(Action.ACCEPT, (WHY,))


def test_not_checked() -> None:
    """Without a check nothing is done."""
    found = decided(None, overrides=(OverrideSettings(disposition="reject"),))
    assert found.action is Action.ACCEPT
    assert found.reason.text == "DMARC was not checked"


@pytest.mark.parametrize(("defer", "action"), [(False, Action.ACCEPT), (True, Action.DEFER)])
def test_temperror(defer: bool, action: Action) -> None:
    """Mail without an answer is put off only where the administrator says so; it is never rejected."""
    for overrides in ((), (OverrideSettings(disposition="reject"),)):
        found = decided(
            dmarc(DmarcResult.TEMPERROR), defer_on_temperror=defer, overrides=overrides, apply_dmarc="report"
        )
        assert found.action is action
        assert found.decisions == (
            WHY,
            Reason(f"defer_on_temperror is {str(defer).lower()}: {action.value}", "[mailauth] defer_on_temperror"),
        )


@pytest.mark.parametrize("disposition", ["accept", "quarantine", "reject"])
def test_unreadable_from(disposition: str) -> None:
    """Mail whose author cannot be told is rejected, or what the setting says, also where policies are not applied."""
    assert decided(UNREADABLE).action is Action.REJECT
    found = decided(UNREADABLE, unreadable_from=disposition, apply_dmarc="report")
    assert found.action is Action(disposition)
    assert found.decisions[0].text == "there are several From fields"
    assert found.reason.source == "[mailauth] unreadable_from"


def test_unreadable_from_and_overrides() -> None:
    """An override for networks, or for all, is for such mail too; one for a domain is not."""
    network = OverrideSettings(networks=(ipaddress.ip_network("192.0.2.0/24"),), disposition="accept")
    domain = OverrideSettings(domain="example.net", disposition="accept")
    below = OverrideSettings(domain=".example.net", disposition="accept")
    assert decided(UNREADABLE, overrides=(network,)).action is Action.ACCEPT
    assert decided(UNREADABLE, overrides=(network,), address="198.51.100.1").action is Action.REJECT
    assert decided(UNREADABLE, overrides=(domain, below)).action is Action.REJECT


@pytest.mark.parametrize(
    ("applied", "policy", "action"),
    [
        ("quarantine", DmarcPolicy.REJECT, Action.QUARANTINE),
        ("quarantine", DmarcPolicy.QUARANTINE, Action.QUARANTINE),
        ("quarantine", DmarcPolicy.NONE, Action.ACCEPT),
        ("report", DmarcPolicy.REJECT, Action.ACCEPT),
        ("report", DmarcPolicy.QUARANTINE, Action.ACCEPT),
        ("report", DmarcPolicy.NONE, Action.ACCEPT),
    ],
)
def test_apply(applied: str, policy: DmarcPolicy, action: Action) -> None:
    """apply_dmarc weakens policies; where it did, reports say so."""
    found = decided(dmarc(policy=policy), apply_dmarc=applied)
    assert found.action is action
    if action.value == {"none": "accept"}.get(policy.value, policy.value):
        assert (len(found.decisions), found.overrides) == (1, ())
    else:
        assert [each.source for each in found.decisions] == ["a record", "[mailauth] apply_dmarc"]
        assert [each.kind for each in found.overrides] == [OverrideKind.LOCAL_POLICY]


def test_quarantine_folder() -> None:
    """Quarantined mail goes to the folder of the settings, whoever decided it; "" is the inbox."""
    asks = dmarc(policy=DmarcPolicy.QUARANTINE)
    assert decided(asks, quarantine_folder="Suspicious").folder == "Suspicious"
    assert decided(asks, quarantine_folder="").folder == ""
    assert decided(UNREADABLE, unreadable_from="quarantine").folder == "Junk"
    assert decided(dmarc(), overrides=(OverrideSettings(disposition="quarantine"),)).folder == "Junk"


def test_testing() -> None:
    """t=y is told in reports, also beside another reason."""
    tested = dmarc(policy=DmarcPolicy.QUARANTINE, tested=True)
    assert [each.kind for each in decided(tested).overrides] == [OverrideKind.POLICY_TEST_MODE]
    kinds = [each.kind for each in decided(tested, apply_dmarc="report").overrides]
    assert kinds == [OverrideKind.POLICY_TEST_MODE, OverrideKind.LOCAL_POLICY]


# Overrides


@pytest.mark.parametrize(
    ("domain", "networks", "fits"),
    [
        ("", (), True),
        ("example.net", (), True),
        ("example.org", (), False),
        (".net", (), True),
        (".example.net", (), False),
        ("net", (), False),
        ("", ("192.0.2.0/24",), True),
        ("", ("198.51.100.0/24", "192.0.2.1/32"), True),
        ("", ("198.51.100.0/24",), False),
        ("example.net", ("192.0.2.0/24",), True),
        ("example.net", ("198.51.100.0/24",), False),
        ("example.org", ("192.0.2.0/24",), False),
    ],
)
def test_override_fits(domain: str, networks: tuple[str, ...], fits: bool) -> None:
    """An override is for its domain, or all below it, and for its networks; what it does not name does not matter."""
    override = OverrideSettings(domain, tuple(map(ipaddress.ip_network, networks)), "accept", "a friend", "mta.toml:7")
    found = decided(dmarc(), overrides=(override,))
    assert found.action is (Action.ACCEPT if fits else Action.REJECT)
    if fits:
        assert found.reason == Reason("an override says accept: a friend", "mta.toml:7")
        kind = OverrideKind.TRUSTED_FORWARDER if networks else OverrideKind.LOCAL_POLICY
        assert found.overrides == (Override(kind, "a friend"),)


def test_first_override_counts() -> None:
    """The first that fits counts, be it milder or stricter than the policy."""
    overrides = (
        OverrideSettings("example.org", disposition="accept"),
        OverrideSettings("example.net", disposition="quarantine"),
        OverrideSettings(disposition="reject"),
    )
    assert decided(dmarc(), overrides=overrides).action is Action.QUARANTINE
    assert decided(dmarc(policy=DmarcPolicy.NONE), overrides=overrides[2:]).action is Action.REJECT


def test_override_comes_last() -> None:
    """It holds against apply_dmarc and trusted sealers; what follows the domain's wish after all needs no excuse."""
    chain = arc(("list.example", "x; dmarc=pass header.from=example.net"))
    found = decided(
        dmarc(),
        chain,
        arc_sealers=("list.example",),
        apply_dmarc="quarantine",
        overrides=(OverrideSettings(disposition="reject", source="mta.toml:7"),),
    )
    assert found.action is Action.REJECT
    assert [each.source for each in found.decisions] == [
        "a record",
        "[mailauth] apply_dmarc",
        "[mailauth] arc_sealers",
        "mta.toml:7",
    ]
    assert found.overrides == ()


# ARC

PASSED = "mx.list.example; spf=pass smtp.mailfrom=example.net; dmarc=pass header.from=example.net"
FAILED = "mx.list.example; dmarc=fail header.from=example.net"


@pytest.mark.parametrize(
    ("chain", "vouched"),
    [
        (arc(("list.example", PASSED)), True),
        (arc(("LIST.example.", PASSED)), True),
        (arc(("list.example", PASSED), result=ArcResult.FAIL), False),
        (arc(("list.example", PASSED), result=ArcResult.NONE), False),
        (arc(("list.example", FAILED)), False),
        (arc(("list.example", "x; none")), False),
        (arc(("list.example", "(")), False),
        (arc(("list.example", "x; dmarc=pass")), False),
        (arc(("list.example", "x; dmarc=pass header.from=evil.example")), False),
        (arc(("list.example", "x; spf=pass (; dmarc=pass header.from=example.net)")), False),
        (arc(("list.example", "x; dmarc=fail header.from=a; dmarc=pass header.from=Example.NET")), True),
        (arc(("evil.example", PASSED)), False),
        (arc(("evil.example", PASSED), ("list.example", FAILED)), False),
        (arc(("evil.example", FAILED), ("list.example", PASSED)), True),
        (arc(("list.example", PASSED), ("other.example", FAILED)), True),
        (arc(("list.example", PASSED), ("evil.example", FAILED)), False),
        (arc(("list.example", PASSED), ("evil.example", PASSED)), False),
        (arc(("list.example", PASSED), ("evil.example", FAILED), ("list.example", FAILED)), False),
        (None, False),
    ],
)
def test_arc(chain: Arc | None, vouched: bool) -> None:
    """A valid chain is believed from its end down, as far as trusted sealers go, that DMARC passed for this author."""
    for applied in ("apply", "quarantine"):
        found = decided(dmarc(), chain, arc_sealers=("list.example", "other.example"), apply_dmarc=applied)
        assert (found.action is Action.ACCEPT) is vouched
        if vouched:
            assert found.reason.source == "[mailauth] arc_sealers"
            assert "saw DMARC pass for example.net" in found.reason.text
            assert found.overrides[-1].kind is OverrideKind.LOCAL_POLICY
            assert found.overrides[-1].comment.startswith("arc=pass as[")
    assert decided(dmarc(), chain).action is Action.REJECT


def test_arc_in_reports() -> None:
    """Reports name the seals, the last first (RFC 8617 §7.2.2)."""
    chain = arc(("list.example", PASSED), ("other.example", FAILED))
    found = decided(dmarc(), chain, arc_sealers=("list.example", "other.example"))
    assert found.overrides == (
        Override(OverrideKind.LOCAL_POLICY, "arc=pass as[2].d=other.example as[1].d=list.example"),
    )


def test_arc_is_not_needed() -> None:
    """Where mail is accepted anyway nobody looks at the chain."""
    found = decided(dmarc(policy=DmarcPolicy.NONE), arc(("list.example", PASSED)), arc_sealers=("list.example",))
    assert len(found.decisions) == 1


# Replies


def test_refusals() -> None:
    """The reply says why, with the word DMARC, the domain and what was wrong (RFC 9989 §7.2)."""
    assert str(refusal(decided(dmarc()), dmarc())) == ("550 5.7.1 Rejected per DMARC policy for example.net: because")
    assert str(refusal(decided(UNREADABLE), UNREADABLE)) == (
        "550 5.7.1 Rejected: DMARC needs one author domain: there are several From fields"
    )
    waiting = dmarc(DmarcResult.TEMPERROR)
    assert str(refusal(decided(waiting, defer_on_temperror=True), waiting)) == (
        "451 4.4.3 DMARC cannot be checked now; try again later"
    )


# l=


def signature(result: DkimResult, unsigned: int) -> Dkim:
    """A signature that leaves octets unsigned."""
    return Dkim(result, "example.net", "s1", WHY, unsigned_octets=unsigned)


def test_body_length() -> None:
    """A good signature that leaves octets unsigned does not vouch, unless the setting says so; others stay."""
    whole, partly, bad = (
        signature(DkimResult.PASS, 0),
        signature(DkimResult.PASS, 7),
        signature(DkimResult.FAIL, 7),
    )
    treated = treat_body_length([whole, partly, bad], MailauthSettings())
    assert [each.result for each in treated] == [DkimResult.PASS, DkimResult.POLICY, DkimResult.FAIL]
    assert treated[1].reason.text == "l= leaves 7 octets unsigned"
    assert (treated[0], treated[2]) == (whole, bad)
    settings = MailauthSettings(body_length="pass")
    assert treat_body_length([whole, partly, bad], settings) == (whole, partly, bad)
