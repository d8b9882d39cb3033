"""`mta.mailauth.dmarc_record`: each line of its table (``robustness.md`` row 67)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth.dmarc_record import (
    RECORD_MAXIMUM,
    URIS_MAXIMUM,
    DmarcRecord,
    one_step_down,
    read_dmarc_record,
    read_dmarc_records,
)
from mta.mailauth.result import DmarcPolicy


def record(text: str) -> DmarcRecord:
    """Read what must be a record."""
    found = read_dmarc_record(text.encode("latin-1"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1",
        "v=DMARC1;p=none",
        "v = DMARC1 ; p=none",
        "v\t=\tDMARC1\t;",
        "V=DMARC1; p=none",
    ],
)
def test_is_record(text: str) -> None:
    """What begins with the version is a record, with the white space that the grammar has and "v" in either case."""
    assert read_dmarc_record(text.encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=DMARC2; p=none",
        "v=dmarc1; p=none",
        "v=DMARC1 p=none",
        "v=DMARC11; p=none",
        "p=none; v=DMARC1",
        " v=DMARC1; p=none",
        "v=spf1 -all",
        "DMARC1; p=none",
    ],
)
def test_is_no_record(text: str) -> None:
    """A version that is not first, not there, or another makes it no record (§4.7)."""
    assert read_dmarc_record(text.encode()) is None


def test_all_tags() -> None:
    """Each tag is read."""
    found = record(
        "v=DMARC1; p=reject; sp=quarantine; np=none; psd=n; t=y; adkim=s; aspf=s;"
        " rua=mailto:a@example.net; ruf=mailto:b@example.net; fo=1:d:s;"
    )
    assert (found.p, found.sp, found.np) == (DmarcPolicy.REJECT, DmarcPolicy.QUARANTINE, DmarcPolicy.NONE)
    assert (found.psd, found.testing, found.adkim, found.aspf, found.fo) == ("n", True, "s", "s", "1:d:s")
    assert (found.rua, found.ruf) == (("mailto:a@example.net",), ("mailto:b@example.net",))
    assert found.applies
    assert found.faults == ()


def test_defaults() -> None:
    """What is not there has its default (§4.7)."""
    assert record("v=DMARC1; p=reject") == DmarcRecord("v=DMARC1; p=reject", p=DmarcPolicy.REJECT)


def test_values_by_any_case() -> None:
    """Words of values are told by any case (RFC 5234 §2.3); names of tags are not (RFC 6376 §3.2)."""
    found = record("v=DMARC1; p=Reject; SP=none; adkim=S; t=Y; psd=Y; fo=D")
    assert (found.p, found.sp, found.adkim, found.testing, found.psd, found.fo) == (
        DmarcPolicy.REJECT,
        None,
        "s",
        True,
        "y",
        "d",
    )


def test_unknown_and_obsolete_tags() -> None:
    """Unknown tags and those of RFC 7489 are ignored, whatever they hold."""
    assert record("v=DMARC1; x=1; pct=0; rf=\xff; ri=never; p=reject; zz=; pct=1") == DmarcRecord(
        "v=DMARC1; x=1; pct=0; rf=\xff; ri=never; p=reject; zz=; pct=1", p=DmarcPolicy.REJECT
    )


@pytest.mark.parametrize("tag", ["adkim", "aspf", "fo", "psd", "t"])
@pytest.mark.parametrize("value", ["", "x", "rs", "yn", "0:1", "d:d", "r\x00", "\xe9"])
def test_default_for_error(tag: str, value: str) -> None:
    """An error in a tag that has a default gives the default, and the policy stands (§4.8)."""
    found = record(f"v=DMARC1; p=reject; {tag}={value}")
    default = DmarcRecord("")
    for name in ("psd", "testing", "adkim", "aspf", "fo"):
        assert getattr(found, name) == getattr(default, name)
    assert found.p is DmarcPolicy.REJECT
    assert any(tag in fault for fault in found.faults)


@pytest.mark.parametrize("wrong", ["p=", "p=rejected", "p=reject; sp=x", "p=reject; np=", "sp=reject", "t=y", ""])
def test_no_valid_policy(wrong: str) -> None:
    """Without valid p, or with an sp or np that is none, DMARC is not applied (§4.10.1)."""
    found = record(f"v=DMARC1; {wrong}")
    assert not found.applies
    assert found.for_missing_subdomains is DmarcPolicy.NONE


@pytest.mark.parametrize("wrong", ["p=rejected", "p=reject; sp=x", "p=reject; np=", "sp=reject"])
def test_no_valid_policy_but_reports(wrong: str) -> None:
    """With a URI for reports such a record stands as if it said p=none alone (§4.10.1)."""
    found = record(f"v=DMARC1; {wrong}; rua=mailto:a@example.net")
    assert found.applies
    assert (found.p, found.sp, found.np) == (DmarcPolicy.NONE, None, None)
    assert found.faults


def test_no_valid_policy_and_no_valid_uri() -> None:
    """What is no URI does not save it."""
    assert not record("v=DMARC1; p=x; rua=a@example.net").applies


def test_twice() -> None:
    """A tag that comes twice is as if it were not there; the others stand."""
    found = record("v=DMARC1; p=reject; rua=mailto:a@example.net; rua=mailto:b@example.net; psd=n; psd=n")
    assert (found.p, found.rua, found.psd) == (DmarcPolicy.REJECT, (), "u")
    assert not record("v=DMARC1; p=reject; p=reject").applies


def test_not_a_tag() -> None:
    """A part that is no tag costs itself alone."""
    found = record("v=DMARC1; ; reject; =x; p1=none; p =\treject ;; garbage")
    assert found.p is DmarcPolicy.REJECT
    assert found.faults == ("a part is no tag",)


def test_uris() -> None:
    """URIs are divided at commas; size limits of old are dropped, what is no URI is ignored (§4.8)."""
    found = record("v=DMARC1; p=none; rua=mailto:a@example.net!10m , nothing,https://example.net/x?y=1, mailto:b@x!1z")
    assert found.rua == ("mailto:a@example.net", "https://example.net/x?y=1")
    assert found.faults == ("rua has what is no URI",)


def test_uris_bounded() -> None:
    """So many URIs are kept, no more."""
    many = ",".join(f"mailto:{number}@example.net" for number in range(URIS_MAXIMUM + 5))
    assert len(record(f"v=DMARC1; p=none; rua={many}").rua) == URIS_MAXIMUM


def test_policy_of_subdomains() -> None:
    """Where `np` is not given `sp` holds, and where that is not `p` (§4.7)."""
    found = record("v=DMARC1; p=reject")
    assert (found.for_subdomains, found.for_missing_subdomains) == (DmarcPolicy.REJECT, DmarcPolicy.REJECT)
    found = record("v=DMARC1; p=reject; sp=none")
    assert (found.for_subdomains, found.for_missing_subdomains) == (DmarcPolicy.NONE, DmarcPolicy.NONE)
    found = record("v=DMARC1; p=none; sp=none; np=reject")
    assert (found.for_subdomains, found.for_missing_subdomains) == (DmarcPolicy.NONE, DmarcPolicy.REJECT)


def test_one_step_down() -> None:
    """t=y takes one step (§4.7)."""
    assert [one_step_down(policy) for policy in DmarcPolicy] == [
        DmarcPolicy.NONE,
        DmarcPolicy.NONE,
        DmarcPolicy.QUARANTINE,
    ]


def test_several_records() -> None:
    """One policy record among other TXT records is it; of two, be they the same, none is (§4.10)."""
    one = b"v=DMARC1; p=reject"
    assert read_dmarc_records([b"v=spf1 -all", one, b""]) == record("v=DMARC1; p=reject")
    assert read_dmarc_records([one, b"v=DMARC1; p=none"]) is None
    assert read_dmarc_records([one, one]) is None
    assert read_dmarc_records([]) is None


def test_too_long() -> None:
    """A record beyond the bound is none."""
    text = b"v=DMARC1; p=reject; x="
    assert read_dmarc_record(text + b"x" * (RECORD_MAXIMUM - len(text))) is not None
    assert read_dmarc_record(text + b"x" * (RECORD_MAXIMUM - len(text) + 1)) is None


@given(st.binary(max_size=300))
def test_any_octets(octets: bytes) -> None:
    """Whatever stands behind the version is read, to the same value again from what is kept of it."""
    found = read_dmarc_record(b"v=DMARC1;" + octets)
    assert found is not None
    assert read_dmarc_record(found.text.encode("latin-1")) == found
