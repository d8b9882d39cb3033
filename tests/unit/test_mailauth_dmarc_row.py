"""`mta.mailauth.dmarc_row`: what aggregate reports are made of (RFC 9990)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.mailauth.disposition import Action, Disposition, Override, OverrideKind
from mta.mailauth.dmarc_row import (
    HUMAN_MAXIMUM,
    ROW_MAXIMUM,
    SIGNATURES_MAXIMUM,
    DkimRow,
    DmarcRow,
    PolicyPublished,
    PolicyReason,
    SpfRow,
    decode,
    dmarc_row,
    encode,
)
from mta.mailauth.result import (
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcPolicy,
    DmarcResult,
    Spf,
    SpfResult,
)

WHY = Reason("because", "a record")
RECORD = "v=DMARC1; p=reject; sp=quarantine; np=none; t=y; adkim=s; fo=1; rua=mailto:a@example.net"
FAILED = Dmarc(
    DmarcResult.FAIL,
    WHY,
    "news.example.net",
    "example.net",
    "example.net",
    DmarcPolicy.QUARANTINE,
    published=RECORD,
    tested=True,
)
AUTHENTICATION = Authentication(
    helo=Spf(SpfResult.PASS, "helo", "mx.example.com", WHY),
    spf=Spf(SpfResult.SOFTFAIL, "mailfrom", "example.com", WHY),
    dkim=(Dkim(DkimResult.FAIL, "example.net", "s1", WHY),),
    dmarc=FAILED,
)
DISPOSITION = Disposition(Action.ACCEPT, (WHY,), (Override(OverrideKind.LOCAL_POLICY, "a friend"),))


def row(
    authentication: Authentication = AUTHENTICATION,
    disposition: Disposition = DISPOSITION,
    to: tuple[str, ...] = ("example.org",),
    mail_from: str = "Example.com",
) -> DmarcRow | None:
    """The row of a message."""
    return dmarc_row(authentication, disposition, address="192.0.2.1", envelope_from=mail_from, envelope_to=to)


def test_row() -> None:
    """A row holds what a report needs, with the names and words of a report."""
    assert row() == DmarcRow(
        source_ip="192.0.2.1",
        disposition="none",
        dkim="fail",
        spf="fail",
        header_from="news.example.net",
        envelope_from="example.com",
        envelope_to="example.org",
        policy_published=PolicyPublished(
            "example.net", "reject", "quarantine", "none", "s", "r", "1", "y", ("mailto:a@example.net",), "treewalk"
        ),
        reasons=(PolicyReason("local_policy", "a friend"),),
        auth_dkim=(DkimRow("example.net", "s1", "fail", "because"),),
        auth_spf=SpfRow("example.com", "softfail", "because"),
    )


@pytest.mark.parametrize(
    ("result", "policy", "action", "told"),
    [
        (DmarcResult.PASS, DmarcPolicy.REJECT, Action.ACCEPT, "pass"),
        (DmarcResult.PASS, DmarcPolicy.NONE, Action.ACCEPT, "none"),
        (DmarcResult.FAIL, DmarcPolicy.NONE, Action.ACCEPT, "none"),
        (DmarcResult.FAIL, DmarcPolicy.REJECT, Action.ACCEPT, "none"),
        (DmarcResult.FAIL, DmarcPolicy.REJECT, Action.QUARANTINE, "quarantine"),
        (DmarcResult.FAIL, DmarcPolicy.REJECT, Action.REJECT, "reject"),
    ],
)
def test_disposition(result: DmarcResult, policy: DmarcPolicy, action: Action, told: str) -> None:
    """The disposition is what was done; "pass" where a policy had no reason to act."""
    checked = replace(AUTHENTICATION, dmarc=replace(FAILED, result=result, policy=policy))
    found = row(checked, Disposition(action, (WHY,)))
    assert found is not None
    assert found.disposition == told


def test_alignment() -> None:
    """Dkim and spf tell of alignment, not of the checks alone."""
    found = row(replace(AUTHENTICATION, dmarc=replace(FAILED, spf_aligned=True)))
    assert found is not None
    assert (found.spf, found.dkim) == ("pass", "fail")


@pytest.mark.parametrize("result", [DmarcResult.NONE, DmarcResult.TEMPERROR, DmarcResult.PERMERROR])
def test_nothing_to_report(result: DmarcResult) -> None:
    """Without a policy that was evaluated there is no row, nor for mail that will come again."""
    assert row(replace(AUTHENTICATION, dmarc=Dmarc(result, WHY, "example.net"))) is None
    assert row(Authentication()) is None
    assert row(AUTHENTICATION, Disposition(Action.DEFER, (WHY,))) is None


def test_several_recipients() -> None:
    """The domain of the recipients is told where it is one."""
    for to, told in ((("a.example", "A.example"), "a.example"), (("a.example", "b.example"), ""), ((), "")):
        found = row(to=to)
        assert found is not None
        assert found.envelope_to == told


def test_no_spf() -> None:
    """Without SPF there is none."""
    found = row(replace(AUTHENTICATION, spf=None), mail_from="")
    assert found is not None
    assert (found.auth_spf, found.envelope_from) == (None, "")


def test_order_of_signatures() -> None:
    """Aligned ones first, then others that pass, then those that do not; no more than so many."""
    passed = [
        Dkim(DkimResult.PASS, domain, "s", WHY) for domain in ("example.com", "x.example.net", "news.example.net")
    ]
    failed = [Dkim(DkimResult.FAIL, "news.example.net", f"s{number}", WHY) for number in range(20)]
    found = row(replace(AUTHENTICATION, dkim=(*failed, *passed)))
    assert found is not None
    assert [each.domain for each in found.auth_dkim][:4] == [
        "news.example.net",
        "x.example.net",
        "example.com",
        "news.example.net",
    ]
    assert [each.result for each in found.auth_dkim][2:4] == ["pass", "fail"]
    assert len(found.auth_dkim) == SIGNATURES_MAXIMUM


def test_human_text_bounded() -> None:
    """Explanations are cut."""
    long = Reason("x" * 1000)
    spf = Spf(SpfResult.FAIL, "mailfrom", "example.com", long)
    override = Override(OverrideKind.LOCAL_POLICY, "x" * 1000)
    found = row(replace(AUTHENTICATION, spf=spf), replace(DISPOSITION, overrides=(override,)))
    assert found is not None
    assert found.auth_spf is not None
    assert (len(found.auth_spf.human_result), len(found.reasons[0].comment)) == (HUMAN_MAXIMUM, HUMAN_MAXIMUM)


def test_encoding() -> None:
    """A row is one line of JSON in ASCII, and read back it is the same."""
    found = row(replace(AUTHENTICATION, spf=Spf(SpfResult.FAIL, "mailfrom", "example.com", Reason("é\r\n\0"))))
    assert found is not None
    text = encode(found)
    assert text.isascii()
    assert text.isprintable()
    assert decode(text) == found
    assert json.loads(text)["policy_published"]["p"] == "reject"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '"x"', '{"auth_spf": 1}', "{"])
def test_no_row(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"."):
        decode(text)


@given(
    st.integers(1, 253), st.integers(1, 253), st.integers(0, 20), st.text(max_size=300), st.integers(0, 12), st.text()
)
@example(253, 253, 20, "é" * 300, 12, "é" * 300)
@example(253, 253, 1, "", 0, '"' * 300)
@example(100, 100, 10, "", 10, "")
def test_row_fits_the_history(long: int, length: int, signatures: int, text: str, uris: int, comment: str) -> None:
    """However much there is to tell, a row is written short enough to be kept whole, and its core is never lost."""
    rua = ",".join(f"mailto:{'x' * 60}{number}@example.net" for number in range(uris))
    checked = Authentication(
        spf=Spf(SpfResult.FAIL, "mailfrom", "s" * long, Reason(text)),
        dkim=tuple(Dkim(DkimResult.PASS, "d" * long, "s" * length, Reason(text)) for _ in range(signatures)),
        dmarc=replace(
            FAILED,
            domain="f" * long,
            policy_domain="p" * length,
            published=RECORD.replace("mailto:a@example.net", rua),
        ),
    )
    disposition = replace(DISPOSITION, overrides=(Override(OverrideKind.LOCAL_POLICY, comment),) * 2)
    found = row(checked, disposition, to=("t" * length,), mail_from="m" * long)
    assert found is not None
    written = encode(found)
    assert len(json.dumps(written)) <= ROW_MAXIMUM
    again = decode(written)
    comments = tuple(PolicyReason(each.type, "") for each in found.reasons)
    assert again.reasons in (found.reasons, comments)
    assert (
        replace(
            again,
            auth_dkim=found.auth_dkim,
            auth_spf=found.auth_spf,
            policy_published=replace(again.policy_published, rua=found.policy_published.rua),
            reasons=found.reasons,
        )
        == found
    )
